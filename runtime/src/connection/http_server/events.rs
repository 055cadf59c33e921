//! Server-sent events: a stream of `data:` lines per client.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, ORIGIN, VARY};
use hyper::{Request, Response};
use tokio::time::{Instant, Sleep};

use super::accept::Open;
use super::access::{Access, Admission};
use super::answer::{self, Answer, AnswerBody};
use super::fanout::{Fanout, Listener};

/// A comment goes out after this long without an event, so that nobody between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The clients of one sink.
#[derive(Default)]
pub struct Events {
    clients: Fanout,
    access: Option<Access>,
    /// Origins whose pages may read; `*` for all.
    origins: Vec<String>,
}

impl Events {
    /// Events for those who are let in.
    pub fn new(access: Access, origins: Vec<String>) -> Self {
        Events { clients: Fanout::default(), access: Some(access), origins }
    }

    /// Sends a message to all clients; gives how many were thrown out because they are too far behind.
    pub fn send(&self, message: &[u8]) -> usize {
        self.clients.send(&frame(message))
    }

    /// Clients that are there.
    pub fn n_clients(&self) -> usize {
        self.clients.len()
    }

    /// Ends all streams, behind what was sent.
    pub fn close(&self) {
        self.clients.close();
    }

    /// A new client.
    pub(super) fn answer(&self, request: &Request<Incoming>) -> Answer {
        match self.access.as_ref().map(|access| access.check(request.headers())) {
            None | Some(Ok(Admission::Granted)) => {}
            // Nothing is signed here.
            Some(Ok(Admission::Signed(_))) => {}
            Some(Err(denied)) => return answer::denied(&denied),
        }
        let stream = EventStream {
            listener: self.clients.listen(),
            timer: Box::pin(tokio::time::sleep(KEEP_ALIVE)),
            is_new: true,
            open: None,
        };
        let mut response = Response::new(AnswerBody::Events(stream));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(origin) = request.headers().get(ORIGIN)
            && self.origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes())
        {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(VARY, HeaderValue::from_static("Origin"));
        }
        response
    }
}

/// A message as an event. Line breaks within it would end it, so each line goes by itself and the client joins them.
fn frame(message: &[u8]) -> Bytes {
    let mut event = Vec::with_capacity(message.len() + 8);
    let mut rest = message;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let line = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
        event.extend_from_slice(b"data: ");
        event.extend_from_slice(line);
        event.push(b'\n');
        let Some(end) = end else { break };
        let n_breaks = if rest.get(end..).is_some_and(|rest| rest.starts_with(b"\r\n")) { 2 } else { 1 };
        rest = rest.get(end + n_breaks..).unwrap_or_default();
    }
    event.push(b'\n');
    event.into()
}

/// What one client gets.
pub struct EventStream {
    listener: Listener,
    timer: Pin<Box<Sleep>>,
    is_new: bool,
    /// The request is open as long as the stream is.
    open: Option<Open>,
}

impl EventStream {
    /// Holds on to the request.
    pub(super) fn keep(&mut self, open: Open) {
        self.open = Some(open);
    }

    /// The next piece of text.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if std::mem::take(&mut self.is_new) {
            // So that the client hears at once that it is connected.
            return Poll::Ready(Some(Bytes::from_static(b": connected\n\n")));
        }
        if let Poll::Ready(message) = self.listener.poll(cx) {
            self.timer.as_mut().reset(Instant::now() + KEEP_ALIVE);
            return Poll::Ready(message);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            self.timer.as_mut().reset(Instant::now() + KEEP_ALIVE);
            return Poll::Ready(Some(Bytes::from_static(b":\n\n")));
        }
        Poll::Pending
    }
}

/// Clients are told to which sink they listen only by the path.
impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("n_clients", &self.n_clients()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_message_stay_together() {
        for (message, expected) in [
            ("{}", "data: {}\n\n"),
            ("", "data: \n\n"),
            ("a\nb\r\nc\rd\n", "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
        ] {
            assert_eq!(frame(message.as_bytes()), expected, "{message:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_stream_is_kept_alive() {
        let events = Events::default();
        let mut stream = EventStream {
            listener: events.clients.listen(),
            timer: Box::pin(tokio::time::sleep(KEEP_ALIVE)),
            is_new: true,
            open: None,
        };
        let mut next = async || std::future::poll_fn(|cx| stream.poll(cx)).await;
        assert_eq!(next().await.unwrap(), ": connected\n\n");
        events.send(b"1");
        assert_eq!(next().await.unwrap(), "data: 1\n\n");
        let start = Instant::now();
        assert_eq!(next().await.unwrap(), ":\n\n");
        assert!(start.elapsed() >= KEEP_ALIVE);
        events.close();
        assert_eq!(next().await, None);
    }
}
