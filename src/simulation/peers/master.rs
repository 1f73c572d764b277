//! A Modbus master in a stream, alone or behind a serial converter: reads and writes, many requests at once,
//! and takes nothing on trust.

use std::collections::VecDeque;

use super::{Ended, Hand, Peer, Table};
use crate::base::random::Random;
use crate::engine::End;
use crate::protocols::modbus::rtu::{Direction, Framing, Next, trailer};
use crate::protocols::modbus::{mbap, rtu};
use crate::simulation::checkers;
use crate::simulation::judge::Judge;
use crate::simulation::link::Appetite;
use crate::simulation::plan::{MODBUS, MODBUS_RTU};
use crate::simulation::questions::{Own, Question, read_in_vain};
use crate::simulation::record::Book;
use crate::simulation::units::CONNECTIONS_EACH;

/// Requests that wait for replies, at most.
const MOST_WAITING: usize = 48;
/// A reader that is slow, and one that reads nothing for longer than `write_stall`.
const SLOW: Appetite = Appetite { pause_us: 25_000, most_bytes: 512 };
const STUCK: Appetite = Appetite { pause_us: 60_000_000, most_bytes: 512 };

/// Plays its part on one connection after the other.
pub(in crate::simulation) struct Master {
    /// Which registers are its own.
    number: usize,
    is_serial: bool,
    is_slow: bool,
    judge: Judge,
    own: Own,
    operators: Option<usize>,
    connections: usize,
    asked: VecDeque<(u16, Question)>,
    transaction: u16,
    /// Of replies, and how the end of one is found.
    partial: Vec<u8>,
    framing: Framing,
    /// The last frame was sent as if the line had damaged it.
    was_damaged: bool,
    pause_us: u64,
    /// A frame whose end is sent later.
    rest: Vec<u8>,
    finished: bool,
    /// When the next wake-up is; others are left over from earlier connections.
    wake_at_us: u64,
    excused: Vec<End>,
}

/// What is found at the front of what came.
struct Reply {
    transaction: u16,
    unit: u8,
    pdu: Vec<u8>,
    bytes: usize,
}

impl Master {
    pub(in crate::simulation) fn new(
        name: &str,
        number: usize,
        is_serial: bool,
        operators: Option<usize>,
        random: &mut Random,
        book: Book,
    ) -> Master {
        let is_slow = random.one_in(5);
        Master {
            number,
            is_serial,
            is_slow,
            judge: Judge::new(name, book),
            own: Own::new(number, 0, operators),
            operators,
            connections: 0,
            asked: VecDeque::new(),
            transaction: 0,
            partial: Vec::new(),
            framing: Framing::new(Direction::Responses),
            was_damaged: false,
            pause_us: random.within(6_000..=60_000),
            rest: Vec::new(),
            finished: false,
            wake_at_us: 0,
            excused: if is_slow { vec![End::Slow] } else { Vec::new() },
        }
    }

    /// Besides, the server may close it for this.
    pub(in crate::simulation) fn excuse(&mut self, why: End) {
        self.excused.push(why);
    }

    fn sleep(&mut self, hand: &mut Hand<'_>, us: u64) {
        self.wake_at_us = hand.net.now_us + us;
        hand.wake_in(us);
    }

    fn begin(&mut self, hand: &mut Hand<'_>) {
        self.own = Own::new(self.number, self.connections, self.operators);
        self.connections += 1;
        self.asked.clear();
        self.partial.clear();
        self.framing = Framing::new(Direction::Responses);
        self.was_damaged = false;
        self.rest.clear();
        self.finished = false;
        hand.call(if self.is_serial { MODBUS_RTU } else { MODBUS });
        if self.is_slow {
            hand.read_at(SLOW);
        }
    }

    /// One request, as it goes over the line.
    fn ask(&mut self, random: &mut Random, out: &mut Vec<u8>) {
        let book = self.judge.book.clone();
        if self.is_serial && random.one_in(16) {
            let question = self.own.broadcast(&book);
            self.was_damaged = false;
            book.meet("a broadcast");
            return self.frame(&question, out);
        }
        // The server may take the frame behind two damaged ones for a part of them.
        if self.is_serial && !self.was_damaged && random.one_in(20) {
            self.was_damaged = true;
            book.meet("a damaged frame");
            self.frame(&read_in_vain(), out);
            *out.last_mut().expect("a frame has a CRC") ^= 0x40;
            return;
        }
        self.was_damaged = false;
        let question = self.own.question(random, &book);
        if self.is_serial && !question.is_of_known_function() {
            // The end of the reply could only be guessed.
            return;
        }
        self.frame(&question, out);
        self.asked.push_back((self.transaction, question));
    }

    fn frame(&mut self, question: &Question, out: &mut Vec<u8>) {
        let Question { unit, pdu, .. } = question;
        if self.is_serial {
            out.push(*unit);
            out.extend_from_slice(pdu);
            out.extend_from_slice(&trailer(*unit, pdu));
        } else {
            self.transaction = self.transaction.wrapping_add(257);
            out.extend_from_slice(&mbap::header(self.transaction, *unit, pdu.len()));
            out.extend_from_slice(pdu);
        }
    }

