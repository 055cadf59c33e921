//! Millions of statements and of texts that are nearly statements, through the parser and the planner, and what has a plan over
//! a few rows. Not part of a normal run, because it takes many minutes:
//!
//! ```text
//! STRESS_INPUTS=10000000 cargo test --release -p sluice-sql --lib -- --ignored --nocapture sql::tests::stress
//! ```
//!
//! Input `n` depends on `n` alone, so that a failure can be looked at again: `STRESS_FIRST=n STRESS_INPUTS=1`.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::properties::{PIECES, VALID, check};
use crate::expr::{Report, RuleContext};
use crate::function::Registry;
use crate::operators::Chain;
use crate::plan::{Catalog, RuleOptions, SourceDef, SourceKind, StarColumns, plan_statement};
use crate::sql::ast::Statement;
use crate::sql::{parse_statement, parse_statements};
use crate::value::{Batch, Object, Row, Value};

/// The SplitMix64 generator: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

/// The `n`th input: pieces at random, or valid statements that are cut, spliced and sprinkled with pieces.
fn input(n: u64, pieces: &[&str]) -> String {
    let mut random = Random(n.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut text = String::new();
    if random.below(3) == 0 {
        let glue = ["", " "][random.below(2)];
        for _ in 0..random.below(30) {
            text.push_str(random.of(pieces));
            text.push_str(glue);
        }
        return text;
    }
    let mut chars: Vec<char> = random.of(&VALID).chars().collect();
    for _ in 0..1 + random.below(5) {
        let at = random.below(chars.len() + 1);
        let end = (at + random.below(15)).min(chars.len());
        match random.below(6) {
            // A part of another statement.
            0 => {
                let other: Vec<char> = random.of(&VALID).chars().collect();
                let from = random.below(other.len());
                let to = (from + random.below(60)).min(other.len());
                chars.splice(at..end, other[from..to].iter().copied());
            }
            // The same once more.
            1 => {
                let part = chars[at..end].to_vec();
                chars.splice(at..at, part);
            }
            2 => drop(chars.drain(at..end)),
            3 => drop(chars.splice(at..end, char::from_u32(random.below(0x3000) as u32))),
            _ => drop(chars.splice(at..at, random.of(pieces).chars())),
        }
    }
    text.extend(chars);
    text
}

/// A statement by the grammar, with names, functions and values that fit or don't.
struct Grammar<'a> {
    random: Random,
    functions: &'a [&'a str],
}

