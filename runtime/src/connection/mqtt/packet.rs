//! MQTT packets as bytes, 3.1.1 and 5, a client's side of it: what a broker sends is read, what a client sends is written.
//!
//! One codec for both versions, since 5 is 3.1.1 with properties. Topics and bodies of publishes are slices of the bytes that
//! were read.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Version {
    /// 3.1
    V31,
    /// 3.1.1
    #[default]
    V311,
    /// 5.0
    V5,
}

/// Bytes that are no MQTT.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// They break the protocol.
    #[error("the broker sent a malformed packet")]
    Malformed,
    /// The packet is larger than we take.
    #[error("the broker sent a packet of {0} bytes, which is more than we take")]
    TooLarge(usize),
}

impl From<bytes::TryGetError> for WireError {
    fn from(_: bytes::TryGetError) -> Self {
        WireError::Malformed
    }
}

type Result<T> = std::result::Result<T, WireError>;

/// What a broker sends.
#[derive(Debug, PartialEq)]
pub enum Packet {
    /// The answer to `connect`.
    ConnAck { session_present: bool, code: u8, properties: Box<Properties> },
    /// A message.
    Publish(Publish),
    /// QoS 1: the broker has it.
    PubAck { pkid: u16, code: u8, reason: Option<String> },
    /// QoS 2, first half: the broker has it.
    PubRec { pkid: u16, code: u8, reason: Option<String> },
    /// QoS 2 towards us, second half: it will not be sent again.
    PubRel { pkid: u16 },
    /// QoS 2, second half.
    PubComp { pkid: u16 },
    /// The answer to `subscribe`, one code per filter.
    SubAck { pkid: u16, codes: Bytes, reason: Option<String> },
    /// The answer to `unsubscribe`.
    UnsubAck { pkid: u16 },
    /// The answer to `ping`.
    PingResp,
    /// The broker hangs up (5 only).
    Disconnect { code: u8, reason: Option<String> },
}

/// A message, either way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Publish {
    /// Sent before.
    pub dup: bool,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Kept by the broker for those who subscribe later.
    pub retain: bool,
    /// UTF-8 as long as the broker keeps to the protocol.
    pub topic: Bytes,
    /// 0 for QoS 0.
    pub pkid: u16,
    /// The body.
    pub payload: Bytes,
    /// Only version 5 has them, and only where there are any.
    pub properties: Option<Box<Properties>>,
}

/// Properties that mean something to us.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// In words, why.
    pub reason: Option<String>,
    /// User properties in order.
    pub user: Vec<(String, String)>,
    /// The subscriptions that a publish comes for.
    pub subscription_ids: Vec<u32>,
    /// Unacknowledged publishes that the broker takes.
    pub receive_maximum: Option<u16>,
    /// Largest packet that the broker takes.
    pub maximum_packet_size: Option<u32>,
    /// Highest QoS that the broker takes.
    pub maximum_qos: Option<u8>,
    /// False if the broker takes no retained messages.
    pub retain_available: Option<bool>,
    /// False if the broker gives no subscription identifiers.
    pub subscription_ids_available: Option<bool>,
    /// Seconds, in place of ours.
    pub server_keep_alive: Option<u16>,
}

/// What a connect packet says.
#[derive(Clone, Debug)]
pub struct Connect<'a> {
    pub version: Version,
    pub client_id: &'a str,
    /// The broker is to forget an earlier session.
    pub clean: bool,
    /// Seconds.
    pub keep_alive: u16,
    pub username: Option<&'a str>,
    pub password: Option<&'a str>,
    /// 5 only: seconds that the session outlives the connection.
    pub session_expiry: u32,
    /// 5 only: unacknowledged publishes that we take.
    pub receive_maximum: u16,
    /// 5 only: largest packet that we take.
    pub maximum_packet_size: u32,
}

