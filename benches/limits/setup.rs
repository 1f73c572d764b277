//! What a run has to work with, and how its servers are started.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use super::Outcome;
use super::compare::Plan;
use super::load::Fleet;
use super::modbus::Masters;
use super::mqtt::Messages;
use super::server::{Cores, Server};
use super::talk::{SetGet, Talk, Tongue};

/// Lumina's configuration for all figures but those of a fresh server, up to the listener: as many tags and
/// connections as any needs.
const CONFIGURATION: &str = "[server]
max_tags = 1100000
max_connections = 19500

[[listen]]
";

/// The interpreter gets it whole, so that this program needs no file of the sources when it runs.
const PYMODBUS_SERVER: &str = include_str!("../peers/pymodbus_server.py");
const THREAD_ECHO: &str = include_str!("../peers/thread_echo.py");

/// What is measured or held against it: a server and how it is spoken to.
#[derive(Clone, Copy, PartialEq)]
pub enum Peer {
    /// Lumina, by the protocol of its listener.
    Line,
    Echo,
    Modbus,
    BareEcho,
    ThreadEcho,
    Redis,
    Mosquitto,
    Libmodbus,
    Pymodbus,
}

impl Peer {
    const ALL: [(Peer, &str); 9] = [
        (Peer::Line, "lumina-line"),
        (Peer::Echo, "lumina-echo"),
        (Peer::Modbus, "lumina-modbus"),
        (Peer::BareEcho, "bare-echo"),
        (Peer::ThreadEcho, "thread-echo"),
        (Peer::Redis, "redis"),
        (Peer::Mosquitto, "mosquitto"),
        (Peer::Libmodbus, "libmodbus"),
        (Peer::Pymodbus, "pymodbus"),
    ];

    /// In results, and between processes.
    pub fn name(self) -> &'static str {
        Peer::ALL.iter().find(|(peer, _)| *peer == self).expect("all are there").1
    }

    pub fn named(name: &str) -> Option<Peer> {
        Some(Peer::ALL.iter().find(|(_, known)| *known == name)?.0)
    }
}

pub struct Setup {
    pub cores: Cores,
    pub programs: Programs,
    /// A folder of our own for configurations and logs; removed at the end.
    pub work: PathBuf,
    /// How many this process, and each server, may have.
    pub descriptors: u64,
    pub plan: Plan,
    /// Print each pair of windows to standard error.
    pub trace: bool,
    pub contention: Contention,
}

impl Setup {
    /// A figure is skipped where one of its servers is not there.
    pub fn has(&self, peers: &[Peer]) -> bool {
        peers.iter().all(|&peer| self.programs.of(peer).is_some())
    }

    pub fn serve(&self, peer: Peer) -> Outcome<Server> {
        self.serve_on(&self.cores, peer)
    }

    pub fn serve_on(&self, cores: &Cores, peer: Peer) -> Outcome<Server> {
        let program = self.programs.of(peer).expect("a figure looks for its servers before it starts them");
        match peer {
            Peer::Line => self.serve_lumina(cores, program, "line", &[]),
            Peer::Echo => self.serve_lumina(cores, program, "echo", &[]),
            Peer::Modbus => self.serve_lumina(cores, program, "modbus", &[]),
            Peer::BareEcho => Server::peer(cores, program, &["127.0.0.1:0"], &self.work),
            Peer::ThreadEcho => Server::peer(cores, program, &["-c", THREAD_ECHO], &self.work),
            Peer::Redis => Server::redis(cores, program, &self.work),
            Peer::Mosquitto => Server::mosquitto(cores, program, &self.work),
            Peer::Libmodbus => Server::peer(cores, program, &[], &self.work),
            Peer::Pymodbus => Server::peer(cores, program, &["-c", PYMODBUS_SERVER], &self.work),
        }
    }

    /// The bare program that writes what comes to all others.
    pub fn serve_bare_fan_out(&self) -> Outcome<Server> {
        let program = self.programs.of(Peer::BareEcho).expect("a figure looks for its servers first");
        Server::peer(&self.cores, program, &["127.0.0.1:0", "fan-out"], &self.work)
    }

