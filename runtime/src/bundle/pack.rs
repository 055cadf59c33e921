//! Bundles to bytes and back.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::folder::BundleError;
use super::{Bundle, FORMAT};

/// Most bytes of one part: a Secret holds 1 MiB.
pub const PART_BYTES: usize = 1_000_000;
/// Most bytes of a bundle when it is not compressed.
const MAX_BYTES: u64 = 256 << 20;

/// A bundle as bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Packed {
    /// What the parts are.
    pub index: Index,
    /// At least one.
    pub parts: Vec<Vec<u8>>,
}

/// What the parts of a bundle are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Layout of the bundle.
    pub format: u32,
    /// Hash of its compressed bytes, which is its name too.
    pub id: String,
    /// Number of parts.
    pub parts: usize,
}

impl Bundle {
    /// Compresses it and cuts it into parts. Equal bundles give equal bytes.
    pub fn pack(&self) -> Packed {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        serde_json::to_writer(&mut encoder, self).expect("a bundle is plain data, and memory takes it");
        let bytes = encoder.finish().expect("memory takes what is written");
        let id = hex::encode(Sha256::digest(&bytes));
        let parts: Vec<Vec<u8>> = bytes.chunks(PART_BYTES).map(<[u8]>::to_vec).collect();
        Packed { index: Index { format: FORMAT, id, parts: parts.len() }, parts }
    }
}

/// Puts the parts together and reads the bundle.
///
/// # Errors
/// They are not those of the index, or hold no bundle that this Sluice reads.
pub fn unpack<P: AsRef<[u8]>>(index: &Index, parts: &[P]) -> Result<Bundle, BundleError> {
    if index.format > FORMAT {
        return Err(BundleError::TooNew { format: index.format });
    }
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_ref());
    }
    if parts.len() != index.parts || hex::encode(digest.finalize()) != index.id {
        return Err(BundleError::Torn);
    }
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(part.as_ref());
    }
    let mut text = Vec::new();
    let invalid = |error: String| BundleError::Invalid(error);
    let n_read = GzDecoder::new(bytes.as_slice()).take(MAX_BYTES + 1).read_to_end(&mut text);
    if n_read.map_err(|error| invalid(error.to_string()))? as u64 > MAX_BYTES {
        return Err(invalid(format!("larger than {} MiB", MAX_BYTES >> 20)));
    }
    // The text of the error may quote the bundle, which holds secrets.
    serde_json::from_slice(&text)
        .map_err(|error| invalid(format!("at line {}, column {}", error.line(), error.column())))
}

/// For tests of readers: a packed bundle as the files of a folder.
impl Packed {
    /// Writes index and parts as a mounted Secret shows them.
    ///
    /// # Errors
    /// The folder can't be written to.
    pub fn write_to(&self, folder: &std::path::Path) -> std::io::Result<()> {
        for (part_idx, part) in self.parts.iter().enumerate() {
            std::fs::File::create(folder.join(format!("part-{part_idx}")))?.write_all(part)?;
        }
        std::fs::write(folder.join("index.json"), serde_json::to_vec(&self.index)?)
    }
}
