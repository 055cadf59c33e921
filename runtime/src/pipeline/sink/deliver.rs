//! Gets messages or rows accepted by the far side: retry with growing pauses, and the search for the one item that spoils a
//! write.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use sluice_sql::value::{Emission, Emissions};
use sluice_sql::{Batch, Row};
use tokio_util::sync::CancellationToken;

use crate::connection::ConnectorContext;
use crate::error::{ConnectorError, Retry};
use crate::pipeline::backoff::Backoff;
use crate::pipeline::metrics::{DropReason, SinkMetrics};
use crate::sink::{Message, Output, Sink, SinkError};

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

    /// Rows in item `idx`.
    fn rows_in(&self, idx: usize) -> u64 {
        match self {
            Part::Messages(messages) => messages.get(idx).map_or(0, |message| message.n_rows as u64),
            Part::Rows(_) => 1,
        }
    }
}

/// The grace period is over: stop at once.
#[derive(Debug)]
pub(super) struct Cut;

/// A sink and what its writes need.
pub(super) struct Delivery {
    pub(super) sink: Box<dyn Sink>,
    pub(super) ctx: ConnectorContext,
    pub(super) metrics: Arc<SinkMetrics>,
    pub(super) max_attempts: Option<u32>,
    pub(super) cut: CancellationToken,
    pub(super) backoff: Backoff,
}

impl Delivery {
    /// Connects, or says why not.
    pub(super) async fn connect_once(&mut self) -> Result<Result<(), ConnectorError>, Cut> {
        let cut = self.cut.clone();
        let connected = tokio::select! {
            biased;
            connected = self.sink.connect(&self.ctx) => connected,
            () = cut.cancelled() => return Err(Cut),
        };
        if let Err(error) = &connected {
            self.ctx.health.down(&error.message);
            self.metrics.errors.report(format_args!("connect: {error}"));
        }
        Ok(connected)
    }

    /// Writes everything, however long it takes; sets aside what the far side will never take.
    pub(super) async fn write_all(&mut self, load: &Load) -> Result<(), Cut> {
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
            let cut = self.cut.clone();
            let started = Instant::now();
            let written = tokio::select! {
                biased;
                written = self.sink.write(part.output()) => written,
                () = cut.cancelled() => {
                    todo.push(items);
                    return Err(self.drop_rest(load, todo));
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
                    let n_rows = refused.iter().map(|idx| part.rows_in(*idx)).sum::<u64>() + n_others as u64;
                    let n_rows = n_rows.min(part.n_rows(n_items));
                    self.metrics.dropped.add(DropReason::Refused, n_rows);
                    self.metrics
                        .errors
                        .report(format_args!("{n_rows} of {} rows refused: {reason}", part.n_rows(n_items)));
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
            let exhausted = self.max_attempts.is_some_and(|max| n_attempts >= max);
            if error.retry != Retry::Never && !exhausted {
                self.ctx.health.down(&error.message);
                self.ctx.health.retry(&error.message);
                self.metrics.errors.report(&error);
                todo.push(rest);
                if self.pause_and_reconnect(error.retry).await.is_err() {
                    return Err(self.drop_rest(load, todo));
                }
                continue;
            }
            n_attempts = 0;
            if found || exhausted {
                let suspect = if found { rest.start..rest.start + 1 } else { rest.clone() };
                let n_rows = load.part(suspect.clone()).n_rows(suspect.len());
                self.metrics.dropped.add(DropReason::Refused, n_rows);
                self.metrics.errors.report(format_args!("{n_rows} rows set aside: {error}"));
                todo.push(suspect.end..rest.end);
            } else {
                let middle = rest.start + rest.len() / 2;
                todo.push(middle..rest.end);
                todo.push(rest.start..middle);
            }
        }
        Ok(())
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
        self.ctx.health.up();
    }

    /// Counts what will not be written any more.
    fn drop_rest(&self, load: &Load, todo: Vec<Range<usize>>) -> Cut {
        let n_rows = todo.into_iter().map(|items| load.part(items.clone()).n_rows(items.len())).sum();
        self.metrics.dropped.add(DropReason::Shutdown, n_rows);
        Cut
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
            () = self.cut.cancelled() => Err(Cut),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }
}
