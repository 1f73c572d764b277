//! Where to connect to: `HOST:PORT` as a person types it.

use std::fmt;
use std::net::Ipv6Addr;

use crate::engine::Protocol;
use crate::protocols::line;

/// Where a server listens that says nothing else.
const DEFAULT_HOST: &str = "127.0.0.1";

/// The host and port of a server. The host may be a name, which is looked up when connecting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Default for Address {
    fn default() -> Address {
        Address { host: DEFAULT_HOST.to_owned(), port: line::PROTOCOL.default_port }
    }
}

impl Address {
    /// `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`, also as the URL that `lumina serve` prints.
    pub(super) fn parse(text: &str) -> Result<Address, String> {
        Address::parse_any(text, &[&line::PROTOCOL]).map(|(_, address)| address)
    }

    /// The same in one of some protocols, of which the first is meant where none is named.
    pub(super) fn parse_any<'a>(
        text: &str,
        protocols: &[&'a Protocol],
    ) -> Result<(&'a Protocol, Address), String> {
        let wrong = |why: &str| {
            Err(format!("'{text}' is not an address: {why}; write HOST:PORT, such as 127.0.0.1:5000"))
        };
        let (protocol, rest) = match text.split_once("://") {
            None => (protocols[0], text),
            Some((scheme, rest)) => match protocols.iter().find(|known| known.scheme == scheme) {
                Some(protocol) => (*protocol, rest),
                None => {
                    let known: Vec<_> =
                        protocols.iter().map(|known| format!("{}://", known.scheme)).collect();
                    let verb = if known.len() == 1 { "is" } else { "are" };
                    let known = known.join(" and ");
                    return wrong(&format!("only {known} {verb} spoken here, not {scheme}://"));
                }
            },
        };
        let (host, port) = if rest.parse::<Ipv6Addr>().is_ok() {
            (rest, None)
        } else if let Some(bracketed) = rest.strip_prefix('[') {
            match bracketed.split_once(']') {
                Some((host, after)) if host.parse::<Ipv6Addr>().is_ok() => match after.strip_prefix(':') {
                    port @ Some(_) => (host, port),
                    None if after.is_empty() => (host, None),
                    None => return wrong("after the bracket comes :PORT"),
                },
                _ => return wrong("in the brackets stands an IPv6 address"),
            }
        } else {
            rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)))
        };
        if host.is_empty() {
            return wrong("it has no host");
        }
        match port.map(str::parse) {
            None => Ok((protocol, Address { host: host.to_owned(), port: protocol.default_port })),
            Some(Ok(port)) if port > 0 => Ok((protocol, Address { host: host.to_owned(), port })),
            Some(_) => wrong("the port is a number from 1 to 65535"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        #[track_caller]
        fn check(text: &str, printed: &str) {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), printed);
            assert_eq!(Address::parse(printed), Ok(address));
        }
        check("127.0.0.1", "127.0.0.1:5000");
        check("127.0.0.1:5001", "127.0.0.1:5001");
        check("gateway", "gateway:5000");
        check("gateway.plant:80", "gateway.plant:80");
        check("::1", "[::1]:5000");
        check("[::1]", "[::1]:5000");
        check("[fe80::1]:7", "[fe80::1]:7");
        check("line://[::1]:7", "[::1]:7");
        check("line://127.0.0.1:5000", "127.0.0.1:5000");
        assert_eq!(Address::default().to_string(), "127.0.0.1:5000");
    }

    #[test]
    fn what_is_no_address_is_explained() {
        #[track_caller]
        fn check(text: &str, why: &str) {
            let error = Address::parse(text).unwrap_err();
            assert!(error.contains(why) && error.contains("HOST:PORT"), "{error}");
        }
        check("", "no host");
        check(":5000", "no host");
        check("gateway:", "port is a number");
        check("gateway:0", "port is a number");
        check("gateway:65536", "port is a number");
        check("gateway:http", "port is a number");
        check("1::2::3", "port is a number");
        check("[gateway]:5000", "IPv6");
        check("[::1", "IPv6");
        check("[::1]5000", "after the bracket");
        check("echo://gateway", "not echo://");
    }
}
