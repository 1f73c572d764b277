//! A client of the line protocol that takes nothing on trust: it knows what it asked, and checks every line
//! that comes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

use super::checkers::{self, State, Verdict};
use super::record::{Book, Record};

/// A request that has no reply yet.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Hello,
    /// A tag, and the version that it is set to. Whether a device has to agree.
    Set(String, i64, bool),
    /// A tag, and the version that was known to be written when it was asked.
    Get(String, i64),
    Ping(String),
    Time,
    Info,
    Help,
    Read(String),
    List(String),
    Sub(String),
    Unsub(String),
    Quit,
    /// Something that is refused with this code.
    Wrong(&'static str),
}

/// A reply of many lines that has begun.
#[derive(Default)]
struct Listed {
    lines: u64,
    last: String,
}

/// The newest state of each versioned tag that somebody was told of.
#[derive(Default)]
pub(super) struct Seen(BTreeMap<String, State>);

impl Seen {
    /// He is told of another.
    pub(super) fn see(&mut self, record: &Record, who: &str, tag: &str, state: &State) -> Verdict {
        if !checkers::is_versioned(tag) {
            return Ok(());
        }
        checkers::versions_were_written(record, who, tag, state)?;
        checkers::versions_never_go_back(who, tag, self.0.get(tag), state)?;
        self.0.insert(tag.to_owned(), state.clone());
        Ok(())
    }
}

/// What is known at the client's end of one connection after the other.
pub(super) struct Client {
    pub(super) name: String,
    book: Book,
    /// The line that has begun.
    partial: Vec<u8>,
    /// With the line as it was sent.
    asked: VecDeque<(Asked, String)>,
    listed: Option<Listed>,
    /// What any line told of.
    seen: Seen,
    /// The newest state of each tag as the subscriptions of this connection told of it.
    told: BTreeMap<String, State>,
    /// Subscriptions, and whether they were confirmed.
    patterns: BTreeMap<String, bool>,
    /// The newest version of each tag that was sent on this connection.
    sent: BTreeMap<String, i64>,
    /// `HELLO` was answered on this connection.
    greeted: bool,
    /// Another connection speaks for it by now, and this one writes nothing any more.
    denied: bool,
    /// The server has no room for this connection.
    refused: bool,
    /// Replies, in all connections.
    pub(super) replies: u64,
}

impl Client {
    pub(super) fn new(name: String, book: Book) -> Client {
        Client {
            name,
            book,
            partial: Vec::new(),
            asked: VecDeque::new(),
            listed: None,
            seen: Seen::default(),
            told: BTreeMap::new(),
            patterns: BTreeMap::new(),
            sent: BTreeMap::new(),
            greeted: false,
            denied: false,
            refused: false,
            replies: 0,
        }
    }

    /// A new connection: nothing is asked, nothing subscribed. What was seen stays true.
    pub(super) fn on_open(&mut self) {
        self.partial.clear();
        self.asked.clear();
        self.listed = None;
        self.told.clear();
        self.patterns.clear();
        self.sent.clear();
        self.greeted = false;
        self.denied = false;
        self.refused = false;
    }

    /// How many requests have no reply yet.
    pub(super) fn waiting(&self) -> usize {
        self.asked.len()
    }

    /// Whether the server had no room for this connection.
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether the server knows by this connection who is speaking.
    pub(super) fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// The patterns that are subscribed to, or about to be.
    pub(super) fn patterns(&self) -> Vec<String> {
        self.patterns.keys().cloned().collect()
    }

    /// Whether nothing is under way that changes the subscription to this pattern.
    pub(super) fn is_settled(&self, pattern: &str) -> bool {
        self.asked.iter().all(|(asked, _)| match asked {
            Asked::Sub(other) | Asked::Unsub(other) => other != pattern,
            _ => true,
        })
    }

    /// Write a request, and remember what to expect.
    pub(super) fn ask(&mut self, asked: Asked, line: &str, out: &mut String) {
        match &asked {
            Asked::Sub(pattern) => drop(self.patterns.entry(pattern.clone()).or_insert(false)),
            Asked::Set(tag, version, _) => {
                self.sent.insert(tag.clone(), *version);
                self.book.open().newest.insert(tag.clone(), *version);
            }
            _ => {}
        }
        let _ = writeln!(out, "{line}");
        self.asked.push_back((asked, line.to_owned()));
    }

