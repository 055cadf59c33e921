//! A cursor over CBOR items: exact with numbers, bounded in depth, size and number of values. Byte strings are slices of the
//! payload; nothing is set aside for a length before the bytes behind it are known to be there.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use ciborium_ll::{Decoder, Error, Header, simple, tag};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Zoned};
use sluice_sql::{Object, Value};

use crate::FormatError;

/// Arrays, maps and tags within each other.
const MAX_DEPTH: u32 = 128;
/// A payload may not be larger.
const MAX_BYTES: usize = 64 << 20;
/// Values in one payload: a value takes up to forty times the room of its shortest encoding.
const MAX_VALUES: usize = 4 << 20;
/// Tag of a decimal fraction: an exponent of ten and a mantissa.
const DECIMAL_FRACTION: u64 = 4;

/// What is wrong, and where.
#[derive(Debug)]
pub struct Fault {
    at: usize,
    what: Cow<'static, str>,
}

impl Fault {
    #[cold]
    pub(super) fn new(at: usize, what: impl Into<Cow<'static, str>>) -> Self {
        Fault { at, what: what.into() }
    }
}

impl From<Fault> for FormatError {
    fn from(Fault { at, what }: Fault) -> Self {
        FormatError(format!("byte {}: {what}", at + 1))
    }
}

/// Parses a payload that is one CBOR item.
///
/// # Errors
/// Bytes that are no CBOR, or more than the limits allow.
pub fn parse_value(payload: &Bytes) -> Result<Value, FormatError> {
    let parse = || {
        let mut reader = Reader::new(payload)?;
        let value = reader.value(0)?;
        reader.end()?;
        Ok(value)
    };
    parse().map_err(|fault: Fault| fault.into())
}

/// Reads items one after the other.
pub struct Reader<'a> {
    payload: &'a Bytes,
    at: usize,
    /// Where the newest header began.
    before: usize,
    n_values: usize,
}

/// How many elements are left in an array or map; `None` until a break.
pub(super) struct Elements(Option<usize>);

impl<'a> Reader<'a> {
    /// A reader at the start of the payload.
    ///
    /// # Errors
    /// A payload that is too large.
    pub fn new(payload: &'a Bytes) -> Result<Self, Fault> {
        if payload.len() > MAX_BYTES {
            return Err(Fault::new(MAX_BYTES, format!("larger than {} MiB", MAX_BYTES >> 20)));
        }
        Ok(Reader { payload, at: 0, before: 0, n_values: 0 })
    }

    /// Where the next item begins.
    pub fn at(&self) -> usize {
        self.at
    }

