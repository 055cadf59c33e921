//! Waiting on conditions, with a deadline instead of a sleep.

use std::time::{Duration, Instant};

/// How long a condition may take before a test fails. Generous: the machines that run the tests are small and busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks `condition` until it gives something.
///
/// # Panics
/// After [`DEADLINE`], naming what was waited for.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(outcome) = condition().await {
            return outcome;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Asks `condition` until it is true.
///
/// # Panics
/// After [`DEADLINE`], naming what was waited for.
pub async fn until_true(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    until(what, async || condition().await.then_some(())).await;
}
