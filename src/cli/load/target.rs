//! Where the load goes: a URL, made into an address at which a server of the line protocol answers.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use super::Reply;
use crate::protocols::line;

/// How long the first connection and its first answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// What is longer answers no `PING`.
const LONGEST_ANSWER_BYTES: u64 = 1_024;

/// `line://host:port`; scheme and port may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Target {
    host: String,
    port: u16,
}

/// Why no load can be put on a server.
#[derive(Debug)]
pub(in crate::cli) struct Unreachable {
    target: Target,
    why: Why,
}

#[derive(Debug)]
enum Why {
    NoAddress(io::Error),
    NoConnection(io::Error),
    NoAnswer(io::Error),
    Refused(String),
    OtherProtocol,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if scheme == line::PROTOCOL.scheme => rest,
            Some((scheme, _)) => {
                return Err(format!("'{scheme}' is not spoken here, expected line://host:port"));
            }
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| format!("'{port}' is not a port"))?)
            }
            _ => (rest, line::PROTOCOL.default_port),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(format!("'{text}' names no host, expected line://host:port"));
        }
        Ok(Target { host: host.to_owned(), port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "line://{open}{}{close}:{}", self.host, self.port)
    }
}

impl Target {
    /// Find the address at which a server answers.
    pub(in crate::cli) fn reach(&self) -> Result<SocketAddr, Unreachable> {
        self.find().map_err(|why| Unreachable { target: self.clone(), why })
    }

    fn find(&self) -> Result<SocketAddr, Why> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs().map_err(Why::NoAddress)?;
        let mut why = Why::NoAddress(io::ErrorKind::NotFound.into());
        for address in addresses {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return greet(stream).map(|()| address),
                Err(error) => why = Why::NoConnection(error),
            }
        }
        Err(why)
    }
}

/// Whether whoever listens there speaks our protocol.
fn greet(stream: TcpStream) -> Result<(), Why> {
    let ask = |mut stream: &TcpStream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"PING\n")?;
        let mut line = Vec::new();
        BufReader::new(stream.take(LONGEST_ANSWER_BYTES)).read_until(b'\n', &mut line)?;
        Ok(line)
    };
    let line: Vec<u8> = ask(&stream).map_err(Why::NoAnswer)?;
    match Reply::parse(line.trim_ascii_end()) {
        Reply::Ok => Ok(()),
        Reply::Err(text) => Err(Why::Refused(text.to_owned())),
        _ if line.is_empty() => Err(Why::NoAnswer(io::ErrorKind::UnexpectedEof.into())),
        _ => Err(Why::OtherProtocol),
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unreachable { target, why } = self;
        match why {
            Why::NoAddress(error) => write!(f, "'{}' has no address: {error}", target.host),
            Why::NoConnection(error) => {
                write!(f, "no server at {target}: {error}; start one with 'lumina serve'")
            }
            Why::NoAnswer(error) => write!(f, "whoever listens at {target} does not answer: {error}"),
            Why::Refused(text) => write!(f, "the server at {target} refuses: {text}"),
            Why::OtherProtocol => write!(f, "whoever listens at {target} does not speak the line protocol"),
        }
    }
}

impl std::error::Error for Unreachable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is() {
        let parse = |text: &str| text.parse::<Target>().map(|target| target.to_string());
        #[rustfmt::skip]
        let table = [
            ("line://127.0.0.1:5000",  Ok("line://127.0.0.1:5000")),
            ("line://plant/",          Ok("line://plant:5000")),
            ("127.0.0.1:7",            Ok("line://127.0.0.1:7")),
            ("[::1]",                  Ok("line://[::1]:5000")),
            ("line://[::1]:7",         Ok("line://[::1]:7")),
            ("echo://127.0.0.1:7",     Err("'echo' is not spoken here, expected line://host:port")),
            ("127.0.0.1:x",            Err("'x' is not a port")),
            ("line://:5000",           Err("'line://:5000' names no host, expected line://host:port")),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }
}
