//! Leader election on a Lease: one process acts, others stand by. The one that acts lets go when it ends.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use tokio::time::Instant;

use super::api::{is_not_found, shown};

/// How long a holder that says nothing is taken to act.
const LIFE: Duration = Duration::from_secs(15);
/// How often the holder says that it acts.
const RENEW: Duration = Duration::from_secs(5);
/// A holder that could not say so for this long stops acting: before another one begins.
const GIVE_UP: Duration = Duration::from_secs(10);
/// How often others look.
const RETRY: Duration = Duration::from_secs(2);

/// A Lease that is, or is to be, held.
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// What was seen of another holder, and when it was seen to change: its clock may not be ours.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Election {
    /// Nothing is held yet.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Election {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: None,
        }
    }

    /// Completes when the Lease is held. Cancel-safe.
    pub async fn acquire(&mut self) {
        loop {
            match self.try_hold().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!("lease: {}", shown(&error)),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Completes when the Lease is lost: another process holds it, or it could not be renewed in time. Cancel-safe.
    pub async fn lost(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RENEW).await;
            loop {
                let left = GIVE_UP.saturating_sub(renewed.elapsed());
                match tokio::time::timeout(left, self.try_hold()).await {
                    Ok(Ok(true)) => {
                        renewed = Instant::now();
                        break;
                    }
                    Ok(Ok(false)) => return tracing::warn!("lease: another process holds it"),
                    Ok(Err(error)) => {
                        tracing::warn!("lease can't be renewed: {}", shown(&error));
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                    Err(_) => {}
                }
                if renewed.elapsed() >= GIVE_UP {
                    return tracing::warn!("lease: it could not be renewed in time");
                }
            }
        }
    }

    /// Lets go, so that the next one need not wait.
    pub async fn release(&self) {
        let Ok(mut lease) = self.api.get(&self.name).await else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            return;
        }
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        if let Err(error) = self.api.replace(&self.name, &PostParams::default(), &lease).await {
            tracing::warn!("lease not released: {}", shown(&error));
        }
    }

    /// True if the Lease is ours now.
    async fn try_hold(&mut self) -> Result<bool, Error> {
        let now = MicroTime(jiff::Timestamp::now());
        let life = i32::try_from(LIFE.as_secs()).ok();
        let mut lease = match self.api.get(&self.name).await {
            Ok(lease) => lease,
            Err(error) if is_not_found(&error) => {
                let spec = LeaseSpec {
                    holder_identity: Some(self.identity.clone()),
                    lease_duration_seconds: life,
                    acquire_time: Some(now.clone()),
                    renew_time: Some(now),
                    lease_transitions: Some(0),
                    ..LeaseSpec::default()
                };
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(spec) };
                return won(self.api.create(&PostParams::default(), &lease).await);
            }
            Err(error) => return Err(error),
        };
        let spec = lease.spec.get_or_insert_default();
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
        if holder.as_ref() != Some(&self.identity) {
            if holder.is_some() {
                let seen = match &self.seen {
                    Some((known, at)) if known == spec => *at,
                    _ => {
                        let at = Instant::now();
                        self.seen = Some((spec.clone(), at));
                        at
                    }
                };
                let life = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
                if seen.elapsed() < life.map_or(LIFE, Duration::from_secs) {
                    return Ok(false);
                }
            }
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = life;
        spec.renew_time = Some(now);
        // Fails if someone else was faster: the version is sent along.
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }
}

fn won(answer: Result<Lease, Error>) -> Result<bool, Error> {
    match answer {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
