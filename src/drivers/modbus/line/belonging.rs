//! Which device of a line it is that bytes belong to: it counts them, and they are in its recorder.

use super::super::device::Device;
use super::{Answer, Flight, Line};
use crate::engine::{Context, Direction};
use crate::tags::name::DeviceName;

impl Line {
    /// The device that a frame belongs to: the one that asked for it, or else one of that unit, or else the
    /// one that is waited for.
    pub(super) fn owner_of(&self, answer: &Answer<'_>) -> usize {
        let asked = |flight: &&Flight| self.echo_tid && flight.tid == answer.tid;
        if let Some(flight) = self.flights.iter().find(asked) {
            return flight.device;
        }
        let is_its = |at: &usize| self.devices[*at].settings.unit == answer.unit;
        let awaited = self.awaited();
        // First, for several devices may be one unit.
        [awaited].into_iter().chain(0..self.devices.len()).find(is_its).unwrap_or(awaited)
    }

    /// The device that is waited for, of several the one that was asked first. If none is, the line's first
    /// is as good as any.
    pub(super) fn awaited(&self) -> usize {
        let flying = self.flights.iter().min_by_key(|flight| flight.sent).map(|flight| flight.device);
        let held = self.hold.as_ref().map(|hold| hold.device);
        flying.or(held).unwrap_or(0)
    }

    /// Bytes that are no frame came while a device was waited for.
    pub(super) fn on_damaged(&self, cx: &mut Context<'_>, at: usize, bytes: &[u8]) {
        cx.count_damaged();
        self.on_mismatch(cx, at, bytes);
    }

    /// Something came that is no answer to a device's request.
    pub(super) fn on_mismatch(&self, cx: &mut Context<'_>, at: usize, bytes: &[u8]) {
        self.trace(cx, at, Direction::In, bytes);
        self.devices[at].figures.mismatched.add(1);
    }

    /// Record what is sent or came for a device. Where it has the connection for itself, the engine does.
    pub(super) fn trace(&self, cx: &mut Context<'_>, at: usize, direction: Direction, bytes: &[u8]) {
        if self.devices.len() > 1 {
            cx.trace(name_of(&self.devices[at]), self.scheme(), direction, bytes);
        }
    }
}

pub(super) fn name_of(device: &Device) -> DeviceName<'_> {
    DeviceName::parse(&device.settings.name).expect("the configuration's names are names")
}
