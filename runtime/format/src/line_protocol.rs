//! InfluxDB's line protocol: `measurement,tag=value field=1i,other="x" 1700000000000`.
//!
//! What it has no text for is left out: null, NaN and infinite fields, empty tags. A backslash in a name or tag that would be
//! taken for the escape of what follows it can't be written and is dropped, and a line break there becomes `\n`.

use std::io::Write;

use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::{Type, Value};

use super::json_encoder;

/// The unit of timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Nanoseconds.
    Ns,
    /// Microseconds.
    Us,
    /// Milliseconds.
    #[default]
    Ms,
    /// Seconds.
    S,
}

impl Precision {
    /// The option's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Precision::Ns => "ns",
            Precision::Us => "us",
            Precision::Ms => "ms",
            Precision::S => "s",
        }
    }

    /// Milliseconds in this unit; `None` if the number gets too large.
    pub fn from_ms(self, ms: i64) -> Option<i64> {
        match self {
            Precision::Ns => ms.checked_mul(1_000_000),
            Precision::Us => ms.checked_mul(1000),
            Precision::Ms => Some(ms),
            Precision::S => Some(ms.div_euclid(1000)),
        }
    }

    /// An instant in this unit.
    pub fn from_instant(self, instant: jiff::Timestamp) -> Option<i64> {
        match self {
            Precision::Ns => i64::try_from(instant.as_nanosecond()).ok(),
            Precision::Us => Some(instant.as_microsecond()),
            Precision::Ms => Some(instant.as_millisecond()),
            Precision::S => Some(instant.as_second()),
        }
    }
}

/// The type that a field is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// `1i`
    Int,
    /// `1`
    Float,
    /// `true`
    Bool,
    /// `"text"`
    String,
}

impl FieldType {
    /// The type of a whole number's field: an integer only if the column is known to hold integers. A JSON number that happens
    /// to be whole is a float, as the next one may be 20.5, and a field can't change its type.
    pub fn of_whole(ty: &Type) -> Self {
        if matches!(ty, Type::Int) { FieldType::Int } else { FieldType::Float }
    }
}

/// Writes points into a buffer. Call [`start`](Self::start), then tags, then fields, then [`end`](Self::end).
pub struct LineWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    n_fields: usize,
}

impl<'a> LineWriter<'a> {
    /// Begins a line.
    pub fn start(measurement: &str, out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        escaped(measurement, b", ", out);
        LineWriter { out, start, n_fields: 0 }
    }

    /// Adds a tag; an empty one is left out.
    pub fn tag(&mut self, name: &str, value: &str) {
        if name.is_empty() || value.is_empty() {
            return;
        }
        let before = self.out.len();
        self.out.push(b',');
        escaped(name, b",= ", self.out);
        self.out.push(b'=');
        let value_at = self.out.len();
        escaped(value, b",= ", self.out);
        // A value of nothing but a dropped backslash.
        if self.out.len() == value_at {
            self.out.truncate(before);
        }
    }

    /// Adds a field; null, NaN and infinities are left out. `whole` is the type for whole numbers, `pin` the type that the field
    /// must have. Returns false if the value can't be written as the pinned type.
    pub fn field(&mut self, name: &str, value: &Value, whole: FieldType, pin: Option<FieldType>) -> bool {
        if name.is_empty() || value.is_null() {
            return true;
        }
        let before = self.out.len();
        self.out.push(if self.n_fields == 0 { b' ' } else { b',' });
        escaped(name, b",= ", self.out);
        self.out.push(b'=');
        let written = write_field(value, whole, pin, self.out);
        if written == Written::Yes {
            self.n_fields += 1;
        } else {
            self.out.truncate(before);
        }
        written != Written::Unfit
    }

    /// Ends the line with its timestamp. Returns false, and takes the line back, if it has no field.
    pub fn end(self, timestamp: i64) -> bool {
        if self.n_fields == 0 {
            self.out.truncate(self.start);
            return false;
        }
        append(self.out, &format_args!(" {timestamp}\n"));
        true
    }

