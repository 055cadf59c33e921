//! Where the parts of `WHERE` run, and which windows can count instead of keeping rows.

use super::sources::{Column, Origin};
use super::stages::{AggregateCall, ComputedKind, ItemKind, SortKey, Stages, TailStage, WindowKind};
use crate::expr::{Expr, ExprKind};
use crate::function::Body;
use crate::sql::ast::JoinKind;

/// The conjunction of conditions; none if there are none.
pub(super) fn all(mut parts: Vec<Expr>) -> Option<Expr> {
    match parts.len() {
        0 | 1 => parts.pop(),
        _ => {
            let span = parts.iter().skip(1).fold(parts[0].span, |span, part| span.to(part.span));
            Some(Expr { kind: ExprKind::And(parts.into()), span })
        }
    }
}

/// The condition as one that counts its hits, if a function in it asks for that.
pub(super) fn counting_hits(condition: Expr) -> Expr {
    fn collect(expr: &Expr, states: &mut Vec<usize>) {
        if let ExprKind::Stateful(state, call) = &expr.kind
            && call.args.is_empty()
        {
            states.push(*state);
        }
        expr.for_each_part(&mut |part| collect(part, states));
    }
    let mut states = Vec::new();
    collect(&condition, &mut states);
    if states.is_empty() {
        return condition;
    }
    let span = condition.span;
    Expr { kind: ExprKind::Hits(condition.into(), states.into()), span }
}

/// Puts each conjunct of `WHERE` where it can run first without changing a result.
///
/// * An aggregate in `WHERE` is about the whole collection, so then nothing may be dropped before it.
/// * Without window, and before windows over time, sessions and states in processing time, rows are dropped first of all.
///   Count and sliding windows count and are triggered by every row, and in event time windows begin with the first row, so
///   there `WHERE` runs behind the window.
/// * With `push_down` off it runs behind every window, and behind joins.
/// * A condition on one source goes below a join if the join keeps no unmatched rows of the other side because of it.
/// * A condition that needs no lookup runs before lookups, one that needs only the first runs before the second.
pub(super) fn place_filter(stages: &mut Stages, filter: Vec<Expr>, columns: &[Column]) {
    if !stages.tail.where_aggregates.is_empty() {
        stages.tail.filter = all(filter);
        return;
    }
    let before_window = match &stages.window {
        None => true,
        Some(window) => {
            let timed =
                matches!(window.kind, WindowKind::Time { .. } | WindowKind::Session { .. } | WindowKind::State { .. });
            timed && !stages.options.event_time && stages.options.push_down
        }
    };
    let (mut rows, mut joined) = (Vec::new(), Vec::new());
    let mut behind_lookup: Vec<Vec<Expr>> = vec![Vec::new(); stages.lookups.len()];
    let mut inputs: Vec<Vec<Expr>> = vec![Vec::new(); stages.inputs.len()];
    for part in filter {
        let (mut last_lookup, mut read_inputs) = (None, Vec::new());
        part.for_each_slot(&mut |slot| match columns.get(slot).map(|column| column.origin) {
            Some(Origin::Lookup(lookup)) => last_lookup = last_lookup.max(Some(lookup)),
            Some(Origin::Input(input)) if !read_inputs.contains(&input) => read_inputs.push(input),
            // Computed columns are there for rows of every input.
            Some(Origin::Computed) => read_inputs.extend([usize::MAX; 2]),
            _ => {}
        });
        match (last_lookup, read_inputs.as_slice()) {
            (Some(lookup), _) => behind_lookup[lookup].push(part),
            (None, _) if stages.joins.is_empty() && before_window => rows.push(part),
            (None, [input]) if before_window && *input < inputs.len() && keeps(stages, *input) => {
                inputs[*input].push(part);
            }
            _ => joined.push(part),
        }
    }
    stages.filter = all(rows);
    stages.joined_filter = all(joined);
    for (lookup, filter) in stages.lookups.iter_mut().zip(behind_lookup) {
        lookup.filter = all(filter);
    }
    for (input, filter) in stages.inputs.iter_mut().zip(inputs) {
        input.filter = all(filter);
    }
}

/// True if every row that comes out of the joins has a row of this input in it: then a condition on it may run first.
fn keeps(stages: &Stages, input: usize) -> bool {
    if !stages.options.push_down {
        return false;
    }
    if stages.inputs.get(input).is_none_or(|input| input.retain.is_some()) {
        return false;
    }
    stages.joins.iter().all(|join| match join.kind {
        JoinKind::Inner | JoinKind::Cross => true,
        JoinKind::Left => join.input != input,
        JoinKind::Right => join.input == input,
        JoinKind::Full => false,
    })
}

