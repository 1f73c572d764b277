//! Questions to a polled device in its own language. Who asks and the driver are the test's: a line of the
//! asker is a question, a byte of the device an answer.

use std::collections::VecDeque;
use std::time::Duration;

use crate::tags::OwnerId;

use super::*;

/// Asks a line at a time and waits for the answer.
#[derive(Default)]
struct Asker {
    waits: Option<Ticket>,
}

impl Session for Asker {
    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        let mut bytes = 0;
        while let (None, Some(end)) = (self.waits, input[bytes..].iter().position(|byte| *byte == b'\n')) {
            let line = &input[bytes..bytes + end];
            bytes += end + 1;
            match cx.ask(OwnerId(0), line.into(), Duration::from_secs(7)) {
                Ok(ticket) => self.waits = Some(ticket),
                Err(refusal) => cx.put(format!("at once: {refusal}\n").as_bytes()),
            }
        }
        Consumed { bytes, flow: if self.waits.is_some() { Flow::Hold } else { Flow::Continue } }
    }

    fn on_answer(&mut self, cx: &mut Context<'_>, ticket: Ticket, result: Result<&[u8], Refusal>) -> Flow {
        assert_eq!(self.waits.take(), Some(ticket));
        match result {
            Ok(answer) => cx.put(answer),
            Err(refusal) => cx.put(refusal.to_string().as_bytes()),
        }
        cx.put(b"\n");
        Flow::Continue
    }
}

/// `+` answers the oldest question by what it asked, `-` refuses it, `2` answers it twice.
#[derive(Default)]
struct Driver {
    questions: VecDeque<Question>,
}

impl Session for Driver {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        cx.attach(OwnerId(0), Arc::new(Undemanding));
        Flow::Continue
    }

    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        for byte in input {
            let question = self.questions.pop_front().expect("a question to answer");
            match byte {
                b'+' => cx.answer(question.ticket, Ok(&question.bytes)),
                b'-' => cx.answer(question.ticket, Err(Refusal::Timeout)),
                _ => {
                    cx.answer(question.ticket, Ok(&question.bytes));
                    cx.answer(question.ticket, Err(Refusal::Offline));
                }
            }
        }
        Consumed { bytes: input.len(), flow: Flow::Continue }
    }

    fn on_question(&mut self, cx: &mut Context<'_>, question: Question) -> Flow {
        assert_eq!((question.owner, question.max_age), (OwnerId(0), Duration::from_secs(7)));
        cx.put(&question.bytes);
        self.questions.push_back(question);
        Flow::Continue
    }
}

/// A driver that knows of no questions.
struct Mute;

impl Session for Mute {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        cx.attach(OwnerId(0), Arc::new(Undemanding));
        Flow::Continue
    }

    fn on_bytes(&mut self, _: &mut Context<'_>, input: &[u8]) -> Consumed {
        Consumed { bytes: input.len(), flow: Flow::Continue }
    }
}

struct Makes(fn() -> Box<dyn Session>);

impl Acceptor for Makes {
    fn accept(&self, _peer: SocketAddr) -> Box<dyn Session> {
        (self.0)()
    }

    fn refuse(&self, _refusal: &Refusal, _out: &mut String) {}
}

const ASKER: usize = 1;
const DRIVER: usize = 2;
const MUTE: usize = 3;

fn rig() -> Rig {
    let more: Vec<Box<dyn Acceptor>> = vec![
        Box::new(Makes(|| Box::<Asker>::default())),
        Box::new(Makes(|| Box::<Driver>::default())),
        Box::new(Makes(|| Box::new(Mute))),
    ];
    Rig::with("line", RigSettings { owners: vec!["dev".into()], more, ..RigSettings::default() })
}

const OFFLINE: &str =
    "the device is not connected, silent, paused or busy for write_expiry; nothing was sent\n";
const TIMEOUT: &str = "the device did not answer in time; the write may have happened\n";

#[test]
fn each_is_answered_once_and_what_follows_waits() {
    let mut rig = rig();
    let (asker, driver) = (rig.connect_to(ASKER), rig.connect_to(DRIVER));
    assert_eq!(rig.ask(asker, "one\ntwo\nthree\n"), "");
    assert_eq!(rig.take(driver), "one");
    assert_eq!(rig.ask(driver, "+"), "two");
    assert_eq!(rig.take(asker), "one\n");
    assert_eq!(rig.ask(driver, "-"), "three");
    assert_eq!(rig.take(asker), TIMEOUT);
    rig.ask(driver, "2");
    assert_eq!(rig.take(asker), "three\n");
    rig.wind_up();
}

#[test]
fn without_a_driver_nothing_is_asked() {
    let mut rig = rig();
    let asker = rig.connect_to(ASKER);
    assert_eq!(rig.ask(asker, "one\ntwo\n"), format!("at once: {OFFLINE}").repeat(2));
    rig.connect_to(MUTE);
    assert_eq!(rig.ask(asker, "three\n"), OFFLINE, "a driver that takes no questions says so");
    rig.wind_up();
}

#[test]
fn a_driver_that_goes_leaves_nobody_waiting() {
    let mut rig = rig();
    let (asker, driver) = (rig.connect_to(ASKER), rig.connect_to(DRIVER));
    // In one turn: asked first, gone before the question is handed out.
    rig.send(asker, "one\n");
    rig.half_close(driver);
    rig.settle();
    assert_eq!((rig.take(driver).as_str(), rig.take(asker).as_str()), ("", OFFLINE));

    let driver = rig.connect_to(DRIVER);
    rig.ask(asker, "two\nthree\n");
    assert_eq!(rig.take(driver), "two");
    rig.break_off(driver);
    rig.settle();
    assert_eq!(rig.take(asker), format!("{TIMEOUT}at once: {OFFLINE}"), "it may have been sent");
    rig.wind_up();
}

#[test]
fn nobody_is_left_to_hear_the_answer() {
    let mut rig = rig();
    let (asker, driver) = (rig.connect_to(ASKER), rig.connect_to(DRIVER));
    rig.ask(asker, "one\n");
    rig.break_off(asker);
    rig.settle();
    // Another one gets its place in the slab, and not its answer.
    let next = rig.connect_to(ASKER);
    assert_eq!(rig.ask(driver, "+"), "one");
    assert_eq!(rig.take(next), "");
    rig.wind_up();
}
