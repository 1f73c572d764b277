//! A server under measurement: a child process on a core of its own, and what the kernel knows about it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{Outcome, watch};

const START_LIMIT: Duration = Duration::from_secs(60);

/// One core for the server, another for the driver.
pub struct Cores {
    pub driver: CpuSet,
    server: CpuSet,
    all: CpuSet,
    pub apart: bool,
}

impl Cores {
    /// The driver takes the first core that we may use, where most machines also deal with their interrupts;
    /// the server takes the last.
    pub fn split() -> Outcome<Cores> {
        let allowed = sched_getaffinity(None)?;
        let mut all = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let first = all.next().ok_or("no core to run on")?;
        let last = all.next_back().unwrap_or(first);
        let (driver, server) = (set_of(&[first]), set_of(&[last]));
        let cores = Cores { driver, server, all: allowed, apart: first != last };
        sched_setaffinity(None, &cores.driver)?;
        Ok(cores)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        (0..CpuSet::MAX_CPU).filter(|&core| self.all.is_set(core)).count()
    }

    /// For what an operation costs a server of several shards. Where there are only two cores, the load needs
    /// one of them, and a shard there would pay for what the load does to its caches: then both have the
    /// other core.
    pub fn of_shards(&self) -> Cores {
        let all = self.shared();
        if self.count() > 2 { all } else { Cores { server: self.server, apart: self.apart, ..all } }
    }

    /// The same for a server that uses all of them, also the driver's.
    pub fn shared(&self) -> Cores {
        Cores { driver: self.driver, server: self.all, all: self.all, apart: false }
    }

    /// For how much a server of so many shards can do: cores for its shards that it shares with nobody, and
    /// one for each of at most `loads` threads of load, as far as there are cores. `None`: too few.
    pub fn for_throughput(&self, shards: usize, loads: usize) -> Option<(Cores, Vec<CpuSet>)> {
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| self.all.is_set(core)).collect();
        let loads = loads.min(cores.len().checked_sub(shards)?);
        let (of_loads, of_shards) = cores.split_at(loads);
        let of_loads: Vec<CpuSet> = of_loads.iter().map(|&core| set_of(&[core])).collect();
        let first = *of_loads.first()?;
        Some((Cores { driver: first, server: set_of(of_shards), all: self.all, apart: true }, of_loads))
    }

    /// Starts a child on the server's core. It inherits the core from us, so all of its threads have it from
    /// their first instruction, and its start is not slowed by a `taskset` between us.
    fn spawn(&self, command: &mut Command) -> Outcome<Child> {
        sched_setaffinity(None, &self.server)?;
        let child = watch::spawn(command);
        sched_setaffinity(None, &self.driver)?;
        Ok(child.map_err(|e| format!("cannot start {:?}: {e}", command.get_program()))?)
    }
}

fn set_of(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    cores.iter().for_each(|&core| set.set(core));
    set
}

/// Killed when it is dropped.
pub struct Server {
    child: Child,
    /// Kept: a server whose standard output is gone may take it for a reason to end.
    _stdout: ChildStdout,
    /// What it says on standard error.
    log: PathBuf,
    pub address: SocketAddr,
    /// From just before it was spawned to the line that says that it listens.
    pub start: Duration,
}

/// What a server has used so far.
#[derive(Clone, Copy)]
pub struct Usage {
    pub cpu_ns: u64,
    /// Ready to run, but its core was somebody else's.
    pub waited_ns: u64,
    /// How often it was put on its core: the number of its wake-ups, when nobody else is there.
    pub turns: u64,
}

#[derive(Clone, Copy)]
pub struct Memory {
    pub resident: u64,
    pub anonymous: u64,
}

