//! Runs a statement over rows with a manual clock, and compares what comes out.

#![allow(dead_code, reason = "each suite uses its part")]

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};
use sluice_sql::expr::{Report, RuleContext};
use sluice_sql::function::Registry;
use sluice_sql::operators::{Chain, ChainState, LookupAnswer};
use sluice_sql::plan::{Catalog, InputPlan, RuleOptions, RulePlan, SourceDef, SourceKind, plan_rule};
use sluice_sql::sql::ast::{Create, Field, FieldType, SourceKeyword, Statement};
use sluice_sql::sql::{SqlErrors, parse_statement};
use sluice_sql::value::state::StateIo;
use sluice_sql::{Batch, Column, ColumnKind, Emissions, Object, Row, Schema, Timestamp, Value};

/// Emissions, each a list of rows.
pub type Emitted = Vec<Vec<Json>>;

/// One row that arrives.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// By the clock; in event time, for examples, also the event time.
    pub ts: Timestamp,
    /// The stream.
    pub stream: String,
    /// The payload.
    pub data: Json,
    /// The metadata.
    pub meta: Option<Json>,
}

/// A lookup table's rows.
pub type Tables = HashMap<String, Vec<Json>>;

/// A statement with what it runs on.
#[derive(Default)]
pub struct Case {
    /// The `SELECT`.
    pub sql: String,
    /// Streams and tables.
    pub catalog: Catalog,
    /// Rule options.
    pub options: RuleOptions,
    /// Rows, in order of arrival.
    pub arrivals: Vec<Arrival>,
    /// Rows of lookup tables.
    pub lookups: Tables,
    /// Rows of scan tables; there before the first stream row.
    pub scans: Tables,
    /// When the rule starts.
    pub start: Timestamp,
    /// Where clock or watermark go at the end.
    pub advance_to: Option<Timestamp>,
    /// The event time of a row is its `ts`.
    pub event_time_is_ts: bool,
    /// Ends all inputs.
    pub end: bool,
    /// Rows come as those of a shared stream do: with slots that the rule does not read, and its own in another order.
    pub shared: bool,
    /// Before each row, another chain takes over with the state of the one before.
    pub takes_over: bool,
}

/// Where slot `slot` of a rule's `n_slots` is in the rows of a shared stream.
fn shared_slot(slot: usize, n_slots: usize) -> usize {
    2 * (n_slots - slot) - 1
}

/// The registry that tests use.
pub fn functions() -> Registry {
    Registry::builtin()
}

/// A definition from its `CREATE` statement.
pub fn define(ddl: &str) -> (String, SourceDef) {
    let Ok(Statement::Create(create)) = parse_statement(ddl) else { panic!("no CREATE: {ddl}") };
    let Create { keyword, name, fields, options } = create;
    let option = |wanted: &str| {
        options.iter().find(|option| option.name.name.eq_ignore_ascii_case(wanted)).map(|option| option.value.clone())
    };
    let kind = match (keyword, option("KIND").as_deref()) {
        (SourceKeyword::Stream, _) => SourceKind::Stream,
        (SourceKeyword::Table, Some("lookup")) => SourceKind::LookupTable,
        (SourceKeyword::Table, _) => SourceKind::ScanTable { retain: 9999 },
    };
    let def = SourceDef {
        kind,
        fields,
        timestamp: option("TIMESTAMP"),
        timestamp_format: option("TIMESTAMP_FORMAT"),
        strict: option("STRICT_VALIDATION").is_some_and(|value| value.eq_ignore_ascii_case("true")),
        implied: Vec::new(),
    };
    (name.name.to_string(), def)
}

/// A context whose time stands at `now` and whose randomness counts.
pub fn context(now: Timestamp) -> RuleContext {
    let mut state = 0u64;
    RuleContext {
        rule_id: "rule".into(),
        rule_start: now,
        now,
        props: Arc::new(|name| (name == "site").then(|| "edge-1".into())),
        random: Box::new(move || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            state
        }),
        time_zone: jiff::tz::TimeZone::UTC,
        report: Report::default(),
    }
}

