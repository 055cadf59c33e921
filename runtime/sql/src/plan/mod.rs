//! From a syntax tree to a plan: names, types, logical plan, push-down, physical plan, `explain`.
//!
//! Never touches a connector: what it needs to know of streams and tables is in the [`Catalog`].

mod alias;
mod bind;
mod call;
mod checks;
mod explain;
mod fold;
mod items;
mod layout;
mod lookup_join;
mod push_down;
mod select;
mod sources;
pub(crate) mod stages;
mod star;
mod walk;

use std::sync::Arc;

use indexmap::IndexMap;
use smol_str::SmolStr;

use crate::function::{Body, Registry};
use crate::sql::ast::{ExprKind, Field, JoinKind, Select, Statement};
use crate::sql::{Span, SqlError, SqlErrors, parse_statement};
use crate::value::{Schema, Type};

pub(crate) use bind::literal_value;

/// The streams and tables that statements may name.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// By SQL name.
    pub sources: IndexMap<SmolStr, SourceDef>,
}

/// What the planner knows of a stream or table. By default, a stream without declared columns.
#[derive(Clone, Debug, Default)]
pub struct SourceDef {
    /// Stream, scan table or lookup table.
    pub kind: SourceKind,
    /// Declared columns; none = schemaless.
    pub fields: Vec<Field>,
    /// The event-time column (`TIMESTAMP`).
    pub timestamp: Option<SmolStr>,
    /// Its format (`TIMESTAMP_FORMAT`).
    pub timestamp_format: Option<SmolStr>,
    /// `STRICT_VALIDATION`
    pub strict: bool,
    /// The connector's rows have these columns with these types by nature (a binary stream's `self`); none for most.
    pub implied: Vec<(SmolStr, Type)>,
}

/// Kinds of source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceKind {
    /// Unbounded; its rows trigger evaluation.
    #[default]
    Stream,
    /// A table that keeps its last `retain` rows and is joined as it stands.
    ScanTable {
        /// Rows kept.
        retain: usize,
    },
    /// A table that is asked by key for each row.
    LookupTable,
}

/// The rule options that touch SQL meaning. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOptions {
    /// Rows carry their own time.
    pub event_time: bool,
    /// How far the watermark trails the newest event.
    pub late_tolerance_ms: i64,
    /// A stream silent for longer no longer holds the watermark back; `None`: it does for ever.
    pub idle_timeout_ms: Option<i64>,
    /// Errors travel to the sinks as `{"error": "..."}`.
    pub send_error: bool,
    /// Selected columns that are missing or null are written as `null`.
    pub send_nil: bool,
    /// The end of the input closes open windows.
    pub flush_at_end: bool,
    /// A row whose time is further ahead of the clock has no usable time: one wrong device must not move the watermark
    /// past everybody else. `None`: any time is believed.
    pub max_ahead_ms: Option<i64>,
    /// The metadata of a row goes to the sinks as `__meta`.
    pub send_meta: bool,
    /// What is left out goes to whoever asks: see [`crate::expr::Report::rejected`].
    pub keep_rejected: bool,
    /// Sliding windows as of version 2: without the instant at which they begin, and sent as soon as their trigger is there.
    pub sliding_v2: bool,
    /// Sliding windows with a delay are sent in two parts: up to the trigger, and from there on.
    pub sliding_twice: bool,
    /// What `*` is on streams without declared columns.
    pub star_columns: StarColumns,
    /// Items of the select list may read the aliases of others; otherwise such a name is a column.
    pub alias_references: bool,
    /// Conditions run as early as they can; otherwise `WHERE` runs behind the window.
    pub push_down: bool,
}

/// What `*` is on streams without declared columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StarColumns {
    /// All columns.
    #[default]
    All,
    /// As in eKuiper: behind columns in the select list, `*` (also in `count(*)`) is only these, and columns that are named
    /// later are missing.
    Named,
}

