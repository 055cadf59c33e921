//! The state volume: what a process keeps over a crash. Checkpoints of rules, journals of streams, queues of sinks.
//!
//! ```text
//! DIR/
//!   lock                       held by the process that uses the folder
//!   format                     "sluice state 2"
//!   checkpoint/RULE/N          checkpoints of a rule, the newest and the one before it; beside them its epoch
//!   journal/STREAM/N.log       what a stream has accepted, in segments; N is the offset of a segment's first record
//!   queue/                     what sinks have taken and not written yet
//! ```
//!
//! Everything in it is versioned and checksummed ([`frame`]); a part that does not fit is refused with a message, and never
//! read as something else. Start at [`StateStore`].

mod cause;
pub mod checkpoint;
pub mod frame;
pub mod journal;
mod store;
mod volume;

pub use cause::Cause;
pub use store::{OpenJournal, StateStore};
pub(crate) use volume::sync_folder;
pub use volume::{StateError, StateVolume, SyncPolicy, file_name};
