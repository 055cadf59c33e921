//! What a source brings to rows: decompress, decode, and a second decode for payloads within payloads.

use std::io::Read;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::sql::ast::Field;
use sluice_sql::{Batch, Column, ColumnKind, Object, Row, Schema, Timestamp, Type, Value};

use crate::definition::StreamDef;
use crate::error::ConfigError;
use crate::format::slots::Slots;
use crate::format::{DecodeArgs, Decoder, FormatError, MakeDecoder};
use crate::options::Options;
use crate::pipeline::metrics::{DropReason, StreamMetrics};
use crate::pipeline::sink::Compression;
use crate::registry::Registry;
use crate::source::{Gives, Ingest, Items, MakeOwnDecoder, Payload, Request};

/// A payload may not be larger than this once it is decompressed: a few bytes can be made to unpack to anything.
const MAX_DECOMPRESSED_BYTES: u64 = 64 << 20;

/// Options that every source has, beside its own.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceOptions {
    /// How payloads are compressed: `gzip`, `zlib`, `flate`, `zstd`.
    pub decompression: Option<Compression>,
    /// A column that holds a payload of its own: bytes, base64 or text. It is decoded with `payloadFormat`, and the result takes
    /// the column's place: its columns join the row's, several rows make several.
    pub payload_field: Option<String>,
    /// The format of `payloadField`, `json` by default.
    pub payload_format: Option<String>,
    /// `payloadFormat: delimited`: what stands between two columns.
    pub payload_delimiter: Option<String>,
    /// Known for its name only: whole numbers always keep 64 bits.
    pub use_int64_for_whole_number: Option<bool>,
}

impl SourceOptions {
    /// Parts a stream's options into those common to all sources and the connector's own.
    ///
    /// # Errors
    /// Common options that do not fit.
    pub fn split(options: &Options) -> Result<(SourceOptions, Options), ConfigError> {
        let mut own = options.clone();
        let common = own.split_off::<SourceOptions>();
        Ok((common.parse()?, own))
    }
}

/// Makes rows of one stream from what its source brings.
pub struct StreamDecoder {
    schema: Arc<Schema>,
    fields: Vec<Field>,
    delimiter: Option<String>,
    make: Make,
    decompression: Option<Compression>,
    stage: Stage,
    registry: Registry,
    /// For requests that come in another format than the stream's.
    others: Vec<(&'static str, Box<dyn Decoder>)>,
    /// For sources that bring rows.
    slots: Slots,
}

/// What payloads are decoded with.
enum Make {
    Format(MakeDecoder),
    /// The connector's own format, which its options may say more about.
    Own(MakeOwnDecoder, Options),
}

impl Make {
    fn of(def: &StreamDef, own_options: Options, registry: &Registry) -> Result<Self, ConfigError> {
        match registry.source(&def.connector).map(|source_type| source_type.gives) {
            Ok(Gives::Own(make)) => Ok(Make::Own(make, own_options)),
            _ => decoder_of(registry, &def.format).map(Make::Format),
        }
    }

