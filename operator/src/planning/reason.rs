//! Why a condition is as it is: a closed set of words that programs can rely on.

/// The reason of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The definition is good.
    Accepted,
    /// Fields or options are wrong.
    InvalidSpec,
    /// The statement is wrong.
    InvalidSql,
    /// An older object has this SQL name.
    NameConflict,
    /// All that it refers to is there.
    ResolvedRefs,
    /// A stream or table that it reads is not defined.
    StreamNotFound,
    /// A stream or table that it reads is there, but not good.
    StreamNotReady,
    /// A Secret, a key in it, or a profile in it is not there.
    SecretNotFound,
    /// Its Runtime is not there.
    RuntimeNotFound,
    /// Its Runtime is there, but not good.
    RuntimeNotReady,
    /// The pod runs this generation, and its sources and sinks are connected.
    Running,
    /// Nothing of it can run: another condition says why.
    NotRunnable,
    /// The generation before runs on, since this one can't.
    PreviousGeneration,
    /// The pod has not taken it yet.
    Starting,
    /// The rule waits until the Runtime that ran it before has let go of it.
    Moving,
    /// There is no pod that answers.
    PodNotReady,
    /// A source or a sink is not connected.
    NotConnected,
    /// Its sources have ended, and all is written.
    Finished,
    /// It is not to run.
    Suspended,
    /// Its schedule has it wait.
    Scheduled,
    /// It stopped because of an error, and starts again.
    Restarting,
    /// It stopped because of an error.
    Failed,
    /// The pod does not take it: its image is of another version.
    Refused,
    /// All rules of its Runtime together are too large.
    BundleTooLarge,
    /// The definition is in order; it runs where a rule reads it.
    Defined,
    /// The cluster refused an object of the Runtime.
    ApplyFailed,
    /// The Runtime's pod is being replaced.
    RollingOut,
}

impl Reason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Accepted => "Accepted",
            Reason::InvalidSpec => "InvalidSpec",
            Reason::InvalidSql => "InvalidSql",
            Reason::NameConflict => "NameConflict",
            Reason::ResolvedRefs => "ResolvedRefs",
            Reason::StreamNotFound => "StreamNotFound",
            Reason::StreamNotReady => "StreamNotReady",
            Reason::SecretNotFound => "SecretNotFound",
            Reason::RuntimeNotFound => "RuntimeNotFound",
            Reason::RuntimeNotReady => "RuntimeNotReady",
            Reason::Running => "Running",
            Reason::NotRunnable => "NotRunnable",
            Reason::PreviousGeneration => "PreviousGeneration",
            Reason::Starting => "Starting",
            Reason::Moving => "Moving",
            Reason::PodNotReady => "PodNotReady",
            Reason::NotConnected => "NotConnected",
            Reason::Finished => "Finished",
            Reason::Suspended => "Suspended",
            Reason::Scheduled => "Scheduled",
            Reason::Restarting => "Restarting",
            Reason::Failed => "Failed",
            Reason::Refused => "Refused",
            Reason::BundleTooLarge => "BundleTooLarge",
            Reason::Defined => "Defined",
            Reason::ApplyFailed => "ApplyFailed",
            Reason::RollingOut => "RollingOut",
        }
    }

    /// Waiting will not help: someone has to change something.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Reason::InvalidSpec
                | Reason::InvalidSql
                | Reason::NameConflict
                | Reason::Failed
                | Reason::Refused
                | Reason::BundleTooLarge
                | Reason::ApplyFailed
        )
    }
}
