//! What a connection says and what it must hear: the same work in the words of each server.

use std::ops::Range;

/// The values written, one after another: all print in four bytes, so that every SET and every GET is as long
/// as the next, and each differs from the one before, so that a SET is a change and not a repetition.
const VALUES: [&str; 8] = ["80.5", "81.5", "82.5", "83.5", "84.5", "85.5", "86.5", "87.5"];

/// In a reply template, stands for any digit (the time of a sample is the server's).
const ANY_DIGIT: u8 = b'#';

/// `00042` of `bench/00042/value`.
const ID_DIGITS: usize = 5;

#[derive(Clone, Copy, PartialEq)]
pub enum Tongue {
    /// The Lumina line protocol.
    Line,
    /// Redis, in RESP arrays as its client libraries send them; its inline form is slower to parse there.
    Resp,
    /// The bare echo. Its messages carry as many bytes as the SET or GET that they stand for, half each way:
    /// `SET bench/00042/value 81.5` is 27 bytes in and 3 out, so 15 and 15 here;
    /// `GET bench/00042/value` is 22 in and 27 out, so 25 and 25 (the odd byte goes against us).
    Echo,
}

/// One request and the reply that it must get. A pipelined batch is one exchange too: one write, one reply.
#[derive(Default)]
pub struct Exchange {
    request: Vec<u8>,
    reply: Vec<u8>,
    /// Where in the request a tag's number goes, and which of the connection's tags it is.
    ids: Vec<(usize, usize)>,
    pub operations: u64,
}

/// The exchanges of every connection: a greeting, then a round of exchanges that goes on and on.
pub struct Talk {
    exchanges: Vec<Exchange>,
    tags_per_connection: usize,
}

impl Talk {
    /// SET and GET in turn, each GET of the tag just set, on tags that no other connection uses, so that
    /// every reply can be foretold. `batch` 1 is one operation at a time; else that many are sent in one
    /// write.
    pub fn new(tongue: Tongue, batch: usize) -> Talk {
        assert!(batch == 1 || batch % 2 == 0, "a batch is whole SET and GET pairs");
        let mut exchanges = vec![greeting(tongue)];
        for first in 0..VALUES.len() {
            if batch == 1 {
                let mut set = Exchange::default();
                set.set(tongue, VALUES[first], 0);
                let mut get = Exchange::default();
                get.get(tongue, VALUES[first], 0);
                exchanges.extend([set, get]);
            } else {
                let mut both = Exchange::default();
                for tag in 0..batch / 2 {
                    let value = VALUES[(first + tag) % VALUES.len()];
                    both.set(tongue, value, tag);
                    both.get(tongue, value, tag);
                }
                exchanges.push(both);
            }
        }
        Talk { exchanges, tags_per_connection: batch.div_ceil(2) }
    }

    pub fn exchange(&self, step: usize) -> &Exchange {
        &self.exchanges[step]
    }

    /// The exchange that follows `step`. Neighbouring connections are at different places of the round, so
    /// that replies that change places are noticed.
    pub fn after(&self, step: usize, connection: usize) -> usize {
        let round = self.exchanges.len() - 1;
        match step {
            0 => 1 + (connection % VALUES.len()) * (round / VALUES.len()),
            _ => 1 + step % round,
        }
    }

    /// Writes the request of `connection` at `step` over `into`.
    pub fn speak(&self, step: usize, connection: usize, into: &mut Vec<u8>) {
        let exchange = &self.exchanges[step];
        into.clear();
        into.extend_from_slice(&exchange.request);
        for &(at, tag) in &exchange.ids {
            let mut id = connection * self.tags_per_connection + tag;
            for digit in into[at..at + ID_DIGITS].iter_mut().rev() {
                *digit = b'0' + (id % 10) as u8;
                id /= 10;
            }
        }
    }
}

impl Exchange {
    pub fn reply_len(&self) -> usize {
        self.reply.len()
    }

    /// Whether `got` is what the reply has at `range`.
    pub fn fits(&self, range: Range<usize>, got: &[u8]) -> bool {
        let fits = |(&want, &got): (&u8, &u8)| want == got || (want == ANY_DIGIT && got.is_ascii_digit());
        self.reply.get(range).is_some_and(|want| want.iter().zip(got).all(fits))
    }

    pub fn describe(&self, got: &[u8]) -> String {
        let show = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        format!("to {:?} expected {:?}, got {:?}", show(&self.request), show(&self.reply), show(got))
    }

    fn set(&mut self, tongue: Tongue, value: &str, tag: usize) {
        match tongue {
            Tongue::Line => {
                self.ask("SET bench/", tag, &format!("/value {value}\n"));
                self.reply.extend_from_slice(b"OK\n");
            }
            Tongue::Resp => {
                self.ask("*3\r\n$3\r\nSET\r\n$17\r\nbench/", tag, &format!("/value\r\n$4\r\n{value}\r\n"));
                self.reply.extend_from_slice(b"+OK\r\n");
            }
            Tongue::Echo => self.mirror(&format!("set {value:<10}\n")),
        }
        self.operations += 1;
    }

    fn get(&mut self, tongue: Tongue, value: &str, tag: usize) {
        match tongue {
            Tongue::Line => {
                self.ask("GET bench/", tag, "/value\n");
                // Thirteen digits: milliseconds since 1970, until the year 2286.
                self.reply.extend_from_slice(format!("OK {value} good #############\n").as_bytes());
            }
            Tongue::Resp => {
                self.ask("*2\r\n$3\r\nGET\r\n$17\r\nbench/", tag, "/value\r\n");
                self.reply.extend_from_slice(format!("$4\r\n{value}\r\n").as_bytes());
            }
            Tongue::Echo => self.mirror(&format!("get {value:<20}\n")),
        }
        self.operations += 1;
    }

    fn ask(&mut self, before: &str, tag: usize, after: &str) {
        self.request.extend_from_slice(before.as_bytes());
        self.ids.push((self.request.len(), tag));
        self.request.extend_from_slice(&[b'0'; ID_DIGITS]);
        self.request.extend_from_slice(after.as_bytes());
    }

    fn mirror(&mut self, message: &str) {
        self.request.extend_from_slice(message.as_bytes());
        self.reply.extend_from_slice(message.as_bytes());
    }
}

/// The first exchange of a connection: proves that it was accepted and is served, and creates nothing.
fn greeting(tongue: Tongue) -> Exchange {
    let (request, reply) = match tongue {
        Tongue::Line => ("PING idle\n", "OK idle\n"),
        Tongue::Resp => ("PING\r\n", "+PONG\r\n"),
        Tongue::Echo => ("idle\n", "idle\n"),
    };
    Exchange { request: request.into(), reply: reply.into(), ids: Vec::new(), operations: 1 }
}
