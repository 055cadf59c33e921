//! From definitions to tasks: bounded channels, retry, decode, batching, metrics, shutdown. The only place that spawns, and
//! the only one that acts on a connector's errors; it knows no connector by name.

pub mod metrics;
