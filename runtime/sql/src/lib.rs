//! Streaming SQL, from text to operators over rows and time.
//!
//! ```text
//! text ──sql──> syntax tree ──plan──> RulePlan ──operators──> rows
//!                              ▲ Catalog, function registry
//! ```
//!
//! Nothing here does I/O, reads a clock or spawns: rows, time and randomness come in as arguments. The webhook,
//! `sluice check`, the operator and the pod all call this one library, so they always give the same verdict.
//!
//! Start reading at [`plan::plan_rule`] (what a statement becomes) and [`operators::Chain`] (how it runs).

pub mod expr;
pub mod function;
pub mod operators;
pub mod plan;
pub mod sql;
pub mod value;

pub use sql::{Span, SqlError};
pub use value::{Batch, Column, ColumnKind, Emissions, Object, Row, Schema, Timestamp, Type, Value};
