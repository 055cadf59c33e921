//! The cursor over the tokens, with what every rule of the grammar needs: looking ahead, expecting, naming what was found,
//! and going on after an error.
//!
//! A rule that fails has already put its error into [`Parser::errors`] and returns [`Failed`]. A rule that knows where to go
//! on (a list, a clause) catches it and skips, so that one run reports everything. A tree is only ever given out when
//! `errors` stayed empty.

use smol_str::SmolStr;
use sqlparser::tokenizer::Token;

use super::ast::{Ident, Select, SourceKeyword, Statement};
use super::error::nearest;
use super::token::{Lexeme, describe, tokenize, unescape, unquote};
use super::{Span, SqlError, SqlErrors};

/// A rule did not match; the error is in [`Parser::errors`].
#[derive(Debug)]
pub(super) struct Failed;

pub(super) type Parsed<T> = Result<T, Failed>;

/// More errors than this are not collected: nobody reads them, and showing them would take long.
const MAX_ERRORS: usize = 20;

/// Brackets, calls and types may be nested this deep. It bounds the stack, here and in all who walk the tree.
pub(super) const MAX_NESTING: u32 = 50;

/// Words that are names only between back-quotes.
const RESERVED: [&str; 32] = [
    "AND", "AS", "ASC", "BETWEEN", "BY", "CASE", "CROSS", "DESC", "ELSE", "END", "FALSE", "FROM", "FULL", "GROUP",
    "HAVING", "IN", "INNER", "JOIN", "LEFT", "LIKE", "LIMIT", "NOT", "NULL", "ON", "OR", "ORDER", "RIGHT", "SELECT",
    "THEN", "TRUE", "WHEN", "WHERE",
];

/// Words that cannot be an alias without `AS`, though they can be names elsewhere: they begin or end something.
const NOT_ALIASES: [&str; 15] = [
    "EXCEPT",
    "FETCH",
    "FILTER",
    "INTERSECT",
    "INVISIBLE",
    "IS",
    "NULLS",
    "OFFSET",
    "OUTER",
    "OVER",
    "PARTITION",
    "REPLACE",
    "UNION",
    "USING",
    "WITH",
];

/// Whether the word is a name only between back-quotes.
pub(super) fn is_reserved(word: &str) -> bool {
    word.len() <= 9 && RESERVED.iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}

/// Whether the name can be written without back-quotes in any place.
pub(super) fn is_plain_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|first| first == '_' || first.is_alphabetic())
        && chars.all(|ch| ch == '_' || ch.is_alphanumeric())
        && !is_reserved(name)
        && !NOT_ALIASES.iter().any(|word| name.eq_ignore_ascii_case(word))
        && !["DISTINCT", "DEFAULT"].iter().any(|word| name.eq_ignore_ascii_case(word))
}

/// Parses one statement; a trailing `;` is allowed.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub fn parse_statement(sql: &str) -> Result<Statement, SqlErrors> {
    let (statements, mut errors) = parse_all(sql);
    let mut statements = statements.into_iter();
    match (statements.next(), statements.next()) {
        (Some((statement, _)), None) if errors.is_empty() => return Ok(statement),
        (Some(_), Some((_, second))) if errors.is_empty() => {
            errors.push(SqlError::new(second, "expected one statement, found a second one"));
        }
        (None, _) if errors.is_empty() => {
            errors.push(SqlError::new(START, "expected a statement, found an empty text"));
        }
        _ => {}
    }
    Err(SqlErrors { sql: sql.to_owned(), errors })
}

/// Parses `a; b; c`. Every span counts from the start of the whole text. Gives the statements that are right, and all
/// errors of the others; empty statements are skipped.
pub fn parse_statements(sql: &str) -> (Vec<Statement>, Option<SqlErrors>) {
    let (statements, errors) = parse_all(sql);
    let errors = (!errors.is_empty()).then(|| SqlErrors { sql: sql.to_owned(), errors });
    (statements.into_iter().map(|(statement, _)| statement).collect(), errors)
}

fn parse_all(sql: &str) -> (Vec<(Statement, Span)>, Vec<SqlError>) {
    let (lexemes, broken) = tokenize(sql);
    let mut statements = Vec::new();
    let mut errors = Vec::new();
    let mut parts = lexemes.split(|lexeme| lexeme.token == Token::SemiColon).peekable();
    while let Some(part) = parts.next() {
        let cut = broken.is_some() && parts.peek().is_none();
        if let [first, .., last] | [first @ last] = part {
            let mut parser = Parser::new(part, cut);
            match parser.whole_statement() {
                Ok(statement) if parser.errors.is_empty() && !cut => {
                    statements.push((statement, first.span.to(last.span)))
                }
                _ => errors.append(&mut parser.errors),
            }
        }
        if errors.len() >= MAX_ERRORS {
            break;
        }
    }
    errors.extend(broken);
    errors.sort_by_key(|error| (error.span.line, error.span.column));
    errors.truncate(MAX_ERRORS);
    (statements, errors)
}

