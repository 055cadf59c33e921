//! Values as JSON text, and to and from `serde_json`.
//!
//! Numbers print as they do in most JSON writers: `3`, not `3.0`, for a float without a fraction; an exponent below 1e-6 and from
//! 1e21 on. Bytes are base64, instants RFC 3339 with their offset. What JSON has no text for (NaN, infinities) is `null`.

use std::io::Write;

use base64::engine::general_purpose::STANDARD;

use super::{Object, Value};

/// Appends a value as JSON.
pub fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Missing | Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(int) => plain(int, out),
        Value::Uint(uint) => plain(uint, out),
        Value::Float(float) => write_float(*float, out),
        Value::String(text) => write_string(text, out),
        Value::Bytes(bytes) => {
            out.push(b'"');
            append(out, &base64::display::Base64Display::new(bytes, &STANDARD));
            out.push(b'"');
        }
        Value::Datetime(zoned) => {
            out.push(b'"');
            append(out, &Rfc3339(zoned));
            out.push(b'"');
        }
        Value::Array(values) => {
            out.push(b'[');
            for (value_idx, value) in values.iter().enumerate() {
                if value_idx > 0 {
                    out.push(b',');
                }
                write_value(value, out);
            }
            out.push(b']');
        }
        Value::Object(object) => write_object(object, out),
        Value::Raw(raw) => out.extend_from_slice(raw.text()),
    }
}

/// Appends an object as JSON, members in their order; missing ones are left out.
pub fn write_object(object: &Object, out: &mut Vec<u8>) {
    out.push(b'{');
    let start = out.len();
    for (name, value) in object.iter().filter(|(_, value)| !matches!(value, Value::Missing)) {
        if out.len() > start {
            out.push(b',');
        }
        write_string(name, out);
        out.push(b':');
        write_value(value, out);
    }
    out.push(b'}');
}

/// Appends a text in quotes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    plain(text, out);
}

/// Appends a float; `null` if it is not finite.
pub fn write_float(float: f64, out: &mut Vec<u8>) {
    let magnitude = float.abs();
    if !float.is_finite() {
        out.extend_from_slice(b"null");
    } else if magnitude < 1e15 && float.fract() == 0.0 && !(float == 0.0 && float.is_sign_negative()) {
        plain(&(float as i64), out);
    } else if (1e-5..1e15).contains(&magnitude) {
        // In this range the shortest form has no exponent.
        plain(&float, out);
    } else if magnitude >= 1e21 {
        let text = format!("{float:e}");
        out.extend_from_slice(text.replace('e', "e+").as_bytes());
    } else if magnitude < 1e-6 && float != 0.0 {
        append(out, &format_args!("{float:e}"));
    } else {
        append(out, &float);
    }
}

/// An instant as `2026-01-02T03:04:05.678Z`, or with its offset.
pub struct Rfc3339<'a>(pub &'a jiff::Zoned);

impl std::fmt::Display for Rfc3339<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let offset = self.0.offset();
        if offset.seconds() == 0 {
            self.0.timestamp().fmt(f)
        } else {
            self.0.timestamp().display_with_offset(offset).fmt(f)
        }
    }
}

fn plain<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    sonic_rs::to_writer(out, value).expect("numbers and texts have a JSON form, and writing to memory does not fail");
}

fn append(out: &mut Vec<u8>, text: &impl std::fmt::Display) {
    write!(out, "{text}").expect("writing to memory does not fail");
}

impl From<&serde_json::Value> for Value {
    /// Whole numbers become `Int` (`Uint` if they need it), numbers with a fraction or an exponent `Float`.
    fn from(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Value::Null,
            Json::Bool(bool) => Value::Bool(*bool),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(int), _) => Value::Int(int),
                (None, Some(uint)) => Value::Uint(uint),
                (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::string(text.as_str()),
            Json::Array(elements) => Value::Array(elements.iter().map(Value::from).collect::<Vec<_>>().into()),
            Json::Object(members) => {
                let object: Object = members.iter().map(|(name, json)| (name.as_str(), Value::from(json))).collect();
                Value::Object(object.into())
            }
        }
    }
}

