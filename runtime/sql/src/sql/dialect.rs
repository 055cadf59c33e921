//! How the text falls into tokens: sqlparser's tokenizer under the rules of streaming SQL.

use sqlparser::dialect::Dialect;

/// Back-ticks quote names, so that `"x"` is a text like `'x'`; a backslash escapes inside of texts.
///
/// Superset: names may start with `_` and hold letters of any script without being quoted.
#[derive(Debug)]
pub(super) struct StreamDialect;

impl Dialect for StreamDialect {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch == '_' || ch.is_alphabetic()
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch == '_' || ch.is_alphanumeric()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }
}
