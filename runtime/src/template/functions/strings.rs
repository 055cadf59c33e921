//! Texts.

use std::borrow::Cow;

use super::{ANY, Call, Function, bounded, bounded_list, function, text_of};
use crate::template::MAX_OUTPUT;
use crate::template::datum::Datum;
use crate::template::format;

pub(super) const FUNCTIONS: &[Function] = &[
    function("trim", 1, 1, |c| Ok(Datum::text(c.text(0).trim()))),
    function("upper", 1, 1, |c| bounded(c.text(0).to_uppercase())),
    function("lower", 1, 1, |c| bounded(c.text(0).to_lowercase())),
    function("title", 1, 1, |c| bounded(by_word(&c.text(0), |c| c.to_uppercase().collect()))),
    function("untitle", 1, 1, |c| bounded(by_word(&c.text(0), |c| c.to_lowercase().collect()))),
    function("swapcase", 1, 1, |c| {
        bounded(
            c.text(0)
                .chars()
                .map(|c| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() })
                .collect(),
        )
    }),
    function("trimAll", 2, 2, trim_all),
    function("trimall", 2, 2, trim_all),
    function("trimPrefix", 2, 2, |c| {
        let (prefix, text) = (c.text(0), c.text(1));
        Ok(Datum::text(text.strip_prefix(prefix.as_ref()).unwrap_or(&text)))
    }),
    function("trimSuffix", 2, 2, |c| {
        let (suffix, text) = (c.text(0), c.text(1));
        Ok(Datum::text(text.strip_suffix(suffix.as_ref()).unwrap_or(&text)))
    }),
    function("nospace", 1, 1, |c| bounded(c.text(0).chars().filter(|c| !c.is_whitespace()).collect())),
    function("initials", 1, 1, |c| {
        bounded(c.text(0).split_whitespace().filter_map(|word| word.chars().next()).collect())
    }),
    function("contains", 2, 2, |c| Ok(Datum::Bool(c.text(1).contains(c.text(0).as_ref())))),
    function("hasPrefix", 2, 2, |c| Ok(Datum::Bool(c.text(1).starts_with(c.text(0).as_ref())))),
    function("hasSuffix", 2, 2, |c| Ok(Datum::Bool(c.text(1).ends_with(c.text(0).as_ref())))),
    function("quote", 0, ANY, |c| {
        let quoted = given(c).map(|arg| format::quote(&text_of(arg), '"'));
        bounded(quoted.collect::<Vec<_>>().join(" "))
    }),
    function("squote", 0, ANY, |c| {
        bounded(given(c).map(|arg| format!("'{}'", text_of(arg))).collect::<Vec<_>>().join(" "))
    }),
    function("cat", 0, ANY, |c| bounded(given(c).map(text_of).collect::<Vec<_>>().join(" "))),
    function("toString", 1, 1, |c| match c.arg(0) {
        Datum::Nothing => Ok(Datum::text("<nil>")),
        _ => bounded(c.text(0).into_owned()),
    }),
    function("replace", 3, 3, |c| {
        let (old, new, text) = (c.text(0), c.text(1), c.text(2));
        if new.len().saturating_mul(text.len() + 1) > MAX_OUTPUT.saturating_mul(64) {
            return Err("the texts are too long".to_owned());
        }
        bounded(text.replace(old.as_ref(), &new))
    }),
    function("repeat", 2, 2, |c| {
        let n = usize::try_from(c.int(0)).map_err(|_| "a text can't be repeated less than 0 times".to_owned())?;
        let text = c.text(1);
        if text.len().saturating_mul(n) > MAX_OUTPUT {
            return Err(format!("the text is longer than {MAX_OUTPUT} bytes"));
        }
        bounded(text.repeat(n))
    }),
    function("substr", 3, 3, |c| {
        let text = c.text(2);
        let end = usize::try_from(c.int(1)).unwrap_or(text.len()).min(text.len());
        let start = usize::try_from(c.int(0)).unwrap_or(0).min(end);
        part(&text, start, end)
    }),
    function("trunc", 2, 2, |c| {
        let text = c.text(1);
        let n = c.int(0);
        let size = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
        match n {
            _ if size >= text.len() => Ok(Datum::text(text)),
            0.. => part(&text, 0, size),
            _ => part(&text, text.len() - size, text.len()),
        }
    }),
    function("abbrev", 2, 2, |c| Ok(Datum::text(abbreviate(&c.text(1), 0, c.int(0))))),
    function("abbrevboth", 3, 3, |c| Ok(Datum::text(abbreviate(&c.text(2), c.int(0), c.int(1))))),
    function("indent", 2, 2, |c| bounded(indent(c.count(0)?, &c.text(1))?)),
    function("nindent", 2, 2, |c| bounded(format!("\n{}", indent(c.count(0)?, &c.text(1))?))),
    function("wrap", 2, 2, |c| bounded(wrap(&c.text(1), c.count(0)?, "\n", false))),
    function("wrapWith", 3, 3, |c| bounded(wrap(&c.text(2), c.count(0)?, &c.text(1), true))),
    function("plural", 3, 3, |c| {
        let idx = usize::from(c.int(2) != 1);
        Ok(c.take(idx))
    }),
    function("split", 2, 2, |c| {
        let (separator, text) = (c.text(0), c.text(1));
        Ok(numbered(pieces(&text, &separator, usize::MAX)))
    }),
    function("splitn", 3, 3, |c| {
        let (separator, text) = (c.text(0), c.text(2));
        Ok(numbered(pieces(&text, &separator, usize::try_from(c.int(1)).unwrap_or(usize::MAX))))
    }),
    function("splitList", 2, 2, |c| {
        let (separator, text) = (c.text(0), c.text(1));
        bounded_list(pieces(&text, &separator, usize::MAX).into_iter().map(Datum::text).collect())
    }),
    function("snakecase", 1, 1, |c| bounded(words(&c.text(0)).join("_").to_lowercase())),
    function("kebabcase", 1, 1, |c| bounded(words(&c.text(0)).join("-").to_lowercase())),
    function("camelcase", 1, 1, |c| {
        let capital = |word: &String| {
            let mut chars = word.chars();
            chars
                .next()
                .map_or(String::new(), |first| first.to_uppercase().chain(chars.flat_map(char::to_lowercase)).collect())
        };
        bounded(words(&c.text(0)).iter().map(capital).collect())
    }),
    function("shuffle", 1, 1, |c| {
        let mut chars: Vec<char> = c.text(0).chars().collect();
        for idx in (1..chars.len()).rev() {
            let other = c.random_below(idx + 1);
            chars.swap(idx, other);
        }
        bounded(chars.into_iter().collect())
    }),
    function("randAlphaNum", 1, 1, |c| random_text(c, |byte| byte.is_ascii_alphanumeric())),
    function("randAlpha", 1, 1, |c| random_text(c, |byte| byte.is_ascii_alphabetic())),
    function("randNumeric", 1, 1, |c| random_text(c, |byte| byte.is_ascii_digit())),
    function("randAscii", 1, 1, |c| random_text(c, |byte| byte.is_ascii_graphic() || byte == b' ')),
];

