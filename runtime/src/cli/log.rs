//! Logs: structured, on standard error. Standard output is for rows.

use std::io::IsTerminal;

use anyhow::Context;
use sluice::diagnostic::{Diagnostic, Severity};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use super::LogFormat;

/// How this process logs.
#[derive(Clone, Copy)]
pub struct Log {
    format: LogFormat,
}

impl Log {
    /// Starts logging, of panics too.
    pub fn start(format: LogFormat, level: &str) -> anyhow::Result<Self> {
        let filter: Targets = level.parse().with_context(|| format!("--log-level {level}"))?;
        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let layer = match format {
            LogFormat::Text => layer.with_target(false).with_ansi(std::io::stderr().is_terminal()).boxed(),
            LogFormat::Json => layer.json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry().with(layer.with_filter(filter)).init();
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string);
            let message = panic.payload_as_str().unwrap_or("panic without a message");
            tracing::error!(place, "internal error: {message}");
        }));
        Ok(Log { format })
    }

    /// Says what is wrong with definitions: with the line and a caret for people, as fields for programs.
    pub fn findings(self, findings: &[Diagnostic]) {
        for finding in findings {
            match (self.format, finding.severity) {
                (LogFormat::Text, _) => eprintln!("{finding}"),
                (LogFormat::Json, Severity::Error) => tracing::error!(
                    file = finding.file,
                    line = finding.line,
                    column = finding.column,
                    resource = finding.resource,
                    path = finding.path,
                    hint = finding.hint,
                    "{}",
                    finding.message
                ),
                (LogFormat::Json, _) => tracing::warn!(
                    file = finding.file,
                    line = finding.line,
                    column = finding.column,
                    resource = finding.resource,
                    path = finding.path,
                    hint = finding.hint,
                    "{}",
                    finding.message
                ),
            }
        }
    }
}