impl Server {
    pub fn lumina(cores: &Cores, program: &Path, arguments: &[&str], work: &Path) -> Outcome<Server> {
        let mut command = Command::new(program);
        command.arg("serve").args(arguments);
        Server::start(cores, command, work, |line| {
            let address = line.split_once("listening on ")?.1.split_once("://")?.1;
            let end = address.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)));
            address[..end.unwrap_or(address.len())].trim_end_matches(['.', ':']).parse().ok()
        })
    }

    /// One of our own programs (`benches/bare_echo.rs`, `benches/peers`), whose only line is its address.
    pub fn peer(cores: &Cores, program: &Path, arguments: &[&str], work: &Path) -> Outcome<Server> {
        let mut command = Command::new(program);
        command.args(arguments);
        Server::start(cores, command, work, |line| line.trim().parse().ok())
    }

    pub fn redis(cores: &Cores, program: &Path, work: &Path) -> Outcome<Server> {
        // Redis takes port 0 for “no TCP”: find a free one. Somebody may take it meanwhile; then Redis says
        // so.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let port = address.port().to_string();
        let mut command = Command::new(program);
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        // Protected mode knows no loopback address but 127.0.0.1, and our connections come from others.
        command.args(["--protected-mode", "no", "--io-threads", "1", "--daemonize", "no", "--dir"]).arg(work);
        Server::start(cores, command, work, move |line| line.contains("Ready to accept").then_some(address))
    }

    pub fn mosquitto(cores: &Cores, program: &Path, work: &Path) -> Outcome<Server> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let file = work.join("mosquitto.conf");
        // It tells of each connection otherwise, and lets a small message wait for the reply to the one
        // before.
        let quiet = "log_dest stderr\nlog_type information\nconnection_messages false\nset_tcp_nodelay true";
        let open = format!("listener {} 127.0.0.1\nallow_anonymous true\npersistence false", address.port());
        fs::write(&file, format!("{open}\n{quiet}\n"))?;
        // What it says on standard output waits in a buffer.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" -c \"$1\" 2>&1"]).arg(program).arg(file);
        let running = |line: &str| line.contains(" version ") && line.ends_with(" running");
        Server::start(cores, command, work, move |line| running(line).then_some(address))
    }

    fn start(
        cores: &Cores,
        mut command: Command,
        work: &Path,
        address_in: impl Fn(&str) -> Option<SocketAddr>,
    ) -> Outcome<Server> {
        let log = work.join("stderr");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let begin = Instant::now();
        let mut child = cores.spawn(&mut command)?;
        let mut stdout = child.stdout.take().expect("standard output was asked for as a pipe");
        match wait_for_line(&mut stdout, begin + START_LIMIT, address_in) {
            Ok(address) => Ok(Server { child, _stdout: stdout, log, address, start: begin.elapsed() }),
            Err(said) => {
                watch::end(&mut child);
                let log = fs::read_to_string(&log).unwrap_or_default();
                let name = command.get_program().to_string_lossy().into_owned();
                Err(format!("{name} did not say where it listens: {said}{log}").into())
            }
        }
    }

    /// The last whole line on its standard error.
    pub fn last_said(&self) -> Outcome<String> {
        let text = fs::read_to_string(&self.log)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Ok(whole.lines().next_back().unwrap_or_default().to_owned())
    }

    /// CPU time of all its threads. Exact while the server sleeps; else up to a scheduler tick (4 ms) old.
    pub fn usage(&self) -> Outcome<Usage> {
        let mut usage = Usage { cpu_ns: 0, waited_ns: 0, turns: 0 };
        for task in fs::read_dir(self.proc("task"))? {
            let Some([cpu_ns, waited_ns, turns]) = schedstat(&task?.path().join("schedstat"))? else {
                // A thread that has just ended; where that happens, `settle` comes before what is measured.
                continue;
            };
            usage.cpu_ns += cpu_ns;
            usage.waited_ns += waited_ns;
            usage.turns += turns;
        }
        match usage.cpu_ns {
            0 => Err("this kernel keeps no schedstat; the figures need it".into()),
            _ => Ok(usage),
        }
    }

    /// From `smaps_rollup`, which walks the pages; the sums in `status` may be some hundred KiB off.
    pub fn memory(&self) -> Outcome<Memory> {
        let text = fs::read_to_string(self.proc("smaps_rollup"))?;
        let bytes = |key: &str| -> Outcome<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            Ok(kib.ok_or_else(|| format!("smaps_rollup has no {key}"))? * 1024)
        };
        Ok(Memory { resident: bytes("Rss:")?, anonymous: bytes("Anonymous:")? })
    }

    /// Waits until it has nothing more to do, such as closing what the last load left.
    pub fn settle(&self) -> Outcome<()> {
        const QUIET_NS: u64 = 300_000;
        const STEP: Duration = Duration::from_millis(30);
        const STEPS: usize = 2_000;
        let mut before = self.usage()?.cpu_ns;
        for _ in 0..STEPS {
            thread::sleep(STEP);
            let now = self.usage()?.cpu_ns;
            // It is less where threads have ended.
            if now.abs_diff(before) < QUIET_NS {
                return Ok(());
            }
            before = now;
        }
        Err("the server does not come to rest without a load".into())
    }

    fn proc(&self, entry: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{entry}", self.child.id()))
    }
}

/// Nanoseconds on a core, nanoseconds ready but not on it, and how often it was put there
/// (`Documentation/scheduler/sched-stats.rst` of the kernel). Nothing, if the thread is no more.
fn schedstat(file: &Path) -> Outcome<Option<[u64; 3]>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error)
            if error.kind() == ErrorKind::NotFound
                || error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let mut fields = text.split_whitespace().map_while(|field| field.parse().ok());
    let mut next = || fields.next().ok_or_else(|| format!("{} has not three numbers", file.display()));
    Ok(Some([next()?, next()?, next()?]))
}

impl Drop for Server {
    fn drop(&mut self) {
        watch::end(&mut self.child);
    }
}

/// Reads lines until `address_in` finds the address in one; an error is what was said instead.
pub fn wait_for_line<T>(
    stdout: &mut (impl AsFd + Read),
    deadline: Instant,
    address_in: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = left.try_into().expect("seconds fit a timespec");
        let ready = poll(&mut [PollFd::new(&*stdout, PollFlags::IN)], Some(&left));
        let count = match ready {
            Ok(0) => 0,
            Ok(_) => stdout.read(&mut chunk).unwrap_or(0),
            Err(_) => continue,
        };
        said.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&said);
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        if let Some(found) = whole.lines().find_map(&address_in) {
            return Ok(found);
        }
        if count == 0 {
            return Err(text.into_owned());
        }
    }
}
