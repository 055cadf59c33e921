//! Text templates: the language of Go's `text/template`, with helper functions.
//!
//! ```text
//! text ──lex──> tokens ──parse──> tree ──exec──> text
//!                          ▲ functions, by name   ▲ data, Surroundings
//! ```
//!
//! Pure: time and randomness come in through [`Surroundings`], and nothing reads the environment, files or the network. Output,
//! lists and steps are bounded, so that a template can't hang the engine or eat its memory.
//!
//! Where this differs from Go, it is more lenient: numbers compare and print by value whatever their kind (`eq .n 5.0` holds
//! for the integer 5, `printf "%.1f" .n` prints it), and a field of null is no value instead of an error.

mod datum;
mod exec;
mod format;
mod functions;
mod lex;
mod option;
mod parse;
#[cfg(test)]
mod tests;

pub use option::TextOption;

use std::sync::Arc;

use rand::Rng;
use sluice_sql::{Timestamp, Value};

/// A template that was read and checked.
#[derive(Clone, Debug)]
pub struct Template {
    program: Arc<parse::Program>,
}

/// What a template may read besides its data.
pub struct Surroundings {
    /// The clock.
    pub now: Timestamp,
    /// 64 random bits.
    pub random: Box<dyn FnMut() -> u64 + Send>,
}

impl Surroundings {
    /// The given time, and the process's random numbers.
    pub fn at(now: Timestamp) -> Self {
        Surroundings { now, random: Box::new(|| rand::rng().next_u64()) }
    }
}

/// What is wrong with a template, or why it could not be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct TemplateError {
    /// Line in the template, 1-based.
    pub line: u32,
    /// Column in characters, 1-based.
    pub column: u32,
    /// Lower case, without final period.
    pub message: String,
}

impl TemplateError {
    fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        TemplateError {
            line: count(before.matches('\n').count() + 1),
            column: count(before.get(line_start..).map_or(0, |line| line.chars().count()) + 1),
            message: message.into(),
        }
    }
}

/// Longest text that a template, or a function in it, may make.
const MAX_OUTPUT: usize = 16 << 20;
/// Actions, loop rounds and calls of one rendering.
const MAX_STEPS: usize = 2_000_000;
/// Longest list that a function may make.
const MAX_LIST: usize = 100_000;
/// How deep templates may call each other, and actions and values may be nested.
const MAX_DEPTH: usize = 64;

impl Template {
    /// Reads and checks a template: its syntax, and that all variables, functions and templates that it names exist.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Template { program: Arc::new(parse::parse(text)?) })
    }

    /// True if the template reads a field of its dot itself (`{{.a}}`), which only an object has.
    pub fn reads_dot_fields(&self) -> bool {
        self.program.reads_dot_fields
    }

    /// Appends the rendered text.
    ///
    /// # Errors
    /// The action that failed; `out` then holds what came before it.
    pub fn render(&self, dot: &Value, surroundings: &mut Surroundings, out: &mut String) -> Result<(), TemplateError> {
        exec::run(&self.program, dot, surroundings, out)
    }
}