    /// Lumina with so many shards.
    pub fn serve_sharded(&self, cores: &Cores, shards: usize) -> Outcome<Server> {
        let program = self.programs.of(Peer::Line).expect("a figure looks for its servers first");
        self.serve_lumina(cores, program, "line", &["--shards", &shards.to_string()])
    }

    fn serve_lumina(&self, cores: &Cores, program: &Path, scheme: &str, options: &[&str]) -> Outcome<Server> {
        let file = self.work.join("lumina.toml");
        fs::write(&file, format!("{CONFIGURATION}url = \"{scheme}://127.0.0.1:0\"\n"))?;
        let file = file.to_str().ok_or("the folder for temporary files is not named in UTF-8")?;
        Server::lumina(cores, program, &[&["--config", file], options].concat(), &self.work)
    }

    /// Connects so many to a server, each with `batch` operations in flight once it is under load.
    pub fn connect(&self, server: &Server, peer: Peer, connections: usize, batch: usize) -> Outcome<Fleet> {
        self.connect_saying(server, connections, talk(peer, batch))
    }

    /// The same, with something else to say.
    pub fn connect_saying(&self, server: &Server, connections: usize, talk: Box<dyn Talk>) -> Outcome<Fleet> {
        Fleet::connect(server.address, connections, talk, self.cores.apart)
    }
}

/// What is said to it, with so many operations in flight on each connection.
pub fn talk(peer: Peer, batch: usize) -> Box<dyn Talk> {
    match peer {
        Peer::Line => Box::new(SetGet::new(Tongue::Line, batch)),
        Peer::Echo | Peer::ThreadEcho => Box::new(SetGet::new(Tongue::Echo("Echo: "), batch)),
        Peer::BareEcho => Box::new(SetGet::new(Tongue::Echo(""), batch)),
        Peer::Redis => Box::new(SetGet::new(Tongue::Resp, batch)),
        Peer::Mosquitto => Box::new(Messages::new(batch)),
        Peer::Modbus | Peer::Libmodbus | Peer::Pymodbus => {
            assert_eq!(batch, 1, "a master waits for its reply");
            Box::new(Masters::default())
        }
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.work);
    }
}

/// Where the servers are, as far as they are there.
pub struct Programs {
    pub lumina: Option<PathBuf>,
    pub bare: Option<PathBuf>,
    pub redis: Option<PathBuf>,
    pub mosquitto: Option<PathBuf>,
    pub libmodbus: Option<PathBuf>,
    /// The interpreter that runs the echo with threads; it needs no packages.
    pub python: Option<PathBuf>,
    /// The interpreter that has the package.
    pub pymodbus: Option<PathBuf>,
    /// No server, but what does the work of one that polls.
    pub poller: Option<PathBuf>,
}

impl Programs {
    fn of(&self, peer: Peer) -> Option<&Path> {
        let program = match peer {
            Peer::Line | Peer::Echo | Peer::Modbus => &self.lumina,
            Peer::BareEcho => &self.bare,
            Peer::ThreadEcho => &self.python,
            Peer::Redis => &self.redis,
            Peer::Mosquitto => &self.mosquitto,
            Peer::Libmodbus => &self.libmodbus,
            Peer::Pymodbus => &self.pymodbus,
        };
        program.as_deref()
    }
}

/// How long the servers waited for their core, which somebody else had, against how long they had it.
#[derive(Default)]
pub struct Contention {
    waited_ns: Cell<u64>,
    ran_ns: Cell<u64>,
}

impl Contention {
    pub fn add(&self, waited_ns: u64, ran_ns: u64) {
        self.waited_ns.set(self.waited_ns.get() + waited_ns);
        self.ran_ns.set(self.ran_ns.get() + ran_ns);
    }

    /// Of the time in which they wanted to run.
    pub fn percent(&self) -> u64 {
        100 * self.waited_ns.get() / (self.waited_ns.get() + self.ran_ns.get()).max(1)
    }
}
