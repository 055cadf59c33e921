//! Functions: one place for each, with its signature, null policy, docs and worked examples.
//!
//! A family lives in a file (or folder), each with a list of [`Function`]s; [`Registry::builtin`] joins the lists. Adding one
//! is one entry in its family's list: nothing else in the planner or the evaluator knows functions by name.

mod aggregate;
mod analytic;
mod array;
mod columns;
mod context;
mod datetime;
mod define;
mod extension;
mod geohash;
mod hash;
mod json;
mod math;
mod number_format;
mod object;
mod other;
pub mod reference;
mod statistics;
mod string;
mod tensor;
#[cfg(test)]
mod tests;
mod transform;

use std::sync::{Arc, LazyLock};

use hashbrown::HashMap;
use smol_str::SmolStr;

use crate::expr::EvalContext;
use crate::value::state::StateIo;
use crate::value::{Object, Type, Value};

/// Why a value could not be computed. The message is lower case, names the function or operator and the offending value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvalError(pub String);

impl EvalError {
    /// An error with a message.
    pub fn new(message: impl Into<String>) -> Self {
        EvalError(message.into())
    }
}

/// What happens when an argument is null, checked before the body. Empty arrays and objects count as null here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NullPolicy {
    /// The body sees nulls.
    Body,
    /// The result is null.
    Null,
    /// The result is false.
    False,
    /// The result is 0.
    Zero,
}

/// May the planner compute a call with constant arguments once?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// Same arguments, same result, for ever.
    Immutable,
    /// Depends on the clock, on randomness, on the row's place in the stream.
    Volatile,
}

/// How whole numbers of [`Type::Number`] and [`Type::Any`] reach the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// As they are: the result does not depend on whether a whole number is a `bigint` or a `float`.
    AsIs,
    /// As floats, because integers would give another result (`avg` divides).
    Float,
}

/// A literal that is obviously of the wrong kind is refused when the statement is planned; columns and calls are checked
/// when rows arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    /// Anything.
    Any,
    /// Refuses string, boolean and time-unit literals.
    Number,
    /// Refuses float, string, boolean and time-unit literals.
    Int,
    /// Refuses number, boolean and time-unit literals.
    String,
    /// Refuses number, string and time-unit literals.
    Bool,
    /// Refuses number, string and boolean literals: columns and calls only.
    Datetime,
    /// Must be a literal integer.
    IntLiteral,
    /// Must be a literal string.
    StringLiteral,
}

/// How many and which arguments a call takes.
#[derive(Clone, Copy, Debug)]
pub struct Arity {
    /// The declared parameters in order; the last repeats if `variadic`.
    pub params: &'static [Param],
    /// Calls need at least this many.
    pub n_required: usize,
    /// The last parameter may repeat.
    pub variadic: bool,
    /// `*` is taken as an argument (the whole row as an object).
    pub star: bool,
}

/// One documented call that a test runs and the reference page shows.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// A select item over the row `input`: `abs(a)`.
    pub call: &'static str,
    /// The input rows as JSON lines (one for scalars; several for aggregates and analytic functions).
    pub input: &'static str,
    /// The result as JSON (of the last row, for analytic functions), or `error`.
    pub result: &'static str,
}

/// A function of the language.
#[derive(Clone)]
pub struct Function {
    /// Lower case.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// Which arguments it takes.
    pub arity: Arity,
    /// The type of the result.
    pub returns: fn(&[Type]) -> Type,
    /// What a null argument does.
    pub null: NullPolicy,
    /// Whether it may be folded.
    pub volatility: Volatility,
    /// How whole numbers of unknown kind reach it.
    pub numbers: Numbers,
    /// The whole row comes as one more argument, an object behind the others.
    pub with_row: bool,
    /// The lookup table, by SQL name, whose column `value` comes as one more argument, behind the others: of the row whose
    /// `key` is the first argument, missing if there is none.
    pub looks_up: Option<&'static str>,
    /// Extra check of the arguments when planning (`None` for an argument that is no literal).
    pub check: Option<LiteralCheck>,
    /// One or two sentences for the reference page.
    pub docs: &'static str,
    /// Worked examples.
    pub examples: &'static [Example],
    /// What it does.
    pub body: Body,
}

