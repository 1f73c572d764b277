//! A terminal of one test: `lumina` on a pseudo-terminal, what it shows and what is typed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::server::{Folder, until, wait};

const ROWS: u16 = 24;
pub const COLUMNS: u16 = 80;

pub const UP: &str = "\x1b[A";
pub const LEFT: &str = "\x1b[D";
pub const CTRL_C: &str = "\x03";
pub const CTRL_D: &str = "\x04";
pub const TAB: &str = "\t";
pub const ENTER: &str = "\r";

pub struct Terminal {
    child: Child,
    keys: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// How much of what was shown has been expected.
    seen: usize,
}

impl Terminal {
    /// Run `lumina` with these arguments; what it remembers is in `home`.
    pub fn start(home: &Folder, args: &[&str]) -> Terminal {
        Terminal::start_as("xterm", home, args)
    }

    /// As a terminal of this type.
    pub fn start_as(term: &str, home: &Folder, args: &[&str]) -> Terminal {
        let ours =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&ours).expect("a terminal that is ours");
        unlockpt(&ours).expect("a terminal that is ours");
        let name = ptsname(&ours, Vec::new()).expect("a terminal has a name");
        let no_controlling_terminal = i32::try_from(OFlags::NOCTTY.bits()).expect("a flag of open");
        let theirs = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(no_controlling_terminal)
            .open(name.to_str().expect("its name is ASCII"))
            .expect("a terminal can be opened");
        let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&theirs, size).expect("a terminal has a size");
        let end = || theirs.try_clone().expect("a descriptor for each stream");
        let child = Command::new(env!("CARGO_BIN_EXE_lumina"))
            .args(args)
            .env("TERM", term)
            .env("XDG_STATE_HOME", &home.path)
            .current_dir(&home.path)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("the lumina executable starts");
        drop(theirs);
        let keys = File::from(ours);
        let mut pipe = keys.try_clone().expect("a descriptor for the reader");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&shown);
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            // It ends with an error when the program at the other end has ended.
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                shared.lock().expect("nobody panics while holding it").extend_from_slice(&chunk[..count]);
            }
        });
        Terminal { child, keys, shown, seen: 0 }
    }

    /// Press keys, all at once.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("a terminal takes keys");
    }

    /// Wait until this is shown, later than what was expected before. Line ends are CR LF.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let mut found = None;
        until(&format!("{text:?} is shown"), || {
            let shown = self.shown();
            found = shown[self.seen..].find(text).map(|at| self.seen + at + text.len());
            found.is_some()
        });
        self.seen = found.expect("it was waited for");
    }

    /// Wait until all of these are shown, in any order, later than what was expected before.
    #[track_caller]
    pub fn expect_all(&mut self, texts: &[&str]) {
        let before = self.seen;
        let mut last = before;
        for text in texts {
            self.seen = before;
            self.expect(text);
            last = last.max(self.seen);
        }
        self.seen = last;
    }

    /// A request, its final line, and the prompt after it.
    #[track_caller]
    pub fn ask(&mut self, request: &str, reply: &str) {
        self.press(&format!("{request}{ENTER}"));
        self.expect(&format!("\r\n{reply}"));
        self.expect("lumina> ");
    }

    /// All that was shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("the reader never panics")).into_owned()
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal)
            .expect("it is there to be signalled");
    }

    /// The exit code, if it ends in a little while.
    pub fn code_soon(&mut self) -> Option<i32> {
        thread::sleep(Duration::from_millis(100));
        self.child.try_wait().expect("a child can be waited for")?.code()
    }

    /// The exit code, when it ends.
    pub fn code(&mut self) -> Option<i32> {
        wait(&mut self.child).expect("the client ends").code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- status {:?}, shown:\n{:?}\n---", self.child.try_wait(), self.shown());
        }
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
