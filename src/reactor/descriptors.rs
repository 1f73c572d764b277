//! How many connections the process can have: its limit of file descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for what is not a connection: poll, signals, stderr, files, peers that are told that there is no
/// room.
const RESERVE: u64 = 32;

/// What the limit of file descriptors allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The limit, now.
    pub limit: u64,
    /// Connections that fit below it.
    pub connections: usize,
}

/// Raise the soft limit of file descriptors to the hard one, and say what it allows beside so many that are
/// taken already.
/// Where raising is forbidden the soft limit stays.
pub fn raise_descriptor_limit(taken: usize) -> Descriptors {
    let before = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum });
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = limit.saturating_sub(RESERVE + taken as u64);
    Descriptors { limit, connections: usize::try_from(connections).unwrap_or(usize::MAX) }
}
