//! `LIKE` patterns.

/// A pattern taken apart: `%` is any run, `_` one character, `\%` and `\_` are these characters themselves; everything else
/// stands for itself. The whole text must match.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LikePattern {
    /// As written.
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Char(char),
    AnyChar,
    AnyRun,
}

impl LikePattern {
    /// Takes a pattern apart; every text is one.
    pub fn new(pattern: &str) -> Self {
        let mut parts = Vec::with_capacity(pattern.len());
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '%' if parts.last() == Some(&Part::AnyRun) => continue,
                '%' => Part::AnyRun,
                '_' => Part::AnyChar,
                '\\' => Part::Char(chars.next_if(|next| matches!(next, '%' | '_')).unwrap_or('\\')),
                c => Part::Char(c),
            });
        }
        LikePattern { source: pattern.to_owned(), parts }
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// True if the whole text matches. At most `text length * pattern length` steps.
    pub fn matches(&self, text: &str) -> bool {
        let mut chars = text.chars();
        let mut part_idx = 0;
        // Where to go on if the current attempt fails: behind the last `%`, one character later.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let mut ahead = chars.clone();
            let step = match (self.parts.get(part_idx), ahead.next()) {
                (Some(Part::AnyRun), _) => {
                    part_idx += 1;
                    retry = Some((part_idx, chars.clone()));
                    continue;
                }
                (None, None) => return true,
                (Some(Part::AnyChar), Some(_)) => true,
                (Some(Part::Char(part)), Some(c)) => *part == c,
                _ => false,
            };
            if step {
                part_idx += 1;
                chars = ahead;
                continue;
            }
            let Some((retry_idx, rest)) = &mut retry else { return false };
            if rest.next().is_none() {
                return false;
            }
            part_idx = *retry_idx;
            chars = rest.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LikePattern;

    #[test]
    fn patterns() {
        let cases = [
            ("pu%_7", "pump17", true),
            ("pu%_7", "pu7", false),
            ("%", "", true),
            ("", "", true),
            ("_", "", false),
            ("a.c", "abc", false),
            ("a.c", "a.c", true),
            (r"100\%", "100%", true),
            (r"100\%", "100x", false),
            (r"a\_b", "axb", false),
            (r"a\b", r"a\b", true),
            ("%ab%ab", "abxabab", true),
            ("%ab%abc", "abxabab", false),
            ("ä_%", "äöü", true),
            ("a%", "a\nb", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(LikePattern::new(pattern).matches(text), expected, "{text} LIKE {pattern}");
        }
    }
}
