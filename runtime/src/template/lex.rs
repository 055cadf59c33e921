//! Template text to tokens.

/// A token and where it stands, in bytes from the start of the template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) offset: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Text between actions, trimmed as the actions around it ask.
    Text(String),
    /// `{{`
    Left,
    /// `}}`
    Right,
    /// White space within an action: it parts arguments, and `.a .b` from `.a.b`.
    Space,
    /// `.name`
    Field(String),
    /// `$` or `$name`, with the dollar.
    Variable(String),
    /// A function, `true`, `nil`, or a keyword.
    Word(String),
    /// As it is written.
    Number(String),
    /// A rune constant.
    Char(char),
    /// A text constant, without quotes and escapes.
    String(String),
    Dot,
    Pipe,
    Open,
    Close,
    Comma,
    Declare,
    Assign,
    End,
}

type Fault = (usize, String);

/// Cuts a template into tokens.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let mut tokens = Vec::new();
    let mut pos = 0;
    let mut trim_next = false;
    loop {
        let rest = text.get(pos..).unwrap_or_default();
        let left = rest.find("{{");
        let mut plain = rest.get(..left.unwrap_or(rest.len())).unwrap_or_default();
        let start = pos;
        if trim_next {
            plain = plain.trim_start_matches(is_space);
        }
        let Some(left) = left else {
            push_text(&mut tokens, plain, start);
            tokens.push(Token { kind: Kind::End, offset: text.len() });
            return Ok(tokens);
        };
        let left_at = pos + left;
        let mut inner = left_at + 2;
        let after = text.get(inner..).unwrap_or_default();
        if after.starts_with('-') && after.get(1..).is_some_and(|rest| rest.starts_with(is_space)) {
            plain = plain.trim_end_matches(is_space);
            inner += 1;
        }
        push_text(&mut tokens, plain, start);
        let after = text.get(inner..).unwrap_or_default();
        let comment = after.trim_start_matches(is_space);
        if comment.starts_with("/*") && (after.len() == comment.len() || inner > left_at + 2) {
            let comment_at = inner + (after.len() - comment.len());
            let Some(n_comment) = comment.find("*/") else { return Err((comment_at, "unclosed comment".to_owned())) };
            let behind = comment.get(n_comment + 2..).unwrap_or_default();
            let behind_at = comment_at + n_comment + 2;
            if behind.starts_with("}}") {
                trim_next = false;
                pos = behind_at + 2;
            } else if let Some(n_trim) = trims_right(behind) {
                trim_next = true;
                pos = behind_at + n_trim;
            } else {
                return Err((behind_at, "a comment must be all of its action: expected `}}`".to_owned()));
            }
            continue;
        }
        tokens.push(Token { kind: Kind::Left, offset: left_at });
        (pos, trim_next) = action(text, inner, left_at, &mut tokens)?;
    }
}

