//! `lumina client` on a terminal.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::server::{Folder, Server, until};
use crate::terminal::{COLUMNS, CTRL_C, CTRL_D, ENTER, LEFT, TAB, Terminal, UP};

/// A client at its first prompt.
fn start(server: &Server, home: &Folder) -> Terminal {
    let mut terminal = Terminal::start(home, &["client", &server.addr(0).to_string()]);
    terminal.expect("lumina: connected to 127.0.0.1:");
    terminal.expect("lumina> ");
    terminal
}

#[test]
fn requests_are_answered() {
    let server = Server::start();
    let home = Folder::new();
    let mut terminal = start(&server, &home);
    terminal.ask("SET line1/a 81.5 good 5", "OK");
    terminal.press(ENTER);
    terminal.expect("\r\n");
    terminal.expect("lumina> ");
    terminal.ask("GET line1/a", "OK 81.5 good 5\r\n");
    terminal.ask("get line1/b", "ERR not-found ");
    terminal.ask("SET line1/b \"grün\" good 6", "OK");
    terminal.ask("READ #", "VAL line1/a 81.5 good 5\r\nVAL line1/b \"grün\" good 6\r\nOK 2\r\n");
    terminal.press(CTRL_D);
    assert_eq!(terminal.code(), Some(0));
}

#[test]
fn ways_to_leave() {
    let server = Server::start();
    let home = Folder::new();
    for keys in ["bye\r", " Bye \r", "QUIT\r", "quit\r", CTRL_D] {
        let mut terminal = start(&server, &home);
        terminal.press(keys);
        assert_eq!(terminal.code(), Some(0), "{keys:?}");
        assert!(!terminal.shown().contains("closed"), "{keys:?}: {:?}", terminal.shown());
    }
}

#[test]
fn ctrl_c_drops_the_line() {
    let server = Server::start();
    let home = Folder::new();
    let mut terminal = start(&server, &home);
    terminal.press("SET a 1");
    terminal.expect("SET a 1");
    terminal.press(CTRL_C);
    terminal.expect("lumina> ");
    terminal.ask("GET a", "ERR not-found");
}

#[test]
fn ctrl_c_ends_a_wait() {
    let server = Server::start();
    let home = Folder::new();
    let mut terminal = start(&server, &home);
    server.freeze();
    terminal.press("PING\r");
    terminal.expect("PING");
    terminal.expect("\r\n");
    // The signal is what the terminal makes of the key while no line is edited. It may come too early: then
    // it drops an empty line, and the next one counts.
    let code = loop {
        terminal.signal(Signal::INT);
        if let Some(code) = terminal.code_soon() {
            break code;
        }
    };
    assert_eq!(code, 130);
}

/// As by a paste, by typing ahead, or over a slow link.
#[test]
fn keys_may_come_together() {
    let server = Server::start();
    let home = Folder::new();
    let mut terminal = start(&server, &home);
    terminal.press("SET a 1 good 5\rGET a\rSET a 2 good 6\rSUB a\rSET a 3 good 7\rGET a\rGET b");
    terminal.expect("\r\nOK 1 good 5\r\n");
    terminal.expect("\r\nVAL a 2 good 6\r\n");
    terminal.expect("UPD a 3 good 7\r\n");
    terminal.expect("lumina> GET b");
    // A paste where the terminal says that it is one.
    terminal.press("\x1b[200~ad\x1b[201~\r");
    terminal.expect("ERR not-found");
    terminal.press("\x1b[200~PING 1\nPING 2\n\x1b[201~\r");
    terminal.expect("\r\nOK 1\r\nOK 2\r\n");
    terminal.expect("lumina> ");
}

