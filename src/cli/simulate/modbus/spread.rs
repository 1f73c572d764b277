//! Where the slaves are: which address, port and unit each has, and which of them a peer has come to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::protocols::modbus::server::PROTOCOL;

/// How slaves are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::simulate) enum Spread {
    /// By addresses, behind one listener for all.
    Addresses,
    /// By ports of one address, a listener each.
    Ports,
    /// By units of one address; when its units are used up, those of the next.
    Units,
}

/// All of them, as options name them.
pub(in crate::cli::simulate) const SPREADS: [(&str, Spread); 3] =
    [("addresses", Spread::Addresses), ("ports", Spread::Ports), ("units", Spread::Units)];

/// Units of one address (*Serial Line* §2.2: 1 to 247).
pub(super) const UNITS: u32 = 247;

/// Where slaves are; they are numbered from 1.
#[derive(Clone, Debug)]
pub(super) struct Places {
    spread: Spread,
    slaves: u32,
    /// Of the first slave.
    first: SocketAddr,
    /// Where ports were found by the system: those of the listeners, in their order.
    found: Vec<u16>,
}

/// A slave, or several that are units of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The number of its first slave, which is unit 1.
    pub(super) first: u32,
    pub(super) units: u8,
}

impl Places {
    /// Slaves from that address on. The error says what does not fit.
    pub(super) fn new(spread: Spread, slaves: u32, first: SocketAddr) -> Result<Places, String> {
        let places = Places { spread, slaves, first, found: Vec::new() };
        let last = places.groups() - 1;
        let (ip, port) = (first.ip(), first.port());
        if spread == Spread::Ports {
            let from = port.max(1);
            if last > u32::from(u16::MAX - from) {
                return Err(format!(
                    "{slaves} ports from {from} on are more than there are; begin with a lower one, or leave \
                     --spread ports out"
                ));
            }
        } else if last > 0 {
            let IpAddr::V4(ip) = ip else {
                return Err(format!("addresses are counted up from an IPv4 address, not from {ip}"));
            };
            let end = ip.to_bits().checked_add(last).map(Ipv4Addr::from_bits);
            if !end.is_some_and(|end| end.is_loopback() == ip.is_loopback() && !end.is_broadcast()) {
                return Err(format!("from {ip} on there are no {} addresses of this machine", last + 1));
            }
        }
        Ok(places)
    }

    pub(super) fn slaves(&self) -> u32 {
        self.slaves
    }

    fn units_of_group(&self) -> u32 {
        if self.spread == Spread::Units { UNITS } else { 1 }
    }

    /// Addresses, or ports, that masters connect to.
    pub(super) fn groups(&self) -> u32 {
        self.slaves.div_ceil(self.units_of_group())
    }

    /// Where to listen: at all addresses where there are several, for a socket each would double the
    /// descriptors.
    pub(super) fn listeners(&self) -> Vec<SocketAddr> {
        let (ip, port) = (self.first.ip(), self.first.port());
        match self.spread {
            Spread::Ports => {
                let port_of = |group| if port == 0 { 0 } else { port + group as u16 };
                (0..self.groups()).map(|group| SocketAddr::new(ip, port_of(group))).collect()
            }
            _ if self.groups() == 1 => vec![self.first],
            _ => vec![SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)],
        }
    }

    /// Whether only peers of this machine are to be let in, though we may listen at all addresses.
    pub(super) fn is_loopback_only(&self) -> bool {
        self.first.ip().is_loopback()
    }

    /// The listeners got these ports.
    pub(super) fn on_bound(&mut self, ports: Vec<u16>) {
        self.first.set_port(ports[0]);
        self.found = ports;
    }

    /// The slaves that a peer meets who came to that listener and that address.
    pub(super) fn met(&self, listener: usize, local: IpAddr) -> Option<Group> {
        let group = match (self.spread, self.first.ip(), local) {
            (Spread::Ports, ..) => listener as u32,
            _ if self.groups() == 1 => 0,
            (_, IpAddr::V4(first), IpAddr::V4(local)) => local.to_bits().checked_sub(first.to_bits())?,
            _ => return None,
        };
        let before = group.checked_mul(self.units_of_group())?;
        let units = self.slaves.checked_sub(before)?.min(self.units_of_group());
        (units > 0).then_some(Group { first: before + 1, units: units as u8 })
    }

    /// The address and the unit of a slave.
    pub(super) fn of(&self, slave: u32) -> (SocketAddr, u8) {
        let (group, unit) = ((slave - 1) / self.units_of_group(), (slave - 1) % self.units_of_group() + 1);
        let mut address = self.first;
        match (self.spread, self.first.ip()) {
            (Spread::Ports, _) => {
                let found = self.found.get(group as usize).copied();
                address.set_port(found.unwrap_or_else(|| self.first.port() + group as u16));
            }
            (_, IpAddr::V4(first)) => {
                address.set_ip(Ipv4Addr::from_bits(first.to_bits() + group).into());
            }
            // There is but one group.
            _ => {}
        }
        (address, unit as u8)
    }

    /// Where they are, for people.
    pub(super) fn describe(&self) -> String {
        let url = |slave| format!("{}://{}", PROTOCOL.scheme, self.of(slave).0);
        let (first, last) = (url(1), url(self.slaves));
        let units = match (self.spread, self.slaves) {
            (Spread::Units, 2..=UNITS) => format!(", units 1 to {}", self.slaves),
            (Spread::Units, _) if self.slaves > 1 => format!(", {UNITS} units each"),
            _ => String::new(),
        };
        if first == last { format!("{first}{units}") } else { format!("{first} to {last}{units}") }
    }
}

