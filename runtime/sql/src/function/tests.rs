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
            let group = || {
                let mut group = new();
                group.push();
                group
            };
            let mut whole = group();
            let outcome = rows.iter().try_for_each(|row| whole.update(0, &args_of(row).1));
            results.push(outcome.and_then(|()| whole.result(0)));
            // In two panes it must be the same.
            if results.iter().all(Result::is_ok) {
                let (mut earlier, mut later) = (group(), group());
                let (first, second) = rows.split_at(rows.len() / 2);
                first.iter().for_each(|row| earlier.update(0, &args_of(row).1).unwrap());
                second.iter().for_each(|row| later.update(0, &args_of(row).1).unwrap());
                let mut merged = earlier.boxed_clone();
                if !first.is_empty() && merged.merge(0, &*later, 0).unwrap() {
                    let merged = merged.result(0);
                    let whole = whole.result(0);
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
        Body::External(_) | Body::Window | Body::Trigger | Body::Context(_) => {}
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

/// What the documented examples leave out: nulls, wrong kinds, limits.
#[test]
fn edge_cases() {
    let cases = [
        ("abs(a)", r#"{"a":-9223372036854775808}"#, "9223372036854775808"),
        ("abs(a)", r#"{"a":true}"#, "error"),
        ("abs(a)", r#"{"a":[]}"#, "null"),
        ("round(a, 2)", r#"{"a":1e21}"#, "1e21"),
        ("round(a, -400)", r#"{"a":5}"#, "0"),
        ("log(a)", r#"{"a":0}"#, "error"),
        ("power(a, 0.5)", r#"{"a":-1}"#, "error"),
        ("bitand(a, 1)", r#"{"a":3.0}"#, "1"),
        ("conv(a, 10, 16)", r#"{"a":-1}"#, "\"FFFFFFFFFFFFFFFF\""),
        ("conv(a, -10, 10)", r#"{"a":"-99999999999999999999"}"#, "error"),
        ("conv(a, 2, 10)", r#"{"a":" 1012"}"#, "\"5\""),
        ("conv(a, 2, 10)", r#"{"a":"x"}"#, "\"0\""),
        ("length(a)", r#"{"a":{}}"#, "0"),
        ("concat(a, b)", r#"{"a":1.5,"b":{"y":null,"x":[1,true]}}"#, "\"1.5map[x:[1 true] y:<nil>]\""),
        ("upper(a)", r#"{"a":true}"#, "\"TRUE\""),
        ("indexof(a, 'x')", "{}", "-1"),
        ("indexof(a, 'ü')", r#"{"a":"äü"}"#, "2"),
        ("substring(a, 1)", r#"{"a":"ä"}"#, "\"\u{fffd}\""),
        ("substring(a, -1)", r#"{"a":"x"}"#, "error"),
        ("substring(a, 5, 9)", r#"{"a":"x"}"#, "\"\""),
        ("split_value(a, '', 1)", r#"{"a":"äöü"}"#, "\"ö\""),
        ("split_value(a, '-', -1)", r#"{"a":"x-y"}"#, "error"),
        ("split_value(a, '-', i)", r#"{"a":"x-y","i":-1}"#, "\"y\""),
        ("regexp_replace(a, 'x', '[$0]')", r#"{"a":"axb"}"#, "\"a[x]b\""),
        ("startswith(a, 'x')", "{}", "false"),
        ("format(a, -1)", r#"{"a":1}"#, "error"),
        ("format(a, 0)", r#"{"a":"x"}"#, "\"0\""),
        ("array_create(a)", "{}", "null"),
        ("array_position(a, 1)", r#"{"a":5}"#, "error"),
        ("array_contains(a, b)", r#"{"a":[{"x":1}],"b":{"x":1.0}}"#, "true"),
        ("array_contains_any(a, b)", r#"{"b":[1]}"#, "false"),
        ("array_contains_any(a, b)", r#"{"a":[1]}"#, "error"),
        ("element_at(a, -3)", r#"{"a":[1,2]}"#, "error"),
        ("element_at(a, 'q')", r#"{"a":{"x":1}}"#, "null"),
        ("array_union(a, b)", r#"{"b":[1,1.0]}"#, "[1]"),
        ("array_max(a)", r#"{"a":[1,"x"]}"#, "error"),
        ("array_max(a)", r#"{"a":[null]}"#, "null"),
        ("array_concat(a, b)", "{}", "null"),
        ("repeat(a, -1)", r#"{"a":1}"#, "error"),
        ("repeat(a, 100000000)", r#"{"a":1}"#, "error"),
        ("sequence(0, 9223372036854775807)", "{}", "error"),
        ("sequence(3, 1)", "{}", "[3,2,1]"),
        ("sequence(1, 1)", "{}", "[1]"),
        (
            "sequence(-9223372036854775808, 9223372036854775807, 9223372036854775807)",
            "{}",
            "[-9223372036854775808,-1,9223372036854775806]",
        ),
        ("kvpair_array_to_obj(a)", r#"{"a":[{"key":"x"}]}"#, "error"),
        ("object(a, b)", r#"{"a":["x"],"b":[1,2]}"#, "error"),
        ("zip(a)", r#"{"a":[null,["x",1]]}"#, r#"{"x":1}"#),
        ("object_construct(a, 1, 'y', 2)", "{}", r#"{"y":2}"#),
        ("object_construct(a)", "{}", "error"),
        ("object_construct()", "{}", "{}"),
        ("object_pick(a, 'y.z', 'y.q')", r#"{"a":{"y":{"z":1,"q":2,"r":3}}}"#, r#"{"y":{"z":1,"q":2}}"#),
        ("erase(a, b)", r#"{"a":{"x":1,"y":2},"b":["x","y"]}"#, "{}"),
        ("hour(a)", r#"{"a":true}"#, "error"),
        ("hour(a)", "{}", "error"),
        ("now(9)", "{}", "\"2023-11-14 22:13:21\""),
        ("from_days(a)", r#"{"a":0.5}"#, "error"),
        ("from_days(a)", r#"{"a":100000000000}"#, "error"),
        ("date_calc(a, '99999h')", r#"{"a":253402300799000}"#, "error"),
        ("convert_tz(a, 'Europe/Berlin')", r#"{"a":"2024-07-01T12:00:00+05:00"}"#, "\"2024-07-01T09:00:00+02:00\""),
        ("to_seconds(a)", r#"{"a":-1}"#, "-1"),
        ("crc32(a)", r#"{"a":[1,2]}"#, "\"191a9db\""),
        ("to_json(a)", r#"{"a":"<&>"}"#, r#""\"\\u003c\\u0026\\u003e\"""#),
        ("parse_json(a)", r#"{"a":"null"}"#, "null"),
        ("parse_json(a)", r#"{"a":1}"#, "error"),
        ("json_path_query(a, '$[0]')", r#"{"a":"[7]"}"#, "7"),
        ("json_path_query(a, '$..n')", r#"{"a":{"x":{"n":1},"n":2}}"#, "[2,1]"),
        ("json_path_query(a, '$[\"x:y\"]')", r#"{"a":{"x:y":1}}"#, "1"),
        ("json_path_query(a, '$.')", r#"{"a":{}}"#, "error"),
        ("json_path_query_first(a, '$.x[*]')", r#"{"a":{}}"#, "null"),
        ("json_path_exists(a, '$.x')", "{}", "false"),
        ("cast(a, 'bigint')", r#"{"a":1e21}"#, "error"),
        ("cast(a, 'bytea')", r#"{"a":"dA=="}"#, "\"dA==\""),
        ("cast(a, 'string')", r#"{"a":1e21}"#, "\"1000000000000000000000\""),
        ("encode(a, 'hex')", r#"{"a":"x"}"#, "error"),
        ("hex2dec(a)", r#"{"a":"ffffffffffffffff"}"#, "error"),
        ("coalesce(a, b)", "{}", "null"),
        ("sum(a)", "{\"a\":1}\n{\"a\":true}", "error"),
        ("max(a)", "{\"a\":2}\n{\"a\":2.5}\n{\"a\":null}\n{\"a\":1}", "2.5"),
        ("max(a)", "{\"a\":2}\n{\"a\":\"x\"}", "error"),
        ("min(a)", "{\"a\":null}", "null"),
        ("median(a)", "{\"a\":null}\n{\"a\":3}\n{\"a\":1}", "error"),
        ("median(a)", "{\"a\":3}\n{\"a\":null}\n{\"a\":1}", "2"),
        ("percentile_cont(a, 0.1)", "{\"a\":1}\n{\"a\":2}", "error"),
        ("percentile_disc(a, 0)", "{\"a\":1}\n{\"a\":2}", "1"),
        ("merge_agg(a)", "{\"a\":1}", "null"),
        ("last_value(a, true)", "{\"a\":null}", "null"),
        ("lag(a, 0)", "{\"a\":1}\n{\"a\":2}", "null"),
        ("lag(a, -1)", "{\"a\":1}", "error"),
        ("lag(a)", "{\"a\":1}\n{\"a\":null}\n{\"a\":null}", "1"),
        ("lag(a, 1, 7, false)", "{\"a\":1}\n{\"a\":null}\n{\"a\":3}", "null"),
        ("changed_col(false, a)", "{\"a\":1}\n{\"a\":null}\n{\"a\":1}", "1"),
        ("changed_col(true, a)", "{\"a\":1}\n{\"a\":null}\n{\"a\":1.0}", "null"),
        ("had_changed(true, a, b)", "{\"a\":1,\"b\":1}\n{\"a\":1,\"b\":2}", "true"),
        ("had_changed(a, b)", "{\"a\":1}", "error"),
        ("acc_max(a, b = 1, b = 2)", "{\"a\":9,\"b\":0}\n{\"a\":-1,\"b\":1}\n{\"a\":-2,\"b\":2}", "-1"),
        ("acc_count(a, b = 1, b = 2)", "{\"a\":9,\"b\":2}\n{\"a\":9,\"b\":0}", "0"),
        ("changed_cols('p_', false, a, b)", "{\"a\":1}\n{\"a\":null}", r#"{"p_a":null}"#),
        ("unnest(a)", "{}", "[]"),
        ("geohashEncode(a, b)", r#"{"a":91,"b":0}"#, "error"),
        ("geohashDecode(a)", r#"{"a":"ail"}"#, "error"),
        ("geohashNeighbor(a, 'North')", r#"{"a":"z"}"#, "\"z\""),
        ("geohashNeighbor(a, 'East')", r#"{"a":"z"}"#, "\"b\""),
    ];
    let mut wrong = Vec::new();
    for (call, input, expected) in cases {
        let rows: Vec<Value> = input.lines().map(|line| json::parse(line.as_bytes()).unwrap()).collect();
        let result = run(call, &rows).pop().expect("a result");
        let agrees = match &result {
            Ok(value) => {
                let value = json::parse(written(value).as_bytes()).unwrap();
                json::parse(expected.as_bytes()).is_ok_and(|expected| same(Some(&value), Some(&expected)))
            }
            Err(_) => expected == "error",
        };
        if !agrees {
            wrong.push(format!("{call} over {input}: {:?}, not {expected}", result.map(|value| written(&value))));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn random_results() {
    let row = [json::parse(br#"{"a":[1,2,3,4,5]}"#).unwrap()];
    let Some(Ok(Value::Float(random))) = run("rand()", &row).pop() else { panic!("rand gives a float") };
    assert!((0.0..1.0).contains(&random), "{random}");
    let Some(Ok(Value::String(uuid))) = run("newuuid()", &row).pop() else { panic!("newuuid gives a text") };
    let uuid = uuid::Uuid::parse_str(&uuid).unwrap();
    assert_eq!(uuid.get_version_num(), 1);
    let (seconds, _) = uuid.get_timestamp().unwrap().to_unix();
    assert_eq!(seconds, 1_700_000_001);
    let Some(Ok(Value::Array(shuffled))) = run("array_shuffle(a)", &row).pop() else { panic!("an array") };
    let mut elements: Vec<String> = shuffled.iter().map(written).collect();
    elements.sort_unstable();
    assert_eq!(elements, ["1", "2", "3", "4", "5"]);
}

#[test]
fn rows_that_are_not_valid() {
    let mut rule = rule();
    let mut ctx = EvalContext { rule: &mut rule, event_time: 0, window: None };
    let registry = Registry::builtin();
    let rows = [(1, true), (2, false), (3, true)];
    let cases: [(&str, &[Value], &str); 6] = [
        ("lag", &[], "null 1 1"),
        ("latest", &[], "1 1 3"),
        ("acc_sum", &[], "1 1 4"),
        ("acc_count", &[], "1 1 2"),
        ("changed_col", &[Value::Bool(true)], "1 null 3"),
        ("had_changed", &[Value::Bool(true)], "true false true"),
    ];
    for (name, before, expected) in cases {
        let Body::Analytic(new) = registry.get(name).unwrap().body else { panic!("{name} is analytic") };
        let mut function = new();
        let results = rows.map(|(value, valid)| {
            let args: Vec<Value> = before.iter().cloned().chain([Value::Int(value)]).collect();
            written(&function.eval(&args, valid, &mut ctx).unwrap())
        });
        assert_eq!(results.join(" "), expected, "{name}");
    }
}

#[test]
fn hits_count_conditions_that_held() {
    let mut rule = rule();
    let mut ctx = EvalContext { rule: &mut rule, event_time: 5, window: None };
    let registry = Registry::builtin();
    for (name, after) in [("last_hit_count", 1), ("last_hit_time", 5)] {
        let Body::Stateful(new) = registry.get(name).unwrap().body else { panic!("{name} has a state") };
        let mut function = new();
        for _ in 0..2 {
            assert_eq!(function.peek().map(|value| written(&value)).as_deref(), Some("0"), "{name}");
        }
        function.eval(&[], &mut ctx).unwrap();
        assert_eq!(function.peek().map(|value| written(&value)), Some(after.to_string()), "{name}");
    }
}

#[test]
fn every_function_is_documented() {
    for function in functions() {
        assert!(function.docs.ends_with('.'), "{} has no docs", function.name);
        let shown = function.volatility == Volatility::Volatile
            || function.looks_up.is_some()
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
         counts it and reports it. The functions over pictures and models are [a page of their own](../IMAGES.md#functions).\n",
    );
    for (title, functions) in families() {
        let _ = writeln!(page, "\n## {title}\n");
        let mut functions = functions();
        functions.sort_by_key(|function| function.name);
        functions.iter().for_each(|function| page.push_str(&reference::entry(function)));
    }
    page
}
