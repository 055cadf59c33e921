//! Real servers: start, stop, kill, restart on the same port with the same data.
//!
//! A service that several tests can share has `shared()`; what kills and restarts has its own with `start()`.

mod influxdb;
mod mariadb;
mod mosquitto;
mod nats;
mod postgres;
mod process;
mod redis;

pub use influxdb::{InfluxDb1, InfluxDb2};
pub use mariadb::MariaDb;
pub use mosquitto::{Mosquitto, MosquittoOptions};
pub use nats::{Nats, NatsClient, NatsOptions};
pub use postgres::Postgres;
pub use process::{Server, cache, find, free_port, listens, unique};
pub use redis::{Redis, RedisOptions};
