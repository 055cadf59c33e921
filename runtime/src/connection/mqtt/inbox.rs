//! Where the client leaves a stream's messages, and how they are acknowledged.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::packet::Properties;
use crate::error::ConnectorError;

/// Messages that make an inbox full.
const FULL_MESSAGES: usize = 4096;
/// Bytes of bodies that make it full.
const FULL_BYTES: usize = 8 << 20;
/// The second limit is this many times the first.
const OVERFLOW: usize = 8;

/// A message for one stream.
#[derive(Clone, Debug)]
pub struct Message {
    /// UTF-8 as long as the broker keeps to the protocol.
    pub topic: Bytes,
    /// The body.
    pub payload: Bytes,
    /// 0, 1 or 2.
    pub qos: u8,
    /// The broker says that it may have delivered it before.
    pub dup: bool,
    /// 0 for QoS 0.
    pub pkid: u16,
    /// Version 5 only.
    pub properties: Option<Arc<Properties>>,
    /// For QoS 1 and 2: to be acknowledged.
    pub delivery: Option<Arc<Delivery>>,
}

/// A QoS 1 or 2 message that the broker waits to be told about.
#[derive(Debug)]
pub struct Delivery {
    pub(super) pkid: u16,
    pub(super) qos: u8,
    /// The connection by which it came.
    pub(super) epoch: u64,
    /// Streams that have not acknowledged it yet.
    pub(super) n_left: AtomicU32,
}

/// What the client's task shares with its users.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Deliveries that every stream has acknowledged.
    acks: Mutex<Vec<Arc<Delivery>>>,
    /// There are acks, or there is room.
    pub wake: Notify,
    /// Inboxes at their first limit.
    n_full: AtomicUsize,
    /// Inboxes at their second limit.
    n_overflowing: AtomicUsize,
    /// A stream that leaves, of a session that the broker keeps, has not acknowledged all that it got.
    left_behind: AtomicBool,
}

impl Shared {
    /// One stream has done with these.
    pub fn ack(&self, deliveries: impl IntoIterator<Item = Arc<Delivery>>) {
        let mut acks = self.acks.lock().unwrap_or_else(PoisonError::into_inner);
        let n_before = acks.len();
        acks.extend(deliveries.into_iter().filter(|delivery| delivery.n_left.fetch_sub(1, Ordering::AcqRel) == 1));
        if acks.len() > n_before {
            self.wake.notify_one();
        }
    }

    /// A stream that leaves does not acknowledge what it has got: the broker is to send it again.
    pub fn leave_behind(&self) {
        self.left_behind.store(true, Ordering::Release);
    }

    /// True if a stream has left something behind since the last call.
    pub fn has_left_behind(&self) -> bool {
        self.left_behind.swap(false, Ordering::AcqRel)
    }

