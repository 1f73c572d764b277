//! A slave: what it holds, and what it answers.

use std::collections::BTreeMap;

use super::faults::{self, Fault};
use super::signals;
use crate::base::random::Random;
use crate::base::time::Timestamp;
use crate::metrics::Counter;
use crate::protocols::modbus::address::AREA_SIZE;
use crate::protocols::modbus::identification::{self, Object};
use crate::protocols::modbus::response::{encode_bits, encode_registers};
use crate::protocols::modbus::{Area, Exception, Pdu, Request, Response, Span};

/// Places that masters have written, of all slaves together: some 40 bytes each. What would be more is
/// refused.
const MOST_WRITTEN: u64 = 1_000_000;

/// All that outlives a connection.
pub(super) struct Slave {
    number: u32,
    pub(super) fault: Option<Fault>,
    pub(super) random: Random,
    /// What was written; everything else follows its signal.
    written: BTreeMap<(Area, u16), u16>,
    /// Whether anybody has asked it anything.
    pub(super) was_asked: bool,
}

impl Slave {
    pub(super) fn new(seed: u64, number: u32, fault: Option<Fault>) -> Slave {
        let random = Random::of(seed, number.into());
        Slave { number, fault, random, written: BTreeMap::new(), was_asked: false }
    }

    /// Carry a request out and write the reply. `held` counts the places written, of all slaves.
    pub(super) fn execute(
        &mut self,
        pdu: &[u8],
        time: Timestamp,
        held: &Counter,
        reply: &mut Pdu,
    ) -> Result<(), Exception> {
        let request = Request::decode(pdu)?;
        if let Request::Identify(asked) = request {
            return identification::answer(asked, &IDENTITY, reply);
        }
        for (_, span) in [request.writes(), request.reads()].into_iter().flatten() {
            self.check(span)?;
        }
        if request.writes().is_some() && held.value() >= MOST_WRITTEN {
            return Err(Exception::ServerDeviceFailure);
        }
        self.write(&request, time, held);
        let function = request.function();
        match (request.reads(), Response::echo(&request)) {
            (Some((area, span)), _) if area.is_bits() => {
                encode_bits(function, self.values(area, span, time).map(|bit| bit != 0), reply);
            }
            (Some((area, span)), _) => encode_registers(function, self.values(area, span, time), reply),
            (None, Some(echo)) => echo.encode(reply),
            (None, None) => unreachable!("every other request reads or is answered by itself"),
        }
        Ok(())
    }

    /// Whether all of it is there, and whether it is busy.
    fn check(&mut self, span: Span) -> Result<(), Exception> {
        if !span.is_within(AREA_SIZE) {
            return Err(Exception::IllegalDataAddress);
        }
        if self.fault != Some(Fault::Exceptions) {
            return Ok(());
        }
        let mut addresses = u32::from(span.start)..span.end();
        if addresses.clone().any(faults::is_missing) {
            Err(Exception::IllegalDataAddress)
        } else if addresses.any(faults::is_busy) && Fault::Exceptions.strikes(&mut self.random) {
            Err(Exception::ServerDeviceBusy)
        } else {
            Ok(())
        }
    }

    fn values(&self, area: Area, span: Span, time: Timestamp) -> impl Iterator<Item = u16> {
        // Most slaves were never written to.
        let is_written = !self.written.is_empty();
        (u32::from(span.start)..span.end()).map(move |address| {
            let address = address as u16;
            let written = if is_written { self.written.get(&(area, address)).copied() } else { None };
            written.unwrap_or_else(|| signals::value(self.number, area, address, time))
        })
    }

    fn write(&mut self, request: &Request<'_>, time: Timestamp, held: &Counter) {
        let before = self.written.len();
        match *request {
            Request::WriteCoil { address, on } => self.set(Area::Coil, address, [u16::from(on)]),
            Request::WriteCoils { address, coils } => {
                self.set(Area::Coil, address, coils.iter().map(u16::from));
            }
            Request::WriteRegister { address, value } => self.set(Area::Holding, address, [value]),
            Request::WriteRegisters { address, registers }
            | Request::ReadWrite { address, registers, .. } => {
                self.set(Area::Holding, address, registers.iter());
            }
            Request::MaskWrite { address, mask } => {
                let span = Span { start: address, quantity: 1 };
                let value = self.values(Area::Holding, span, time).next();
                self.set(Area::Holding, address, value.map(|value| mask.apply(value)));
            }
            _ => {}
        }
        held.add((self.written.len() - before) as u64);
    }

    fn set(&mut self, area: Area, address: u16, values: impl IntoIterator<Item = u16>) {
        // It was checked that they are there.
        self.written
            .extend((address..=u16::MAX).zip(values).map(|(address, value)| ((area, address), value)));
    }
}