/// One kind of acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// `PUBACK`
    One = 0x40,
    /// `PUBREC`
    Received = 0x50,
    /// `PUBREL`, with the flag bits that it must have.
    Release = 0x62,
    /// `PUBCOMP`
    Complete = 0x70,
}

/// Takes the first packet out of `buffer`; `None` if it is not there as a whole yet.
///
/// # Errors
/// Bytes that break the protocol, packets of more than `max_bytes`, and types of packets that only clients send.
pub fn read(version: Version, buffer: &mut BytesMut, max_bytes: usize) -> Result<Option<Packet>> {
    let Some((header_len, body_len)) = frame(buffer)? else { return Ok(None) };
    if body_len > max_bytes {
        return Err(WireError::TooLarge(body_len));
    }
    if buffer.len() < header_len + body_len {
        buffer.reserve(header_len + body_len - buffer.len());
        return Ok(None);
    }
    let first = buffer.first().copied().unwrap_or_default();
    let mut body = buffer.split_to(header_len + body_len).freeze();
    body.advance(header_len);
    packet(version, first, body).map(Some)
}

/// Lengths of the first packet's fixed header and of what follows it.
fn frame(buffer: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut body_len = 0;
    for (idx, byte) in buffer.iter().skip(1).take(4).enumerate() {
        body_len |= usize::from(byte & 0x7f) << (7 * idx);
        if byte & 0x80 == 0 {
            return Ok(Some((idx + 2, body_len)));
        }
    }
    if buffer.len() > 4 { Err(WireError::Malformed) } else { Ok(None) }
}

fn packet(version: Version, first: u8, mut body: Bytes) -> Result<Packet> {
    let is_v5 = version == Version::V5;
    Ok(match first >> 4 {
        2 => {
            let session_present = body.try_get_u8()? & 1 == 1;
            let code = body.try_get_u8()?;
            let properties = if is_v5 { properties(&mut body)?.unwrap_or_default() } else { Box::default() };
            Packet::ConnAck { session_present, code, properties }
        }
        3 => {
            let qos = first >> 1 & 3;
            if qos == 3 {
                return Err(WireError::Malformed);
            }
            let topic = bytes(&mut body)?;
            let pkid = if qos > 0 { body.try_get_u16()? } else { 0 };
            if qos > 0 && pkid == 0 {
                return Err(WireError::Malformed);
            }
            let properties = if is_v5 { properties(&mut body)? } else { None };
            let (dup, retain) = (first & 8 != 0, first & 1 != 0);
            Packet::Publish(Publish { dup, qos, retain, topic, pkid, payload: body, properties })
        }
        4 => ack(is_v5, body, |pkid, code, reason| Packet::PubAck { pkid, code, reason })?,
        5 => ack(is_v5, body, |pkid, code, reason| Packet::PubRec { pkid, code, reason })?,
        6 => ack(is_v5, body, |pkid, _, _| Packet::PubRel { pkid })?,
        7 => ack(is_v5, body, |pkid, _, _| Packet::PubComp { pkid })?,
        9 => {
            let pkid = body.try_get_u16()?;
            let reason = if is_v5 { properties(&mut body)?.and_then(|properties| properties.reason) } else { None };
            Packet::SubAck { pkid, codes: body, reason }
        }
        11 => Packet::UnsubAck { pkid: body.try_get_u16()? },
        13 => Packet::PingResp,
        14 if is_v5 => {
            let code = if body.has_remaining() { body.get_u8() } else { 0 };
            let reason =
                if body.has_remaining() { properties(&mut body)?.and_then(|found| found.reason) } else { None };
            Packet::Disconnect { code, reason }
        }
        _ => return Err(WireError::Malformed),
    })
}

/// Version 5 leaves the code out when it is 0, and the properties when there are none.
fn ack(is_v5: bool, mut body: Bytes, make: impl FnOnce(u16, u8, Option<String>) -> Packet) -> Result<Packet> {
    let pkid = body.try_get_u16()?;
    let code = if is_v5 && body.has_remaining() { body.get_u8() } else { 0 };
    let reason =
        if is_v5 && body.has_remaining() { properties(&mut body)?.and_then(|found| found.reason) } else { None };
    Ok(make(pkid, code, reason))
}

