//! What the service manager that started us (systemd, by `Type=notify`) hears of us: that we serve, that we
//! stop, and, while it watches us, that the loop still turns. Datagrams as in sd_notify(3).
//!
//! Not by the crate `sd-notify`: it opens a socket for each message, which fails where descriptors have run
//! out, and who fails to say that it lives is killed; and it knows no abstract sockets.

use std::env::{self, VarError};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Reactor;
use crate::base::time::Tick;

/// A manager that has too much to read for the moment is told again after.
const TELL_AGAIN: Duration = Duration::from_millis(100);
const STOPPING: &str = "STOPPING=1";

/// A service manager that wants to hear of us.
pub struct ServiceManager {
    socket: UnixDatagram,
    /// Not connected to: whoever listens there may be replaced while we run.
    address: SocketAddr,
    /// It must hear of us at least so often; `None` where it does not watch us.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The service manager that the environment names, if it does: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and
    /// `WATCHDOG_PID`.
    ///
    /// # Errors
    /// A variable makes no sense, or no socket can be had; the text says which, and why.
    pub fn from_environment() -> Result<Option<ServiceManager>, String> {
        let Some(path) = variable("NOTIFY_SOCKET")? else { return Ok(None) };
        let unusable = |error: io::Error| format!("NOTIFY_SOCKET={path} cannot be used: {error}");
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&path),
        };
        let manager = ServiceManager::at(address.map_err(unusable)?, watchdog()?);
        manager.map(Some).map_err(unusable)
    }

    fn at(address: SocketAddr, watchdog: Option<Duration>) -> io::Result<ServiceManager> {
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not stop the loop.
        socket.set_nonblocking(true)?;
        Ok(ServiceManager { socket, address, watchdog })
    }

    /// Let it hear of these reactors: that all are ready, and as long as none of them hangs, that they live.
    pub fn watch(self, reactors: &mut [Reactor]) {
        let pulses = self.pulses(reactors.len());
        for (reactor, pulse) in reactors.iter_mut().zip(pulses) {
            reactor.pulse = Some(pulse);
        }
    }

    fn pulses(self, shards: usize) -> impl Iterator<Item = Pulse> {
        let hearing = Mutex::new(Hearing { beats: vec![Beat::Awaited; shards], knows_ready: false });
        let shared = Arc::new((self, hearing));
        (0..shards).map(move |shard| Pulse {
            shared: Arc::clone(&shared),
            shard,
            due: Tick::default(),
            owes_stopping: false,
        })
    }

    /// Send a message. False where it must be sent again.
    fn tell(&self, message: &str) -> bool {
        match self.socket.send_to_addr(message.as_bytes(), &self.address) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                log::warn!("the service manager cannot be told {message}: {error}");
                true
            }
        }
    }
}

/// What has been heard of the shards since the manager was told.
struct Hearing {
    /// By shard.
    beats: Vec<Beat>,
    knows_ready: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Beat {
    Awaited,
    Heard,
    /// Its loop has ended, as it should.
    Over,
}

/// By which the loop of one shard says that it turns. Whoever is the last to do so tells the manager.
pub(super) struct Pulse {
    shared: Arc<(ServiceManager, Mutex<Hearing>)>,
    shard: usize,
    /// When it beats next.
    due: Tick,
    /// The manager had too much to read to be told that we stop.
    owes_stopping: bool,
}

impl Pulse {
    /// In each turn of the loop: beat if it is time. Returns when to be called again at the latest.
    pub(super) fn on_turn(&mut self, now: Tick) -> Tick {
        if now >= self.due {
            self.due = if self.beat(Beat::Heard) {
                // Twice in the time allowed, as sd_watchdog_enabled(3) recommends.
                self.shared.0.watchdog.map_or(Tick::NEVER, |watchdog| now + watchdog / 2)
            } else {
                now + TELL_AGAIN
            };
        }
        if self.owes_stopping {
            self.owes_stopping = !self.shared.0.tell(STOPPING);
        }
        if self.owes_stopping { self.due.min(now + TELL_AGAIN) } else { self.due }
    }

    /// The server was told to stop. It is watched until it has ended.
    pub(super) fn on_stop(&mut self) {
        // A courtesy: most managers know, for they asked. One that cannot read now is told in a later turn.
        self.owes_stopping = !self.shared.0.tell(STOPPING);
    }