impl Group {
    /// The number of the slave that a unit means. One that is alone at its address is also meant by 0 and
    /// 255: masters that know of no units send them.
    pub(super) fn slave(self, unit: u8) -> Option<u32> {
        match unit {
            0 | 255 if self.units == 1 => Some(self.first),
            1.. if unit <= self.units => Some(self.first + u32::from(unit) - 1),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(spread: Spread, slaves: u32, first: &str) -> Places {
        Places::new(spread, slaves, first.parse().unwrap()).unwrap()
    }

    /// A slave's place leads back to it.
    #[track_caller]
    fn check(places: &Places, slave: u32, address: &str, unit: u8) {
        assert_eq!(places.of(slave), (address.parse().unwrap(), unit));
        let address = places.of(slave).0;
        let listeners = places.listeners();
        let at_port = |listener: &SocketAddr| listener.port() == address.port();
        let listener = listeners.iter().position(at_port).expect("a listener has the port");
        assert!(listeners[listener].ip().is_unspecified() || listeners[listener].ip() == address.ip());
        let group = places.met(listener, address.ip()).expect("somebody is there");
        assert_eq!(group.slave(unit), Some(slave));
    }

    #[test]
    fn slaves_are_where_they_are_said_to_be() {
        let by_address = places(Spread::Addresses, 5_000, "127.0.0.1:1502");
        check(&by_address, 1, "127.0.0.1:1502", 1);
        check(&by_address, 256, "127.0.1.0:1502", 1);
        check(&by_address, 5_000, "127.0.19.136:1502", 1);
        assert_eq!(by_address.listeners(), ["0.0.0.0:1502".parse().unwrap()]);
        assert_eq!(by_address.describe(), "modbus://127.0.0.1:1502 to modbus://127.0.19.136:1502");

        let by_port = places(Spread::Ports, 3, "[::1]:1502");
        check(&by_port, 1, "[::1]:1502", 1);
        check(&by_port, 3, "[::1]:1504", 1);
        assert_eq!(by_port.listeners().len(), 3);

        let by_unit = places(Spread::Units, 250, "127.0.0.1:1502");
        check(&by_unit, 1, "127.0.0.1:1502", 1);
        check(&by_unit, 247, "127.0.0.1:1502", 247);
        check(&by_unit, 248, "127.0.0.2:1502", 1);
        assert_eq!(by_unit.met(0, "127.0.0.2".parse().unwrap()).unwrap().units, 3);
        let one_line = places(Spread::Units, 3, "[::1]:1502");
        check(&one_line, 3, "[::1]:1502", 3);
        assert_eq!(one_line.describe(), "modbus://[::1]:1502, units 1 to 3");

        let alone = places(Spread::Addresses, 1, "[::1]:1502");
        check(&alone, 1, "[::1]:1502", 1);
        assert_eq!(alone.describe(), "modbus://[::1]:1502");
    }

    #[test]
    fn ports_may_be_found_by_the_system() {
        let mut found = places(Spread::Ports, 2, "127.0.0.1:0");
        assert_eq!(found.listeners(), [SocketAddr::from(([127, 0, 0, 1], 0)); 2]);
        found.on_bound(vec![40_007, 40_001]);
        assert_eq!(found.of(1).0.port(), 40_007);
        assert_eq!(found.of(2).0.port(), 40_001);
        let mut found = places(Spread::Addresses, 2, "127.0.0.1:0");
        found.on_bound(vec![40_009]);
        assert_eq!(found.of(2).0, "127.0.0.2:40009".parse().unwrap());
    }

    #[test]
    fn elsewhere_is_nobody() {
        let three = places(Spread::Addresses, 3, "127.0.0.5:1502");
        for ip in ["127.0.0.4", "127.0.0.8", "10.0.0.1", "::1"] {
            assert_eq!(three.met(0, ip.parse().unwrap()), None, "{ip}");
        }
        let alone = three.met(0, "127.0.0.5".parse().unwrap()).unwrap();
        let of_unit = |unit| alone.slave(unit);
        assert_eq!([0, 1, 2, 255].map(of_unit), [Some(1), Some(1), None, Some(1)]);
        let line = Group { first: 248, units: 3 };
        assert_eq!([0, 1, 3, 4, 255].map(|unit| line.slave(unit)), [None, Some(248), Some(250), None, None]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let table = [
            (Spread::Ports, 5_000, "127.0.0.1:62000", "more than there are"),
            (Spread::Ports, 65_536, "127.0.0.1:0", "more than there are"),
            (Spread::Addresses, 2, "[::1]:1502", "IPv4"),
            (Spread::Addresses, 2, "127.255.255.255:1502", "no 2 addresses"),
            (Spread::Units, 300, "255.255.255.254:1502", "no 2 addresses"),
        ];
        for (spread, slaves, first, part) in table {
            let error = Places::new(spread, slaves, first.parse().unwrap()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
