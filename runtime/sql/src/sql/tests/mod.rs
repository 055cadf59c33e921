//! Tests of the front end as a whole: what parses to what, what is refused with which words, and properties.

mod parse;
mod properties;
mod refusals;
mod stress;
