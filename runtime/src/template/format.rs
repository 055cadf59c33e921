//! How Go prints values: `%v` and the verbs of `printf`.

use std::fmt::Write;

use super::MAX_OUTPUT;
use super::datum::Datum;

/// Appends a value the way `print` does (`%v`).
pub(super) fn value(datum: &Datum, out: &mut String) {
    match datum {
        Datum::Nothing => out.push_str("<nil>"),
        Datum::Bool(value) => push(out, value),
        Datum::Int(int) => push(out, int),
        Datum::Uint(uint) => push(out, uint),
        Datum::Float(float) => out.push_str(&general(*float, None, 'e')),
        Datum::String(text) => out.push_str(text),
        Datum::Bytes(_) | Datum::Array(_) | Datum::List(_) => {
            out.push('[');
            for (item_idx, item) in datum.items().unwrap_or_default().iter().enumerate() {
                if item_idx > 0 {
                    out.push(' ');
                }
                value(item, out);
            }
            out.push(']');
        }
        Datum::Object(_) | Datum::Map(_) => {
            out.push_str("map[");
            for (member_idx, (name, member)) in datum.members().unwrap_or_default().iter().enumerate() {
                if member_idx > 0 {
                    out.push(' ');
                }
                out.push_str(name);
                out.push(':');
                value(member, out);
            }
            out.push(']');
        }
        Datum::Time(zoned) => push(out, &zoned.strftime("%Y-%m-%d %H:%M:%S%.f %z %Z")),
    }
}

/// A value as text.
pub(super) fn to_string(datum: &Datum) -> String {
    let mut text = String::new();
    value(datum, &mut text);
    text
}

fn push(out: &mut String, value: &impl std::fmt::Display) {
    write!(out, "{value}").expect("writing to memory does not fail");
}

/// `%g`: the shortest digits (or `precision` of them), with an exponent if it is below -4 or not below the precision, which for
/// the shortest digits counts as 6.
pub(super) fn general(float: f64, precision: Option<usize>, e: char) -> String {
    if !float.is_finite() {
        return special(float);
    }
    let scientific = match precision {
        None => format!("{float:e}"),
        Some(precision) => {
            let digits = precision.max(1) - 1;
            format!("{float:.digits$e}")
        }
    };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa = match precision {
        Some(_) if mantissa.contains('.') => mantissa.trim_end_matches('0').trim_end_matches('.'),
        _ => mantissa,
    };
    let n_digits = mantissa.chars().filter(char::is_ascii_digit).count();
    let threshold = match precision {
        None => 6,
        Some(precision) => {
            let precision = precision.max(1);
            i32::try_from(if precision > n_digits && n_digits as i64 > i64::from(exponent) {
                n_digits
            } else {
                precision
            })
            .unwrap_or(i32::MAX)
        }
    };
    if exponent < -4 || exponent >= threshold {
        with_exponent(mantissa, exponent, e)
    } else {
        let n_decimals = usize::try_from(i32::try_from(n_digits).unwrap_or(0) - 1 - exponent).unwrap_or(0);
        match precision {
            None => format!("{float}"),
            Some(_) => format!("{float:.n_decimals$}"),
        }
    }
}

fn with_exponent(mantissa: &str, exponent: i32, e: char) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}{e}{sign}{:02}", exponent.unsigned_abs())
}

fn special(float: f64) -> String {
    if float.is_nan() {
        "NaN".to_owned()
    } else if float > 0.0 {
        "+Inf".to_owned()
    } else {
        "-Inf".to_owned()
    }
}

