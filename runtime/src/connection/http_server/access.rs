//! Who is let in: bearer tokens, users with passwords, and signatures of the body.
//!
//! Only keyed hashes of tokens and passwords are kept, and they are compared in constant time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName};
use rand::RngExt;
use ring::hmac;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::ConfigError;
use crate::options::{HumanDuration, Secret};
use crate::time::Clock;

/// Options that say who is let in; flatten them into a connector's config. Of several ways, one is enough. Without any,
/// everybody is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessOptions {
    /// Tokens of clients that are let in: `Authorization: Bearer TOKEN`. Several may be valid at once, so that they can be
    /// changed one after the other.
    pub bearer_tokens: Option<Vec<Secret>>,
    /// Names and passwords of clients that are let in: `Authorization: Basic ...`.
    pub basic_users: Option<BTreeMap<String, Secret>>,
}

/// Options for clients that sign what they send; flatten them into a connector's config.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SignatureOptions {
    /// Keys of clients that are let in if they sign the body as it is sent: HMAC-SHA256, in hex or base64, after an optional
    /// `sha256=`.
    pub hmac_secrets: Option<Vec<Secret>>,
    /// The header with the signature; `X-Signature-256` by default.
    pub hmac_header: Option<String>,
    /// The header with the time of the signature, in seconds since 1970: `TIME.BODY` is signed then, instead of the body, and a
    /// request can't be sent again later.
    pub hmac_timestamp_header: Option<String>,
    /// How far that time may be off; 5 minutes by default.
    pub hmac_tolerance: Option<HumanDuration>,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// Nothing that could be checked was given; this is what is wanted (`WWW-Authenticate`).
    Unknown(String),
    /// What was given is wrong.
    Wrong(&'static str),
}

/// How a request is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// As it is.
    Granted,
    /// If the signature fits the body.
    Signed(Claim),
}

/// A signature that is still to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    signature: Vec<u8>,
    /// As it stands in its header.
    time: Option<Vec<u8>>,
}

/// Who is let in.
pub struct Access {
    key: hmac::Key,
    bearer: Option<Vec<hmac::Tag>>,
    /// Of `name:password`.
    basic: Option<Vec<hmac::Tag>>,
    signature: Option<Signature>,
    clock: Option<Arc<dyn Clock>>,
}

/// Shows nothing of what it holds.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Access")
    }
}

struct Signature {
    keys: Vec<hmac::Key>,
    header: HeaderName,
    time_header: Option<HeaderName>,
    tolerance: Duration,
}

