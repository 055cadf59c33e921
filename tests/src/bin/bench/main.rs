//! Benchmarks: what the engine costs beside what can't be avoided, measured in the same run.
//!
//! Absolute numbers depend on the machine and on what else it does; the ratios are what counts:
//! `cargo run --release --bin bench -- w1`.

mod broker;
mod decode;
mod idle;
mod lookup;
mod measure;
mod payload;
mod pictures;
mod push;
mod replay;
mod rules;
mod safe;
mod soak;
mod windows;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Benchmarks of the engine, each beside its raw reference.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
    /// Interleaved rounds; medians are shown.
    #[arg(long, global = true, default_value_t = 7)]
    rounds: usize,
    /// Messages per round.
    #[arg(long, global = true)]
    messages: Option<usize>,
}

#[derive(Subcommand)]
enum What {
    /// Filter and projection of small messages, from memory to nowhere, beside bare decoding.
    W1,
    /// The whole of larger messages with a filter, beside bare parsing.
    W2,
    /// Three hundred rules on one shared stream, beside decoding it once.
    W3,
    /// A tumbling window over a thousand keys in processing and in event time, beside W1.
    W4,
    /// A hopping window whose rows are in sixty windows each, beside the tumbling one.
    W5,
    /// A join with Redis, beside asking it one by one, and with a cache, beside W1.
    W6,
    /// Rows pushed over HTTP, beside a bare handler and bare decoding.
    W7,
    /// W1 behind Mosquitto, beside a raw reader; and the latency at 1,000 messages per second.
    Mqtt,
    /// What it costs to lose nothing: checkpoints on W4, and the journal on W1 behind Mosquitto at QoS 1.
    Safe,
    /// Camera pictures prepared and classified by a small model, with the memory that it takes. Not part of `all`.
    Pictures,
    /// Memory, size and start of the command with one idle MQTT rule.
    Idle,
    /// A set of rules for an hour at a steady rate: does memory grow, is anything lost? Not part of `all`.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 60)]
        minutes: u64,
        /// Messages per second.
        #[arg(long, default_value_t = 10_000)]
        rate: u64,
    },
    /// All of them.
    All,
}

fn main() -> Result<()> {
    let Args { what, rounds, messages } = Args::parse();
    let is_all = matches!(what, What::All);
    if is_all || matches!(what, What::W1) {
        decode::w1(rounds, messages.unwrap_or(1_000_000))?;
    }
    if is_all || matches!(what, What::W2) {
        decode::w2(rounds, messages.unwrap_or(500_000))?;
    }
    if is_all || matches!(what, What::W3) {
        rules::w3(rounds, messages.unwrap_or(100_000))?;
    }
    if is_all || matches!(what, What::W4) {
        windows::w4(rounds, messages.unwrap_or(600_000))?;
    }
    if is_all || matches!(what, What::W5) {
        windows::w5(rounds, messages.unwrap_or(1_200_000))?;
    }
    if is_all || matches!(what, What::W6) {
        lookup::w6(rounds, messages.unwrap_or(200_000))?;
    }
    if is_all || matches!(what, What::W7) {
        push::w7(rounds, messages.unwrap_or(200_000))?;
    }
    if is_all || matches!(what, What::Mqtt) {
        broker::throughput(rounds, messages.unwrap_or(300_000))?;
        broker::latency(rounds)?;
    }
    if is_all || matches!(what, What::Safe) {
        safe::checkpoints(rounds, messages.unwrap_or(1_000_000))?;
        safe::journal(rounds, messages.unwrap_or(100_000))?;
    }
    if is_all || matches!(what, What::Idle) {
        idle::idle(rounds)?;
    }
    if matches!(what, What::Pictures) {
        pictures::pictures(rounds, messages.unwrap_or(200))?;
    }
    if let What::Soak { minutes, rate } = what {
        soak::soak(minutes, rate)?;
    }
    Ok(())
}
