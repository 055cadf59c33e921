//! A mounted bundle: `index.json`, `part-0`, `part-1`, ...

use std::fs;
use std::path::Path;

use super::Bundle;
use super::pack::{Index, unpack};

/// Most parts of a bundle.
const MAX_PARTS: usize = 64;

/// Why there is no bundle to be had.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file is not there, or can't be read.
    #[error("{file}: {error}")]
    File {
        /// Its name.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// The parts are not all there, or not those of the index: the next look may find them.
    #[error("its parts are not complete yet")]
    Torn,
    /// It was written by a newer operator.
    #[error("it has layout {format}; this runtime is too old for it")]
    TooNew {
        /// Layout.
        format: u32,
    },
    /// It is none.
    #[error("it can't be read: {0}")]
    Invalid(String),
}

/// The bundle in a folder, with its name.
///
/// # Errors
/// It is not there, or not whole.
pub fn read_folder(folder: &Path) -> Result<(String, Bundle), BundleError> {
    let read = |name: &str| {
        fs::read(folder.join(name)).map_err(|error| match error.kind() {
            // The index is there before a further Secret is.
            std::io::ErrorKind::NotFound if name != "index.json" => BundleError::Torn,
            _ => BundleError::File { file: name.to_owned(), error },
        })
    };
    let index: Index = serde_json::from_slice(&read("index.json")?)
        .map_err(|error| BundleError::Invalid(format!("index.json: {error}")))?;
    if index.parts == 0 || index.parts > MAX_PARTS {
        return Err(BundleError::Invalid(format!("index.json: {} parts", index.parts)));
    }
    let parts: Vec<Vec<u8>> =
        (0..index.parts).map(|part_idx| read(&format!("part-{part_idx}"))).collect::<Result<_, _>>()?;
    let bundle = unpack(&index, &parts)?;
    Ok((index.id, bundle))
}
