//! Prints the figures of speed and size as one Markdown table, each beside what it must reach; measures other
//! servers beside Lumina, and how its costs grow.
//!
//! The servers run as children on one core, this program drives them from another; their CPU time and memory
//! come from `/proc`. `scripts/limits` builds everything and calls this:
//!
//! `limits --lumina PATH --bare PATH [--redis PATH] [--mosquitto PATH] [--python PATH] [--libmodbus PATH]
//! [--pymodbus PATH] [--poller PATH] [--short] [--strict] [--only FIGURE]… [--trace]`
//!
//! `scripts/peers` calls it as `limits peers --results FILE …`, `scripts/growth` as `limits growth --results
//! FILE …`.
//!
//! Without a server to measure, as `cargo bench` and `cargo test --benches` call it, it ends at once.

#![forbid(unsafe_code)]

mod compare;
mod fan_out;
mod figures;
mod growth;
mod load;
mod modbus;
mod mqtt;
mod peers;
mod polling;
mod remote;
mod report;
mod server;
mod setup;
mod shards;
mod tags;
mod talk;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use argh::FromArgs;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use compare::{LONG, SHORT};
use figures::FIGURES;
use report::Row;
use server::Cores;
use setup::{Contention, Programs, Setup};

/// An error is a sentence for whoever runs the driver; nothing here can be recovered from.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A run that is not at its end by then never will be.
const RUN_LIMIT: Duration = Duration::from_secs(1_800);

/// Print the figures of speed and size beside what they must reach.
#[derive(FromArgs)]
struct Arguments {
    /// figures (that is what is done otherwise), peers or growth
    #[argh(positional, default = "\"figures\".to_owned()")]
    job: String,
    /// where the measurements of peers and growth go, as comma-separated values
    #[argh(option)]
    results: Option<PathBuf>,
    /// the server to measure
    #[argh(option)]
    lumina: Option<PathBuf>,
    /// the bare echo that CPU time is held against (benches/bare_echo.rs)
    #[argh(option)]
    bare: Option<PathBuf>,
    /// redis-server, against which pipelining is held
    #[argh(option)]
    redis: Option<PathBuf>,
    /// mosquitto, an MQTT broker (peers)
    #[argh(option)]
    mosquitto: Option<PathBuf>,
    /// a Python interpreter, for an echo with a thread for each connection (peers)
    #[argh(option)]
    python: Option<PathBuf>,
    /// the server on libmodbus that Modbus requests are held against (benches/peers/libmodbus_server.c)
    #[argh(option)]
    libmodbus: Option<PathBuf>,
    /// a Python interpreter that has pymodbus, against which they are held too
    #[argh(option)]
    pymodbus: Option<PathBuf>,
    /// the poller on tokio-modbus that polling is held against (benches/peers/tokio-modbus)
    #[argh(option)]
    poller: Option<PathBuf>,
    /// less of everything, for CI: some 60 s
    #[argh(switch)]
    short: bool,
    /// exit with 1 when a figure is missed, not only when the run fails
    #[argh(switch)]
    strict: bool,
    /// only this figure: noise turn pipelined modbus polling growth fan-out shards idle session fresh tags
    /// start (repeatable)
    #[argh(option)]
    only: Vec<String>,
    /// print each pair of windows to standard error
    #[argh(switch)]
    trace: bool,
    /// ignored: cargo bench passes it
    #[argh(switch)]
    #[expect(dead_code, reason = "accepted, not used")]
    bench: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|first| first == "fleet") {
        return remote::serve(&words[2..]).map_or_else(failure, |()| ExitCode::SUCCESS);
    }
    let ours = ["--lumina", "--bare", "--redis", "--libmodbus", "--pymodbus", "--poller", "--help"];
    if !words.iter().any(|word| ours.contains(&word.as_str())) {
        println!("limits: no server to measure; run scripts/limits");
        return ExitCode::SUCCESS;
    }
    let arguments: Arguments = argh::from_env();
    let strict = arguments.strict;
    match run(arguments) {
        Ok(rows) if rows.iter().any(Row::failed) => ExitCode::FAILURE,
        Ok(rows) if strict && rows.iter().any(Row::missed) => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => failure(error),
    }
}

fn failure(error: Box<dyn std::error::Error + Send + Sync>) -> ExitCode {
    eprintln!("limits: {error}");
    ExitCode::FAILURE
}

fn run(arguments: Arguments) -> Outcome<Vec<Row>> {
    let chosen = |name: &str| match arguments.only.is_empty() {
        // The noise is about this program, not about the server: shown when asked for.
        true => name != "noise",
        false => arguments.only.iter().any(|only| only == name),
    };
    if let Some(unknown) = arguments.only.iter().find(|only| FIGURES.iter().all(|(name, _)| name != only)) {
        return Err(format!("no figure is called {unknown}; see --help").into());
    }
    let work = std::env::temp_dir().join(format!("lumina-limits-{}", std::process::id()));
    std::fs::create_dir_all(&work)?;
    watch::start(RUN_LIMIT, work.clone())?;
    let setup = Setup {
        cores: Cores::split()?,
        programs: Programs {
            lumina: arguments.lumina,
            bare: arguments.bare,
            redis: arguments.redis,
            mosquitto: arguments.mosquitto,
            python: arguments.python,
            libmodbus: arguments.libmodbus,
            pymodbus: arguments.pymodbus,
            poller: arguments.poller,
        },
        work,
        descriptors: raise_descriptor_limit()?,
        plan: if arguments.short { SHORT } else { LONG },
        trace: arguments.trace,
        contention: Contention::default(),
    };
    if !setup.cores.apart {
        eprintln!("limits: one core only: the driver and the servers share it, ratios are less exact");
    }
    match (arguments.job.as_str(), &arguments.results) {
        ("figures", None) => figures(&setup, chosen),
        ("peers", Some(file)) => peers::run(&setup, arguments.short, file).map(|()| Vec::new()),
        ("growth", Some(file)) => growth::run(&setup, arguments.short, file).map(|()| Vec::new()),
        _ => Err("figures, or peers or growth with --results FILE; see --help".into()),
    }
}

fn figures(setup: &Setup, chosen: impl Fn(&str) -> bool) -> Outcome<Vec<Row>> {
    let begin = Instant::now();
    let mut rows = Vec::new();
    for (name, figure) in FIGURES.iter().filter(|(name, _)| chosen(name)) {
        eprintln!("limits: {:3} s: {name}", begin.elapsed().as_secs());
        // One that fails does not keep us from the others; its row and the exit code say so.
        rows.extend(figure(setup).unwrap_or_else(|error| vec![Row::failure(name, &error.to_string())]));
    }
    let busy = setup.contention.percent();
    eprintln!(
        "limits: {:3} s: done; the servers waited for their core {busy} % of the time",
        begin.elapsed().as_secs()
    );
    report::print(&rows);
    Ok(rows)
}

/// As far as it goes; the servers inherit it.
fn raise_descriptor_limit() -> Outcome<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}
