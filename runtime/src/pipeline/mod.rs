//! From definitions to tasks: bounded channels, retry, decode, batching, metrics, shutdown. The only place that spawns, and
//! the only one that acts on a connector's errors; it knows no connector by name.
//!
//! ```text
//!              feed (a task per source instance)             rule (a task)                   sink (a task per sink)
//! Source ─next─> StreamDecoder ─┬─ channel per rule ─> Chain ⨝ LookupDriver ─┬─ channel ─> SinkDriver ─> Sink
//!                               └─ ... (shared stream)                       └─ ...
//! ```
//!
//! Stopping goes in the same direction: a feed that stops lets go of its channels, a rule whose channels are drained lets go
//! of its sinks' channels, a sink driver whose channel is drained flushes and closes. Every task also holds a
//! `CancellationToken` that is cancelled when the grace period is over: then it returns at once and counts what it held as
//! dropped (`DropReason::Shutdown`).

pub mod backoff;
pub mod build;
pub mod channel;
pub mod decode;
pub mod durable;
mod engine;
pub mod exposition;
pub mod feed;
mod generation;
mod held;
mod inputs;
mod life;
pub mod lookup;
pub mod memory;
pub mod metrics;
pub mod outlet;
pub mod receipt;
pub mod rejected;
pub mod report;
pub mod restart;
pub mod rule;
pub mod schedule;
pub mod sink;
mod state;
pub mod status;

pub use engine::{Engine, Settings};
pub use outlet::Tail;
pub use report::{BundleState, EngineReport, RuleReport};
pub use status::{ApplyReport, EngineStatus, RuleState, RuleStatus};

/// What a panic said, for status and log.
fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("internal error: {}", text.unwrap_or("panic without a message"))
}

#[cfg(test)]
pub(crate) mod tests;
