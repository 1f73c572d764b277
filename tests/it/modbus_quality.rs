//! Modbus: what masters are shown of tags that are not good, and what becomes of those that they no longer
//! write.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::modbus::{Master, check, start};
use crate::server::{Server, until};

const ON_BAD: &str = "
    [[modbus.map]]
    unit = 1
    address = 'holding:0'
    tag = 'level'
    type = 'i16'
    [[modbus.map]]
    unit = 1
    address = 'holding:1'
    tag = 'level'
    type = 'i16'
    on_bad = 'exception'
    [[modbus.map]]
    unit = 1
    address = 'holding:2'
    tag = 'level'
    type = 'i16'
    on_bad = 'last'
    [[modbus.map]]
    unit = 1
    address = 'holding:3'
    tag = 'level'
    type = 'i16'
    on_bad = 'last'
    serve_uncertain = true
    [[modbus.map]]
    unit = 1
    address = 'holding:4'
    tag = 'level'
    type = 'i16'
    on_bad = -1
    [[modbus.map]]
    unit = 1
    address = 'holding:5'
    tag = 'level'
    show = 'quality'
    [[modbus.map]]
    unit = 1
    address = 'input:0'
    tag = 'level'
    type = 'f32'
    order = 'cdab'
    scale = 0.1
    on_bad = 1.5
    [[modbus.map]]
    unit = 1
    address = 'input:2'
    tag = 'level'
    show = 'quality'
    order = 'badc'
    ";

/// Good, uncertain, bad; bad with no value at all.
#[test]
fn a_value_that_is_not_good() {
    check(
        ON_BAD,
        "
        # Never written: bad, without a value.
        1: 03 0000 0001 = 83 04
        1: 03 0001 0001 = 83 04
        1: 03 0002 0001 = 83 04
        1: 03 0003 0001 = 83 04
        1: 03 0004 0001 = 03 02 FFFF
        1: 03 0005 0001 = 03 02 0002
        # The number is what the registers hold, in their order, whatever the scale is.
        1: 04 0000 0003 = 04 06 0000 3FC0 0200
        > SET level 7
        < OK
        1: 03 0000 0006 = 03 0C 0007 0007 0007 0007 0007 0000
        1: 04 0000 0003 = 04 06 0000 428C 0000
        > SET level 8 uncertain
        < OK
        1: 03 0000 0001 = 83 04
        1: 03 0001 0001 = 83 04
        1: 03 0002 0001 = 83 04
        1: 03 0003 0003 = 03 06 0008 FFFF 0001
        1: 04 0000 0003 = 04 06 0000 3FC0 0100
        > SET level 9 bad
        < OK
        1: 03 0000 0001 = 83 04
        1: 03 0001 0001 = 83 04
        1: 03 0002 0001 = 83 04
        1: 03 0003 0001 = 83 04
        1: 03 0004 0002 = 03 04 FFFF 0002
        # One that cannot be shown is enough to refuse all of a request.
        1: 03 0003 0003 = 83 04
        # A master writes a good value.
        1: 06 0000 000A = 06 0000 000A
        1: 03 0000 0006 = 03 0C 000A 000A 000A 000A 000A 0000
        > GET level
        < OK 10 good @
        ",
    );
}

