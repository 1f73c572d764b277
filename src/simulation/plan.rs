//! What a world is made of: all of it drawn from the seed.

use std::time::Duration;

use super::field::FieldPlan;
use super::units::MOST_MASTERS;
use crate::base::random::Random;

/// The protocols that every engine listens for.
pub(super) const LISTENERS: [&str; 5] = ["line", "line+udp", "modbus", "modbus+udp", "modbus-rtu"];
/// Places among them.
pub(super) const LINE: usize = 0;
pub(super) const LINE_UDP: usize = 1;
pub(super) const MODBUS: usize = 2;
pub(super) const MODBUS_UDP: usize = 3;
pub(super) const MODBUS_RTU: usize = 4;

/// Engines of a server, at most.
const MOST_SHARDS: usize = 4;

/// The cast and the settings of one world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long there is life, before all comes to rest.
    pub busy_us: u64,
    /// Devices with `HELLO`.
    pub devices: usize,
    /// Tags of each device, at most.
    pub tags_each: usize,
    /// Subscribers who read at once.
    pub fast: usize,
    /// Subscribers who do not.
    pub slow: usize,
    /// Peers who send requests and their end.
    pub half_closers: usize,
    /// Talkers of garbage.
    pub noises: usize,
    /// Whether there is a polled device, and a driver for it.
    pub polled: bool,
    /// Writers of its tags.
    pub operators: usize,
    /// What the real driver polls.
    pub field: Option<FieldPlan>,
    /// Writers of what it polls.
    pub dispatchers: usize,
    /// Peers by datagrams.
    pub datagram_peers: usize,
    /// Modbus masters.
    pub masters: usize,
    /// Modbus masters behind serial converters.
    pub rtu_masters: usize,
    /// Modbus masters by datagrams.
    pub udp_masters: usize,
    /// Whether an engine of another host dials the server.
    pub reporter: bool,
    /// Engines of the server.
    pub shards: usize,
    /// `buffer_memory`
    pub buffer_memory: usize,
    /// `max_connections`
    pub max_connections: usize,
    /// `max_udp_peers`
    pub max_udp_peers: usize,
    /// `max_subscriptions`
    pub max_subscriptions: usize,
    /// `write_stall`
    pub write_stall: Duration,
    /// `frame_timeout`
    pub frame_timeout: Duration,
    /// `stale_after` of the listener
    pub stale_after: Option<Duration>,
    /// The mean time between two faults of the world.
    pub fault_us: u64,
}

impl Plan {
    /// Whether the buffers are so small that peers may be closed for it.
    pub fn is_short_of_memory(&self) -> bool {
        self.buffer_memory < 1024 * 1024
    }

    /// The operators of the polled device, if there is one.
    pub(super) fn shown_operators(&self) -> Option<usize> {
        self.polled.then_some(self.operators)
    }

    pub(super) fn draw(random: &mut Random) -> Plan {
        let has_field = random.one_in(3);
        let plan = Plan::draw_any(random);
        let plan = if has_field { plan.with_field(random) } else { plan };
        let shards = if random.one_in(3) { 2 + random.below(MOST_SHARDS - 1) } else { 1 };
        Plan { shards, ..plan }
    }

    /// Polled devices take longer to die and to come back, so there is more time; and fewer others.
    fn with_field(self, random: &mut Random) -> Plan {
        let busy_us = random.within(4_000_000..=8_000_000);
        Plan {
            busy_us,
            devices: 0,
            fast: self.fast.min(1),
            slow: self.slow.min(1),
            half_closers: 0,
            noises: 0,
            polled: false,
            operators: 0,
            field: Some(FieldPlan::draw(random, busy_us)),
            dispatchers: 1 + random.below(2),
            datagram_peers: 0,
            masters: 0,
            rtu_masters: 0,
            udp_masters: 0,
            reporter: false,
            buffer_memory: 16 << 20,
            max_connections: 1_000,
            ..self
        }
    }

    fn draw_any(random: &mut Random) -> Plan {
        let polled = random.one_in(2);
        Plan {
            busy_us: random.within(400_000..=2_000_000),
            devices: 1 + random.below(4),
            tags_each: *random.pick(&[&4, &4, &40]),
            fast: random.below(3),
            slow: random.below(3),
            half_closers: random.below(3),
            noises: random.below(3) / 2 + random.below(2),
            polled,
            operators: if polled { 1 + random.below(3) } else { 0 },
            field: None,
            dispatchers: 0,
            datagram_peers: random.below(3),
            masters: random.below(MOST_MASTERS),
            rtu_masters: random.below(2),
            udp_masters: random.below(2),
            reporter: random.one_in(4),
            shards: 1,
            buffer_memory: *random.pick(&[&(16 << 20), &(16 << 20), &(40 << 10), &(96 << 10), &(256 << 10)]),
            max_connections: *random.pick(&[&1_000, &1_000, &1_000, &5]),
            max_udp_peers: 1 + random.below(3),
            max_subscriptions: *random.pick(&[&100, &3]),
            write_stall: Duration::from_millis(2_500),
            frame_timeout: Duration::from_millis(2_000),
            stale_after: *random.pick(&[&None, &None, &Some(Duration::from_millis(150))]),
            fault_us: *random.pick(&[&20_000, &100_000, &400_000, &60_000_000]),
        }
    }
}
