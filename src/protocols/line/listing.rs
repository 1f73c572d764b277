//! Replies of many lines: `READ`, `SUB` and `LIST`, a slice at a time where they are long.

use std::fmt::Write;

use super::{put_line, put_sample};
use crate::engine::{Context, Flow};
use crate::tags::name::Pattern;
use crate::tags::{Scan, TagId};

/// Slices of a scan in one go; what is not found by then goes on next turn.
const SLICES_PER_TURN: usize = 4;

/// What the lines say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// `VAL`, for `READ`
    Samples,
    /// `VAL`, for `SUB`
    Subscribed,
    /// `TAG`, for `LIST`
    Tags,
}

/// A reply under way.
pub(super) struct Listing {
    what: What,
    pattern: Box<str>,
    scan: Scan,
    lines: u64,
    /// The line that is being made.
    line: String,
}

impl Listing {
    pub(super) fn new(pattern: Pattern<'_>, what: What, scan: Scan) -> Listing {
        Listing { what, pattern: pattern.as_str().into(), scan, lines: 0, line: String::new() }
    }

    /// Put what there is room for. `Continue`: the reply is complete.
    pub(super) fn go_on(&mut self, cx: &mut Context<'_>, most_line_bytes: usize) -> Flow {
        for _ in 0..SLICES_PER_TURN {
            while let Some(&tag) = self.scan.found.front() {
                if cx.room() < most_line_bytes {
                    return Flow::More;
                }
                self.scan.found.pop_front();
                self.lines += 1;
                self.put(cx, tag);
            }
            if self.scan.is_over() {
                if cx.room() < most_line_bytes {
                    return Flow::More;
                }
                put_line(cx, format_args!("OK {}", self.lines));
                return Flow::Continue;
            }
            let pattern =
                Pattern::parse(&self.pattern).expect("it was a pattern when the request was parsed");
            cx.scan(pattern, &mut self.scan);
        }
        Flow::More
    }

    fn put(&mut self, cx: &mut Context<'_>, tag: TagId) {
        let line = &mut self.line;
        line.clear();
        if self.what == What::Tags {
            line.push_str("TAG ");
            {
                let catalog = cx.tags().catalog();
                let declaration = catalog.declaration(tag);
                let (kind, access) = (declaration.kind.as_str(), declaration.access.as_str());
                let _ = write!(line, "{} {kind} {access} ", catalog.name(tag));
            }
            cx.tags().push_source(tag, line);
            line.push('\n');
        } else {
            line.push_str("VAL ");
            cx.tags().push_name(tag, line);
            line.push(' ');
            let is_subscribed = self.what == What::Subscribed;
            let sample = if is_subscribed { cx.read_to_tell(tag) } else { cx.read(tag) };
            let _ = put_sample(line, &sample);
        }
        cx.put(line.as_bytes());
    }
}
