//! Secrets that objects name: asked for by name, never listed, and asked for again to see that a value has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::api::DynamicObject;
use serde_json::Value;
use tokio::time::Instant;

use super::api::{Cluster, Native, is_not_found, shown};
use crate::planning::SecretState;

/// How often a Secret that is not there is asked for.
const MISSING_INTERVAL: Duration = Duration::from_secs(2);

/// The Secrets of one namespace that are in use.
#[derive(Default)]
pub struct Secrets {
    known: BTreeMap<String, Known>,
    /// Grows with each change.
    pub version: u64,
}

struct Known {
    state: SecretState,
    asked: Instant,
}

impl Secrets {
    /// What is known of the Secrets.
    pub fn states(&self) -> BTreeMap<String, SecretState> {
        self.known.iter().map(|(name, known)| (name.clone(), known.state.clone())).collect()
    }

    /// Asks for those that were not asked for within `interval`, and forgets those that are no longer named. Gives the time until
    /// the next one is due.
    pub async fn refresh(
        &mut self,
        cluster: &Cluster,
        namespace: &str,
        names: &BTreeSet<String>,
        interval: Duration,
    ) -> Option<Duration> {
        let before = self.known.len();
        self.known.retain(|name, _| names.contains(name));
        let mut has_changed = self.known.len() != before;
        let interval_of = |state: &SecretState| match state {
            SecretState::Values(_) => interval,
            SecretState::Missing | SecretState::Unreadable(_) => interval.min(MISSING_INTERVAL),
        };
        for name in names {
            let known = self.known.get(name);
            if known.is_some_and(|known| known.asked.elapsed() < interval_of(&known.state)) {
                continue;
            }
            let state = match ask(cluster, namespace, name).await {
                Ok(state) => state,
                Err(error) => match known {
                    // What was there is taken to be there: the API server may be away.
                    Some(Known { state: state @ SecretState::Values(_), .. }) => state.clone(),
                    _ => SecretState::Unreadable(error),
                },
            };
            has_changed |= known.is_none_or(|known| known.state != state);
            self.known.insert(name.clone(), Known { state, asked: Instant::now() });
        }
        self.version += u64::from(has_changed);
        self.known.values().map(|known| interval_of(&known.state).saturating_sub(known.asked.elapsed())).min()
    }
}

async fn ask(cluster: &Cluster, namespace: &str, name: &str) -> Result<SecretState, String> {
    match cluster.api(&Native::Secret.resource(), namespace).get(name).await {
        Ok(secret) => Ok(SecretState::Values(values(&secret))),
        Err(error) if is_not_found(&error) => Ok(SecretState::Missing),
        Err(error) => Err(shown(&error)),
    }
}

/// The values of a Secret, in base64.
pub fn values(secret: &DynamicObject) -> BTreeMap<String, String> {
    let data = secret.data.get("data").and_then(Value::as_object);
    let entries = data.into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
