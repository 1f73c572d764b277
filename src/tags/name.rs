//! Names of tags and devices, and the patterns that select tags: parsed once at the edge, trusted from then
//! on. The rules are those of MQTT topics and topic filters, over a smaller set of characters.

use std::fmt;

/// The longest name or pattern, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// A valid tag name: one or more levels joined by `/`, of which the first may begin with `$`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagName<'a>(&'a str);

impl<'a> TagName<'a> {
    /// Checks a text.
    pub fn parse(text: &'a str) -> Result<TagName<'a>, NameError> {
        scan(text.as_bytes(), Wildcards::Refused)?;
        Ok(TagName(text))
    }

    /// A name from the catalog: it was parsed on its way in.
    pub(super) fn trusted(name: &'a str) -> TagName<'a> {
        debug_assert!(TagName::parse(name).is_ok(), "the catalog holds parsed names only");
        TagName(name)
    }

    /// The text that was parsed.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether the name is the server's own: its first level begins with `$`.
    pub fn is_system(self) -> bool {
        self.0.starts_with('$')
    }

    /// The levels from left to right.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/')
    }
}

impl AsRef<str> for TagName<'_> {
    fn as_ref(&self) -> &str {
        self.0
    }
}

impl fmt::Display for TagName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A valid pattern: a name in which a level may be `+` and the last may be `#`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pattern<'a> {
    text: &'a str,
    /// Where the first wildcard stands; the length of `text` where there is none.
    wildcard: usize,
}

impl<'a> Pattern<'a> {
    /// Checks a text.
    pub fn parse(text: &'a str) -> Result<Pattern<'a>, NameError> {
        let wildcard = scan(text.as_bytes(), Wildcards::Allowed)?;
        Ok(Pattern { text, wildcard })
    }

    /// The text that was parsed.
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// Whether it has no wildcard, so that it matches the tag of that name and no other.
    pub fn is_exact(self) -> bool {
        self.wildcard == self.text.len()
    }

    /// The name that it is, if it has no wildcard.
    pub fn as_name(self) -> Option<TagName<'a>> {
        self.is_exact().then_some(TagName(self.text))
    }

    /// Whether its first level begins with `$`: only such a pattern matches the server's own names.
    pub fn is_system(self) -> bool {
        self.text.starts_with('$')
    }

