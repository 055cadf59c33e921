//! Gets messages or rows accepted by the far side: retry with growing pauses, and the search for the one item that spoils a
//! write.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use sluice_sql::value::{Emission, Emissions};
use sluice_sql::{Batch, Row, Value};
use tokio_util::sync::CancellationToken;

use crate::connection::ConnectorContext;
use crate::error::{ConnectorError, Retry};
use crate::pipeline::backoff::Backoff;
use crate::pipeline::metrics::{Circuit, DropReason, SinkMetrics};
use crate::sink::{Message, Output, Sink, SinkError};

use super::alternate::Switch;
use super::aside::{Aside, DeadLetters};
use super::queue::{Item, Queue};

/// What is to be written, in order.
pub(super) enum Load {
    Messages(Vec<Message>),
    Rows(Vec<Arc<Batch>>),
}

impl Load {
    pub(super) fn n_items(&self) -> usize {
        match self {
            Load::Messages(messages) => messages.len(),
            Load::Rows(batches) => batches.iter().map(|batch| batch.rows.len()).sum(),
        }
    }

    /// What a queue held.
    pub(super) fn from_items(items: Vec<Item>) -> Load {
        let (mut messages, mut batches) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                Item::Message(message) => messages.push(message),
                Item::Rows(batch) => batches.push(batch),
            }
        }
        if batches.is_empty() { Load::Messages(messages) } else { Load::Rows(batches) }
    }

    /// For a queue.
    pub(super) fn into_items(self) -> Vec<Item> {
        match self {
            Load::Messages(messages) => messages.into_iter().map(Item::Message).collect(),
            Load::Rows(batches) => batches.into_iter().map(Item::Rows).collect(),
        }
    }

    /// How many of the queue's items are whole in the first `n_items` of ours: batches count there, rows here.
    pub(super) fn n_whole(&self, n_items: usize) -> usize {
        match self {
            Load::Messages(_) => n_items,
            Load::Rows(batches) => {
                let mut n_left = n_items;
                let fits = |batch: &&Arc<Batch>| {
                    let fits = batch.rows.len() <= n_left;
                    n_left = n_left.saturating_sub(batch.rows.len());
                    fits
                };
                batches.iter().take_while(fits).count()
            }
        }
    }

    /// Rows in some of the items.
    pub(super) fn n_rows(&self, items: Range<usize>) -> u64 {
        let n_items = items.len();
        self.part(items).n_rows(n_items)
    }

    fn part(&self, items: Range<usize>) -> Part<'_> {
        match self {
            Load::Messages(messages) => Part::Messages(messages.get(items).unwrap_or_default()),
            Load::Rows(batches) if items == (0..self.n_items()) => Part::Rows(Cow::Borrowed(batches)),
            Load::Rows(batches) => {
                let mut part = Vec::new();
                let mut start = 0;
                for batch in batches {
                    let end = start + batch.rows.len();
                    let (from, to) = (items.start.max(start), items.end.min(end));
                    if from == start && to == end {
                        part.push(Arc::clone(batch));
                    } else if from < to {
                        part.push(Arc::new(rows_of(batch, from - start..to - start)));
                    }
                    start = end;
                }
                Part::Rows(Cow::Owned(part))
            }
        }
    }
}

/// A batch with some of another one's rows; results that lie across the borders are cut.
fn rows_of(batch: &Batch, rows: Range<usize>) -> Batch {
    let emissions = match &batch.emissions {
        Emissions::PerRow => Emissions::PerRow,
        Emissions::Grouped(emissions) => Emissions::Grouped(
            emissions
                .iter()
                .filter(|emission| emission.end > rows.start)
                .map(|emission| Emission { end: emission.end.min(rows.end) - rows.start, ..emission.clone() })
                .collect(),
        ),
    };
    let rows: Vec<Row> = batch.rows.get(rows).unwrap_or_default().to_vec();
    Batch { schema: Arc::clone(&batch.schema), rows, emissions }
}

