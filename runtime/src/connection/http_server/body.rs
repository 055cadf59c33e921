//! Bodies of requests: read within limits of size, time and memory, and unpacked within them too.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// A body that brings nothing for this long has broken off.
const IDLE: Duration = Duration::from_secs(10);
/// A whole body takes no longer than this.
const WHOLE: Duration = Duration::from_secs(60);
/// Of a body that is refused, so much is read and thrown away, so that the client gets to read the answer.
const DRAIN_BYTES: usize = 4 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// Memory that a zstd frame may ask for (log2): a frame of a few bytes may ask for gigabytes.
const ZSTD_WINDOW_LOG: u32 = 23;
/// Encodings on top of each other; more are not a client's habit but an attack.
const MAX_ENCODINGS: usize = 2;

/// Why a body can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is longer than it may be.
    TooLarge,
    /// It would be, unpacked.
    UnpacksTooLarge,
    /// It takes too long.
    TooSlow,
    /// All memory for bodies is in use.
    NoMemory,
    /// The connection or the framing broke.
    Broken,
    /// It is not encoded as it says.
    NotEncoded(Encoding),
}

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Gzip,
    Deflate,
    Zstd,
}

impl Encoding {
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Gzip => "gzip",
            Encoding::Deflate => "deflate",
            Encoding::Zstd => "zstd",
        }
    }
}

/// The encodings of a body, in the order in which they were applied; `None` if there is one that is not known.
pub(super) fn encodings(headers: &HeaderMap) -> Option<Vec<Encoding>> {
    let mut encodings = Vec::new();
    for header in headers.get_all(CONTENT_ENCODING) {
        for name in header.to_str().ok()?.split(',') {
            let name = name.trim();
            let known = [
                ("gzip", Encoding::Gzip),
                ("x-gzip", Encoding::Gzip),
                ("deflate", Encoding::Deflate),
                ("zstd", Encoding::Zstd),
            ];
            match known.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) {
                Some((_, encoding)) => encodings.push(*encoding),
                None if name.is_empty() || name.eq_ignore_ascii_case("identity") => {}
                None => return None,
            }
        }
    }
    (encodings.len() <= MAX_ENCODINGS).then_some(encodings)
}

/// Memory for bodies, shared by all requests.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

/// A part of it, which goes back when it is dropped.
#[derive(Default)]
pub(super) struct Share(Option<OwnedSemaphorePermit>);