/// Lets a window keep one set of accumulators per group instead of its rows, where the result is the same.
pub(super) fn make_incremental(stages: &mut Stages) {
    let tail = &stages.tail;
    let Some(window) = &mut stages.window else { return };
    let sorted_rows = tail.group_by.is_empty() && !tail.order_by.is_empty();
    let simple = tail.aggregate
        && !sorted_rows
        && stages.joins.is_empty()
        && stages.lookups.is_empty()
        && tail.where_aggregates.is_empty();
    let fits = match window.kind {
        WindowKind::Time { length, hop, .. } => {
            hop >= 1 && length % hop == 0 && (length == hop || tail.aggregates.iter().all(merges))
        }
        WindowKind::Count { length, interval } => length == interval && !counts_by_window(tail),
        WindowKind::Session { .. } | WindowKind::State { .. } => !counts_by_window(tail),
        // Each row leaves it by itself.
        WindowKind::Sliding { .. } => false,
    };
    if simple && fits {
        window.incremental = true;
        window.row_filter = stages.joined_filter.take();
    }
}

/// True if what is counted depends on where the window begins or ends, which is not known before it ends.
fn counts_by_window(tail: &TailStage) -> bool {
    let calls = tail.aggregates.iter().flat_map(|call| call.args.iter().chain(&call.filter));
    tail.group_by.iter().chain(calls).any(Expr::reads_window)
}

/// True if what two panes have counted can be put together.
fn merges(call: &AggregateCall) -> bool {
    let Body::Aggregate(new) = call.function.body else { return false };
    let (mut earlier, mut later) = (new(), new());
    earlier.push();
    later.push();
    !call.distinct && earlier.merge(0, &*later, 0).is_ok_and(|merged| merged)
}

impl Stages {
    /// Renumbers what a window reads that counts rows where they are.
    pub(crate) fn map_accumulation(&mut self, map: &dyn Fn(usize) -> usize) {
        if let Some(window) = &mut self.window {
            window.filter.iter_mut().chain(&mut window.row_filter).for_each(|expr| expr.map_slots(map));
        }
        self.tail.group_by.iter_mut().for_each(|expr| expr.map_slots(map));
        for call in &mut self.tail.aggregates {
            call.args.iter_mut().chain(&mut call.filter).for_each(|expr| expr.map_slots(map));
        }
    }

    /// Renumbers what the select list reads.
    pub(crate) fn map_items(&mut self, map: &dyn Fn(usize) -> usize) {
        for item in &mut self.tail.items {
            match &mut item.kind {
                ItemKind::Expr(expr) => expr.map_slots(map),
                ItemKind::MultiColumn { call, .. } => call.args.iter_mut().for_each(|(_, arg)| arg.map_slots(map)),
            }
        }
    }

    /// Renumbers the slots of all expressions.
    pub(super) fn map_slots(&mut self, map: &dyn Fn(usize) -> usize) {
        let each = |exprs: &mut dyn Iterator<Item = &mut Expr>| exprs.for_each(|expr| expr.map_slots(map));
        let calls = |calls: &mut Vec<AggregateCall>| {
            for call in calls {
                call.slot = map(call.slot);
                each(&mut call.args.iter_mut().chain(&mut call.filter));
            }
        };
        let keys = |keys: &mut Vec<SortKey>| keys.iter_mut().for_each(|key| key.expr.map_slots(map));
        for input in &mut self.inputs {
            each(&mut input.filter.iter_mut());
            input.timestamp = input.timestamp.map(map);
            input.strict.iter_mut().for_each(|(slot, ..)| *slot = map(*slot));
        }
        for computed in &mut self.computed {
            computed.slot = map(computed.slot);
            match &mut computed.kind {
                ComputedKind::Expr(expr) => expr.map_slots(map),
                ComputedKind::Analytic(call) => {
                    each(&mut call.args.iter_mut().chain(&mut call.partition_by).chain(&mut call.when));
                }
            }
        }
        each(&mut self.filter.iter_mut().chain(&mut self.joined_filter));
        if let Some(trigger) = &mut self.trigger {
            trigger.slot = map(trigger.slot);
            each(&mut [&mut trigger.start, &mut trigger.end, &mut trigger.now].into_iter());
        }
        if let Some(window) = &mut self.window {
            let conditions = window.filter.iter_mut().chain(&mut window.when).chain(&mut window.row_filter);
            each(&mut conditions.chain(&mut window.partition_by));
            if let WindowKind::State { begin, emit } = &mut window.kind {
                each(&mut std::iter::once(begin).chain(emit));
            }
        }
        for join in &mut self.joins {
            each(&mut join.on.iter_mut());
        }
        for lookup in &mut self.lookups {
            each(&mut lookup.keys.iter_mut().chain(&mut lookup.on).chain(&mut lookup.filter));
        }
        let tail = &mut self.tail;
        calls(&mut tail.where_aggregates);
        calls(&mut tail.aggregates);
        each(&mut tail.filter.iter_mut().chain(&mut tail.having).chain(&mut tail.group_by));
        for number in &mut tail.row_numbers {
            number.slot = map(number.slot);
            each(&mut number.partition_by.iter_mut());
            keys(&mut number.order_by);
        }
        keys(&mut tail.order_by);
        for item in &mut tail.items {
            match &mut item.kind {
                ItemKind::Expr(expr) => expr.map_slots(map),
                ItemKind::MultiColumn { call, .. } => each(&mut call.args.iter_mut().map(|(_, arg)| arg)),
            }
        }
    }
}