    fn rest(&self) -> &'a [u8] {
        self.payload.get(self.at..).unwrap_or_default()
    }

    #[cold]
    pub(super) fn fault<T>(&self, what: impl Into<Cow<'static, str>>) -> Result<T, Fault> {
        Err(Fault::new(self.at, what))
    }

    /// Something is wrong with the item whose header was read last.
    #[cold]
    pub(super) fn fault_before<T>(&self, what: impl Into<Cow<'static, str>>) -> Result<T, Fault> {
        Err(Fault::new(self.before, what))
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), Fault> {
        if self.rest().is_empty() { Ok(()) } else { self.fault("unexpected bytes behind the value") }
    }

    fn header(&mut self) -> Result<Header, Fault> {
        let mut decoder = Decoder::from(self.rest());
        let header = decoder.pull();
        self.before = self.at;
        match header {
            Ok(header) => {
                self.at += decoder.offset();
                Ok(header)
            }
            Err(Error::Io(_)) => Err(Fault::new(self.payload.len(), "the payload ends within a value")),
            Err(Error::Syntax(_)) => self.fault("no CBOR: this byte begins no value"),
        }
    }

    /// The next header that is no tag.
    pub(super) fn untagged(&mut self) -> Result<Header, Fault> {
        for _ in 0..MAX_DEPTH {
            match self.header()? {
                Header::Tag(_) => {}
                header => return Ok(header),
            }
        }
        self.too_deep()
    }

    #[cold]
    fn too_deep<T>(&self) -> Result<T, Fault> {
        self.fault_before(format!("nested deeper than {MAX_DEPTH} levels"))
    }

    /// Bytes that a header has promised.
    fn take(&mut self, n_bytes: usize) -> Result<&'a [u8], Fault> {
        match self.rest().get(..n_bytes) {
            Some(bytes) => {
                self.at += n_bytes;
                Ok(bytes)
            }
            None => Err(Fault::new(self.payload.len(), "the payload ends within a value")),
        }
    }

    /// The elements of an array.
    pub(super) fn elements(&mut self, n_elements: Option<usize>) -> Result<Elements, Fault> {
        // Each takes a byte at least.
        match n_elements {
            Some(n_elements) if n_elements > self.rest().len() => {
                Err(Fault::new(self.payload.len(), "the payload ends within a value"))
            }
            n_elements => Ok(Elements(n_elements)),
        }
    }

    /// The members of a map.
    pub(super) fn members(&mut self, n_members: Option<usize>) -> Result<Elements, Fault> {
        // Each takes two bytes at least.
        self.elements(n_members.map(|n_members| n_members.saturating_mul(2)))?;
        Ok(Elements(n_members))
    }

    /// True if another element or member follows; steps over the break.
    pub(super) fn more(&mut self, elements: &mut Elements) -> Result<bool, Fault> {
        match &mut elements.0 {
            Some(0) => Ok(false),
            Some(n_left) => {
                *n_left -= 1;
                Ok(true)
            }
            None => {
                let is_break = self.rest().first() == Some(&0xff);
                self.at += usize::from(is_break);
                Ok(!is_break)
            }
        }
    }

    /// The name of a member.
    pub(super) fn name(&mut self) -> Result<Cow<'a, str>, Fault> {
        match self.untagged()? {
            Header::Text(n_bytes) => self.text(n_bytes),
            Header::Positive(number) => Ok(Cow::Owned(number.to_string())),
            Header::Negative(number) => Ok(Cow::Owned((-1 - i128::from(number)).to_string())),
            _ => self.fault_before("expected a text as the name of a member"),
        }
    }

    fn text(&mut self, n_bytes: Option<usize>) -> Result<Cow<'a, str>, Fault> {
        let start = self.at;
        let utf8 = |bytes: &'a [u8], at: usize| {
            std::str::from_utf8(bytes).map_err(|error| Fault::new(at + error.valid_up_to(), "not valid UTF-8"))
        };
        if let Some(n_bytes) = n_bytes {
            return Ok(Cow::Borrowed(utf8(self.take(n_bytes)?, start)?));
        }
        let mut text = String::new();
        loop {
            match self.header()? {
                Header::Break => return Ok(Cow::Owned(text)),
                Header::Text(Some(n_bytes)) => {
                    let start = self.at;
                    text.push_str(utf8(self.take(n_bytes)?, start)?);
                }
                _ => return self.fault_before("expected a piece of text"),
            }
        }
    }

    fn bytes(&mut self, n_bytes: Option<usize>) -> Result<Bytes, Fault> {
        if let Some(n_bytes) = n_bytes {
            let start = self.at;
            self.take(n_bytes)?;
            return Ok(self.payload.slice(start..self.at));
        }
        let mut bytes = Vec::new();
        loop {
            match self.header()? {
                Header::Break => return Ok(Bytes::from(bytes)),
                Header::Bytes(Some(n_bytes)) => bytes.extend_from_slice(self.take(n_bytes)?),
                _ => return self.fault_before("expected a piece of a byte string"),
            }
        }
    }

    /// One value, which stands `depth` levels below the payload's own.
    pub fn value(&mut self, depth: u32) -> Result<Value, Fault> {
        self.n_values += 1;
        if self.n_values > MAX_VALUES {
            return self.fault(format!("more than {MAX_VALUES} values"));
        }
        let header = self.header()?;
        if depth >= MAX_DEPTH && matches!(header, Header::Array(_) | Header::Map(_) | Header::Tag(_)) {
            return self.too_deep();
        }
        Ok(match header {
            Header::Positive(number) => Value::from_u64(number),
            Header::Negative(number) => negative(number),
            Header::Float(number) => Value::Float(number),
            Header::Simple(simple::FALSE) => Value::Bool(false),
            Header::Simple(simple::TRUE) => Value::Bool(true),
            Header::Simple(simple::NULL | simple::UNDEFINED) => Value::Null,
            Header::Simple(number) => {
                return self.fault_before(format!("the simple value {number} has no meaning here"));
            }
            Header::Break => return self.fault_before("a break outside a value of indefinite length"),
            Header::Bytes(n_bytes) => Value::bytes(self.bytes(n_bytes)?),
            Header::Text(n_bytes) => Value::string(self.text(n_bytes)?),
            Header::Array(n_elements) => {
                let mut elements = self.elements(n_elements)?;
                let mut values = Vec::with_capacity(n_elements.unwrap_or(0).min(MAX_VALUES));
                while self.more(&mut elements)? {
                    values.push(self.value(depth + 1)?);
                }
                Value::Array(Arc::new(values))
            }
            Header::Map(n_members) => Value::Object(Arc::new(self.object(n_members, depth)?)),
            Header::Tag(tag) => {
                let start = self.before;
                let value = self.value(depth + 1)?;
                tagged(tag, value).map_err(|message| Fault::new(start, message))?
            }
        })
    }

    /// A map whose header has been read.
    pub(super) fn object(&mut self, n_members: Option<usize>, depth: u32) -> Result<Object, Fault> {
        let mut members = self.members(n_members)?;
        let mut object = Object::with_capacity(n_members.unwrap_or(0).min(MAX_VALUES));
        while self.more(&mut members)? {
            let name = self.name()?;
            let value = self.value(depth + 1)?;
            object.insert(name, value);
        }
        Ok(object)
    }

    /// Steps over a value, which is checked all the same.
    pub fn skip(&mut self, depth: u32) -> Result<(), Fault> {
        let header = self.header()?;
        if depth >= MAX_DEPTH && matches!(header, Header::Array(_) | Header::Map(_) | Header::Tag(_)) {
            return self.too_deep();
        }
        match header {
            Header::Bytes(Some(n_bytes)) => drop(self.take(n_bytes)?),
            Header::Bytes(None) => drop(self.bytes(None)?),
            Header::Text(n_bytes) => drop(self.text(n_bytes)?),
            Header::Array(n_elements) => {
                let mut elements = self.elements(n_elements)?;
                while self.more(&mut elements)? {
                    self.skip(depth + 1)?;
                }
            }
            Header::Map(n_members) => {
                let mut members = self.members(n_members)?;
                while self.more(&mut members)? {
                    self.name()?;
                    self.skip(depth + 1)?;
                }
            }
            Header::Tag(_) => self.skip(depth + 1)?,
            Header::Break => return self.fault_before("a break outside a value of indefinite length"),
            _ => {}
        }
        Ok(())
    }
}

