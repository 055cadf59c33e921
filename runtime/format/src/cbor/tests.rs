use ciborium::Value as Cbor;
use proptest::prelude::*;
use sluice_sql::sql::ast::{Field, FieldType};
use sluice_sql::value::json;

use super::*;
use crate::tests::{decode, field};

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn written(value: &Value) -> String {
    let mut text = Vec::new();
    json::write_value(value, &mut text);
    String::from_utf8(text).unwrap()
}

fn encoded(value: &Cbor) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).unwrap();
    out
}

#[test]
fn values() {
    for (hex, kind, expected) in [
        ("00", "bigint", "0"),
        ("1b7fffffffffffffff", "bigint", "9223372036854775807"),
        ("1bffffffffffffffff", "bigint", "18446744073709551615"),
        ("3b7fffffffffffffff", "bigint", "-9223372036854775808"),
        ("3bffffffffffffffff", "float", "-18446744073709552000"),
        ("f90000", "float", "0"),
        ("f93e00", "float", "1.5"),
        ("fa47c35000", "float", "100000"),
        ("fb3ff199999999999a", "float", "1.1"),
        ("f97e00", "float", "null"),
        ("f4", "boolean", "false"),
        ("f5", "boolean", "true"),
        ("f6", "null", "null"),
        ("f7", "null", "null"),
        ("4401020304", "bytea", r#""AQIDBA==""#),
        ("5f42010243030405ff", "bytea", r#""AQIDBAU=""#),
        ("62c3bc", "string", r#""ü""#),
        ("7f657374726561646d696e67ff", "string", r#""streaming""#),
        ("8301820203 820405", "array", "[1,[2,3],[4,5]]"),
        ("9f01ff", "array", "[1]"),
        ("a2 6161 01 6162 80", "struct", r#"{"a":1,"b":[]}"#),
        ("bf 6161 01 6161 02 ff", "struct", r#"{"a":2}"#),
        ("a2 05 f5 24 f4", "struct", r#"{"5":true,"-5":false}"#),
        ("c074323031332d30332d32315432303a30343a30305a", "datetime", r#""2013-03-21T20:04:00Z""#),
        ("c0 7819 323031332d30332d32315432303a30343a30302b30323a3030", "datetime", r#""2013-03-21T20:04:00+02:00""#),
        ("c11a514b67b0", "datetime", r#""2013-03-21T20:04:00Z""#),
        ("c1fb41d452d9ec200000", "datetime", r#""2013-03-21T20:04:00.5Z""#),
        ("c249 010000000000000000", "float", "18446744073709552000"),
        ("c243 000100", "bigint", "256"),
        ("c348 7fffffffffffffff", "bigint", "-9223372036854775808"),
        ("c482 21 19 6ab3", "float", "273.15"),
        ("d9d9f7 01", "bigint", "1"),
        ("d818 4101", "bytea", r#""AQ==""#),
    ] {
        let value = parse_value(&bytes(hex)).unwrap_or_else(|error| panic!("{hex}: {error}"));
        assert_eq!((value.kind_name(), written(&value).as_str()), (kind, expected), "{hex}");
    }
}

#[test]
fn bad_bytes() {
    let deep = "81".repeat(200);
    let tags = "c6".repeat(200);
    for (hex, expected) in [
        ("", "byte 1: the payload ends within a value"),
        ("1b00", "byte 3: the payload ends within a value"),
        ("5affffffff01", "byte 7: the payload ends within a value"),
        ("9bffffffffffffffff", "byte 10: the payload ends within a value"),
        ("bbffffffffffffffff", "byte 10: the payload ends within a value"),
        ("ba80000000", "byte 6: the payload ends within a value"),
        ("9f01", "byte 3: the payload ends within a value"),
        ("1c", "byte 1: no CBOR: this byte begins no value"),
        ("0000", "byte 2: unexpected bytes behind the value"),
        ("62c328", "byte 2: not valid UTF-8"),
        ("7f01ff", "byte 2: expected a piece of text"),
        ("5f6161ff", "byte 2: expected a piece of a byte string"),
        ("81ff", "byte 2: a break outside a value of indefinite length"),
        ("a1800000", "byte 2: expected a text as the name of a member"),
        ("e0", "byte 1: the simple value 0 has no meaning here"),
        ("c063616263", "byte 1: this time is none, or beyond the years -9999 to 9999"),
        ("c001", "byte 1: a time with tag 0 is a text"),
        ("c1f5", "byte 1: a time with tag 1 is a number of seconds"),
        ("c11b7fffffffffffffff", "byte 1: this time is none, or beyond the years -9999 to 9999"),
        ("c4820102 00", "byte 5: unexpected bytes behind the value"),
        ("c480", "byte 1: a decimal fraction is an exponent and a mantissa"),
        (&deep, "byte 129: nested deeper than 128 levels"),
        (&tags, "byte 129: nested deeper than 128 levels"),
    ] {
        assert_eq!(parse_value(&bytes(hex)).unwrap_err().0, expected, "{hex}");
    }
    let many: Bytes = [&[0x9f][..], &vec![0; read_limit()], &[0xff]].concat().into();
    assert_eq!(parse_value(&many).unwrap_err().0, "byte 4194305: more than 4194304 values");
    let large = Bytes::from(vec![0; (64 << 20) + 1]);
    assert_eq!(parse_value(&large).unwrap_err().0, "byte 67108865: larger than 64 MiB");
}

/// As many as there may be, and no room for the list itself.
fn read_limit() -> usize {
    4 << 20
}

#[test]
fn rows() {
    let any: &[Field] = &[];
    let declared = &[field("a", FieldType::Float), field("c", FieldType::Bytea)];
    for (fields, hex, expected) in [
        (any, "a1 6161 01", r#"[{"a":1}]"#),
        (any, "82 a1 6161 01 a1 6162 02", r#"[{"a":1},{"b":2}]"#),
        (any, "d9d9f7 a1 6161 01", r#"[{"a":1}]"#),
        (any, "80", "[]"),
        (any, "", "error: byte 1: the payload is empty"),
        (any, "01", "error: byte 1: expected a map or an array of maps"),
        (any, "82 a1 6161 01 02", "error: byte 6: expected a map: a row is a map, a list of rows an array of maps"),
        (declared, "a3 6161 01 6162 02 6163 4101", r#"[{"a":1,"c":"AQ=="}]"#),
        // What nobody reads is checked all the same.
        (any, "a2 6161 01 6162 8281", "error: byte 9: the payload ends within a value"),
    ] {
        assert_eq!(decode(make_decoder, fields, None, &bytes(hex)), expected, "{hex}");
    }
    let mut rows = Vec::new();
    let schema = Arc::new(sluice_sql::Schema {
        columns: vec![sluice_sql::Column {
            name: "a".into(),
            kind: sluice_sql::ColumnKind::Field,
            ty: sluice_sql::Type::Float,
        }],
    });
    let args = DecodeArgs { schema: &schema, fields: declared, delimiter: None };
    let mut decoder = make_decoder(&args).unwrap();
    for (hex, expected) in [
        ("a2 6162 9f82f5f6ff 6161 61 78", "byte 11: column a: expected a float, found a text"),
        ("a2 6162 9f82f5 6161 01", "byte 10: the payload ends within a value"),
    ] {
        assert_eq!(decoder.decode(&bytes(hex), 0, None, &mut rows).unwrap_err().0, expected, "{hex}");
        assert!(rows.is_empty());
    }
}

fn cbor() -> impl Strategy<Value = Cbor> {
    let leaf = prop_oneof![
        Just(Cbor::Null),
        any::<bool>().prop_map(Cbor::Bool),
        any::<u64>().prop_map(Cbor::from),
        any::<i64>().prop_map(Cbor::from),
        any::<f64>().prop_map(Cbor::from),
        any::<f32>().prop_map(|float| Cbor::from(f64::from(float))),
        ".{0,12}".prop_map(Cbor::from),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Cbor::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Cbor::from),
            proptest::collection::btree_map("[a-zä]{0,6}", inner, 0..6)
                .prop_map(|map| Cbor::Map(map.into_iter().map(|(name, value)| (Cbor::from(name), value)).collect())),
        ]
    })
}

/// ciborium's value as ours, without our reader.
fn same(ours: &Value, theirs: &Cbor) -> bool {
    match (ours, theirs) {
        (Value::Null, Cbor::Null) => true,
        (Value::Bool(a), Cbor::Bool(b)) => a == b,
        (Value::Int(a), Cbor::Integer(b)) => i128::from(*a) == i128::from(*b),
        (Value::Uint(a), Cbor::Integer(b)) => i128::from(*a) == i128::from(*b),
        (Value::Float(a), Cbor::Float(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
        (Value::String(a), Cbor::Text(b)) => a == b,
        (Value::Bytes(a), Cbor::Bytes(b)) => a[..] == b[..],
        (Value::Array(a), Cbor::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Cbor::Map(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|((name, a), (their_name, b))| their_name.as_text() == Some(name) && same(a, b))
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn agrees_with_ciborium_both_ways(theirs in cbor()) {
        let ours = parse_value(&Bytes::from(encoded(&theirs))).unwrap();
        prop_assert!(same(&ours, &theirs), "{ours:?}");
        let mut out = Vec::new();
        write_value(&ours, &mut out);
        let back: Cbor = ciborium::from_reader(out.as_slice()).unwrap();
        prop_assert!(same(&ours, &back), "{back:?}");
    }

    #[test]
    fn never_panics_and_skips_what_it_reads(junk in proptest::collection::vec(any::<u8>(), 0..64)) {
        let payload = Bytes::from(junk);
        let mut reading = Reader::new(&payload).unwrap();
        let mut skipping = Reader::new(&payload).unwrap();
        let value = reading.value(0);
        if value.is_ok() {
            prop_assert!(skipping.skip(0).is_ok());
            prop_assert_eq!(reading.at(), skipping.at());
        }
    }
}

#[test]
fn datetimes_keep_their_offset() {
    let instant: jiff::Zoned = "2026-01-02T03:04:05.678+02:00[+02:00]".parse().unwrap();
    let mut out = Vec::new();
    write_value(&Value::Datetime(Arc::new(instant.clone())), &mut out);
    let Value::Datetime(back) = parse_value(&Bytes::from(out)).unwrap() else { panic!("no datetime") };
    assert_eq!((back.timestamp(), back.offset()), (instant.timestamp(), instant.offset()));
}
