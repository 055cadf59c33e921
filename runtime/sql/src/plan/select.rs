//! A whole `SELECT`: its clauses are bound one after another and come out as stages.

use std::sync::Arc;

use super::bind::{Aggregates, Binder, Clause};
use super::sources::{Origin, find_sources};
use super::stages::{
    Expand, InputStage, Item, JoinStage, SortKey, Stages, TailStage, TriggerStage, WindowKind, WindowStage,
};
use super::walk::conjuncts;
use super::{Catalog, RuleOptions, RulePlan, SourceKind, push_down, star};
use crate::expr::{Expr, ExprKind};
use crate::function::Registry;
use crate::sql::ast::{self, JoinKind, Select, TimeUnit};
use crate::sql::{Span, SqlError};
use crate::value::datetime::Format;
use crate::value::{ColumnKind, Schema};

/// Plans a statement whose names and types are all right; else everything that is wrong.
pub(super) fn plan_select(
    select: &Select,
    catalog: &Catalog,
    functions: &Registry,
    options: &RuleOptions,
) -> Result<RulePlan, Vec<SqlError>> {
    let mut errors = Vec::new();
    let mut sources = find_sources(select, catalog, &mut errors);
    if !errors.is_empty() {
        // Without its sources, every name of the statement would be unknown.
        return Err(errors);
    }
    star::restrict(select, functions, &mut sources, options.star_columns);
    let mut planner = Planner {
        binder: Binder::new(sources, functions, catalog, errors),
        select,
        options,
        output: Schema::default(),
        items: Vec::new(),
        expand: None,
        trigger: None,
    };
    planner.binder.alias_references = options.alias_references;
    planner.check_shape();
    planner.order_sources();
    planner.collect_aliases();
    planner.bind_items();
    let plan = planner.finish();
    let mut errors = planner.binder.errors;
    errors.sort_by_key(|error| (error.span.line, error.span.column));
    errors.dedup();
    if errors.is_empty() { Ok(plan) } else { Err(errors) }
}

/// A statement on its way to a plan.
pub(super) struct Planner<'a> {
    /// Binds its expressions.
    pub binder: Binder<'a>,
    /// The statement.
    pub select: &'a Select,
    /// The rule's options.
    pub options: &'a RuleOptions,
    /// The slots of the result so far.
    pub output: Schema,
    /// What goes into them.
    pub items: Vec<Item>,
    /// The item that makes rows.
    pub expand: Option<Expand>,
    /// The item that holds rows back.
    pub trigger: Option<TriggerStage>,
}

impl<'a> Planner<'a> {
    pub(super) fn error(&mut self, span: Span, message: impl Into<String>) {
        self.binder.refuse(SqlError::new(span, message));
    }

    pub(super) fn n_streams(&self) -> usize {
        self.binder.sources.iter().filter(|source| source.def.kind == SourceKind::Stream).count()
    }

    /// The order in which joined rows show their columns: from left to right, but the right side of a `RIGHT JOIN` comes
    /// first. Lookups are done last.
    fn order_sources(&mut self) {
        let mut order: Vec<usize> = Vec::new();
        let mut lookups = Vec::new();
        for (source_idx, source) in self.binder.sources.iter().enumerate() {
            match source.join {
                _ if source.is_lookup() => lookups.push(source_idx),
                Some(JoinKind::Right) => order.insert(0, source_idx),
                _ => order.push(source_idx),
            }
        }
        order.extend(lookups);
        self.binder.order = order;
    }

    fn finish(&mut self) -> RulePlan {
        let select = self.select;
        let window = select.window.as_ref().map(|window| self.window(window));
        let mut joins = Vec::new();
        let mut lookups = Vec::new();
        for (join_idx, join) in select.joins.iter().enumerate() {
            let source_idx = join_idx + 1;
            match self.binder.origin_of(source_idx) {
                Origin::Lookup(_) => lookups.push(self.lookup(source_idx, join)),
                Origin::Input(input) => {
                    let known: Vec<usize> = self.binder.order.clone();
                    let on = join.on.as_ref().map(|on| self.binder.bind(on, Clause::rows("ON")).expr);
                    self.binder.order = known;
                    joins.push(JoinStage { kind: join.kind, input, on });
                }
                _ => {}
            }
        }
        let filter = self.filter();
        let group_by: Vec<Expr> =
            select.group_by.iter().map(|expr| self.binder.bind(expr, Clause::rows("GROUP BY")).expr).collect();
        let aggregate = !group_by.is_empty() || self.items_have_aggregate();
        // A state window is one group, whatever it is grouped by.
        let is_state = window.as_ref().is_some_and(|window| matches!(window.kind, WindowKind::State { .. }));
        let group_by = if is_state { Vec::new() } else { group_by };
        let having = select.having.as_ref().map(|having| {
            self.check_having(having);
            push_down::counting_hits(self.binder.bind(having, Clause::result("HAVING")).expr)
        });
        let order_by: Vec<SortKey> = select
            .order_by
            .iter()
            .map(|key| SortKey {
                expr: self.binder.bind(&key.expr, Clause::result("ORDER BY")).expr,
                descending: key.descending,
            })
            .collect();
        self.computed_items();
        let inputs: Vec<InputStage> = (0..self.binder.sources.len()).filter_map(|source| self.input(source)).collect();
        self.expand_columns();
        lookups.append(&mut self.binder.looked_up);
        let per_row = window.is_none() && joins.is_empty() && lookups.is_empty();
        let output = Arc::new(std::mem::take(&mut self.output));
        let tail = TailStage {
            where_aggregates: std::mem::take(&mut self.binder.where_aggregates),
            filter: None,
            group_by,
            aggregate,
            aggregates: std::mem::take(&mut self.binder.aggregates),
            having,
            row_numbers: std::mem::take(&mut self.binder.row_numbers),
            order_by,
            items: std::mem::take(&mut self.items),
            expand: self.expand.take(),
            limit: select.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            per_row,
        };
        let (lookup_plans, lookups) = lookups.into_iter().unzip();
        let mut stages = Stages {
            slots: Vec::new(),
            inputs,
            options: self.options.clone(),
            computed: std::mem::take(&mut self.binder.computed),
            filter: None,
            trigger: self.trigger.take(),
            window,
            joins,
            joined_filter: None,
            lookups,
            tail,
            states: std::mem::take(&mut self.binder.states),
        };
        push_down::place_filter(&mut stages, filter, &self.binder.columns);
        push_down::make_incremental(&mut stages);
        self.check_lookup_order(&stages);
        self.layout(stages, lookup_plans, output)
    }