/// A check of the literals among the arguments: `None` for what is no literal.
pub type LiteralCheck = fn(&[Option<Value>]) -> Result<(), String>;

/// A scalar's body: arguments in, value out. Null policy has been applied.
pub type ScalarFn = fn(&[Value], &mut EvalContext<'_>) -> Result<Value, EvalError>;

/// What a function does, by class.
#[derive(Clone)]
pub enum Body {
    /// One value per row from that row's arguments.
    Scalar(ScalarFn),
    /// As `Scalar`, with state per call site (`decompress`, `last_hit_count`).
    Stateful(fn() -> Box<dyn StatefulFunction>),
    /// As `Stateful`, supplied from outside and slow: whoever runs the chain sees to it that nobody else has to wait
    /// ([`crate::plan::RulePlan::is_slow`]).
    External(Arc<dyn ExternalFunction>),
    /// One value per group.
    Aggregate(fn() -> Box<dyn Accumulators>),
    /// One value per row from the rows so far, per call site and partition.
    Analytic(fn() -> Box<dyn AnalyticFunction>),
    /// Several columns from one row (`changed_cols`): an object whose members become columns.
    MultiColumn(fn() -> Box<dyn MultiColumnFunction>),
    /// Several rows from one (`unnest`, `extract`).
    MultiRow(fn(&Value) -> Result<Vec<Value>, EvalError>),
    /// Numbers rows within an emission (`row_number`).
    Window,
    /// `dedup_trigger`
    Trigger,
    /// Answered from the row's surroundings by the evaluator.
    Context(ContextFn),
}

/// Functions that read the surroundings of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextFn {
    /// `window_start()`
    WindowStart,
    /// `window_end()`
    WindowEnd,
    /// `window_trigger()`
    WindowTrigger,
    /// `event_time()`
    EventTime,
    /// `meta(ref)`, `mqtt(ref)`: resolved to a meta slot by the planner
    Meta,
}

/// A scalar with state per call site.
pub trait StatefulFunction: Send {
    /// The value for one row.
    fn eval(&mut self, args: &[Value], ctx: &mut EvalContext<'_>) -> Result<Value, EvalError>;
    /// The value that `eval` would give, if reading it in a condition must not change it. `eval` is then called once the
    /// condition has turned out true.
    fn peek(&self) -> Option<Value> {
        None
    }
    /// Writes or reads what must survive a restart. Without it there is nothing: what is kept only saves work.
    fn state(&mut self, _io: &mut StateIo) {}
}

/// What is known of an argument when a call is planned.
#[derive(Clone, Debug, Default)]
pub struct ArgFacts {
    /// Its value, if it is the same for all rows.
    pub literal: Option<Value>,
    /// Its type.
    pub ty: Type,
    /// The sides of the tensor that it is ([`ExternalFunction::tensor`]).
    pub tensor: Option<Vec<usize>>,
}

/// A function that is supplied from outside: what it works with may be beyond this crate.
pub trait ExternalFunction: Send + Sync {
    /// Checks a call when it is planned, and gives the type of its result.
    ///
    /// # Errors
    /// What is wrong with the call.
    fn check(&self, args: &[ArgFacts]) -> Result<Type, String>;
    /// The sides of the tensor that a call gives, if that is what it gives and they are known when it is planned.
    fn tensor(&self, _args: &[ArgFacts]) -> Option<Vec<usize>> {
        None
    }
    /// The function as it is for this call, if what is known of the arguments makes a difference when it runs.
    fn bind(&self, _args: &[ArgFacts]) -> Option<Arc<dyn ExternalFunction>> {
        None
    }
    /// The function for one call site.
    fn start(&self) -> Box<dyn StatefulFunction>;
}

/// Collects the values of groups, which are numbered from 0. One instance per call and set of groups.
pub trait Accumulators: Send {
    /// There is one group more.
    fn push(&mut self);
    /// Takes the arguments of one row of a group. `*` comes as one object.
    fn update(&mut self, group: usize, args: &[Value]) -> Result<(), EvalError>;
    /// Takes over what another instance for the same call has seen of a group, later rows: panes of hopping windows are merged
    /// so. Returns false if it can't; rows are then replayed.
    fn merge(&mut self, group: usize, later: &dyn Accumulators, later_group: usize) -> Result<bool, EvalError>;
    /// A group's value. Does not consume: a pane may be read by several windows.
    fn result(&self, group: usize) -> Result<Value, EvalError>;
    /// A copy with the same content.
    fn boxed_clone(&self) -> Box<dyn Accumulators>;
    /// Writes or reads everything that it has seen of a group.
    fn state(&mut self, group: usize, io: &mut StateIo);
    /// For `merge` to reach the other one's fields.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// A function over the rows so far. One instance per call site and partition.
pub trait AnalyticFunction: Send {
    /// The value for a row. `valid` is the outcome of `OVER (WHEN ...)`, true without that clause.
    fn eval(&mut self, args: &[Value], valid: bool, ctx: &mut EvalContext<'_>) -> Result<Value, EvalError>;
    /// Writes or reads everything that it has seen.
    fn state(&mut self, io: &mut StateIo);
}

/// Several columns from one row.
pub trait MultiColumnFunction: Send {
    /// `names` are the column names of `args`.
    fn eval(&mut self, names: &[SmolStr], args: &[Value]) -> Result<Object, EvalError>;
    /// Writes or reads everything that it has seen.
    fn state(&mut self, io: &mut StateIo);
}

/// All functions by name.
#[derive(Clone, Default)]
pub struct Registry {
    by_name: HashMap<SmolStr, Arc<Function>>,
    /// Functions that are not here, and where they are.
    elsewhere: HashMap<SmolStr, &'static str>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The functions of the language.
    pub fn builtin() -> Self {
        BUILTIN.clone()
    }

