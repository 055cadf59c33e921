//! JSON to rows: an object is a row, an array of objects is a list of rows.
//!
//! The decoder reads straight into slots. It remembers the order of members of earlier payloads, so that on most payloads
//! it knows each member's slot after one comparison, without hashing. The whole payload is checked, whatever is read of it.

mod text;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use sluice_sql::value::RawObject;
use sluice_sql::{Object, Row, Timestamp, Value};

use self::text::{Cursor, Fault, Result};
use super::slots::{Slot, Slots, set};
use super::{DecodeArgs, Decoder, FormatError};
use crate::error::ConfigError;

/// Reads JSON.
pub struct JsonDecoder {
    slots: Slots,
    /// What the members of earlier payloads were called, by place.
    order: Vec<Expected>,
}

/// A member as it was met at some place in an earlier payload.
struct Expected {
    /// With its quotes and the colon.
    quoted: Box<[u8]>,
    /// Index into [`Slots::fields`]; `None` for one that nobody reads.
    slot: Option<usize>,
}

/// Members beyond this many per object, and names longer than this, are looked up each time.
const MAX_EXPECTED: usize = 256;

/// Makes the decoder.
///
/// # Errors
/// None: every schema can be read from JSON.
pub fn make_decoder(args: &DecodeArgs<'_>) -> std::result::Result<Box<dyn Decoder>, ConfigError> {
    Ok(Box::new(JsonDecoder { slots: Slots::new(args.schema, args.fields), order: Vec::new() }))
}

/// Parses the text of one JSON object.
///
/// # Errors
/// Text that is no JSON object.
pub fn parse_object(text: &[u8]) -> std::result::Result<Object, FormatError> {
    let text = utf8(text)?;
    let mut cursor = Cursor::new(text);
    let mut parse = || {
        if cursor.next_token() != b'{' {
            return cursor.fault("expected an object");
        }
        let object = cursor.object(0)?;
        cursor.end()?;
        Ok(object)
    };
    parse().map_err(|fault| describe(text, &fault))
}

/// Parses any JSON value.
///
/// # Errors
/// Text that is no JSON.
pub fn parse_value(text: &[u8]) -> std::result::Result<Value, FormatError> {
    let text = utf8(text)?;
    let mut cursor = Cursor::new(text);
    cursor.value(0).and_then(|value| cursor.end().map(|()| value)).map_err(|fault| describe(text, &fault))
}

/// A row that stays text. `text` must be one checked object.
fn raw(text: Bytes) -> Value {
    // What was checked can be parsed: both follow the same rules.
    Value::Raw(Arc::new(RawObject::new(text, |text| parse_object(text).unwrap_or_default())))
}

impl Decoder for JsonDecoder {
    fn decode(
        &mut self,
        payload: &Bytes,
        ts: Timestamp,
        meta: Option<&Arc<Object>>,
        rows: &mut Vec<Row>,
    ) -> std::result::Result<(), FormatError> {
        let text = utf8(payload)?;
        let n_before = rows.len();
        let mut cursor = Cursor::new(text);
        let decoded = self.payload(&mut cursor, payload, ts, meta, rows);
        decoded.map_err(|fault| {
            rows.truncate(n_before);
            describe(text, &fault)
        })
    }
}

impl JsonDecoder {
    fn payload(
        &mut self,
        cursor: &mut Cursor<'_>,
        payload: &Bytes,
        ts: Timestamp,
        meta: Option<&Arc<Object>>,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        match cursor.next_token() {
            b'{' => rows.push(self.row(cursor, payload, ts, meta, 0)?),
            b'[' => {
                cursor.open(0)?;
                let mut more = !cursor.is_empty_list(b']');
                while more {
                    if cursor.next_token() != b'{' {
                        return cursor
                            .fault("expected an object: a row is an object, a list of rows an array of objects");
                    }
                    rows.push(self.row(cursor, payload, ts, meta, 1)?);
                    more = cursor.more(b']')?;
                }
            }
            _ if cursor.rest().is_empty() => return cursor.fault("the payload is empty"),
            _ => return cursor.fault("expected an object or an array of objects"),
        }
        cursor.end()
    }

    /// Reads the object that begins at the cursor.
    fn row(
        &mut self,
        cursor: &mut Cursor<'_>,
        payload: &Bytes,
        ts: Timestamp,
        meta: Option<&Arc<Object>>,
        depth: u32,
    ) -> Result<Row> {
        let start = cursor.at();
        if self.slots.star.is_some() && self.slots.star_declared.is_some() {
            let object = Arc::new(cursor.object(depth)?);
            return self.slots.row(object, ts, meta).or_else(|message| cursor.fault_at(start, message));
        }
        let mut row = self.slots.empty(ts, meta);
        self.members(cursor, &mut row, depth)?;
        if let Some(star) = self.slots.star {
            set(&mut row, star, raw(payload.slice(start..cursor.at())));
        }
        Ok(row)
    }

    fn members(&mut self, cursor: &mut Cursor<'_>, row: &mut Row, depth: u32) -> Result<()> {
        cursor.open(depth)?;
        let mut more = !cursor.is_empty_list(b'}');
        let mut place = 0;
        while more {
            cursor.next_token();
            let slot = match self.order.get(place) {
                Some(expected) if cursor.rest().starts_with(&expected.quoted) => {
                    cursor.advance(expected.quoted.len());
                    expected.slot
                }
                _ => {
                    let name = cursor.name()?;
                    self.learn(place, name)
                }
            };
            match slot.and_then(|slot| self.slots.fields.get(slot)) {
                None => cursor.skip(depth + 1)?,
                Some(Slot { name, idx, ty }) => {
                    cursor.next_token();
                    let start = cursor.at();
                    match ty.convert(cursor.value(depth + 1)?) {
                        Ok(value) => set(row, *idx, value),
                        Err(message) => return cursor.fault_at(start, format!("column {name}: {message}")),
                    }
                }
            }
            more = cursor.more(b'}')?;
            place += 1;
        }
        Ok(())
    }

    /// Looks a member up, and remembers it as the one to expect at this place.
    #[cold]
    fn learn(&mut self, place: usize, name: Cow<'_, str>) -> Option<usize> {
        if let Some(Expected { quoted, slot }) = self.order.get(place)
            && let [b'"', known @ .., b'"', b':'] = &**quoted
            && known == name.as_bytes()
        {
            // As expected, but for white space before the colon.
            return *slot;
        }
        let slot = self.slots.fields.iter().position(|slot| slot.name == *name);
        // A name that was written with escapes would have to be remembered as written.
        if let Cow::Borrowed(name) = name
            && place < MAX_EXPECTED
            && name.len() <= MAX_EXPECTED
        {
            let expected = Expected { quoted: format!("\"{name}\":").into_bytes().into(), slot };
            if let Some(place) = self.order.get_mut(place) {
                *place = expected;
            } else if place == self.order.len() {
                self.order.push(expected);
            }
        }
        slot
    }
}

fn utf8(payload: &[u8]) -> std::result::Result<&str, FormatError> {
    std::str::from_utf8(payload)
        .map_err(|error| FormatError(format!("byte {}: not valid UTF-8", error.valid_up_to() + 1)))
}

/// Says where in the text, by line and character, 1-based.
#[cold]
fn describe(text: &str, fault: &Fault) -> FormatError {
    let before = text.as_bytes().get(..fault.at).unwrap_or(text.as_bytes());
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count() + 1;
    FormatError(format!("line {line}, column {column}: {}", fault.what))
}

#[cfg(test)]
mod tests;
