//! Text.

use std::string::String as StdString;

use regex::Regex;

use super::NullPolicy::{False, Null, Zero};
use super::define::{Kept, arg, ex, expected, gives, int, text};
use super::{Body, EvalError, Function, Param, StatefulFunction, number_format};
use crate::expr::EvalContext;
use crate::value::Value;
use crate::value::coerce::write_text;

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    use Param::{Any, Int, IntLiteral, Number, String, StringLiteral};
    vec![
        Function::scalar("concat", &[String], gives::string, |args, _| {
            let mut joined = StdString::new();
            args.iter().for_each(|value| write_text(value, &mut joined));
            Ok(Value::string(joined))
        })
        .variadic()
        .docs(
            "The texts of all arguments, one behind the other; null is empty.",
            &[ex!("concat(a, '-', b)", r#"{"a":1,"b":null}"#, "\"1-\"")],
        ),
        Function::scalar("length", &[Any], gives::int, |args, _| {
            Ok(Value::Int(match arg(args, 0) {
                Value::Array(elements) => elements.len() as i64,
                value => match value.to_object() {
                    Some(object) => object.len() as i64,
                    None => text(args, 0).chars().count() as i64,
                },
            }))
        })
        .null(Zero)
        .docs(
            "The number of characters, elements or members.",
            &[
                ex!("length(a)", r#"{"a":"äöü"}"#, "3"),
                ex!("length(a)", r#"{"a":[1,2]}"#, "2"),
                ex!("length(a)", "{}", "0"),
            ],
        ),
        Function::scalar("numbytes", &[String], gives::int, |args, _| Ok(Value::Int(text(args, 0).len() as i64)))
            .null(Zero)
            .docs("The number of bytes in UTF-8.", &[ex!("numbytes(a)", r#"{"a":"äöü"}"#, "6")]),
        Function::scalar("lower", &[String], gives::string, |args, _| Ok(Value::string(text(args, 0).to_lowercase())))
            .null(Null)
            .docs("In lower case.", &[ex!("lower(a)", r#"{"a":"ÄB"}"#, "\"äb\"")]),
        Function::scalar("upper", &[String], gives::string, |args, _| Ok(Value::string(text(args, 0).to_uppercase())))
            .null(Null)
            .docs("In upper case.", &[ex!("upper(a)", r#"{"a":"äb"}"#, "\"ÄB\"")]),
        Function::scalar("reverse", &[String], gives::string, |args, _| {
            Ok(Value::string(text(args, 0).chars().rev().collect::<StdString>()))
        })
        .null(Null)
        .docs("The characters from the last to the first.", &[ex!("reverse(a)", r#"{"a":"abc"}"#, "\"cba\"")]),
        Function::scalar("trim", &[String], gives::string, |args, _| Ok(Value::string(text(args, 0).trim())))
            .null(Null)
            .docs("Without white space at both ends.", &[ex!("trim(a)", r#"{"a":" x\t"}"#, "\"x\"")]),
        Function::scalar("ltrim", &[String], gives::string, |args, _| Ok(Value::string(text(args, 0).trim_start())))
            .null(Null)
            .docs("Without white space at the start.", &[ex!("ltrim(a)", r#"{"a":" x "}"#, "\"x \"")]),
        Function::scalar("rtrim", &[String], gives::string, |args, _| Ok(Value::string(text(args, 0).trim_end())))
            .null(Null)
            .docs("Without white space at the end.", &[ex!("rtrim(a)", r#"{"a":" x "}"#, "\" x\"")]),
        Function::scalar("lpad", &[String, Int], gives::string, |args, _| {
            Ok(Value::string(spaces(args)? + &text(args, 0)))
        })
        .null(Null)
        .docs("So many spaces more at the start.", &[ex!("lpad(a, 2)", r#"{"a":"x"}"#, "\"  x\"")]),
        Function::scalar("rpad", &[String, Int], gives::string, |args, _| {
            Ok(Value::string(text(args, 0).into_owned() + &spaces(args)?))
        })
        .null(Null)
        .docs(
            "So many spaces more at the end.",
            &[ex!("rpad(a, 2)", r#"{"a":"x"}"#, "\"x  \""), ex!("rpad(a, -1)", r#"{"a":"x"}"#, "error")],
        ),
        Function::scalar("startswith", &[String, String], gives::bool, |args, _| {
            Ok(Value::Bool(text(args, 0).starts_with(&*text(args, 1))))
        })
        .null(False)
        .docs("True if the text starts so.", &[ex!("startswith(a, 'ab')", r#"{"a":"abc"}"#, "true")]),
        Function::scalar("endswith", &[String, String], gives::bool, |args, _| {
            Ok(Value::Bool(text(args, 0).ends_with(&*text(args, 1))))
        })
        .null(False)
        .docs("True if the text ends so.", &[ex!("endswith(a, 'ab')", r#"{"a":"abc"}"#, "false")]),
        Function::scalar("indexof", &[String, String], gives::int, |args, _| {
            let found = match args.iter().any(Value::is_null) {
                true => None,
                false => text(args, 0).find(&*text(args, 1)),
            };
            Ok(Value::Int(found.map_or(-1, |idx| idx as i64)))
        })
        .docs(
            "The place of the first occurrence, in bytes from 0; -1 if there is none.",
            &[ex!("indexof(a, 'c')", r#"{"a":"abc"}"#, "2"), ex!("indexof(a, 'x')", r#"{"a":"abc"}"#, "-1")],
        ),
        Function::scalar("substring", &[String, Int, Int], gives::string, |args, _| substring(args))
            .optional(1)
            .null(Null)
            .docs(
                "The bytes from `start` to before `end`, or to the end of the text.",
                &[
                    ex!("substring(a, 1, 3)", r#"{"a":"abcd"}"#, "\"bc\""),
                    ex!("substring(a, 9)", r#"{"a":"abcd"}"#, "\"\""),
                    ex!("substring(a, 2, 1)", r#"{"a":"abcd"}"#, "error"),
                ],
            ),
        Function::scalar("split_value", &[String, String, Int], gives::string, |args, _| split_value(args))
            .null(Null)
            .check(|literals| match literals.get(2) {
                Some(Some(Value::Int(idx))) if *idx < 0 => {
                    Err("split_value counts from 0: a negative part is not possible".into())
                }
                _ => Ok(()),
            })
            .docs(
                "One of the parts between separators, counted from 0; an empty separator splits into characters.",
                &[
                    ex!("split_value(a, '-', 1)", r#"{"a":"x-y"}"#, "\"y\""),
                    ex!("split_value(a, '-', 2)", r#"{"a":"x-y"}"#, "error"),
                ],
            ),
        Function::new(
            "regexp_matches",
            &[String, String],
            gives::bool,
            Body::Stateful(|| OfPattern::boxed(|pattern, args| Ok(Value::Bool(pattern.is_match(&text(args, 0)))))),
        )
        .null(False)
        .docs(
            "True if the regular expression (RE2) matches anywhere in the text.",
            &[
                ex!("regexp_matches(a, '^[a-z]+$')", r#"{"a":"abc"}"#, "true"),
                ex!("regexp_matches(a, '[')", r#"{"a":"abc"}"#, "error"),
            ],
        ),
        Function::new(
            "regexp_replace",
            &[String, String, String],
            gives::string,
            Body::Stateful(|| {
                OfPattern::boxed(|pattern, args| {
                    Ok(Value::string(pattern.replace_all(&text(args, 0), &*text(args, 2))))
                })
            }),
        )
        .null(Null)
        .docs(
            "With all matches of the regular expression replaced; `$1` and `${name}` stand for its groups.",
            &[ex!("regexp_replace(a, '(x)(y)', '$2$1')", r#"{"a":"xyxy"}"#, "\"yxyx\"")],
        ),
        Function::new(
            "regexp_substr",
            &[String, String],
            gives::string,
            Body::Stateful(|| {
                OfPattern::boxed(|pattern, args| {
                    Ok(Value::string(pattern.find(&text(args, 0)).map_or("", |found| found.as_str())))
                })
            }),
        )
        .null(Null)
        .docs(
            "The first match of the regular expression, or the empty text.",
            &[ex!("regexp_substr(a, 'b+')", r#"{"a":"abbc"}"#, "\"bb\"")],
        ),
        Function::scalar("format", &[Number, IntLiteral, StringLiteral], gives::string, |args, _| {
            number_format::format(args)
        })
        .optional(1)
        .null(Null)
        .docs(
            "A number with so many decimals; with a locale and its country (`en_US`) grouped and separated as there.",
            &[
                ex!("format(a, 2)", r#"{"a":1234.5}"#, "\"1234.50\""),
                ex!("format(a, 2, 'de_DE')", r#"{"a":1234.5}"#, "\"1.234,50\""),
                ex!("format(a, 2, 'de')", r#"{"a":1234.5}"#, "error"),
            ],
        ),
    ]
}

/// The longest run of spaces that padding gives: a row is no place for more.
const MAX_SPACES: i64 = 1 << 20;

fn spaces(args: &[Value]) -> Result<StdString, EvalError> {
    match int(args, 1)? {
        n_spaces @ 0..=MAX_SPACES => Ok(" ".repeat(n_spaces as usize)),
        _ => Err(expected("a number of spaces from 0 to 1048576", arg(args, 1))),
    }
}

fn substring(args: &[Value]) -> Result<Value, EvalError> {
    let text = text(args, 0);
    let place = |idx: usize| usize::try_from(int(args, idx)?).map_err(|_| expected("a place from 0", arg(args, idx)));
    let start = place(1)?;
    let end = if args.len() > 2 { place(2)? } else { text.len().max(start) };
    if start > end {
        return Err(EvalError(format!("there is nothing between {start} and {end}")));
    }
    let bytes = text.as_bytes();
    let bytes = bytes.get(start.min(bytes.len())..end.min(bytes.len())).unwrap_or_default();
    // A cut through a character leaves a replacement mark.
    Ok(Value::string(StdString::from_utf8_lossy(bytes)))
}

fn split_value(args: &[Value]) -> Result<Value, EvalError> {
    let (text, separator) = (text(args, 0), text(args, 1));
    let parts: Vec<&str> = match separator.is_empty() {
        true => text.split("").filter(|part| !part.is_empty()).collect(),
        false => text.split(&*separator).collect(),
    };
    let idx = int(args, 2)?;
    let idx = if idx < 0 { idx + parts.len() as i64 } else { idx };
    let part = usize::try_from(idx).ok().and_then(|idx| parts.get(idx));
    match part {
        Some(part) => Ok(Value::string(*part)),
        None => Err(EvalError(format!("there is no part {} of {}", int(args, 2)?, parts.len()))),
    }
}

type WithPattern = fn(&Regex, &[Value]) -> Result<Value, EvalError>;

/// A function whose second argument is a regular expression, kept from row to row.
struct OfPattern {
    apply: WithPattern,
    pattern: Kept<Regex>,
}

impl OfPattern {
    fn boxed(apply: WithPattern) -> Box<dyn StatefulFunction> {
        Box::new(OfPattern { apply, pattern: Kept::default() })
    }
}

impl StatefulFunction for OfPattern {
    fn eval(&mut self, args: &[Value], _ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
        let pattern = self.pattern.get(&text(args, 1), |pattern| {
            Regex::new(pattern).map_err(|error| {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default();
                format!("{pattern:?} is no regular expression: {}", reason.trim_start_matches("error: "))
            })
        })?;
        (self.apply)(pattern, args)
    }
}
