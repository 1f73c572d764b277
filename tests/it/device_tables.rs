//! The points of a device in a spreadsheet's table beside the configuration: what is accepted, and where
//! mistakes are.

use crate::server::{Folder, Outcome, run};

const DEVICE: &str = "[[device]]\nname = 'm'\nurl = 'modbus://127.0.0.1:1'\ntags = 'points.csv'\n";

/// What `lumina check` says of a device with this table.
fn check(csv: &[u8]) -> Outcome {
    let dir = Folder::new();
    dir.write("plant.toml", DEVICE);
    std::fs::write(dir.path.join("points.csv"), csv).expect("the folder can be written");
    run(&dir, &["check", "--config", "plant.toml"])
}

#[test]
fn tables_as_spreadsheets_save_them() {
    for csv in [
        "name,address,type,scale,verify\na,holding:1,u16,0.1,TRUE\nb,holding:2,u16,.5,false\n",
        "\u{feff}name;address;type;scale;verify;\r\na;holding:1;u16;0,1;true;\r\n\r\nb;holding:2;u16;;;\r\n",
        "name\taddress\ttype\tdescription\na\tholding:1\tu16\t\"say \"\"hi\"\"\tyou\"\nb\tholding:2\tu16\t",
    ] {
        let outcome = check(csv.as_bytes());
        assert_eq!(outcome.code, Some(0), "{csv}\n{}", outcome.stderr);
        assert!(outcome.stdout.contains("\n2 declared tags"), "{csv}\n{}", outcome.stdout);
    }
}

#[test]
fn mistakes_in_tables() {
    #[rustfmt::skip]
    let table: [(&[u8], &str); 11] = [
        (b"name;address;type;scale\na;holding:1;u16;0,1x\n",
         "points.csv:2:17: 'scale' is '0,1x', expected a number such as 0.1 or 0,1"),
        (b"name,address,type,verify\na,holding:1,u16,yes\n",
         "points.csv:2:17: 'verify' is 'yes', expected true or false"),
        (b"",                                          "points.csv:1:1: the first line is empty"),
        (b"\nname,address\na,coil:1\n",                "points.csv:1:1: the first line is empty"),
        (b"name,address\n",                            "points.csv:1:1: there is no tag in the table"),
        (b"name,address\na,coil:1\na,coil:2\n",        "points.csv:3:1: the tag 'm/a' is there twice, first"),
        (b"name,address,access\na,holding:1.2,rw\n",   "points.csv:2:1: the tag 'm/a' is a bit of"),
        (b"name,address,type\na,holding:65535,u32\n",  "points.csv:2:1: the tag 'm/a' is longer than"),
        (b"name,adress\na,coil:1\n",                   "points.csv:1:6: unknown column 'adress', did you"),
        (b"name,address\na,coil:1,7\n",                "points.csv:2:10: '7' is in no column"),
        (b"name,address,units\na,coil:1,\xb0C\n",      "plant.toml:4:8: 'points.csv' is not in UTF-8"),
    ];
    for (csv, expected) in table {
        let outcome = check(csv);
        assert_eq!(outcome.code, Some(2), "{expected}\n{}", outcome.stderr);
        assert!(outcome.stderr.contains(expected), "{expected}\n{}", outcome.stderr);
    }
}
