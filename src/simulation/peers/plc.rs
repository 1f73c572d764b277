//! A polled device: it answers what the driver asks, in order, when it feels like it.

use super::{Ended, Hand, Peer};
use std::collections::VecDeque;

/// `W number tag value` is answered with `A number tag value` (done) or `R number` (refused).
#[derive(Default)]
pub(in crate::simulation) struct Plc {
    partial: Vec<u8>,
    /// Orders that are not answered yet.
    orders: VecDeque<String>,
}

impl Peer for Plc {
    fn on_open(&mut self, _hand: &mut Hand<'_>) {
        self.partial.clear();
        self.orders.clear();
    }

    fn on_bytes(&mut self, hand: &mut Hand<'_>, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.orders.push_back(String::from_utf8(line).expect("the driver speaks ASCII"));
            let us = if hand.quiet { 500 } else { *hand.random().pick(&[&500, &5_000, &80_000, &900_000]) };
            hand.wake_in(us);
        }
    }

    fn on_end(&mut self, _hand: &mut Hand<'_>, _how: Ended) {
        self.orders.clear();
    }

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        let Some(order) = self.orders.pop_front() else { return };
        if !hand.is_connected() {
            return;
        }
        let number = order.split(' ').nth(1).expect("an order has a number");
        let done = order.replacen('W', "A", 1);
        match if hand.quiet { 9 } else { hand.random().below(24) } {
            0 => hand.reset(),
            // It never answers this one.
            1 => {}
            2 | 3 => hand.send(format!("R {number}\n").as_bytes()),
            // It says it twice, as after a retransmission.
            4 | 5 => hand.send(format!("{done}{done}").as_bytes()),
            _ => hand.send(done.as_bytes()),
        }
    }

    fn on_quiet(&mut self, hand: &mut Hand<'_>) {
        (0..self.orders.len()).for_each(|_| hand.wake_in(500));
    }
}