/// What a case gives.
pub struct Outcome {
    /// Emissions in order, empty ones too.
    pub emitted: Emitted,
    /// What was dropped.
    pub report: Report,
    /// The plan.
    pub plan: RulePlan,
}

impl Case {
    /// Plans and runs.
    pub fn run(&self) -> Result<Outcome, SqlErrors> {
        let plan = plan_rule(&self.sql, &self.catalog, &functions(), &self.options)?;
        let slots: Vec<Vec<usize>> = plan
            .inputs
            .iter()
            .map(|input| {
                let n_slots = input.schema.columns.len();
                (0..n_slots).map(|slot| if self.shared { shared_slot(slot, n_slots) } else { slot }).collect()
            })
            .collect();
        let mut runner = Runner {
            chain: Chain::new(&plan, &slots),
            slots: &slots,
            ctx: context(self.start),
            emitted: Vec::new(),
            case: self,
            plan: &plan,
        };
        runner.run();
        let Runner { emitted, ctx, .. } = runner;
        Ok(Outcome { emitted, report: ctx.report, plan })
    }
}

struct Runner<'a> {
    chain: Chain,
    slots: &'a [Vec<usize>],
    ctx: RuleContext,
    emitted: Emitted,
    case: &'a Case,
    plan: &'a RulePlan,
}

impl Runner<'_> {
    fn run(&mut self) {
        let case = self.case;
        for (input_idx, input) in self.plan.inputs.iter().enumerate() {
            for data in case.scans.get(input.source.as_str()).into_iter().flatten() {
                self.push(input_idx, input, case.start, data, None);
            }
        }
        self.tick(case.start);
        for arrival in &case.arrivals {
            if !case.options.event_time {
                self.tick(arrival.ts);
            }
            if case.takes_over {
                self.take_over();
            }
            for (input_idx, input) in self.plan.inputs.iter().enumerate() {
                if input.source == arrival.stream {
                    self.push(input_idx, input, arrival.ts, &arrival.data, arrival.meta.as_ref());
                }
            }
        }
        if let Some(time) = case.advance_to {
            if case.options.event_time {
                let mut out = Vec::new();
                self.chain.advance_watermark(time, &mut self.ctx, &mut out);
                self.take(out);
            } else {
                self.tick(time);
            }
        }
        if case.end {
            for input_idx in 0..self.plan.inputs.len() {
                let mut out = Vec::new();
                self.chain.end_input(input_idx, &mut self.ctx, &mut out);
                self.take(out);
            }
        }
    }

    /// A restart: state to bytes and back, into a chain without history.
    fn take_over(&mut self) {
        let mut io = StateIo::writer();
        self.chain.save().state(&mut io);
        let mut io = StateIo::reader(io.into_bytes());
        let mut state = ChainState::default();
        state.state(&mut io);
        assert!(io.is_complete(), "the state can be read back");
        self.chain = Chain::new(self.plan, self.slots);
        let restored = self.chain.restore(&state);
        assert!(restored.lost.is_empty() && restored.fresh.is_empty(), "{restored:?}: {}", self.case.sql);
    }

    fn tick(&mut self, time: Timestamp) {
        loop {
            let timer = self.chain.next_timer().filter(|timer| *timer <= time);
            self.ctx.now = timer.unwrap_or(time).max(self.case.start);
            let mut out = Vec::new();
            self.chain.tick(&mut self.ctx, &mut out);
            self.take(out);
            if timer.is_none() {
                return;
            }
        }
    }

    fn push(&mut self, input_idx: usize, input: &InputPlan, ts: Timestamp, data: &Json, meta: Option<&Json>) {
        let Some(def) = self.case.catalog.sources.get(&input.source) else { return };
        let row = match decode(def, &input.schema, data, meta) {
            Ok(mut values) => {
                if self.case.event_time_is_ts
                    && let Some(name) = &def.timestamp
                    && let Some(slot) = input.schema.field(name)
                {
                    values[slot] = Value::Int(ts);
                }
                Row { ts, values }
            }
            Err(()) => {
                if self.case.options.send_error {
                    self.emitted.push(vec![error_row()]);
                }
                return;
            }
        };
        if !self.case.options.event_time {
            self.ctx.now = ts;
        }
        let row = if self.case.shared { shared_row(row) } else { row };
        let batch = Arc::new(Batch::per_row(Arc::clone(&input.schema), vec![row]));
        let mut out = Vec::new();
        self.chain.push(input_idx, batch, &mut self.ctx, &mut out);
        self.take(out);
    }

    /// Through the lookups, then to JSON.
    fn take(&mut self, mut batches: Vec<Batch>) {
        for (lookup_idx, lookup) in self.plan.lookups.iter().enumerate() {
            let mut joined = Vec::new();
            for batch in batches {
                let request = self.chain.lookup_keys(lookup_idx, &batch, &mut self.ctx);
                let table = self.case.lookups.get(lookup.table.as_str()).cloned().unwrap_or_default();
                let def = &self.case.catalog.sources[&lookup.table];
                let answers: Vec<LookupAnswer> = request
                    .keys
                    .iter()
                    .map(|key| {
                        let is_match = |row: &&Json| {
                            lookup.key_columns.iter().zip(key.0.iter()).all(|(name, key)| {
                                row.get(name.as_str()).is_some_and(|value| from_json(value).same_key(key))
                            })
                        };
                        let rows = table.iter().filter(is_match).filter_map(|row| {
                            let values = decode(def, &lookup.columns, row, None).ok()?;
                            Some(Row { ts: 0, values })
                        });
                        LookupAnswer::Rows(Arc::new(rows.collect()))
                    })
                    .collect();
                self.chain.lookup_join(lookup_idx, batch, &request, &answers, &mut self.ctx, &mut joined);
            }
            batches = joined;
        }
        for batch in batches {
            self.emitted.extend(emissions(&batch));
        }
    }
}

