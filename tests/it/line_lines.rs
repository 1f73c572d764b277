//! The line protocol, section “Lines”: where lines and fields end, the reply rule, the order of checks,
//! closing.

use crate::client::Client;
use crate::script::{check, check_streams};
use crate::server::Server;

const MAX_LINE: usize = 4096;

#[test]
fn ends_of_lines() {
    check_streams(
        "",
        &[
            ("LF ends a line", b"PING a\n", &["OK a"]),
            ("one CR before it is ignored", b"PING a\r\n", &["OK a"]),
            ("but only one", b"PING a\r\r\n", &["OK a\r"]),
            ("elsewhere it is an ordinary byte", b"PING a\rb\n", &["OK a\rb"]),
            ("so it separates no fields", b"GET\ra\n", &["ERR bad-request"]),
            ("and is in no name", b"GET a\rb\n", &["ERR bad-name"]),
            ("nor blank", b" \r \nPING\n", &["ERR bad-request", "OK"]),
            ("blank lines get no reply", b"\n \n\t\n\r\n  \t \r\nPING a\n\n", &["OK a"]),
            ("an unfinished last line is dropped", b"PING a\nSET dropped 1", &["OK a"]),
            ("also when it would be complete but for the LF", b"SET dropped 1\r", &[]),
            ("and really not executed", b"GET dropped\n", &["ERR not-found"]),
        ],
    );
}

#[test]
fn fields_and_blanks() {
    check_streams(
        "",
        &[
            ("leading blanks", b" \t PING a\n", &["OK a"]),
            ("several blanks", b"SET \t b  \t5\t good   7\n", &["OK"]),
            ("they were understood", b"\tGET\tb\n", &["OK 5 good 7"]),
            ("trailing blanks", b"GET b \t\r\n", &["OK 5 good 7"]),
            (
                "a string holds blanks",
                b"SET b \"off  line\" good 7\nGET b\n",
                &["OK", "OK \"off  line\" good 7"],
            ),
            ("and escaped quotes", b"SET b \" \\\" \" good 7\nGET b\n", &["OK", "OK \" \\\" \" good 7"]),
            ("a blank must follow it", b"SET b \"on\"good\n", &["ERR bad-value"]),
            ("whatever comes instead", b"SET b \"on\"\"off\"\n", &["ERR bad-value"]),
            ("it must end", b"SET b \"on good 7\n", &["ERR bad-value"]),
            ("not by an escaped quote", b"SET b \"on\\\" good 7\n", &["ERR bad-value"]),
            ("a quote inside a field is no string", b"SET b x\"y\n", &["ERR bad-value"]),
            ("and holds no blanks together", b"SET b x\"y z\"\n", &["ERR bad-value"]),
            ("a tab in a string is a raw control character", b"SET b \"o\tn\"\n", &["ERR bad-value"]),
            ("a string is no verb", b"\"GET\" b\n", &["ERR bad-request"]),
            ("a string is no name", b"GET \"b\"\n", &["ERR bad-name"]),
            ("nothing of that changed the tag", b"GET b\n", &["OK \" \\\" \" good 7"]),
        ],
    );
}

#[test]
fn verbs_in_any_case_and_names_not() {
    check_streams(
        "",
        &[
            ("lower", b"set v 1 good 7\nget v\n", &["OK", "OK 1 good 7"]),
            ("mixed", b"pInG A b\n", &["OK A b"]),
            ("a name is another in another case", b"GET V\n", &["ERR not-found"]),
            ("unknown", b"FETCH v\n", &["ERR bad-request"]),
            ("a longer one is another", b"GETS v\n", &["ERR bad-request"]),
            ("a shorter one too", b"GE v\n", &["ERR bad-request"]),
            ("@ is reserved", b"@7 GET v\n", &["ERR bad-request"]),
            (
                "the connection stays open after each",
                b"FETCH\n@\nGET v\n",
                &["ERR bad-request", "ERR bad-request", "OK 1 good 7"],
            ),
        ],
    );
}

