//! Sessions of connections that an engine of the world makes itself: the driver of a polled device, and a
//! reporter that is a client of another engine.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::checkers;
use super::client::{Asked, Client};
use super::record::Book;
use crate::base::random::Random;
use crate::base::time::{Tick, Timestamp};
use crate::engine::rig::Undemanding;
use crate::engine::{Consumed, Context, End, Endpoint, Flow, Session, Ticket, WriteOrder};
use crate::tags::value::{Input, Quality, Value};
use crate::tags::{OwnerId, Refusal, TagId};

/// How long a driver waits for its device's answer.
const ANSWER_TIME: Duration = Duration::from_millis(700);

/// Carries orders to a polled device, by a protocol of the simulation's own (see `Plc`). It is not a good
/// one: it answers late, and now and then twice, as a driver with a bug would.
pub(super) struct Driver {
    pub(super) to: Endpoint,
    pub(super) book: Book,
    pub(super) random: Random,
    orders: u64,
    waiting: VecDeque<Waiting>,
    /// The last order that was answered.
    answered: Option<(u64, Ticket)>,
}

/// What a device says that has no time, in the numbers of Modbus.
const BUSY: u8 = 6;

fn name_of(cx: &Context<'_>, tag: TagId) -> String {
    let mut name = String::new();
    cx.tags().push_name(tag, &mut name);
    name
}

struct Waiting {
    number: u64,
    ticket: Ticket,
    until: Tick,
}

impl Driver {
    pub(super) fn new(to: Endpoint, book: Book, random: Random) -> Driver {
        Driver { to, book, random, orders: 0, waiting: VecDeque::new(), answered: None }
    }

    fn settle(&self, cx: &mut Context<'_>, ticket: Ticket, result: Result<(), Refusal>) {
        self.book.open().end_order(ticket, &result);
        cx.settle(ticket, result);
    }

    fn on_answer(&mut self, cx: &mut Context<'_>, line: &str) {
        let mut fields = line.split(' ');
        let verb = fields.next();
        let mut number = || fields.next()?.parse::<u64>().ok();
        let order = number().expect("an answer has the order's number");
        let result = if verb == Some("A") {
            let (tag, value) = number().zip(number()).expect("a confirmed order says what was written");
            let (tag, value, time) = (TagId(tag as u32), value as i64, cx.now().wall);
            self.book.open().device_did.insert((name_of(cx, tag), value));
            cx.report(tag, Input::Int(value), Quality::Good, time);
            Ok(())
        } else {
            // Some devices say why, as Modbus has numbers for it.
            let code = (order % 2 == 0).then_some(BUSY);
            Err(Refusal::Device { reason: "the device says no".into(), code })
        };
        let at = self.waiting.iter().position(|waiting| waiting.number == order);
        if let Some(waiting) = at.and_then(|at| self.waiting.remove(at)) {
            self.settle(cx, waiting.ticket, result);
            self.answered = Some((order, waiting.ticket));
        } else if let Some((_, ticket)) = self.answered.filter(|(answered, _)| *answered == order) {
            self.book.meet("an order settled again");
            cx.settle(ticket, result);
        }
    }
}

