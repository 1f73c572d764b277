//! Modbus: mistakes in the configuration, each told at its place and all at once.

use crate::server::{Folder, Server, run, until};

/// Mistakes: line, column, a word of what is said.
type Mistakes<'a> = &'a [(usize, usize, &'a str)];

/// `check` and `serve` both refuse `text` for exactly these mistakes.
#[track_caller]
fn check(text: &str, expected: Mistakes<'_>) {
    let dir = Folder::new();
    dir.write("bad.toml", text);
    for command in ["check", "serve"] {
        let outcome = run(&dir, &[command, "--config", "bad.toml"]);
        let said = format!("{command} of\n{text}\n{}{}", outcome.stdout, outcome.stderr);
        assert_eq!(outcome.code, Some(2), "{said}");
        let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("bad.toml:")).collect();
        let is_told = |(told, (line, column, word)): (&&str, &(usize, usize, &str))| {
            told.strip_prefix(&format!("bad.toml:{line}:{column}: ")).is_some_and(|what| what.contains(word))
        };
        let all_are = lines.iter().zip(expected).all(is_told);
        assert!(lines.len() == expected.len() && all_are, "expected {expected:?}, {said}");
    }
}

#[test]
fn a_good_configuration() {
    let text = "
[[listen]]
url = \"modbus://127.0.0.1:1502\"
read = [\"10.0.0.0/8\"]
write = [\"10.1.2.3/32\"]

[[modbus.unit]]            # raw memory, plain arrays, start at 0
id = 1
coils = 1000
discretes = 1000
inputs = 1000
holdings = 1000

[[modbus.map]]             # a tag shown as registers
unit = 2
address = \"holding:100\"    # also 40101, 4x101; coil:7; holding:100.3 (bit 0 is the lowest)
tag = \"line1/press3/temperature\"
type = \"f32\"
order = \"abcd\"
scale = 0.1                # tag = register × scale + offset
on_bad = \"exception\"       # or \"last\", or a number to show instead
";
    let dir = Folder::new();
    dir.write("good.toml", text);
    let outcome = run(&dir, &["check", "--config", "good.toml"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("listen modbus://127.0.0.1:1502: "), "{}", outcome.stdout);
}

/// A map of a unit 1 with one line: its keys after unit, in lines 3 and on.
#[track_caller]
fn check_map(keys: &str, expected: Mistakes<'_>) {
    check(&format!("[[modbus.map]]\nunit = 1\n{keys}"), expected);
}

#[test]
fn units() {
    check("[[modbus.unit]]\ncoils = 1", &[(1, 1, "'id' is missing")]);
    check("[[modbus.unit]]\nid = 0", &[(2, 6, "1 to 255")]);
    check("[[modbus.unit]]\nid = 256", &[(2, 6, "1 to 255")]);
    check("[[modbus.unit]]\nid = '1'", &[(2, 6, "integer")]);
    check("[[modbus.unit]]\nid = 1\n[[modbus.unit]]\nid = 1", &[(4, 6, "unit 1 is there already")]);
    check("[[modbus.unit]]\nid = 1\ncoils = 65537", &[(3, 9, "65536")]);
    check("[[modbus.unit]]\nid = 1\ndiscretes = -1", &[(3, 13, "0")]);
    check("[[modbus.unit]]\nid = 1\ninputs = 'many'", &[(3, 10, "integer")]);
    check("[[modbus.unit]]\nid = 1\nholdings = 1.5", &[(3, 12, "integer")]);
    check("[[modbus.unit]]\nid = 1\nholding = 10", &[(3, 1, "'holdings'")]);
    check("[[modbus.unit]]\nid = 1\nfill = 65536", &[(3, 8, "65535")]);
    check("[[modbus.unit]]\nid = 1\ncoils = 1\nfill = 0", &[(4, 8, "raw")]);
    check("[modbus]\nunits = 5", &[(2, 1, "'unit'")]);
    check("[modbus.unit]\nid = 1", &[(1, 1, "double brackets")]);
}

#[test]
fn areas() {
    let unit = |area: &str| format!("[[modbus.unit]]\nid = 1\n{area}");
    check(&unit("holdings = { watchdog = '1s', safe = 7 }"), &[(3, 12, "'size' is missing")]);
    check(&unit("holdings = { size = 70000 }"), &[(3, 21, "65536")]);
    check(&unit("holdings = { size = 10, watchdog = '1s' }"), &[(3, 36, "'safe' is missing")]);
    check(&unit("holdings = { size = 10, safe = 7 }"), &[(3, 32, "'watchdog' is missing")]);
    check(&unit("holdings = { size = 10, watchdog = '1s', safe = 65536 }"), &[(3, 49, "65535")]);
    check(&unit("holdings = { size = 10, watchdog = '1s', safe = true }"), &[(3, 49, "integer")]);
    check(&unit("coils = { size = 10, watchdog = '1s', safe = 1 }"), &[(3, 46, "true or false")]);
    check(&unit("coils = { size = 10, watchdog = '0s', safe = true }"), &[(3, 33, "duration")]);
    check(&unit("coils = { size = 10, watchdog = 5, safe = true }"), &[(3, 33, "duration")]);
    check(&unit("coils = { size = 10, gard = true }"), &[(3, 22, "gard")]);
}

#[test]
fn a_unit_is_raw_memory_or_shows_tags() {
    let raw = "[[modbus.unit]]\nid = 1\nholdings = 10\n";
    let map = "[[modbus.map]]\nunit = 1\naddress = 'holding:0'\ntag = 'a'\ntype = 'u16'\n";
    check(&format!("{raw}{map}"), &[(5, 8, "raw")]);
    check(&format!("{map}{raw}"), &[(2, 8, "raw")]);
}

#[test]
fn addresses() {
    #[rustfmt::skip]
    let table = [
        ("holding",       "not an address"),
        ("holding:x",     "not an address"),
        ("holding:-1",    "not an address"),
        ("101",           "not an address"),
        ("4x",            "not an address"),
        ("",              "not an address"),
        ("holdings:1",    "unknown area"),
        ("20001",         "unknown area"),
        ("holding:65536", "65535"),
        ("40000",         "count from 1"),
        ("4x65537",       "65536"),
        ("holding:1.16",  ".15"),
        ("coil:1.0",      "one bit already"),
    ];
    for (address, word) in table {
        let keys = format!("address = '{address}'\ntag = 'a'\ntype = 'bool'");
        check_map(&keys, &[(3, 11, word)]);
    }
}

#[test]
fn what_a_line_of_a_map_needs() {
    check("[[modbus.map]]", &[(1, 1, "'unit'"), (1, 1, "'address'"), (1, 1, "'tag'")]);
    check_map("address = 'holding:0'\ntag = 'a'", &[(1, 1, "'type' is missing")]);
    check_map("address = 'coil:0'", &[(1, 1, "'tag' is missing")]);
    check_map("address = 'coil:0'\ntag = 'a//b'", &[(4, 7, "tag")]);
    check_map("address = 'coil:0'\ntag = 'a/#'", &[(4, 7, "tag")]);
    check_map("address = 'coil:0'\ntag = 'a'\nscal = 1", &[(5, 1, "'scale'")]);
    let unit = |unit: &str| format!("[[modbus.map]]\nunit = {unit}\naddress = 'coil:0'\ntag = 'a'");
    check(&unit("0"), &[(2, 8, "1 to 255")]);
    check(&unit("256"), &[(2, 8, "1 to 255")]);
}

#[test]
fn types_orders_and_scales() {
    let check_keys = |keys: &str, expected: Mistakes<'_>| {
        check_map(&format!("address = 'holding:0'\ntag = 'a'\n{keys}"), expected);
    };
    check_keys("type = 'u8'", &[(5, 8, "u16")]);
    check_keys("type = 'U16'", &[(5, 8, "u16")]);
    check_keys("type = 16", &[(5, 8, "text")]);
    check_keys("type = 'string'", &[(5, 8, "string(n)")]);
    check_keys("type = 'string(0)'", &[(5, 8, "string(1)")]);
    check_keys("type = 'string(247)'", &[(5, 8, "string(246)")]);
    check_keys("type = 'f32'\norder = 'bacd'", &[(6, 9, "'badc'")]);
    check_keys("type = 'f32'\norder = 'ABCD'", &[(6, 9, "'abcd'")]);
    check_keys("type = 'f32'\nscale = 0", &[(6, 9, "other than 0")]);
    check_keys("type = 'f32'\nscale = 0.0", &[(6, 9, "other than 0")]);
    check_keys("type = 'f32'\nscale = inf", &[(6, 9, "scale")]);
    check_keys("type = 'f32'\nscale = nan", &[(6, 9, "number")]);
    check_keys("type = 'f32'\nscale = '0.1'", &[(6, 9, "number")]);
    check_keys("type = 'bool'\nscale = 2", &[(6, 9, "only numbers")]);
    check_keys("type = 'string(4)'\nscale = 2", &[(6, 9, "only numbers")]);
    check_keys("type = 'f32'\noffset = inf", &[(6, 10, "offset")]);
    check_keys("type = 'bool'\noffset = 2", &[(6, 10, "only numbers")]);
    // A bit is a bool.
    for address in ["coil:0", "discrete:0", "holding:0.5", "input:0.5"] {
        for keys in ["type = 'u16'", "scale = 0.1", "offset = 1", "type = 'f32'\nscale = 2"] {
            check_map(&format!("address = '{address}'\ntag = 'a'\n{keys}"), &[(3, 11, "one bit")]);
        }
    }
}

/// Two things at one place.
#[test]
fn overlaps() {
    #[rustfmt::skip]
    let table = [
        ("holding:10', type = 'u16",   "holding:10', type = 'u16"),
        ("holding:10', type = 'f32",   "holding:10', type = 'u16"),
        ("holding:10', type = 'f32",   "holding:11', type = 'u16"),
        ("holding:10', type = 'u16",   "holding:9', type = 'f32"),
        ("holding:10', type = 'u16",   "holding:7', type = 'f64"),
        ("holding:10', type = 'f64",   "holding:12', type = 'f32"),
        ("holding:10', type = 'u16",   "4x11', type = 'u16"),
        ("holding:10', type = 'u16",   "40011', type = 'u16"),
        ("holding:10.3', type = 'bool", "holding:10.3', type = 'bool"),
        ("holding:10.3', type = 'bool", "holding:10', type = 'u16"),
        ("holding:10.3', type = 'bool", "holding:9', type = 'u32"),
        ("holding:10', type = 'u16",   "holding:10.3', type = 'bool"),
        ("holding:10', type = 'u32",   "holding:11.3', type = 'bool"),
        ("holding:10', type = 'string(5)", "holding:12', type = 'u16"),
        ("coil:10', type = 'bool",     "coil:10', type = 'bool"),
        ("holding:10', show = 'quality", "holding:10', type = 'u16"),
    ];
    for (one, other) in table {
        let text = format!(
            "[modbus]\nmap = [\n{{ unit = 1, tag = 'a', address = '{one}' }},\n\
             {{ unit = 1, tag = 'b', address = '{other}' }},\n]"
        );
        check(&text, &[(4, 34, "another tag already")]);
    }
    check_map("address = 'holding:65535'\ntag = 'a'\ntype = 'f32'", &[(3, 11, "beyond 65535")]);
    check_map("address = '4x65534'\ntag = 'a'\ntype = 'i64'", &[(3, 11, "beyond 65535")]);
}

#[test]
fn tags_of_another_type() {
    let check_tag = |kind: &str, keys: &str, word: &str| {
        let tag = format!("[[tag]]\nname = 'a'\ntype = '{kind}'\n");
        check(&format!("{tag}[[modbus.map]]\nunit = 1\ntag = 'a'\n{keys}"), &[(6, 7, word)]);
    };
    check_tag("text", "address = 'holding:0'\ntype = 'u16'", "text");
    check_tag("bool", "address = 'holding:0'\ntype = 'f32'", "bool");
    check_tag("int", "address = 'coil:0'", "int");
    check_tag("float", "address = 'holding:0.1'", "float");
    check_tag("float", "address = 'holding:0'\ntype = 'string(4)'", "float");
    check_tag("text", "address = 'holding:0'\ntype = 'bool'", "text");
    // Two lines of the map cannot agree on one either.
    check(
        "[modbus]\nmap = [\n{ unit = 1, address = 'coil:0', tag = 'a' },\n\
         { unit = 1, address = 'holding:0', type = 'u16', tag = 'a' },\n]",
        &[(4, 56, "bool")],
    );
}

/// What `check` calls fine must start, so a tag that cannot be there is found out.
#[test]
fn tags_that_are_not_there() {
    let check_tag = |tag: &str, keys: &str, expected: Mistakes<'_>| {
        let raw = "[[modbus.unit]]\nid = 7\nholdings = 10\ncoils = 10\n";
        let map = format!("[[modbus.map]]\nunit = 1\ntag = '{tag}'\n{keys}");
        check(&format!("{raw}{map}"), expected);
    };
    let at_tag = |word| [(7, 7, word)];
    let register = "address = 'holding:0'\ntype = 'u16'";
    for tag in
        ["modbus/7/holding/10", "modbus/7/input/0", "modbus/7/holding/05", "modbus/8/holding/5", "modbus/7"]
    {
        check_tag(tag, register, &at_tag("no register"));
        check_tag(tag, "address = 'holding:0'\nshow = 'quality'", &at_tag("no register"));
    }
    check_tag("modbus/7/coil/5", register, &at_tag("bool"));
    check_tag("modbus/7/holding/5", "address = 'coil:0'", &at_tag("int"));
    check_tag("$server/nothing", register, &at_tag("'$server/nothing'"));
    check_tag("$server/name", register, &at_tag("text"));
    check_tag("$server/tags", &format!("{register}\nwatchdog = '1s'\nsafe = 0"), &[(10, 12, "read-only")]);
    let safe = format!("{register}\nwatchdog = '1s'\nsafe = 65536");
    check_tag("modbus/7/holding/5", &safe, &[(11, 8, "accepts")]);
}

/// So is a declared register that is not there, or declared as something else.
#[test]
fn declared_registers() {
    let check_tag = |name: &str, keys: &str, word: &str| {
        let units = "[[modbus.unit]]\nid = 7\nholdings = 10\ncoils = 10\n[[modbus.unit]]\nid = 8\n";
        check(&format!("{units}[[tag]]\nname = '{name}'\n{keys}"), &[(8, 8, word)]);
    };
    for name in ["modbus/7/holding/10", "modbus/7/input/0", "modbus/8/holding/0", "modbus/9/holding/0"] {
        check_tag(name, "", "there is no");
    }
    check_tag("modbus/7/holding/05", "initial = 5", "there is no");
    check_tag("modbus/7/holding", "", "there is no");
    check_tag("modbus/7/holding/5", "type = 'float'", "type int");
    check_tag("modbus/7/holding/5", "type = 'bool'", "type int");
    check_tag("modbus/7/coil/5", "type = 'int'", "type bool");
    check_tag("modbus/7/coil/5", "initial = 1", "initial");
    for initial in ["true", "'7'", "1.5", "65536", "-1"] {
        check_tag("modbus/7/holding/5", &format!("initial = {initial}"), "initial");
    }
}

/// Tags that a map declares count as well.
#[test]
fn more_tags_than_are_allowed() {
    let maps: String = (0..3)
        .map(|n| format!("[[modbus.map]]\nunit = 1\naddress = 'coil:{n}'\ntag = 'tag/{n}'\n"))
        .collect();
    check(&format!("[server]\nmax_tags = 2\n{maps}"), &[(1, 1, "max_tags")]);
}

/// A tag of which only the quality is shown need not be declared; nor is a name below `modbus/` a register
/// where there is no raw memory.
#[test]
fn tags_that_are_declared_by_a_map() {
    crate::modbus::check(
        "
        [[modbus.map]]
        unit = 1
        address = 'holding:0'
        tag = 'level'
        show = 'quality'
        [[modbus.map]]
        unit = 1
        address = 'holding:1'
        tag = 'speed'
        show = 'quality'
        [[modbus.map]]
        unit = 1
        address = 'holding:2'
        tag = 'speed'
        type = 'u16'
        [[modbus.map]]
        unit = 1
        address = 'holding:3'
        tag = 'modbus/1/holding/3'
        type = 'f64'
        ",
        "
        > LIST #
        < TAG level any rw -
        < TAG modbus/1/holding/3 float rw -
        < TAG speed int rw -
        < OK 3
        1: 03 0000 0002 = 03 04 0002 0002
        > SET level \"high\"
        < OK
        1: 03 0000 0002 = 03 04 0000 0002
        ",
    );
}

#[test]
fn what_is_shown_instead() {
    let check_keys = |keys: &str, expected: Mistakes<'_>| {
        check_map(&format!("address = 'holding:0'\ntag = 'a'\n{keys}"), expected);
    };
    check_keys("type = 'u16'\non_bad = 'never'", &[(6, 10, "\"exception\"")]);
    check_keys("type = 'u16'\non_bad = 65536", &[(6, 10, "number")]);
    check_keys("type = 'u16'\non_bad = -1", &[(6, 10, "number")]);
    check_keys("type = 'u16'\non_bad = true", &[(6, 10, "number")]);
    check_keys("type = 'bcd16'\non_bad = 10000", &[(6, 10, "number")]);
    check_keys("type = 'f32'\non_bad = 1e39", &[(6, 10, "number")]);
    check_keys("type = 'string(4)'\non_bad = 0", &[(6, 10, "number")]);
    check_keys("type = 'u16'\non_bad = 'last'\nserve_uncertain = 1", &[(7, 19, "true or false")]);
    check_map("address = 'coil:0'\ntag = 'a'\non_bad = 2", &[(5, 10, "number")]);
    check_keys("show = 'qualities'", &[(5, 8, "'quality'")]);
    check_keys("show = 'quality'\ntype = 'u16'", &[(6, 8, "quality")]);
    check_keys("show = 'quality'\nscale = 2", &[(6, 9, "quality")]);
    check_keys("show = 'quality'\non_bad = 2", &[(6, 10, "quality")]);
    check_map("address = 'coil:0'\ntag = 'a'\nshow = 'quality'", &[(5, 8, "register")]);
    check_map("address = 'holding:0.1'\ntag = 'a'\nshow = 'quality'", &[(5, 8, "register")]);
}

#[test]
fn watchdogs() {
    let check_keys = |keys: &str, expected: Mistakes<'_>| {
        check_map(&format!("address = 'holding:0'\ntag = 'a'\ntype = 'u16'\n{keys}"), expected);
    };
    check_keys("watchdog = '5s'", &[(6, 12, "'safe' is missing")]);
    check_keys("safe = 5", &[(6, 8, "'watchdog' is missing")]);
    check_keys("watchdog = '5'\nsafe = 5", &[(6, 12, "duration")]);
    check_keys("watchdog = '0s'\nsafe = 5", &[(6, 12, "duration")]);
    check_keys("watchdog = '5s'\nsafe = 'off'", &[(7, 8, "int")]);
    check_keys("watchdog = '5s'\nsafe = true", &[(7, 8, "int")]);
    check_keys("watchdog = '5s'\nsafe = 1.5", &[(7, 8, "int")]);
    // Masters do not write these.
    let quality = "address = 'holding:0'\ntag = 'a'\nshow = 'quality'\nwatchdog = '5s'\nsafe = 0";
    check_map(quality, &[(6, 12, "quality")]);
    let input = "address = 'input:0'\ntag = 'a'\ntype = 'u16'\nwatchdog = '5s'\nsafe = 0";
    check_map(input, &[(6, 12, "input:0")]);
    check_map("address = 'discrete:0'\ntag = 'a'\nwatchdog = '5s'\nsafe = true", &[(5, 12, "discrete:0")]);
    let of_tag = |keys: &str| {
        format!(
            "[[tag]]\nname = 'a'\n{keys}\n[[modbus.map]]\nunit = 1\naddress = 'holding:0'\ntag = 'a'\n\
             type = 'u16'\nwatchdog = '5s'\nsafe = 100"
        )
    };
    check(&of_tag("max = 99"), &[(10, 8, "'max'")]);
    check(&of_tag("access = 'ro'"), &[(9, 12, "read-only")]);
}

