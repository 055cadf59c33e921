//! Errors with a place in the text, and how they are shown.

use std::fmt;

/// A piece of the statement's text: line and column, 1-based, in characters; the end is exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Line of the first character.
    pub line: u32,
    /// Column of the first character.
    pub column: u32,
    /// Line of the character behind the last one.
    pub end_line: u32,
    /// Column of the character behind the last one.
    pub end_column: u32,
}

impl Span {
    /// The smallest span that covers both.
    pub fn to(self, other: Span) -> Span {
        let (start, end) = (
            (self.line, self.column).min((other.line, other.column)),
            (self.end_line, self.end_column).max((other.end_line, other.end_column)),
        );
        Span { line: start.0, column: start.1, end_line: end.0, end_column: end.1 }
    }
}

/// One thing that is wrong with a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// What is wrong, on what, and what would work. Lower case, no final period.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to write instead: `did you mean "temperature"?`
    pub hint: Option<String>,
}

impl SqlError {
    /// An error at a place.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        SqlError { message: message.into(), span, hint: None }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds `did you mean "x"?` if one of the known names is near to `name`.
    #[must_use]
    pub fn with_suggestion<'a>(mut self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        if let Some(near) = nearest(name, known) {
            self.hint = Some(format!("did you mean \"{near}\"?"));
        }
        self
    }
}

/// The known name that is most like `name`, if one is near enough to be what was meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The distance costs the product of both lengths, and nobody misspells a name this long by a letter.
    const MAX_CHARS: usize = 64;
    if name.len() > MAX_CHARS {
        return None;
    }
    let lower = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count().min(name.chars().count()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Everything that is wrong with a statement, in the order of the text, with the statement to show it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlErrors {
    /// The statement.
    pub sql: String,
    /// At least one.
    pub errors: Vec<SqlError>,
}

impl std::error::Error for SqlErrors {}

/// Each error as `line:col: message`, the line of the statement below it with a caret, then the hint.
impl fmt::Display for SqlErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (error_idx, error) in self.errors.iter().enumerate() {
            if error_idx > 0 {
                writeln!(f)?;
            }
            let Span { line, column, end_line, end_column } = error.span;
            write!(f, "{line}:{column}: {}", error.message)?;
            if let Some(text) = self.sql.lines().nth(line.saturating_sub(1) as usize) {
                let end_column = if end_line == line { end_column } else { u32::MAX };
                let (excerpt, indent, n_carets) = excerpt(text, column, end_column);
                write!(f, "\n  {excerpt}\n  {indent}{}", "^".repeat(n_carets))?;
            }
            if let Some(hint) = &error.hint {
                write!(f, "\n  {hint}")?;
            }
        }
        Ok(())
    }
}

/// The part of a line around a span, the white space that leads to the span's start, and the number of carets below it.
///
/// A statement that was written by a program may be one line of a megabyte: only so much of it is shown as fits a screen.
fn excerpt(text: &str, column: u32, end_column: u32) -> (String, String, usize) {
    const BEFORE: usize = 70;
    const MAX: usize = 140;
    let start = column.saturating_sub(1) as usize;
    let mut skipped = 0;
    let mut shown = text;
    let mut excerpt = String::new();
    if text.chars().nth(MAX).is_some() && start > BEFORE {
        skipped = start - BEFORE;
        shown = shown.char_indices().nth(skipped).map_or("", |(idx, _)| &shown[idx..]);
        excerpt.push_str("...");
    }
    let n_marks = excerpt.len();
    let n_chars = shown.chars().count().min(MAX);
    excerpt.extend(shown.chars().take(MAX).map(|ch| if ch.is_control() && ch != '\t' { ' ' } else { ch }));
    if shown.chars().nth(MAX).is_some() {
        excerpt.push_str("...");
    }
    let start = (start - skipped).min(n_chars);
    let end = (end_column.saturating_sub(1) as usize).saturating_sub(skipped).min(n_chars);
    let mut indent = " ".repeat(n_marks);
    indent.extend(shown.chars().take(start).map(|ch| if ch == '\t' { '\t' } else { ' ' }));
    (excerpt, indent, end.saturating_sub(start).max(1))
}
