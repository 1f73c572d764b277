//! Reads of holding registers (function 3) and writes (16, for a single register 6). A block of registers
//! counts up from its value, so that half of another write is recognized.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::time::Tick;
use crate::engine::Context;
use crate::protocols::modbus::mbap::{self, Frame, MOST_FRAME_BYTES};
use crate::protocols::modbus::{Pdu, Registers, ReplyError, Request, Response, Span};

use super::dialect::{Asked, Dialect, Fault, Taken, What};
use super::run::Run;

const MOST_REGISTER_BYTES: usize = 2 * 125;

pub(super) struct Modbus {
    run: Arc<Run>,
    unit: u8,
    address: u16,
    registers: u16,
    /// The transaction before.
    id: u16,
    pdu: Pdu,
}

impl Modbus {
    pub(super) fn new(run: Arc<Run>, unit: u8, address: u16, registers: u16) -> Modbus {
        Modbus { run, unit, address, registers, id: 0, pdu: Pdu::new() }
    }

    fn with_request<R>(&self, asked: &Asked, call: impl FnOnce(&Request<'_>) -> R) -> R {
        // The options were checked: all blocks are below 65,536.
        let address = self.address + (asked.place * usize::from(self.registers)) as u16;
        let value = match asked.what {
            What::Read { .. } => {
                return call(&Request::ReadHoldings(Span { start: address, quantity: self.registers }));
            }
            What::Write(value) => value as u16,
        };
        if self.registers == 1 {
            return call(&Request::WriteRegister { address, value });
        }
        let mut bytes = [0; MOST_REGISTER_BYTES];
        let bytes = &mut bytes[..2 * usize::from(self.registers)];
        for (at, register) in bytes.chunks_exact_mut(2).enumerate() {
            register.copy_from_slice(&value.wrapping_add(at as u16).to_be_bytes());
        }
        let registers = Registers::new(bytes).expect("an even number of bytes");
        call(&Request::WriteRegisters { address, registers })
    }

    /// The value that a block shows: the newest of those sent whose lower half it is.
    fn value_of(&self, place: usize, registers: Registers<'_>) -> Result<Option<u64>, Fault> {
        if !self.writes_first() {
            return Ok(None);
        }
        let base = registers.get(0).unwrap_or_default();
        let counts_up =
            registers.iter().enumerate().all(|(at, register)| register == base.wrapping_add(at as u16));
        if !counts_up {
            return Err(Fault::Foreign("registers of different writes in one answer".to_owned()));
        }
        let sent = self.run.sent(place);
        let behind = u64::from((sent as u16).wrapping_sub(base));
        match sent.checked_sub(behind).filter(|value| *value > self.run.value_before_all()) {
            Some(value) => Ok(Some(value)),
            None => Err(Fault::Foreign("a value that nobody wrote".to_owned())),
        }
    }
}

impl Dialect for Modbus {
    /// Transactions may overtake each other.
    fn keeps_order(&self) -> bool {
        false
    }

    fn next_value(&self, last: u64, _due: Tick) -> u64 {
        last.max(self.run.value_before_all()) + 1
    }

    /// Nothing is written to a device unless that is asked for.
    fn writes_first(&self) -> bool {
        self.run.plan.writes > 0.0
    }

    fn longest_bytes(&self) -> usize {
        MOST_FRAME_BYTES
    }

    fn put(&mut self, cx: &mut Context<'_>, asked: &mut Asked) {
        self.id = self.id.wrapping_add(1);
        asked.id = self.id;
        let mut pdu = std::mem::take(&mut self.pdu);
        self.with_request(asked, |request| request.encode(&mut pdu));
        cx.put(&mbap::header(asked.id, self.unit, pdu.len()));
        cx.put(&pdu);
        self.pdu = pdu;
    }

    fn take(&mut self, waiting: &mut VecDeque<Asked>, input: &[u8]) -> Taken {
        let frame = match Frame::parse(input) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Taken::Part,
            Err(violation) => return Taken::Violation(Fault::Wrong(format!("no Modbus: {violation}"))),
        };
        let place = waiting.iter().position(|asked| asked.id == frame.transaction);
        let Some(asked) = place.and_then(|place| waiting.remove(place)) else {
            let unasked = format!("an answer to transaction {}, unasked", frame.transaction);
            return Taken::Violation(Fault::Wrong(unasked));
        };
        let result = if frame.unit == self.unit {
            self.with_request(&asked, |request| Response::decode(request, frame.pdu)).map_err(Fault::from)
        } else {
            Err(Fault::Wrong(format!("the answer of unit {}", frame.unit)))
        };
        let result = result.and_then(|response| match response {
            Response::ReadHoldings(registers) => self.value_of(asked.place, registers),
            _ => Ok(None),
        });
        Taken::Answer(frame.bytes(), asked, result)
    }
}

impl From<ReplyError> for Fault {
    fn from(error: ReplyError) -> Fault {
        match error {
            ReplyError::Exception(exception) => Fault::Refused(exception.to_string()),
            ReplyError::Altered(_) | ReplyError::Mismatch(_) => Fault::Wrong(error.to_string()),
        }
    }
}
