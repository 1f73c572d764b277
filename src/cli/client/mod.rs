//! `lumina client`: talk to a server, from a shell, a script or a prompt.
//!
//! Here are the arguments and the modes without a terminal; `prompt` is the one with it. `connection` is what
//! all modes speak through, `output` how lines are shown.

mod completion;
pub(super) mod connection;
mod output;
mod prompt;
mod screen;

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread;

use argh::FromArgs;
use signal_hook::consts::SIGINT;

use super::Exit;
use crate::cli::address::Address;
use crate::protocols::line::VERBS;
use crate::tags::name::Pattern;
use connection::{Kind, Replies, Requests, Sent};
use output::{Form, Output};

/// The word, besides QUIT, that ends a conversation. It is not sent.
const FAREWELL: &str = "bye";
/// No server takes a longer request: it says so, closes, and reads only a little more.
const MOST_REQUEST_BYTES: usize = 32 * 1024;
/// Terminals that cannot move a cursor: there is no prompt on them, but lines are read and answered all the
/// same.
const PLAIN_TERMINALS: [&str; 3] = ["dumb", "cons25", "emacs"];

/// Talk to a server: run requests, watch tags, or type at a prompt.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "client",
    example = "lumina client 127.0.0.1:5000 'SET line1/press3/temperature 81.5' 'READ line1/#'",
    example = "lumina client --watch 'line1/#' --json | jq .value",
    example = "lumina client gateway:5000 < requests.txt",
    note = "The first argument is the server's HOST:PORT, the port may be left out; without one it is \
127.0.0.1:5000. It is a request instead if it has a blank in it or is one by itself, such as INFO.",
    note = "All other arguments are requests: run one after the other, up to the first ERR.",
    note = "Without requests the lines of the standard input are run, all of them. A terminal gets a prompt.",
    note = "QUIT or bye ends the conversation, wherever it stands.",
    error_code(0, "all is fine, or --watch was ended by Ctrl-C"),
    error_code(1, "a request got ERR, or there is no connection"),
    error_code(2, "the command line is wrong")
)]
pub(super) struct Client {
    /// print the tags that match, and each change, until Ctrl-C; may be given several times. Requests among
    /// the arguments are run before
    #[argh(option, arg_name = "pattern", from_str_fn(parse_pattern))]
    watch: Vec<String>,
    /// print each line as a JSON object
    #[argh(switch)]
    json: bool,
    /// the server and requests, see below
    #[argh(positional, arg_name = "address-or-request")]
    arguments: Vec<String>,
}

fn parse_pattern(text: &str) -> Result<String, String> {
    match Pattern::parse(text) {
        Ok(pattern) => Ok(pattern.as_str().to_owned()),
        Err(error) => Err(format!("'{text}' is not a pattern such as line1/# or +/state: {error}")),
    }
}

impl Client {
    pub(super) fn run(self) -> Exit {
        let (address, requests) = match split(self.arguments) {
            Ok(split) => split,
            Err(message) => {
                say(&message);
                return Exit::Usage;
            }
        };
        let form = if self.json { Form::Json } else { Form::Text };
        let (sender, receiver) = match connection::open(&address) {
            Ok(connection) => connection,
            Err(message) => {
                say(&message);
                return Exit::Failed;
            }
        };
        let watched = !self.watch.is_empty();
        if !watched && requests.is_empty() && is_conversation() {
            return prompt::run(address, sender, receiver, form);
        }
        let mut run = Run { address, replies: receiver, out: Output::new(form) };
        let result = if watched {
            run.watch(sender, &requests, &self.watch)
        } else if requests.is_empty() {
            run.pipe(sender)
        } else {
            run.requests(&mut { sender }, &requests)
        };
        let result = result.and_then(|exit| {
            run.out.flush()?;
            Ok(exit)
        });
        result.unwrap_or_else(|trouble| trouble.exit())
    }
}

/// Which of the arguments is the address, if any.
fn split(mut arguments: Vec<String>) -> Result<(Address, Vec<String>), String> {
    let address = match arguments.first() {
        Some(first) if !is_request(first) => Address::parse(&arguments.remove(0))?,
        _ => Address::default(),
    };
    match arguments.iter().find(|request| request.contains('\n')) {
        None => Ok((address, arguments)),
        Some(_) => Err("a request is one line; several are several arguments, or come by a pipe".to_owned()),
    }
}