/// The number `-1 - number`.
fn negative(number: u64) -> Value {
    match i64::try_from(number) {
        Ok(number) => Value::Int(-1 - number),
        Err(_) => Value::Float(-1.0 - number as f64),
    }
}

/// What a tag makes of its content.
fn tagged(number: u64, value: Value) -> Result<Value, &'static str> {
    let datetime = |instant: Option<Zoned>| match instant {
        Some(instant) => Ok(Value::Datetime(Arc::new(instant))),
        None => Err("this time is none, or beyond the years -9999 to 9999"),
    };
    let utc = |instant: Result<jiff::Timestamp, jiff::Error>| datetime(instant.ok().map(|i| i.to_zoned(TimeZone::UTC)));
    match (number, value) {
        (0, Value::String(text)) => datetime(rfc3339(&text)),
        (0, _) => Err("a time with tag 0 is a text"),
        (1, Value::Int(seconds)) => utc(jiff::Timestamp::from_second(seconds)),
        (1, Value::Float(seconds)) => {
            utc(SignedDuration::try_from_secs_f64(seconds).and_then(jiff::Timestamp::from_duration))
        }
        (1, _) => Err("a time with tag 1 is a number of seconds"),
        (tag::BIGPOS, Value::Bytes(digits)) => Ok(match bignum(&digits) {
            Ok(number) => Value::from_u64(number),
            Err(float) => Value::Float(float),
        }),
        (tag::BIGNEG, Value::Bytes(digits)) => Ok(match bignum(&digits) {
            Ok(number) => negative(number),
            Err(float) => Value::Float(-1.0 - float),
        }),
        (DECIMAL_FRACTION, Value::Array(parts)) => match parts.as_slice() {
            [Value::Int(exponent), mantissa @ (Value::Int(_) | Value::Uint(_) | Value::Float(_))] => {
                decimal(*exponent, mantissa).map(Value::Float).ok_or("this is no decimal fraction")
            }
            _ => Err("a decimal fraction is an exponent and a mantissa"),
        },
        (_, value) => Ok(value),
    }
}

/// A number by its digits of base 256; as a float if it takes more than 64 bits.
fn bignum(digits: &[u8]) -> Result<u64, f64> {
    let start = digits.iter().position(|digit| *digit != 0).unwrap_or(digits.len());
    let digits = digits.get(start..).unwrap_or_default();
    if digits.len() <= 8 {
        Ok(digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)))
    } else {
        Err(digits.iter().fold(0.0, |number, digit| number * 256.0 + f64::from(*digit)))
    }
}

/// By way of its text, which is rounded once and rightly.
fn decimal(exponent: i64, mantissa: &Value) -> Option<f64> {
    let mantissa = match mantissa {
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Float(number) => return Some(number * 10f64.powi(i32::try_from(exponent).ok()?)),
        _ => return None,
    };
    format!("{mantissa}e{exponent}").parse().ok()
}

fn rfc3339(text: &str) -> Option<Zoned> {
    let offset = jiff::fmt::temporal::Pieces::parse(text).ok()?.to_numeric_offset()?;
    let instant: jiff::Timestamp = text.parse().ok()?;
    Some(instant.to_zoned(TimeZone::fixed(offset)))
}
