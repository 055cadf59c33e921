//! Each function's examples, run; and the reference page, which is made of the same entries.

use std::sync::Arc;

use smol_str::SmolStr;

use super::*;
use crate::expr::{Report, RuleContext, null_result};
use crate::value::json;

/// An argument of an example's call.
enum Part {
    Column(String),
    Constant(Value),
    Star,
    /// `column = constant`
    Equal(String, Value),
}

/// Takes `name(a, 'text', 1.5, b = 2, *)` apart.
fn call_parts(call: &str) -> (&str, Vec<Part>) {
    let (name, rest) = call.split_once('(').expect("a call");
    let rest = rest.strip_suffix(')').expect("a closing bracket");
    let mut args: Vec<String> = Vec::new();
    let (mut arg, mut quote) = (String::new(), None);
    for c in rest.chars() {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (',', None) => {
                args.push(std::mem::take(&mut arg));
                continue;
            }
            _ => {}
        }
        arg.push(c);
    }
    if !arg.trim().is_empty() {
        args.push(arg);
    }
    (name, args.iter().map(|arg| part(arg.trim())).collect())
}

fn part(text: &str) -> Part {
    if let Some((column, constant)) = text.split_once(" = ")
        && let Part::Constant(constant) = part(constant)
    {
        return Part::Equal(column.to_owned(), constant);
    }
    let quoted = text.strip_prefix(['\'', '"']).and_then(|text| text.strip_suffix(['\'', '"']));
    match (text, quoted) {
        ("*", _) => Part::Star,
        (_, Some(text)) => Part::Constant(Value::string(text.replace("\\\\", "\\"))),
        (text, _) => match json::parse(text.as_bytes()) {
            Ok(constant) => Part::Constant(constant),
            Err(_) => Part::Column(text.to_owned()),
        },
    }
}

fn rule() -> RuleContext {
    let mut random = 0u64;
    RuleContext {
        rule_id: "rule1".into(),
        rule_start: 1_700_000_000_000,
        now: 1_700_000_001_250,
        props: Arc::new(|name| (name == "site").then(|| SmolStr::new("north"))),
        random: Box::new(move || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random
        }),
        time_zone: jiff::tz::TimeZone::UTC,
        report: Report::default(),
    }
}

