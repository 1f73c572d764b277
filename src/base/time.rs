//! Time as the product sees it: a monotonic tick for deadlines, a timestamp for samples. Neither is read
//! here; the reactor (or a simulation) reads its clocks once a turn and hands a [`Now`] in.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on a monotonic clock, in microseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// A tick that no clock reaches: the deadline of something that has none.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// The tick that lies `micros` microseconds after the clock's start.
    pub const fn from_micros(micros: u64) -> Tick {
        Tick(micros)
    }

    /// Microseconds since the clock's start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this tick; zero if `earlier` is later.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Tick {
    type Output = Tick;

    /// Saturates at [`Tick::NEVER`].
    fn add(self, span: Duration) -> Tick {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Tick(self.0.saturating_add(micros))
    }
}

impl Sub<Tick> for Tick {
    type Output = Duration;

    fn sub(self, earlier: Tick) -> Duration {
        self.since(earlier)
    }
}

/// A wall-clock time: milliseconds since 1970-01-01T00:00:00Z. Data that travels with a value, never a
/// deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// The two clocks as they stood at the start of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub tick: Tick,
    /// For samples.
    pub wall: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_saturate_at_both_ends() {
        let start = Tick::from_micros(10);
        assert_eq!(start + Duration::MAX, Tick::NEVER);
        assert_eq!(start - Tick::from_micros(20), Duration::ZERO);
        assert_eq!((start + Duration::from_millis(2)).as_micros(), 2_010);
    }
}
