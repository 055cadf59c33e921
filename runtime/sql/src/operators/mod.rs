//! Operators over rows and time, and the chain that a plan becomes.
//!
//! Plain functions: no task, no clock, no socket. The pipeline calls [`Chain`], fetches what its lookup joins ask for, and
//! hands the results to the sinks.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::expr::RuleContext;
use crate::plan::RulePlan;
use crate::value::{Batch, Row, Timestamp, Value};

/// A plan that runs: all operators of one rule with their state.
///
/// Rows go in with [`push`](Self::push), time with [`tick`](Self::tick). What comes out is final if the plan has no lookups;
/// else it is the input of lookup join 0: ask [`lookup_keys`](Self::lookup_keys), fetch, call
/// [`lookup_join`](Self::lookup_join), whose output is the input of the next lookup join, or final after the last.
pub struct Chain {
    plan: RulePlan,
}

impl Chain {
    /// Makes a plan ready to run. `slots[input][i]` is the place, in the rows that will be pushed, of slot `i` of
    /// `plan.inputs[input].schema`: a shared stream's rows hold the union of what its rules read.
    pub fn new(plan: &RulePlan, _slots: &[Vec<usize>]) -> Self {
        Chain { plan: plan.clone() }
    }

    /// The plan that this runs.
    pub fn plan(&self) -> &RulePlan {
        &self.plan
    }

    /// Takes rows of input `input`, in order of arrival, and appends what they cause to `out`. Failures and late rows are
    /// counted in `ctx.report`.
    pub fn push(&mut self, _input: usize, _batch: &Batch, _ctx: &mut RuleContext, _out: &mut Vec<Batch>) {}

    /// The clock has moved to `ctx.now`: processing-time windows may close. Call at or after [`next_timer`](Self::next_timer).
    pub fn tick(&mut self, _ctx: &mut RuleContext, _out: &mut Vec<Batch>) {}

    /// When `tick` is wanted next; `None` while no timer runs.
    pub fn next_timer(&self) -> Option<Timestamp> {
        None
    }

    /// Input `input` has ended. After the last one, open windows are flushed unless the rule says otherwise.
    pub fn end_input(&mut self, _input: usize, _ctx: &mut RuleContext, _out: &mut Vec<Batch>) {}

    /// The distinct keys that lookup join `lookup` needs for these rows.
    pub fn lookup_keys(&mut self, _lookup: usize, _batch: &Batch, _ctx: &mut RuleContext) -> LookupRequest {
        LookupRequest::default()
    }

    /// Joins the rows with what was found. `answers[i]` belongs to `request.keys[i]`.
    pub fn lookup_join(
        &mut self,
        _lookup: usize,
        _batch: Batch,
        _request: &LookupRequest,
        _answers: &[LookupAnswer],
        _ctx: &mut RuleContext,
        _out: &mut Vec<Batch>,
    ) {
    }
}

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
