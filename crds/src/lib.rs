//! The resource types of `sluice.dev/v1alpha1`: Stream, LookupTable, Rule, Runtime.
//!
//! Plain data: no I/O, no SQL, no client. Doc comments here are what `kubectl explain` shows; the YAML of the definitions is
//! printed by `cargo crdgen`.

pub mod duration;

pub use duration::{Duration, DurationError};
