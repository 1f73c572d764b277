//! The line protocol: `HELLO`, takeover, and the ways in which a tag turns `uncertain` by itself.

use crate::client::Client;
use crate::script::check;
use crate::server::{Server, until};

#[test]
fn hello_names_the_other_end_once() {
    check(
        "",
        "
        > HELLO press/3
        < ERR bad-name
        > HELLO +
        < ERR bad-name
        > HELLO pr,ess
        < ERR bad-name
        # What was refused did not count.
        > HELLO press-3.a:b~c_D 5s
        < OK lumina 1
        > HELLO press4
        < ERR bad-request
        > HELLO press-3.a:b~c_D
        < ERR bad-request
        b> hello press4 500ms
        b< OK lumina 1
        ",
    );
}

#[test]
fn a_timeout_is_a_duration() {
    let server = Server::start();
    let mut client = server.client();
    for timeout in ["5", "s", "5 s", "-5s", "5s5", "soon", "0x5s", "5fortnights", "99999999999999999999s"] {
        client.send(format!("HELLO press3 {timeout}\n"));
        let line = client.reply_line();
        assert!(line.starts_with("ERR bad-"), "{timeout}: {line}");
    }
    assert_eq!(client.ask_one("HELLO press3 5s"), "OK lumina 1");
}

#[test]
fn the_source_of_a_tag_is_its_last_writer() {
    check(
        "
        [[tag]]
        name = 'declared'
        type = 'int'
        ",
        "
        a> HELLO press3
        a< OK lumina 1
        a> SET t 1
        a< OK
        a> SET u 1
        a< OK
        > LIST #
        < TAG declared int rw -
        < TAG t any rw press3
        < TAG u any rw press3
        < OK 3
        b> HELLO press4
        b< OK lumina 1
        b> SET t 2
        b< OK
        # A refused write is none.
        b> SET u x
        b< ERR bad-value
        # Nor is a read.
        b> GET u
        b< OK 1 good @
        > LIST #
        < TAG declared int rw -
        < TAG t any rw press4
        < TAG u any rw press3
        < OK 3
        # Also after it left.
        b> QUIT
        b< OK
        b: end
        > LIST t
        < TAG t any rw press4
        < OK 1
        # A writer without a name.
        > SET t 3
        < OK
        > LIST t
        < TAG t any rw -
        < OK 1
        ",
    );
}

/// However a named device leaves, what it reported turns uncertain: value and time unchanged.
#[test]
fn tags_of_a_device_that_left_are_uncertain() {
    for leave in ["p> QUIT\np< OK\np: end", "p: close", "p: reset", "p: shut\np: end"] {
        check(
            "",
            &format!(
                "
                p> HELLO press3
                p< OK lumina 1
                p> SET hall/a 1 good 7
                p< OK
                p> SET hall/b 2 good 8
                p< OK
                p> SET other 3 good 9
                p< OK
                # Of what has no value there is nothing to doubt: null is only ever bad.
                p> SET broken null bad 10
                p< OK
                # No longer its own.
                > SET hall/b 20 good 80
                < OK
                # Never its own.
                > SET hall/c 30 good 90
                < OK
                > SUB hall/#
                < VAL hall/a 1 good 7
                < VAL hall/b 20 good 80
                < VAL hall/c 30 good 90
                < OK 3
                > SUB other
                < VAL other 3 good 9
                < OK 1
                {leave}
                < UPD hall/a 1 uncertain 7
                < UPD other 3 uncertain 9
                > READ #
                < VAL broken null bad 10
                < VAL hall/a 1 uncertain 7
                < VAL hall/b 20 good 80
                < VAL hall/c 30 good 90
                < VAL other 3 uncertain 9
                < OK 5
                # It comes back and reports.
                q> HELLO press3
                q< OK lumina 1
                > GET hall/a
                < OK 1 uncertain 7
                q> SET hall/a 1 good 7
                q< OK
                < UPD hall/a 1 good 7
                "
            ),
        );
    }
}

#[test]
fn a_device_without_a_name_leaves_no_doubt() {
    check(
        "",
        "
        p> SET a 1 good 7
        p< OK
        # The server has seen it leave when the second one's tag turns uncertain.
        q> HELLO press3
        q< OK lumina 1
        q> SET b 1 good 8
        q< OK
        > SUB #
        < VAL a 1 good 7
        < VAL b 1 good 8
        < OK 2
        p> QUIT
        p< OK
        p: end
        q> QUIT
        q< OK
        q: end
        < UPD b 1 uncertain 8
        > READ #
        < VAL a 1 good 7
        < VAL b 1 uncertain 8
        < OK 2
        ",
    );
}

#[test]
fn a_silent_device_is_doubted_until_it_reports_again() {
    check(
        "",
        "
        > SUB #
        < OK 0
        p> HELLO press3 1s
        p< OK lumina 1
        p> SET a 1 good 7
        p< OK
        < UPD a 1 good 7
        < UPD a 1 uncertain 7
        # The connection is still open, and its next silence counts as well.
        p> SET a 1 good 8
        p< OK
        < UPD a 1 good 8
        < UPD a 1 uncertain 8
        p> PING
        p< OK
        # To be heard again is not to have reported.
        > GET a
        < OK 1 uncertain 8
        ",
    );
}