const START: Span = Span { line: 1, column: 1, end_line: 1, end_column: 1 };

/// The state of one statement's parse.
pub(super) struct Parser<'a> {
    lexemes: &'a [Lexeme],
    pos: usize,
    /// Stands behind the last token.
    end: Lexeme,
    /// The text could not be split into tokens behind the last one: whatever is missing there is not worth a word.
    cut: bool,
    /// What is wrong so far.
    pub errors: Vec<SqlError>,
    nesting: u32,
    /// Where skipping stopped after an error: nothing that is missing right here is worth another error.
    resumed_at: Option<usize>,
    /// The token before this position was taken as an alias without `AS`; it may have been a misspelt keyword.
    alias_before: Option<(usize, Ident)>,
}

impl<'a> Parser<'a> {
    fn new(lexemes: &'a [Lexeme], cut: bool) -> Self {
        let mut end = Lexeme { token: Token::EOF, span: START, depth: 0 };
        if let Some(last) = lexemes.last() {
            let (line, column) = (last.span.end_line, last.span.end_column);
            end.span = Span { line, column, end_line: line, end_column: column };
        }
        Parser { lexemes, pos: 0, end, cut, errors: Vec::new(), nesting: 0, resumed_at: None, alias_before: None }
    }

    fn whole_statement(&mut self) -> Parsed<Statement> {
        let statement = self.statement()?;
        if !self.at_end() {
            return Err(self.unexpected(&["the end of the statement"]));
        }
        Ok(statement)
    }

    fn statement(&mut self) -> Parsed<Statement> {
        const VERBS: [&str; 6] = ["SELECT", "CREATE", "SHOW", "DESCRIBE", "EXPLAIN", "DROP"];
        if self.at("SELECT") {
            return Ok(Statement::Select(Box::new(self.select()?)));
        }
        let Some(verb) = self.take_keyword(&VERBS) else {
            return Err(self.unexpected(&VERBS));
        };
        if verb == "SELECT" {
            // Misspelt; `select` begins behind it.
            return Ok(Statement::Select(Box::new(self.select_behind(self.prev_span())?)));
        }
        if verb == "SHOW" {
            let plural = self.expect_keyword(&["STREAMS", "TABLES"])?;
            return Ok(Statement::Show(if plural == "TABLES" { SourceKeyword::Table } else { SourceKeyword::Stream }));
        }
        let keyword = match self.expect_keyword(&["STREAM", "TABLE"])? {
            "TABLE" => SourceKeyword::Table,
            _ => SourceKeyword::Stream,
        };
        let name = self.source_ident()?;
        Ok(match verb {
            "CREATE" => Statement::Create(self.create(keyword, name)?),
            "DESCRIBE" => Statement::Describe(keyword, name),
            "EXPLAIN" => Statement::Explain(keyword, name),
            _ => Statement::Drop(keyword, name),
        })
    }

    fn select(&mut self) -> Parsed<Select> {
        self.expect_keyword(&["SELECT"])?;
        self.select_behind(self.prev_span())
    }

    // Looking ahead.

    pub fn lexeme(&self) -> &Lexeme {
        self.lexeme_ahead(0)
    }

    pub fn lexeme_ahead(&self, n: usize) -> &Lexeme {
        self.lexemes.get(self.pos + n).unwrap_or(&self.end)
    }

    pub fn token(&self) -> &Token {
        &self.lexeme().token
    }

    pub fn token_ahead(&self, n: usize) -> &Token {
        &self.lexeme_ahead(n).token
    }

    pub fn at_end(&self) -> bool {
        self.pos >= self.lexemes.len()
    }

    /// Where the next token stands.
    pub fn span(&self) -> Span {
        self.lexeme().span
    }

    /// Where the last taken token stands.
    pub fn prev_span(&self) -> Span {
        let prev = self.pos.checked_sub(1).and_then(|idx| self.lexemes.get(idx));
        prev.unwrap_or_else(|| self.lexeme()).span
    }

    /// The last taken token as it was written, without quotes.
    pub fn prev_text(&self) -> String {
        match self.pos.checked_sub(1).and_then(|idx| self.lexemes.get(idx)).map(|lexeme| &lexeme.token) {
            Some(Token::Word(word)) => unquote(&word.value).to_string(),
            Some(token) => token.to_string(),
            None => String::new(),
        }
    }

