//! Numbers as people of a country write them.
//!
//! A table of separators instead of a library: what `format` needs of a locale are two characters and the size of groups.

use super::EvalError;
use super::define::{arg, expected, int, text};
use crate::value::Value;
use crate::value::coerce::{Strictness, to_float};

/// The separators of a locale.
struct Separators {
    group: &'static str,
    decimal: &'static str,
    /// Digits in a group, apart from the last one of three.
    n_digits: usize,
}

const fn separators(group: &'static str, decimal: &'static str) -> Separators {
    Separators { group, decimal, n_digits: 3 }
}

fn of_locale(locale: &str) -> Option<Separators> {
    let (language, country) = locale.split_once(['_', '-'])?;
    let (language, country) = (language.to_ascii_lowercase(), country.to_ascii_uppercase());
    if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    Some(match (language.as_str(), country.as_str()) {
        ("de" | "it" | "fr", "CH") | ("de", "LI") => separators("’", "."),
        ("de", "AT") => separators("\u{a0}", ","),
        ("en" | "hi" | "gu" | "ta" | "te", "IN") => Separators { n_digits: 2, ..separators(",", ".") },
        ("en", "ZA") => separators("\u{a0}", ","),
        ("es", "MX" | "US" | "PR" | "GT" | "HN" | "NI" | "PA" | "PE" | "SV" | "DO") => separators(",", "."),
        ("pt", "PT") | ("af", _) => separators("\u{a0}", ","),
        ("en" | "zh" | "ja" | "ko" | "th" | "he" | "ms" | "ga" | "cy" | "fil" | "sw" | "ur", _) => separators(",", "."),
        (
            "de" | "es" | "it" | "nl" | "pt" | "id" | "tr" | "da" | "el" | "vi" | "ro" | "hr" | "sl" | "sr" | "is"
            | "ca" | "gl" | "eu" | "bs" | "mk" | "lb",
            _,
        ) => separators(".", ","),
        (
            "fr" | "ru" | "uk" | "cs" | "sk" | "pl" | "sv" | "nb" | "nn" | "no" | "fi" | "bg" | "hu" | "et" | "lt"
            | "lv" | "be" | "kk" | "sq" | "hy" | "ka",
            _,
        ) => separators("\u{a0}", ","),
        _ => return None,
    })
}

/// The body of `format(number, decimals [, locale])`. What is no number counts as 0.
pub(super) fn format(args: &[Value]) -> Result<Value, EvalError> {
    let number = to_float(arg(args, 0), Strictness::SameKind).unwrap_or(0.0);
    let n_decimals = match int(args, 1)? {
        n_decimals @ 0..=100 => n_decimals as usize,
        _ => return Err(expected("a number of decimals from 0 to 100", arg(args, 1))),
    };
    let plain = format!("{number:.n_decimals$}");
    if args.len() < 3 || !number.is_finite() {
        return Ok(Value::string(plain));
    }
    let locale = text(args, 2);
    let Some(separators) = of_locale(&locale) else {
        return Err(EvalError(format!("{locale:?} is no known locale with a country, like \"en_US\"")));
    };
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut out = String::from(sign);
    for (idx, digit) in digits.chars().enumerate() {
        // Digits from here to the decimal point, this one included.
        let n_left = digits.len() - idx;
        if idx > 0 && n_left >= 3 && (n_left - 3).is_multiple_of(separators.n_digits) {
            out.push_str(separators.group);
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push_str(separators.decimal);
        out.push_str(fraction);
    }
    Ok(Value::string(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locales() {
        let cases = [
            (1234567.891, "en_US", Some("1,234,567.89")),
            (1234567.891, "de-DE", Some("1.234.567,89")),
            (1234567.891, "fr_FR", Some("1\u{a0}234\u{a0}567,89")),
            (1234567.891, "de_CH", Some("1’234’567.89")),
            (12345678.0, "hi_IN", Some("1,23,45,678.00")),
            (-999.0, "en_GB", Some("-999.00")),
            (1.0, "en", None),
            (1.0, "xx_YY", None),
            (1.0, "en_", None),
        ];
        for (number, locale, expected) in cases {
            let formatted = format(&[Value::Float(number), Value::Int(2), Value::string(locale)]).ok();
            assert_eq!(
                formatted.map(|value| crate::value::coerce::text(&value).into_owned()),
                expected.map(str::to_owned),
                "{number} {locale}"
            );
        }
    }
}