impl Grammar<'_> {
    fn one_of(&mut self, list: &[&str]) -> String {
        self.random.of(list).to_owned()
    }

    fn list(&mut self, most: usize, separator: &str, part: fn(&mut Self, usize) -> String, depth: usize) -> String {
        let n_parts = 1 + self.random.below(most);
        (0..n_parts).map(|_| part(self, depth)).collect::<Vec<_>>().join(separator)
    }

    fn expr(&mut self, depth: usize) -> String {
        const LEAVES: [&str; 22] = [
            "a",
            "b",
            "t.a",
            "s.v",
            "k",
            "l",
            "o",
            "d",
            "o->k",
            "1",
            "0",
            "-3",
            "2.5",
            "\"x\"",
            "\"2024-01-01\"",
            "TRUE",
            "NULL",
            "x",
            "`odd name`",
            "10000000000",
            "\"bigint\"",
            "\"$.a\"",
        ];
        if depth == 0 || self.random.below(4) == 0 {
            return self.one_of(&LEAVES);
        }
        let depth = depth - 1;
        match self.random.below(14) {
            0..=4 => self.call(depth),
            5 | 6 => {
                let op =
                    self.one_of(&["+", "-", "*", "/", "%", "&", "|", "^", "||", "=", "!=", "<", ">=", "AND", "OR"]);
                format!("{} {op} {}", self.expr(depth), self.expr(depth))
            }
            7 => format!("({})", self.expr(depth)),
            8 => format!("CASE WHEN {} THEN {} ELSE {} END", self.expr(depth), self.expr(depth), self.expr(depth)),
            9 => format!(
                "{} {} ({})",
                self.expr(depth),
                self.random.of(&["IN", "NOT IN"]),
                self.list(3, ", ", Self::expr, depth)
            ),
            10 => format!("{} BETWEEN {} AND {}", self.expr(depth), self.expr(0), self.expr(0)),
            11 => format!("{} LIKE {}", self.expr(depth), self.expr(0)),
            12 => format!("({})[{}{}]", self.expr(depth), self.expr(0), self.random.of(&["", ":", ":2"])),
            _ => format!("{} {}", self.random.of(&["NOT", "-"]), self.expr(depth)),
        }
    }

    fn call(&mut self, depth: usize) -> String {
        let name = self.random.of(self.functions).to_owned();
        let args = match self.random.below(8) {
            0 => String::new(),
            1 => "*".to_owned(),
            _ => self.list(4, ", ", Self::expr, depth),
        };
        let distinct = if self.random.below(12) == 0 { "DISTINCT " } else { "" };
        let behind = match self.random.below(12) {
            0 => format!(" OVER (PARTITION BY {})", self.expr(depth)),
            1 => format!(" OVER (WHEN {})", self.expr(depth)),
            2 => format!(" FILTER (WHERE {})", self.expr(depth)),
            _ => String::new(),
        };
        format!("{name}({distinct}{args}){behind}")
    }

    fn item(&mut self, depth: usize) -> String {
        match self.random.below(8) {
            0 => self.one_of(&["*", "s.*", "* EXCEPT (a)", "* REPLACE (a + 1 AS a)"]),
            1 | 2 => self.expr(depth),
            _ => format!("{} AS {}", self.expr(depth), self.random.of(&["p", "q", "a", "k", "x"])),
        }
    }

    fn window(&mut self) -> String {
        let number = |random: &mut Random| random.of(&["1", "2", "10", "60", "0"]).to_owned();
        let unit = self.one_of(&["ss", "ms", "mi", "hh", "dd"]);
        let (a, b) = (number(&mut self.random), number(&mut self.random));
        let window = match self.random.below(6) {
            0 => format!("TUMBLINGWINDOW({unit}, {a})"),
            1 => format!("HOPPINGWINDOW({unit}, {a}, {b})"),
            2 => format!("SLIDINGWINDOW({unit}, {a}, {b})"),
            3 => format!("SESSIONWINDOW({unit}, {a}, {b})"),
            4 => format!("COUNTWINDOW({a}, {b})"),
            _ => format!("STATEWINDOW({}, {})", self.expr(2), self.expr(1)),
        };
        match self.random.below(5) {
            0 => format!("{window} FILTER (WHERE {})", self.expr(2)),
            1 => format!("{window} OVER (WHEN {})", self.expr(2)),
            2 => format!("{window} OVER (PARTITION BY {})", self.expr(1)),
            _ => window,
        }
    }

    fn statement(&mut self) -> String {
        let depth = 1 + self.random.below(3);
        let mut text =
            format!("SELECT {} FROM {}", self.list(4, ", ", Self::item, depth), self.random.of(&["s", "t", "t AS s"]));
        if self.random.below(4) == 0 {
            let join = self.random.of(&["INNER", "LEFT", "RIGHT", "FULL"]).to_owned();
            let table = self.one_of(&["t", "s", "u", "w"]);
            let on = match self.random.below(2) {
                0 => format!("{table}.a = k"),
                _ => self.expr(2),
            };
            text += &format!(" {join} JOIN {table} ON {on}");
        }
        if self.random.below(2) == 0 {
            text += &format!(" WHERE {}", self.expr(depth));
        }
        if self.random.below(2) == 0 {
            let mut keys = vec![self.window()];
            (0..self.random.below(3)).for_each(|_| keys.push(self.expr(1)));
            text += &format!(" GROUP BY {}", keys.join(", "));
        }
        if self.random.below(5) == 0 {
            text += &format!(" HAVING {}", self.expr(2));
        }
        if self.random.below(4) == 0 {
            text += &format!(" ORDER BY {}", self.expr(1));
        }
        if self.random.below(6) == 0 {
            text += " LIMIT 2";
        }
        text
    }
}

/// What statements are planned against.
struct World {
    catalog: Catalog,
    functions: Registry,
    options: Vec<RuleOptions>,
}

impl World {
    fn new() -> Self {
        let typed = "CREATE STREAM t (a bigint, v float, k string, b boolean, l array(bigint), o struct(k string), d datetime) \
                     WITH (DATASOURCE=\"t\")";
        let Ok(Statement::Create(create)) = parse_statement(typed) else { panic!("{typed} is right") };
        let def = |kind, fields| SourceDef {
            kind,
            fields,
            timestamp: Some("a".into()),
            timestamp_format: None,
            strict: false,
            implied: Vec::new(),
        };
        let sources = [
            ("s", def(SourceKind::Stream, Vec::new())),
            ("t", def(SourceKind::Stream, create.fields)),
            ("u", def(SourceKind::LookupTable, Vec::new())),
            ("w", def(SourceKind::ScanTable { retain: 3 }, Vec::new())),
        ];
        let standard = RuleOptions::default();
        World {
            catalog: Catalog { sources: sources.into_iter().map(|(name, def)| (name.into(), def)).collect() },
            functions: Registry::builtin(),
            options: vec![
                RuleOptions { event_time: true, send_error: true, keep_rejected: true, ..standard.clone() },
                RuleOptions { star_columns: StarColumns::Named, send_nil: true, ..standard.clone() },
                standard,
            ],
        }
    }