impl Access {
    /// Checks the options.
    ///
    /// # Errors
    /// Empty lists and texts, names that are no headers.
    pub fn new(access: &AccessOptions, signature: &SignatureOptions) -> Result<Self, ConfigError> {
        let mut problems = ConfigError::default();
        let seed: [u8; 32] = rand::rng().random();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &seed);
        let bearer = access.bearer_tokens.as_ref().map(|tokens| {
            check_secrets("bearerTokens", tokens, &mut problems);
            tokens.iter().map(|token| hmac::sign(&key, token.expose().trim().as_bytes())).collect()
        });
        let basic = access.basic_users.as_ref().map(|users| {
            if users.is_empty() {
                problems.push("basicUsers", "names nobody: nobody would be let in; leave it out to let everybody in");
            }
            for (name, password) in users {
                if name.contains(':') || name.is_empty() || password.is_empty() {
                    problems.push(format!("basicUsers.{name}"), "a user needs a name without a colon, and a password");
                }
            }
            let pair = |(name, password): (&String, &Secret)| format!("{name}:{}", password.expose());
            users.iter().map(|user| hmac::sign(&key, pair(user).as_bytes())).collect()
        });
        let mut header = |option: &str, name: &Option<String>, default: Option<&'static str>| {
            let name = name.as_deref().or(default)?;
            let header = HeaderName::from_bytes(name.as_bytes());
            header.map_err(|_| problems.push(option, "is no name of an HTTP header")).ok()
        };
        let signature_header = header("hmacHeader", &signature.hmac_header, Some("x-signature-256"));
        let time_header = header("hmacTimestampHeader", &signature.hmac_timestamp_header, None);
        let signature = match (&signature.hmac_secrets, signature_header) {
            (Some(secrets), Some(header)) => {
                check_secrets("hmacSecrets", secrets, &mut problems);
                let key = |secret: &Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
                let tolerance = signature.hmac_tolerance.map_or(Duration::from_secs(300), |tolerance| tolerance.0);
                Some(Signature { keys: secrets.iter().map(key).collect(), header, time_header, tolerance })
            }
            (None, _) if *signature != SignatureOptions::default() => {
                problems.push("hmacSecrets", "signatures need a key");
                None
            }
            _ => None,
        };
        let access = Access { key, bearer, basic, signature, clock: None };
        if problems.problems.is_empty() { Ok(access) } else { Err(problems) }
    }

    /// With the clock that signatures are dated by.
    pub fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.clock = Some(clock);
    }

    /// Looks at what a request brings.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<Admission, Denied> {
        if self.bearer.is_none() && self.basic.is_none() && self.signature.is_none() {
            return Ok(Admission::Granted);
        }
        let authorization = headers.get(AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
        let (scheme, given) = match authorization.iter().position(|byte| *byte == b' ') {
            Some(space) => (&authorization[..space], authorization[space..].trim_ascii()),
            None => (authorization, &b""[..]),
        };
        if let Some(tokens) = &self.bearer
            && scheme.eq_ignore_ascii_case(b"bearer")
        {
            return self
                .compare(tokens, given)
                .then_some(Admission::Granted)
                .ok_or(Denied::Wrong("the token is not known"));
        }
        if let Some(users) = &self.basic
            && scheme.eq_ignore_ascii_case(b"basic")
        {
            let pair = base64::engine::general_purpose::STANDARD.decode(given).unwrap_or_default();
            let is_known = self.compare(users, &pair);
            return is_known.then_some(Admission::Granted).ok_or(Denied::Wrong("name or password is wrong"));
        }
        if let Some(signature) = &self.signature
            && let Some(given) = headers.get(&signature.header)
        {
            let Some(given) = decode_signature(given.as_bytes()) else {
                return Err(Denied::Wrong("the signature is neither hex nor base64 of a SHA-256"));
            };
            let time = match &signature.time_header {
                None => None,
                Some(name) => match headers.get(name).map(|time| time.as_bytes()) {
                    Some(time) if self.is_recent(time, signature.tolerance) => Some(time.to_vec()),
                    Some(_) => return Err(Denied::Wrong("the time of the signature is too far off")),
                    None => return Err(Denied::Wrong("the signature comes without its time")),
                },
            };
            return Ok(Admission::Signed(Claim { signature: given, time }));
        }
        Err(Denied::Unknown(self.challenge()))
    }

    /// Checks a signature against the body as it was sent.
    pub(super) fn check_body(&self, claim: &Claim, body: &[u8]) -> Result<(), Denied> {
        let Some(Signature { keys, .. }) = &self.signature else { return Err(Denied::Wrong("nobody signs here")) };
        let mut is_right = false;
        for key in keys {
            is_right |= match &claim.time {
                None => hmac::verify(key, body, &claim.signature).is_ok(),
                Some(time) => {
                    let dated = [time, &b"."[..], body].concat();
                    hmac::verify(key, &dated, &claim.signature).is_ok()
                }
            };
        }
        if is_right { Ok(()) } else { Err(Denied::Wrong("the signature does not fit the body")) }
    }

    /// Compares with all of them, whichever fits.
    fn compare(&self, known: &[hmac::Tag], given: &[u8]) -> bool {
        let mut is_known = false;
        for tag in known {
            is_known |= hmac::verify(&self.key, given, tag.as_ref()).is_ok();
        }
        is_known
    }

    fn is_recent(&self, time: &[u8], tolerance: Duration) -> bool {
        let seconds = std::str::from_utf8(time).ok().and_then(|text| text.parse::<i64>().ok());
        let (Some(seconds), Some(clock)) = (seconds, &self.clock) else { return false };
        u128::from(seconds.saturating_mul(1000).abs_diff(clock.now())) <= tolerance.as_millis()
    }

    /// What is wanted, for `WWW-Authenticate`.
    fn challenge(&self) -> String {
        let mut ways = Vec::new();
        if self.bearer.is_some() {
            ways.push("Bearer".to_owned());
        }
        if self.basic.is_some() {
            ways.push("Basic realm=\"sluice\", charset=\"UTF-8\"".to_owned());
        }
        if let Some(signature) = &self.signature {
            ways.push(format!("HMAC-SHA256 header=\"{}\"", signature.header));
        }
        ways.join(", ")
    }
}

fn check_secrets(option: &str, secrets: &[Secret], problems: &mut ConfigError) {
    if secrets.is_empty() {
        problems.push(option, "is empty: nobody would be let in; leave it out to let everybody in");
    }
    for (idx, secret) in secrets.iter().enumerate() {
        if secret.expose().trim().is_empty() {
            problems.push(format!("{option}[{idx}]"), "is empty");
        }
    }
}

