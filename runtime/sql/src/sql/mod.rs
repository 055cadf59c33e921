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
//!
//! One run finds every error of a text: a rule of the grammar that fails notes its error, and whoever read a list or a clause
//! goes on behind it. Nothing is built on an error, so a tree is always whole.
//!
//! # Against the engine that users come from
//!
//! What its parser takes is taken, except what can only be a mistake:
//!
//! | text | there | here |
//! |---|---|---|
//! | window lengths below 1, delays below 0 | accepted | refused |
//! | a second window in `GROUP BY` | ignored | refused |
//! | `LIMIT -1`, `ORDER BY` without a key | accepted | refused |
//! | `ORDER BY a b` | two keys | refused: the comma is missing |
//! | a lone `!` | `=` | refused, with a hint to `NOT` |
//! | `x * c[0]` | `(x * c)[0]` | `x * (c[0])` |
//! | `NULL` | a column of this name | the literal |
//!
//! And more is taken, as users of SQL expect: `<>`, `||`, `IS [NOT] NULL`, `NOT x`, minus before any operand, exponents, `JOIN`
//! and `LEFT OUTER JOIN`, `DISTINCT`, `FILTER (WHERE ...)` on aggregates, aliases without `AS`, clauses of `OVER` in any order,
//! names with letters of any script, doubled quotes in texts, and words such as `ss` or `filter` as names where nothing else
//! can stand.

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