/// A coil, and a bit of a register.
#[test]
fn a_bit_that_is_not_good() {
    check(
        "
        [[modbus.map]]
        unit = 1
        address = 'coil:0'
        tag = 'run'
        [[modbus.map]]
        unit = 1
        address = 'coil:1'
        tag = 'run'
        on_bad = true
        [[modbus.map]]
        unit = 1
        address = 'coil:2'
        tag = 'run'
        on_bad = 0
        [[modbus.map]]
        unit = 1
        address = 'coil:3'
        tag = 'run'
        on_bad = 'last'
        serve_uncertain = true
        [[modbus.map]]
        unit = 1
        address = 'holding:0.4'
        tag = 'run'
        on_bad = 1
        [[modbus.map]]
        unit = 1
        address = 'holding:1.4'
        tag = 'run'
        ",
        "
        1: 01 0000 0001 = 81 04
        1: 01 0001 0002 = 01 01 01
        1: 01 0003 0001 = 81 04
        1: 03 0000 0001 = 03 02 0010
        1: 03 0001 0001 = 83 04
        > SET run true uncertain
        < OK
        1: 01 0000 0001 = 81 04
        1: 01 0001 0003 = 01 01 05
        1: 03 0000 0001 = 03 02 0010
        1: 03 0001 0001 = 83 04
        1: 01 0000 0004 = 81 04
        > SET run false
        < OK
        1: 01 0000 0004 = 01 01 00
        1: 03 0000 0002 = 03 04 0000 0000
        > SET run true
        < OK
        1: 01 0000 0004 = 01 01 0F
        1: 03 0000 0002 = 03 04 0010 0010
        ",
    );
}

/// A value that the registers cannot hold is as good as none.
#[test]
fn a_value_that_does_not_fit() {
    check(
        "
        [[modbus.map]]
        unit = 1
        address = 'holding:0'
        tag = 'level'
        type = 'i16'
        [[modbus.map]]
        unit = 1
        address = 'holding:1'
        tag = 'level'
        type = 'i16'
        on_bad = -1
        [[modbus.map]]
        unit = 1
        address = 'holding:2'
        tag = 'level'
        show = 'quality'
        ",
        "
        > SET level 40000
        < OK
        1: 03 0000 0001 = 83 04
        1: 03 0001 0002 = 03 04 FFFF 0000
        ",
    );
}

/// A value that is not refreshed in time is shown as one in doubt.
#[test]
fn a_value_that_turns_uncertain_by_itself() {
    check(
        "
        [[tag]]
        name = 'level'
        type = 'int'
        stale_after = '1s'
        [[modbus.map]]
        unit = 1
        address = 'holding:0'
        tag = 'level'
        type = 'u16'
        [[modbus.map]]
        unit = 1
        address = 'holding:1'
        tag = 'level'
        type = 'u16'
        on_bad = 'last'
        serve_uncertain = true
        [[modbus.map]]
        unit = 1
        address = 'holding:2'
        tag = 'level'
        show = 'quality'
        ",
        "
        1: 03 0002 0001 = 03 02 0002
        > SET level 5
        < OK
        until 1: 03 0002 0001 = 03 02 0001
        1: 03 0000 0001 = 83 04
        1: 03 0001 0002 = 03 04 0005 0001
        # What a master writes ages as well.
        > SUB level
        < VAL level 5 uncertain @
        < OK 1
        1: 06 0000 0006 = 06 0000 0006
        < UPD level 6 good @
        < UPD level 6 uncertain @
        1: 03 0000 0001 = 83 04
        ",
    );
}

/// So is one whose device has left.
#[test]
fn a_value_whose_device_left() {
    let server = start(
        "
        [[modbus.map]]
        unit = 1
        address = 'holding:0'
        tag = 'level'
        type = 'u16'
        [[modbus.map]]
        unit = 1
        address = 'holding:1'
        tag = 'level'
        show = 'quality'
        ",
    );
    let mut master = Master::tcp(server.addr(0));
    let mut device = Client::connect(server.addr(1));
    assert_eq!(device.ask_one("HELLO press3"), "OK lumina 1");
    assert_eq!(device.ask_one("SET level 5"), "OK");
    master.check(1, "03 0000 0002", "03 04 0005 0000");
    drop(device);
    until("it is in doubt", || master.ask(1, "03 0001 0001") == [3, 2, 0, 1]);
    master.check(1, "03 0000 0001", "83 04");
}

