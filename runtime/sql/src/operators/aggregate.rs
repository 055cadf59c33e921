//! Groups and their accumulators.

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::output::Run;
use crate::expr::{Args, Expr, Failure, Fields, Scope, eval_args, null_result, with_args};
use crate::function::{Accumulators, Body, NullPolicy};
use crate::plan::stages::AggregateCall;
use crate::value::state::StateIo;
use crate::value::{Row, Timestamp, Value};
use std::hash::{BuildHasher, Hasher};

/// Groups in order of first appearance, found by typed key. What each has is in columns, one entry per group: a row touches
/// little memory, however many groups there are.
#[derive(Clone, Default)]
pub(super) struct Groups {
    index: HashTable<u32>,
    hashes: Vec<u64>,
    /// `n_keys` values per group.
    keys: Vec<Value>,
    n_keys: usize,
    /// The slots of each group's first row, where plain columns are read.
    firsts: Vec<Row>,
    /// One per call, as soon as there is a group.
    aggregates: Vec<Aggregate>,
}

/// One aggregate of all groups.
struct Aggregate {
    accumulators: Box<dyn Accumulators>,
    /// With `DISTINCT`, the arguments that each group has seen so far.
    seen: Option<Vec<Seen>>,
    /// The groups that have given it something.
    touched: Vec<bool>,
}

#[derive(Clone, Default)]
struct Seen(HashTable<Box<[Value]>>);

impl Clone for Aggregate {
    fn clone(&self) -> Self {
        let Aggregate { accumulators, seen, touched } = self;
        Aggregate { accumulators: accumulators.boxed_clone(), seen: seen.clone(), touched: touched.clone() }
    }
}

/// A hash that does not change from run to run: output must not either.
fn hash_values(values: &[Value]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    for value in values {
        value.hash_key(&mut hasher);
    }
    hasher.finish()
}

fn same_values(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_key(b))
}

impl Groups {
    /// True without groups.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Adds a row to its group. `first` makes the row that a new group keeps.
    ///
    /// # Errors
    /// If the key or an argument can't be computed; the row is then in no group. A value that an aggregate can't take fails
    /// too, but is left out of that aggregate only.
    pub fn add(
        &mut self,
        keys: &[Expr],
        calls: &[AggregateCall],
        fields: Fields<'_>,
        first: impl FnOnce() -> Row,
        scope: &mut Scope<'_>,
    ) -> Result<(), Box<Failure>> {
        let group = with_args(keys, fields, scope, |key, _| {
            let hash = hash_values(key);
            self.find(hash, key).unwrap_or_else(|| self.push(hash, key, first(), calls))
        })?;
        let mut outcome = Ok(());
        for (aggregate, call) in self.aggregates.iter_mut().zip(calls) {
            if let Err(failure) = aggregate.update(group, call, fields, scope) {
                outcome = Err(failure);
            }
        }
        outcome
    }

    fn key(&self, group: usize) -> &[Value] {
        &self.keys[group * self.n_keys..][..self.n_keys]
    }

    fn find(&self, hash: u64, key: &[Value]) -> Option<usize> {
        let found = self.index.find(hash, |group| same_values(self.key(*group as usize), key));
        found.map(|group| *group as usize)
    }

    /// Makes a group; its number. The first one brings the aggregates with it.
    fn push(&mut self, hash: u64, key: &[Value], first: Row, calls: &[AggregateCall]) -> usize {
        if self.is_empty() {
            self.n_keys = key.len();
            self.aggregates = calls.iter().map(Aggregate::new).collect();
        }
        let Groups { index, hashes, keys, firsts, aggregates, .. } = self;
        let group = hashes.len();
        hashes.push(hash);
        keys.extend_from_slice(key);
        firsts.push(first);
        aggregates.iter_mut().for_each(Aggregate::push);
        index.insert_unique(hash, group as u32, |group| hashes[*group as usize]);
        group
    }

