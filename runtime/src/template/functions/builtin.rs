//! The functions of the template language itself.

use std::cmp::Ordering;

use super::{ANY, Call, Function, Kind, bounded, function};
use crate::template::datum::Datum;
use crate::template::format;

pub(super) const FUNCTIONS: &[Function] = &[
    Function { name: "and", min: 1, max: ANY, kind: Kind::And },
    Function { name: "or", min: 1, max: ANY, kind: Kind::Or },
    function("not", 1, 1, |c| Ok(Datum::Bool(!c.arg(0).is_true()))),
    function("len", 1, 1, |c| {
        let arg = c.arg(0);
        let len = arg.len().ok_or_else(|| format!("a value of type {} has no length", arg.type_name()))?;
        Ok(Datum::Int(len as i64))
    }),
    function("index", 1, ANY, index),
    function("slice", 1, 4, slice),
    function("mustSlice", 1, 4, slice),
    function("print", 0, ANY, |c| bounded(print(&c.args))),
    function("println", 0, ANY, |c| {
        let words: Vec<String> = c.args.iter().map(format::to_string).collect();
        bounded(words.join(" ") + "\n")
    }),
    function("printf", 1, ANY, |c| match c.arg(0) {
        Datum::String(text) => bounded(format::printf(text, c.rest(1))?),
        other => Err(format!("the first argument must be a text, not a value of type {}", other.type_name())),
    }),
    function("html", 0, ANY, |c| bounded(escape_html(&joined(&c.args)))),
    function("js", 0, ANY, |c| bounded(escape_js(&joined(&c.args)))),
    function("urlquery", 0, ANY, |c| bounded(escape_query(&joined(&c.args)))),
    function("eq", 2, ANY, |c| {
        let first = c.take(0);
        for other in c.rest(1) {
            if equal(&first, other)? {
                return Ok(Datum::Bool(true));
            }
        }
        Ok(Datum::Bool(false))
    }),
    function("ne", 2, 2, |c| equal(c.arg(0), c.arg(1)).map(|equal| Datum::Bool(!equal))),
    function("lt", 2, 2, |c| order(c).map(|order| Datum::Bool(order == Some(Ordering::Less)))),
    function("le", 2, 2, |c| {
        order(c).map(|order| Datum::Bool(matches!(order, Some(Ordering::Less | Ordering::Equal))))
    }),
    function("gt", 2, 2, |c| order(c).map(|order| Datum::Bool(order == Some(Ordering::Greater)))),
    function("ge", 2, 2, |c| {
        order(c).map(|order| Datum::Bool(matches!(order, Some(Ordering::Greater | Ordering::Equal))))
    }),
];

/// As `print` does: a space between two values of which none is a text.
fn print(args: &[Datum]) -> String {
    let mut out = String::new();
    let mut previous_is_text = true;
    for (arg_idx, arg) in args.iter().enumerate() {
        let is_text = matches!(arg, Datum::String(_));
        if arg_idx > 0 && !is_text && !previous_is_text {
            out.push(' ');
        }
        format::value(arg, &mut out);
        previous_is_text = is_text;
    }
    out
}

/// What the escaping functions work on.
fn joined(args: &[Datum]) -> String {
    match args {
        [Datum::String(text)] => text.to_string(),
        // Missing values print like that in text, too.
        args => {
            args.iter()
                .map(|arg| {
                    if matches!(arg, Datum::Nothing) {
                        "<no value>".to_owned()
                    } else {
                        print(std::slice::from_ref(arg))
                    }
                })
                .collect::<Vec<_>>()
                .concat()
        }
    }
}

