//! Chance that can be repeated. Our own, and small: a seed must give the same numbers in every version of
//! every crate. Not for secrets.

use std::ops::RangeInclusive;
use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): every seed is a good one, and neighbouring seeds give unrelated
/// numbers, a few nanoseconds each.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

/// What the state grows by with each number: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// The same seed gives the same numbers, everywhere and for ever.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// Chance of its own for each `number` under one `seed`.
    pub fn of(seed: u64, number: u64) -> Random {
        Random { state: mix(mix(seed) ^ number) }
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.scaled(n as u128) as usize
    }

    /// A number of the range.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.scaled(u128::from(range.end() - range.start()) + 1)
    }

    /// A number below `n`, which is at most 2^64.
    fn scaled(&mut self, n: u128) -> u64 {
        // Multiply and shift: the tiny bias does no harm here, a modulo would cost more.
        ((u128::from(self.draw()) * n) >> 64) as u64
    }

    /// Whether a thing happens that happens once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of several.
    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// Any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }

    /// Chance for a part of the whole that draws on its own account.
    pub fn fork(&mut self) -> Random {
        Random::new(self.draw())
    }

    /// From 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From -1 to 1, most often near 0.
    pub fn noise(&mut self) -> f64 {
        (self.unit() + self.unit() + self.unit()) / 1.5 - 1.0
    }

    /// A part of `span`, evenly.
    pub fn part_of(&mut self, span: Duration) -> Duration {
        span.mul_f64(self.unit())
    }

    /// How long until something happens that happens `per_second` times a second, without memory.
    pub fn wait(&mut self, per_second: f64) -> Duration {
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
    fn numbers_are_those_of_the_paper() {
        // The reference implementation's first numbers for the seed 1234567.
        let mut random = Random::new(1_234_567);
        let first = [random.draw(), random.draw(), random.draw()];
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn numbers_are_even_and_stay_in_their_range() {
        let mut random = Random::new(3);
        let mut counts = [0; 5];
        (0..5_000).for_each(|_| counts[random.below(5)] += 1);
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
        let mut drawn: Vec<u64> = (0..100).map(|_| random.within(7..=9)).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, [7, 8, 9]);
        let halves = (0..100).filter(|_| random.within(0..=u64::MAX) > u64::MAX / 2).count();
        assert!((30..70).contains(&halves), "{halves} of 100 in the upper half");
        for _ in 0..10_000 {
            assert!((0.0..1.0).contains(&random.unit()));
            assert!((-1.0..=1.0).contains(&random.noise()));
            assert!(random.part_of(Duration::from_secs(2)) < Duration::from_secs(2));
        }
    }

    #[test]
    fn each_number_under_a_seed_has_chance_of_its_own() {
        let draw = |seed, number| {
            let mut random = Random::of(seed, number);
            [random.draw(), random.draw(), random.draw()]
        };
        assert_eq!(draw(1, 7), draw(1, 7));
        assert!(draw(1, 7) != draw(1, 8) && draw(1, 7) != draw(2, 7));
    }

    #[test]
    fn waits_have_the_mean_that_was_asked_for() {
        let mut random = Random::new(3);
        let sum: Duration = (0..10_000).map(|_| random.wait(100.0)).sum();
        assert!((90.0..110.0).contains(&sum.as_secs_f64()), "{sum:?}");
        assert_eq!(random.wait(0.0), Duration::MAX);
    }
}