    /// Takes over the groups of later rows.
    pub fn merge(&mut self, later: &Groups) {
        if self.is_empty() {
            self.clone_from(later);
            return;
        }
        for (later_group, hash) in later.hashes.iter().enumerate() {
            let key = later.key(later_group);
            let group = match self.find(*hash, key) {
                Some(group) => group,
                None => self.push(*hash, key, later.firsts[later_group].clone(), &[]),
            };
            for (own, later) in self.aggregates.iter_mut().zip(&later.aggregates) {
                own.touched[group] |= later.touched[later_group];
                // The planner chose this way because these accumulators merge.
                let _ = own.accumulators.merge(group, &*later.accumulators, later_group);
            }
        }
    }

    /// Writes or reads all groups.
    pub fn state(&mut self, calls: &[AggregateCall], io: &mut StateIo) {
        if io.is_reader() {
            *self = Groups::default();
        }
        let mut groups: Vec<usize> = (0..self.hashes.len()).collect();
        io.list(&mut groups, usize::default, |io, group| {
            if io.is_reader() {
                let (mut key, mut first) = (Box::default(), Row::default());
                io.key(&mut key);
                io.row(&mut first);
                if !self.is_empty() && key.len() != self.n_keys {
                    return io.fail();
                }
                *group = self.push(hash_values(&key), &key, first, calls);
            } else {
                io.key(&mut self.key(*group).into());
                io.row(&mut self.firsts[*group]);
            }
            self.aggregates.iter_mut().for_each(|aggregate| aggregate.state(*group, io));
        });
    }

    /// One row per group: the first row's slots, and the aggregates in theirs; with the failure of an aggregate that has no
    /// value. `ts` becomes the rows' time.
    pub fn into_rows(self, calls: &[AggregateCall], ts: Timestamp) -> Vec<(Row, Option<Failure>)> {
        let Groups { firsts, aggregates, .. } = self;
        let result_row = |(group, mut row): (usize, Row)| {
            row.ts = ts;
            let mut failure = None;
            for (aggregate, call) in aggregates.iter().zip(calls) {
                match aggregate.result(group, call) {
                    Ok(value) => set(&mut row.values, call.slot, value),
                    Err(error) => failure = Some(Failure { error, span: call.span }),
                }
            }
            (row, failure)
        };
        firsts.into_iter().enumerate().map(result_row).collect()
    }
}

/// Writes a slot behind the end of the row.
pub(super) fn set(values: &mut Vec<Value>, slot: usize, value: Value) {
    if values.len() <= slot {
        values.resize(slot + 1, Value::Missing);
    }
    values[slot] = value;
}

impl Aggregate {
    fn new(call: &AggregateCall) -> Self {
        let Body::Aggregate(new) = call.function.body else {
            unreachable!("the planner makes aggregate calls of aggregates")
        };
        Aggregate { accumulators: new(), seen: call.distinct.then(Vec::new), touched: Vec::new() }
    }

    /// There is one group more.
    fn push(&mut self) {
        self.accumulators.push();
        self.touched.push(false);
        if let Some(seen) = &mut self.seen {
            seen.push(Seen::default());
        }
    }

    fn update(
        &mut self,
        group: usize,
        call: &AggregateCall,
        fields: Fields<'_>,
        scope: &mut Scope<'_>,
    ) -> Result<(), Box<Failure>> {
        if let Some(filter) = &call.filter
            && !filter.test(fields, scope)?
        {
            return Ok(());
        }
        with_args(&call.args, fields, scope, |args, _| {
            if let Some(Seen(seen)) = self.seen.as_mut().and_then(|seen| seen.get_mut(group)) {
                let hash = hash_values(args);
                if seen.find(hash, |known| same_values(known, args)).is_some() {
                    return Ok(());
                }
                seen.insert_unique(hash, args.into(), |known| hash_values(known));
            }
            self.touched[group] = true;
            self.accumulators.update(group, args).map_err(|error| Box::new(Failure { error, span: call.span }))
        })?
    }

