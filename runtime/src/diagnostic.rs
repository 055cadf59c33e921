//! What is wrong with a definition, where it stands and how it is shown: as text with a caret, or as JSON.

use std::fmt;

use serde::Serialize;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// Does it stop anything?
    pub severity: Severity,
    /// The file as it was named; `None` for what came from elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// 1-based; 0 if not known.
    pub line: u32,
    /// 1-based, in characters; 0 if not known.
    pub column: u32,
    /// Kind and name: `Rule/demo`; empty if it is not about one.
    pub resource: String,
    /// The field: `spec.options.qos`; empty if it is not about one.
    pub path: String,
    /// What is wrong and what would work. Lower case, no final period, never a secret.
    pub message: String,
    /// The line at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<Excerpt>,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// It runs, but probably not as meant.
    Warning,
    /// It can't run.
    Error,
}

/// A line of text with a part of it marked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// The line; values that look like secrets are starred out.
    pub text: String,
    /// First marked character of `text`, 1-based.
    pub column: u32,
    /// Number of marked characters.
    pub width: u32,
}

impl Diagnostic {
    /// An error that is about no field and no place yet.
    pub fn error(message: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            file: None,
            line: 0,
            column: 0,
            resource: String::new(),
            path: String::new(),
            message: message.into(),
            excerpt: None,
            hint: None,
        }
    }

    /// The same with another severity.
    #[must_use]
    pub fn with_severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// The same about a resource.
    #[must_use]
    pub fn with_resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = resource.into();
        self
    }

    /// The same about a field.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// The same in a file.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>, line: u32, column: u32) -> Self {
        (self.file, self.line, self.column) = (Some(file.into()), line, column);
        self
    }

    /// Does it stop something?
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `file:line:col: path: message`, then the line with a caret, then the hint.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), 0) => write!(f, "{file}: ")?,
            (Some(file), line) => write!(f, "{file}:{line}:{}: ", self.column.max(1))?,
            (None, _) if !self.resource.is_empty() => write!(f, "{}: ", self.resource)?,
            (None, 0) => {}
            (None, line) => write!(f, "{line}:{}: ", self.column.max(1))?,
        }
        match self.severity {
            Severity::Error => {}
            Severity::Warning => f.write_str("warning: ")?,
            Severity::Note => f.write_str("note: ")?,
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some(Excerpt { text, column, width }) = &self.excerpt {
            let indent: String = text
                .chars()
                .take(column.saturating_sub(1) as usize)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            write!(f, "\n  {text}\n  {indent}{}", "^".repeat((*width).max(1) as usize))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  {hint}")?;
        }
        Ok(())
    }
}