    /// The conjuncts of `WHERE`. One that counts its hits is about all of it.
    fn filter(&mut self) -> Vec<Expr> {
        let clause = Clause { name: "WHERE", aggregates: Aggregates::Where, item: None };
        let n_states = self.binder.states.len();
        let conjuncts = self.select.filter.iter().flat_map(conjuncts);
        let parts: Vec<Expr> = conjuncts.map(|part| self.binder.bind(part, clause).expr).collect();
        if self.binder.states.len() == n_states {
            return parts;
        }
        push_down::all(parts).map(push_down::counting_hits).into_iter().collect()
    }

    fn window(&mut self, window: &'a ast::Window) -> WindowStage {
        let conditions = Clause::rows("a window condition");
        let ms = |unit: TimeUnit, n: i64| n.saturating_mul(unit.millis());
        let kind = match &window.kind {
            ast::WindowKind::Tumbling { unit, length } => {
                WindowKind::Time { unit: *unit, length: ms(*unit, *length), hop: ms(*unit, *length) }
            }
            ast::WindowKind::Hopping { unit, length, hop } => {
                WindowKind::Time { unit: *unit, length: ms(*unit, *length), hop: ms(*unit, *hop) }
            }
            ast::WindowKind::Sliding { unit, length, delay } => {
                WindowKind::Sliding { length: ms(*unit, *length), delay: ms(*unit, *delay) }
            }
            ast::WindowKind::Session { unit, max_length, timeout } => {
                WindowKind::Session { unit: *unit, max_length: ms(*unit, *max_length), timeout: ms(*unit, *timeout) }
            }
            ast::WindowKind::Count { length, interval } => {
                let rows = |n: i64| usize::try_from(n).unwrap_or(1);
                WindowKind::Count { length: rows(*length), interval: rows(interval.unwrap_or(*length)) }
            }
            ast::WindowKind::State { begin, emit } => WindowKind::State {
                begin: self.binder.bind(begin, conditions).expr,
                emit: emit.as_ref().map(|emit| self.binder.bind(emit, conditions).expr),
            },
        };
        if let Some(when) = &window.when
            && !matches!(window.kind, ast::WindowKind::Sliding { .. })
        {
            self.error(when.span, "OVER (WHEN ...) goes with sliding windows only");
        }
        if let (Some(expr), false) = (window.partition_by.first(), matches!(kind, WindowKind::State { .. })) {
            self.error(expr.span, "OVER (PARTITION BY ...) goes with state windows only");
        }
        WindowStage {
            kind,
            filter: window.filter.as_ref().map(|filter| self.binder.bind(filter, conditions).expr),
            when: window.when.as_ref().map(|when| self.binder.bind(when, conditions).expr),
            partition_by: window.partition_by.iter().map(|expr| self.binder.bind(expr, conditions).expr).collect(),
            incremental: false,
            row_filter: None,
        }
    }

    fn input(&mut self, source_idx: usize) -> Option<InputStage> {
        let source = &self.binder.sources[source_idx];
        let retain = match source.def.kind {
            SourceKind::LookupTable => return None,
            SourceKind::ScanTable { retain } => Some(retain),
            SourceKind::Stream => None,
        };
        let format = source.def.timestamp_format.clone();
        let timestamp = match source.def.timestamp.clone() {
            Some(name) if self.options.event_time => {
                match self.binder.column_of(source_idx, &name, Span::default(), false).expr.kind {
                    ExprKind::Slot(slot) => Some(slot),
                    _ => None,
                }
            }
            _ => None,
        };
        let format = format.and_then(|letters| match Format::new(&letters) {
            Ok(format) => Some(format),
            Err(message) => {
                let name = self.binder.sources[source_idx].name.clone();
                self.error(self.source_span(source_idx), format!("TIMESTAMP_FORMAT of {name}: {message}"));
                None
            }
        });
        let source = &self.binder.sources[source_idx];
        let origin = self.binder.origin_of(source_idx);
        let mut strict = Vec::new();
        for field in source.def.fields.iter().filter(|_| source.def.strict) {
            let column = self.binder.columns.iter().position(|column| {
                column.origin == origin && column.kind == ColumnKind::Field && column.name == field.name.name
            });
            if let Some(slot) = column {
                let ty = self.binder.columns[slot].ty.clone();
                strict.push((slot, field.name.name.clone(), ty, field.default.clone()));
            }
        }
        Some(InputStage { first_slot: 0, n_slots: 0, retain, timestamp, format, strict, filter: None })
    }
}

impl TimeUnit {
    /// Milliseconds in one unit.
    pub fn millis(self) -> i64 {
        match self {
            TimeUnit::Day => 86_400_000,
            TimeUnit::Hour => 3_600_000,
            TimeUnit::Minute => 60_000,
            TimeUnit::Second => 1000,
            TimeUnit::Millisecond => 1,
        }
    }
}
