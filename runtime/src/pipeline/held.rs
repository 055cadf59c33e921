//! How much memory the operators of rules keep (windows, groups, what functions remember), and who has to go when that is too much.
//!
//! Nothing is counted per row: now and then each rule measures what it keeps, less often the longer that takes. What all keep
//! together is bounded; when it is over the bound, the rule that keeps most has to end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Time between two measurements, at least.
const INTERVAL: Duration = Duration::from_secs(1);
/// A measurement takes no more than one part in so many of the time.
const SHARE_OF_TIME: u32 = 100;

/// What all rules of a process keep.
#[derive(Debug, Default)]
pub struct Held {
    limit: Option<u64>,
    shares: Mutex<Shares>,
}

#[derive(Debug, Default)]
struct Shares {
    n_made: u64,
    by_id: HashMap<u64, (u64, CancellationToken)>,
}

impl Shares {
    fn total(&self) -> u64 {
        self.by_id.values().map(|(bytes, _)| bytes).sum()
    }
}

impl Held {
    /// Nothing yet, and so many bytes at most.
    pub fn new(limit: Option<u64>) -> Self {
        Held { limit, ..Held::default() }
    }

    /// Bytes that they may keep; `None` without a limit.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// The share of one more rule.
    pub fn share(self: &Arc<Self>) -> HeldShare {
        let mut shares = self.shares();
        shares.n_made += 1;
        let (id, over) = (shares.n_made, CancellationToken::new());
        shares.by_id.insert(id, (0, over.clone()));
        drop(shares);
        HeldShare { held: Arc::clone(self), id, over, due: Instant::now() + INTERVAL }
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one rule keeps; it is given back when this is dropped.
#[derive(Debug)]
pub struct HeldShare {
    held: Arc<Held>,
    id: u64,
    over: CancellationToken,
    due: Instant,
}

impl HeldShare {
    /// True if it is time to measure.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// Measures, and gives what came out.
    pub fn measure(&mut self, measure: impl FnOnce() -> u64) -> u64 {
        let start = Instant::now();
        let bytes = measure();
        self.measured(bytes, start.elapsed());
        bytes
    }

    fn measured(&mut self, bytes: u64, took: Duration) {
        self.due = Instant::now() + INTERVAL.max(took * SHARE_OF_TIME);
        let mut shares = self.held.shares();
        if let Some((own, _)) = shares.by_id.get_mut(&self.id) {
            *own = bytes;
        }
        if self.held.limit.is_some_and(|limit| shares.total() > limit)
            && let Some((_, over)) = shares.by_id.values().max_by_key(|(bytes, _)| *bytes)
        {
            over.cancel();
        }
    }

    /// Cancelled when this rule has to end.
    pub fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// Why it has to end.
    pub fn message(&self) -> String {
        let shares = self.held.shares();
        let own = shares.by_id.get(&self.id).map_or(0, |(bytes, _)| *bytes);
        format!(
            "its windows, groups and functions keep {}, those of all rules {}, and {} is the limit (--state-memory): \
             shorten windows, group by what has fewer values, or give it more memory",
            mebibytes(own),
            mebibytes(shares.total()),
            mebibytes(self.held.limit.unwrap_or(u64::MAX)),
        )
    }
}

impl Drop for HeldShare {
    fn drop(&mut self) {
        self.held.shares().by_id.remove(&self.id);
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_largest_has_to_go() {
        let held = Arc::new(Held::new(Some(100)));
        let (mut small, mut large) = (held.share(), held.share());
        assert!(!small.is_due());
        tokio::time::advance(INTERVAL).await;
        assert!(small.is_due());
        assert_eq!((large.measure(|| 60), small.measure(|| 40)), (60, 40));
        assert!(!small.is_due() && !large.over().is_cancelled());
        small.measure(|| 41);
        assert!(large.over().is_cancelled() && !small.over().is_cancelled());
        assert!(large.message().contains("0.0 MiB is the limit (--state-memory)"), "{}", large.message());
        drop(large);
        assert_eq!(held.shares().total(), 41);
        small.measure(|| 99);
        assert!(!small.over().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_is_measured_less_often() {
        let held = Arc::new(Held::new(None));
        let mut share = held.share();
        share.measured(u64::MAX, Duration::from_millis(50));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(!share.is_due());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(share.is_due() && !share.over().is_cancelled());
    }
}