impl Default for RuleOptions {
    fn default() -> Self {
        RuleOptions {
            event_time: false,
            late_tolerance_ms: 1000,
            idle_timeout_ms: None,
            send_error: false,
            send_nil: false,
            flush_at_end: true,
            max_ahead_ms: None,
            send_meta: false,
            keep_rejected: false,
            sliding_v2: false,
            sliding_twice: false,
            star_columns: StarColumns::All,
            alias_references: true,
            push_down: true,
        }
    }
}

/// One input of a rule: which slots its rows must bring.
#[derive(Clone, Debug)]
pub struct InputPlan {
    /// The stream's or scan table's name in the catalog.
    pub source: SmolStr,
    /// The slots that the plan reads, in the order in which it counts them. The runtime decodes the union over all rules of
    /// a shared stream and hands over the place of each ([`crate::operators::Chain::new`]).
    pub schema: Arc<Schema>,
}

/// One lookup join.
#[derive(Clone, Debug)]
pub struct LookupPlan {
    /// The lookup table's name in the catalog.
    pub table: SmolStr,
    /// `Inner` or `Left`.
    pub kind: JoinKind,
    /// The table's columns that must equal the key values, in the order of the values.
    pub key_columns: Vec<SmolStr>,
    /// The table's columns that the rule reads, in slot order: a list of fields, or one star slot for all of them.
    pub columns: Arc<Schema>,
}

/// What a rule's statement becomes: what it needs from outside, what it gives, and how to run it.
///
/// Immutable and cheap to share; [`crate::operators::Chain`] is its running form.
#[derive(Clone, Debug)]
pub struct RulePlan {
    /// The streams and scan tables that feed the rule, in order of `FROM` and `JOIN`.
    pub inputs: Vec<InputPlan>,
    /// The lookup joins, in the order in which they are done.
    pub lookups: Vec<LookupPlan>,
    /// The slots of the rows that come out.
    pub output: Arc<Schema>,
    /// How it is run.
    pub(crate) stages: Arc<stages::Stages>,
}

impl RulePlan {
    /// True if a step of the chain may take milliseconds per row, because of functions from outside.
    pub fn is_slow(&self) -> bool {
        self.stages.states.iter().any(|function| matches!(function.body, Body::External(_)))
    }
}

/// The lookup tables that functions of a statement look up in, without being told so by a join; each with the place of the
/// first call.
pub fn looked_up(select: &Select, functions: &Registry) -> Vec<(&'static str, Span)> {
    let mut tables: Vec<(&'static str, Span)> = Vec::new();
    for expr in walk::expressions(select) {
        walk::walk(expr, &mut |part| {
            if let ExprKind::Call(call) = &part.kind
                && let Some(table) = functions.get(&call.name.name).and_then(|function| function.looks_up)
                && tables.iter().all(|(known, _)| *known != table)
            {
                tables.push((table, part.span));
            }
            true
        });
    }
    tables
}

/// Plans a rule's `SELECT`.
///
/// # Errors
/// Every problem of the statement at once: syntax, unknown names (with the nearest known one), types, and the static checks.
pub fn plan_rule(
    sql: &str,
    catalog: &Catalog,
    functions: &Registry,
    options: &RuleOptions,
) -> Result<RulePlan, SqlErrors> {
    let refused = |errors| SqlErrors { sql: sql.to_owned(), errors };
    match parse_statement(sql)? {
        Statement::Select(select) => plan_statement(&select, catalog, functions, options).map_err(refused),
        _ => {
            let start = Span { line: 1, column: 1, end_line: 1, end_column: 2 };
            Err(refused(vec![SqlError::new(
                start,
                "a rule is a SELECT; definitions of streams and tables stand apart",
            )]))
        }
    }
}

/// As [`plan_rule`], for a statement that has been parsed.
///
/// # Errors
/// Everything that is wrong, in the order of the text.
pub fn plan_statement(
    select: &Select,
    catalog: &Catalog,
    functions: &Registry,
    options: &RuleOptions,
) -> Result<RulePlan, Vec<SqlError>> {
    select::plan_select(select, catalog, functions, options)
}
