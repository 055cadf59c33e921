//! State windows: opened and closed by conditions on rows.

use super::Fired;
use super::content::Content;
use crate::expr::{Fields, eval_args};
use crate::operators::aggregate::ByKey;
use crate::operators::output::Run;
use crate::plan::stages::{AggregateCall, WindowKind};
use crate::value::state::StateIo;
use crate::value::{Row, WindowRange};

/// State windows, one per partition. A partition without an open window holds nothing.
pub(in crate::operators) struct StateWindow {
    incremental: bool,
    partitions: ByKey<Content>,
}

impl StateWindow {
    pub fn new(incremental: bool) -> Self {
        StateWindow { incremental, partitions: ByKey::default() }
    }

    /// Writes or reads the open windows.
    pub fn state(&mut self, calls: &[AggregateCall], io: &mut StateIo) {
        let new = || Content::new(self.incremental);
        self.partitions.state(io, new, |io, content| content.state(calls, io));
    }

    pub fn insert(&mut self, input: usize, row: Row, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        let stages = run.stages;
        let Some(stage) = &stages.window else { return };
        let WindowKind::State { begin, emit } = &stage.kind else { return };
        let key = match eval_args(&stage.partition_by, Fields::of(&row), &mut run.scope(row.ts, None)) {
            Ok(key) => key,
            Err(failure) => return run.fail(&failure, Some(&row)),
        };
        let content = self.partitions.get_or_insert_with(&key, || Content::new(self.incremental));
        let Some(start) = content.first() else {
            if run.test_quietly(begin, &row) {
                content.add(input, row, run);
            }
            return;
        };
        let range = WindowRange { start, end: row.ts, trigger: row.ts };
        match emit {
            Some(emit) => {
                let closes = run.test_quietly(emit, &row);
                content.add(input, row, run);
                if closes {
                    fired.push(content.take(range));
                }
            }
            None => {
                if run.test_quietly(begin, &row) {
                    fired.push(content.take(range));
                }
                content.add(input, row, run);
            }
        }
    }
}
