//! The compact form of state: what operators keep, written to bytes and read back.
//!
//! One function per operator does both ([`StateIo`] knows which), so that what is written is what is read. Numbers take as many
//! bytes as they need. Nothing in the bytes says what they are: whoever reads them must know that the same operator wrote them
//! ([`STATE_VERSION`] and the operator's fingerprint see to that). Damaged or foreign bytes make the reader
//! [fail](StateIo::failed), never panic and never allocate more than they hold.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use smol_str::SmolStr;

use super::{Object, Row, Timestamp, Value, memory};

/// Goes up with every change of what an operator writes.
pub const STATE_VERSION: u32 = 1;

/// Writes state, or reads it back, or measures it: every method takes the place of the value, which it reads from or writes to.
#[derive(Debug)]
pub struct StateIo {
    bytes: Vec<u8>,
    /// Measuring: bytes of memory so far, about. It goes as writing does, and writes nothing.
    measured: Option<u64>,
    /// Reading: where the next value begins. `None`: writing.
    at: Option<usize>,
    failed: bool,
    /// Reading: where each slot of the rows that were written is in rows now; `None` for one that is gone. No list: all are
    /// where they were.
    slots: Option<Vec<Option<usize>>>,
}

impl StateIo {
    /// Writes.
    pub fn writer() -> Self {
        StateIo { bytes: Vec::new(), measured: None, at: None, failed: false, slots: None }
    }

    /// Measures.
    pub fn meter() -> Self {
        StateIo { measured: Some(0), ..StateIo::writer() }
    }

    /// About how many bytes of memory that takes which was measured.
    pub fn measured(&self) -> u64 {
        self.measured.unwrap_or_default()
    }

    /// Reads.
    pub fn reader(bytes: Vec<u8>) -> Self {
        StateIo { bytes, at: Some(0), ..StateIo::writer() }
    }

    /// Slot `i` of rows that are read goes to slot `slots[i]`, or nowhere.
    pub fn move_slots(&mut self, slots: Vec<Option<usize>>) {
        let moves = slots.iter().enumerate().any(|(from, to)| *to != Some(from));
        self.slots = moves.then_some(slots);
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// True if it reads.
    pub fn is_reader(&self) -> bool {
        self.at.is_some()
    }

    /// Reading: the bytes are not what was expected. Values read since then mean nothing.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Reading: everything was read, and it was what was expected.
    pub fn is_complete(&self) -> bool {
        !self.failed && self.at.is_none_or(|at| at == self.bytes.len())
    }

    /// Reading: what follows can't be what it should.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    fn take(&mut self, n_bytes: usize) -> &[u8] {
        let at = self.at.unwrap_or_default();
        let end = at.saturating_add(n_bytes);
        if self.failed || end > self.bytes.len() {
            self.failed = true;
            return &[];
        }
        self.at = Some(end);
        self.bytes.get(at..end).unwrap_or_default()
    }

    fn put(&mut self, bytes: &[u8]) {
        match &mut self.measured {
            Some(measured) => *measured += bytes.len() as u64,
            None => self.bytes.extend_from_slice(bytes),
        }
    }

    /// Measuring: counts what a value takes where it is kept. False if it is to be written.
    fn measures(&mut self, n_bytes: u64) -> bool {
        self.measured.as_mut().map(|measured| *measured += n_bytes).is_some()
    }

    /// One byte.
    pub fn byte(&mut self, value: &mut u8) {
        match self.at {
            None => self.put(&[*value]),
            Some(_) => *value = self.take(1).first().copied().unwrap_or_default(),
        }
    }

    /// A boolean.
    pub fn bool(&mut self, value: &mut bool) {
        let mut byte = u8::from(*value);
        self.byte(&mut byte);
        *value = byte == 1;
        self.failed |= byte > 1;
    }

