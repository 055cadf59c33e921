//! The physical plan: what a [`Chain`](crate::operators::Chain) does with rows, stage after stage.
//!
//! All expressions of a plan count slots alike. A row begins as the slots of one input and only ever grows at its end, in
//! the order of the stages:
//!
//! ```text
//! | input 0 | input 1 ... | computed | lookup 0 | lookup 1 ... | aggregates of WHERE | aggregates | row numbers |
//! ```
//!
//! So a stage may read whatever the stages before it have added, and no stage has to renumber anything.

use std::sync::Arc;

use smol_str::SmolStr;

use super::RuleOptions;
use crate::expr::Expr;
use crate::function::Function;
use crate::sql::Span;
use crate::sql::ast::{JoinKind, Literal, TimeUnit};
use crate::value::datetime::Format;
use crate::value::{Timestamp, Type};

/// Everything between a rule's inputs and its output, in the order in which it happens.
#[derive(Clone)]
pub(crate) struct Stages {
    /// What each slot holds, for `explain`.
    pub slots: Vec<SlotName>,
    /// One per input of the plan.
    pub inputs: Vec<InputStage>,
    /// The statement's options.
    pub options: RuleOptions,
    /// Columns computed per row: analytic functions, and aliases that must be computed only once.
    pub computed: Vec<Computed>,
    /// Drops rows before the window.
    pub filter: Option<Expr>,
    /// Holds rows back until the span of time that they are about is over.
    pub trigger: Option<TriggerStage>,
    /// Gathers rows to collections.
    pub window: Option<WindowStage>,
    /// Joins within a collection.
    pub joins: Vec<JoinStage>,
    /// Drops rows behind the window and the joins, before lookups.
    pub joined_filter: Option<Expr>,
    /// Lookup joins.
    pub lookups: Vec<LookupStage>,
    /// What happens to a collection at last.
    pub tail: TailStage,
    /// The functions with state per call site that expressions refer to.
    pub states: Vec<Arc<Function>>,
}

/// What a slot holds.
#[derive(Clone, Debug)]
pub(crate) struct SlotName {
    /// The source, if it comes from one.
    pub source: Option<SmolStr>,
    /// The column, `*`, `meta`, or the text of what is computed.
    pub name: SmolStr,
}

/// What is done with the rows of one input.
#[derive(Clone, Debug)]
pub(crate) struct InputStage {
    /// Where its slots begin in the rows of the plan.
    pub first_slot: usize,
    /// How many it has.
    pub n_slots: usize,
    /// A scan table keeps its last rows instead of passing them on.
    pub retain: Option<usize>,
    /// Slot of the event time.
    pub timestamp: Option<usize>,
    /// `TIMESTAMP_FORMAT`
    pub format: Option<Format>,
    /// `STRICT_VALIDATION`: slot, name, type and default of each column.
    pub strict: Vec<(usize, SmolStr, Type, Option<Literal>)>,
    /// Conditions on this input alone.
    pub filter: Option<Expr>,
}

/// A column that is computed once per row.
#[derive(Clone, Debug)]
pub(crate) struct Computed {
    /// Where the value goes.
    pub slot: usize,
    /// What it is.
    pub kind: ComputedKind,
}

/// Kinds of computed column.
#[derive(Clone, Debug)]
pub(crate) enum ComputedKind {
    /// An expression.
    Expr(Expr),
    /// An analytic function.
    Analytic(AnalyticCall),
}

/// A call of an analytic function.
#[derive(Clone)]
pub(crate) struct AnalyticCall {
    /// The function.
    pub function: Arc<Function>,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// `OVER (PARTITION BY ...)`
    pub partition_by: Vec<Expr>,
    /// `OVER (WHEN ...)`
    pub when: Option<Expr>,
    /// The call's place.
    pub span: Span,
}

/// A call of an aggregate function.
#[derive(Clone)]
pub(crate) struct AggregateCall {
    /// Where the result goes.
    pub slot: usize,
    /// The function.
    pub function: Arc<Function>,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// Each distinct list of arguments counts once.
    pub distinct: bool,
    /// `FILTER (WHERE ...)`
    pub filter: Option<Expr>,
    /// The call's place.
    pub span: Span,
}

