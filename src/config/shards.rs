//! How many threads serve connections.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::thread;

/// One to this many: more cores than that want another kind of server.
const MOST_SHARDS: usize = 64;
pub(super) const EXPECTED: &str = "a number from 1 to 64, or auto";

/// How many shards a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shards(NonZeroUsize);

impl Default for Shards {
    fn default() -> Self {
        Shards(NonZeroUsize::MIN)
    }
}

impl Shards {
    /// One for each core that the process may use.
    fn auto() -> Shards {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Shards(cores.min(NonZeroUsize::MIN.saturating_add(MOST_SHARDS - 1)))
    }

    /// So many, if that is allowed.
    pub(super) fn of(count: i64) -> Option<Shards> {
        let count = usize::try_from(count).ok().filter(|&count| count <= MOST_SHARDS)?;
        NonZeroUsize::new(count).map(Shards)
    }

    /// The number.
    pub fn count(self) -> usize {
        self.0.get()
    }
}

impl FromStr for Shards {
    type Err = String;

    fn from_str(text: &str) -> Result<Shards, String> {
        let count = || text.parse().ok().and_then(Shards::of);
        let shards = if text == "auto" { Some(Shards::auto()) } else { count() };
        shards.ok_or_else(|| format!("'{text}' is not a number of shards, expected {EXPECTED}"))
    }
}

impl fmt::Display for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
