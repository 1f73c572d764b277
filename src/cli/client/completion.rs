//! What the prompt knows about the line being typed: which verbs and tags it could go on with.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustyline::completion::{Completer, Pair, longest_common_prefix};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::screen::Screen;
use super::{FAREWELL, prompt};
use crate::protocols::line::{VERBS, next_field};

/// How long the server is asked for names. A person waits.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many candidates are looked for; more are of no use.
pub(super) const MOST_CANDIDATES: usize = 1_000;
/// What the server may send in the meantime.
const MOST_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// Where the server's own names begin, which `#` does not match.
const SYSTEM_PATTERNS: [&str; 2] = ["$server/#", "$device/#"];

/// The helper of the line editor.
pub(super) struct Assistant {
    pub(super) screen: Arc<Screen>,
    /// The server that is asked for names.
    pub(super) server: Option<SocketAddr>,
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let head = &line[..cursor];
        let (start, candidates) = match place(head) {
            Place::Verb(start) => (start, verbs(&head[start..])),
            Place::Tag(start) => (start, self.tags(&head[start..])),
            Place::Other => (cursor, Vec::new()),
        };
        if candidates.len() > 1 {
            // The editor draws the line before it lists them only if it can make it longer.
            let common = longest_common_prefix(&candidates).unwrap_or_default();
            self.screen.list(usize::from(common.len() > cursor - start));
        }
        Ok((start, candidates))
    }
}

impl Hinter for Assistant {
    type Hint = String;

    /// There are no hints; but it is called before each drawing of the line.
    fn hint(&self, line: &str, cursor: usize, _: &Context<'_>) -> Option<String> {
        self.screen.draw(prompt::PROMPT, line, cursor);
        None
    }
}

impl Highlighter for Assistant {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        self.screen.draw_prompt(prompt);
        Cow::Borrowed(prompt)
    }

    /// Called before the cursor moves. True, so that the line is always drawn as a whole.
    fn highlight_char(&self, _: &str, cursor: usize, _: CmdKind) -> bool {
        self.screen.move_cursor(cursor);
        true
    }
}

impl Validator for Assistant {
    /// Every line is fine; but it is called when it is finished.
    fn validate(&self, _: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        self.screen.finish();
        Ok(ValidationResult::Valid(None))
    }
}

impl Helper for Assistant {}

impl Assistant {
    fn tags(&self, prefix: &str) -> Vec<Pair> {
        let mut found = BTreeSet::new();
        if let Some(server) = self.server {
            for pattern in patterns(prefix) {
                // Who does not answer in time is not asked for anything; the names that came are of use.
                let _ = list(server, &pattern, |name| {
                    found.extend(next_level(prefix, name).map(str::to_owned));
                    found.len() < MOST_CANDIDATES
                });
            }
        }
        let known = prefix.rfind('/').map_or(0, |at| at + 1);
        let pair = |name: String| Pair { display: name[known..].to_owned(), replacement: name };
        found.into_iter().map(pair).collect()
    }
}

/// What stands left of the cursor.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// The first word, which begins there.
    Verb(usize),
    /// The name of a tag or a pattern, which begins there.
    Tag(usize),
    Other,
}

fn place(head: &str) -> Place {
    let start = head.len() - head.trim_start_matches([' ', '\t']).len();
    let Some((word, rest)) = next_field(&head[start..]) else { return Place::Verb(start) };
    if start + word.len() == head.len() {
        return Place::Verb(start);
    }
    let takes_tag = VERBS.iter().any(|verb| {
        verb.name.eq_ignore_ascii_case(word) && matches!(next_field(verb.usage), Some(("tag" | "pattern", _)))
    });
    if takes_tag && !rest.contains([' ', '\t']) { Place::Tag(head.len() - rest.len()) } else { Place::Other }
}

fn verbs(prefix: &str) -> Vec<Pair> {
    let begins =
        |name: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let pair = |name: &str, blank| Pair { display: name.to_owned(), replacement: format!("{name}{blank}") };
    let mut found: Vec<Pair> = VERBS
        .iter()
        .filter(|verb| begins(verb.name))
        .map(|verb| pair(verb.name, if verb.usage.is_empty() { "" } else { " " }))
        .collect();
    found.extend(
        [FAREWELL, prompt::RECONNECT].into_iter().filter(|word| begins(word)).map(|word| pair(word, "")),
    );
    found
}

/// Which tags to ask for where the name typed so far is `prefix`.
fn patterns(prefix: &str) -> Vec<String> {
    match prefix.rsplit_once('/') {
        Some((parent, _)) => vec![format!("{parent}/#")],
        None if prefix.starts_with('$') => SYSTEM_PATTERNS.map(str::to_owned).to_vec(),
        None => vec!["#".to_owned()],
    }
}

/// `name` up to the end of the level in which `prefix` ends, if it begins with that.
fn next_level<'a>(prefix: &str, name: &'a str) -> Option<&'a str> {
    let rest = name.strip_prefix(prefix)?;
    let end = rest.find('/').map_or(name.len(), |at| prefix.len() + at + 1);
    Some(&name[..end])
}

/// The names of the tags that match, until `go_on` has enough. On a connection of its own: so it can be left
/// in the middle, and the replies of the conversation stay apart.
fn list(server: SocketAddr, pattern: &str, mut go_on: impl FnMut(&str) -> bool) -> std::io::Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.write_all(format!("LIST {pattern}\n").as_bytes())?;
    let mut lines = BufReader::new(stream.try_clone()?.take(MOST_ANSWER_BYTES));
    let mut line = String::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        line.clear();
        lines.read_line(&mut line)?;
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["TAG", name, ..] if go_on(name) => {}
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let check = |head: &str, want| assert_eq!(place(head), want, "{head:?}");
        check("", Place::Verb(0));
        check("  ge", Place::Verb(2));
        check("get ", Place::Tag(4));
        check("GET  line1/pr", Place::Tag(5));
        check("SET a/b ", Place::Other);
        check("SET a/b 1", Place::Other);
        check("READ line1/+/", Place::Tag(5));
        check("PING a", Place::Other);
        check("HELLO pre", Place::Other);
        check("NOPE a", Place::Other);
        check("\"", Place::Verb(0));
    }

    #[test]
    fn verbs_by_their_beginning() {
        #[track_caller]
        fn check(prefix: &str, want: &[&str]) {
            let got: Vec<String> = verbs(prefix).into_iter().map(|pair| pair.replacement).collect();
            assert_eq!(got, want);
        }
        check("g", &["GET "]);
        check("re", &["READ ", "reconnect"]);
        check("BY", &["bye"]);
        check("time", &["TIME"]);
        check("é", &[]);
        check("nope", &[]);
        assert_eq!(verbs("").len(), VERBS.len() + 2);
    }

    #[test]
    fn levels() {
        let check = |prefix, name, want| assert_eq!(next_level(prefix, name), want, "{prefix:?} {name:?}");
        check("", "line1/press3/state", Some("line1/"));
        check("li", "line1/press3/state", Some("line1/"));
        check("line1/", "line1/press3/state", Some("line1/press3/"));
        check("line1/press3/s", "line1/press3/state", Some("line1/press3/state"));
        check("line1/press3/state", "line1/press3/state", Some("line1/press3/state"));
        check("line1/", "line1", None);
        check("line2", "line1", None);
        assert_eq!(patterns("li"), ["#"]);
        assert_eq!(patterns("line1/pr"), ["line1/#"]);
        assert_eq!(patterns("$server/up"), ["$server/#"]);
        assert_eq!(patterns("$s"), ["$server/#", "$device/#"]);
    }
}
