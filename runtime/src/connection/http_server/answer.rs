//! What requests are answered with.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use super::access::Denied;
use super::events::EventStream;

/// The body of an answer.
pub enum AnswerBody {
    /// A text, once.
    Text(Option<Bytes>),
    /// Events, as they come.
    Events(EventStream),
}

/// An answer.
pub(super) type Answer = Response<AnswerBody>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A success.
pub(super) fn accepted(n_rows: usize) -> Answer {
    json(StatusCode::OK, format!("{{\"rows\":{n_rows}}}\n"))
}

/// An error, and what to do about it.
pub(super) fn error(status: StatusCode, message: &str) -> Answer {
    json(status, format!("{}\n", serde_json::json!({ "error": message })))
}

/// An error that will be over soon: the client may try again after a second.
pub(super) fn later(status: StatusCode, message: &str) -> Answer {
    let mut answer = error(status, message);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// The server is about to stop.
pub(super) fn draining() -> Answer {
    let mut answer = later(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The path takes other methods.
pub(super) fn wrong_method(allowed: &str) -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, &format!("this path takes {allowed}"));
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        answer.headers_mut().insert(ALLOW, allowed);
    }
    answer
}

/// Not let in.
pub(super) fn denied(denied: &Denied) -> Answer {
    match denied {
        Denied::Wrong(reason) => error(StatusCode::FORBIDDEN, reason),
        Denied::Unknown(challenge) => {
            let message = format!("wanted: {}", challenge.replace('"', "'"));
            let mut answer = error(StatusCode::UNAUTHORIZED, &message);
            if let Ok(challenge) = HeaderValue::from_str(challenge) {
                answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            answer
        }
    }
}

fn json(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(AnswerBody::Text(Some(text.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(AnswerBody::Text(None));
    *answer.status_mut() = status;
    answer
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            AnswerBody::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            AnswerBody::Events(events) => events.poll(cx).map(|text| text.map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, AnswerBody::Text(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            AnswerBody::Events(_) => SizeHint::default(),
        }
    }
}
