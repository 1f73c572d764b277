//! The rules that every world must keep, a function each. A violation bears the name of its function.

mod field;
mod registers;
mod shards;

use std::collections::BTreeMap;
use std::fmt;

use super::record::Record;
use super::units;
use crate::engine::{End, Engine, HIGH_WATER_BYTES, Ticket};
use crate::tags::name::{Pattern, TagName};

pub use field::*;
pub use registers::*;
pub use shards::*;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The function of this module that found it.
    pub checker: &'static str,
    /// What it found.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.checker, self.what)
    }
}

/// What a checker says.
pub type Verdict = Result<(), Violation>;

fn violation(checker: &'static str, what: fmt::Arguments<'_>) -> Verdict {
    Err(Violation { checker, what: what.to_string() })
}

/// A tag as a peer was told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Counted up by the tag's one writer; -1 before its first write.
    pub version: i64,
    /// `good`, `uncertain` or `bad`.
    pub quality: String,
    /// The value as it was written.
    pub value: String,
}

impl State {
    /// `value quality time`, as it ends every line that tells of a sample. `None`: it is no sample.
    pub fn parse(text: &str) -> Option<State> {
        let mut fields = text.rsplitn(3, ' ');
        let (time, quality, value) = (fields.next()?, fields.next()?, fields.next()?);
        time.parse::<i64>().ok()?;
        let digits: &str = value.trim_start_matches('"').split([' ', '"']).next()?;
        let version = digits.parse().unwrap_or(-1);
        Some(State { version, quality: quality.to_owned(), value: value.to_owned() })
    }

    /// That version, as a protocol tells of it that knows neither qualities nor text.
    pub fn of(version: i64) -> State {
        State { version, quality: "good".to_owned(), value: version.to_string() }
    }

    /// The order in which a tag's states follow each other: a version is first good, and may turn uncertain.
    fn age(&self) -> (i64, bool) {
        (self.version, self.quality == "uncertain")
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value: String = self.value.chars().take(24).collect();
        write!(f, "{value} {}", self.quality)
    }
}

/// Tags whose values are versions; others are left out of the rules about order.
pub fn is_versioned(tag: &str) -> bool {
    let first = tag.split('/').next().unwrap_or("");
    match first.get(..3) {
        Some("dev" | "hal" | "plc" | "rep") => true,
        Some("fld") => is_written_point(tag),
        Some("mod") => units::is_owned_register(tag),
        _ => false,
    }
}

/// A tag of a polled device that somebody writes.
fn is_written_point(tag: &str) -> bool {
    tag.starts_with("fld") && tag.contains("/w")
}

/// Nobody is told an older version of a tag after a newer one, by whatever kind of line.
pub fn versions_never_go_back(who: &str, tag: &str, before: Option<&State>, now: &State) -> Verdict {
    let is_older = |before: &State| match is_written_point(tag) {
        // What a polled device said last may be in doubt, or refused, and then good again.
        true => now.version >= 0 && now.version < before.version,
        false => now.age() < before.age(),
    };
    match before {
        Some(before) if is_older(before) => violation(
            "versions_never_go_back",
            format_args!("{who} was told '{tag} {before}', and after that '{now}'"),
        ),
        _ => Ok(()),
    }
}

/// Nobody is told a version that the tag's writer has not sent.
pub fn versions_were_written(record: &Record, who: &str, tag: &str, now: &State) -> Verdict {
    let newest = record.newest.get(tag).copied().unwrap_or(-1);
    if now.version > newest {
        let rule = "versions_were_written";
        return violation(
            rule,
            format_args!("{who} was told '{tag} {now}', of which {newest} is the newest"),
        );
    }
    Ok(())
}

/// After the `OK` to a `SET` every connection's `GET` sees that value or a newer one.
pub fn confirmed_writes_are_seen(who: &str, tag: &str, at_least: i64, now: &State) -> Verdict {
    // A polled device may refuse the point since.
    let is_refused = is_written_point(tag) && now.quality == "bad";
    if now.version < at_least && !is_refused {
        let rule = "confirmed_writes_are_seen";
        return violation(rule, format_args!("{who} got '{now}' of {tag} after {at_least} was confirmed"));
    }
    Ok(())
}

