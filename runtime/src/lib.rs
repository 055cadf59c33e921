//! The Sluice engine: sources, lookup tables, sinks, and the pipelines between them.
//!
//! ```text
//! YAML ──manifest──> Definitions ──check──> verdict
//!                        │
//!                        └──pipeline──> tasks: source ─> decode ─> Chain ⨝ lookup ─> encode ─> sink
//! ```
//!
//! A library first; the `sluice` command and the pod's process are thin callers of it. Connectors are listed in a
//! [`Registry`]: add your own with [`Registry::with_source`] and its kin.

pub mod bundle;
pub mod check;
pub mod connection;
pub mod definition;
pub mod diagnostic;
pub mod error;
pub mod inference;
pub mod lookup;
pub mod manifest;
pub mod options;
pub mod pipeline;
pub mod registry;
pub mod server;
pub mod sink;
pub mod source;
pub mod state;
pub mod template;
pub mod time;

pub use definition::{Definitions, LookupTableDef, RuleDef, SinkDef, StreamDef};
pub use error::{ConfigError, ConnectorError, Fault, Retry};
pub use options::{Options, Secret};
pub use registry::Registry;
pub use sluice_format as format;
