//! The MQTT client that sources and sinks share.

#[expect(dead_code, reason = "being built")]
mod packet;
