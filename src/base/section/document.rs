//! The file as a whole: its tree, and the list of mistakes with their places.

use std::cell::RefCell;
use std::fmt;

use super::tree::{Entry, Node, Tree, Value};
use super::{Scalar, Section};

/// One mistake in a configuration file, or what is likely to be one, shown as `file:line:column: what is
/// wrong, what is expected`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's name, as it was given.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong, and what is expected.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

impl std::error::Error for ConfigError {}

/// A place in a [`Document`], kept for errors that show only later, such as a tag declared twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot(pub(super) usize);

impl Spot {
    /// So many bytes behind the beginning of the file.
    pub fn new(byte: usize) -> Spot {
        Spot(byte)
    }
}

/// A parsed file and every mistake found in it so far.
#[derive(Debug)]
pub struct Document {
    file: String,
    text: String,
    root: Value,
    pub(super) torn: bool,
    found: RefCell<Vec<(Spot, String)>>,
    warnings: RefCell<Vec<(Spot, String)>>,
}

impl Document {
    /// Reads all that can be read of `text`; `file_name` is only for messages. Never fails: syntax errors
    /// join [`Document::errors`], and the values they spoil are not complained about twice.
    pub fn parse(file_name: &str, text: &str) -> Document {
        let Tree { root, found, torn } = Tree::read(text);
        let (file, text) = (file_name.to_owned(), text.to_owned());
        Document { file, text, root, torn, found: RefCell::new(found), warnings: RefCell::default() }
    }

    /// A file that is not TOML but rows of cells, which whoever reads it adds; [`Document::rows`] are then
    /// read like any table.
    pub fn of_rows(file_name: &str, text: &str) -> Document {
        let root = Value { at: Spot(0), node: Node::Array(Vec::new()) };
        let (file, text) = (file_name.to_owned(), text.to_owned());
        Document { file, text, root, torn: false, found: RefCell::default(), warnings: RefCell::default() }
    }

    /// Adds a row without cells.
    pub fn add_row(&mut self, at: Spot) {
        if let Node::Array(rows) = &mut self.root.node {
            rows.push(Value { at, node: Node::Table(Vec::new()) });
        }
    }

    /// Adds a cell to the last row. `None` is a value that cannot be read: the caller has said so, and no
    /// getter says it again.
    pub fn add_cell(&mut self, key: &str, at: Spot, value: Option<Scalar<'_>>) {
        let Node::Array(rows) = &mut self.root.node else { return };
        if let Some(Value { node: Node::Table(cells), .. }) = rows.last_mut() {
            cells.push(Entry { key: key.to_owned(), at, value: Value { at, node: Node::of(value) } });
        }
    }

    /// The rows of a file that is not TOML, each as a table.
    pub fn rows(&self) -> Vec<Section<'_>> {
        let rows = self.root.node.as_array().unwrap_or_default();
        rows.iter().map(|row| Section::new(self, "the row".to_owned(), row)).collect()
    }

    /// The file as a table.
    pub fn root(&self) -> Section<'_> {
        Section::new(self, String::new(), &self.root)
    }

    /// Every mistake so far, in the order of the file.
    pub fn errors(&self) -> Vec<ConfigError> {
        self.placed(self.found.borrow().clone())
    }

    /// What may run and is likely to be meant otherwise, in the order of the file.
    pub fn warnings(&self) -> Vec<ConfigError> {
        self.placed(self.warnings.borrow().clone())
    }

    fn placed(&self, mut found: Vec<(Spot, String)>) -> Vec<ConfigError> {
        found.sort_by_key(|(spot, _)| *spot);
        // One walk for all of them: a file of 100,000 tags may well be wrong 100,000 times.
        let (mut line, mut line_start, mut seen) = (1, 0, 0);
        let mut errors = Vec::with_capacity(found.len());
        for (Spot(at), message) in found {
            let at = boundary_before(&self.text, at);
            line += self.text[seen..at].matches('\n').count();
            line_start = self.text[seen..at].rfind('\n').map_or(line_start, |newline| seen + newline + 1);
            seen = at;
            let column = self.text[line_start..at].chars().count() + 1;
            errors.push(ConfigError { file: self.file.clone(), line, column, message });
        }
        errors
    }

    /// Adds a mistake that a caller found.
    pub fn error_at(&self, spot: Spot, message: impl Into<String>) {
        self.found.borrow_mut().push((spot, message.into()));
    }

    /// For messages that are reported elsewhere: `file:line`.
    pub fn place(&self, spot: Spot) -> String {
        format!("{}:{}", self.file, self.line(spot))
    }

    /// Adds something that is likely to be meant otherwise.
    pub fn warn_at(&self, spot: Spot, message: impl Into<String>) {
        self.warnings.borrow_mut().push((spot, message.into()));
    }

    /// The line of `spot`, from 1: for messages such as `already declared in line 12`.
    pub fn line(&self, spot: Spot) -> usize {
        self.text.as_bytes()[..spot.0.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// The largest character boundary of `text` that is not behind `at`.
fn boundary_before(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
