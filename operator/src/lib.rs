//! The operator: keeps the Streams, LookupTables, Rules and Runtimes of a cluster running as pods.
//!
//! ```text
//! watches ──> Snapshot of a namespace ──planning──> Plan ──apply──> StatefulSet, Service, bundle Secret, ...
//!                  ▲          ▲                       └────status──> conditions, events
//!      Secrets by name      reports of runtime pods (long poll)
//! ```
//!
//! Start reading at [`planning::judge`] (what runs), then [`cluster::namespace`] (how it gets there).
//!
//! # What it needs from its surroundings
//!
//! Ports: webhook 9443 (HTTPS, `POST /validate`), metrics and probes 8080 (`/metrics`, `/healthz`, `/readyz`). Its flags, each
//! with an environment variable, are in [`cli::Arguments`].
//!
//! Rights, in each namespace that it serves (a Role each, or a ClusterRole when it serves all):
//!
//! | group | resource | verbs |
//! |---|---|---|
//! | `sluice.dev` | `streams`, `lookuptables`, `rules`, `runtimes` | `list`, `watch` |
//! | `sluice.dev` | `streams/status`, `lookuptables/status`, `rules/status`, `runtimes/status` | `patch` |
//! | `apps` | `statefulsets` | `list`, `watch`, `create`, `patch` |
//! | core | `serviceaccounts` | `list`, `watch`, `create`, `patch`, `delete` |
//! | core | `services` | `list`, `watch`, `create`, `patch` |
//! | `networking.k8s.io` | `networkpolicies` | `list`, `watch`, `create`, `patch` |
//! | core | `pods` | `list`, `watch`, `patch` |
//! | core | `secrets` | `get`, `create`, `patch` |
//! | `events.k8s.io` | `events` | `create` |
//!
//! `create` beside `patch` is what server-side apply of a new object asks for. Everything of a runtime belongs to its
//! ServiceAccount (or to its Runtime object), so the garbage collector removes the rest.
//!
//! Runtime pods run `/usr/bin/sluice run --bundle /etc/sluice/bundle ...` of the runtime image, with a root file system that is read only.
//!
//! In its own namespace: `leases` (`coordination.k8s.io`) `create`, and `get` and `update` of `sluice-operator`; the Secret of the webhook's
//! certificates: `secrets` `create`, and `get` and `update` of `sluice-operator-webhook`. In the cluster, with the webhook: `get` and
//! `patch` of the ValidatingWebhookConfiguration that it puts its CA into.

pub mod cli;
pub mod cluster;
pub mod events;
pub mod metrics;
pub mod object;
pub mod planning;
pub mod run;
pub mod server;
pub mod webhook;