enum Part<'a> {
    Messages(&'a [Message]),
    Rows(Cow<'a, [Arc<Batch>]>),
}

impl Part<'_> {
    fn output(&self) -> Output<'_> {
        match self {
            Part::Messages(messages) => Output::Messages(messages),
            Part::Rows(batches) => Output::Rows(batches),
        }
    }

    /// Rows in the first `n_items` items.
    fn n_rows(&self, n_items: usize) -> u64 {
        match self {
            Part::Messages(messages) => messages.iter().take(n_items).map(|message| message.n_rows as u64).sum(),
            Part::Rows(_) => n_items as u64,
        }
    }

    fn n_bytes(&self, n_items: usize) -> u64 {
        match self {
            Part::Messages(messages) => messages.iter().take(n_items).map(|message| message.body.len() as u64).sum(),
            Part::Rows(_) => 0,
        }
    }

    /// Items as dead letters.
    fn asides(&self, items: Vec<usize>, reason: &str) -> Vec<Aside> {
        match self {
            Part::Messages(messages) => {
                let aside = |message: &Message| Aside {
                    reason: reason.to_owned(),
                    n_rows: message.n_rows as u64,
                    payload: Some(message.body.clone()),
                    row: None,
                };
                items.into_iter().filter_map(|idx| messages.get(idx)).map(aside).collect()
            }
            Part::Rows(batches) => {
                let row_at = |idx: usize| {
                    let mut start = 0;
                    for batch in batches.iter() {
                        if let Some(row) = batch.rows.get(idx - start) {
                            return Some(Value::Object(Arc::new(batch.schema.to_object(row))));
                        }
                        start += batch.rows.len();
                    }
                    None
                };
                let aside = |idx| Aside { reason: reason.to_owned(), n_rows: 1, payload: None, row: row_at(idx) };
                items.into_iter().map(aside).collect()
            }
        }
    }

    /// Rows in item `idx`.
    fn rows_in(&self, idx: usize) -> u64 {
        match self {
            Part::Messages(messages) => messages.get(idx).map_or(0, |message| message.n_rows as u64),
            Part::Rows(_) => 1,
        }
    }
}

/// The grace period is over: stop at once.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// Items of the load that are written or set aside; those behind them are not.
    pub(super) n_settled: usize,
}

/// A sink and what its writes need.
pub(super) struct Delivery {
    pub(super) sink: Box<dyn Sink>,
    pub(super) ctx: ConnectorContext,
    pub(super) metrics: Arc<SinkMetrics>,
    pub(super) max_attempts: Option<u32>,
    pub(super) cut: CancellationToken,
    pub(super) backoff: Backoff,
    /// Where what can't be written goes.
    pub(super) dead_letters: Option<DeadLetters>,
    /// Where results go while the far side does not answer.
    pub(super) switch: Option<Switch>,
    /// Items of the newest load that the far side will never take.
    pub(super) refused: Vec<Range<usize>>,
    /// The newest write failed: only another one shows that writes go again.
    pub(super) has_failed: bool,
}

impl Delivery {
    /// Connects, or says why not.
    pub(super) async fn connect_once(&mut self) -> Result<Result<(), ConnectorError>, Cut> {
        let cut = self.cut.clone();
        let connected = tokio::select! {
            biased;
            connected = self.sink.connect(&self.ctx) => connected,
            () = cut.cancelled() => return Err(Cut::default()),
        };
        match &connected {
            Ok(()) if self.has_failed => {}
            Ok(()) => {
                self.metrics.circuit.set(Circuit::Closed);
                if !self.ctx.health.state().reports_itself {
                    self.ctx.health.up();
                }
            }
            Err(error) => {
                self.metrics.circuit.set(Circuit::Open);
                self.ctx.health.down(&error.message);
                self.metrics.errors.report(format_args!("connect: {error}"));
            }
        }
        Ok(connected)
    }

