//! `lumina devices`: how the polled devices of a server are, as a table, the worst first.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use argh::FromArgs;

use super::address::Address;
use super::{Exit, say, say_error};
use crate::base::order::sorted_by;

/// How long a server may take for its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The columns besides the name: the last level of the tag, and how it is headed.
const COLUMNS: [(&str, &str); 13] = [
    ("state", "state"),
    ("oldest_ms", "oldest ms"),
    ("rtt_ms", "rtt ms"),
    ("not_good", "not good"),
    ("requests", "requests"),
    ("timeouts", "timeouts"),
    ("exceptions", "exceptions"),
    ("altered", "altered"),
    ("reconnects", "reconnects"),
    ("late", "late"),
    ("mismatched", "mismatched"),
    ("overruns", "overruns"),
    ("quarantined", "quarantined"),
];
/// Why a device is not connected, below the table.
const REASON: &str = "reason";
/// The worst first.
const STATES: [&str; 5] = ["offline", "silent", "connecting", "online", "disabled"];

/// Print how the polled devices of a server are, the worst first, and why those that are offline are.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "devices",
    example = "lumina devices gateway:5000",
    error_code(0, "all devices that are not paused are online, whatever their tags are"),
    error_code(1, "some are not, or there is no connection"),
    error_code(2, "the command line is wrong")
)]
pub(super) struct Devices {
    /// the server's HOST:PORT (default: 127.0.0.1:5000)
    #[argh(positional, arg_name = "address", from_str_fn(Address::parse))]
    address: Option<Address>,
}

/// The figures of a device, by the last level of their names.
type Figures = BTreeMap<String, String>;

impl Devices {
    pub(super) fn run(self) -> Exit {
        let address = self.address.unwrap_or_default();
        let devices = match ask(&address) {
            Ok(devices) => devices,
            Err(why) => {
                say_error(format_args!("lumina: {}:{}: {why}", address.host, address.port));
                return Exit::Failed;
            }
        };
        if devices.is_empty() {
            say(format_args!("this server polls no devices"));
            return Exit::Fine;
        }
        table(&devices).iter().for_each(|line| say(format_args!("{line}")));
        for (name, figures) in &devices {
            if let Some(reason) = figures.get(REASON).filter(|reason| !reason.is_empty()) {
                say(format_args!("{name}: {reason}"));
            }
        }
        let is_well = |figures: &Figures| rank(figures) >= rank_of("online");
        if devices.values().all(is_well) { Exit::Fine } else { Exit::Failed }
    }
}

fn ask(address: &Address) -> std::io::Result<BTreeMap<String, Figures>> {
    let mut stream = TcpStream::connect((address.host.as_str(), address.port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let requests = b"READ $device/#\nREAD $device/+/reason\n";
    stream.write_all(requests)?;
    let mut unanswered = 2;
    let mut devices: BTreeMap<String, Figures> = BTreeMap::new();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let mut fields = line.splitn(3, ' ');
        match (fields.next(), fields.next(), fields.next()) {
            (Some("VAL"), Some(name), Some(sample)) => {
                let levels: Vec<&str> = name.splitn(4, '/').collect();
                if let [_, device, figure] = levels[..] {
                    // Quality and time are no news.
                    let value = sample.rsplitn(3, ' ').last().unwrap_or_default().trim_matches('"');
                    let figures = devices.entry(device.to_owned()).or_default();
                    figures.insert(figure.to_owned(), value.to_owned());
                }
            }
            (Some("OK"), ..) => {
                unanswered -= 1;
                if unanswered == 0 {
                    return Ok(devices);
                }
            }
            _ => return Err(std::io::Error::other(line)),
        }
    }
    Err(std::io::Error::other("the server closed the connection"))
}

fn rank_of(state: &str) -> usize {
    STATES.iter().position(|known| *known == state).unwrap_or(0)
}

fn rank(figures: &Figures) -> usize {
    rank_of(figures.get("state").map_or("", String::as_str))
}

/// The table's lines: by state, then by how many tags are not good, then by the age of the oldest point.
fn table(devices: &BTreeMap<String, Figures>) -> Vec<String> {
    let number = |figures: &Figures, key: &str| figures.get(key).and_then(|text| text.parse::<f64>().ok());
    let devices: Vec<(&String, &Figures)> = devices.iter().collect();
    let sorted = sorted_by(devices.len(), &|one, other| {
        let (one, other) = (devices[one].1, devices[other].1);
        let most_first = |key| {
            let of = |figures| number(figures, key).unwrap_or(f64::MAX);
            of(other).total_cmp(&of(one))
        };
        let by_tags = rank(one).cmp(&rank(other)).then_with(|| most_first("not_good"));
        by_tags.then_with(|| most_first("oldest_ms"))
    });
    let heads = std::iter::once("device").chain(COLUMNS.map(|(_, head)| head));
    let mut rows: Vec<Vec<String>> = vec![heads.map(str::to_owned).collect()];
    for (name, figures) in sorted.into_iter().map(|at| devices[at]) {
        let cells = COLUMNS.map(|(key, _)| figures.get(key).cloned().unwrap_or_else(|| "-".to_owned()));
        rows.push(std::iter::once(name.clone()).chain(cells).collect());
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<String>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_come_first() {
        let device = |state: &str, not_good: &str, oldest: &str| {
            let pairs = [("state", state), ("not_good", not_good), ("oldest_ms", oldest), ("rtt_ms", "1.5")];
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect::<Figures>()
        };
        let devices = BTreeMap::from([
            ("a".to_owned(), device("online", "0", "20")),
            ("b".to_owned(), device("disabled", "9", "90000")),
            ("c".to_owned(), device("silent", "4", "70")),
            ("d".to_owned(), device("online", "0", "300")),
            ("e".to_owned(), device("offline", "4", "5")),
            ("f".to_owned(), device("online", "12", "10")),
            ("g".to_owned(), device("online", "3", "10")),
        ]);
        let lines = table(&devices);
        let order: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(order, ["device", "e", "c", "f", "g", "d", "a", "b"]);
        assert!(lines[5].starts_with("d       online          300     1.5         0"), "{}", lines[5]);
    }
}
