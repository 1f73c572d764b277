//! A peer that speaks by datagrams, which may be lost, doubled and overtaken.

use super::{Ended, Hand, Peer};
use crate::simulation::checkers;
use crate::simulation::net::{FIRST_UDP_LINK, Happening};
use crate::simulation::plan::LINE_UDP;
use crate::simulation::watched::address_of;
use std::collections::BTreeMap;

/// Sends `PING`s, and some requests whose replies are of no account.
#[derive(Default)]
pub(in crate::simulation) struct DatagramPeer {
    name: String,
    number: u64,
    /// How many copies of each reply may come: the network may double both ways.
    expected: BTreeMap<String, u8>,
}

impl DatagramPeer {
    pub(in crate::simulation) fn new(name: &str) -> DatagramPeer {
        DatagramPeer { name: name.to_owned(), ..DatagramPeer::default() }
    }
}

impl Peer for DatagramPeer {
    fn on_bytes(&mut self, _hand: &mut Hand<'_>, _bytes: &[u8]) {
        unreachable!("it has no connection");
    }

    fn on_datagram(&mut self, hand: &mut Hand<'_>, datagram: &[u8]) {
        hand.book().judge(checkers::datagrams_hold_whole_lines(&self.name, datagram));
        let text = String::from_utf8_lossy(datagram);
        for line in text.lines().filter(|line| line.starts_with("OK udp-")) {
            let left = self.expected.get_mut(&line[3..]);
            let fits = left.as_ref().is_some_and(|left| **left > 0);
            hand.book().judge(checkers::one_reply_each_in_order(&self.name, Some("PING"), line, fits));
            if let Some(left) = left {
                *left = left.saturating_sub(1);
            }
        }
    }

    fn on_end(&mut self, _hand: &mut Hand<'_>, _how: Ended) {}

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        if hand.quiet {
            return;
        }
        self.number += 1;
        let ping = format!("udp-{}", self.number);
        let value = hand.random().below(1_000);
        let more = match hand.random().below(6) {
            0 => format!("SET udp/a {value}\n"),
            1 => "READ #\n".to_owned(),
            2 => format!("SET udp/polled {value}\nGET udp/polled\n"),
            3 => "SUB #\nLIST #\nNOPE".to_owned(),
            4 => "y".repeat(5_000),
            _ => format!("SET udp/b {value}\nGET udp/b\nTIME"),
        };
        let text = format!("PING {ping}\n{more}");
        self.expected.insert(ping, 4);
        let from = address_of(FIRST_UDP_LINK + hand.me);
        let name = self.name.clone();
        hand.book().open().note_bytes(format_args!("{name}"), "──▶", text.as_bytes());
        let arrival = |bytes| Happening::DatagramIn { host: 0, listener: LINE_UDP, from, bytes };
        hand.net.send_datagram(arrival, text.as_bytes());
        let us = hand.random().within(3_000..=80_000);
        hand.wake_in(us);
    }
}
