//! The chain: a plan that runs.

use std::collections::VecDeque;
use std::sync::Arc;

use super::compute::Compute;
use super::lookup::{self, LookupAnswer, LookupRequest};
use super::output::{Layout, Output, Run};
use super::trigger::DedupTrigger;
use super::watermark::{Passed, Watermark};
use super::window::{Fired, Window};
use super::{input, join, tail};
use crate::expr::{Fields, RuleContext};
use crate::function::{Body, MultiColumnFunction, StatefulFunction};
use crate::plan::RulePlan;
use crate::plan::stages::{InputStage, ItemKind, Stages, WindowKind};
use crate::value::{Batch, Emissions, Row, Schema, Timestamp, Value, WindowRange};

/// A plan that runs: all operators of one rule with their state.
///
/// Rows go in with [`push`](Self::push), time with [`tick`](Self::tick). What comes out is final if the plan has no lookups;
/// else it is the input of lookup join 0: ask [`lookup_keys`](Self::lookup_keys), fetch, call
/// [`lookup_join`](Self::lookup_join), whose output is the input of the next lookup join, or final after the last.
pub struct Chain {
    pub(super) plan: RulePlan,
    /// The plan's own stages; or a copy whose first expressions read rows as they come, if those have another layout.
    pub(super) stages: Arc<Stages>,
    /// Per input: where each of its slots is in the rows that are pushed.
    pub(super) gather: Vec<Vec<usize>>,
    /// What can be done with rows where they are, before they are copied.
    pub(super) in_place: InPlace,
    /// The schema of rows between lookups.
    wide: Arc<Schema>,
    pub(super) work: Work,
}

/// How far rows get without being copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InPlace {
    /// Not at all: they are merged, held back or extended first.
    Nothing,
    /// Through `WHERE`.
    Filter,
    /// Through `WHERE` and into the accumulators of the window.
    Accumulate,
    /// Through `WHERE` and the select list: only results are made.
    Project,
}

impl InPlace {
    /// True if rows that are held back stay in their batches.
    pub fn holds_batches(self) -> bool {
        self != InPlace::Nothing
    }
}

/// The state of a chain.
pub(super) struct Work {
    pub(super) states: Vec<Box<dyn StatefulFunction>>,
    pub(super) multi_columns: Vec<Box<dyn MultiColumnFunction>>,
    pub(super) watermark: Option<Watermark>,
    pub(super) compute: Compute,
    pub(super) trigger: DedupTrigger,
    pub(super) window: Option<Window>,
    /// The rows of scan tables, by input.
    pub(super) tables: Vec<VecDeque<Row>>,
    ended: Vec<bool>,
    flushed: bool,
    /// Places of rows in the batch at hand; kept for its room.
    selected: Vec<u32>,
}

impl Chain {
    /// Makes a plan ready to run. `slots[input][i]` is the place, in the rows that will be pushed, of slot `i` of
    /// `plan.inputs[input].schema`: a shared stream's rows hold the union of what its rules read.
    pub fn new(plan: &RulePlan, slots: &[Vec<usize>]) -> Self {
        let mut stages = Arc::clone(&plan.stages);
        let in_place = in_place(&stages);
        let moved = slots.first().filter(|slots| slots.iter().enumerate().any(|(slot, place)| slot != *place));
        if let Some(places) = moved.filter(|_| in_place != InPlace::Nothing) {
            let stages = Arc::make_mut(&mut stages);
            let map = |slot: usize| places.get(slot).copied().unwrap_or(slot);
            match in_place {
                InPlace::Accumulate => stages.map_accumulation(&map),
                InPlace::Project => stages.map_items(&map),
                InPlace::Filter | InPlace::Nothing => {}
            }
            stages.filter.iter_mut().for_each(|filter| filter.map_slots(&map));
            stages.inputs.iter_mut().for_each(|input| input.timestamp = input.timestamp.map(map));
        }
        let window = stages.window.as_ref().map(|window| Window::new(window, &stages.options));
        let watermark = stages.options.event_time.then(|| {
            let counts: Vec<bool> = stages.inputs.iter().map(|input| input.retain.is_none()).collect();
            Watermark::new(stages.options.late_tolerance_ms, stages.options.idle_timeout_ms, &counts)
        });
        let states = stages.states.iter().filter_map(|function| match &function.body {
            Body::Stateful(new) => Some(new()),
            Body::External(external) => Some(external.start()),
            _ => None,
        });
        let multi_columns = stages.tail.items.iter().filter_map(|item| match &item.kind {
            ItemKind::MultiColumn { call, .. } => match call.function.body {
                Body::MultiColumn(new) => Some(new()),
                _ => None,
            },
            ItemKind::Expr(_) => None,
        });
        let work = Work {
            states: states.collect(),
            multi_columns: multi_columns.collect(),
            watermark,
            compute: Compute::new(&stages.computed),
            trigger: DedupTrigger::default(),
            window,
            tables: stages.inputs.iter().map(|_| VecDeque::new()).collect(),
            ended: vec![false; stages.inputs.len()],
            flushed: false,
            selected: Vec::new(),
        };
        let wide = plan.inputs.iter().flat_map(|input| input.schema.columns.iter().cloned()).collect();
        Chain {
            plan: plan.clone(),
            stages,
            gather: slots.to_vec(),
            in_place,
            wide: Arc::new(Schema { columns: wide }),
            work,
        }
    }