#[test]
fn updates_appear_above_the_prompt() {
    let server = Server::start();
    let home = Folder::new();
    let mut other = server.client();
    other.ask_one("SET line1/a 1 good 5");
    let mut terminal = start(&server, &home);
    terminal.ask("SUB #", "VAL line1/a 1 good 5\r\nOK 1\r\n");

    other.ask_one("SET line1/a 2 good 6");
    terminal.expect("\r\x1b[KUPD line1/a 2 good 6\r\nlumina> \x1b7\x1b8");
    terminal.press("GET line1/é");
    terminal.expect("GET line1/é");
    other.ask_one("SET line1/a 3 good 7");
    terminal.expect("\r\x1b[KUPD line1/a 3 good 7\r\nlumina> GET line1/é\x1b7\x1b8");
    // The cursor stays where it is.
    terminal.press(LEFT);
    terminal.expect("lumina> GET line1/é");
    other.ask_one("SET line1/a 4 good 8");
    terminal.expect("\r\x1b[KUPD line1/a 4 good 8\r\nlumina> GET line1/\x1b7é\x1b8");
    terminal.press("a\x0b\r");
    terminal.expect("\r\nOK 4 good 8\r\n");
}

/// A line of several rows is not taken apart by updates: they wait until it is finished.
#[test]
fn a_long_line_is_left_in_peace() {
    let server = Server::start();
    let home = Folder::new();
    let mut other = server.client();
    other.ask_one("SET a 1 good 5");
    let mut terminal = start(&server, &home);
    terminal.ask("SUB a", "VAL a 1 good 5\r\nOK 1\r\n");
    let text = "x".repeat(usize::from(COLUMNS));
    terminal.press(&format!("PING {text}"));
    terminal.expect(&text);
    other.ask_one("SET a 2 good 6");
    other.ask_one("PING");
    terminal.press("yz");
    terminal.expect("yz");
    assert!(!terminal.shown().contains("UPD a 2"), "{:?}", terminal.shown());
    terminal.press(ENTER);
    // In whatever order they come.
    terminal.expect_all(&["UPD a 2 good 6\r\n", &format!("OK {text}yz\r\n")]);
}

#[test]
fn verbs_and_tags_are_completed() {
    let server = Server::start();
    let home = Folder::new();
    let mut other = server.client();
    for tag in ["line1/press3/state", "line1/press3/temperature", "line1/press4/state", "hall"] {
        other.ask_one(&format!("SET {tag} 1 good 5"));
    }
    let mut terminal = start(&server, &home);
    terminal.press("ge");
    terminal.press(TAB);
    terminal.expect("lumina> GET ");
    terminal.press("l\t");
    terminal.expect("lumina> GET line1/");
    terminal.press(TAB);
    // What all have in common, and then what there is.
    terminal.expect("lumina> GET line1/press");
    terminal.expect("press3/  press4/");
    terminal.expect("lumina> GET line1/press");
    terminal.press("3/t\t");
    terminal.expect("lumina> GET line1/press3/temperature");
    terminal.press(ENTER);
    terminal.expect("OK 1 good 5\r\n");
    terminal.press("READ $server/upt\t\r");
    terminal.expect("VAL $server/uptime_s ");
    terminal.press("rec\t\r");
    terminal.expect("lumina: connected to");
    terminal.expect("lumina> ");
    // Nothing fits, and nothing happens.
    terminal.press("GET nope\t/x\r");
    terminal.expect("GET nope/x");
    terminal.expect("ERR not-found");
    // After a list updates are printed again.
    terminal.ask("SUB hall", "VAL hall 1 good 5\r\nOK 1\r\n");
    terminal.press("GET line1/press3/\t");
    terminal.expect("state        temperature");
    terminal.expect("lumina> GET line1/press3/");
    other.ask_one("SET hall 2 good 6");
    terminal.expect("UPD hall 2 good 6\r\nlumina> GET line1/press3/");
}

#[test]
fn lines_are_remembered() {
    let server = Server::start();
    let home = Folder::new();
    let mut terminal = start(&server, &home);
    terminal.ask("PING first", "OK first\r\n");
    terminal.ask("PING second", "OK second\r\n");
    terminal.ask("AUTH somebody secret", "ERR denied");
    terminal.ask(&format!("{UP}{UP}"), "OK first\r\n");
    terminal.press("bye\r");
    assert_eq!(terminal.code(), Some(0));

    let mut terminal = start(&server, &home);
    terminal.press(UP);
    terminal.expect("lumina> bye");
    terminal.press(UP);
    terminal.expect("lumina> PING first");
    terminal.press(ENTER);
    terminal.expect("OK first\r\n");
    let file = fs::read_to_string(home.path.join("lumina/history")).expect("the history is written at once");
    assert!(file.contains("PING second") && !file.contains("secret"), "{file}");
}

