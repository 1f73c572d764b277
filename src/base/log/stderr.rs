//! Stderr made such that printing there can neither wait nor fail: fd 2 becomes a private pipe, and what is
//! printed into it is passed on to the real stderr where that takes it at once, or else lost.
//!
//! `eprintln!` panics where a write fails (a full disk, a vanished reader) and waits where a pipe is full. No
//! poll can rule that out beforehand, hence the detour. Its price: nobody else may count on fd 2. What others
//! print there stays in the pipe until the next line or flush, and the runtime's own last words (stack
//! overflow, out of memory) are lost.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec, read, write};
use rustix::pipe::{PIPE_BUF, PipeFlags, pipe_with};
use rustix::stdio::dup2_stderr;

/// The lowest descriptor the duplicate may get: the standard three stay free for what they are.
const FD_MIN: i32 = 3;

pub struct Relay {
    /// The read end of the pipe whose write end is fd 2.
    pipe: OwnedFd,
    stderr: OwnedFd,
}

impl Relay {
    /// Puts the pipe in the place of fd 2, as the last step: where one fails, fd 2 is what it was.
    pub fn install() -> io::Result<Relay> {
        let stderr = reopened().or_else(|_| fcntl_dupfd_cloexec(io::stderr(), FD_MIN))?;
        let (pipe, entrance) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        dup2_stderr(entrance)?;
        Ok(Relay { pipe, stderr })
    }

    /// Whether the real stderr takes something now.
    pub fn is_ready(&self) -> bool {
        is_writable(&self.stderr)
    }

    pub fn pass_on_if_ready(&self) {
        if self.is_ready() {
            self.pass_on();
        }
    }

    /// Passes on what is in the pipe; false if some of it was lost. To be called when ready. A line is less
    /// than `PIPE_BUF`, so it takes one write, and a pipe that polls writable takes that much without
    /// waiting.
    pub fn pass_on(&self) -> bool {
        let mut buffer = [0; PIPE_BUF];
        let mut is_whole = true;
        loop {
            // An empty pipe is the one reason for a read to fail.
            let count = read(&self.pipe, &mut buffer).unwrap_or(0);
            is_whole &= count == 0 || write(&self.stderr, &buffer[..count]) == Ok(count);
            if count < PIPE_BUF || !self.is_ready() {
                return is_whole;
            }
        }
    }
}

/// The real stderr once more, to write without waiting: a terminal polls writable while it has room for a
/// part of a line, and between poll and write another process may fill a shared pipe. To set the flag on fd 2
/// itself would set it for the shell too. Fails for a socket, for another user's terminal and without
/// `/proc`.
fn reopened() -> rustix::io::Result<OwnedFd> {
    // A file never keeps a writer waiting for a reader, and would be written from its start.
    if FileType::from_raw_mode(fstat(io::stderr())?.st_mode) == FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open("/proc/self/fd/2", flags, Mode::empty())
}

pub fn is_writable(file: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&file, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A failed poll says nothing, and then a lost line is the lesser evil. Any flag beside OUT (ERR, HUP,
    // NVAL) means that a write would fail.
    poll(&mut fds, Some(&at_once)).is_ok() && fds[0].revents() == PollFlags::OUT
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A relay to something else than stderr, and what stands for fd 2.
    fn relay_to(stderr: impl Into<OwnedFd>) -> (File, Relay) {
        let (pipe, entrance) =
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("a pipe needs no rights");
        (entrance.into(), Relay { pipe, stderr: stderr.into() })
    }

    fn pipe() -> (File, File) {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe needs no rights");
        (reader.into(), writer.into())
    }

    #[test]
    fn what_is_printed_arrives() {
        let (mut reader, writer) = pipe();
        let (mut entrance, relay) = relay_to(writer);
        assert!(relay.pass_on(), "nothing to lose");
        for text in ["a line\n".to_owned(), "x".repeat(PIPE_BUF), "y".repeat(10 * PIPE_BUF + 1)] {
            entrance.write_all(text.as_bytes()).expect("a pipe takes 64 KiB");
            assert!(relay.is_ready() && relay.pass_on());
            let mut arrived = vec![0; text.len()];
            reader.read_exact(&mut arrived).expect("the relay is open");
            assert!(arrived == text.as_bytes());
        }
    }

    #[test]
    fn what_nobody_takes_is_lost_without_waiting() {
        let full_disk = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let (abandoned_reader, abandoned) = pipe();
        drop(abandoned_reader);
        for stderr in [OwnedFd::from(full_disk), abandoned.into()] {
            let (mut entrance, relay) = relay_to(stderr);
            // Many times the pipe's size: what is lost does not stay there.
            for _ in 0..100 {
                entrance.write_all(&[b'x'; PIPE_BUF - 1]).expect("the pipe is empty");
                assert!(!relay.pass_on());
            }
        }
        let (mut reader, mut stalled) = pipe();
        while is_writable(&stalled) {
            stalled.write_all(&[0; PIPE_BUF]).expect("the reader is there");
        }
        let (mut entrance, relay) = relay_to(stalled);
        entrance.write_all(b"later").expect("the pipe is empty");
        relay.pass_on_if_ready();
        reader.read_exact(&mut [0; 16 * PIPE_BUF]).expect("a pipe holds that much");
        relay.pass_on_if_ready();
        let mut arrived = [0; 5];
        reader.read_exact(&mut arrived).expect("the relay is open");
        assert_eq!(&arrived, b"later");
    }

    #[test]
    fn full_and_abandoned_streams_are_not_writable() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair needs no rights");
        assert!(is_writable(&ours));
        ours.set_nonblocking(true).expect("a socket can be non-blocking");
        while Write::write(&mut &ours, &[0; 4096]).is_ok() {}
        assert!(!is_writable(&ours));
        let (ours, _) = (UnixStream::pair().expect("a second pair").0, drop(theirs));
        assert!(!is_writable(&ours));
    }
}
