//! YAML documents to definitions: reads, keeps file and line, merges profiles, resolves secrets.
//!
//! [`load`] is the way in. The steps, a file each: `yaml` (text to trees with places), `document` (trees to documents of a
//! kind), `variable` (`${name}`), `secret` and `profile` (where options come from), `resolve` (documents to definitions).
//! Nothing here plans SQL or knows a connector: that is [`crate::check`]'s.

mod document;
mod load;
mod object;
mod place;
mod profile;
mod resolve;
mod secret;
mod source;
mod variable;
pub mod yaml;

pub use document::{Document, Kind, SourceFile};
pub use load::{Manifests, Settings, load, load_text};
pub use object::{Object, load_objects};
pub use place::Place;
pub use secret::Secrets;

#[cfg(test)]
mod tests;
