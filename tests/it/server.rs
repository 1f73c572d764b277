//! A server process of one test: started on free ports, watched through `/proc`, killed when dropped.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Signal};
use socket2::{Domain, Socket, Type};

use crate::client::Client;

/// No wait of any test is longer. Far above what a loaded machine needs: it only turns a hang into a failure.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition that has no event of its own is looked at again.
const POLL: Duration = Duration::from_millis(5);

const LINE: &str = "line://127.0.0.1:0";

/// What becomes of the server's stderr.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stderr {
    /// Collected, and shown when the test fails.
    Kept,
    /// A pipe whose reading end is gone.
    Closed,
    /// A pipe that nobody reads.
    Stalled,
    /// A disk on which there is no room.
    Full,
}

/// How to start a server. `Server::build().config(…).start()`.
pub struct Builder {
    config: String,
    listen: Vec<String>,
    log: Option<&'static str>,
    ulimit: Option<&'static str>,
    environment: Vec<(&'static str, String)>,
    stderr: Stderr,
}

impl Builder {
    /// The text of the configuration file. If it has no `[[listen]]`, the server gets one `line` listener.
    pub fn config(mut self, text: &str) -> Builder {
        self.config = text.to_owned();
        self
    }

    /// One more `--listen`, instead of the `line` listener that a server gets otherwise.
    pub fn listen(mut self, url: &str) -> Builder {
        self.listen.push(url.to_owned());
        self
    }

    pub fn log(mut self, level: &'static str) -> Builder {
        self.log = Some(level);
        self
    }

    /// Options of the shell's `ulimit` under which the server is executed.
    pub fn ulimit(mut self, options: &'static str) -> Builder {
        self.ulimit = Some(options);
        self
    }

    /// One more variable of its environment.
    pub fn variable(mut self, name: &'static str, value: impl Into<String>) -> Builder {
        self.environment.push((name, value.into()));
        self
    }

    pub fn stderr(mut self, stderr: Stderr) -> Builder {
        self.stderr = stderr;
        self
    }

    /// Start it, and wait until it has said where it listens.
    pub fn start(mut self) -> Server {
        let dir = Folder::new();
        let configured = self.config.matches("[[listen]]").count();
        if configured == 0 && self.listen.is_empty() {
            self.listen.push(LINE.to_owned());
        }
        let mut args = vec!["serve".to_owned()];
        if !self.config.is_empty() {
            args.extend([
                "--config".to_owned(),
                dir.write("lumina.toml", &self.config).display().to_string(),
            ]);
        }
        for url in &self.listen {
            args.extend(["--listen".to_owned(), url.clone()]);
        }
        if let Some(level) = self.log {
            args.extend(["--log".to_owned(), level.to_owned()]);
        }
        // All tests are to pass whatever the number of shards: LUMINA_SHARDS=2 cargo test --test it
        if let Ok(shards) = std::env::var("LUMINA_SHARDS") {
            args.extend(["--shards".to_owned(), shards]);
        }

        let mut child = command(self.ulimit)
            .args(&args)
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(match self.stderr {
                Stderr::Full => File::options().write(true).open("/dev/full").expect("Linux has it").into(),
                _ => Stdio::piped(),
            })
            .spawn()
            .expect("the lumina executable starts");
        let stdout = lines_of(child.stdout.take().expect("stdout is piped"));
        let pipe = child.stderr.take();
        let mut server =
            Server { child, addrs: Vec::new(), stderr: Arc::default(), stalled: None, _dir: dir };
        match self.stderr {
            Stderr::Kept => server.stderr = collect(pipe.expect("stderr is piped")),
            Stderr::Closed | Stderr::Full => drop(pipe),
            Stderr::Stalled => server.stalled = pipe,
        }
        while server.addrs.len() < configured + self.listen.len() {
            let Ok(line) = stdout.recv_timeout(DEADLINE) else {
                panic!("the server did not say where it listens; {:?}", server.child.try_wait());
            };
            server.addrs.extend(listening_on(&line));
        }
        server
    }
}

/// A running server.
pub struct Server {
    child: Child,
    addrs: Vec<SocketAddr>,
    stderr: Arc<Mutex<Vec<u8>>>,
    /// Held, so that the pipe of [`Stderr::Stalled`] stays open.
    stalled: Option<ChildStderr>,
    _dir: Folder,
}

impl Server {
    /// A server with one `line` listener and no configuration.
    pub fn start() -> Server {
        Server::build().start()
    }