/// A subscriber is told only of tags that match one of its patterns.
pub fn only_what_is_subscribed<'p>(
    who: &str,
    tag: &str,
    mut patterns: impl Iterator<Item = &'p str>,
) -> Verdict {
    if !patterns.any(|pattern| matches(pattern, tag)) {
        return violation("only_what_is_subscribed", format_args!("{who} was told of {tag}"));
    }
    Ok(())
}

/// Whether a tag matches a pattern.
pub fn matches(pattern: &str, tag: &str) -> bool {
    let name = TagName::parse(tag).expect("the server tells of tags by their names");
    Pattern::parse(pattern).expect("peers subscribe to patterns").matches(name)
}

/// Every request gets exactly one reply, in order: `fits` says whether the line answers the oldest request
/// that has no reply yet.
pub fn one_reply_each_in_order(who: &str, oldest: Option<&str>, line: &str, fits: bool) -> Verdict {
    let rule = "one_reply_each_in_order";
    match oldest {
        None => violation(rule, format_args!("{who} asked nothing and got '{}'", clipped(line))),
        Some(oldest) if !fits => {
            violation(rule, format_args!("{who} asked '{}' and got '{}'", clipped(oldest), clipped(line)))
        }
        Some(_) => Ok(()),
    }
}

/// When all is quiet, and when an orderly end has come, no request waits for its reply.
pub fn no_request_is_left(who: &str, when: &str, waiting: usize, oldest: Option<&str>) -> Verdict {
    match oldest {
        Some(oldest) => violation(
            "no_request_is_left",
            format_args!("{when}, {who} waits for {waiting} replies, the oldest to '{}'", clipped(oldest)),
        ),
        None => Ok(()),
    }
}

/// When all is quiet, a subscriber has been told the state of every tag that matches, as it stands in the
/// table.
pub fn newest_after_quiet(
    who: &str,
    patterns: &[&str],
    table: &BTreeMap<String, State>,
    told: &BTreeMap<String, State>,
) -> Verdict {
    for (tag, now) in table {
        if !patterns.iter().any(|pattern| matches(pattern, tag)) {
            continue;
        }
        let last = told.get(tag);
        // A tag that is created with no value reads as before: that is no change.
        if last.is_none() && now.value == "null" {
            continue;
        }
        if !last.is_some_and(|last| last.value == now.value && last.quality == now.quality) {
            let last = last.map_or("nothing".to_owned(), State::to_string);
            let rule = "newest_after_quiet";
            return violation(rule, format_args!("{who} was told '{last}' of {tag}, which is '{now}'"));
        }
    }
    Ok(())
}

/// The longest update under default limits, and some more.
const ONE_UPDATE_BYTES: usize = 8 * 1024;

/// What is owed to one connection stays below the high-water mark and one update.
pub fn owed_within_limits(who: &str, owed: usize) -> Verdict {
    let most = HIGH_WATER_BYTES + ONE_UPDATE_BYTES;
    if owed > most {
        return violation("owed_within_limits", format_args!("{owed} bytes are owed to {who}, over {most}"));
    }
    Ok(())
}

/// One connection may take what it needs when the memory has just not been short: two of the largest buffers.
const OVERSHOOT_BYTES: usize = 160 * 1024;
/// The reply to a pending write, and the last words to somebody who is turned away, are put in any case.
const FEW_WORDS_BYTES: usize = 1_024;

/// All buffers together stay within `buffer_memory` and a bounded excess.
pub fn buffers_within_memory(engine: &Engine, buffer_memory: usize) -> Verdict {
    let most = buffer_memory + OVERSHOOT_BYTES + FEW_WORDS_BYTES * engine.len();
    let taken = engine.buffer_bytes();
    if taken > most {
        let rule = "buffers_within_memory";
        return violation(rule, format_args!("{taken} bytes are taken, over {most} (of {buffer_memory})"));
    }
    Ok(())
}

/// Turns in a row in which an engine may find nothing to do; a few are due to slices and to timers that have
/// moved.
const TURNS_FOR_NOTHING: u32 = 200;

/// An engine does not ask for one turn after the other and do nothing in them.
pub fn nobody_spins(host: usize, turns_for_nothing: u32) -> Verdict {
    if turns_for_nothing > TURNS_FOR_NOTHING {
        let rule = "nobody_spins";
        return violation(
            rule,
            format_args!("host{host} had {turns_for_nothing} turns for nothing, in a row"),
        );
    }
    Ok(())
}