    /// Adds functions, with their aliases. A later one replaces an earlier one of the same name.
    pub fn extend(&mut self, functions: impl IntoIterator<Item = Function>) {
        for function in functions {
            let function = Arc::new(function);
            for name in std::iter::once(&function.name).chain(function.aliases) {
                self.by_name.insert(SmolStr::new_static(name), Arc::clone(&function));
            }
        }
    }

    /// The function called `name`, in any case.
    pub fn get(&self, name: &str) -> Option<&Arc<Function>> {
        self.by_name.get(name.to_ascii_lowercase().as_str())
    }

    /// Says where functions are that this registry lacks: what a statement that calls one is told.
    pub fn extend_elsewhere(&mut self, names: &[&'static str], place: &'static str) {
        self.elsewhere.extend(names.iter().map(|name| (SmolStr::new_static(name), place)));
    }

    /// Where the function called `name` is, if it is known not to be here.
    pub fn elsewhere(&self, name: &str) -> Option<&'static str> {
        self.elsewhere.get(name.to_ascii_lowercase().as_str()).copied()
    }

    /// All names, aliases too, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(SmolStr::as_str)
    }
}

static BUILTIN: LazyLock<Registry> = LazyLock::new(|| {
    let mut registry = Registry::new();
    families().into_iter().for_each(|(_, functions)| registry.extend(functions()));
    registry
});

/// A family: its title in the reference page, and its list.
type Family = (&'static str, fn() -> Vec<Function>);

/// The lists of functions, in the order of the reference page.
fn families() -> [Family; 17] {
    [
        ("Aggregates", aggregate::functions),
        ("Statistics", statistics::functions),
        ("Analytic functions", analytic::functions),
        ("Columns and rows", columns::functions),
        ("Text", string::functions),
        ("Numbers", math::functions),
        ("Dates and times", datetime::functions),
        ("Arrays", array::functions),
        ("Objects", object::functions),
        ("JSON", json::functions),
        ("Conversion", transform::functions),
        ("Hashes", hash::functions),
        ("Surroundings", context::functions),
        ("Other", other::functions),
        ("Geohashes", geohash::functions),
        ("Tensors", tensor::functions),
        ("Examples of extensions", extension::functions),
    ]
}
