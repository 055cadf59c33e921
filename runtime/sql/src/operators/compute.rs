//! Columns that are computed once per row, before anything is dropped: analytic functions, and aliases that must not be
//! computed twice.

use super::aggregate::{ByKey, set};
use super::output::Run;
use crate::expr::{Failure, Fields, eval_args};
use crate::function::{AnalyticFunction, Body};
use crate::plan::stages::{AnalyticCall, Computed, ComputedKind};
use crate::value::state::StateIo;
use crate::value::{Row, Value};

/// The state of the computed columns: per column and partition one analytic function.
#[derive(Default)]
pub(super) struct Compute {
    partitions: Vec<ByKey<Box<dyn AnalyticFunction>>>,
}

impl Compute {
    /// A state without history.
    pub fn new(computed: &[Computed]) -> Self {
        Compute { partitions: computed.iter().map(|_| ByKey::default()).collect() }
    }

    /// Writes or reads what the call in column `idx` has seen, partition by partition.
    pub fn state(&mut self, idx: usize, call: &AnalyticCall, io: &mut StateIo) {
        let Some(partitions) = self.partitions.get_mut(idx) else { return };
        partitions.state(io, || new_function(call), |io, function| function.state(io));
    }

    /// Adds the columns to a row.
    ///
    /// # Errors
    /// If one can't be computed; the others have then still seen the row.
    pub fn add(&mut self, computed: &[Computed], row: &mut Row, run: &mut Run<'_>) -> Result<(), Box<Failure>> {
        let mut outcome = Ok(());
        for (column, partitions) in computed.iter().zip(&mut self.partitions) {
            let value = match &column.kind {
                ComputedKind::Expr(expr) => {
                    let fields = Fields::of(row);
                    expr.eval(fields, &mut run.scope(row.ts, None)).map(|value| value.into_owned())
                }
                ComputedKind::Analytic(call) => analytic(call, partitions, row, run),
            };
            match value {
                Ok(value) => set(&mut row.values, column.slot, value),
                Err(failure) => outcome = Err(failure),
            }
        }
        outcome
    }
}

fn new_function(call: &AnalyticCall) -> Box<dyn AnalyticFunction> {
    match call.function.body {
        Body::Analytic(new) => new(),
        _ => unreachable!("the planner makes analytic calls of analytic functions"),
    }
}

fn analytic(
    call: &AnalyticCall,
    partitions: &mut ByKey<Box<dyn AnalyticFunction>>,
    row: &Row,
    run: &mut Run<'_>,
) -> Result<Value, Box<Failure>> {
    let fields = Fields::of(row);
    let scope = &mut run.scope(row.ts, None);
    let args = eval_args(&call.args, fields, scope)?;
    let key = eval_args(&call.partition_by, fields, scope)?;
    // A condition that is no boolean counts as true, one that fails as false.
    let valid = match &call.when {
        Some(when) => when.eval(fields, scope).is_ok_and(|value| !matches!(*value, Value::Bool(false))),
        None => true,
    };
    let function = partitions.get_or_insert_with(&key, || new_function(call));
    function.eval(&args, valid, &mut scope.ctx).map_err(|error| Box::new(Failure { error, span: call.span }))
}