/// When all is quiet nobody owns a buffer: nothing is owed, no frame is half there.
pub fn quiet_owns_no_buffer(engine: &Engine) -> Verdict {
    match engine.buffer_bytes() {
        0 => Ok(()),
        bytes => violation("quiet_owns_no_buffer", format_args!("{bytes} bytes are taken when all is quiet")),
    }
}

/// At the end the pools are full and the slab is empty: all was given back.
pub fn all_is_given_back(host: &str, engine: &Engine) -> Verdict {
    let (connections, bytes) = (engine.len(), engine.buffer_bytes());
    if (connections, bytes) != (0, 0) {
        let rule = "all_is_given_back";
        return violation(rule, format_args!("{host} ends with {connections} connections and {bytes} bytes"));
    }
    let metrics = engine.metrics();
    let (open, subscriptions) = (metrics.connections.value(), metrics.subscriptions.value());
    if (open, subscriptions) != (0, 0) {
        return violation(
            "all_is_given_back",
            format_args!("{host} ends with {open} connections and {subscriptions} subscriptions counted"),
        );
    }
    Ok(())
}

/// A driver is given an order once.
pub fn each_order_is_handed_out_once(record: &mut Record, ticket: Ticket, write: (String, i64)) -> Verdict {
    if record.ordered.insert((record.turn_of, ticket), write).is_some() {
        return violation("each_order_is_handed_out_once", format_args!("{ticket:?}"));
    }
    Ok(())
}

/// Each ticket settles once: who asked waits for it, and is told one end of it.
pub fn each_ticket_settles_once(record: &mut Record, who: &str, ticket: Ticket, waits: bool) -> Verdict {
    let rule = "each_ticket_settles_once";
    if !record.settled.insert((record.turn_of, ticket)) {
        return violation(rule, format_args!("{who} was told the end of {ticket:?} twice"));
    }
    if !waits {
        return violation(rule, format_args!("{who} was told the end of {ticket:?} and waits for none"));
    }
    Ok(())
}

/// A conversation is ended only for what its peer did: `excused` are the reasons that it gave, or the world
/// did.
pub fn nobody_is_closed_without_cause(who: &str, why: Option<End>, excused: &[End]) -> Verdict {
    let ordinary = [End::PeerClosed, End::Quit, End::Shutdown];
    match why {
        Some(why) if ordinary.contains(&why) || excused.contains(&why) => Ok(()),
        Some(why) => violation("nobody_is_closed_without_cause", format_args!("{who} was closed: {why}")),
        None => {
            violation("nobody_is_closed_without_cause", format_args!("{who} was cut off without a reason"))
        }
    }
}

/// Who is closed in an orderly way hears all last words: no reset takes them away.
pub fn last_words_are_heard(who: &str, why: Option<End>, broken: bool) -> Verdict {
    if broken && matches!(why, Some(End::PeerClosed | End::Quit | End::Shutdown)) {
        return violation("last_words_are_heard", format_args!("{who} was reset after an orderly end"));
    }
    Ok(())
}

/// When the engines are gone, no peer still believes itself connected.
pub fn everybody_hears_of_the_end(who: &str, connected: bool) -> Verdict {
    if connected {
        return violation("everybody_hears_of_the_end", format_args!("{who} has heard nothing"));
    }
    Ok(())
}

/// Nothing is asked of a session after its end.
pub fn nothing_after_the_end(who: &str, ended: bool, call: &str) -> Verdict {
    if ended {
        return violation("nothing_after_the_end", format_args!("{call} was called for {who}"));
    }
    Ok(())
}

/// Most bytes of a datagram of ours: what fits one Ethernet frame.
const DATAGRAM_BYTES: usize = 1_472;

/// A datagram of ours holds whole lines and fits one frame of the network.
pub fn datagrams_hold_whole_lines(who: &str, datagram: &[u8]) -> Verdict {
    if datagram.len() > DATAGRAM_BYTES || !datagram.ends_with(b"\n") {
        let text = String::from_utf8_lossy(datagram);
        let rule = "datagrams_hold_whole_lines";
        return violation(rule, format_args!("{who} was sent {} bytes: {}", datagram.len(), clipped(&text)));
    }
    Ok(())
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
