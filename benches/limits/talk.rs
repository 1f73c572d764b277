//! What a connection says and what it must hear: the same work in the words of each server.

/// What the connections of a fleet say, step by step. Step 0 is a greeting: it proves that the connection was
/// accepted and is served, and changes nothing. The others are a round that goes on and on.
pub trait Talk: Send {
    /// The step that follows `step`. Neighbouring connections are at different places of the round, so that
    /// replies that change places are noticed.
    fn after(&self, step: usize, connection: usize) -> usize;

    /// How many operations the step is.
    fn operations(&self, step: usize) -> u64;

    /// Writes the request of `connection` at `step` over `into`.
    fn speak(&self, step: usize, connection: usize, into: &mut Vec<u8>);

    /// Holds what `connection` `got` against the reply to `step`, of which it has `heard` as many bytes.
    fn hear(&mut self, step: usize, connection: usize, heard: usize, got: &[u8]) -> Heard;
}

pub enum Heard {
    /// More is to come.
    Part,
    /// The reply is whole.
    Whole,
    /// It is not the reply; what was asked, expected and got.
    Wrong(String),
}

impl Heard {
    /// How far `reply` is there with what it `got`, of which every byte `fits`; else `None`.
    pub fn of(reply: &[u8], heard: usize, got: &[u8], fits: impl Fn(u8, u8) -> bool) -> Option<Heard> {
        let expected = reply.get(heard..heard + got.len())?;
        let all_fit = expected.iter().zip(got).all(|(&expected, &got)| fits(expected, got));
        let heard = if heard + got.len() < reply.len() { Heard::Part } else { Heard::Whole };
        all_fit.then_some(heard)
    }
}

/// The values written, one after another: all print in four bytes, so that every SET and every GET is as long
/// as the next, and each differs from the one before, so that a SET is a change and not a repetition.
pub const VALUES: [&str; 8] = ["80.5", "81.5", "82.5", "83.5", "84.5", "85.5", "86.5", "87.5"];

/// In a reply template, stands for any digit (the time of a sample is the server's).
const ANY_DIGIT: u8 = b'#';

/// `00042` of `bench/00042/value`.
pub const ID_DIGITS: usize = 5;

#[derive(Clone, Copy, PartialEq)]
pub enum Tongue {
    /// The Lumina line protocol.
    Line,
    /// Redis, in RESP arrays as its client libraries send them; its inline form is slower to parse there.
    Resp,
    /// An echo, with what it says before what it heard. Messages to the bare one carry as many bytes as the
    /// SET or GET that they stand for, half each way: `SET bench/00042/value 81.5` is 27 bytes in and 3 out,
    /// so 15 and 15 here; `GET bench/00042/value` is 22 in and 27 out, so 25 and 25 (the odd byte goes
    /// against us).
    Echo(&'static str),
}

/// One request and the reply that it must get. A pipelined batch is one exchange too: one write, one reply.
#[derive(Default)]
struct Exchange {
    request: Vec<u8>,
    reply: Vec<u8>,
    /// Where in the request a tag's number goes, and which of the connection's tags it is.
    ids: Vec<(usize, usize)>,
    operations: u64,
}

/// SET and GET in turn.
pub struct SetGet {
    /// The greeting, then the round.
    exchanges: Vec<Exchange>,
    tags_per_connection: usize,
    /// Those of the connections of other fleets come before.
    first_tag: usize,
}

impl SetGet {
    /// Each GET is of the tag just set, on tags that no other connection uses, so that every reply can be
    /// foretold. `batch` 1 is one operation at a time; else that many are sent in one write.
    pub fn new(tongue: Tongue, batch: usize) -> SetGet {
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
        SetGet { exchanges, tags_per_connection: batch.div_ceil(2), first_tag: 0 }
    }

    /// The same, beside another fleet of so many `connections` on the same server.
    pub fn beside(self, connections: usize) -> SetGet {
        SetGet { first_tag: connections * self.tags_per_connection, ..self }
    }
}

impl Talk for SetGet {
    fn after(&self, step: usize, connection: usize) -> usize {
        let round = self.exchanges.len() - 1;
        match step {
            0 => 1 + (connection % VALUES.len()) * (round / VALUES.len()),
            _ => 1 + step % round,
        }
    }

    fn operations(&self, step: usize) -> u64 {
        self.exchanges[step].operations
    }

    fn speak(&self, step: usize, connection: usize, into: &mut Vec<u8>) {
        let exchange = &self.exchanges[step];
        into.clear();
        into.extend_from_slice(&exchange.request);
        let first = self.first_tag + connection * self.tags_per_connection;
        for &(at, tag) in &exchange.ids {
            put_id(first + tag, &mut into[at..at + ID_DIGITS]);
        }
    }

    fn hear(&mut self, step: usize, _connection: usize, heard: usize, got: &[u8]) -> Heard {
        let Exchange { request, reply, .. } = &self.exchanges[step];
        let fits = |want: u8, got: u8| want == got || (want == ANY_DIGIT && got.is_ascii_digit());
        Heard::of(reply, heard, got, fits).unwrap_or_else(|| {
            let show = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
            Heard::Wrong(format!("to {:?} expected {:?}, got {:?}", show(request), show(reply), show(got)))
        })
    }
}

impl Exchange {
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
            Tongue::Echo(before) => self.mirror(before, &format!("set {value:<10}\n")),
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
            Tongue::Echo(before) => self.mirror(before, &format!("get {value:<20}\n")),
        }
        self.operations += 1;
    }

    fn ask(&mut self, before: &str, tag: usize, after: &str) {
        self.request.extend_from_slice(before.as_bytes());
        self.ids.push((self.request.len(), tag));
        self.request.extend_from_slice(&[b'0'; ID_DIGITS]);
        self.request.extend_from_slice(after.as_bytes());
    }

    fn mirror(&mut self, before: &str, message: &str) {
        // An echo knows no messages: what is sent in one write comes back in one piece.
        if self.reply.is_empty() {
            self.reply.extend_from_slice(before.as_bytes());
        }
        self.request.extend_from_slice(message.as_bytes());
        self.reply.extend_from_slice(message.as_bytes());
    }
}

/// Decimal digits, as many as `into` has.
pub fn put_id(mut id: usize, into: &mut [u8]) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (id % 10) as u8;
        id /= 10;
    }
}

fn greeting(tongue: Tongue) -> Exchange {
    let (request, reply) = match tongue {
        Tongue::Line => ("PING idle\n", "OK idle\n".to_owned()),
        Tongue::Resp => ("PING\r\n", "+PONG\r\n".to_owned()),
        Tongue::Echo(before) => ("idle\n", format!("{before}idle\n")),
    };
    Exchange { request: request.into(), reply: reply.into(), ids: Vec::new(), operations: 1 }
}
