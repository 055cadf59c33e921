//! The select list: aliases, items, stars, and the functions that make rows or columns.

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::alias::{Alias, Calls};
use super::bind::{Aggregates, Bound, Clause};
use super::call::natural_name;
use super::select::Planner;
use super::sources::Origin;
use super::stages::{Expand, Item, ItemKind, MultiColumnCall, NullOutput, TriggerStage};
use crate::expr::{Expr, ExprKind};
use crate::function::{Body, Function};
use crate::sql::ast;
use crate::sql::ast::{Arg, SelectItem, SelectKind};
use crate::sql::{Span, SqlError};
use crate::value::{Column, ColumnKind, Type, Value};

impl<'a> Planner<'a> {
    pub(super) fn collect_aliases(&mut self) {
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
                    calls: Calls::default(),
                    output: None,
                    computed: None,
                }),
                SelectKind::Star { .. } => self.error(alias.span, "* can't have an alias"),
            }
        }
        self.check_cycles();
    }

    pub(super) fn bind_items(&mut self) {
        let mut n_anonymous = 0;
        for (item_idx, item) in self.select.items.iter().enumerate() {
            match &item.kind {
                SelectKind::Star { source, except, replace } => {
                    self.star(item, source.as_ref(), except, replace);
                }
                SelectKind::Expr(expr) => self.item(item_idx, item, expr, &mut n_anonymous),
            }
        }
        if self.options.send_meta {
            let slot = self.binder.meta_of(0);
            self.output_column(ColumnKind::Field, "__meta".into(), Type::Any);
            let expr = Expr::slot(slot, self.select.span);
            self.items.push(Item { kind: ItemKind::Expr(expr), null: NullOutput::Omit });
        }
        // An alias that is read elsewhere and must not be computed twice has a slot of its own; aliases are bound on demand,
        // so this is known only once all clauses are.
        self.check_names();
    }

    pub(super) fn item(&mut self, item_idx: usize, item: &'a SelectItem, expr: &'a ast::Expr, n_anonymous: &mut usize) {
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
                Body::Trigger => return self.trigger(item_idx, item, call, &function, name, clause),
                _ => {}
            }
        }
        let bound = self.binder.bind_item(item_idx, expr, clause);
        let null = match (&item.alias, self.options.send_nil) {
            (Some(_), true) => NullOutput::Null,
            (None, true) if self.is_column(&bound, expr) => NullOutput::Null,
            (None, false) if self.is_column(&bound, expr) => NullOutput::AsIs,
            _ => NullOutput::Omit,
        };
        let kind = if item.invisible { ColumnKind::Hidden } else { ColumnKind::Field };
        let slot = self.output_column(kind, name, bound.ty.clone());
        if let Some(alias) = self.binder.aliases.iter_mut().find(|alias| alias.item == item_idx) {
            alias.output = Some((slot, bound.clone()));
        }
        self.items.push(Item { kind: ItemKind::Expr(bound.expr), null });
    }

    /// True for a plain column: it keeps the difference between null and missing.
    pub(super) fn is_column(&self, bound: &Bound, expr: &ast::Expr) -> bool {
        let plain = match &bound.expr.kind {
            ExprKind::Slot(slot) => self.binder.columns[*slot].kind == ColumnKind::Field,
            ExprKind::FirstOf(_) | ExprKind::Member(..) | ExprKind::Const(Value::Missing) => true,
            _ => false,
        };
        let ast::ExprKind::Name(parts) = &expr.kind else { return false };
        let is_source = |name: &SmolStr| self.binder.source_called(name).is_some();
        plain && (parts.len() == 1 || (parts.len() == 2 && is_source(&parts[0].name)))
    }

    pub(super) fn output_column(&mut self, kind: ColumnKind, name: SmolStr, ty: Type) -> usize {
        self.output.columns.push(Column { name, kind, ty });
        self.output.columns.len() - 1
    }

    pub(super) fn expand(
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

    /// `dedup_trigger(start, end, now, expire)`
    fn trigger(
        &mut self,
        item_idx: usize,
        item: &'a SelectItem,
        call: &'a ast::Call,
        function: &Function,
        name: SmolStr,
        clause: Clause,
    ) {
        if let Err(error) = super::call::check_args(call, function, item.span) {
            self.binder.refuse(error);
            return;
        }
        if self.trigger.is_some() {
            return self.error(item.span, format!("only one {} is possible", function.name));
        }
        if self.select.window.is_some() || !self.select.joins.is_empty() {
            return self.error(
                item.span,
                format!("{} is about single rows: it goes with no window and no join", function.name),
            );
        }
        let [Arg::Expr(start), Arg::Expr(end), Arg::Expr(now), Arg::Expr(expire)] = call.args.as_slice() else {
            return;
        };
        let Some(expire_ms) = super::bind::literal_int(expire).filter(|expire| *expire >= 0) else {
            return self.error(expire.span, "how long spans are remembered is a literal number of milliseconds");
        };
        let mut bind = |expr| self.binder.bind_item(item_idx, expr, clause).expr;
        let (start, end, now) = (bind(start), bind(end), bind(now));
        let slot = self.binder.hidden(Origin::Computed, format_smolstr!("{}(...)", function.name), Type::Any);
        self.trigger = Some(TriggerStage { slot, start, end, now, expire: expire_ms, span: item.span });
        let kind = if item.invisible { ColumnKind::Hidden } else { ColumnKind::Field };
        self.output_column(kind, name, Type::Any);
        self.items.push(Item { kind: ItemKind::Expr(Expr::slot(slot, item.span)), null: NullOutput::Omit });
    }

    pub(super) fn multi_column(
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

    pub(super) fn star(
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
                let mut expr = match self.binder.sources[source_idx].only.clone() {
                    Some(only) => {
                        let column = |name: SmolStr| {
                            let column = self.binder.column_of(source_idx, &name, item.span, false);
                            (Some(name), column.expr)
                        };
                        let columns = only.into_iter().map(column).collect();
                        Expr { kind: ExprKind::Row(columns), span: item.span }
                    }
                    None => Expr::slot(self.binder.star_of(source_idx), item.span),
                };
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
    pub(super) fn first_of_all(&mut self, name: &SmolStr, span: Span) -> Expr {
        let mut parts = Vec::new();
        for source_idx in self.binder.order.clone() {
            let source = &self.binder.sources[source_idx];
            if source.is_schemaless() || source.field(name).is_some() {
                parts.push(self.binder.visible_column(source_idx, name, span, true).expr);
            }
        }
        if parts.len() == 1 { parts.remove(0) } else { Expr { kind: ExprKind::FirstOf(parts.into()), span } }
    }

    pub(super) fn items_have_aggregate(&self) -> bool {
        self.select.items.iter().any(|item| match &item.kind {
            SelectKind::Expr(expr) => self.binder.calls_in(expr).aggregate,
            SelectKind::Star { replace, .. } => replace.iter().any(|(expr, _)| self.binder.calls_in(expr).aggregate),
        })
    }

    /// Items whose alias is read by a clause and must be computed only once read the same slot as that clause.
    pub(super) fn computed_items(&mut self) {
        for alias in &self.binder.aliases {
            if let (Some((computed, _)), Some((slot, bound))) = (&alias.computed, &alias.output)
                && let Some(item) = self.items.get_mut(*slot)
            {
                item.kind = ItemKind::Expr(Expr::slot(*computed, bound.expr.span));
            }
        }
    }

    pub(super) fn expand_columns(&mut self) {
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
}

/// The name of an item's column, if it has one.
pub(super) fn output_name(item: &SelectItem) -> Option<SmolStr> {
    match (&item.alias, &item.kind) {
        (Some(alias), _) => Some(alias.name.clone()),
        (None, SelectKind::Expr(expr)) => natural_name(expr),
        (None, SelectKind::Star { .. }) => None,
    }
}