#[test]
fn bytes_that_are_not_utf8() {
    check_streams(
        "",
        &[
            ("a stray byte", b"PING \xff\nPING on\n", &["ERR bad-request", "OK on"]),
            ("a sequence cut short", b"PING \xe2\x82\nPING on\n", &["ERR bad-request", "OK on"]),
            ("an overlong form", b"PING \xc0\xaf\n", &["ERR bad-request"]),
            ("a surrogate", b"PING \xed\xa0\x80\n", &["ERR bad-request"]),
            ("inside a string", b"SET u \"\xc3\x28\"\nGET u\n", &["ERR bad-request", "ERR not-found"]),
            ("before the name is looked at", b"GET a//b\xff\n", &["ERR bad-request"]),
            ("good UTF-8 passes", "PING 21 °C €\n".as_bytes(), &["OK 21 °C €"]),
        ],
    );
}

#[test]
fn the_longest_line() {
    let longest = ping_of(MAX_LINE);
    let echo = format!("OK{}", &longest["PING".len()..]);
    let longer = ping_of(MAX_LINE + 1);
    let text = |line: &str, end: &str| format!("{line}{end}").into_bytes();
    check_streams(
        "",
        &[
            ("may be that long", &text(&longest, "\n"), &[&echo]),
            ("a CR does not count", &text(&longest, "\r\n"), &[&echo]),
            ("a second one does", &text(&longest, "\r\r\n"), &["ERR too-long"]),
            ("one byte more", &text(&longer, "\n"), &["ERR too-long"]),
            ("without an end", &text(&longer, ""), &["ERR too-long"]),
            ("what came before is answered", &text("PING a\n", &longer), &["OK a", "ERR too-long"]),
            ("the rest is ignored", &text(&longer, "\nSET after 1\nPING\n"), &["ERR too-long"]),
            ("really", b"GET after\n", &["ERR not-found"]),
        ],
    );
}

#[test]
fn the_longest_line_is_configurable() {
    let config = "
        [[listen]]
        url = 'line://127.0.0.1:0'
        max_line = 64
    ";
    let (longest, longer) = (ping_of(64), ping_of(65));
    check_streams(
        config,
        &[
            (
                "64 bytes",
                format!("{longest}\nPING\n").as_bytes(),
                &[&format!("OK{}", &longest["PING".len()..]), "OK"],
            ),
            ("65 bytes", format!("{longer}\nPING\n").as_bytes(), &["ERR too-long"]),
        ],
    );
}

/// However the stream is cut, the lines are the same.
#[test]
fn one_byte_at_a_time() {
    let server = Server::start();
    let mut client = server.client();
    for byte in b"SET c \"x \xe2\x82\xac\" good 7\r\n\r\nGET c\r\nPING  a\n" {
        client.send([*byte]);
    }
    for expected in ["OK", "OK \"x €\" good 7", "OK ..."] {
        client.expect(expected);
    }
}

/// A line starts when the one before has its final line, so a reply shows all that was asked before.
#[test]
fn pipelined_lines_are_executed_in_order() {
    check_streams(
        "",
        &[(
            "one write",
            b"GET p\nSET p 1 good 7\nGET p\nREAD p\nSET p x\nGET p\nSET p 2 bad 8\nLIST p\nGET p\n",
            &[
                "ERR not-found",
                "OK",
                "OK 1 good 7",
                "VAL p 1 good 7",
                "OK 1",
                "ERR bad-value",
                "OK 1 good 7",
                "OK",
                "TAG p any rw -",
                "OK 1",
                "OK 2 bad 8",
            ],
        )],
    );
}

#[test]
fn what_was_confirmed_is_seen_by_everyone() {
    let server = Server::start();
    let (mut writer, mut reader) = (server.client(), server.client());
    for number in 0..200 {
        assert_eq!(writer.ask_one(&format!("SET seen {number} good 7")), "OK");
        assert_eq!(reader.ask_one("GET seen"), format!("OK {number} good 7"));
    }
}

