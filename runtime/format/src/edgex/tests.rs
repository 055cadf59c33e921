//! What EdgeX's own libraries write is read; what we write is read back.

use std::path::PathBuf;

use serde_json::Value as Json;
use sluice_sql::{Column, ColumnKind, Schema, Type};

use super::write::{ContentType, Names, Release, Stamp, Writer};
use super::*;
use crate::{cbor, json};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/edgex")
}

/// All messages of all releases, each with what it must give.
fn cases() -> Vec<Json> {
    let index = |version| {
        let text = std::fs::read_to_string(folder().join(format!("index-v{version}.json"))).unwrap();
        serde_json::from_str::<Vec<Json>>(&text).unwrap()
    };
    [2, 3, 4].into_iter().flat_map(index).collect()
}

fn schema() -> Arc<Schema> {
    let column = |kind| Column { name: "s".into(), kind, ty: Type::Any };
    Arc::new(Schema { columns: vec![column(ColumnKind::Star), column(ColumnKind::Meta)] })
}

fn decoder(message_type: Option<MessageType>) -> Box<dyn Decoder> {
    decoder_of(&DecodeArgs { schema: &schema(), fields: &[], delimiter: None }, message_type)
}

/// Columns and metadata of the one row that a message makes.
fn decode(message: &[u8], message_type: Option<MessageType>) -> Result<(Object, Object), String> {
    let mut rows = Vec::new();
    let connector = Arc::new(Object::from_iter([("topic", Value::string("t"))]));
    let payload = Bytes::copy_from_slice(message);
    let decoded = decoder(message_type).decode(&payload, 0, Some(&connector), &mut rows);
    decoded.map_err(|error| error.0)?;
    let object = |slot: usize| Arc::unwrap_or_clone(rows[0].get(slot).to_object().unwrap());
    Ok((object(0), object(1)))
}

/// As the index writes values: `{"$bytes": base64}`, floats to six digits, whole numbers exactly.
fn is(value: &Value, expected: &Json) -> bool {
    match (value, expected) {
        (Value::Null, Json::Null) => true,
        (Value::Bool(value), Json::Bool(expected)) => value == expected,
        (Value::Int(value), Json::Number(expected)) => expected.as_i64() == Some(*value),
        (Value::Uint(value), Json::Number(expected)) => expected.as_u64() == Some(*value),
        (Value::Float(value), Json::Number(expected)) => {
            let expected = expected.as_f64().unwrap();
            (value - expected).abs() <= 1e-6 * expected.abs()
        }
        (Value::String(value), Json::String(expected)) => value == expected,
        (Value::Bytes(_), Json::Object(expected)) => expected.get("$bytes") == Some(&Json::from(value)),
        (Value::Array(values), Json::Array(expected)) => {
            values.len() == expected.len() && values.iter().zip(expected).all(|(value, expected)| is(value, expected))
        }
        (Value::Object(object), Json::Object(expected)) => {
            object.len() == expected.len()
                && expected.iter().all(|(key, expected)| object.get(key).is_some_and(|value| is(value, expected)))
        }
        _ => false,
    }
}

#[test]
fn every_message_of_every_release_is_known_by_itself() {
    let cases = cases();
    assert_eq!(cases.len(), 136);
    for case in cases {
        let file = case["file"].as_str().unwrap();
        let message = std::fs::read(folder().join(file)).unwrap();
        let (columns, meta) = decode(&message, None).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(is(&Value::Object(Arc::new(columns.clone())), &case["row"]), "{file}: {columns:?}");
        for (key, expected) in case["event"].as_object().unwrap() {
            assert!(meta.get(key).is_some_and(|value| is(value, expected)), "{file}: {key} of {meta:?}");
        }
        if let Some(id) = case.get("correlationID") {
            assert!(meta.get("correlationid").is_some_and(|value| is(value, id)), "{file}: {meta:?}");
        }
        for reading in case["readings"].as_array().unwrap() {
            let name = reading["resourceName"].as_str().unwrap();
            let of_reading = meta.get(name).and_then(Value::to_object).unwrap();
            for (key, expected) in reading.as_object().unwrap().iter().filter(|(key, _)| *key != "resourceName") {
                assert!(of_reading.get(key).is_some_and(|value| is(value, expected)), "{file}: {name}->{key}");
            }
        }
        // Told what to expect, the other kind is refused.
        let (same, other) = match case["messageType"].as_str().unwrap() {
            "event" => (MessageType::Event, MessageType::Request),
            _ => (MessageType::Request, MessageType::Event),
        };
        assert!(decode(&message, Some(same)).is_ok(), "{file}");
        assert!(decode(&message, Some(other)).unwrap_err().contains("but messageType is"), "{file}");
    }
}

