//! State windows: opened and closed by conditions on rows.

use super::{Fired, Held};
use crate::expr::{Fields, eval_args};
use crate::operators::aggregate::ByKey;
use crate::operators::output::Run;
use crate::plan::stages::WindowKind;
use crate::value::state::StateIo;
use crate::value::{Row, WindowRange};

/// State windows, one per partition. A partition without an open window holds nothing.
#[derive(Default)]
pub(in crate::operators) struct StateWindow {
    partitions: ByKey<Vec<Held>>,
}

impl StateWindow {
    /// Writes or reads the open windows.
    pub fn state(&mut self, io: &mut StateIo) {
        self.partitions.state(io, Vec::new, |io, held| io.list(held, Default::default, StateIo::held));
    }

    pub fn insert(&mut self, input: usize, row: Row, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        let stages = run.stages;
        let Some(stage) = &stages.window else { return };
        let WindowKind::State { begin, emit } = &stage.kind else { return };
        let key = match eval_args(&stage.partition_by, Fields::of(&row), &mut run.scope(row.ts, None)) {
            Ok(key) => key,
            Err(failure) => return run.fail(&failure, Some(&row)),
        };
        let held = self.partitions.get_or_insert_with(&key, Vec::new);
        let ts = row.ts;
        let range = |held: &[Held]| {
            let start = held.first().map_or(ts, |(_, first)| first.ts);
            WindowRange { start, end: ts, trigger: ts }
        };
        if held.is_empty() {
            if run.test_quietly(begin, &row) {
                held.push((input, row));
            }
            return;
        }
        match emit {
            Some(emit) => {
                let closes = run.test_quietly(emit, &row);
                held.push((input, row));
                if closes {
                    let range = range(held);
                    fired.push(Fired::Rows(std::mem::take(held), range));
                }
            }
            None => {
                if run.test_quietly(begin, &row) {
                    let range = range(held);
                    fired.push(Fired::Rows(std::mem::take(held), range));
                }
                held.push((input, row));
            }
        }
    }
}
