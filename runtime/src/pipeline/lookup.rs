//! Answers a lookup join's requests: cache, one flight per key, batches, timeout, retry, and the policy when the table can't
//! be asked.
//!
//! Rules that make the same join with a table share one `Lookup`: its connector, its cache and its flights. A flight is a task
//! of its own, so a rule that is held back by its sink, or stopped, holds nobody back who waits for the same key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_sql::Row;
use sluice_sql::operators::{LookupAnswer, LookupCache, LookupKey};
use sluice_sql::plan::LookupPlan;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::connection::{ConnectorContext, Tasks};
use crate::definition::{CacheSettings, LookupTableDef, OnLookupError};
use crate::error::{ConfigError, ConnectorError, Retry};
use crate::lookup::{Found, LookupArgs, LookupSource, TableArgs, TableHandle};
use crate::pipeline::backoff::Backoff;
use crate::pipeline::metrics::LookupMetrics;
use crate::registry::Registry;

/// Keys per call to the table.
const MAX_KEYS: usize = 512;
/// Longest pause between two tries. Rows are dropped or held up meanwhile, so it is shorter than elsewhere.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How long a connector may take to let go of the far side.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Begins what a table does as soon as it is defined. The table does it until the handle is dropped; `None` if there is nothing
/// to do before a rule asks.
///
/// # Errors
/// Every option that is wrong.
pub fn open_table(
    def: &LookupTableDef,
    registry: &Registry,
    ctx: &ConnectorContext,
) -> Result<Option<TableHandle>, ConfigError> {
    registry.lookup(&def.connector)?.open.map(|open| open(&TableArgs::new(def), ctx)).transpose()
}

/// Asks one lookup table for one join of one rule.
pub struct LookupDriver {
    lookup: Arc<Lookup>,
    on_error: OnLookupError,
    ctx: ConnectorContext,
    metrics: Arc<LookupMetrics>,
}

impl LookupDriver {
    /// Checks the table's options; no I/O: the table is connected to when the first key is asked for.
    ///
    /// # Errors
    /// Every option that is wrong.
    pub fn new(
        def: &LookupTableDef,
        plan: &LookupPlan,
        registry: &Registry,
        ctx: ConnectorContext,
        metrics: Arc<LookupMetrics>,
    ) -> Result<Self, ConfigError> {
        let table = TableArgs::new(def);
        let args = LookupArgs { table, key_columns: &plan.key_columns, columns: &plan.columns };
        let source = (registry.lookup(&def.connector)?.build)(&args)?;
        let lookup = ctx.connections.shared(&identity(def, plan), || Lookup::new(source, def, ctx.tasks.clone()));
        Ok(LookupDriver { lookup, on_error: def.on_error, ctx, metrics })
    }

    /// The answer for each key, in their order. Keys are distinct. May be dropped half-way.
    pub async fn answer(&self, keys: &[LookupKey]) -> Vec<LookupAnswer> {
        self.metrics.keys.add(keys.len() as u64);
        let mut answers: Vec<Option<LookupAnswer>> = vec![None; keys.len()];
        let mut waiting = self.claim(keys, &mut answers, true);
        let deadline = Instant::now() + self.lookup.timeout;
        while !waiting.is_empty() {
            let failure = match self.land(waiting, &mut answers).await {
                None => break,
                Some(failure) => failure,
            };
            self.metrics.errors.report(&failure.error);
            self.ctx.health.down(&failure.error.message);
            if !self.worth_waiting(&failure, deadline) {
                break;
            }
            tokio::time::sleep_until(failure.retry_at).await;
            self.ctx.health.retry(&failure.error.message);
            waiting = self.claim(keys, &mut answers, false);
        }
        let mut n_failed = 0;
        let answers = answers.into_iter().map(|answer| {
            answer.unwrap_or_else(|| {
                n_failed += 1;
                self.given_up()
            })
        });
        let answers = answers.collect();
        self.metrics.keys_failed.add(n_failed);
        answers
    }

    fn given_up(&self) -> LookupAnswer {
        match self.on_error {
            OnLookupError::Null => LookupAnswer::Null,
            OnLookupError::Drop | OnLookupError::Retry => LookupAnswer::Drop,
        }
    }