    /// Whether the next token is this keyword.
    pub fn at(&self, keyword: &str) -> bool {
        self.ahead(0, keyword)
    }

    /// Whether the `n`th token from here is this keyword.
    pub fn ahead(&self, n: usize, keyword: &str) -> bool {
        bare_word(self.token_ahead(n)).is_some_and(|word| word.eq_ignore_ascii_case(keyword))
    }

    /// Which of the keywords the next token is.
    pub fn at_any(&self, keywords: &[&'static str]) -> Option<&'static str> {
        let word = bare_word(self.token())?;
        keywords.iter().find(|keyword| word.eq_ignore_ascii_case(keyword)).copied()
    }

    // Taking.

    pub fn advance(&mut self) {
        self.pos = (self.pos + 1).min(self.lexemes.len());
    }

    /// Goes to behind a misspelt word, see [`Parser::misspelt`].
    pub fn go_behind(&mut self, behind: usize) {
        self.pos = behind.min(self.lexemes.len());
    }

    pub fn take(&mut self, keyword: &str) -> bool {
        let there = self.at(keyword);
        if there {
            self.advance();
        }
        there
    }

    pub fn take_symbol(&mut self, symbol: &Token) -> bool {
        let there = self.token() == symbol;
        if there {
            self.advance();
        }
        there
    }

    /// Takes one of the keywords; also a word that is nearly one, after noting the error.
    pub fn take_keyword(&mut self, keywords: &[&'static str]) -> Option<&'static str> {
        if let Some(keyword) = self.at_any(keywords) {
            self.advance();
            return Some(keyword);
        }
        let (keyword, behind) = self.misspelt(keywords)?;
        let _ = self.unexpected(keywords);
        self.pos = behind;
        Some(keyword)
    }

    pub fn expect_keyword(&mut self, keywords: &[&'static str]) -> Parsed<&'static str> {
        self.take_keyword(keywords).ok_or_else(|| self.unexpected(keywords))
    }

    pub fn expect_symbol(&mut self, symbol: &Token, shown: &'static str) -> Parsed<Span> {
        if self.take_symbol(symbol) { Ok(self.prev_span()) } else { Err(self.unexpected(&[shown])) }
    }

    /// A name: a word that is not reserved, or anything between back-quotes.
    pub fn ident(&mut self) -> Parsed<Ident> {
        let span = self.span();
        let name = match self.token() {
            Token::Word(word) if word.quote_style.is_some() => unquote(&word.value),
            Token::Word(word) if !is_reserved(&word.value) => SmolStr::new(&word.value),
            Token::Word(_) => return Err(self.found_reserved("a name")),
            _ => return Err(self.unexpected(&["a name"])),
        };
        if name.is_empty() {
            return Err(self.fail(span, "a name cannot be empty"));
        }
        self.advance();
        Ok(Ident { name, span })
    }

    /// `AS name`, or the name alone if nothing else can stand there.
    pub fn alias(&mut self) -> Parsed<Option<Ident>> {
        if self.take("AS") {
            return self.ident().map(Some);
        }
        match self.token() {
            Token::Word(word) => {
                let quoted = word.quote_style.is_some();
                let free = |word: &str| {
                    !is_reserved(word) && !NOT_ALIASES.iter().any(|other| word.eq_ignore_ascii_case(other))
                };
                if !quoted && !free(&word.value) {
                    return Ok(None);
                }
                let alias = self.ident()?;
                if !quoted {
                    self.alias_before = Some((self.pos, alias.clone()));
                }
                Ok(Some(alias))
            }
            _ => Ok(None),
        }
    }

    /// The text that the next token holds, if it is one.
    pub fn text(&mut self) -> Option<Parsed<SmolStr>> {
        let (raw, quote) = match self.token() {
            Token::SingleQuotedString(raw) => (raw, '\''),
            Token::DoubleQuotedString(raw) => (raw, '"'),
            _ => return None,
        };
        let text = unescape(raw, quote).map_err(|(at, n_chars, message)| {
            let Span { line, column, .. } = self.span();
            let start = column + 1 + u32::try_from(at).unwrap_or(0);
            let end_column = start + u32::try_from(n_chars).unwrap_or(1);
            self.fail(Span { line, column: start, end_line: line, end_column }, message)
        });
        self.advance();
        Some(text)
    }

    /// Goes one level deeper for the time of `rule`.
    pub fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.nesting >= MAX_NESTING {
            let message = format!("this is nested too deeply: more than {MAX_NESTING} levels");
            return Err(self.fail(self.span(), message));
        }
        self.nesting += 1;
        let parsed = rule(self);
        self.nesting -= 1;
        parsed
    }

    // Errors, and going on.

    pub fn fail(&mut self, span: Span, message: impl Into<String>) -> Failed {
        self.fail_with(SqlError::new(span, message))
    }

    pub fn fail_with(&mut self, error: SqlError) -> Failed {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
        Failed
    }

    /// The next token is none of what may stand here. Keywords are given bare, symbols in quotes, the rest in words.
    pub fn unexpected(&mut self, expected: &[&'static str]) -> Failed {
        self.unexpected_or(expected, &[], None)
    }

    /// The next token is a reserved word where something else is expected.
    pub fn found_reserved(&mut self, expected: &str) -> Failed {
        if self.is_resumed() {
            return Failed;
        }
        let word = bare_word(self.token()).unwrap_or_default();
        let error =
            SqlError::new(self.span(), format!("expected {expected}, found the keyword {}", word.to_uppercase()));
        let in_use = match self.at_any(&["GROUP", "ORDER", "LIMIT", "LEFT", "RIGHT", "FULL", "CROSS", "INNER"]) {
            Some("GROUP" | "ORDER") => self.ahead(1, "BY"),
            Some("LIMIT") => matches!(self.token_ahead(1), Token::Number(..)),
            Some(_) => self.ahead(1, "JOIN") || self.ahead(1, "OUTER"),
            // No column is ever called so.
            None => {
                ["FROM", "WHERE", "AND", "OR", "AS", "HAVING", "THEN", "WHEN", "SELECT", "ELSE", "BY", "JOIN", "ON"]
                    .iter()
                    .any(|keyword| self.at(keyword))
            }
        };
        let hint = (!in_use).then(|| format!("to use it as a name, write `{word}`"));
        self.fail_with(SqlError { hint, ..error })
    }

    /// As [`Parser::unexpected`], with more keywords that may have been meant, and a hint if none of all was.
    pub fn unexpected_or(&mut self, expected: &[&'static str], also: &[&'static str], hint: Option<String>) -> Failed {
        if self.is_resumed() {
            return Failed;
        }
        let mut list = String::new();
        for (idx, item) in expected.iter().enumerate() {
            list.push_str(match idx {
                0 => "",
                _ if idx + 1 == expected.len() => " or ",
                _ => ", ",
            });
            list.push_str(item);
        }
        let misspelt = self.misspelt(expected).or_else(|| self.misspelt(also));
        let found_at = match misspelt {
            Some((_, behind)) => behind.saturating_sub(1),
            None => self.pos,
        };
        let found = self.lexemes.get(found_at).unwrap_or(&self.end);
        let error = SqlError::new(found.span, format!("expected {list}, found {}", describe(&found.token)));
        let hint = match misspelt {
            Some((keyword, _)) => Some(format!("did you mean {keyword}?")),
            None => hint,
        };
        self.fail_with(SqlError { hint, ..error })
    }

    /// Whether what is missing here is only the consequence of an error before it.
    pub fn is_resumed(&self) -> bool {
        self.resumed_at == Some(self.pos) || (self.cut && self.at_end())
    }

    /// The keyword that the next word (or the alias without `AS` before it) was probably meant to be, and the position
    /// behind that word.
    pub fn misspelt(&self, keywords: &[&'static str]) -> Option<(&'static str, usize)> {
        let mut words = Vec::with_capacity(2);
        if let Some((behind, alias)) = &self.alias_before
            && *behind == self.pos
        {
            words.push((alias.name.as_str(), *behind));
        }
        if let Some(word) = bare_word(self.token()).filter(|word| !is_reserved(word)) {
            words.push((word, self.pos + 1));
        }
        let is_keyword = |word: &&&'static str| word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        words.into_iter().filter(|(word, _)| (3..=20).contains(&word.len())).find_map(|(word, behind)| {
            let keyword = nearest(word, keywords.iter().filter(is_keyword).copied())?;
            keywords.iter().find(|known| **known == keyword).map(|known| (*known, behind))
        })
    }

    /// Skips to the end of the statement, the end of the enclosing bracket, or a token at this depth where `stop` holds.
    pub fn skip_to(&mut self, depth: u32, stop: impl Fn(&Self) -> bool) {
        while !self.at_end() && self.lexeme().depth >= depth {
            if self.lexeme().depth == depth && stop(self) {
                break;
            }
            self.advance();
        }
        self.resumed_at = Some(self.pos);
    }
}

/// The word, if it is not between back-quotes.
pub(super) fn bare_word(token: &Token) -> Option<&str> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(&word.value),
        _ => None,
    }
}