/// What stands between `%` and the verb.
#[derive(Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `printf`
pub(super) fn printf(format: &str, args: &[Datum]) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut next_arg = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                '0' => flags.zero = true,
                _ => break,
            }
            chars.next();
        }
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Result<Option<i64>, &'static str> {
            if chars.peek() == Some(&'*') {
                chars.next();
                let arg = args.get(next_arg);
                next_arg += 1;
                return match arg {
                    Some(Datum::Int(n)) if n.abs() <= 1_000_000 => Ok(Some(*n)),
                    _ => Err("%!(BADWIDTH)"),
                };
            }
            let mut n: Option<i64> = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                n = Some(n.unwrap_or(0).saturating_mul(10).saturating_add(i64::from(digit)));
                chars.next();
            }
            Ok(n)
        };
        match number(&mut chars) {
            Ok(Some(width)) => {
                flags.minus |= width < 0;
                flags.width = usize::try_from(width.abs()).ok();
            }
            Ok(None) => {}
            Err(bad) => out.push_str(bad),
        }
        if chars.peek() == Some(&'.') {
            chars.next();
            match number(&mut chars) {
                Ok(precision) => flags.precision = usize::try_from(precision.unwrap_or(0)).ok(),
                Err(_) => out.push_str("%!(BADPREC)"),
            }
        }
        if flags.width.unwrap_or(0) > 1_000_000 || flags.precision.unwrap_or(0) > 1_000_000 {
            return Err("width or precision above 1000000".to_owned());
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(arg) = args.get(next_arg) else {
            push(&mut out, &format_args!("%!{verb}(MISSING)"));
            continue;
        };
        next_arg += 1;
        // `%+v` asks for the names of a struct's fields, not for signs.
        flags.plus &= verb != 'v';
        formatted(verb, &flags, arg, &mut out);
        if out.len() > MAX_OUTPUT {
            return Err(format!("the text is longer than {MAX_OUTPUT} bytes"));
        }
    }
    if next_arg < args.len() {
        out.push_str("%!(EXTRA ");
        for (arg_idx, arg) in args.get(next_arg..).unwrap_or_default().iter().enumerate() {
            if arg_idx > 0 {
                out.push_str(", ");
            }
            match arg {
                Datum::Nothing => out.push_str("<nil>"),
                arg => {
                    push(&mut out, &format_args!("{}=", arg.type_name()));
                    value(arg, &mut out);
                }
            }
        }
        out.push(')');
    }
    Ok(out)
}

fn formatted(verb: char, flags: &Flags, arg: &Datum, out: &mut String) {
    match (verb, arg) {
        ('T', arg) => pad(arg.type_name(), flags, false, out),
        ('v', Datum::Nothing) => pad("<nil>", flags, false, out),
        ('v', Datum::Bool(_)) | ('t', Datum::Bool(_)) => pad(&to_string(arg), flags, false, out),
        ('v' | 'd', Datum::Int(int)) => integer(i128::from(*int), 10, flags, "", out),
        ('v' | 'd', Datum::Uint(uint)) => integer(i128::from(*uint), 10, flags, "", out),
        // Whole numbers are integers here even if they were floats in Go, and the reverse.
        ('d', Datum::Float(float)) if float.fract() == 0.0 && float.abs() < 1e18 => {
            integer(*float as i128, 10, flags, "", out);
        }
        ('b' | 'o' | 'O' | 'x' | 'X', Datum::Int(_) | Datum::Uint(_)) => {
            let int = match arg {
                Datum::Int(int) => i128::from(*int),
                Datum::Uint(uint) => i128::from(*uint),
                _ => 0,
            };
            let (radix, prefix) = match verb {
                'b' => (2, if flags.sharp { "0b" } else { "" }),
                'o' => (8, if flags.sharp { "0" } else { "" }),
                'O' => (8, "0o"),
                'X' => (17, if flags.sharp { "0X" } else { "" }),
                _ => (16, if flags.sharp { "0x" } else { "" }),
            };
            integer(int, radix, flags, prefix, out);
        }
        ('c', Datum::Int(int)) => {
            let c = u32::try_from(*int).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
            pad(c.encode_utf8(&mut [0; 4]), flags, false, out);
        }
        ('q', Datum::Int(int)) => {
            let c = u32::try_from(*int).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
            pad(&quote(c.encode_utf8(&mut [0; 4]), '\''), flags, false, out);
        }
        ('U', Datum::Int(int)) => {
            let shown = u32::try_from(*int).ok().and_then(char::from_u32).filter(|_| flags.sharp);
            let shown = shown.map(|c| format!(" '{c}'")).unwrap_or_default();
            pad(&format!("U+{int:04X}{shown}"), flags, false, out);
        }
        ('e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'v', arg) if arg.as_float().is_some() => {
            let float = arg.as_float().unwrap_or(f64::NAN);
            let text = match verb {
                _ if !float.is_finite() => special(float).trim_start_matches('+').to_owned(),
                'e' | 'E' => {
                    let scientific = format!("{float:.*e}", flags.precision.unwrap_or(6));
                    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
                    with_exponent(mantissa, exponent.parse().unwrap_or(0), verb)
                }
                'f' | 'F' => format!("{float:.*}", flags.precision.unwrap_or(6)),
                'G' => general(float, flags.precision, 'E'),
                _ => general(float, flags.precision, 'e'),
            };
            signed(&text, float.is_finite(), flags, out);
        }
        ('s' | 'v', Datum::String(text)) => pad(cut(text, flags), flags, false, out),
        ('q', Datum::String(text)) => {
            let text = cut(text, flags);
            let quoted = if flags.sharp && !text.contains('`') { format!("`{text}`") } else { quote(text, '"') };
            pad(&quoted, flags, false, out);
        }
        ('x' | 'X', Datum::String(_) | Datum::Bytes(_)) => {
            let bytes = match arg {
                Datum::String(text) => cut(text, flags).as_bytes(),
                Datum::Bytes(bytes) => bytes,
                _ => &[],
            };
            let mut hex = String::with_capacity(bytes.len() * 2);
            for (byte_idx, byte) in bytes.iter().enumerate() {
                if flags.space && byte_idx > 0 {
                    hex.push(' ');
                }
                if verb == 'x' {
                    push(&mut hex, &format_args!("{byte:02x}"))
                } else {
                    push(&mut hex, &format_args!("{byte:02X}"))
                }
            }
            pad(&hex, flags, false, out);
        }
        ('s', Datum::Bytes(bytes)) => pad(&String::from_utf8_lossy(bytes), flags, false, out),
        ('s' | 'v', Datum::Time(_)) => pad(&to_string(arg), flags, false, out),
        (_, Datum::Array(_) | Datum::List(_)) => {
            out.push('[');
            for (item_idx, item) in arg.items().unwrap_or_default().iter().enumerate() {
                if item_idx > 0 {
                    out.push(' ');
                }
                nested(verb, flags, item, out);
            }
            out.push(']');
        }
        (_, Datum::Object(_) | Datum::Map(_)) => {
            out.push_str("map[");
            for (member_idx, (name, member)) in arg.members().unwrap_or_default().iter().enumerate() {
                if member_idx > 0 {
                    out.push(' ');
                }
                formatted(verb, flags, &Datum::String(name.clone()), out);
                out.push(':');
                nested(verb, flags, member, out);
            }
            out.push(']');
        }
        (verb, Datum::Nothing) => push(out, &format_args!("%!{verb}(<nil>)")),
        (verb, arg) => push(out, &format_args!("%!{verb}({}={})", arg.type_name(), to_string(arg))),
    }
}

