//! From a collection of rows to results: what is left of `WHERE`, grouping, `HAVING`, `row_number`, `ORDER BY`, the select
//! list, set-returning functions, `LIMIT`.

use std::cmp::Ordering;

use super::aggregate::{ByKey, Groups, key_of, over_all, set};
use super::output::Run;
use crate::expr::{Expr, Failure, Fields, sort_order};
use crate::function::{Body, EvalError};
use crate::plan::stages::{Expand, ItemKind, MultiColumnCall, NullOutput, RowNumber, SortKey};
use crate::value::{Object, Row, Timestamp, Value, WindowRange};

/// Takes a collection to its results.
pub(super) fn collection(mut rows: Vec<Row>, window: Option<WindowRange>, run: &mut Run<'_>) {
    let stages = run.stages;
    let tail = &stages.tail;
    if !tail.where_aggregates.is_empty() && !rows.is_empty() {
        match over_all(&tail.where_aggregates, &rows, run) {
            Ok(values) => add_to_all(&mut rows, &values),
            Err(failure) => return run.fail(&failure, None),
        }
    }
    if let Some(filter) = &tail.filter {
        rows.retain(|row| run.test(filter, row));
        if rows.is_empty() {
            return;
        }
    }
    if !tail.aggregate {
        if !tail.aggregates.is_empty() && !rows.is_empty() {
            match over_all(&tail.aggregates, &rows, run) {
                Ok(values) => add_to_all(&mut rows, &values),
                Err(failure) => return run.fail(&failure, None),
            }
        }
        if let Some(having) = &tail.having {
            rows.retain(|row| holds(having, row, window, run));
            if rows.is_empty() {
                return;
            }
        }
        return results(rows, window, run);
    }
    if tail.group_by.is_empty() {
        // What a plain column of the one row shows is the first row in the order that was asked for.
        rows = sorted(rows, &tail.order_by, window, run);
    }
    let ts = window.map_or_else(|| rows.first().map_or(0, |row| row.ts), |window| window.trigger);
    let mut groups = Groups::default();
    for row in &rows {
        let mut scope = run.scope(row.ts, window);
        if let Err(failure) = groups.add(&tail.group_by, &tail.aggregates, Fields::of(row), || row.clone(), &mut scope)
        {
            run.fail(&failure, Some(row));
        }
    }
    self::groups(groups, ts, window, run);
}

/// Takes the groups of a collection to its results. If an aggregate of a group that passes `HAVING` has no value, the whole
/// result fails: with a group missing it would look complete.
pub(super) fn groups(groups: Groups, ts: Timestamp, window: Option<WindowRange>, run: &mut Run<'_>) {
    let tail = &run.stages.tail;
    let mut rows = groups.into_rows(&tail.aggregates, ts);
    if rows.is_empty() {
        if !tail.group_by.is_empty() {
            return;
        }
        rows.push((Row { ts, values: Vec::new() }, None));
    }
    if let Some(having) = &tail.having {
        rows.retain(|(row, _)| holds(having, row, window, run));
        if rows.is_empty() {
            return;
        }
    }
    if let Some(failure) = rows.iter_mut().find_map(|(_, failure)| failure.take()) {
        return run.fail(&failure, None);
    }
    results(rows.into_iter().map(|(row, _)| row).collect(), window, run);
}

fn add_to_all(rows: &mut [Row], values: &[(usize, Value)]) {
    for row in rows {
        for (slot, value) in values {
            set(&mut row.values, *slot, value.clone());
        }
    }
}

