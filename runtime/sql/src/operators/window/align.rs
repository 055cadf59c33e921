//! Where the first boundary of a window is.

use jiff::tz::TimeZone;

use crate::sql::ast::TimeUnit;
use crate::value::Timestamp;

/// The first boundary above `now`: a multiple of `length` counted from the start of the next larger unit (for seconds the
/// minute, for hours and days the day in the time zone).
pub(super) fn first_boundary(unit: TimeUnit, length: Timestamp, now: Timestamp, zone: &TimeZone) -> Timestamp {
    let offset = jiff::Timestamp::from_millisecond(now)
        .map_or(0, |timestamp| i64::from(zone.to_offset(timestamp).seconds()) * 1000);
    let frame = match unit {
        TimeUnit::Day => return start_of(now, 86_400_000, offset).saturating_add(length),
        TimeUnit::Hour => 86_400_000,
        TimeUnit::Minute => 3_600_000,
        TimeUnit::Second => 60_000,
        TimeUnit::Millisecond => 1000,
    };
    let start = start_of(now, frame, offset);
    // Only whole units count: second 10.5 is second 10.
    let field = (now - start) / unit.millis() * unit.millis();
    start.saturating_add((field / length + 1).saturating_mul(length))
}

fn start_of(now: Timestamp, frame: Timestamp, offset: Timestamp) -> Timestamp {
    let local = now.saturating_add(offset);
    now - local.rem_euclid(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries() {
        let utc = TimeZone::UTC;
        let shanghai = TimeZone::get("Asia/Shanghai").unwrap();
        let cases = [
            (TimeUnit::Second, 10_000, 121_000, &utc, 130_000),
            (TimeUnit::Second, 10_000, 120_000, &utc, 130_000),
            (TimeUnit::Second, 10_000, 130_500, &utc, 140_000),
            (TimeUnit::Second, 7_000, 175_000, &utc, 176_000),
            (TimeUnit::Second, 90_000, 121_000, &utc, 210_000),
            (TimeUnit::Minute, 300_000, 121_000, &utc, 300_000),
            (TimeUnit::Hour, 3_600_000, 121_000, &utc, 3_600_000),
            (TimeUnit::Day, 86_400_000, 121_000, &utc, 86_400_000),
            (TimeUnit::Day, 86_400_000, 121_000, &shanghai, 57_600_000),
            (TimeUnit::Millisecond, 300, 1_250, &utc, 1_300),
            (TimeUnit::Second, 10_000, -1_000, &utc, 0),
        ];
        for (unit, length, now, zone, expected) in cases {
            assert_eq!(first_boundary(unit, length, now, zone), expected, "{unit:?} {length} from {now}");
        }
    }
}
