//! What happens after a rule has failed: it starts again, after pauses that grow, a limited number of times.

use std::time::Duration;

use rand::RngExt;

/// How a rule that has failed starts again.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartPolicy {
    /// Starts in a row; 0: none.
    pub attempts: u32,
    /// The first pause.
    pub delay: Duration,
    /// By what each pause is longer than the one before.
    pub multiplier: f64,
    /// The longest pause.
    pub max_delay: Duration,
    /// How much of a pause is random: 0.1 makes it up to a tenth shorter or longer.
    pub jitter_factor: f64,
    /// A rule that has run so long is healthy: attempts are counted anew.
    pub healthy_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        RestartPolicy {
            attempts: 3,
            delay: Duration::from_secs(1),
            multiplier: 2.0,
            max_delay: Duration::from_secs(30),
            jitter_factor: 0.1,
            healthy_after: Duration::from_secs(60),
        }
    }
}

impl RestartPolicy {
    /// The pause before start number `attempt`, the first of which is 1.
    pub fn pause(&self, attempt: u32) -> Duration {
        let doublings = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let max = self.max_delay.as_secs_f64();
        // Overflow gives infinity, which the limit brings back.
        let pause = (self.delay.as_secs_f64() * self.multiplier.max(1.0).powi(doublings)).min(max);
        let jitter = self.jitter_factor.clamp(0.0, 1.0);
        let pause = pause * rand::rng().random_range(1.0 - jitter..=1.0 + jitter);
        Duration::try_from_secs_f64(pause).unwrap_or(self.max_delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_with_some_chance() {
        let policy = RestartPolicy { max_delay: Duration::from_secs(10), ..RestartPolicy::default() };
        let exact = RestartPolicy { jitter_factor: 0.0, ..policy.clone() };
        for (attempt, expected) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (100_000, 10)] {
            let expected = Duration::from_secs(expected);
            assert_eq!(exact.pause(attempt), expected);
            let pause = policy.pause(attempt);
            assert!(pause >= expected.mul_f64(0.9) && pause <= expected.mul_f64(1.1), "{pause:?} for {expected:?}");
        }
    }
}
