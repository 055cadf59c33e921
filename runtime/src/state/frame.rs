//! The envelope of everything on the volume: kind, version, length, checksum, content.

/// Bytes in front of the content.
pub const HEADER_BYTES: usize = 16;

/// What a frame holds and in which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Tells kinds of content apart.
    pub tag: [u8; 2],
    /// The newest version that is written, and the only one that is read.
    pub version: u16,
}

/// Why a frame could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It ends before its content does.
    #[error("cut short")]
    Short,
    /// The checksum does not fit: bits have changed.
    #[error("damaged: its checksum does not fit")]
    Damaged,
    /// Something else than was expected.
    #[error("not what was expected here")]
    Kind,
    /// Written by another version of Sluice.
    #[error("written in version {0}, which this build does not read")]
    Version(u16),
}

/// Appends a frame with `content` to `out`.
pub fn seal(kind: Kind, content: &[u8], out: &mut Vec<u8>) {
    let start = begin(kind, out);
    out.extend_from_slice(content);
    finish(start, out);
}

/// Begins a frame at the end of `out`, to write its content behind; gives its place for [`finish`].
pub fn begin(kind: Kind, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&kind.tag);
    out.extend_from_slice(&kind.version.to_le_bytes());
    out.extend_from_slice(&[0; HEADER_BYTES - 4]);
    start
}

/// Ends the frame that begins at `start`: its content reaches to the end of `out`.
pub fn finish(start: usize, out: &mut [u8]) {
    let Some((header, content)) = out.get_mut(start..).and_then(|frame| frame.split_at_mut_checked(HEADER_BYTES))
    else {
        return;
    };
    let checksum = checksum(content);
    let n_bytes = content.len() as u64;
    header[4..12].copy_from_slice(&n_bytes.to_le_bytes());
    header[12..16].copy_from_slice(&checksum.to_le_bytes());
}

/// The content of the frame that `bytes` begin with, and what follows it.
///
/// # Errors
/// What is wrong with it.
pub fn open(kind: Kind, bytes: &[u8]) -> Result<(&[u8], &[u8]), FrameError> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or(FrameError::Short)?;
    if header[..2] != kind.tag {
        return Err(FrameError::Kind);
    }
    let version = u16::from_le_bytes([header[2], header[3]]);
    if version != kind.version {
        return Err(FrameError::Version(version));
    }
    let n_bytes = header[4..12].iter().rev().fold(0_u64, |n_bytes, byte| n_bytes << 8 | u64::from(*byte));
    let n_bytes = usize::try_from(n_bytes).map_err(|_| FrameError::Short)?;
    let (content, rest) = rest.split_at_checked(n_bytes).ok_or(FrameError::Short)?;
    let expected = header[12..16].iter().rev().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    if checksum(content) != expected { Err(FrameError::Damaged) } else { Ok((content, rest)) }
}

/// What tells damaged content.
pub fn checksum(content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    // An empty frame must differ from a row of zeros.
    hasher.update(b"sluice");
    hasher.update(content);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { tag: *b"Tt", version: 3 };

    #[test]
    fn frames() {
        let mut out = Vec::new();
        seal(KIND, b"one", &mut out);
        seal(KIND, b"", &mut out);
        let (one, rest) = open(KIND, &out).unwrap();
        assert_eq!(one, b"one");
        assert_eq!(open(KIND, rest).unwrap(), (&b""[..], &b""[..]));
        for n_bytes in 0..HEADER_BYTES + 3 {
            assert_eq!(open(KIND, &out[..n_bytes]), Err(FrameError::Short));
        }
        assert_eq!(open(Kind { version: 4, ..KIND }, &out), Err(FrameError::Version(3)));
        assert_eq!(open(Kind { tag: *b"Xx", ..KIND }, &out), Err(FrameError::Kind));
        let n_bytes = HEADER_BYTES + 3;
        for byte_idx in 12..n_bytes {
            let mut damaged = out[..n_bytes].to_vec();
            damaged[byte_idx] ^= 0x10;
            assert_eq!(open(KIND, &damaged), Err(FrameError::Damaged), "byte {byte_idx}");
        }
        assert!(open(KIND, &[0; 64]).is_err());
    }
}
