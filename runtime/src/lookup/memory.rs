//! `memory`: the rows that other rules write into a memory topic, by key.
//!
//! The table begins to fill when it is defined, not with the first lookup, and keeps what it has until it is no longer
//! defined and no rule uses it. Tables with the same topic, key and limits are one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::operators::LookupKey;
use sluice_sql::{Object, Timestamp, Value};
use smol_str::SmolStr;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Found, LookupArgs, LookupSource, LookupType, OpenedTable, TableArgs, TableCounts, TableHandle};
use crate::connection::ConnectorContext;
use crate::connection::memory::{MemoryBus, MemoryMessage, MemoryRow, RowKind};
use crate::connection::topic::TopicFilter;
use crate::error::{ConfigError, ConnectorError};
use crate::format::slots::Slots;
use crate::options::HumanDuration;
use crate::pipeline::metrics::{Counter, ErrorLog};

/// The lookup table `memory`.
pub(super) const MEMORY: LookupType = LookupType {
    name: "memory",
    docs: "Rows that other rules write into a memory topic. DATASOURCE is the topic, wildcards allowed; KEY is the column that \
           tells rows apart: a row takes the place of the one with its key, unless its kind says otherwise.",
    schema: crate::options::schema_of::<MemoryLookupOptions>,
    build,
    open: Some(open),
};

/// Messages that wait to be taken in, before writers are held back.
const CAPACITY: usize = 64;

/// Options of a `memory` lookup table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
struct MemoryLookupOptions {
    /// Greatest number of rows. When there are more, those that were written longest ago go.
    max_rows: usize,
    /// Rows that were written longer ago are gone; by default they stay.
    ttl: Option<HumanDuration>,
}

impl Default for MemoryLookupOptions {
    fn default() -> Self {
        MemoryLookupOptions { max_rows: 100_000, ttl: None }
    }
}

/// What tells one table from another.
#[derive(Clone, Debug)]
struct Definition {
    topic: TopicFilter,
    key: SmolStr,
    options: MemoryLookupOptions,
}

impl Definition {
    fn new(args: &TableArgs<'_>) -> Result<Self, ConfigError> {
        let options: MemoryLookupOptions = args.options.parse()?;
        if options.max_rows == 0 {
            return Err(ConfigError::new("maxRows", "must be at least 1"));
        }
        let Some(key) = args.key.filter(|key| !key.is_empty()) else {
            return Err(ConfigError::new("", "KEY must name the column that tells the table's rows apart"));
        };
        let topic = TopicFilter::parse(args.datasource)
            .map_err(|error| ConfigError::new("", format!("DATASOURCE must be a memory topic: {error}")))?;
        Ok(Definition { topic, key: key.into(), options })
    }

    /// The process's table of this definition, which begins to fill if it is new.
    fn table(&self, ctx: &ConnectorContext) -> Arc<MemoryTable> {
        let Definition { topic, key, options } = self;
        let identity = format!("{:?} {key:?} {options:?}", topic.as_str());
        // Asked for outside, as `shared` can't be called from within itself.
        let bus = MemoryBus::of(&ctx.connections);
        let mut receiving = None;
        let table = ctx.connections.shared(&identity, || {
            let subscription = bus.subscribe(topic.clone(), CAPACITY);
            let gone = CancellationToken::new();
            let table = MemoryTable {
                key: key.clone(),
                limits: Limits {
                    max_rows: options.max_rows,
                    ttl_ms: options.ttl.map(|ttl| i64::try_from(ttl.0.as_millis()).unwrap_or(i64::MAX)),
                },
                rows: Mutex::default(),
                counts: MemoryCounts::default(),
                errors: ErrorLog::new(None, Some(ctx.name.clone()), Arc::clone(&ctx.clock)),
                _bus: bus,
                _gone: gone.clone().drop_guard(),
            };
            receiving = Some((subscription, gone));
            table
        });
        if let Some((mut subscription, gone)) = receiving {
            let (weak, clock, tasks) = (Arc::downgrade(&table), Arc::clone(&ctx.clock), ctx.tasks.clone());
            ctx.tasks.spawn(async move {
                loop {
                    let message = tokio::select! {
                        message = subscription.next() => message,
                        () = gone.cancelled() => None,
                        () = tasks.stopped() => None,
                    };
                    let (Some(message), Some(table)) = (message, weak.upgrade()) else { return };
                    table.take(&message, clock.now());
                }
            });
        }
        table
    }
}

