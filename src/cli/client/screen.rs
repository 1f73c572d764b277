//! The terminal while a person types: received lines are printed above the prompt.
//!
//! `rustyline` has a printer for this, but version 17 with it looks for keys only in the terminal and not in
//! what it has read already: of keys that came together (a paste, a slow link, typing ahead) it takes one and
//! leaves the rest until the next (its issue 976). So it reads keys without that printer, and tells here,
//! before it draws anything, what it will draw (see `completion`); lines are printed from the reading thread,
//! and what was drawn is repeated below them. As every change of the edited line is drawn as a whole, it does
//! not matter which of the two is first.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard};

use rustix::termios::tcgetwinsize;

/// Columns of a terminal that does not know.
const DEFAULT_COLUMNS: usize = 80;
/// No character is wider.
const MOST_CHARACTER_COLUMNS: usize = 2;

/// The terminal, shared by the thread of the prompt and the one that reads replies.
pub(super) struct Screen {
    state: Mutex<State>,
    changed: Condvar,
}

/// What the terminal shows.
enum State {
    /// No prompt: lines are printed where the cursor is.
    Open,
    /// The prompt and what was typed, in one row; lines are printed above.
    Prompt(Typed),
    /// Something that must not be disturbed: a line that needs several rows, or candidates of a completion
    /// being listed, until so many drawings of the line have followed; or a line that was just finished.
    Held { drawings: usize },
}

struct Typed {
    prompt: String,
    line: String,
    /// Where the cursor is, in bytes of the line.
    cursor: usize,
}

impl Screen {
    pub(super) fn new() -> Screen {
        Screen { state: Mutex::new(State::Open), changed: Condvar::new() }
    }

    /// Print whole lines, as soon as it can be done. The thread of the prompt may do it only
    /// while it is [open](Screen::open).
    pub(super) fn print(&self, text: &str) {
        let mut state = self.lock();
        loop {
            match &*state {
                State::Open => return write(&printable(text)),
                State::Prompt(typed) if typed.fits() => {
                    let (left, right) = typed.line.split_at(typed.cursor);
                    // The row is cleared, and the cursor's place kept while what is right of it is drawn.
                    return write(&format!(
                        "\r\x1b[K{}{}{left}\x1b7{right}\x1b8",
                        printable(text),
                        typed.prompt
                    ));
                }
                State::Prompt(_) | State::Held { .. } => {
                    state = self.changed.wait(state).expect("nobody panics while holding it");
                }
            }
        }
    }

    /// There is no prompt any more.
    pub(super) fn open(&self) {
        self.become_state(|_| State::Open);
    }

    /// The line is finished; what is drawn yet is not to be disturbed.
    pub(super) fn finish(&self) {
        self.become_state(|_| State::Held { drawings: usize::MAX });
    }

    /// Candidates will be listed; the drawing after so many others shows the line again.
    pub(super) fn list(&self, drawings: usize) {
        self.become_state(|_| State::Held { drawings });
    }

    /// The line is about to be drawn, behind the prompt that was drawn last, or else `prompt`.
    pub(super) fn draw(&self, prompt: &str, line: &str, cursor: usize) {
        self.become_state(|state| match state {
            State::Held { drawings: drawings @ 1.. } => State::Held { drawings: drawings.saturating_sub(1) },
            State::Prompt(typed) => State::Prompt(Typed { line: line.to_owned(), cursor, ..typed }),
            State::Open | State::Held { .. } => {
                State::Prompt(Typed { prompt: prompt.to_owned(), line: line.to_owned(), cursor })
            }
        });
    }

    /// Another prompt is about to be drawn.
    pub(super) fn draw_prompt(&self, prompt: &str) {
        self.become_state(|state| match state {
            State::Prompt(typed) => State::Prompt(Typed { prompt: prompt.to_owned(), ..typed }),
            other => other,
        });
    }

    /// The cursor is about to move.
    pub(super) fn move_cursor(&self, to: usize) {
        self.become_state(|state| match state {
            State::Prompt(typed) => State::Prompt(Typed { cursor: to, ..typed }),
            other => other,
        });
    }

    fn become_state(&self, change: impl FnOnce(State) -> State) {
        let mut state = self.lock();
        *state = change(std::mem::replace(&mut *state, State::Open));
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

impl Typed {
    /// Whether it takes one row for certain.
    fn fits(&self) -> bool {
        let columns = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        let columns = if columns == 0 { DEFAULT_COLUMNS } else { columns };
        let width = |char: char| if char.is_ascii() { 1 } else { MOST_CHARACTER_COLUMNS };
        let plain = |text: &str| !text.contains(|char: char| char.is_control());
        plain(&self.line) && self.prompt.chars().chain(self.line.chars()).map(width).sum::<usize>() < columns
    }
}

/// Text without what a terminal takes for a command: whatever is at the other end must not play with it.
fn printable(text: &str) -> String {
    let plain =
        |char: char| if char.is_control() && char != '\n' { char::REPLACEMENT_CHARACTER } else { char };
    text.chars().map(plain).collect()
}

fn write(text: &str) {
    let mut out = io::stdout().lock();
    // A terminal that is gone also ends the reading of keys, and with it the prompt.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_get_no_commands() {
        assert_eq!(printable("UPD a \"é\u{9b}2J\u{7f}\x1b\"\n"), "UPD a \"é\u{fffd}2J\u{fffd}\u{fffd}\"\n");
    }

    #[test]
    fn a_listing_is_held_until_the_line_is_back() {
        let screen = Screen::new();
        let is_held = || matches!(*screen.lock(), State::Held { .. });
        screen.draw("> ", "GET a", 5);
        assert!(!is_held());
        screen.list(1);
        screen.draw("> ", "GET a/", 6);
        assert!(is_held());
        screen.draw("> ", "GET a/", 6);
        assert!(!is_held());
        screen.list(0);
        assert!(is_held());
        screen.move_cursor(1);
        screen.draw_prompt("? ");
        assert!(is_held());
        screen.draw("> ", "GET a/", 6);
        assert!(!is_held());
        screen.finish();
        screen.draw("> ", "GET a/", 6);
        assert!(is_held());
        screen.open();
        assert!(matches!(*screen.lock(), State::Open));
    }
}
