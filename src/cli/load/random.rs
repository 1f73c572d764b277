//! Chance that can be repeated: SplitMix64, a few nanoseconds a number. Not for secrets.

use std::time::Duration;

/// A source of chance; the same seed gives the same numbers.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Random(u64);

/// The step of SplitMix64: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// A source of its own for each `number` under one `seed`.
    pub(in crate::cli) fn new(seed: u64, number: u64) -> Random {
        Random(mix(mix(seed) ^ number))
    }

    pub(in crate::cli) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// From 0 to below 1.
    pub(in crate::cli) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to below `bound`; 0 if that is 0.
    pub(in crate::cli) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// From -1 to 1, most often near 0.
    pub(in crate::cli) fn noise(&mut self) -> f64 {
        (self.unit() + self.unit() + self.unit()) / 1.5 - 1.0
    }

    /// Of a span, evenly.
    pub(in crate::cli) fn within(&mut self, span: Duration) -> Duration {
        span.mul_f64(self.unit())
    }

    /// How long until something happens that happens `per_second` times a second, without memory.
    pub(in crate::cli) fn wait(&mut self, per_second: f64) -> Duration {
        Duration::try_from_secs_f64(self.exponential() / per_second).unwrap_or(Duration::MAX)
    }

    /// Of the exponential distribution with mean 1, by comparisons alone (von Neumann 1951).
    fn exponential(&mut self) -> f64 {
        let mut whole = 0.0;
        loop {
            let first = self.unit();
            let (mut last, mut falls) = (first, 0);
            loop {
                let next = self.unit();
                if next >= last {
                    break;
                }
                (last, falls) = (next, falls + 1);
            }
            if falls % 2 == 0 {
                return whole + first;
            }
            whole += 1.0;
        }
    }
}

/// Spreads any difference over all bits.
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_repeats_and_stays_in_its_range() {
        let draw = |seed, number| {
            let mut random = Random::new(seed, number);
            [random.bits(), random.bits(), random.bits()]
        };
        assert_eq!(draw(1, 7), draw(1, 7));
        assert!(draw(1, 7) != draw(1, 8) && draw(1, 7) != draw(2, 7));

        let mut random = Random::new(3, 0);
        let mut sum = Duration::ZERO;
        for _ in 0..10_000 {
            assert!((0.0..1.0).contains(&random.unit()));
            assert!(random.below(3) < 3 && random.below(0) == 0);
            assert!((-1.0..=1.0).contains(&random.noise()));
            assert!(random.within(Duration::from_secs(2)) < Duration::from_secs(2));
            sum += random.wait(100.0);
        }
        assert!((90.0..110.0).contains(&sum.as_secs_f64()), "{sum:?}");
        assert_eq!(random.wait(0.0), Duration::MAX);
    }
}
