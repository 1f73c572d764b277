//! Where points were read from: the configuration file itself, or a table that it names. What shows only
//! where all points of a device come together is reported there.

use super::points::{Draft, read_points};
use super::table;
use crate::base::section::{ConfigError, Document, Spot};

/// Where a point stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The number of the table; `None` for the configuration file.
    pub(super) table: Option<usize>,
    pub(super) at: Spot,
}

/// The files that points were read from.
pub(super) struct Sources<'a> {
    configuration: &'a Document,
    tables: Vec<Table>,
}

/// A table that was read, once for all devices that name it.
struct Table {
    file: String,
    document: Document,
    points: Vec<Draft>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(configuration: &'a Document) -> Sources<'a> {
        Sources { configuration, tables: Vec::new() }
    }

    /// The points of a table that was read.
    pub(super) fn points(&self, file: &str) -> Option<&[Draft]> {
        let table = self.tables.iter().find(|table| table.file == file)?;
        Some(&table.points)
    }

    /// Reads a table.
    pub(super) fn add(&mut self, file: &str, text: &str) -> &[Draft] {
        let document = table::read(file, text);
        let points = read_points(document.rows(), Some(self.tables.len()));
        self.tables.push(Table { file: file.to_owned(), document, points });
        &self.tables[self.tables.len() - 1].points
    }

    /// Adds a mistake at a point.
    pub(super) fn error(&self, place: Place, message: String) {
        self.document(place).error_at(place.at, message);
    }

    /// `file:line`, for a mistake elsewhere.
    pub(super) fn show(&self, place: Place) -> String {
        self.document(place).place(place.at)
    }

    /// All that is wrong in the tables.
    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.tables.iter().flat_map(|table| table.document.errors()).collect()
    }

    fn document(&self, place: Place) -> &Document {
        place.table.map_or(self.configuration, |table| &self.tables[table].document)
    }
}
