//! The JSON objects that runs print, and read again: flat, of numbers, texts, and arrays of texts.

use std::str::Chars;

use crate::cli::load::{object, text, texts};

/// An object that is being written.
#[derive(Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn put(&mut self, key: &str, value: String) {
        self.0.push((key.to_owned(), value));
    }

    pub(super) fn number(&mut self, key: &str, number: u64) {
        self.maybe(key, Some(number));
    }

    /// `null` where there is none.
    pub(super) fn maybe(&mut self, key: &str, number: Option<u64>) {
        self.put(key, number.map_or("null".to_owned(), |number| number.to_string()));
    }

    /// To a thousandth; `null` where there is none.
    pub(super) fn decimal(&mut self, key: &str, number: Option<f64>) {
        self.put(key, number.map_or("null".to_owned(), |number| format!("{number:.3}")));
    }

    pub(super) fn flag(&mut self, key: &str, is_so: bool) {
        self.put(key, if is_so { "true" } else { "false" }.to_owned());
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.put(key, text(value));
    }

    pub(super) fn texts(&mut self, key: &str, values: &[String]) {
        self.put(key, texts(values));
    }

    pub(super) fn finish(&self) -> String {
        let fields: Vec<_> = self.0.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        object(&fields)
    }
}

/// A value of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Texts(Vec<String>),
}

impl Json {
    pub(super) fn as_number(&self) -> Option<f64> {
        match self {
            Json::Number(number) => Some(*number),
            _ => None,
        }
    }
}

/// The keys of an object and their values, in their order; `None` where that is none.
pub(super) fn parse_object(text: &str) -> Option<Vec<(String, Json)>> {
    let mut parser = Parser { rest: text.chars() };
    parser.expect('{')?;
    let fields = parser.list('}', |parser| {
        let key = parser.text()?;
        parser.expect(':')?;
        Some((key, parser.value()?))
    })?;
    parser.peek().is_none().then_some(fields)
}

struct Parser<'a> {
    rest: Chars<'a>,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.as_str().trim_start_matches([' ', '\t', '\r', '\n']).chars();
        self.rest.clone().next()
    }

    fn expect(&mut self, wanted: char) -> Option<()> {
        (self.peek()? == wanted).then(|| self.rest.next()).map(|_| ())
    }

    /// Items with commas between, up to `end`.
    fn list<T>(&mut self, end: char, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut items = Vec::new();
        if self.expect(end).is_some() {
            return Some(items);
        }
        loop {
            items.push(item(self)?);
            if self.expect(end).is_some() {
                return Some(items);
            }
            self.expect(',')?;
        }
    }

    fn value(&mut self) -> Option<Json> {
        match self.peek()? {
            '"' => self.text().map(Json::Text),
            '[' => {
                self.expect('[')?;
                self.list(']', Parser::text).map(Json::Texts)
            }
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Option<Json> {
        let text = self.rest.as_str();
        let end = text.find([',', '}', ' ', '\t', '\r', '\n']).unwrap_or(text.len());
        self.rest = text[end..].chars();
        Some(match &text[..end] {
            "null" => Json::Null,
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            number => Json::Number(number.parse().ok().filter(|number: &f64| number.is_finite())?),
        })
    }

    fn text(&mut self) -> Option<String> {
        self.expect('"')?;
        let mut text = String::new();
        loop {
            match self.rest.next()? {
                '"' => return Some(text),
                '\\' => text.push(self.escaped()?),
                char => text.push(char),
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        Some(match self.rest.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let digits = self.rest.as_str().get(..4)?;
                self.rest = self.rest.as_str()[4..].chars();
                char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
            }
            char @ ('"' | '\\' | '/') => char,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects() {
        let text = r#" { "a": 1.5, "b":"x \"y\"\u00b5\n", "c":null, "d":true,
            "e":[ "p", "q" ],"f":[],"g":-2e3 } "#;
        let texts = |all: &[&str]| Json::Texts(all.iter().map(|text| (*text).into()).collect());
        let expected = [
            ("a", Json::Number(1.5)),
            ("b", Json::Text("x \"y\"µ\n".into())),
            ("c", Json::Null),
            ("d", Json::Bool(true)),
            ("e", texts(&["p", "q"])),
            ("f", texts(&[])),
            ("g", Json::Number(-2_000.0)),
        ];
        assert_eq!(parse_object(text), Some(expected.map(|(key, value)| (key.to_owned(), value)).into()));
        assert_eq!(parse_object("{}"), Some(Vec::new()));
    }

    #[test]
    fn what_is_no_object() {
        #[rustfmt::skip]
        let table = [
            "", "[]", "{", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":NaN}"#, r#"{"a":1 2}"#, r#"{"a":1} x"#,
            r#"{"a":"x"#, r#"{"a":"\ud8"}"#, r#"{"a":"\ud800"}"#, r#"{"a":"\x"}"#, r#"{"a":[1]}"#,
            r#"{"a":1,}"#, r#"{a:1}"#, "{\"a\":\"\\u00\u{b5}\u{b5}\"}",
        ];
        for text in table {
            assert_eq!(parse_object(text), None, "{text}");
        }
    }
}
