//! Thousands of Modbus devices that are polled: how old their points are, what that costs, and how long a
//! write takes meanwhile.
//!
//! The slaves are `lumina simulate` on the driver's core, and answer at once. Nothing is taken from what the
//! server says of itself or is configured to do: the points are read over the line protocol, and their time
//! is held against the server's clock.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::compare::median;
use super::report::{self, MIB, Row};
use super::server::{Server, wait_for_line};
use super::setup::Setup;
use super::{Outcome, watch};

/// Of each device, all of them each second.
const TAGS: usize = 20;
const SILENT_PERCENT: usize = 5;
/// The register and tag of each device that is written to.
const SETPOINT: usize = 3;
/// The slaves have a listener and a connection each, and a second one while a connection is made anew.
const SLAVE_DESCRIPTORS: u64 = 3;

/// So that readings meet all parts of the second in turn, and none of two samples of a point is overlooked.
const BETWEEN_READINGS: Duration = Duration::from_millis(700);
const BETWEEN_WRITES: Duration = Duration::from_millis(5);
/// Requests in one write: their replies fit a socket buffer, so neither side can block.
const BATCH: usize = 500;
/// Of processor time; as long as each device's turn takes, so that there is the same to do in each.
const SLICE: Duration = Duration::from_secs(1);
const REPLY_LIMIT: Duration = Duration::from_secs(60);
const START_LIMIT: Duration = Duration::from_secs(60);
/// By then each healthy device has a value, also on a machine that has much else to do.
const VALUES_LIMIT: Duration = Duration::from_secs(60);

/// How much of it.
pub struct Polling {
    pub devices: usize,
    /// Until everything is connected, silent devices are known as such and the recorder is full.
    pub warm_up: Duration,
    pub slices: usize,
    pub readings: usize,
    pub writes: usize,
}

pub fn polling(setup: &Setup) -> Outcome<Vec<Row>> {
    let plan = &setup.plan.polling;
    let devices = plan.devices;
    let load = format!("{devices} devices × {TAGS} tags each second, {SILENT_PERCENT} % silent");
    let age = format!("{load}: age of each healthy point, p99");
    let even = format!("{load}: that age against the one with none silent");
    let cpu = format!("{load}: server CPU against a task for each device on tokio-modbus");
    let memory = format!("{load}: resident");
    let write = format!("{load}: a write to a healthy device, p99 over that of one past the server");
    let Some(program) = &setup.programs.lumina else {
        let all = [age, even, cpu, memory, write];
        return Ok(all.iter().map(|figure| Row::skipped(figure, "needs --lumina")).collect());
    };
    if setup.descriptors < SLAVE_DESCRIPTORS * devices as u64 + 1_000 {
        let why = format!("{SLAVE_DESCRIPTORS} descriptors for each device");
        let all = [age, even, cpu, memory, write];
        return Ok(all.iter().map(|figure| Row::skipped(figure, &why)).collect());
    }

    let whole = {
        let slaves = Slaves::start(program, setup, devices, 0)?;
        let server = slaves.poll_from(program, setup)?;
        warm_up(&server, plan, 0)?;
        read_all(&server, plan, 0)?
    };
    let slaves = Slaves::start(program, setup, devices, SILENT_PERCENT)?;
    let (ours, ours_percent, resident, took) = {
        let server = slaves.poll_from(program, setup)?;
        warm_up(&server, plan, SILENT_PERCENT)?;
        let percent = cpu_percent(setup, &server)?;
        let read = read_all(&server, plan, SILENT_PERCENT)?;
        let took = write_some(&server, &slaves, plan, &read.healthy)?;
        // Last, when it has served all of that.
        (read, percent, server.memory()?.resident as f64, took)
    };
    let poller = match &setup.programs.poller {
        Some(poller) => Some(Poller::measure(setup, poller, &slaves)?),
        None => None,
    };

    let ratio = ours.p99_ms / whole.p99_ms;
    let against =
        format!("{} against {}", report::milliseconds(ours.p99_ms), report::milliseconds(whole.p99_ms));
    let cpu = match &poller {
        Some(poller) => {
            let ratio = ours_percent / poller.percent;
            Row::at_most(&cpu, ratio, 1.2, report::times).made_of(format!(
                "{ours_percent:.1} % of a core against {:.1} % for {:.0} answers a second",
                poller.percent, poller.answers
            ))
        }
        None => Row::skipped(&cpu, &format!("needs --poller; {ours_percent:.1} % of a core")),
    };
    let beside = poller
        .map_or("it alone".to_owned(), |poller| format!("that poller {}", report::bytes(poller.resident)));
    let write_detail = format!(
        "{} against {}, a PING {}; median {}, longest {}, of {}",
        report::milliseconds(took.p99_ms),
        report::milliseconds(took.direct_p99_ms),
        report::milliseconds(took.ping_p99_ms),
        report::milliseconds(took.median_ms),
        report::milliseconds(took.longest_ms),
        plan.writes
    );
    Ok(vec![
        Row::at_most(&age, ours.p99_ms, 1_200.0, report::milliseconds).made_of(ours.told()),
        Row::even(&even, ratio, 0.05).made_of(against),
        cpu,
        Row::at_most(&memory, resident, 48.0 * MIB, report::bytes).made_of(beside),
        Row::at_most(&write, took.p99_ms - took.direct_p99_ms, 5.0, report::milliseconds)
            .made_of(write_detail),
    ])
}

