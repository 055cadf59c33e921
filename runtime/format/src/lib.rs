//! Formats: bytes to rows and back. One per file.
//!
//! Pure: no I/O, no clock, no tasks, no connector. Every row goes through here, so this crate is built for speed where the
//! connectors around it are built for size.
//!
//! Start reading at [`Decoder`] and [`Encoder`].

pub mod binary;
pub mod cbor;
pub mod compression;
pub mod declared;
pub mod delimited;
pub mod edgex;
pub mod error;
pub mod json;
pub mod json_encoder;
pub mod line_protocol;
pub mod ndjson;
pub mod slots;
pub mod urlencoded;

use std::sync::Arc;

use bytes::Bytes;
use sluice_sql::sql::ast::Field;
use sluice_sql::{Batch, Object, Row, Schema, Timestamp};

use crate::error::ConfigError;

/// The formats that are built in. A new one is a new file and a line here.
pub const BUILTIN: &[FormatType] = &[
    FormatType {
        name: "json",
        docs: "One JSON object per row, or an array of them.",
        decoder: Some(json::make_decoder),
        encoder: Some(json_encoder::make),
    },
    FormatType { name: "cbor", docs: cbor::DOCS, decoder: Some(cbor::make_decoder), encoder: Some(cbor::make_encoder) },
    FormatType {
        name: "delimited",
        docs: delimited::DOCS,
        decoder: Some(delimited::make_decoder),
        encoder: Some(delimited::make_encoder),
    },
    FormatType {
        name: "ndjson",
        docs: ndjson::DOCS,
        decoder: Some(ndjson::make_decoder),
        encoder: Some(ndjson::make_encoder),
    },
    FormatType {
        name: "urlencoded",
        docs: urlencoded::DOCS,
        decoder: Some(urlencoded::make_decoder),
        encoder: Some(urlencoded::make_encoder),
    },
    FormatType {
        name: "binary",
        docs: binary::DOCS,
        decoder: Some(binary::make_decoder),
        encoder: Some(binary::make_encoder),
    },
    FormatType { name: "edgex", docs: edgex::DOCS, decoder: Some(edgex::make_decoder), encoder: None },
];

/// A kind of format.
#[derive(Clone)]
pub struct FormatType {
    /// `FORMAT`
    pub name: &'static str,
    /// One paragraph for the reference page.
    pub docs: &'static str,
    /// Makes a decoder; `None` if the format can't be read.
    pub decoder: Option<MakeDecoder>,
    /// Makes an encoder; `None` if the format can't be written.
    pub encoder: Option<MakeEncoder>,
}

/// Checks the arguments and makes a decoder.
pub type MakeDecoder = fn(&DecodeArgs<'_>) -> Result<Box<dyn Decoder>, ConfigError>;

/// Checks the arguments and makes an encoder.
pub type MakeEncoder = fn(&EncodeArgs<'_>) -> Result<Box<dyn Encoder>, ConfigError>;

/// What a decoder is made from.
pub struct DecodeArgs<'a> {
    /// The slots to fill: what the rules read, nothing else.
    pub schema: &'a Arc<Schema>,
    /// Declared columns with their types; none = schemaless.
    pub fields: &'a [Field],
    /// `DELIMITER`
    pub delimiter: Option<&'a str>,
}

/// Bytes to rows.
pub trait Decoder: Send {
    /// Appends the payload's rows, one value per slot of the schema, each stamped with `ts` and with `meta` in its meta slot.
    /// On error, `rows` is as it was.
    fn decode(
        &mut self,
        payload: &Bytes,
        ts: Timestamp,
        meta: Option<&Arc<Object>>,
        rows: &mut Vec<Row>,
    ) -> Result<(), FormatError>;

    /// What was left out of payloads since the last call, while the rest of them was taken.
    fn take_left_out(&mut self) -> LeftOut {
        LeftOut::default()
    }
}

/// Parts of payloads that could not be decoded and cost only themselves.
#[derive(Debug, Default)]
pub struct LeftOut {
    /// How many.
    pub n_parts: u64,
    /// What is wrong with the newest.
    pub newest: Option<FormatError>,
}

impl LeftOut {
    /// One more.
    pub fn add(&mut self, error: FormatError) {
        self.n_parts += 1;
        self.newest = Some(error);
    }
}

/// What an encoder is made from.
pub struct EncodeArgs<'a> {
    /// `fields`: which columns, and in which order, for formats where that matters.
    pub fields: Option<&'a [String]>,
    /// `delimiter`
    pub delimiter: Option<&'a str>,
    /// `hasHeader`
    pub header: bool,
}

