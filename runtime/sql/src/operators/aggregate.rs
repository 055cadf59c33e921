//! Groups and their accumulators.

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::output::Run;
use crate::expr::{Args, Expr, Failure, Fields, Scope, eval_args, null_result, with_args};
use crate::function::{Accumulator, Body, NullPolicy};
use crate::plan::stages::AggregateCall;
use crate::value::state::StateIo;
use crate::value::{Row, Timestamp, Value};
use std::hash::{BuildHasher, Hasher};

/// Groups in order of first appearance, found by typed key.
#[derive(Clone, Default)]
pub(super) struct Groups {
    index: HashTable<u32>,
    groups: Vec<Group>,
}

/// One group.
#[derive(Clone)]
struct Group {
    key: Box<[Value]>,
    hash: u64,
    /// The slots of the group's first row, where plain columns are read.
    first: Row,
    accumulators: Box<[Aggregate]>,
}

/// One aggregate of one group.
struct Aggregate {
    accumulator: Box<dyn Accumulator>,
    /// With `DISTINCT`, the arguments seen so far.
    seen: Option<Seen>,
    touched: bool,
}

#[derive(Clone, Default)]
struct Seen(HashTable<Box<[Value]>>);

impl Clone for Aggregate {
    fn clone(&self) -> Self {
        Aggregate { accumulator: self.accumulator.boxed_clone(), seen: self.seen.clone(), touched: self.touched }
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
        self.groups.is_empty()
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
        let Groups { index, groups } = self;
        let found = with_args(keys, fields, scope, |key, _| {
            let hash = hash_values(key);
            let is_same = |idx: &u32| groups.get(*idx as usize).is_some_and(|group| same_values(&group.key, key));
            match index.find(hash, is_same) {
                Some(group_idx) => Ok(*group_idx as usize),
                None => Err((hash, Box::from(key))),
            }
        })?;
        let group_idx = found.unwrap_or_else(|(hash, key)| {
            let group_idx = groups.len();
            groups.push(Group { key, hash, first: first(), accumulators: calls.iter().map(Aggregate::new).collect() });
            index.insert_unique(hash, group_idx as u32, |idx| groups[*idx as usize].hash);
            group_idx
        });
        let mut outcome = Ok(());
        for (aggregate, call) in groups[group_idx].accumulators.iter_mut().zip(calls) {
            if let Err(failure) = aggregate.update(call, fields, scope) {
                outcome = Err(failure);
            }
        }
        outcome
    }

    /// Takes over the groups of later rows.
    pub fn merge(&mut self, later: &Groups) {
        for group in &later.groups {
            let Groups { index, groups } = self;
            let found = index.find(group.hash, |idx| same_values(&groups[*idx as usize].key, &group.key)).copied();
            let Some(group_idx) = found else {
                let group_idx = groups.len() as u32;
                groups.push(group.clone());
                index.insert_unique(group.hash, group_idx, |idx| groups[*idx as usize].hash);
                continue;
            };
            for (own, other) in groups[group_idx as usize].accumulators.iter_mut().zip(&group.accumulators) {
                own.touched |= other.touched;
                // The planner chose this way because these accumulators merge.
                let _ = own.accumulator.merge(&*other.accumulator);
            }
        }
    }

    /// Writes or reads all groups.
    pub fn state(&mut self, calls: &[AggregateCall], io: &mut StateIo) {
        let new = || Group {
            key: Box::default(),
            hash: 0,
            first: Row::default(),
            accumulators: calls.iter().map(Aggregate::new).collect(),
        };
        io.list(&mut self.groups, new, |io, group| {
            io.key(&mut group.key);
            io.row(&mut group.first);
            group.accumulators.iter_mut().for_each(|aggregate| aggregate.state(io));
        });
        if io.is_reader() {
            let Groups { index, groups } = self;
            index.clear();
            for group in &mut *groups {
                group.hash = hash_values(&group.key);
            }
            for (group_idx, group) in groups.iter().enumerate() {
                index.insert_unique(group.hash, group_idx as u32, |idx| groups[*idx as usize].hash);
            }
        }
    }

    /// One row per group: the first row's slots, and the aggregates in theirs; with the failure of an aggregate that has no
    /// value. `ts` becomes the rows' time.
    pub fn into_rows(self, calls: &[AggregateCall], ts: Timestamp) -> Vec<(Row, Option<Failure>)> {
        let mut rows = Vec::with_capacity(self.groups.len());
        for group in self.groups {
            let Group { first: mut row, accumulators, .. } = group;
            row.ts = ts;
            let mut failure = None;
            for (aggregate, call) in accumulators.iter().zip(calls) {
                match aggregate.result(call) {
                    Ok(value) => set(&mut row.values, call.slot, value),
                    Err(error) => failure = Some(Failure { error, span: call.span }),
                }
            }
            rows.push((row, failure));
        }
        rows
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
        Aggregate { accumulator: new(), seen: call.distinct.then(Seen::default), touched: false }
    }

    fn update(&mut self, call: &AggregateCall, fields: Fields<'_>, scope: &mut Scope<'_>) -> Result<(), Box<Failure>> {
        if let Some(filter) = &call.filter
            && !filter.test(fields, scope)?
        {
            return Ok(());
        }
        with_args(&call.args, fields, scope, |args, _| {
            if let Some(Seen(seen)) = &mut self.seen {
                let hash = hash_values(args);
                if seen.find(hash, |known| same_values(known, args)).is_some() {
                    return Ok(());
                }
                seen.insert_unique(hash, args.into(), |known| hash_values(known));
            }
            self.touched = true;
            self.accumulator.update(args).map_err(|error| Box::new(Failure { error, span: call.span }))
        })?
    }

    fn state(&mut self, io: &mut StateIo) {
        io.bool(&mut self.touched);
        if let Some(Seen(seen)) = &mut self.seen {
            let mut keys: Vec<Box<[Value]>> = seen.drain().collect();
            io.list(&mut keys, Box::default, StateIo::key);
            for key in keys {
                seen.insert_unique(hash_values(&key), key, |known| hash_values(known));
            }
        }
        self.accumulator.state(io);
    }

    fn result(&self, call: &AggregateCall) -> Result<Value, crate::function::EvalError> {
        // Over no rows at all there is nothing to say.
        if !self.touched && call.function.null != NullPolicy::Body {
            return Ok(null_result(call.function.null, &[Value::Null]).unwrap_or(Value::Null));
        }
        if !self.touched {
            return Ok(Value::Null);
        }
        self.accumulator.result()
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
