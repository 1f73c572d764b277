//! Prefixes of addresses: `10.0.0.0/8`, `10.1.2.3`, `fd00::/8`.

use std::net::IpAddr;

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    bits: u8,
}

impl Prefix {
    /// Parse `address/bits`; an address alone is all of its bits. Bits behind the prefix must be 0: who
    /// writes `10.1.2.3/8` means one machine or sixteen million. Says what is wrong, and what is expected.
    pub fn parse(text: &str) -> Result<Prefix, String> {
        let not_one =
            || format!("'{text}' is not a prefix of addresses, expected one such as 10.0.0.0/8 or 10.1.2.3");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| not_one())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(not_one)?,
        };
        let prefix = Prefix { address, bits };
        let first = prefix.first();
        if first != address {
            return Err(format!("'{text}' has bits behind its prefix, expected {first}/{bits} or {address}"));
        }
        Ok(prefix)
    }

    /// Whether `peer` is one of them. An IPv4 peer of an IPv6 socket is an IPv4 peer.
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = Prefix { address: peer.to_canonical(), bits: self.bits };
        peer.address.is_ipv4() == self.address.is_ipv4() && peer.first() == self.address
    }

    /// The address with all bits behind the prefix 0.
    fn first(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_prefix_contains() {
        #[track_caller]
        fn check(prefix: &str, inside: &[&str], outside: &[&str]) {
            let prefix = Prefix::parse(prefix).unwrap();
            let contains = |peer: &&str| prefix.contains(peer.parse().unwrap());
            assert!(inside.iter().all(contains), "{prefix:?}");
            assert!(!outside.iter().any(contains), "{prefix:?}");
        }
        check("10.0.0.0/8", &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], &["11.0.0.0", "::a00:1"]);
        check("10.1.2.3/32", &["10.1.2.3"], &["10.1.2.2"]);
        check("10.1.2.3", &["10.1.2.3"], &["10.1.2.4"]);
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::1"]);
        check("128.0.0.0/1", &["128.0.0.0", "255.0.0.0"], &["127.255.255.255"]);
        check("fd00::/8", &["fd12::1", "fdff::"], &["fe80::1", "10.0.0.1"]);
        check("::/0", &["::1", "fd00::"], &["10.0.0.1", "::ffff:10.0.0.1"]);
        check("::1", &["::1"], &["::2"]);
    }

    #[test]
    fn what_is_not_a_prefix() {
        for text in ["", "10", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "host/8", "10.0.0.0/8/8"]
        {
            assert!(Prefix::parse(text).is_err_and(|why| why.contains("10.0.0.0/8")), "{text}");
        }
        let why = Prefix::parse("10.1.2.3/8").unwrap_err();
        assert!(why.contains("10.0.0.0/8 or 10.1.2.3"), "{why}");
    }
}
