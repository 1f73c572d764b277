//! What options of load mean, and what is wrong with them.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::base::section::parse_duration;
use crate::reactor::raise_descriptor_limit;
use crate::tags::name::DeviceName;

const LONGEST: Duration = Duration::from_secs(3_600);

/// One of some words.
pub(in crate::cli) fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, meant)| *meant);
    found.ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("'{text}' is not possible, expected one of {}", words.join(", "))
    })
}

/// A duration, an hour at most.
pub(in crate::cli) fn span(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text)?;
    if span <= LONGEST { Ok(span) } else { Err(format!("'{text}' is too long, expected 1h at most")) }
}

/// A number of the range.
pub(in crate::cli) fn number(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        format!("'{text}' is not possible, expected a number from {} to {}", range.start(), range.end())
    })
}

/// `1%` or `0.01`: from 0 to 1.
pub(in crate::cli) fn share(text: &str) -> Result<f64, String> {
    let (digits, whole) = text.strip_suffix('%').map_or((text, 1.0), |digits| (digits, 100.0));
    let share = digits.parse::<f64>().ok().map(|share| share / whole);
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("'{text}' is not a share, expected one such as 1% or 0.01"))
}

/// What names begin with.
pub(in crate::cli) fn root(text: &str) -> Result<String, String> {
    match DeviceName::parse(text) {
        Ok(name) if !text.starts_with('$') => Ok(name.as_str().to_owned()),
        Ok(_) => Err("names that begin with $ are the server's own".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Make room for so many connections. The error says what to do, of which `instead` is a part.
pub(in crate::cli) fn make_room(connections: usize, instead: &str) -> Result<(), String> {
    let descriptors = raise_descriptor_limit(0);
    if connections <= descriptors.connections {
        return Ok(());
    }
    let limit = descriptors.limit;
    Err(format!(
        "{connections} connections do not fit below the limit of {limit} descriptors; raise it with \
         'ulimit -n', or {instead}"
    ))
}
