//! From a part of a definition back to the text that it was written in.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_sql::sql::{Span, SqlError, SqlErrors};

use super::document::{self, Document};
use super::yaml::Node;
use crate::definition::Origin;
use crate::diagnostic::{Diagnostic, Excerpt};
use crate::error::ConfigProblem;

/// Where the parts of a definition were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The document.
    pub document: Arc<Document>,
    /// Options of the CREATE statement, by upper-case name, with the places of their values in the statement.
    pub ddl: BTreeMap<String, Span>,
    /// Connector options that are not in the document, by lower-case name: which profile they come from.
    pub profile: BTreeMap<String, String>,
}

impl Origin {
    /// An error about a field of the document.
    pub fn problem(&self, path: &str, message: impl Into<String>) -> Diagnostic {
        match &self.place {
            Some(place) => place.document.problem(path, message),
            None => self.without_place(path, message.into()),
        }
    }

    /// An error about a field's name rather than about its value.
    pub fn key_problem(&self, path: &str, message: impl Into<String>) -> Diagnostic {
        match &self.place {
            Some(place) => place.document.key_problem(path, message),
            None => self.without_place(path, message.into()),
        }
    }

    /// An error about what the statement's option `ddl` or else the field `path` says.
    pub fn attribute_problem(&self, path: &str, ddl: &str, message: impl Into<String>) -> Diagnostic {
        let Some(span) = self.place.as_ref().and_then(|place| place.ddl.get(ddl)) else {
            return self.problem(path, message);
        };
        self.sql_problem("spec.sql", &SqlError::new(*span, message), None)
    }

    /// An error about a connector's option. `base` is the path of the options in the document: `spec.options`,
    /// `spec.sinks[0].mqtt`.
    pub fn option_problem(&self, base: &str, problem: &ConfigProblem) -> Diagnostic {
        let path = if problem.path.is_empty() { base.to_owned() } else { format!("{base}.{}", problem.path) };
        let Some(place) = &self.place else { return self.without_place(&path, problem.message.clone()) };
        if !place.document.node.locate(&path).exact {
            let name = problem.path.split(['.', '[']).next().unwrap_or_default().to_lowercase();
            if let Some(profile) = place.profile.get(&name) {
                let mut diagnostic = place.document.problem("spec", format!("{} (in {profile})", problem.message));
                // The line at fault is in another file.
                diagnostic.excerpt = None;
                return diagnostic.with_path(&problem.path);
            }
            if place.ddl.contains_key("EXTRA") {
                return self.attribute_problem(&path, "EXTRA", format!("{}: {}", problem.path, problem.message));
            }
        }
        place.document.problem(&path, problem.message.clone())
    }

    /// The errors of the statement in the field `path`, shown in the file where the statement stands there as it is.
    pub fn sql_problems(&self, path: &str, errors: &SqlErrors) -> Vec<Diagnostic> {
        errors.errors.iter().map(|error| self.sql_problem(path, error, Some(&errors.sql))).collect()
    }

    fn sql_problem(&self, path: &str, error: &SqlError, sql: Option<&str>) -> Diagnostic {
        let Some(place) = &self.place else {
            let mut diagnostic = self.without_place(path, located(error));
            diagnostic.excerpt = sql.and_then(|sql| excerpt(sql, error.span));
            diagnostic.hint = error.hint.clone();
            return diagnostic;
        };
        let Document { file, node, .. } = &*place.document;
        let statement = path.split('.').try_fold(node, Node::get);
        let text = statement.and_then(Node::as_str).or(sql);
        let mapped = statement
            .zip(statement.and_then(Node::as_str))
            .and_then(|(node, text)| map_span(&file.text, node.span, text, error.span));
        let mut diagnostic = match mapped {
            Some(span) => document::at(file, span, &error.message, true).with_path(path),
            None => {
                let mut diagnostic = place.document.problem(path, located(error));
                diagnostic.excerpt = text.and_then(|text| excerpt(text, error.span));
                diagnostic
            }
        };
        diagnostic.hint = error.hint.clone();
        diagnostic.with_resource(&self.resource)
    }

    fn without_place(&self, path: &str, message: String) -> Diagnostic {
        let mut diagnostic = Diagnostic::error(message).with_resource(&self.resource).with_path(path);
        diagnostic.file = self.file.as_ref().map(|file| file.display().to_string());
        diagnostic.line = self.line;
        diagnostic
    }
}

fn located(error: &SqlError) -> String {
    format!("{}:{}: {}", error.span.line, error.span.column, error.message)
}

fn excerpt(sql: &str, span: Span) -> Option<Excerpt> {
    let line = sql.lines().nth(span.line.checked_sub(1)? as usize)?;
    let width = if span.end_line == span.line { span.end_column.saturating_sub(span.column) } else { u32::MAX };
    Some(Excerpt::new(line, span.column, width))
}