/// No address has a blank in it or is named like a request. A host that is: `info:5000`.
fn is_request(argument: &str) -> bool {
    argument.contains([' ', '\t', '\n'])
        || is_farewell(argument)
        || VERBS.iter().any(|verb| verb.name.eq_ignore_ascii_case(argument))
}

fn is_farewell(line: &str) -> bool {
    line.trim_matches([' ', '\t', '\r']).eq_ignore_ascii_case(FAREWELL)
}

/// Whether a person sits at both ends.
fn is_conversation() -> bool {
    let term = std::env::var("TERM").unwrap_or_default();
    io::stdin().is_terminal() && io::stdout().is_terminal() && !PLAIN_TERMINALS.contains(&term.as_str())
}

/// To the operator. Nobody may be reading, which is no reason to panic.
fn say(message: &str) {
    let _ = writeln!(io::stderr(), "lumina: {message}");
}

/// What ends a run before its time.
enum Trouble {
    /// The connection; with a message.
    Lost(String),
    /// Standard output.
    Output(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Output(error)
    }
}

impl Trouble {
    fn exit(self) -> Exit {
        match self {
            // Whoever reads has seen enough, as in `lumina client 'READ #' | head`.
            Trouble::Output(error) if error.kind() == ErrorKind::BrokenPipe => return Exit::Fine,
            Trouble::Output(error) => say(&format!("standard output cannot be written: {error}")),
            Trouble::Lost(message) => say(&message),
        }
        Exit::Failed
    }
}

/// How a request ended.
enum End {
    Done,
    Refused,
    /// The conversation is over.
    Left,
}

/// A run without a prompt.
struct Run {
    address: Address,
    replies: Replies,
    out: Output,
}

impl Run {
    /// Requests of the command line, up to the first that is refused.
    fn requests(&mut self, sender: &mut Requests, requests: &[String]) -> Result<Exit, Trouble> {
        for request in requests {
            match self.ask(sender, request, |_| true)? {
                End::Done => {}
                End::Refused => return Ok(Exit::Failed),
                End::Left => break,
            }
        }
        Ok(Exit::Fine)
    }

    /// Print what matches the patterns, until the process is ended.
    fn watch(
        &mut self,
        mut sender: Requests,
        requests: &[String],
        patterns: &[String],
    ) -> Result<Exit, Trouble> {
        // What was printed are whole lines, so nothing is cut off; without the handler all is the same but
        // for the exit code.
        let _ = signal_hook::flag::register_conditional_shutdown(
            SIGINT,
            Exit::Fine as i32,
            Arc::new(AtomicBool::new(true)),
        );
        if self.requests(&mut sender, requests)? == Exit::Failed {
            return Ok(Exit::Failed);
        }
        for pattern in patterns {
            if let End::Refused =
                self.ask(&mut sender, &format!("SUB {pattern}"), |kind| kind != Kind::Done)?
            {
                return Ok(Exit::Failed);
            }
        }
        loop {
            match self.replies.next() {
                Ok(Some(reply)) => self.out.put(&reply)?,
                Ok(None) => return Err(self.lost(None)),
                Err(error) => return Err(self.lost(Some(error))),
            }
            if !self.replies.has_next() {
                self.out.flush()?;
            }
        }
    }

