//! `host:port` of a URL: an address, or a name that stands for one or several.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

/// A name is no longer, and neither is a level of it (RFC 1035 §2.3.4).
const MOST_NAME_BYTES: usize = 253;
const MOST_LABEL_BYTES: usize = 63;

/// Where a peer is that is to be connected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// Nothing is to be looked up.
    Address(SocketAddr),
    /// Whose address is looked up each time.
    Name(NamedHost),
}

/// A name that is looked up, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamedHost {
    /// In lower case.
    pub name: Arc<str>,
    /// The port.
    pub port: u16,
    /// Which of several addresses is meant, counted round.
    pub turn: u32,
}

impl Host {
    /// Parse `host:port`; the port may be left out. Nothing is looked up. Says what is wrong, and what is
    /// expected.
    pub fn parse(text: &str, default_port: u16) -> Result<Host, String> {
        let (host, port) = split(text, default_port)?;
        let expected = "expected an address such as 10.0.0.7 or [::1], or a name such as meter7.plant.local";
        let wrong = || format!("'{host}' is neither an address nor a name, {expected}");
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Ok(ip) = bracketed.unwrap_or(host).parse() {
            return Ok(Host::Address(SocketAddr::new(ip, port)));
        }
        let is_name = match bracketed {
            // A link-local address; the number of its interface is looked up.
            Some(host) => host.split_once('%').is_some_and(|(ip, zone)| {
                ip.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && !zone.contains(is_no_word)
            }),
            None => is_name(host),
        };
        if !is_name {
            return Err(wrong());
        }
        let name = bracketed.unwrap_or(host).to_ascii_lowercase().into();
        Ok(Host::Name(NamedHost { name, port, turn: 0 }))
    }

    /// The next attempt is at the next address, if there are several.
    pub fn turn(&mut self) {
        if let Host::Name(host) = self {
            host.turn = host.turn.wrapping_add(1);
        }
    }
}

impl From<SocketAddr> for Host {
    fn from(address: SocketAddr) -> Host {
        Host::Address(address)
    }
}

/// As in a URL.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(address) => write!(f, "{address}"),
            Host::Name(NamedHost { name, port, .. }) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Host::Name(NamedHost { name, port, .. }) => write!(f, "{name}:{port}"),
        }
    }
}

impl NamedHost {
    /// The address whose turn it is, of those that the name stands for; none if there is none.
    pub fn choose(&self, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        let place = self.turn as usize % addresses.len().max(1);
        let mut address = *addresses.get(place)?;
        address.set_port(self.port);
        Some(address)
    }
}

/// Letters, digits, `-` and `_` between dots, and not only digits behind the last: that would be a mistyped
/// address.
fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| (1..=MOST_LABEL_BYTES).contains(&label.len()) && !label.contains(is_no_word);
    let last = text.rsplit('.').next().unwrap_or_default();
    let looks_numeric = last.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= MOST_NAME_BYTES && text.split('.').all(is_label) && !looks_numeric
}

fn is_no_word(char: char) -> bool {
    !(char.is_ascii_alphanumeric() || matches!(char, '-' | '_'))
}

/// The addresses that a name stands for, without a port. May take as long as the system pleases.
pub fn look_up(name: &str) -> Result<Vec<SocketAddr>, String> {
    match (name, 0).to_socket_addrs().map(Vec::from_iter) {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err("it has no address".to_owned()),
        Err(error) => {
            let text = error.to_string();
            // What the standard library says before the system's own words.
            Err(text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned())
        }
    }
}

/// The addresses that `host:port` stands for, at least one; the port may be left out. Says what is wrong, and
/// what is expected.
pub fn addresses(text: &str, default_port: u16) -> Result<Vec<SocketAddr>, String> {
    let (host, port) = split(text, default_port)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match (host, port).to_socket_addrs().map(Vec::from_iter) {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(format!("'{host}' has no address")),
        Err(error) => {
            Err(format!("'{host}' is no address ({error}), expected one such as 127.0.0.1 or [::1]"))
        }
    }
}

/// The host as it is written, and the port.
pub fn split(text: &str, default_port: u16) -> Result<(&str, u16), String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let port = port.parse().map_err(|_| {
                format!("'{port}' is not a port, expected a number from 0 (any free one) to 65535")
            })?;
            Ok((host, port))
        }
        _ => Ok((text, default_port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_or_names() {
        #[track_caller]
        fn check(text: &str, printed: &str, is_name: bool) {
            let host = Host::parse(text, 502).unwrap();
            assert_eq!((host.to_string().as_str(), matches!(host, Host::Name(_))), (printed, is_name));
            assert_eq!(Host::parse(printed, 1), Ok(host));
        }
        check("10.0.0.7", "10.0.0.7:502", false);
        check("10.0.0.7:1502/", "10.0.0.7:1502", false);
        check("[::1]", "[::1]:502", false);
        check("[0:0::1]:7", "[::1]:7", false);
        check("localhost", "localhost:502", true);
        check("Meter7.Plant.LOCAL:1502", "meter7.plant.local:1502", true);
        check("meter_7.plant.local.", "meter_7.plant.local.:502", true);
        check("7up:7", "7up:7", true);
        check("10.0.0.7.example", "10.0.0.7.example:502", true);
        check("[fe80::1%eth0]:502", "[fe80::1%eth0]:502", true);
    }

    #[test]
    fn what_is_neither_is_explained() {
        #[track_caller]
        fn check(text: &str, why: &str) {
            let error = Host::parse(text, 502).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        let neither = "is neither an address nor a name, expected an address such as";
        check("", neither);
        check(":502", neither);
        check("10.0.0.300", neither);
        check("10.0.7", neither);
        check("4711:502", neither);
        check("meter 7", neither);
        check("meter..local", neither);
        check(".local", neither);
        check("zähler", neither);
        check("[meter7]:502", neither);
        check("[fe80::1%]:502", neither);
        check("[meter%eth0]:502", neither);
        check(&"a".repeat(64), neither);
        check(&["a"; 128].join("."), neither);
        check("meter7:", "'' is not a port");
        check("meter7:modbus", "'modbus' is not a port");
        check("meter7:65536", "'65536' is not a port");
    }

    #[test]
    fn each_attempt_is_at_the_next_address() {
        let Ok(mut host) = Host::parse("meter7.plant.local:1502", 502) else { panic!("a name") };
        let all: Vec<SocketAddr> =
            ["[::1]:0", "10.0.0.7:0", "10.0.0.8:0"].map(|text| text.parse().unwrap()).into();
        let mut attempt = |known: &[SocketAddr]| {
            let Host::Name(named) = &host else { panic!("a name") };
            let chosen = named.choose(known).map(|address| address.to_string());
            host.turn();
            chosen.unwrap_or_default()
        };
        let round = ["[::1]:1502", "10.0.0.7:1502", "10.0.0.8:1502", "[::1]:1502"];
        assert_eq!(round.map(|_| attempt(&all)), round);
        // Fewer from now on, then none, then one that is new.
        assert_eq!(attempt(&all[..2]), "[::1]:1502");
        assert_eq!(attempt(&[]), "");
        assert_eq!(attempt(&["10.0.0.9:0".parse().unwrap()]), "10.0.0.9:1502");
    }

    #[test]
    fn only_names_have_turns() {
        let mut host = Host::parse("10.0.0.7", 502).unwrap();
        host.turn();
        assert_eq!(host, Host::parse("10.0.0.7:502", 1).unwrap());
    }
}
