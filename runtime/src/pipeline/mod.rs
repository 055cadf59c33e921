//! Plans to tasks: bounded channels, decode, lookup fetching, retry, batching, metrics, shutdown. The only place that spawns.
