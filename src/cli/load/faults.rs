//! What went wrong in a run: how often, and the first different texts.

use std::fmt;
use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::End;

/// Different faults that are remembered with their text.
const KEPT: usize = 8;

/// The faults of a run. Shared by its sessions, which run in one thread: the lock is for the compiler.
#[derive(Default)]
pub(in crate::cli) struct Faults(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    count: u64,
    first: Vec<(String, u64)>,
}

impl Faults {
    /// Something is wrong with the server, or with us.
    pub(in crate::cli) fn note(&self, what: impl fmt::Display) {
        let what = what.to_string();
        let mut kept = self.kept();
        kept.count += 1;
        if let Some((_, count)) = kept.first.iter_mut().find(|(known, _)| *known == what) {
            *count += 1;
        } else if kept.first.len() < KEPT {
            kept.first.push((what, 1));
        }
    }

    /// All of them.
    pub(in crate::cli) fn count(&self) -> u64 {
        self.kept().count
    }

    /// The first different ones, each with how often it came; and how many others there were.
    pub(in crate::cli) fn lines(&self) -> Vec<String> {
        let kept = self.kept();
        let mut lines: Vec<_> = kept.first.iter().map(|(what, count)| format!("{count} × {what}")).collect();
        let others = kept.count - kept.first.iter().map(|(_, count)| count).sum::<u64>();
        if others > 0 {
            lines.push(format!("{others} other errors"));
        }
        lines
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a connection ended that should not have, seen from our side.
pub(in crate::cli) fn say_end(why: End) -> String {
    match why {
        End::PeerClosed => "the server closed a connection".to_owned(),
        End::NotConnected(kind) => format!("a connection could not be made: {kind}"),
        End::Broken(ErrorKind::ConnectionReset) => "the server reset a connection".to_owned(),
        End::Slow => "the server took nothing for 30 s".to_owned(),
        why => format!("a connection ended: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_faults_are_counted() {
        let faults = Faults::default();
        (0..3).for_each(|_| faults.note("ERR limit"));
        (0..KEPT + 1).for_each(|number| faults.note(number));
        assert_eq!(faults.count(), 3 + KEPT as u64 + 1);
        let lines = faults.lines();
        assert_eq!(lines[..2], ["3 × ERR limit", "1 × 0"]);
        assert_eq!(lines[KEPT..], ["2 other errors"]);
    }
}
