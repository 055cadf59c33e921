//! Regular expressions: the same syntax as Go's.

use regex::Regex;

use super::{Call, Function, bounded, bounded_list, function};
use crate::template::MAX_LIST;
use crate::template::datum::Datum;

pub(super) const FUNCTIONS: &[Function] = &[
    function("regexMatch", 2, 2, is_match),
    function("mustRegexMatch", 2, 2, is_match),
    function("regexFind", 2, 2, find),
    function("mustRegexFind", 2, 2, find),
    function("regexFindAll", 3, 3, find_all),
    function("mustRegexFindAll", 3, 3, find_all),
    function("regexReplaceAll", 3, 3, replace),
    function("mustRegexReplaceAll", 3, 3, replace),
    function("regexReplaceAllLiteral", 3, 3, replace_literal),
    function("mustRegexReplaceAllLiteral", 3, 3, replace_literal),
    function("regexSplit", 3, 3, split),
    function("mustRegexSplit", 3, 3, split),
    function("regexQuoteMeta", 1, 1, |c| Ok(Datum::text(regex::escape(&c.text(0))))),
];

fn pattern(c: &Call<'_>) -> Result<Regex, String> {
    let text = c.text(0);
    // The crate's own message shows the pattern, which may be data, over several lines.
    regex::RegexBuilder::new(&text)
        .size_limit(1 << 20)
        .build()
        .map_err(|_| "the first argument is no regular expression, or too large a one".to_owned())
}

/// How many matches are wanted: all for a negative number.
fn limit(c: &Call<'_>) -> usize {
    usize::try_from(c.int(2)).unwrap_or(MAX_LIST + 1)
}

fn is_match(c: &mut Call<'_>) -> Result<Datum, String> {
    Ok(Datum::Bool(pattern(c)?.is_match(&c.text(1))))
}

fn find(c: &mut Call<'_>) -> Result<Datum, String> {
    Ok(Datum::text(pattern(c)?.find(&c.text(1)).map_or("", |found| found.as_str())))
}

fn find_all(c: &mut Call<'_>) -> Result<Datum, String> {
    bounded_list(pattern(c)?.find_iter(&c.text(1)).take(limit(c)).map(|found| Datum::text(found.as_str())).collect())
}

fn replace(c: &mut Call<'_>) -> Result<Datum, String> {
    bounded(pattern(c)?.replace_all(&c.text(1), c.text(2).as_ref()).into_owned())
}

fn replace_literal(c: &mut Call<'_>) -> Result<Datum, String> {
    bounded(pattern(c)?.replace_all(&c.text(1), regex::NoExpand(&c.text(2))).into_owned())
}

fn split(c: &mut Call<'_>) -> Result<Datum, String> {
    let pattern = pattern(c)?;
    let text = c.text(1);
    bounded_list(pattern.splitn(&text, limit(c)).map(Datum::text).collect())
}
