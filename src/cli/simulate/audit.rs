//! The last connection of a run: asks the server for all that it holds of the devices.

use std::fmt::Write;
use std::sync::Arc;

use super::ledger::Seen;
use super::machine::{fingerprint, parse_tag};
use super::run::{Run, Verdict};
use crate::cli::load::{Lines, Reply, say_end};
use crate::engine::{Consumed, Context, End, Flow, Session};
use crate::tags::value::Input;

pub(super) struct Audit {
    run: Arc<Run>,
}

impl Audit {
    /// Its verdict is the run's, from now on.
    pub(super) fn new(run: Arc<Run>) -> Audit {
        *run.verdict() = Verdict::Asking;
        run.ledger().forget_found();
        Audit { run }
    }

    fn settle(&self, verdict: Verdict) {
        let mut settled = self.run.verdict();
        if *settled == Verdict::Asking {
            *settled = verdict;
        }
    }
}

impl Session for Audit {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        let _ = writeln!(cx, "READ {}/#", self.run.root);
        Flow::Continue
    }

    fn on_bytes(&mut self, _cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        let mut lines = Lines::of(input);
        let mut ledger = self.run.ledger();
        while let Some(line) = lines.next() {
            let verdict = match Reply::parse(line) {
                Reply::Val(told) => {
                    let tag = parse_tag(&self.run.root, told.name);
                    if let (Some((device, signal)), Ok(value)) = (tag, Input::parse(told.value)) {
                        let seen = Seen { time: told.time, print: fingerprint(&value) };
                        ledger.on_found(device, signal, seen);
                    }
                    continue;
                }
                Reply::Ok(_) => Verdict::Known,
                Reply::Err(text) => Verdict::Failed(format!("ERR {text}")),
                Reply::Upd(_) | Reply::Other => continue,
            };
            self.settle(verdict);
            return Consumed { bytes: lines.consumed(), flow: Flow::Close(End::Quit) };
        }
        let too_long = lines.rest_is_too_long();
        let flow = if too_long { Flow::Close(End::Violation) } else { Flow::Continue };
        Consumed { bytes: lines.consumed(), flow }
    }

    fn on_end(&mut self, _cx: &mut Context<'_>, why: End) {
        self.settle(Verdict::Failed(say_end(why)));
    }
}