#[test]
fn a_history_that_cannot_be_written_is_no_matter() {
    let server = Server::start();
    let home = Folder::new();
    home.write("lumina", "a file where the folder should be");
    let mut terminal = start(&server, &home);
    terminal.ask("PING first", "OK first\r\n");
    terminal.press(&format!("{UP}{ENTER}"));
    terminal.expect("OK first\r\n");
}

#[test]
fn a_lost_server_is_said_and_reconnected_on_request() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("its address");
    let home = Folder::new();
    let mut terminal = Terminal::start(&home, &["client", &addr.to_string()]);
    let first = listener.accept().expect("the client connects").0;
    terminal.expect("lumina> ");
    terminal.press("PING x");
    terminal.expect("PING x");
    drop(first);
    // At once, above the line that is being typed.
    let lost = format!("lumina: the server at {addr} closed the connection; 'reconnect' makes a new one");
    terminal.expect(&format!("\r\x1b[K{lost}\r\nlumina> PING x"));
    terminal.press(ENTER);
    terminal.expect("lumina: not connected, so nothing was sent");
    terminal.expect("lumina> ");

    terminal.press("reconnect\r");
    let second = listener.accept().expect("the client connects again").0;
    terminal.expect(&format!("lumina: connected to {addr}\r\n"));
    terminal.expect("lumina> ");
    terminal.press("PING again\r");
    assert_eq!(line_of(&second), "PING again\n");
    (&second).write_all(b"OK again\n").expect("the client takes a reply");
    terminal.expect("\r\nOK again\r\n");
    terminal.expect("lumina> ");

    // In the middle of a request.
    terminal.press("PING lost\r");
    assert_eq!(line_of(&second), "PING lost\n");
    drop(second);
    terminal.expect(&lost);
    terminal.expect("lumina: no reply came: it may or may not have been carried out");
    drop(listener);
    // Bound and not listening: so that no other test's server is given the port.
    let reserved = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    reserved.set_reuse_address(true).expect("an option");
    // The listener may still be in a process that another test is starting, until it is executed.
    until("nobody listens there", || reserved.bind(&addr.into()).is_ok());
    terminal.expect("lumina> ");
    terminal.press("reconnect\r");
    terminal.expect(&format!("lumina: no server listens on {addr}"));
    terminal.expect("lumina> ");
    terminal.press("bye\r");
    assert_eq!(terminal.code(), Some(0));
}

#[test]
fn a_reply_cannot_play_with_the_terminal() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let home = Folder::new();
    let mut terminal =
        Terminal::start(&home, &["client", &listener.local_addr().expect("its address").to_string()]);
    let mut server = listener.accept().expect("the client connects").0;
    terminal.expect("lumina> ");
    server.write_all("UPD a \"\x1b[2J\u{9b}2J\" good 5\n".as_bytes()).expect("the client takes it");
    terminal.expect("UPD a \"\u{fffd}[2J\u{fffd}2J\" good 5\r\n");
}

/// Where a cursor cannot be moved, lines are read as from a pipe.
#[test]
fn a_plain_terminal_has_no_prompt() {
    let server = Server::start();
    let home = Folder::new();
    let mut terminal = Terminal::start_as("dumb", &home, &["client", &server.addr(0).to_string()]);
    terminal.press("PING x\r");
    terminal.expect("OK x\r\n");
    terminal.press(CTRL_D);
    assert_eq!(terminal.code(), Some(0));
    assert!(!terminal.shown().contains("lumina"), "{:?}", terminal.shown());
}

#[test]
fn json_at_the_prompt() {
    let server = Server::start();
    let home = Folder::new();
    let mut terminal = Terminal::start(&home, &["client", "--json", &server.addr(0).to_string()]);
    terminal.expect("lumina> ");
    terminal.ask("SET a nan good 5", "{\"reply\":\"OK\"}\r\n");
    terminal.ask(
        "GET a",
        "{\"reply\":\"OK\",\"tag\":\"a\",\"value\":\"nan\",\"quality\":\"good\",\"time\":5}\r\n",
    );
}

/// One line, and no byte more.
fn line_of(stream: &TcpStream) -> String {
    let mut line = String::new();
    BufReader::with_capacity(1, stream).read_line(&mut line).expect("a line");
    line
}
