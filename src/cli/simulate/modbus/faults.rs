//! What is wrong with some of the slaves, and which those are.

use std::time::Duration;

use crate::base::random::Random;

/// What a slave does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Takes connections and requests, and never answers.
    Silent,
    /// Answers, but takes more than half of the timeout each time.
    Slow,
    /// Now and then sends what is no answer, in place of one or ahead of it; see [`super::garbage`].
    Garbage,
    /// Now and then answers after the timeout, while it answers later requests in time.
    Late,
    /// Some addresses are not there (exception 2), some are busy now and then (exception 6).
    Exceptions,
    /// Now and then closes the connection in place of an answer.
    Cut,
}

/// All of them, in the order in which they are counted; a fault's place is its number.
pub(super) const FAULTS: [Fault; 6] =
    [Fault::Silent, Fault::Slow, Fault::Garbage, Fault::Late, Fault::Exceptions, Fault::Cut];

/// "Now and then" is once in so many requests.
const GARBAGE_EVERY: usize = 8;
const LATE_EVERY: usize = 8;
const BUSY_EVERY: usize = 4;
const CUT_EVERY: usize = 32;

/// Of each ten addresses of a slave with exceptions, the one that is not there and the one that is busy now
/// and then.
const MISSING_OF_TEN: u32 = 7;
const BUSY_OF_TEN: u32 = 3;

/// How long a slow answer takes, and a late one, as shares of the timeout: from, and how much more at most.
const SLOW: (f64, f64) = (0.5, 0.4);
const LATE: (f64, f64) = (1.1, 0.9);

/// Sets the choice of the slaves apart from their own chance.
const CHOICE: u64 = 0xfa17;

impl Fault {
    /// As in options and figures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::Silent => "silent",
            Fault::Slow => "slow",
            Fault::Garbage => "garbage",
            Fault::Late => "late",
            Fault::Exceptions => "exceptions",
            Fault::Cut => "cut",
        }
    }

    /// What is counted of it, for people.
    pub(super) fn deeds(self) -> &'static str {
        match self {
            Fault::Silent => "not answered",
            Fault::Slow => "answered slowly",
            Fault::Garbage => "answered with garbage",
            Fault::Late => "answered after the timeout",
            Fault::Exceptions => "answered with exception 2 or 6",
            Fault::Cut => "answered with the end of the connection",
        }
    }

    /// Whether it strikes at this request. What exceptions strike at goes by address:
    /// [`is_missing`], [`is_busy`].
    pub(super) fn strikes(self, random: &mut Random) -> bool {
        match self {
            Fault::Silent | Fault::Slow => true,
            Fault::Garbage => random.one_in(GARBAGE_EVERY),
            Fault::Late => random.one_in(LATE_EVERY),
            Fault::Exceptions => random.one_in(BUSY_EVERY),
            Fault::Cut => random.one_in(CUT_EVERY),
        }
    }

    /// How much longer it makes an answer take, where it strikes.
    pub(super) fn delay(self, random: &mut Random, timeout: Duration) -> Duration {
        let (from, more) = match self {
            Fault::Slow => SLOW,
            Fault::Late => LATE,
            _ => return Duration::ZERO,
        };
        timeout.mul_f64(from + more * random.unit())
    }
}

/// Whether an address of a slave with exceptions is not there.
pub(super) fn is_missing(address: u32) -> bool {
    address % 10 == MISSING_OF_TEN
}

/// Whether an address of a slave with exceptions is busy now and then.
pub(super) fn is_busy(address: u32) -> bool {
    address % 10 == BUSY_OF_TEN
}

/// Who has which fault: of each so large a share of all slaves, and at least one where there is a share.
/// Nobody has two. The error says what does not fit.
pub(super) fn choose(
    seed: u64,
    slaves: usize,
    shares: &[f64; FAULTS.len()],
) -> Result<Vec<Option<Fault>>, String> {
    let mut order: Vec<usize> = (0..slaves).collect();
    Random::of(seed, CHOICE).shuffle(&mut order);
    let mut chosen = vec![None; slaves];
    let mut next = order.into_iter();
    for (fault, share) in FAULTS.into_iter().zip(shares) {
        let least = usize::from(*share > 0.0);
        let count = ((slaves as f64 * share).round() as usize).max(least);
        for _ in 0..count {
            let slave = next.next().ok_or_else(|| {
                format!("the shares of faulty slaves are more than {slaves} slaves; each has one fault")
            })?;
            chosen[slave] = Some(fault);
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(of: &[(Fault, f64)]) -> [f64; FAULTS.len()] {
        FAULTS.map(|fault| of.iter().find(|(one, _)| *one == fault).map_or(0.0, |(_, share)| *share))
    }

    fn count(chosen: &[Option<Fault>], fault: Fault) -> usize {
        chosen.iter().filter(|one| **one == Some(fault)).count()
    }

    #[test]
    fn a_share_is_exact_and_its_slaves_are_anywhere() {
        let wanted = shares(&[(Fault::Silent, 0.05), (Fault::Late, 0.1), (Fault::Cut, 0.0001)]);
        let chosen = choose(1, 5_000, &wanted).unwrap();
        let counts = FAULTS.map(|fault| count(&chosen, fault));
        assert_eq!(counts, [250, 0, 0, 500, 0, 1]);
        let early = count(&chosen[..2_500], Fault::Silent);
        assert!((95..155).contains(&early), "{early} of 250 in the first half");
        assert_eq!(choose(1, 5_000, &wanted).unwrap(), chosen);
        assert_ne!(choose(2, 5_000, &wanted).unwrap(), chosen);
        assert_eq!(choose(1, 3, &shares(&[])).unwrap(), [None; 3]);
    }

    /// So that a run with more silent slaves differs in those alone.
    #[test]
    fn a_larger_share_holds_the_smaller_one() {
        let few = choose(7, 1_000, &shares(&[(Fault::Silent, 0.05)])).unwrap();
        let many = choose(7, 1_000, &shares(&[(Fault::Silent, 0.5)])).unwrap();
        assert!(few.iter().zip(&many).all(|(few, many)| few.is_none() || few == many));
    }

    #[test]
    fn everybody_may_be_faulty_but_once() {
        let all = choose(1, 4, &shares(&[(Fault::Silent, 0.5), (Fault::Garbage, 0.5)])).unwrap();
        assert!(all.iter().all(Option::is_some));
        let error = choose(1, 4, &shares(&[(Fault::Silent, 1.0), (Fault::Garbage, 0.01)])).unwrap_err();
        assert!(error.contains("more than 4 slaves"), "{error}");
    }

    #[test]
    fn delays_are_shares_of_the_timeout() {
        let mut random = Random::of(1, 1);
        let timeout = Duration::from_secs(1);
        for _ in 0..1_000 {
            let slow = Fault::Slow.delay(&mut random, timeout);
            assert!(slow >= timeout / 2 && slow < timeout, "{slow:?}");
            let late = Fault::Late.delay(&mut random, timeout);
            assert!(late > timeout && late <= 2 * timeout, "{late:?}");
        }
        assert_eq!(Fault::Garbage.delay(&mut random, timeout), Duration::ZERO);
    }
}
