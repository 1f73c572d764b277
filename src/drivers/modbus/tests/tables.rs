//! Tables of points, as spreadsheets save them: what is made of them, and where their mistakes are.

use super::bench::read;
use super::*;
use crate::drivers::modbus::points::{Deadband, PointSettings};
use crate::drivers::modbus::settings::Fleet;

/// What is made of a device whose points are in `points.csv`.
fn read_table(csv: &str) -> (Fleet, Vec<String>) {
    let (fleet, _, errors) = read(&device("tags = 'points.csv'", &[]), &[("points.csv", csv)]);
    (fleet, errors.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn points(csv: &str) -> Vec<PointSettings> {
    let (fleet, errors) = read_table(csv);
    assert_eq!(errors, Vec::<String>::new(), "{csv}");
    fleet.lines[0].devices[0].model.points.clone()
}

/// All that is wrong in a table, and nothing else: each message begins so.
#[track_caller]
fn check(csv: &str, expected: &[&str]) {
    check_errors(&read_table(csv).1, expected);
}

#[track_caller]
fn check_errors(errors: &[String], expected: &[&str]) {
    let fits = errors.len() == expected.len()
        && errors.iter().zip(expected).all(|(error, begin)| error.starts_with(begin));
    assert!(fits, "{errors:#?}\ninstead of\n{expected:#?}");
}

/// A table with each key of a point; `rows` are these fields of two.
fn full(separator: &str, rows: [&str; 2]) -> Vec<PointSettings> {
    let header = "name address type order scale offset min max access verify rate deadband units description";
    let lines = [header, rows[0], rows[1]].map(|line| line.replace(' ', separator));
    points(&lines.join("\n"))
}

#[test]
fn points_stand_between_those_of_the_template_and_those_of_the_device() {
    let template = "[[template]]\nname = 't'\n[[template.tag]]\nname = 'power'\naddress = 'coil:0'\n";
    let text = device("template = 't'\ntags = 'points.csv'", &[("own", "coil:1", "")]);
    let csv = "name,address,type,rate\nvoltage,input:0,i32,\nsetpoint,4x011,u16,200ms\n";
    let (fleet, _, errors) = read(&(template.to_owned() + &text), &[("points.csv", csv)]);
    assert_eq!(errors, Vec::new());
    let points = &fleet.lines[0].devices[0].model.points;
    let names: Vec<&str> = points.iter().map(|point| &*point.name).collect();
    assert_eq!(names, ["power", "voltage", "setpoint", "own"]);
    assert_eq!((points[2].rate, points[1].rate), (millis(200), seconds(1)));
}

#[test]
fn every_column_in_every_style() {
    let styles = [
        (",", ["a holding:1 u16 badc 0.1 -1 0 1e3 rw TRUE 0.5s 0.5 V L1", "b input:1 u16       true  5%  "]),
        (
            ";",
            ["a holding:1 u16 badc 0,1 -1 0 1E+3 rw true 0,5s 0,5 V L1", "b input:1 u16       TRUE  5,0%  "],
        ),
        (
            ";",
            ["a holding:1 u16 badc .1 -1.0 0 1000,0 rw True 500ms .5 V L1", "b input:1 u16       true  5%  "],
        ),
        (
            "\t",
            ["a holding:1 u16 badc 0,1 -1 0 1000 rw TRUE 0.5s 0,5 V L1", "b input:1 u16       TRUE  5%  "],
        ),
    ];
    let [first, others @ ..] = styles.map(|(separator, rows)| {
        full(separator, rows).iter().map(|point| format!("{point:?}")).collect::<Vec<_>>()
    });
    for other in others {
        assert_eq!(other, first);
    }
    let [a, b] = &full(styles[0].0, styles[0].1)[..] else { panic!("there are two") };
    assert!(a.is_writable && a.verify && a.rate == millis(500), "{a:?}");
    assert_eq!(a.deadband, Some(Deadband::Absolute(0.5)));
    assert!(b.verify && b.conversion.is_some() && b.rate == seconds(1), "{b:?}");
    assert_eq!(b.deadband, Some(Deadband::Relative(0.05)));
    let described = format!("{a:?}");
    assert!(
        described.contains("scale: 1, offset: -1, scale_exponent: -1") && described.contains("\"L1\""),
        "{described}"
    );
}

#[test]
fn what_spreadsheets_add() {
    let clean = "name,address,description\na,coil:1,\nb,coil:2,\n";
    let names = |csv: &str| points(csv).iter().map(|point| point.name.to_string()).collect::<Vec<_>>();
    for csv in [
        clean.to_owned(),
        format!("\u{feff}{}", clean.replace('\n', "\r\n")),
        clean.replace('\n', ",,\n"),
        clean.replace('\n', "\n\n,,\n \r\n"),
        clean.replace(',', " , ").replace("a ", "\"a\" "),
        clean.trim_end().trim_end_matches(',').to_owned(),
        clean.replace(',', ";"),
        clean.replace("name,", "name,,").replace("a,", "a,,").replace("b,", "b,,"),
    ] {
        assert_eq!(names(&csv), ["a", "b"], "{csv}");
    }
    let csv = "name;address;description\n\"a\";coil:1;\"1; \"\"2\"\"\r\n3\"\nb;coil:2;5\" pipe\n";
    let described = points(csv).iter().map(|point| format!("{point:?}")).collect::<String>();
    assert!(described.contains(r#""1; \"2\"\r\n3""#) && described.contains(r#""5\" pipe""#), "{described}");
}

#[test]
fn wrong_fields() {
    check(
        "name,address,type\na,holding:1,u16\n\nb,holding:2,u17\n\"c\",hold:3,u16\n,coil:1,\n",
        &[
            "points.csv:4:13: 'type': 'u17' is not a type, expected bool, ",
            "points.csv:5:5: 'address': unknown area",
            "points.csv:6:1: 'name' is missing in the row, expected such as",
        ],
    );
    check(
        "name;address;type;scale;verify;deadband;rate\n\
         a;holding:1;u16;zwei;yes;1;5\n\
         b;holding:2;u16;1.000,5;WAHR;-1%;\n\
         c;holding:3;u16;nan;1;viel;0,x s\n",
        &[
            "points.csv:2:17: 'scale' is 'zwei', expected a number such as 0.1 or 0,1",
            "points.csv:2:22: 'verify' is 'yes', expected true or false",
            "points.csv:2:28: 'rate': '5' is not a duration, expected a number and a unit",
            "points.csv:3:17: 'scale' is '1.000,5', expected a number",
            "points.csv:3:25: 'verify' is 'WAHR', expected true or false",
            "points.csv:3:30: 'deadband' is not one, expected a number such as 0.5, or \"1%\"",
            "points.csv:4:17: 'scale' is 'nan', expected a number",
            "points.csv:4:21: 'verify' is '1', expected true or false",
            "points.csv:4:23: 'deadband' is not one",
            "points.csv:4:28: 'rate': '0.x s' is not a duration",
        ],
    );
    // A comma parts fields here, and cannot be that of a number.
    check(
        "name,address,type,scale\na,holding:1,u16,\"0,1\"\nb,holding:2,u16,0,1\n",
        &[
            "points.csv:2:17: 'scale' is '0,1', expected a number such as 0.1",
            "points.csv:3:17: expected a scale that is a number other than 0",
            "points.csv:3:19: '1' is in no column, the first line has the columns name, address, type, ",
        ],
    );
}

#[test]
fn wrong_columns() {
    check(
        "name,adress,type\na,holding:1,u17\n",
        &[
            "points.csv:1:1: the column 'address' is missing (columns are name, address, type, order, ",
            "points.csv:1:6: unknown column 'adress', did you mean 'address'? (columns are name, address, ",
            "points.csv:2:13: 'type': 'u17' is not a type",
        ],
    );
    check(
        "address;Bemerkung;scale;type;scale\nholding:1;gut;0;u16;1\n",
        &[
            "points.csv:1:1: the column 'name' is missing",
            "points.csv:1:9: unknown column 'Bemerkung' (columns are name, ",
            "points.csv:1:30: the column 'scale' is there twice",
            "points.csv:2:15: expected a scale that is a number other than 0",
        ],
    );
    check(
        "name;address;\na;coil:1;;x;y\n",
        &["points.csv:2:11: 'x' is in no column, the first line has the columns name, address"],
    );
}

#[test]
fn tables_that_are_none() {
    for csv in ["", "\u{feff}", "\n", "\nname,address\na,coil:1\n", ";;\r\n", "\"\",\"\"\na,coil:1\n"] {
        check(
            csv,
            &["points.csv:1:1: the first line is empty, expected the names of columns (name, address"],
        );
    }
    for csv in ["name,address", "name,address\r\n\r\n,\r\n"] {
        check(csv, &["points.csv:1:1: there is no tag in the table, expected one in each line"]);
    }
    check("\"name,address\na,coil:1\n", &["points.csv:1:1: this quote is not closed"]);
    check(
        "name,address\na b,coil:0\n b,\"coil:1\nc,coil:2\n",
        &["points.csv:2:1: 'name'", "points.csv:3:4: this quote is not closed"],
    );
    check(
        "name,address\na,\"coil:1\nb,\"coil:2\n",
        &["points.csv:2:3: the field in quotes goes on behind its closing quote"],
    );
    let text = device("tags = 'points.csv'", &[]);
    let errors: Vec<String> = read(&text, &[]).2.iter().map(ToString::to_string).collect();
    check_errors(&errors, &["plant.toml:4:8: 'points.csv' cannot be read: entity not found"]);
}

/// Any file ends with points or with mistakes.
#[test]
fn any_text_is_read_without_a_panic() {
    let specimen = "\u{feff}name;address;type;scale\r\n\"a\";\"holding:\"\"1\";u16;0,1\n\nä;coil:1;;\n";
    for cut in (0..=specimen.len()).filter(|cut| specimen.is_char_boundary(*cut)) {
        for insert in ["", "\n", "\"", ";", ",", "\t", "\u{a0}", "\u{2028}", "\0", "\r", "é"] {
            let text = format!("{}{insert}{}", &specimen[..cut], &specimen[cut..]);
            for csv in [&text, &text[..cut + insert.len()]] {
                let (fleet, errors) = read_table(csv);
                let tags =
                    fleet.lines.iter().flat_map(|line| &line.devices).map(|device| device.model.points.len());
                assert!(tags.sum::<usize>() > 0 || !errors.is_empty(), "{csv:?}");
            }
        }
    }
}

#[test]
fn what_only_shows_where_things_come_together() {
    let template =
        "[[template]]\nname = 't'\n[[template.tag]]\nname = 'a'\naddress = 'holding:1.2'\naccess = 'rw'\n";
    let device = |name: &str, keys: &str| {
        format!("[[device]]\nname = '{name}'\nurl = 'modbus://10.0.0.7'\ntemplate = 't'\n{keys}\n")
    };
    let text = template.to_owned()
        + &device("m", "tags = 'points.csv'\nunit = 1\nbit_write = 'rmw'")
        + &device("n", "unit = 2");
    let csv = "name;address;type\na;coil:1\nb;coil:2\nc;holding:65535;u32\n\nb;coil:3\n";
    let errors: Vec<String> = read(&text, &[("points.csv", csv)]).2.iter().map(ToString::to_string).collect();
    check_errors(
        &errors,
        &[
            "plant.toml:4:8: the tag 'n/a' is a bit of a register: 'bit_write' of the device says",
            "points.csv:2:1: the tag 'm/a' is there twice, first at plant.toml:4",
            "points.csv:4:1: the tag 'm/c' is longer than a request may read at holding:65535",
            "points.csv:6:1: the tag 'm/b' is there twice, first at points.csv:3",
        ],
    );
}

#[test]
fn a_table_of_many_devices_is_read_once() {
    let device = |unit: u32| {
        format!(
            "[[device]]\nname = 'm{unit}'\nurl = 'modbus://10.0.0.7'\nunit = {unit}\ntags = 'points.csv'\n"
        )
    };
    let text: String = (1..=3).map(device).collect();
    let errors: Vec<String> = read(&text, &[("points.csv", "name,address\na b,coil:0\nb,coil:1\n")])
        .2
        .iter()
        .map(ToString::to_string)
        .collect();
    check_errors(&errors, &["points.csv:2:1: 'name'"]);
    let (fleet, _, errors) = read(&text, &[("points.csv", "name,address\nb,coil:1\n")]);
    assert_eq!(errors, Vec::new());
    assert!(fleet.lines[0].devices.iter().all(|device| device.model.points.len() == 1));
}
