//! What a run is to do: the options, checked.

use std::net::SocketAddr;
use std::time::Duration;

/// All that a run depends on.
pub(super) struct Plan {
    /// As it is shown.
    pub(super) url: String,
    pub(super) server: SocketAddr,
    pub(super) speech: Speech,
    /// That send requests.
    pub(super) connections: usize,
    /// Requests in flight on each, at most.
    pub(super) pipeline: usize,
    /// In an open loop.
    pub(super) pace: Option<Pace>,
    /// The share of requests that write.
    pub(super) writes: f64,
    /// What is read and written: tags, or blocks of registers.
    pub(super) places: usize,
    pub(super) subscribers: usize,
    pub(super) warm_up: Duration,
    /// What is measured.
    pub(super) duration: Duration,
    pub(super) seed: u64,
}

/// What is spoken, and with what.
#[derive(Clone, Debug)]
pub(super) enum Speech {
    Line {
        /// What the tags' names begin with.
        root: String,
        /// Texts of that length; whole numbers where there is none.
        value_bytes: Option<usize>,
    },
    Modbus {
        unit: u8,
        /// Of the first block's first holding register.
        address: u16,
        /// Of each block.
        registers: u16,
    },
}

impl Speech {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Speech::Line { .. } => "line",
            Speech::Modbus { .. } => "modbus",
        }
    }
}

impl Plan {
    /// Whether each place has one connection alone that writes it.
    pub(super) fn is_exclusive(&self) -> bool {
        self.places >= self.connections
    }

    /// The places of a connection: every so many-th, or one that it shares.
    pub(super) fn places_of(&self, connection: usize) -> Places {
        if self.is_exclusive() {
            let count = (self.places - connection).div_ceil(self.connections);
            Places { first: connection, step: self.connections, count }
        } else {
            Places { first: connection % self.places, step: 1, count: 1 }
        }
    }

    /// Whether that connection sees to it that its places are there before the run.
    pub(super) fn prepares(&self, connection: usize) -> bool {
        connection < self.places
    }
}

/// Some of the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    first: usize,
    step: usize,
    pub(super) count: usize,
}

impl Places {
    pub(super) fn get(self, at: usize) -> usize {
        self.first + at * self.step
    }
}

/// An open loop: so many requests a second in all, evenly, whether or not earlier ones were answered. The
/// connections take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Requests a second.
    pub(super) rate: u64,
    pub(super) connections: usize,
}

impl Pace {
    /// How long after the beginning the request of that number (from 0) of a connection is due.
    pub(super) fn due(self, connection: usize, number: u64) -> Duration {
        let before = u128::from(number) * self.connections as u128 + connection as u128;
        let micros = before * 1_000_000 / u128::from(self.rate);
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// The number of the connection's first request that is not due before that.
    pub(super) fn first_from(self, connection: usize, span: Duration) -> u64 {
        let before = (span.as_micros() * u128::from(self.rate)).div_ceil(1_000_000);
        let number = before.saturating_sub(connection as u128).div_ceil(self.connections as u128);
        u64::try_from(number).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
impl Plan {
    /// One connection, one tag, a second of requests from the beginning on.
    pub(super) fn of_test() -> Plan {
        Plan {
            url: "line://10.0.0.2:5000".to_owned(),
            server: "10.0.0.2:5000".parse().unwrap(),
            speech: Speech::Line { root: "bench".to_owned(), value_bytes: None },
            connections: 1,
            pipeline: 1,
            pace: None,
            writes: 1.0,
            places: 1,
            subscribers: 0,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(1),
            seed: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_evenly() {
        for (rate, connections) in [(1, 1), (7, 3), (1_000, 50), (200_000, 7), (20, 100)] {
            let pace = Pace { rate, connections };
            let mut due = Vec::new();
            for connection in 0..connections {
                let of_connection = (0..).map(|number| pace.due(connection, number).as_micros());
                due.extend(of_connection.take_while(|micros| *micros < 2_000_000));
            }
            due.sort_unstable();
            assert_eq!(due.len() as u64, 2 * rate, "{rate} over {connections}");
            let expected = (0..2 * u128::from(rate)).map(|number| number * 1_000_000 / u128::from(rate));
            assert!(due.into_iter().eq(expected), "{rate} over {connections}");
            let pace_of = |connection| move |number| pace.due(connection, number);
            for (connection, span) in [(0, 0), (connections - 1, 999_999), (0, 1_000_000), (0, 1_000_001)] {
                let (due, span) = (pace_of(connection), Duration::from_micros(span));
                let first = pace.first_from(connection, span);
                assert!(due(first) >= span && (first == 0 || due(first - 1) < span), "{rate}, {span:?}");
            }
        }
    }

    #[test]
    fn every_place_is_somebodys() {
        for (connections, count) in [(1, 1), (3, 10), (10, 10), (10, 3)] {
            let plan = Plan { connections, places: count, ..Plan::of_test() };
            let places = |connection| {
                let places = plan.places_of(connection);
                (0..places.count).map(move |at| places.get(at)).collect::<Vec<_>>()
            };
            let mut prepared: Vec<usize> =
                (0..connections).filter(|number| plan.prepares(*number)).flat_map(places).collect();
            prepared.sort_unstable();
            assert_eq!(prepared, (0..count).collect::<Vec<_>>(), "{connections} for {count}");
            assert!((0..connections).all(|number| places(number).iter().all(|place| *place < count)));
        }
    }
}