    fn decoder(&self, args: &DecodeArgs<'_>) -> Result<Box<dyn Decoder>, ConfigError> {
        match self {
            Make::Format(make) => make(args),
            Make::Own(make, options) => make(options, args),
        }
    }
}

enum Stage {
    /// Payloads to rows at once.
    One(Box<dyn Decoder>),
    /// Payloads to objects, one member of which is a payload again.
    Two(TwoStages),
}

struct TwoStages {
    outer: Box<dyn Decoder>,
    payload_field: String,
    inner: Box<dyn Decoder>,
}

impl StreamDecoder {
    /// Checks the stream's format and options. `schema` says which slots its rows are to have.
    ///
    /// # Errors
    /// Unknown formats, formats that can't be read, and options that do not fit.
    pub fn new(def: &StreamDef, registry: &Registry, schema: Arc<Schema>) -> Result<Self, ConfigError> {
        let (options, own) = SourceOptions::split(&def.options)?;
        let make = Make::of(def, own, registry)?;
        let stage = match options.payload_field {
            None => {
                let delimiter = def.delimiter.as_deref();
                Stage::One(make.decoder(&DecodeArgs { schema: &schema, fields: &def.fields, delimiter })?)
            }
            Some(payload_field) => {
                let inner = decoder_of(registry, options.payload_format.as_deref().unwrap_or("json"))?;
                let star = Column { name: def.name.as_str().into(), kind: ColumnKind::Star, ty: Type::default() };
                let whole = Arc::new(Schema { columns: vec![star] });
                let args = |delimiter| DecodeArgs { schema: &whole, fields: &[], delimiter };
                Stage::Two(TwoStages {
                    outer: make.decoder(&args(def.delimiter.as_deref()))?,
                    payload_field,
                    inner: inner(&args(options.payload_delimiter.as_deref()))?,
                })
            }
        };
        Ok(StreamDecoder {
            slots: Slots::new(&schema, &def.fields),
            schema,
            fields: def.fields.clone(),
            delimiter: def.delimiter.clone(),
            make,
            decompression: options.decompression,
            stage,
            registry: registry.clone(),
            others: Vec::new(),
        })
    }

    /// Rows are to have these slots from now on.
    pub fn set_schema(&mut self, schema: Arc<Schema>) {
        self.slots = Slots::new(&schema, &self.fields);
        self.others.clear();
        if let Stage::One(decoder) = &mut self.stage {
            let args = DecodeArgs { schema: &schema, fields: &self.fields, delimiter: self.delimiter.as_deref() };
            // The arguments were accepted when the stream was built; the schema is not among what can be wrong.
            if let Ok(made) = self.make.decoder(&args) {
                *decoder = made;
            }
        }
        self.schema = schema;
    }

    /// The rows of what is read from a journal. It was counted when it arrived.
    pub fn decode_again(&mut self, ingest: Ingest, arrived: Timestamp) -> Batch {
        let mut rows = Vec::new();
        match ingest.items {
            Items::Payloads(payloads) => {
                for payload in payloads {
                    let _ = self.payload(&payload, None, arrived, &mut rows);
                }
            }
            Items::Requests(requests) => {
                for Request { payload, format, .. } in requests {
                    let _ = self.payload(&payload, format, arrived, &mut rows);
                }
            }
            Items::Rows(items) => {
                rows.extend(items.into_iter().filter_map(|item| {
                    self.slots.row(item.object, item.ts.unwrap_or(arrived), item.meta.as_ref()).ok()
                }))
            }
        }
        Batch::per_row(Arc::clone(&self.schema), rows)
    }

    /// The rows of everything that has arrived. A message that can't be decoded is counted, reported and left out.
    pub fn decode(&mut self, ingest: Ingest, now: Timestamp, metrics: &StreamMetrics) -> Batch {
        let mut rows = Vec::new();
        match ingest.items {
            Items::Payloads(payloads) => {
                rows.reserve(payloads.len());
                metrics.messages_in.add(payloads.len() as u64);
                metrics.bytes_in.add(payloads.iter().map(|payload| payload.bytes.len() as u64).sum());
                for payload in payloads {
                    if let Err(error) = self.payload(&payload, None, now, &mut rows) {
                        metrics.dropped.add(DropReason::Payload, 1);
                        metrics.errors.report(format_args!("can't decode a message of {}: {error}", metrics.stream));
                    }
                }
                self.count_left_out(metrics);
            }
            Items::Requests(requests) => {
                rows.reserve(requests.len());
                metrics.messages_in.add(requests.len() as u64);
                metrics.bytes_in.add(requests.iter().map(|request| request.payload.bytes.len() as u64).sum());
                for Request { payload, format, reply } in requests {
                    let n_before = rows.len();
                    match self.payload(&payload, format, now, &mut rows) {
                        Ok(()) => reply.decoded(rows.len() - n_before),
                        Err(error) => {
                            metrics.dropped.add(DropReason::Payload, 1);
                            metrics
                                .errors
                                .report(format_args!("can't decode a message of {}: {error}", metrics.stream));
                            reply.refused(&error);
                        }
                    }
                }
                self.count_left_out(metrics);
            }
            Items::Rows(items) => {
                rows.reserve(items.len());
                metrics.messages_in.add(items.len() as u64);
                for item in items {
                    match self.slots.row(item.object, item.ts.unwrap_or(now), item.meta.as_ref()) {
                        Ok(row) => rows.push(row),
                        Err(error) => {
                            metrics.dropped.add(DropReason::Payload, 1);
                            metrics.errors.report(format_args!("a row of {} does not fit: {error}", metrics.stream));
                        }
                    }
                }
            }
        }
        metrics.rows_out.add(rows.len() as u64);
        Batch::per_row(Arc::clone(&self.schema), rows)
    }