    /// False where the manager must be told again.
    fn beat(&self, beat: Beat) -> bool {
        let (manager, hearing) = &*self.shared;
        let mut hearing = hearing.lock().expect("a panic ends the process, so no lock is poisoned");
        hearing.beats[self.shard] = beat;
        if hearing.beats.contains(&Beat::Awaited) || !hearing.beats.contains(&Beat::Heard) {
            return true;
        }
        if !manager.tell(if hearing.knows_ready { "WATCHDOG=1" } else { "READY=1" }) {
            return false;
        }
        hearing.knows_ready = true;
        for beat in hearing.beats.iter_mut().filter(|beat| **beat == Beat::Heard) {
            *beat = Beat::Awaited;
        }
        true
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.beat(Beat::Over);
    }
}

/// How often the manager must hear of this process, if it is this one that is watched.
fn watchdog() -> Result<Option<Duration>, String> {
    let watched = number("WATCHDOG_PID")?.is_none_or(|pid| pid == u64::from(process::id()));
    let micros = number("WATCHDOG_USEC")?.filter(|micros| watched && *micros > 0);
    Ok(micros.map(Duration::from_micros))
}

fn number(name: &str) -> Result<Option<u64>, String> {
    let Some(text) = variable(name)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| format!("{name}={text} is not a number"))
}

fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(text) => Ok(Some(text)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(text)) => Err(format!("{name}={} is not text", text.to_string_lossy())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It hears of shards only what is true of all that have not ended.
    #[test]
    fn one_shard_that_hangs_is_noticed() {
        const HALF_MS: u64 = 500;
        let name = format!("lumina-notify-{}", process::id());
        let address = SocketAddr::from_abstract_name(name).expect("a short name");
        let ears = UnixDatagram::bind_addr(&address).expect("nobody else has that name");
        ears.set_nonblocking(true).expect("a socket can be made non-blocking");
        let heard = || {
            let mut bytes = [0; 64];
            ears.recv(&mut bytes)
                .map_or(String::new(), |count| String::from_utf8_lossy(&bytes[..count]).into())
        };
        let manager = ServiceManager::at(address, Some(Duration::from_millis(2 * HALF_MS)));
        let mut pulses: Vec<Pulse> = manager.expect("a socket").pulses(2).collect();
        let mut turn = |shards: &[usize], half: u64| {
            for shard in shards {
                let now = Tick::from_micros(half * HALF_MS * 1_000);
                assert_eq!(pulses[*shard].on_turn(now), now + Duration::from_millis(HALF_MS));
            }
            heard()
        };
        assert_eq!(turn(&[0], 0), "");
        assert_eq!(turn(&[1], 0), "READY=1");
        assert_eq!(turn(&[1, 0], 1), "WATCHDOG=1");
        assert_eq!(turn(&[0], 2), "");
        assert_eq!(turn(&[0], 3), "");
        assert_eq!(turn(&[1], 3), "WATCHDOG=1");
        assert_eq!(turn(&[0], 4), "");
        pulses.remove(1);
        assert_eq!(heard(), "WATCHDOG=1");
        assert_eq!(
            pulses[0].on_turn(Tick::from_micros(5 * HALF_MS * 1_000)),
            Tick::from_micros(6 * HALF_MS * 1_000)
        );
        assert_eq!(heard(), "WATCHDOG=1");
        drop(pulses);
        assert_eq!(heard(), "");
    }

    /// Its queue is full: it hears of the stop when it has read.
    #[test]
    fn a_manager_that_reads_later_hears_of_the_stop() {
        let name = format!("lumina-notify-late-{}", process::id());
        let address = SocketAddr::from_abstract_name(name).expect("a short name");
        let ears = UnixDatagram::bind_addr(&address).expect("nobody else has that name");
        ears.set_nonblocking(true).expect("a socket can be made non-blocking");
        let manager = ServiceManager::at(address, None).expect("a socket");
        while manager.tell("WATCHDOG=1") {}
        let mut pulse = manager.pulses(1).next().expect("a pulse for one shard");
        pulse.on_stop();
        let now = Tick::from_micros(1_000_000);
        assert_eq!(pulse.on_turn(now), now + TELL_AGAIN);
        let mut heard = Vec::new();
        let mut bytes = [0; 64];
        for turn in 1..=3 {
            while let Ok(count) = ears.recv(&mut bytes) {
                heard.push(String::from_utf8_lossy(&bytes[..count]).into_owned());
            }
            pulse.on_turn(now + turn * TELL_AGAIN);
        }
        heard.retain(|message| message != "WATCHDOG=1");
        assert_eq!(heard, ["READY=1", STOPPING], "each once");
    }
}
