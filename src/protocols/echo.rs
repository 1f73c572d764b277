//! `echo://`: what the first Lumina server did. Unframed: each chunk of text received is answered with `Echo:
//! ` and that same text, so that old clients keep working and a new one has something to try.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::log::one_line;
use crate::base::section::Section;
use crate::engine::{Acceptor, Consumed, Context, Flow, Listening, Protocol, Session, Transport};
use crate::tags::Refusal;

/// The row of the table.
pub const PROTOCOL: Protocol = Protocol {
    scheme: "echo",
    summary: "answers each chunk of text with 'Echo: ' and the text, as the first Lumina did",
    hint: "printf hello | nc -w 1 {ip} {port}",
    transport: Transport::Stream,
    framed: false,
    default_port: 5000,
    frame_timeout: Duration::from_secs(30),
    listening: Listening::Alone(|_: &mut Section<'_>| Box::new(EchoListener)),
    specimens: &[b"Hello, Lumina"],
    recode: |chunk, out| {
        out.extend_from_slice(chunk);
        (!chunk.is_empty()).then_some(chunk.len())
    },
    words: |_, bytes| one_line(String::from_utf8_lossy(bytes), MOST_WORDS_BYTES),
    capture_port: None,
};

/// The longest text that is shown of recorded bytes.
const MOST_WORDS_BYTES: usize = 1_024;

const GREETING: &[u8] = b"Echo: ";

struct EchoListener;

impl Acceptor for EchoListener {
    fn accept(&self, _peer: SocketAddr) -> Box<dyn Session> {
        Box::new(Echo)
    }

    fn refuse(&self, refusal: &Refusal, out: &mut String) {
        out.push_str(&refusal.to_string());
    }
}

struct Echo;

impl Session for Echo {
    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        // What does not fit below the high-water mark waits, and then counts as a chunk of its own.
        let bytes = input.len().min(cx.room().saturating_sub(GREETING.len()));
        if bytes > 0 {
            cx.count_request();
            cx.put(GREETING);
            cx.put(&input[..bytes]);
        }
        Consumed { bytes, flow: if bytes < input.len() { Flow::More } else { Flow::Continue } }
    }
}
