//! Payloads as they are: one bytea column.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sluice_sql::sql::ast::FieldType;
use sluice_sql::{Batch, Object, Row, Timestamp, Value};
use smol_str::SmolStr;

use super::slots::Slots;
use super::{DecodeArgs, Decoder, EncodeArgs, Encoder, FormatError};
use crate::error::ConfigError;

/// For the reference page.
pub const DOCS: &str = "The payload as it is, in one bytea column: the one that the stream declares, else `self`. Writing takes one \
     row per message (`sendSingle`) and its column `self`, or its only column.";

struct BinaryDecoder {
    slots: Slots,
    column: SmolStr,
}

/// Makes the decoder.
///
/// # Errors
/// When more than one column is declared, or one that is no bytea.
pub fn make_decoder(args: &DecodeArgs<'_>) -> Result<Box<dyn Decoder>, ConfigError> {
    let column = match args.fields {
        [] => SmolStr::new_static("self"),
        [field] if field.ty == FieldType::Bytea => field.name.name.clone(),
        _ => return Err(ConfigError::new("fields", "format binary gives one column, of type bytea")),
    };
    Ok(Box::new(BinaryDecoder { slots: Slots::new(args.schema, &[]), column }))
}

impl Decoder for BinaryDecoder {
    fn decode(
        &mut self,
        payload: &Bytes,
        ts: Timestamp,
        meta: Option<&Arc<Object>>,
        rows: &mut Vec<Row>,
    ) -> Result<(), FormatError> {
        let object = Object::from_iter([(self.column.clone(), Value::bytes(payload.clone()))]);
        rows.push(self.slots.row(Arc::new(object), ts, meta).map_err(FormatError)?);
        Ok(())
    }
}

struct BinaryEncoder;

/// Makes the encoder.
///
/// # Errors
/// None.
pub fn make_encoder(_args: &EncodeArgs<'_>) -> Result<Box<dyn Encoder>, ConfigError> {
    Ok(Box::new(BinaryEncoder))
}

impl Encoder for BinaryEncoder {
    fn encode(
        &mut self,
        batch: &Batch,
        rows: Range<usize>,
        _single: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let [row] = batch.rows.get(rows).unwrap_or_default() else {
            return Err(FormatError("format binary writes one row per message: set sendSingle".to_owned()));
        };
        let object = batch.schema.to_object(row);
        let only = if object.len() == 1 { object.iter().next().map(|(_, value)| value) } else { None };
        match object.get("self").or(only) {
            Some(Value::Bytes(bytes)) => out.extend_from_slice(bytes),
            Some(Value::String(text)) => out.extend_from_slice(text.as_bytes()),
            Some(value) => {
                return Err(FormatError(format!("format binary writes a bytea, found a {}", value.kind_name())));
            }
            None => return Err(FormatError("format binary writes column `self`, which the row lacks".to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{decode, encode, field};

    #[test]
    fn both_ways() {
        assert_eq!(decode(make_decoder, &[], None, b"\x00hi"), r#"[{"self":"AGhp"}]"#);
        let fields = [field("image", FieldType::Bytea)];
        assert_eq!(decode(make_decoder, &fields, None, b"hi"), r#"[{"image":"aGk="}]"#);
        let fields = [field("image", FieldType::String)];
        assert_eq!(
            decode(make_decoder, &fields, None, b"hi"),
            "error: fields: format binary gives one column, of type bytea"
        );
        let args = EncodeArgs { fields: None, delimiter: None, header: false };
        for (rows, expected) in [
            (r#"[{"a":1,"self":"hi"}]"#, "hi"),
            (r#"[{"a":"hi"}]"#, "hi"),
            (r#"[{"a":1}]"#, "error: format binary writes a bytea, found a bigint"),
            (r#"[{"a":1,"b":2}]"#, "error: format binary writes column `self`, which the row lacks"),
            (r#"[{"a":1},{"a":2}]"#, "error: format binary writes one row per message: set sendSingle"),
        ] {
            assert_eq!(encode(make_encoder, &args, rows), expected, "{rows}");
        }
    }
}
