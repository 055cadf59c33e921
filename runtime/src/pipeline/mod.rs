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
pub mod decode;
pub mod metrics;
pub mod sink;
