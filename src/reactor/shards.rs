//! Several reactors, a thread each. The first accepts all peers and hands most of them over; a signal to it,
//! or the end of any of them, stops all.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use mio::net::TcpStream;

use super::Reactor;
use crate::engine::{Admission, Shared};

/// What a further shard needs for itself: its poll, twice, and what wakes it.
pub const DESCRIPTORS_OF_SHARD: usize = 3;
/// Peers that may wait until one shard takes them in. Where there are more, they wait to be accepted.
const GATE_PLACES: usize = 1_024;

/// Where peers wait for the shard that they were admitted to.
pub(super) struct Gates {
    shared: Arc<Shared>,
    gates: Box<[Mutex<Gate>]>,
    stopping: AtomicBool,
}

type Gate = VecDeque<(Admission, TcpStream)>;

impl Gates {
    pub(super) fn new(shared: &Arc<Shared>) -> Arc<Gates> {
        Arc::new(Gates {
            gates: (0..shared.shards()).map(|_| Mutex::default()).collect(),
            shared: Arc::clone(shared),
            stopping: AtomicBool::new(false),
        })
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Gate> {
        self.gates[shard].lock().expect("a panic ends the process, so no lock is poisoned")
    }

    /// Whether so many wait for some shard that nobody more is to be admitted.
    pub(super) fn are_full(&self) -> bool {
        self.gates.len() > 1 && (0..self.gates.len()).any(|shard| self.lock(shard).len() >= GATE_PLACES)
    }

    pub(super) fn hand_over(&self, admission: Admission, stream: TcpStream) {
        let shard = admission.shard();
        self.lock(shard).push_back((admission, stream));
        self.shared.bell(shard).ring();
    }

    /// Whether anybody waits for a shard. Asked after it fell asleep, nobody is missed.
    pub(super) fn has_any(&self, shard: usize) -> bool {
        self.gates.len() > 1 && !self.lock(shard).is_empty()
    }

    pub(super) fn take(&self, shard: usize) -> Option<(Admission, TcpStream)> {
        if self.gates.len() == 1 { None } else { self.lock(shard).pop_front() }
    }

    /// Let all reactors stop.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        (0..self.gates.len()).for_each(|shard| self.shared.bell(shard).ring());
    }

    pub(super) fn are_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

/// However a shard ends, the others end with it.
struct StopsAll(Arc<Gates>);

impl Drop for StopsAll {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Serve with all reactors of a server, until a signal asks to stop or one of them fails: the first in this
/// thread, each other in its own.
pub fn run_all(reactors: Vec<Reactor>) -> io::Result<()> {
    let mut reactors = reactors.into_iter();
    let Some(first) = reactors.next() else { return Ok(()) };
    let gates = Arc::clone(&first.gates);
    run_together(&gates, || first.run(), reactors.map(|reactor| || reactor.run()))
}

fn run_together<R>(
    gates: &Arc<Gates>,
    first: impl FnOnce() -> io::Result<()>,
    others: impl Iterator<Item = R>,
) -> io::Result<()>
where
    R: FnOnce() -> io::Result<()> + Send + 'static,
{
    let stops_all = StopsAll(Arc::clone(gates));
    let threads = others.zip(1..).map(|(run, number)| {
        let stops_all = StopsAll(Arc::clone(gates));
        thread::Builder::new().name(format!("shard{number}")).spawn(move || {
            let _stops_all = stops_all;
            run()
        })
    });
    let threads: Vec<_> = threads.collect::<io::Result<_>>()?;
    let mut result = first();
    drop(stops_all);
    for thread in threads {
        let of_thread = thread.join().unwrap_or_else(|_| Err(io::Error::other("a shard's thread panicked")));
        result = result.and(of_thread);
    }
    result
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::Settings;
    use crate::tags::{TagSettings, Tags};

    /// What engines share that serve nobody.
    pub(in crate::reactor) fn shared(shards: usize) -> Arc<Shared> {
        let settings = Settings {
            name: "test".to_owned(),
            max_connections: 1,
            max_subscriptions: 1,
            max_udp_peers: 1,
            buffer_memory: 0,
            trace_memory: 0,
            write_stall: std::time::Duration::MAX,
            listeners: Vec::new(),
            memory_probe: || 0,
        };
        let tags = Tags::new(TagSettings::default(), Vec::new(), shards);
        Shared::new(settings, Arc::new(tags))
    }

    /// A shard that serves until all are to stop.
    fn serve(gates: &Gates) -> io::Result<()> {
        while !gates.are_stopping() {
            thread::yield_now();
        }
        Ok(())
    }

    /// What becomes of a server of which one shard ends like that.
    fn ends(end: fn() -> io::Result<()>) -> io::Result<()> {
        let gates = Gates::new(&shared(3));
        let [first, third] = [Arc::clone(&gates), Arc::clone(&gates)];
        let others: [Box<dyn FnOnce() -> io::Result<()> + Send>; 2] =
            [Box::new(end), Box::new(move || serve(&third))];
        run_together(&gates, || serve(&first), others.into_iter())
    }

    #[test]
    fn a_shard_that_ends_ends_the_server() {
        assert!(ends(|| Ok(())).is_ok());
        assert_eq!(ends(|| Err(io::ErrorKind::Other.into())).unwrap_err().kind(), io::ErrorKind::Other);
        assert!(ends(|| panic!("a bug")).is_err());
    }
}