    /// While there is nothing to write: completes when the sink says that its connection is gone. What a failed write has said
    /// does not count, only another write shows how that stands; nor is a sink waited for that has an alternate one.
    pub(super) fn lost(&self) -> impl Future<Output = ()> + use<> {
        let is_mended = !self.has_failed && self.switch.is_none();
        let health = is_mended.then(|| self.ctx.health.clone());
        async move {
            match health {
                Some(health) => health.lost().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Writes everything, however long it takes; sets aside what the far side will never take. A `queue` that the load is from
    /// is told when the far side fails.
    pub(super) async fn write_all(&mut self, load: &Load, queue: Option<&Queue>) -> Result<(), Cut> {
        self.refused.clear();
        // Ranges still to be written, the next one last.
        let everything = 0..load.n_items();
        let mut todo = vec![everything];
        let mut n_attempts = 0;
        while let Some(items) = todo.pop() {
            if items.is_empty() {
                continue;
            }
            let part = load.part(items.clone());
            let n_items = items.len();
            // While the pause is not over, or the connection is not back, the other sink gets it.
            let is_open = self.switch.as_ref().is_some_and(Switch::is_open);
            let is_half_open = self.switch.as_ref().is_some_and(Switch::is_half_open);
            if is_open
                || is_half_open && self.connect_once().await.map_err(|_| Cut { n_settled: items.start })?.is_err()
            {
                self.divert(&part).await;
                n_attempts = 0;
                continue;
            }
            let cut = self.cut.clone();
            let started = Instant::now();
            let written = tokio::select! {
                biased;
                written = self.sink.write(part.output()) => written,
                () = cut.cancelled() => {
                    return Err(Cut { n_settled: items.start });
                }
            };
            // Is it known that the item behind those written is the one at fault?
            let (n_written, error, found) = match written {
                Ok(()) => {
                    self.accepted(part.n_rows(n_items), part.n_bytes(n_items), started);
                    n_attempts = 0;
                    continue;
                }
                Err(SinkError::Refused { items: refused, n_others, reason }) => {
                    match n_others {
                        0 => self.refused.extend(refused.iter().map(|idx| items.start + idx..items.start + idx + 1)),
                        // Which ones is not known.
                        _ => self.refused.push(items.clone()),
                    }
                    let n_rows = refused.iter().map(|idx| part.rows_in(*idx)).sum::<u64>() + n_others as u64;
                    let n_rows = n_rows.min(part.n_rows(n_items));
                    self.metrics.dropped.add(DropReason::Refused, n_rows);
                    self.metrics
                        .errors
                        .report(format_args!("{n_rows} of {} rows refused: {reason}", part.n_rows(n_items)));
                    let mut asides = part.asides(refused, &reason);
                    if n_others > 0 {
                        asides.push(Aside { reason, n_rows: n_others as u64, payload: None, row: None });
                    }
                    self.set_aside(asides).await;
                    self.accepted(part.n_rows(n_items).saturating_sub(n_rows), part.n_bytes(n_items), started);
                    n_attempts = 0;
                    continue;
                }
                Err(SinkError::Failed(error)) => (0, error, n_items == 1),
                Err(SinkError::Stopped { n_written, error }) => (n_written.min(n_items - 1), error, true),
            };
            if n_written > 0 {
                self.accepted(part.n_rows(n_written), part.n_bytes(n_written), started);
                n_attempts = 0;
            }
            let rest = items.start + n_written..items.end;
            n_attempts += 1;
            let exhausted = self.switch.is_none() && self.max_attempts.is_some_and(|max| n_attempts >= max);
            if error.retry != Retry::Never && !exhausted {
                self.has_failed = true;
                self.ctx.health.down(&error.message);
                self.ctx.health.retry(&error.message);
                self.metrics.errors.report(&error);
                self.metrics.circuit.set(Circuit::Open);
                if self.switch.as_ref().is_some_and(|switch| switch.gives_up(n_attempts, self.max_attempts)) {
                    let part = load.part(rest);
                    self.divert(&part).await;
                    n_attempts = 0;
                    continue;
                }
                let n_settled = rest.start;
                todo.push(rest);
                if let Some(queue) = queue {
                    queue.outage(true).await;
                }
                if self.pause_and_reconnect(error.retry).await.is_err() {
                    return Err(Cut { n_settled });
                }
                continue;
            }
            n_attempts = 0;
            if found || exhausted {
                let suspect = if found { rest.start..rest.start + 1 } else { rest.clone() };
                let n_rows = load.part(suspect.clone()).n_rows(suspect.len());
                self.metrics.dropped.add(DropReason::Refused, n_rows);
                self.metrics.errors.report(format_args!("{n_rows} rows set aside: {error}"));
                let reason = if exhausted {
                    format!("given up after {} tries: {error}", self.max_attempts.unwrap_or(1))
                } else {
                    error.to_string()
                };
                let asides = load.part(suspect.clone()).asides((0..suspect.len()).collect(), &reason);
                self.set_aside(asides).await;
                self.refused.push(suspect.clone());
                todo.push(suspect.end..rest.end);
            } else {
                let middle = rest.start + rest.len() / 2;
                todo.push(middle..rest.end);
                todo.push(rest.start..middle);
            }
        }
        if let Some(queue) = queue {
            queue.outage(false).await;
        }
        Ok(())
    }

    /// With an alternate sink, a first try to connect is enough: true if there is one.
    pub(super) async fn try_first(&mut self) -> Result<bool, Cut> {
        if self.switch.is_none() {
            return Ok(false);
        }
        if self.connect_once().await?.is_err() {
            let pause = self.backoff.pause(Retry::Backoff);
            if let Some(switch) = &mut self.switch {
                switch.open(pause);
            }
        }
        Ok(true)
    }

    /// Gives what can't be written now to the alternate sink.
    async fn divert(&mut self, part: &Part<'_>) {
        let pause = self.backoff.pause(Retry::Backoff);
        let Some(switch) = &mut self.switch else { return };
        if !switch.is_open() {
            switch.open(pause);
        }
        let items = match part {
            Part::Messages(messages) => messages.iter().cloned().map(Item::Message).collect(),
            Part::Rows(batches) => batches.iter().cloned().map(Item::Rows).collect(),
        };
        let n_rows = match part {
            Part::Messages(messages) => part.n_rows(messages.len()),
            Part::Rows(batches) => batches.iter().map(|batch| batch.rows.len() as u64).sum(),
        };
        self.metrics.circuit.set(Circuit::Open);
        if switch.send(items).await {
            self.metrics.diverted.add(n_rows);
        } else {
            self.metrics.dropped.add(DropReason::Shutdown, n_rows);
        }
    }

    /// Sends what can't be written to the sink for dead letters, if there is one.
    pub(super) async fn set_aside(&mut self, asides: Vec<Aside>) {
        if let Some(dead_letters) = &self.dead_letters {
            dead_letters.send(asides).await;
        }
    }

    /// Lets the sink push out what it holds.
    pub(super) async fn flush(&mut self) -> Result<Result<(), SinkError>, Cut> {
        let cut = self.cut.clone();
        tokio::select! {
            biased;
            flushed = self.sink.flush() => Ok(flushed),
            () = cut.cancelled() => Err(Cut { n_settled: 0 }),
        }
    }

    /// Lets the sink push out what it holds, and closes it.
    pub(super) async fn finish(&mut self) {
        let cut = self.cut.clone();
        let sink = &mut self.sink;
        let flushed = tokio::select! {
            biased;
            flushed = async {
                let flushed = sink.flush().await;
                sink.close().await;
                flushed
            } => flushed,
            () = cut.cancelled() => Ok(()),
        };
        if let Err(error) = flushed {
            self.metrics.errors.report(format_args!("flush: {error}"));
        }
    }

    fn accepted(&mut self, n_rows: u64, n_bytes: u64, started: Instant) {
        self.metrics.rows_out.add(n_rows);
        self.metrics.bytes_out.add(n_bytes);
        self.metrics.write_time.observe(started.elapsed(), 1);
        self.backoff.reset();
        self.has_failed = false;
        if let Some(switch) = &mut self.switch {
            switch.close();
        }
        self.metrics.circuit.set(Circuit::Closed);
        self.ctx.health.up();
    }

    /// Waits and connects again, however often it takes.
    async fn pause_and_reconnect(&mut self, retry: Retry) -> Result<(), Cut> {
        self.pause(retry).await?;
        while let Err(error) = self.connect_once().await? {
            self.pause(error.retry).await?;
        }
        Ok(())
    }

    async fn pause(&mut self, retry: Retry) -> Result<(), Cut> {
        let pause = self.backoff.pause(retry);
        tokio::select! {
            biased;
            () = self.cut.cancelled() => Err(Cut::default()),
            () = tokio::time::sleep(pause) => {
                self.metrics.circuit.set(Circuit::HalfOpen);
                Ok(())
            }
        }
    }
}
