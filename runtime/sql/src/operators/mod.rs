//! Operators over rows and time, and the chain that a plan becomes.
//!
//! Plain functions: no task, no clock, no socket. The pipeline calls [`Chain`], fetches what its lookup joins ask for, and
//! hands the results to the sinks.