    /// With `retry` for ever; else as long as the lookup's time lasts, but only through the beginning of an outage: once it is
    /// known, rows do not wait for it.
    fn worth_waiting(&self, failure: &Failure, deadline: Instant) -> bool {
        if self.on_error == OnLookupError::Retry {
            return true;
        }
        if failure.error.retry == Retry::Never {
            return false;
        }
        let mut state = self.lookup.state();
        if state.outage.is_known {
            return false;
        }
        state.outage.is_known = failure.retry_at >= deadline;
        !state.outage.is_known
    }

    /// Answers from the cache, joins flights that are under way, and sends off the rest. Empty if everything is answered, or
    /// if the table is known to be away and not to be asked yet.
    fn claim(&self, keys: &[LookupKey], answers: &mut [Option<LookupAnswer>], is_first: bool) -> Vec<Waiting> {
        let now = self.ctx.clock.now();
        let mut waiting = Vec::new();
        let mut flights: Vec<(Vec<LookupKey>, watch::Sender<Option<Landing>>)> = Vec::new();
        let (mut n_hits, mut n_misses, mut n_joined) = (0, 0, 0);
        {
            let state = &mut *self.lookup.state();
            let is_away = self.on_error != OnLookupError::Retry && state.outage.is_away();
            for (key_idx, (key, answer)) in keys.iter().zip(answers.iter_mut()).enumerate() {
                if answer.is_some() {
                    continue;
                }
                if let Some(cache) = &mut state.cache {
                    if let Some(rows) = cache.get(key, now) {
                        *answer = Some(LookupAnswer::Rows(Arc::clone(rows)));
                        n_hits += 1;
                        continue;
                    }
                    n_misses += 1;
                }
                if let Some(Seat { landing, place }) = state.flights.get(key) {
                    waiting.push(Waiting { key_idx, seat: Seat { landing: landing.clone(), place: *place } });
                    n_joined += 1;
                    continue;
                }
                if is_away {
                    continue;
                }
                if flights.last().is_none_or(|(keys, _)| keys.len() == MAX_KEYS) {
                    flights.push((Vec::with_capacity(keys.len().min(MAX_KEYS)), watch::Sender::new(None)));
                }
                if let Some((flying, landing)) = flights.last_mut() {
                    let seat = Seat { landing: landing.subscribe(), place: flying.len() };
                    state.flights.insert(key.clone(), seat.clone());
                    flying.push(key.clone());
                    waiting.push(Waiting { key_idx, seat });
                }
            }
            if let Some(cache) = &state.cache {
                self.metrics.cache_entries.set(cache.n_entries() as u64);
            }
        }
        if is_first {
            self.metrics.cache_hits.add(n_hits);
            self.metrics.cache_misses.add(n_misses);
            self.metrics.joined_flights.add(n_joined);
        }
        for (keys, landing) in flights {
            let flight = Flight { lookup: Arc::clone(&self.lookup), keys, landing };
            self.ctx.tasks.spawn(flight.fly(self.ctx.clone(), Arc::clone(&self.metrics)));
        }
        waiting
    }

    /// Waits for all flights and takes what they bring. Gives the last failure, if there was one that trying again may mend.
    async fn land(&self, waiting: Vec<Waiting>, answers: &mut [Option<LookupAnswer>]) -> Option<Failure> {
        let mut failed = None;
        let mut has_landed = false;
        for Waiting { key_idx, seat: Seat { mut landing, place } } in waiting {
            let landed = match landing.wait_for(Option::is_some).await {
                Ok(landed) => landed.clone(),
                Err(_) => None,
            };
            let outcome = match landed {
                Some(Ok(found)) => {
                    has_landed = true;
                    found.get(place).cloned()
                }
                Some(Err(failure)) => {
                    failed = Some(failure);
                    continue;
                }
                None => None,
            };
            let answer = match outcome {
                Some(Ok(rows)) => LookupAnswer::Rows(rows),
                // This key alone: the table is fine, and asking again would give the same.
                Some(Err(error)) => {
                    self.metrics.errors.report(&error);
                    self.metrics.keys_failed.inc();
                    self.given_up()
                }
                // The connector panicked, or the engine stops.
                None => {
                    let error = ConnectorError::internal("the lookup was cut short");
                    failed = Some(Failure { error, retry_at: Instant::now() + Backoff::FIRST });
                    continue;
                }
            };
            if let Some(slot) = answers.get_mut(key_idx) {
                *slot = Some(answer);
            }
        }
        if has_landed && failed.is_none() {
            self.ctx.health.up();
        }
        failed
    }
}

