//! Durations and sizes as people write them. Never guesses a unit.

use std::time::Duration;

/// A size without a unit can only mean bytes; a duration without one could mean anything.
const BYTE_UNITS: [(&str, u64); 6] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)];
const TIME_UNITS_MS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// `"20ms"`, `"5s"`, `"1m"`, `"2h"` or `"30d"`: one whole number and one unit, for what reads the same has one value.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse_units(text, &TIME_UNITS_MS).map(Duration::from_millis)
}

/// The shortest form that `parse_duration` reads back; what is finer than a millisecond is cut off.
pub fn format_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 { "0s".to_owned() } else { format_units(millis, &TIME_UNITS_MS) }
}

/// `"512"` and `"512B"`, `"64KiB"`, `"256MiB"`, `"1GiB"` or `"1TiB"`.
pub fn parse_bytes(text: &str) -> Option<u64> {
    parse_units(text, &BYTE_UNITS)
}

/// The shortest form that `parse_bytes` reads back.
pub fn format_bytes(bytes: u64) -> String {
    if bytes == 0 { "0B".to_owned() } else { format_units(bytes, &BYTE_UNITS) }
}

fn parse_units(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn format_units(number: u64, units: &[(&str, u64)]) -> String {
    let whole = units.iter().find(|(_, scale)| number.is_multiple_of(*scale));
    whole.map_or_else(|| number.to_string(), |(name, scale)| format!("{}{name}", number / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["0s", "1ms", "1500ms", "90s", "1m", "36h", "30d"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["0B", "1B", "1023B", "1KiB", "1536B", "64KiB", "3MiB", "64GiB", "2TiB"] {
            assert_eq!(format_bytes(parse_bytes(text).unwrap()), text);
        }
    }

    #[test]
    fn nothing_is_guessed() {
        for text in ["", "5", "s", "-5s", "+5s", "1.5s", "5 s s", "5S", "5M", "5us", "1h30m", "\u{663}s"] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
        for text in ["64kb", "64KB", "64K", "64kib", "1.5MiB", "-1B", "18446744073709551615KiB"] {
            assert_eq!(parse_bytes(text), None, "{text:?}");
        }
        assert_eq!(parse_duration("18446744073709551615d"), None, "an overflow is not wrapped");
    }
}
