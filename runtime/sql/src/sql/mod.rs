//! The SQL front end: text in, syntax tree out, every error with its place.
//!
//! [`parse_statement`] and [`parse_statements`] are the way in. Names are not resolved here; that is `plan`'s.

pub mod ast;
mod error;

pub use error::{Span, SqlError, SqlErrors, nearest};
