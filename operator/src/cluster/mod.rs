//! The side of the operator that talks: watches, applies, asks pods, writes status. Decides nothing; that is [`crate::planning`]'s.

pub mod api;
pub mod apply;
pub mod controller;
pub mod lease;
pub mod namespace;
pub mod nudge;
pub mod pods;
pub mod queue;
pub mod secrets;
pub mod store;
pub mod watches;
