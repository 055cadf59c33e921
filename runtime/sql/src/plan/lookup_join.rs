//! Lookup joins: which part of `ON` is the key.

use std::sync::Arc;

use smol_str::SmolStr;

use super::bind::{Binder, Clause};
use super::select::Planner;
use super::sources::{Column, Origin, Source, declared_fields};
use super::stages::{LookupStage, Stages};
use super::walk::{conjuncts, unnested, walk};
use super::{LookupPlan, SourceKind, push_down};
use crate::expr::{Expr, ExprKind};
use crate::sql::ast;
use crate::sql::ast::{BinaryOp, JoinKind};
use crate::sql::{Span, SqlError};

impl Binder<'_> {
    /// The column `value` of the first row in a lookup table whose `key` is this.
    pub(super) fn looked_up(&mut self, table: &'static str, key: Expr, span: Span) -> Expr {
        let text = |key: &Expr| key.text(&|slot| slot.to_string());
        let is_it = |(plan, stage): &(LookupPlan, LookupStage)| {
            plan.table == table && stage.keys.iter().map(text).eq([text(&key)])
        };
        let source_idx = match self.looked_up.iter().position(is_it) {
            Some(known) => self.sources.len() - self.looked_up.len() + known,
            None => {
                let (catalog, name) = (self.catalog, SmolStr::new_static(table));
                let Some(def) = catalog.sources.get(&name).filter(|def| def.kind == SourceKind::LookupTable) else {
                    let message = format!("this looks up in the lookup table \"{table}\", and there is none");
                    let hint = "create one of that name, over the columns key and value";
                    return self.refuse(SqlError::new(span, message).with_hint(hint)).expr;
                };
                let fields = declared_fields(def);
                // No statement can name it.
                self.sources.push(Source {
                    name: SmolStr::default(),
                    alias: None,
                    def,
                    fields,
                    join: Some(JoinKind::Left),
                    only: None,
                });
                let plan = LookupPlan {
                    table: name,
                    kind: JoinKind::Left,
                    key_columns: vec!["key".into()],
                    columns: Arc::default(),
                };
                let stage = LookupStage {
                    first_slot: 0,
                    n_slots: 0,
                    left: true,
                    single: true,
                    keys: vec![key],
                    on: None,
                    filter: None,
                };
                self.looked_up.push((plan, stage));
                self.sources.len() - 1
            }
        };
        let source = &self.sources[source_idx];
        if let Some(column) =
            ["key", "value"].into_iter().find(|column| !source.is_schemaless() && source.field(column).is_none())
        {
            return self.refuse(SqlError::new(span, format!("{table} has no column \"{column}\""))).expr;
        }
        self.column_of(source_idx, &"value".into(), span, false).expr
    }
}

impl<'a> Planner<'a> {
    /// Refuses what is computed before lookups and reads what they give.
    pub(super) fn check_lookup_order(&mut self, stages: &Stages) {
        fn reads(expr: &Expr, columns: &[Column], places: &mut Vec<Span>) {
            if let ExprKind::Slot(slot) = expr.kind
                && columns.get(slot).is_some_and(|column| matches!(column.origin, Origin::Lookup(_)))
            {
                places.push(expr.span);
            }
            expr.for_each_part(&mut |part| reads(part, columns, places));
        }
        let mut places = Vec::new();
        stages.before_lookups().for_each(|expr| reads(expr, &self.binder.columns, &mut places));
        for span in places {
            let message = "tables are looked up behind windows, their conditions and analytic functions, so this is not there yet";
            let hint = "join in a rule of its own that writes into a memory topic, and read that";
            self.binder.refuse(SqlError::new(span, message).with_hint(hint));
        }
    }

    /// A lookup join: equalities with a column of the table become keys, everything else of `ON` a condition on matches.
    pub(super) fn lookup(&mut self, source_idx: usize, join: &'a ast::Join) -> (LookupPlan, LookupStage) {
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
        if keys.is_empty() && join.kind != JoinKind::Cross {
            let message = format!("{name} is a lookup table: ON must compare one of its columns with =");
            let span = join.on.as_ref().map_or(join.span, |on| on.span);
            let hint = format!("write ON {name}.column = other.column");
            self.binder.refuse(SqlError::new(span, message).with_hint(hint));
        }
        let kind = if join.kind == JoinKind::Left { JoinKind::Left } else { JoinKind::Inner };
        let plan = LookupPlan { table: name, kind, key_columns, columns: Arc::default() };
        let left = kind == JoinKind::Left;
        let on = push_down::all(rest);
        (plan, LookupStage { first_slot: 0, n_slots: 0, left, single: false, keys, on, filter: None })
    }

    /// `table.column = other` in either order, if `other` has nothing of the table.
    pub(super) fn lookup_key(&self, source_idx: usize, part: &'a ast::Expr) -> Option<(&'a ast::Ident, &'a ast::Expr)> {
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
}
