//! Static checks of a whole statement.

use smol_str::SmolStr;

use super::SourceKind;
use super::alias::Alias;
use super::items::output_name;
use super::select::Planner;
use super::walk::{unnested, walk};
use crate::function::Body;
use crate::sql::ast;
use crate::sql::ast::JoinKind;
use crate::sql::{Span, SqlError};

impl<'a> Planner<'a> {
    /// What can be checked without binding anything.
    pub(super) fn check_shape(&mut self) {
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
        if self.options.send_meta && (select.window.is_some() || !select.joins.is_empty()) {
            let span = select.window.as_ref().map_or(select.from.name.span, |window| window.span);
            self.error(span, "sendMetaToSink needs rows of one source: it goes with no window and no join");
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

    pub(super) fn source_span(&self, source_idx: usize) -> Span {
        match source_idx.checked_sub(1).and_then(|join_idx| self.select.joins.get(join_idx)) {
            Some(join) => join.source.name.span,
            None => self.select.from.name.span,
        }
    }

    pub(super) fn check_window(&mut self, window: &ast::Window) {
        let span = window.span;
        if self.options.sliding_v2
            && !matches!(window.kind, ast::WindowKind::Sliding { .. } | ast::WindowKind::State { .. })
        {
            self.error(span, "windowVersion v2 is for sliding and state windows only");
            return;
        }
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

    pub(super) fn check_joins(&mut self) {
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

    /// `b + 1 AS a, a + 1 AS b`
    pub(super) fn check_cycles(&mut self) {
        if let Some(Alias { name, item, .. }) = self.binder.settle_aliases() {
            let span = self.select.items[item].span;
            self.error(span, format!("the alias \"{name}\" is defined by itself, through other aliases"));
        }
    }

    /// Two visible items must not have one name; `*` gives way.
    pub(super) fn check_names(&mut self) {
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

    /// `HAVING` sees groups: everything in it must be an aggregate, a group's key, or an alias of these.
    pub(super) fn check_having(&mut self, having: &'a ast::Expr) {
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
                    alias.calls.aggregate
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
}

fn same_name(a: &[ast::Ident], b: &[ast::Ident]) -> bool {
    let (Some(a_last), Some(b_last)) = (a.last(), b.last()) else { return false };
    a_last.name == b_last.name && (a.len() == 1 || b.len() == 1 || a[0].name == b[0].name)
}
