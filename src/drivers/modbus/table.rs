//! Points as a spreadsheet saves them: CSV, a point a line, with columns named as the keys of
//! `[[device.tag]]`. Fields are made into the values that the configuration reader knows, and stand where
//! they do in the file, so that one reader serves both.

use crate::base::section::{Document, Scalar, Spot, nearest, shortened};

/// What the fields of a column hold.
#[derive(Clone, Copy)]
enum Content {
    Text,
    Number,
    Truth,
    /// `500ms`
    Duration,
    /// `0.5` or `1%`
    Deadband,
}

const COLUMNS: [(&str, Content); 14] = [
    ("name", Content::Text),
    ("address", Content::Text),
    ("type", Content::Text),
    ("order", Content::Text),
    ("scale", Content::Number),
    ("offset", Content::Number),
    ("min", Content::Number),
    ("max", Content::Number),
    ("access", Content::Text),
    ("verify", Content::Truth),
    ("rate", Content::Duration),
    ("deadband", Content::Deadband),
    ("units", Content::Text),
    ("description", Content::Text),
];
const REQUIRED: [&str; 2] = ["name", "address"];

/// What the first line says of a column.
#[derive(Clone, Copy)]
enum Column {
    Known(&'static str, Content),
    /// Unknown or there twice, which was said.
    Wrong,
    /// Nothing may stand there.
    Unnamed,
}

struct Field {
    at: Spot,
    text: String,
}

/// Reads a table; what is wrong with it is among the document's mistakes. Fields are parted by tabs or
/// semicolons if the first line has any, else by commas. A byte order mark, empty lines and empty fields mean
/// nothing.
pub(super) fn read(file: &str, text: &str) -> Document {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first_line = text.lines().next().unwrap_or_default();
    let separator = ['\t', ';'].into_iter().find(|known| first_line.contains(*known)).unwrap_or(',');
    let mut document = Document::of_rows(file, text);
    let lines = lines(&document, text, separator);
    let Some((header, lines)) = lines.split_first().filter(|(header, _)| !is_blank(header)) else {
        // It may be unreadable instead, which was said.
        if document.errors().is_empty() {
            let known = known_columns();
            let why = format!("the first line is empty, expected the names of columns ({known})");
            document.error_at(Spot::new(0), why);
        }
        return document;
    };
    let columns = columns(&document, header);
    let mut is_empty = true;
    for fields in lines.iter().filter(|fields| !is_blank(fields)) {
        is_empty = false;
        add_row(&mut document, fields, &columns, separator);
    }
    if is_empty && document.errors().is_empty() {
        document.error_at(
            Spot::new(0),
            "there is no tag in the table, expected one in each line below the first",
        );
    }
    document
}

fn columns(document: &Document, header: &[Field]) -> Vec<Column> {
    let mut columns = Vec::with_capacity(header.len());
    for (place, Field { at, text }) in header.iter().enumerate() {
        let known = COLUMNS.iter().find(|(name, _)| name == text);
        columns.push(match known {
            _ if text.is_empty() => Column::Unnamed,
            Some(_) if header[..place].iter().any(|before| before.text == *text) => {
                document.error_at(*at, format!("the column '{text}' is there twice, expected it once"));
                Column::Wrong
            }
            Some((name, content)) => Column::Known(name, *content),
            None => {
                let meant = nearest(text, COLUMNS.iter().map(|(name, _)| *name));
                let meant = meant.map(|name| format!(", did you mean '{name}'?")).unwrap_or_default();
                let (text, known) = (shortened(text), known_columns());
                document.error_at(*at, format!("unknown column '{text}'{meant} (columns are {known})"));
                Column::Wrong
            }
        });
    }
    for name in REQUIRED.into_iter().filter(|name| header.iter().all(|field| field.text != *name)) {
        let known = known_columns();
        document.error_at(Spot::new(0), format!("the column '{name}' is missing (columns are {known})"));
    }
    columns
}

fn known_columns() -> String {
    COLUMNS.map(|(name, _)| name).join(", ")
}

fn add_row(document: &mut Document, fields: &[Field], columns: &[Column], separator: char) {
    let start = fields[0].at;
    document.add_row(start);
    let mut is_surplus_told = false;
    for (place, Field { at, text }) in fields.iter().enumerate().filter(|(_, field)| !field.text.is_empty()) {
        match columns.get(place).copied().unwrap_or(Column::Unnamed) {
            Column::Known(name, content) => add_cell(document, name, content, *at, text, separator),
            Column::Wrong => {}
            Column::Unnamed if is_surplus_told => {}
            Column::Unnamed => {
                is_surplus_told = true;
                let hint = if separator == ',' { "; text with a comma in it needs quotes" } else { "" };
                let names: Vec<&str> = columns.iter().filter_map(Column::name).collect();
                let (text, names) = (shortened(text), names.join(", "));
                document.error_at(
                    *at,
                    format!("'{text}' is in no column, the first line has the columns {names}{hint}"),
                );
            }
        }
    }
    // Said of the first line, and not again of each.
    for name in REQUIRED {
        if !columns.iter().any(|column| column.name() == Some(name)) {
            document.add_cell(name, start, None);
        }
    }
}

fn add_cell(document: &mut Document, name: &str, content: Content, at: Spot, text: &str, separator: char) {
    // Where people write decimal commas, spreadsheets part fields by something else.
    let with_point = if separator == ',' { text.to_owned() } else { text.replace(',', ".") };
    let number = with_point.parse::<f64>().ok().filter(|number| number.is_finite());
    let value = match content {
        Content::Text => Some(Scalar::Text(text)),
        Content::Number => number.map(Scalar::Float),
        Content::Truth if text.eq_ignore_ascii_case("true") => Some(Scalar::Bool(true)),
        Content::Truth if text.eq_ignore_ascii_case("false") => Some(Scalar::Bool(false)),
        Content::Truth => None,
        Content::Duration => Some(Scalar::Text(&with_point)),
        Content::Deadband => number.map(Scalar::Float).or(Some(Scalar::Text(&with_point))),
    };
    document.add_cell(name, at, value);
    if value.is_none() {
        let expected = match content {
            Content::Truth => "true or false",
            _ if separator == ',' => "a number such as 0.1",
            _ => "a number such as 0.1 or 0,1",
        };
        document.error_at(at, format!("'{name}' is '{}', expected {expected}", shortened(text)));
    }
}

impl Column {
    fn name(&self) -> Option<&'static str> {
        if let Column::Known(name, _) = self { Some(name) } else { None }
    }
}

