//! Lines of JSON: one object per line is one row.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sluice_sql::{Batch, Object, Row, Timestamp};

use super::{DecodeArgs, Decoder, EncodeArgs, Encoder, FormatError, json, json_encoder};
use crate::error::ConfigError;

/// For the reference page.
pub const DOCS: &str = "Lines of JSON (NDJSON, JSON Lines): one object per line, or an array of them. Blank lines are left out. \
     A bad line refuses the whole message, and is named.";

struct NdjsonDecoder(Box<dyn Decoder>);

/// Makes the decoder.
///
/// # Errors
/// None.
pub fn make_decoder(args: &DecodeArgs<'_>) -> Result<Box<dyn Decoder>, ConfigError> {
    Ok(Box::new(NdjsonDecoder(json::make_decoder(args)?)))
}

impl Decoder for NdjsonDecoder {
    fn decode(
        &mut self,
        payload: &Bytes,
        ts: Timestamp,
        meta: Option<&Arc<Object>>,
        rows: &mut Vec<Row>,
    ) -> Result<(), FormatError> {
        let n_before = rows.len();
        let mut start = 0;
        for (line_idx, line) in payload.split(|byte| *byte == b'\n').enumerate() {
            let range = start..start + line.len();
            start = range.end + 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            if let Err(FormatError(message)) = self.0.decode(&payload.slice(range), ts, meta, rows) {
                rows.truncate(n_before);
                // A line knows itself as the first one.
                let message = message.strip_prefix("line 1, ").unwrap_or(&message);
                return Err(FormatError(format!("line {}, {message}", line_idx + 1)));
            }
        }
        Ok(())
    }
}

struct NdjsonEncoder(Box<dyn Encoder>);

/// Makes the encoder.
///
/// # Errors
/// None.
pub fn make_encoder(args: &EncodeArgs<'_>) -> Result<Box<dyn Encoder>, ConfigError> {
    Ok(Box::new(NdjsonEncoder(json_encoder::make(args)?)))
}

impl Encoder for NdjsonEncoder {
    fn encode(
        &mut self,
        batch: &Batch,
        rows: Range<usize>,
        _single: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        for (n_before, row_idx) in rows.enumerate() {
            if n_before > 0 {
                out.push(b'\n');
            }
            self.0.encode(batch, row_idx..row_idx + 1, true, out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{decode, encode, field};
    use sluice_sql::sql::ast::FieldType;

    #[test]
    fn both_ways() {
        let fields = [field("a", FieldType::Bigint)];
        for (payload, expected) in [
            ("{\"a\":1}\n{\"a\":2}", r#"[{"a":1},{"a":2}]"#),
            ("{\"a\":1}\r\n\r\n [{\"a\":2},{\"a\":3}] \n", r#"[{"a":1},{"a":2},{"a":3}]"#),
            ("", "[]"),
            ("{\"a\":1}\n\n{\"a\":}", "error: line 3, column 6: expected a value"),
            ("{\"a\":1} {\"a\":2}", "error: line 1, column 9: "),
            ("{\"a\":1}\n[1]", "error: line 2, column 2: expected an object"),
        ] {
            let decoded = decode(make_decoder, &fields, None, payload.as_bytes());
            assert!(decoded.starts_with(expected), "{payload}: {decoded}");
        }
        assert!(decode(make_decoder, &[], None, b"{}\n\xff").starts_with("error: line 2, byte 1: not valid UTF-8"));
        let args = EncodeArgs { fields: None, delimiter: None, header: false };
        assert_eq!(encode(make_encoder, &args, r#"[{"a":1},{"b":"x\ny"}]"#), "{\"a\":1}\n{\"b\":\"x\\ny\"}");
    }
}