fn shared_row(row: Row) -> Row {
    let n_slots = row.values.len();
    let mut values = vec![Value::string("of another rule"); 2 * n_slots];
    for (slot, value) in row.values.into_iter().enumerate() {
        values[shared_slot(slot, n_slots)] = value;
    }
    Row { ts: row.ts, values }
}

/// A batch as emissions of JSON rows.
pub fn emissions(batch: &Batch) -> Emitted {
    let json = |row: &Row| object_to_json(&batch.schema.to_object(row));
    match &batch.emissions {
        Emissions::PerRow => batch.rows.iter().map(|row| vec![json(row)]).collect(),
        Emissions::Grouped(emissions) => {
            let mut start = 0;
            let mut all = Vec::new();
            for emission in emissions {
                match &emission.error {
                    Some(_) => all.push(vec![error_row()]),
                    None => all.push(batch.rows[start..emission.end].iter().map(json).collect()),
                }
                start = emission.end;
            }
            all
        }
    }
}

fn error_row() -> Json {
    serde_json::json!({"error": "*"})
}

/// The slots of a row from its payload, by the conversion rules of declared columns.
fn decode(def: &SourceDef, schema: &Schema, data: &Json, meta: Option<&Json>) -> Result<Vec<Value>, ()> {
    let Json::Object(members) = data else { return Err(()) };
    // All declared columns are converted, also those that the plan doesn't read: a message is right or wrong as a whole.
    let value = |column: &Column| match column.kind {
        ColumnKind::Field => {
            let Some(value) = members.get(column.name.as_str()) else { return Ok(Value::Missing) };
            match def.fields.iter().find(|field| field.name.name == column.name) {
                Some(field) => convert(&field.ty, value),
                None => Ok(from_json(value)),
            }
        }
        ColumnKind::Star => Ok(from_json(data)),
        ColumnKind::Meta => Ok(meta.map_or(Value::Missing, from_json)),
        ColumnKind::Hidden => Ok(Value::Missing),
    };
    schema.columns.iter().map(value).collect()
}