    /// An unsigned number.
    pub fn uint(&mut self, value: &mut u64) {
        if self.measures(size_of::<u64>() as u64) {
            return;
        }
        if self.at.is_none() {
            let mut rest = *value;
            while rest >= 0x80 {
                self.bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            self.bytes.push(rest as u8);
            return;
        }
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let mut byte = 0;
            self.byte(&mut byte);
            if shift > 63 || self.failed {
                self.failed = true;
                return;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                *value = number;
                return;
            }
            shift += 7;
        }
    }

    /// A whole number.
    pub fn int(&mut self, value: &mut i64) {
        let mut folded = ((*value << 1) ^ (*value >> 63)) as u64;
        self.uint(&mut folded);
        *value = (folded >> 1) as i64 ^ -((folded & 1) as i64);
    }

    /// A number of things, or a place.
    pub fn size(&mut self, value: &mut usize) {
        let mut number = *value as u64;
        self.uint(&mut number);
        match usize::try_from(number) {
            Ok(number) => *value = number,
            Err(_) => self.failed = true,
        }
    }

    /// A number of things that each take at least a byte: more than there are bytes can't be.
    fn count(&mut self, value: usize) -> usize {
        let mut count = value;
        self.size(&mut count);
        if let Some(at) = self.at
            && (self.failed || count > self.bytes.len().saturating_sub(at))
        {
            self.failed = true;
            return 0;
        }
        count
    }

    /// A float.
    pub fn float(&mut self, value: &mut f64) {
        match self.at {
            None => self.put(&value.to_bits().to_le_bytes()),
            Some(_) => {
                let bits = self.take(8).iter().rev().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
                *value = f64::from_bits(bits);
            }
        }
    }

    /// Bytes.
    pub fn blob(&mut self, value: &mut Vec<u8>) {
        let n_bytes = self.count(value.len());
        match self.at {
            None => self.put(value),
            Some(_) => *value = self.take(n_bytes).to_vec(),
        }
    }

    /// Bytes that are shared.
    pub fn bytes(&mut self, value: &mut Bytes) {
        let n_bytes = self.count(value.len());
        match self.at {
            None => self.put(value),
            Some(_) => *value = Bytes::copy_from_slice(self.take(n_bytes)),
        }
    }

    /// A text.
    pub fn text(&mut self, value: &mut SmolStr) {
        let n_bytes = self.count(value.len());
        match self.at {
            None => self.put(value.as_bytes()),
            Some(_) => match std::str::from_utf8(self.take(n_bytes)).map(SmolStr::new) {
                Ok(text) => *value = text,
                Err(_) => self.failed = true,
            },
        }
    }

    /// Something that may not be there.
    pub fn option<T: Default>(&mut self, value: &mut Option<T>, each: impl FnOnce(&mut Self, &mut T)) {
        let mut is_there = value.is_some();
        self.bool(&mut is_there);
        if self.is_reader() {
            *value = (is_there && !self.failed).then(T::default);
        }
        if let Some(value) = value {
            each(self, value);
        }
    }

    /// A list; `new` makes an element to read into.
    pub fn list<T>(&mut self, values: &mut Vec<T>, new: impl Fn() -> T, mut each: impl FnMut(&mut Self, &mut T)) {
        let n_values = self.count(values.len());
        if self.is_reader() {
            values.clear();
            for _ in 0..n_values {
                let mut value = new();
                each(self, &mut value);
                if self.failed {
                    return;
                }
                values.push(value);
            }
        } else {
            values.iter_mut().for_each(|value| each(self, value));
        }
    }

    /// A queue; `new` makes an element to read into.
    pub fn queue<T>(&mut self, values: &mut VecDeque<T>, new: impl Fn() -> T, each: impl Fn(&mut Self, &mut T)) {
        let mut list: Vec<T> = std::mem::take(values).into();
        self.list(&mut list, new, each);
        *values = list.into();
    }

    /// Values, in order.
    pub fn values(&mut self, values: &mut Vec<Value>) {
        self.list(values, Value::default, Self::value);
    }

    /// A key.
    pub fn key(&mut self, key: &mut Box<[Value]>) {
        let mut values = std::mem::take(key).into_vec();
        self.values(&mut values);
        *key = values.into();
    }

