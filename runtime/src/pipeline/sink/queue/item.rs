//! What waits for a sink, and its form on disk.

use std::sync::Arc;

use bytes::Bytes;
use sluice_sql::value::state::StateIo;
use sluice_sql::value::{Column, ColumnKind};
use sluice_sql::{Batch, Schema, Type};
use smol_str::SmolStr;

use crate::pipeline::memory::batch_bytes;
use crate::sink::{Message, Prop, Props};

/// What a sink is given in one piece.
#[derive(Clone, Debug)]
pub enum Item {
    /// For a sink that takes messages.
    Message(Message),
    /// For a sink that takes rows.
    Rows(Arc<Batch>),
}

impl Item {
    /// Rows that it carries.
    pub fn n_rows(&self) -> u64 {
        match self {
            Item::Message(message) => message.n_rows as u64,
            Item::Rows(batch) => batch.rows.len() as u64,
        }
    }

    /// About how much memory it takes.
    pub fn n_bytes(&self) -> u64 {
        match self {
            Item::Message(message) => message.body.len() as u64 + size_of::<Message>() as u64,
            Item::Rows(batch) => batch_bytes(batch),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut io = StateIo::writer();
        let mut item = self.clone();
        item.state(&mut io);
        io.into_bytes()
    }

    pub(super) fn decode(bytes: Vec<u8>) -> Option<Item> {
        let mut io = StateIo::reader(bytes);
        let mut item = Item::Rows(Arc::default());
        item.state(&mut io);
        io.is_complete().then_some(item)
    }

    /// Writes the item, or reads it.
    fn state(&mut self, io: &mut StateIo) {
        let mut is_message = matches!(self, Item::Message(_));
        io.bool(&mut is_message);
        if io.is_reader() && is_message {
            *self = Item::Message(Message { body: Bytes::new(), props: Props::default(), n_rows: 0 });
        }
        match self {
            Item::Message(message) => {
                io.bytes(&mut message.body);
                io.size(&mut message.n_rows);
                let mut props = message.props.0.to_vec();
                io.list(&mut props, || Prop::None, prop);
                if io.is_reader() {
                    message.props = Props(props.into());
                }
            }
            Item::Rows(batch) => rows(batch, io),
        }
    }
}

fn prop(io: &mut StateIo, prop: &mut Prop) {
    let mut kind = match prop {
        Prop::None => 0,
        Prop::Text(_) => 1,
        Prop::Map(_) => 2,
    };
    io.byte(&mut kind);
    if io.is_reader() {
        *prop = match kind {
            0 => Prop::None,
            1 => Prop::Text(String::new()),
            2 => Prop::Map(Vec::new()),
            _ => return io.fail(),
        };
    }
    match prop {
        Prop::None => {}
        Prop::Text(value) => text(io, value),
        Prop::Map(entries) => io.list(entries, Default::default, |io, (key, value)| {
            text(io, key);
            text(io, value);
        }),
    }
}

fn text(io: &mut StateIo, value: &mut String) {
    let mut small = SmolStr::new(&*value);
    io.text(&mut small);
    if io.is_reader() {
        *value = small.to_string();
    }
}

/// Names, kinds and values. Types of columns that sinks look at are kept; of how the rows fall into results nothing is, since
/// sinks write rows.
fn rows(batch: &mut Arc<Batch>, io: &mut StateIo) {
    let mut columns = batch.schema.columns.clone();
    let new = || Column { name: SmolStr::default(), kind: ColumnKind::Field, ty: Type::Any };
    io.list(&mut columns, new, |io, column| {
        io.text(&mut column.name);
        let mut kind = match column.kind {
            ColumnKind::Field => 0,
            ColumnKind::Star => 1,
            ColumnKind::Meta => 2,
            ColumnKind::Hidden => 3,
        };
        io.byte(&mut kind);
        let mut ty = match column.ty {
            Type::Number => 1,
            Type::Int => 2,
            Type::Float => 3,
            Type::String => 4,
            Type::Bool => 5,
            Type::Bytes => 6,
            Type::Datetime => 7,
            Type::Any | Type::Array(_) | Type::Struct(_) => 0,
        };
        io.byte(&mut ty);
        if io.is_reader() {
            column.kind = match kind {
                0 => ColumnKind::Field,
                1 => ColumnKind::Star,
                2 => ColumnKind::Meta,
                3 => ColumnKind::Hidden,
                _ => return io.fail(),
            };
            column.ty = match ty {
                1 => Type::Number,
                2 => Type::Int,
                3 => Type::Float,
                4 => Type::String,
                5 => Type::Bool,
                6 => Type::Bytes,
                7 => Type::Datetime,
                _ => Type::Any,
            };
        }
    });
    let mut rows = batch.rows.clone();
    io.list(&mut rows, Default::default, StateIo::row);
    if io.is_reader() {
        *batch = Arc::new(Batch::per_row(Arc::new(Schema { columns }), rows));
    }
}

#[cfg(test)]
mod tests {
    use sluice_sql::{Object, Row, Value};

    use super::*;

    #[test]
    fn items_come_back_as_they_were() {
        let props = [Prop::Text("a/b".into()), Prop::None, Prop::Map(vec![("k".into(), "v".into())])];
        let message = Message { body: Bytes::from_static(b"\x00body"), props: Props(props.to_vec().into()), n_rows: 3 };
        let column = |name: &str, kind, ty| Column { name: name.into(), kind, ty };
        let columns = vec![
            column("n", ColumnKind::Field, Type::Number),
            column("s", ColumnKind::Star, Type::Any),
            column("h", ColumnKind::Hidden, Type::Datetime),
        ];
        let object = Value::Object(Arc::new(Object::from_iter([("x", Value::Float(0.5))])));
        let rows = vec![
            Row { ts: 7, values: vec![Value::Int(i64::MIN), object, Value::Null] },
            Row { ts: -1, values: vec![Value::string("text")] },
        ];
        let batch = Arc::new(Batch::per_row(Arc::new(Schema { columns }), rows));
        for item in [Item::Message(message), Item::Rows(batch)] {
            let bytes = item.encode();
            let back = Item::decode(bytes.clone()).unwrap();
            assert_eq!(format!("{back:?}"), format!("{item:?}"));
            for n_bytes in 0..bytes.len() {
                assert!(Item::decode(bytes[..n_bytes].to_vec()).is_none(), "cut after {n_bytes} bytes");
            }
        }
    }
}