fn convert(ty: &FieldType, value: &Json) -> Result<Value, ()> {
    Ok(match (ty, value) {
        (_, Json::Null) => Value::Null,
        (FieldType::Bigint, Json::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Value::Int(int),
            (None, Some(float)) if float.fract() == 0.0 && float.abs() < 9.3e18 => Value::Int(float as i64),
            _ => return Err(()),
        },
        (FieldType::Float, Json::Number(number)) => Value::Float(number.as_f64().ok_or(())?),
        (FieldType::String, Json::Number(number)) => Value::string(go_float(number.as_f64().ok_or(())?)),
        (FieldType::String, Json::String(text)) => Value::string(text),
        (FieldType::Boolean, Json::Number(number)) => Value::Bool(number.as_f64() != Some(0.0)),
        (FieldType::Boolean, Json::Bool(value)) => Value::Bool(*value),
        (FieldType::Boolean, Json::String(text)) => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Value::Bool(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Value::Bool(false),
            _ => return Err(()),
        },
        (FieldType::Datetime, Json::Number(number)) => Value::Float(number.as_f64().ok_or(())?),
        (FieldType::Datetime, Json::String(text)) => Value::string(text),
        (FieldType::Bytea, Json::String(text)) => {
            use base64::Engine;
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            Value::bytes(bytes.unwrap_or_else(|_| text.clone().into_bytes()))
        }
        (FieldType::Array(element), Json::Array(values)) => {
            let values: Result<Vec<Value>, ()> = values.iter().map(|value| convert(element, value)).collect();
            Value::Array(values?.into())
        }
        (FieldType::Struct(fields), Json::Object(members)) => {
            let mut object = Object::default();
            for Field { name, ty, .. } in fields {
                if let Some(value) = members.get(name.name.as_str()) {
                    object.insert(name.name.clone(), convert(ty, value)?);
                }
            }
            Value::Object(object.into())
        }
        _ => return Err(()),
    })
}

/// The text of a float as the string conversion of declared columns has it: with an exponent from 1e10... on.
fn go_float(float: f64) -> String {
    let plain = format!("{float}");
    let exponent = if float == 0.0 { 0 } else { float.abs().log10().floor() as i32 };
    if (-4..21).contains(&exponent) && !(exponent >= 10 && plain.trim_end_matches('0').len() < 6) {
        return plain;
    }
    let text = format!("{float:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// A JSON value; whole numbers as `bigint`.
pub fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Value::Int(int),
            (None, Some(uint)) => Value::from_u64(uint),
            _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::string(text),
        Json::Array(values) => Value::Array(Arc::new(values.iter().map(from_json).collect())),
        Json::Object(members) => {
            Value::Object(Arc::new(members.iter().map(|(name, value)| (name, from_json(value))).collect()))
        }
    }
}

fn object_to_json(object: &Object) -> Json {
    Json::Object(object.iter().map(|(name, value)| (name.to_string(), to_json(value))).collect::<Map<_, _>>())
}

/// A value as JSON, as sinks write it.
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::Missing | Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Uint(value) => Json::from(*value),
        Value::Float(value) => Json::from(*value),
        Value::String(value) => Json::from(value.as_str()),
        Value::Bytes(bytes) => {
            use base64::Engine;
            Json::from(base64::engine::general_purpose::STANDARD.encode(&**bytes))
        }
        Value::Datetime(datetime) => {
            let offset = datetime.offset();
            let text = if offset.is_zero() {
                datetime.timestamp().to_string()
            } else {
                datetime.timestamp().display_with_offset(offset).to_string()
            };
            Json::from(text)
        }
        Value::Array(values) => Json::Array(values.iter().map(to_json).collect()),
        Value::Object(_) | Value::Raw(_) => value.to_object().map_or(Json::Null, |object| object_to_json(&object)),
    }
}

/// True if both are the same, numbers by value.
pub fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
        }
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// True if both hold the same rows; in any order if `unordered`.
pub fn same_rows(a: &[Json], b: &[Json], unordered: bool) -> bool {
    if !unordered {
        return a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b));
    }
    let mut rest: Vec<&Json> = b.iter().collect();
    let all_found = a.iter().all(|row| match rest.iter().position(|other| same(row, other)) {
        Some(idx) => {
            rest.swap_remove(idx);
            true
        }
        None => false,
    });
    all_found && rest.is_empty()
}
