//! CBOR (RFC 8949) to rows and back: a map is a row, an array of maps is a list of rows.
//!
//! | CBOR | value |
//! |---|---|
//! | integers of 64 bits, bignums that fit | bigint, all bits kept |
//! | other bignums, decimal fractions (tag 4), floats of any width | float |
//! | byte string | bytea |
//! | text string | string |
//! | tag 0 (RFC 3339 text), tag 1 (seconds since the epoch) | datetime |
//! | null, undefined | null |
//! | any other tag | what it is put on |
//!
//! Written are definite lengths, the shortest float that is exact, and datetimes as tag 0, which keeps their offset.

mod read;
mod write;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ciborium_ll::Header;
pub use read::{Reader, parse_value};
use sluice_sql::{Batch, Object, Row, Timestamp, Value};
pub use write::write_value;

use self::read::Fault;
use super::slots::{Slots, set};
use super::{DecodeArgs, Decoder, EncodeArgs, Encoder, FormatError};
use crate::error::ConfigError;

/// For the reference page.
pub const DOCS: &str = "CBOR (RFC 8949): one map per row, or an array of them. Byte strings are bytea, integers keep 64 bits, times (tags \
     0 and 1) are datetimes, bignums beyond 64 bits and decimal fractions are floats; of any other tag its content is taken. Names \
     are texts (integers are taken as their text). A message may hold 64 MiB, four million values, and 128 levels. Writing: \
     datetimes are tag 0.";

struct CborDecoder {
    slots: Slots,
}

/// Makes the decoder.
///
/// # Errors
/// None: every schema can be read from CBOR.
pub fn make_decoder(args: &DecodeArgs<'_>) -> Result<Box<dyn Decoder>, ConfigError> {
    Ok(Box::new(CborDecoder { slots: Slots::new(args.schema, args.fields) }))
}

impl Decoder for CborDecoder {
    fn decode(
        &mut self,
        payload: &Bytes,
        ts: Timestamp,
        meta: Option<&Arc<Object>>,
        rows: &mut Vec<Row>,
    ) -> Result<(), FormatError> {
        let n_before = rows.len();
        self.payload(payload, ts, meta, rows).map_err(|fault| {
            rows.truncate(n_before);
            fault.into()
        })
    }
}

impl CborDecoder {
    fn payload(
        &self,
        payload: &Bytes,
        ts: Timestamp,
        meta: Option<&Arc<Object>>,
        rows: &mut Vec<Row>,
    ) -> Result<(), Fault> {
        let mut reader = Reader::new(payload)?;
        if payload.is_empty() {
            return reader.fault("the payload is empty");
        }
        match reader.untagged()? {
            Header::Map(n_members) => rows.push(self.row(&mut reader, n_members, ts, meta, 0)?),
            Header::Array(n_rows) => {
                let mut elements = reader.elements(n_rows)?;
                while reader.more(&mut elements)? {
                    match reader.untagged()? {
                        Header::Map(n_members) => rows.push(self.row(&mut reader, n_members, ts, meta, 1)?),
                        _ => {
                            return reader
                                .fault_before("expected a map: a row is a map, a list of rows an array of maps");
                        }
                    }
                }
            }
            _ => return reader.fault_before("expected a map or an array of maps"),
        }
        reader.end()
    }

    fn row(
        &self,
        reader: &mut Reader<'_>,
        n_members: Option<usize>,
        ts: Timestamp,
        meta: Option<&Arc<Object>>,
        depth: u32,
    ) -> Result<Row, Fault> {
        let start = reader.at();
        if self.slots.star.is_some() {
            let object = Arc::new(reader.object(n_members, depth)?);
            return self.slots.row(object, ts, meta).map_err(|message| Fault::new(start, message));
        }
        let mut row = self.slots.empty(ts, meta);
        let mut members = reader.members(n_members)?;
        while reader.more(&mut members)? {
            let name = reader.name()?;
            let start = reader.at();
            let Some(slot) = self.slots.fields.iter().find(|slot| slot.name == *name) else {
                reader.skip(depth + 1)?;
                continue;
            };
            match slot.ty.convert(reader.value(depth + 1)?) {
                Ok(value) => set(&mut row, slot.idx, value),
                Err(message) => return Err(Fault::new(start, format!("column {name}: {message}"))),
            }
        }
        Ok(row)
    }
}

struct CborEncoder;

/// Makes the encoder.
///
/// # Errors
/// None: `cbor` has no settings.
pub fn make_encoder(_args: &EncodeArgs<'_>) -> Result<Box<dyn Encoder>, ConfigError> {
    Ok(Box::new(CborEncoder))
}

impl Encoder for CborEncoder {
    fn encode(
        &mut self,
        batch: &Batch,
        rows: Range<usize>,
        single: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let rows = batch.rows.get(rows).unwrap_or_default();
        if !single {
            write::header(Header::Array(Some(rows.len())), out);
        }
        for row in rows {
            write_value(&Value::Object(Arc::new(batch.schema.to_object(row))), out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