fn is_blank(fields: &[Field]) -> bool {
    fields.iter().all(|field| field.text.is_empty())
}

/// The fields of each line, as far as the text can be read.
fn lines(document: &Document, text: &str, separator: char) -> Vec<Vec<Field>> {
    let mut lines = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let mut fields = Vec::new();
        loop {
            let (field, end) = match field(text, at, separator) {
                Ok(found) => found,
                Err((quote, why)) => {
                    document.error_at(quote, why);
                    return lines;
                }
            };
            fields.push(field);
            at = text.len().min(end + 1);
            if !text[end..].starts_with(separator) {
                break;
            }
        }
        lines.push(fields);
    }
    lines
}

/// The field that begins at `at`, without blanks around it, and where it ends: at a separator, the end of the
/// line or that of the text. In quotes there may be any of them, and two quotes are one.
fn field(text: &str, at: usize, separator: char) -> Result<(Field, usize), (Spot, &'static str)> {
    let is_blank = |c: char| c.is_whitespace() && c != '\n' && c != separator;
    let start = text.len() - text[at..].trim_start_matches(is_blank).len();
    let end_behind = |at: usize| text[at..].find([separator, '\n']).map_or(text.len(), |length| at + length);
    if !text[start..].starts_with('"') {
        let end = end_behind(start);
        let field = Field { at: Spot::new(start), text: text[start..end].trim_end().to_owned() };
        return Ok((field, end));
    }
    let mut quoted = String::new();
    let mut from = start + 1;
    loop {
        let length = text[from..].find('"').ok_or((Spot::new(start), "this quote is not closed"))?;
        quoted += &text[from..from + length];
        from += length + 1;
        if !text[from..].starts_with('"') {
            break;
        }
        quoted.push('"');
        from += 1;
    }
    let end = end_behind(from);
    if !text[from..end].trim().is_empty() {
        let why = "the field in quotes goes on behind its closing quote; a quote within is written twice";
        return Err((Spot::new(start), why));
    }
    Ok((Field { at: Spot::new(start), text: quoted.trim().to_owned() }, end))
}
