//! The configuration reader: typed getters over a TOML document that collect every mistake with its place, so
//! that one run of `lumina check` shows them all. serde's derive was rejected: it stops at the first.
//!
//! A getter answers `None` both for an absent key and for a wrong value; the latter is on the document's
//! list, so a caller goes on with its default and the list decides at the end whether anything may run.
//!
//! ```
//! use lumina::base::section::Document;
//!
//! let document = Document::parse("lumina.toml", "[server]\nmax_tag = 5\n");
//! if let Some(server) = document.root().table("server") {
//!     server.integer("max_tags", 1..=1_000_000);
//!     server.finish();
//! }
//! let errors = document.errors();
//! assert_eq!(errors[0].to_string(), "lumina.toml:2:1: unknown key 'max_tag', did you mean 'max_tags'?");
//! ```

mod document;
mod tree;
mod units;
mod words;

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

pub use self::document::{ConfigError, Document, Spot};
use self::tree::{Entry, Node, Value};
pub use self::units::{parse_duration, parse_size};
use self::units::{show_duration, show_size};
use self::words::quoted;
pub use self::words::{nearest, shortened};

/// Beyond so many known keys, listing them all would hide the message.
const LISTED_KEYS_MAX: usize = 12;
const MICROSECOND: Duration = Duration::from_micros(1);

/// A value that may have any simple type; see [`Section::scalar`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar<'d> {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction or an exponent, or `inf` or `nan`.
    Float(f64),
    /// Text in quotes.
    Text(&'d str),
}

/// A table of a [`Document`]. Each getter makes its key a known one; [`Section::finish`] complains of the
/// others.
#[derive(Debug)]
#[must_use = "keys that nobody asked for are found by `finish`"]
pub struct Section<'d> {
    document: &'d Document,
    path: String,
    at: Spot,
    entries: &'d [Entry],
    known: RefCell<Vec<&'static str>>,
}

