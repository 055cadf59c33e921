//! Errors of connectors and of their configuration.

use std::fmt;
use std::time::Duration;

/// Who has to do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The configuration or the data: somebody has to change it.
    User,
    /// The far side or the way to it.
    External,
    /// Us.
    Internal,
}

/// Is the same call worth another try?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It would fail again.
    Never,
    /// Yes, after a growing pause.
    Backoff,
    /// Yes, and the far side said when.
    After(Duration),
}

/// What a source, lookup table or sink reports. Carries no payload and no secret: the text goes to logs and status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectorError {
    /// Whose fault it is.
    pub fault: Fault,
    /// Whether a retry is worth it.
    pub retry: Retry,
    /// What failed, on what, and what would work. Lower case, no final period.
    pub message: String,
}

impl ConnectorError {
    /// The far side or the network failed; try again with backoff.
    pub fn external(message: impl Into<String>) -> Self {
        ConnectorError { fault: Fault::External, retry: Retry::Backoff, message: message.into() }
    }

    /// The configuration or the data is wrong; the same call would fail again.
    pub fn user(message: impl Into<String>) -> Self {
        ConnectorError { fault: Fault::User, retry: Retry::Never, message: message.into() }
    }

    /// Our own fault.
    pub fn internal(message: impl Into<String>) -> Self {
        ConnectorError { fault: Fault::Internal, retry: Retry::Never, message: message.into() }
    }

    /// The same error with another answer to "is a retry worth it".
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
}

/// One wrong option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The option's path below the connector's options: `tls.caFile`; empty for the whole.
    pub path: String,
    /// What is wrong with it, what was expected, the nearest known name. Never the value of a secret.
    pub message: String,
}

/// Everything that is wrong with a connector's options.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// At least one, in the order of the options.
    pub problems: Vec<ConfigProblem>,
}

impl ConfigError {
    /// An error with one problem.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        ConfigError { problems: vec![ConfigProblem { path: path.into(), message: message.into() }] }
    }

    /// The same problems, of options below `path`.
    #[must_use]
    pub fn below(self, path: &str) -> Self {
        let below = |ConfigProblem { path: inner, message }| {
            let path = if inner.is_empty() { path.to_owned() } else { format!("{path}.{inner}") };
            ConfigProblem { path, message }
        };
        ConfigError { problems: self.problems.into_iter().map(below).collect() }
    }

    /// Adds a problem.
    pub fn push(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(ConfigProblem { path: path.into(), message: message.into() });
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (problem_idx, ConfigProblem { path, message }) in self.problems.iter().enumerate() {
            let separator = if problem_idx > 0 { "; " } else { "" };
            let colon = if path.is_empty() { "" } else { ": " };
            write!(f, "{separator}{path}{colon}{message}")?;
        }
        Ok(())
    }
}