/// The place in the file of a piece of a YAML text, if the text stands there character by character: plain, folded, block, or
/// quoted with no other escapes than of quotes, backslashes and line ends.
fn map_span(file: &str, node: Span, text: &str, span: Span) -> Option<Span> {
    let places = align(file, node, text)?;
    let index = |line: u32, column: u32| -> Option<usize> {
        let before: usize =
            text.split_inclusive('\n').take(line.checked_sub(1)? as usize).map(|l| l.chars().count()).sum();
        Some(before + column.checked_sub(1)? as usize)
    };
    let start = index(span.line, span.column)?;
    let last = index(span.end_line, span.end_column).map_or(start, |end| end.saturating_sub(1).max(start));
    // Behind the last character: the end of the statement.
    let behind = |at: usize| {
        let (line, column) = *places.get(at.checked_sub(1)?)?;
        Some((line, column + 1))
    };
    let (line, column) = places.get(start).copied().or_else(|| behind(places.len().min(start)))?;
    let (end_line, end_column) =
        places.get(last).map(|(line, column)| (*line, *column + 1)).unwrap_or((line, column + 1));
    Some(Span { line, column, end_line, end_column })
}

/// The place of each character of a YAML scalar.
fn align(file: &str, node: Span, text: &str) -> Option<Vec<(u32, u32)>> {
    let mut source = Vec::new();
    let first = node.line.checked_sub(1)? as usize;
    let n_lines = node.end_line.saturating_sub(node.line) as usize + 2;
    for (line_idx, line) in file.split_inclusive('\n').enumerate().skip(first).take(n_lines) {
        let skip = if line_idx + 1 == node.line as usize { node.column.checked_sub(1)? as usize } else { 0 };
        source.extend(line.chars().enumerate().skip(skip).map(|(c_idx, c)| (c, line_idx as u32 + 1, c_idx as u32 + 1)));
    }
    let mut at = 0;
    let quote = source.first().map(|(c, ..)| *c).filter(|c| matches!(c, '"' | '\''));
    match source.first()?.0 {
        '|' | '>' => at = source.iter().position(|(c, ..)| *c == '\n')? + 1,
        '"' | '\'' => at = 1,
        _ => {}
    }
    let mut places = Vec::with_capacity(text.len());
    for c in text.chars() {
        if c.is_whitespace() {
            let (here, line, column) = source.get(at).copied().unwrap_or(*source.last()?);
            places.push((line, column));
            let escaped = quote == Some('"')
                && here == '\\'
                && matches!((c, source.get(at + 1)), ('\n', Some(('n', ..))) | ('\t', Some(('t', ..))));
            at += if escaped { 2 } else { usize::from(here == c) };
            continue;
        }
        while source.get(at).is_some_and(|(here, ..)| here.is_whitespace()) {
            at += 1;
        }
        let (mut here, line, column) = *source.get(at)?;
        places.push((line, column));
        if quote == Some('"') && here == '\\' {
            at += 1;
            here = source.get(at)?.0;
        }
        if here != c {
            return None;
        }
        at += 1;
        if quote == Some('\'') && c == '\'' {
            at += 1;
        }
    }
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::yaml;

    #[test]
    fn places_in_a_statement_are_places_in_the_file() {
        for (file, line, column) in [
            ("sql: SELECT x FROM s\n", 1, 13),
            ("a: 1\nsql: 'SELECT x FROM s'\n", 2, 14),
            ("sql: \"SELECT x FROM s\"\n", 1, 14),
            ("sql: \"SELECT \\\"a\\\", x FROM s\"\n", 1, 21),
            ("sql: 'SELECT ''a'', x FROM s'\n", 1, 21),
            ("sql: |\n  SELECT\n    a,\n    x\n  FROM s\n", 4, 5),
            ("sql: >-\n  SELECT\n    a,\n    x\n  FROM s\n", 4, 5),
            ("sql: SELECT a,\n  x\n  FROM s\n", 2, 3),
            ("{\"sql\": \"SELECT\\n  x FROM s\"}", 1, 20),
            ("sql: |2\n   -- ä\n   SELECT x\n", 3, 11),
        ] {
            let document = yaml::parse(file).unwrap().remove(0);
            let node = document.get("sql").unwrap();
            let text = node.as_str().unwrap();
            let (line_idx, x) = text
                .lines()
                .enumerate()
                .find_map(|(line_idx, line)| Some((line_idx, line.chars().position(|c| c == 'x')?)))
                .unwrap();
            let at = Span {
                line: line_idx as u32 + 1,
                column: x as u32 + 1,
                end_line: line_idx as u32 + 1,
                end_column: x as u32 + 2,
            };
            let mapped = map_span(file, node.span, text, at);
            let expected = Span { line, column, end_line: line, end_column: column + 1 };
            assert_eq!(mapped, Some(expected), "{file}");
        }
    }

    #[test]
    fn what_was_escaped_otherwise_has_no_place() {
        let file = "sql: \"SELECT \\x41 FROM s\"";
        let document = yaml::parse(file).unwrap().remove(0);
        let node = document.get("sql").unwrap();
        let at = Span { line: 1, column: 1, end_line: 1, end_column: 2 };
        assert_eq!(map_span(file, node.span, node.as_str().unwrap(), at), None);
    }
}
