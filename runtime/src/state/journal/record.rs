//! Records: what a source brought at once, as bytes.

use std::sync::Arc;

use bytes::Bytes;
use sluice_sql::value::state::StateIo;
use sluice_sql::{Object, Timestamp};
use smol_str::SmolStr;

use crate::format::{BUILTIN, FormatError};
use crate::source::{Items, Payload, Reply, Request, SourceRow};
use crate::state::frame::{self, FrameError, Kind};

const PAYLOADS: u8 = 0;
const ROWS: u8 = 1;
const REQUESTS: u8 = 2;

/// For requests from the journal: they were answered when they came.
#[derive(Debug)]
struct Answered;

impl Reply for Answered {
    fn decoded(&self, _n_rows: usize) {}

    fn refused(&self, _error: &FormatError) {}
}

/// A record's frame.
const KIND: Kind = Kind { tag: *b"Jr", version: 1 };

/// What arrived at once.
#[derive(Debug)]
pub struct Record {
    /// Its number; grows by one.
    pub offset: u64,
    /// When it arrived. Never less than that of the record before.
    pub arrived: Timestamp,
    /// What arrived.
    pub items: Items,
    /// By what each message is known if it is delivered again; none for sources that have nothing of the kind.
    pub marks: Vec<u64>,
    /// Where the source stands behind it, for one that can begin again there.
    pub position: Option<SmolStr>,
}

/// Appends a record to `out`. Leaves the items as they are.
pub(super) fn write(
    offset: u64,
    arrived: Timestamp,
    items: &Items,
    marks: &[u64],
    position: Option<&str>,
    out: &mut Vec<u8>,
) {
    let mut io = StateIo::writer();
    io.uint(&mut { offset });
    io.int(&mut { arrived });
    io.option(&mut position.map(SmolStr::new), StateIo::text);
    io.list(&mut marks.to_vec(), u64::default, StateIo::uint);
    let kind = match items {
        Items::Payloads(_) => PAYLOADS,
        Items::Rows(_) => ROWS,
        Items::Requests(_) => REQUESTS,
    };
    io.byte(&mut { kind });
    match items {
        Items::Payloads(payloads) => {
            io.size(&mut payloads.len());
            for Payload { bytes, meta } in payloads {
                io.bytes(&mut bytes.clone());
                self::meta(&mut io, &mut meta.clone());
            }
        }
        Items::Requests(requests) => {
            io.size(&mut requests.len());
            for Request { payload: Payload { bytes, meta }, format, .. } in requests {
                io.bytes(&mut bytes.clone());
                self::meta(&mut io, &mut meta.clone());
                io.option(&mut format.map(SmolStr::new), StateIo::text);
            }
        }
        Items::Rows(rows) => {
            io.size(&mut rows.len());
            for SourceRow { object, meta, ts } in rows {
                io.shared_object(&mut Arc::clone(object));
                self::meta(&mut io, &mut meta.clone());
                io.time(&mut { *ts });
            }
        }
    }
    frame::seal(KIND, &io.into_bytes(), out);
}

/// The record that `bytes` begin with, and how many bytes it takes.
pub(super) fn read(bytes: &[u8]) -> Result<(Record, usize), FrameError> {
    let (content, rest) = frame::open(KIND, bytes)?;
    let mut io = StateIo::reader(content.to_vec());
    let mut record =
        Record { offset: 0, arrived: 0, items: Items::Payloads(Vec::new()), marks: Vec::new(), position: None };
    io.uint(&mut record.offset);
    io.int(&mut record.arrived);
    io.option(&mut record.position, StateIo::text);
    io.list(&mut record.marks, u64::default, StateIo::uint);
    let mut kind = 0;
    io.byte(&mut kind);
    if kind == REQUESTS {
        let new = || Request {
            payload: Payload { bytes: Bytes::new(), meta: None },
            format: None,
            reply: Arc::new(Answered),
        };
        let mut requests = Vec::new();
        io.list(&mut requests, new, |io, request| {
            io.bytes(&mut request.payload.bytes);
            meta(io, &mut request.payload.meta);
            let mut format = None;
            io.option(&mut format, StateIo::text);
            let known = |name: SmolStr| BUILTIN.iter().find(|known| known.name == name).map(|known| known.name);
            request.format = format.and_then(known);
        });
        record.items = Items::Requests(requests);
    } else if kind == ROWS {
        let mut rows = Vec::new();
        let new = || SourceRow { object: Arc::default(), meta: None, ts: None };
        io.list(&mut rows, new, |io, row| {
            io.shared_object(&mut row.object);
            meta(io, &mut row.meta);
            io.time(&mut row.ts);
        });
        record.items = Items::Rows(rows);
    } else {
        let mut payloads = Vec::new();
        io.list(
            &mut payloads,
            || Payload { bytes: Bytes::new(), meta: None },
            |io, payload| {
                io.bytes(&mut payload.bytes);
                meta(io, &mut payload.meta);
            },
        );
        record.items = Items::Payloads(payloads);
    }
    if io.is_complete() { Ok((record, bytes.len() - rest.len())) } else { Err(FrameError::Damaged) }
}

fn meta(io: &mut StateIo, meta: &mut Option<Arc<Object>>) {
    io.option(meta, StateIo::shared_object);
}
