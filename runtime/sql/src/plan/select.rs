//! A whole `SELECT`: its clauses are bound one after another and come out as stages.

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::bind::{Aggregates, Alias, Binder, Bound, Clause};
use super::call::natural_name;
use super::sources::{Origin, find_sources};
use super::stages::{
    Expand, InputStage, Item, ItemKind, JoinStage, LookupStage, MultiColumnCall, NullOutput, SlotName, SortKey, Stages,
    TailStage, WindowKind, WindowStage,
};
use super::walk::{conjuncts, unnested, walk};
use super::{Catalog, InputPlan, LookupPlan, RuleOptions, RulePlan, SourceKind, push_down};
use crate::expr::{Expr, ExprKind};
use crate::function::{Body, Function, Registry};
use crate::sql::ast::{self, Arg, BinaryOp, JoinKind, Select, SelectItem, SelectKind, TimeUnit};
use crate::sql::{Span, SqlError};
use crate::value::{Column, ColumnKind, Schema, Type};

/// Plans a statement whose names and types are all right; else everything that is wrong.
pub(super) fn plan_select(
    select: &Select,
    catalog: &Catalog,
    functions: &Registry,
    options: &RuleOptions,
) -> Result<RulePlan, Vec<SqlError>> {
    let mut errors = Vec::new();
    let sources = find_sources(select, catalog, &mut errors);
    if !errors.is_empty() {
        // Without its sources, every name of the statement would be unknown.
        return Err(errors);
    }
    let mut planner = Planner {
        binder: Binder::new(sources, functions, errors),
        select,
        options,
        output: Schema::default(),
        items: Vec::new(),
        expand: None,
    };
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

struct Planner<'a> {
    binder: Binder<'a>,
    select: &'a Select,
    options: &'a RuleOptions,
    output: Schema,
    items: Vec<Item>,
    expand: Option<Expand>,
}

