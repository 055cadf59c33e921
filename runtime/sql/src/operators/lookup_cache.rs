//! The cache in front of a lookup table: bounded, by typed key, with entries that expire.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;

use super::LookupKey;
use crate::value::{Row, Timestamp};

/// Rows by key. When it is full, an entry that was not asked for lately makes room (the clock algorithm, which comes close to
/// "least recently used" without moving anything on a hit).
pub struct LookupCache {
    max_entries: usize,
    ttl_ms: Option<i64>,
    keeps_missing: bool,
    entries: Vec<Entry>,
    /// Places in `entries`.
    places: HashTable<usize>,
    hasher: foldhash::fast::RandomState,
    /// The entry that is looked at next when room is needed.
    hand: usize,
}

struct Entry {
    key: LookupKey,
    hash: u64,
    rows: Arc<Vec<Row>>,
    stored_at: Timestamp,
    /// Asked for since the hand last passed.
    is_used: bool,
}

impl LookupCache {
    /// An empty cache. Its entries are good for `ttl`, or until they are pushed out; that a key has no rows is kept or not.
    pub fn new(max_entries: usize, ttl: Option<Duration>, keeps_missing: bool) -> Self {
        LookupCache {
            max_entries: max_entries.max(1),
            ttl_ms: ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)),
            keeps_missing,
            entries: Vec::new(),
            places: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            hand: 0,
        }
    }

    /// The rows of a key, if they are there and not too old.
    #[inline]
    pub fn get(&mut self, key: &LookupKey, now: Timestamp) -> Option<&Arc<Vec<Row>>> {
        let hash = self.hasher.hash_one(key);
        let entries = &self.entries;
        let is_it = |place: &usize| entries.get(*place).is_some_and(|entry| entry.hash == hash && entry.key == *key);
        let place = *self.places.find(hash, is_it)?;
        let ttl_ms = self.ttl_ms;
        let entry = self.entries.get_mut(place)?;
        if is_expired(entry, ttl_ms, now) {
            return None;
        }
        entry.is_used = true;
        Some(&entry.rows)
    }

    /// Keeps the rows of a key, unless there are none and misses are not kept. True if a live entry had to go for them.
    pub fn put(&mut self, key: &LookupKey, rows: Arc<Vec<Row>>, now: Timestamp) -> bool {
        let hash = self.hasher.hash_one(key);
        let entries = &self.entries;
        let is_it = |place: &usize| entries.get(*place).is_some_and(|entry| entry.hash == hash && entry.key == *key);
        let known = self.places.find(hash, is_it).copied();
        if rows.is_empty() && !self.keeps_missing {
            // What was there before is no longer true; it must not come back when the clock is set back.
            if let Some(entry) = known.and_then(|place| self.entries.get_mut(place)) {
                entry.stored_at = Timestamp::MIN;
                entry.rows = rows;
                entry.is_used = false;
            }
            return false;
        }
        let entry = Entry { key: key.clone(), hash, rows, stored_at: now, is_used: false };
        if let Some(known) = known.and_then(|place| self.entries.get_mut(place)) {
            *known = entry;
            return false;
        }
        let (place, has_evicted) = if self.entries.len() < self.max_entries {
            self.entries.push(entry);
            (self.entries.len() - 1, false)
        } else {
            let (place, was_live) = self.make_room(now);
            if let Some(slot) = self.entries.get_mut(place) {
                *slot = entry;
            }
            (place, was_live)
        };
        let entries = &self.entries;
        self.places.insert_unique(hash, place, |place| entries.get(*place).map_or(0, |entry| entry.hash));
        has_evicted
    }

    /// Entries, expired ones included.
    pub fn n_entries(&self) -> usize {
        self.entries.len()
    }

    /// Takes the entry out of the index that is to be overwritten, and says whether it was still good.
    fn make_room(&mut self, now: Timestamp) -> (usize, bool) {
        loop {
            let place = self.hand;
            self.hand = if place + 1 < self.entries.len() { place + 1 } else { 0 };
            let Some(entry) = self.entries.get_mut(place) else { continue };
            let was_live = !is_expired(entry, self.ttl_ms, now);
            if was_live && std::mem::take(&mut entry.is_used) {
                continue;
            }
            let hash = entry.hash;
            if let Ok(occupied) = self.places.find_entry(hash, |candidate| *candidate == place) {
                occupied.remove();
            }
            return (place, was_live);
        }
    }
}