impl Stages {
    /// The expressions that are evaluated before rows reach the lookups, without those of `WHERE`, which goes where it can.
    pub(crate) fn before_lookups(&self) -> impl Iterator<Item = &Expr> {
        let computed = self.computed.iter().flat_map(|computed| match &computed.kind {
            ComputedKind::Expr(expr) => vec![expr],
            ComputedKind::Analytic(call) => call.args.iter().chain(&call.partition_by).chain(&call.when).collect(),
        });
        let trigger = self.trigger.iter().flat_map(|trigger| [&trigger.start, &trigger.end, &trigger.now]);
        let window = self.window.iter().flat_map(|window| {
            let (begin, emit) = match &window.kind {
                WindowKind::State { begin, emit } => (Some(begin), emit.as_ref()),
                _ => (None, None),
            };
            window.filter.iter().chain(&window.when).chain(&window.partition_by).chain(begin).chain(emit)
        });
        let joins = self.joins.iter().filter_map(|join| join.on.as_ref());
        computed.chain(trigger).chain(window).chain(joins)
    }
}

impl std::fmt::Debug for Stages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Stages { inputs, computed, filter, window, joins, lookups, tail, .. } = self;
        let parts: [&dyn std::fmt::Debug; 7] = [inputs, computed, filter, window, joins, lookups, tail];
        f.debug_list().entries(parts).finish()
    }
}

impl std::fmt::Debug for AnalyticCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple(self.function.name).field(&self.args).field(&self.partition_by).field(&self.when).finish()
    }
}

impl std::fmt::Debug for AggregateCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple(self.function.name).field(&self.args).field(&self.distinct).field(&self.filter).finish()
    }
}

/// A call of `dedup_trigger`.
#[derive(Clone, Debug)]
pub(crate) struct TriggerStage {
    /// Where the result goes.
    pub slot: usize,
    /// Where a row's span begins.
    pub start: Expr,
    /// Where it ends.
    pub end: Expr,
    /// When the row was sent.
    pub now: Expr,
    /// How far back spans are looked at, in milliseconds.
    pub expire: i64,
    /// The call's place.
    pub span: Span,
}

/// A window.
#[derive(Clone, Debug)]
pub(crate) struct WindowStage {
    /// Which one.
    pub kind: WindowKind,
    /// Rows that fail it never enter.
    pub filter: Option<Expr>,
    /// Rows that trigger.
    pub when: Option<Expr>,
    /// One state per value of these.
    pub partition_by: Vec<Expr>,
    /// The window keeps accumulators instead of rows; the tail's grouping is done here.
    pub incremental: bool,
    /// With `incremental`: the part of `WHERE` that runs behind the window. Rows that fail it are seen but not counted.
    pub row_filter: Option<Expr>,
}

/// The windows, lengths in milliseconds.
#[derive(Clone, Debug)]
pub(crate) enum WindowKind {
    /// Tumbling (`hop == length`) and hopping.
    Time {
        /** for the alignment of the first boundary */
        unit: TimeUnit,
        /** length of a window */
        length: Timestamp,
        /** distance of two boundaries */
        hop: Timestamp,
    },
    /// Sliding.
    Sliding {
        /** how far back it reaches */
        length: Timestamp,
        /** how long it waits after the trigger */
        delay: Timestamp,
    },
    /// Session.
    Session {
        /** for the alignment of the ticks */
        unit: TimeUnit,
        /** distance of two ticks */
        max_length: Timestamp,
        /** gap that ends a session */
        timeout: Timestamp,
    },
    /// Count.
    Count {
        /** rows of a window */
        length: usize,
        /** rows between two windows */
        interval: usize,
    },
    /// State.
    State {
        /** opens a window */
        begin: Expr,
        /** closes it; absent in the form with one condition */
        emit: Option<Expr>,
    },
}

/// A join within a collection: what was joined so far, with the rows of one more input.
#[derive(Clone, Debug)]
pub(crate) struct JoinStage {
    /// Which rows survive.
    pub kind: JoinKind,
    /// The input on the right.
    pub input: usize,
    /// `ON`; absent = always.
    pub on: Option<Expr>,
}

