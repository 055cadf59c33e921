//! What caused a result.

use serde::{Deserialize, Serialize};
use sluice_sql::Timestamp;

/// What caused a result: the same after a restart, when the rule computes the result again.
///
/// The causes of a rule's results only grow, in the order in which they are sent. So whoever keeps the greatest cause that it
/// has taken takes each result once, also if a lookup table answers differently the second time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cause {
    /// Grows each time that the rule begins without its earlier state.
    pub epoch: u64,
    /// Time that the rule had come to: when the rows that caused the result arrived, by the journal, or the end of its window.
    pub time: Timestamp,
    /// Number of the step within that millisecond: a batch of rows, or a timer.
    pub step: u64,
    /// Number of the result's first row among the rows of this step.
    pub ordinal: u64,
}
