//! What masters say to a Modbus server: they write and read in turn, 10 holding registers at a time.
//!
//! The frames are made here, byte by byte (*MODBUS Application Protocol V1.1b3* §6.3, §6.4, §6.12), and not
//! by Lumina's codec: that is part of what is measured, and all that comes back is held against these.

use super::talk::{Heard, Talk};

const UNIT: u8 = 1;
const READ_HOLDINGS: u8 = 3;
const READ_INPUTS: u8 = 4;
const WRITE_REGISTERS: u8 = 16;

/// In each request.
const REGISTERS: u16 = 10;
/// An address and a quantity.
const SPAN_BYTES: u16 = 4;
/// As many registers, and how many bytes they are.
const VALUES_BYTES: u16 = 1 + 2 * REGISTERS;
/// Masters that have registers of their own; more than that share them.
const MASTERS: usize = 65_536 / REGISTERS as usize;
/// Of a write and a read each, until the values come again.
const ROUNDS: usize = 8;

/// Step 0 reads input registers, which no master can write; then writes and reads take turns, each read of
/// what was just written, so that every reply can be foretold.
#[derive(Default)]
pub struct Masters {
    /// The reply that is due. Kept, as every frame is made in place: a driver that is slower than the server
    /// lets it wait, which costs the server more for each request.
    reply: Vec<u8>,
}

impl Talk for Masters {
    fn after(&self, step: usize, connection: usize) -> usize {
        match step {
            0 => 1 + 2 * (connection % ROUNDS),
            _ => 1 + step % (2 * ROUNDS),
        }
    }

    fn operations(&self, _step: usize) -> u64 {
        1
    }

    fn speak(&self, step: usize, connection: usize, into: &mut Vec<u8>) {
        Ask::new(step, connection).request(into);
    }

    fn hear(&mut self, step: usize, connection: usize, heard: usize, got: &[u8]) -> Heard {
        let ask = Ask::new(step, connection);
        ask.reply(&mut self.reply);
        Heard::of(&self.reply, heard, got, |expected, got| expected == got).unwrap_or_else(|| {
            let mut request = Vec::new();
            ask.request(&mut request);
            Heard::Wrong(format!("to {request:02x?} expected {:02x?}, got {got:02x?}", self.reply))
        })
    }
}

/// One request of one master.
struct Ask {
    /// Differs from step to step and from master to master, so that replies that change places are noticed.
    transaction: u16,
    address: u16,
    function: u8,
    /// What the registers hold afterwards.
    values: [u16; REGISTERS as usize],
}

impl Ask {
    fn new(step: usize, connection: usize) -> Ask {
        let address = (connection % MASTERS) as u16 * REGISTERS;
        // Each register's own, and another in each round: a write is a change and not a repetition.
        let round = step.div_ceil(2) as u16;
        let value = |at| (address + at as u16).wrapping_mul(ROUNDS as u16).wrapping_add(round);
        Ask {
            transaction: (connection * (2 * ROUNDS + 1) + step) as u16,
            address,
            function: match step {
                0 => READ_INPUTS,
                _ if step % 2 == 1 => WRITE_REGISTERS,
                _ => READ_HOLDINGS,
            },
            values: if step == 0 { [0; REGISTERS as usize] } else { std::array::from_fn(value) },
        }
    }

    fn request(&self, frame: &mut Vec<u8>) {
        if self.function == WRITE_REGISTERS {
            self.begin(SPAN_BYTES + VALUES_BYTES, frame);
            self.put_span(frame);
            self.put_values(frame);
        } else {
            self.begin(SPAN_BYTES, frame);
            self.put_span(frame);
        }
    }

    fn reply(&self, frame: &mut Vec<u8>) {
        if self.function == WRITE_REGISTERS {
            self.begin(SPAN_BYTES, frame);
            self.put_span(frame);
        } else {
            self.begin(VALUES_BYTES, frame);
            self.put_values(frame);
        }
    }

    /// Over what is there: transaction, protocol 0, the number of bytes that follow, unit, function.
    fn begin(&self, body_bytes: u16, frame: &mut Vec<u8>) {
        frame.clear();
        frame.extend(self.transaction.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend((2 + body_bytes).to_be_bytes());
        frame.extend([UNIT, self.function]);
    }

    fn put_span(&self, frame: &mut Vec<u8>) {
        frame.extend(self.address.to_be_bytes());
        frame.extend(REGISTERS.to_be_bytes());
    }

    /// A byte that tells how many bytes follow, and the registers, high byte first.
    fn put_values(&self, frame: &mut Vec<u8>) {
        frame.push(VALUES_BYTES as u8 - 1);
        frame.extend(self.values.iter().flat_map(|value| value.to_be_bytes()));
    }
}