fn index(c: &mut Call<'_>) -> Result<Datum, String> {
    let mut value = c.take(0);
    for key in c.rest(1) {
        value = match (&value, key) {
            (Datum::Object(_) | Datum::Map(_), Datum::String(name)) => {
                value.member(name).flatten().unwrap_or(Datum::Nothing)
            }
            (Datum::Object(_) | Datum::Map(_), key) => {
                return Err(format!("a map's keys are texts, not of type {}", key.type_name()));
            }
            (Datum::Nothing, _) => return Err("index of nil".to_owned()),
            (Datum::String(_) | Datum::Bytes(_) | Datum::Array(_) | Datum::List(_), Datum::Int(idx)) => {
                let item = usize::try_from(*idx).ok().and_then(|idx| match &value {
                    Datum::String(text) => text.as_bytes().get(idx).map(|byte| Datum::Int(i64::from(*byte))),
                    value => value.item(idx),
                });
                item.ok_or_else(|| format!("index {idx} is beyond the {} items", value.len().unwrap_or(0)))?
            }
            (Datum::String(_) | Datum::Bytes(_) | Datum::Array(_) | Datum::List(_), key) => {
                return Err(format!("an index is a whole number, not of type {}", key.type_name()));
            }
            (value, _) => return Err(format!("can't index a value of type {}", value.type_name())),
        };
    }
    Ok(value)
}

fn slice(c: &mut Call<'_>) -> Result<Datum, String> {
    let value = c.arg(0);
    let Some(len) = value.len().filter(|_| !value.is_map()) else {
        return Err(format!("can't slice a value of type {}", value.type_name()));
    };
    let mut bounds = [0, len];
    for (bound, arg) in bounds.iter_mut().zip(c.rest(1)) {
        let Datum::Int(idx) = arg else {
            return Err(format!("an index is a whole number, not of type {}", arg.type_name()));
        };
        *bound = usize::try_from(*idx)
            .ok()
            .filter(|idx| *idx <= len)
            .ok_or_else(|| format!("index {idx} is beyond {len}"))?;
    }
    let [from, to] = bounds;
    if from > to {
        return Err(format!("the slice ends at {to}, before it starts at {from}"));
    }
    match value {
        Datum::String(text) => match text.get(from..to) {
            Some(text) => Ok(Datum::text(text)),
            None => Err("the slice cuts a character in two".to_owned()),
        },
        Datum::Bytes(bytes) => Ok(Datum::Bytes(bytes.slice(from..to))),
        value => Ok(Datum::list(value.items().unwrap_or_default().get(from..to).unwrap_or_default().to_vec())),
    }
}

/// Equal by value; values that have nothing in common are an error, but for null, which equals only null.
fn equal(a: &Datum, b: &Datum) -> Result<bool, String> {
    match (a, b) {
        (Datum::Nothing, Datum::Nothing) => Ok(true),
        (Datum::Nothing, _) | (_, Datum::Nothing) => Ok(false),
        (Datum::Bool(a), Datum::Bool(b)) => Ok(a == b),
        _ if a.as_float().is_some() && b.as_float().is_some() => Ok(a.same(b)),
        (Datum::String(a), Datum::String(b)) => Ok(a == b),
        (Datum::Time(_), Datum::Time(_)) => Ok(a.same(b)),
        _ => Err(format!("can't compare values of types {} and {}", a.type_name(), b.type_name())),
    }
}

fn order(c: &Call<'_>) -> Result<Option<Ordering>, String> {
    let (a, b) = (c.arg(0), c.arg(1));
    match (a.as_float(), b.as_float(), a, b) {
        (Some(_), Some(_), ..)
        | (_, _, Datum::String(_), Datum::String(_))
        | (_, _, Datum::Time(_), Datum::Time(_)) => Ok(a.compare(b)),
        _ => Err(format!("can't order values of types {} and {}", a.type_name(), b.type_name())),
    }
}

fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if (c as u32) < 0x20 || c == '\u{7f}' || c == '\u{2028}' || c == '\u{2029}' => {
                out.push_str(&format!("\\u{:04X}", c as u32));
            }
            c => out.push(c),
        }
    }
    out
}

pub(super) fn escape_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