    /// Takes the line back.
    pub fn cancel(self) {
        self.out.truncate(self.start);
    }
}

#[derive(PartialEq)]
enum Written {
    Yes,
    /// There is nothing to write: NaN, infinities.
    Nothing,
    /// Not possible as the type that the field must have.
    Unfit,
}

fn write_field(value: &Value, whole: FieldType, pin: Option<FieldType>, out: &mut Vec<u8>) -> Written {
    match (pin, value) {
        (None, Value::Int(int)) if whole == FieldType::Int => append(out, &format_args!("{int}i")),
        (None, Value::Uint(uint)) if whole == FieldType::Int => append(out, &format_args!("{uint}u")),
        (None | Some(FieldType::Float), Value::Int(int)) => return write_float(*int as f64, out),
        (None | Some(FieldType::Float), Value::Uint(uint)) => return write_float(*uint as f64, out),
        (None | Some(FieldType::Float), Value::Float(float)) => return write_float(*float, out),
        (None | Some(FieldType::Bool), Value::Bool(value)) => append(out, value),
        (Some(FieldType::Int), Value::Int(int)) => append(out, &format_args!("{int}i")),
        (Some(FieldType::Int), Value::Float(float)) if float.abs() < 9.0e18 => {
            append(out, &format_args!("{}i", *float as i64))
        }
        (Some(FieldType::Int), Value::Bool(value)) => append(out, &format_args!("{}i", i64::from(*value))),
        (Some(FieldType::Int), Value::String(text)) => match text.parse::<i64>() {
            Ok(int) => append(out, &format_args!("{int}i")),
            Err(_) => return Written::Unfit,
        },
        (Some(FieldType::Float), Value::String(text)) => match text.parse() {
            Ok(float) => return write_float(float, out),
            Err(_) => return Written::Unfit,
        },
        (Some(FieldType::Int | FieldType::Float | FieldType::Bool), _) => return Written::Unfit,
        (None | Some(FieldType::String), Value::String(text)) => quoted(text, out),
        (None | Some(FieldType::String), Value::Datetime(zoned)) => {
            quoted(&json_encoder::Rfc3339(zoned).to_string(), out)
        }
        (None | Some(FieldType::String), Value::Bytes(bytes)) if std::str::from_utf8(bytes).is_ok() => {
            quoted(&String::from_utf8_lossy(bytes), out);
        }
        // Lists, objects and bytes that are no text: as JSON, which holds bytes as base64.
        (None | Some(FieldType::String), other) => {
            let mut text = Vec::new();
            json_encoder::write_value(other, &mut text);
            let text = String::from_utf8_lossy(&text);
            let text = if matches!(other, Value::Bytes(_)) { text.trim_matches('"') } else { &text };
            quoted(text, out);
        }
    }
    Written::Yes
}

fn write_float(float: f64, out: &mut Vec<u8>) -> Written {
    if !float.is_finite() {
        return Written::Nothing;
    }
    if float != 0.0 && !(1e-6..1e21).contains(&float.abs()) {
        append(out, &format_args!("{float:e}"));
    } else {
        append(out, &float);
    }
    Written::Yes
}

fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// A measurement, name or tag. The server takes backslashes in pairs, so before what has to be escaped, and at the end, there may
/// only be an even number of them.
fn escaped(text: &str, special: &[u8], out: &mut Vec<u8>) {
    let mut odd = false;
    for byte in text.bytes() {
        let control = match byte {
            b'\n' => Some(b'n'),
            b'\r' => Some(b'r'),
            b'\t' => Some(b't'),
            0x0c => Some(b'f'),
            _ => None,
        };
        if control.is_some() || special.contains(&byte) {
            if odd {
                out.pop();
            }
            out.push(b'\\');
        }
        odd = byte == b'\\' && !odd;
        out.push(control.unwrap_or(byte));
    }
    if odd {
        out.pop();
    }
}

