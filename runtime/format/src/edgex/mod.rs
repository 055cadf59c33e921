//! Messages of EdgeX Foundry's bus, releases 2 to 4: events whose readings are the columns of a row.
//!
//! Nothing has to be said about a message: JSON or CBOR, in an envelope or by itself, event or request, the payload as a value,
//! as bytes or as base64 are told apart by what is there. Start at [`make_decoder`] for reading, at `write` for writing.

mod message;
mod reading;
pub mod write;

use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::{Object, Row, Timestamp, Value};
use smol_str::SmolStr;

use self::message::Message;
use super::slots::Slots;
use super::{DecodeArgs, Decoder, FormatError, LeftOut};
use crate::error::ConfigError;

/// For the reference page.
pub const DOCS: &str = "Messages of EdgeX Foundry's bus, as the source `edgex` reads them, for other ways by which they may come: events \
     and AddEventRequests of EdgeX 2, 3 and 4, with or without envelope, in JSON or CBOR. Each event is a row with a column per \
     reading. Can be read, not written: that is the sink `edgex`.";

/// What kind of message there is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MessageType {
    /// An event.
    Event,
    /// An AddEventRequest, which holds an event.
    Request,
}

struct EdgexDecoder {
    slots: Slots,
    wants_meta: bool,
    message_type: Option<MessageType>,
    left_out: LeftOut,
}

/// Makes a decoder that takes both kinds of message.
///
/// # Errors
/// None: every schema can be read from an event.
pub fn make_decoder(args: &DecodeArgs<'_>) -> Result<Box<dyn Decoder>, ConfigError> {
    Ok(decoder_of(args, None))
}

/// Makes a decoder for one kind of message, or for both.
pub fn decoder_of(args: &DecodeArgs<'_>, message_type: Option<MessageType>) -> Box<dyn Decoder> {
    let wants_meta = args.schema.columns.iter().any(|column| column.kind == sluice_sql::ColumnKind::Meta);
    let slots = Slots::new(args.schema, args.fields);
    Box::new(EdgexDecoder { slots, wants_meta, message_type, left_out: LeftOut::default() })
}

impl Decoder for EdgexDecoder {
    fn decode(
        &mut self,
        payload: &Bytes,
        ts: Timestamp,
        meta: Option<&Arc<Object>>,
        rows: &mut Vec<Row>,
    ) -> Result<(), FormatError> {
        let message = Message::read(payload, self.message_type)?;
        let readings = match message.event.get("readings") {
            Some(Value::Array(readings)) => readings,
            _ => return Err(FormatError("the event has no readings".to_owned())),
        };
        let mut columns = Object::with_capacity(readings.len());
        let mut of_readings: Vec<(SmolStr, Value)> = Vec::new();
        let mut newest_fault = None;
        for reading in readings.iter() {
            match reading::column(reading) {
                Ok((name, value)) => {
                    if self.wants_meta {
                        of_readings.push((name.clone(), Value::Object(Arc::new(reading::metadata(reading)))));
                    }
                    columns.insert(name, value);
                }
                Err(fault) => {
                    newest_fault = Some(fault.clone());
                    self.left_out.add(FormatError(fault));
                }
            }
        }
        if columns.is_empty() {
            // The message counts as the one thing that was dropped.
            self.left_out = LeftOut::default();
            let reason = newest_fault.unwrap_or_else(|| "the event has no readings".to_owned());
            return Err(FormatError(reason));
        }
        let own_meta = self.wants_meta.then(|| Arc::new(message.metadata(meta, of_readings)));
        rows.push(self.slots.row(Arc::new(columns), ts, own_meta.as_ref()).map_err(FormatError)?);
        Ok(())
    }

    fn take_left_out(&mut self) -> LeftOut {
        std::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests;
