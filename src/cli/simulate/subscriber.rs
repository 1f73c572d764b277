//! A reader of a pattern: sees every tag's samples in order, and the newest at the end.

use std::fmt;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ledger::{Ledger, Seen};
use super::machine::{SIGNALS, STATE, TEMPERATURE, fingerprint, parse_tag};
use super::run::Run;
use crate::base::random::Random;
use crate::cli::load::{Lines, Reply, Told, say_end};
use crate::engine::{Consumed, Context, End, Flow, Session};
use crate::tags::value::Input;

/// Sets a subscriber's chance apart from a device's.
const CHANCE: u64 = 0x5ab5;

/// Which tags a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// `sim/+/temperature`
    Signal(usize),
    /// `sim/00123/+`
    Device(usize),
    /// `#`
    All,
}

/// What one reader has seen last of each tag. Outlives its connections.
pub(super) struct Watch {
    scope: Scope,
    /// By device, then signal: of all signals in the scope.
    seen: Mutex<Vec<Option<Seen>>>,
}

/// One connection of a reader.
pub(super) struct Subscriber {
    run: Arc<Run>,
    watch: Arc<Watch>,
    random: Random,
    attempts: u32,
}

impl Scope {
    /// The scopes of several readers go round.
    pub(super) fn of(reader: usize, devices: usize) -> Scope {
        match reader % 4 {
            0 => Scope::Signal(TEMPERATURE),
            1 => Scope::All,
            2 => Scope::Signal(STATE),
            _ => Scope::Device(reader % devices),
        }
    }

    /// The tags of `devices` devices that are in it; each has a place.
    fn tags(self, devices: usize) -> impl Iterator<Item = (usize, usize)> {
        let (first, last) = match self {
            Scope::Device(device) => (device, device + 1),
            _ => (0, devices),
        };
        let signals = match self {
            Scope::Signal(signal) => signal..signal + 1,
            _ => 0..SIGNALS.len(),
        };
        (first..last).flat_map(move |device| signals.clone().map(move |signal| (device, signal)))
    }

    fn place(self, device: usize, signal: usize) -> Option<usize> {
        match self {
            Scope::Signal(wanted) => (signal == wanted).then_some(device),
            Scope::Device(wanted) => (device == wanted).then_some(signal),
            Scope::All => Some(device * SIGNALS.len() + signal),
        }
    }
}

impl Watch {
    pub(super) fn new(scope: Scope, devices: usize) -> Watch {
        let places = scope.tags(devices).count();
        Watch { scope, seen: Mutex::new(vec![None; places]) }
    }

    /// The pattern to subscribe to, for tags below `root`.
    fn pattern(&self, root: &str) -> String {
        match self.scope {
            Scope::Signal(signal) => format!("{root}/+/{}", SIGNALS[signal]),
            Scope::Device(device) => format!("{root}/{device:05}/+"),
            Scope::All => "#".to_owned(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Option<Seen>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many tags' last state it was not told, of what the server was found to hold.
    pub(super) fn behind(&self, ledger: &Ledger) -> usize {
        let seen = self.seen();
        let tags = self.scope.tags(ledger.devices()).enumerate();
        tags.filter(|&(place, (device, signal))| {
            // A new time alone is no change, so nobody is told of it.
            ledger.found(device, signal).is_some_and(|found| {
                seen[place].is_none_or(|seen| seen.print != found.print && seen.time <= found.time)
            })
        })
        .count()
    }
}

/// What a reader may not see.
enum Disorder {
    Older,
    TwoValues,
}

impl fmt::Display for Disorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Disorder::Older => "a subscriber saw an older sample after a newer one",
            Disorder::TwoValues => "a subscriber saw two values of the same time",
        })
    }
}

impl Subscriber {
    pub(super) fn new(run: Arc<Run>, watch: Arc<Watch>, number: usize) -> Subscriber {
        let random = Random::of(run.seed ^ CHANCE, number as u64);
        Subscriber { run, watch, random, attempts: 0 }
    }