fn push_text(tokens: &mut Vec<Token>, text: &str, offset: usize) {
    if !text.is_empty() {
        tokens.push(Token { kind: Kind::Text(text.to_owned()), offset });
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Length of ` -}}`, if that is what comes next.
fn trims_right(rest: &str) -> Option<usize> {
    let trimmed = rest.trim_start_matches(is_space);
    (trimmed.len() < rest.len() && trimmed.starts_with("-}}")).then(|| rest.len() - trimmed.len() + 3)
}

/// Reads an action up to and with its end; returns where it ended and whether the text behind it is trimmed.
fn action(text: &str, start: usize, left_at: usize, tokens: &mut Vec<Token>) -> Result<(usize, bool), Fault> {
    let mut pos = start;
    let mut depth = 0usize;
    loop {
        let rest = text.get(pos..).unwrap_or_default();
        let Some(c) = rest.chars().next() else { return Err((left_at, "unclosed action: expected `}}`".to_owned())) };
        let mut push = |kind| tokens.push(Token { kind, offset: pos });
        if let Some(n_trim) = trims_right(rest) {
            push(Kind::Right);
            return closed(depth, pos).map(|()| (pos + n_trim, true));
        }
        if rest.starts_with("}}") {
            push(Kind::Right);
            return closed(depth, pos).map(|()| (pos + 2, false));
        }
        let second = rest.chars().nth(1);
        let n = match c {
            _ if is_space(c) => {
                push(Kind::Space);
                rest.len() - rest.trim_start_matches(is_space).len()
            }
            '|' => {
                push(Kind::Pipe);
                1
            }
            ',' => {
                push(Kind::Comma);
                1
            }
            '(' => {
                depth += 1;
                push(Kind::Open);
                1
            }
            ')' => {
                if depth == 0 {
                    return Err((pos, "`)` without `(`".to_owned()));
                }
                depth -= 1;
                push(Kind::Close);
                1
            }
            ':' if second == Some('=') => {
                push(Kind::Declare);
                2
            }
            '=' => {
                push(Kind::Assign);
                1
            }
            '"' => {
                let (string, n) = quoted(rest, '"').map_err(|message| (pos, message))?;
                push(Kind::String(string));
                n
            }
            '`' => {
                let end = rest.get(1..).and_then(|rest| rest.find('`'));
                let Some(end) = end else { return Err((pos, "unclosed raw text: expected a back-tick".to_owned())) };
                push(Kind::String(rest.get(1..=end).unwrap_or_default().replace('\r', "")));
                end + 2
            }
            '\'' => {
                let (string, n) = quoted(rest, '\'').map_err(|message| (pos, message))?;
                let mut chars = string.chars();
                match (chars.next(), chars.next()) {
                    (Some(c), None) => push(Kind::Char(c)),
                    _ => {
                        return Err((
                            pos,
                            "a constant in single quotes is one character; use \"...\" for text".to_owned(),
                        ));
                    }
                }
                n
            }
            '$' => {
                let n = 1 + word_len(rest.get(1..).unwrap_or_default());
                push(Kind::Variable(rest.get(..n).unwrap_or_default().to_owned()));
                n
            }
            '.' if second.is_some_and(|c| c == '_' || c.is_alphabetic()) => {
                let n = 1 + word_len(rest.get(1..).unwrap_or_default());
                push(Kind::Field(rest.get(1..n).unwrap_or_default().to_owned()));
                n
            }
            '.' if !second.is_some_and(|c| c.is_ascii_digit()) => {
                push(Kind::Dot);
                1
            }
            '0'..='9' | '+' | '-' | '.' => {
                let n = number_len(rest);
                push(Kind::Number(rest.get(..n).unwrap_or_default().to_owned()));
                n
            }
            c if is_word(c) => {
                let n = word_len(rest);
                push(Kind::Word(rest.get(..n).unwrap_or_default().to_owned()));
                n
            }
            c => return Err((pos, format!("unexpected `{c}` in an action"))),
        };
        pos += n;
        // Words, fields and constants must be followed by something that ends them.
        if matches!(
            tokens.last().map(|token| &token.kind),
            Some(Kind::Word(_) | Kind::Field(_) | Kind::Variable(_) | Kind::Number(_))
        ) {
            let next = text.get(pos..).and_then(|rest| rest.chars().next());
            if let Some(c) = next
                && !is_space(c)
                && !matches!(c, '.' | ',' | '|' | ':' | '=' | ')' | '(' | '}')
            {
                return Err((pos, format!("unexpected `{c}` in an action")));
            }
        }
    }
}

fn closed(depth: usize, pos: usize) -> Result<(), Fault> {
    if depth > 0 { Err((pos, "expected `)` before `}}`".to_owned())) } else { Ok(()) }
}

fn word_len(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}

fn number_len(text: &str) -> usize {
    let mut n = 0;
    let mut previous = ' ';
    for c in text.chars() {
        let sign = matches!(c, '+' | '-') && (n == 0 || matches!(previous, 'e' | 'E' | 'p' | 'P'));
        if !(sign || c == '.' || is_word(c)) {
            break;
        }
        n += c.len_utf8();
        previous = c;
    }
    n
}

/// Reads a text in quotes with Go's escapes; returns it and its length with the quotes.
fn quoted(text: &str, quote: char) -> Result<(String, usize), String> {
    let mut out: Vec<u8> = Vec::new();
    let mut chars = text.char_indices().skip(1);
    let unclosed = || "unclosed text: expected a closing quote on the same line".to_owned();
    let push = |out: &mut Vec<u8>, c: char| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => {
                let string =
                    String::from_utf8(out).map_err(|_| "the escapes in the text make no valid UTF-8".to_owned())?;
                return Ok((string, at + quote.len_utf8()));
            }
            '\n' => return Err(unclosed()),
            '\\' => {
                let (_, c) = chars.next().ok_or_else(unclosed)?;
                let digits =
                    |chars: &mut dyn Iterator<Item = (usize, char)>, first: Option<char>, n: usize, radix: u32| {
                        let mut code = first.and_then(|c| c.to_digit(radix)).unwrap_or(0);
                        for _ in 0..n {
                            let digit = chars.next().and_then(|(_, c)| c.to_digit(radix))?;
                            code = code * radix + digit;
                        }
                        Some(code)
                    };
                let code = match c {
                    'a' => Some(7),
                    'b' => Some(8),
                    'f' => Some(12),
                    'n' => Some(10),
                    'r' => Some(13),
                    't' => Some(9),
                    'v' => Some(11),
                    '\\' => Some(92),
                    _ if c == quote => Some(u32::from(quote)),
                    'u' => digits(&mut chars, None, 4, 16),
                    'U' => digits(&mut chars, None, 8, 16),
                    'x' | '0'..='7' => {
                        let byte =
                            if c == 'x' { digits(&mut chars, None, 2, 16) } else { digits(&mut chars, Some(c), 2, 8) };
                        match byte.and_then(|byte| u8::try_from(byte).ok()) {
                            Some(byte) if quote == '"' => {
                                out.push(byte);
                                continue;
                            }
                            byte => byte.map(u32::from),
                        }
                    }
                    _ => None,
                };
                match code.and_then(char::from_u32) {
                    Some(c) => push(&mut out, c),
                    None => return Err(format!("unknown escape `\\{c}` in a text")),
                }
            }
            c => push(&mut out, c),
        }
    }
    Err(unclosed())
}