/// A process of its own. Killed when it is dropped.
pub struct Slaves {
    child: Child,
    /// Kept: it says there what goes wrong.
    _stderr: ChildStderr,
    /// The first; the others are at the addresses that follow.
    first: SocketAddr,
    /// What polls all of them.
    configuration: String,
}

impl Slaves {
    pub fn start(program: &Path, setup: &Setup, devices: usize, silent_percent: usize) -> Outcome<Slaves> {
        let file = setup.work.join("polling.toml");
        let mut command = Command::new(program);
        command.args(["simulate", "--protocol", "modbus", "--secs", "0"]);
        command.args(["--devices", &devices.to_string(), "--tags", &TAGS.to_string()]);
        command.args(["--silent", &format!("{silent_percent}%"), "--configuration"]).arg(&file);
        command.arg("modbus://127.0.0.1:0").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = watch::spawn(&mut command)?;
        let mut stderr = child.stderr.take().expect("standard error was asked for as a pipe");
        let found = wait_for_line(&mut stderr, Instant::now() + START_LIMIT, |line| {
            line.split_once(" slaves at modbus://")?.1.split_whitespace().next()?.parse().ok()
        });
        let configuration = fs::read_to_string(&file).unwrap_or_default();
        match found {
            Ok(first) if !configuration.is_empty() => {
                Ok(Slaves { child, _stderr: stderr, first, configuration })
            }
            Ok(_) => {
                watch::end(&mut child);
                Err("the slaves came without a configuration that polls them".into())
            }
            Err(said) => {
                watch::end(&mut child);
                Err(format!("the slaves did not say where they are: {said}").into())
            }
        }
    }

    /// Writes to the register of one from here (*MODBUS Application Protocol V1.1b3* §6.6): its own latency.
    fn write_directly(&self, device: usize, value: u16) -> Outcome<Duration> {
        let IpAddr::V4(first) = self.first.ip() else {
            return Err("the slaves are not at IPv4 addresses".into());
        };
        let address = Ipv4Addr::from(u32::from(first) + device as u32 - 1);
        let mut stream = TcpStream::connect((address, self.first.port()))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_LIMIT))?;
        let [high, low] = value.to_be_bytes();
        let request = [0, 1, 0, 0, 0, 6, 1, 6, 0, SETPOINT as u8, high, low];
        let mut reply = [0; 12];
        let begin = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut reply)?;
        let took = begin.elapsed();
        match reply == request {
            true => Ok(took),
            false => Err(format!("{address}: to {request:02x?} it answered {reply:02x?}").into()),
        }
    }

    pub fn poll_from(&self, program: &Path, setup: &Setup) -> Outcome<Server> {
        let file = setup.work.join("lumina.toml");
        let listener = "[[listen]]\nurl = \"line://127.0.0.1:0\"\n";
        fs::write(&file, format!("{}\n{listener}", self.configuration))?;
        let file = file.to_str().ok_or("the folder for temporary files is not named in UTF-8")?;
        Server::lumina(&setup.cores, program, &["--config", file], &setup.work)
    }
}

impl Drop for Slaves {
    fn drop(&mut self) {
        watch::end(&mut self.child);
    }
}

/// What it is held against, polling the same slaves.
struct Poller {
    percent: f64,
    resident: f64,
    answers: f64,
}

impl Poller {
    fn measure(setup: &Setup, program: &Path, slaves: &Slaves) -> Outcome<Poller> {
        let plan = &setup.plan.polling;
        let arguments = [slaves.first.to_string(), plan.devices.to_string()];
        let server =
            Server::peer(&setup.cores, program, &arguments.each_ref().map(String::as_str), &setup.work)?;
        thread::sleep(plan.warm_up);
        let before = Poller::answered(&server)?;
        let percent = cpu_percent(setup, &server)?;
        let now = Poller::answered(&server)?;
        let answers = (now.0 - before.0) / (now.1 - before.1);
        Ok(Poller { percent, resident: server.memory()?.resident as f64, answers })
    }

