//! Objects: members in the order in which they arrived.

use indexmap::IndexMap;
use smol_str::SmolStr;

use super::Value;

/// The members of a `struct` value or of a whole row, in order of first appearance; a repeated name keeps its place and
/// takes the later value.
#[derive(Clone, Debug, Default)]
pub struct Object(IndexMap<SmolStr, Value, foldhash::fast::RandomState>);

impl Object {
    /// An empty object with room for `n_members`.
    pub fn with_capacity(n_members: usize) -> Self {
        Object(IndexMap::with_capacity_and_hasher(n_members, foldhash::fast::RandomState::default()))
    }

    /// The member's value; `None` if there is no such member.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Sets a member; the order of the others stays.
    pub fn insert(&mut self, name: impl Into<SmolStr>, value: Value) {
        self.0.insert(name.into(), value);
    }

    /// Takes a member out and keeps the order of the rest.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name)
    }

    /// Members in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&SmolStr, &Value)> {
        self.0.iter()
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<SmolStr>> FromIterator<(K, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (K, Value)>>(members: I) -> Self {
        let mut object = Object::default();
        for (name, value) in members {
            object.insert(name, value);
        }
        object
    }
}

impl IntoIterator for Object {
    type Item = (SmolStr, Value);
    type IntoIter = indexmap::map::IntoIter<SmolStr, Value>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
