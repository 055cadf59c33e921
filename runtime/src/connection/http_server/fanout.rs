//! One message to many clients, none of which waits for another.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Messages that a client may be behind before it is thrown out.
const MAX_MESSAGES: usize = 1024;
/// Bytes that a client may be behind, unless it is one message.
const MAX_BYTES: usize = 4 << 20;

/// The clients.
#[derive(Debug, Default)]
pub(super) struct Fanout {
    clients: Mutex<Vec<Client>>,
}

#[derive(Debug)]
struct Client {
    channel: mpsc::Sender<Bytes>,
    n_bytes: Arc<AtomicUsize>,
}

/// A client's end. Ends when the client was too slow, or the clients are let go.
#[derive(Debug)]
pub(super) struct Listener {
    channel: mpsc::Receiver<Bytes>,
    n_bytes: Arc<AtomicUsize>,
}

impl Fanout {
    /// One more client.
    pub fn listen(&self) -> Listener {
        let (sender, receiver) = mpsc::channel(MAX_MESSAGES);
        let n_bytes = Arc::new(AtomicUsize::new(0));
        self.with(|clients| clients.push(Client { channel: sender, n_bytes: Arc::clone(&n_bytes) }));
        Listener { channel: receiver, n_bytes }
    }

    /// Sends to all; gives how many were thrown out because they are too far behind.
    pub fn send(&self, message: &Bytes) -> usize {
        let mut n_slow = 0;
        self.with(|clients| {
            clients.retain(|client| {
                let n_bytes = client.n_bytes.load(Ordering::Relaxed);
                let sent = if n_bytes > 0 && n_bytes + message.len() > MAX_BYTES {
                    Err(mpsc::error::TrySendError::Full(Bytes::new()))
                } else {
                    client.n_bytes.fetch_add(message.len(), Ordering::Relaxed);
                    client.channel.try_send(message.clone())
                };
                n_slow += usize::from(matches!(sent, Err(mpsc::error::TrySendError::Full(_))));
                sent.is_ok()
            });
        });
        n_slow
    }

    /// Clients that are there.
    pub fn len(&self) -> usize {
        self.with(|clients| {
            clients.retain(|client| !client.channel.is_closed());
            clients.len()
        })
    }

    /// Lets all clients go, behind what they have got.
    pub fn close(&self) {
        self.with(Vec::clear);
    }

    fn with<T>(&self, change: impl FnOnce(&mut Vec<Client>) -> T) -> T {
        change(&mut self.clients.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Listener {
    /// The next message; cancel-safe.
    pub fn poll(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<Bytes>> {
        self.channel.poll_recv(cx).map(|message| {
            if let Some(message) = &message {
                self.n_bytes.fetch_sub(message.len(), Ordering::Relaxed);
            }
            message
        })
    }

    /// The next message; cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn next(listener: &mut Listener) -> Option<usize> {
        listener.next().now_or_never().flatten().map(|message| message.len())
    }

    #[test]
    fn a_slow_client_is_thrown_out_and_the_others_get_everything() {
        let fanout = Fanout::default();
        let (mut quick, mut slow) = (fanout.listen(), fanout.listen());
        let message = Bytes::from_static(b"x");
        for _ in 0..MAX_MESSAGES {
            assert_eq!(fanout.send(&message), 0);
            assert_eq!(next(&mut quick), Some(1));
        }
        assert_eq!(fanout.send(&message), 1);
        assert_eq!((fanout.len(), next(&mut quick)), (1, Some(1)));
        for _ in 0..MAX_MESSAGES {
            assert_eq!(next(&mut slow), Some(1));
        }
        assert_eq!(slow.next().now_or_never(), Some(None));

        // One message may be as long as it likes, a second one not.
        let long = Bytes::from(vec![0; MAX_BYTES + 1]);
        assert_eq!((fanout.send(&long), fanout.send(&message)), (0, 1));
        drop(fanout.listen());
        assert_eq!(fanout.len(), 0);
    }
}