    /// Takes what has been acknowledged.
    pub fn take_acks(&self) -> Vec<Arc<Delivery>> {
        std::mem::take(&mut *self.acks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Some inbox is at its first limit.
    pub fn is_full(&self) -> bool {
        self.n_full.load(Ordering::Acquire) > 0
    }

    /// Some inbox is at its second limit.
    pub fn is_overflowing(&self) -> bool {
        self.n_overflowing.load(Ordering::Acquire) > 0
    }
}

/// The messages that wait for one stream.
#[derive(Debug)]
pub(super) struct Inbox {
    shared: Arc<Shared>,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    messages: Vec<Message>,
    n_bytes: usize,
    is_full: bool,
    is_overflowing: bool,
    /// Refused for good by the broker.
    failure: Option<ConnectorError>,
}

impl Inbox {
    pub fn new(shared: Arc<Shared>) -> Self {
        Inbox { shared, state: Mutex::default(), arrived: Notify::new() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds messages; leaves `messages` empty.
    pub fn push(&self, messages: &mut Vec<Message>) {
        let mut state = self.state();
        state.n_bytes += messages.iter().map(|message| message.payload.len()).sum::<usize>();
        if state.messages.is_empty() {
            std::mem::swap(&mut state.messages, messages);
        } else {
            state.messages.append(messages);
        }
        let is_above =
            |times: usize| state.messages.len() >= times * FULL_MESSAGES || state.n_bytes >= times * FULL_BYTES;
        let (is_full, is_overflowing) = (is_above(1), is_above(OVERFLOW));
        if is_full && !state.is_full {
            state.is_full = true;
            self.shared.n_full.fetch_add(1, Ordering::AcqRel);
        }
        if is_overflowing && !state.is_overflowing {
            state.is_overflowing = true;
            self.shared.n_overflowing.fetch_add(1, Ordering::AcqRel);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// The stream's subscription was refused.
    pub fn fail(&self, failure: ConnectorError) {
        self.state().failure = Some(failure);
        self.arrived.notify_one();
    }

    /// Waits for messages and takes all. Cancel-safe.
    pub async fn take(&self) -> Result<Vec<Message>, ConnectorError> {
        loop {
            if let Some(messages) = self.try_take()? {
                return Ok(messages);
            }
            self.arrived.notified().await;
        }
    }

    /// Nobody takes what is there any more. Without a session (`clean`) it is acknowledged: the broker would not send it again, and
    /// sends nothing new to the other streams while it waits for too many.
    pub fn close(&self, clean: bool) {
        // Frees its share of the limits.
        let messages = self.try_take().ok().flatten().unwrap_or_default();
        let mut deliveries = messages.into_iter().filter_map(|message| message.delivery).peekable();
        if clean {
            self.shared.ack(deliveries);
        } else if deliveries.peek().is_some() {
            self.shared.leave_behind();
        }
    }

    /// What is there.
    pub fn try_take(&self) -> Result<Option<Vec<Message>>, ConnectorError> {
        let mut state = self.state();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        if state.messages.is_empty() {
            return Ok(None);
        }
        let messages = std::mem::take(&mut state.messages);
        state.n_bytes = 0;
        let (was_full, was_overflowing) = (state.is_full, state.is_overflowing);
        state.is_full = false;
        state.is_overflowing = false;
        drop(state);
        if was_overflowing {
            self.shared.n_overflowing.fetch_sub(1, Ordering::AcqRel);
        }
        if was_full {
            self.shared.n_full.fetch_sub(1, Ordering::AcqRel);
            self.shared.wake.notify_one();
        }
        Ok(Some(messages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n_bytes: usize) -> Message {
        let payload = Bytes::from(vec![0; n_bytes]);
        Message { topic: Bytes::new(), payload, qos: 0, dup: false, pkid: 0, properties: None, delivery: None }
    }

    #[tokio::test]
    async fn limits() {
        let shared = Arc::new(Shared::default());
        let inbox = Inbox::new(Arc::clone(&shared));
        inbox.push(&mut vec![message(1); FULL_MESSAGES - 1]);
        assert!(!shared.is_full());
        inbox.push(&mut vec![message(1)]);
        assert!(shared.is_full() && !shared.is_overflowing());
        inbox.push(&mut vec![message(FULL_BYTES); OVERFLOW]);
        assert!(shared.is_overflowing());
        assert_eq!(inbox.take().await.unwrap().len(), FULL_MESSAGES + OVERFLOW);
        assert!(!shared.is_full() && !shared.is_overflowing());
        shared.wake.notified().await;
    }

    #[test]
    fn a_delivery_is_acknowledged_by_its_last_stream() {
        let shared = Shared::default();
        let delivery = Arc::new(Delivery { pkid: 7, qos: 1, epoch: 1, n_left: AtomicU32::new(2) });
        shared.ack([Arc::clone(&delivery)]);
        assert!(shared.take_acks().is_empty());
        shared.ack([delivery]);
        assert_eq!(shared.take_acks().iter().map(|delivery| delivery.pkid).collect::<Vec<_>>(), [7]);
    }

    #[tokio::test]
    async fn a_refusal_reaches_the_stream_once() {
        let inbox = Inbox::new(Arc::default());
        inbox.fail(ConnectorError::user("no"));
        assert_eq!(inbox.take().await.unwrap_err().message, "no");
        assert!(inbox.try_take().unwrap().is_none());
    }
}
