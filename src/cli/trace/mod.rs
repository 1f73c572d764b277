//! `lumina trace`: the frames of a device as they come, in words, or for Wireshark.
//!
//! Here are the arguments and the conversation with the server; `frame` is a line of it and how it is shown,
//! `capture` the file and `packets` what is in it.

mod capture;
mod frame;
mod packets;

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use argh::FromArgs;
use signal_hook::consts::SIGINT;

use super::Exit;
use super::address::Address;
use super::client::connection::{self, Kind, Replies};
use crate::engine::Traced;
use capture::Capture;
use frame::{Frame, Screen};

/// The name of a file that stands for standard output.
const STANDARD_OUTPUT: &str = "-";

/// The operator is told when nothing has come for so long.
const NOTHING_AFTER: Duration = Duration::from_secs(1);

/// Follow the frames of a device: the last ones, and then each as it comes.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "trace",
    example = "lumina trace press3",
    example = "lumina trace 10.0.0.7:49152 gateway:5000",
    example = "lumina trace meter7 --pcapng - | wireshark -k -i -",
    note = "A device is one that is polled, or said HELLO. Any connection can be followed by its peer's \
address, as the log shows it, from the moment on at which somebody does.",
    note = "A line is time (UTC), <- for what came from the device or -> for what went to it, length, bytes, \
and what they say. Lines that begin with # tell of connections, and of frames that were skipped because they \
came too fast.",
    note = "In a capture the addresses and ports of Lumina, and all of IP and TCP but what they carry, are \
made up: times, peers and payload are real.",
    error_code(0, "ended by Ctrl-C"),
    error_code(1, "there is no connection, or the server refused"),
    error_code(2, "the command line is wrong")
)]
pub(super) struct Trace {
    /// also write a capture (pcapng) that Wireshark opens; - is standard output, and then nothing else goes
    /// there
    #[argh(option, arg_name = "file")]
    pcapng: Option<String>,
    /// the device, or the address of a connection's peer
    #[argh(positional, from_str_fn(parse_traced))]
    device: String,
    /// the server's HOST:PORT (default: 127.0.0.1:5000)
    #[argh(positional, default = "Address::default()", from_str_fn(Address::parse))]
    server: Address,
}

fn parse_traced(text: &str) -> Result<String, String> {
    match Traced::parse(text) {
        Ok(traced) => Ok(traced.to_string()),
        Err(error) => {
            Err(format!("'{text}' is neither a device nor a peer's address such as 10.0.0.7:49152: {error}"))
        }
    }
}

/// Why it ends before Ctrl-C; with a message for the operator.
enum Trouble {
    Server(String),
    Capture(io::Error),
    Output(io::Error),
}

impl Trace {
    pub(super) fn run(self) -> Exit {
        // What was written are whole lines and blocks; without the handler only the exit code differs.
        let _ = signal_hook::flag::register_conditional_shutdown(
            SIGINT,
            Exit::Fine as i32,
            Arc::new(AtomicBool::new(true)),
        );
        let message = match self.follow() {
            Ok(()) => return Exit::Fine,
            // Whoever reads has seen enough, as in `lumina trace press3 | head`.
            Err(Trouble::Output(error)) if error.kind() == ErrorKind::BrokenPipe => return Exit::Fine,
            Err(Trouble::Server(message)) => message,
            Err(Trouble::Output(error)) => format!("standard output cannot be written: {error}"),
            Err(Trouble::Capture(error)) => {
                format!("'{}' cannot be written: {error}", self.pcapng.unwrap_or_default())
            }
        };
        super::say_error(format_args!("lumina: {message}"));
        Exit::Failed
    }

    fn follow(&self) -> Result<(), Trouble> {
        let mut sinks = Sinks::open(self)?;
        let mut replies = self.ask().map_err(Trouble::Server)?;
        let has_come = Arc::new(AtomicBool::new(false));
        self.say_if_nothing_comes(Arc::clone(&has_come));
        loop {
            let line = match replies.next() {
                Ok(Some(reply)) => reply.line,
                Ok(None) => return Err(Trouble::Server(connection::lost(&self.server, None))),
                Err(error) => return Err(Trouble::Server(connection::lost(&self.server, Some(&error)))),
            };
            has_come.store(true, Ordering::Relaxed);
            if let Some(frame) = Frame::parse(&line) {
                sinks.put(&frame)?;
            }
            if !replies.has_next() {
                sinks.flush()?;
            }
        }
    }

    /// What is recorded of a device comes at once. Whoever mistyped its name would wait for ever.
    fn say_if_nothing_comes(&self, has_come: Arc<AtomicBool>) {
        let Trace { device, server, .. } = self;
        let message =
            format!("lumina: nothing is known of '{device}' at {server} yet; its frames are waited for");
        thread::spawn(move || {
            thread::sleep(NOTHING_AFTER);
            if !has_come.load(Ordering::Relaxed) {
                super::say_error(format_args!("{message}"));
            }
        });
    }

    /// Connect, and ask for the frames.
    fn ask(&self) -> Result<Replies, String> {
        let (mut requests, mut replies) = connection::open(&self.server)?;
        let request = format!("TRACE {} detail=yes", self.device);
        // A server that closed may have said why: what cannot be sent is no reason not to read.
        let _ = requests.send(request.as_bytes()).and_then(|_| requests.flush());
        match replies.next() {
            Ok(Some(reply)) if reply.kind == Kind::Done => {}
            Ok(Some(reply)) => return Err(format!("the server at {} says: {}", self.server, reply.line)),
            Ok(None) => return Err(connection::lost(&self.server, None)),
            Err(error) => return Err(connection::lost(&self.server, Some(&error))),
        }
        if io::stderr().is_terminal() {
            super::say_error(format_args!("lumina: following {}; Ctrl-C ends", self.device));
        }
        Ok(replies)
    }
}

/// Where frames go.
struct Sinks {
    screen: Option<Screen>,
    capture: Option<Capture<Box<dyn Write>>>,
}

impl Sinks {
    fn open(trace: &Trace) -> Result<Sinks, Trouble> {
        let (file, is_output): (Box<dyn Write>, bool) = match trace.pcapng.as_deref() {
            None => return Ok(Sinks { screen: Some(Screen::default()), capture: None }),
            Some(STANDARD_OUTPUT) => (Box::new(io::stdout()), true),
            Some(file) => (Box::new(File::create(file).map_err(Trouble::Capture)?), false),
        };
        let screen = if is_output { None } else { Some(Screen::default()) };
        let mut sinks = Sinks { screen, capture: Some(Capture::begin(file, &trace.device)) };
        // What waits for the first frame knows what it waits for.
        sinks.flush()?;
        Ok(sinks)
    }

    fn put(&mut self, frame: &Frame<'_>) -> Result<(), Trouble> {
        if let Some(capture) = &mut self.capture {
            capture.put(frame).map_err(|error| self.trouble(error))?;
        }
        self.screen.as_mut().map_or(Ok(()), |screen| screen.put(frame)).map_err(Trouble::Output)
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        // What a person has seen is in the file.
        if let Some(capture) = &mut self.capture {
            capture.flush().map_err(|error| self.trouble(error))?;
        }
        self.screen.as_mut().map_or(Ok(()), Screen::flush).map_err(Trouble::Output)
    }

    /// What went wrong with the capture.
    fn trouble(&self, error: io::Error) -> Trouble {
        if self.screen.is_none() { Trouble::Output(error) } else { Trouble::Capture(error) }
    }
}
