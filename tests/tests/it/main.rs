//! Suites against real services. One binary, so that it links once and the services are shared.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]
#![expect(clippy::disallowed_methods, reason = "each suite joins what it spawns")]

mod acceptance;
mod bad_input;
mod chart;
mod command;
mod connector;
mod control_plane;
mod edgex;
mod example;
mod faults;
mod lookup;
mod mqtt;
mod nats;
mod operator;
mod pods;
mod pubsub;
mod push;
mod queue;
mod rules;
mod services;
mod sink_influx;