    fn on_told(&self, told: Told<'_>) -> Result<(), Disorder> {
        let Some((device, signal)) = parse_tag(&self.run.root, told.name) else { return Ok(()) };
        let Some(place) = self.watch.scope.place(device, signal) else { return Ok(()) };
        let mut seen = self.watch.seen();
        let Some(last) = seen.get_mut(place) else { return Ok(()) };
        let Ok(value) = Input::parse(told.value) else { return Ok(()) };
        let new = Seen { time: told.time, print: fingerprint(&value) };
        match *last {
            Some(last) if new.time == last.time && new.print != last.print => Err(Disorder::TwoValues),
            Some(last) if new.time < last.time && !self.run.ledger().excuses(device, new.time) => {
                Err(Disorder::Older)
            }
            _ => {
                *last = Some(new);
                Ok(())
            }
        }
    }
}

impl Session for Subscriber {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        let _ = writeln!(cx, "SUB {}", self.watch.pattern(&self.run.root));
        Flow::Continue
    }

    fn on_bytes(&mut self, _cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        let mut lines = Lines::of(input);
        for line in lines.by_ref() {
            let told = match Reply::parse(line) {
                Reply::Val(told) => told,
                Reply::Upd(told) => {
                    self.run.counts.updates.add(1);
                    told
                }
                Reply::Err(text) => {
                    self.run.error(format_args!("ERR {text}"));
                    continue;
                }
                Reply::Ok(_) => {
                    self.attempts = 0;
                    continue;
                }
                Reply::Other => continue,
            };
            if let Err(disorder) = self.on_told(told) {
                self.run.error(disorder);
            }
        }
        let bytes = lines.consumed();
        if lines.rest_is_too_long() {
            self.run.error("a line without an end");
            return Consumed { bytes, flow: Flow::Close(End::Violation) };
        }
        Consumed { bytes, flow: Flow::Continue }
    }

    fn on_end(&mut self, cx: &mut Context<'_>, why: End) {
        if why == End::Shutdown {
            return;
        }
        self.run.error(say_end(why));
        let now = cx.now().tick;
        if self.run.is_over(now) {
            return;
        }
        let wait = self.run.backoff(&mut self.random, self.attempts);
        let (run, watch) = (Arc::clone(&self.run), Arc::clone(&self.watch));
        let again = Subscriber { run, watch, random: self.random.clone(), attempts: self.attempts + 1 };
        cx.dial_at(now + wait, self.run.endpoint(0), Box::new(again));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tag_of_a_scope_has_a_place() {
        for reader in 0..8 {
            let scope = Scope::of(reader, 3);
            let places: Vec<_> = scope.tags(3).map(|(device, signal)| scope.place(device, signal)).collect();
            assert_eq!(places, (0..places.len()).map(Some).collect::<Vec<_>>(), "{scope:?}");
        }
        assert_eq!(Scope::Signal(1).place(2, 0), None);
        assert_eq!(Scope::Device(1).place(2, 0), None);
    }

    #[test]
    fn who_was_not_told_the_newest_is_behind() {
        let watch = Watch::new(Scope::Device(1), 2);
        let mut ledger = Ledger::new(2);
        let seen = |time, print| Seen { time, print };
        ledger.on_found(0, 0, seen(10, 1));
        assert_eq!(watch.behind(&ledger), 0, "not of its scope");
        ledger.on_found(1, 0, seen(10, 1));
        ledger.on_found(1, 4, seen(10, 1));
        assert_eq!(watch.behind(&ledger), 2);
        for (told, behind) in [(seen(9, 2), 2), (seen(9, 1), 1), (seen(10, 1), 1), (seen(11, 3), 1)] {
            watch.seen()[0] = Some(told);
            assert_eq!(watch.behind(&ledger), behind, "{told:?}");
        }
    }
}
