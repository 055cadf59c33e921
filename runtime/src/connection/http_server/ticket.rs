//! A pushed message on its way: the request's handler waits for what becomes of it, the source says so.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use bytes::Bytes;
use futures::task::AtomicWaker;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::Object;

use crate::format::FormatError;
use crate::source::{Payload, Processed, Reply, Request};

/// In the source's queue.
const QUEUED: u8 = 0;
/// On its way into the rules.
const TAKEN: u8 = 1;
/// Nobody waits for it any more, and it was not taken.
const ABANDONED: u8 = 2;
/// Safe.
const ACCEPTED: u8 = 3;
/// Not to be read.
const REFUSED: u8 = 4;
/// Its source closed before it took it.
const RETURNED: u8 = 5;
/// Its source closed after it took it, or a rule or sink ended before it had processed it.
const LOST: u8 = 6;
/// A rule or a sink does not take it.
const UNTAKEN: u8 = 7;

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its rows are safe.
    Accepted {
        /// So many.
        n_rows: usize,
    },
    /// It can't be read.
    Refused(String),
    /// The source closed, and did not look at it.
    Returned,
    /// The source closed, or what was behind it; its rows may be on their way or not.
    Lost,
    /// Its rows, or what they caused, will never be taken, and by whom.
    Untaken(String),
}

/// When a message counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AckRule {
    /// When its rows are safe: in a journal, or with the rules.
    #[default]
    Accepted,
    /// When the rules are done with them and the sinks have taken what they caused.
    Processed,
}

/// The state of one message.
#[derive(Debug, Default)]
pub(super) struct Pending {
    state: AtomicU8,
    /// Its rows are known. A message is accepted when they are, and are safe: a journal has it before it is read.
    is_decoded: AtomicBool,
    is_safe: AtomicBool,
    is_processed: AtomicBool,
    ack: AckRule,
    n_rows: AtomicUsize,
    error: OnceLock<String>,
    waker: AtomicWaker,
}