    /// The levels from left to right, wildcards included.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.text.split('/')
    }

    /// The longest text that every matching name begins with: `a/b` for `a/b/#`, `a/` for `a/+/c`.
    /// Not every name that begins with it matches.
    pub fn literal_prefix(self) -> &'a str {
        let prefix = &self.text[..self.wildcard];
        // `a/#` matches `a` too.
        if self.text[self.wildcard..].starts_with('#') {
            prefix.strip_suffix('/').unwrap_or(prefix)
        } else {
            prefix
        }
    }

    /// Whether the pattern selects `name`.
    pub fn matches(self, name: TagName<'_>) -> bool {
        if self.is_exact() {
            return self.text == name.0;
        }
        if (self.wildcard == 0 && name.is_system()) || !name.0.starts_with(self.literal_prefix()) {
            return false;
        }
        let mut levels = name.levels();
        for wanted in self.levels() {
            if wanted == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

impl<'a> From<TagName<'a>> for Pattern<'a> {
    fn from(name: TagName<'a>) -> Pattern<'a> {
        Pattern { text: name.0, wildcard: name.0.len() }
    }
}

impl fmt::Display for Pattern<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// A valid device name: one level of a tag name, without `$`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName<'a>(&'a str);

impl<'a> DeviceName<'a> {
    /// Checks a text.
    pub fn parse(text: &'a str) -> Result<DeviceName<'a>, NameError> {
        if text.contains(['/', '$']) {
            return Err(NameError::NotOneLevel);
        }
        scan(text.as_bytes(), Wildcards::Refused)?;
        Ok(DeviceName(text))
    }

    /// The text that was parsed.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Display for DeviceName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Why something is not a name or not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    Empty,
    TooLong,
    EmptyLevel,
    /// A byte that no name has, or a wildcard where only a name can stand.
    Byte(u8),
    /// A `$` that does not begin the first level, or is all of it.
    Dollar,
    /// A wildcard that is not a whole level, or a `#` that is not the last.
    Wildcard,
    /// A `/` or a `$` in a device name.
    NotOneLevel,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => f.write_str("a name needs at least one character"),
            NameError::TooLong => write!(f, "a name has at most {MAX_NAME_BYTES} bytes"),
            NameError::EmptyLevel => f.write_str("a level of the name is empty"),
            NameError::Byte(byte @ 0x20..=0x7e) => {
                write!(f, "'{}' cannot stand in a name", char::from(*byte))
            }
            NameError::Byte(byte) => write!(f, "byte 0x{byte:02X} cannot stand in a name"),
            NameError::Dollar => f.write_str("'$' can only begin the first level, and not be all of it"),
            NameError::Wildcard => {
                f.write_str("'+' stands for a whole level, '#' for the last levels of a pattern")
            }
            NameError::NotOneLevel => f.write_str("a device name is one level, without '/' and '$'"),
        }
    }
}

impl std::error::Error for NameError {}

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Other,
    Level,
    Slash,
    Dollar,
    Wildcard,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b':' | b'~' => Class::Level,
            b'/' => Class::Slash,
            b'$' => Class::Dollar,
            b'+' | b'#' => Class::Wildcard,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

#[derive(Clone, Copy, PartialEq)]
enum Wildcards {
    Allowed,
    Refused,
}

/// Checks a name or pattern in one pass; returns where its first wildcard stands, or its length.
fn scan(bytes: &[u8], wildcards: Wildcards) -> Result<usize, NameError> {
    if bytes.is_empty() {
        return Err(NameError::Empty);
    }
    if bytes.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong);
    }
    let class_at = |at: usize| bytes.get(at).map(|&byte| CLASSES[usize::from(byte)]);
    let mut level_start = 0;
    let mut first_wildcard = bytes.len();
    for (at, &byte) in bytes.iter().enumerate() {
        match CLASSES[usize::from(byte)] {
            Class::Level => {}
            Class::Slash if at == level_start => return Err(NameError::EmptyLevel),
            Class::Slash => level_start = at + 1,
            Class::Dollar if at == 0 && class_at(1) == Some(Class::Level) => {}
            Class::Dollar => return Err(NameError::Dollar),
            Class::Wildcard if wildcards == Wildcards::Allowed => {
                let ends_level = match class_at(at + 1) {
                    None => true,
                    next => byte == b'+' && next == Some(Class::Slash),
                };
                if at != level_start || !ends_level {
                    return Err(NameError::Wildcard);
                }
                first_wildcard = first_wildcard.min(at);
            }
            Class::Wildcard | Class::Other => return Err(NameError::Byte(byte)),
        }
    }
    if level_start == bytes.len() { Err(NameError::EmptyLevel) } else { Ok(first_wildcard) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        #[track_caller]
        fn check(text: &str, want: Result<(), NameError>) {
            assert_eq!(TagName::parse(text).map(|name| assert_eq!(name.as_str(), text)), want, "{text:?}");
        }
        check("a", Ok(()));
        check("line1/press3/temperature", Ok(()));
        check("A-Z.a:z~0_9/-", Ok(()));
        check("$server/connections", Ok(()));
        check("$a", Ok(()));
        check(&"a".repeat(255), Ok(()));
        check(&"a".repeat(256), Err(NameError::TooLong));
        check("", Err(NameError::Empty));
        check("/", Err(NameError::EmptyLevel));
        check("/a", Err(NameError::EmptyLevel));
        check("a/", Err(NameError::EmptyLevel));
        check("a//b", Err(NameError::EmptyLevel));
        check("$", Err(NameError::Dollar));
        check("$/a", Err(NameError::Dollar));
        check("$$a", Err(NameError::Dollar));
        check("a$", Err(NameError::Dollar));
        check("a/$b", Err(NameError::Dollar));
        check("a/+", Err(NameError::Byte(b'+')));
        check("#", Err(NameError::Byte(b'#')));
        check("a b", Err(NameError::Byte(b' ')));
        check("grün", Err(NameError::Byte(0xC3)));
        check("a\0", Err(NameError::Byte(0)));
        assert!(TagName::parse("$a/b").unwrap().is_system());
        assert!(!TagName::parse("a/b").unwrap().is_system());
    }

    #[test]
    fn patterns_and_their_prefixes() {
        #[track_caller]
        fn check(text: &str, want: Result<&str, NameError>) {
            assert_eq!(Pattern::parse(text).map(Pattern::literal_prefix), want, "{text:?}");
        }
        check("a/b", Ok("a/b"));
        check("$a/b", Ok("$a/b"));
        check("a/b/#", Ok("a/b"));
        check("a/+/c", Ok("a/"));
        check("a/+", Ok("a/"));
        check("a/+/#", Ok("a/"));
        check("+/#", Ok(""));
        check("+", Ok(""));
        check("#", Ok(""));
        check("$server/#", Ok("$server"));
        check(&format!("{}/#", "a".repeat(253)), Ok(&"a".repeat(253)));
        check(&format!("{}/#", "a".repeat(254)), Err(NameError::TooLong));
        check("a/#/b", Err(NameError::Wildcard));
        check("#/", Err(NameError::Wildcard));
        check("a#", Err(NameError::Wildcard));
        check("a/b+", Err(NameError::Wildcard));
        check("++", Err(NameError::Wildcard));
        check("+a", Err(NameError::Wildcard));
        check("+#", Err(NameError::Wildcard));
        check("+/", Err(NameError::EmptyLevel));
        check("/+", Err(NameError::EmptyLevel));
        check("$+", Err(NameError::Dollar));
        check("$/#", Err(NameError::Dollar));
        check("+/$a", Err(NameError::Dollar));
        check("", Err(NameError::Empty));
        assert!(Pattern::parse("a/b").unwrap().is_exact());
        assert!(!Pattern::parse("a/+").unwrap().is_exact());
    }

    #[test]
    fn matching() {
        #[track_caller]
        fn check(pattern: &str, hits: &[&str], misses: &[&str]) {
            let pattern = Pattern::parse(pattern).unwrap();
            hits.iter().for_each(|name| assert!(pattern.matches(TagName::parse(name).unwrap()), "{name}"));
            misses.iter().for_each(|name| assert!(!pattern.matches(TagName::parse(name).unwrap()), "{name}"));
        }
        check("a/b", &["a/b"], &["a", "a/b/c", "a/B", "$a/b"]);
        check("a/#", &["a", "a/b", "a/b/c"], &["ab", "b", "ab/c", "$a/b"]);
        check("a/+", &["a/b", "a/c"], &["a", "a/b/c", "ab"]);
        check("a/+/c", &["a/b/c"], &["a/b", "a/b/d", "a/b/c/d"]);
        check("a/+/#", &["a/b", "a/b/c/d"], &["a"]);
        check("+/b", &["a/b"], &["$a/b", "a/c", "a"]);
        check("+", &["a"], &["$a", "a/b"]);
        check("#", &["a", "a/b"], &["$a", "$a/b"]);
        check("$server/#", &["$server", "$server/uptime"], &["server/uptime", "$serverx"]);
        check("$server/+", &["$server/uptime"], &["$server", "$server/a/b"]);
    }

    #[test]
    fn device_names() {
        #[track_caller]
        fn check(text: &str, want: Result<&str, NameError>) {
            assert_eq!(DeviceName::parse(text).map(DeviceName::as_str), want, "{text:?}");
        }
        check("press3", Ok("press3"));
        check("", Err(NameError::Empty));
        check("a/b", Err(NameError::NotOneLevel));
        check("$a", Err(NameError::NotOneLevel));
        check("a b", Err(NameError::Byte(b' ')));
        check("+", Err(NameError::Byte(b'+')));
        check(&"a".repeat(256), Err(NameError::TooLong));
    }

    /// The definition, word by word.
    fn is_name(text: &str, wildcards: bool) -> bool {
        let count = text.split('/').count();
        (1..=MAX_NAME_BYTES).contains(&text.len())
            && text.split('/').enumerate().all(|(at, level)| {
                let plain = if at == 0 { level.strip_prefix('$').unwrap_or(level) } else { level };
                let wild = level == "+" || (level == "#" && at + 1 == count);
                (wildcards && wild)
                    || (!plain.is_empty()
                        && plain.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:~".contains(c)))
            })
    }

    fn defined_match(pattern: &[&str], name: &[&str], first: bool) -> bool {
        let wild = !(first && name.first().is_some_and(|level| level.starts_with('$')));
        match (pattern, name) {
            (["#"], _) => wild,
            ([], []) => true,
            (["+", p @ ..], [_, n @ ..]) => wild && defined_match(p, n, false),
            ([a, p @ ..], [b, n @ ..]) => a == b && defined_match(p, n, false),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn parsing_follows_the_definition(text in "[ab$+#/ ]{0,6}|[a/]{250,260}") {
            prop_assert_eq!(TagName::parse(&text).is_ok(), is_name(&text, false));
            prop_assert_eq!(Pattern::parse(&text).is_ok(), is_name(&text, true));
        }

        #[test]
        fn matching_follows_the_definition(
            pattern in "\\$?[ab+](/[ab+]){0,3}(/#)?|#", name in "\\$?[ab](/[ab]){0,4}"
        ) {
            prop_assume!(is_name(&pattern, true));
            let (parsed, tag) = (Pattern::parse(&pattern).unwrap(), TagName::parse(&name).unwrap());
            let levels: Vec<_> = name.split('/').collect();
            let wanted: Vec<_> = pattern.split('/').collect();
            prop_assert_eq!(parsed.matches(tag), defined_match(&wanted, &levels, true));
            prop_assert!(!parsed.matches(tag) || name.starts_with(parsed.literal_prefix()));
        }

        #[test]
        fn errors_are_short_and_printable(text in any::<String>()) {
            let (name, pattern) = (TagName::parse(&text).err(), Pattern::parse(&text).err());
            let errors = [name, pattern, DeviceName::parse(&text).err()];
            for text in errors.into_iter().flatten().map(|error| error.to_string()) {
                prop_assert!(text.len() <= 100 && !text.chars().any(char::is_control), "{:?}", text);
            }
        }
    }
}
