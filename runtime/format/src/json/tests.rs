use proptest::prelude::*;
use sluice_sql::sql::ast::{Field, FieldType, Ident};
use sluice_sql::{Batch, Column, ColumnKind, Schema, Type};
use smol_str::SmolStr;

use super::*;
use crate::{EncodeArgs, json_encoder};

fn schema(columns: &[(&str, ColumnKind)]) -> Arc<Schema> {
    let column = |(name, kind): &(&str, ColumnKind)| Column { name: (*name).into(), kind: *kind, ty: Type::Any };
    Arc::new(Schema { columns: columns.iter().map(column).collect() })
}

fn field(name: &str, ty: FieldType) -> Field {
    Field { name: Ident { name: name.into(), span: Default::default() }, ty, default: None }
}

fn decode_with(decoder: &mut dyn Decoder, payload: &str) -> std::result::Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    decoder.decode(&payload, 7, None, &mut rows).map_err(|error| error.0)?;
    Ok(rows)
}

/// The slots of fields `names` in each row.
fn decode(names: &[&str], fields: &[Field], payload: &str) -> std::result::Result<Vec<Vec<String>>, String> {
    let columns: Vec<_> = names.iter().map(|name| (*name, ColumnKind::Field)).collect();
    let args = DecodeArgs { schema: &schema(&columns), fields, delimiter: None };
    let rows = decode_with(&mut *make_decoder(&args).unwrap(), payload)?;
    Ok(rows.iter().map(|row| row.values.iter().map(show).collect()).collect())
}

