//! The task that feeds one sink of a rule: shapes results, collects batches, writes with retry.
//!
//! Everything that has arrived is written together, in order. While the far side does not answer, nothing more is taken from
//! the channel, so the rule waits. What can never be written is set aside and counted.

mod deliver;
mod options;
mod project;
mod shape;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use sluice_sql::value::{Column, ColumnKind, Emission, Emissions};
use sluice_sql::{Batch, Row, Schema, Type, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::connection::ConnectorContext;
use crate::definition::SinkDef;
use crate::error::ConfigError;
use crate::pipeline::backoff::Backoff;
use crate::pipeline::metrics::{DropReason, SinkMetrics};
use crate::registry::Registry;
use crate::sink::{SinkArgs, Takes};
use crate::template::Surroundings;

use deliver::{Cut, Delivery, Load};
pub use options::SinkOptions;

pub use crate::format::compression::Compression;
use shape::Shaper;

/// Batches that are taken from the channel at once.
const MAX_BATCHES: usize = 64;

/// Feeds one sink of a rule.
pub struct SinkDriver {
    takes: Takes,
    shaper: Shaper,
    batcher: Option<Batcher>,
    delivery: Delivery,
}

impl SinkDriver {
    /// Checks a sink's options and makes its driver; no I/O. `index` is the sink's place in the rule, `output` describes the
    /// rule's rows.
    ///
    /// # Errors
    /// Every option that is wrong.
    pub fn new(
        rule: &str,
        index: usize,
        def: &SinkDef,
        output: &Arc<Schema>,
        registry: &Registry,
        ctx: ConnectorContext,
        metrics: Arc<SinkMetrics>,
    ) -> Result<Self, ConfigError> {
        let sink_type = registry.sink(&def.connector)?;
        // Mistakes on both sides are reported together.
        let (common, own) = options::split(def, sink_type);
        let mut problems = ConfigError::default();
        let options = SinkOptions::read(&common).unwrap_or_else(|error| {
            problems.problems.extend(error.problems);
            SinkOptions::default()
        });
        let surroundings = Surroundings::at(ctx.clock.now());
        let shaper = Shaper::new(&options, &own, sink_type, registry, surroundings, Arc::clone(&metrics));
        let sink = (sink_type.build)(&SinkArgs {
            rule,
            index,
            output,
            options: &own,
            format: &options.format,
            compression: options.compression,
        });
        let (shaper, sink) = match (shaper, sink) {
            (Ok(shaper), Ok(sink)) if problems.problems.is_empty() => (shaper, sink),
            (shaper, sink) => {
                for error in [shaper.err(), sink.err()].into_iter().flatten() {
                    problems.problems.extend(error.problems);
                }
                // A sink may check its templates itself, too.
                let mut seen = Vec::new();
                problems.problems.retain(|problem| {
                    let is_new = !seen.contains(problem);
                    seen.push(problem.clone());
                    is_new
                });
                return Err(problems);
            }
        };
        let batcher = (options.batch_size > 0 || !options.linger_interval.0.is_zero())
            .then(|| Batcher::new(options.batch_size, options.linger_interval.0));
        let delivery = Delivery {
            sink,
            ctx,
            metrics,
            max_attempts: options.max_attempts,
            cut: CancellationToken::new(),
            backoff: Backoff::default(),
        };
        Ok(SinkDriver { takes: sink_type.takes, shaper, batcher, delivery })
    }

    /// Writes what comes through the channel until it is closed and drained, then flushes and closes the sink. When `cut` is
    /// cancelled (the grace period is over), it returns at once and counts what was not written.
    pub async fn run(mut self, mut results: mpsc::Receiver<Arc<Batch>>, cut: CancellationToken) {
        self.delivery.cut = cut.clone();
        if self.feed(&mut results).await.is_err() {
            let n_held = self.batcher.as_ref().map_or(0, Batcher::n_rows);
            let mut n_waiting = 0;
            while let Ok(batch) = results.try_recv() {
                n_waiting += count_rows(&batch);
            }
            self.delivery.metrics.rows_in.add(n_waiting);
            self.delivery.metrics.dropped.add(DropReason::Shutdown, n_held + n_waiting);
        }
        self.delivery.finish().await;
    }

    async fn feed(&mut self, results: &mut mpsc::Receiver<Arc<Batch>>) -> Result<(), Cut> {
        let mut batches = Vec::with_capacity(MAX_BATCHES);
        if self.connect(results, &mut batches).await? == Connected::NothingToWrite {
            return Ok(());
        }
        let cut = self.delivery.cut.clone();
        let mut rows = Vec::new();
        self.shape_all(&mut batches, &mut rows);
        self.write(&mut rows).await?;
        loop {
            let due = self.batcher.as_ref().and_then(Batcher::due);
            let n_received = tokio::select! {
                biased;
                () = cut.cancelled() => return Err(Cut),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
                n_received = results.recv_many(&mut batches, MAX_BATCHES) => Some(n_received),
            };
            self.shape_all(&mut batches, &mut rows);
            if matches!(n_received, None | Some(0)) {
                self.flush_batcher(self.delivery.ctx.clock.now(), &mut rows);
            }
            self.write(&mut rows).await?;
            if n_received == Some(0) {
                return Ok(());
            }
        }
    }

    /// Connects, however long it takes. The first results are taken meanwhile, to see whether there will be any at all: a rule
    /// that stops need not wait for a sink that it has nothing for.
    async fn connect(
        &mut self,
        results: &mut mpsc::Receiver<Arc<Batch>>,
        batches: &mut Vec<Arc<Batch>>,
    ) -> Result<Connected, Cut> {
        loop {
            let Err(error) = self.delivery.connect_once().await? else { return Ok(Connected::Yes) };
            let pause = tokio::time::sleep(self.delivery.backoff.pause(error.retry));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    biased;
                    () = self.delivery.cut.cancelled() => {
                        let n_rows = batches.iter().map(|batch| count_rows(batch)).sum();
                        self.delivery.metrics.rows_in.add(n_rows);
                        self.delivery.metrics.dropped.add(DropReason::Shutdown, n_rows);
                        return Err(Cut);
                    }
                    n_received = results.recv_many(batches, MAX_BATCHES), if batches.is_empty() => {
                        if n_received == 0 {
                            return Ok(Connected::NothingToWrite);
                        }
                    }
                    () = &mut pause => break,
                }
            }
        }
    }

    fn shape_all(&mut self, batches: &mut Vec<Arc<Batch>>, rows: &mut Vec<Arc<Batch>>) {
        let now = self.delivery.ctx.clock.now();
        for batch in batches.drain(..) {
            self.delivery.metrics.rows_in.add(count_rows(&batch));
            self.shape(batch, now, rows);
        }
    }

    async fn write(&mut self, rows: &mut Vec<Arc<Batch>>) -> Result<(), Cut> {
        let load = match self.takes {
            Takes::Messages => Load::Messages(self.shaper.take_messages()),
            Takes::Rows => Load::Rows(std::mem::take(rows)),
        };
        self.delivery.write_all(&load).await
    }

    fn shape(&mut self, batch: Arc<Batch>, now: i64, rows_out: &mut Vec<Arc<Batch>>) {
        let has_errors =
            matches!(&batch.emissions, Emissions::Grouped(emissions) if emissions.iter().any(|e| e.error.is_some()));
        if self.takes == Takes::Rows && self.batcher.is_none() && !has_errors && self.shaper.passes_rows() {
            if !batch.rows.is_empty() {
                rows_out.push(batch);
            }
            return;
        }
        match &batch.emissions {
            Emissions::PerRow => {
                for row_idx in 0..batch.rows.len() {
                    self.shape_result(&batch, row_idx..row_idx + 1, now, rows_out);
                }
            }
            Emissions::Grouped(emissions) => {
                let mut start = 0;
                for Emission { end, error, .. } in emissions {
                    match error {
                        Some(error) => self.shape_error(error, now, rows_out),
                        None => self.shape_result(&batch, start..*end, now, rows_out),
                    }
                    start = *end;
                }
            }
        }
    }

    fn shape_result(&mut self, batch: &Arc<Batch>, rows: Range<usize>, now: i64, rows_out: &mut Vec<Arc<Batch>>) {
        match &mut self.batcher {
            Some(batcher) => {
                batcher.add(batch, rows);
                if batcher.is_full() {
                    self.flush_batcher(now, rows_out);
                }
            }
            None => match self.takes {
                Takes::Messages => self.shaper.add_messages(batch, rows, false, now),
                Takes::Rows => rows_out.extend(self.shaper.add_rows(batch, rows, false, now).map(Arc::new)),
            },
        }
    }

    fn shape_error(&mut self, error: &Arc<str>, now: i64, rows_out: &mut Vec<Arc<Batch>>) {
        let batch = Arc::new(error_batch(error, now));
        match (&mut self.batcher, self.takes) {
            (Some(_), _) => self.shape_result(&batch, 0..1, now, rows_out),
            (None, Takes::Messages) => self.shaper.add_error(&batch, now),
            (None, Takes::Rows) => rows_out.push(batch),
        }
    }

    fn flush_batcher(&mut self, now: i64, rows_out: &mut Vec<Arc<Batch>>) {
        let Some((batch, rows)) = self.batcher.as_mut().and_then(Batcher::take) else { return };
        match self.takes {
            Takes::Messages => self.shaper.add_messages(&batch, rows, true, now),
            Takes::Rows => rows_out.extend(self.shaper.add_rows(&batch, rows, true, now).map(Arc::new)),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Connected {
    Yes,
    /// The channel was closed before anything came through it.
    NothingToWrite,
}

/// Rows of a batch; an error in place of rows counts as one.
fn count_rows(batch: &Batch) -> u64 {
    let n_errors = match &batch.emissions {
        Emissions::PerRow => 0,
        Emissions::Grouped(emissions) => emissions.iter().filter(|emission| emission.error.is_some()).count(),
    };
    (batch.rows.len() + n_errors) as u64
}

/// The row that an error makes.
fn error_batch(error: &Arc<str>, now: i64) -> Batch {
    let column = Column { name: "error".into(), kind: ColumnKind::Field, ty: Type::String };
    let row = Row { ts: now, values: vec![Value::string(&**error)] };
    Batch::per_row(Arc::new(Schema { columns: vec![column] }), vec![row])
}

/// Collects results until there are enough, or the first has waited long enough.
struct Batcher {
    max_results: usize,
    linger: Duration,
    pieces: Vec<(Arc<Batch>, Range<usize>)>,
    n_results: usize,
    due: Option<Instant>,
}

impl Batcher {
    fn new(max_results: usize, linger: Duration) -> Self {
        Batcher { max_results, linger, pieces: Vec::new(), n_results: 0, due: None }
    }

    fn add(&mut self, batch: &Arc<Batch>, rows: Range<usize>) {
        self.n_results += 1;
        if self.due.is_none() && !self.linger.is_zero() {
            self.due = Some(Instant::now() + self.linger);
        }
        match self.pieces.last_mut() {
            Some((last, last_rows)) if Arc::ptr_eq(last, batch) && last_rows.end == rows.start => {
                last_rows.end = rows.end
            }
            _ => self.pieces.push((Arc::clone(batch), rows)),
        }
    }

    fn is_full(&self) -> bool {
        self.max_results > 0 && self.n_results >= self.max_results
    }

    /// When the first result has waited long enough.
    fn due(&self) -> Option<Instant> {
        self.due
    }

    fn n_rows(&self) -> u64 {
        self.pieces.iter().map(|(_, rows)| rows.len() as u64).sum()
    }

    /// Everything collected, joined; `None` without any result.
    fn take(&mut self) -> Option<(Arc<Batch>, Range<usize>)> {
        self.due = None;
        self.n_results = 0;
        let mut pieces = std::mem::take(&mut self.pieces);
        if pieces.len() <= 1 {
            return pieces.pop();
        }
        let schema = Arc::clone(&pieces.first()?.0.schema);
        let same_schema = pieces.iter().all(|(batch, _)| batch.schema == schema);
        let mut rows = Vec::new();
        for (batch, range) in &pieces {
            let part = batch.rows.get(range.clone()).unwrap_or_default();
            if same_schema {
                rows.extend_from_slice(part);
            } else {
                rows.extend(
                    part.iter().map(|row| Row {
                        ts: row.ts,
                        values: vec![Value::Object(Arc::new(batch.schema.to_object(row)))],
                    }),
                );
            }
        }
        let star = || Schema { columns: vec![Column { name: "row".into(), kind: ColumnKind::Star, ty: Type::Any }] };
        let schema = if same_schema { schema } else { Arc::new(star()) };
        let n_rows = rows.len();
        Some((Arc::new(Batch::per_row(schema, rows)), 0..n_rows))
    }
}
