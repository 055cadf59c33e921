//! The payloads of the workloads, made from a seed.

use bytes::Bytes;

/// How large a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// About 100 bytes.
    P100,
    /// About 300 bytes.
    P300,
    /// About 1 kB.
    P1K,
}

/// A small generator of pseudo-random numbers (xorshift): the same everywhere, and fast.
pub struct Random(u64);

impl Random {
    /// Same seed, same numbers.
    pub fn new(seed: u64) -> Self {
        Random(seed.max(1))
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    /// From `min` to `max` in steps of a tenth.
    fn tenths(&mut self, min: u64, max: u64) -> f64 {
        (min * 10 + self.below((max - min) * 10)) as f64 / 10.0
    }
}

/// `n` payloads of that size: `temperature > 20 AND status = "ok"` passes 10 % of them. One per millisecond by their `ts`.
pub fn payloads(size: Size, n: usize) -> Vec<Bytes> {
    payloads_at(size, n, 1)
}

/// As [`payloads`], so many per millisecond.
pub fn payloads_at(size: Size, n: usize, per_ms: usize) -> Vec<Bytes> {
    let mut random = Random::new(42);
    (0..n).map(|seq| payload(size, seq, seq / per_ms, &mut random).into()).collect()
}

fn payload(size: Size, seq: usize, ms: usize, random: &mut Random) -> String {
    let device = random.below(1000);
    let status = ["ok", "ok", "ok", "warn", "fault"][random.below(5) as usize];
    let mut text = format!(
        r#"{{"deviceId":"d-{device:03}","ts":{ts},"temperature":{temperature:?},"humidity":{humidity:?},"status":"{status}","seq":{seq}"#,
        ts = 1_690_000_000_123_u64 + ms as u64,
        temperature = random.tenths(0, 24),
        humidity = random.tenths(30, 80),
    );
    if size != Size::P100 {
        text += &format!(
            r#","loc":{{"lat":{lat:?},"lon":{lon:?},"alt":{alt}}},"fw":"2.14.{fw}","battery":{battery},"rssi":-{rssi},"tags":["line-{line}","hall-b"],"model":"TX-200","alarm":{alarm},"err":null,"zone":"north","lvl":{lvl:?}"#,
            lat = 48.0 + random.tenths(0, 2),
            lon = 9.0 + random.tenths(0, 2),
            alt = random.below(900),
            fw = random.below(9),
            battery = random.below(100),
            rssi = random.below(90),
            line = random.below(20),
            alarm = random.below(10) == 0,
            lvl = random.tenths(0, 9),
        );
    }
    if size == Size::P1K {
        text += &format!(
            r#","gateway":{{"id":"gw-{gateway}","ip":"10.0.{gateway}.7","up":{up},"load":[0.5,0.25,0.75]}},"readings":["#,
            gateway = random.below(250),
            up = random.below(9_000_000),
        );
        for channel in 0..12 {
            let separator = if channel > 0 { "," } else { "" };
            text += &format!(
                r#"{separator}{{"ch":{channel},"v":{v:?},"u":"mV","q":{q}}}"#,
                v = random.tenths(0, 500),
                q = random.below(4)
            );
        }
        text += r#"],"note":"checked by \"night shift\", see log""#;
    }
    text + "}"
}