#[test]
fn cut_messages_are_refused() {
    for case in cases().iter().step_by(5) {
        let file = case["file"].as_str().unwrap();
        let message = std::fs::read(folder().join(file)).unwrap();
        for n_bytes in (0..message.len()).step_by(7) {
            assert!(decode(&message[..n_bytes], None).is_err(), "{file}: {n_bytes} bytes");
        }
    }
}

#[test]
fn bad_messages_say_what_is_wrong() {
    let envelope = |payload: &str, more: &str| format!(r#"{{"apiVersion":"v3","payload":{payload}{more}}}"#);
    let event = r#"{"readings":[{"resourceName":"a","valueType":"Int8","value":"1"}]}"#;
    for (message, expected) in [
        (String::new(), "it is empty"),
        ("hello".to_owned(), "neither a JSON object nor a CBOR map"),
        ("{\"a\":".to_owned(), "JSON, line 1, column 6: "),
        ("{}".to_owned(), "neither an EdgeX envelope, nor an event, nor a request"),
        ("{\"event\":1}".to_owned(), "the event of the request is no object"),
        ("{\"readings\":1}".to_owned(), "the event has no readings"),
        ("{\"readings\":[]}".to_owned(), "the event has no readings"),
        (envelope("\"%\"", ""), "payload of the envelope: not base64: "),
        (envelope("\"\"", ""), "payload of the envelope: is empty"),
        (envelope("null", ""), "payload of the envelope: is null"),
        (envelope("7", ""), "payload of the envelope: expected an object, bytes or base64, found a bigint"),
        (envelope("\"aGVsbG8=\"", ""), "payload of the envelope: neither a JSON object nor a CBOR map"),
        (envelope("\"oWE=\"", ""), "payload of the envelope: CBOR, byte 3: the payload ends within a value"),
        (
            envelope("\"e30=\"", ",\"contentType\":\"application/xml\""),
            "payload of the envelope: its content type application/xml",
        ),
        (envelope("\"bm8=\"", ",\"errorCode\":1"), "payload of the envelope: it reports an error (errorCode 1)"),
        ("{\"readings\":[1]}".to_owned(), "a reading is no object"),
        ("{\"readings\":[{\"value\":\"1\"}]}".to_owned(), "a reading has no resourceName"),
        ("{\"readings\":[{\"resourceName\":\"a\",\"value\":\"1\"}]}".to_owned(), "reading a: it has no valueType"),
        (event.replace("\"1\"", "\"x\""), "reading a: expected a whole number of 64 bits, found another text"),
        (event.replace("Int8", "Bool").replace("\"1\"", "\"x\""), "reading a: expected a boolean, found another text"),
        (event.replace("Int8", "Int8Array"), "reading a: expected an array in brackets, found another text"),
        (event.replace("Int8", "Int8Array").replace("\"1\"", "\"[1, x]\""), "reading a: [1]: expected a whole number"),
        (
            event.replace("Int8", "Binary").replace("\"value\":\"1\"", "\"binaryValue\":\"%\""),
            "reading a: binaryValue is not base64: ",
        ),
    ] {
        let error = decode(message.as_bytes(), None).unwrap_err();
        assert!(error.starts_with(expected), "{message}: {error}");
    }
    assert!(decode(event.as_bytes(), None).is_ok());
}

#[test]
fn a_bad_reading_costs_itself_only() {
    let event = r#"{"readings":[{"resourceName":"a","valueType":"Int8","value":"x"},{"resourceName":"b","valueType":"Int8","value":"2"}]}"#;
    let mut decoder = decoder(None);
    let mut rows = Vec::new();
    decoder.decode(&Bytes::copy_from_slice(event.as_bytes()), 0, None, &mut rows).unwrap();
    assert!(is(rows[0].get(0), &serde_json::json!({"b": 2})));
    let left_out = decoder.take_left_out();
    assert_eq!(left_out.n_parts, 1);
    assert_eq!(left_out.newest.unwrap().0, "reading a: expected a whole number of 64 bits, found another text");
    assert_eq!(decoder.take_left_out().n_parts, 0);
}

#[test]
fn values_by_their_type() {
    for (value_type, value, expected) in [
        ("Bool", r#""T""#, "true"),
        ("Bool", "false", "false"),
        ("Uint64", r#""18446744073709551615""#, "18446744073709551615"),
        ("Int32", "213", "213"),
        ("Float64", r#""NaN""#, "null"),
        ("Float64", r#""1.500000e+00""#, "1.5"),
        ("Float32Array", r#""[1.5e+00, NaN]""#, "[1.5,null]"),
        ("Float64Array", r#""[\"1.5\", \"2\"]""#, "[1.5,2]"),
        ("Int8Array", "[1,2]", "[1,2]"),
        ("Int8Array", r#""[]""#, "[]"),
        ("Uint64Array", r#""[18446744073709551615]""#, "[18446744073709551615]"),
        ("BoolArray", r#""[true, false]""#, "[true,false]"),
        ("StringArray", r#""[a, b c, d]""#, r#"["a","b c","d"]"#),
        ("StringArray", r#""[\"a\",\"b, c\"]""#, r#"["a","b, c"]"#),
        ("StringArray", r#""[1, 2.50]""#, r#"["1","2.50"]"#),
        ("StringArray", r#""[]""#, "[]"),
        ("String", r#""""#, r#""""#),
        ("String", "null", "null"),
        ("Object", r#""{\"a\":1}""#, r#"{"a":1}"#),
        ("Quaternion", r#""1,2,3,4""#, r#""1,2,3,4""#),
    ] {
        let event = format!(r#"{{"readings":[{{"resourceName":"a","valueType":"{value_type}","value":{value}}}]}}"#);
        let (columns, _) = decode(event.as_bytes(), None).unwrap();
        let mut text = Vec::new();
        crate::json_encoder::write_value(columns.get("a").unwrap(), &mut text);
        assert_eq!(String::from_utf8(text).unwrap(), expected, "{value_type} {value}");
    }
}

fn writer(release: Release, message_type: MessageType, content_type: ContentType) -> Writer {
    let names = Names { device: "d".to_owned(), profile: "p".to_owned(), source: "s".to_owned() };
    Writer { release, message_type, content_type, names, metadata: None }
}

fn row(text: &str) -> Object {
    json::parse_object(text.as_bytes()).unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    let bytes = Value::bytes(Bytes::from_static(&[0xff, 0xd8, 0xff, 0]));
    let mut written = row(
        r#"{"b":true,"i":-9223372036854775808,"u":18446744073709551615,"f":2.5,"s":"ü \"x\"","ab":[true],"ai":[1,-2],"af":[1.5,2.5],
            "as":["a","b c"],"o":{"x":[1,{"y":null}]},"au":[18446744073709551615,1],"e":[]}"#,
    );
    written.insert("img", bytes);
    for release in [Release::V2, Release::V3, Release::V4] {
        for message_type in [MessageType::Event, MessageType::Request] {
            for content_type in [ContentType::Json, ContentType::Cbor] {
                let writer = writer(release, message_type, content_type);
                let mut new_id = || "id".to_owned();
                let mut stamp = Stamp { origin: 5, new_id: &mut new_id };
                let event = writer.event(std::slice::from_ref(&written), &mut stamp).unwrap();
                for message in [writer.bare(&event), writer.envelope(&event, "t/u")] {
                    let (read, meta) = decode(&message, Some(message_type)).unwrap();
                    let as_json = |object: &Object| Json::from(&Value::Object(Arc::new(object.clone())));
                    assert_eq!(as_json(&read), as_json(&written), "{release:?} {message_type:?} {content_type:?}");
                    assert!(matches!(meta.get("origin"), Some(Value::Int(5))));
                    let image = meta.get("img").and_then(Value::to_object).unwrap();
                    assert!(is(image.get("mediaType").unwrap(), &"image/jpeg".into()));
                }
            }
        }
    }
}

#[test]
fn members_are_named_as_edgex_names_them() {
    let mut shown = String::new();
    for (release, message_type, content_type) in [
        (Release::V2, MessageType::Event, ContentType::Json),
        (Release::V3, MessageType::Request, ContentType::Json),
        (Release::V3, MessageType::Event, ContentType::Cbor),
        (Release::V4, MessageType::Event, ContentType::Json),
    ] {
        let writer = writer(release, message_type, content_type);
        let mut n_ids = 0;
        let mut new_id = || {
            n_ids += 1;
            format!("id-{n_ids}")
        };
        let mut stamp = Stamp { origin: 1_700_000_000_000_000_000, new_id: &mut new_id };
        let rows = [row(r#"{"temperature":21.5,"ok":true,"nothing":null}"#), row(r#"{"names":["a","b c"]}"#)];
        let event = writer.event(&rows, &mut stamp).unwrap();
        let envelope = writer.envelope(&event, "edgex/events/device/p/d/s");
        shown.push_str(&format!(
            "== {release:?} {message_type:?} {content_type:?}\n{}\n",
            String::from_utf8(envelope).unwrap()
        ));
        shown.push_str(&format!("headers {:?}\n", writer.headers(&event)));
        if content_type == ContentType::Json {
            shown.push_str(&format!("body {}\n", String::from_utf8(writer.bare(&event)).unwrap()));
        }
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn metadata_are_applied_again() {
    let mut writer = writer(Release::V4, MessageType::Event, ContentType::Cbor);
    writer.metadata = Some("m".to_owned());
    let mut new_id = || "new".to_owned();
    let mut stamp = Stamp { origin: 5, new_id: &mut new_id };
    let rows = [row(
        r#"{"a":"7","n":null,"x":null,"m":{"id":"i","deviceName":"dev","origin":9,"tags":{"site":"north"},"correlationid":"c",
            "a":{"valueType":"Int8","origin":3,"id":"r","units":"C"},"n":{"valueType":"Float64"}}}"#,
    )];
    let event = writer.event(&rows, &mut stamp).unwrap();
    assert_eq!((event.device.as_str(), event.profile.as_str(), event.source.as_str()), ("dev", "p", "s"));
    let Value::Object(content) = cbor::parse_value(&writer.bare(&event).into()).unwrap() else { panic!("no map") };
    let expected = serde_json::json!({
        "apiVersion": "v3", "id": "i", "deviceName": "dev", "profileName": "p", "sourceName": "s", "origin": 9,
        "readings": [
            {"id": "r", "origin": 3, "deviceName": "dev", "resourceName": "a", "profileName": "p", "units": "C",
                "valueType": "Int8", "value": "7"},
            {"id": "new", "origin": 9, "deviceName": "dev", "resourceName": "n", "profileName": "p",
                "valueType": "Float64", "value": null, "binaryValue": null, "objectValue": null},
        ],
        "tags": {"site": "north"},
    });
    assert_eq!(Json::from(&Value::Object(content)), expected);
    assert!(writer.headers(&event).contains(&("X-Correlation-ID".to_owned(), "c".to_owned())));
}

#[test]
fn rows_that_are_no_events() {
    for (text, value_type, expected) in [
        (r#"{"a":null}"#, None, "the row has no column that could be a reading"),
        (r#"{"a":[1,"x"]}"#, None, "column a: an EdgeX array holds values of one kind: booleans, numbers or texts"),
        (r#"{"a":300}"#, Some("Int8"), "column a: this bigint can't be written as Int8"),
        (r#"{"a":-1}"#, Some("Uint64"), "column a: this bigint can't be written as Uint64"),
        (r#"{"a":"x"}"#, Some("Float32"), "column a: this string can't be written as Float32"),
        (r#"{"a":1}"#, Some("Binary"), "column a: a bigint can't be written as Binary"),
        (r#"{"a":"%"}"#, Some("Binary"), "column a: a text can be written as Binary if it is base64; this one is not"),
        (r#"{"a":1}"#, Some("Int8Array"), "column a: a bigint can't be written as Int8Array"),
        (r#"{"a":1}"#, Some("Colour"), "column a: Colour is no EdgeX type"),
    ] {
        let mut writer = writer(Release::V3, MessageType::Event, ContentType::Json);
        let mut row = row(text);
        if let Some(value_type) = value_type {
            writer.metadata = Some("m".to_owned());
            row.insert("m", Value::from(&serde_json::json!({"a": {"valueType": value_type}})));
        }
        let mut new_id = String::new;
        let outcome = writer.event(&[row], &mut Stamp { origin: 0, new_id: &mut new_id });
        assert_eq!(outcome.err().as_deref(), Some(expected), "{text}");
    }
}
