//! A blocking connection: requests out, reply lines in.

use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::cli::address::Address;
use crate::protocols::line::{self, Request};

/// How long one address of a host may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection is probed, so that a server that vanished is noticed: after 15 s, then each 5 s, 3
/// times.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);
/// Requests that were sent and not yet answered; then sending waits.
const MOST_OUTSTANDING: usize = 4_096;
/// No server sends a longer line: whoever does speaks something else.
const MOST_LINE_BYTES: u64 = 16 * 1024 * 1024;

/// What a request asks for, as far as its `OK` line looks different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) enum Asked {
    /// `OK value quality time` of this tag.
    Sample(String),
    /// `OK n`, after n data lines.
    Count,
    /// `OK time`.
    Time,
    /// `OK`, perhaps with a text.
    #[default]
    Text,
}

/// What became of a line on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Sent {
    /// Only blanks: it is not answered.
    Nothing,
    /// A request: one reply will come.
    Request,
    /// The last request: one reply will come, and the end of the connection.
    Quit,
}

/// What a received line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Kind {
    /// The end of a reply, which says `OK`.
    Done,
    /// The end of a reply, which says `ERR`.
    Refused,
    /// A line that is no part of a reply.
    Update,
    /// A line of a reply.
    Data,
}

/// A received line.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Reply {
    /// Without its end.
    pub(in crate::cli) line: String,
    pub(in crate::cli) kind: Kind,
    /// What an `OK` answers.
    pub(in crate::cli) asked: Asked,
}

/// The sending half of a connection.
pub(in crate::cli) struct Requests {
    stream: BufWriter<TcpStream>,
    asked: SyncSender<Asked>,
}

/// The receiving half of a connection.
pub(in crate::cli) struct Replies {
    stream: BufReader<TcpStream>,
    asked: Receiver<Asked>,
}

/// Connect. An error is for the operator to read, and says what to do.
pub(in crate::cli) fn open(address: &Address) -> Result<(Requests, Replies), String> {
    let stream = dial(address)?;
    // Both fail only where the system does not know the option, and are only for comfort.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
    let writer = stream.try_clone().map_err(|error| format!("no descriptor for the connection: {error}"))?;
    let (sender, receiver) = mpsc::sync_channel(MOST_OUTSTANDING);
    Ok((
        Requests { stream: BufWriter::new(writer), asked: sender },
        Replies { stream: BufReader::new(stream), asked: receiver },
    ))
}

fn dial(address: &Address) -> Result<TcpStream, String> {
    let found = (address.host.as_str(), address.port)
        .to_socket_addrs()
        .map_err(|error| format!("no address is known for '{}': {error}; check the name", address.host))?;
    let mut last = None;
    for peer in found {
        match TcpStream::connect_timeout(&peer, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        None => format!("no address is known for '{}'; check the name", address.host),
        Some(error) if error.kind() == ErrorKind::ConnectionRefused => format!(
            "no server listens on {address} ({error}); start one with 'lumina serve', or check host and port"
        ),
        Some(error) => format!("cannot connect to {address}: {error}; check host, port and network"),
    })
}

/// How a connection ended, for the operator.
pub(in crate::cli) fn lost(address: &Address, error: Option<&io::Error>) -> String {
    match error {
        None => format!("the server at {address} closed the connection"),
        Some(error) => format!("the connection to {address} is lost: {error}"),
    }
}

impl Requests {
    /// The server's end.
    pub(in crate::cli) fn peer(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().peer_addr()
    }

    /// Queue a line, given without its end; [`Requests::flush`] sends what is queued.
    pub(in crate::cli) fn send(&mut self, line: &[u8]) -> io::Result<Sent> {
        let (asked, sent) = match line::parse(line.strip_suffix(b"\r").unwrap_or(line)) {
            Ok(None) => return Ok(Sent::Nothing),
            Ok(Some(Request::Quit)) => (Asked::Text, Sent::Quit),
            Ok(Some(request)) => (Asked::by(&request), Sent::Request),
            // The server may know more than this program, and says itself what is wrong.
            Err(_) => (Asked::Text, Sent::Request),
        };
        match self.asked.try_send(asked) {
            Ok(()) => {}
            Err(TrySendError::Full(asked)) => {
                // The replies that make room are those to what is still queued here.
                self.flush()?;
                self.asked.send(asked).map_err(|_| ErrorKind::BrokenPipe)?;
            }
            Err(TrySendError::Disconnected(_)) => return Err(ErrorKind::BrokenPipe.into()),
        }
        self.stream.write_all(line)?;
        self.stream.write_all(b"\n")?;
        Ok(sent)
    }

    /// Send what is queued.
    pub(in crate::cli) fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }

    /// There are no more requests. The server answers those that it got, and closes.
    pub(in crate::cli) fn finish(&mut self) -> io::Result<()> {
        self.stream.flush()?;
        self.stream.get_ref().shutdown(Shutdown::Write)
    }

    /// End the connection in both directions: the receiving half reads its end.
    pub(in crate::cli) fn close(&self) {
        // It fails only if it is closed already.
        let _ = self.stream.get_ref().shutdown(Shutdown::Both);
    }
}

