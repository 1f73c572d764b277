//! The JSON objects that runs print, read again: flat, of numbers, texts, and arrays of texts.

use std::str::Chars;

/// A value of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Array(Vec<Json>),
}

impl Json {
    pub(super) fn as_number(&self) -> Option<f64> {
        match self {
            Json::Number(number) => Some(*number),
            _ => None,
        }
    }
}

/// The keys of an object and their values, in their order. The error says what was expected.
pub(super) fn parse_object(text: &str) -> Result<Vec<(String, Json)>, String> {
    let mut parser = Parser { rest: text.chars() };
    parser.expect('{')?;
    let fields = parser.list('}', |parser| {
        let key = parser.text()?;
        parser.expect(':')?;
        Ok((key, parser.value()?))
    })?;
    match parser.peek() {
        None => Ok(fields),
        Some(_) => Err(parser.wrong("nothing behind the object")),
    }
}

struct Parser<'a> {
    rest: Chars<'a>,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.as_str().trim_start_matches([' ', '\t', '\r', '\n']).chars();
        self.rest.clone().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let is_there = self.peek() == Some(wanted);
        if is_there {
            self.rest.next();
        }
        is_there
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) { Ok(()) } else { Err(self.wrong(&format!("'{wanted}'"))) }
    }

    fn wrong(&self, expected: &str) -> String {
        const MOST_CHARS: usize = 20;
        let found: String = self.rest.clone().take(MOST_CHARS).collect();
        format!("expected {expected}, found '{}'", found.escape_debug())
    }

    /// Items with commas between, up to `end`.
    fn list<T>(
        &mut self,
        end: char,
        mut item: impl FnMut(&mut Self) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let mut items = Vec::new();
        if self.take(end) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.take(end) {
                return Ok(items);
            }
            self.expect(',')?;
        }
    }

    fn value(&mut self) -> Result<Json, String> {
        match self.peek() {
            Some('"') => self.text().map(Json::Text),
            Some('[') => {
                self.rest.next();
                self.list(']', |parser| parser.text().map(Json::Text)).map(Json::Array)
            }
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Json, String> {
        let text = self.rest.as_str();
        let end = text.find([',', '}', ']', ' ', '\t', '\r', '\n']).unwrap_or(text.len());
        let value = match &text[..end] {
            "null" => Json::Null,
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            number => match number.parse::<f64>() {
                Ok(number) if number.is_finite() => Json::Number(number),
                _ => return Err(self.wrong("a value")),
            },
        };
        self.rest = text[end..].chars();
        Ok(value)
    }

    fn text(&mut self) -> Result<String, String> {
        self.expect('"')?;
        let mut text = String::new();
        loop {
            match self.rest.next() {
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escaped()?),
                Some(char) => text.push(char),
                None => return Err(self.wrong("the end of a text")),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        Ok(match self.rest.next() {
            Some(char @ ('"' | '\\' | '/')) => char,
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('u') => {
                let digits: String = self.rest.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                code.ok_or_else(|| self.wrong("four hexadecimal digits of a character"))?
            }
            _ => return Err(self.wrong("an escape")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects() {
        let text =
            r#" { "a": 1.5, "b":"x \"y\"\u00b5\n", "c":null, "d":true,"e":[ "p", "q" ],"f":[],"g":-2e3 } "#;
        let number = Json::Number;
        let texts = |all: &[&str]| Json::Array(all.iter().map(|text| Json::Text((*text).into())).collect());
        let expected = [
            ("a", number(1.5)),
            ("b", Json::Text("x \"y\"µ\n".into())),
            ("c", Json::Null),
            ("d", Json::Bool(true)),
            ("e", texts(&["p", "q"])),
            ("f", texts(&[])),
            ("g", number(-2_000.0)),
        ];
        assert_eq!(parse_object(text), Ok(expected.map(|(key, value)| (key.to_owned(), value)).into()));
        assert_eq!(parse_object("{}"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_object() {
        #[rustfmt::skip]
        let table = [
            ("",               "expected '{', found ''"),
            ("[]",             "expected '{', found '[]'"),
            (r#"{"a"}"#,       "expected ':', found '}'"),
            (r#"{"a":}"#,      "expected a value, found '}'"),
            (r#"{"a":NaN}"#,   "expected a value, found 'NaN}'"),
            (r#"{"a":1 2}"#,   "expected ',', found '2}'"),
            (r#"{"a":1} x"#,   "expected nothing behind the object, found 'x'"),
            (r#"{"a":"x"#,     "expected the end of a text, found ''"),
            (r#"{"a":"\ud8"}"#, "expected four hexadecimal digits of a character, found ''"),
            (r#"{"a":[1]}"#,   "expected '\"', found '1]}'"),
        ];
        for (text, why) in table {
            assert_eq!(parse_object(text), Err(why.to_owned()), "{text}");
        }
    }
}