impl Budget {
    pub fn new(n_bytes: usize) -> Self {
        Budget(Arc::new(Semaphore::new(n_bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// More for `share`.
    fn take(&self, n_bytes: usize, share: &mut Share) -> Result<(), BodyError> {
        let n_bytes = u32::try_from(n_bytes).map_err(|_| BodyError::NoMemory)?;
        let permit = Arc::clone(&self.0).try_acquire_many_owned(n_bytes).map_err(|_| BodyError::NoMemory)?;
        match &mut share.0 {
            Some(held) => held.merge(permit),
            None => share.0 = Some(permit),
        }
        Ok(())
    }
}

/// Reads a whole body of at most `limit` bytes.
pub(super) async fn read(
    body: &mut Incoming,
    limit: usize,
    budget: &Budget,
    share: &mut Share,
) -> Result<Bytes, BodyError> {
    let deadline = Instant::now() + WHOLE;
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    loop {
        let frame = tokio::time::timeout_at(deadline.min(Instant::now() + IDLE), body.frame());
        let Some(frame) = frame.await.map_err(|_| BodyError::TooSlow)? else { break };
        let Ok(chunk) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if first.len() + whole.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge);
        }
        budget.take(chunk.len(), share)?;
        if first.is_empty() && whole.is_empty() {
            // Nearly all bodies are one chunk, and need no copy.
            first = chunk;
        } else {
            if !first.is_empty() {
                whole.extend_from_slice(&std::mem::take(&mut first));
            }
            whole.extend_from_slice(&chunk);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// Reads on for a moment and forgets what comes: a client that is still writing when the connection closes does not see the
/// answer.
pub(super) async fn drain(body: &mut Incoming) {
    let drained = async {
        let mut n_bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            n_bytes += frame.data_ref().map_or(0, Bytes::len);
            if n_bytes > DRAIN_BYTES {
                break;
            }
        }
    };
    // Whoever is slower than that will have to do without.
    let _ = tokio::time::timeout(DRAIN_TIME, drained).await;
}

/// Unpacks a body to at most `limit` bytes.
pub(super) fn unpack(
    encodings: &[Encoding],
    mut body: Bytes,
    limit: usize,
    budget: &Budget,
    share: &mut Share,
) -> Result<Bytes, BodyError> {
    for encoding in encodings.iter().rev() {
        let mut unpacked = Vec::new();
        let enough = limit as u64 + 1;
        let packed = &*body;
        let outcome = match encoding {
            Encoding::Gzip => flate2::read::MultiGzDecoder::new(packed).take(enough).read_to_end(&mut unpacked),
            Encoding::Deflate => flate2::read::ZlibDecoder::new(packed).take(enough).read_to_end(&mut unpacked),
            Encoding::Zstd => zstd::Decoder::new(packed).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                decoder.take(enough).read_to_end(&mut unpacked)
            }),
        };
        outcome.map_err(|_| BodyError::NotEncoded(*encoding))?;
        if unpacked.len() > limit {
            return Err(BodyError::UnpacksTooLarge);
        }
        budget.take(unpacked.len(), share)?;
        body = unpacked.into();
    }
    Ok(body)
}

/// Unpacks an answer of another server to at most `limit` bytes, by what its headers say.
pub(crate) fn unpack_answer(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, String> {
    let too_large = || format!("the answer has more than {limit} bytes");
    if body.len() > limit {
        return Err(too_large());
    }
    let encodings = encodings(headers).ok_or("the answer is packed in a way that is not known")?;
    let budget = Budget::new(limit.saturating_mul(2));
    unpack(&encodings, body, limit, &budget, &mut Share::default()).map_err(|error| match error {
        BodyError::NotEncoded(encoding) => format!("the answer is not {}", encoding.as_str()),
        _ => too_large(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::compression::Compression;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (CONTENT_ENCODING, value.parse().unwrap())).collect()
    }

    #[test]
    fn encodings_are_read_in_order() {
        let none: &[&str] = &[];
        for (values, expected) in [
            (none, Some(vec![])),
            (&["identity"], Some(vec![])),
            (&["GZIP"], Some(vec![Encoding::Gzip])),
            (&["gzip, zstd"], Some(vec![Encoding::Gzip, Encoding::Zstd])),
            (&["deflate", "gzip"], Some(vec![Encoding::Deflate, Encoding::Gzip])),
            (&["gzip, gzip, gzip"], None),
            (&["br"], None),
        ] {
            assert_eq!(encodings(&headers(values)), expected, "{values:?}");
        }
    }

    #[test]
    fn bodies_are_unpacked_within_their_limits() {
        let body = vec![b' '; 100_000];
        let gzip = Bytes::from(Compression::Gzip.compress(&body).unwrap());
        let zstd = Bytes::from(Compression::Zstd.compress(&body).unwrap());
        let twice = Bytes::from(Compression::Zstd.compress(&gzip).unwrap());
        let deflate = Bytes::from(Compression::Zlib.compress(&body).unwrap());
        // A frame that says that it needs a window of 2 GiB, as `zstd --ultra --long=31` would.
        let window = Bytes::from_static(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]);
        let big = 200_000;
        for (name, encodings, packed, limit, budget, expected) in [
            ("gzip", &[Encoding::Gzip][..], &gzip, 100_000, big, Ok(100_000)),
            ("zstd", &[Encoding::Zstd], &zstd, 100_000, big, Ok(100_000)),
            ("deflate", &[Encoding::Deflate], &deflate, 100_000, big, Ok(100_000)),
            ("both", &[Encoding::Gzip, Encoding::Zstd], &twice, 100_000, big, Ok(100_000)),
            ("none", &[], &gzip, 1, big, Ok(gzip.len())),
            ("a byte too many", &[Encoding::Gzip], &gzip, 99_999, big, Err(BodyError::UnpacksTooLarge)),
            ("a byte too many of zstd", &[Encoding::Zstd], &zstd, 99_999, big, Err(BodyError::UnpacksTooLarge)),
            ("no memory left", &[Encoding::Gzip], &gzip, 100_000, 1000, Err(BodyError::NoMemory)),
            (
                "wrong order",
                &[Encoding::Zstd, Encoding::Gzip],
                &twice,
                100_000,
                big,
                Err(BodyError::NotEncoded(Encoding::Gzip)),
            ),
            ("not packed", &[Encoding::Zstd], &gzip, 100_000, big, Err(BodyError::NotEncoded(Encoding::Zstd))),
            ("huge window", &[Encoding::Zstd], &window, 100_000, big, Err(BodyError::NotEncoded(Encoding::Zstd))),
        ] {
            let budget = Budget::new(budget);
            let unpacked = unpack(encodings, packed.clone(), limit, &budget, &mut Share::default());
            assert_eq!(unpacked.map(|body| body.len()), expected, "{name}");
        }
    }

    #[test]
    fn memory_goes_back() {
        let budget = Budget::new(10);
        let mut share = Share::default();
        budget.take(4, &mut share).unwrap();
        budget.take(6, &mut share).unwrap();
        assert_eq!(budget.take(1, &mut Share::default()), Err(BodyError::NoMemory));
        drop(share);
        budget.take(10, &mut Share::default()).unwrap();
    }
}