/// Rows by key.
pub struct MemoryTable {
    key: SmolStr,
    limits: Limits,
    rows: Mutex<Rows>,
    counts: MemoryCounts,
    errors: ErrorLog,
    /// The bus lives as long as somebody holds it.
    _bus: Arc<MemoryBus>,
    /// Ends the task that fills the table.
    _gone: DropGuard,
}

#[derive(Clone, Copy)]
struct Limits {
    max_rows: usize,
    ttl_ms: Option<i64>,
}

/// What a memory table counts.
#[derive(Debug, Default)]
pub struct MemoryCounts {
    /// Rows that were written or removed by key.
    pub rows_in: Counter,
    /// Rows without a value in the key column, which were dropped.
    pub no_key: Counter,
    /// Rows that had to go because the table was full.
    pub evicted: Counter,
}

impl OpenedTable for MemoryTable {
    fn counts(&self) -> TableCounts {
        TableCounts {
            rows: self.len() as u64,
            rows_in: self.counts.rows_in.get(),
            no_key: self.counts.no_key.get(),
            evicted: self.counts.evicted.get(),
        }
    }
}

impl MemoryTable {
    /// Rows in the table.
    pub fn len(&self) -> usize {
        self.rows().by_key.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn rows(&self) -> std::sync::MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, message: &MemoryMessage, now: Timestamp) {
        let mut rows = self.rows();
        let (mut n_evicted, mut n_keyless) = (0, 0);
        for MemoryRow { object, kind, key } in message.rows.iter() {
            let key = object.get(&self.key).or(key.as_ref()).filter(|key| !key.is_null());
            let Some(key) = key.map(|key| LookupKey([key.clone()].into())) else {
                n_keyless += 1;
                continue;
            };
            self.counts.rows_in.inc();
            match kind {
                RowKind::Delete => {
                    rows.by_key.remove(&key);
                }
                // An update of a row that is not there brings it; an insert of one that is takes its place.
                RowKind::Insert | RowKind::Update | RowKind::Upsert => rows.put(key, Arc::clone(object), now),
            }
            n_evicted += rows.shrink(self.limits.max_rows);
        }
        rows.expire(self.limits.ttl_ms, now);
        drop(rows);
        if n_keyless > 0 {
            self.counts.no_key.add(n_keyless);
            let Self { key, .. } = self;
            self.errors.report(format_args!("{n_keyless} rows on topic {} have no column {key}", message.topic));
        }
        if n_evicted > 0 {
            self.counts.evicted.add(n_evicted);
            let Limits { max_rows, .. } = self.limits;
            self.errors.report(format_args!("the table is full ({max_rows} rows): the {n_evicted} oldest had to go"));
        }
    }
}

#[derive(Default)]
struct Rows {
    by_key: HashMap<LookupKey, Stored, foldhash::fast::RandomState>,
    /// Keys in the order in which they were written; those that were written again or removed since are stale.
    order: VecDeque<(LookupKey, u64)>,
    n_writes: u64,
}

struct Stored {
    object: Arc<Object>,
    write: u64,
    at: Timestamp,
}

impl Rows {
    fn put(&mut self, key: LookupKey, object: Arc<Object>, at: Timestamp) {
        self.n_writes += 1;
        self.order.push_back((key.clone(), self.n_writes));
        self.by_key.insert(key, Stored { object, write: self.n_writes, at });
        if self.order.len() > 2 * self.by_key.len() + 16 {
            let by_key = &self.by_key;
            self.order.retain(|(key, write)| by_key.get(key).is_some_and(|stored| stored.write == *write));
        }
    }

    /// Removes the oldest rows until there are at most `max_rows`, and says how many.
    fn shrink(&mut self, max_rows: usize) -> u64 {
        let mut n_evicted = 0;
        while self.by_key.len() > max_rows && self.pop(|_| true) {
            n_evicted += 1;
        }
        n_evicted
    }

    fn expire(&mut self, ttl_ms: Option<i64>, now: Timestamp) {
        let Some(ttl_ms) = ttl_ms else { return };
        while self.pop(|stored| now.saturating_sub(stored.at) >= ttl_ms) {}
    }

