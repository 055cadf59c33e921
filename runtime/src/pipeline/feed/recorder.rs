//! Writes down what arrives before it is acknowledged and handed over.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sluice_sql::Timestamp;
use tokio::sync::OwnedMutexGuard;

use super::Hub;
use crate::error::Retry;
use crate::pipeline::backoff::Backoff;
use crate::pipeline::metrics::{DropReason, StreamMetrics};
use crate::source::{Ingest, Items, Mark, Source, SourceContext};
use crate::state::journal::{Journal, Writer};

/// A volume that takes nothing is tried again after this: nobody else is burdened by it.
const VOLUME_PAUSE: Duration = Duration::from_millis(500);

/// A feed's end of its journal.
pub(super) struct Recorder {
    writer: OwnedMutexGuard<Writer>,
    /// How far time has come.
    now: Timestamp,
}

impl Recorder {
    pub fn new(writer: OwnedMutexGuard<Writer>) -> Self {
        Recorder { writer, now: Timestamp::MIN }
    }

    pub fn journal(&self) -> &Arc<Journal> {
        self.writer.journal()
    }

    /// Where the source stood behind the last record.
    pub fn position(&self) -> Option<&str> {
        self.writer.position()
    }

    pub fn sync_due(&self) -> Option<Duration> {
        self.writer.sync_due()
    }

    pub async fn sync(&mut self, metrics: &StreamMetrics) {
        if let Err(error) = self.writer.sync().await {
            metrics.errors.report(format_args!("journal: {error}"));
        }
    }

    /// How far time has come: what arrives from now on does not count as older.
    pub fn time(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.writer.stamp(now).max(self.now);
        self.now
    }

    /// Writes down what has arrived, however often it takes, and gives the time at which it counts as arrived and its offset.
    /// What is known to have been delivered before is taken out. The inner `None`: nothing is left, or no rule needs the
    /// journal now. The outer one: the feed is to stop, and nothing was written down.
    pub async fn take(
        &mut self,
        ingest: &mut Ingest,
        source: &mut dyn Source,
        hub: &mut Hub,
        context: &SourceContext,
    ) -> Option<Option<(Timestamp, u64)>> {
        let mut marks = source.take_marks();
        if !self.writer.journal().is_held() {
            return Some(None);
        }
        if let Items::Payloads(payloads) = &mut ingest.items
            && marks.len() == payloads.len()
        {
            let again = again(&marks, |id| self.writer.knows(id));
            if again.contains(&true) {
                let n_before = payloads.len();
                let mut is_again = again.iter();
                payloads.retain(|_| !is_again.next().copied().unwrap_or_default());
                let mut is_again = again.iter();
                marks.retain(|_| !is_again.next().copied().unwrap_or_default());
                hub.metrics.dropped.add(DropReason::Duplicate, (n_before - payloads.len()) as u64);
            }
        }
        let is_empty = match &ingest.items {
            Items::Payloads(payloads) => payloads.is_empty(),
            Items::Requests(requests) => requests.is_empty(),
            Items::Rows(rows) => rows.is_empty(),
        };
        let position = source.position();
        if is_empty && position.is_none() {
            return Some(None);
        }
        // 0 is the mark of a message that is never delivered again.
        let marks: Vec<u64> = marks.iter().map(|mark| mark.id).filter(|id| *id != 0).collect();
        let mut backoff = Backoff::every(VOLUME_PAUSE);
        loop {
            let time = self.time(context.connector.clock.now());
            let error = match self.writer.append(time, &ingest.items, &marks, position.as_deref()).await {
                Ok(offset) => return Some(Some((time, offset))),
                Err(error) => error,
            };
            hub.metrics.errors.report(format_args!("can't write the journal, and acknowledge nothing: {error}"));
            let pause = backoff.pause(Retry::Backoff);
            hub.obeying(tokio::time::sleep(pause)).await?;
        }
    }
}

/// Which of the messages have been delivered before: they are in the journal, or in front of themselves. The latter happens when a
/// connection is lost while they wait to be written down.
fn again(marks: &[Mark], is_written: impl Fn(u64) -> bool) -> Vec<bool> {
    if !marks.iter().any(|mark| mark.may_be_again) {
        return Vec::new();
    }
    let mut before = HashSet::new();
    let is_again = |mark: &Mark| {
        let is_first = mark.id == 0 || before.insert(mark.id);
        mark.may_be_again && (!is_first || is_written(mark.id))
    };
    marks.iter().map(is_again).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_once_wherever_its_first_copy_is() {
        let first = |id| Mark { id, may_be_again: false };
        let copy = |id| Mark { id, may_be_again: true };
        let again = |marks: &[Mark]| again(marks, |id| id == 7);
        assert_eq!(again(&[copy(7), copy(8)]), [true, false], "in the journal, and never seen");
        assert_eq!(again(&[first(1), first(2), copy(1), copy(2), copy(3)]), [false, false, true, true, false]);
        assert_eq!(again(&[copy(1), copy(1)]), [false, true], "two connections were lost");
        assert!(!again(&[first(7), first(1), first(1)]).contains(&true), "the broker says that they are new");
        assert_eq!(again(&[first(0), copy(1), first(0)]), [false; 3], "without a mark");
    }
}
