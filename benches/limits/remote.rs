//! A fleet in a process of its own: two with 19,000 connections each are more than one process may have
//! descriptors for.
//!
//! The process is this program again, called as `limits fleet ADDRESS PEER CONNECTIONS BATCH OWN_CORE`, the
//! last `true` or `false`. It says `ready` when all are connected; to each line `closed MICROSECONDS` or
//! `paced RATE MICROSECONDS` it answers how many operations were.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::load::{Drive, Fleet, Load};
use super::server::Server;
use super::setup::{Peer, Setup, talk};
use super::{Outcome, watch};

/// Killed when it is dropped.
pub struct RemoteFleet {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl RemoteFleet {
    /// The same as [`Setup::connect`].
    pub fn connect(
        setup: &Setup,
        server: &Server,
        peer: Peer,
        connections: usize,
        batch: usize,
    ) -> Outcome<RemoteFleet> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["fleet", &server.address.to_string(), peer.name()]);
        command.args([connections.to_string(), batch.to_string(), setup.cores.apart.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = watch::spawn(&mut command)?;
        let orders = child.stdin.take().expect("standard input was asked for as a pipe");
        let answers = child.stdout.take().expect("standard output was asked for as a pipe");
        let mut fleet = RemoteFleet { child, orders, answers: BufReader::new(answers) };
        match fleet.answer()?.as_str() {
            "ready" => Ok(fleet),
            other => Err(format!("a fleet is not ready but says {other:?}").into()),
        }
    }

    fn answer(&mut self) -> Outcome<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err("a fleet has ended; it says above why".into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

impl Drive for RemoteFleet {
    fn run(&mut self, load: Load, time: Duration) -> Outcome<u64> {
        match load {
            Load::Closed => writeln!(self.orders, "closed {}", time.as_micros())?,
            Load::Paced(rate) => writeln!(self.orders, "paced {rate} {}", time.as_micros())?,
        }
        Ok(self.answer()?.parse()?)
    }
}

impl Drop for RemoteFleet {
    fn drop(&mut self) {
        watch::end(&mut self.child);
    }
}

/// What that process does, until its standard input ends.
pub fn serve(arguments: &[String]) -> Outcome<()> {
    let [server, peer, connections, batch, own_core] = arguments else {
        return Err("fleet ADDRESS PEER CONNECTIONS BATCH OWN_CORE".into());
    };
    let peer = Peer::named(peer).ok_or_else(|| format!("{peer} is no server"))?;
    let talk = talk(peer, batch.parse()?);
    let mut fleet = Fleet::connect(server.parse()?, connections.parse()?, talk, own_core.parse()?)?;
    println!("ready");
    for order in std::io::stdin().lines() {
        let order = order?;
        let words: Vec<&str> = order.split(' ').collect();
        let (load, time) = match words[..] {
            ["closed", time] => (Load::Closed, time),
            ["paced", rate, time] => (Load::Paced(rate.parse()?), time),
            _ => return Err(format!("{order:?} is no order for a fleet").into()),
        };
        println!("{}", fleet.run(load, Duration::from_micros(time.parse()?))?);
    }
    Ok(())
}
