//! Delimited text (CSV): one row per record.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sluice_sql::{Batch, ColumnKind, Object, Row, Timestamp, Value};
use smol_str::{SmolStr, format_smolstr};

use super::declared::Declared;
use super::slots::{Slots, set};
use super::{DecodeArgs, Decoder, EncodeArgs, Encoder, FormatError, json_encoder};
use crate::error::ConfigError;

/// For the reference page.
pub const DOCS: &str = "Texts between delimiters (`DELIMITER`, a comma by default), one record per line, quoted as in RFC \
     4180. Reading: columns are named by the stream's declared columns in their order, else `col0`, `col1`...; a declared type \
     is converted to, and without one a column is a string; columns that a short record lacks are missing, surplus ones are left \
     out. Writing: the columns are `fields`, else those of the result; null and missing are empty.";

/// The byte of a `DELIMITER`.
///
/// # Errors
/// When it is not one byte.
pub fn delimiter_byte(delimiter: Option<&str>) -> Result<u8, ConfigError> {
    match delimiter.unwrap_or(",").as_bytes() {
        b"\\t" => Ok(b'\t'),
        [byte] if !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ => {
            Err(ConfigError::new("delimiter", "the delimiter must be one ASCII character, no quote and no line break"))
        }
    }
}

struct DelimitedDecoder {
    reader: csv::ReaderBuilder,
    slots: Slots,
    /// Names and types of the columns by place; empty = `col0`, `col1`...
    columns: Vec<(SmolStr, Declared)>,
}

/// Makes the decoder.
///
/// # Errors
/// When `DELIMITER` is not one byte.
pub fn make_decoder(args: &DecodeArgs<'_>) -> Result<Box<dyn Decoder>, ConfigError> {
    let mut reader = csv::ReaderBuilder::new();
    reader.delimiter(delimiter_byte(args.delimiter)?).has_headers(false).flexible(true);
    let columns = args.fields.iter().map(|field| (field.name.name.clone(), Declared::new(&field.ty))).collect();
    Ok(Box::new(DelimitedDecoder { reader, slots: Slots::new(args.schema, args.fields), columns }))
}

impl DelimitedDecoder {
    fn record(&self, record: &csv::StringRecord, ts: Timestamp, meta: Option<&Arc<Object>>) -> Result<Row, String> {
        let mut object = Object::with_capacity(record.len());
        for (place, text) in record.iter().enumerate() {
            let (name, value) = match self.columns.get(place) {
                Some((name, ty)) => {
                    let value = ty.convert_text(text.into()).map_err(|message| format!("column {name}: {message}"))?;
                    (name.clone(), value)
                }
                None if self.columns.is_empty() => (format_smolstr!("col{place}"), Value::string(text)),
                None => break,
            };
            object.insert(name, value);
        }
        let mut row = self.slots.empty(ts, meta);
        for slot in &self.slots.fields {
            if let Some(value) = object.get(&slot.name) {
                set(&mut row, slot.idx, value.clone());
            }
        }
        if let Some(star) = self.slots.star {
            set(&mut row, star, Value::Object(Arc::new(object)));
        }
        Ok(row)
    }
}

impl Decoder for DelimitedDecoder {
    fn decode(
        &mut self,
        payload: &Bytes,
        ts: Timestamp,
        meta: Option<&Arc<Object>>,
        rows: &mut Vec<Row>,
    ) -> Result<(), FormatError> {
        let n_before = rows.len();
        let mut reader = self.reader.from_reader(&payload[..]);
        let mut record = csv::StringRecord::new();
        loop {
            let outcome = match reader.read_record(&mut record) {
                Ok(false) => return Ok(()),
                Ok(true) => self.record(&record, ts, meta),
                Err(error) => Err(error_text(&error)),
            };
            match outcome {
                Ok(row) => rows.push(row),
                Err(message) => {
                    rows.truncate(n_before);
                    let line = record.position().map_or_else(|| reader.position().line(), csv::Position::line);
                    return Err(FormatError(format!("line {line}: {message}")));
                }
            }
        }
    }
}

/// What the reader complains about, without its own way to say where.
fn error_text(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { err, .. } => format!("column {}: not valid UTF-8", err.field() + 1),
        _ => "not a delimited record".to_owned(),
    }
}

struct DelimitedEncoder {
    writer: csv::WriterBuilder,
    fields: Option<Vec<SmolStr>>,
    header: bool,
}

/// Makes the encoder.
///
/// # Errors
/// When `delimiter` is not one byte.
pub fn make_encoder(args: &EncodeArgs<'_>) -> Result<Box<dyn Encoder>, ConfigError> {
    let mut writer = csv::WriterBuilder::new();
    writer.delimiter(delimiter_byte(args.delimiter)?).flexible(true).has_headers(false);
    let fields = args.fields.map(|fields| fields.iter().map(SmolStr::new).collect());
    Ok(Box::new(DelimitedEncoder { writer, fields, header: args.header }))
}

