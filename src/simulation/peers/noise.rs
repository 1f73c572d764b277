//! Somebody who speaks anything but the protocol: a port scanner, a lost cable, a program with a bug.

use super::{Ended, Hand, Peer};
use crate::base::random::Random;
use crate::protocols::modbus::{mbap, rtu};
use crate::simulation::checkers;
use crate::simulation::link::Appetite;
use crate::simulation::plan::{LINE, MODBUS, MODBUS_RTU};
use crate::simulation::questions::scratch_request;
use crate::simulation::units::{NOBODY, RAW};

/// Longer than the longest line that the server takes.
const LONG_LINE_BYTES: usize = 6_000;

/// Talks garbage, and reads slowly if at all.
pub(in crate::simulation) struct Noise {
    name: String,
    /// Which listener it has called.
    listener: usize,
    lines_sent: usize,
    finals: usize,
    partial: Vec<u8>,
    /// When the next wake-up is; others are left over from earlier connections.
    wake_at_us: u64,
}

impl Noise {
    pub(in crate::simulation) fn new(name: &str) -> Noise {
        Noise {
            name: name.to_owned(),
            listener: LINE,
            lines_sent: 0,
            finals: 0,
            partial: Vec::new(),
            wake_at_us: 0,
        }
    }

    fn sleep(&mut self, hand: &mut Hand<'_>, us: u64) {
        self.wake_at_us = hand.net.now_us + us;
        hand.wake_in(us);
    }

    fn garbage(&self, hand: &mut Hand<'_>) -> Vec<u8> {
        const LINES: [&str; 9] = [
            "GET / HTTP/1.1\r\nHost: plant\r\n\r\n",
            "SUB #\nREAD #\nREAD #\nREAD #\n",
            "SET noise/a \"unclosed\n",
            "SET noise/a 1 2 3 4 5\nSET noise/b null bad\n",
            "HELLO\nHELLO a b c d\nHELLO noise 1s\nHELLO noise\n",
            "sub +/+/#\nUNSUB #\nUNSUB #\nLIST $server/#\n",
            "\n\n \t \n\r\n",
            "PING \u{7f}\u{e9}\nSET noise/c -9223372036854775809\n",
            "GET dev0/t0",
        ];
        if self.listener != LINE && !hand.random().one_in(4) {
            return frames(hand.random(), self.listener == MODBUS_RTU);
        }
        match hand.random().below(6) {
            0 => (0..1 + hand.random().below(300)).map(|_| hand.random().draw() as u8).collect(),
            1 => vec![b'x'; LONG_LINE_BYTES],
            2 => b"\xff\xfe\x00\n\xc3\x28\nSET \xff 1\n".to_vec(),
            _ => hand.random().pick(&LINES).as_bytes().to_vec(),
        }
    }
}

/// Frames of Modbus that are none, or that nobody checks the answer to.
fn frames(random: &mut Random, is_serial: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..1 + random.below(6) {
        let mut pdu = scratch_request(random);
        let unit = *random.pick(&[&RAW, &RAW, &NOBODY]);
        if unit == NOBODY {
            pdu = (0..1 + random.below(252)).map(|_| random.draw() as u8).collect();
        }
        let begin = out.len();
        if is_serial {
            out.push(unit);
            out.extend_from_slice(&pdu);
            out.extend_from_slice(&rtu::trailer(unit, &pdu));
        } else {
            out.extend_from_slice(&mbap::header(random.draw() as u16, unit, pdu.len()));
            out.extend_from_slice(&pdu);
        }
        // Only the beginning is harmed: what is written stays where nobody looks.
        match random.below(20) {
            0 => out[begin] ^= 0x10,
            1 => out.truncate(begin + 1),
            2 if !is_serial => out[begin + 3] = 7,
            3 if !is_serial => out[begin + 4] = 1,
            _ => {}
        }
    }
    out
}

impl Peer for Noise {
    fn on_bytes(&mut self, hand: &mut Hand<'_>, bytes: &[u8]) {
        if self.listener != LINE {
            return;
        }
        for &byte in bytes {
            if byte != b'\n' {
                self.partial.push(byte);
                continue;
            }
            let line = std::mem::take(&mut self.partial);
            let is_final = line == b"OK" || line.starts_with(b"OK ") || line.starts_with(b"ERR ");
            self.finals += usize::from(is_final);
            // One more: a line that is too long needs no end to be answered.
            let fits = self.finals <= self.lines_sent + 1;
            let text = String::from_utf8_lossy(&line);
            hand.book().judge(checkers::one_reply_each_in_order(&self.name, Some("garbage"), &text, fits));
        }
    }

    fn on_end(&mut self, hand: &mut Hand<'_>, _how: Ended) {
        let us = hand.random().within(1_000..=400_000);
        self.sleep(hand, us);
    }

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        if hand.quiet || hand.net.now_us < self.wake_at_us {
            return;
        }
        if !hand.is_connected() {
            (self.lines_sent, self.finals) = (0, 0);
            self.partial.clear();
            self.listener = *hand.random().pick(&[&LINE, &LINE, &MODBUS, &MODBUS_RTU]);
            hand.call(self.listener);
            let pause_us = *hand.random().pick(&[&200, &20_000, &60_000_000]);
            hand.read_at(Appetite { pause_us, most_bytes: 2_048 });
        }
        let bytes = self.garbage(hand);
        self.lines_sent += bytes.iter().filter(|&&byte| byte == b'\n').count();
        hand.send(&bytes);
        match hand.random().below(30) {
            0 => hand.reset(),
            1 => hand.finish(),
            2 => hand.vanish(),
            _ => {}
        }
        let us = *hand.random().pick(&[&3_000, &40_000, &200_000]);
        self.sleep(hand, us);
    }

    fn on_quiet(&mut self, hand: &mut Hand<'_>) {
        hand.reset();
    }

    fn excused(&self) -> &[crate::engine::End] {
        use crate::engine::End;
        &[End::Violation, End::Slow, End::FrameTimeout, End::TakenOver, End::Memory]
    }
}
