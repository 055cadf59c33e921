//! The side of a feed that hands rows to the rules and obeys the engine meanwhile.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sluice_sql::{Batch, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::recorder::Recorder;
use super::resume::Awaited;
use super::{Command, Place, Signal, Subscriber, SubscriberId, parts};
use crate::error::ConnectorError;
use crate::pipeline::backoff::Backoff;
use crate::pipeline::channel::TrySendError;
use crate::pipeline::decode::StreamDecoder;
use crate::pipeline::metrics::{DropReason, StreamMetrics};
use crate::pipeline::receipt::Receipt;
use crate::source::{Ingest, Source, SourceContext};
use crate::state::OpenJournal;
use crate::time::Clock;

/// A full journal is looked at again after this.
const FULL_PAUSE: Duration = Duration::from_millis(100);
/// What a feed has besides its source: so that commands are obeyed while the source is waited for.
pub(super) struct Hub {
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) subscribers: Vec<Subscriber>,
    /// Rules that still read the journal.
    pub(super) resuming: Vec<(SubscriberId, Weak<Awaited>)>,
    pub(super) decoder: StreamDecoder,
    pub(super) metrics: Arc<StreamMetrics>,
    pub(super) cut_short: CancellationToken,
    pub(super) n_delivered: u64,
    pub(super) is_stopping: bool,
    pub(super) clock: Arc<dyn Clock>,
    /// Writes down what arrives.
    pub(super) recorder: Option<Recorder>,
    /// A journal to be kept from the next step on.
    pub(super) to_record: Option<OpenJournal>,
    /// How many rules have not begun yet.
    pub(super) n_beginning: watch::Receiver<usize>,
    /// The record that is delivered next.
    pub(super) next: u64,
    /// Rules that want to know how far time has come.
    pub(super) time_wanted: Vec<SubscriberId>,
    pub(super) is_delivering: bool,
}

