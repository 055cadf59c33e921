//! Which columns a stream without declared ones has in a statement with `*`, for rules that want it as eKuiper has it.
//!
//! There, a statement's columns are collected in the order in which its parts are looked through: the select list, then
//! `HAVING`, then everything else. A `*` behind the first of them, also that of `count(*)`, ends the collection: columns
//! that are named later are missing, and `*` itself is only what was collected. A `*` in front of all of them is all columns.

use smol_str::SmolStr;

use super::walk::walk;
use super::{SourceKind, StarColumns};
use crate::function::{Body, ContextFn, Registry};
use crate::plan::sources::Source;
use crate::sql::ast::{Arg, Call, Expr, ExprKind, Select, SelectKind};

/// Looks through a statement and notes for each source the columns that are left of it.
pub(super) fn restrict(select: &Select, functions: &Registry, sources: &mut [Source<'_>], mode: StarColumns) {
    if mode == StarColumns::All {
        return;
    }
    let mut seen: Vec<Seen> = sources.iter().map(|_| Seen::default()).collect();
    let mut collector = Collector { functions, sources, seen: &mut seen };
    for item in &select.items {
        match &item.kind {
            SelectKind::Expr(expr) => collector.expr(expr),
            SelectKind::Star { source, replace, .. } => {
                collector.star(source.as_ref().map(|source| &source.name));
                replace.iter().for_each(|(expr, _)| collector.expr(expr));
            }
        }
    }
    select.having.iter().for_each(|having| collector.expr(having));
    for (source, seen) in sources.iter_mut().zip(seen) {
        if source.is_schemaless() && source.def.kind == SourceKind::Stream && seen.end == Some(End::Named) {
            source.only = Some(seen.names);
        }
    }
}

/// What was collected of a source.
#[derive(Default)]
struct Seen {
    names: Vec<SmolStr>,
    /// Something was named, if only a member.
    any: bool,
    end: Option<End>,
}

/// How the collection ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// With a `*` in front: all columns.
    All,
    /// With a `*` behind names.
    Named,
}

struct Collector<'a, 'b> {
    functions: &'a Registry,
    sources: &'a [Source<'b>],
    seen: &'a mut [Seen],
}

impl Collector<'_, '_> {
    fn expr(&mut self, expr: &Expr) {
        walk(expr, &mut |part| match &part.kind {
            ExprKind::Call(call) => {
                self.call(call);
                false
            }
            ExprKind::Name(parts) => {
                let name = |place: usize| parts.get(place).map(|part| &part.name);
                let source = name(0).and_then(|name| self.sources.iter().position(|source| source.is_called(name)));
                match (source, name(1)) {
                    (Some(source), Some(column)) => self.name(Some(source), Some(column)),
                    _ => self.name(None, name(0)),
                }
                false
            }
            ExprKind::Member(..) => {
                self.name(None, None);
                true
            }
            _ => true,
        });
    }

    fn call(&mut self, call: &Call) {
        let function = self.functions.get(&call.name.name);
        // Its argument is no column.
        if function.is_some_and(|function| matches!(function.body, Body::Context(ContextFn::Meta))) {
            return;
        }
        if function.is_some_and(|function| function.with_row) {
            self.star(None);
        }
        for arg in &call.args {
            match arg {
                Arg::Star(_) => self.star(None),
                Arg::Expr(arg) => self.expr(arg),
            }
        }
        call.filter.iter().for_each(|filter| self.expr(filter));
        if let Some(over) = &call.over {
            over.partition_by.iter().chain(over.when.as_deref()).for_each(|part| self.expr(part));
        }
    }

    /// A column of a source, or of any; without a name something that is no column by itself.
    fn name(&mut self, source: Option<usize>, name: Option<&SmolStr>) {
        for (source_idx, seen) in self.seen.iter_mut().enumerate() {
            if source.is_none_or(|source| source == source_idx) && seen.end.is_none() {
                seen.any = true;
                seen.names.extend(name.cloned());
            }
        }
    }

    fn star(&mut self, source: Option<&SmolStr>) {
        for (place, seen) in self.sources.iter().zip(self.seen.iter_mut()) {
            if source.is_none_or(|source| place.is_called(source)) {
                seen.end.get_or_insert(if seen.any { End::Named } else { End::All });
            }
        }
    }
}