    /// Plans the statements of a text and runs what has a plan. How many have one.
    fn plan(&self, sql: &str, n: u64) -> u64 {
        let mut n_plans = 0;
        for statement in parse_statements(sql).0 {
            let Statement::Select(select) = statement else { continue };
            let options = &self.options[n as usize % self.options.len()];
            match plan_statement(&select, &self.catalog, &self.functions, options) {
                Err(errors) => assert!(!errors.is_empty(), "{sql}"),
                Ok(plan) => {
                    assert!(!plan.explain().is_empty(), "{sql}");
                    n_plans += 1;
                    run(&plan);
                }
            }
        }
        n_plans
    }
}

/// A few rows with values of all kinds, wherever the plan wants them.
fn run(plan: &crate::plan::RulePlan) {
    let mut ctx = RuleContext {
        rule_id: "stress".into(),
        rule_start: 0,
        now: 0,
        props: Arc::new(|_| None),
        random: Box::new(|| 7),
        time_zone: jiff::tz::TimeZone::UTC,
        report: Report::default(),
    };
    let slots: Vec<Vec<usize>> = plan.inputs.iter().map(|input| (0..input.schema.columns.len()).collect()).collect();
    let mut chain = Chain::new(plan, &slots);
    let mut out = Vec::new();
    let object = Value::Object(Arc::new(Object::from_iter([("k", Value::string("v")), ("a", Value::Int(2))])));
    let values = [
        Value::Int(3),
        Value::string("text"),
        Value::Float(-0.5),
        Value::Null,
        object,
        Value::Array(Arc::new(vec![Value::Int(1), Value::Null])),
        Value::Bool(true),
        Value::Int(i64::MIN),
        Value::Missing,
    ];
    for row_idx in 0..4 {
        ctx.now = row_idx as i64 * 1500;
        chain.tick(&mut ctx, &mut out);
        for (input_idx, input) in plan.inputs.iter().enumerate() {
            let value = |slot: usize| values[(slot * 5 + row_idx + input_idx) % values.len()].clone();
            let row = Row { ts: ctx.now, values: (0..input.schema.columns.len()).map(value).collect() };
            let batch = Arc::new(Batch::per_row(Arc::clone(&input.schema), vec![row]));
            chain.push(input_idx, batch, &mut ctx, &mut out);
        }
    }
    (0..plan.inputs.len()).for_each(|input_idx| chain.end_input(input_idx, &mut ctx, &mut out));
}

#[test]
#[ignore = "takes many minutes; the command is at the top of the file"]
fn no_input_panics_or_hangs() {
    let number = |name: &str, otherwise: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number")),
        Err(_) => otherwise,
    };
    let (first, n_inputs) = (number("STRESS_FIRST", 0), number("STRESS_INPUTS", 1_000_000));
    let (progress, reports) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        let pieces: Vec<&str> = PIECES.split('|').collect();
        let world = World::new();
        let mut functions: Vec<&str> = world.functions.names().collect();
        functions.sort_unstable();
        let (mut n_accepted, mut n_plans) = (0u64, 0u64);
        for n in first..first + n_inputs {
            if n % 1000 == 0 {
                // The other end is gone only when the test has failed already.
                let _ = progress.send(n);
            }
            let text = match n % 2 {
                0 => input(n, &pieces),
                _ => Grammar { random: Random(n), functions: &functions }.statement(),
            };
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (check(&text), world.plan(&text, n))));
            match outcome {
                Ok((accepted, planned)) => {
                    n_accepted += u64::from(accepted);
                    n_plans += planned;
                }
                Err(_) => panic!("input {n} fails: {text:?}"),
            }
        }
        (n_accepted, n_plans)
    });
    let mut last = first;
    loop {
        match reports.recv_timeout(Duration::from_secs(120)) {
            Ok(n) => {
                if n % 1_000_000 == 0 {
                    println!("{n} inputs");
                }
                last = n;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("an input from {last} to {} hangs", last + 1000),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let (n_accepted, n_plans) = worker.join().expect("the worker's panic names the input");
    println!("{n_inputs} inputs, {n_accepted} of them accepted by the parser, {n_plans} by the planner, and run");
    assert!(n_accepted < n_inputs || n_inputs < 100, "the inputs are no stress");
}
