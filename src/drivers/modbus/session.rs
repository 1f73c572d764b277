//! A line's life: parked while there is no connection, then linked to one, then parked again.

use super::line::{LOOK_AGAIN, Line};
use crate::base::time::Tick;
use crate::engine::{Consumed, Context, End, Flow, Question, Session, WriteOrder};

/// A line without a connection.
pub struct Parked {
    line: Option<Box<Line>>,
    next: Tick,
}

/// A line and its connection.
struct Linked {
    /// Gone when the conversation is over.
    line: Option<Box<Line>>,
}

impl Parked {
    /// The connection is made at that time.
    pub(super) fn until(dial_at: Tick, line: Box<Line>) -> Parked {
        Parked { line: Some(line), next: dial_at }
    }
}

impl Session for Parked {
    fn on_bytes(&mut self, _: &mut Context<'_>, _: &[u8]) -> Consumed {
        unreachable!("there is no peer that could send")
    }

    fn on_deadline(&mut self, cx: &mut Context<'_>) -> Flow {
        match self.line.take() {
            Some(line) if line.is_enabled() => {
                let (now, to) = (cx.now().tick, line.to.clone());
                cx.dial_at(now, to, Box::new(Linked { line: Some(line) }));
                Flow::Close(End::Quit)
            }
            line => {
                self.line = line;
                self.line.iter_mut().for_each(|line| line.see_who_is_paused(cx));
                self.next = cx.now().tick + LOOK_AGAIN;
                Flow::Continue
            }
        }
    }

    fn deadline(&self) -> Option<Tick> {
        Some(self.next)
    }
}

impl Linked {
    fn line(&mut self) -> &mut Line {
        self.line.as_mut().expect("a session is not called after its end")
    }
}

impl Session for Linked {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        self.line().on_connected(cx);
        Flow::Continue
    }

    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        match self.line().on_bytes(cx, input) {
            Ok(bytes) => Consumed { bytes, flow: Flow::Continue },
            Err(violation) => {
                log::warn!("{}: {violation}; the connection is made anew", self.line().url());
                Consumed { bytes: input.len(), flow: Flow::Close(End::Aborted) }
            }
        }
    }

    fn on_write_order(&mut self, cx: &mut Context<'_>, order: WriteOrder) -> Flow {
        self.line().on_order(cx, order);
        Flow::Continue
    }

    fn on_question(&mut self, cx: &mut Context<'_>, question: Question) -> Flow {
        self.line().on_question(cx, question);
        Flow::Continue
    }

    fn on_deadline(&mut self, cx: &mut Context<'_>) -> Flow {
        // Cut off, for the old connection must be gone before a new one is made: some devices have room for
        // one only.
        if self.line().on_deadline(cx) { Flow::Continue } else { Flow::Close(End::Aborted) }
    }

    fn on_unresolved(&mut self, why: &str) {
        self.line().on_fault(why);
    }

    fn on_end(&mut self, cx: &mut Context<'_>, why: End) {
        let Some(mut line) = self.line.take() else { return };
        line.on_lost(cx, why);
        if why != End::Shutdown {
            let wait = line.backoff.on_failure();
            if line.is_enabled() {
                line.tell_of_fault(why, wait);
            }
            let dial_at = cx.now().tick + wait;
            cx.house(Box::new(Parked::until(dial_at, line)));
        }
    }

    fn asks_in(&self) -> Option<&'static str> {
        self.line.as_ref().map(|line| line.scheme())
    }

    fn deadline(&self) -> Option<Tick> {
        self.line.as_ref().map(|line| line.next)
    }
}
