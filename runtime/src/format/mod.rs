//! Formats: bytes to rows and back, pure. One per file.

pub mod declared;
pub mod json;
pub mod json_encoder;

use std::sync::Arc;

use bytes::Bytes;
use sluice_sql::sql::ast::Field;
use sluice_sql::{Batch, Object, Row, Schema, Timestamp};

use crate::error::ConfigError;

/// The formats that are built in. A new one is a new file and a line here.
pub const BUILTIN: &[FormatType] = &[FormatType {
    name: "json",
    docs: "One JSON object per row, or an array of them.",
    decoder: Some(json::make_decoder),
    encoder: Some(json_encoder::make),
}];

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