    /// The plan that this runs.
    pub fn plan(&self) -> &RulePlan {
        &self.plan
    }

    /// Takes rows of input `input`, in order of arrival, and appends what they cause to `out`. Failures and late rows are
    /// counted in `ctx.report`.
    pub fn push(&mut self, input: usize, batch: Arc<Batch>, ctx: &mut RuleContext, out: &mut Vec<Batch>) {
        let mut output = Output::default();
        let Chain { stages, gather, in_place, wide, work, .. } = self;
        let (Some(stage), Some(gather)) = (stages.inputs.get(input), gather.get(input)) else { return };
        let mut flow = work.flow(stages, wide, ctx, &mut output);
        let place = Place { in_place: *in_place, gather };
        match (*in_place, &mut flow.watermark) {
            (InPlace::Nothing, _) => {
                for row in &batch.rows {
                    flow.row_in(input, stage, Row { ts: row.ts, values: gathered(row, gather, stage.first_slot) });
                }
            }
            (_, Some(watermark)) => {
                watermark.begin_batch(&batch);
                let mut moved = None;
                for (row_idx, row) in batch.rows.iter().enumerate() {
                    flow.row_in_place_in_time(row_idx, row, stage, place, &mut moved);
                }
                flow.pass(moved, place);
            }
            (InPlace::Filter, None) if place.is_whole() => match Arc::try_unwrap(batch) {
                // Nobody else reads these rows.
                Ok(batch) => batch.rows.into_iter().for_each(|row| flow.own_row_in_place(row, place)),
                Err(batch) => batch.rows.iter().for_each(|row| flow.row_in_place(row, row.ts, place)),
            },
            (InPlace::Project, None) => flow.rows_in_place(&batch.rows, place),
            (_, None) => batch.rows.iter().for_each(|row| flow.row_in_place(row, row.ts, place)),
        }
        self.finish(output, out);
    }

    /// The clock has moved to `ctx.now`: processing-time windows may close. Call at or after [`next_timer`](Self::next_timer).
    pub fn tick(&mut self, ctx: &mut RuleContext, out: &mut Vec<Batch>) {
        let mut output = Output::default();
        let now = ctx.now;
        let place = Place::first(self.in_place, &self.gather);
        let mut flow = self.work.flow(&self.stages, &self.wide, ctx, &mut output);
        flow.advance_trigger(now);
        match flow.watermark {
            Some(watermark) => {
                watermark.check_idle(now);
                flow.advance_watermark(place);
            }
            None => flow.advance_window(now),
        }
        self.finish(output, out);
    }

    /// See [`RulePlan::is_slow`].
    pub fn is_slow(&self) -> bool {
        self.plan.is_slow()
    }

    /// When `tick` is wanted next; `None` while no timer runs.
    pub fn next_timer(&self) -> Option<Timestamp> {
        match (&self.work.watermark, &self.work.window) {
            (Some(watermark), _) => watermark.next_timer().into_iter().chain(self.work.trigger.next_timer()).min(),
            (None, Some(window)) => window.next_timer(),
            (None, None) => self.work.trigger.next_timer(),
        }
    }

    /// Nothing older than `watermark` comes any more: moves event time on by itself, without a row.
    pub fn advance_watermark(&mut self, watermark: Timestamp, ctx: &mut RuleContext, out: &mut Vec<Batch>) {
        let mut output = Output::default();
        let place = Place::first(self.in_place, &self.gather);
        let mut flow = self.work.flow(&self.stages, &self.wide, ctx, &mut output);
        if let Some(watermark) = flow.watermark.as_mut().and_then(|own| own.move_to(watermark)) {
            flow.release(place);
            flow.advance_window(watermark);
        }
        self.finish(output, out);
    }