/// Everything that makes two joins with a table different. It may hold credentials and is never shown.
fn identity(def: &LookupTableDef, plan: &LookupPlan) -> String {
    let LookupTableDef { name, connector, datasource, format, fields, key, cache, timeout, options, .. } = def;
    let options = serde_json::Value::Object(options.0.clone());
    let LookupPlan { key_columns, columns, .. } = plan;
    format!(
        "{name:?} {connector:?} {datasource:?} {format:?} {fields:?} {key:?} {cache:?} {timeout:?} {options} \
         {key_columns:?} {columns:?}"
    )
}

/// A key's place in a flight.
#[derive(Clone)]
struct Seat {
    landing: watch::Receiver<Option<Landing>>,
    place: usize,
}

struct Waiting {
    key_idx: usize,
    seat: Seat,
}

/// What a flight brings: rows or an error for each of its keys, or why it brings nothing.
type Landing = Result<Arc<[Result<Arc<Vec<Row>>, ConnectorError>]>, Failure>;

#[derive(Clone)]
struct Failure {
    error: ConnectorError,
    retry_at: Instant,
}

/// One join with a table, for all rules that make it.
struct Lookup {
    source: Arc<dyn LookupSource>,
    timeout: Duration,
    state: Mutex<State>,
    /// Held while connecting. Holds the number of connections made so far.
    connecting: tokio::sync::Mutex<u64>,
    /// The number of the connection that stands; 0 while there is none.
    connection: AtomicU64,
    tasks: Tasks,
}

struct State {
    cache: Option<LookupCache>,
    /// Keys that are being fetched.
    flights: HashMap<LookupKey, Seat, foldhash::fast::RandomState>,
    outage: Outage,
}

#[derive(Default)]
struct Outage {
    backoff: Backoff,
    /// When the table may be asked again; `None` while it answers.
    retry_at: Option<Instant>,
    /// It lasts for longer than a lookup may take.
    is_known: bool,
}

impl Outage {
    fn is_away(&self) -> bool {
        self.is_known && self.retry_at.is_some_and(|retry_at| Instant::now() < retry_at)
    }

    /// Takes note of a failed call. Calls that fail together count as one.
    fn failed(&mut self, retry: Retry) -> Instant {
        let now = Instant::now();
        match self.retry_at {
            Some(retry_at) if now < retry_at => retry_at,
            _ => *self.retry_at.insert(now + self.backoff.pause(retry).min(MAX_PAUSE)),
        }
    }
}

impl Lookup {
    fn new(source: Arc<dyn LookupSource>, def: &LookupTableDef, tasks: Tasks) -> Self {
        let CacheSettings { enabled, ttl, missing, max_entries } = def.cache;
        let state = State {
            cache: enabled.then(|| LookupCache::new(max_entries, ttl, missing)),
            flights: HashMap::default(),
            outage: Outage::default(),
        };
        Lookup {
            source,
            timeout: def.timeout,
            state: Mutex::new(state),
            connecting: tokio::sync::Mutex::default(),
            connection: AtomicU64::new(0),
            tasks,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the table. A connection that had been standing may have died unnoticed, so its first failure is answered with a
    /// new one at once.
    async fn ask(&self, ctx: &ConnectorContext, keys: &[LookupKey]) -> Result<Vec<Found>, AskError> {
        let stood = self.connection.load(Ordering::Acquire) != 0;
        match self.ask_once(ctx, keys).await {
            Err(AskError { error, .. }) if stood && error.retry == Retry::Backoff => self.ask_once(ctx, keys).await,
            outcome => outcome,
        }
    }

    async fn ask_once(&self, ctx: &ConnectorContext, keys: &[LookupKey]) -> Result<Vec<Found>, AskError> {
        let connection = self.connect(ctx).await.map_err(|error| AskError { error, has_connected: false })?;
        let lost = Lost { lookup: self, connection };
        let found = self.source.lookup(keys).await.map_err(|error| AskError { error, has_connected: true })?;
        if found.len() != keys.len() {
            let message = format!("the table answered {} of {} keys", found.len(), keys.len());
            return Err(AskError { error: ConnectorError::internal(message), has_connected: true });
        }
        lost.disarm();
        Ok(found)
    }

    async fn connect(&self, ctx: &ConnectorContext) -> Result<u64, ConnectorError> {
        match self.connection.load(Ordering::Acquire) {
            0 => {}
            connection => return Ok(connection),
        }
        let mut n_connections = self.connecting.lock().await;
        match self.connection.load(Ordering::Acquire) {
            0 => {}
            connection => return Ok(connection),
        }
        self.source.connect(ctx).await?;
        *n_connections += 1;
        self.connection.store(*n_connections, Ordering::Release);
        Ok(*n_connections)
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        // Without a runtime (a check of definitions) nothing was connected.
        if *self.connecting.get_mut() > 0 && tokio::runtime::Handle::try_current().is_ok() {
            let source = Arc::clone(&self.source);
            self.tasks.spawn(async move {
                // A connector that takes longer is let go as it is.
                let _ = tokio::time::timeout(CLOSE_LIMIT, source.close()).await;
            });
        }
    }
}

/// Marks a connection as lost when a lookup over it fails or is cut short.
struct Lost<'a> {
    lookup: &'a Lookup,
    connection: u64,
}

impl Lost<'_> {
    fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        // Fails if a newer connection stands, which is then left alone.
        let _ = self.lookup.connection.compare_exchange(self.connection, 0, Ordering::AcqRel, Ordering::Acquire);
    }
}

