//! The place of every slot in the row.

use std::sync::Arc;

use super::select::Planner;
use super::sources::Origin;
use super::stages::{SlotName, Stages};
use super::{InputPlan, LookupPlan, RulePlan};
use crate::value::{Column, ColumnKind, Schema};

impl<'a> Planner<'a> {
    /// Gives every slot its place in the row.
    pub(super) fn layout(&mut self, mut stages: Stages, mut lookups: Vec<LookupPlan>, output: Arc<Schema>) -> RulePlan {
        let columns = &self.binder.columns;
        let mut by_place: Vec<usize> = (0..columns.len()).collect();
        by_place.sort_by_key(|id| columns[*id].origin);
        let mut place = vec![0; columns.len()];
        for (slot, id) in by_place.iter().enumerate() {
            place[*id] = slot;
        }
        let range = |origin: Origin| {
            let first = by_place.iter().position(|id| columns[*id].origin >= origin).unwrap_or(by_place.len());
            let schema: Vec<Column> = by_place
                .iter()
                .map(|id| &columns[*id])
                .filter(|column| column.origin == origin)
                .map(|column| Column { name: column.name.clone(), kind: column.kind, ty: column.ty.clone() })
                .collect();
            (first, schema.len(), Arc::new(Schema { columns: schema }))
        };
        let mut inputs = Vec::new();
        let names = self.binder.sources.iter().filter(|source| !source.is_lookup()).map(|source| source.name.clone());
        for ((input_idx, stage), source) in stages.inputs.iter_mut().enumerate().zip(names) {
            let (first_slot, n_slots, schema) = range(Origin::Input(input_idx));
            (stage.first_slot, stage.n_slots) = (first_slot, n_slots);
            inputs.push(InputPlan { source, schema });
        }
        for (lookup_idx, (stage, plan)) in stages.lookups.iter_mut().zip(&mut lookups).enumerate() {
            let (first_slot, n_slots, schema) = range(Origin::Lookup(lookup_idx));
            (stage.first_slot, stage.n_slots) = (first_slot, n_slots);
            plan.columns = schema;
        }
        stages.map_slots(&|id| place.get(id).copied().unwrap_or(id));
        stages.slots = by_place
            .iter()
            .map(|id| {
                let column = &columns[*id];
                let source = match column.origin {
                    Origin::Input(input_idx) => inputs.get(input_idx).map(|input| input.source.clone()),
                    Origin::Lookup(lookup_idx) => lookups.get(lookup_idx).map(|lookup| lookup.table.clone()),
                    _ => None,
                };
                let name = match column.kind {
                    ColumnKind::Star => "*".into(),
                    ColumnKind::Meta => "meta()".into(),
                    _ => column.name.clone(),
                };
                SlotName { source, name }
            })
            .collect();
        RulePlan { inputs, lookups, output, stages: Arc::new(stages) }
    }
}
