//! The options of `WITH`: which there are, and what their values may be.
//!
//! Whether a connector, a format or a schema of the given name exists is not known here; those who own them say so.

use smol_str::SmolStr;
use sqlparser::tokenizer::Token;

use super::ast::CreateOption;
use super::parser::{Failed, Parsed, Parser, bare_word, is_reserved};
use super::{Span, SqlError};

/// What an option's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OptionKind {
    Text,
    Bool,
    /// A whole number, at least 1.
    Rows,
    /// The text of a JSON object.
    Json,
    /// `scan` or `lookup`
    TableKind,
}

const OPTIONS: [(&str, OptionKind); 16] = [
    ("DATASOURCE", OptionKind::Text),
    ("TYPE", OptionKind::Text),
    ("FORMAT", OptionKind::Text),
    ("SCHEMAID", OptionKind::Text),
    ("DELIMITER", OptionKind::Text),
    ("KEY", OptionKind::Text),
    ("CONF_KEY", OptionKind::Text),
    ("EXTRA", OptionKind::Json),
    ("TIMESTAMP", OptionKind::Text),
    ("TIMESTAMP_FORMAT", OptionKind::Text),
    ("STRICT_VALIDATION", OptionKind::Bool),
    ("SHARED", OptionKind::Bool),
    ("RETAIN_SIZE", OptionKind::Rows),
    ("KIND", OptionKind::TableKind),
    ("VERSION", OptionKind::Text),
    ("TEMP", OptionKind::Bool),
];

impl Parser<'_> {
    /// Options from behind the `(`, with the `)`. Commas between them are optional. Each option is checked, whatever is
    /// wrong with others.
    pub(super) fn options(&mut self) -> Parsed<Vec<CreateOption>> {
        let depth = self.lexeme().depth;
        let mut options: Vec<CreateOption> = Vec::new();
        let mut failed = false;
        loop {
            match self.option(&options) {
                Ok(option) => options.push(option),
                Err(Failed) => {
                    failed = true;
                    let failed_at = self.span();
                    self.skip_to(depth, |parser| {
                        *parser.token() == Token::Comma
                            || (parser.span() != failed_at
                                && matches!(parser.token(), Token::Word(_))
                                && *parser.token_ahead(1) == Token::Eq)
                    });
                }
            }
            let mut commas = false;
            while self.take_symbol(&Token::Comma) {
                commas = true;
            }
            if self.take_symbol(&Token::RParen) {
                return if failed { Err(Failed) } else { Ok(options) };
            }
            if self.at_end() || self.lexeme().depth < depth {
                return Err(self.unexpected(&["\",\"", "\")\""]));
            }
            if !commas && !matches!(self.token(), Token::Word(_)) {
                self.unexpected(&["\",\"", "\")\""]);
                failed = true;
                self.skip_to(depth, |parser| *parser.token() == Token::Comma);
            }
        }
    }

    fn option(&mut self, before: &[CreateOption]) -> Parsed<CreateOption> {
        let Some(word) = bare_word(self.token()) else {
            return Err(self.unexpected(&["the name of an option"]));
        };
        let known = OPTIONS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).copied();
        let (shown, reserved) = (word.to_owned(), is_reserved(word));
        let name_span = self.span();
        let Some((_, kind)) = known else {
            let names = || OPTIONS.iter().map(|(name, _)| *name);
            let mut error =
                SqlError::new(name_span, format!("unknown option \"{shown}\"")).with_suggestion(&shown, names());
            error.hint.get_or_insert_with(|| format!("the options are {}", names().collect::<Vec<_>>().join(", ")));
            return Err(self.fail_with(error));
        };
        debug_assert!(!reserved, "no option is a reserved word");
        let name = self.ident()?;
        if before.iter().any(|other| other.name.name.eq_ignore_ascii_case(&name.name)) {
            self.fail(name_span, format!("the option {} stands here a second time", shown.to_uppercase()));
        }
        self.expect_symbol(&Token::Eq, "\"=\"")?;
        let value_span = self.span();
        let value = match self.text() {
            Some(text) => text?,
            None => match (self.at_any(&["TRUE", "FALSE"]), self.token()) {
                (Some(word), _) => {
                    self.advance();
                    SmolStr::new_static(if word == "TRUE" { "true" } else { "false" })
                }
                // Superset: numbers without quotes.
                (None, Token::Number(digits, false)) => {
                    let digits = SmolStr::new(digits);
                    self.advance();
                    digits
                }
                _ => {
                    let hint = bare_word(self.token()).map(|word| format!("write {}=\"{word}\"", shown.to_uppercase()));
                    return Err(self.unexpected_or(&["a text", "TRUE", "FALSE"], &[], hint));
                }
            },
        };
        self.check(kind, &shown.to_uppercase(), &value, value_span)?;
        Ok(CreateOption { name, value, value_span })
    }

    fn check(&mut self, kind: OptionKind, name: &str, value: &str, span: Span) -> Parsed<()> {
        let wanted = match kind {
            OptionKind::Text => return Ok(()),
            OptionKind::Bool if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") => {
                return Ok(());
            }
            OptionKind::Bool => "must be TRUE or FALSE".to_owned(),
            OptionKind::Rows if value.parse::<u32>().is_ok_and(|rows| rows > 0) => return Ok(()),
            OptionKind::Rows => "must be a whole number of rows, at least 1".to_owned(),
            OptionKind::TableKind if value.eq_ignore_ascii_case("scan") || value.eq_ignore_ascii_case("lookup") => {
                return Ok(());
            }
            OptionKind::TableKind => "must be \"scan\" or \"lookup\"".to_owned(),
            OptionKind::Json => match serde_json::from_str::<serde::de::IgnoredAny>(value) {
                Ok(_) if value.trim_start().starts_with('{') => return Ok(()),
                Ok(_) => "must be a JSON object: \"{\\\"key\\\": \\\"value\\\"}\"".to_owned(),
                Err(error) => format!("must be a JSON object: {error}"),
            },
        };
        // The value itself is not repeated: EXTRA may hold a password.
        Err(self.fail(span, format!("{name} {wanted}")))
    }
}