fn results(mut rows: Vec<Row>, window: Option<WindowRange>, run: &mut Run<'_>) {
    let stages = run.stages;
    let tail = &stages.tail;
    for number in &tail.row_numbers {
        add_row_numbers(number, &mut rows, window, run);
    }
    if rows.len() > 1 {
        rows = sorted(rows, &tail.order_by, window, run);
    }
    let limit = tail.limit.unwrap_or(usize::MAX);
    if limit == 0 {
        return;
    }
    let (was_empty, before) = (rows.is_empty(), run.out.n_rows());
    for row in &rows {
        if run.out.n_rows() - before >= limit {
            break;
        }
        match project(Fields::of(row), row.ts, window, run) {
            Ok(projected) => match &tail.expand {
                None => push(projected, run),
                Some(expand) => match expanded(expand, projected) {
                    Ok(rows) => {
                        let room = limit - (run.out.n_rows() - before);
                        rows.into_iter().take(room).for_each(|row| push(row, run));
                    }
                    Err(error) => run.fail(&Failure { error, span: expand.span }, Some(row)),
                },
            },
            Err(failure) => run.fail(&failure, Some(row)),
        }
    }
    if !tail.per_row && (was_empty || run.out.n_rows() > before) {
        run.out.close(window);
    }
}

/// Adds a result.
pub(super) fn push(row: Row, run: &mut Run<'_>) {
    run.out.push(row);
    if run.stages.tail.per_row {
        run.out.close(None);
    }
}

fn holds(condition: &Expr, row: &Row, window: Option<WindowRange>, run: &mut Run<'_>) -> bool {
    let outcome = condition.test(Fields::of(row), &mut run.scope(row.ts, window));
    outcome.unwrap_or_else(|failure| {
        run.fail(&failure, Some(row));
        false
    })
}

/// The select list over one row.
pub(super) fn project(
    fields: Fields<'_>,
    ts: Timestamp,
    window: Option<WindowRange>,
    run: &mut Run<'_>,
) -> Result<Row, Box<Failure>> {
    let stages = run.stages;
    let mut items: Vec<Value> = Vec::with_capacity(stages.tail.items.len());
    for item in &stages.tail.items {
        let fields = Fields { items: &items, ..fields };
        let value = match &item.kind {
            ItemKind::Expr(expr) => expr.eval(fields, &mut run.scope(ts, window))?.into_owned(),
            ItemKind::MultiColumn { state, call } => multi_column(*state, call, fields, ts, window, run)?,
        };
        items.push(match item.null {
            NullOutput::Omit if value.is_null() => Value::Missing,
            NullOutput::Null if value.is_null() => Value::Null,
            _ => value,
        });
    }
    Ok(Row { ts, values: items })
}

fn multi_column(
    state: usize,
    call: &MultiColumnCall,
    fields: Fields<'_>,
    ts: Timestamp,
    window: Option<WindowRange>,
    run: &mut Run<'_>,
) -> Result<Value, Box<Failure>> {
    let (mut names, mut args) = (Vec::new(), Vec::new());
    for (name, arg) in &call.args {
        let value = arg.eval(fields, &mut run.scope(ts, window))?.into_owned();
        match name {
            Some(name) => {
                names.push(name.clone());
                args.push(value);
            }
            None => {
                for (name, value) in value.to_object().iter().flat_map(|object| object.iter()) {
                    names.push(name.clone());
                    args.push(value.clone());
                }
            }
        }
    }
    let Some(function) = run.multi_columns.get_mut(state) else { return Ok(Value::Missing) };
    match function.eval(&names, &args) {
        Ok(object) => Ok(Value::Object(object.into())),
        Err(error) => Err(Box::new(Failure { error, span: call.span })),
    }
}

