//! Lookup joins: which keys a batch needs, and what becomes of its rows with the answers.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashTable;

use super::output::Run;
use super::tail;
use crate::expr::{Fields, eval_args};
use crate::plan::stages::LookupStage;
use crate::value::{Row, Value, WindowRange};

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
        same_key(&self.0, &other.0)
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
    let mut request = LookupRequest { keys: Vec::new(), row_keys: Vec::with_capacity(rows.len()) };
    let hasher = foldhash::fast::RandomState::default();
    // Places in `request.keys`: a key that is known already is found without being made.
    let mut places: HashTable<u32> = HashTable::with_capacity(rows.len());
    for row in rows {
        let values = match eval_args(&stage.keys, Fields::of(row), &mut run.scope(row.ts, None)) {
            Ok(values) if values.iter().any(Value::is_null) => None,
            Ok(values) => Some(values),
            Err(failure) => {
                run.fail(&failure, Some(row));
                None
            }
        };
        let LookupRequest { keys, row_keys } = &mut request;
        row_keys.push(values.map(|values| {
            let hash = hash_of(&hasher, &values);
            let is_it = |place: &u32| keys.get(*place as usize).is_some_and(|key| same_key(&key.0, &values));
            if let Some(place) = places.find(hash, is_it) {
                return *place;
            }
            let place = keys.len() as u32;
            keys.push(LookupKey(values.to_vec().into()));
            places.insert_unique(hash, place, |place| {
                keys.get(*place as usize).map_or(0, |key| hash_of(&hasher, &key.0))
            });
            place
        }));
    }
    request
}

fn hash_of(hasher: &foldhash::fast::RandomState, values: &[Value]) -> u64 {
    let mut state = hasher.build_hasher();
    values.iter().for_each(|value| value.hash_key(&mut state));
    state.finish()
}

fn same_key(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_key(b))
}

/// The rows that a row becomes with its answer.
pub(super) fn join_row(
    stage: &LookupStage,
    mut row: Row,
    answer: Option<&LookupAnswer>,
    run: &mut Run<'_>,
    joined: &mut Vec<Row>,
) {
    let before = joined.len();
    let matches: &[Row] = match answer {
        Some(LookupAnswer::Drop) => return,
        Some(LookupAnswer::Null) => return joined.push(row),
        Some(LookupAnswer::Rows(rows)) if stage.single => rows.get(..1).unwrap_or_default(),
        Some(LookupAnswer::Rows(rows)) => rows,
        None => &[],
    };
    // Nearly always there is one match, and then the row itself is what is widened.
    if let [found] = matches
        && stage.on.is_none()
    {
        widen(&mut row.values, stage, found);
        return joined.push(row);
    }
    for found in matches {
        let mut values = Vec::with_capacity(stage.first_slot + stage.n_slots);
        values.extend_from_slice(&row.values);
        widen(&mut values, stage, found);
        let candidate = Row { ts: row.ts, values };
        if stage.on.as_ref().is_none_or(|on| run.test(on, &candidate)) {
            joined.push(candidate);
        }
    }
    if stage.left && joined.len() == before {
        joined.push(row);
    }
}

/// Takes a row with its answer to its results, if they only go through the select list.
pub(super) fn project_joined(
    stage: &LookupStage,
    row: Row,
    answer: Option<&LookupAnswer>,
    window: Option<WindowRange>,
    run: &mut Run<'_>,
) {
    if let (Some(LookupAnswer::Rows(rows)), None) = (answer, &stage.on)
        && let [found] = rows.as_slice()
    {
        // Nearly always: no row is made of the two.
        return project_match(stage, row, found, window, run);
    }
    let mut joined = Vec::new();
    join_row(stage, row, answer, run, &mut joined);
    for row in joined {
        if stage.filter.as_ref().is_none_or(|filter| run.test(filter, &row)) {
            match tail::project(Fields::of(&row), row.ts, window, run) {
                Ok(projected) => tail::push(projected, run),
                Err(failure) => run.fail(&failure, Some(&row)),
            }
        }
    }
}

fn project_match(stage: &LookupStage, mut row: Row, found: &Row, window: Option<WindowRange>, run: &mut Run<'_>) {
    let fields = Fields::joined(&row, found, stage.first_slot);
    let holds = stage.filter.as_ref().map_or(Ok(true), |filter| filter.test(fields, &mut run.scope(row.ts, None)));
    let outcome = match holds {
        Ok(true) => tail::project(fields, row.ts, window, run),
        Ok(false) => return,
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(projected) => tail::push(projected, run),
        Err(failure) => {
            widen(&mut row.values, stage, found);
            run.fail(&failure, Some(&row));
        }
    }
}

/// Puts the table's columns behind those of a row.
fn widen(values: &mut Vec<Value>, stage: &LookupStage, found: &Row) {
    values.reserve_exact((stage.first_slot + stage.n_slots).saturating_sub(values.len()));
    values.resize(stage.first_slot, Value::Missing);
    values.extend(found.values.iter().take(stage.n_slots).cloned());
}