impl Encoder for DelimitedEncoder {
    fn encode(
        &mut self,
        batch: &Batch,
        rows: Range<usize>,
        _single: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let rows = batch.rows.get(rows).unwrap_or_default();
        let objects: Vec<Object> = rows.iter().map(|row| batch.schema.to_object(row)).collect();
        let has_star = batch.schema.columns.iter().any(|column| column.kind == ColumnKind::Star);
        let names: Vec<SmolStr> = match (&self.fields, objects.first()) {
            (Some(fields), _) => fields.clone(),
            // What a star holds is known from the rows only: the first one decides.
            (None, Some(first)) if has_star => first.iter().map(|(name, _)| name.clone()).collect(),
            (None, _) => {
                let columns = batch.schema.columns.iter().filter(|column| column.kind == ColumnKind::Field);
                columns.map(|column| column.name.clone()).collect()
            }
        };
        let mut writer = self.writer.from_writer(&mut *out);
        let mut write = |cells: &mut dyn Iterator<Item = Vec<u8>>| writer.write_record(cells);
        let header = if self.header { write(&mut names.iter().map(|name| name.as_bytes().to_vec())) } else { Ok(()) };
        let mut written = header;
        for object in &objects {
            let mut cells = names.iter().map(|name| object.get(name).map(text).unwrap_or_default());
            written = written.and_then(|()| write(&mut cells));
        }
        written.map_err(|error| FormatError(error.to_string()))?;
        drop(writer);
        // Between messages the transport makes the boundary, so the last line needs no end.
        if out.last() == Some(&b'\n') {
            out.pop();
        }
        Ok(())
    }
}

/// A value as a text: strings as they are, nulls empty, all else as JSON.
pub(super) fn text(value: &Value) -> Vec<u8> {
    match value {
        Value::Missing | Value::Null => Vec::new(),
        Value::String(text) => text.as_bytes().to_vec(),
        value => {
            let mut text = Vec::new();
            json_encoder::write_value(value, &mut text);
            // Instants and bytes come as JSON strings, which hold nothing to escape.
            match text.as_slice() {
                [b'"', inner @ .., b'"'] => inner.to_vec(),
                _ => text,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{decode, encode, field};
    use sluice_sql::sql::ast::FieldType;

    #[test]
    fn decoding() {
        let fields =
            [field("id", FieldType::Bigint), field("name", FieldType::String), field("ok", FieldType::Boolean)];
        let comma: Option<&str> = None;
        for (fields, delimiter, payload, expected) in [
            (&[][..], comma, "1,x", "[{\"col0\":\"1\",\"col1\":\"x\"}]"),
            (
                &fields,
                comma,
                "1,\"a,\"\"b\"\"\nc\",true\n2,d",
                "[{\"id\":1,\"name\":\"a,\\\"b\\\"\\nc\",\"ok\":true},{\"id\":2,\"name\":\"d\"}]",
            ),
            (&fields, comma, "1,x,0,surplus", "[{\"id\":1,\"name\":\"x\",\"ok\":false}]"),
            (&fields, comma, ",,", "[{\"id\":null,\"name\":\"\",\"ok\":null}]"),
            (&fields, Some("\\t"), "7.0\tx y", "[{\"id\":7,\"name\":\"x y\"}]"),
            (&fields, comma, "1,x,true\nz,y,true", "error: line 2: column id: expected a bigint, found another text"),
            (&[], comma, "", "[]"),
        ] {
            assert_eq!(decode(make_decoder, fields, delimiter, payload.as_bytes()), expected, "{payload}");
        }
        let error = decode(make_decoder, &[], None, b"ok\n\xff,x");
        assert_eq!(error, "error: line 2: column 1: not valid UTF-8");
    }

    #[test]
    fn encoding() {
        let rows = r#"[{"a":1,"b":"x,\"y\""},{"b":"z","c":null,"a":[1]}]"#;
        let args = EncodeArgs { fields: None, delimiter: None, header: true };
        assert_eq!(encode(make_encoder, &args, rows), "a,b,c\n1,\"x,\"\"y\"\"\",\n[1],z,");
        let fields = ["b".to_owned(), "d".to_owned()];
        let args = EncodeArgs { fields: Some(&fields), delimiter: Some(";"), header: false };
        assert_eq!(encode(make_encoder, &args, rows), "\"x,\"\"y\"\"\";\nz;");
        let error = make_encoder(&EncodeArgs { fields: None, delimiter: Some("||"), header: false }).err().unwrap();
        assert!(error.to_string().starts_with("delimiter: the delimiter must be one ASCII character"), "{error}");
    }
}
