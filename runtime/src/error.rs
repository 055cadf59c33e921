//! Errors of connectors and of their configuration.

use std::time::Duration;

pub use sluice_format::error::{ConfigError, ConfigProblem};

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