#[test]
fn listeners() {
    let check_keys = |keys: &str, expected: Mistakes<'_>| {
        check(&format!("[[listen]]\nurl = 'modbus://127.0.0.1:0'\n{keys}"), expected);
    };
    check_keys("read = ['10.1.2.3/8']", &[(3, 8, "10.0.0.0/8 or 10.1.2.3")]);
    check_keys("write = ['10.0.0.0/8', '10.1.2.0/23', '::1/64']", &[(3, 9, "::/64 or ::1")]);
    check_keys("write = ['10.1.3.0/23']", &[(3, 9, "10.1.2.0/23 or 10.1.3.0")]);
    check_keys("write = ['fd00::1/8']", &[(3, 9, "fd00::/8 or fd00::1")]);
    check_keys("read = ['10.0.0.0/33']", &[(3, 8, "not a prefix")]);
    check_keys("read = ['plc7']", &[(3, 8, "not a prefix")]);
    check_keys("read = '10.0.0.0/8'", &[(3, 8, "list")]);
    check_keys("read = [10]", &[(3, 9, "text")]);
    check_keys("max_connections = 0", &[(3, 19, "1")]);
    check_keys("frame_timeout = '0s'", &[(3, 17, "above zero")]);
    check_keys("idle_timeout = 5", &[(3, 16, "duration")]);
    check_keys("max_line = 100", &[(3, 1, "max_line")]);
    check_keys("reed = []", &[(3, 1, "'read'")]);
}