/// All of them as text, one after the other.
pub fn to_text(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

/// All of them as a JSON list.
pub fn to_json(diagnostics: &[Diagnostic]) -> String {
    serde_json::to_string_pretty(diagnostics).expect("diagnostics are plain data")
}

/// Longest piece of a line that is shown.
const MAX_EXCERPT: usize = 140;

impl Excerpt {
    /// Marks `width` characters of a line from `column` on. A long line is cut around them, secrets are starred out.
    pub fn new(line: &str, column: u32, width: u32) -> Self {
        let chars: Vec<char> = mask(line.trim_end()).chars().collect();
        let start = (column.max(1) - 1) as usize;
        if chars.len() <= MAX_EXCERPT {
            let rest = chars.len().saturating_sub(start).max(1) as u32;
            return Excerpt { text: chars.into_iter().collect(), column: column.max(1), width: width.clamp(1, rest) };
        }
        let from = start.saturating_sub(MAX_EXCERPT / 2).min(chars.len() - MAX_EXCERPT);
        let to = (from + MAX_EXCERPT).min(chars.len());
        let (head, tail) = (if from > 0 { "..." } else { "" }, if to < chars.len() { "..." } else { "" });
        let text: String =
            head.chars().chain(chars.get(from..to).unwrap_or_default().iter().copied()).chain(tail.chars()).collect();
        let column = start.saturating_sub(from) + head.len() + 1;
        let rest = (to - from + head.len()).saturating_sub(column - 1).max(1) as u32;
        Excerpt { text, column: column as u32, width: width.clamp(1, rest) }
    }
}

/// Names of options whose values are secret.
const SECRET_NAMES: &[&str] = &["password", "passwd", "token", "secret", "privatekey", "apikey", "credential"];

/// Stars out what follows a secret's name in a line, and the user part of a URL; as many stars as characters, so that columns
/// stay. A safety net: lines are shown so that people find the place, and end in the logs of their build servers.
fn mask(line: &str) -> String {
    let mut chars: Vec<char> = line.chars().collect();
    let lower: Vec<char> = chars.iter().map(char::to_ascii_lowercase).collect();
    for name in SECRET_NAMES {
        let name: Vec<char> = name.chars().collect();
        for at in 0..lower.len() {
            if lower.get(at..at + name.len()) == Some(name.as_slice()) {
                star_value(&mut chars, at + name.len());
            }
        }
    }
    let separator = ['/', '/'];
    for at in 0..chars.len() {
        if chars.get(at..at + 2) != Some(&separator) {
            continue;
        }
        let rest = chars.get(at + 2..).unwrap_or_default();
        let end = rest.iter().position(|c| matches!(c, '/' | '"' | '\'' | ' ')).unwrap_or(rest.len());
        let user = rest.get(..end).and_then(|authority| authority.iter().rposition(|c| *c == '@')).unwrap_or(0);
        for c in chars.iter_mut().skip(at + 2).take(user) {
            *c = '*';
        }
    }
    chars.into_iter().collect()
}

/// Stars out the value behind a name that ends at `from`: the rest of the name, quotes and a colon or equals sign, then the
/// value up to its closing quote, a comma or the end.
fn star_value(chars: &mut [char], from: usize) {
    let mut at = from;
    while chars.get(at).is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
        at += 1;
    }
    while chars.get(at).is_some_and(|c| matches!(c, '"' | '\'' | '\\' | ' ')) {
        at += 1;
    }
    if !chars.get(at).is_some_and(|c| matches!(c, ':' | '=')) {
        return;
    }
    at += 1;
    while chars.get(at).is_some_and(|c| matches!(c, ' ' | '\\')) {
        at += 1;
    }
    // A map is a reference to a Secret, or its members are starred out on their own.
    let quote = match chars.get(at) {
        Some('{' | '[') | None => return,
        Some(c @ ('"' | '\'')) => Some(*c),
        Some(_) => None,
    };
    at += usize::from(quote.is_some());
    while let Some(c) = chars.get_mut(at) {
        let end = match quote {
            Some(quote) => *c == quote,
            None => matches!(c, ',' | '}'),
        };
        if end {
            return;
        }
        *c = '*';
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_without_secrets() {
        for (line, shown) in [
            ("  password: hunter2", "  password: *******"),
            ("  password: \"hun, ter2\"", "  password: \"*********\""),
            ("  - mqtt: {password: hunter2, qoss: 1}", "  - mqtt: {password: *******, qoss: 1}"),
            (r#"EXTRA="{\"password\":\"hunter2\",\"a\":1}""#, r#"EXTRA="{\"password\":\"********",\"a\":1}""#),
            (
                "  token: {secretKeyRef: {name: influx, key: token}}",
                "  token: {secretKeyRef: {name: influx, key: token}}",
            ),
            ("  dburl: postgres://me:pw@db/x", "  dburl: postgres://*****@db/x"),
            ("  server: tcp://broker:1883", "  server: tcp://broker:1883"),
            ("  apiKeys: abc", "  apiKeys: ***"),
            ("SELECT token FROM s", "SELECT token FROM s"),
        ] {
            assert_eq!(mask(line), shown, "{line}");
        }
    }

    #[test]
    fn a_long_line_is_cut_around_its_mark() {
        let line = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let excerpt = Excerpt::new(&line, 501, 4);
        let marked: String =
            excerpt.text.chars().skip(excerpt.column as usize - 1).take(excerpt.width as usize).collect();
        assert_eq!(marked, "HERE");
        assert_eq!(excerpt.text.chars().count(), MAX_EXCERPT + 6);
        assert_eq!(Excerpt::new("short", 99, 9), Excerpt { text: "short".into(), column: 99, width: 1 });
    }

    #[test]
    fn text_and_json() {
        let mut diagnostic =
            Diagnostic::error("unknown field").with_resource("Rule/a").with_path("spec.x").in_file("a.yaml", 3, 5);
        diagnostic.excerpt = Some(Excerpt::new("    x: 1", 5, 1));
        diagnostic.hint = Some("remove it".into());
        assert_eq!(diagnostic.to_string(), "a.yaml:3:5: spec.x: unknown field\n      x: 1\n      ^\n  remove it");
        insta::assert_snapshot!(to_json(&[diagnostic]), @r#"
        [
          {
            "severity": "error",
            "file": "a.yaml",
            "line": 3,
            "column": 5,
            "resource": "Rule/a",
            "path": "spec.x",
            "message": "unknown field",
            "excerpt": {
              "text": "    x: 1",
              "column": 5,
              "width": 1
            },
            "hint": "remove it"
          }
        ]
        "#);
        let note = Diagnostic::error("skipped").with_severity(Severity::Note).with_resource("ConfigMap/a");
        assert_eq!(note.to_string(), "ConfigMap/a: note: skipped");
    }
}
