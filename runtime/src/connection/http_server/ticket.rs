//! A pushed message on its way: the request's handler waits for what becomes of it, the source says so.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use bytes::Bytes;
use futures::task::AtomicWaker;
use sluice_sql::Object;

use crate::format::FormatError;
use crate::source::{Payload, Reply, Request};

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
/// Its source closed after it took it.
const LOST: u8 = 6;

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
    /// The source closed, and its rows may be on their way or not.
    Lost,
}

/// The state of one message.
#[derive(Debug, Default)]
pub(super) struct Pending {
    state: AtomicU8,
    /// Its rows are known. A message is accepted when they are, and are safe: a journal has it before it is read.
    is_decoded: AtomicBool,
    is_safe: AtomicBool,
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
        if self.is_decoded.load(Ordering::SeqCst) && self.is_safe.load(Ordering::SeqCst) {
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
    pub(super) fn new(pushed: Pushed) -> (Ticket, Arc<Pending>) {
        let pending = Arc::new(Pending::default());
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
        self.pending.finish(LOST);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn ticket() -> (Ticket, Arc<Pending>) {
        Ticket::new(Pushed { bytes: Bytes::from_static(b"{}"), meta: None, format: None })
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
