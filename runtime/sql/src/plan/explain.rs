//! A plan as text, and its fingerprint.

use std::fmt::Write;
use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;

use super::RulePlan;
use super::stages::{AggregateCall, ComputedKind, Item, ItemKind, SlotName, SortKey, Stages, WindowKind};
use crate::expr::Expr;
use crate::sql::ast::JoinKind;
use crate::value::{ColumnKind, Schema};

/// What the operators that keep something do, as text.
pub(crate) struct StateTexts {
    /// The watermark.
    pub watermark: Option<String>,
    /// One per computed column.
    pub computed: Vec<String>,
    /// `dedup_trigger`.
    pub trigger: Option<String>,
    /// The window, with the accumulators that it keeps.
    pub window: Option<String>,
}

impl RulePlan {
    /// The plan as indented text: the result on top, what it is made of below, with what was pushed down where.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        let lines = self.lines();
        let deepest = lines.len().saturating_sub(self.inputs.len());
        for (depth, line) in lines.iter().skip(self.inputs.len()).rev().enumerate() {
            let _ = writeln!(text, "{:indent$}{line}", "", indent = depth * 2);
        }
        // The inputs stand side by side.
        for line in lines.iter().take(self.inputs.len()) {
            let _ = writeln!(text, "{:indent$}{line}", "", indent = deepest * 2);
        }
        text
    }

    /// Stays the same while the plan computes the same from the same inputs; changes with anything that makes old state
    /// useless.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = FixedState::default().build_hasher();
        for line in self.lines() {
            hasher.write(line.as_bytes());
            hasher.write_u8(0);
        }
        hasher.write(format!("{:?}", self.stages.options).as_bytes());
        hasher.finish()
    }

    /// What the operators that keep something do, as text.
    pub(crate) fn state_texts(&self) -> StateTexts {
        let Stages { options, computed, filter, trigger, window, .. } = &*self.stages;
        let lines = self.lines();
        let line = |idx: usize| lines.get(idx).cloned().unwrap_or_default();
        let n_inputs = self.inputs.len();
        let first_computed = n_inputs + usize::from(options.event_time);
        let sources: Vec<&str> = self.inputs.iter().map(|input| input.source.as_str()).collect();
        let trigger_idx = first_computed + computed.len() + usize::from(filter.is_some());
        let window_idx = trigger_idx + usize::from(trigger.is_some());
        let window = window.as_ref().map(|window| {
            let variant = (options.event_time, options.sliding_v2, options.sliding_twice);
            let mut text = format!("{} {variant:?}", line(window_idx));
            if window.incremental {
                // Its accumulators belong to it.
                text.extend(lines.iter().filter(|line| line.starts_with("Aggregate ")).cloned());
            }
            text.push_str(&sources.join(","));
            text
        });
        StateTexts {
            watermark: options.event_time.then(|| format!("{} {}", line(n_inputs), sources.join(","))),
            trigger: trigger.as_ref().map(|_| line(trigger_idx)),
            computed: (0..computed.len()).map(|idx| line(first_computed + idx)).collect(),
            window,
        }
    }

    /// One line per stage, in the order in which rows go through them.
    fn lines(&self) -> Vec<String> {
        let Stages { inputs, options, computed, filter, trigger, window, joins, joined_filter, lookups, tail, .. } =
            &*self.stages;
        let mut lines = Vec::new();
        for (input, stage) in self.inputs.iter().zip(inputs) {
            let mut line = format!("Read {} [{}]", input.source, columns(&input.schema));
            if let Some(retain) = stage.retain {
                let _ = write!(line, " table of the last {retain} rows");
            }
            if let Some(slot) = stage.timestamp {
                let _ = write!(line, " timestamp {}", self.slot(slot));
            }
            if let Some(format) = &stage.format {
                let _ = write!(line, " format {format:?}");
            }
            if !stage.strict.is_empty() {
                line.push_str(" strict");
            }
            if let Some(filter) = &stage.filter {
                let _ = write!(line, " where {}", self.text(filter));
            }
            lines.push(line);
        }
        if options.event_time {
            let mut line = format!("Watermark tolerance {} ms", options.late_tolerance_ms);
            options.idle_timeout_ms.iter().for_each(|timeout| line.push_str(&format!(", idle after {timeout} ms")));
            lines.push(line);
        }
        for column in computed {
            lines.push(match &column.kind {
                ComputedKind::Expr(expr) => format!("Compute {} = {}", self.slot(column.slot), self.text(expr)),
                ComputedKind::Analytic(call) => {
                    let mut line = format!("Analytic {}({})", call.function.name, self.texts(&call.args));
                    if !call.partition_by.is_empty() {
                        let _ = write!(line, " partition by {}", self.texts(&call.partition_by));
                    }
                    call.when.iter().for_each(|when| line.push_str(&format!(" when {}", self.text(when))));
                    line
                }
            });
        }
        filter.iter().for_each(|filter| lines.push(format!("Filter {}", self.text(filter))));
        if let Some(trigger) = trigger {
            let times = [&trigger.start, &trigger.end, &trigger.now].map(|expr| self.text(expr)).join(", ");
            lines.push(format!("Trigger dedup_trigger({times}) expire {} ms", trigger.expire));
        }
        if let Some(window) = window {
            let mut line = match &window.kind {
                WindowKind::Time { length, hop, .. } if length == hop => format!("Tumbling window {length} ms"),
                WindowKind::Time { length, hop, .. } => format!("Hopping window {length} ms every {hop} ms"),
                WindowKind::Sliding { length, delay: 0 } => format!("Sliding window {length} ms"),
                WindowKind::Sliding { length, delay } => format!("Sliding window {length} ms, delayed {delay} ms"),
                WindowKind::Session { max_length, timeout, .. } => {
                    format!("Session window timeout {timeout} ms, cut every {max_length} ms")
                }
                WindowKind::Count { length, interval } if length == interval => format!("Count window {length} rows"),
                WindowKind::Count { length, interval } => format!("Count window {length} rows every {interval} rows"),
                WindowKind::State { begin, emit } => {
                    let emit = emit.as_ref().map(|emit| format!(" until {}", self.text(emit)));
                    format!("State window from {}{}", self.text(begin), emit.unwrap_or_default())
                }
            };
            for (word, expr) in [("filter", &window.filter), ("when", &window.when), ("where", &window.row_filter)] {
                expr.iter().for_each(|expr| line.push_str(&format!(" {word} {}", self.text(expr))));
            }
            if !window.partition_by.is_empty() {
                let _ = write!(line, " partition by {}", self.texts(&window.partition_by));
            }
            if window.incremental {
                line.push_str(" incremental");
            }
            lines.push(line);
        }
        for join in joins {
            let source = self.inputs.get(join.input).map(|input| input.source.as_str()).unwrap_or_default();
            let on = join.on.as_ref().map(|on| format!(" on {}", self.text(on)));
            lines.push(format!("{} join {source}{}", join_name(join.kind), on.unwrap_or_default()));
        }
        joined_filter.iter().for_each(|filter| lines.push(format!("Filter {}", self.text(filter))));
        for (lookup, stage) in self.lookups.iter().zip(lookups) {
            let keys: Vec<String> = lookup
                .key_columns
                .iter()
                .zip(&stage.keys)
                .map(|(name, key)| format!("{name} = {}", self.text(key)))
                .collect();
            let (kind, keys) = (join_name(lookup.kind), keys.join(", "));
            let mut line = format!("{kind} lookup {} by {keys} [{}]", lookup.table, columns(&lookup.columns));
            stage.on.iter().for_each(|on| line.push_str(&format!(" on {}", self.text(on))));
            stage.filter.iter().for_each(|filter| line.push_str(&format!(" where {}", self.text(filter))));
            lines.push(line);
        }
        if !tail.where_aggregates.is_empty() {
            lines.push(format!("Aggregate all {}", self.calls(&tail.where_aggregates)));
        }
        tail.filter.iter().for_each(|filter| lines.push(format!("Filter {}", self.text(filter))));
        if tail.aggregate || !tail.aggregates.is_empty() {
            let mut line = format!("Aggregate {}", self.calls(&tail.aggregates));
            if !tail.group_by.is_empty() {
                let _ = write!(line, " group by {}", self.texts(&tail.group_by));
            } else if !tail.aggregate {
                line.push_str(" over all, rows kept");
            }
            lines.push(line);
        }
        tail.having.iter().for_each(|having| lines.push(format!("Having {}", self.text(having))));
        for number in &tail.row_numbers {
            let partition = self.texts(&number.partition_by);
            lines.push(format!("Row number partition by [{partition}] order by [{}]", self.keys(&number.order_by)));
        }
        if !tail.order_by.is_empty() {
            lines.push(format!("Sort {}", self.keys(&tail.order_by)));
        }
        let items: Vec<String> =
            tail.items.iter().zip(&self.output.columns).map(|(item, column)| self.item(item, column)).collect();
        lines.push(format!("Project {}", items.join(", ")));
        if let Some(expand) = &tail.expand {
            lines.push(format!("Expand {} of item {}", expand.function.name, expand.item));
        }
        tail.limit.iter().for_each(|limit| lines.push(format!("Limit {limit}")));
        lines
    }

    fn item(&self, item: &Item, column: &crate::value::Column) -> String {
        let text = match &item.kind {
            ItemKind::Expr(expr) => self.text(expr),
            ItemKind::MultiColumn { call, .. } => {
                let args: Vec<String> = call.args.iter().map(|(_, arg)| self.text(arg)).collect();
                format!("{}({})", call.function.name, args.join(", "))
            }
        };
        match column.kind {
            ColumnKind::Star => text,
            ColumnKind::Hidden => format!("{text} AS {} (invisible)", column.name),
            _ if text.rsplit('.').next() == Some(&column.name) => text,
            _ => format!("{text} AS {}", column.name),
        }
    }

    fn calls(&self, calls: &[AggregateCall]) -> String {
        let texts: Vec<String> = calls.iter().map(|call| call.text(&|slot| self.slot(slot))).collect();
        texts.join(", ")
    }

    fn keys(&self, keys: &[SortKey]) -> String {
        let text = |key: &SortKey| format!("{}{}", self.text(&key.expr), if key.descending { " desc" } else { "" });
        keys.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    fn texts(&self, exprs: &[Expr]) -> String {
        exprs.iter().map(|expr| self.text(expr)).collect::<Vec<_>>().join(", ")
    }

    fn text(&self, expr: &Expr) -> String {
        expr.text(&|slot| self.slot(slot))
    }

    /// The name of a slot.
    pub(crate) fn slot(&self, slot: usize) -> String {
        match self.stages.slots.get(slot) {
            Some(SlotName { source: Some(source), name }) => format!("{source}.{name}"),
            Some(SlotName { source: None, name }) => name.to_string(),
            None => format!("slot {slot}"),
        }
    }
}

fn columns(schema: &Schema) -> String {
    let name = |column: &crate::value::Column| match column.kind {
        ColumnKind::Star => "*".to_owned(),
        ColumnKind::Meta => "meta()".to_owned(),
        ColumnKind::Field | ColumnKind::Hidden => column.name.to_string(),
    };
    schema.columns.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn join_name(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "Inner",
        JoinKind::Left => "Left",
        JoinKind::Right => "Right",
        JoinKind::Full => "Full",
        JoinKind::Cross => "Cross",
    }
}
