//! Durations and sizes as people write them: in the configuration, on the command line, in `HELLO device
//! 10s`.

use std::time::Duration;

use super::words::shortened;

/// The largest first, as that is how a value is shown.
const DURATION_UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1), // a Tick's resolution
];
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// Enough for any `u64`, and a product with the largest unit still fits into a `u128`.
const DIGITS_MAX: usize = 20;

/// Reads a number and a unit (`us`, `ms`, `s`, `m`, `h`, `d`) with nothing between: `500ms`, `1.5s`, `2h`.
/// The result is whole microseconds. The error says what is wrong and what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let micros = parse_quantity(text, &DURATION_UNITS).map_err(|fault| {
        fault.describe(
            text,
            "a duration",
            "a number and a unit such as 500ms, 1.5s, 10m, 2h or 1d",
            "a microsecond",
        )
    })?;
    Ok(Duration::from_micros(micros))
}

/// Reads a number and a binary unit (`B`, `KiB`, `MiB`, `GiB`) with nothing between: `512B`, `1.5MiB`. The
/// result is whole bytes that this machine can address. The error says what is wrong and what is expected.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let bytes = parse_quantity(text, &SIZE_UNITS)
        .and_then(|bytes| usize::try_from(bytes).map_err(|_| Fault::TooLarge))
        .map_err(|fault| {
            fault.describe(text, "a size", "a number and a unit such as 512B, 64KiB or 16MiB", "a byte")
        })?;
    Ok(bytes)
}

/// A duration in the largest unit that shows it whole: `90s`, not `1.5m`.
pub(super) fn show_duration(duration: Duration) -> String {
    show_quantity(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), &DURATION_UNITS)
}

/// A size in the largest unit that shows it whole.
pub(super) fn show_size(bytes: usize) -> String {
    show_quantity(bytes as u64, &SIZE_UNITS)
}

enum Fault {
    Malformed,
    TooFine,
    TooLarge,
}

impl Fault {
    fn describe(self, text: &str, what: &str, expected: &str, finest: &str) -> String {
        let text = shortened(text);
        match self {
            Fault::Malformed => format!("'{text}' is not {what}, expected {expected}"),
            Fault::TooFine => format!("'{text}' is finer than {finest}, expected whole ones"),
            Fault::TooLarge => format!("'{text}' is too large, expected {what} that fits"),
        }
    }
}

/// The quantity in the smallest unit. In integers, as a float would make `0.3s` 299,999 µs.
fn parse_quantity(text: &str, units: &[(&str, u64)]) -> Result<u64, Fault> {
    let unit_at = text.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or(Fault::Malformed)?;
    let (number, unit) = text.split_at(unit_at);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit).ok_or(Fault::Malformed)?;
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() && !fraction.contains('.') => (whole, fraction),
        Some(_) => return Err(Fault::Malformed),
        None => (number, ""),
    };
    if whole.is_empty() {
        return Err(Fault::Malformed);
    }
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.len() > DIGITS_MAX || fraction.len() > DIGITS_MAX {
        return Err(if fraction.len() > DIGITS_MAX { Fault::TooFine } else { Fault::TooLarge });
    }
    let digits: u128 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| Fault::Malformed)? };
    let scaled = digits * u128::from(*scale);
    let divisor = 10_u128.pow(fraction.len() as u32);
    if scaled % divisor != 0 {
        return Err(Fault::TooFine);
    }
    u64::try_from(scaled / divisor).map_err(|_| Fault::TooLarge)
}

fn show_quantity(value: u64, units: &[(&str, u64)]) -> String {
    let smallest = units[units.len() - 1];
    let whole = |(_, scale): &&(&str, u64)| value != 0 && value % scale == 0;
    let (unit, scale) = units.iter().find(whole).copied().unwrap_or(smallest);
    format!("{}{unit}", value / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_DURATION: &str =
        "is not a duration, expected a number and a unit such as 500ms, 1.5s, 10m, 2h or 1d";

    #[test]
    fn durations() {
        let good = [("0s", 0), ("500ms", 500_000), ("10s", 10_000_000), ("5m", 300_000_000), ("1us", 1)];
        let more = [("1.5s", 1_500_000), ("0.3s", 300_000), ("1d", 86_400_000_000), ("0.000001s", 1)];
        let odd = [("007s", 7_000_000), ("1.50000000000000000000000s", 1_500_000), ("0.5us", u64::MAX)];
        for (text, micros) in good.into_iter().chain(more).chain(odd) {
            let expected = if micros == u64::MAX {
                Err(format!("'{text}' is finer than a microsecond, expected whole ones"))
            } else {
                Ok(Duration::from_micros(micros))
            };
            assert_eq!(parse_duration(text), expected, "{text}");
        }
        for text in
            ["", "s", "5", ".5s", "5.s", "1.2.3s", "-1s", "+1s", "1 s", "1S", "1e3s", " 1s", "1sec", "١s"]
        {
            assert_eq!(parse_duration(text), Err(format!("'{text}' {NO_DURATION}")), "{text}");
        }
        for text in ["18446744073709551616us", "300000000d", "99999999999999999999999999999999999999999999d"]
        {
            let shown = shortened(text);
            let expected = Err(format!("'{shown}' is too large, expected a duration that fits"));
            assert_eq!(parse_duration(text), expected);
        }
    }

    #[test]
    fn sizes() {
        let table = [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("16MiB", 16 << 20), ("1GiB", 1 << 30)];
        for (text, bytes) in table.into_iter().chain([("1.5MiB", 3 << 19)]) {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        let hint = "is not a size, expected a number and a unit such as 512B, 64KiB or 16MiB";
        for text in ["16MB", "16", "16 MiB", "1mib"] {
            assert_eq!(parse_size(text), Err(format!("'{text}' {hint}")));
        }
        assert_eq!(parse_size("0.5B"), Err("'0.5B' is finer than a byte, expected whole ones".to_owned()));
    }

    #[test]
    fn shown_in_the_largest_whole_unit() {
        for text in ["90s", "1d", "25h", "1500ms", "1us", "0us"] {
            assert_eq!(parse_duration(text).map(show_duration), Ok(text.to_owned()));
        }
        for text in ["16MiB", "1025KiB", "1023B", "0B"] {
            assert_eq!(parse_size(text).map(show_size), Ok(text.to_owned()));
        }
    }
}