    /// Input `input` has ended. After the last one, open windows are flushed unless the rule says otherwise.
    pub fn end_input(&mut self, input: usize, ctx: &mut RuleContext, out: &mut Vec<Batch>) {
        if let Some(ended) = self.work.ended.get_mut(input) {
            *ended = true;
        }
        let inputs = self.work.ended.iter().zip(&self.stages.inputs);
        let all_ended = inputs.into_iter().all(|(ended, input)| *ended || input.retain.is_some());
        let flushes = all_ended && self.stages.options.flush_at_end && !self.work.flushed;
        self.work.flushed |= flushes;
        let mut output = Output::default();
        let place = Place::first(self.in_place, &self.gather);
        let mut flow = self.work.flow(&self.stages, &self.wide, ctx, &mut output);
        if let Some(watermark) = flow.watermark {
            watermark.end_input(input);
            flow.advance_watermark(place);
        }
        if flushes {
            flow.flush(place);
        }
        self.finish(output, out);
    }

    /// The distinct keys that lookup join `lookup` needs for these rows.
    pub fn lookup_keys(&mut self, lookup: usize, batch: &Batch, ctx: &mut RuleContext) -> LookupRequest {
        let mut output = Output::default();
        let Some(stage) = self.stages.lookups.get(lookup) else { return LookupRequest::default() };
        let mut flow = self.work.flow(&self.stages, &self.wide, ctx, &mut output);
        lookup::keys(stage, &batch.rows, &mut flow.run)
    }

    /// Joins the rows with what was found. `answers[i]` belongs to `request.keys[i]`.
    pub fn lookup_join(
        &mut self,
        lookup: usize,
        batch: Batch,
        request: &LookupRequest,
        answers: &[LookupAnswer],
        ctx: &mut RuleContext,
        out: &mut Vec<Batch>,
    ) {
        let Some(stage) = self.stages.lookups.get(lookup) else { return };
        let is_last = lookup + 1 == self.stages.lookups.len();
        let mut output = Output::default();
        let mut flow = self.work.flow(&self.stages, &self.wide, ctx, &mut output);
        let Batch { rows, emissions, .. } = batch;
        let n_rows = rows.len();
        let mut rows = rows.into_iter().zip(&request.row_keys);
        let mut row_idx = 0;
        let only_projects = is_last && self.stages.tail.only_projects() && self.stages.tail.order_by.is_empty();
        let mut joined = Vec::new();
        let mut group = |end: usize, window: Option<WindowRange>, flow: &mut Flow<'_>| {
            let rows = rows.by_ref().take(end.saturating_sub(std::mem::replace(&mut row_idx, end)));
            let answered = rows.map(|(row, key)| (row, key.and_then(|key| answers.get(key as usize))));
            if only_projects {
                let before = flow.run.out.n_rows();
                for (row, answer) in answered {
                    lookup::project_joined(stage, row, answer, window, &mut flow.run);
                }
                if flow.run.out.n_rows() > before {
                    flow.run.out.close(window);
                }
                return;
            }
            for (row, answer) in answered {
                lookup::join_row(stage, row, answer, &mut flow.run, &mut joined);
            }
            if let Some(filter) = &stage.filter {
                joined.retain(|row| flow.run.test(filter, row));
            }
            if joined.is_empty() {
                return;
            }
            if is_last {
                tail::collection(std::mem::take(&mut joined), window, &mut flow.run);
            } else {
                joined.drain(..).for_each(|row| flow.run.out.push(row));
                flow.run.out.close(window);
            }
        };
        match emissions {
            Emissions::PerRow => {
                flow.run.out.reserve(n_rows);
                (1..=n_rows).for_each(|end| group(end, None, &mut flow));
            }
            Emissions::Grouped(emissions) => {
                for emission in emissions {
                    match emission.error {
                        Some(error) => flow.run.out.error(error),
                        None => group(emission.end, emission.window, &mut flow),
                    }
                }
            }
        }
        let schema = if is_last { &self.plan.output } else { &self.wide };
        out.extend(output.finish(schema));
    }

    fn finish(&self, output: Output, out: &mut Vec<Batch>) {
        let schema = if self.stages.lookups.is_empty() { &self.plan.output } else { &self.wide };
        out.extend(output.finish(schema));
    }
}