/// Each row breaks the check that it names and all that come after it.
#[test]
fn checks_come_in_order() {
    let config = "
        [server]
        create_tags = false
        max_text = 16
        [[tag]]
        name = 'level'
        type = 'int'
        min = 0
        max = 10
        [[tag]]
        name = 'fixed'
        type = 'int'
        access = 'ro'
        initial = 1
        max = 10
        [[tag]]
        name = 'note'
        type = 'text'
    ";
    check_streams(
        config,
        &[
            ("UTF-8", b"SET lev//el x\xff y z extra\n", &["ERR bad-request"]),
            ("number of fields", b"SET lev//el x y z extra\n", &["ERR bad-request"]),
            ("number of fields, too few", b"SET lev//el\n", &["ERR bad-request"]),
            ("name", b"SET lev//el x y z\n", &["ERR bad-name"]),
            ("value", b"SET none x y z\n", &["ERR bad-value"]),
            ("quality", b"SET none \"a text that is too long\" y z\n", &["ERR bad-time"]),
            ("time", b"SET none \"a text that is too long\" good z\n", &["ERR bad-time"]),
            ("existence", b"SET none \"a text that is too long\" good 7\n", &["ERR not-found"]),
            (
                "read-only, before the type",
                b"SET fixed \"a text that is too long\" good 7\n",
                &["ERR read-only"],
            ),
            ("read-only, before the limits", b"SET fixed 11\n", &["ERR read-only"]),
            ("type", b"SET level \"a text that is too long\" good 7\n", &["ERR wrong-type"]),
            ("limits of a number", b"SET level 11 good 7\n", &["ERR out-of-range"]),
            ("limits of a text", b"SET note \"a text that is too long\" good 7\n", &["ERR limit"]),
            (
                "nothing was changed",
                b"READ #\n",
                &["VAL fixed 1 good @", "VAL level null bad 0", "VAL note null bad 0", "OK 3"],
            ),
        ],
    );
}

#[test]
fn a_refused_request_creates_nothing() {
    check(
        "",
        "
        > SET new x
        < ERR bad-value
        > SET new null
        < ERR bad-value
        > SET new 1 fine
        < ERR bad-time
        > SET new 1 good soon
        < ERR bad-time
        > SET new 1 good 7 8
        < ERR bad-request
        > LIST #
        < OK 0
        ",
    );
}

#[test]
fn quit_answers_and_closes() {
    check_streams(
        "",
        &[
            ("the rest is ignored", b"PING a\nQUIT\nSET after 1\nPING b\n", &["OK a", "OK"]),
            ("really", b"GET after\n", &["ERR not-found"]),
            ("a wrong QUIT closes nothing", b"QUIT now\nPING b\n", &["ERR bad-request", "OK b"]),
        ],
    );
    check(
        "",
        "
        # The client has not half-closed: the end is the server's doing.
        # Whoever goes on sending meets no reset.
        > QUIT
        < OK
        > PING
        > PING
        : end
        ",
    );
}

/// Echoing a hostile request in an error text must not break the reply's line or its bound of 120 bytes.
/// The client checks both on every error.
#[test]
fn error_texts_stay_short_and_printable() {
    let server = Server::start();
    let mut client = server.client();
    let long = "ä€😀".repeat(200);
    let nasty = "\u{1}\u{1b}[31m\u{7f}\u{85}\u{9b}\u{2028}x";
    for verb in
        ["", "GET ", "SET ", "SET a ", "SET a 1 ", "SET a 1 good ", "READ ", "UNSUB ", "HELLO ", "HELLO d "]
    {
        for junk in [&long, nasty, "\"", "\"\u{1}\"", &format!("\"{long}\""), &"x".repeat(300)] {
            client.send(format!("{verb}{junk}\n"));
            let line = client.reply_line();
            assert!(line.starts_with("ERR "), "{verb}{junk}: {line}");
        }
    }
    assert_eq!(client.ask_one("LIST #"), "OK 0");
}

/// The reply rule for a client that knows no more than it: read until a line begins with `OK` or `ERR`.
#[test]
fn every_request_has_exactly_one_final_line() {
    let server = Server::start();
    let mut client: Client = server.client();
    for number in 0..3 {
        assert_eq!(client.ask_one(&format!("SET rule/{number} {number}")), "OK");
    }
    let requests =
        ["GET rule/1", "READ rule/#", "SUB rule/+", "UNSUB rule/+", "LIST #", "TIME", "PING", "INFO", "HELP"];
    client.send(requests.map(|request| format!("{request}\n")).concat());
    for request in requests {
        let reply = client.reply();
        let last = &reply[reply.len() - 1];
        assert!(last.starts_with("OK"), "{request}: {reply:?}");
        if reply.len() > 1 {
            assert_eq!(last, &format!("OK {}", reply.len() - 1), "{request} counts its data lines");
        }
    }
    assert_eq!(client.ask_one("PING last"), "OK last");
}

fn ping_of(bytes: usize) -> String {
    format!("PING {}", "x".repeat(bytes - "PING ".len()))
}
