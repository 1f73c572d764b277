//! What happened in a world, for the person who has to find out why it failed: the last events, one a line,
//! as in a ladder diagram.

use std::collections::VecDeque;
use std::fmt::{self, Write};

/// Events that are kept: a failure shows soon after its cause, and nobody reads more.
const KEPT_EVENTS: usize = 400;
/// Bytes shown of what was sent, at its beginning and at its end.
const SHOWN_BYTES: (usize, usize) = (72, 28);

/// The last events of a world, and a hash of them all.
#[derive(Debug)]
pub struct Trace {
    events: VecDeque<String>,
    count: u64,
    hash: u64,
}

impl Default for Trace {
    fn default() -> Trace {
        // FNV-1a's offset basis.
        Trace { events: VecDeque::new(), count: 0, hash: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Trace {
    /// Something happened to `who`.
    pub fn note(&mut self, at_us: u64, who: fmt::Arguments<'_>, what: fmt::Arguments<'_>) {
        let mut line = match self.events.len() {
            KEPT_EVENTS => self.events.pop_front().expect("as many as are kept"),
            _ => String::new(),
        };
        line.clear();
        let _ = write!(line, "{:>3}.{:06} ", at_us / 1_000_000, at_us % 1_000_000);
        let before = line.len();
        let _ = line.write_fmt(who);
        let pad = 11_usize.saturating_sub(line.len() - before);
        let _ = write!(line, "{:pad$} {what}", "");
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.count += 1;
        self.events.push_back(line);
    }

    /// The same for two worlds in which the same happened.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dropped = self.count - self.events.len() as u64;
        if dropped > 0 {
            writeln!(f, "           … {dropped} earlier events")?;
        }
        self.events.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}

/// Bytes as a person reads them, cut in the middle where they are many.
pub(super) struct Shown<'a>(pub(super) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, tail) = SHOWN_BYTES;
        let Shown(bytes) = *self;
        if bytes.len() <= head + tail {
            return show(bytes, f);
        }
        show(&bytes[..head], f)?;
        f.write_str(" … ")?;
        show(&bytes[bytes.len() - tail..], f)?;
        write!(f, " ({} bytes)", bytes.len())
    }
}

fn show(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for &byte in bytes {
        match byte {
            b'\n' => f.write_char('⏎')?,
            b' '..=b'~' => f.write_char(char::from(byte))?,
            _ => f.write_char('·')?,
        }
    }
    Ok(())
}
