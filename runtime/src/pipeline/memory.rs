//! How much memory rows take, and how much of it they may: an account per rule, and one for the process above them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sluice_sql::value::memory::row_bytes;
use sluice_sql::{Batch, Row};

/// An account of bytes, with or without a limit. What is counted here is counted in the account above, too.
///
/// Senders look before they add, each for itself, so that several of them may go over a limit by an item each.
#[derive(Debug, Default)]
pub struct Memory {
    used: AtomicU64,
    limit: Option<u64>,
    above: Option<Arc<Memory>>,
    /// Times that somebody found it used up.
    n_refused: AtomicU64,
}

impl Memory {
    /// An account without one above it.
    pub fn new(limit: Option<u64>) -> Self {
        Memory { limit, ..Memory::default() }
    }

    /// An account below `above`.
    pub fn below(above: &Arc<Memory>, limit: Option<u64>) -> Self {
        Memory { limit, above: Some(Arc::clone(above)), ..Memory::default() }
    }

    /// Counts bytes in.
    pub fn add(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        if let Some(above) = &self.above {
            above.add(bytes);
        }
    }

    /// Counts bytes out.
    pub fn sub(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(above) = &self.above {
            above.sub(bytes);
        }
    }

    /// Bytes that are held.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be held; `None` without a limit.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// True if no more should be added, here or above.
    pub fn is_used_up(&self) -> bool {
        let is_used_up = self.is_at_limit();
        if is_used_up {
            self.n_refused.fetch_add(1, Ordering::Relaxed);
        }
        is_used_up || self.above.as_ref().is_some_and(|above| above.is_used_up())
    }

    /// The same, for whoever only looks on.
    pub fn is_at_limit(&self) -> bool {
        self.limit.is_some_and(|limit| self.used() >= limit)
    }

    /// Times that somebody found it used up.
    pub fn n_refused(&self) -> u64 {
        self.n_refused.load(Ordering::Relaxed)
    }
}

/// Rows of a batch that are measured; the others are taken to be like them.
const SAMPLE_ROWS: usize = 4;

/// About how many bytes of memory a batch takes.
pub fn batch_bytes(batch: &Batch) -> u64 {
    rows_bytes(&batch.rows) + size_of::<Batch>() as u64
}

/// The part of a batch's bytes that falls to one more of its holders. Several channels hold one batch; what each of them counts
/// adds up to little more than the batch.
pub fn shared_bytes(batch: &Arc<Batch>) -> u64 {
    let n_others = Arc::strong_count(batch).saturating_sub(1).max(1) as u64;
    batch_bytes(batch) / n_others
}

fn rows_bytes(rows: &[Row]) -> u64 {
    let n_rows = rows.len();
    if n_rows == 0 {
        return 0;
    }
    let step = n_rows.div_ceil(SAMPLE_ROWS);
    let sample = rows.iter().step_by(step);
    let (n_sampled, bytes) = sample.fold((0, 0), |(n, bytes), row| (n + 1, bytes + row_bytes(row)));
    bytes * n_rows as u64 / n_sampled
}

#[cfg(test)]
mod tests {
    use sluice_sql::Value;

    use super::*;

    #[test]
    fn an_account_counts_in_the_one_above() {
        let process = Arc::new(Memory::new(Some(100)));
        let (a, b) = (Memory::below(&process, None), Memory::below(&process, Some(50)));
        a.add(40);
        b.add(49);
        assert_eq!((a.used(), b.used(), process.used()), (40, 49, 89));
        assert!(!a.is_used_up() && !b.is_used_up());
        b.add(1);
        assert!(!a.is_used_up() && b.is_used_up());
        a.add(10);
        assert!(a.is_used_up(), "the one above is used up");
        b.sub(50);
        assert!(!a.is_used_up() && !b.is_used_up());
        assert_eq!((b.n_refused(), process.n_refused()), (1, 1));
    }

    #[test]
    fn a_batch_is_measured_by_some_of_its_rows() {
        let row = |n: usize| Row { ts: 0, values: vec![Value::Int(1), Value::string("x".repeat(n))] };
        let (small, large) = (row_bytes(&row(10)), row_bytes(&row(1000)));
        assert!(large > small + 1000);
        let batch = Batch::per_row(Default::default(), (0..100).map(|_| row(1000)).collect());
        assert_eq!(batch_bytes(&batch), large * 100 + size_of::<Batch>() as u64);
        assert_eq!(batch_bytes(&Batch::default()), size_of::<Batch>() as u64);
    }
}
