//! Lookup joins: which keys a batch needs, and what becomes of its rows with the answers.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashMap;

use super::output::Run;
use crate::expr::{Fields, eval_args};
use crate::plan::stages::LookupStage;
use crate::value::{Row, Value};

/// The keys that a batch needs from a lookup table.
#[derive(Clone, Debug, Default)]
pub struct LookupRequest {
    /// Each once, without nulls, in order of first appearance.
    pub keys: Vec<LookupKey>,
    /// For each row of the batch its key's index; `None` where a key value is null, which matches nothing.
    pub row_keys: Vec<Option<u32>>,
}

/// What the lookup table answered for a key.
#[derive(Clone, Debug)]
pub enum LookupAnswer {
    /// The matching rows, with one value per slot of `LookupPlan::columns`; none is a miss.
    Rows(Arc<Vec<Row>>),
    /// The table could not be asked and the policy is `drop`: rows with this key go no further. Whoever answers so counts
    /// them.
    Drop,
    /// The table could not be asked and the policy is `null`: the row goes on without the table's columns, also in an
    /// inner join.
    Null,
}

/// The values of a lookup join's key columns. Numbers are equal by value whatever their kind (`5` is `5.0`); the text `"5"` is
/// another key.
#[derive(Clone, Debug)]
pub struct LookupKey(pub Box<[Value]>);

impl PartialEq for LookupKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a.same_key(b))
    }
}

impl Eq for LookupKey {}

impl Hash for LookupKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for value in &self.0 {
            value.hash_key(state);
        }
    }
}

/// The distinct keys of rows. A key that can't be computed is reported and matches nothing.
pub(super) fn keys(stage: &LookupStage, rows: &[Row], run: &mut Run<'_>) -> LookupRequest {
    let mut request = LookupRequest::default();
    let mut known: HashMap<LookupKey, u32, foldhash::fast::RandomState> = HashMap::default();
    for row in rows {
        let values = match eval_args(&stage.keys, Fields::of(row), &mut run.scope(row.ts, None)) {
            Ok(values) if values.iter().any(Value::is_null) => None,
            Ok(values) => Some(values),
            Err(failure) => {
                run.fail(&failure);
                None
            }
        };
        request.row_keys.push(values.map(|values| {
            let key = LookupKey(values.to_vec().into());
            let next = request.keys.len() as u32;
            *known.entry(key).or_insert_with_key(|key| {
                request.keys.push(key.clone());
                next
            })
        }));
    }
    request
}

/// The rows that a row becomes with its answer.
pub(super) fn join_row(
    stage: &LookupStage,
    row: Row,
    answer: Option<&LookupAnswer>,
    run: &mut Run<'_>,
    joined: &mut Vec<Row>,
) {
    let before = joined.len();
    let matches: &[Row] = match answer {
        Some(LookupAnswer::Drop) => return,
        Some(LookupAnswer::Null) => return joined.push(row),
        Some(LookupAnswer::Rows(rows)) => rows,
        None => &[],
    };
    for found in matches {
        let mut values = Vec::with_capacity(stage.first_slot + stage.n_slots);
        values.extend_from_slice(&row.values);
        values.resize(stage.first_slot, Value::Missing);
        values.extend(found.values.iter().take(stage.n_slots).cloned());
        let candidate = Row { ts: row.ts, values };
        if stage.on.as_ref().is_none_or(|on| run.test(on, &candidate)) {
            joined.push(candidate);
        }
    }
    if stage.left && joined.len() == before {
        joined.push(row);
    }
}