    fn next_reply(&mut self) -> Option<Reply> {
        if !self.is_serial {
            let frame = match mbap::Frame::parse(&self.partial) {
                Ok(frame) => frame?,
                Err(_) => return Some(self.no_reply()),
            };
            let (transaction, unit, pdu) = (frame.transaction, frame.unit, frame.pdu.to_vec());
            return Some(Reply { transaction, unit, pdu, bytes: frame.bytes() });
        }
        match self.framing.next(&self.partial) {
            Next::Incomplete => None,
            Next::Frame(frame) => {
                let transaction = self.asked.front().map_or(0, |(transaction, _)| *transaction);
                let (unit, pdu) = (frame.unit, frame.pdu.to_vec());
                Some(Reply { transaction, unit, pdu, bytes: frame.bytes() })
            }
            Next::Damaged(_) => Some(self.no_reply()),
        }
    }

    /// What came is no frame. No unit is 0, so nobody was asked for it.
    fn no_reply(&self) -> Reply {
        Reply {
            transaction: 0,
            unit: rtu::BROADCAST_UNIT,
            pdu: self.partial.clone(),
            bytes: self.partial.len(),
        }
    }

    fn check_nothing_waits(&self, when: &str) {
        let oldest = self.asked.front().map(|(_, question)| question.to_string());
        let Judge { who, book, .. } = &self.judge;
        book.judge(checkers::no_request_is_left(who, when, self.asked.len(), oldest.as_deref()));
    }

    /// Something harmful to oneself: once in a while.
    fn misbehave(&mut self, hand: &mut Hand<'_>) -> bool {
        match hand.random().below(60) {
            0 => hand.reset(),
            1 => hand.vanish(),
            2 if self.connections < CONNECTIONS_EACH => {
                // It restarts, and is back before the server knows that it was gone.
                hand.vanish();
                self.begin(hand);
                return false;
            }
            3 | 4 if self.is_slow => {
                hand.read_at(STUCK);
                return false;
            }
            _ => return false,
        }
        true
    }

    fn speak(&mut self, hand: &mut Hand<'_>) {
        let mut bytes = Vec::new();
        let most = if self.is_slow { 32 } else { 12 };
        let burst = *hand.random().pick(&[&1, &1, &2, &4, &most]);
        for _ in 0..burst {
            self.ask(hand.random(), &mut bytes);
        }
        let ends = hand.random().one_in(30);
        if ends && hand.random().one_in(3) {
            // The beginning of another, which never ends.
            bytes.extend_from_slice(if self.is_serial { &[1, 3, 0] } else { &[0, 1, 0, 0, 0] });
        } else if !ends && hand.random().one_in(4) && bytes.len() > 1 {
            let cut = 1 + hand.random().below(bytes.len() - 1);
            self.rest = bytes.split_off(cut);
        }
        hand.send(&bytes);
        if ends {
            hand.finish();
            self.finished = true;
        }
    }
}

impl Peer for Master {
    fn on_bytes(&mut self, hand: &mut Hand<'_>, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while let Some(reply) = self.next_reply() {
            hand.book().meet("a reply to a master");
            let asked = self.asked.pop_front();
            let is_addressed = asked.as_ref().is_some_and(|(transaction, question)| {
                (*transaction, question.unit) == (reply.transaction, reply.unit)
            });
            let question = asked.as_ref().map(|(_, question)| question);
            self.judge.hear(question, &reply.pdu, is_addressed);
            self.partial.drain(..reply.bytes);
        }
    }

    fn on_end(&mut self, hand: &mut Hand<'_>, how: Ended) {
        if how == Ended::Orderly {
            self.check_nothing_waits("at the end");
        }
        let us = hand.random().within(1_000..=200_000);
        self.sleep(hand, us);
    }

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        if hand.net.now_us < self.wake_at_us {
            return;
        }
        if !hand.is_connected() {
            if !hand.quiet && self.connections < CONNECTIONS_EACH {
                self.begin(hand);
                let us = self.pause_us;
                self.sleep(hand, us);
            }
            return;
        }
        let rest = std::mem::take(&mut self.rest);
        hand.send(&rest);
        if self.finished || hand.quiet {
            return;
        }
        if !self.misbehave(hand) && self.asked.len() < MOST_WAITING {
            self.speak(hand);
        }
        let us = self.pause_us / 2 + hand.random().below(self.pause_us as usize) as u64;
        self.sleep(hand, us);
    }

    fn on_quiet(&mut self, hand: &mut Hand<'_>) {
        let rest = std::mem::take(&mut self.rest);
        hand.send(&rest);
        hand.read_at(Appetite::HEARTY);
    }

    fn check_quiet(&self, _table: &Table) {
        self.check_nothing_waits("when all is quiet");
    }

    fn excused(&self) -> &[End] {
        &self.excused
    }
}
