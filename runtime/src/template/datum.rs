//! The values that templates compute with.

use std::borrow::Cow;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use sluice_sql::{Object, Value};
use smol_str::SmolStr;

/// A value: one of the data, or one that a function made. Data stays as it is until something looks into it.
#[derive(Clone, Debug)]
pub(super) enum Datum {
    /// null, or what a missing field gives.
    Nothing,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    String(SmolStr),
    Bytes(Bytes),
    Time(Arc<jiff::Zoned>),
    /// A list of the data.
    Array(Arc<Vec<Value>>),
    /// An object of the data.
    Object(Arc<Object>),
    /// A list that a function made.
    List(Rc<Vec<Datum>>),
    /// A map that a function made; `set` changes it in place, for all who hold it.
    Map(Rc<RefCell<BTreeMap<SmolStr, Datum>>>),
}

impl From<&Value> for Datum {
    fn from(value: &Value) -> Self {
        match value {
            Value::Missing | Value::Null => Datum::Nothing,
            Value::Bool(value) => Datum::Bool(*value),
            Value::Int(value) => Datum::Int(*value),
            Value::Uint(value) => Datum::Uint(*value),
            Value::Float(value) => Datum::Float(*value),
            Value::String(value) => Datum::String(value.clone()),
            Value::Bytes(value) => Datum::Bytes(Bytes::clone(value)),
            Value::Datetime(value) => Datum::Time(Arc::clone(value)),
            Value::Array(values) => Datum::Array(Arc::clone(values)),
            Value::Object(object) => Datum::Object(Arc::clone(object)),
            Value::Raw(raw) => Datum::Object(raw.object()),
        }
    }
}

impl From<&Datum> for Value {
    fn from(datum: &Datum) -> Self {
        match datum {
            Datum::Nothing => Value::Null,
            Datum::Bool(value) => Value::Bool(*value),
            Datum::Int(value) => Value::Int(*value),
            Datum::Uint(value) => Value::from_u64(*value),
            Datum::Float(value) => Value::Float(*value),
            Datum::String(value) => Value::String(value.clone()),
            Datum::Bytes(value) => Value::bytes(value.clone()),
            Datum::Time(value) => Value::Datetime(Arc::clone(value)),
            Datum::Array(values) => Value::Array(Arc::clone(values)),
            Datum::Object(object) => Value::Object(Arc::clone(object)),
            Datum::List(items) => Value::Array(Arc::new(items.iter().map(Value::from).collect())),
            Datum::Map(map) => {
                let map = map.borrow();
                Value::Object(Arc::new(map.iter().map(|(name, datum)| (name.clone(), Value::from(datum))).collect()))
            }
        }
    }
}

impl Datum {
    pub(super) fn text(text: impl Into<SmolStr>) -> Self {
        Datum::String(text.into())
    }

    pub(super) fn list(items: Vec<Datum>) -> Self {
        Datum::List(Rc::new(items))
    }

    pub(super) fn map(members: impl IntoIterator<Item = (SmolStr, Datum)>) -> Self {
        Datum::Map(Rc::new(RefCell::new(members.into_iter().collect())))
    }

