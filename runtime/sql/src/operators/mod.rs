//! Operators over rows and time, and the chain that a plan becomes.
//!
//! Plain functions: no task, no clock, no socket. The pipeline calls [`Chain`], fetches what its lookup joins ask for, and
//! hands the results to the sinks.
//!
//! [`Chain`] takes rows through the stages of the plan in their order; each file here is one stage:
//! `watermark` → `compute` → (filter) → `window` → `join` → `lookup` → `tail` (with `aggregate`). What they keep is written and read by `state`.

mod aggregate;
mod chain;
mod compute;
mod input;
mod join;
mod lookup;
mod lookup_cache;
mod output;
mod state;
mod tail;
mod trigger;
mod watermark;
mod window;

pub use chain::Chain;
pub use lookup::{LookupAnswer, LookupKey, LookupRequest};
pub use lookup_cache::LookupCache;
pub use state::{ChainState, Restored};