fn bytes(body: &mut Bytes) -> Result<Bytes> {
    let len = usize::from(body.try_get_u16()?);
    if body.len() < len {
        return Err(WireError::Malformed);
    }
    Ok(body.split_to(len))
}

fn string(body: &mut Bytes) -> Result<String> {
    String::from_utf8(bytes(body)?.into()).map_err(|_| WireError::Malformed)
}

fn varint(body: &mut Bytes) -> Result<u32> {
    let mut number = 0;
    for idx in 0..4 {
        let byte = body.try_get_u8()?;
        number |= u32::from(byte & 0x7f) << (7 * idx);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(WireError::Malformed)
}

/// `None` if there are none.
fn properties(body: &mut Bytes) -> Result<Option<Box<Properties>>> {
    let len = varint(body)? as usize;
    if len == 0 {
        return Ok(None);
    }
    if body.len() < len {
        return Err(WireError::Malformed);
    }
    let mut body = body.split_to(len);
    let mut found = Box::<Properties>::default();
    while body.has_remaining() {
        match varint(&mut body)? {
            // Payload format; problem and response information; wildcards and shared subscriptions available.
            1 | 23 | 25 | 40 | 42 => {
                body.try_get_u8()?;
            }
            // Message expiry, session expiry, will delay.
            2 | 17 | 24 => {
                body.try_get_u32()?;
            }
            // Content type, response topic, correlation and authentication data, assigned client id, server reference.
            3 | 8 | 9 | 18 | 21 | 22 | 26 | 28 => {
                bytes(&mut body)?;
            }
            // Topic alias and its maximum.
            34 | 35 => {
                body.try_get_u16()?;
            }
            11 => found.subscription_ids.push(varint(&mut body)?),
            19 => found.server_keep_alive = Some(body.try_get_u16()?),
            31 => found.reason = Some(string(&mut body)?),
            33 => found.receive_maximum = Some(body.try_get_u16()?),
            36 => found.maximum_qos = Some(body.try_get_u8()?),
            37 => found.retain_available = Some(body.try_get_u8()? != 0),
            38 => {
                let name = string(&mut body)?;
                found.user.push((name, string(&mut body)?));
            }
            39 => found.maximum_packet_size = Some(body.try_get_u32()?),
            41 => found.subscription_ids_available = Some(body.try_get_u8()? != 0),
            _ => return Err(WireError::Malformed),
        }
    }
    Ok(Some(found))
}

/// Writes a connect packet.
pub fn write_connect(connect: &Connect<'_>, out: &mut BytesMut) {
    let (name, level) = match connect.version {
        Version::V31 => ("MQIsdp", 3),
        Version::V311 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    let mut body = BytesMut::new();
    put_bytes(name.as_bytes(), &mut body);
    body.put_u8(level);
    let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
    let flags =
        flag(connect.clean, 0x02) | flag(connect.password.is_some(), 0x40) | flag(connect.username.is_some(), 0x80);
    body.put_u8(flags);
    body.put_u16(connect.keep_alive);
    if connect.version == Version::V5 {
        let mut properties = BytesMut::new();
        properties.put_u8(17);
        properties.put_u32(connect.session_expiry);
        properties.put_u8(33);
        properties.put_u16(connect.receive_maximum);
        properties.put_u8(39);
        properties.put_u32(connect.maximum_packet_size);
        put_varint(properties.len(), &mut body);
        body.extend_from_slice(&properties);
    }
    put_bytes(connect.client_id.as_bytes(), &mut body);
    for text in [connect.username, connect.password].into_iter().flatten() {
        put_bytes(text.as_bytes(), &mut body);
    }
    put_packet(0x10, &body, out);
}

/// Bytes that [`write_publish`] will write.
pub fn publish_len(version: Version, publish: &Publish) -> usize {
    let (body_len, _) = publish_body_len(version, publish);
    1 + varint_len(body_len) + body_len
}

fn publish_body_len(version: Version, publish: &Publish) -> (usize, usize) {
    let user = publish.properties.as_deref().map_or(&[][..], |properties| &properties.user);
    let properties_len: usize = user.iter().map(|(name, value)| 5 + name.len() + value.len()).sum();
    let mut len = 2 + publish.topic.len() + publish.payload.len();
    if publish.qos > 0 {
        len += 2;
    }
    if version == Version::V5 {
        len += varint_len(properties_len) + properties_len;
    }
    (len, properties_len)
}

/// Writes a publish; of its properties the user's.
pub fn write_publish(version: Version, publish: &Publish, out: &mut BytesMut) {
    let (body_len, properties_len) = publish_body_len(version, publish);
    out.put_u8(0x30 | u8::from(publish.dup) << 3 | publish.qos << 1 | u8::from(publish.retain));
    put_varint(body_len, out);
    put_bytes(&publish.topic, out);
    if publish.qos > 0 {
        out.put_u16(publish.pkid);
    }
    if version == Version::V5 {
        put_varint(properties_len, out);
        let user = publish.properties.as_deref().map_or(&[][..], |properties| &properties.user);
        for (name, value) in user {
            out.put_u8(38);
            put_bytes(name.as_bytes(), out);
            put_bytes(value.as_bytes(), out);
        }
    }
    out.extend_from_slice(&publish.payload);
}

/// Writes an acknowledgement. In both versions three of them look the same: without a code they mean that all is well.
pub fn write_ack(ack: Ack, pkid: u16, out: &mut BytesMut) {
    out.put_u8(ack as u8);
    out.put_u8(2);
    out.put_u16(pkid);
}

/// Writes a subscribe for one filter. `id` marks its publishes (5 only).
pub fn write_subscribe(version: Version, pkid: u16, id: Option<u32>, filter: &str, qos: u8, out: &mut BytesMut) {
    let mut body = BytesMut::new();
    body.put_u16(pkid);
    if version == Version::V5 {
        let mut properties = BytesMut::new();
        if let Some(id) = id {
            properties.put_u8(11);
            put_varint(id as usize, &mut properties);
        }
        put_varint(properties.len(), &mut body);
        body.extend_from_slice(&properties);
    }
    put_bytes(filter.as_bytes(), &mut body);
    body.put_u8(qos);
    put_packet(0x82, &body, out);
}

/// Writes an unsubscribe for one filter.
pub fn write_unsubscribe(version: Version, pkid: u16, filter: &str, out: &mut BytesMut) {
    let mut body = BytesMut::new();
    body.put_u16(pkid);
    if version == Version::V5 {
        body.put_u8(0);
    }
    put_bytes(filter.as_bytes(), &mut body);
    put_packet(0xa2, &body, out);
}

/// Writes a ping.
pub fn write_ping(out: &mut BytesMut) {
    out.extend_from_slice(&[0xc0, 0]);
}

/// Writes a disconnect.
pub fn write_disconnect(out: &mut BytesMut) {
    out.extend_from_slice(&[0xe0, 0]);
}

fn put_packet(first: u8, body: &[u8], out: &mut BytesMut) {
    out.put_u8(first);
    put_varint(body.len(), out);
    out.extend_from_slice(body);
}

/// Texts of more than 65535 bytes are refused before it comes to writing them.
fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16(len);
    out.extend_from_slice(bytes.get(..usize::from(len)).unwrap_or_default());
}

fn put_varint(mut number: usize, out: &mut BytesMut) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        out.put_u8(if number > 0 { low | 0x80 } else { low });
        if number == 0 {
            return;
        }
    }
}

