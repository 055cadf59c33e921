//! Joins within a collection: every row of one side with every row of the other.

use super::output::Run;
use crate::expr::Fields;
use crate::plan::stages::{InputStage, JoinStage};
use crate::sql::ast::JoinKind;
use crate::value::{Row, Timestamp, Value};

/// Joins what was joined so far with the rows of one more input.
pub(super) fn join(
    stage: &JoinStage,
    input: &InputStage,
    left: Vec<Row>,
    right: &[Row],
    ts: Timestamp,
    run: &mut Run<'_>,
) -> Vec<Row> {
    let mut matched = vec![false; right.len()];
    let mut rows = Vec::new();
    let keep_left = matches!(stage.kind, JoinKind::Left | JoinKind::Full);
    if stage.kind == JoinKind::Right {
        for right in right {
            let before = rows.len();
            for left in &left {
                pair(stage, input, left, right, ts, run, &mut rows);
            }
            if rows.len() == before {
                rows.push(Row { ts, values: right.values.clone() });
            }
        }
        return rows;
    }
    for mut left in left {
        let before = rows.len();
        for (right, matched) in right.iter().zip(&mut matched) {
            *matched |= pair(stage, input, &left, right, ts, run, &mut rows);
        }
        if keep_left && rows.len() == before {
            left.ts = ts;
            rows.push(left);
        }
    }
    if stage.kind == JoinKind::Full {
        let unmatched = right.iter().zip(&matched).filter(|(_, matched)| !**matched);
        rows.extend(unmatched.map(|(right, _)| Row { ts, values: right.values.clone() }));
    }
    rows
}

/// Adds the pair if it belongs together.
fn pair(
    stage: &JoinStage,
    input: &InputStage,
    left: &Row,
    right: &Row,
    ts: Timestamp,
    run: &mut Run<'_>,
    rows: &mut Vec<Row>,
) -> bool {
    let row = Row { ts, values: combine(&left.values, &right.values, input) };
    let holds = match &stage.on {
        None => true,
        Some(on) => on.test(Fields::of(&row), &mut run.scope(ts, None)).unwrap_or_else(|failure| {
            run.fail(&failure, Some(&row));
            false
        }),
    };
    if holds {
        rows.push(row);
    }
    holds
}

/// The left row with the right input's slots from the right row.
fn combine(left: &[Value], right: &[Value], input: &InputStage) -> Vec<Value> {
    let range = input.first_slot..input.first_slot + input.n_slots;
    let n_slots = left.len().max(right.len().min(range.end));
    let value = |slot: usize| {
        let side = if range.contains(&slot) { right } else { left };
        side.get(slot).cloned().unwrap_or_default()
    };
    (0..n_slots).map(value).collect()
}
