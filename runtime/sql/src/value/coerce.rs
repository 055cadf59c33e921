//! Conversions between kinds: three levels of strictness, `cast`, and the text form.
//!
//! | level | int from | float from | bool from |
//! |---|---|---|---|
//! | [`Strict`](Strictness::Strict) | ints, floats without a fraction | floats | bool |
//! | [`SameKind`](Strictness::SameKind) | ints, any float (fraction cut off) | ints, floats | bool |
//! | [`All`](Strictness::All) | and text, bool, null | and text, bool, null | and numbers, text, null |

use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::tz::TimeZone;

use super::{Object, Timestamp, Type, Value, datetime};

/// How much a conversion may bend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// The value must be of the kind already.
    Strict,
    /// Another kind of number will do.
    SameKind,
    /// Whatever can be read as one.
    All,
}

/// A value as an integer; `None` if the level does not allow it.
pub fn to_int(value: &Value, strictness: Strictness) -> Option<i64> {
    match value {
        Value::Int(int) => Some(*int),
        Value::Uint(uint) => Some(*uint as i64),
        Value::Float(float) if strictness == Strictness::Strict => int_of_whole(*float),
        Value::Float(float) => int_of_whole(float.trunc()),
        _ if strictness != Strictness::All => None,
        Value::Bool(bool) => Some(i64::from(*bool)),
        Value::String(text) => int_of_text(text),
        Value::Missing | Value::Null => Some(0),
        _ => None,
    }
}

/// A value as a float; `None` if the level does not allow it.
pub fn to_float(value: &Value, strictness: Strictness) -> Option<f64> {
    match value {
        Value::Float(float) => Some(*float),
        _ if strictness == Strictness::Strict => None,
        Value::Int(int) => Some(*int as f64),
        Value::Uint(uint) => Some(*uint as f64),
        _ if strictness != Strictness::All => None,
        Value::Bool(bool) => Some(f64::from(u8::from(*bool))),
        Value::String(text) => text.parse().ok(),
        Value::Missing | Value::Null => Some(0.0),
        _ => None,
    }
}

/// A value as a boolean; `None` if the level does not allow it.
pub fn to_bool(value: &Value, strictness: Strictness) -> Option<bool> {
    match value {
        Value::Bool(bool) => Some(*bool),
        _ if strictness != Strictness::All => None,
        Value::Int(int) => Some(*int != 0),
        Value::Uint(_) => Some(true),
        Value::Float(float) => Some(*float != 0.0),
        Value::String(text) => bool_of_text(text),
        Value::Missing | Value::Null => Some(false),
        _ => None,
    }
}

/// `cast`: the most permissive conversion. Null stays null.
///
/// # Errors
/// If the value can't be read as one of the type; the text says which value and why.
pub fn cast(value: &Value, ty: &Type, zone: &TimeZone, now: Timestamp) -> Result<Value, String> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    let cast = match ty {
        Type::Any | Type::Number => Some(value.clone()),
        Type::Int => to_int(value, Strictness::All).map(Value::Int),
        Type::Float => to_float(value, Strictness::All).map(Value::Float),
        Type::Bool => to_bool(value, Strictness::All).map(Value::Bool),
        Type::String => match value {
            Value::String(_) => Some(value.clone()),
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(Value::string),
            Value::Float(float) => Some(Value::string(format!("{float}"))),
            _ => Some(Value::string(text(value))),
        },
        Type::Bytes => match value {
            Value::Bytes(_) => Some(value.clone()),
            Value::String(text) => Some(Value::bytes(bytes_of_text(text))),
            _ => None,
        },
        Type::Datetime => {
            return datetime::to_datetime(value, None, zone, now).map(|zoned| Value::Datetime(zoned.into()));
        }
        Type::Array(_) => matches!(value, Value::Array(_)).then(|| value.clone()),
        Type::Struct(_) => matches!(value, Value::Object(_) | Value::Raw(_)).then(|| value.clone()),
    };
    cast.ok_or_else(|| format!("{} can't be read as {}", shown(value), type_name(ty)))
}

/// The type that a literal name in `cast` stands for.
pub fn type_called(name: &str) -> Option<Type> {
    Some(match name {
        "bigint" => Type::Int,
        "float" => Type::Float,
        "string" => Type::String,
        "boolean" => Type::Bool,
        "datetime" => Type::Datetime,
        "bytea" => Type::Bytes,
        _ => return None,
    })
}

