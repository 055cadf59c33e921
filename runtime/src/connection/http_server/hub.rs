//! Web sockets on one path: what their clients send goes to all sources there, what the sinks there write goes to all
//! clients.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tokio::TokioAdapter;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Message, Utf8Bytes};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use sluice_sql::Object;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::access::{Access, Admission};
use super::answer::{self, Answer};
use super::fanout::Fanout;
use crate::source::Payload;

/// A ping goes out this often; a client from which nothing has come between two of them is gone.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Bytes that wait for one source, at most.
const QUEUE_BYTES: usize = 8 << 20;
/// Longest time for writing one message.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// A source or sink on a path for web sockets.
#[derive(Debug)]
pub struct SocketRoute {
    /// Who is let in.
    pub access: Access,
    /// Where messages of the clients go, for a source.
    pub incoming: Option<SocketQueue>,
}

/// The queue of a source.
#[derive(Clone, Debug)]
pub struct SocketQueue {
    channel: mpsc::Sender<Queued>,
    /// Bytes that may wait in it.
    room: Arc<Semaphore>,
    /// True while some rule reads `meta()`.
    wants_meta: Arc<AtomicBool>,
}

/// A message that waits for its source.
#[derive(Debug)]
pub struct Queued {
    /// The message.
    pub payload: Payload,
    /// Given back when the source has taken it.
    _room: OwnedSemaphorePermit,
}

impl SocketQueue {
    /// A queue of at most so many messages, and of a bounded number of bytes.
    pub fn new(n_messages: usize, wants_meta: Arc<AtomicBool>) -> (Self, mpsc::Receiver<Queued>) {
        let (channel, receiver) = mpsc::channel(n_messages);
        (SocketQueue { channel, room: Arc::new(Semaphore::new(QUEUE_BYTES)), wants_meta }, receiver)
    }

    /// Waits for room. A source that has closed takes nothing any more.
    async fn send(&self, bytes: &Bytes, meta: &Arc<Object>) {
        let n_bytes = u32::try_from(bytes.len().min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(n_bytes).await else { return };
        let meta = self.wants_meta.load(Ordering::Relaxed).then(|| Arc::clone(meta));
        let _ = self.channel.send(Queued { payload: Payload { bytes: bytes.clone(), meta }, _room: room }).await;
    }
}

/// The sockets of one path.
#[derive(Debug, Default)]
pub struct Hub {
    clients: Fanout,
    queues: Mutex<Vec<SocketQueue>>,
}

impl Hub {
    /// Sends a message to all clients; gives how many were thrown out because they are too far behind.
    pub fn send(&self, message: &Bytes) -> usize {
        self.clients.send(message)
    }

    /// Clients that are there.
    pub fn n_clients(&self) -> usize {
        self.clients.len()
    }

    /// Lets all clients go, behind what was sent.
    pub(super) fn close(&self) {
        self.clients.close();
    }

    /// Messages of clients go to these from now on.
    pub(super) fn set_queues(&self, queues: Vec<SocketQueue>) {
        *self.queues.lock().unwrap_or_else(PoisonError::into_inner) = queues;
    }

    fn queues(&self) -> Vec<SocketQueue> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hands a message to every source; waits for room.
    async fn take(&self, bytes: &Bytes, meta: &Arc<Object>) {
        for queue in self.queues() {
            queue.send(bytes, meta).await;
        }
    }
}

/// Checks a request for a socket; the answer, and whether it is the one that opens it.
pub(super) fn handshake(request: &Request<Incoming>, routes: &[Arc<SocketRoute>]) -> (Answer, bool) {
    let headers = request.headers();
    for route in routes {
        match route.access.check(headers) {
            Ok(Admission::Granted | Admission::Signed(_)) => {}
            Err(denied) => return (answer::denied(&denied), false),
        }
    }
    if !is_upgrade(headers) {
        let mut answer = answer::error(StatusCode::UPGRADE_REQUIRED, "this path takes web sockets");
        answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return (answer, false);
    }
    let version = headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    let (Some(key), Some(b"13")) = (headers.get(SEC_WEBSOCKET_KEY), version) else {
        let mut answer = answer::error(StatusCode::BAD_REQUEST, "wanted: a web socket handshake of version 13");
        answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return (answer, false);
    };
    let mut answer = answer::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = answer.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    (answer, true)
}

/// True if the request asks for a web socket.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The settings of a socket whose messages have at most `max_bytes`.
pub(crate) fn config(max_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(8 << 10)
        .write_buffer_size(0)
        .max_message_size(Some(max_bytes))
        .max_frame_size(Some(max_bytes))
}

/// A message as text if it is that, else as bytes.
pub(crate) fn message(bytes: Bytes) -> Message {
    match Utf8Bytes::try_from(bytes.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(bytes),
    }
}

/// Serves an open socket until one side closes it.
pub(super) async fn serve(hub: &Hub, upgrade: hyper::upgrade::OnUpgrade, meta: Object, max_bytes: usize) {
    let Ok(upgraded) = upgrade.await else { return };
    let io = TokioAdapter::new(TokioIo::new(upgraded));
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config(max_bytes))).await;
    run(hub, socket, Arc::new(meta)).await;
}

async fn run<S>(hub: &Hub, socket: WebSocketStream<TokioAdapter<S>>, meta: Arc<Object>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut writer, mut reader) = socket.split();
    let was_heard = AtomicBool::new(true);
    let is_waiting = AtomicBool::new(false);
    let read = async {
        while let Some(Ok(message)) = reader.next().await {
            was_heard.store(true, Ordering::Relaxed);
            let bytes = match message {
                Message::Text(text) => Bytes::from(text),
                Message::Binary(bytes) => bytes,
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            is_waiting.store(true, Ordering::Relaxed);
            hub.take(&bytes, &meta).await;
            is_waiting.store(false, Ordering::Relaxed);
        }
    };
    let mut listener = hub.clients.listen();
    let mut ping = tokio::time::interval(PING_EVERY);
    ping.reset();
    let write = async {
        loop {
            let message = tokio::select! {
                bytes = listener.next() => match bytes {
                    Some(bytes) => message(bytes),
                    // Too slow, or nobody on this path any more: both mean to come back.
                    None => break,
                },
                _ = ping.tick() => {
                    if !was_heard.swap(false, Ordering::Relaxed) && !is_waiting.load(Ordering::Relaxed) {
                        break;
                    }
                    Message::Ping(Bytes::new())
                }
            };
            if !matches!(tokio::time::timeout(WRITE_TIME, writer.send(message)).await, Ok(Ok(()))) {
                break;
            }
        }
        let close = CloseFrame { code: CloseCode::Restart, reason: Utf8Bytes::from_static("come back") };
        // The other side may be gone.
        let _ = tokio::time::timeout(WRITE_TIME, writer.send(Message::Close(Some(close)))).await;
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}
