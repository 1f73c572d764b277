//! What the driver polls: its part of a world's life.

use super::World;
use crate::simulation::checkers;
use crate::simulation::field_watch::FieldWatch;
use crate::simulation::net::{Dials, Manners};
use crate::simulation::peers::{Dispatcher, Slave};
use crate::simulation::plan::Plan;

/// Polled devices are back within this time: the longest probes and waits to connect.
const BACK_WITHIN_US: u64 = 40_000_000;
/// Between looks whether they are.
const STEP_US: u64 = 250_000;

impl World {
    /// Slaves are where the configuration says, which numbers them from 0 on.
    pub(super) fn populate_field(&mut self, plan: &Plan) {
        let Some(field) = &plan.field else { return };
        for (place, line) in field.lines.iter().enumerate() {
            let slave = self.add_peer(format!("slave{place}"), Box::new(Slave::new(line.clone())));
            let is_reached = line.is_calm || !self.random.one_in(4);
            let dials = if is_reached { Dials::Taken } else { Dials::ByChance };
            let is_spared = line.is_calm || !line.carrier.has_ids();
            *self.net.manners_of(slave) = Manners { is_spared, dials };
        }
        for number in 0..plan.dispatchers {
            let name = format!("disp{number}");
            let pause_us = self.random.within(20_000..=150_000);
            let turns = (number, plan.dispatchers);
            let dispatcher = Dispatcher::new(&name, field, turns, pause_us, self.book.clone());
            let dispatcher = self.add_peer(name, Box::new(dispatcher));
            self.net.manners_of(dispatcher).is_spared = true;
        }
        for (device, point) in field.written_in_flood(true) {
            let name = format!("flood of {}", device.tag(point));
            let flood = Dispatcher::flood(&name, device, point, self.book.clone());
            let flood = self.add_peer(name, Box::new(flood));
            self.net.manners_of(flood).is_spared = true;
        }
    }

    /// When nothing goes wrong any more, whoever is polled answers again, in time; and is left alone then, so
    /// that all is quiet. False if a rule was broken meanwhile.
    pub(super) fn let_all_come_back(&mut self) -> bool {
        let since_us = self.net.now_us;
        while let Some(field) = &self.field {
            // Again and again: what operators sent before may pause them now.
            field.go_on();
            let after_us = self.net.now_us - since_us;
            let Some((device, point)) = field.not_good(&self.hosts[0].tags) else {
                self.book.meet(format!("polled devices are back within {} s", after_us / 1_000_000 + 1));
                break;
            };
            if after_us > BACK_WITHIN_US {
                self.book.judge(checkers::who_is_well_comes_back(device, point, after_us));
                return false;
            }
            if !self.pass_time(STEP_US) {
                return false;
            }
        }
        self.field.iter().for_each(FieldWatch::pause);
        true
    }
}