impl Pending {
    /// Waits for the outcome.
    pub async fn outcome(&self) -> Outcome {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            match self.state.load(Ordering::Acquire) {
                ACCEPTED => Poll::Ready(Outcome::Accepted { n_rows: self.n_rows.load(Ordering::Relaxed) }),
                REFUSED => Poll::Ready(Outcome::Refused(self.error.get().cloned().unwrap_or_default())),
                RETURNED => Poll::Ready(Outcome::Returned),
                LOST => Poll::Ready(Outcome::Lost),
                UNTAKEN => Poll::Ready(Outcome::Untaken(self.error.get().cloned().unwrap_or_default())),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// Nobody waits any more; true if the message will not be taken.
    pub fn abandon(&self) -> bool {
        self.change(QUEUED, ABANDONED)
    }

    fn accept(&self) {
        let is_processed = self.ack == AckRule::Accepted || self.is_processed.load(Ordering::SeqCst);
        if self.is_decoded.load(Ordering::SeqCst) && self.is_safe.load(Ordering::SeqCst) && is_processed {
            self.finish(ACCEPTED);
        }
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The last word, unless there was one before.
    fn finish(&self, state: u8) {
        if self.change(TAKEN, state) {
            self.waker.wake();
        }
    }
}

impl Reply for Pending {
    fn decoded(&self, n_rows: usize) {
        self.n_rows.store(n_rows, Ordering::Relaxed);
        self.is_decoded.store(true, Ordering::SeqCst);
        self.accept();
    }

    fn refused(&self, error: &FormatError) {
        // A message is read once.
        let _ = self.error.set(error.0.clone());
        self.finish(REFUSED);
    }

    fn waits_for_sinks(&self) -> bool {
        self.ack == AckRule::Processed
    }

    fn processed(&self, outcome: &Processed) {
        match outcome {
            Processed::Taken => {
                self.is_processed.store(true, Ordering::SeqCst);
                self.accept();
            }
            Processed::Refused(by) => {
                let _ = self.error.set(by.clone());
                self.finish(UNTAKEN);
            }
            Processed::Lost => self.finish(LOST),
        }
    }
}

/// What was pushed.
#[derive(Debug)]
pub struct Pushed {
    /// The body.
    pub bytes: Bytes,
    /// What `meta()` reads.
    pub meta: Option<Arc<Object>>,
    /// The format of this one, if it is not the stream's.
    pub format: Option<&'static str>,
}

/// The source's end of a message. Dropped without a word, it tells the sender that its source has closed.
#[derive(Debug)]
pub struct Ticket {
    pending: Arc<Pending>,
    pushed: Option<Pushed>,
}

impl Ticket {
    /// Both ends.
    pub(super) fn new(pushed: Pushed, ack: AckRule) -> (Ticket, Arc<Pending>) {
        let pending = Arc::new(Pending { ack, ..Pending::default() });
        (Ticket { pending: Arc::clone(&pending), pushed: Some(pushed) }, pending)
    }

    /// Takes the message, to be decoded; `None` if nobody waits for it any more.
    pub fn take(&mut self) -> Option<Request> {
        if !self.pending.change(QUEUED, TAKEN) {
            return None;
        }
        let Pushed { bytes, meta, format } = self.pushed.take()?;
        Some(Request { payload: Payload { bytes, meta }, format, reply: Arc::clone(&self.pending) as Arc<dyn Reply> })
    }

    /// Bytes of its body, while it has not been taken.
    pub fn n_bytes(&self) -> usize {
        self.pushed.as_ref().map_or(0, |pushed| pushed.bytes.len())
    }

    /// Its rows are safe.
    pub fn accept(&self) {
        self.pending.is_safe.store(true, Ordering::SeqCst);
        self.pending.accept();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.pending.change(QUEUED, RETURNED) {
            self.pending.waker.wake();
        }
        // Behind the source, the rest of the way answers for it.
        if self.pending.ack == AckRule::Accepted || !self.pending.is_safe.load(Ordering::SeqCst) {
            self.pending.finish(LOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn ticket() -> (Ticket, Arc<Pending>) {
        Ticket::new(Pushed { bytes: Bytes::from_static(b"{}"), meta: None, format: None }, AckRule::Accepted)
    }

    #[test]
    fn senders_that_wait_for_sinks_hear_what_those_did() {
        for (outcome, expected) in [
            (Processed::Taken, Outcome::Accepted { n_rows: 3 }),
            (Processed::Refused("sink 0".to_owned()), Outcome::Untaken("sink 0".to_owned())),
            (Processed::Lost, Outcome::Lost),
        ] {
            let pushed = Pushed { bytes: Bytes::from_static(b"{}"), meta: None, format: None };
            let (mut ticket, pending) = Ticket::new(pushed, AckRule::Processed);
            let request = ticket.take().unwrap();
            assert!(request.reply.waits_for_sinks());
            request.reply.decoded(3);
            ticket.accept();
            drop(ticket);
            assert_eq!(pending.outcome().now_or_never(), None, "{outcome:?}: with the rules is not enough");
            request.reply.processed(&outcome);
            assert_eq!(pending.outcome().now_or_never(), Some(expected));
        }
        // Processed before the source has heard that it is safe.
        let pushed = Pushed { bytes: Bytes::from_static(b"{}"), meta: None, format: None };
        let (mut ticket, pending) = Ticket::new(pushed, AckRule::Processed);
        let request = ticket.take().unwrap();
        request.reply.decoded(1);
        request.reply.processed(&Processed::Taken);
        assert_eq!(pending.outcome().now_or_never(), None);
        ticket.accept();
        assert_eq!(pending.outcome().now_or_never(), Some(Outcome::Accepted { n_rows: 1 }));
    }

    #[test]
    fn senders_hear_what_became_of_their_message() {
        let (mut ticket, pending) = self::ticket();
        assert_eq!(pending.outcome().now_or_never(), None);
        let request = ticket.take().unwrap();
        request.reply.decoded(3);
        assert_eq!(pending.outcome().now_or_never(), None);
        assert!(!pending.abandon());
        ticket.accept();
        drop(ticket);
        assert_eq!(pending.outcome().now_or_never(), Some(Outcome::Accepted { n_rows: 3 }));

        let (mut ticket, pending) = self::ticket();
        let request = ticket.take().unwrap();
        // Safe in a journal, and then found to be of no use.
        ticket.accept();
        assert_eq!(pending.outcome().now_or_never(), None);
        request.reply.refused(&FormatError("line 1".to_owned()));
        assert_eq!(pending.outcome().now_or_never(), Some(Outcome::Refused("line 1".to_owned())));

        let (ticket, pending) = self::ticket();
        drop(ticket);
        assert_eq!(pending.outcome().now_or_never(), Some(Outcome::Returned));

        let (mut ticket, pending) = self::ticket();
        ticket.take().unwrap();
        drop(ticket);
        assert_eq!(pending.outcome().now_or_never(), Some(Outcome::Lost));
    }

    #[test]
    fn what_nobody_waits_for_is_not_taken() {
        let (mut ticket, pending) = self::ticket();
        assert!(pending.abandon());
        assert!(ticket.take().is_none());
        ticket.accept();
        drop(ticket);
        assert_eq!(pending.outcome().now_or_never(), None);
    }
}