fn varint_len(number: usize) -> usize {
    match number {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rumqttc::mqttbytes::v4;
    use rumqttc::v5::mqttbytes::v5;

    use super::*;

    const MAX: usize = 1 << 20;

    fn read_all(version: Version, bytes: &[u8]) -> Vec<Packet> {
        let mut buffer = BytesMut::from(bytes);
        let mut packets = Vec::new();
        while let Some(packet) = read(version, &mut buffer, MAX).unwrap() {
            packets.push(packet);
        }
        assert!(buffer.is_empty());
        packets
    }

    #[test]
    fn what_a_broker_sends() {
        let pkid = 0x102;
        let cases: Vec<(Version, &[u8], Packet)> = vec![
            (
                Version::V311,
                &[0x20, 2, 1, 0],
                Packet::ConnAck { session_present: true, code: 0, properties: Box::default() },
            ),
            (
                Version::V5,
                &[0x20, 11, 0, 0x87, 8, 33, 0, 20, 36, 1, 19, 0, 60],
                Packet::ConnAck {
                    session_present: false,
                    code: 0x87,
                    properties: Box::new(Properties {
                        receive_maximum: Some(20),
                        maximum_qos: Some(1),
                        server_keep_alive: Some(60),
                        ..Properties::default()
                    }),
                },
            ),
            (Version::V311, &[0x40, 2, 1, 2], Packet::PubAck { pkid, code: 0, reason: None }),
            (Version::V5, &[0x40, 3, 1, 2, 0x10], Packet::PubAck { pkid, code: 0x10, reason: None }),
            (
                Version::V5,
                &[0x50, 8, 1, 2, 0x97, 4, 31, 0, 1, b'q'],
                Packet::PubRec { pkid, code: 0x97, reason: Some("q".into()) },
            ),
            (Version::V311, &[0x62, 2, 1, 2], Packet::PubRel { pkid }),
            (Version::V311, &[0x70, 2, 1, 2], Packet::PubComp { pkid }),
            (
                Version::V311,
                &[0x90, 4, 1, 2, 1, 0x80],
                Packet::SubAck { pkid, codes: Bytes::from_static(&[1, 0x80]), reason: None },
            ),
            (
                Version::V5,
                &[0x90, 4, 1, 2, 0, 2],
                Packet::SubAck { pkid, codes: Bytes::from_static(&[2]), reason: None },
            ),
            (Version::V5, &[0xb0, 4, 1, 2, 0, 0], Packet::UnsubAck { pkid }),
            (Version::V311, &[0xd0, 0], Packet::PingResp),
            (Version::V5, &[0xe0, 0], Packet::Disconnect { code: 0, reason: None }),
            (Version::V5, &[0xe0, 1, 0x8e], Packet::Disconnect { code: 0x8e, reason: None }),
        ];
        for (version, bytes, expected) in cases {
            assert_eq!(read_all(version, bytes), [expected], "{bytes:?}");
            for len in 0..bytes.len() {
                let outcome = read(version, &mut BytesMut::from(&bytes[..len]), MAX);
                assert_eq!(outcome, Ok(None), "{bytes:?} cut to {len}");
            }
        }
    }

    #[test]
    fn what_is_no_mqtt() {
        for (version, bytes) in [
            (Version::V311, &[0x00, 0][..]),
            (Version::V311, &[0x10, 0]),
            (Version::V311, &[0x30, 0xff, 0xff, 0xff, 0xff]),
            (Version::V311, &[0x30, 2, 0, 9]),
            (Version::V311, &[0x36, 2, 0, 0]),
            (Version::V311, &[0x32, 4, 0, 0, 0, 0]),
            (Version::V311, &[0x40, 1, 0]),
            (Version::V311, &[0xe0, 0]),
            (Version::V5, &[0x30, 4, 0, 0, 1, 99]),
            (Version::V5, &[0x30, 4, 0, 0, 5, 1]),
        ] {
            assert_eq!(read(version, &mut BytesMut::from(bytes), MAX), Err(WireError::Malformed), "{bytes:?}");
        }
        let outcome = read(Version::V311, &mut BytesMut::from(&[0x30, 0x80, 0x80, 0x80, 1][..]), MAX);
        assert_eq!(outcome, Err(WireError::TooLarge(1 << 21)));
    }

    #[test]
    fn what_a_client_sends_is_read_by_another_codec() {
        for version in [Version::V311, Version::V5] {
            let mut out = BytesMut::new();
            write_connect(
                &Connect {
                    version,
                    client_id: "me",
                    clean: false,
                    keep_alive: 30,
                    username: Some("u"),
                    password: Some("p"),
                    session_expiry: 60,
                    receive_maximum: 9,
                    maximum_packet_size: 1000,
                },
                &mut out,
            );
            write_subscribe(version, 7, Some(300), "a/#", 1, &mut out);
            write_unsubscribe(version, 8, "a/#", &mut out);
            for ack in [Ack::One, Ack::Received, Ack::Release, Ack::Complete] {
                write_ack(ack, 515, &mut out);
            }
            write_ping(&mut out);
            let text = if version == Version::V5 { read_v5(&mut out) } else { read_v4(&mut out) };
            insta::assert_snapshot!(format!("client_packets_{version:?}"), text);
            // Two bytes, as in 3.1.1; the other codec can't read a disconnect that short.
            write_disconnect(&mut out);
            assert_eq!(&out[..], [0xe0, 0]);
        }
    }

    fn read_v4(out: &mut BytesMut) -> String {
        let packets = std::iter::from_fn(|| (!out.is_empty()).then(|| v4::Packet::read(out, MAX).unwrap()));
        packets.map(|packet| format!("{packet:?}\n")).collect()
    }

    fn read_v5(out: &mut BytesMut) -> String {
        let packets = std::iter::from_fn(|| (!out.is_empty()).then(|| v5::Packet::read(out, None).unwrap()));
        packets.map(|packet| format!("{packet:?}\n")).collect()
    }

    fn publishes() -> impl Strategy<Value = Publish> {
        let properties = prop::collection::vec((".{0,9}", ".{0,9}"), 0..3);
        let flags = (any::<bool>(), 0..3u8, any::<bool>());
        let bodies = prop::collection::vec(any::<u8>(), 0..300);
        (flags, "[a-zé/]{1,20}", 1..u16::MAX, bodies, properties).prop_map(|(flags, topic, pkid, body, user)| {
            let (dup, qos, retain) = flags;
            Publish {
                dup,
                qos,
                retain,
                topic: topic.into(),
                pkid: if qos > 0 { pkid } else { 0 },
                payload: body.into(),
                properties: (!user.is_empty()).then(|| Box::new(Properties { user, ..Properties::default() })),
            }
        })
    }

    proptest! {
        #[test]
        fn publishes_come_back(publishes in prop::collection::vec(publishes(), 1..5), is_v5 in any::<bool>()) {
            let version = if is_v5 { Version::V5 } else { Version::V311 };
            let mut out = BytesMut::new();
            let mut expected = Vec::new();
            for mut publish in publishes {
                let n_before = out.len();
                write_publish(version, &publish, &mut out);
                prop_assert_eq!(out.len() - n_before, publish_len(version, &publish));
                if !is_v5 {
                    publish.properties = None;
                }
                let text = if is_v5 { read_v5(&mut out.clone().split_off(n_before)) } else { read_v4(&mut out.clone().split_off(n_before)) };
                prop_assert!(text.starts_with(if is_v5 { "Publish(" } else { "Publish(Topic = " }), "{}", text);
                expected.push(Packet::Publish(publish));
            }
            prop_assert_eq!(read_all(version, &out), expected);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40), is_v5 in any::<bool>()) {
            let version = if is_v5 { Version::V5 } else { Version::V311 };
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = read(version, &mut buffer, MAX) {}
        }
    }
}
