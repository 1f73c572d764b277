//! The line protocol: names, patterns, and the server's own tags.

use crate::client::Client;
use crate::script::check;
use crate::server::Server;

#[test]
fn names() {
    let server = Server::start();
    let mut client = server.client();
    let longest = format!("{}/{}", "a".repeat(127), "b".repeat(127));
    #[rustfmt::skip]
    let table = [
        ("a",                           true),
        ("Z",                           true),
        ("0",                           true),
        ("line1/press3/temperature",    true),
        ("A-Z_a.z:0~9",                 true),
        ("-/_/./:/~",                   true),
        ("..",                          true),
        (longest.as_str(),              true),
        (&format!("{longest}c"),        false),
        ("/",                           false),
        ("/a",                          false),
        ("a/",                          false),
        ("a//b",                        false),
        ("a+",                          false),
        ("+",                           false),
        ("a/+",                         false),
        ("#",                           false),
        ("a/#",                         false),
        ("a/$b",                        false),
        ("a$",                          false),
        ("$$a",                         false),
        ("ä",                           false),
        ("a,b",                         false),
        ("a%",                          false),
        ("a\\b",                        false),
        ("a=b",                         false),
        ("a\u{0}",                      false),
    ];
    for (name, good) in table {
        let (set, get) = if good { ("OK", "OK 1 good 7") } else { ("ERR bad-name", "ERR bad-name") };
        client.send(format!("SET {name} 1 good 7\nGET {name}\n"));
        for (verb, expected) in [("SET", set), ("GET", get)] {
            let line = client.reply_line();
            assert!(client.matches(expected, &line), "{verb} {name}: expected {expected:?}, got {line:?}");
        }
    }
}

/// `READ`, `SUB` and `LIST` understand a pattern alike, and answer in byte order of the names: so `a-b` and
/// `a.b` come before `a/b`, which a walk along the levels would get wrong.
#[test]
fn patterns() {
    let server = Server::start();
    let mut client = server.client();
    let names = ["B", "a", "a-b", "a.b", "a/b", "a/b/c", "a/b/d", "a/c", "a0", "ab/b/c", "b/b", "~"];
    client.ok_all(names.iter().rev().map(|name| format!("SET {name} 1")));

    let long = "p".repeat(253);
    #[rustfmt::skip]
    let table: [(&str, Option<&str>); 29] = [
        ("#",          Some("B a a-b a.b a/b a/b/c a/b/d a/c a0 ab/b/c b/b ~")),
        ("a",          Some("a")),
        ("a/b",        Some("a/b")),
        ("A",          Some("")),
        ("a/#",        Some("a a/b a/b/c a/b/d a/c")),
        ("a/b/#",      Some("a/b a/b/c a/b/d")),
        ("a/b/c/#",    Some("a/b/c")),
        ("b/#",        Some("b/b")),
        ("+",          Some("B a a-b a.b a0 ~")),
        ("+/b",        Some("a/b b/b")),
        ("+/+",        Some("a/b a/c b/b")),
        ("a/+",        Some("a/b a/c")),
        ("a/+/c",      Some("a/b/c")),
        ("+/b/c",      Some("a/b/c ab/b/c")),
        ("+/b/#",      Some("a/b a/b/c a/b/d ab/b/c b/b")),
        ("+/+/+",      Some("a/b/c a/b/d ab/b/c")),
        ("+/+/#",      Some("a/b a/b/c a/b/d a/c ab/b/c b/b")),
        ("+/+/+/+",    Some("")),
        ("none/#",     Some("")),
        ("a+",         None),
        ("+a/b",       None),
        ("a#",         None),
        ("#a",         None),
        ("#/a",        None),
        ("a/#/b",      None),
        ("a//#",       None),
        ("/#",         None),
        ("a/",         None),
        ("a/$b/#",     None),
    ];
    for (pattern, expected) in table {
        let names = expected.map(|names| names.split_whitespace().collect::<Vec<_>>());
        assert_eq!(matched(&mut client, pattern), names.map(|names| names.join(" ")), "{pattern}");
    }
    assert_eq!(matched(&mut client, &format!("{long}/#")), Some(String::new()), "255 bytes");
    assert_eq!(matched(&mut client, &format!("{long}p/#")), None, "256 bytes");
}

#[test]
fn names_with_a_dollar_are_the_servers_own() {
    check(
        "",
        "
        > SET mine 1 good 7
        < OK
        > GET $server/connections
        < OK 1 good @
        > GET $server/none
        < ERR not-found
        > GET $none
        < ERR not-found
        > SET $server/connections 5
        < ERR read-only
        > SET $server/none 5
        < ERR read-only
        > SET $none/x 5
        < ERR read-only
        > SET $none x
        < ERR bad-value
        > SET $none//x 5
        < ERR bad-name
        # Only a pattern that names the first level sees them.
        > READ #
        < VAL mine 1 good 7
        < OK 1
        > READ +/connections
        < OK 0
        > LIST +/#
        < TAG mine any rw -
        < OK 1
        > READ $server/connections
        < VAL $server/connections 1 good @
        < OK 1
        > LIST $server/+s
        < ERR bad-name
        ",
    );
}

#[test]
fn the_server_tags_tell_how_it_is() {
    let server = Server::start();
    let mut client = server.client();
    let list = client.ask("LIST $server/#");
    let names: Vec<&str> =
        list.iter().filter_map(|line| line.strip_prefix("TAG ")?.split(' ').next()).collect();
    // Connections, requests, bytes in, bytes out, tags, uptime, loop turn time, memory.
    assert!(names.len() >= 8, "{list:?}");
    assert!(names.contains(&"$server/connections"), "{list:?}");
    assert!(names.is_sorted(), "{list:?}");
    for line in &list[..list.len() - 1] {
        assert!(line.ends_with(" ro -"), "{line}");
    }
    let values = client.ask("READ $server/#");
    assert_eq!(values.len(), list.len());
    for (line, name) in values.iter().zip(&names) {
        assert!(client.matches(&format!("VAL {name} * good @"), line), "{line}");
    }
    let _second = {
        let mut second = server.client();
        assert_eq!(second.ask_one("PING"), "OK");
        second
    };
    client.send("GET $server/connections\n");
    client.expect("OK 2 good @");
}

/// The names that a pattern matches, or `None` when it is refused as `bad-name`.
fn matched(client: &mut Client, pattern: &str) -> Option<String> {
    let mut results = ["READ", "SUB", "LIST"].map(|verb| {
        let mut reply = client.ask(&format!("{verb} {pattern}"));
        let last = reply.pop().expect("a reply has a final line");
        if client.matches("ERR bad-name", &last) {
            return None;
        }
        assert_eq!(last, format!("OK {}", reply.len()), "{verb} {pattern}");
        let names = reply.iter().map(|line| line.split(' ').nth(1).expect("a data line has a name"));
        Some(names.collect::<Vec<_>>().join(" "))
    });
    assert!(results[0] == results[1] && results[0] == results[2], "{pattern}: {results:?}");
    let unsub = client.ask_one(&format!("UNSUB {pattern}"));
    assert!(
        client.matches(if results[0].is_some() { "OK" } else { "ERR bad-name" }, &unsub),
        "{pattern}: {unsub}"
    );
    results[0].take()
}
