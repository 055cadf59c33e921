//! The fault harness for longer than a test may take: `cargo run --bin faults -- --seed 1 --minutes 10`.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use sluice_tests::faults::{Plan, run};

/// Runs a rule set through faults and accounts for every row.
#[derive(Parser)]
struct Args {
    /// Same seed, same faults in the same order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long faults occur.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Seconds between two faults, on average.
    #[arg(long, default_value_t = 5.0)]
    pause: f64,
    /// Seconds that a sink is gone at most.
    #[arg(long, default_value_t = 60.0)]
    outage: f64,
    /// Rows per second.
    #[arg(long, default_value_t = 200)]
    rate: u32,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let Args { seed, minutes, pause, outage, rate } = Args::parse();
    let duration = Duration::from_secs_f64(minutes * 60.0);
    let (pause, outage) = (Duration::from_secs_f64(pause), Duration::from_secs_f64(outage));
    let outcome = run(&Plan { seed, duration, pause, outage, rate }).await?;
    println!("{outcome}");
    ensure!(outcome.is_good(), "rows were lost, or counted twice");
    Ok(())
}