    /// Ask for a tag's sample.
    pub(super) fn ask_get(&mut self, tag: &str, out: &mut String) {
        let confirmed = self.book.open().confirmed.get(tag).copied().unwrap_or(-1);
        let polled = is_polled(tag);
        let sent = self.sent.get(tag).copied().filter(|_| !polled).unwrap_or(-1);
        self.ask(Asked::Get(tag.to_owned(), confirmed.max(sent)), &format!("GET {tag}"), out);
    }

    /// Set a tag to its next version.
    pub(super) fn ask_set(&mut self, tag: &str, version: i64, padding: usize, out: &mut String) {
        let polled = is_polled(tag);
        let line = match padding {
            0 => format!("SET {tag} {version}"),
            _ => format!("SET {tag} \"{version} {}\"", "p".repeat(padding)),
        };
        self.ask(Asked::Set(tag.to_owned(), version, polled), &line, out);
    }

    /// Bytes came.
    pub(super) fn on_bytes(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.partial)).into_owned();
            self.on_line(&line);
        }
        self.partial.extend_from_slice(rest);
    }

    /// The server ended the conversation in an orderly way.
    pub(super) fn on_end(&mut self) {
        if !self.refused {
            self.check_nothing_waits("at the end");
        }
    }

    /// No request is left without its reply.
    pub(super) fn check_nothing_waits(&self, when: &str) {
        let oldest = self.asked.front().map(|(_, line)| line.as_str());
        self.book.judge(checkers::no_request_is_left(&self.name, when, self.asked.len(), oldest));
    }

    /// All is quiet: what was told is what is.
    pub(super) fn check_told(&self, table: &BTreeMap<String, State>) {
        let patterns: Vec<&str> =
            self.patterns.iter().filter(|(_, held)| **held).map(|(pattern, _)| pattern.as_str()).collect();
        self.book.judge(checkers::newest_after_quiet(&self.name, &patterns, table, &self.told));
    }

    fn on_line(&mut self, line: &str) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "UPD" if self.listed.is_none() => self.on_update(rest),
            "VAL" | "TAG" | "INFO" | "HELP" => self.on_data(verb, rest, line),
            "OK" | "ERR" => self.on_final(verb, rest, line),
            _ => self.judge_reply(line, false),
        }
    }

    /// Whether `line` may come now, as a reply to what was asked first.
    fn judge_reply(&self, line: &str, fits: bool) {
        let oldest = self.asked.front().map(|(_, asked)| asked.as_str());
        self.book.judge(checkers::one_reply_each_in_order(&self.name, oldest, line, fits));
    }

    fn on_update(&mut self, rest: &str) {
        let Some((tag, state)) = sample_of(rest) else { return self.judge_reply(rest, false) };
        let patterns = self.patterns.keys().map(String::as_str);
        self.book.judge(checkers::only_what_is_subscribed(&self.name, tag, patterns));
        self.see(tag, &state);
        self.told.insert(tag.to_owned(), state);
    }

    fn on_data(&mut self, verb: &str, rest: &str, line: &str) {
        let pattern = match (verb, self.asked.front().map(|(asked, _)| asked)) {
            ("VAL", Some(Asked::Read(pattern) | Asked::Sub(pattern))) => Some(pattern.clone()),
            ("TAG", Some(Asked::List(pattern))) => Some(pattern.clone()),
            ("INFO", Some(Asked::Info)) | ("HELP", Some(Asked::Help)) => None,
            _ => return self.judge_reply(line, false),
        };
        let listed = self.listed.get_or_insert_default();
        listed.lines += 1;
        let Some(pattern) = pattern else { return };
        let tag = rest.split(' ').next().unwrap_or("");
        let fits = listed.last.as_str() < tag && checkers::matches(&pattern, tag);
        listed.last = tag.to_owned();
        self.judge_reply(line, fits);
        if verb == "VAL" {
            let Some((tag, state)) = sample_of(rest) else { return self.judge_reply(line, false) };
            self.see(tag, &state);
            if matches!(self.asked.front(), Some((Asked::Sub(_), _))) {
                self.told.insert(tag.to_owned(), state);
            }
        }
    }

    fn on_final(&mut self, verb: &str, rest: &str, line: &str) {
        if line.starts_with("ERR limit connections") && self.replies_of_connection_are_none() {
            self.refused = true;
            self.asked.clear();
            return;
        }
        let listed = self.listed.take().map_or(0, |listed| listed.lines);
        let fits = match self.asked.front().map(|(asked, _)| asked) {
            None => false,
            Some(Asked::Set(_, _, false)) if self.greeted && line.starts_with("ERR denied") => {
                self.denied = true;
                true
            }
            Some(asked) => fits(asked, verb, rest, listed),
        };
        self.judge_reply(line, fits);
        self.replies += 1;
        let Some((asked, _)) = self.asked.pop_front() else { return };
        match asked {
            Asked::Hello => self.greeted = true,
            Asked::Set(tag, version, by_device) if verb == "OK" => {
                let mut record = self.book.open();
                if by_device {
                    let verdict = checkers::answered_after_the_device(&record, &self.name, &tag, version);
                    record.judge(verdict);
                }
                record.confirm(&tag, version);
            }
            Asked::Set(tag, version, true) if rest.starts_with("offline") => {
                let mut record = self.book.open();
                let verdict = checkers::on_offline(&mut record, &tag, version);
                record.judge(verdict);
            }
            Asked::Set(tag, version, true) if rest.starts_with("timeout") => {
                self.book.open().outdate(&tag, version);
            }
            Asked::Get(tag, at_least) if verb == "OK" => {
                if let Some(state) = State::parse(rest) {
                    // What it was to see may be what it sent and was denied.
                    let at_least = if self.denied { -1 } else { at_least };
                    self.book.judge(checkers::confirmed_writes_are_seen(&self.name, &tag, at_least, &state));
                    self.see(&tag, &state);
                }
            }
            Asked::Sub(pattern) if verb == "OK" => drop(self.patterns.insert(pattern, true)),
            Asked::Sub(pattern) | Asked::Unsub(pattern) => drop(self.patterns.remove(&pattern)),
            _ => {}
        }
    }

    /// Whether nothing was answered since the connection was opened: only the first line can say that there
    /// is no room.
    fn replies_of_connection_are_none(&self) -> bool {
        self.listed.is_none() && self.told.is_empty()
    }

    fn see(&mut self, tag: &str, state: &State) {
        let mut record = self.book.open();
        let verdict = self.seen.see(&record, &self.name, tag, state);
        record.judge(verdict.and_then(|()| checkers::no_value_is_torn(&self.name, tag, state)));
    }
}

