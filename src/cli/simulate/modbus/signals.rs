//! What the places of a slave hold while nobody has written them: a function of the slave's number, the
//! address and the time, so that whoever polls sees changes, and whoever checks a poller computes what it
//! must have seen.
//!
//! With `ms` the milliseconds since 1970 and all divisions those of whole numbers, a place's *mark* is
//!
//! `(slave × 1009 + address × 31 + table × 10007) mod 65536`
//!
//! where the table is 0 for coils, 1 for discretes, 3 for input registers, 4 for holding registers. A
//! register's signal goes by its address:
//!
//! | address mod 4 | | holds |
//! | ---: | --- | --- |
//! | 0 | ramp | `(mark + ms / 10) mod 10000`: 100 more each second |
//! | 1 | sine | 5000 ± 4000, once a minute, by Bhaskara's approximation; see [`sine`] |
//! | 2 | count | `(mark + ms / 1000) mod 65536`: the seconds |
//! | 3 | setpoint | the mark |
//!
//! A coil or discrete is on while `(mark + ms / 1000) / 5` is odd: five seconds on, five seconds off.

use crate::base::time::Timestamp;
use crate::protocols::modbus::Area;

/// What a register does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Ramp,
    Sine,
    Count,
    Setpoint,
}

const RAMP_END: u64 = 10_000;
const RAMP_STEP_MS: u64 = 10;
const SINE_MIDDLE: u64 = 5_000;
const SINE_SWING: u64 = 4_000;
const SINE_PERIOD_MS: u64 = 60_000;
/// A whole turn of the sine, in the unit of marks.
const TURN: u64 = 65_536;
const HALF_TURN: u64 = TURN / 2;
const SECOND_MS: u64 = 1_000;
const BIT_S: u64 = 5;

impl Signal {
    /// That of a register.
    pub(super) fn of(address: u16) -> Signal {
        match address % 4 {
            0 => Signal::Ramp,
            1 => Signal::Sine,
            2 => Signal::Count,
            _ => Signal::Setpoint,
        }
    }

    /// As a tag's name begins.
    pub(super) fn name(self) -> &'static str {
        match self {
            Signal::Ramp => "ramp",
            Signal::Sine => "sine",
            Signal::Count => "count",
            Signal::Setpoint => "setpoint",
        }
    }
}

/// What a place holds; a bit is 0 or 1.
pub(super) fn value(slave: u32, area: Area, address: u16, time: Timestamp) -> u16 {
    let ms = time.0.max(0) as u64;
    let mark = mark(slave, area, address);
    if area.is_bits() {
        return ((mark + ms / SECOND_MS) / BIT_S % 2) as u16;
    }
    let value = match Signal::of(address) {
        Signal::Ramp => (mark + ms / RAMP_STEP_MS) % RAMP_END,
        Signal::Sine => sine(mark + ms % SINE_PERIOD_MS * TURN / SINE_PERIOD_MS),
        Signal::Count => (mark + ms / SECOND_MS) % TURN,
        Signal::Setpoint => mark,
    };
    value as u16
}

fn mark(slave: u32, area: Area, address: u16) -> u64 {
    let table = match area {
        Area::Coil => 0,
        Area::Discrete => 1,
        Area::Input => 3,
        Area::Holding => 4,
    };
    (u64::from(slave) * 1_009 + u64::from(address) * 31 + table * 10_007) % TURN
}

/// With `x` the place in the half turn, from 0 to 32,767, and `arch = x × (32768 - x)`, it swings
/// `16 × 4000 × arch / (5 × 32768² - 4 × arch)` above the middle in the first half and below it in the
/// second: the sine to 0.002 (Bhaskara I), in whole numbers.
fn sine(phase: u64) -> u64 {
    let (half, x) = (phase / HALF_TURN % 2, phase % HALF_TURN);
    let arch = x * (HALF_TURN - x);
    let swing = 16 * SINE_SWING * arch / (5 * HALF_TURN * HALF_TURN - 4 * arch);
    if half == 0 { SINE_MIDDLE + swing } else { SINE_MIDDLE - swing }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand from what is written above.
    #[test]
    fn places_hold_what_is_documented() {
        #[track_caller]
        fn check(slave: u32, area: Area, address: u16, ms: i64, want: u16) {
            let got = value(slave, area, address, Timestamp(ms));
            assert_eq!(got, want, "{slave} {area}:{address} at {ms}");
        }
        // 1009 + 4 × 10007 = 41037.
        check(1, Area::Holding, 0, 0, 1_037);
        check(1, Area::Holding, 0, 10, 1_038);
        check(1, Area::Holding, 0, 89_630, 0);
        check(1, Area::Holding, 3, 123_456, 41_130);
        check(1, Area::Holding, 2, 0, 41_099);
        check(1, Area::Holding, 2, 24_437_000, 0);
        check(2, Area::Holding, 3, 5, 42_139);
        check(1, Area::Input, 3, 0, 31_123);
        // 64 × 1009 + 40028 + 31 × 3 = 104697.
        check(64, Area::Holding, 3, 0, 39_161);
        // The mark 1009 is even fives plus 4.
        check(1, Area::Coil, 0, 0, 1);
        check(1, Area::Coil, 0, 1_000, 0);
        check(1, Area::Coil, 0, 5_999, 0);
        check(1, Area::Coil, 0, 6_000, 1);
        check(1, Area::Discrete, 0, 0, 1);
        check(1, Area::Holding, 0, -5, 1_037);
    }

    #[test]
    fn the_sine_is_one() {
        let (mut least, mut most) = (u16::MAX, 0);
        for ms in (0..120_000).step_by(50) {
            let got = value(7, Area::Input, 1, Timestamp(ms));
            let turns = mark(7, Area::Input, 1) as f64 / TURN as f64 + ms as f64 / SINE_PERIOD_MS as f64;
            let exact = 5_000.0 + 4_000.0 * (std::f64::consts::TAU * turns).sin();
            assert!((f64::from(got) - exact).abs() < 10.0, "{got} {exact} at {ms}");
            (least, most) = (least.min(got), most.max(got));
        }
        assert!((1_000..1_010).contains(&least) && (8_990..=9_000).contains(&most), "{least} {most}");
    }

    #[test]
    fn neighbours_differ() {
        let at = Timestamp(1_700_000_000_000);
        for address in [2, 3] {
            let here = value(5, Area::Holding, address, at);
            assert!(here != value(6, Area::Holding, address, at));
            assert!(here != value(5, Area::Holding, address + 4, at));
            assert!(here != value(5, Area::Input, address, at));
        }
    }
}
