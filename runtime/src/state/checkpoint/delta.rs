//! A checkpoint as what it has in common with an earlier one, and the rest.
//!
//! Operators write all that they keep. Of a long window most is the same as a moment ago, if not at the same place: bytes are cut
//! where their content says so (FastCDC), so that equal stretches give equal pieces, and pieces are known by their SHA-256.

use std::collections::HashMap;

use fastcdc::v2020::FastCDC;
use ring::digest::{SHA256, digest};
use sluice_sql::value::state::StateIo;

/// Bytes of a piece: at least, on average, at most.
const PIECE_BYTES: (usize, usize, usize) = (2 << 10, 8 << 10, 32 << 10);

/// Where the pieces of some content are.
#[derive(Debug, Default)]
pub struct Pieces(HashMap<[u8; 32], (u64, u64)>);

/// A stretch of content.
#[derive(Debug, PartialEq, Eq)]
enum Stretch {
    /// So many bytes of the base, from there on.
    Base { start: u64, n_bytes: u64 },
    /// These bytes.
    New(Vec<u8>),
}

impl Default for Stretch {
    fn default() -> Self {
        Stretch::New(Vec::new())
    }
}

impl Pieces {
    /// The pieces of `content`.
    pub fn of(content: &[u8]) -> Self {
        Pieces(cut(content).map(|(start, piece)| (id(piece), (start as u64, piece.len() as u64))).collect())
    }

    /// `content` as what it has in common with these pieces, and the rest.
    pub fn delta(&self, content: &[u8]) -> Vec<u8> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for (_, piece) in cut(content) {
            match (self.0.get(&id(piece)), stretches.last_mut()) {
                (Some((start, more)), Some(Stretch::Base { start: first, n_bytes })) if *first + *n_bytes == *start => {
                    *n_bytes += more;
                }
                (Some((start, n_bytes)), _) => {
                    stretches.push(Stretch::Base { start: *start, n_bytes: *n_bytes });
                }
                (None, Some(Stretch::New(bytes))) => bytes.extend_from_slice(piece),
                (None, _) => stretches.push(Stretch::New(piece.to_vec())),
            }
        }
        let mut io = StateIo::writer();
        io.list(&mut stretches, Stretch::default, stretch_state);
        io.into_bytes()
    }
}

/// The content that `delta` was made of, with the base that it was made for; `None` if it does not fit.
pub fn apply(base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut io = StateIo::reader(delta.to_vec());
    let mut stretches = Vec::new();
    io.list(&mut stretches, Stretch::default, stretch_state);
    if !io.is_complete() {
        return None;
    }
    let mut content = Vec::new();
    for stretch in &stretches {
        let bytes = match stretch {
            Stretch::Base { start, n_bytes } => {
                let start = usize::try_from(*start).ok()?;
                base.get(start..start.checked_add(usize::try_from(*n_bytes).ok()?)?)?
            }
            Stretch::New(bytes) => bytes,
        };
        content.extend_from_slice(bytes);
    }
    Some(content)
}

fn stretch_state(io: &mut StateIo, stretch: &mut Stretch) {
    let mut is_base = matches!(stretch, Stretch::Base { .. });
    io.bool(&mut is_base);
    if io.is_reader() && is_base {
        *stretch = Stretch::Base { start: 0, n_bytes: 0 };
    }
    match stretch {
        Stretch::Base { start, n_bytes } => {
            io.uint(start);
            io.uint(n_bytes);
        }
        Stretch::New(bytes) => io.blob(bytes),
    }
}

fn cut(content: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let (min, average, max) = PIECE_BYTES;
    FastCDC::new(content, min, average, max)
        .filter_map(|piece| Some((piece.offset, content.get(piece.offset..piece.offset + piece.length)?)))
}

fn id(piece: &[u8]) -> [u8; 32] {
    let mut id = [0; 32];
    id.copy_from_slice(digest(&SHA256, piece).as_ref());
    id
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes without a pattern, the same for the same seed.
    fn noise(seed: u64, n_bytes: usize) -> Vec<u8> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(n_bytes).collect()
    }

    #[test]
    fn what_moved_is_not_written_again() {
        let base = noise(1, 400_000);
        let mut content = noise(2, 5_000);
        content.extend_from_slice(&base[60_000..]);
        content.extend_from_slice(&noise(3, 20_000));
        let delta = Pieces::of(&base).delta(&content);
        assert_eq!(apply(&base, &delta).as_deref(), Some(&content[..]));
        assert!(delta.len() < 25_000 + 4 * PIECE_BYTES.2, "{} bytes", delta.len());
        let unlike = noise(4, 400_000);
        assert!(Pieces::of(&base).delta(&unlike).len() >= unlike.len());
    }

    #[test]
    fn a_delta_that_does_not_fit_is_refused() {
        let base = noise(1, 100_000);
        let delta = Pieces::of(&base).delta(&base);
        assert_eq!(apply(&base[..50_000], &delta), None);
        assert_eq!(apply(&base, &delta[..delta.len() - 1]), None);
        assert_eq!(apply(&base, &noise(5, 100)), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn applying_gives_what_it_was_made_of(
            base in (any::<u64>(), 0_usize..200_000), edits in prop::collection::vec((any::<u64>(), any::<usize>(), 0_usize..9_000), 0..6),
        ) {
            let base = noise(base.0, base.1);
            let mut content = base.clone();
            for (seed, at, n_bytes) in edits {
                let at = at % (content.len() + 1);
                let end = (at + n_bytes / 2).min(content.len());
                content.splice(at..end, noise(seed, n_bytes));
            }
            prop_assert_eq!(apply(&base, &Pieces::of(&base).delta(&content)), Some(content));
        }
    }
}
