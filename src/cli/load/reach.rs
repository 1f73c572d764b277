//! Before any load: is there a server, and does it speak our protocol?

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::Reply;
use crate::cli::address::Address;

/// How long the first connection and its first answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// What is longer answers no `PING`.
const LONGEST_ANSWER_BYTES: u64 = 1_024;

/// Why no load can be put on a server.
#[derive(Debug)]
pub(in crate::cli) struct Unreachable {
    server: Address,
    why: Why,
}

#[derive(Debug)]
enum Why {
    NoAddress(io::Error),
    NoConnection(io::Error),
    /// Nothing came for as long as is waited.
    Silent,
    NoAnswer(io::Error),
    Refused(String),
    OtherProtocol,
}

/// Find the address at which a server answers in the line protocol.
pub(in crate::cli) fn reach(server: &Address) -> Result<SocketAddr, Unreachable> {
    look(server, greet).map_err(|why| Unreachable { server: server.clone(), why })
}

/// Find the address at which somebody listens.
pub(in crate::cli) fn find(server: &Address) -> Result<SocketAddr, Unreachable> {
    look(server, |_| Ok(())).map_err(|why| Unreachable { server: server.clone(), why })
}

fn look(server: &Address, greet: impl Fn(&TcpStream) -> Result<(), Why>) -> Result<SocketAddr, Why> {
    let addresses = (server.host.as_str(), server.port).to_socket_addrs().map_err(Why::NoAddress)?;
    let mut why = Why::NoAddress(io::ErrorKind::NotFound.into());
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return greet(&stream).map(|()| address),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => why = Why::Silent,
            Err(error) => why = Why::NoConnection(error),
        }
    }
    Err(why)
}

/// Whether whoever listens there speaks our protocol.
fn greet(stream: &TcpStream) -> Result<(), Why> {
    let line = ask(stream).map_err(|error| match error.kind() {
        // Which of the two it is depends on the system.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Why::Silent,
        _ => Why::NoAnswer(error),
    })?;
    match Reply::parse(line.trim_ascii_end()) {
        Reply::Ok(_) => Ok(()),
        Reply::Err(text) => Err(Why::Refused(text.to_owned())),
        _ if line.is_empty() => Err(Why::NoAnswer(io::ErrorKind::UnexpectedEof.into())),
        _ => Err(Why::OtherProtocol),
    }
}

fn ask(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"PING\n")?;
    let mut line = Vec::new();
    BufReader::new(stream.take(LONGEST_ANSWER_BYTES)).read_until(b'\n', &mut line)?;
    Ok(line)
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unreachable { server, why } = self;
        match why {
            Why::NoAddress(error) => write!(f, "no address is known for '{}': {error}", server.host),
            Why::NoConnection(error) => {
                write!(f, "no server at {server}: {error}; start one with 'lumina serve'")
            }
            Why::Silent => {
                let seconds = PATIENCE.as_secs();
                write!(
                    f,
                    "{server} did not answer for {seconds} s; is the server overloaded or stopped, or does \
                     it speak another protocol?"
                )
            }
            Why::NoAnswer(error) => write!(f, "whoever listens at {server} does not answer: {error}"),
            Why::Refused(text) => write!(f, "the server at {server} refuses: {text}"),
            Why::OtherProtocol => write!(f, "whoever listens at {server} does not speak the line protocol"),
        }
    }
}

impl std::error::Error for Unreachable {}
