//! What the suites share: real services, TLS material, waiting on conditions.
//!
//! Nothing here is a double: each service is the real server, started on a free loopback port with its own data folder and
//! stopped when the test lets go of it, or when the test process dies. A server that is not installed fails the test and says
//! what to do; it is never skipped.

pub mod cluster;
pub mod faults;
pub mod image;
pub mod long;
pub mod mqtt;
pub mod operator;
pub mod parts_list;
pub mod services;
pub mod sluice;
pub mod tls;
pub mod wait;