impl<'d> Section<'d> {
    fn new(document: &'d Document, path: String, value: &'d Value) -> Section<'d> {
        let entries = match &value.node {
            Node::Table(entries) => entries.as_slice(),
            _ => &[],
        };
        Section { document, path, at: value.at, entries, known: RefCell::default() }
    }

    /// The file that the section is in.
    pub fn document(&self) -> &'d Document {
        self.document
    }

    /// Where the section is, such as `listen[2]` for the second `[[listen]]`; empty for the file itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The place of the key's value, or of the section if the key is absent.
    pub fn spot(&self, key: &str) -> Spot {
        self.entry(key).map_or(self.at, |entry| entry.value.at)
    }

    /// A place of the file, for messages that are reported elsewhere: `file:line`.
    pub fn place(&self, spot: Spot) -> String {
        self.document.place(spot)
    }

    /// Adds a mistake at the key's value, or at the section if the key is absent.
    pub fn error(&self, key: &str, message: impl Into<String>) {
        self.document.error_at(self.spot(key), message);
    }

    /// Adds a warning at the key's value, or at the section if the key is absent: it may run so, and is
    /// likely to be meant otherwise.
    pub fn warn(&self, key: &str, message: impl Into<String>) {
        self.document.warn_at(self.spot(key), message);
    }

    /// Notes that the value of `key`, which is set, is something other than what is `expected`.
    pub fn error_expecting(&self, key: &str, expected: &str) {
        let shown = self.entry(key).map(|entry| entry.value.node.show()).unwrap_or_default();
        self.error(key, format!("'{key}' is {shown}, expected {expected}"));
    }

    /// Whether the key is set, rightly or wrongly.
    pub fn has(&self, key: &'static str) -> bool {
        self.learn(key);
        self.entry(key).is_some()
    }

    /// Whether the key is a table, where it may be something simpler as well.
    pub fn is_table(&self, key: &'static str) -> bool {
        self.learn(key);
        self.entry(key).is_some_and(|entry| entry.value.node.as_table().is_some())
    }

    /// Makes the key's absence a mistake; `expected` says what belongs there (`text`, `an address`).
    pub fn require(&self, key: &'static str, expected: &str) {
        // In a torn file the line may be there and unreadable, which was said already.
        if !self.has(key) && !self.document.torn {
            let place = if self.path.is_empty() { "the file" } else { &self.path };
            self.document.error_at(self.at, format!("'{key}' is missing in {place}, expected {expected}"));
        }
    }

    /// Any text.
    pub fn text(&self, key: &'static str) -> Option<&'d str> {
        self.read(key, "text in quotes", Node::as_text)
    }

    /// Text that has to be there.
    pub fn required_text(&self, key: &'static str) -> Option<&'d str> {
        self.require(key, "text");
        self.text(key)
    }

    /// Text that `parse` turns into a type of the caller's; its error stands at the value.
    pub fn parse<T>(&self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.parse_expecting(key, "text in quotes", parse)
    }

    /// `true` or `false`.
    pub fn bool(&self, key: &'static str) -> Option<bool> {
        self.read(key, "true or false", |node| match node {
            Node::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// A whole number within `range`.
    pub fn integer(&self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let expected = match (*range.start(), *range.end()) {
            (i64::MIN, i64::MAX) => "an integer".to_owned(),
            (least, i64::MAX) => format!("an integer of at least {least}"),
            (least, most) => format!("an integer from {least} to {most}"),
        };
        self.read(key, &expected, |node| match node {
            Node::Integer(value) if range.contains(value) => Some(*value),
            _ => None,
        })
    }

    /// A number, whole or not, infinite too. NaN is refused: no comparison with it means anything.
    pub fn float(&self, key: &'static str) -> Option<f64> {
        self.read(key, "a number", |node| match node {
            Node::Integer(value) => Some(*value as f64),
            Node::Float(value) if !value.is_nan() => Some(*value),
            _ => None,
        })
    }

    /// A duration above zero, as [`parse_duration`] reads it.
    pub fn duration(&self, key: &'static str) -> Option<Duration> {
        self.duration_in(key, MICROSECOND..=Duration::MAX)
    }

    /// A duration within `range`, as [`parse_duration`] reads it.
    pub fn duration_in(&self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let expected = match (*range.start(), *range.end()) {
            (MICROSECOND, Duration::MAX) => "a duration above zero".to_owned(),
            (least, Duration::MAX) => format!("a duration of at least {}", show_duration(least)),
            (least, most) => format!("a duration from {} to {}", show_duration(least), show_duration(most)),
        };
        let value =
            self.parse_expecting(key, "a duration in quotes such as \"500ms\" or \"10s\"", parse_duration)?;
        self.within(key, value, &range, &expected)
    }

    /// A size in bytes within `range`, as [`parse_size`] reads it.
    pub fn size(&self, key: &'static str, range: RangeInclusive<usize>) -> Option<usize> {
        let expected = match (*range.start(), *range.end()) {
            (least, usize::MAX) => format!("a size of at least {}", show_size(least)),
            (least, most) => format!("a size from {} to {}", show_size(least), show_size(most)),
        };
        let value =
            self.parse_expecting(key, "a size in quotes such as \"64KiB\" or \"16MiB\"", parse_size)?;
        self.within(key, value, &range, &expected)
    }

    /// The meaning of one of a few words.
    pub fn one_of<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let names = || words.iter().map(|(word, _)| *word);
        let expected = format!("one of {}", quoted(names()));
        self.parse_expecting(key, &expected, |text| match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(*meaning),
            None => Err(match nearest(text, names()) {
                Some(word) => format!("'{text}' is unknown, did you mean '{word}'? Expected {expected}"),
                None => format!("'{}' is unknown, expected {expected}", shortened(text)),
            }),
        })
    }

    /// A list of texts; none of it if one of them is something else.
    pub fn list_of_text(&self, key: &'static str) -> Option<Vec<&'d str>> {
        let items = self.read(key, "a list of texts", Node::as_array)?;
        let texts: Vec<&str> =
            items.iter().filter_map(|item| self.item(key, item, "text", Node::as_text)).collect();
        (texts.len() == items.len()).then_some(texts)
    }

    /// A simple value of any type.
    pub fn scalar(&self, key: &'static str) -> Option<Scalar<'d>> {
        self.read(key, "text, a number, true or false", |node| match node {
            Node::Bool(value) => Some(Scalar::Bool(*value)),
            Node::Integer(value) => Some(Scalar::Integer(*value)),
            Node::Float(value) => Some(Scalar::Float(*value)),
            Node::Text(value) => Some(Scalar::Text(value)),
            _ => None,
        })
    }

    /// The table below `key`.
    pub fn table(&self, key: &'static str) -> Option<Section<'d>> {
        let expected = format!("a single table under [{key}]");
        self.read(key, &expected, Node::as_table)?;
        Some(Section::new(self.document, self.path_of(key), &self.entry(key)?.value))
    }

    /// The tables of an array of tables, in the order of the file; none if the key is absent.
    pub fn tables(&self, key: &'static str) -> Vec<Section<'d>> {
        let expected = format!("a list of tables, each under [[{key}]] with double brackets");
        let items = self.read(key, &expected, Node::as_array).unwrap_or_default();
        let tables = items.iter().enumerate().filter_map(|(index, item)| {
            self.item(key, item, "a table", Node::as_table)?;
            Some(Section::new(self.document, format!("{}[{}]", self.path_of(key), index + 1), item))
        });
        tables.collect()
    }

    /// Makes each key that no getter asked for a mistake. To be called after the last getter.
    pub fn finish(self) {
        let known = self.known.borrow();
        for entry in self.entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let mut message = format!("unknown key '{}'", shortened(&entry.key));
            if let Some(key) = nearest(&entry.key, known.iter().copied()) {
                message += &format!(", did you mean '{key}'?");
            } else if (1..=LISTED_KEYS_MAX).contains(&known.len()) {
                message += &format!(", expected one of {}", quoted(known.iter().copied()));
            }
            self.document.error_at(entry.at, message);
        }
    }

    fn learn(&self, key: &'static str) {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
    }

    fn entry(&self, key: &str) -> Option<&'d Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn read<T>(&self, key: &'static str, expected: &str, read: impl Fn(&'d Node) -> Option<T>) -> Option<T> {
        self.learn(key);
        self.item(key, &self.entry(key)?.value, expected, read)
    }

    /// Reads the value of `key` or an item of its list.
    fn item<T>(
        &self,
        key: &str,
        value: &'d Value,
        expected: &str,
        read: impl Fn(&'d Node) -> Option<T>,
    ) -> Option<T> {
        let result = read(&value.node);
        if result.is_none() && !matches!(value.node, Node::Broken) {
            self.document
                .error_at(value.at, format!("'{key}' is {}, expected {expected}", value.node.show()));
        }
        result
    }

    fn parse_expecting<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.read(key, expected, Node::as_text)?;
        parse(text).map_err(|message| self.error(key, format!("'{key}': {message}"))).ok()
    }

    fn within<T: PartialOrd>(
        &self,
        key: &str,
        value: T,
        range: &RangeInclusive<T>,
        expected: &str,
    ) -> Option<T> {
        if range.contains(&value) {
            return Some(value);
        }
        self.error_expecting(key, expected);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `toml` as a small schema of every kind of getter would, and compares the errors.
    #[track_caller]
    fn check(toml: &str, expected: &[&str]) {
        let document = Document::parse("f", toml);
        read(document.root());
        let errors: Vec<String> = document.errors().iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected, "{toml}");
    }

    fn read(root: Section<'_>) {
        if let Some(server) = root.table("server") {
            server.text("name");
            server.integer("max_tags", 1..=1_000_000);
            server.bool("create_tags");
            server.size("buffer_memory", 4096..=1 << 30);
            server.duration_in("shutdown_grace", Duration::ZERO..=Duration::from_secs(60));
            server.list_of_text("hosts");
            server.finish();
        }
        for listen in root.tables("listen") {
            listen.required_text("url");
            listen.duration("idle_timeout");
            listen.finish();
        }
        for tag in root.tables("tag") {
            tag.require("name", "a tag's name");
            tag.parse("name", |name| if name.contains('#') { Err("no # please".into()) } else { Ok(()) });
            tag.one_of("type", &[("bool", 1), ("int", 2), ("float", 3)]);
            tag.scalar("initial");
            tag.float("min");
            if tag.has("max") && tag.float("max").is_some_and(|max| max < 0.0) {
                tag.error("max", "max is negative");
            }
            tag.finish();
        }
        root.finish();
    }

    #[test]
    fn right_files() {
        check("", &[]);
        check("# nothing\r\n[server]\r\nname = 'x' # é\r\nhosts = []\r\n", &[]);
        check(
            "listen = [{url = 'a'}, {url = 'b', idle_timeout = '1.5s'}]\nserver.max_tags = 0x10\n\
             [[tag]]\nname = 'a'\ntype = 'int'\ninitial = nan\nmin = 3\nmax = inf\n",
            &[],
        );
    }

    #[test]
    fn wrong_values() {
        check("[server]\nname = 5", &["f:2:8: 'name' is the integer 5, expected text in quotes"]);
        check(
            "[server]\nmax_tags = 2_000_000\ncreate_tags = 1\n",
            &[
                "f:2:12: 'max_tags' is the integer 2000000, expected an integer from 1 to 1000000",
                "f:3:15: 'create_tags' is the integer 1, expected true or false",
            ],
        );
        check(
            "[server]\nbuffer_memory = '1KiB'\nshutdown_grace = '2m'\n",
            &[
                "f:2:17: 'buffer_memory' is the text \"1KiB\", expected a size from 4KiB to 1GiB",
                "f:3:18: 'shutdown_grace' is the text \"2m\", expected a duration from 0us to 1m",
            ],
        );
        check(
            "[server]\nbuffer_memory = 4096\nhosts = ['a', 1]",
            &[
                "f:2:17: 'buffer_memory' is the integer 4096, expected a size in quotes such as \
                 \"64KiB\" or \"16MiB\"",
                "f:3:15: 'hosts' is the integer 1, expected text",
            ],
        );
        check(
            "[[listen]]\nurl = 'a'\nidle_timeout = '0s'\n[[listen]]\nidle_timeout = '10 s'",
            &[
                "f:3:16: 'idle_timeout' is the text \"0s\", expected a duration above zero",
                "f:4:1: 'url' is missing in listen[2], expected text",
                "f:5:16: 'idle_timeout': '10 s' is not a duration, expected a number and a unit such as \
                 500ms, 1.5s, 10m, 2h or 1d",
            ],
        );
        check(
            "[[tag]]\nname = 'é#'\ntype = 'flaot'\nmin = nan\nmax = -1\n[[tag]]\nname = 'b'\ntype = 'text'\n\
             initial = 1979-05-27",
            &[
                "f:2:8: 'name': no # please",
                "f:3:8: 'type': 'flaot' is unknown, did you mean 'float'? Expected one of 'bool', \
                 'int', 'float'",
                "f:4:7: 'min' is the float NaN, expected a number",
                "f:5:7: max is negative",
                "f:8:8: 'type': 'text' is unknown, expected one of 'bool', 'int', 'float'",
                "f:9:11: 'initial' is a date, expected text, a number, true or false",
            ],
        );
        check(
            "[[tag]]\nname = 'a'\nmin = 1e999\ninitial = 99999999999999999999",
            &[
                "f:3:7: 1e999 is out of range, expected a float of 64 bits",
                "f:4:11: 99999999999999999999 is out of range, expected an integer of 64 bits",
            ],
        );
    }

    #[test]
    fn wrong_tables() {
        check("[[server]]", &["f:1:1: 'server' is a list, expected a single table under [server]"]);
        check(
            "tag = [1]\n[listen]\nurl = 'x'",
            &[
                "f:1:8: 'tag' is the integer 1, expected a table",
                "f:2:1: 'listen' is a table, expected a list of tables, each under [[listen]] with \
                 double brackets",
            ],
        );
    }

    #[test]
    fn unknown_keys() {
        check(
            "x = 1\n[[listen]]\nurl = 'é'\nidle_timout = '1s'\n[srever]\n[server]\nabcdef = 1\n",
            &[
                "f:1:1: unknown key 'x', expected one of 'server', 'listen', 'tag'",
                "f:4:1: unknown key 'idle_timout', did you mean 'idle_timeout'?",
                "f:5:2: unknown key 'srever', did you mean 'server'?",
                "f:7:1: unknown key 'abcdef', expected one of 'name', 'max_tags', 'create_tags', \
                 'buffer_memory', 'shutdown_grace', 'hosts'",
            ],
        );
    }

    #[test]
    fn syntax_errors_do_not_hide_the_rest() {
        let missing_equals = "expected `=`";
        check(
            "[server]\nname \"x\"\nmax_tags = 0\ncreate tags = true\n[[listen]]\nidle_timeout = 10\n",
            &[
                &format!("f:2:6: key with no value, {missing_equals}"),
                "f:3:12: 'max_tags' is the integer 0, expected an integer from 1 to 1000000",
                &format!("f:4:8: key with no value, {missing_equals}"),
                "f:6:16: 'idle_timeout' is the integer 10, expected a duration in quotes such as \
                 \"500ms\" or \"10s\"",
            ],
        );
        check(
            "[server]\nname = x\nmax_tags =\ncreate_tags = tru\nhosts = ['a', b]\n\
             buffer_memory = \"1KiB\nnme = 1",
            &[
                "f:2:8: 'x' is not a value, expected text in quotes, a number, true or false",
                "f:3:11: the value is missing, expected text in quotes, a number, true or false",
                "f:4:15: invalid boolean, expected `true`",
                "f:5:15: 'b' is not a value, expected text in quotes, a number, true or false",
                "f:6:22: invalid basic string, expected `\"`",
                "f:7:1: unknown key 'nme', did you mean 'name'?",
            ],
        );
        check(
            "[server]\nname = 'a'\nname = 'b'\n[server]\nnme = 1\n",
            &[
                "f:3:1: duplicate key 'name', expected each key once",
                "f:4:2: duplicate key 'server', expected each key once",
                "f:5:1: unknown key 'nme', did you mean 'name'?",
            ],
        );
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        let specimen =
            "[server]\nname = \"é\"\r\nhosts = ['a', '''b''']\n[[tag]]\nname={a=1,b.c=2}\nmin=-1_0.5e3\n";
        for cut in (0..=specimen.len()).filter(|cut| specimen.is_char_boundary(*cut)) {
            for insert in ["", "\n", "[", "]", "=", "\"", "'''", "\u{feff}", "\0", "{", "a b\n", "é", "\\"] {
                let text = format!("{}{insert}{}", &specimen[..cut], &specimen[cut..]);
                for text in [&text, &text[..cut + insert.len()]] {
                    let document = Document::parse("f", text);
                    read(document.root());
                    document.errors();
                }
            }
        }
    }

    #[test]
    fn places_for_later() {
        let document = Document::parse("f", "a = 1\n\nb = 'ä'");
        let root = document.root();
        assert_eq!((root.scalar("a"), root.scalar("b")), (Some(Scalar::Integer(1)), Some(Scalar::Text("ä"))));
        let spot = root.spot("b");
        root.finish();
        document.error_at(spot, format!("like line {}", document.line(spot)));
        assert_eq!(document.errors()[0].to_string(), "f:3:5: like line 3");
    }
}