/// What the call gives over the rows; of functions with one result per row, each.
fn run(call: &str, rows: &[Value]) -> Vec<Result<Value, EvalError>> {
    let (name, parts) = call_parts(call);
    let function = Registry::builtin().get(name).cloned().unwrap_or_else(|| panic!("there is no function {name}"));
    let literals: Vec<Option<Value>> = parts
        .iter()
        .map(|part| match part {
            Part::Constant(value) => Some(value.clone()),
            _ => None,
        })
        .collect();
    if let Some(Err(error)) = function.check.map(|check| check(&literals)) {
        return vec![Err(EvalError(error))];
    }
    let mut rule = rule();
    let mut ctx = EvalContext { rule: &mut rule, event_time: 0, window: None };
    let args_of = |row: &Value| -> (Vec<SmolStr>, Vec<Value>) {
        let object = row.to_object().expect("a row is an object");
        let get = |column: &str| object.get(column).cloned().unwrap_or_default();
        let mut args: Vec<(SmolStr, Value)> = Vec::new();
        for part in &parts {
            match part {
                Part::Constant(value) => args.push(("".into(), value.clone())),
                Part::Column(column) => args.push((column.into(), get(column))),
                Part::Equal(column, value) => args.push(("".into(), Value::Bool(get(column).same_key(value)))),
                Part::Star if matches!(function.body, Body::MultiColumn(_)) => {
                    args.extend(object.iter().map(|(name, value)| (name.clone(), value.clone())));
                }
                Part::Star => args.push(("*".into(), row.clone())),
            }
        }
        if function.with_row {
            args.push(("*".into(), row.clone()));
        }
        if function.numbers == Numbers::Float {
            for (_, value) in &mut args {
                if let Value::Int(int) = value {
                    *value = Value::Float(*int as f64);
                }
            }
        }
        args.into_iter().unzip()
    };
    let guarded = |args: &[Value], body: &mut dyn FnMut(&[Value]) -> Result<Value, EvalError>| {
        null_result(function.null, args).map_or_else(|| body(args), Ok)
    };
    let mut results = Vec::new();
    match &function.body {
        Body::Scalar(body) => {
            for row in rows {
                results.push(guarded(&args_of(row).1, &mut |args| body(args, &mut ctx)));
            }
        }
        Body::Stateful(new) => {
            let mut state = new();
            for row in rows {
                results.push(guarded(&args_of(row).1, &mut |args| state.eval(args, &mut ctx)));
            }
        }
        Body::Analytic(new) => {
            let mut state = new();
            for row in rows {
                results.push(state.eval(&args_of(row).1, true, &mut ctx));
            }
        }
        Body::Aggregate(new) => {
            let mut whole = new();
            let outcome = rows.iter().try_for_each(|row| whole.update(&args_of(row).1));
            results.push(outcome.and_then(|()| whole.result()));
            // In two panes it must be the same.
            if results.iter().all(Result::is_ok) {
                let (mut earlier, mut later) = (new(), new());
                let (first, second) = rows.split_at(rows.len() / 2);
                first.iter().for_each(|row| earlier.update(&args_of(row).1).unwrap());
                second.iter().for_each(|row| later.update(&args_of(row).1).unwrap());
                let mut merged = earlier.boxed_clone();
                if !first.is_empty() && merged.merge(&*later).unwrap() {
                    let merged = merged.result();
                    let whole = whole.result();
                    assert!(
                        same(merged.as_ref().ok(), whole.as_ref().ok()),
                        "{call}: {merged:?} by panes, {whole:?} in one"
                    );
                }
            }
        }
        Body::MultiColumn(new) => {
            let mut state = new();
            for row in rows {
                let (names, args) = args_of(row);
                results.push(state.eval(&names, &args).map(|object| Value::Object(object.into())));
            }
        }
        Body::MultiRow(body) => {
            for row in rows {
                results
                    .push(body(args_of(row).1.first().unwrap_or(&Value::Null)).map(|rows| Value::Array(rows.into())));
            }
        }
        Body::Window | Body::Trigger | Body::Context(_) => {}
    }
    results
}

/// Equal, floats within a billionth.
fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(Value::Float(a)), Some(Value::Float(b))) => {
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0) || a == b
        }
        (Some(a @ (Value::Int(_) | Value::Float(_))), Some(b @ (Value::Int(_) | Value::Float(_)))) => {
            let float =
                |value: &Value| crate::value::coerce::to_float(value, crate::value::coerce::Strictness::SameKind);
            let (Some(a), Some(b)) = (float(a), float(b)) else { return false };
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(Some(a), Some(b)))
        }
        (Some(a), Some(b)) => a.same_key(b),
        (None, None) => true,
        _ => false,
    }
}

fn written(value: &Value) -> String {
    let mut out = Vec::new();
    json::write_value(value, &mut out);
    String::from_utf8(out).unwrap()
}

/// Each function once, by name.
fn functions() -> Vec<Arc<Function>> {
    let registry = Registry::builtin();
    let mut names: Vec<&str> = registry.names().collect();
    names.sort_unstable();
    let functions = names.iter().filter_map(|name| registry.get(name).filter(|function| function.name == *name));
    functions.cloned().collect()
}