impl Hub {
    /// Waits for `work` and obeys commands meanwhile; `None` if the feed is to stop, and then `work` is dropped.
    pub(super) async fn obeying<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            if self.is_stopping {
                return None;
            }
            let sync_due = self.recorder.as_ref().and_then(Recorder::sync_due);
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    self.obey(command);
                    self.tell_time();
                }
                result = &mut work => return Some(result),
                () = tokio::time::sleep(sync_due.unwrap_or_default()), if sync_due.is_some() => {
                    if let Some(recorder) = &mut self.recorder {
                        recorder.sync(&self.metrics).await;
                    }
                }
            }
        }
    }

    /// Obeys what has been asked so far.
    pub(super) fn obey_all(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.obey(Some(command));
        }
    }

    fn obey(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Subscribe { schema, mut subscriber, replaces }) => {
                self.decoder.set_schema(schema);
                let replaced = self.subscribers.iter_mut().find(|old| Some(old.id) == replaces);
                match replaced {
                    Some(old) => {
                        subscriber.n_delivered = old.n_delivered;
                        *old = subscriber;
                    }
                    None => {
                        subscriber.n_delivered = self.n_delivered;
                        self.subscribers.push(subscriber);
                    }
                }
            }
            Some(Command::Resume { schema, id, awaited }) => {
                self.decoder.set_schema(schema);
                self.resuming.push((id, awaited));
            }
            Some(Command::Record(open)) => self.to_record = Some(open),
            Some(Command::Join { subscriber, left, answer }) => self.join(subscriber, &left, answer),
            Some(Command::Time(id)) => self.time_wanted.push(id),
            Some(Command::Unsubscribe(id)) => {
                self.subscribers.retain(|subscriber| subscriber.id != id);
                self.resuming.retain(|(resuming, _)| *resuming != id);
            }
            // Without an engine nobody could stop the feed later.
            Some(Command::Stop) | None => self.is_stopping = true,
        }
    }

    /// Writes down if need be, acknowledges, decodes and hands over; `None` if the feed stopped before it was written down, or
    /// the grace period ended.
    pub(super) async fn take(
        &mut self,
        mut ingest: Ingest,
        source: &mut dyn Source,
        context: &SourceContext,
    ) -> Option<()> {
        let arrived = Instant::now();
        let ack = ingest.ack;
        if let Some(open) = self.to_record.take() {
            self.record(open).await?;
        }
        if self.recorder.is_some() {
            let mut n_beginning = self.n_beginning.clone();
            // It fails when the engine has let go of the feed, and then nobody begins any more.
            self.obeying(async move { n_beginning.wait_for(|n| *n == 0).await.is_ok() }).await?;
        }
        let receipt = Receipt::of(&ingest.items);
        let recorded = match self.recorder.take() {
            None => None,
            Some(mut recorder) => {
                // Before it is written: a rule may read it at once.
                let record = recorder.journal().end();
                self.await_resuming(|awaited| receipt.iter().for_each(|receipt| awaited.add(record, receipt)));
                let recorded = recorder.take(&mut ingest, source, self, context).await;
                self.recorder = Some(recorder);
                let recorded = recorded?;
                if recorded.is_none() {
                    self.await_resuming(|awaited| awaited.take_back(record));
                }
                recorded
            }
        };
        let now = recorded.map_or_else(|| context.connector.clock.now(), |(time, _)| time);
        let batch = self.decoder.decode(ingest, now, &self.metrics);
        let n_rows = batch.rows.len() as u64;
        // Senders that wait have heard by now how their messages were read.
        if let (Some(_), Some(ack)) = (recorded, ack) {
            source.ack(ack);
            self.metrics.ack_time.observe(arrived.elapsed(), 1);
        }
        if let Some((_, offset)) = recorded {
            self.next = offset + 1;
        }
        self.is_delivering = true;
        let delivered = self.deliver_all(batch, arrived, recorded, receipt).await;
        self.is_delivering = false;
        self.tell_time();
        delivered?;
        match (recorded, ack) {
            (Some(_), _) => {}
            // The rules have failed or left just now: whoever sent it must not take it for done.
            (None, _) if self.subscribers.is_empty() => self.metrics.dropped.add(DropReason::Shutdown, n_rows),
            (None, Some(ack)) => source.ack(ack),
            (None, None) => {}
        }
        Some(())
    }

    /// Tells those that will read from the journal what their senders wait for.
    fn await_resuming(&mut self, tell: impl Fn(&Awaited)) {
        self.resuming.retain(|(_, awaited)| awaited.upgrade().inspect(|awaited| tell(awaited)).is_some());
    }

    async fn deliver_all(
        &mut self,
        batch: Batch,
        arrived: Instant,
        recorded: Option<(Timestamp, u64)>,
        receipt: Option<Receipt>,
    ) -> Option<()> {
        let mut parts = parts(batch);
        while let Some((batch, part, is_last)) = parts.next() {
            let n_rows = batch.rows.len() as u64;
            let place = recorded.map(|(time, offset)| Place { time, offset, part, is_last });
            let receipt = receipt.clone();
            let delivered = self.deliver(Signal::Rows { batch: Arc::new(batch), arrived, place, receipt }).await;
            if delivered.is_none() {
                // What is in a journal is processed after the next start.
                if recorded.is_none() {
                    let n_more: u64 = parts.map(|(batch, ..)| batch.rows.len() as u64).sum();
                    self.metrics.dropped.add(DropReason::Shutdown, n_rows + n_more);
                }
                return None;
            }
        }
        Some(())
    }

    /// Keeps a journal from now on; waits until whoever wrote it before has let go.
    pub(super) async fn record(&mut self, open: OpenJournal) -> Option<()> {
        let writer = self.obeying(open.writer.lock_owned()).await?;
        // The clock may have been set back since then, also before this start.
        self.clock.not_before(writer.stamp(Timestamp::MIN));
        let recorder = Recorder::new(writer);
        self.next = recorder.journal().end();
        self.recorder = Some(recorder);
        Some(())
    }

    /// Waits while the journal is full.
    pub(super) async fn room(&mut self) -> Option<()> {
        let mut is_reported = false;
        while let Some(recorder) = self.recorder.as_ref().filter(|recorder| recorder.journal().is_full()) {
            recorder.journal().make_room();
            if !std::mem::replace(&mut is_reported, true) {
                self.metrics.errors.report("the journal is full: waiting for rules to come on");
            }
            self.obeying(tokio::time::sleep(FULL_PAUSE)).await?;
        }
        Some(())
    }

    /// A rule has read the journal up to its next record. If the feed is further, it must read on.
    fn join(&mut self, subscriber: Subscriber, left: &CancellationToken, answer: oneshot::Sender<Subscriber>) {
        if left.is_cancelled() {
            return;
        }
        if subscriber.next >= self.next && self.to_record.is_none() && (self.recorder.is_some() || self.is_delivering) {
            self.add(subscriber);
        } else {
            // If it has left, it needs no answer.
            let _ = answer.send(subscriber);
        }
    }

    fn add(&mut self, mut subscriber: Subscriber) {
        self.resuming.retain(|(resuming, _)| *resuming != subscriber.id);
        subscriber.n_delivered = self.n_delivered;
        self.time_wanted.push(subscriber.id);
        self.subscribers.push(subscriber);
    }

    /// Tells rules that asked how far time has come. Only between two records: nothing older may follow.
    fn tell_time(&mut self) {
        if self.is_delivering || self.time_wanted.is_empty() {
            return;
        }
        let wanted = std::mem::take(&mut self.time_wanted);
        let Some(recorder) = &mut self.recorder else { return };
        let time = recorder.time(self.clock.now());
        for id in wanted {
            if let Some(subscriber) = self.subscribers.iter().find(|subscriber| subscriber.id == id) {
                // A rule whose channel is full has rows to look at first; it asks again.
                let _ = subscriber.channel.try_send(Signal::Time(time));
            }
        }
    }

    /// Puts the signal in every subscriber's channel, waits for room where there is none, and obeys commands while it waits.
    /// A stop is obeyed afterwards; `None` if the grace period ended before that.
    pub(super) async fn deliver(&mut self, signal: Signal) -> Option<()> {
        self.n_delivered += 1;
        loop {
            let n_delivered = self.n_delivered;
            let behind = self.subscribers.iter_mut().find(|subscriber| subscriber.n_delivered < n_delivered);
            let Some(subscriber) = behind else { return Some(()) };
            let id = subscriber.id;
            if let Signal::Rows { place: Some(place), .. } = &signal
                && place.offset < subscriber.next
            {
                // It has come by way of the journal, and has had it.
                subscriber.n_delivered = n_delivered;
                continue;
            }
            match subscriber.channel.try_send(signal.clone()) {
                Ok(()) => {
                    subscriber.n_delivered = n_delivered;
                    if let Signal::Rows { receipt: Some(receipt), .. } = &signal {
                        receipt.given();
                    }
                }
                Err(TrySendError::Closed(_)) => self.subscribers.retain(|subscriber| subscriber.id != id),
                Err(TrySendError::Full(_)) => {
                    let channel = subscriber.channel.clone();
                    let started = Instant::now();
                    let is_open = tokio::select! {
                        biased;
                        () = self.cut_short.cancelled() => false,
                        command = self.commands.recv(), if !self.is_stopping => { self.obey(command); true }
                        // Room, or a closed channel: both are seen to by the next round.
                        () = channel.room() => true,
                    };
                    self.metrics.blocked_us.add(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
                    if !is_open {
                        return None;
                    }
                }
            }
        }
    }

    /// The source has ended: whoever subscribed in the last moment gets no rows, but must not wait for them.
    pub(super) fn refuse_late(&mut self) {
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Subscribe { subscriber, .. } = command {
                // The channel is new, and has room.
                let _ = subscriber.channel.try_send(Signal::End);
            }
        }
    }

    pub(super) fn note_failure(&mut self, error: &ConnectorError, backoff: &mut Backoff) -> Duration {
        let pause = backoff.pause(error.retry);
        self.metrics.errors.report(format_args!("{error}; trying again in {:.1} s", pause.as_secs_f64()));
        pause
    }
}
