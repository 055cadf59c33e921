//! The token stream: sqlparser's located tokens without white space and comments, each with its depth in brackets.

use smol_str::SmolStr;
use sqlparser::tokenizer::{Location, Token, Tokenizer, TokenizerError};

use super::dialect::StreamDialect;
use super::{Span, SqlError};

/// One token in its place.
#[derive(Debug)]
pub(super) struct Lexeme {
    pub token: Token,
    pub span: Span,
    /// How many brackets are open around it; a bracket itself counts as outside. Recovery after an error skips by it.
    pub depth: u32,
}

/// Splits the text into tokens. After an error (an open quote, an open comment) it gives the tokens before it as well.
pub(super) fn tokenize(sql: &str) -> (Vec<Lexeme>, Option<SqlError>) {
    let mut tokens = Vec::new();
    // Raw texts: sqlparser knows other escapes than this language does, see `unescape`.
    let error = Tokenizer::new(&StreamDialect, sql)
        .with_unescape(false)
        .tokenize_with_location_into_buf(&mut tokens)
        .err()
        .map(|error| explain(sql, &error));
    let mut lexemes: Vec<Lexeme> = Vec::with_capacity(tokens.len() / 2 + 1);
    let mut depth = 0u32;
    for token in tokens {
        let span = span_of(token.span.start, token.span.end);
        let token = token.token;
        match &token {
            Token::Whitespace(_) => continue,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            Token::SemiColon => depth = 0,
            _ => {}
        }
        // `! =`, `< =`, `> =` and `- >` are one operator each, white space or not.
        if let Some(last) = lexemes.last_mut()
            && let Some(joined) = join(&last.token, &token)
        {
            last.token = joined;
            last.span = last.span.to(span);
            continue;
        }
        let opens = matches!(token, Token::LParen | Token::LBracket);
        lexemes.push(Lexeme { token, span, depth });
        if opens {
            depth += 1;
        }
    }
    (lexemes, error)
}

fn join(left: &Token, right: &Token) -> Option<Token> {
    match (left, right) {
        (Token::ExclamationMark, Token::Eq) => Some(Token::Neq),
        (Token::Lt, Token::Eq) => Some(Token::LtEq),
        (Token::Gt, Token::Eq) => Some(Token::GtEq),
        (Token::Minus, Token::Gt) => Some(Token::Arrow),
        _ => None,
    }
}

fn span_of(start: Location, end: Location) -> Span {
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Span {
        line: narrow(start.line),
        column: narrow(start.column),
        end_line: narrow(end.line),
        end_column: narrow(end.column),
    }
}

/// The tokenizer's error in our words. It points at the opening quote; for a comment at the end of the text.
fn explain(sql: &str, error: &TokenizerError) -> SqlError {
    let Location { line, column } = error.location;
    let span = span_of(error.location, Location { line, column: column + 1 });
    let char_at = usize::try_from(line.saturating_sub(1))
        .ok()
        .and_then(|line| sql.split('\n').nth(line))
        .zip(usize::try_from(column.saturating_sub(1)).ok())
        .and_then(|(text, column)| text.chars().nth(column));
    match char_at {
        Some('"' | '\'') => SqlError::new(span, "the text that starts here is not closed"),
        Some('`') => SqlError::new(span, "the back-quoted name that starts here is not closed"),
        None => SqlError::new(span, "the statement ends inside a comment: \"*/\" is missing"),
        Some(_) => SqlError::new(span, format!("cannot read this: {}", error.message.to_lowercase())),
    }
}

/// What an error message calls a token.
pub(super) fn describe(token: &Token) -> String {
    const MAX_CHARS: usize = 40;
    let clip = |text: String| match text.char_indices().nth(MAX_CHARS) {
        Some((idx, _)) => format!("{}...", &text[..idx]),
        None => text,
    };
    match token {
        Token::EOF => "the end of the statement".to_owned(),
        Token::Number(digits, _) => format!("the number {}", clip(digits.clone())),
        Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => {
            format!("the text {}", clip(format!("\"{}\"", text.escape_debug())))
        }
        Token::HexStringLiteral(_) => "a hexadecimal literal".to_owned(),
        Token::Word(word) => format!("\"{}\"", clip(word.value.clone())),
        other => format!("\"{}\"", clip(other.to_string())),
    }
}