impl Replies {
    /// The next line, or `None` at the connection's end. An unfinished last line is dropped.
    pub(in crate::cli) fn next(&mut self) -> io::Result<Option<Reply>> {
        let mut bytes = Vec::new();
        let count = (&mut self.stream).take(MOST_LINE_BYTES).read_until(b'\n', &mut bytes)?;
        if bytes.pop() != Some(b'\n') {
            if count as u64 == MOST_LINE_BYTES {
                let message = "it sends lines without end; does it speak the line protocol?";
                return Err(io::Error::new(ErrorKind::InvalidData, message));
            }
            return Ok(None);
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        let line = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        let kind = Kind::of(&line);
        let asked = match kind {
            // A server may say `ERR` without being asked, for example that it has too many connections.
            Kind::Done | Kind::Refused => self.asked.try_recv().unwrap_or_default(),
            Kind::Update | Kind::Data => Asked::Text,
        };
        Ok(Some(Reply { line, kind, asked }))
    }

    /// Whether the next line is here already, so that [`Replies::next`] will not wait.
    pub(in crate::cli) fn has_next(&self) -> bool {
        self.stream.buffer().contains(&b'\n')
    }

    /// How many requests have no reply. Only at the end: they are forgotten.
    pub(in crate::cli) fn unanswered(&self) -> usize {
        self.asked.try_iter().count()
    }
}

impl Asked {
    fn by(request: &Request<'_>) -> Asked {
        match request {
            Request::Get(name) => Asked::Sample(name.as_str().to_owned()),
            Request::Read(_) | Request::Sub(_) | Request::List(_) | Request::Info | Request::Help => {
                Asked::Count
            }
            Request::Time => Asked::Time,
            _ => Asked::Text,
        }
    }
}

impl Kind {
    fn of(line: &str) -> Kind {
        match line.split([' ', '\t']).next() {
            Some("OK") => Kind::Done,
            Some("ERR") => Kind::Refused,
            Some("UPD" | "FRAME") => Kind::Update,
            // Of a later version, perhaps: what is not known is no end.
            _ => Kind::Data,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn kinds_of_lines() {
        let check = |line: &str, kind| assert_eq!(Kind::of(line), kind, "{line:?}");
        check("OK", Kind::Done);
        check("OK 1 good 5", Kind::Done);
        check("ERR not-found no such tag", Kind::Refused);
        check("UPD a 1 good 5", Kind::Update);
        check("FRAME 5 press3 in 0102", Kind::Update);
        check("VAL a 1 good 5", Kind::Data);
        check("OKAY", Kind::Data);
        check("ok", Kind::Data);
        check("", Kind::Data);
    }

    /// Both halves, and the server's end.
    fn pair() -> (Requests, Replies, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let (requests, replies) = open(&address).unwrap();
        (requests, replies, listener.accept().unwrap().0)
    }

    #[test]
    fn requests_are_sent_and_what_they_ask_for_is_kept() {
        let (mut requests, mut replies, mut server) = pair();
        let lines = [
            (" \t\r", Sent::Nothing),
            ("get a/b\r", Sent::Request),
            ("READ #", Sent::Request),
            ("TIME", Sent::Request),
            ("NOPE", Sent::Request),
            ("SET a", Sent::Request),
            ("quit", Sent::Quit),
        ];
        for (line, sent) in lines {
            assert_eq!(requests.send(line.as_bytes()).unwrap(), sent, "{line:?}");
        }
        requests.finish().unwrap();
        let mut got = String::new();
        server.read_to_string(&mut got).unwrap();
        assert_eq!(got, "get a/b\r\nREAD #\nTIME\nNOPE\nSET a\nquit\n");

        server
            .write_all(b"UPD a 1 good 5\r\nOK 1 good 5\nVAL a\nOK 1\nOK 7\nERR bad\nOK \xff\nOK half")
            .unwrap();
        drop(server);
        let asked = [
            ("UPD a 1 good 5", Asked::Text),
            ("OK 1 good 5", Asked::Sample("a/b".into())),
            ("VAL a", Asked::Text),
            ("OK 1", Asked::Count),
            ("OK 7", Asked::Time),
            ("ERR bad", Asked::Text),
            ("OK \u{fffd}", Asked::Text),
        ];
        for (line, asked) in asked {
            let reply = replies.next().unwrap().unwrap();
            assert_eq!((reply.line.as_str(), reply.asked), (line, asked));
        }
        assert!(replies.next().unwrap().is_none());
        assert_eq!(replies.unanswered(), 1);
    }

    /// More requests than may be outstanding: they are sent before the sender waits.
    #[test]
    fn sending_waits_for_replies() {
        let (mut requests, mut replies, mut server) = pair();
        let count = MOST_OUTSTANDING + 100;
        let sender = std::thread::spawn(move || {
            for _ in 0..count {
                requests.send(b"PING").unwrap();
            }
            requests.finish().unwrap();
        });
        let echo = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            let mut left = count;
            while let Ok(read @ 1..) = server.read(&mut bytes) {
                let ends = bytes[..read].iter().filter(|&&byte| byte == b'\n').count();
                left -= ends;
                server.write_all("OK\n".repeat(ends).as_bytes()).unwrap();
            }
            assert_eq!(left, 0);
        });
        let mut answered = 0;
        while replies.next().unwrap().is_some() {
            answered += 1;
        }
        assert_eq!((answered, replies.unanswered()), (count, 0));
        sender.join().unwrap();
        echo.join().unwrap();
    }
}