fn decode_signature(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let text = text.strip_prefix("sha256=").unwrap_or(text);
    let decoded = if text.len() == 64 {
        hex::decode(text).ok()?
    } else {
        base64::engine::general_purpose::STANDARD.decode(text).ok()?
    };
    (decoded.len() == 32).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(i64);

    impl Clock for At {
        fn now(&self) -> i64 {
            self.0
        }
    }

    fn secrets(texts: &[&str]) -> Option<Vec<Secret>> {
        Some(texts.iter().map(|text| Secret::new(*text)).collect())
    }

    fn access(access: &AccessOptions, signature: &SignatureOptions) -> Access {
        let mut access = Access::new(access, signature).unwrap();
        access.set_clock(Arc::new(At(1_000_000_000)));
        access
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn tokens_and_users() {
        let options = AccessOptions {
            bearer_tokens: secrets(&["t1", "t2\n"]),
            basic_users: Some(BTreeMap::from([("ada".to_owned(), Secret::new("p:w"))])),
        };
        let access = access(&options, &SignatureOptions::default());
        let basic = |pair: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        let unknown = Denied::Unknown("Bearer, Basic realm=\"sluice\", charset=\"UTF-8\"".to_owned());
        for (given, expected) in [
            ("Bearer t1".to_owned(), Ok(Admission::Granted)),
            ("bearer  t2".to_owned(), Ok(Admission::Granted)),
            ("Bearer t".to_owned(), Err(Denied::Wrong("the token is not known"))),
            ("Bearer".to_owned(), Err(Denied::Wrong("the token is not known"))),
            (basic("ada:p:w"), Ok(Admission::Granted)),
            (basic("ada:p"), Err(Denied::Wrong("name or password is wrong"))),
            ("Basic §".to_owned(), Err(Denied::Wrong("name or password is wrong"))),
            ("Digest x".to_owned(), Err(unknown.clone())),
            (String::new(), Err(unknown)),
        ] {
            let value = hyper::header::HeaderValue::from_bytes(given.as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            assert_eq!(access.check(&headers), expected, "{given}");
        }
    }

    #[test]
    fn signatures() {
        let plain = SignatureOptions { hmac_secrets: secrets(&["old", "new"]), ..SignatureOptions::default() };
        let dated = SignatureOptions { hmac_timestamp_header: Some("X-Time".to_owned()), ..plain.clone() };
        let (plain, dated) = (access(&AccessOptions::default(), &plain), access(&AccessOptions::default(), &dated));
        let sign = |key: &str, text: &str| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), text.as_bytes()).as_ref().to_vec()
        };
        let hex = |key: &str, text: &str| format!("sha256={}", hex::encode(sign(key, text)));
        let base64 = |key: &str, text: &str| base64::engine::general_purpose::STANDARD.encode(sign(key, text));
        let now = "1000000";
        let wrong = "403 the signature does not fit the body";
        for (access, signature, time, expected) in [
            (&plain, hex("new", "body"), None, "ok"),
            (&plain, base64("old", "body"), None, "ok"),
            (&plain, hex("other", "body"), None, wrong),
            (&plain, hex("new", "bode"), None, wrong),
            (&plain, "sha256=00".to_owned(), None, "403 the signature is neither hex nor base64 of a SHA-256"),
            (&plain, String::new(), None, "403 the signature is neither hex nor base64 of a SHA-256"),
            (&dated, hex("new", "1000000.body"), Some(now), "ok"),
            (&dated, hex("new", "999800.body"), Some("999800"), "ok"),
            (&dated, hex("new", "body"), Some(now), wrong),
            (&dated, hex("new", "1000000.body"), None, "403 the signature comes without its time"),
            (&dated, hex("new", "999600.body"), Some("999600"), "403 the time of the signature is too far off"),
            (&dated, hex("new", "x.body"), Some("x"), "403 the time of the signature is too far off"),
        ] {
            let mut headers = headers(&[("x-signature-256", &signature)]);
            if let Some(time) = time {
                headers.insert("x-time", time.parse().unwrap());
            }
            let outcome = access.check(&headers).and_then(|admission| match admission {
                Admission::Granted => panic!("granted without a look at the body"),
                Admission::Signed(claim) => access.check_body(&claim, b"body"),
            });
            let outcome = match outcome {
                Ok(()) => "ok".to_owned(),
                Err(Denied::Wrong(reason)) => format!("403 {reason}"),
                Err(Denied::Unknown(challenge)) => format!("401 {challenge}"),
            };
            assert_eq!(outcome, expected, "{signature} {time:?}");
        }
        let denied = plain.check(&HeaderMap::new()).unwrap_err();
        assert_eq!(denied, Denied::Unknown("HMAC-SHA256 header=\"x-signature-256\"".to_owned()));
    }

    #[test]
    fn everybody_is_let_in_unless_somebody_is_named() {
        let open = access(&AccessOptions::default(), &SignatureOptions::default());
        assert_eq!(open.check(&HeaderMap::new()), Ok(Admission::Granted));
        let none = AccessOptions::default();
        let unsigned = SignatureOptions::default();
        for (access, signature, expected) in [
            (
                AccessOptions { bearer_tokens: Some(Vec::new()), ..none.clone() },
                unsigned.clone(),
                "bearerTokens: is empty",
            ),
            (
                AccessOptions { bearer_tokens: secrets(&["a", " "]), ..none.clone() },
                unsigned.clone(),
                "bearerTokens[1]: is empty",
            ),
            (
                AccessOptions { basic_users: Some(BTreeMap::new()), ..none.clone() },
                unsigned.clone(),
                "basicUsers: names nobody",
            ),
            (
                none.clone(),
                SignatureOptions { hmac_header: Some("X".into()), ..unsigned.clone() },
                "hmacSecrets: signatures need a key",
            ),
            (
                none,
                SignatureOptions { hmac_secrets: secrets(&["k"]), hmac_header: Some("a b".into()), ..unsigned },
                "hmacHeader: is no name",
            ),
        ] {
            let error = Access::new(&access, &signature).err().unwrap().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