    /// Requests of the standard input: sent as they come, without waiting for replies. All are run, as in a
    /// conversation with the server itself; the exit code tells whether one of them was refused.
    fn pipe(&mut self, sender: Requests) -> Result<Exit, Trouble> {
        let input = Arc::new(OnceLock::new());
        let ended = Arc::clone(&input);
        // The feeder may wait for input for ever, so nobody waits for it: it ends with the process.
        thread::spawn(move || feed(sender, &ended));
        let mut exit = Exit::Fine;
        let error = loop {
            match self.replies.next() {
                Ok(Some(reply)) => {
                    if reply.kind == Kind::Refused {
                        exit = Exit::Failed;
                    }
                    self.out.put(&reply)?;
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
            if !self.replies.has_next() {
                self.out.flush()?;
            }
        };
        self.out.flush()?;
        match input.get() {
            Some(Err(error)) => {
                say(&format!("standard input cannot be read: {error}"));
                Ok(Exit::Failed)
            }
            Some(Ok(())) if error.is_none() && self.replies.unanswered() == 0 => Ok(exit),
            _ => Err(self.lost(error)),
        }
    }

    /// Send one request and print the lines of its reply that `is_shown`.
    fn ask(
        &mut self,
        sender: &mut Requests,
        request: &str,
        is_shown: fn(Kind) -> bool,
    ) -> Result<End, Trouble> {
        if is_farewell(request) {
            return Ok(End::Left);
        }
        let sent = sender.send(request.as_bytes());
        if let Ok(Sent::Nothing) = sent {
            return Ok(End::Done);
        }
        // A server that closed may have said why: what cannot be sent is no reason not to read.
        let _ = sender.flush();
        loop {
            let reply = match self.replies.next() {
                Ok(Some(reply)) => reply,
                Ok(None) => return Err(self.lost(None)),
                Err(error) => return Err(self.lost(Some(error))),
            };
            if is_shown(reply.kind) {
                self.out.put(&reply)?;
            }
            if matches!(reply.kind, Kind::Done | Kind::Refused) {
                self.out.flush()?;
            }
            match reply.kind {
                Kind::Refused => return Ok(End::Refused),
                Kind::Done if matches!(sent, Ok(Sent::Quit)) => return Ok(End::Left),
                Kind::Done => return Ok(End::Done),
                Kind::Update | Kind::Data => {}
            }
        }
    }

    fn lost(&mut self, error: Option<io::Error>) -> Trouble {
        // What came before is printed before.
        if let Err(error) = self.out.flush() {
            return Trouble::Output(error);
        }
        let mut message = connection::lost(&self.address, error.as_ref());
        if self.replies.unanswered() > 0 {
            message.push_str("; what has no reply may or may not have been carried out");
        }
        Trouble::Lost(message)
    }
}

/// Send the lines of the standard input until it ends, and say in `ended` how it did before the server can
/// know.
fn feed(mut sender: Requests, ended: &OnceLock<io::Result<()>>) {
    if let Err(error) = feed_lines(&mut sender, ended) {
        let _ = ended.set(Err(error));
        sender.close();
    }
}

/// An error is one of the input; that the server is gone is for the reader of the replies to see.
fn feed_lines(sender: &mut Requests, ended: &OnceLock<io::Result<()>>) -> io::Result<()> {
    let mut input = BufReader::new(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut input).take(MOST_REQUEST_BYTES as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() || std::str::from_utf8(&line).is_ok_and(|line| is_farewell(line.trim_end())) {
            break;
        }
        // A last line without its end is a request all the same.
        match sender.send(line.strip_suffix(b"\n").unwrap_or(&line)) {
            Ok(Sent::Quit) => break,
            Ok(_) if line.len() == MOST_REQUEST_BYTES => break,
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
        if !input.buffer().contains(&b'\n') && sender.flush().is_err() {
            return Ok(());
        }
    }
    let _ = ended.set(Ok(()));
    let _ = sender.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_argument_may_be_the_address() {
        #[track_caller]
        fn check(arguments: &[&str], address: &str, requests: &[&str]) {
            let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
            let (got, rest) = split(arguments).unwrap();
            assert_eq!(
                (got.to_string().as_str(), rest),
                (address, requests.iter().map(|&r| r.to_owned()).collect())
            );
        }
        check(&[], "127.0.0.1:5000", &[]);
        check(&["gateway"], "gateway:5000", &[]);
        check(&["gateway:1", "SET a 1", "INFO"], "gateway:1", &["SET a 1", "INFO"]);
        check(&["SET a 1", "INFO"], "127.0.0.1:5000", &["SET a 1", "INFO"]);
        check(&["info"], "127.0.0.1:5000", &["info"]);
        check(&["bye"], "127.0.0.1:5000", &["bye"]);
        check(&["info:5000"], "info:5000", &[]);
        check(&["GTE a/b"], "127.0.0.1:5000", &["GTE a/b"]);
        // Only the first: a second one is a request, and the server says that it knows none such.
        check(&["gateway", "gateway"], "gateway:5000", &["gateway"]);
        assert!(split(vec!["a:b".to_owned()]).is_err());
        assert!(split(vec!["GET a\nGET b".to_owned()]).unwrap_err().contains("one line"));
    }
}
