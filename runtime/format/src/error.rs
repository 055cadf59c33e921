//! What is wrong with a configuration: of a format, and of the connectors around it.

use std::fmt;

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