/// An item of a list or map: null has no wrong verbs there.
fn nested(verb: char, flags: &Flags, item: &Datum, out: &mut String) {
    match item {
        Datum::Nothing => pad("<nil>", flags, false, out),
        item => formatted(verb, flags, item, out),
    }
}

/// The first `precision` characters.
fn cut<'a>(text: &'a str, flags: &Flags) -> &'a str {
    match flags.precision.and_then(|n| text.char_indices().nth(n)) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

fn integer(int: i128, radix: u32, flags: &Flags, prefix: &str, out: &mut String) {
    let magnitude = int.unsigned_abs();
    let mut digits = match radix {
        2 => format!("{magnitude:b}"),
        8 => format!("{magnitude:o}"),
        16 => format!("{magnitude:x}"),
        17 => format!("{magnitude:X}"),
        _ => magnitude.to_string(),
    };
    if let Some(precision) = flags.precision {
        if precision == 0 && int == 0 {
            digits.clear();
        }
        digits = format!("{digits:0>precision$}");
    }
    let text = format!("{}{prefix}{digits}", if int < 0 { "-" } else { "" });
    signed(&text, flags.precision.is_none(), flags, out);
}

/// A number with its sign, padded; `zeros` if it may be filled up with zeros.
fn signed(text: &str, zeros: bool, flags: &Flags, out: &mut String) {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None if flags.plus => ("+", text),
        None if flags.space => (" ", text),
        None => ("", text),
    };
    match flags.width {
        Some(width) if flags.zero && zeros && !flags.minus => {
            let width = width.saturating_sub(sign.len());
            push(out, &format_args!("{sign}{digits:0>width$}"));
        }
        _ => pad(&format!("{sign}{digits}"), flags, false, out),
    }
}

fn pad(text: &str, flags: &Flags, zeros: bool, out: &mut String) {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    let filler = if (flags.zero || zeros) && !flags.minus { '0' } else { ' ' };
    if flags.minus {
        out.push_str(text);
    }
    out.extend(std::iter::repeat_n(filler, missing));
    if !flags.minus {
        out.push_str(text);
    }
}

/// `%q`: a text in quotes with Go's escapes.
pub(super) fn quote(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            _ if c == quote || c == '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => push(&mut out, &format_args!("\\x{:02x}", c as u32)),
            c if c.is_control() || is_unprintable(c) => push(&mut out, &format_args!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// Spaces and marks without a shape of their own.
fn is_unprintable(c: char) -> bool {
    (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{feff}' | '\u{ad}')
}
