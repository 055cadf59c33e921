//! Compression of whole messages.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Deserialize;

/// How a message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// gzip
    Gzip,
    /// zlib
    Zlib,
    /// Bare deflate.
    Flate,
    /// Zstandard
    Zstd,
}

impl Compression {
    /// The option's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zlib => "zlib",
            Compression::Flate => "flate",
            Compression::Zstd => "zstd",
        }
    }

    /// Compresses a message.
    ///
    /// # Errors
    /// Those of the compressor.
    pub fn compress(self, body: &[u8]) -> io::Result<Vec<u8>> {
        let level = flate2::Compression::default();
        match self {
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(body)?;
                encoder.finish()
            }
            Compression::Zlib => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(body)?;
                encoder.finish()
            }
            Compression::Flate => {
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(body)?;
                encoder.finish()
            }
            Compression::Zstd => zstd::bulk::compress(body, zstd::DEFAULT_COMPRESSION_LEVEL),
        }
    }
}
