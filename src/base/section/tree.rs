//! What toml's recoverable parse could read, copied into a tree that owns its text, with the spoilt values
//! marked.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::Scalar;
use super::document::Spot;
use super::words::shortened;

#[derive(Debug)]
pub(super) struct Value {
    pub(super) at: Spot,
    pub(super) node: Node,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Spot,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Bool(bool),
    Integer(i64),
    Float(f64),
    Date,
    Array(Vec<Value>),
    Table(Vec<Entry>),
    /// Not readable, which is on the list already: no getter complains again.
    Broken,
}

impl Node {
    /// What was read elsewhere than in TOML; `None` if it could not be.
    pub(super) fn of(value: Option<Scalar<'_>>) -> Node {
        match value {
            Some(Scalar::Bool(value)) => Node::Bool(value),
            Some(Scalar::Integer(value)) => Node::Integer(value),
            Some(Scalar::Float(value)) => Node::Float(value),
            Some(Scalar::Text(text)) => Node::Text(text.to_owned()),
            None => Node::Broken,
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        if let Node::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn as_array(&self) -> Option<&[Value]> {
        if let Node::Array(items) = self { Some(items) } else { None }
    }

    pub(super) fn as_table(&self) -> Option<&[Entry]> {
        if let Node::Table(entries) = self { Some(entries) } else { None }
    }

    /// For messages: `'port' is …`.
    pub(super) fn show(&self) -> String {
        match self {
            Node::Text(text) => format!("the text \"{}\"", shortened(text)),
            Node::Bool(value) => format!("the boolean {value}"),
            Node::Integer(value) => format!("the integer {value}"),
            Node::Float(value) => format!("the float {value}"),
            Node::Date => "a date".to_owned(),
            Node::Array(_) => "a list".to_owned(),
            Node::Table(_) => "a table".to_owned(),
            Node::Broken => "unreadable".to_owned(),
        }
    }
}

/// A tree and what is wrong with the text it was read from.
pub(super) struct Tree {
    pub(super) root: Value,
    pub(super) found: Vec<(Spot, String)>,
    /// There were syntax errors: an absent key may stand on a line that could not be read.
    pub(super) torn: bool,
}

impl Tree {
    pub(super) fn read(text: &str) -> Tree {
        // toml's recovery gives up the whole rest at a key without `=`, by far the commonest slip. Blanking
        // such lines lets it see the rest; a blank has the line's length, so that all places stay true.
        let (_, mut errors) = DeTable::parse_recoverable(text);
        errors.retain(|error| error.message().starts_with("key with no value"));
        let mut readable = text.to_owned();
        for error in &errors {
            let line = line_around(text, start_of(error));
            readable.replace_range(line.clone(), &" ".repeat(line.len()));
        }
        let (table, more) = DeTable::parse_recoverable(&readable);
        errors.extend(more);
        errors.sort_by_key(start_of);

        let spoilt = errors.iter().map(start_of).collect();
        let mut found: Vec<_> =
            errors.iter().map(|error| (Spot(start_of(error)), syntax_message(error, text))).collect();
        found.dedup();
        let mut reader = Reader { spoilt, found };
        let node = Node::Table(reader.table(table.get_ref()));
        Tree { root: Value { at: Spot(0), node }, found: reader.found, torn: !errors.is_empty() }
    }
}

struct Reader {
    /// Where the syntax errors are, ascending.
    spoilt: Vec<usize>,
    found: Vec<(Spot, String)>,
}

impl Reader {
    /// toml bounds the nesting, so the recursion is bounded too.
    fn table(&mut self, table: &DeTable<'_>) -> Vec<Entry> {
        let entries = table.iter().map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            at: Spot(key.span().start),
            value: self.value(value),
        });
        entries.collect()
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>) -> Value {
        let span = value.span();
        let at = Spot(span.start);
        let node = match value.get_ref() {
            // A table's span is its header; its entries are broken or not each for itself.
            DeValue::Table(table) => Node::Table(self.table(table)),
            _ if self.is_spoilt(span) => Node::Broken,
            DeValue::String(text) => Node::Text(text.to_string()),
            DeValue::Boolean(value) => Node::Bool(*value),
            DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(value) => Node::Integer(value),
                Err(_) => self.out_of_range(at, digits.as_str(), "an integer of 64 bits"),
            },
            DeValue::Float(digits) => match digits.as_str().parse::<f64>() {
                Ok(value) if value.is_finite() || digits.as_str().contains(['i', 'n']) => Node::Float(value),
                _ => self.out_of_range(at, digits.as_str(), "a float of 64 bits"),
            },
            DeValue::Datetime(_) => Node::Date,
            DeValue::Array(items) => Node::Array(items.iter().map(|item| self.value(item)).collect()),
        };
        Value { at, node }
    }

    fn out_of_range(&mut self, at: Spot, digits: &str, expected: &str) -> Node {
        self.found.push((at, format!("{} is out of range, expected {expected}", shortened(digits))));
        Node::Broken
    }

    /// The end counts too: that is where a missing quote or bracket is reported.
    fn is_spoilt(&self, span: Range<usize>) -> bool {
        // What toml made up, as after `key = = 5`, has no place in the text.
        if span.is_empty() {
            return true;
        }
        let first = self.spoilt.partition_point(|at| *at < span.start);
        self.spoilt.get(first).is_some_and(|at| *at <= span.end)
    }
}

fn start_of(error: &Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

fn line_around(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
    start..end
}

/// toml's own words, but where they would mislead or leave out what is meant.
fn syntax_message(error: &Error, text: &str) -> String {
    let culprit = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    let message = error.message();
    if message == "duplicate key" {
        format!("duplicate key '{}', expected each key once", shortened(culprit))
    } else if message.starts_with("string values must be quoted") {
        let wrong = match culprit {
            "" => "the value is missing".to_owned(),
            _ => format!("'{}' is not a value", shortened(culprit)),
        };
        format!("{wrong}, expected text in quotes, a number, true or false")
    } else {
        message.to_owned()
    }
}
