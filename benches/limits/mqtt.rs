//! What is said to an MQTT broker: each connection publishes to a topic of its own, to which it has
//! subscribed.
//!
//! So one message in is one message out, as a SET or a GET is one line each way, and the broker does what it
//! is there for: it finds who wants the message, and delivers it. With QoS 0, which confirms nothing: a
//! delivery is answer enough. The packets are made here, byte by byte (*MQTT Version 3.1.1* §3.1, §3.3,
//! §3.8).

use super::talk::{Heard, ID_DIGITS, Talk, VALUES, put_id};

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
/// With the bits that the standard demands.
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;

const CLEAN_SESSION: u8 = 0x02;

pub struct Messages {
    /// In one write.
    batch: usize,
    /// What is due, made in place.
    reply: Vec<u8>,
}

impl Messages {
    pub fn new(batch: usize) -> Messages {
        Messages { batch, reply: Vec::new() }
    }

    fn publish(&self, step: usize, connection: usize, into: &mut Vec<u8>) {
        for message in 0..self.batch {
            let value = VALUES[(step + message) % VALUES.len()];
            packet(PUBLISH, &[&string(&topic(connection)), value.as_bytes()], into);
        }
    }
}

/// Step 0 connects and subscribes; the others publish, each what the step before did not.
impl Talk for Messages {
    fn after(&self, step: usize, connection: usize) -> usize {
        match step {
            0 => 1 + connection % VALUES.len(),
            _ => 1 + step % VALUES.len(),
        }
    }

    fn operations(&self, step: usize) -> u64 {
        if step == 0 { 1 } else { self.batch as u64 }
    }

    fn speak(&self, step: usize, connection: usize, into: &mut Vec<u8>) {
        into.clear();
        if step == 0 {
            let name = string(&topic(connection));
            // Level 4 is version 3.1.1; no keep-alive. Then packet number 1: the topic, at most QoS 0.
            packet(CONNECT, &[&string(b"MQTT"), &[4, CLEAN_SESSION, 0, 0], &name], into);
            packet(SUBSCRIBE, &[&[0, 1], &name, &[0]], into);
        } else {
            self.publish(step, connection, into);
        }
    }

    fn hear(&mut self, step: usize, connection: usize, heard: usize, got: &[u8]) -> Heard {
        let mut reply = std::mem::take(&mut self.reply);
        reply.clear();
        if step == 0 {
            packet(CONNACK, &[&[0, 0]], &mut reply);
            packet(SUBACK, &[&[0, 1], &[0]], &mut reply);
        } else {
            // As it was published: nothing in it changes on the way to a subscriber.
            self.publish(step, connection, &mut reply);
        }
        self.reply = reply;
        Heard::of(&self.reply, heard, got, |expected, got| expected == got)
            .unwrap_or_else(|| Heard::Wrong(format!("expected {:02x?}, got {got:02x?}", self.reply)))
    }
}

fn topic(connection: usize) -> [u8; 17] {
    let mut topic = *b"bench/00000/value";
    put_id(connection, &mut topic[6..6 + ID_DIGITS]);
    topic
}

fn string(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("all texts are short");
    [&length.to_be_bytes(), text].concat()
}

fn packet(kind: u8, parts: &[&[u8]], into: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    assert!(length < 128, "a length in one byte");
    into.extend([kind, length as u8]);
    parts.iter().for_each(|part| into.extend_from_slice(part));
}