fn given<'a>(c: &'a Call<'_>) -> impl Iterator<Item = &'a Datum> {
    c.args.iter().filter(|arg| !matches!(arg, Datum::Nothing))
}

/// Changes the first character of each word.
fn by_word(text: &str, change: fn(char) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut starts = true;
    for c in text.chars() {
        if starts {
            out.push_str(&change(c));
        } else {
            out.push(c);
        }
        starts = !(c.is_alphanumeric() || matches!(c, '_' | '\''));
    }
    out
}

fn trim_all(c: &mut Call<'_>) -> Result<Datum, String> {
    let (chars, text) = (c.text(0), c.text(1));
    Ok(Datum::text(text.trim_matches(|c| chars.contains(c))))
}

/// Bytes `start..end`, without the parts of characters that they cut.
fn part(text: &str, start: usize, end: usize) -> Result<Datum, String> {
    Ok(Datum::text(text.get(text.ceil_char_boundary(start)..text.floor_char_boundary(end)).unwrap_or_default()))
}

/// Shortens a text to `width` with `...`, leaving out `offset` characters at its left.
fn abbreviate(text: &str, offset: i64, width: i64) -> String {
    let chars: Vec<char> = text.chars().collect();
    let size = chars.len() as i64;
    if width < 4 || (offset > 0 && width < 7) || size <= width {
        return text.to_owned();
    }
    let mut offset = offset.min(size);
    if size - offset < width - 3 {
        offset = size - (width - 3);
    }
    let take = |from: i64, n: i64| -> String {
        chars.iter().skip(usize::try_from(from).unwrap_or(0)).take(usize::try_from(n).unwrap_or(0)).collect()
    };
    if offset <= 4 {
        return take(0, width - 3) + "...";
    }
    if offset + width - 3 < size {
        return format!("...{}...", take(offset, width - 6));
    }
    format!("...{}", take(size - (width - 3), width))
}