/// An entry from the future is as good as expired: the clock was set back, and its age can't be told.
fn is_expired(entry: &Entry, ttl_ms: Option<i64>, now: Timestamp) -> bool {
    entry.stored_at == Timestamp::MIN
        || ttl_ms.is_some_and(|ttl_ms| !(0..ttl_ms).contains(&now.saturating_sub(entry.stored_at)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::Value;

    fn cache(max_entries: usize) -> LookupCache {
        LookupCache::new(max_entries, None, false)
    }

    fn key(value: Value) -> LookupKey {
        LookupKey([value].into())
    }

    fn int(number: i64) -> LookupKey {
        key(Value::Int(number))
    }

    fn rows(number: i64) -> Arc<Vec<Row>> {
        Arc::new(vec![Row { ts: 0, values: vec![Value::Int(number)] }])
    }

    fn number(rows: &Arc<Vec<Row>>) -> i64 {
        match rows.first().map(|row| row.get(0)) {
            Some(Value::Int(number)) => *number,
            _ => -1,
        }
    }

    #[test]
    fn keys_are_typed() {
        let mut cache = cache(10);
        cache.put(&int(1), rows(1), 0);
        cache.put(&key(Value::string("1")), rows(2), 0);
        cache.put(&LookupKey([Value::string("a b"), Value::string("c")].into()), rows(3), 0);
        cache.put(&LookupKey([Value::string("a"), Value::string("b c")].into()), rows(4), 0);
        assert_eq!(cache.get(&key(Value::Float(1.0)), 0).map(number), Some(1));
        assert_eq!(cache.get(&key(Value::string("1")), 0).map(number), Some(2));
        assert_eq!(cache.get(&LookupKey([Value::string("a"), Value::string("b c")].into()), 0).map(number), Some(4));
        assert_eq!(cache.n_entries(), 4);
    }

    #[test]
    fn entries_expire_and_are_replaced() {
        let ttl = Some(Duration::from_millis(100));
        let mut cache = LookupCache::new(1, ttl, false);
        cache.put(&int(1), rows(1), 1000);
        assert!(cache.get(&int(1), 1099).is_some());
        assert!(cache.get(&int(1), 1100).is_none(), "too old");
        assert!(cache.get(&int(1), 999).is_none(), "from the future");
        assert!(!cache.put(&int(1), rows(2), 1100));
        assert_eq!(cache.get(&int(1), 1150).map(number), Some(2));
        assert!(!cache.put(&int(2), rows(3), 1500), "an expired entry makes room without being counted");
        assert!(cache.put(&int(3), rows(3), 1500), "a live one is counted");
        assert_eq!(cache.n_entries(), 1);
    }

    #[test]
    fn misses_are_kept_only_if_wanted() {
        let mut cache = cache(10);
        cache.put(&int(1), Arc::default(), 0);
        assert!(cache.get(&int(1), 0).is_none());
        cache.put(&int(1), rows(1), 0);
        cache.put(&int(1), Arc::default(), 0);
        assert!(cache.get(&int(1), 0).is_none(), "the row has gone");
        let mut cache = LookupCache::new(10, None, true);
        cache.put(&int(1), Arc::default(), 0);
        assert_eq!(cache.get(&int(1), 0).map(|rows| rows.len()), Some(0));
    }

    #[test]
    fn what_is_asked_for_stays() {
        let mut cache = cache(10);
        cache.put(&int(0), rows(0), 0);
        for number in 1..1000 {
            assert!(cache.get(&int(0), 0).is_some(), "before entry {number}");
            assert_eq!(cache.put(&int(number), rows(number), 0), number >= 10);
            assert!(cache.n_entries() <= 10);
        }
    }

    proptest! {
        #[test]
        fn never_gives_what_was_not_put(puts in prop::collection::vec((0i64..40, 0i64..1000), 1..300)) {
            let mut cache = cache(7);
            let mut truth = std::collections::HashMap::new();
            for (name, content) in puts {
                cache.put(&int(name), rows(content), 0);
                truth.insert(name, content);
                prop_assert_eq!(cache.get(&int(name), 0).map(number), Some(content));
                for other in 0..40 {
                    if let Some(found) = cache.get(&int(other), 0) {
                        prop_assert_eq!(Some(&number(found)), truth.get(&other));
                    }
                }
                prop_assert!(cache.n_entries() <= 7 && cache.places.len() == cache.n_entries());
            }
        }
    }
}