    /// The kind in messages and for `%T`, `kindOf`, `typeOf`, in Go's words.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Datum::Nothing => "<nil>",
            Datum::Bool(_) => "bool",
            Datum::Int(_) => "int",
            Datum::Uint(_) => "uint64",
            Datum::Float(_) => "float64",
            Datum::String(_) => "string",
            Datum::Bytes(_) => "[]uint8",
            Datum::Time(_) => "time.Time",
            Datum::Array(_) | Datum::List(_) => "[]interface {}",
            Datum::Object(_) | Datum::Map(_) => "map[string]interface {}",
        }
    }

    /// What `if`, `and`, `or`, `not` and `with` see.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Datum::Nothing => false,
            Datum::Bool(value) => *value,
            Datum::Int(value) => *value != 0,
            Datum::Uint(value) => *value != 0,
            Datum::Float(value) => *value != 0.0,
            Datum::String(text) => !text.is_empty(),
            Datum::Time(_) => true,
            _ => self.len().is_some_and(|len| len > 0),
        }
    }

    /// Length of a text (in bytes), list or map.
    pub(super) fn len(&self) -> Option<usize> {
        Some(match self {
            Datum::String(text) => text.len(),
            Datum::Bytes(bytes) => bytes.len(),
            Datum::Array(values) => values.len(),
            Datum::Object(_) => self.members()?.len(),
            Datum::List(items) => items.len(),
            Datum::Map(map) => map.borrow().len(),
            _ => return None,
        })
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Option<Cow<'_, [Datum]>> {
        match self {
            Datum::Array(values) => Some(Cow::Owned(values.iter().map(Datum::from).collect())),
            Datum::List(items) => Some(Cow::Borrowed(items)),
            Datum::Bytes(bytes) => Some(Cow::Owned(bytes.iter().map(|byte| Datum::Int(i64::from(*byte))).collect())),
            _ => None,
        }
    }

    /// Item `idx` of a list.
    pub(super) fn item(&self, idx: usize) -> Option<Datum> {
        match self {
            Datum::Array(values) => values.get(idx).map(Datum::from),
            Datum::List(items) => items.get(idx).cloned(),
            Datum::Bytes(bytes) => bytes.get(idx).map(|byte| Datum::Int(i64::from(*byte))),
            _ => None,
        }
    }

    /// The members of a map, in order of their names.
    pub(super) fn members(&self) -> Option<BTreeMap<SmolStr, Datum>> {
        match self {
            Datum::Object(object) => Some(
                object
                    .iter()
                    .filter(|(_, value)| !matches!(value, Value::Missing))
                    .map(|(name, value)| (name.clone(), Datum::from(value)))
                    .collect(),
            ),
            Datum::Map(map) => Some(map.borrow().clone()),
            _ => None,
        }
    }

    /// Member `name` of a map; the inner `None` if it has none.
    pub(super) fn member(&self, name: &str) -> Option<Option<Datum>> {
        match self {
            Datum::Object(object) => {
                Some(object.get(name).filter(|value| !matches!(value, Value::Missing)).map(Datum::from))
            }
            Datum::Map(map) => Some(map.borrow().get(name).cloned()),
            _ => None,
        }
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self, Datum::Array(_) | Datum::List(_))
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self, Datum::Object(_) | Datum::Map(_))
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Datum::Int(int) => Some(*int as f64),
            Datum::Uint(uint) => Some(*uint as f64),
            Datum::Float(float) => Some(*float),
            _ => None,
        }
    }

    /// Numbers and texts in order, whatever the numbers' kinds; `None` for what has no common order.
    pub(super) fn compare(&self, other: &Datum) -> Option<Ordering> {
        match (self, other) {
            (Datum::Int(a), Datum::Int(b)) => Some(a.cmp(b)),
            (Datum::Uint(a), Datum::Uint(b)) => Some(a.cmp(b)),
            (Datum::Int(_), Datum::Uint(_)) => Some(Ordering::Less),
            (Datum::Uint(_), Datum::Int(_)) => Some(Ordering::Greater),
            (Datum::String(a), Datum::String(b)) => Some(a.cmp(b)),
            (Datum::Time(a), Datum::Time(b)) => Some(a.timestamp().cmp(&b.timestamp())),
            _ => self.as_float()?.partial_cmp(&other.as_float()?),
        }
    }

    /// Equal by value, numbers whatever their kind; deep for lists and maps.
    pub(super) fn same(&self, other: &Datum) -> bool {
        match (self, other) {
            (Datum::Nothing, Datum::Nothing) => true,
            (Datum::Bool(a), Datum::Bool(b)) => a == b,
            (Datum::Bytes(a), Datum::Bytes(b)) => a == b,
            _ => match (self.items(), other.items()) {
                (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.same(b)),
                (None, None) => match (self.members(), other.members()) {
                    (Some(a), Some(b)) => {
                        a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| a.same(b)))
                    }
                    _ => self.compare(other) == Some(Ordering::Equal),
                },
                _ => false,
            },
        }
    }
}