/// Decides how far rows get without being copied.
fn in_place(stages: &Stages) -> InPlace {
    let [input] = stages.inputs.as_slice() else { return InPlace::Nothing };
    let plain = stages.computed.is_empty()
        && stages.joins.is_empty()
        && input.strict.is_empty()
        && input.filter.is_none()
        && stages.joined_filter.is_none();
    if !plain {
        return InPlace::Nothing;
    }
    let only_projects = stages.tail.only_projects() && stages.trigger.is_none() && stages.lookups.is_empty();
    match &stages.window {
        Some(window) if window.incremental && matches!(window.kind, WindowKind::Time { .. }) => InPlace::Accumulate,
        None if only_projects => InPlace::Project,
        // What is held back anyway is copied sooner or later.
        _ if stages.options.event_time => InPlace::Nothing,
        _ => InPlace::Filter,
    }
}

/// The slots of an input from a row as it was pushed, behind room for the inputs before it.
fn gathered(row: &Row, gather: &[usize], first_slot: usize) -> Vec<Value> {
    let mut values = Vec::with_capacity(first_slot + gather.len());
    values.resize(first_slot, Value::Missing);
    values.extend(gather.iter().map(|slot| row.get(*slot).clone()));
    values
}

impl Work {
    /// The state with its surroundings, ready to take rows.
    fn flow<'a>(
        &'a mut self,
        stages: &'a Stages,
        wide: &'a Schema,
        rule: &'a mut RuleContext,
        out: &'a mut Output,
    ) -> Flow<'a> {
        let Work { states, multi_columns, watermark, compute, trigger, window, tables, selected, .. } = self;
        let layout = Layout { columns: wide, places: None };
        let run = Run { stages, states, multi_columns, rule, out, layout };
        Flow { run, watermark, compute, trigger, window, tables, selected }
    }
}

/// Rows on their way through the stages.
struct Flow<'a> {
    run: Run<'a>,
    watermark: &'a mut Option<Watermark>,
    compute: &'a mut Compute,
    trigger: &'a mut DedupTrigger,
    window: &'a mut Option<Window>,
    tables: &'a mut [VecDeque<Row>],
    selected: &'a mut Vec<u32>,
}

/// What can be done with rows where they are, and where their slots are there.
#[derive(Clone, Copy)]
struct Place<'a> {
    in_place: InPlace,
    gather: &'a [usize],
}

impl<'a> Place<'a> {
    /// That of the only input.
    fn first(in_place: InPlace, gather: &'a [Vec<usize>]) -> Self {
        Place { in_place, gather: gather.first().map_or(&[], Vec::as_slice) }
    }

    /// True if rows begin with all slots in their order.
    fn is_whole(self) -> bool {
        self.gather.iter().enumerate().all(|(slot, place)| slot == *place)
    }
}

impl<'a> Flow<'a> {
    /// A row of the only input, where it is; its time is `ts`.
    fn row_in_place(&mut self, row: &Row, ts: Timestamp, place: Place<'a>) {
        let stages = self.run.stages;
        let Place { in_place, gather } = place;
        if in_place == InPlace::Accumulate
            && let Some(window) = self.window
        {
            let mut fired = Vec::new();
            window.advance_to_row(ts, &mut self.run, &mut fired);
            if !fired.is_empty() {
                self.fire(fired);
            }
        }
        self.run.layout.places = Some(gather);
        let passes = stages.filter.as_ref().is_none_or(|filter| self.run.test_at(filter, row, ts));
        match in_place {
            _ if !passes => {}
            InPlace::Project => self.project(row, ts),
            InPlace::Accumulate => {
                if let Some(window) = self.window {
                    let first = || Row { ts, values: gathered(row, gather, 0) };
                    window.accumulate(row, ts, first, &mut self.run);
                }
            }
            InPlace::Filter | InPlace::Nothing => {
                self.run.layout.places = None;
                self.enter(0, Row { ts, values: gathered(row, gather, 0) });
            }
        }
        self.run.layout.places = None;
    }

    /// Rows of the only input, where they are, that only go through `WHERE` and the select list.
    fn rows_in_place(&mut self, rows: &[Row], place: Place<'a>) {
        match &self.run.stages.filter {
            Some(filter) if filter.select(rows, self.selected) => {
                self.run.layout.places = Some(place.gather);
                self.run.out.reserve(self.selected.len());
                let selected = std::mem::take(self.selected);
                for row in selected.iter().map(|row_idx| &rows[*row_idx as usize]) {
                    self.project(row, row.ts);
                }
                *self.selected = selected;
                self.run.layout.places = None;
            }
            _ => rows.iter().for_each(|row| self.row_in_place(row, row.ts, place)),
        }
    }