/// One row per element. Members of an element replace columns of their name.
fn expanded(expand: &Expand, row: Row) -> Result<Vec<Row>, EvalError> {
    let Body::MultiRow(elements) = expand.function.body else { return Ok(vec![row]) };
    let elements = elements(row.get(expand.item))?;
    let mut rows = Vec::with_capacity(elements.len());
    for element in elements {
        let mut values = row.values.clone();
        let members = match element.to_object() {
            Some(members) => members,
            None => Object::from_iter([(expand.name.clone(), element)]).into(),
        };
        for (slot, name) in &expand.columns {
            let Some(value) = values.get_mut(*slot) else { continue };
            if !name.is_empty() {
                if members.get(name).is_some() {
                    *value = Value::Missing;
                }
            } else if let Some(star) = value.to_object()
                && star.iter().any(|(name, _)| members.get(name).is_some())
            {
                let kept = star.iter().filter(|(name, _)| members.get(name).is_none());
                let kept: Object = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
                *value = Value::Object(kept.into());
            }
        }
        set(&mut values, expand.item, Value::Object(members));
        rows.push(Row { ts: row.ts, values });
    }
    Ok(rows)
}

fn add_row_numbers(number: &RowNumber, rows: &mut [Row], window: Option<WindowRange>, run: &mut Run<'_>) {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    if !number.order_by.is_empty() {
        let keys: Vec<Vec<Value>> = rows.iter().map(|row| sort_keys(&number.order_by, row, window, run)).collect();
        order.sort_by(|a, b| compare_keys(&number.order_by, &keys[*a], &keys[*b]));
    }
    let mut counts: ByKey<i64> = ByKey::default();
    for row_idx in order {
        let value = match key_of(&number.partition_by, &rows[row_idx], run) {
            Ok(key) => {
                let count = counts.get_or_insert_with(&key, || 0);
                *count += 1;
                Value::Int(*count)
            }
            Err(_) => Value::Null,
        };
        set(&mut rows[row_idx].values, number.slot, value);
    }
}

/// The rows in the order of the keys, stable, nulls last. A row whose key fails, or is of another kind than the keys of the
/// rows before it, is reported and left out.
fn sorted(rows: Vec<Row>, order_by: &[SortKey], window: Option<WindowRange>, run: &mut Run<'_>) -> Vec<Row> {
    if order_by.is_empty() {
        return rows;
    }
    let mut firsts: Vec<Option<Value>> = vec![None; order_by.len()];
    let mut keyed: Vec<(Vec<Value>, Row)> = Vec::with_capacity(rows.len());
    'rows: for row in rows {
        let mut keys = Vec::with_capacity(order_by.len());
        for (key, first) in order_by.iter().zip(&mut firsts) {
            let outcome =
                key.expr.eval(Fields::of(&row), &mut run.scope(row.ts, window)).map(|value| value.into_owned());
            let value = match outcome {
                Ok(value) => value,
                Err(failure) => {
                    run.fail(&failure, Some(&row));
                    continue 'rows;
                }
            };
            if !value.is_null() {
                let first = first.get_or_insert_with(|| value.clone());
                if sort_order(first, &value).is_none() {
                    let message =
                        format!("ORDER BY can't compare a {} with a {}", first.kind_name(), value.kind_name());
                    run.fail(&Failure { error: EvalError::new(message), span: key.expr.span }, Some(&row));
                    continue 'rows;
                }
            }
            keys.push(value);
        }
        keyed.push((keys, row));
    }
    keyed.sort_by(|(a, _), (b, _)| compare_keys(order_by, a, b));
    keyed.into_iter().map(|(_, row)| row).collect()
}

fn sort_keys(order_by: &[SortKey], row: &Row, window: Option<WindowRange>, run: &mut Run<'_>) -> Vec<Value> {
    let value = |key: &SortKey| {
        key.expr.eval(Fields::of(row), &mut run.scope(row.ts, window)).map_or(Value::Null, |value| value.into_owned())
    };
    order_by.iter().map(value).collect()
}

fn compare_keys(order_by: &[SortKey], a: &[Value], b: &[Value]) -> Ordering {
    for ((key, a), b) in order_by.iter().zip(a).zip(b) {
        let ordering = match (a.is_null(), b.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let ordering = sort_order(a, b).unwrap_or(Ordering::Equal);
                if key.descending { ordering.reverse() } else { ordering }
            }
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    Ordering::Equal
}