#[test]
fn examples() {
    let mut wrong = Vec::new();
    for function in functions() {
        for example in function.examples {
            let rows: Vec<Value> =
                example.input.lines().map(|line| json::parse(line.as_bytes()).expect("an input row is JSON")).collect();
            let result = run(example.call, &rows).pop();
            let agrees = match &result {
                Some(Ok(value)) => {
                    // As it is written: an instant or bytes are a string there.
                    let value = json::parse(written(value).as_bytes()).unwrap();
                    json::parse(example.result.as_bytes()).is_ok_and(|expected| same(Some(&value), Some(&expected)))
                }
                Some(Err(_)) => example.result == "error",
                None => matches!(function.body, Body::Window | Body::Trigger | Body::Context(_)),
            };
            if !agrees {
                let shown = result.map(|result| result.map(|value| written(&value)));
                wrong.push(format!("{} over {}: {shown:?}, not {}", example.call, example.input, example.result));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_function_is_documented() {
    for function in functions() {
        assert!(function.docs.ends_with('.'), "{} has no docs", function.name);
        let shown = function.volatility == Volatility::Volatile
            || matches!(function.body, Body::Window | Body::Trigger | Body::Context(_));
        assert!(shown || !function.examples.is_empty(), "{} has no example", function.name);
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<&str> = Vec::new();
    for function in functions() {
        names.push(function.name);
        names.extend(function.aliases);
    }
    let n_names = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), n_names);
    assert_eq!(n_names, Registry::builtin().names().count());
}

/// The reference page. `SLUICE_UPDATE_DOCS=1 cargo test -p sluice-sql reference_page` writes it anew.
#[test]
fn reference_page() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/FUNCTIONS.md");
    let page = page();
    if std::env::var_os("SLUICE_UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "FUNCTIONS.md is out of date: run this test with SLUICE_UPDATE_DOCS=1");
}

fn page() -> String {
    use std::fmt::Write;
    let mut page = String::from(
        "# Functions\n\n\
         Made from the functions themselves by the test `reference_page`; do not edit.\n\n\
         Names are matched in any case. What is said of null holds for empty arrays and objects too. An error drops the row, \
         counts it and reports it.\n",
    );
    for (title, functions) in families() {
        let _ = writeln!(page, "\n## {title}\n");
        let mut functions = functions();
        functions.sort_by_key(|function| function.name);
        for function in functions {
            let _ = writeln!(page, "### `{}`\n", signature(&function));
            let _ = writeln!(page, "{}\n", function.docs.replace("  ", " "));
            let mut notes: Vec<String> = Vec::new();
            if !function.aliases.is_empty() {
                let aliases: Vec<String> = function.aliases.iter().map(|alias| format!("`{alias}`")).collect();
                notes.push(format!("Also called {}.", aliases.join(", ")));
            }
            match (function.null, &function.body) {
                (_, Body::Aggregate(_)) | (NullPolicy::Body, _) => {}
                (NullPolicy::Null, _) => notes.push("Null if an argument is null.".to_owned()),
                (NullPolicy::False, _) => notes.push("False if an argument is null.".to_owned()),
                (NullPolicy::Zero, _) => notes.push("0 if an argument is null.".to_owned()),
            }
            if !notes.is_empty() {
                let _ = writeln!(page, "{}\n", notes.join(" "));
            }
            if !function.examples.is_empty() {
                let _ = writeln!(page, "| Call | Rows | Result |\n|---|---|---|");
                for Example { call, input, result } in function.examples {
                    let rows: Vec<String> = input.lines().map(cell).collect();
                    let _ = writeln!(page, "| {} | {} | {} |", cell(call), rows.join(" "), cell(result));
                }
                page.push('\n');
            }
        }
    }
    page
}

fn cell(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

/// `name(number, string [, any]) → type`, with the type for arguments of which nothing is known.
fn signature(function: &Function) -> String {
    let Arity { params, n_required, variadic, star } = function.arity;
    let name = |param: &Param| match param {
        Param::Any => "any",
        Param::Number => "number",
        Param::Int => "integer",
        Param::String => "string",
        Param::Bool => "boolean",
        Param::Datetime => "datetime",
        Param::IntLiteral => "literal integer",
        Param::StringLiteral => "literal string",
    };
    let mut args = String::new();
    for (idx, param) in params.iter().enumerate() {
        args.push_str(match (idx, idx < n_required) {
            (0, true) => "",
            (0, false) => "[",
            (_, true) => ", ",
            (_, false) => " [, ",
        });
        args.push_str(name(param));
        if star && *param == Param::Any {
            args.push_str(" or *");
        }
    }
    if variadic {
        args.push_str(", ...");
    }
    args.push_str(&"]".repeat(params.len() - n_required));
    let returns = (function.returns)(&vec![Type::Any; params.len()]);
    format!("{}({args}) → {}", function.name, crate::value::coerce::type_name(&returns))
}