    /// A server with this configuration.
    pub fn with(config: &str) -> Server {
        Server::build().config(config).start()
    }

    pub fn build() -> Builder {
        raise_descriptor_limit();
        Builder {
            config: String::new(),
            listen: Vec::new(),
            log: None,
            ulimit: None,
            environment: Vec::new(),
            stderr: Stderr::Kept,
        }
    }

    /// Where the listener number `index` was bound, in the order in which the server named them.
    pub fn addr(&self, index: usize) -> SocketAddr {
        self.addrs[index]
    }

    /// A new connection to the first listener.
    pub fn client(&self) -> Client {
        Client::connect(self.addrs[0])
    }

    pub fn clients(&self, count: usize) -> Vec<Client> {
        (0..count).map(|_| self.client()).collect()
    }

    /// Create tags that take some sixty bytes in a reply, by a connection that leaves.
    pub fn fill(&self, tags: usize) {
        let name = |number| format!("plant/production-hall/machine/sensor-{number:06}");
        self.client().ok_all((0..tags).map(|number| format!("SET {} {number} good {number}", name(number))));
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("the server is there to be signalled");
    }

    /// Stop the server and wait until the kernel says so of each thread: `SIGSTOP` takes effect a little
    /// later.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        until("the server is stopped", || {
            let mut tasks = fs::read_dir(self.proc_path("task")).expect("the server is running");
            tasks.all(|task| {
                let stat = task.expect("a thread's folder").path().join("stat");
                fs::read_to_string(stat).expect("a thread of the server stays").contains(") T ")
            })
        });
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// The status with which the server ended, or a failure when it does not end.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        wait(&mut self.child).expect("the server ends")
    }

    /// What the server has written to stderr so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().expect("the collecting thread never panics")).into_owned()
    }

    /// How much waits in the pipe of [`Stderr::Stalled`].
    pub fn stalled_bytes(&self) -> u64 {
        let pipe = self.stalled.as_ref().expect("a server that was started with a stalled stderr");
        rustix::io::ioctl_fionread(pipe).expect("a pipe knows what it holds")
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        self.descriptor_numbers().len()
    }

    /// Its open descriptors. There may be gaps, and high numbers that it inherited.
    pub fn descriptor_numbers(&self) -> BTreeSet<u64> {
        let entries = fs::read_dir(self.proc_path("fd")).expect("the server is running");
        let names = entries.map(|entry| entry.expect("a descriptor's entry").file_name());
        names.map(|name| name.to_str().and_then(|name| name.parse().ok()).expect("a number")).collect()
    }

    /// Its resident anonymous memory in KiB: what it allocated and touched, without its executable.
    pub fn anonymous_kib(&self) -> u64 {
        number_after(&self.proc("status"), "RssAnon:")
    }

    /// Processor time that it used, in hundredths of a second.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = self.proc("stat");
        // The name in brackets may hold anything; user and system time are fields 14 and 15 of proc(5).
        let after_name = stat.rsplit_once(") ").expect("stat has a name in brackets").1;
        after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a count")).sum()
    }

    /// How often its threads went to sleep of their own accord, which is how often they woke up.
    pub fn wake_ups(&self) -> u64 {
        let tasks = fs::read_dir(self.proc_path("task")).expect("the server is running");
        tasks
            .map(|task| {
                let path = task.expect("a thread's folder").path().join("status");
                number_after(&fs::read_to_string(path).unwrap_or_default(), "voluntary_ctxt_switches:")
            })
            .sum()
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(self.proc_path(file)).expect("the server is running")
    }

    fn proc_path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            let stderr = self.stderr();
            let from = stderr.char_indices().rev().nth(8000).map_or(0, |(at, _)| at);
            eprintln!("--- status {:?}, stderr:\n{}---", self.child.try_wait(), &stderr[from..]);
        }
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run of `lumina` that ends by itself left behind.
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Run `lumina` with these arguments in `dir` and wait for its end. It is killed if there is none.
pub fn run(dir: &Folder, args: &[&str]) -> Outcome {
    let mut child = command(None)
        .args(args)
        .current_dir(&dir.path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the lumina executable starts");
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let readers =
        [thread::spawn(move || read_to_end(&mut stdout)), thread::spawn(move || read_to_end(&mut stderr))];
    let status = wait(&mut child);
    if status.is_none() {
        child.kill().expect("a child that runs can be killed");
        child.wait().expect("a child can be waited for");
    }
    let [stdout, stderr] = readers.map(|reader| reader.join().expect("reading a pipe does not panic"));
    let status = status.unwrap_or_else(|| panic!("lumina {args:?} did not end\n{stdout}\n{stderr}"));
    Outcome { code: status.code(), stdout, stderr }
}

/// A folder of one test, removed with it.
pub struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("the target folder can be written");
        Folder { path }
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, text).expect("the target folder can be written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays is a nuisance, not a failure.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Look at `condition` until it holds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "it never came to pass that {what}");
        thread::sleep(POLL);
    }
}

