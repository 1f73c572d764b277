//! What a service manager hears: that the server is ready, lives and stops; real datagrams on sockets of both
//! kinds.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::process::Signal;

use crate::client::Peek;
use crate::exhaustion::limit_descriptors;
use crate::server::{DEADLINE, Folder, Server, until};
use crate::shutdown::stalled_reader;

/// What stands in for systemd.
struct Manager {
    socket: UnixDatagram,
    /// As `NOTIFY_SOCKET` names it.
    name: String,
    _folder: Folder,
}

impl Manager {
    fn with_path() -> Manager {
        let folder = Folder::new();
        let path = folder.path.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket in the target folder");
        Manager::over(socket, path.display().to_string(), folder)
    }

    fn abstract_one() -> Manager {
        let folder = Folder::new();
        let name = folder.path.file_name().and_then(|name| name.to_str()).expect("the folder has a name");
        let address = SocketAddr::from_abstract_name(name).expect("a short name");
        let socket = UnixDatagram::bind_addr(&address).expect("nobody else has that name");
        Manager::over(socket, format!("@{name}"), folder)
    }

    fn over(socket: UnixDatagram, name: String, folder: Folder) -> Manager {
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket can have a timeout");
        Manager { socket, name, _folder: folder }
    }

    fn hears(&self) -> String {
        let mut bytes = [0; 256];
        let count = self.socket.recv(&mut bytes).expect("the server says something");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    /// What it has not heard yet.
    fn rest(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).expect("a socket can be made non-blocking");
        let mut bytes = [0; 256];
        let next = || {
            let count = self.socket.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
        };
        let rest = std::iter::from_fn(next).collect();
        self.socket.set_nonblocking(false).expect("a socket can be made blocking");
        rest
    }
}

#[test]
fn it_says_that_it_is_ready_and_that_it_stops() {
    for manager in [Manager::with_path(), Manager::abstract_one()] {
        let mut server = Server::build().variable("NOTIFY_SOCKET", &manager.name).start();
        assert_eq!(manager.hears(), "READY=1");
        assert_eq!(server.client().ask_one("PING"), "OK");
        server.signal(Signal::TERM);
        assert_eq!(manager.hears(), "STOPPING=1");
        assert_eq!(server.wait_for_exit().code(), Some(0));
        // Nobody asked for a watchdog.
        assert_eq!(manager.rest(), [""; 0]);
    }
}

/// Also where no connection gets a descriptor any more, and while it stops.
#[test]
fn a_watched_server_says_that_it_lives() {
    for shards in [1, 3] {
        let manager = Manager::with_path();
        let config = format!("shards = {shards}\nshutdown_grace = '600s'\nwrite_stall = '600s'");
        let mut server = Server::build()
            .config(&format!("[server]\n{config}"))
            .variable("NOTIFY_SOCKET", &manager.name)
            .variable("WATCHDOG_USEC", "40000")
            .start();
        assert_eq!(manager.hears(), "READY=1");
        let hears_of_life = || {
            for _ in 0..3 {
                assert_eq!(manager.hears(), "WATCHDOG=1");
            }
        };
        hears_of_life();
        let old = limit_descriptors(&server, Some(0));
        hears_of_life();
        limit_descriptors(&server, old.current);

        let stalled = stalled_reader(&server);
        server.signal(Signal::TERM);
        until("it says that it stops", || manager.hears() == "STOPPING=1");
        hears_of_life();
        assert!(server.is_running(), "bytes are owed, and the grace is long");
        drop(stalled);
        assert_eq!(server.wait_for_exit().code(), Some(0));
    }
}

/// A loop that does not turn says nothing, though the process is there.
#[test]
fn a_frozen_server_is_silent() {
    let manager = Manager::with_path();
    let server =
        Server::build().variable("NOTIFY_SOCKET", &manager.name).variable("WATCHDOG_USEC", "40000").start();
    assert_eq!(manager.hears(), "READY=1");
    server.freeze();
    manager.rest();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(manager.rest(), [""; 0]);
}

#[test]
fn a_watchdog_for_another_process_wakes_nobody() {
    let manager = Manager::with_path();
    let server = Server::build()
        .variable("NOTIFY_SOCKET", &manager.name)
        .variable("WATCHDOG_USEC", "40000")
        .variable("WATCHDOG_PID", "1")
        .start();
    assert_eq!(manager.hears(), "READY=1");
    let mut client = server.client();
    assert_eq!(client.ask_one("PING"), "OK");
    until("a second passes without a wake-up", || {
        let before = server.wake_ups();
        assert_eq!(client.peek(Duration::from_millis(1100)), Peek::Quiet);
        server.wake_ups() == before
    });
    assert_eq!(manager.rest(), [""; 0]);
}

#[test]
fn a_manager_that_cannot_be_told_is_no_reason_to_fail() {
    let strange = [
        ("NOTIFY_SOCKET", "/nowhere/notify", "the service manager cannot be told READY=1: No such file"),
        ("NOTIFY_SOCKET", &*"x".repeat(200), "cannot be used"),
        ("WATCHDOG_USEC", "soon", "WATCHDOG_USEC=soon is not a number"),
    ];
    for (name, value, said) in strange {
        let manager = Manager::with_path();
        let build = Server::build().variable("NOTIFY_SOCKET", &manager.name).variable(name, value);
        let mut server = build.start();
        assert_eq!(server.client().ask_one("PING"), "OK");
        until("it says what is wrong", || server.stderr().contains(said));
        server.signal(Signal::TERM);
        assert_eq!(server.wait_for_exit().code(), Some(0));
    }
}