impl Session for Driver {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        {
            let mut record = self.book.open();
            record.meet("a driver's connection");
            record.plc_at = Some(record.turn_of);
        }
        cx.attach(OwnerId(0), Arc::new(Undemanding));
        Flow::Continue
    }

    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        let mut bytes = 0;
        while let Some(length) = input[bytes..].iter().position(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(&input[bytes..bytes + length]).into_owned();
            bytes += length + 1;
            self.on_answer(cx, &line);
        }
        Consumed { bytes, flow: Flow::Continue }
    }

    fn on_write_order(&mut self, cx: &mut Context<'_>, order: WriteOrder) -> Flow {
        let Value::Int(value) = order.value else { panic!("the device's tags are whole numbers") };
        {
            let mut record = self.book.open();
            let (ticket, write) = (order.ticket, (name_of(cx, order.tag), value));
            let verdict = checkers::each_order_is_handed_out_once(&mut record, ticket, write);
            record.judge(verdict);
        }
        match self.random.below(40) {
            0 => {
                self.book.open().end_order(order.ticket, &Err(Refusal::Timeout));
                return Flow::Close(End::Violation);
            }
            1 => self.settle(cx, order.ticket, Err(Refusal::Offline)),
            _ => {
                self.orders += 1;
                cx.put(format!("W {} {} {value}\n", self.orders, order.tag.0).as_bytes());
                let until = cx.now().tick + ANSWER_TIME;
                self.waiting.push_back(Waiting { number: self.orders, ticket: order.ticket, until });
            }
        }
        Flow::Continue
    }

    fn on_deadline(&mut self, cx: &mut Context<'_>) -> Flow {
        while self.waiting.front().is_some_and(|waiting| waiting.until <= cx.now().tick) {
            let late = self.waiting.pop_front().expect("there is one in front");
            self.settle(cx, late.ticket, Err(Refusal::Timeout));
        }
        Flow::Continue
    }

    fn on_end(&mut self, cx: &mut Context<'_>, why: End) {
        self.book.meet(match why {
            End::NotConnected(_) => "a dial in vain",
            _ => "a driver's end",
        });
        // It may have done them, or not.
        for Waiting { ticket, .. } in self.waiting.drain(..) {
            self.book.open().end_order(ticket, &Err(Refusal::Timeout));
        }
        let random = self.random.fork();
        let again = Driver::new(self.to.clone(), self.book.clone(), random);
        let pause = Duration::from_millis(self.random.within(5..=300));
        cx.dial_at(cx.now().tick + pause, self.to.clone(), Box::new(again));
    }

    fn deadline(&self) -> Option<Tick> {
        self.waiting.front().map(|waiting| waiting.until)
    }
}

/// A device that is a session of another engine: it speaks the line protocol to the server.
pub(super) struct Reporter {
    pub(super) to: Endpoint,
    pub(super) book: Book,
    pub(super) random: Random,
    pub(super) client: Arc<Mutex<Client>>,
    pub(super) next: Tick,
    pub(super) version: i64,
    /// Counted up where the last connection's `HELLO` may still come: see `Talker::choose_tags`.
    pub(super) tags: u64,
}

impl Reporter {
    fn speak(&mut self, cx: &mut Context<'_>, out: &str) {
        cx.put(out.as_bytes());
        self.next = cx.now().tick + Duration::from_micros(self.random.within(2_000..=50_000));
    }

    fn client(&self) -> std::sync::MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session for Reporter {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        self.book.meet("a reporter's connection");
        let mut out = String::new();
        {
            let mut client = self.client();
            client.on_open();
            client.ask(Asked::Hello, "HELLO rep0 900ms", &mut out);
            client.ask(Asked::Sub("+/t0".to_owned()), "SUB +/t0", &mut out);
        }
        self.speak(cx, &out);
        Flow::Continue
    }

    fn on_bytes(&mut self, _cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        self.client().on_bytes(input);
        Consumed { bytes: input.len(), flow: Flow::Continue }
    }

    fn on_deadline(&mut self, cx: &mut Context<'_>) -> Flow {
        if self.book.open().quiet {
            self.next = Tick::NEVER;
            return Flow::Continue;
        }
        let mut out = String::new();
        if self.client().waiting() < 64 && cx.room() > 4_096 {
            for _ in 0..1 + self.random.below(6) {
                self.version += 1;
                let version = self.version;
                let tags = ["a", "b"].map(|tag| format!("rep0/{tag}{}/x", self.tags));
                let mut client = self.client();
                client.ask_set(&tags[(version % 2) as usize], version, 0, &mut out);
                let text = format!("rep0-{version}");
                client.ask(Asked::Ping(text.clone()), &format!("PING {text}"), &mut out);
                client.ask_get(&tags[0], &mut out);
            }
        }
        self.speak(cx, &out);
        Flow::Continue
    }

    fn on_end(&mut self, cx: &mut Context<'_>, why: End) {
        self.book.note(format_args!("rep0"), format_args!("ends: {why}"));
        let tags = self.tags + u64::from(!self.client().is_greeted());
        self.client().on_open();
        let again = Reporter {
            to: self.to.clone(),
            book: self.book.clone(),
            random: self.random.fork(),
            client: Arc::clone(&self.client),
            next: Tick::NEVER,
            version: self.version,
            tags,
        };
        let pause = Duration::from_millis(self.random.within(5..=300));
        cx.dial_at(cx.now().tick + pause, self.to.clone(), Box::new(again));
    }

    fn deadline(&self) -> Option<Tick> {
        Some(self.next)
    }
}

/// The wall clock when a world begins, in milliseconds.
pub(super) const EPOCH: Timestamp = Timestamp(1_700_000_000_000);