fn append(out: &mut Vec<u8>, text: &impl std::fmt::Display) {
    write!(out, "{text}").expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use influxdb_line_protocol::{FieldValue, parse_lines};
    use proptest::prelude::*;
    use sluice_sql::Object;

    use super::*;

    fn line(measurement: &str, tags: &[(&str, &str)], fields: &[(&str, Value)]) -> String {
        let mut out = Vec::new();
        let mut writer = LineWriter::start(measurement, &mut out);
        for (name, value) in tags {
            writer.tag(name, value);
        }
        for (name, value) in fields {
            writer.field(name, value, FieldType::Int, None);
        }
        writer.end(7);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_and_escapes() {
        let one = |value: Value| line("m", &[], &[("f", value)]);
        let zoned: jiff::Zoned = "2026-01-02T03:04:05+00:00[UTC]".parse().unwrap();
        let object: Object = [("a", Value::Int(1))].into_iter().collect();
        let cases = [
            (one(Value::Int(-5)), "m f=-5i 7\n"),
            (one(Value::Uint(u64::MAX)), "m f=18446744073709551615u 7\n"),
            (one(Value::Float(2.0)), "m f=2 7\n"),
            (one(Value::Float(0.1)), "m f=0.1 7\n"),
            (one(Value::Float(1e300)), "m f=1e300 7\n"),
            (one(Value::Float(1e-9)), "m f=1e-9 7\n"),
            (one(Value::Bool(true)), "m f=true 7\n"),
            (one(Value::string(r#"a "b" \ c, d=e"#)), "m f=\"a \\\"b\\\" \\\\ c, d=e\" 7\n"),
            (one(Value::string("two\nlines")), "m f=\"two\nlines\" 7\n"),
            (one(Value::string("")), "m f=\"\" 7\n"),
            (one(Value::bytes(Bytes::from_static(b"text"))), "m f=\"text\" 7\n"),
            (one(Value::bytes(Bytes::from_static(b"\xff\x00"))), "m f=\"/wA=\" 7\n"),
            (one(Value::Datetime(Arc::new(zoned))), "m f=\"2026-01-02T03:04:05Z\" 7\n"),
            (one(Value::Object(Arc::new(object))), "m f=\"{\\\"a\\\":1}\" 7\n"),
            (one(Value::Array(Arc::new(vec![Value::Int(1)]))), "m f=\"[1]\" 7\n"),
            (one(Value::Null), ""),
            (one(Value::Missing), ""),
            (one(Value::Float(f64::NAN)), ""),
            (one(Value::Float(f64::INFINITY)), ""),
            (line("m", &[], &[("a", Value::Null), ("b", Value::Int(1)), ("c", Value::Int(2))]), "m b=1i,c=2i 7\n"),
            (
                line("a b,c=d", &[("t 1", "x,y=z w"), ("e", ""), ("é", "世")], &[("f 1,=", Value::Int(1))]),
                "a\\ b\\,c=d,t\\ 1=x\\,y\\=z\\ w,é=世 f\\ 1\\,\\==1i 7\n",
            ),
            (line("m", &[("t", "a\nb\tc")], &[("f", Value::Int(1))]), "m,t=a\\nb\\tc f=1i 7\n"),
            (
                line("m", &[("t", "C:\\dir\\"), ("u", "a\\,b"), ("v", "\\")], &[("f", Value::Int(1))]),
                "m,t=C:\\dir,u=a\\,b f=1i 7\n",
            ),
        ];
        for (written, expected) in cases {
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn whole_numbers_are_integers_only_if_the_column_is() {
        let field = |value: Value, whole: FieldType, pin: Option<FieldType>| {
            let mut out = Vec::new();
            let mut writer = LineWriter::start("m", &mut out);
            let fits = writer.field("f", &value, whole, pin);
            writer.end(7);
            fits.then(|| String::from_utf8(out).unwrap())
        };
        let (int, float) = (FieldType::of_whole(&Type::Int), FieldType::of_whole(&Type::Number));
        let cases = [
            (field(Value::Int(20), int, None), Some("m f=20i 7\n")),
            (field(Value::Int(20), float, None), Some("m f=20 7\n")),
            (field(Value::Int(20), float, Some(FieldType::Int)), Some("m f=20i 7\n")),
            (field(Value::Float(20.7), float, Some(FieldType::Int)), Some("m f=20i 7\n")),
            (field(Value::string("20.5"), float, Some(FieldType::Float)), Some("m f=20.5 7\n")),
            (field(Value::Int(20), int, Some(FieldType::String)), Some("m f=\"20\" 7\n")),
            (field(Value::string("x"), float, Some(FieldType::Float)), None),
            (field(Value::Int(1), int, Some(FieldType::Bool)), None),
        ];
        for (written, expected) in cases {
            assert_eq!(written.as_deref(), expected);
        }
    }

    #[test]
    fn timestamps_in_every_precision() {
        let instant = jiff::Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        for (precision, expected) in [
            (Precision::Ns, 1_700_000_000_123_000_000),
            (Precision::Us, 1_700_000_000_123_000),
            (Precision::Ms, 1_700_000_000_123),
            (Precision::S, 1_700_000_000),
        ] {
            assert_eq!(precision.from_ms(1_700_000_000_123), Some(expected));
            assert_eq!(precision.from_instant(instant), Some(expected));
        }
        assert_eq!(Precision::Ns.from_ms(i64::MAX), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// The crate of InfluxDB's makers reads back what was written. It takes backslashes in names differently from the
        /// servers, so there are none here.
        #[test]
        fn reads_back(
            measurement in "[a-z ,=\"é世]{1,8}",
            tags in proptest::collection::btree_map("[a-z ,=\"é]{1,5}", "[a-z ,=\"é0-9]{1,5}", 0..4),
            fields in proptest::collection::btree_map("[a-z ,=\"é]{1,5}", (any::<i64>(), any::<f64>(), "\\PC{0,8}", any::<bool>(), 0..4u8), 1..4),
            timestamp in any::<i64>(),
        ) {
            prop_assume!(!measurement.starts_with('#'));
            let value = |(int, float, text, flag, kind): &(i64, f64, String, bool, u8)| match kind {
                0 => Value::Int(*int),
                1 => Value::Float(if float.is_finite() { *float } else { 0.5 }),
                2 => Value::string(text.as_str()),
                _ => Value::Bool(*flag),
            };
            let mut out = Vec::new();
            let mut writer = LineWriter::start(&measurement, &mut out);
            for (name, value) in &tags {
                writer.tag(name, value);
            }
            for (name, seed) in &fields {
                prop_assert!(writer.field(name, &value(seed), FieldType::Int, None));
            }
            prop_assert!(writer.end(timestamp));
            let text = String::from_utf8(out).unwrap();
            let lines: Vec<_> = parse_lines(&text).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(lines.len(), 1);
            let parsed = &lines[0];
            prop_assert_eq!(parsed.series.measurement.as_str(), measurement.as_str());
            prop_assert_eq!(parsed.timestamp, Some(timestamp));
            let parsed_tags: Vec<(String, String)> = parsed.series.tag_set.iter().flatten()
                .map(|(name, value)| (name.to_string(), value.to_string())).collect();
            let expected: Vec<(String, String)> = tags.into_iter().collect();
            prop_assert_eq!(parsed_tags, expected);
            prop_assert_eq!(parsed.field_set.len(), fields.len());
            for ((name, parsed), (expected_name, seed)) in parsed.field_set.iter().zip(&fields) {
                prop_assert_eq!(name.as_str(), expected_name.as_str());
                let same = match (parsed, value(seed)) {
                    (FieldValue::I64(a), Value::Int(b)) => *a == b,
                    (FieldValue::F64(a), Value::Float(b)) => *a == b,
                    (FieldValue::String(a), Value::String(b)) => a.as_str() == b.as_str(),
                    (FieldValue::Boolean(a), Value::Bool(b)) => *a == b,
                    _ => false,
                };
                prop_assert!(same, "{:?} for {:?}", parsed, seed);
            }
        }
    }
}