    /// An object.
    pub fn object(&mut self, object: &mut Object) {
        if self.is_reader() {
            let n_members = self.count(0);
            *object = Object::default();
            for _ in 0..n_members {
                let (mut name, mut value) = (SmolStr::default(), Value::Null);
                self.text(&mut name);
                self.value(&mut value);
                if self.failed {
                    return;
                }
                object.insert(name, value);
            }
        } else {
            self.write_object(object);
        }
    }

    /// An object that is shared.
    pub fn shared_object(&mut self, object: &mut Arc<Object>) {
        if self.is_reader() {
            *object = Arc::new(read(self, Self::object));
        } else {
            self.write_object(object);
        }
    }

    fn write_object(&mut self, object: &Object) {
        self.count(object.len());
        for (name, value) in object.iter() {
            self.text(&mut name.clone());
            self.write_value(value);
        }
    }

    /// A value.
    pub fn value(&mut self, value: &mut Value) {
        if self.is_reader() {
            *value = self.read_value();
        } else {
            self.write_value(value);
        }
    }

    fn write_value(&mut self, value: &Value) {
        if self.measured.is_some() {
            self.measures(memory::value_bytes(value));
            return;
        }
        let kind = match value {
            Value::Missing => 0,
            Value::Null => 1,
            Value::Bool(false) => 2,
            Value::Bool(true) => 3,
            Value::Int(_) => 4,
            Value::Uint(_) => 5,
            Value::Float(_) => 6,
            Value::String(_) => 7,
            Value::Bytes(_) => 8,
            Value::Datetime(_) => 9,
            Value::Array(_) => 10,
            Value::Object(_) | Value::Raw(_) => 11,
        };
        self.bytes.push(kind);
        match value {
            Value::Missing | Value::Null | Value::Bool(_) => {}
            Value::Int(number) => self.int(&mut { *number }),
            Value::Uint(number) => self.uint(&mut { *number }),
            Value::Float(number) => self.float(&mut { *number }),
            Value::String(text) => self.text(&mut text.clone()),
            Value::Bytes(bytes) => self.bytes(&mut Bytes::clone(bytes)),
            Value::Datetime(zoned) => self.text(&mut SmolStr::new(zoned.to_string())),
            Value::Array(values) => {
                self.count(values.len());
                values.iter().for_each(|value| self.write_value(value));
            }
            Value::Object(object) => self.write_object(object),
            Value::Raw(raw) => self.write_object(&raw.object()),
        }
    }

    fn read_value(&mut self) -> Value {
        let mut kind = 0;
        self.byte(&mut kind);
        match kind {
            0 => Value::Missing,
            1 => Value::Null,
            2 => Value::Bool(false),
            3 => Value::Bool(true),
            4 => Value::Int(read(self, Self::int)),
            5 => Value::Uint(read(self, Self::uint)),
            6 => Value::Float(read(self, Self::float)),
            7 => Value::String(read(self, Self::text)),
            8 => Value::bytes(read(self, Self::bytes)),
            9 => match read(self, Self::text).parse::<jiff::Zoned>() {
                Ok(zoned) => Value::Datetime(Arc::new(zoned)),
                Err(_) => {
                    self.failed = true;
                    Value::Null
                }
            },
            10 => Value::Array(Arc::new(read(self, Self::values))),
            11 => Value::Object(Arc::new(read(self, Self::object))),
            _ => {
                self.failed = true;
                Value::Null
            }
        }
    }

    /// A row; when it is read, its values go to the slots that they have now.
    pub fn row(&mut self, row: &mut Row) {
        self.int(&mut row.ts);
        self.values(&mut row.values);
        if let (true, Some(slots)) = (self.is_reader(), &self.slots) {
            let mut moved = Vec::new();
            for (value, slot) in std::mem::take(&mut row.values).into_iter().zip(slots) {
                if let Some(slot) = *slot {
                    if moved.len() <= slot {
                        moved.resize(slot + 1, Value::Missing);
                    }
                    moved[slot] = value;
                }
            }
            row.values = moved;
        }
    }