    /// What was left out of payloads whose rest was taken.
    fn count_left_out(&mut self, metrics: &StreamMetrics) {
        let (Stage::One(decoder) | Stage::Two(TwoStages { outer: decoder, .. })) = &mut self.stage;
        let left_out = decoder.take_left_out();
        if let Some(error) = left_out.newest {
            metrics.dropped.add(DropReason::Payload, left_out.n_parts);
            metrics.errors.report(format_args!("left out of a message of {}: {error}", metrics.stream));
        }
    }

    /// The rows of one message, in the stream's format or in the one that is named.
    fn payload(
        &mut self,
        payload: &Payload,
        format: Option<&'static str>,
        now: Timestamp,
        rows: &mut Vec<Row>,
    ) -> Result<(), FormatError> {
        let unpacked;
        let bytes = match self.decompression {
            None => &payload.bytes,
            Some(compression) => {
                unpacked = decompress(compression, &payload.bytes)?;
                &unpacked
            }
        };
        let meta = payload.meta.as_ref();
        if let Some(format) = format {
            return self.other(format)?.decode(bytes, now, meta, rows);
        }
        match &mut self.stage {
            Stage::One(decoder) => decoder.decode(bytes, now, meta, rows),
            Stage::Two(stages) => {
                let n_before = rows.len();
                for object in stages.objects(bytes)? {
                    match self.slots.row(object, now, meta) {
                        Ok(row) => rows.push(row),
                        Err(message) => {
                            rows.truncate(n_before);
                            return Err(FormatError(message));
                        }
                    }
                }
                Ok(())
            }
        }
    }
}

impl StreamDecoder {
    /// The decoder of another format than the stream's, made when it is first wanted.
    fn other(&mut self, format: &'static str) -> Result<&mut dyn Decoder, FormatError> {
        let place = match self.others.iter().position(|(known, _)| *known == format) {
            Some(place) => place,
            None => {
                let args =
                    DecodeArgs { schema: &self.schema, fields: &self.fields, delimiter: self.delimiter.as_deref() };
                let make = decoder_of(&self.registry, format).map_err(|error| FormatError(error.to_string()))?;
                let decoder = make(&args).map_err(|error| FormatError(error.to_string()))?;
                self.others.push((format, decoder));
                self.others.len() - 1
            }
        };
        match self.others.get_mut(place) {
            Some((_, decoder)) => Ok(&mut **decoder),
            None => Err(FormatError(format!("there is no decoder for {format}"))),
        }
    }
}

impl TwoStages {
    /// The members of each row within each row.
    fn objects(&mut self, payload: &Bytes) -> Result<Vec<Arc<Object>>, FormatError> {
        let mut objects = Vec::new();
        for mut outer in whole_rows(&mut *self.outer, payload)? {
            let inner = match outer.remove(&self.payload_field) {
                Some(Value::Bytes(bytes)) => Bytes::clone(&bytes),
                Some(Value::String(text)) => {
                    let decoded = base64::engine::general_purpose::STANDARD.decode(text.as_bytes());
                    decoded.map_or_else(|_| Bytes::copy_from_slice(text.as_bytes()), Bytes::from)
                }
                None | Some(Value::Null | Value::Missing) => {
                    objects.push(Arc::new(outer));
                    continue;
                }
                Some(other) => {
                    let kind = other.kind_name();
                    return Err(FormatError(format!(
                        "payloadField {} holds a {kind}, not a payload",
                        self.payload_field
                    )));
                }
            };
            let inner_rows = whole_rows(&mut *self.inner, &inner)
                .map_err(|error| FormatError(format!("payloadField {}: {error}", self.payload_field)))?;
            for inner in inner_rows {
                let mut object = outer.clone();
                for (name, value) in inner {
                    object.insert(name, value);
                }
                objects.push(Arc::new(object));
            }
        }
        Ok(objects)
    }
}

fn decoder_of(registry: &Registry, format: &str) -> Result<MakeDecoder, ConfigError> {
    let format_type = registry.format(format)?;
    format_type.decoder.ok_or_else(|| ConfigError::new("format", format!("format {format} can be written, not read")))
}

/// The rows of a decoder that was made for one star slot.
fn whole_rows(decoder: &mut dyn Decoder, payload: &Bytes) -> Result<Vec<Object>, FormatError> {
    let mut rows = Vec::new();
    decoder.decode(payload, 0, None, &mut rows)?;
    Ok(rows.iter().filter_map(|row| row.get(0).to_object()).map(Arc::unwrap_or_clone).collect())
}

fn decompress(compression: Compression, payload: &[u8]) -> Result<Bytes, FormatError> {
    let mut unpacked = Vec::new();
    let limit = MAX_DECOMPRESSED_BYTES + 1;
    let read = match compression {
        Compression::Gzip => flate2::read::MultiGzDecoder::new(payload).take(limit).read_to_end(&mut unpacked),
        Compression::Zlib => flate2::read::ZlibDecoder::new(payload).take(limit).read_to_end(&mut unpacked),
        Compression::Flate => flate2::read::DeflateDecoder::new(payload).take(limit).read_to_end(&mut unpacked),
        Compression::Zstd => {
            zstd::Decoder::new(payload).and_then(|decoder| decoder.take(limit).read_to_end(&mut unpacked))
        }
    };
    match read {
        Ok(n_bytes) if n_bytes as u64 >= limit => {
            Err(FormatError(format!("unpacks to more than {} MiB", MAX_DECOMPRESSED_BYTES >> 20)))
        }
        Ok(_) => Ok(Bytes::from(unpacked)),
        Err(error) => Err(FormatError(format!("not {}: {error}", compression.as_str()))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::source::SourceRow;
    use crate::time::SystemClock;

    fn def(format: &str, options: serde_json::Value) -> StreamDef {
        StreamDef {
            name: "s".into(),
            connector: "memory".into(),
            datasource: "t".into(),
            format: format.into(),
            fields: Vec::new(),
            timestamp: None,
            timestamp_format: None,
            strict: false,
            shared: false,
            delimiter: None,
            retain: None,
            options: Options::from(options),
            origin: Default::default(),
        }
    }

    fn schema(columns: &[(&str, ColumnKind)]) -> Arc<Schema> {
        let column = |(name, kind): &(&str, ColumnKind)| Column { name: (*name).into(), kind: *kind, ty: Type::Any };
        Arc::new(Schema { columns: columns.iter().map(column).collect() })
    }

    fn metrics() -> StreamMetrics {
        StreamMetrics::new("s", None, "memory", Arc::new(SystemClock))
    }

    fn decoder(def: &StreamDef, columns: &[(&str, ColumnKind)]) -> StreamDecoder {
        StreamDecoder::new(def, &Registry::builtin(), schema(columns)).unwrap()
    }

    fn payloads(bodies: impl IntoIterator<Item = Vec<u8>>) -> Ingest {
        let payload = |body: Vec<u8>| Payload { bytes: body.into(), meta: None };
        Ingest { items: Items::Payloads(bodies.into_iter().map(payload).collect()), ack: None }
    }

    /// Rows as JSON, one per line.
    fn show(batch: &Batch) -> String {
        let mut out = Vec::new();
        for row in &batch.rows {
            crate::format::json_encoder::write_object(&batch.schema.to_object(row), &mut out);
            out.push(b'\n');
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn bad_payloads_are_counted_and_the_others_go_on() {
        let metrics = metrics();
        let mut decoder = decoder(&def("json", json!({})), &[("a", ColumnKind::Field)]);
        let bodies = [&b"{\"a\":1}"[..], b"{\"a\":", b"[{\"a\":2},{\"a\":3}]", b"\xff"];
        let batch = decoder.decode(payloads(bodies.map(<[u8]>::to_vec)), 5, &metrics);
        assert_eq!(show(&batch), "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n");
        assert!(batch.rows.iter().all(|row| row.ts == 5));
        assert_eq!((metrics.messages_in.get(), metrics.bytes_in.get(), metrics.rows_out.get()), (4, 30, 3));
        assert_eq!(metrics.dropped.get(DropReason::Payload), 2);
        let newest = metrics.errors.newest().unwrap();
        assert_eq!(newest.message, "can't decode a message of s: byte 1: not valid UTF-8");
    }

    #[derive(Debug, Default)]
    struct Heard(std::sync::Mutex<Vec<String>>);

    impl crate::source::Reply for Heard {
        fn decoded(&self, n_rows: usize) {
            self.0.lock().unwrap().push(format!("{n_rows} rows"));
        }

        fn refused(&self, error: &FormatError) {
            self.0.lock().unwrap().push(error.to_string());
        }
    }

    #[test]
    fn senders_of_requests_hear_what_became_of_them() {
        let metrics = metrics();
        let mut decoder = decoder(&def("json", json!({})), &[("a", ColumnKind::Field)]);
        let heard = Arc::new(Heard::default());
        let request = |body: &'static str, format| Request {
            payload: Payload { bytes: Bytes::from_static(body.as_bytes()), meta: None },
            format,
            reply: Arc::clone(&heard) as Arc<dyn crate::source::Reply>,
        };
        let requests = vec![
            request("[{\"a\":1},{\"a\":2}]", None),
            request("{\"a\":", None),
            request("a=3", Some("urlencoded")),
            request("a=4", Some("urlencoded")),
            request("{}", Some("jsn")),
        ];
        let batch = decoder.decode(Ingest { items: Items::Requests(requests), ack: Some(1) }, 0, &metrics);
        assert_eq!(show(&batch), "{\"a\":1}\n{\"a\":2}\n{\"a\":\"3\"}\n{\"a\":\"4\"}\n");
        assert_eq!(
            *heard.0.lock().unwrap(),
            [
                "2 rows",
                "line 1, column 6: expected a value, but the text ends here",
                "1 rows",
                "1 rows",
                "there is no format of type \"jsn\"; did you mean \"json\"?"
            ]
        );
        assert_eq!((metrics.messages_in.get(), metrics.dropped.get(DropReason::Payload)), (5, 2));
    }

    #[test]
    fn rows_of_sources_without_a_wire_format() {
        let metrics = metrics();
        let mut decoder = decoder(&def("json", json!({})), &[("b", ColumnKind::Field), ("s", ColumnKind::Meta)]);
        let object = Arc::new(Object::from_iter([("a", Value::Int(1)), ("b", Value::Int(2))]));
        let meta = Arc::new(Object::from_iter([("topic", Value::string("t"))]));
        let rows = vec![
            SourceRow { object: Arc::clone(&object), meta: Some(meta), ts: Some(3) },
            SourceRow { object, meta: None, ts: None },
        ];
        let batch = decoder.decode(Ingest { items: Items::Rows(rows), ack: None }, 9, &metrics);
        assert_eq!(show(&batch), "{\"b\":2}\n{\"b\":2}\n");
        assert_eq!(batch.rows.iter().map(|row| row.ts).collect::<Vec<_>>(), [3, 9]);
        assert!(matches!(batch.rows[0].get(1), Value::Object(meta) if meta.get("topic").is_some()));
    }

    #[test]
    fn a_schema_that_grows() {
        let metrics = metrics();
        let mut decoder = decoder(&def("json", json!({})), &[("a", ColumnKind::Field)]);
        let body = b"{\"a\":1,\"b\":2}".to_vec();
        assert_eq!(show(&decoder.decode(payloads([body.clone()]), 0, &metrics)), "{\"a\":1}\n");
        decoder.set_schema(schema(&[("a", ColumnKind::Field), ("b", ColumnKind::Field)]));
        assert_eq!(show(&decoder.decode(payloads([body]), 0, &metrics)), "{\"a\":1,\"b\":2}\n");
    }

    #[test]
    fn compressed_payloads() {
        for (name, compression) in [
            ("gzip", Compression::Gzip),
            ("zlib", Compression::Zlib),
            ("flate", Compression::Flate),
            ("zstd", Compression::Zstd),
        ] {
            let metrics = metrics();
            let mut decoder = decoder(&def("json", json!({"decompression": name})), &[("a", ColumnKind::Field)]);
            let packed = compression.compress(b"{\"a\":1}").unwrap();
            let batch = decoder.decode(payloads([packed, b"{\"a\":1}".to_vec()]), 0, &metrics);
            assert_eq!(show(&batch), "{\"a\":1}\n", "{name}");
            assert_eq!(metrics.dropped.get(DropReason::Payload), 1, "{name}");
        }
        let bomb = Compression::Zstd.compress(&vec![b' '; 65 << 20]).unwrap();
        let error = decompress(Compression::Zstd, &bomb).unwrap_err();
        assert_eq!(error.0, "unpacks to more than 64 MiB");
    }

    #[test]
    fn payloads_within_payloads() {
        let options = json!({"payloadField": "data", "payloadFormat": "delimited", "payloadDelimiter": ";"});
        for (body, expected) in [
            (r#"{"id":1,"data":"x;y","col1":0}"#, "{\"id\":1,\"col1\":\"y\",\"col0\":\"x\"}\n"),
            (r#"{"id":1,"data":"MQoy"}"#, "{\"id\":1,\"col0\":\"1\"}\n{\"id\":1,\"col0\":\"2\"}\n"),
            (r#"{"id":1}"#, "{\"id\":1}\n"),
            (r#"{"id":1,"data":{}}"#, "can't decode a message of s: payloadField data holds a struct, not a payload"),
        ] {
            let metrics = metrics();
            let mut decoder = decoder(&def("json", options.clone()), &[("s", ColumnKind::Star)]);
            let batch = decoder.decode(payloads([body.as_bytes().to_vec()]), 0, &metrics);
            let outcome = metrics.errors.newest().map_or_else(|| show(&batch), |error| error.message);
            assert_eq!(outcome, expected, "{body}");
        }
    }

    #[test]
    fn what_is_refused() {
        let cases = [
            (def("yaml", json!({})), "there is no format of type \"yaml\""),
            (def("json", json!({"decompression": "rar"})), "decompression: "),
            (
                def("json", json!({"payloadField": "x", "payloadFormat": "jsn"})),
                "there is no format of type \"jsn\"; did you mean \"json\"?",
            ),
        ];
        for (def, expected) in cases {
            let error = StreamDecoder::new(&def, &Registry::builtin(), schema(&[])).err().unwrap().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let (common, own) = SourceOptions::split(&Options::from(json!({"Decompression": "gzip", "qos": 1}))).unwrap();
        assert!(common.decompression.is_some());
        assert_eq!(own, Options::from(json!({"qos": 1})));
    }
}