    fn state(&mut self, group: usize, io: &mut StateIo) {
        io.bool(&mut self.touched[group]);
        if let Some(Seen(seen)) = self.seen.as_mut().and_then(|seen| seen.get_mut(group)) {
            let mut keys: Vec<Box<[Value]>> = seen.drain().collect();
            io.list(&mut keys, Box::default, StateIo::key);
            for key in keys {
                seen.insert_unique(hash_values(&key), key, |known| hash_values(known));
            }
        }
        self.accumulators.state(group, io);
    }

    fn result(&self, group: usize, call: &AggregateCall) -> Result<Value, crate::function::EvalError> {
        // Over no rows at all there is nothing to say.
        if !self.touched[group] && call.function.null != NullPolicy::Body {
            return Ok(null_result(call.function.null, &[Value::Null]).unwrap_or(Value::Null));
        }
        if !self.touched[group] {
            return Ok(Value::Null);
        }
        self.accumulators.result(group)
    }
}

/// Aggregates over all rows of a collection, as values by slot. Rows that fail are reported and left out.
///
/// # Errors
/// If an aggregate has no value.
pub(super) fn over_all(
    calls: &[AggregateCall],
    rows: &[Row],
    run: &mut Run<'_>,
) -> Result<Vec<(usize, Value)>, Box<Failure>> {
    let mut groups = Groups::default();
    for row in rows {
        let mut scope = run.scope(row.ts, None);
        if let Err(failure) = groups.add(&[], calls, Fields::of(row), Row::default, &mut scope) {
            run.fail(&failure, Some(row));
        }
    }
    let values = match groups.into_rows(calls, 0).pop() {
        Some((_, Some(failure))) => return Err(Box::new(failure)),
        Some((row, None)) => row.values,
        None => Vec::new(),
    };
    Ok(calls.iter().map(|call| (call.slot, values.get(call.slot).cloned().unwrap_or(Value::Null))).collect())
}

/// Key values of a row.
pub(super) fn key_of(keys: &[Expr], row: &Row, run: &mut Run<'_>) -> Result<Args, Box<Failure>> {
    eval_args(keys, Fields::of(row), &mut run.scope(row.ts, None))
}

/// Something per key: partitions.
pub(super) struct ByKey<T> {
    index: HashTable<u32>,
    entries: Vec<(Box<[Value]>, T)>,
}

impl<T> Default for ByKey<T> {
    fn default() -> Self {
        ByKey { index: HashTable::new(), entries: Vec::new() }
    }
}

impl<T> ByKey<T> {
    /// Writes or reads all entries; `new` makes one to read into.
    pub fn state(&mut self, io: &mut StateIo, new: impl Fn() -> T, each: impl Fn(&mut StateIo, &mut T)) {
        let ByKey { index, entries } = self;
        io.list(
            entries,
            || (Box::default(), new()),
            |io, (key, entry)| {
                io.key(key);
                each(io, entry);
            },
        );
        if io.is_reader() {
            index.clear();
            for (entry_idx, (key, _)) in entries.iter().enumerate() {
                index.insert_unique(hash_values(key), entry_idx as u32, |idx| hash_values(&entries[*idx as usize].0));
            }
        }
    }

    /// What belongs to the key, made if it is new.
    pub fn get_or_insert_with(&mut self, key: &[Value], new: impl FnOnce() -> T) -> &mut T {
        let hash = hash_values(key);
        let ByKey { index, entries } = self;
        let found = index.find(hash, |idx| same_values(&entries[*idx as usize].0, key)).copied();
        let entry_idx = found.unwrap_or_else(|| {
            let entry_idx = entries.len() as u32;
            entries.push((key.into(), new()));
            index.insert_unique(hash, entry_idx, |idx| hash_values(&entries[*idx as usize].0));
            entry_idx
        });
        &mut entries[entry_idx as usize].1
    }
}