/// Resolves the escapes of a text literal: those of Go's interpreted strings, and a doubled quote.
///
/// # Errors
/// The number of the offending character (from 0), how many characters it spans, and what is wrong with it.
pub(super) fn unescape(raw: &str, quote: char) -> Result<SmolStr, (usize, usize, String)> {
    if !raw.contains(['\\', '\n', '\r', quote]) {
        return Ok(SmolStr::new(raw));
    }
    // Text so far, and the bytes that `\x` and octal escapes give: they may only together be a character.
    let mut bytes: Vec<u8> = Vec::with_capacity(raw.len());
    let mut buf = [0; 4];
    let mut chars = raw.chars().enumerate().peekable();
    while let Some((idx, ch)) = chars.next() {
        match ch {
            '\n' | '\r' => return Err((idx, 1, "a text must end on the line it starts on; write \\n".to_owned())),
            _ if ch == quote => {
                // The tokenizer lets a quote through only in pairs.
                chars.next_if(|(_, next)| *next == quote);
                bytes.extend(ch.encode_utf8(&mut buf).bytes());
            }
            '\\' => {
                let Some((_, escaped)) = chars.next() else {
                    return Err((idx, 1, "a backslash must be followed by what it escapes".to_owned()));
                };
                let mut digits = |first: Option<char>, n: usize, radix: u32| {
                    let mut code = first.and_then(|c| c.to_digit(radix)).unwrap_or(0);
                    for read in 0..n {
                        match chars.next_if(|(_, c)| c.is_digit(radix)) {
                            Some((_, c)) => code = code.wrapping_mul(radix) + c.to_digit(radix).unwrap_or(0),
                            None => {
                                let base = if radix == 16 { "hexadecimal" } else { "octal" };
                                let n = n + usize::from(first.is_some());
                                let message = format!("the escape \\{escaped} needs {n} {base} digits");
                                return Err((idx, 2 + read, message));
                            }
                        }
                    }
                    Ok(code)
                };
                let simple = match escaped {
                    'a' => 0x07,
                    'b' => 0x08,
                    'f' => 0x0c,
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    'v' => 0x0b,
                    '\\' => b'\\',
                    '"' => b'"',
                    '\'' => b'\'',
                    'x' => digits(None, 2, 16)? as u8,
                    '0'..='7' => {
                        let code = digits(Some(escaped), 2, 8)?;
                        match u8::try_from(code) {
                            Ok(byte) => byte,
                            Err(_) => return Err((idx, 4, format!("the escape \\{code:o} is above \\377"))),
                        }
                    }
                    'u' | 'U' => {
                        let n = if escaped == 'u' { 4 } else { 8 };
                        let code = digits(None, n, 16)?;
                        match char::from_u32(code) {
                            Some(ch) => bytes.extend(ch.encode_utf8(&mut buf).bytes()),
                            None => {
                                let message = format!("\\{escaped}{code:0n$x} is not a Unicode character");
                                return Err((idx, 2 + n, message));
                            }
                        }
                        continue;
                    }
                    // LIKE patterns escape their wildcards with a backslash, and write it once or twice.
                    '%' | '_' => {
                        bytes.push(b'\\');
                        escaped as u8
                    }
                    other => {
                        return Err((
                            idx,
                            2,
                            format!("\\{} is not an escape; a backslash is \\\\", other.escape_debug()),
                        ));
                    }
                };
                bytes.push(simple);
            }
            ch => bytes.extend(ch.encode_utf8(&mut buf).bytes()),
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(SmolStr::new(text)),
        Err(_) => Err((0, raw.chars().count(), "the escapes of this text do not make up UTF-8".to_owned())),
    }
}

/// The name between back-quotes, where a doubled back-quote stands for one.
pub(super) fn unquote(raw: &str) -> SmolStr {
    SmolStr::from(raw.replace("``", "`"))
}