/// Rows to bytes.
pub trait Encoder: Send {
    /// Appends rows `rows` of the batch as one message: a list, or with `single` the one row by itself.
    fn encode(
        &mut self,
        batch: &Batch,
        rows: std::ops::Range<usize>,
        single: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError>;
}

/// Why bytes are no rows, or rows no bytes: lower case, with the place in the payload where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub String);

#[cfg(test)]
mod tests {
    //! What the tests of all formats share: rows are written as JSON to compare them.

    use indexmap::IndexSet;
    use sluice_sql::sql::ast::{FieldType, Ident};
    use sluice_sql::{Column, ColumnKind, Type, Value};
    use smol_str::SmolStr;

    use super::*;

    pub fn field(name: &str, ty: FieldType) -> Field {
        Field { name: Ident { name: name.into(), span: Default::default() }, ty, default: None }
    }

    fn schema(names: impl IntoIterator<Item = (SmolStr, ColumnKind)>) -> Arc<Schema> {
        let columns = names.into_iter().map(|(name, kind)| Column { name, kind, ty: Type::Any });
        Arc::new(Schema { columns: columns.collect() })
    }

    /// The payload's rows as JSON, read through a star and through the declared columns, which must agree.
    pub fn decode(make: MakeDecoder, fields: &[Field], delimiter: Option<&str>, payload: &[u8]) -> String {
        let mut texts = Vec::new();
        let star = schema([("s".into(), ColumnKind::Star)]);
        let plain = schema(fields.iter().map(|field| (field.name.name.clone(), ColumnKind::Field)));
        let schemas = if fields.is_empty() { vec![star] } else { vec![star, plain] };
        for schema in schemas {
            let decode = || -> Result<String, String> {
                let mut decoder =
                    make(&DecodeArgs { schema: &schema, fields, delimiter }).map_err(|error| error.to_string())?;
                let mut rows = Vec::new();
                let payload = Bytes::copy_from_slice(payload);
                decoder.decode(&payload, 0, None, &mut rows).map_err(|error| error.0)?;
                let batch = Batch::per_row(Arc::clone(&schema), rows);
                let args = EncodeArgs { fields: None, delimiter: None, header: false };
                let mut text = Vec::new();
                let mut encoder = json_encoder::make(&args).unwrap();
                encoder.encode(&batch, 0..batch.rows.len(), false, &mut text).unwrap();
                Ok(String::from_utf8(text).unwrap())
            };
            texts.push(decode().unwrap_or_else(|error| format!("error: {error}")));
        }
        assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
        texts.remove(0)
    }

    /// What becomes of rows that are given as a JSON list of objects.
    pub fn encode(make: MakeEncoder, args: &EncodeArgs<'_>, rows: &str) -> String {
        let Value::Array(objects) = json::parse_value(rows.as_bytes()).unwrap() else { panic!("not a list: {rows}") };
        let objects: Vec<_> = objects.iter().map(|object| object.to_object().unwrap()).collect();
        let names: IndexSet<_> =
            objects.iter().flat_map(|object| object.iter().map(|(name, _)| name.clone())).collect();
        let schema = schema(names.iter().map(|name| (name.clone(), ColumnKind::Field)));
        let values =
            |object: &Arc<Object>| names.iter().map(|name| object.get(name).cloned().unwrap_or_default()).collect();
        let rows = objects.iter().map(|object| Row { ts: 0, values: values(object) }).collect();
        let batch = Batch::per_row(schema, rows);
        let mut out = Vec::new();
        match make(args).unwrap().encode(&batch, 0..batch.rows.len(), false, &mut out) {
            Ok(()) => String::from_utf8(out).unwrap(),
            Err(error) => format!("error: {error}"),
        }
    }
}