/// The name of a type in messages and docs.
pub fn type_name(ty: &Type) -> &'static str {
    match ty {
        Type::Any => "any",
        Type::Number => "number",
        Type::Int => "bigint",
        Type::Float => "float",
        Type::String => "string",
        Type::Bool => "boolean",
        Type::Bytes => "bytea",
        Type::Datetime => "datetime",
        Type::Array(_) => "array",
        Type::Struct(_) => "struct",
    }
}

/// Text as bytes: base64 if it is that, else its own bytes.
pub fn bytes_of_text(text: &str) -> Bytes {
    match STANDARD.decode(text) {
        Ok(bytes) => bytes.into(),
        Err(_) => Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// Integer text, with the prefixes `0x`, `0b`, `0o` (and a leading `0` for octal) and `_` between digits.
pub fn int_of_text(text: &str) -> Option<i64> {
    if let Ok(int) = text.parse()
        && !text.trim_start_matches(['+', '-']).starts_with('0')
    {
        return Some(int);
    }
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    let misplaced = digits.ends_with('_') || digits.contains("__") || (radix == 10 && digits.starts_with('_'));
    if misplaced || !plain.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let magnitude = i128::from_str_radix(&plain, radix).ok()?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

fn bool_of_text(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn int_of_whole(float: f64) -> Option<i64> {
    let in_range = (-(2f64.powi(63))..2f64.powi(63)).contains(&float);
    (float.fract() == 0.0 && in_range).then_some(float as i64)
}

/// The text form: what string functions see of a value. Null is empty, an array `[a b]`, an object `map[k:v]` with its
/// keys sorted, bytes a list of numbers.
pub fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Missing | Value::Null => Cow::Borrowed(""),
        Value::Bool(true) => Cow::Borrowed("true"),
        Value::Bool(false) => Cow::Borrowed("false"),
        value => {
            let mut out = String::new();
            write_text(value, &mut out);
            Cow::Owned(out)
        }
    }
}

/// Appends the text form.
pub fn write_text(value: &Value, out: &mut String) {
    // Writing to a String does not fail.
    let _ = match value {
        Value::Missing | Value::Null => Ok(()),
        Value::Bool(bool) => write!(out, "{bool}"),
        Value::Int(int) => write!(out, "{int}"),
        Value::Uint(uint) => write!(out, "{uint}"),
        Value::Float(float) => {
            write_float(*float, out);
            Ok(())
        }
        Value::String(text) => out.write_str(text),
        Value::Bytes(bytes) => list(bytes.iter(), out, |byte, out| {
            let _ = write!(out, "{byte}");
        }),
        Value::Datetime(zoned) => write!(out, "{}", datetime::Display(zoned)),
        Value::Array(values) => list(values.iter(), out, element),
        Value::Object(object) => members(object, out),
        Value::Raw(raw) => members(&raw.object(), out),
    };
}

fn list<T>(items: impl Iterator<Item = T>, out: &mut String, write: impl Fn(T, &mut String)) -> std::fmt::Result {
    out.push('[');
    for (item_idx, item) in items.enumerate() {
        if item_idx > 0 {
            out.push(' ');
        }
        write(item, out);
    }
    out.write_char(']')
}

fn element(value: &Value, out: &mut String) {
    if value.is_null() { out.push_str("<nil>") } else { write_text(value, out) }
}

fn members(object: &Object, out: &mut String) -> std::fmt::Result {
    let mut members: Vec<_> = object.iter().collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    out.push_str("map");
    list(members.into_iter(), out, |(name, value), out| {
        out.push_str(name);
        out.push(':');
        element(value, out);
    })
}

fn write_float(float: f64, out: &mut String) {
    let magnitude = float.abs();
    let _ = if float.is_nan() {
        write!(out, "NaN")
    } else if float.is_infinite() {
        write!(out, "{}Inf", if float > 0.0 { '+' } else { '-' })
    } else if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{float:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        write!(out, "{mantissa}e{sign}{digits:0>2}")
    } else {
        write!(out, "{float}")
    };
}

/// A value in an error message: short, and never a whole document.
pub fn shown(value: &Value) -> String {
    const MAX_CHARS: usize = 40;
    let text = text(value);
    let mut short: String = text.chars().take(MAX_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    match value {
        Value::Missing | Value::Null => "null".to_owned(),
        Value::String(_) => format!("{short:?}"),
        Value::Int(_) | Value::Uint(_) | Value::Float(_) | Value::Bool(_) => short,
        other => format!("the {} {short}", other.kind_name()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn array(values: &[Value]) -> Value {
        Value::Array(Arc::new(values.to_vec()))
    }

    #[test]
    fn text_forms() {
        let object = Object::from_iter([("b", Value::Null), ("a", array(&[Value::Int(1), Value::Missing]))]);
        let zoned: jiff::Zoned = "2024-02-29T13:04:05.5+01:00[Europe/Berlin]".parse().unwrap();
        let cases = [
            (Value::Null, ""),
            (Value::Bool(true), "true"),
            (Value::Int(-7), "-7"),
            (Value::Uint(u64::MAX), "18446744073709551615"),
            (Value::Float(1.0), "1"),
            (Value::Float(1234567.5), "1234567.5"),
            (Value::Float(1e21), "1e+21"),
            (Value::Float(1e-7), "1e-07"),
            (Value::Float(-2.5e-10), "-2.5e-10"),
            (Value::Float(f64::NAN), "NaN"),
            (Value::Float(f64::INFINITY), "+Inf"),
            (Value::string("x"), "x"),
            (Value::bytes(Bytes::from_static(b"\x01\xff")), "[1 255]"),
            (Value::Object(object.into()), "map[a:[1 <nil>] b:<nil>]"),
            (Value::Datetime(zoned.into()), "2024-02-29 13:04:05.5 +0100 CET"),
        ];
        for (value, expected) in cases {
            assert_eq!(text(&value), expected, "{value:?}");
        }
    }

    #[test]
    fn integer_text() {
        let cases = [
            ("12", Some(12)),
            ("-12", Some(-12)),
            ("+12", Some(12)),
            ("0", Some(0)),
            ("0x1f", Some(31)),
            ("-0x1F", Some(-31)),
            ("0b101", Some(5)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("1_000", Some(1000)),
            ("09", None),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("1.5", None),
            ("", None),
            ("-", None),
            ("+-1", None),
            ("0x-1", None),
            ("ä", None),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
        ];
        for (text, expected) in cases {
            assert_eq!(int_of_text(text), expected, "{text}");
        }
    }

    #[test]
    fn levels() {
        use Strictness::{All, SameKind, Strict};
        let ints = [
            (Value::Int(3), [Some(3), Some(3), Some(3)]),
            (Value::Float(3.0), [Some(3), Some(3), Some(3)]),
            (Value::Float(3.7), [None, Some(3), Some(3)]),
            (Value::Float(1e21), [None, None, None]),
            (Value::Float(f64::NAN), [None, None, None]),
            (Value::string("3"), [None, None, Some(3)]),
            (Value::Bool(true), [None, None, Some(1)]),
            (Value::Null, [None, None, Some(0)]),
            (array(&[]), [None, None, None]),
        ];
        for (value, expected) in ints {
            assert_eq!([Strict, SameKind, All].map(|level| to_int(&value, level)), expected, "{value:?}");
        }
        let floats = [
            (Value::Int(3), [None, Some(3.0), Some(3.0)]),
            (Value::Float(3.5), [Some(3.5), Some(3.5), Some(3.5)]),
            (Value::string("3.5"), [None, None, Some(3.5)]),
            (Value::string("x"), [None, None, None]),
        ];
        for (value, expected) in floats {
            assert_eq!([Strict, SameKind, All].map(|level| to_float(&value, level)), expected, "{value:?}");
        }
        let bools = [
            (Value::Bool(true), [Some(true), Some(true), Some(true)]),
            (Value::Float(0.0), [None, None, Some(false)]),
            (Value::string("T"), [None, None, Some(true)]),
            (Value::string("yes"), [None, None, None]),
        ];
        for (value, expected) in bools {
            assert_eq!([Strict, SameKind, All].map(|level| to_bool(&value, level)), expected, "{value:?}");
        }
    }

    #[test]
    fn casts() {
        let cases = [
            (Value::Float(1e21), Type::String, Ok("1000000000000000000000")),
            (Value::Int(0), Type::Datetime, Ok("1970-01-01 00:00:00 +0000 UTC")),
            (Value::string("dA=="), Type::Bytes, Ok("[116]")),
            (Value::string("dA="), Type::Bytes, Ok("[100 65 61]")),
            (Value::Bool(true), Type::Float, Ok("1")),
            (Value::string("1.5"), Type::Int, Err("\"1.5\" can't be read as bigint")),
            (Value::Int(1), Type::Bytes, Err("1 can't be read as bytea")),
            (array(&[Value::Int(1)]), Type::Int, Err("the array [1] can't be read as bigint")),
        ];
        for (value, ty, expected) in cases {
            let cast = cast(&value, &ty, &TimeZone::UTC, 0).map(|value| text(&value).into_owned());
            assert_eq!(cast, expected.map(str::to_owned).map_err(str::to_owned), "{value:?}");
        }
    }
}
