//! Aliases: names that the select list gives to expressions, and what reading one means.

use smol_str::SmolStr;

use super::bind::{Binder, Bound, Clause};
use super::sources::Origin;
use super::stages::{Computed, ComputedKind};
use super::walk::walk;
use crate::expr::{Expr, ExprKind};
use crate::function::{Body, Volatility};
use crate::sql::ast;
use crate::sql::{Span, SqlError};
use crate::value::Type;

/// A name that the select list gives to an expression.
pub(super) struct Alias<'a> {
    /// The name.
    pub name: SmolStr,
    /// What it stands for.
    pub expr: &'a ast::Expr,
    /// Its place in the select list.
    pub item: usize,
    /// What it calls, itself or through other aliases.
    pub calls: Calls,
    /// Its slot in the output, once it is bound.
    pub output: Option<(usize, Bound)>,
    /// The computed column that holds it, if it must be computed only once and is read outside of the select list.
    pub computed: Option<(usize, Type)>,
}

/// Functions that an expression calls, as far as they matter to whoever reads it.
#[derive(Clone, Copy, Default)]
pub(super) struct Calls {
    /// Two evaluations may differ.
    pub volatile: bool,
    /// It is about many rows.
    pub aggregate: bool,
}

impl Calls {
    fn add(&mut self, other: Calls) {
        self.volatile |= other.volatile;
        self.aggregate |= other.aggregate;
    }
}

impl<'a> Binder<'a> {
    /// Finds out what the aliases call. One that is defined by itself, through others, is given back; all are dropped then.
    pub(super) fn settle_aliases(&mut self) -> Option<Alias<'a>> {
        let reads: Vec<Vec<usize>> = (0..self.aliases.len()).map(|alias_idx| self.aliases_read(alias_idx)).collect();
        let mut read_by: Vec<Vec<usize>> = vec![Vec::new(); reads.len()];
        let mut n_open: Vec<usize> = reads.iter().map(Vec::len).collect();
        for (reader, reads) in reads.iter().enumerate() {
            reads.iter().for_each(|read| read_by[*read].push(reader));
        }
        // Those that read no others first, then those that read only these, and so on; a cycle is never reached.
        let mut ready: Vec<usize> = (0..reads.len()).filter(|alias_idx| n_open[*alias_idx] == 0).collect();
        let mut n_settled = 0;
        while let Some(alias_idx) = ready.pop() {
            n_settled += 1;
            self.aliases[alias_idx].calls = self.calls_in(self.aliases[alias_idx].expr);
            for reader in &read_by[alias_idx] {
                n_open[*reader] -= 1;
                if n_open[*reader] == 0 {
                    ready.push(*reader);
                }
            }
        }
        if n_settled == reads.len() {
            return None;
        }
        let first = n_open.iter().position(|n_open| *n_open > 0)?;
        let mut aliases = std::mem::take(&mut self.aliases);
        Some(aliases.swap_remove(first))
    }

    /// The other aliases that an alias's expression names.
    fn aliases_read(&self, own_idx: usize) -> Vec<usize> {
        let mut reads = Vec::new();
        walk(self.aliases[own_idx].expr, &mut |part| {
            if let ast::ExprKind::Name(names) = &part.kind
                && let [name, ..] = names.as_slice()
                && (names.len() == 1 || self.source_called(&name.name).is_none())
                && let Some(alias_idx) = self.aliases.iter().position(|alias| alias.name == name.name)
                && alias_idx != own_idx
            {
                reads.push(alias_idx);
            }
            true
        });
        reads
    }

    /// What an expression calls, itself or through aliases.
    pub(super) fn calls_in(&self, expr: &ast::Expr) -> Calls {
        let mut calls = Calls::default();
        walk(expr, &mut |part| {
            match &part.kind {
                ast::ExprKind::Call(call) => {
                    if let Some(function) = self.functions.get(&call.name.name) {
                        let per_row = matches!(function.body, Body::Scalar(_) | Body::Stateful(_) | Body::External(_));
                        calls.volatile |= per_row && function.volatility == Volatility::Volatile;
                        calls.aggregate |= matches!(function.body, Body::Aggregate(_));
                    }
                }
                ast::ExprKind::Name(names) => {
                    let alias =
                        names.first().and_then(|first| self.aliases.iter().find(|alias| alias.name == first.name));
                    alias.iter().for_each(|alias| calls.add(alias.calls));
                }
                _ => {}
            }
            true
        });
        calls
    }

    /// What an alias stands for.
    pub(super) fn alias(&mut self, alias_idx: usize, span: Span, clause: Clause) -> Bound {
        let Some(Alias { expr, item, calls, output, computed, .. }) = self.aliases.get(alias_idx) else {
            return self.refuse(SqlError::new(span, "there is no such alias"));
        };
        let (expr, item, calls) = (*expr, *item, *calls);
        if let (Some(current), Some((slot, bound))) = (clause.item, output)
            && item < current
        {
            let kind = match &bound.expr.kind {
                kind @ (ExprKind::Slot(_) | ExprKind::Const(_)) => kind.clone(),
                _ => ExprKind::Item(*slot),
            };
            return Bound { expr: Expr { kind, span }, ty: bound.ty.clone() };
        }
        if let Some((slot, ty)) = computed {
            return Bound { expr: Expr::slot(*slot, span), ty: ty.clone() };
        }
        let clause = Clause { item: None, ..clause };
        if calls.volatile && !calls.aggregate {
            let bound = self.bind_item(item, expr, Clause::rows(clause.name));
            let name = self.aliases[alias_idx].name.clone();
            let slot = self.hidden(Origin::Computed, name, bound.ty.clone());
            self.computed.push(Computed { slot, kind: ComputedKind::Expr(bound.expr) });
            self.aliases[alias_idx].computed = Some((slot, bound.ty.clone()));
            return Bound { expr: Expr::slot(slot, span), ty: bound.ty };
        }
        // An alias within an alias takes more of the stack than an operand does.
        self.depth += 10;
        let bound = self.bind_item(item, expr, clause);
        self.depth -= 10;
        bound
    }
}