/// An address of this machine at which nobody listens, and nobody else will while the socket is kept.
pub fn nobody() -> (Socket, SocketAddr) {
    let reserved = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // Whoever knows the address may listen there nevertheless.
    reserved.set_reuse_address(true).expect("an option");
    reserved.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let addr = reserved.local_addr().ok().and_then(|addr| addr.as_socket()).expect("it is bound");
    (reserved, addr)
}

/// Some tests need thousands of descriptors; the usual soft limit is 1024 and the hard one far higher.
fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(Resource::Nofile, limit).expect("the soft limit may rise to the hard one");
}

/// `LUMINA_UNDER_TEST` names another executable, such as a build for another machine in an emulator.
fn command(ulimit: Option<&str>) -> Command {
    let lumina = std::env::var("LUMINA_UNDER_TEST");
    let lumina = lumina.as_deref().unwrap_or(env!("CARGO_BIN_EXE_lumina"));
    let Some(options) = ulimit else { return Command::new(lumina) };
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit {options} && exec \"$0\" \"$@\""), lumina]);
    shell
}

/// `listening on line://127.0.0.1:40123` → that address.
fn listening_on(line: &str) -> Option<SocketAddr> {
    let url = line.split_once("listening on ")?.1.split(' ').next()?;
    let (_, addr) = url.split_once("://").unwrap_or_else(|| panic!("no URL in {line:?}"));
    Some(addr.parse().unwrap_or_else(|error| panic!("{error} in {line:?}")))
}

/// The status with which a process ended, or `None` if it does not end.
pub fn wait(child: &mut Child) -> Option<ExitStatus> {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        thread::sleep(POLL);
    }
    None
}

/// The lines of a pipe as they come, read to its end so that the writer never blocks.
pub fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // The test may have stopped listening; the pipe is read on all the same.
            let _ = sender.send(line);
        }
    });
    receiver
}

fn collect(mut pipe: ChildStderr) -> Arc<Mutex<Vec<u8>>> {
    let text = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&text);
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            shared.lock().expect("nobody panics while holding it").extend_from_slice(&chunk[..count]);
        }
    });
    text
}

fn read_to_end(pipe: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).expect("a pipe can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn number_after(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