    /// How many reads, in how many seconds.
    fn answered(server: &Server) -> Outcome<(f64, f64)> {
        let said = server.last_said()?;
        let (answers, seconds) = said.split_once(' ').ok_or("the poller does not count its answers")?;
        Ok((answers.parse()?, seconds.parse()?))
    }
}

/// The median second, in percent of a core: others who take the core for a moment make some seconds dearer.
fn cpu_percent(setup: &Setup, server: &Server) -> Outcome<f64> {
    let mut slices = Vec::new();
    let mut before = server.usage()?;
    for _ in 0..setup.plan.polling.slices {
        let begin = Instant::now();
        thread::sleep(SLICE);
        let now = server.usage()?;
        let percent = 100.0 * (now.cpu_ns - before.cpu_ns) as f64 / begin.elapsed().as_nanos() as f64;
        if setup.trace {
            eprintln!("limits: {percent:.2} % of a core");
        }
        setup.contention.add(now.waited_ns - before.waited_ns, now.cpu_ns - before.cpu_ns);
        slices.push(percent);
        before = now;
    }
    Ok(median(slices))
}

/// What several readings of all points have found.
struct Read {
    /// The devices that ever had a value.
    healthy: Vec<usize>,
    p99_ms: f64,
    median_ms: f64,
    /// Samples that were not there at the reading before, a second.
    fresh: f64,
    not_good: usize,
}

impl Read {
    fn told(&self) -> String {
        let points = self.healthy.len() * TAGS;
        let not_good = match self.not_good {
            0 => String::new(),
            some => format!(", {some} times one was not good"),
        };
        let median = report::milliseconds(self.median_ms);
        format!("median {median}; {points} points, {:.0} fresh samples a second{not_good}", self.fresh)
    }
}

/// For its time, and until each healthy device has a value.
fn warm_up(server: &Server, plan: &Polling, silent_percent: usize) -> Outcome<()> {
    let end = Instant::now() + VALUES_LIMIT;
    thread::sleep(plan.warm_up);
    let mut line = Line::connect(server.address)?;
    let mut points = Points::of(plan.devices);
    loop {
        points.read(&mut line)?;
        // Those that never get there are found by whoever reads all.
        if points.healthy().len() >= plan.healthy(silent_percent) || Instant::now() > end {
            return Ok(());
        }
        thread::sleep(BETWEEN_READINGS);
    }
}

impl Polling {
    fn healthy(&self, silent_percent: usize) -> usize {
        self.devices - self.devices * silent_percent / 100
    }
}

fn read_all(server: &Server, plan: &Polling, silent_percent: usize) -> Outcome<Read> {
    let mut line = Line::connect(server.address)?;
    let mut points = Points::of(plan.devices);
    let begin = Instant::now();
    let mut clock = Vec::new();
    for reading in 0..plan.readings {
        let due = begin + BETWEEN_READINGS * reading as u32;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        clock.push(points.read(&mut line)?);
        if reading == 0 {
            // Nobody knows how long they had been there.
            points.fresh = 0;
        }
    }
    let healthy = points.healthy();
    let expected = plan.healthy(silent_percent);
    if healthy.len() != expected {
        return Err(format!("{} devices have values, not {expected}", healthy.len()).into());
    }
    // A healthy point without a value is older than any.
    points.ages.resize(plan.readings * expected * TAGS, f64::INFINITY);
    let [median_ms, p99_ms, _] = quantiles(points.ages);
    let fresh = points.fresh as f64 / (clock[clock.len() - 1] - clock[0]) * 1_000.0;
    Ok(Read { healthy, p99_ms, median_ms, fresh, not_good: points.not_good })
}

/// All tags of all devices, and what was read of them.
struct Points {
    names: Vec<String>,
    /// The time of the newest sample of each; 0: none yet.
    newest: Vec<u64>,
    /// In milliseconds, of all that have a sample, at each reading.
    ages: Vec<f64>,
    fresh: usize,
    not_good: usize,
}

impl Points {
    fn of(devices: usize) -> Points {
        let names: Vec<String> =
            (1..=devices).flat_map(|device| (0..TAGS).map(move |tag| tag_name(device, tag))).collect();
        let newest = vec![0; names.len()];
        Points { names, newest, ages: Vec::new(), fresh: 0, not_good: 0 }
    }

