//! Profiles: groups of options in files such as `mqtt.yaml` or `sql.yaml`, kept in a Secret. The group `default` always
//! applies; a named one is laid over it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sluice_crds::DEFAULT_SECRET;
use sluice_sql::sql::nearest;

use super::secret::Secrets;
use super::yaml;

/// The group that always applies.
const DEFAULT: &str = "default";

/// What a stream or table asks for.
pub(super) struct Request<'a> {
    /// The connector.
    pub connector: &'a str,
    /// The Secret that is named; else the usual one is used, if it is there.
    pub secret: Option<&'a str>,
    /// The group that is named.
    pub profile: Option<&'a str>,
    /// For a lookup table.
    pub lookup: bool,
}

/// Why there is no such profile, and whether the Secret or the profile is to blame.
pub(super) enum ProfileError {
    /// The Secret is not there.
    Secret(String),
    /// Its file can't be read, or lacks the group.
    Profile(String),
}

/// The options of the profile, and for each, by lower-case name, where it comes from.
pub(super) type Found = (Map<String, Value>, BTreeMap<String, String>);

/// Looks a profile up.
pub(super) fn find(secrets: &Secrets, request: &Request<'_>) -> Result<Found, ProfileError> {
    let Request { connector, secret, profile, lookup } = *request;
    let nothing = (Map::new(), BTreeMap::new());
    let no_profile = |place: String| match profile {
        None | Some(DEFAULT) => Ok(nothing.clone()),
        Some(profile) => Err(ProfileError::Profile(format!("profile \"{profile}\" is not there: {place}"))),
    };
    let secret_name = secret.unwrap_or(DEFAULT_SECRET);
    if secrets.is_assumed(secret_name) {
        return Ok(nothing);
    }
    let Some(files) = secrets.get(secret_name) else {
        return match secret {
            Some(_) => Err(ProfileError::Secret(secrets.missing(secret_name))),
            None => no_profile(format!("there is no Secret \"{DEFAULT_SECRET}\"")),
        };
    };
    let names = ["yaml", "yml"].into_iter().flat_map(|extension| {
        [
            format!("{connector}.{extension}"),
            format!("sources.{connector}.{extension}"),
            format!("{connector}_source.{extension}"),
        ]
    });
    let present: Vec<String> = names.filter(|name| files.contains_key(name)).collect();
    let file = match present.as_slice() {
        [] => return no_profile(format!("Secret \"{secret_name}\" has no {connector}.yaml")),
        [file] => file,
        [first, second, ..] => {
            let message = format!("Secret \"{secret_name}\" has both {first} and {second}; keep one of them");
            return Err(ProfileError::Profile(message));
        }
    };
    let place = format!("{file} of Secret \"{secret_name}\"");
    let wrong = |message: String| ProfileError::Profile(format!("{place}: {message}"));
    let text = files.get(file).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let text = text.ok_or_else(|| wrong("not UTF-8 text".into()))?;
    let mut documents = yaml::parse(text)
        .map_err(|error| wrong(format!("{}:{}: {}", error.span.line, error.span.column, error.message)))?;
    let groups = match (documents.pop().map(|node| node.to_json()), documents.pop()) {
        (None, _) => Map::new(),
        (Some(Value::Object(groups)), None) => groups,
        _ => return Err(wrong("expected one map of profiles".into())),
    };
    let (mut options, mut origins) = nothing;
    let mut lay_over = |name: &str, group: &Value| -> Result<(), ProfileError> {
        let group = match group {
            Value::Object(group) => group,
            Value::Null => return Ok(()),
            _ => return Err(wrong(format!("profile \"{name}\" is not a map"))),
        };
        for (key, value) in group {
            let lower = key.to_lowercase();
            // A source has no use for a lookup table's cache; one file serves both.
            if !lookup && lower == "lookup" {
                continue;
            }
            overlay(&mut options, key, value.clone());
            origins.insert(lower, format!("profile \"{name}\", {place}"));
        }
        Ok(())
    };
    if let Some(group) = groups.get(DEFAULT) {
        lay_over(DEFAULT, group)?;
    }
    if let Some(profile) = profile.filter(|profile| *profile != DEFAULT) {
        let lower = profile.to_lowercase();
        let group = groups.get(profile).or_else(|| groups.get(&lower)).ok_or_else(|| {
            let near = nearest(profile, groups.keys().map(String::as_str));
            let hint = match near {
                Some(near) => format!(", did you mean \"{near}\"?"),
                None => format!("; known are {}", groups.keys().map(String::as_str).collect::<Vec<_>>().join(", ")),
            };
            wrong(format!("there is no profile \"{profile}\"{hint}"))
        })?;
        lay_over(profile, group)?;
    }
    Ok((options, origins))
}

/// Sets an option, in place of one whose name differs in case only.
pub(super) fn overlay(options: &mut Map<String, Value>, key: &str, value: Value) {
    let same = options.keys().find(|name| name.eq_ignore_ascii_case(key)).cloned();
    match same {
        Some(same) => _ = options.insert(same, value),
        None => _ = options.insert(key.to_owned(), value),
    }
}