    /// The result of a row that only goes through the select list.
    fn project(&mut self, row: &Row, ts: Timestamp) {
        match tail::project(Fields::of(row), ts, None, &mut self.run) {
            Ok(result) => {
                self.run.out.push(result);
                self.run.out.close(None);
            }
            Err(failure) => self.run.fail(&failure, Some(row)),
        }
    }

    /// As [`row_in_place`](Self::row_in_place), for a row that nobody else reads and that has all slots in their order.
    fn own_row_in_place(&mut self, mut row: Row, place: Place<'a>) {
        let filter = &self.run.stages.filter;
        row.values.truncate(place.gather.len());
        if filter.as_ref().is_none_or(|filter| self.run.test(filter, &row)) {
            self.enter(0, row);
        }
    }

    /// A row of the only input, where it is, that waits for the watermark. `moved` is where that has come to since
    /// [`pass`](Self::pass).
    fn row_in_place_in_time(
        &mut self,
        row_idx: usize,
        row: &Row,
        stage: &InputStage,
        place: Place<'a>,
        moved: &mut Option<Timestamp>,
    ) {
        let max_ahead = self.run.stages.options.max_ahead_ms;
        let (now, rule) = (self.run.rule.now, &*self.run.rule);
        let time = input::event_time(stage, row, max_ahead, rule);
        if let (Ok(ts), Some(watermark)) = (&time, self.watermark.as_mut())
            && watermark.insert_in_place(row_idx, *ts, now)
        {
            *moved = watermark.advance().or(*moved);
            return;
        }
        // What is said of this row stands behind the results of those before it.
        self.pass(moved.take(), place);
        self.run.layout.places = Some(place.gather);
        match time {
            Ok(ts) => self.run.late(row, ts),
            Err(error) => self.run.bad_timestamp(error.to_string().into(), row),
        }
        self.run.layout.places = None;
    }

    /// A row of any input, as it arrives.
    fn row_in(&mut self, input: usize, stage: &InputStage, mut row: Row) {
        if let Err(error) = input::validate(stage, &mut row, self.run.rule) {
            return self.run.fail_with(error.to_string().into(), Some(&row));
        }
        if let Some(retain) = stage.retain {
            if let Some(table) = self.tables.get_mut(input) {
                table.push_back(row);
                let n_old = table.len().saturating_sub(retain);
                table.drain(..n_old);
            }
            return;
        }
        let Some(watermark) = self.watermark else { return self.row(input, row) };
        match input::event_time(stage, &row, self.run.stages.options.max_ahead_ms, self.run.rule) {
            Ok(ts) => row.ts = ts,
            Err(error) => return self.run.bad_timestamp(error.to_string().into(), &row),
        }
        if let Some(late) = watermark.insert(input, row, self.run.rule.now) {
            self.run.late(&late, late.ts);
        }
        self.advance_watermark(Place { in_place: InPlace::Nothing, gather: &[] });
    }

    /// Moves the watermark as far as it can come.
    fn advance_watermark(&mut self, place: Place<'a>) {
        let moved = self.watermark.as_mut().and_then(Watermark::advance);
        self.pass(moved, place);
    }

    /// Lets out what the watermark has passed on its way to here, then tells the window.
    fn pass(&mut self, moved: Option<Timestamp>, place: Place<'a>) {
        if let Some(watermark) = moved {
            self.release(place);
            self.advance_window(watermark);
        }
    }

    fn release(&mut self, place: Place<'a>) {
        let mut batch = None;
        while let Some(passed) = self.watermark.as_mut().and_then(|watermark| watermark.pop(&mut batch)) {
            match passed {
                Passed::Own(input, row) => self.row(input, row),
                Passed::In(ts, row_idx) => {
                    if let Some(row) = batch.as_ref().and_then(|(_, batch)| batch.rows.get(row_idx)) {
                        self.row_in_place(row, ts, place);
                    }
                }
            }
        }
    }

    /// A row in its order: computed columns, `WHERE`, window.
    fn row(&mut self, input: usize, mut row: Row) {
        let stages = self.run.stages;
        if let Err(failure) = self.compute.add(&stages.computed, &mut row, &mut self.run) {
            return self.run.fail(&failure, Some(&row));
        }
        let filters =
            stages.inputs.get(input).and_then(|input| input.filter.as_ref()).into_iter().chain(&stages.filter);
        for filter in filters {
            if !self.run.test(filter, &row) {
                return;
            }
        }
        self.enter(input, row);
    }