/// A lookup join.
#[derive(Clone, Debug)]
pub(crate) struct LookupStage {
    /// Where the table's columns go.
    pub first_slot: usize,
    /// How many they are.
    pub n_slots: usize,
    /// Rows without a match are kept.
    pub left: bool,
    /// The first match is the only one.
    pub single: bool,
    /// One per key column.
    pub keys: Vec<Expr>,
    /// The rest of `ON`: a match that fails it is none.
    pub on: Option<Expr>,
    /// The part of `WHERE` that needs nothing of later lookups.
    pub filter: Option<Expr>,
}

/// From a collection to results.
#[derive(Clone, Debug)]
pub(crate) struct TailStage {
    /// Aggregates over the whole collection that `filter` reads.
    pub where_aggregates: Vec<AggregateCall>,
    /// What is left of `WHERE`.
    pub filter: Option<Expr>,
    /// `GROUP BY` without the window.
    pub group_by: Vec<Expr>,
    /// One row per group (or per collection) instead of one per row.
    pub aggregate: bool,
    /// The aggregates of the select list, `HAVING` and `ORDER BY`.
    pub aggregates: Vec<AggregateCall>,
    /// `HAVING`
    pub having: Option<Expr>,
    /// `row_number()`
    pub row_numbers: Vec<RowNumber>,
    /// `ORDER BY`
    pub order_by: Vec<SortKey>,
    /// What becomes of a row: one item per slot of the output.
    pub items: Vec<Item>,
    /// The item that makes several rows of one.
    pub expand: Option<Expand>,
    /// `LIMIT`
    pub limit: Option<usize>,
    /// Each input row is a result of its own.
    pub per_row: bool,
}

impl TailStage {
    /// True if a single row only goes through the select list.
    pub fn only_projects(&self) -> bool {
        self.where_aggregates.is_empty()
            && self.filter.is_none()
            && !self.aggregate
            && self.aggregates.is_empty()
            && self.having.is_none()
            && self.row_numbers.is_empty()
            && self.limit.is_none()
            && self.expand.is_none()
    }
}

/// One sort key.
#[derive(Clone, Debug)]
pub(crate) struct SortKey {
    /// What to sort by.
    pub expr: Expr,
    /// `DESC`
    pub descending: bool,
}

/// A call of `row_number`.
#[derive(Clone, Debug)]
pub(crate) struct RowNumber {
    /// Where the number goes.
    pub slot: usize,
    /// `OVER (PARTITION BY ...)`
    pub partition_by: Vec<Expr>,
    /// `OVER (ORDER BY ...)`
    pub order_by: Vec<SortKey>,
}

/// One item of the select list.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// How it is computed.
    pub kind: ItemKind,
    /// What becomes of null.
    pub null: NullOutput,
}

/// Kinds of select item.
#[derive(Clone, Debug)]
pub(crate) enum ItemKind {
    /// An expression.
    Expr(Expr),
    /// Several columns from one call; its state and its arguments with their names (a star has none).
    MultiColumn {
        /** index into the rule's multi-column states */
        state: usize,
        /** which function */
        call: MultiColumnCall,
    },
}

/// A call of a multi-column function.
#[derive(Clone)]
pub(crate) struct MultiColumnCall {
    /// The function.
    pub function: Arc<Function>,
    /// Arguments with the names of their columns.
    pub args: Vec<(Option<SmolStr>, Expr)>,
    /// The call's place.
    pub span: Span,
}

impl std::fmt::Debug for MultiColumnCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple(self.function.name).field(&self.args).finish()
    }
}

/// What is written for a select item that has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NullOutput {
    /// Null as null, missing not at all: a column.
    AsIs,
    /// Nothing.
    Omit,
    /// Null.
    Null,
}

/// The item of a set-returning function: item `item` holds its argument, and its slot takes the columns of each row.
#[derive(Clone)]
pub(crate) struct Expand {
    /// Which item.
    pub item: usize,
    /// The function.
    pub function: Arc<Function>,
    /// The name of elements that are no objects.
    pub name: SmolStr,
    /// Items whose value an element's member of the same name replaces.
    pub columns: Vec<(usize, SmolStr)>,
    /// The call's place.
    pub span: Span,
}

impl std::fmt::Debug for Expand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}(item {})", self.function.name, self.item)
    }
}
