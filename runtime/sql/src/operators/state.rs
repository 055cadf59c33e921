//! The state of a chain as bytes, part by part, and back.
//!
//! Each operator that keeps something is a part with a name and a fingerprint: the text of what it does. A part goes back into
//! a chain whose operator of that name has the same fingerprint, whatever else has changed in the statement: rows that an
//! operator holds are moved to the slots that their columns have in the new plan.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;
use smol_str::{SmolStr, format_smolstr};

use super::chain::Chain;
use crate::function::Body;
use crate::plan::RulePlan;
use crate::plan::stages::{ComputedKind, ItemKind};
use crate::value::Row;
use crate::value::state::{STATE_VERSION, StateIo};

/// What the operators of a chain keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainState {
    /// What the slots of held rows hold.
    slots: Vec<SmolStr>,
    parts: Vec<StatePart>,
}

/// What one operator keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct StatePart {
    name: SmolStr,
    fingerprint: u64,
    bytes: Vec<u8>,
}

/// What became of a state that was put into another chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Operators that go on with what they had.
    pub kept: Vec<SmolStr>,
    /// Operators of the state that the chain does not have any more, or that do something else now.
    pub lost: Vec<SmolStr>,
    /// Operators of the chain that begin empty.
    pub fresh: Vec<SmolStr>,
}

impl ChainState {
    /// Writes or reads the whole.
    pub fn state(&mut self, io: &mut StateIo) {
        io.list(&mut self.slots, SmolStr::default, StateIo::text);
        io.list(&mut self.parts, StatePart::default, |io, part| {
            io.text(&mut part.name);
            io.uint(&mut part.fingerprint);
            io.blob(&mut part.bytes);
        });
    }

    /// Bytes of all parts.
    pub fn n_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }
}

/// Which part of a chain.
#[derive(Clone, Copy)]
enum Part {
    Watermark,
    Computed(usize),
    Table(usize),
    Trigger,
    Window,
    Functions,
}

impl Chain {
    /// What the operators keep. Call it between two steps, while no rows are on their way through lookup joins.
    pub fn save(&mut self) -> ChainState {
        let slots = slot_names(&self.plan);
        let parts = parts(&self.plan).into_iter().map(|(part, name, fingerprint)| {
            let mut io = StateIo::writer();
            self.part_state(part, &mut io);
            StatePart { name, fingerprint, bytes: io.into_bytes() }
        });
        ChainState { slots, parts: parts.collect() }
    }

    /// About how many bytes of memory the operators keep between two steps. Takes as long as [`save`](Self::save).
    pub fn state_bytes(&mut self) -> u64 {
        let mut meter = StateIo::meter();
        parts(&self.plan).into_iter().for_each(|(part, ..)| self.part_state(part, &mut meter));
        meter.measured()
    }

    /// Goes on with what another chain kept, as far as the operators are the same. Call it before the first step.
    pub fn restore(&mut self, state: &ChainState) -> Restored {
        let names = slot_names(&self.plan);
        let moves: Vec<_> = state.slots.iter().map(|old| names.iter().position(|name| name == old)).collect();
        let mut restored = Restored::default();
        for (part, name, fingerprint) in parts(&self.plan) {
            let same = |old: &&StatePart| old.name == name && old.fingerprint == fingerprint;
            let is_kept = state.parts.iter().find(same).is_some_and(|old| {
                let mut io = StateIo::reader(old.bytes.clone());
                io.move_slots(moves.clone());
                self.part_state(part, &mut io);
                if !io.is_complete() {
                    self.clear_part(part);
                }
                io.is_complete()
            });
            let list = if is_kept { &mut restored.kept } else { &mut restored.fresh };
            list.push(name);
        }
        let lost = state.parts.iter().map(|part| &part.name).filter(|name| !restored.kept.contains(name));
        restored.lost = lost.cloned().collect();
        restored
    }

    fn part_state(&mut self, part: Part, io: &mut StateIo) {
        let Chain { stages, gather, in_place, work, .. } = self;
        match part {
            Part::Watermark => {
                let places = gather.first().filter(|_| in_place.holds_batches()).map(Vec::as_slice);
                work.watermark.iter_mut().for_each(|watermark| watermark.state(places, io));
            }
            Part::Trigger => work.trigger.state(io),
            Part::Computed(idx) => {
                if let Some(ComputedKind::Analytic(call)) = stages.computed.get(idx).map(|computed| &computed.kind) {
                    work.compute.state(idx, call, io);
                }
            }
            Part::Table(input) => {
                if let Some(table) = work.tables.get_mut(input) {
                    io.queue(table, Row::default, StateIo::row);
                }
            }
            Part::Window => work.window.iter_mut().for_each(|window| window.state(stages, io)),
            Part::Functions => {
                work.states.iter_mut().for_each(|function| function.state(io));
                work.multi_columns.iter_mut().for_each(|function| function.state(io));
            }
        }
    }

    /// Takes back what damaged bytes have left in an operator.
    fn clear_part(&mut self, part: Part) {
        let fresh = Chain::new(&self.plan, &self.gather).work;
        let work = &mut self.work;
        match part {
            Part::Watermark => work.watermark = fresh.watermark,
            Part::Computed(_) => work.compute = fresh.compute,
            Part::Table(_) => work.tables = fresh.tables,
            Part::Trigger => work.trigger = fresh.trigger,
            Part::Window => work.window = fresh.window,
            Part::Functions => {
                work.states = fresh.states;
                work.multi_columns = fresh.multi_columns;
            }
        }
    }
}

fn slot_names(plan: &RulePlan) -> Vec<SmolStr> {
    let name = |slot: usize| format_smolstr!("{}", plan.slot(slot));
    (0..plan.stages.slots.len()).map(name).collect()
}

/// The parts that keep something, with their names and what they do.
fn parts(plan: &RulePlan) -> Vec<(Part, SmolStr, u64)> {
    let stages = &*plan.stages;
    let texts = plan.state_texts();
    let mut parts = Vec::new();
    let mut add = |part, name: SmolStr, text: &str| parts.push((part, name, hash(text)));
    if let Some(text) = &texts.watermark {
        add(Part::Watermark, "watermark".into(), text);
    }
    let mut seen: Vec<&str> = Vec::new();
    for (idx, (computed, text)) in stages.computed.iter().zip(&texts.computed).enumerate() {
        if let ComputedKind::Analytic(call) = &computed.kind {
            // Calls that read the same are told apart by their order.
            let n_before = seen.iter().filter(|seen| *seen == text).count();
            seen.push(text);
            add(Part::Computed(idx), format_smolstr!("{}", call.function.name), &format!("{text} {n_before}"));
        }
    }
    for (idx, (input, stage)) in plan.inputs.iter().zip(&stages.inputs).enumerate() {
        if stage.retain.is_some() {
            add(Part::Table(idx), format_smolstr!("table {}", input.source), &format!("{}", input.source));
        }
    }
    if let Some(text) = &texts.trigger {
        add(Part::Trigger, "dedup_trigger".into(), text);
    }
    if let Some(text) = &texts.window {
        add(Part::Window, "window".into(), text);
    }
    let keeps = stages.states.iter().any(|function| matches!(function.body, Body::Stateful(_)))
        || stages.tail.items.iter().any(|item| matches!(item.kind, ItemKind::MultiColumn { .. }));
    if keeps {
        // These are known by their place in the statement only.
        add(Part::Functions, "functions".into(), &format!("{:x}", plan.fingerprint()));
    }
    parts
}

fn hash(text: &str) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write_u32(STATE_VERSION);
    hasher.write(text.as_bytes());
    hasher.finish()
}