struct AskError {
    error: ConnectorError,
    has_connected: bool,
}

/// Keys on their way to the table and back. Gives their seats free when it ends, however it ends.
struct Flight {
    lookup: Arc<Lookup>,
    keys: Vec<LookupKey>,
    landing: watch::Sender<Option<Landing>>,
}

impl Flight {
    async fn fly(mut self, ctx: ConnectorContext, metrics: Arc<LookupMetrics>) {
        let started = Instant::now();
        let answer = tokio::select! {
            answer = tokio::time::timeout(self.lookup.timeout, self.lookup.ask(&ctx, &self.keys)) => answer,
            () = ctx.tasks.stopped() => return,
        };
        let landing = match answer {
            Ok(Ok(found)) => {
                metrics.fetch_time.observe(started.elapsed(), 1);
                Ok(self.arrive(found, &ctx, &metrics))
            }
            Ok(Err(AskError { error, has_connected })) => Err(self.fail(error, has_connected)),
            Err(_) => {
                metrics.timeouts.inc();
                let text = format!("no answer within {}", sluice_crds::Duration(self.lookup.timeout));
                Err(self.fail(ConnectorError::external(text), true))
            }
        };
        self.landing.send_replace(Some(landing));
    }

    /// Gives what was found to the cache, and the seats free in the same step: who comes later finds one or the other.
    fn arrive(
        &mut self,
        found: Vec<Found>,
        ctx: &ConnectorContext,
        metrics: &LookupMetrics,
    ) -> Arc<[Result<Arc<Vec<Row>>, ConnectorError>]> {
        let found: Arc<[_]> = found.into_iter().map(|found| found.map(Arc::new)).collect();
        let now = ctx.clock.now();
        let keys = std::mem::take(&mut self.keys);
        let state = &mut *self.lookup.state();
        state.outage = Outage::default();
        let mut n_evicted = 0;
        for (key, found) in keys.iter().zip(found.iter()) {
            state.flights.remove(key);
            if let (Some(cache), Ok(rows)) = (&mut state.cache, found) {
                n_evicted += u64::from(cache.put(key, Arc::clone(rows), now));
            }
        }
        if let Some(cache) = &state.cache {
            metrics.cache_entries.set(cache.n_entries() as u64);
        }
        metrics.cache_evictions.add(n_evicted);
        found
    }

    fn fail(&mut self, error: ConnectorError, has_connected: bool) -> Failure {
        let mut state = self.lookup.state();
        let retry_at = state.outage.failed(error.retry);
        if has_connected && error.retry == Retry::Never {
            // The table is there, it only refuses this question: the next one is asked without a pause.
            state.outage = Outage::default();
        } else if error.retry == Retry::Never {
            state.outage.is_known = true;
        }
        drop(state);
        self.leave();
        Failure { error, retry_at }
    }

    fn leave(&mut self) {
        let mut state = self.lookup.state();
        for key in self.keys.drain(..) {
            state.flights.remove(&key);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests;