    /// Returns when that was, on the server's clock in milliseconds: the middle of it.
    fn read(&mut self, line: &mut Line) -> Outcome<f64> {
        let mut times = Vec::new();
        for (names, newest) in self.names.chunks(BATCH).zip(self.newest.chunks_mut(BATCH)) {
            let mut request = String::new();
            names.iter().for_each(|name| writeln!(request, "GET {name}").expect("a string takes all"));
            request.push_str("TIME\n");
            let replies = line.ask(&request, names.len() + 1)?;
            let (now, replies) = replies.split_last().expect("as many as were asked for");
            let now: u64 = now.strip_prefix("OK ").ok_or("TIME was not answered with a time")?.parse()?;
            times.push(now as f64);
            for ((name, reply), newest) in names.iter().zip(replies).zip(newest) {
                let fields: Vec<&str> = reply.split(' ').collect();
                let (good, at) = match fields[..] {
                    ["OK", _, quality, at] => (quality == "good", at.parse()?),
                    _ if *newest == 0 => (false, 0),
                    _ => return Err(format!("{name}: {reply:?}").into()),
                };
                if *newest == 0 && !good {
                    continue;
                }
                self.fresh += usize::from(at != *newest);
                self.not_good += usize::from(!good);
                self.ages.push(now.saturating_sub(at) as f64);
                *newest = at;
            }
        }
        Ok(times.iter().sum::<f64>() / times.len() as f64)
    }

    fn healthy(&self) -> Vec<usize> {
        let has_value =
            |device: &usize| self.newest[(device - 1) * TAGS..device * TAGS].iter().any(|&at| at != 0);
        (1..=self.newest.len() / TAGS).filter(has_value).collect()
    }
}

struct Took {
    median_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
    /// Without a server between.
    direct_p99_ms: f64,
    /// Of a request that needs no device: what the server waits for its core is in that, too.
    ping_p99_ms: f64,
}

/// One after the other, each to another device: through the server, and then to the device itself.
fn write_some(server: &Server, slaves: &Slaves, plan: &Polling, healthy: &[usize]) -> Outcome<Took> {
    /// Neighbours are polled one after the other; these are not neighbours.
    const STRIDE: usize = 1_009;
    let mut line = Line::connect(server.address)?;
    let (mut through, mut direct, mut ping) = (Vec::new(), Vec::new(), Vec::new());
    for write in 0..plan.writes {
        thread::sleep(BETWEEN_WRITES);
        let device = healthy[write * STRIDE % healthy.len()];
        let name = tag_name(device, SETPOINT);
        let request = format!("SET {name} {}\n", 1 + write);
        let begin = Instant::now();
        let replies = line.ask(&request, 1)?;
        through.push(match &*replies[0] {
            "OK" => begin.elapsed().as_secs_f64() * 1_000.0,
            // As long as can be: the figure is missed if there are many. Where the driver, and with it the
            // slaves, had no processor for a second, there are some.
            late if late.starts_with("ERR timeout ") || late.starts_with("ERR offline ") => f64::INFINITY,
            other => return Err(format!("SET {name}: {other}").into()),
        });
        thread::sleep(BETWEEN_WRITES);
        let begin = Instant::now();
        line.ask("PING\n", 1)?;
        ping.push(begin.elapsed().as_secs_f64() * 1_000.0);
        direct.push(slaves.write_directly(device, write as u16)?.as_secs_f64() * 1_000.0);
    }
    let [median_ms, p99_ms, longest_ms] = quantiles(through);
    let [_, direct_p99_ms, _] = quantiles(direct);
    let [_, ping_p99_ms, _] = quantiles(ping);
    Ok(Took { median_ms, p99_ms, longest_ms, direct_p99_ms, ping_p99_ms })
}

/// The median, the 99th percentile and the greatest.
fn quantiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len() - 1;
    [values[last / 2], values[last * 99 / 100], values[last]]
}

/// As the configuration of the slaves names them: devices count from 1, tags from 0.
fn tag_name(device: usize, tag: usize) -> String {
    let kind = ["ramp", "sine", "count", "setpoint"][tag % 4];
    format!("sim-{device:05}/{kind}{tag}")
}

/// A client of the line protocol.
pub struct Line {
    stream: BufReader<TcpStream>,
}

impl Line {
    pub fn connect(to: SocketAddr) -> Outcome<Line> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_LIMIT))?;
        Ok(Line { stream: BufReader::new(stream) })
    }

    /// Sends the requests, and takes as many lines.
    pub fn ask(&mut self, request: &str, lines: usize) -> Outcome<Vec<String>> {
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut replies = Vec::with_capacity(lines);
        for _ in 0..lines {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err("the server closed the connection that asked it".into());
            }
            line.truncate(line.trim_end().len());
            replies.push(line);
        }
        Ok(replies)
    }
}
