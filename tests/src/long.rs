//! How long tests go on that could go on for ever. A test run takes the short time; for more, set `SLUICE_TEST_MINUTES`, and
//! `SLUICE_TEST_SEED` for another order of what happens.

use std::time::Duration;

/// What the variable says, else `short`.
///
/// # Panics
/// When the variable holds no number.
pub fn duration(short: Duration) -> Duration {
    let minutes = std::env::var("SLUICE_TEST_MINUTES").ok();
    minutes.map_or(short, |text| {
        Duration::from_secs_f64(60.0 * text.parse::<f64>().expect("SLUICE_TEST_MINUTES is a number"))
    })
}

/// What the variable says, else 1.
///
/// # Panics
/// When the variable holds no number.
pub fn seed() -> u64 {
    std::env::var("SLUICE_TEST_SEED").map_or(1, |text| text.parse().expect("SLUICE_TEST_SEED is a number"))
}

/// One line on standard error, which shows although the test passes.
pub fn report(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "{line}").ok();
}