/// Whatever a device sends shows that it is alive.
#[test]
fn a_device_that_sends_anything_is_not_silent() {
    let server = Server::start();
    let (mut busy, mut silent) = (server.client(), server.client());
    for (client, name) in [(&mut busy, "busy"), (&mut silent, "silent")] {
        assert_eq!(client.ask_one(&format!("HELLO {name} 3s")), "OK lumina 1");
        assert_eq!(client.ask_one(&format!("SET {name} 1 good 7")), "OK");
    }
    until("the silent one is doubted", || busy.ask_one("GET silent") == "OK 1 uncertain 7");
    assert_eq!(busy.ask_one("GET busy"), "OK 1 good 7");
}

/// A device that lost its connection and comes back must not be doubted because the old one dies later.
#[test]
fn hello_from_a_new_connection_takes_over() {
    check(
        "",
        "
        > SUB #
        < OK 0
        old> HELLO press3
        old< OK lumina 1
        old> SET a 1 good 7
        old< OK
        < UPD a 1 good 7
        new> HELLO press3
        new< OK lumina 1
        # Closed without a line.
        old: end
        # Tags pass to the new one as they are.
        > GET a
        < OK 1 good 7
        > LIST a
        < TAG a any rw press3
        < OK 1
        new> SET b 2 good 8
        new< OK
        < UPD b 2 good 8
        new: close
        < UPD a 1 uncertain 7
        < UPD b 2 uncertain 8
        ",
    );
}

#[test]
fn a_name_is_free_again_when_the_last_one_left() {
    check(
        "",
        "
        old> HELLO press3 60s
        old< OK lumina 1
        old> SET a 1 good 7
        old< OK
        new> HELLO press3
        new< OK lumina 1
        old: end
        > SUB a
        < VAL a 1 good 7
        < OK 1
        new> QUIT
        new< OK
        new: end
        # A connection that came before the server has seen that would take over.
        < UPD a 1 uncertain 7
        last> HELLO press3
        last< OK lumina 1
        last> GET a
        last< OK 1 uncertain 7
        ",
    );
}

/// The old connection is as good as dead: half a request, and replies that nobody reads.
#[test]
fn a_takeover_does_not_wait_for_the_old_one() {
    let server = Server::start();
    let (mut old, mut new, mut reader) = (server.client(), server.client(), server.client());
    assert_eq!(old.ask_one("HELLO press3"), "OK lumina 1");
    assert_eq!(old.ask_one("SET a 1 good 7"), "OK");
    old.send("SET a 2 go");
    assert_eq!(new.ask_one("HELLO press3"), "OK lumina 1");
    old.expect_end();
    assert_eq!(reader.ask_one("GET a"), "OK 1 good 7");
}

#[test]
fn tags_that_are_not_refreshed_turn_uncertain() {
    check(
        "
        [[listen]]
        url = 'line://127.0.0.1:0'
        [[tag]]
        name = 'slow'
        type = 'int'
        [[tag]]
        name = 'quick'
        type = 'int'
        stale_after = '200ms'
        ",
        "
        > SUB #
        < VAL quick null bad 0
        < VAL slow null bad 0
        < OK 2
        > SET slow 1 good 7
        < OK
        < UPD slow 1 good 7
        > SET quick 1 good 7
        < OK
        < UPD quick 1 good 7
        < UPD quick 1 uncertain 7
        # The same value again is a refresh, and a change of quality.
        > SET quick 1 good 7
        < OK
        < UPD quick 1 good 7
        < UPD quick 1 uncertain 7
        > GET slow
        < OK 1 good 7
        ",
    );
}

/// What is written through a listener with `stale_after` is doubted in time; what comes by another is not.
#[test]
fn a_listener_can_doubt_what_comes_through_it() {
    let server = Server::with(
        "
        [[listen]]
        url = 'line://127.0.0.1:0'
        stale_after = '1s'
        [[listen]]
        url = 'line://127.0.0.1:0'
        ",
    );
    let mut field = Client::connect(server.addr(0));
    let mut office = Client::connect(server.addr(1));
    assert_eq!(office.ask_one("SUB #"), "OK 0");
    assert_eq!(office.ask_one("SET steady 1 good 7"), "OK");
    office.expect_update("UPD steady 1 good 7");
    assert_eq!(field.ask_one("SET flow 1 good 7"), "OK");
    office.expect_update("UPD flow 1 good 7");
    office.expect_update("UPD flow 1 uncertain 7");
    assert_eq!(office.ask_one("GET steady"), "OK 1 good 7");
    // The next writer decides anew.
    assert_eq!(field.ask_one("SET flow 2 good 7"), "OK");
    assert_eq!(office.ask_one("SET flow 3 good 7"), "OK");
    assert_eq!(field.ask_one("SET other 1 good 7"), "OK");
    until("what came by the listener is doubted", || office.ask_one("GET other") == "OK 1 uncertain 7");
    assert_eq!(office.ask_one("GET flow"), "OK 3 good 7");
}