impl From<&Value> for serde_json::Value {
    /// As the value is written: bytes as base64, instants as RFC 3339, NaN as null.
    fn from(value: &Value) -> Self {
        use serde_json::Value as Json;
        match value {
            Value::Missing | Value::Null => Json::Null,
            Value::Bool(bool) => Json::Bool(*bool),
            Value::Int(int) => Json::from(*int),
            Value::Uint(uint) => Json::from(*uint),
            Value::Float(float) => Json::from(*float),
            Value::String(text) => Json::from(text.as_str()),
            Value::Bytes(bytes) => Json::from(base64::Engine::encode(&STANDARD, &**bytes)),
            Value::Datetime(zoned) => Json::from(Rfc3339(zoned).to_string()),
            Value::Array(values) => Json::Array(values.iter().map(Json::from).collect()),
            Value::Object(object) => object.iter().map(|(name, value)| (name.to_string(), Json::from(value))).collect(),
            Value::Raw(raw) => Json::from(&Value::Object(raw.object())),
        }
    }
}

/// Reads JSON text, numbers as by `From<&serde_json::Value>`.
///
/// # Errors
/// If the text is not one JSON value; the message has the place.
pub fn parse(text: &[u8]) -> Result<Value, sonic_rs::Error> {
    // Not by serde_json itself: it may be off by the last bit of a float.
    sonic_rs::from_slice::<serde_json::Value>(text).map(|json| Value::from(&json))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::sync::Arc;

    use super::*;

    fn written(value: &Value) -> String {
        let mut out = Vec::new();
        write_value(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values() {
        let zoned = |text: &str| Value::Datetime(Arc::new(text.parse().unwrap()));
        let object = |members: &[(&str, Value)]| {
            Value::Object(Arc::new(members.iter().map(|(name, value)| (*name, value.clone())).collect()))
        };
        let cases = [
            (Value::Null, "null"),
            (Value::Bool(true), "true"),
            (Value::Int(i64::MIN), "-9223372036854775808"),
            (Value::Uint(u64::MAX), "18446744073709551615"),
            (Value::Float(3.0), "3"),
            (Value::Float(-0.0), "-0"),
            (Value::Float(0.1), "0.1"),
            (Value::Float(123456789.125), "123456789.125"),
            (Value::Float(1e20), "100000000000000000000"),
            (Value::Float(1e21), "1e+21"),
            (Value::Float(1.5e300), "1.5e+300"),
            (Value::Float(1e-5), "0.00001"),
            (Value::Float(1e-6), "0.000001"),
            (Value::Float(1e-7), "1e-7"),
            (Value::Float(f64::NAN), "null"),
            (Value::Float(f64::NEG_INFINITY), "null"),
            (Value::string("a\"b\\c\n\u{1}é😀</p>"), r#""a\"b\\c\n\u0001é😀</p>""#),
            (Value::bytes(Bytes::from_static(b"\x00\xff!")), r#""AP8h""#),
            (zoned("2026-01-02T03:04:05.5+00:00[UTC]"), r#""2026-01-02T03:04:05.5Z""#),
            (zoned("2026-07-02T03:04:05+02:00[Europe/Berlin]"), r#""2026-07-02T03:04:05+02:00""#),
            (Value::Array(Arc::new(vec![Value::Int(1), Value::Missing, Value::string("x")])), r#"[1,null,"x"]"#),
            (object(&[("b", Value::Int(1)), ("gone", Value::Missing), ("a", Value::Null)]), r#"{"b":1,"a":null}"#),
        ];
        for (value, expected) in cases {
            assert_eq!(written(&value), expected, "{value:?}");
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<u64>().prop_map(serde_json::Value::from),
            // A negative zero comes back as the integer 0.
            any::<f64>().prop_map(|float| serde_json::Value::from(float + 0.0)),
            ".*".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::hash_map(".*", inner, 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(json in any_json()) {
            let value = Value::from(&json);
            let text = written(&value);
            let back = parse(text.as_bytes()).unwrap();
            prop_assert_eq!(&written(&back), &text);
        }

        #[test]
        fn floats_keep_every_bit(float in any::<f64>().prop_filter("finite", |float| float.is_finite())) {
            prop_assert_eq!(written(&Value::Float(float)).parse::<f64>().unwrap().to_bits(), float.to_bits());
        }
    }
}