/// All of them in one go, in the order of the file.
#[test]
fn all_mistakes_at_once() {
    let text = "\
[[listen]]
url = 'modbus://127.0.0.1:0'
read = ['10.1.2.3/8']
frame_timeout = 2
[[modbus.unit]]
id = 1
holdings = { size = 10, watchdog = '1s' }
[[modbus.unit]]
id = 1
[[modbus.map]]
unit = 2
address = 'holding:x'
tag = 'a'
type = 'u16'
[[modbus.map]]
unit = 2
address = 'holding:0'
tag = 'a'
type = 'float'
[[modbus.map]]
unit = 2
address = 'holding:10'
tag = 'b'
type = 'f32'
order = 'abdc'
[[modbus.map]]
unit = 2
address = 'holding:11'
tag = 'c'
type = 'u16'
[[modbus.map]]
unit = 2
address = 'holding:20'
tag = 'd'
type = 'u16'
scale = 0
[[modbus.map]]
unit = 2
address = 'holding:30'
tag = 'e'
type = 'u16'
watchdog = '1s'
";
    check(
        text,
        &[
            (3, 8, "10.0.0.0/8"),
            (4, 17, "duration"),
            (7, 36, "'safe'"),
            (9, 6, "already"),
            (12, 11, "address"),
            (19, 8, "'float'"),
            (25, 9, "'abdc'"),
            (28, 11, "another tag"),
            (36, 9, "scale"),
            (42, 12, "'safe'"),
        ],
    );
}