    /// A row and the input that it came by.
    pub fn held(&mut self, held: &mut (usize, Row)) {
        self.size(&mut held.0);
        self.row(&mut held.1);
    }

    /// A time that may not be set.
    pub fn time(&mut self, time: &mut Option<Timestamp>) {
        self.option(time, Self::int);
    }
}

fn read<T: Default>(io: &mut StateIo, each: impl FnOnce(&mut StateIo, &mut T)) -> T {
    let mut value = T::default();
    each(io, &mut value);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_about_what_it_takes() {
        let measured = |values: &mut Vec<Value>| {
            let mut meter = StateIo::meter();
            meter.values(values);
            assert!(meter.bytes.is_empty() && !meter.is_reader());
            meter.measured()
        };
        let mut values: Vec<Value> = (0..1000).map(Value::Int).collect();
        assert!((24_000..25_000).contains(&measured(&mut values)));
        values.iter_mut().for_each(|value| *value = Value::string("x".repeat(1000)));
        assert!((1_020_000..1_100_000).contains(&measured(&mut values)));
        assert_eq!(values.len(), 1000, "nothing is taken");
    }

    fn round_trip(value: &Value) -> Value {
        let mut io = StateIo::writer();
        io.value(&mut value.clone());
        let bytes = io.into_bytes();
        for n_bytes in 0..bytes.len() {
            let mut io = StateIo::reader(bytes[..n_bytes].to_vec());
            io.value(&mut Value::Null);
            assert!(io.failed(), "{n_bytes} bytes of {value:?}");
        }
        let mut io = StateIo::reader(bytes);
        let mut read = Value::Null;
        io.value(&mut read);
        assert!(io.is_complete(), "{value:?}");
        read
    }

    #[test]
    fn values_come_back_as_they_were() {
        let zoned: jiff::Zoned = "2024-03-10T01:59:59.123456789-05:00[America/New_York]".parse().unwrap();
        let object = Object::from_iter([("b", Value::Int(1)), ("a", Value::Array(Arc::new(vec![Value::Missing])))]);
        let values = [
            Value::Missing,
            Value::Null,
            Value::Bool(true),
            Value::Bool(false),
            Value::Int(0),
            Value::Int(-1),
            Value::Int(i64::MIN),
            Value::Int(i64::MAX),
            Value::Uint(u64::MAX),
            Value::Float(-0.0),
            Value::Float(f64::NAN),
            Value::Float(0.1),
            Value::string(""),
            Value::string("a longer text that does not fit into its handle, ünïcode"),
            Value::bytes(Bytes::from_static(&[0, 255])),
            Value::Datetime(Arc::new(zoned)),
            Value::Array(Arc::new(vec![Value::Int(1), Value::string("x")])),
            Value::Object(Arc::new(object)),
        ];
        for value in &values {
            assert_eq!(format!("{:?}", round_trip(value)), format!("{value:?}"));
        }
    }

    #[test]
    fn rows_move_to_their_slots() {
        let mut io = StateIo::writer();
        let values = vec![Value::Int(1), Value::Int(2), Value::Int(3)];
        io.row(&mut Row { ts: 5, values });
        let mut io = StateIo::reader(io.into_bytes());
        io.move_slots(vec![Some(3), None, Some(0)]);
        let mut row = Row::default();
        io.row(&mut row);
        assert!(io.is_complete());
        assert_eq!(row.ts, 5);
        assert_eq!(format!("{:?}", row.values), "[Int(3), Missing, Missing, Int(1)]");
    }

    #[test]
    fn foreign_bytes_are_refused() {
        // A list of more elements than there are bytes must not be allocated.
        for bytes in [vec![10, 0xff, 0xff, 0xff, 0xff, 0x0f], vec![4; 1], vec![0xff; 40], vec![7, 2, 0xff, 0xff]] {
            let mut io = StateIo::reader(bytes);
            io.value(&mut Value::Null);
            assert!(!io.is_complete());
        }
    }
}