fn show(value: &Value) -> String {
    match value {
        Value::Missing => "missing".to_owned(),
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => format!("int {value}"),
        Value::Uint(value) => format!("uint {value}"),
        Value::Float(value) => format!("float {value:?}"),
        Value::String(value) => format!("{value:?}"),
        Value::Bytes(value) => format!("{value:?}"),
        Value::Array(values) => format!("[{}]", values.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Object(object) => {
            let member = |(name, value): (&SmolStr, &Value)| format!("{name}: {}", show(value));
            format!("{{{}}}", object.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn values_without_declaration() {
    let cases = [
        (r#"{"a":1,"b":"x"}"#, r#"int 1 | "x""#),
        (r#" { "b" : "x" , "z": [1,{"a":2}], "a" : -1 } "#, r#"int -1 | "x""#),
        (r#"{"a":null}"#, "null | missing"),
        ("{}", "missing | missing"),
        (r#"{"a":1,"a":2}"#, "int 2 | missing"),
        (r#"{"a":9223372036854775807,"b":-9223372036854775808}"#, "int 9223372036854775807 | int -9223372036854775808"),
        (
            r#"{"a":9223372036854775808,"b":18446744073709551615}"#,
            "uint 9223372036854775808 | uint 18446744073709551615",
        ),
        (
            r#"{"a":18446744073709551616,"b":-9223372036854775809}"#,
            "float 1.8446744073709552e19 | float -9.223372036854776e18",
        ),
        (r#"{"a":1.0,"b":1e3}"#, "float 1.0 | float 1000.0"),
        (r#"{"a":0.1,"b":-123456.789e-3}"#, "float 0.1 | float -123.456789"),
        (r#"{"a":3.141592653589793238,"b":5e-324}"#, "float 3.141592653589793 | float 5e-324"),
        (r#"{"a":true,"b":false}"#, "true | false"),
        (
            r#"{"a":"\"\\\/\b\f\n\r\t\u0041é\uD83D\uDE00","b":"\ud800x"}"#,
            "\"\\\"\\\\/\\u{8}\\u{c}\\n\\r\\tAé😀\" | \"\u{fffd}x\"",
        ),
        (r#"{"a":[],"b":{}}"#, "[] | {}"),
        (r#"{"a":[1,[2.5,null]],"b":{"x":{"y":"z"},"x":3}}"#, "[int 1, [float 2.5, null]] | {x: int 3}"),
        (r#"{"\u0061":5}"#, "int 5 | missing"),
    ];
    for (payload, expected) in cases {
        let rows = decode(&["a", "b"], &[], payload).unwrap_or_else(|error| panic!("{payload}: {error}"));
        assert_eq!(rows.len(), 1, "{payload}");
        assert_eq!(rows[0].join(" | "), expected, "{payload}");
    }
}

#[test]
fn a_list_is_a_row_per_element() {
    let rows = decode(&["a"], &[], r#" [ {"a":1} , {}, {"a":"x"} ] "#).unwrap();
    assert_eq!(rows, [["int 1"], ["missing"], ["\"x\""]]);
    assert!(decode(&["a"], &[], "[]").unwrap().is_empty());
}

#[test]
fn declared_columns() {
    let fields = [
        field("i", FieldType::Bigint),
        field("f", FieldType::Float),
        field("s", FieldType::String),
        field("b", FieldType::Boolean),
        field("d", FieldType::Datetime),
        field("y", FieldType::Bytea),
        field("l", FieldType::Array(Box::new(FieldType::Float))),
        field(
            "o",
            FieldType::Struct(vec![
                field("x", FieldType::Bigint),
                field("n", FieldType::Struct(vec![field("s", FieldType::String)])),
            ]),
        ),
    ];
    let cases = [
        ("i", "7", "int 7"),
        ("i", "7.0", "int 7"),
        ("i", "null", "null"),
        ("i", "9223372036854775808", "uint 9223372036854775808"),
        ("i", "7.5", "error: expected a whole number of 64 bits for bigint, found a fraction or a larger number"),
        ("i", "\"7\"", "error: expected a bigint, found a text"),
        ("f", "7", "float 7.0"),
        ("f", "true", "error: expected a float, found a boolean"),
        ("s", "7", "\"7\""),
        ("s", "7.25", "\"7.25\""),
        ("s", "1e21", "\"1e+21\""),
        ("s", "[]", "error: expected a string, found a list"),
        ("b", "0", "false"),
        ("b", "0.5", "true"),
        ("b", "\"T\"", "true"),
        ("b", "\"yes\"", "error: expected a boolean, found another text"),
        ("d", "1690000000123", "int 1690000000123"),
        ("d", "\"2024-01-01\"", "\"2024-01-01\""),
        ("d", "false", "error: expected a datetime (a number or a text), found a boolean"),
        ("y", "\"aGk=\"", "b\"hi\""),
        ("y", "\"hi!\"", "b\"hi!\""),
        ("y", "1", "error: expected a bytea (a text), found a number"),
        ("l", "[1,2.5,null]", "[float 1.0, float 2.5, null]"),
        ("l", "[1,\"x\"]", "error: [1]: expected a float, found a text"),
        ("l", "{}", "error: expected an array, found an object"),
        ("o", "{\"x\":1,\"y\":2,\"n\":{\"s\":3,\"t\":4}}", "{x: int 1, n: {s: \"3\"}}"),
        ("o", "{\"n\":{\"s\":{}}}", "error: n: s: expected a string, found an object"),
        ("o", "[1]", "error: expected a struct (an object), found a list"),
    ];
    for (column, value, expected) in cases {
        let payload = format!("{{\"undeclared\":1,\"{column}\":{value}}}");
        let outcome = match decode(&[column], &fields, &payload) {
            Ok(rows) => rows.concat().concat(),
            Err(error) => {
                let place = format!("line 1, column {}: column {column}: ", payload.len() - value.len());
                format!("error: {}", error.strip_prefix(&place).unwrap_or(&error))
            }
        };
        assert_eq!(outcome, expected, "{column} from {value}");
    }
    let undeclared = decode(&["undeclared"], &fields, "{\"undeclared\":1}").unwrap();
    assert_eq!(undeclared, [["missing"]]);
}

#[test]
fn errors_name_the_place() {
    let deep = format!("{{\"z\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_read = deep.replace("\"z\"", "\"a\"");
    let cases = [
        ("", "line 1, column 1: the payload is empty"),
        ("  \n ", "line 2, column 2: the payload is empty"),
        ("7", "line 1, column 1: expected an object or an array of objects"),
        ("[1]", "line 1, column 2: expected an object: a row is an object, a list of rows an array of objects"),
        ("{\"a\":1", "line 1, column 7: expected `,` or `}`, but the text ends here"),
        ("{\"a\":1,}", "line 1, column 8: expected a member name in double quotes"),
        ("{\"a\":1} x", "line 1, column 9: unexpected text behind the value"),
        ("{\"a\" 1}", "line 1, column 6: expected `:`"),
        ("{\n  \"é\": tru\n}", "line 2, column 8: expected a value"),
        ("{\"a\":01}", "line 1, column 6: number with a leading zero"),
        ("{\"z\":1.}", "line 1, column 8: expected a digit behind the point"),
        ("{\"z\":1e999}", "line 1, column 6: number is too large"),
        ("{\"a\":1e999}", "line 1, column 6: number is too large"),
        ("{\"z\":-}", "line 1, column 7: expected a digit"),
        ("{\"z\":\"\\x\"}", "line 1, column 7: unknown escape in a string"),
        ("{\"a\":\"\\u12g4\"}", "line 1, column 7: expected four hexadecimal digits behind \\u"),
        ("{\"z\":\"a\nb\"}", "line 1, column 8: control character in a string: write it as an escape"),
        ("{\"z\":\"abc", "line 1, column 10: the text ends inside a string"),
        ("[{\"a\":1},{\"a\":nul}]", "line 1, column 15: expected a value"),
        (deep.as_str(), "line 1, column 133: nested deeper than 128 levels"),
        (deep_read.as_str(), "line 1, column 133: nested deeper than 128 levels"),
    ];
    for (payload, expected) in cases {
        let outcome = decode(&["a"], &[], payload).err();
        assert_eq!(outcome.as_deref(), Some(expected), "{}", payload.get(..40).unwrap_or(payload));
    }
    let args = DecodeArgs { schema: &schema(&[]), fields: &[], delimiter: None };
    let mut rows = vec![Row::default()];
    let payload = Bytes::from_static(b"[{\"a\":1},{\"a\":\"\xff\"}]");
    let error = make_decoder(&args).unwrap().decode(&payload, 0, None, &mut rows).unwrap_err();
    assert_eq!(error.0, "byte 16: not valid UTF-8");
    assert_eq!(rows.len(), 1, "rows are as they were");
}

#[test]
fn members_may_change_place_from_payload_to_payload() {
    let args = DecodeArgs {
        schema: &schema(&[("a", ColumnKind::Field), ("b", ColumnKind::Field)]),
        fields: &[],
        delimiter: None,
    };
    let mut decoder = make_decoder(&args).unwrap();
    for (payload, expected) in [
        (r#"{"a":1,"b":2}"#, "int 1 int 2"),
        (r#"{"b":2,"a":1}"#, "int 1 int 2"),
        (r#"{"z":0,"a":1,"b":2}"#, "int 1 int 2"),
        (r#"{"a":1}"#, "int 1 missing"),
        (r#"{"b" :2,"a": 1}"#, "int 1 int 2"),
        (r#"{"ab":2,"a": 1}"#, "int 1 missing"),
    ] {
        let rows = decode_with(&mut *decoder, payload).unwrap();
        assert_eq!(rows[0].values.iter().map(show).collect::<Vec<_>>().join(" "), expected, "{payload}");
    }
}

#[test]
fn a_star_keeps_the_original_text() {
    let args = DecodeArgs {
        schema: &schema(&[("s", ColumnKind::Star), ("a", ColumnKind::Field), ("s", ColumnKind::Meta)]),
        fields: &[],
        delimiter: None,
    };
    let mut decoder = make_decoder(&args).unwrap();
    let payload = Bytes::from_static(b" [ {\"b\": 1.0,\"a\":2 } , {\"a\":[3]}]");
    let meta = Arc::new(Object::from_iter([("topic", Value::string("t"))]));
    let mut rows = Vec::new();
    decoder.decode(&payload, 42, Some(&meta), &mut rows).unwrap();
    let texts: Vec<_> = rows
        .iter()
        .map(|row| match row.get(0) {
            Value::Raw(raw) => raw.text().clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(texts, [&b"{\"b\": 1.0,\"a\":2 }"[..], b"{\"a\":[3]}"]);
    assert!(payload.as_ptr_range().contains(&texts[0].as_ptr()), "not copied");
    assert_eq!(show(&Value::Object(rows[0].get(0).to_object().unwrap())), "{b: float 1.0, a: int 2}");
    assert_eq!(show(rows[1].get(1)), "[int 3]");
    assert_eq!((rows[0].ts, show(rows[0].get(2))), (42, "{topic: \"t\"}".to_owned()));
}

#[test]
fn a_star_of_declared_columns_holds_those_only() {
    let fields = [field("a", FieldType::Float), field("b", FieldType::String)];
    let args = DecodeArgs {
        schema: &schema(&[("s", ColumnKind::Star), ("b", ColumnKind::Field)]),
        fields: &fields,
        delimiter: None,
    };
    let rows = decode_with(&mut *make_decoder(&args).unwrap(), r#"{"z":1,"b":2,"a":3}"#).unwrap();
    assert_eq!(rows[0].values.iter().map(show).collect::<Vec<_>>(), ["{b: \"2\", a: float 3.0}", "\"2\""]);
}

/// Any value that JSON can hold.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::from_u64),
        any::<f64>().prop_filter("finite", |float| float.is_finite()).prop_map(Value::Float),
        (-1e6..1e6f64).prop_map(Value::Float),
        any::<String>().prop_map(Value::string),
        "[a-z\"\\\\\u{1}é]{0,40}".prop_map(Value::string),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let members = prop::collection::vec((any::<String>(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(|values| Value::Array(Arc::new(values))),
            members.prop_map(|members| Value::Object(Arc::new(members.into_iter().collect()))),
        ]
    })
}

proptest! {
    #[test]
    fn decoding_what_was_encoded_gives_the_same(values in prop::collection::vec(values(), 1..5)) {
        let names: Vec<_> = (0..values.len()).map(|idx| format!("c {idx}")).collect();
        let columns: Vec<_> = names.iter().map(|name| (name.as_str(), ColumnKind::Field)).collect();
        let schema = schema(&columns);
        let batch = Batch::per_row(Arc::clone(&schema), vec![Row { ts: 0, values: values.clone() }]);
        let mut encoder = json_encoder::make(&EncodeArgs { fields: None, delimiter: None, header: false }).unwrap();
        let mut text = Vec::new();
        encoder.encode(&batch, 0..1, true, &mut text).unwrap();
        let args = DecodeArgs { schema: &schema, fields: &[], delimiter: None };
        let rows = decode_with(&mut *make_decoder(&args).unwrap(), std::str::from_utf8(&text).unwrap()).unwrap();
        prop_assert_eq!(rows.len(), 1);
        for (decoded, value) in rows[0].values.iter().zip(&values) {
            prop_assert!(same(decoded, value), "{decoded:?} is not {value:?}");
        }
    }

    /// Reads the same as another parser, and skipping accepts the same as reading.
    #[test]
    fn agrees_with_serde_json(text in prop_oneof![
        "[\\[\\]{}:,\"\\\\a-c0-3eE.+ -]{0,24}",
        "\\{\"a\":[0-9eE.+-]{1,8}\\}",
        "\\{\"a\":\"[a-f0-9u\\\\\"nD8]{0,12}\"\\}",
        values().prop_map(|value| {
            let mut text = b"{\"a\":".to_vec();
            json_encoder::write_value(&value, &mut text);
            text.push(b'}');
            String::from_utf8(text).unwrap()
        }),
    ]) {
        let read = parse_value(text.as_bytes()).ok();
        let mut cursor = Cursor::new(&text);
        let skipped = cursor.skip(0).and_then(|()| cursor.end()).is_ok();
        prop_assert_eq!(read.is_some(), skipped);
        let expected = serde_json::from_str::<serde_json::Value>(&text);
        match (&read, &expected) {
            (Some(value), Ok(expected)) => {
                let mut written = Vec::new();
                json_encoder::write_value(value, &mut written);
                let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
                prop_assert!(same_json(&written, expected), "{written} {expected}");
            }
            (None, Err(_)) => {}
            // The one liberty: a surrogate without its partner.
            (Some(_), Err(error)) => prop_assert!(error.to_string().contains("surrogate"), "{error}"),
            (None, Ok(_)) => prop_assert!(false, "refused {text}"),
        }
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64), star in any::<bool>()) {
        let kind = if star { ColumnKind::Star } else { ColumnKind::Field };
        let args = DecodeArgs { schema: &schema(&[("a", kind)]), fields: &[], delimiter: None };
        let _ = make_decoder(&args).unwrap().decode(&Bytes::from(bytes), 0, None, &mut Vec::new());
    }
}

/// Equal, but for floats that are written as whole numbers, with zeros where a float has no digits any more.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(a), Value::Float(b)) => *a as f64 == *b,
        (Value::Uint(a), Value::Float(b)) => *a as f64 == *b,
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(&**b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a.same_key(b),
    }
}

/// The other parser may miss the nearest float by one.
fn same_float(a: Option<f64>, b: Option<f64>) -> bool {
    a == b || a.zip(b).is_some_and(|(a, b)| (a - b).abs() <= a.abs() * f64::EPSILON)
}

/// Equal, with numbers by value: our encoder writes a whole float without its point.
fn same_json(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value as Json;
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a == b || same_float(a.as_f64(), b.as_f64()),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same_json(a, b)))
        }
        _ => a == b,
    }
}
