//! Who we are: name and password, a token, or a signature with an Ed25519 key that NATS calls an NKey.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::NatsOptions;
use crate::options::Secret;

/// How we log in.
#[derive(Clone, Debug, Default)]
pub enum Login {
    /// As nobody.
    #[default]
    None,
    /// By name.
    User(String, Secret),
    /// By token.
    Token(Secret),
    /// By key, with a JWT if the server works with accounts.
    Key(NKey, Option<Secret>),
}

impl Login {
    /// The login that the options say.
    pub(super) fn new(options: &NatsOptions) -> Result<Self, (&'static str, String)> {
        if let Some(credentials) = &options.credentials {
            let part = |title| between(credentials.expose(), title).ok_or("expected the text of a credentials file");
            let read = || -> Result<Self, String> {
                let key = NKey::from_seed(part("USER NKEY SEED")?)?;
                Ok(Login::Key(key, Some(Secret::new(part("NATS USER JWT")?))))
            };
            return read().map_err(|message| ("credentials", message));
        }
        if let Some(seed) = &options.nkey_seed {
            let key = NKey::from_seed(seed.expose().trim()).map_err(|message| ("nkeySeed", message))?;
            return Ok(Login::Key(key, None));
        }
        if let Some(token) = &options.token {
            return Ok(Login::Token(token.clone()));
        }
        Ok(match &options.username {
            Some(user) => Login::User(user.clone(), options.password.clone().unwrap_or_default()),
            None => Login::None,
        })
    }

    /// Adds what the server wants to know to the members of CONNECT.
    pub(super) fn fill(&self, connect: &mut serde_json::Map<String, serde_json::Value>, nonce: &str) {
        let mut set = |name: &str, text: &str| connect.insert(name.to_owned(), text.into());
        match self {
            Login::None => {}
            Login::User(user, password) => {
                set("user", user);
                set("pass", password.expose());
            }
            Login::Token(token) => {
                set("auth_token", token.expose());
            }
            Login::Key(key, jwt) => {
                match jwt {
                    Some(jwt) => set("jwt", jwt.expose()),
                    None => set("nkey", &key.public()),
                };
                set("sig", &key.sign(nonce));
            }
        }
    }
}

/// The text between the `BEGIN` and `END` lines of a section.
fn between<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let (_, behind) = text.split_once(&format!("BEGIN {title}"))?;
    let (_, content) = behind.split_once('\n')?;
    let content = content.lines().find(|line| !line.trim().is_empty())?.trim();
    (!content.starts_with('-')).then_some(content)
}

/// A user's key pair.
#[derive(Clone)]
pub struct NKey(Arc<Ed25519KeyPair>);

/// Nothing of it is shown.
impl fmt::Debug for NKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NKey(***)")
    }
}

/// First byte of a user's public key in base 32: `U`.
const PREFIX_USER: u8 = 20 << 3;
/// First bits of a seed: `S`.
const PREFIX_SEED: u8 = 18 << 3;

impl NKey {
    /// Reads a user's seed: base 32 of two prefixes, 32 bytes and a checksum.
    fn from_seed(seed: &str) -> Result<Self, String> {
        let wrong = || "expected the NKey seed of a user: 58 letters and digits that begin with SU".to_owned();
        let bytes = base32_decode(seed).ok_or_else(wrong)?;
        let (content, checksum) = bytes.split_last_chunk::<2>().ok_or_else(wrong)?;
        if crc16(content) != u16::from_le_bytes(*checksum) {
            return Err("the NKey seed has a wrong checksum: is it complete?".to_owned());
        }
        match content {
            [first, second, key @ ..] if key.len() == 32 => {
                if first & 0xf8 != PREFIX_SEED || (first & 7) << 5 | second >> 3 != PREFIX_USER {
                    return Err(wrong());
                }
                Ed25519KeyPair::from_seed_unchecked(key).map(|pair| NKey(Arc::new(pair))).map_err(|_| wrong())
            }
            _ => Err(wrong()),
        }
    }

    fn public(&self) -> String {
        let mut bytes = vec![PREFIX_USER];
        bytes.extend_from_slice(self.0.public_key().as_ref());
        bytes.extend_from_slice(&crc16(&bytes).to_le_bytes());
        base32_encode(&bytes)
    }

    fn sign(&self, nonce: &str) -> String {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(self.0.sign(nonce.as_bytes()))
    }
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32_decode(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut n_bits) = (Vec::new(), 0u32, 0);
    for letter in text.bytes() {
        let digit = ALPHABET.iter().position(|known| *known == letter)?;
        bits = bits << 5 | u32::try_from(digit).ok()?;
        n_bits += 5;
        if n_bits >= 8 {
            n_bits -= 8;
            out.push((bits >> n_bits) as u8);
            bits &= (1 << n_bits) - 1;
        }
    }
    Some(out)
}

fn base32_encode(bytes: &[u8]) -> String {
    let (mut out, mut bits, mut n_bits) = (String::new(), 0u32, 0);
    let mut digit = |bits: u32| out.extend(ALPHABET.get((bits & 31) as usize).map(|letter| char::from(*letter)));
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        n_bits += 8;
        while n_bits >= 5 {
            n_bits -= 5;
            digit(bits >> n_bits);
        }
        bits &= (1 << n_bits) - 1;
    }
    if n_bits > 0 {
        digit(bits << (5 - n_bits));
    }
    out
}

/// CRC-16 with the polynomial of XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the NATS documentation.
    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

    #[test]
    fn keys() {
        let key = NKey::from_seed(SEED).unwrap();
        assert_eq!(key.public(), "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4");
        assert_eq!(format!("{key:?}"), "NKey(***)");
        let public = base32_decode(&key.public()).unwrap();
        let signature = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(key.sign("nonce")).unwrap();
        ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, &public[1..33])
            .verify(b"nonce", &signature)
            .unwrap();
        let flipped = SEED.replace("CU3VY", "CU3VA");
        for (seed, expected) in
            [("", "expected the NKey seed"), ("SU!", "expected the NKey seed"), (&flipped, "the NKey seed has a wrong")]
        {
            let error = NKey::from_seed(seed).unwrap_err();
            assert!(error.starts_with(expected), "{seed}: {error}");
        }
    }

    #[test]
    fn credentials_files() {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.abc.def\n------END NATS USER JWT------\n\n*** IMPORTANT ***\n\
             -----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
        );
        assert_eq!(between(&text, "NATS USER JWT"), Some("eyJ0.abc.def"));
        assert_eq!(between(&text, "USER NKEY SEED"), Some(SEED));
        assert_eq!(between("-----BEGIN NATS USER JWT-----\n---", "NATS USER JWT"), None);
    }
}
