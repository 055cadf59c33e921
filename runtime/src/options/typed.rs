//! A config out of options whose names and types have been settled: a deserializer that knows where it is.
//!
//! It is the only one that configs are read with, also when nothing but their names is wanted: each other one would bring a copy
//! of all their code. For the same reason a struct is read from a map, a number from a number and so on, and from nothing else.

use std::cell::Cell;
use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Error as _, Unexpected, Visitor};
use serde_json::{Value, map};

use crate::error::ConfigProblem;

/// Reads a config.
///
/// # Errors
/// The first thing that does not fit. Serde's messages quote it.
pub(super) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, ConfigProblem> {
    T::deserialize(Node::Value(value)).map_err(|Misfit(problem)| problem)
}

/// The names that the type's `Deserialize` takes, aliases included; empty for types with flattened fields.
pub(super) fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    let names = Cell::default();
    // Fails by design, after it has seen the names.
    let _ = T::deserialize(Node::Names(&names));
    names.get()
}

/// What a config is read from.
#[derive(Clone, Copy)]
enum Node<'de> {
    Value(&'de Value),
    /// Nothing: what a struct asks for is noted here.
    Names(&'de Cell<&'static [&'static str]>),
}

impl<'de> Node<'de> {
    fn value(self) -> Result<&'de Value, Misfit> {
        match self {
            Node::Value(value) => Ok(value),
            Node::Names(_) => Err(Misfit::custom("only the names are wanted")),
        }
    }
}

fn unexpected<T>(value: &Value, expected: &dyn de::Expected) -> Result<T, Misfit> {
    let found = match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(_) => Unexpected::Other("number"),
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    };
    Err(Misfit::invalid_type(found, expected))
}

fn read_bool<'de, V: Visitor<'de>>(node: Node<'de>, visitor: V) -> Result<V::Value, Misfit> {
    match node.value()? {
        Value::Bool(value) => visitor.visit_bool(*value),
        value => unexpected(value, &visitor),
    }
}

fn read_number<'de, V: Visitor<'de>>(node: Node<'de>, visitor: V) -> Result<V::Value, Misfit> {
    let value = node.value()?;
    if let Some(n) = value.as_u64() {
        visitor.visit_u64(n)
    } else if let Some(n) = value.as_i64() {
        visitor.visit_i64(n)
    } else if let Some(n) = value.as_f64() {
        visitor.visit_f64(n)
    } else {
        unexpected(value, &visitor)
    }
}

fn read_text<'de, V: Visitor<'de>>(node: Node<'de>, visitor: V) -> Result<V::Value, Misfit> {
    match node.value()? {
        Value::String(text) => visitor.visit_borrowed_str(text),
        value => unexpected(value, &visitor),
    }
}

fn read_list<'de, V: Visitor<'de>>(node: Node<'de>, visitor: V) -> Result<V::Value, Misfit> {
    match node.value()? {
        Value::Array(list) => visitor.visit_seq(Items { list, next: 0 }),
        value => unexpected(value, &visitor),
    }
}

fn read_map<'de, V: Visitor<'de>>(node: Node<'de>, visitor: V) -> Result<V::Value, Misfit> {
    match node.value()? {
        Value::Object(map) => visitor.visit_map(Entries { entries: map.iter(), current: None }),
        value => unexpected(value, &visitor),
    }
}

/// Methods that read one kind of value.
macro_rules! of_kind {
    ($($read:ident: $($method:ident)*;)*) => {
        $($(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
                $read(self, visitor)
            }
        )*)*
    };
}

impl<'de> de::Deserializer<'de> for Node<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value()? {
            Value::Null => visitor.visit_unit(),
            Value::Bool(_) => read_bool(self, visitor),
            Value::Number(_) => read_number(self, visitor),
            Value::String(_) => read_text(self, visitor),
            Value::Array(_) => read_list(self, visitor),
            Value::Object(_) => read_map(self, visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.value()?.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        read_list(self, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        if let Node::Names(names) = self {
            names.set(fields);
        }
        read_map(self, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.value()? {
            Value::String(name) => visitor.visit_enum(Variant { name, content: None }),
            Value::Object(map) if map.len() == 1 => {
                let (name, content) = map.iter().next().ok_or_else(|| Misfit::custom("the map is empty"))?;
                visitor.visit_enum(Variant { name, content: Some(content) })
            }
            value => unexpected(value, &visitor),
        }
    }

    of_kind! {
        read_bool: deserialize_bool;
        read_number: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
            deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64;
        read_text: deserialize_str deserialize_string;
        read_list: deserialize_seq;
        read_map: deserialize_map;
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple_struct identifier
    }
}

/// The entries of a list.
struct Items<'de> {
    list: &'de [Value],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Misfit;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Misfit> {
        let Some(item) = self.list.get(self.next) else { return Ok(None) };
        let item_idx = self.next;
        self.next += 1;
        seed.deserialize(Node::Value(item)).map(Some).map_err(|error| error.below(&format!("[{item_idx}]")))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.list.len() - self.next)
    }
}

/// The entries of a map.
struct Entries<'de> {
    entries: map::Iter<'de>,
    /// The entry whose name has been read.
    current: Option<(&'de str, &'de Value)>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Misfit;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Misfit> {
        let Some((name, value)) = self.entries.next() else { return Ok(None) };
        self.current = Some((name, value));
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some).map_err(|error: Misfit| error.below(name))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Misfit> {
        let (name, value) = self.current.take().ok_or_else(|| Misfit::custom("a value comes behind its name"))?;
        seed.deserialize(Node::Value(value)).map_err(|error| error.below(name))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// A variant: its name alone, or a map from it to what it holds.
struct Variant<'de> {
    name: &'de str,
    content: Option<&'de Value>,
}

impl<'de> Variant<'de> {
    /// What it holds; nothing is as good as `null`.
    fn read<T>(self, read: impl FnOnce(Node<'de>) -> Result<T, Misfit>) -> Result<T, Misfit> {
        read(Node::Value(self.content.unwrap_or(&Value::Null))).map_err(|error| error.below(self.name))
    }
}

impl<'de> de::EnumAccess<'de> for Variant<'de> {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Misfit> {
        Ok((seed.deserialize(BorrowedStrDeserializer::<Misfit>::new(self.name))?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'de> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        self.read(de::Deserialize::deserialize)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Misfit> {
        self.read(|node| seed.deserialize(node))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.read(|node| read_list(node, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Misfit> {
        self.read(|node| read_map(node, visitor))
    }
}

/// What does not fit.
#[derive(Debug)]
struct Misfit(ConfigProblem);

impl Misfit {
    /// The same, seen from outside: `place` is a name or `[index]`.
    fn below(self, place: &str) -> Self {
        let Misfit(ConfigProblem { path, message }) = self;
        let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
        Misfit(ConfigProblem { path: format!("{place}{dot}{path}"), message })
    }
}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Misfit(ConfigProblem { path: String::new(), message: message.to_string() })
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Misfit {}
