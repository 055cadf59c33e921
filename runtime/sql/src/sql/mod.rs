//! The SQL front end: text in, syntax tree out, every error with its place.
//!
//! [`parse_statement`] and [`parse_statements`] are the way in; `Display` of the tree is the way back. Names are not resolved
//! here; that is `plan`'s.
//!
//! ```text
//! text ──token (sqlparser's tokenizer, our dialect)──> tokens ──parser──> syntax tree ──print──> text
//!                                                               ├ select, window, expr
//!                                                               └ create, options
//! ```

pub mod ast;
mod create;
mod dialect;
mod error;
mod expr;
mod options;
mod parser;
mod print;
mod select;
mod token;
mod window;

#[cfg(test)]
mod tests;

pub use error::{Span, SqlError, SqlErrors, nearest};
pub use parser::{parse_statement, parse_statements};