impl<'a> Planner<'a> {
    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.binder.refuse(SqlError::new(span, message));
    }

    /// What can be checked without binding anything.
    fn check_shape(&mut self) {
        let select = self.select;
        if select.distinct {
            self.error(select.span, "SELECT DISTINCT is not possible over a stream; use GROUP BY with a window");
        }
        if let (None, Some(first)) = (&select.window, select.group_by.first()) {
            self.error(first.span, "GROUP BY needs a window, such as TUMBLINGWINDOW(ss, 10)");
        }
        if select.window.is_some() && self.n_streams() == 0 {
            self.error(select.from.name.span, "a window needs a stream; this statement reads tables only");
        }
        if self.n_streams() == 0 {
            self.error(select.from.name.span, "a rule needs at least one stream; this statement reads tables only");
        } else if self.binder.sources.first().is_some_and(|source| source.is_lookup()) {
            let message = "a lookup table can't come first: write the stream in FROM and JOIN the table";
            self.error(select.from.name.span, message);
        }
        if let Some(window) = &select.window {
            self.check_window(window);
        }
        self.check_joins();
        if self.options.event_time {
            for source_idx in 0..self.binder.sources.len() {
                let source = &self.binder.sources[source_idx];
                if !source.is_lookup() && source.def.timestamp.is_none() {
                    let message = format!("event time needs a TIMESTAMP option on {}", source.name);
                    let span = self.source_span(source_idx);
                    self.error(span, message);
                }
            }
        }
    }

    fn n_streams(&self) -> usize {
        self.binder.sources.iter().filter(|source| source.def.kind == SourceKind::Stream).count()
    }

    fn source_span(&self, source_idx: usize) -> Span {
        match source_idx.checked_sub(1).and_then(|join_idx| self.select.joins.get(join_idx)) {
            Some(join) => join.source.name.span,
            None => self.select.from.name.span,
        }
    }

    fn check_window(&mut self, window: &ast::Window) {
        let span = window.span;
        let mut positive = |what: &str, value: i64| {
            if value <= 0 {
                self.error(span, format!("the {what} of a window must be above 0, not {value}"));
            }
        };
        match &window.kind {
            ast::WindowKind::Tumbling { length, .. } => positive("length", *length),
            ast::WindowKind::Hopping { length, hop, .. } => {
                positive("length", *length);
                positive("hop", *hop);
            }
            ast::WindowKind::Sliding { length, delay, .. } => {
                positive("length", *length);
                if *delay < 0 {
                    self.error(span, format!("the delay of a window must not be below 0, as {delay} is"));
                }
            }
            ast::WindowKind::Session { max_length, timeout, .. } => {
                positive("longest duration", *max_length);
                positive("timeout", *timeout);
            }
            ast::WindowKind::Count { length, interval } => {
                positive("number of rows", *length);
                if let Some(interval) = interval {
                    positive("interval", *interval);
                    if interval > length {
                        let message = format!("the interval {interval} of a count window is above its length {length}");
                        self.error(span, message);
                    }
                }
                if self.options.event_time {
                    self.error(span, "a count window is not possible in event time: rows are counted as they arrive");
                }
            }
            ast::WindowKind::State { .. } => {}
        }
    }

    fn check_joins(&mut self) {
        let select = self.select;
        for (join_idx, join) in select.joins.iter().enumerate() {
            let Some(source) = self.binder.sources.get(join_idx + 1) else { continue };
            let (kind, name) = (source.def.kind, source.name.clone());
            match (kind, join.kind) {
                (SourceKind::LookupTable, JoinKind::Cross) => {
                    let message = format!("{name} is a lookup table: it is asked by key, which CROSS JOIN has none of");
                    self.error(join.span, message);
                }
                (SourceKind::Stream, _) if select.window.is_none() => {
                    let message = format!("joining the stream {name} needs a window: add GROUP BY TUMBLINGWINDOW(...)");
                    self.error(join.span, message);
                }
                (_, JoinKind::Cross) => {
                    if let Some(on) = &join.on {
                        self.error(on.span, "CROSS JOIN has no ON");
                    }
                }
                _ => {}
            }
        }
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

    fn collect_aliases(&mut self) {
        for (item_idx, item) in self.select.items.iter().enumerate() {
            let Some(alias) = &item.alias else { continue };
            if self.binder.aliases.iter().any(|known| known.name == alias.name) {
                self.error(alias.span, format!("the alias \"{}\" is given twice", alias.name));
                continue;
            }
            match &item.kind {
                SelectKind::Expr(expr) => self.binder.aliases.push(Alias {
                    name: alias.name.clone(),
                    expr,
                    item: item_idx,
                    output: None,
                    computed: None,
                }),
                SelectKind::Star { .. } => self.error(alias.span, "* can't have an alias"),
            }
        }
        self.check_cycles();
    }

    /// `b + 1 AS a, a + 1 AS b`
    fn check_cycles(&mut self) {
        let aliases = &self.binder.aliases;
        let reads: Vec<Vec<usize>> = aliases
            .iter()
            .enumerate()
            .map(|(own_idx, alias)| {
                let mut reads = Vec::new();
                walk(alias.expr, &mut |part| {
                    if let ast::ExprKind::Name(names) = &part.kind
                        && let [name, ..] = names.as_slice()
                        && (names.len() == 1 || self.binder.source_called(&name.name).is_none())
                        && let Some(alias_idx) = aliases.iter().position(|alias| alias.name == name.name)
                        && alias_idx != own_idx
                    {
                        reads.push(alias_idx);
                    }
                    true
                });
                reads
            })
            .collect();
        for start in 0..reads.len() {
            let mut pending = reads[start].clone();
            let mut seen = vec![false; reads.len()];
            while let Some(alias_idx) = pending.pop() {
                if !std::mem::replace(&mut seen[alias_idx], true) {
                    pending.extend(&reads[alias_idx]);
                }
            }
            if seen[start] {
                let Alias { name, item, .. } = &self.binder.aliases[start];
                let span = self.select.items[*item].span;
                self.error(span, format!("the alias \"{name}\" is defined by itself, through other aliases"));
                // One round names the cycle; the rest of it would say the same.
                self.binder.aliases.clear();
                return;
            }
        }
    }

    // ---- select list ----

    fn bind_items(&mut self) {
        let mut n_anonymous = 0;
        for (item_idx, item) in self.select.items.iter().enumerate() {
            match &item.kind {
                SelectKind::Star { source, except, replace } => {
                    self.star(item, source.as_ref(), except, replace);
                }
                SelectKind::Expr(expr) => self.item(item_idx, item, expr, &mut n_anonymous),
            }
        }
        // An alias that is read elsewhere and must not be computed twice has a slot of its own; aliases are bound on demand,
        // so this is known only once all clauses are.
        self.check_names();
    }

    fn item(&mut self, item_idx: usize, item: &'a SelectItem, expr: &'a ast::Expr, n_anonymous: &mut usize) {
        let clause = Clause { name: "the select list", aggregates: Aggregates::Result, item: Some(item_idx) };
        let name = item.alias.as_ref().map(|alias| alias.name.clone()).or_else(|| natural_name(expr));
        let name = name.unwrap_or_else(|| {
            *n_anonymous += 1;
            format_smolstr!("kuiper_field_{}", *n_anonymous - 1)
        });
        if let ast::ExprKind::Call(call) = &expr.kind
            && let Some(function) = self.binder.functions.get(&call.name.name).cloned()
        {
            match function.body {
                Body::MultiRow(_) => return self.expand(item_idx, item, call, function, name, clause),
                Body::MultiColumn(_) => return self.multi_column(item_idx, item, call, function, clause),
                _ => {}
            }
        }
        let bound = self.binder.bind_item(item_idx, expr, clause);
        let null = match (&item.alias, &unnested(expr).kind) {
            _ if self.is_column(&bound, expr) => {
                if self.options.send_nil {
                    NullOutput::Null
                } else {
                    NullOutput::AsIs
                }
            }
            (Some(_), _) if self.options.send_nil => NullOutput::Null,
            _ => NullOutput::Omit,
        };
        let kind = if item.invisible { ColumnKind::Hidden } else { ColumnKind::Field };
        let slot = self.output_column(kind, name, bound.ty.clone());
        if let Some(alias) = self.binder.aliases.iter_mut().find(|alias| alias.item == item_idx) {
            alias.output = Some((slot, bound.clone()));
        }
        self.items.push(Item { kind: ItemKind::Expr(bound.expr), null });
    }

    /// A plain column keeps the difference between null and missing. Under an alias it is an expression.
    fn is_column(&self, bound: &Bound, expr: &ast::Expr) -> bool {
        let plain = match &bound.expr.kind {
            ExprKind::Slot(slot) => self.binder.columns[*slot].kind == ColumnKind::Field,
            ExprKind::FirstOf(_) | ExprKind::Member(..) => true,
            _ => false,
        };
        let ast::ExprKind::Name(parts) = &expr.kind else { return false };
        let is_source = |name: &SmolStr| self.binder.source_called(name).is_some();
        plain && (parts.len() == 1 || (parts.len() == 2 && is_source(&parts[0].name)))
    }

    fn output_column(&mut self, kind: ColumnKind, name: SmolStr, ty: Type) -> usize {
        self.output.columns.push(Column { name, kind, ty });
        self.output.columns.len() - 1
    }

    fn expand(
        &mut self,
        item_idx: usize,
        item: &'a SelectItem,
        call: &'a ast::Call,
        function: Arc<Function>,
        name: SmolStr,
        clause: Clause,
    ) {
        if self.expand.is_some() {
            let message = format!("only one function that makes rows is possible; {} is the second", function.name);
            return self.error(item.span, message);
        }
        if let Err(error) = super::call::check_args(call, &function, item.span) {
            self.binder.refuse(error);
            return;
        }
        let Some(Arg::Expr(arg)) = call.args.first() else { return };
        let bound = self.binder.bind_item(item_idx, arg, clause);
        let slot = self.output_column(ColumnKind::Star, name.clone(), Type::Any);
        self.items.push(Item { kind: ItemKind::Expr(bound.expr), null: NullOutput::AsIs });
        self.expand = Some(Expand { item: slot, function, name, columns: Vec::new(), span: item.span });
    }

    fn multi_column(
        &mut self,
        item_idx: usize,
        item: &'a SelectItem,
        call: &'a ast::Call,
        function: Arc<Function>,
        clause: Clause,
    ) {
        if let Err(error) = super::call::check_args(call, &function, item.span) {
            self.binder.refuse(error);
            return;
        }
        if let Some(alias) = &item.alias {
            return self.error(alias.span, format!("{} makes several columns and can't have an alias", function.name));
        }
        let clause = Clause { item: Some(item_idx), ..clause };
        let args = self.binder.named_args(call, clause);
        let state = self.items.iter().filter(|item| matches!(item.kind, ItemKind::MultiColumn { .. })).count();
        self.output_column(ColumnKind::Star, function.name.into(), Type::Any);
        let call = MultiColumnCall { function, args, span: item.span };
        self.items.push(Item { kind: ItemKind::MultiColumn { state, call }, null: NullOutput::AsIs });
    }

    fn star(
        &mut self,
        item: &'a SelectItem,
        source: Option<&ast::Ident>,
        except: &[ast::Ident],
        replace: &'a [(ast::Expr, ast::Ident)],
    ) {
        let sources = match source {
            None => self.binder.order.clone(),
            Some(ident) => match self.binder.source_called(&ident.name) {
                Some(source) => vec![source],
                None => {
                    let known: Vec<SmolStr> = self.binder.sources.iter().map(|source| source.name.clone()).collect();
                    let error = SqlError::new(ident.span, format!("\"{}\" is no source of this statement", ident.name));
                    self.binder.refuse(error.with_suggestion(&ident.name, known.iter().map(SmolStr::as_str)));
                    return;
                }
            },
        };
        let named: Vec<SmolStr> = self.select.items.iter().filter_map(output_name).collect();
        let replaced = |name: &SmolStr| replace.iter().any(|(_, to)| to.name == *name);
        let dropped = |name: &SmolStr| except.iter().any(|ident| ident.name == *name) || replaced(name);
        let null = if self.options.send_nil { NullOutput::Null } else { NullOutput::AsIs };
        for source_idx in sources {
            if self.binder.sources[source_idx].is_schemaless() {
                let slot = self.binder.star_of(source_idx);
                let mut expr = Expr::slot(slot, item.span);
                let hidden: Vec<SmolStr> =
                    except.iter().chain(replace.iter().map(|(_, to)| to)).map(|ident| ident.name.clone()).collect();
                if !hidden.is_empty() {
                    expr = Expr { kind: ExprKind::Except(expr.into(), hidden.into()), span: item.span };
                }
                let name = self.binder.sources[source_idx].name.clone();
                self.output_column(ColumnKind::Star, name, Type::Any);
                self.items.push(Item { kind: ItemKind::Expr(expr), null: NullOutput::AsIs });
                continue;
            }
            let names: Vec<(SmolStr, Type)> = self.binder.sources[source_idx].fields.clone();
            for (name, ty) in names {
                let known =
                    self.output.columns.iter().any(|column| column.kind == ColumnKind::Field && column.name == name);
                if known || dropped(&name) || named.contains(&name) {
                    continue;
                }
                let expr = match source {
                    Some(_) => self.binder.column_of(source_idx, &name, item.span, false).expr,
                    None => self.first_of_all(&name, item.span),
                };
                self.output_column(ColumnKind::Field, name, ty);
                self.items.push(Item { kind: ItemKind::Expr(expr), null });
            }
        }
        for (expr, to) in replace {
            let clause = Clause::result("REPLACE");
            let bound = self.binder.bind(expr, clause);
            self.output_column(ColumnKind::Field, to.name.clone(), bound.ty);
            let null = if self.options.send_nil { NullOutput::Null } else { NullOutput::Omit };
            self.items.push(Item { kind: ItemKind::Expr(bound.expr), null });
        }
    }

    /// A column of `*`: of the first source that has it.
    fn first_of_all(&mut self, name: &SmolStr, span: Span) -> Expr {
        let mut parts = Vec::new();
        for source_idx in self.binder.order.clone() {
            let source = &self.binder.sources[source_idx];
            if source.is_schemaless() || source.field(name).is_some() {
                parts.push(self.binder.column_of(source_idx, name, span, true).expr);
            }
        }
        if parts.len() == 1 { parts.remove(0) } else { Expr { kind: ExprKind::FirstOf(parts.into()), span } }
    }

    /// Two visible items must not have one name; `*` gives way.
    fn check_names(&mut self) {
        let mut seen: Vec<SmolStr> = Vec::new();
        for item in &self.select.items {
            let Some(name) = output_name(item) else { continue };
            if item.invisible {
                continue;
            }
            if seen.contains(&name) {
                self.error(item.span, format!("two columns of the result are called \"{name}\"; rename one with AS"));
            }
            seen.push(name);
        }
    }

    // ---- clauses ----

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
        let filter = select.filter.as_ref().map_or_else(Vec::new, |filter| {
            let clause = Clause { name: "WHERE", aggregates: Aggregates::Where, item: None };
            conjuncts(filter).into_iter().map(|part| self.binder.bind(part, clause).expr).collect()
        });
        let group_by: Vec<Expr> =
            select.group_by.iter().map(|expr| self.binder.bind(expr, Clause::rows("GROUP BY")).expr).collect();
        let aggregate = !group_by.is_empty() || self.items_have_aggregate();
        let having = select.having.as_ref().map(|having| {
            self.check_having(having);
            self.binder.bind(having, Clause::result("HAVING")).expr
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
        let per_row = window.is_none() && joins.is_empty() && lookups.is_empty() && self.expand.is_none();
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
            window,
            joins,
            joined_filter: None,
            lookups,
            tail,
            states: std::mem::take(&mut self.binder.states),
        };
        push_down::place_filter(&mut stages, filter, &self.binder.columns);
        push_down::make_incremental(&mut stages);
        self.layout(stages, lookup_plans, output)
    }

    fn items_have_aggregate(&self) -> bool {
        self.select.items.iter().any(|item| match &item.kind {
            SelectKind::Expr(expr) => self.binder.has_aggregate(expr),
            SelectKind::Star { replace, .. } => replace.iter().any(|(expr, _)| self.binder.has_aggregate(expr)),
        })
    }

    /// Items whose alias is read by a clause and must be computed only once read the same slot as that clause.
    fn computed_items(&mut self) {
        for alias in &self.binder.aliases {
            if let (Some((computed, _)), Some((slot, bound))) = (&alias.computed, &alias.output)
                && let Some(item) = self.items.get_mut(*slot)
            {
                item.kind = ItemKind::Expr(Expr::slot(*computed, bound.expr.span));
            }
        }
    }

    fn expand_columns(&mut self) {
        let Some(expand) = &mut self.expand else { return };
        let mut columns = Vec::new();
        for (slot, column) in self.output.columns.iter().enumerate() {
            let aliased = self.binder.aliases.iter().any(|alias| alias.name == column.name);
            let is_star = column.kind == ColumnKind::Star;
            if slot != expand.item && (is_star || (column.kind == ColumnKind::Field && !aliased)) {
                columns.push((slot, if is_star { SmolStr::default() } else { column.name.clone() }));
            }
        }
        expand.columns = columns;
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

    /// A lookup join: equalities with a column of the table become keys, everything else of `ON` a condition on matches.
    fn lookup(&mut self, source_idx: usize, join: &'a ast::Join) -> (LookupPlan, LookupStage) {
        let (mut key_columns, mut keys, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        let name = self.binder.sources[source_idx].name.clone();
        let place = self.binder.order.iter().position(|source| *source == source_idx).unwrap_or_default();
        for part in join.on.iter().flat_map(conjuncts) {
            match self.lookup_key(source_idx, part) {
                Some((column, other)) => {
                    if key_columns.contains(&column.name) {
                        let message = format!("{name}.{} is compared twice; one of them is enough", column.name);
                        self.error(column.span, message);
                    }
                    self.binder.source_limit = place;
                    let key = self.binder.bind(other, Clause::rows("ON"));
                    self.binder.source_limit = self.binder.sources.len();
                    if !self.binder.sources[source_idx].is_schemaless()
                        && self.binder.sources[source_idx].field(&column.name).is_none()
                    {
                        let known: Vec<SmolStr> =
                            self.binder.sources[source_idx].fields.iter().map(|(field, _)| field.clone()).collect();
                        let error = SqlError::new(column.span, format!("{name} has no column \"{}\"", column.name));
                        self.binder.refuse(error.with_suggestion(&column.name, known.iter().map(SmolStr::as_str)));
                    }
                    key_columns.push(column.name.clone());
                    keys.push(key.expr);
                }
                None => rest.push(self.binder.bind(part, Clause::rows("ON")).expr),
            }
        }
        if keys.is_empty() {
            let message = format!("{name} is a lookup table: ON must compare one of its columns with =");
            let span = join.on.as_ref().map_or(join.span, |on| on.span);
            let hint = format!("write ON {name}.column = other.column");
            self.binder.refuse(SqlError::new(span, message).with_hint(hint));
        }
        let kind = if join.kind == JoinKind::Left { JoinKind::Left } else { JoinKind::Inner };
        let plan = LookupPlan { table: name, kind, key_columns, columns: Arc::default() };
        let left = kind == JoinKind::Left;
        (plan, LookupStage { first_slot: 0, n_slots: 0, left, keys, on: push_down::all(rest), filter: None })
    }

    /// `table.column = other` in either order, if `other` has nothing of the table.
    fn lookup_key(&self, source_idx: usize, part: &'a ast::Expr) -> Option<(&'a ast::Ident, &'a ast::Expr)> {
        let ast::ExprKind::Binary(BinaryOp::Eq, left, right) = &unnested(part).kind else { return None };
        let column = |expr: &'a ast::Expr| match &unnested(expr).kind {
            ast::ExprKind::Name(parts) => match parts.as_slice() {
                [source, column] if self.binder.source_called(&source.name) == Some(source_idx) => Some(column),
                _ => None,
            },
            _ => None,
        };
        let reads_table = |expr: &'a ast::Expr| {
            let mut reads = false;
            walk(expr, &mut |part| {
                if let ast::ExprKind::Name(parts) = &part.kind
                    && let [source, _, ..] = parts.as_slice()
                {
                    reads |= self.binder.source_called(&source.name) == Some(source_idx);
                }
                true
            });
            reads
        };
        match (column(left), column(right)) {
            (Some(column), _) if !reads_table(right) => Some((column, right)),
            (_, Some(column)) if !reads_table(left) => Some((column, left)),
            _ => None,
        }
    }

    /// `HAVING` sees groups: everything in it must be an aggregate, a group's key, or an alias of these.
    fn check_having(&mut self, having: &'a ast::Expr) {
        if self.select.window.is_none() && self.select.joins.is_empty() {
            self.error(having.span, "HAVING needs a window; use WHERE for conditions on single rows");
            return;
        }
        let mut bad: Vec<(Span, SmolStr)> = Vec::new();
        walk(having, &mut |part| match &part.kind {
            ast::ExprKind::Call(call) => !matches!(
                self.binder.functions.get(&call.name.name).map(|function| &function.body),
                Some(Body::Aggregate(_) | Body::Analytic(_) | Body::Context(_))
            ),
            ast::ExprKind::Name(names) => {
                let is_key = self.select.group_by.iter().any(|key| match &unnested(key).kind {
                    ast::ExprKind::Name(key) => same_name(key, names),
                    _ => false,
                });
                let alias = self.binder.aliases.iter().find(|alias| names.len() == 1 && alias.name == names[0].name);
                let is_result = alias.is_some_and(|alias| {
                    self.binder.has_aggregate(alias.expr)
                        || self.select.group_by.iter().any(|key| unnested(key).kind == unnested(alias.expr).kind)
                });
                if !is_key && !is_result {
                    let name: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
                    bad.push((part.span, name.join(".").into()));
                }
                false
            }
            _ => true,
        });
        for (span, name) in bad {
            let message = format!("HAVING is about groups: \"{name}\" is neither an aggregate nor in GROUP BY");
            let error =
                SqlError::new(span, message).with_hint(format!("use WHERE, or an aggregate such as max({name})"));
            self.binder.refuse(error);
        }
    }

    fn input(&mut self, source_idx: usize) -> Option<InputStage> {
        let source = &self.binder.sources[source_idx];
        let retain = match source.def.kind {
            SourceKind::LookupTable => return None,
            SourceKind::ScanTable { retain } => Some(retain),
            SourceKind::Stream => None,
        };
        let timestamp = match &source.def.timestamp {
            Some(name) if self.options.event_time => {
                let (name, format) = (name.clone(), source.def.timestamp_format.clone());
                match self.binder.column_of(source_idx, &name, Span::default(), false).expr.kind {
                    ExprKind::Slot(slot) => Some((slot, format)),
                    _ => None,
                }
            }
            _ => None,
        };
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
        Some(InputStage { first_slot: 0, n_slots: 0, retain, timestamp, strict, filter: None })
    }

    // ---- layout ----

    /// Gives every slot its place in the row.
    fn layout(&mut self, mut stages: Stages, mut lookups: Vec<LookupPlan>, output: Arc<Schema>) -> RulePlan {
        let columns = &self.binder.columns;
        let mut by_place: Vec<usize> = (0..columns.len()).collect();
        by_place.sort_by_key(|id| columns[*id].origin);
        let mut place = vec![0; columns.len()];
        for (slot, id) in by_place.iter().enumerate() {
            place[*id] = slot;
        }
        let range = |origin: Origin| {
            let first = by_place.iter().position(|id| columns[*id].origin >= origin).unwrap_or(by_place.len());
            let schema: Vec<Column> = by_place
                .iter()
                .map(|id| &columns[*id])
                .filter(|column| column.origin == origin)
                .map(|column| Column { name: column.name.clone(), kind: column.kind, ty: column.ty.clone() })
                .collect();
            (first, schema.len(), Arc::new(Schema { columns: schema }))
        };
        let mut inputs = Vec::new();
        let names = self.binder.sources.iter().filter(|source| !source.is_lookup()).map(|source| source.name.clone());
        for ((input_idx, stage), source) in stages.inputs.iter_mut().enumerate().zip(names) {
            let (first_slot, n_slots, schema) = range(Origin::Input(input_idx));
            (stage.first_slot, stage.n_slots) = (first_slot, n_slots);
            inputs.push(InputPlan { source, schema });
        }
        for (lookup_idx, (stage, plan)) in stages.lookups.iter_mut().zip(&mut lookups).enumerate() {
            let (first_slot, n_slots, schema) = range(Origin::Lookup(lookup_idx));
            (stage.first_slot, stage.n_slots) = (first_slot, n_slots);
            plan.columns = schema;
        }
        stages.map_slots(&|id| place.get(id).copied().unwrap_or(id));
        stages.slots = by_place
            .iter()
            .map(|id| {
                let column = &columns[*id];
                let source = match column.origin {
                    Origin::Input(input_idx) => inputs.get(input_idx).map(|input| input.source.clone()),
                    Origin::Lookup(lookup_idx) => lookups.get(lookup_idx).map(|lookup| lookup.table.clone()),
                    _ => None,
                };
                let name = match column.kind {
                    ColumnKind::Star => "*".into(),
                    ColumnKind::Meta => "meta()".into(),
                    _ => column.name.clone(),
                };
                SlotName { source, name }
            })
            .collect();
        RulePlan { inputs, lookups, output, stages: Arc::new(stages) }
    }
}

/// The name of an item's column, if it has one.
fn output_name(item: &SelectItem) -> Option<SmolStr> {
    match (&item.alias, &item.kind) {
        (Some(alias), _) => Some(alias.name.clone()),
        (None, SelectKind::Expr(expr)) => natural_name(expr),
        (None, SelectKind::Star { .. }) => None,
    }
}

fn same_name(a: &[ast::Ident], b: &[ast::Ident]) -> bool {
    let (Some(a_last), Some(b_last)) = (a.last(), b.last()) else { return false };
    a_last.name == b_last.name && (a.len() == 1 || b.len() == 1 || a[0].name == b[0].name)
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