/// What a master writes through a listener with `stale_after` has to be written again.
#[test]
fn a_listener_that_doubts_its_masters() {
    let server = Server::build()
        .config(
            "
            [[listen]]
            url = 'modbus://127.0.0.1:0'
            stale_after = '200ms'
            [[modbus.map]]
            unit = 1
            address = 'holding:0'
            tag = 'level'
            type = 'u16'
            [[modbus.map]]
            unit = 1
            address = 'holding:1'
            tag = 'level'
            show = 'quality'
            ",
        )
        .start();
    let mut master = Master::tcp(server.addr(0));
    master.check(1, "06 0000 0007", "06 0000 0007");
    until("it is in doubt", || master.ask(1, "03 0001 0001") == [3, 2, 0, 1]);
    master.check(1, "03 0000 0001", "83 04");
}

/// What masters do not write in time takes its safe value, in the tag's own units, once; each write begins a
/// new time.
#[test]
fn the_watchdog_of_a_tag() {
    check(
        "
        [[modbus.map]]
        unit = 1
        address = 'holding:0'
        tag = 'speed'
        type = 'u16'
        scale = 0.1
        watchdog = '1s'
        safe = 2.5
        [[modbus.map]]
        unit = 1
        address = 'coil:0'
        tag = 'valve'
        watchdog = '1s'
        safe = true
        [[modbus.map]]
        unit = 1
        address = 'holding:1'
        tag = 'other'
        type = 'u16'
        ",
        "
        1: 06 0001 1234 = 06 0001 1234
        until 1: 03 0000 0001 = 03 02 0019
        until 1: 01 0000 0001 = 01 01 01
        > SUB speed
        < VAL speed 2.5 good @
        < OK 1
        1: 06 0000 0007 = 06 0000 0007
        < UPD speed 0.7 good @
        < UPD speed 2.5 good @
        # By every function that writes.
        1: 16 0000 0000 0008 = 16 0000 0000 0008
        < UPD speed 0.8 good @
        < UPD speed 2.5 good @
        1: 17 0001 0001 0000 0001 02 0009 = 17 02 1234
        < UPD speed 0.9 good @
        < UPD speed 2.5 good @
        1: 0F 0000 0001 01 00 = 0F 0000 0001
        until 1: 01 0000 0001 = 01 01 01
        1: 03 0001 0001 = 03 02 1234
        ",
    );
}

/// A master that goes on writing keeps the safe value away; another watchdog, which ends at the same time,
/// shows that the time is over. It is the same for tags and for an area.
#[test]
fn writes_in_time_keep_the_watchdog_quiet() {
    let tags = "
        [[modbus.map]]
        unit = 1
        address = 'holding:0'
        tag = 'kept'
        type = 'u16'
        watchdog = '1s'
        safe = 9
        [[modbus.map]]
        unit = 1
        address = 'coil:0'
        tag = 'left'
        watchdog = '1s'
        safe = true
        ";
    let areas = "
        [[modbus.unit]]
        id = 1
        holdings = { size = 1, watchdog = '1s', safe = 9 }
        coils = { size = 8, watchdog = '1s', safe = true }
        ";
    for config in [tags, areas] {
        let server = start(config);
        let mut master = Master::tcp(server.addr(0));
        // A round in which the machine kept us from writing in time shows nothing.
        while !keep_quiet(&mut master) {}
    }
}

/// `false` if we were late ourselves.
fn keep_quiet(master: &mut Master) -> bool {
    let mut written = Instant::now();
    master.check_all(1, &[("06 0000 0005", "06 0000 0005"), ("05 0000 0000", "05 0000 0000")]);
    let mut in_time = true;
    until("the one that is left alone is safe", || {
        let kept = master.ask(1, "03 0000 0001");
        in_time &= written.elapsed() < Duration::from_secs(1);
        assert!(!in_time || kept == [3, 2, 0, 5], "it was written in time");
        written = Instant::now();
        master.check(1, "06 0000 0005", "06 0000 0005");
        master.ask(1, "01 0000 0001") == [1, 1, 1]
    });
    in_time
}
