//! The line protocol, section “Names, values, qualities, times”: all but the names.

use crate::client::Client;
use crate::script::check;
use crate::server::Server;

#[test]
fn integers_words_and_what_is_no_value() {
    let server = Server::start();
    let mut client = server.client();
    #[rustfmt::skip]
    let table = [
        ("true",                    Some("true")),
        ("false",                   Some("false")),
        ("0",                       Some("0")),
        ("-0",                      Some("0")),
        ("007",                     Some("7")),
        ("-42",                     Some("-42")),
        ("9223372036854775807",     Some("9223372036854775807")),
        ("-9223372036854775808",    Some("-9223372036854775808")),
        ("9223372036854775808",     None),
        ("-9223372036854775809",    None),
        ("99999999999999999999999", None),
        ("nan",                     Some("nan")),
        ("inf",                     Some("inf")),
        ("-inf",                    Some("-inf")),
        ("-nan",                    None),
        ("NaN",                     None),
        ("Inf",                     None),
        ("+inf",                    None),
        ("infinity",                None),
        ("True",                    None),
        ("TRUE",                    None),
        ("tru",                     None),
        ("warm",                    None),
        ("'warm'",                  None),
        ("+1",                      None),
        ("-",                       None),
        ("--1",                     None),
        ("1-",                      None),
        ("0x10",                    None),
        ("1_000",                   None),
        ("1,5",                     None),
        ("1.",                      None),
        (".5",                      None),
        ("-.5",                     None),
        ("1.5.5",                   None),
        ("1e",                      None),
        ("1e+",                     None),
        ("1.e5",                    None),
        ("e5",                      None),
        ("1e5.0",                   None),
        ("1e400",                   None),
        ("-1e400",                  None),
        ("1.5f",                    None),
        ("[1]",                     None),
        ("{}",                      None),
        ("٣",                       None),
    ];
    for (written, printed) in table {
        assert_eq!(round_trip(&mut client, written).as_deref(), printed, "{written}");
    }
}

/// Printed so that the same bits are read back, recognisable as a float, in the fewest digits.
#[test]
fn floats() {
    let server = Server::start();
    let mut client = server.client();
    for written in [
        "80.0",
        "0.0",
        "-0.0",
        "81.5",
        "-81.5",
        "0.1",
        "0.30000000000000004",
        "1e3",
        "1E3",
        "1e+3",
        "1e-3",
        "1.25e2",
        "00.5",
        "123456789.125",
        "1e15",
        "1e16",
        "1e17",
        "1e21",
        "1e22",
        "9007199254740993.0",
        "1e-5",
        "1e-7",
        "1.5e-10",
        "3.141592653589793",
        "2.2250738585072014e-308",
        "5e-324",
        "1.7976931348623157e308",
        "-1.7976931348623157e308",
        "0.1000000000000000055511151231257827",
        "100000000000000000000.0",
        "6.02214076e23",
    ] {
        let value: f64 = written.parse().expect("Rust reads it");
        let printed = round_trip(&mut client, written).unwrap_or_else(|| panic!("{written} is a value"));
        assert_eq!(printed.parse().map(f64::to_bits), Ok(value.to_bits()), "{written} → {printed}");
        assert!(printed.contains(['.', 'e', 'E']), "{written} → {printed} looks like an integer");
        assert_eq!(digits(&printed), digits(&format!("{value:e}")), "{written} → {printed}");
    }
    // The specification's own.
    assert_eq!(round_trip(&mut client, "81.5").as_deref(), Some("81.5"));
}

