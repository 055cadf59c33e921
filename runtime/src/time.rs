//! The clock. Everything that needs the time gets a [`Clock`], so that tests and finite runs can turn it by hand.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_sql::Timestamp;

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Milliseconds since the epoch, UTC.
    fn now(&self) -> Timestamp;

    /// It has been this late already, in this process or in one before it.
    fn not_before(&self, _time: Timestamp) {}
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that never goes back. When the one below is set back, it goes at half its speed until that one has caught up: windows
/// go on closing, and time comes right again by itself. When the one below is set forward, it follows at once.
#[derive(Debug)]
pub struct SteadyClock<C> {
    below: C,
    /// The latest time that was given.
    newest: AtomicI64,
    /// While it is ahead: where it began to go slower, and when.
    slowed: Mutex<(Timestamp, Instant)>,
}

/// Being set back by less is not worth a word: machines are kept right in such steps.
const NOTEWORTHY: Duration = Duration::from_secs(1);

impl<C: Clock> SteadyClock<C> {
    /// Over another clock.
    pub fn new(below: C) -> Self {
        SteadyClock {
            below,
            newest: AtomicI64::new(Timestamp::MIN),
            slowed: Mutex::new((Timestamp::MIN, Instant::now())),
        }
    }

    /// The time while the clock below shows `below`, which is before `newest`.
    fn slowed(&self, below: Timestamp, newest: Timestamp) -> Timestamp {
        let mut slowed = self.slowed.lock().unwrap_or_else(PoisonError::into_inner);
        let time = |(from, since): (Timestamp, Instant)| {
            from.saturating_add(i64::try_from(since.elapsed().as_millis() / 2).unwrap_or(i64::MAX))
        };
        if time(*slowed) < newest {
            // Since it was slow the last time, it has been right again.
            *slowed = (newest, Instant::now());
            let ahead = Duration::from_millis(newest.abs_diff(below));
            if ahead >= NOTEWORTHY {
                tracing::warn!(
                    ahead_s = ahead.as_secs(),
                    "the clock has been set back: time goes at half speed until the clock has caught up"
                );
            }
        }
        let time = time(*slowed);
        self.newest.fetch_max(time, Ordering::Relaxed).max(time)
    }
}

impl<C: Clock> Clock for SteadyClock<C> {
    fn now(&self) -> Timestamp {
        let below = self.below.now();
        let newest = self.newest.fetch_max(below, Ordering::Relaxed);
        if below >= newest { below } else { self.slowed(below, newest) }
    }

    fn not_before(&self, time: Timestamp) {
        self.newest.fetch_max(time, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that is turned by hand.
    #[derive(Debug, Default)]
    struct Hands(AtomicI64);

    impl Clock for &Hands {
        fn now(&self) -> Timestamp {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn time_never_goes_back_and_never_stands_still() {
        let hands = Hands::default();
        let clock = SteadyClock::new(&hands);
        let turn = |to| hands.0.store(to, Ordering::Relaxed);
        turn(10_000);
        assert_eq!(clock.now(), 10_000);
        turn(70_000);
        assert_eq!(clock.now(), 70_000, "forward at once");
        turn(20_000);
        let mut before = clock.now();
        assert!((70_000..80_000).contains(&before), "{before}");
        let start = Instant::now();
        while before < 70_050 {
            let now = clock.now();
            assert!(now >= before);
            before = now;
        }
        assert!(start.elapsed() >= Duration::from_millis(90), "at half speed");
        turn(90_000);
        assert_eq!(clock.now(), 90_000, "the clock below has caught up");
        turn(89_000);
        assert!((90_000..91_000).contains(&clock.now()), "as far as it is, not as it was when it was slow before");
        clock.not_before(95_000);
        assert!((95_000..96_000).contains(&clock.now()));
    }
}
