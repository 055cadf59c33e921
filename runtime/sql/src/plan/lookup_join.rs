//! Lookup joins: which part of `ON` is the key.

use std::sync::Arc;

use smol_str::SmolStr;

use super::LookupPlan;
use super::bind::Clause;
use super::push_down;
use super::select::Planner;
use super::stages::LookupStage;
use super::walk::{conjuncts, unnested, walk};
use crate::sql::SqlError;
use crate::sql::ast;
use crate::sql::ast::{BinaryOp, JoinKind};

impl<'a> Planner<'a> {
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
        (plan, LookupStage { first_slot: 0, n_slots: 0, left, keys, on: push_down::all(rest), filter: None })
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
