//! What expressions and functions read besides their row.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::value::{Object, Timestamp, WindowRange};

/// What an expression may read besides its row. Time and randomness come in here and nowhere else, so that a run can be
/// repeated.
pub struct EvalContext<'a> {
    /// The rule's surroundings.
    pub rule: &'a mut RuleContext,
    /// Time of the row that is evaluated.
    pub event_time: Timestamp,
    /// The window that the row came out of.
    pub window: Option<WindowRange>,
}

/// A variable of the runtime by name.
pub type Props = Arc<dyn Fn(&str) -> Option<SmolStr> + Send + Sync>;

/// What stays the same, or goes on, over all rows of a rule.
pub struct RuleContext {
    /// `rule_id()`
    pub rule_id: SmolStr,
    /// `rule_start()`
    pub rule_start: Timestamp,
    /// The clock: processing time. Set by the caller before each call into a chain.
    pub now: Timestamp,
    /// `props(name)`: variables of the runtime.
    pub props: Props,
    /// 64 random bits.
    pub random: Box<dyn FnMut() -> u64 + Send>,
    /// Zone of text without an offset and of `now()`.
    pub time_zone: jiff::tz::TimeZone,
    /// What went wrong or was left out since the caller last looked.
    pub report: Report,
}

/// What a chain dropped or could not compute, by reason. The caller drains it after each call.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Rows older than the watermark.
    pub n_late: u64,
    /// Rows without a usable timestamp.
    pub n_bad_timestamp: u64,
    /// Rows (or, after a window, whole results) that an expression failed on.
    pub n_failed: u64,
    /// The newest failure, with the expression's place in the statement.
    pub last_error: Option<Arc<str>>,
    /// What was left out, row by row, if the rule's options ask for it (`RuleOptions::keep_rejected`).
    pub rejected: Vec<Rejected>,
}

/// A row that was left out.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Why.
    pub reason: RejectReason,
    /// Its time, as far as it has one.
    pub ts: Timestamp,
    /// What went wrong, with the expression's place in the statement; nothing is wrong with a late row.
    pub error: Option<Arc<str>>,
    /// The columns that the rule reads. Without any when a result failed that is more than one row.
    pub row: Object,
}

/// Why a row was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// It is older than the watermark.
    Late,
    /// It has no usable timestamp, or one too far ahead of the clock.
    BadTimestamp,
    /// An expression failed on it.
    Error,
}

impl RejectReason {
    /// The word in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            RejectReason::Late => "late",
            RejectReason::BadTimestamp => "bad_timestamp",
            RejectReason::Error => "error",
        }
    }
}

impl RuleContext {
    /// Surroundings in which only constants can be computed: time stands at zero and nothing is random.
    pub(crate) fn for_constants() -> Self {
        RuleContext {
            rule_id: SmolStr::default(),
            rule_start: 0,
            now: 0,
            props: Arc::new(|_| None),
            random: Box::new(|| 0),
            time_zone: jiff::tz::TimeZone::UTC,
            report: Report::default(),
        }
    }
}
