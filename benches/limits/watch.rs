//! Whatever happens, no child outlives the driver.
//!
//! An error or a panic unwinds, and each `Server` kills its child as it is dropped. Here is the rest: a
//! signal, and a run that hangs.

use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::Outcome;

static CHILDREN: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Starts the watch: at a signal, or after `limit`, all children are killed, the folder `work` is removed
/// and the process ends with 1.
pub fn start(limit: Duration, work: PathBuf) -> Outcome<()> {
    let (mut told, tell) = UnixStream::pair()?;
    told.set_read_timeout(Some(limit))?;
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, tell.try_clone()?)?;
    }
    thread::spawn(move || {
        let why = loop {
            match told.read(&mut [0]) {
                Ok(_) => break "stopped by a signal".to_owned(),
                // The end of a child, for one, interrupts a read with a timeout.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break format!("not at its end after {limit:?}"),
            }
        };
        eprintln!("limits: {why}");
        // Held to the end, so that no further child is started.
        let children = children();
        for &child in children.iter() {
            let _ = kill_process(child, Signal::KILL);
        }
        let _ = std::fs::remove_dir_all(&work);
        std::process::exit(1);
    });
    Ok(())
}

/// Starts a child that the watch knows of from its first moment.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut children = children();
    let child = command.spawn()?;
    children.push(Pid::from_child(&child));
    Ok(child)
}

pub fn end(child: &mut Child) {
    // Off the list before it is waited for: afterwards its number may be another's.
    children().retain(|&pid| pid != Pid::from_child(child));
    let _ = child.kill();
    let _ = child.wait();
}

fn children() -> MutexGuard<'static, Vec<Pid>> {
    CHILDREN.lock().expect("nothing panics while it holds the list")
}
