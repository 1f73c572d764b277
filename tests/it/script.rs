//! Conversations as text. The tests of the line protocol read like the examples in its specification.

use std::collections::BTreeMap;

use crate::client::now_ms;
use crate::server::Server;

/// Play `script` against a server with this configuration.
///
/// ```text
/// > GET a                  the client without a name sends a line
/// < OK 1 good @            and its next reply line is this; see `client::matches`
/// b> SUB #                 another connection, opened when first named
/// < UPD a 1 good @         an update, wherever it comes among the replies
/// b: close                 also: shut (half-close), reset, end (expect the end of the stream)
/// # a comment
/// ```
/// At the end every connection that is still open must have nothing more to say.
#[track_caller]
pub fn check(config: &str, script: &str) {
    let started = now_ms();
    let server = Server::with(config);
    let mut clients = BTreeMap::new();
    for (index, line) in script.split('\n').map(str::trim_start).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = line.find(['>', '<', ':']).unwrap_or_else(|| panic!("script line {index}: {line:?}"));
        let (name, operation) = line.split_at(at);
        let mut client = clients.remove(name).unwrap_or_else(|| server.client().since(started));
        let (sign, text) = operation.split_at(1);
        let text = text.strip_prefix(' ').unwrap_or(text);
        match (sign, text) {
            (">", _) => client.send(format!("{text}\n")),
            ("<", _) => {
                let got = match text.strip_prefix("UPD ") {
                    Some(rest) => client.update_of(rest.split(' ').next().unwrap_or_default()),
                    None => client.reply_line(),
                };
                assert!(client.matches(text, &got), "script line {index}: expected {line:?}, got {got:?}");
            }
            (":", "close") => continue,
            (":", "reset") => {
                client.reset();
                continue;
            }
            (":", "shut") => client.shut(),
            (":", "end") => {
                client.expect_end();
                assert!(client.updates_left().is_empty(), "line {index}: {:?}", client.updates_left());
                continue;
            }
            _ => panic!("script line {index}: {line:?}"),
        }
        clients.insert(name, client);
    }
    for (name, mut client) in clients {
        // Two round trips: what was dealt out after the first was written is there by the second.
        for _ in 0..2 {
            assert_eq!(client.ask_one("PING end of script"), "OK end of script", "client {name:?}");
        }
        assert!(client.updates_left().is_empty(), "client {name:?} has left {:?}", client.updates_left());
    }
}

/// A row of [`check_streams`]: what it shows, what is sent, the reply lines.
pub type Stream<'a> = (&'a str, &'a [u8], &'a [&'a str]);

/// Each row on a connection of its own, all with one server: send, half-close, and read to the end.
#[track_caller]
pub fn check_streams(config: &str, rows: &[Stream<'_>]) {
    let started = now_ms();
    let server = Server::with(config);
    for (what, bytes, expected) in rows {
        let mut client = server.client().since(started);
        client.send(bytes);
        client.shut();
        let got = client.read_to_end();
        let same = got.len() == expected.len()
            && expected.iter().zip(&got).all(|(pattern, line)| client.matches(pattern, line));
        assert!(same, "{what}:\n expected {expected:?}\n got      {got:?}");
    }
}
