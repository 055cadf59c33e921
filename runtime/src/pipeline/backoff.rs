//! Growing pauses between tries, the same for every connector.

use std::time::Duration;

use rand::RngExt;

use crate::error::Retry;

/// Pauses that double from [`Backoff::FIRST`] to [`Backoff::MAX`], each shortened at random by up to half, so that clients
/// which lost one server together do not come back together.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    n_failures: u32,
    /// Instead of pauses that grow.
    every: Option<Duration>,
}

impl Backoff {
    /// Pause after the first failure, before jitter.
    pub const FIRST: Duration = Duration::from_millis(100);
    /// Longest pause.
    pub const MAX: Duration = Duration::from_secs(30);

    /// Pauses of the same length, but for chance; those that grow if it is zero.
    pub fn every(interval: Duration) -> Self {
        Backoff { n_failures: 0, every: Some(interval).filter(|interval| !interval.is_zero()) }
    }

    /// The pause after one more failure. The far side's own word (`Retry::After`) is taken, up to ten times [`Backoff::MAX`];
    /// what retrying can't mend (`Retry::Never`) but somebody may mend over there, as a password, is tried at the longest
    /// pause.
    pub fn pause(&mut self, retry: Retry) -> Duration {
        self.n_failures = self.n_failures.saturating_add(1);
        let pause = match retry {
            Retry::After(pause) => return pause.min(Self::MAX * 10),
            Retry::Never => Self::MAX,
            Retry::Backoff if self.every.is_some() => self.every.unwrap_or(Self::MAX),
            Retry::Backoff => {
                let doublings = (self.n_failures - 1).min(16);
                (Self::FIRST * (1 << doublings)).min(Self::MAX)
            }
        };
        pause.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// It worked: the next failure starts from the first pause.
    pub fn reset(&mut self) {
        self.n_failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over_after_success() {
        let mut backoff = Backoff::default();
        for expected_ms in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
            let expected = Duration::from_millis(expected_ms);
            let pause = backoff.pause(Retry::Backoff);
            assert!(pause >= expected / 2 && pause <= expected, "{pause:?} for {expected:?}");
        }
        backoff.reset();
        assert!(backoff.pause(Retry::Backoff) <= Backoff::FIRST);
    }

    #[test]
    fn the_far_sides_word_is_taken_within_limits() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(Retry::After(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(backoff.pause(Retry::After(Duration::from_secs(7000))), Backoff::MAX * 10);
        assert!(backoff.pause(Retry::Never) >= Backoff::MAX / 2);
    }
}
