//! A Modbus master by datagrams, which may be lost, doubled and overtaken.

use std::collections::BTreeMap;

use super::{Ended, Hand, Peer};
use crate::protocols::modbus::mbap;
use crate::simulation::judge::Judge;
use crate::simulation::net::{FIRST_UDP_LINK, Happening};
use crate::simulation::plan::MODBUS_UDP;
use crate::simulation::questions::{Question, scratch_request, write_by_datagram};
use crate::simulation::record::Book;
use crate::simulation::units::RAW;
use crate::simulation::watched::address_of;

/// Copies of a reply that may come: the network may double both ways.
const COPIES: u8 = 4;

/// Asks what does no harm if it is asked twice.
pub(in crate::simulation) struct MasterByDatagrams {
    judge: Judge,
    has_device: bool,
    transaction: u16,
    /// How many replies may still come to each request.
    asked: BTreeMap<u16, (Question, u8)>,
}

impl MasterByDatagrams {
    pub(in crate::simulation) fn new(name: &str, has_device: bool, book: Book) -> MasterByDatagrams {
        MasterByDatagrams {
            judge: Judge::by_datagrams(name, book),
            has_device,
            transaction: 0,
            asked: BTreeMap::new(),
        }
    }

    fn send(hand: &mut Hand<'_>, datagram: &[u8]) {
        let from = address_of(FIRST_UDP_LINK + hand.me);
        let arrival = |bytes| Happening::DatagramIn { host: 0, listener: MODBUS_UDP, from, bytes };
        hand.net.send_datagram(arrival, datagram);
    }
}

impl Peer for MasterByDatagrams {
    fn on_bytes(&mut self, _hand: &mut Hand<'_>, _bytes: &[u8]) {
        unreachable!("it has no connection");
    }

    /// A datagram of the server's is one frame, and nothing else.
    fn on_datagram(&mut self, hand: &mut Hand<'_>, datagram: &[u8]) {
        let frame = mbap::Frame::parse(datagram).ok().flatten();
        let Some(frame) = frame.filter(|frame| frame.bytes() == datagram.len()) else {
            return self.judge.hear(None, datagram, false);
        };
        hand.book().meet("a reply to a master by datagram");
        if frame.transaction == 0 {
            // To what nobody checks.
            return;
        }
        let asked = self.asked.get_mut(&frame.transaction).filter(|(_, copies)| *copies > 0);
        let is_addressed = asked.as_ref().is_some_and(|(question, _)| question.unit == frame.unit);
        let question = asked.map(|(question, copies)| {
            *copies -= 1;
            &*question
        });
        self.judge.hear(question, frame.pdu, is_addressed);
    }

    fn on_end(&mut self, _hand: &mut Hand<'_>, _how: Ended) {}

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        if hand.quiet {
            return;
        }
        for _ in 0..1 + hand.random().below(3) {
            if hand.random().one_in(8) {
                let pdu = scratch_request(hand.random());
                let mut datagram = [&mbap::header(0, RAW, pdu.len()), &pdu[..]].concat();
                match hand.random().below(4) {
                    // Two in one, half a frame, and a frame of another protocol.
                    0 => datagram.extend_from_within(..),
                    1 => datagram.truncate(1 + datagram.len() / 2),
                    2 => datagram[3] = 1,
                    _ => {}
                }
                MasterByDatagrams::send(hand, &datagram);
                continue;
            }
            self.transaction += 1;
            let book = hand.book();
            let question = match hand.random().below(4) {
                0 if self.has_device => write_by_datagram(100_000 + i64::from(self.transaction)),
                _ => Question::of_anybody(hand.random(), &book),
            };
            let header = mbap::header(self.transaction, question.unit, question.pdu.len());
            MasterByDatagrams::send(hand, &[&header, &question.pdu[..]].concat());
            self.asked.insert(self.transaction, (question, COPIES));
        }
        let us = hand.random().within(8_000..=120_000);
        hand.wake_in(us);
    }
}