/// Whether a device has to agree before a tag is written.
fn is_polled(tag: &str) -> bool {
    tag.starts_with("plc") || tag.starts_with("fld")
}

/// `tag value quality time`
fn sample_of(text: &str) -> Option<(&str, State)> {
    let (tag, sample) = text.split_once(' ')?;
    Some((tag, State::parse(sample)?))
}

/// Whether this final line, after so many data lines, answers that request.
fn fits(asked: &Asked, verb: &str, rest: &str, listed: u64) -> bool {
    let code = rest.split(' ').next().unwrap_or("");
    let counted = verb == "OK" && rest.parse() == Ok(listed);
    match asked {
        Asked::Read(_) | Asked::List(_) | Asked::Info | Asked::Help => return counted,
        // A connection has a limited number of subscriptions.
        Asked::Sub(_) => return counted || (verb == "ERR" && code == "limit" && listed == 0),
        _ if listed > 0 => return false,
        _ => {}
    }
    match asked {
        Asked::Hello => verb == "OK" && rest == "lumina 1",
        Asked::Set(_, _, true) => verb == "OK" || matches!(code, "device" | "timeout" | "offline" | "limit"),
        Asked::Set(..) | Asked::Unsub(_) | Asked::Quit => verb == "OK" && rest.is_empty(),
        Asked::Get(_, -1) if verb == "ERR" => code == "not-found",
        Asked::Get(..) => verb == "OK" && State::parse(rest).is_some(),
        Asked::Ping(text) => verb == "OK" && rest == text,
        Asked::Time => verb == "OK" && rest.parse::<i64>().is_ok(),
        Asked::Wrong(code_wanted) => verb == "ERR" && code == *code_wanted,
        Asked::Read(_) | Asked::List(_) | Asked::Info | Asked::Help | Asked::Sub(_) => false,
    }
}