fn indent(n: usize, text: &str) -> Result<String, String> {
    let pad = " ".repeat(n);
    if (text.matches('\n').count() + 1).saturating_mul(n) > MAX_OUTPUT {
        return Err(format!("the text is longer than {MAX_OUTPUT} bytes"));
    }
    Ok(format!("{pad}{}", text.replace('\n', &format!("\n{pad}"))))
}

/// Breaks lines between words; `cut` breaks words that are longer than a line, too.
fn wrap(text: &str, width: usize, newline: &str, cut: bool) -> String {
    let width = width.max(1);
    let mut out = String::new();
    let mut n_line = 0;
    for word in text.split(' ') {
        let mut word: Cow<'_, str> = word.into();
        let n_word = word.chars().count();
        if n_line > 0 {
            if n_line + 1 + n_word <= width {
                out.push(' ');
                n_line += 1;
            } else {
                out.push_str(newline);
                n_line = 0;
            }
        }
        while cut && word.chars().count() > width {
            out.extend(word.chars().take(width));
            out.push_str(newline);
            word = word.chars().skip(width).collect::<String>().into();
        }
        n_line += word.chars().count();
        out.push_str(&word);
    }
    out
}

fn pieces<'a>(text: &'a str, separator: &str, n: usize) -> Vec<Cow<'a, str>> {
    if separator.is_empty() {
        return text.chars().map(|c| Cow::Owned(c.to_string())).collect();
    }
    text.splitn(n, separator).map(Cow::Borrowed).collect()
}

/// What `split` gives: a map `_0`, `_1`, ...
fn numbered(pieces: Vec<Cow<'_, str>>) -> Datum {
    Datum::map(pieces.into_iter().enumerate().map(|(idx, piece)| (format!("_{idx}").into(), Datum::text(piece))))
}

/// Parts a name at its separators and where small letters meet capitals.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let chars: Vec<char> = text.chars().collect();
    let mut starts = true;
    for (idx, c) in chars.iter().copied().enumerate() {
        if !c.is_alphanumeric() {
            starts = true;
            continue;
        }
        let previous = idx.checked_sub(1).and_then(|idx| chars.get(idx));
        let next = chars.get(idx + 1);
        let after_small = c.is_uppercase() && previous.is_some_and(|c| c.is_lowercase() || c.is_numeric());
        let last_of_capitals =
            c.is_uppercase() && previous.is_some_and(|c| c.is_uppercase()) && next.is_some_and(|c| c.is_lowercase());
        match words.last_mut() {
            Some(word) if !(starts || after_small || last_of_capitals) => word.push(c),
            _ => words.push(c.to_string()),
        }
        starts = false;
    }
    words
}

fn random_text(c: &mut Call<'_>, wanted: fn(u8) -> bool) -> Result<Datum, String> {
    let alphabet: Vec<char> = (b' '..=b'~').filter(|byte| wanted(*byte)).map(char::from).collect();
    let n = c.count(0)?;
    let text = (0..n).filter_map(|_| alphabet.get(c.random_below(alphabet.len())).copied()).collect();
    bounded(text)
}