#[test]
fn texts() {
    let server = Server::start();
    let mut client = server.client();
    #[rustfmt::skip]
    let table = [
        (r#""""#,                        Some("")),
        (r#""off line""#,                Some("off line")),
        (r#""  ""#,                      Some("  ")),
        (r#""null""#,                    Some("null")),
        (r#""5""#,                       Some("5")),
        (r#""\"\\\/""#,                  Some("\"\\/")),
        (r#""\b\f\n\r\t""#,              Some("\u{8}\u{c}\n\r\t")),
        (r#""\u0000\u001f\u0041\u00e9""#, Some("\0\u{1f}Aé")),
        (r#""\ud83d\ude00\uD83D\uDE00""#, Some("😀😀")),
        ("\"21 °C \u{7f}\u{85}\u{2028}\"", Some("21 °C \u{7f}\u{85}\u{2028}")),
        (r#""\ud83d""#,                  None),
        (r#""\ude00""#,                  None),
        (r#""\ude00\ud83d""#,            None),
        (r#""\ud83dx""#,                 None),
        (r#""\ud83d\u0041""#,            None),
        (r#""\x41""#,                    None),
        (r#""\u41""#,                    None),
        (r#""\u+041""#,                  None),
        (r#""\u00g0""#,                  None),
        (r#""\""#,                       None),
        (r#"""#,                         None),
        (r#""a"b"#,                      None),
        (r#"a"b""#,                      None),
        ("\"a\u{1}b\"",                  None),
        ("\"a\tb\"",                     None),
        ("\"a\rb\"",                     None),
        ("\"a\u{0}b\"",                  None),
    ];
    for (written, expected) in table {
        let printed = round_trip(&mut client, written);
        assert_eq!(printed.as_deref().map(unescape), expected.map(str::to_owned), "{written} → {printed:?}");
    }
}

#[test]
fn the_longest_text() {
    check_longest("", 1024);
    check_longest("[server]\nmax_text = 16", 16);
}

fn check_longest(server: &str, max_text: usize) {
    // Six bytes of the line may stand for one of the text.
    let server = Server::with(&format!("{server}\n[[listen]]\nurl = 'line://127.0.0.1:0'\nmax_line = 16384"));
    let mut client = server.client();
    for unit in ["x", "é", r"\u0041", r"\n"] {
        let bytes = unescape(&format!("\"{unit}\"")).len();
        let longest = format!("\"{}\"", unit.repeat(max_text / bytes));
        let longer = format!("\"{}{}\"", unit.repeat(max_text / bytes), unit);
        assert_eq!(client.ask_one(&format!("SET text {longest} good 7")), "OK", "{max_text} bytes of {unit}");
        client.send(format!("SET text {longer}\nSET other {longer}\nGET other\nGET text\n"));
        client.expect("ERR limit");
        client.expect("ERR limit");
        client.expect("ERR not-found");
        let got = client.reply_line();
        let printed = got.strip_prefix("OK ").and_then(|rest| rest.strip_suffix(" good 7"));
        assert_eq!(printed.map(unescape), Some(unescape(&longest)), "{got}");
    }
}

#[test]
fn qualities_and_times() {
    check(
        "",
        "
        > SET q 1
        < OK
        > GET q
        < OK 1 good @
        > SET q 2 uncertain
        < OK
        > GET q
        < OK 2 uncertain @
        > SET q 3 bad
        < OK
        > GET q
        < OK 3 bad @
        > SET q 4 good 1763798401123
        < OK
        > GET q
        < OK 4 good 1763798401123
        # Samples are ordered by arrival; the time is data.
        > SET q 5 good 0
        < OK
        > GET q
        < OK 5 good 0
        > SET q 6 uncertain -9223372036854775808
        < OK
        > GET q
        < OK 6 uncertain -9223372036854775808
        > SET q 7 bad 9223372036854775807
        < OK
        > GET q
        < OK 7 bad 9223372036854775807
        # The quality may be left out before a time.
        > SET q 8 12345
        < OK
        > GET q
        < OK 8 good 12345
        > SET q 9 good 9223372036854775808
        < ERR bad-time
        > SET q 9 good -9223372036854775809
        < ERR bad-time
        > SET q 9 good 1.5
        < ERR bad-time
        > SET q 9 good now
        < ERR bad-time
        > SET q 9 good good
        < ERR bad-time
        > SET q 9 12345 good
        < ERR bad-time
        > SET q 9 excellent
        < ERR bad-time
        > GET q
        < OK 8 good 12345
        ",
    );
}

#[test]
fn null_is_only_ever_bad() {
    check(
        "",
        "
        > SET n 1 good 7
        < OK
        > SET n null
        < ERR bad-value
        > SET n null good
        < ERR bad-value
        > SET n null uncertain 8
        < ERR bad-value
        > SET n null 8
        < ERR bad-value
        > GET n
        < OK 1 good 7
        > SET n null bad 8
        < OK
        > GET n
        < OK null bad 8
        # A broken sensor may also repeat its last value.
        > SET n 1 bad 9
        < OK
        > GET n
        < OK 1 bad 9
        > SET n NULL bad
        < ERR bad-value
        ",
    );
}

/// What is printed for `written`, or `None` when it is refused as `bad-value`.
fn round_trip(client: &mut Client, written: &str) -> Option<String> {
    client.send(format!("SET value null bad 0\nSET value {written} good 7\nGET value\n"));
    client.expect("OK");
    let set = client.reply_line();
    let get = client.reply_line();
    if client.matches("ERR bad-value", &set) {
        assert_eq!(get, "OK null bad 0", "{written} was refused and yet written");
        return None;
    }
    assert_eq!(set, "OK", "{written}");
    let printed = get.strip_prefix("OK ").and_then(|rest| rest.strip_suffix(" good 7"));
    Some(printed.unwrap_or_else(|| panic!("{written} → {get}")).to_owned())
}

/// The significant digits of a printed float.
fn digits(float: &str) -> String {
    let mantissa = float.split(['e', 'E']).next().unwrap_or_default();
    let all: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    all.trim_matches('0').to_owned()
}

/// The text of a JSON string as the server prints them; `/` and what is above U+001F must come as it is.
fn unescape(json: &str) -> String {
    let inner = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let mut chars = inner.unwrap_or_else(|| panic!("{json} is no string")).chars();
    let mut text = String::new();
    while let Some(char) = chars.next() {
        let decoded = match (char, (char == '\\').then(|| chars.next()).flatten()) {
            (_, None) => char,
            (_, Some('u')) => {
                let hex: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&hex, 16).unwrap_or_else(|_| panic!("{json}"));
                char::from_u32(code).unwrap_or_else(|| panic!("{json}"))
            }
            (_, Some(short)) => match "b\u{8}f\u{c}n\nr\rt\t\"\"\\\\".split_once(short) {
                Some((_, rest)) => rest.chars().next().unwrap_or_else(|| panic!("{json}")),
                None => panic!("{json}: an escape that is none"),
            },
        };
        assert!(char == '\\' || (decoded >= ' ' && char != '"'), "{json}: not escaped");
        text.push(decoded);
    }
    text
}