/// Nobody sees in a register that its value is old, so `last` has to be asked for twice. Who did not is told.
#[test]
fn what_shows_nothing_else_is_warned_of() {
    let map = |address: u16, keys: &str| {
        format!("[[modbus.map]]\nunit = 1\naddress = 'holding:{address}'\ntag = 'a'\ntype = 'u16'\n{keys}\n")
    };
    let listen = "[[listen]]\nurl = 'modbus://127.0.0.1:0'\n";
    let text = [
        listen.to_owned(),
        map(0, "on_bad = 'last'"),
        map(1, "on_bad = 'last'\nserve_uncertain = true"),
        map(2, "serve_uncertain = true"),
    ];
    let dir = Folder::new();
    dir.write("odd.toml", &text.concat());
    let outcome = run(&dir, &["check", "--config", "odd.toml"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let told: Vec<&str> = outcome.stdout.lines().filter_map(|line| line.strip_prefix("warning: ")).collect();
    let [last, uncertain] = told[..] else { panic!("{}", outcome.stdout) };
    assert!(last.starts_with("odd.toml:8:10: ") && last.contains("'serve_uncertain = true'"), "{last}");
    assert!(
        uncertain.starts_with("odd.toml:21:19: ") && uncertain.contains("'serve_uncertain'"),
        "{uncertain}"
    );
    let server = Server::with(&text.concat());
    until("it is logged", || server.stderr().contains("'serve_uncertain = true'"));
}
