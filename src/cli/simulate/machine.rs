//! A believable machine: five signals that move as those of a plant do.

use crate::base::random::Random;
use crate::tags::value::{Input, Value};

/// The last level of its tags' names, in the order in which a report tells of them.
pub(super) const SIGNALS: [&str; 5] = ["temperature", "level", "parts", "state", "pressure"];
/// Places in [`SIGNALS`] that readers ask for.
pub(super) const TEMPERATURE: usize = 0;
pub(super) const STATE: usize = 3;

/// One value of each signal.
pub(super) type Values = [Value; SIGNALS.len()];

/// How long the temperature takes to go up and down.
const SWING_S: f64 = 120.0;
const MIDDLE_C: f64 = 70.0;
const SWING_C: f64 = 15.0;
const NOISE_C: f64 = 0.4;
/// The level rises to 100 % in this time, and is let off at once.
const FILL_S: f64 = 90.0;
const PARTS_PER_S: f64 = 0.8;
const STEP_BAR: f64 = 0.08;
const PRESSURE_BAR: std::ops::RangeInclusive<f64> = 0.5..=9.5;
/// How long a state lasts, about.
const STATE_S: f64 = 20.0;
const STATES: [&str; 4] = ["running", "idle", "setup", "off line"];

/// What a machine remembers between two reports.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    random: Random,
    /// Where it stands in its swing and in its filling, from 0 to below 1, when time begins.
    phase: f64,
    seconds: f64,
    parts: i64,
    state: usize,
    pressure: f64,
}

impl Machine {
    pub(super) fn new(mut random: Random) -> Machine {
        let (phase, pressure) = (random.unit(), 2.0 + 5.0 * random.unit());
        Machine { random, phase, seconds: 0.0, parts: 0, state: 0, pressure }
    }

    /// What it measures at that time since the beginning, which is later than the last one.
    pub(super) fn measure(&mut self, seconds: f64) -> Values {
        let passed = (seconds - self.seconds).max(0.0);
        self.seconds = seconds;
        let random = &mut self.random;

        let swing = sine(self.phase + seconds / SWING_S);
        let temperature = MIDDLE_C + SWING_C * swing + NOISE_C * random.noise();
        let level = (self.phase + seconds / FILL_S).fract() * 100.0;
        if self.state == 0 {
            self.parts += (passed * PARTS_PER_S * 2.0 * random.unit()).round() as i64;
        }
        if random.unit() < passed / STATE_S {
            self.state = random.below(STATES.len());
        }
        let pressure = self.pressure + STEP_BAR * random.noise();
        self.pressure = pressure.clamp(*PRESSURE_BAR.start(), *PRESSURE_BAR.end());
        [
            Value::Float(rounded(temperature, 100.0)),
            Value::Float(rounded(level, 10.0)),
            Value::Int(self.parts),
            Value::Text(STATES[self.state].into()),
            Value::Float(rounded(self.pressure, 1_000.0)),
        ]
    }
}

/// The sine of so many turns, to 0.002 (Bhaskara I): as good as a thermometer, and without libm.
fn sine(turns: f64) -> f64 {
    let half = (turns * 2.0).rem_euclid(2.0);
    let (sign, x) = if half < 1.0 { (1.0, half) } else { (-1.0, half - 1.0) };
    let arch = x * (1.0 - x);
    sign * 16.0 * arch / (5.0 - 4.0 * arch)
}

/// As an instrument with so many steps to a unit shows it.
fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

/// The device and the signal of a tag that a device below `root` reports.
pub(super) fn parse_tag(root: &str, tag: &str) -> Option<(usize, usize)> {
    let (device, signal) = tag.strip_prefix(root)?.strip_prefix('/')?.split_once('/')?;
    let signal = SIGNALS.iter().position(|known| *known == signal)?;
    Some((device.parse().ok()?, signal))
}

/// Tells values apart, whether the server keeps a number as an integer or as a float.
pub(super) fn fingerprint(value: &Input<'_>) -> u64 {
    match value {
        Input::Null => 1,
        Input::Bool(value) => 2 + u64::from(*value),
        Input::Int(int) => (*int as f64).to_bits(),
        Input::Float(float) => float.to_bits(),
        // FNV-1a.
        Input::Text(text) => text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sine_is_one() {
        for step in -100..300 {
            let turns = f64::from(step) / 97.0;
            let exact = (std::f64::consts::TAU * turns).sin();
            assert!((sine(turns) - exact).abs() < 0.002, "{turns}: {} {exact}", sine(turns));
        }
    }

    #[test]
    fn a_machine_moves_as_a_machine_does() {
        let mut machine = Machine::new(Random::of(1, 7));
        let mut twin = machine.clone();
        let (mut parts, mut states) = (0, Vec::new());
        for second in 0..1_000 {
            let values = machine.measure(f64::from(second));
            assert!(values.iter().zip(twin.measure(f64::from(second))).all(|(a, b)| a.same(&b)));
            let [Value::Float(temperature), Value::Float(level), Value::Int(count), Value::Text(state), bar] =
                values
            else {
                panic!("other types")
            };
            assert!((50.0..90.0).contains(&temperature), "{temperature}");
            assert!((0.0..=100.0).contains(&level), "{level}");
            assert!(count >= parts, "{count} after {parts}");
            assert!(matches!(bar, Value::Float(bar) if PRESSURE_BAR.contains(&bar)), "{bar}");
            parts = count;
            states.push(state);
        }
        assert!(parts > 50, "{parts}");
        assert!(STATES.iter().all(|state| states.iter().any(|seen| **seen == **state)));
    }

    #[test]
    fn tags_of_devices_are_known() {
        assert_eq!(parse_tag("sim", "sim/00123/state"), Some((123, STATE)));
        for other in
            ["sim/00123", "sim/x/state", "sim/1/speed", "sims/1/state", "sim-1/1/state", "sim/1/2/state"]
        {
            assert_eq!(parse_tag("sim", other), None, "{other}");
        }
    }

    #[test]
    fn a_value_that_was_read_back_has_the_fingerprint_of_the_one_written() {
        let of = |text: &str| fingerprint(&Input::parse(text).expect("a value"));
        assert_eq!(of("80"), of("80.0"));
        for value in Machine::new(Random::of(1, 2)).measure(5.0) {
            assert_eq!(of(&value.to_string()), fingerprint(&value.as_input()));
        }
        assert!(of("80") != of("80.1") && of("\"idle\"") != of("\"off\"") && of("true") != of("false"));
    }
}
