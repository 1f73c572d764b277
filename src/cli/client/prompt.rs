//! The prompt: what a person types is asked, and what the server says is printed as it comes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread;

use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{ColorMode, CompletionType, Config, Editor};
use signal_hook::consts::SIGINT;

use super::completion::{Assistant, MOST_CANDIDATES};
use super::connection::{self, Kind, Replies, Requests, Sent};
use super::output::Form;
use super::screen::Screen;
use super::{Exit, is_farewell, say};
use crate::cli::address::Address;

/// What stands before the line that is typed.
pub(super) const PROMPT: &str = "lumina> ";
/// The word that makes a new connection. It is not sent.
pub(super) const RECONNECT: &str = "reconnect";
/// Lines that are remembered.
const MOST_HISTORY_LINES: usize = 1_000;
/// What is printed at once, if so much has come.
const MOST_PRINTED_BYTES: usize = 64 * 1024;
/// Only one request is outstanding; whoever says `OK` without being asked is not waited for.
const MOST_ENDS: usize = 16;
/// The exit code of a program that Ctrl-C ended, as shells have it.
const EXIT_INTERRUPTED: i32 = 130;

/// Talk, until the person leaves.
pub(super) fn run(address: Address, sender: Requests, receiver: Replies, form: Form) -> Exit {
    match Prompt::new(address, sender, receiver, form) {
        Ok(mut prompt) => prompt.run(),
        Err(error) => {
            say(&format!("the terminal cannot be used: {error}"));
            Exit::Failed
        }
    }
}

struct Prompt {
    address: Address,
    form: Form,
    screen: Arc<Screen>,
    editor: Editor<Assistant, FileHistory>,
    history: Option<PathBuf>,
    link: Option<Link>,
    /// Whether a reply is awaited, in which case Ctrl-C ends the program.
    waiting: Arc<AtomicBool>,
}

/// A connection whose replies are printed by a thread of its own.
struct Link {
    sender: Requests,
    ends: Receiver<End>,
    /// Whether its end is expected, and nothing to be said about.
    leaving: Arc<AtomicBool>,
}

/// What the reading thread tells besides printing.
enum End {
    /// Of a reply.
    Reply(Kind),
    /// Of the connection.
    Lost,
}

enum Next {
    GoOn,
    Leave,
}

/// When the connection was lost, seen from a request.
enum Loss {
    /// It was not sent.
    Before,
    /// It was sent, perhaps, and not answered.
    Meanwhile,
}

impl Prompt {
    fn new(address: Address, sender: Requests, receiver: Replies, form: Form) -> rustyline::Result<Prompt> {
        let config = Config::builder()
            .auto_add_history(false)
            .max_history_size(MOST_HISTORY_LINES)?
            .completion_type(CompletionType::List)
            .completion_show_all_if_ambiguous(true)
            .completion_prompt_limit(MOST_CANDIDATES)
            // There are no colours, but the editor tells only a highlighter where the cursor is.
            .color_mode(ColorMode::Forced)
            .build();
        let mut editor = Editor::with_history(config, FileHistory::new())?;
        editor.set_max_history_size(MOST_HISTORY_LINES)?;
        let screen = Arc::new(Screen::new());
        let server = sender.peer().ok();
        editor.set_helper(Some(Assistant { screen: Arc::clone(&screen), server }));
        let history = history_file();
        if let Some(file) = &history {
            // There is none the first time, and a prompt without history is one too.
            let _ = editor.load_history(file);
        }
        let waiting = Arc::new(AtomicBool::new(false));
        // After the editor, whose own handler would do nothing but note it for the next line.
        let _ =
            signal_hook::flag::register_conditional_shutdown(SIGINT, EXIT_INTERRUPTED, Arc::clone(&waiting));
        let mut prompt = Prompt { address, form, screen, editor, history, link: None, waiting };
        prompt.tell("HELP lists the requests, Tab completes, bye leaves");
        prompt.join(sender, receiver);
        Ok(prompt)
    }

    fn run(&mut self) -> Exit {
        loop {
            let line = self.editor.readline(PROMPT);
            self.screen.open();
            match line {
                // A paste may bring several lines.
                Ok(text) => {
                    for line in text.lines() {
                        if let Next::Leave = self.on_line(line) {
                            return self.leave();
                        }
                    }
                }
                // Ctrl-C drops the line.
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => return self.leave(),
                Err(error) => {
                    say(&format!("the terminal cannot be read: {error}"));
                    return Exit::Failed;
                }
            }
        }
    }

    fn leave(&mut self) -> Exit {
        self.part();
        Exit::Fine
    }