    /// Removes the oldest row if `is_wanted`. False if there is none, or it stays.
    fn pop(&mut self, is_wanted: impl Fn(&Stored) -> bool) -> bool {
        while let Some((key, write)) = self.order.front() {
            match self.by_key.get(key) {
                Some(stored) if stored.write == *write => {
                    if !is_wanted(stored) {
                        return false;
                    }
                    self.by_key.remove(key);
                    self.order.pop_front();
                    return true;
                }
                _ => {
                    self.order.pop_front();
                }
            }
        }
        false
    }
}

fn open(args: &TableArgs<'_>, ctx: &ConnectorContext) -> Result<TableHandle, ConfigError> {
    let table: TableHandle = Definition::new(args)?.table(ctx);
    Ok(table)
}

fn build(args: &LookupArgs<'_>) -> Result<Arc<dyn LookupSource>, ConfigError> {
    let definition = Definition::new(&args.table)?;
    let key_place = args.key_columns.iter().position(|column| *column == definition.key);
    Ok(Arc::new(MemoryLookup {
        definition,
        key_place,
        key_columns: args.key_columns.to_vec(),
        slots: args.slots(),
        table: OnceLock::new(),
    }))
}

struct MemoryLookup {
    definition: Definition,
    /// Which of the join's key columns is the table's; without it every row is looked at.
    key_place: Option<usize>,
    key_columns: Vec<SmolStr>,
    slots: Slots,
    table: OnceLock<(Arc<MemoryTable>, ConnectorContext)>,
}

impl MemoryLookup {
    fn matches(&self, object: &Object, key: &LookupKey) -> bool {
        let mut pairs = self.key_columns.iter().zip(&key.0);
        pairs.all(|(column, value)| object.get(column).is_some_and(|found| found.same_key(value)))
    }

    fn found<'a>(&self, objects: impl Iterator<Item = &'a Arc<Object>>) -> Found {
        let row = |object: &Arc<Object>| self.slots.row(Arc::clone(object), 0, None).map_err(ConnectorError::user);
        objects.map(row).collect()
    }
}

#[async_trait]
impl LookupSource for MemoryLookup {
    async fn connect(&self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        self.table.get_or_init(|| (self.definition.table(ctx), ctx.clone()));
        Ok(())
    }

    async fn lookup(&self, keys: &[LookupKey]) -> Result<Vec<Found>, ConnectorError> {
        let Some((table, ctx)) = self.table.get() else {
            return Err(ConnectorError::internal("asked before it was connected"));
        };
        let mut rows = table.rows();
        rows.expire(table.limits.ttl_ms, ctx.clock.now());
        let Some(place) = self.key_place else {
            return Ok(self.scan(&rows, keys));
        };
        let found = keys.iter().map(|key| {
            let primary: Option<&Value> = key.0.get(place);
            let stored = primary.and_then(|primary| rows.by_key.get(&LookupKey([primary.clone()].into())));
            self.found(stored.map(|stored| &stored.object).into_iter().filter(|object| self.matches(object, key)))
        });
        Ok(found.collect())
    }
}

impl MemoryLookup {
    /// One pass over all rows, for joins on other columns than the table's key. Rows of a key come in the order in which they
    /// were written.
    fn scan(&self, rows: &Rows, keys: &[LookupKey]) -> Vec<Found> {
        let mut matching: HashMap<&LookupKey, Vec<(u64, &Arc<Object>)>, foldhash::fast::RandomState> =
            keys.iter().map(|key| (key, Vec::new())).collect();
        for stored in rows.by_key.values() {
            let values: Option<Box<[Value]>> =
                self.key_columns.iter().map(|column| stored.object.get(column).cloned()).collect();
            if let Some(matching) = values.and_then(|values| matching.get_mut(&LookupKey(values))) {
                matching.push((stored.write, &stored.object));
            }
        }
        let found = keys.iter().map(|key| {
            let mut matching = matching.remove(key).unwrap_or_default();
            matching.sort_unstable_by_key(|(write, _)| *write);
            self.found(matching.into_iter().map(|(_, object)| object))
        });
        found.collect()
    }
}

#[cfg(test)]
mod tests;