    /// A row that counts: into the window, or on as a collection of one.
    fn enter(&mut self, input: usize, row: Row) {
        let stages = self.run.stages;
        if let Some(stage) = &stages.trigger {
            let mut released = Vec::new();
            self.trigger.insert(stage, row, &mut self.run, &mut released);
            return released.into_iter().for_each(|row| self.collection(vec![(input, row)], None));
        }
        match self.window {
            None if !stages.lookups.is_empty() && stages.joins.is_empty() && stages.joined_filter.is_none() => {
                self.run.out.push(row);
                self.run.out.close(None);
            }
            None => self.collection(vec![(input, row)], None),
            Some(window) => {
                let mut fired = Vec::new();
                window.insert(input, row, &mut self.run, &mut fired);
                self.fire(fired);
            }
        }
    }

    fn advance_trigger(&mut self, clock: Timestamp) {
        let stages = self.run.stages;
        if let Some(stage) = &stages.trigger {
            let mut released = Vec::new();
            self.trigger.advance(stage, clock, &mut released);
            released.into_iter().for_each(|row| self.collection(vec![(0, row)], None));
        }
    }

    fn advance_window(&mut self, time: Timestamp) {
        if let Some(window) = self.window {
            let mut fired = Vec::new();
            window.advance(time, &mut self.run, &mut fired);
            self.fire(fired);
        }
    }

    /// The end of all input: everything that is still open comes out.
    fn flush(&mut self, place: Place<'a>) {
        if let Some(watermark) = self.watermark {
            watermark.finish();
            self.release(place);
        }
        let stages = self.run.stages;
        if let Some(stage) = &stages.trigger {
            let mut released = Vec::new();
            self.trigger.flush(stage, &mut released);
            released.into_iter().for_each(|row| self.collection(vec![(0, row)], None));
        }
        if let Some(window) = self.window {
            let mut fired = Vec::new();
            window.flush(&mut self.run, &mut fired);
            self.fire(fired);
        }
    }

    fn fire(&mut self, fired: Vec<Fired>) {
        let filters = self.run.stages.window.as_ref().is_some_and(|window| window.row_filter.is_some());
        for fired in fired {
            match fired {
                Fired::Rows(rows, range) => self.collection(rows, Some(range)),
                // Left empty by `WHERE`, which counts as being behind the window.
                Fired::Groups(groups, _) if groups.is_empty() && filters => {}
                Fired::Groups(groups, range) => tail::groups(groups, range.trigger, Some(range), &mut self.run),
            }
        }
    }

    /// A collection: joins, what `WHERE` says of joined rows, then the tail or the first lookup.
    fn collection(&mut self, rows: Vec<(usize, Row)>, window: Option<WindowRange>) {
        let stages = self.run.stages;
        let mut rows = if stages.joins.is_empty() {
            rows.into_iter().map(|(_, row)| row).collect()
        } else {
            self.joined(rows, window)
        };
        if let Some(filter) = &stages.joined_filter {
            rows.retain(|row| self.run.test(filter, row));
        }
        if rows.is_empty() && (!stages.joins.is_empty() || stages.joined_filter.is_some() || !stages.lookups.is_empty())
        {
            return;
        }
        if stages.lookups.is_empty() {
            return tail::collection(rows, window, &mut self.run);
        }
        rows.into_iter().for_each(|row| self.run.out.push(row));
        self.run.out.close(window);
    }

    fn joined(&mut self, rows: Vec<(usize, Row)>, window: Option<WindowRange>) -> Vec<Row> {
        let stages = self.run.stages;
        let ts = window.map_or_else(|| rows.first().map_or(0, |(_, row)| row.ts), |window| window.trigger);
        let mut sides: Vec<Vec<Row>> = self.tables.iter().map(|table| table.iter().cloned().collect()).collect();
        for (input, row) in rows {
            if let Some(side) = sides.get_mut(input) {
                side.push(row);
            }
        }
        let mut left = sides.first_mut().map(std::mem::take).unwrap_or_default();
        for stage in &stages.joins {
            let (Some(input), Some(right)) = (stages.inputs.get(stage.input), sides.get(stage.input)) else { continue };
            left = join::join(stage, input, left, right, ts, &mut self.run);
        }
        left
    }
}
