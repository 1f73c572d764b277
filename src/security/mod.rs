//! Who may do what. So far by address: each listener says which peers may read and which may write.

mod prefix;

use std::net::IpAddr;

pub use prefix::Prefix;

/// What a peer may do with the tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Read, list and subscribe.
    pub read: bool,
    /// Write.
    pub write: bool,
}

impl Rights {
    /// Everything.
    pub const ALL: Rights = Rights { read: true, write: true };
    /// Nothing.
    pub const NONE: Rights = Rights { read: false, write: false };
}

/// Which peers of a listener have which rights.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Who may read; `None` is everybody.
    pub read: Option<Vec<Prefix>>,
    /// Who may write; `None` is everybody.
    pub write: Option<Vec<Prefix>>,
}

impl Grants {
    /// The rights of a peer.
    pub fn of(&self, peer: IpAddr) -> Rights {
        let granted = |prefixes: &Option<Vec<Prefix>>| {
            prefixes.as_ref().is_none_or(|prefixes| prefixes.iter().any(|prefix| prefix.contains(peer)))
        };
        Rights { read: granted(&self.read), write: granted(&self.write) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_come_from_prefixes_and_default_to_all() {
        let list = |texts: &[&str]| Some(texts.iter().map(|text| Prefix::parse(text).unwrap()).collect());
        let rights = |grants: &Grants, peer: &str| grants.of(peer.parse().unwrap());
        assert_eq!(rights(&Grants::default(), "192.0.2.1"), Rights::ALL);
        let grants = Grants { read: list(&["10.0.0.0/8", "::1"]), write: list(&["10.1.2.3"]) };
        assert_eq!(rights(&grants, "10.1.2.3"), Rights::ALL);
        assert_eq!(rights(&grants, "10.1.2.4"), Rights { read: true, write: false });
        assert_eq!(rights(&grants, "::1"), Rights { read: true, write: false });
        assert_eq!(rights(&grants, "192.0.2.1"), Rights::NONE);
        let read_only = Grants { read: None, write: list(&[]) };
        assert_eq!(rights(&read_only, "10.1.2.3"), Rights { read: true, write: false });
    }
}