const IDENTITY: [Object<'_>; 4] = [
    Object { id: 0, value: b"Lumina" },
    Object { id: 1, value: b"lumina-simulate" },
    Object { id: 2, value: env!("CARGO_PKG_VERSION").as_bytes() },
    Object { id: 4, value: b"Simulated slave" },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::modbus::pdu::Mask;
    use crate::protocols::modbus::{Bits, Registers, ReplyError};

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    struct Bench {
        slave: Slave,
        held: Counter,
    }

    impl Bench {
        fn new(fault: Option<Fault>) -> Bench {
            Bench { slave: Slave::new(1, 7, fault), held: Counter::default() }
        }

        fn ask<R>(&mut self, request: Request<'_>, look: impl FnOnce(Response<'_>) -> R) -> Result<R, u8> {
            let (mut asked, mut reply) = (Pdu::new(), Pdu::new());
            request.encode(&mut asked);
            self.slave.execute(&asked, NOW, &self.held, &mut reply).map_err(Exception::code)?;
            match Response::decode(&request, &reply) {
                Ok(response) => Ok(look(response)),
                Err(ReplyError::Exception(exception)) => Err(exception.code()),
                Err(mismatch) => panic!("{mismatch}"),
            }
        }

        fn read(&mut self, area: Area, start: u16, quantity: u16) -> Result<Vec<u16>, u8> {
            self.ask(Request::read(area, Span { start, quantity }), |response| match response {
                Response::ReadHoldings(registers) | Response::ReadInputs(registers) => {
                    registers.iter().collect()
                }
                Response::ReadCoils(bits) | Response::ReadDiscretes(bits) => {
                    bits.iter().map(u16::from).collect()
                }
                other => panic!("{other:?}"),
            })
        }
    }

    fn signal(area: Area, address: u16) -> u16 {
        signals::value(7, area, address, NOW)
    }

    #[test]
    fn places_follow_their_signal_until_they_are_written() {
        let mut bench = Bench::new(None);
        for area in [Area::Coil, Area::Discrete, Area::Input, Area::Holding] {
            let want: Vec<u16> = (65_500..=65_535).map(|address| signal(area, address)).collect();
            assert_eq!(bench.read(area, 65_500, 36), Ok(want));
        }
        let registers = Registers::new(&[0, 1, 0, 2]).unwrap();
        bench.ask(Request::WriteRegisters { address: 65_534, registers }, |_| ()).unwrap();
        assert_eq!(bench.read(Area::Holding, 65_533, 3), Ok(vec![signal(Area::Holding, 65_533), 1, 2]));
        assert_eq!(bench.read(Area::Input, 65_534, 1), Ok(vec![signal(Area::Input, 65_534)]));
        bench.ask(Request::WriteRegister { address: 65_535, value: 9 }, |_| ()).unwrap();
        let mask = Mask { and: 0xFF00, or: 0x00FF };
        bench.ask(Request::MaskWrite { address: 3, mask }, |_| ()).unwrap();
        assert_eq!(bench.read(Area::Holding, 3, 1), Ok(vec![signal(Area::Holding, 3) | 0xFF]));
        let coils = Bits::new(&[0b01], 2).unwrap();
        bench.ask(Request::WriteCoils { address: 0, coils }, |_| ()).unwrap();
        bench.ask(Request::WriteCoil { address: 1, on: true }, |_| ()).unwrap();
        assert_eq!(bench.read(Area::Coil, 0, 2), Ok(vec![1, 1]));
        let read = Span { start: 65_534, quantity: 2 };
        let write = Request::ReadWrite { read, address: 65_534, registers };
        assert_eq!(bench.ask(write, |response| matches!(response, Response::ReadWrite(_))), Ok(true));
        assert_eq!(bench.held.value(), 5, "each place is counted once");
    }

    #[test]
    fn what_is_refused() {
        let mut bench = Bench::new(None);
        assert_eq!(bench.read(Area::Input, 65_535, 2), Err(2));
        let mut reply = Pdu::new();
        let mut ask = |pdu: &[u8]| bench.slave.execute(pdu, NOW, &bench.held, &mut reply);
        assert_eq!(ask(&[99, 1]), Err(Exception::IllegalFunction));
        assert_eq!(ask(&[3, 0, 0, 0]), Err(Exception::IllegalDataValue));
        assert_eq!(ask(&[43, 14, 1, 0]), Ok(()));
        bench.held.set(MOST_WRITTEN);
        assert_eq!(bench.ask(Request::WriteRegister { address: 1, value: 1 }, |_| ()), Err(4));
        assert!(bench.read(Area::Holding, 1, 1).is_ok());
    }

    #[test]
    fn exceptions_go_by_address() {
        let mut bench = Bench::new(Some(Fault::Exceptions));
        for _ in 0..50 {
            assert_eq!(bench.read(Area::Input, 7, 1), Err(2));
            assert_eq!(bench.read(Area::Coil, 0, 20), Err(2));
            assert!(bench.read(Area::Holding, 8, 5).is_ok());
        }
        let busy = (0..400).filter(|_| bench.read(Area::Holding, 13, 1) == Err(6)).count();
        assert!((60..140).contains(&busy), "{busy} of 400");
    }
}
