//! SIGINT and SIGTERM as events of the poll.

use std::io::{self, Read};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// The exit code of a server that was told to stop a second time.
const EXIT_AT_ONCE: i32 = 1;

pub(super) struct Signals {
    receiver: UnixStream,
    received: bool,
}

impl Signals {
    /// From here on the first signal is an event, and a second one ends the process at once.
    pub(super) fn register(registry: &Registry, token: Token) -> io::Result<Signals> {
        let (receiver, sender) = StdUnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag down, and raises it.
            flag::register_conditional_shutdown(signal, EXIT_AT_ONCE, Arc::clone(&asked))?;
            flag::register(signal, Arc::clone(&asked))?;
            low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        let mut receiver = UnixStream::from_std(receiver);
        registry.register(&mut receiver, token, Interest::READABLE)?;
        Ok(Signals { receiver, received: false })
    }

    pub(super) fn on_event(&mut self) {
        let mut bytes = [0; 16];
        self.received |= matches!(self.receiver.read(&mut bytes), Ok(1..));
    }

    /// Whether a signal came since the last call.
    pub(super) fn take(&mut self) -> bool {
        std::mem::take(&mut self.received)
    }
}
