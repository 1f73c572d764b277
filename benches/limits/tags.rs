//! Many tags: how they are named and made, and a load that goes to all of them by chance.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::Outcome;
use super::talk::{Heard, Talk, VALUES, put_id};

const REPLY_LIMIT: Duration = Duration::from_secs(60);

/// `plant1/line07/machine123/tag0042`: 100 tags a machine, 100 machines a line, 25 lines a plant.
pub fn tag_name(tag: usize) -> String {
    let mut name = *NAME;
    put_name(tag, &mut name);
    String::from_utf8(name.to_vec()).expect("digits and letters")
}

const NAME: &[u8; 32] = b"plant0/line00/machine000/tag0000";

fn put_name(tag: usize, into: &mut [u8]) {
    let (machine, line) = (tag / 100, tag / 10_000);
    put_id(1 + line / 25, &mut into[5..6]);
    put_id(line % 25, &mut into[11..13]);
    put_id(100 + machine % 100, &mut into[21..24]);
    put_id(tag % 100, &mut into[28..32]);
}

/// Writes each tag once.
pub fn create_tags(stream: &mut TcpStream, tags: usize) -> Outcome<()> {
    /// Lines in one write: their replies are far smaller than a socket buffer, so neither side can block.
    const CHUNK: usize = 500;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(REPLY_LIMIT))?;
    let mut request = String::new();
    for first in (0..tags).step_by(CHUNK) {
        request.clear();
        let last = tags.min(first + CHUNK);
        for tag in first..last {
            request += &format!("SET {} {}.5\n", tag_name(tag), tag % 1000);
        }
        let mut reply = vec![0; (last - first) * 3];
        stream.write_all(request.as_bytes())?;
        stream.read_exact(&mut reply).map_err(|e| format!("tags from {first}: {e}"))?;
        if reply.chunks(3).any(|line| line != b"OK\n") {
            return Err(format!(
                "tags from {first}: {:?}",
                String::from_utf8_lossy(&reply[..reply.len().min(120)])
            )
            .into());
        }
    }
    Ok(())
}

/// Holds a thousand of them against what `create_tags` wrote.
pub fn read_some_back(stream: &mut TcpStream, tags: usize) -> Outcome<()> {
    for tag in (0..tags).step_by(tags / 1000) {
        stream.write_all(format!("GET {}\n", tag_name(tag)).as_bytes())?;
        let mut line = [0; 256];
        let mut count = 0;
        while !line[..count].ends_with(b"\n") {
            match stream.read(&mut line[count..])? {
                0 => return Err("the server closed the connection that made the tags".into()),
                more => count += more,
            }
        }
        if !line.starts_with(format!("OK {}.5 good ", tag % 1000).as_bytes()) {
            return Err(format!("{}: {:?}", tag_name(tag), String::from_utf8_lossy(&line[..count])).into());
        }
    }
    Ok(())
}

/// SET and GET of the same tag, drawn anew each time out of so many; several connections may meet at one, so
/// of the value only the form is known.
pub struct RandomTags {
    tags: usize,
    batch: usize,
    reply: Vec<u8>,
}

/// Of a round.
const STEPS: usize = 1 << 20;
const SET_REPLY: &[u8] = b"OK\n";
/// A `#` is any digit.
const GET_REPLY: &[u8] = b"OK ##.# good #############\n";

impl RandomTags {
    /// With as many in flight on each connection; see [`super::setup::talk`].
    pub fn new(tags: usize, batch: usize) -> RandomTags {
        assert!(batch == 1 || batch % 2 == 0, "a batch is whole SET and GET pairs");
        RandomTags { tags, batch, reply: [SET_REPLY, GET_REPLY].concat().repeat(batch / 2) }
    }

    /// A number without pattern, the same in every run (the finalizer of SplitMix64).
    fn tag(&self, connection: usize, pair: usize) -> usize {
        let mut state = ((connection as u64) << 32 | pair as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((state ^ (state >> 31)) % self.tags as u64) as usize
    }

    fn set(&self, tag: usize, pair: usize, into: &mut Vec<u8>) {
        self.ask(b"SET ", tag, into);
        into.push(b' ');
        into.extend_from_slice(VALUES[pair % VALUES.len()].as_bytes());
        into.push(b'\n');
    }

    fn get(&self, tag: usize, into: &mut Vec<u8>) {
        self.ask(b"GET ", tag, into);
        into.push(b'\n');
    }

    fn ask(&self, verb: &[u8], tag: usize, into: &mut Vec<u8>) {
        into.extend_from_slice(verb);
        let at = into.len();
        into.extend_from_slice(NAME);
        put_name(tag, &mut into[at..]);
    }
}

/// Step 0 is a greeting; of the others, where one operation is in flight, the odd ones write.
impl Talk for RandomTags {
    fn after(&self, step: usize, _connection: usize) -> usize {
        1 + step % STEPS
    }

    fn operations(&self, step: usize) -> u64 {
        if step == 0 { 1 } else { self.batch as u64 }
    }

    fn speak(&self, step: usize, connection: usize, into: &mut Vec<u8>) {
        into.clear();
        if step == 0 {
            into.extend_from_slice(b"PING idle\n");
        } else if self.batch == 1 {
            let pair = step.div_ceil(2);
            let tag = self.tag(connection, pair);
            if step % 2 == 1 { self.set(tag, pair, into) } else { self.get(tag, into) }
        } else {
            for pair in step * self.batch / 2..(step + 1) * self.batch / 2 {
                let tag = self.tag(connection, pair);
                self.set(tag, pair, into);
                self.get(tag, into);
            }
        }
    }

    fn hear(&mut self, step: usize, _connection: usize, heard: usize, got: &[u8]) -> Heard {
        let reply = match (step, self.batch) {
            (0, _) => b"OK idle\n",
            (_, 1) if step % 2 == 1 => SET_REPLY,
            (_, 1) => GET_REPLY,
            _ => &self.reply,
        };
        let fits = |want: u8, got: u8| want == got || (want == b'#' && got.is_ascii_digit());
        Heard::of(reply, heard, got, fits).unwrap_or_else(|| {
            let show = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
            Heard::Wrong(format!("expected {:?}, got {:?}", show(reply), show(got)))
        })
    }
}