    fn on_line(&mut self, line: &str) -> Next {
        let word = line.split_whitespace().next().unwrap_or_default();
        if word.is_empty() {
            return Next::GoOn;
        }
        // A secret is not kept.
        if !word.eq_ignore_ascii_case("AUTH") {
            self.remember(line);
        }
        if is_farewell(line) {
            return Next::Leave;
        }
        if line.trim().eq_ignore_ascii_case(RECONNECT) {
            self.reconnect();
            return Next::GoOn;
        }
        self.waiting.store(true, Ordering::SeqCst);
        let next = self.link.as_mut().map_or(Err(Loss::Before), |link| link.ask(line));
        self.waiting.store(false, Ordering::SeqCst);
        next.unwrap_or_else(|loss| {
            self.part();
            match loss {
                Loss::Before => {
                    self.tell(&format!("not connected, so nothing was sent; '{RECONNECT}' tries again"));
                }
                Loss::Meanwhile => self.tell("no reply came: it may or may not have been carried out"),
            }
            Next::GoOn
        })
    }

    fn reconnect(&mut self) {
        self.part();
        self.waiting.store(true, Ordering::SeqCst);
        let connection = connection::open(&self.address);
        self.waiting.store(false, Ordering::SeqCst);
        match connection {
            Ok((sender, receiver)) => {
                self.join(sender, receiver);
                self.tell("what an earlier connection said by SUB, HELLO or AUTH is to be said again");
            }
            Err(message) => self.tell(&message),
        }
    }

    /// Talk over this connection.
    fn join(&mut self, sender: Requests, receiver: Replies) {
        self.tell(&format!("connected to {}", self.address));
        if let Some(assistant) = self.editor.helper_mut() {
            assistant.server = sender.peer().ok();
        }
        let (ends_in, ends) = mpsc::sync_channel(MOST_ENDS);
        let leaving = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            replies: receiver,
            ends: ends_in,
            form: self.form,
            screen: Arc::clone(&self.screen),
            leaving: Arc::clone(&leaving),
            address: self.address.clone(),
        };
        thread::spawn(move || reader.run());
        self.link = Some(Link { sender, ends, leaving });
    }

    /// End the connection, if there is one.
    fn part(&mut self) {
        if let Some(link) = self.link.take() {
            link.leaving.store(true, Ordering::SeqCst);
            link.sender.close();
        }
    }

    /// To the person, between two prompts.
    fn tell(&self, message: &str) {
        self.screen.print(&format!("lumina: {message}\n"));
    }

    fn remember(&mut self, line: &str) {
        if let (Ok(true), Some(file)) = (self.editor.add_history_entry(line), &self.history) {
            // At once, as the program may be ended at any time. Where it cannot be written, it is not there
            // the next time.
            let _ = self.editor.append_history(file);
        }
    }
}

impl Link {
    /// Send a request and wait for the end of its reply.
    fn ask(&mut self, line: &str) -> Result<Next, Loss> {
        loop {
            match self.ends.try_recv() {
                // What nobody asked for.
                Ok(End::Reply(_)) => {}
                Err(TryRecvError::Empty) => break,
                Ok(End::Lost) | Err(TryRecvError::Disconnected) => return Err(Loss::Before),
            }
        }
        let sent = self.sender.send(line.as_bytes()).map_err(|_| Loss::Before)?;
        if sent == Sent::Nothing {
            return Ok(Next::GoOn);
        }
        if sent == Sent::Quit {
            self.leaving.store(true, Ordering::SeqCst);
        }
        self.sender.flush().map_err(|_| Loss::Meanwhile)?;
        match self.ends.recv() {
            Ok(End::Reply(Kind::Done)) if sent == Sent::Quit => Ok(Next::Leave),
            Ok(End::Reply(_)) => Ok(Next::GoOn),
            Ok(End::Lost) | Err(_) => Err(Loss::Meanwhile),
        }
    }
}

/// Reads replies and prints them.
struct Reader {
    replies: Replies,
    ends: SyncSender<End>,
    form: Form,
    screen: Arc<Screen>,
    leaving: Arc<AtomicBool>,
    address: Address,
}

impl Reader {
    fn run(mut self) {
        let mut text = String::new();
        let error: Option<io::Error> = loop {
            match self.replies.next() {
                Ok(Some(reply)) => {
                    self.form.put(&reply, &mut text);
                    let is_end = matches!(reply.kind, Kind::Done | Kind::Refused);
                    // Printed together, so that a burst does not flicker; and printed before it is told.
                    if is_end || !self.replies.has_next() || text.len() >= MOST_PRINTED_BYTES {
                        self.screen.print(&text);
                        text.clear();
                    }
                    if is_end {
                        let _ = self.ends.try_send(End::Reply(reply.kind));
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if !self.leaving.load(Ordering::SeqCst) {
            let message = connection::lost(&self.address, error.as_ref());
            self.screen.print(&format!("lumina: {message}; '{RECONNECT}' makes a new one\n"));
        }
        // Dropping the sender says the same, should there be no room.
        let _ = self.ends.try_send(End::Lost);
    }
}

/// `$XDG_STATE_HOME/lumina/history`, usually `~/.local/state/lumina/history`; its folder is made.
fn history_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    let lumina = state.join("lumina");
    std::fs::create_dir_all(&lumina).ok()?;
    Some(lumina.join("history"))
}
