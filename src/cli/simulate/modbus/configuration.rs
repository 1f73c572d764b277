//! A configuration with which a server polls the slaves: with it, trying a poller is two commands.

use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use super::signals::Signal;
use super::spread::Places;
use crate::protocols::modbus::server::PROTOCOL;
use crate::tags::TagSettings;

/// How such a file begins; another one is not written over.
const MARK: &str = "# Written by lumina simulate";
/// Tags that a server has room for besides the devices', for whoever wants some.
const SPARE_TAGS: usize = 1_000;

/// What is polled.
pub(super) struct Polling<'a> {
    /// Of the template, and what the devices' names begin with.
    pub(super) name: &'a str,
    /// Holding registers of each slave, from 0.
    pub(super) tags: u16,
    pub(super) rate: Duration,
    pub(super) timeout: Duration,
}

/// Whether a file may be written: there is none of that name, or it is one of ours.
pub(super) fn check(file: &str) -> Result<(), String> {
    match fs::read(file) {
        Ok(bytes) if bytes.starts_with(MARK.as_bytes()) => Ok(()),
        Ok(_) => Err(format!(
            "{file} is there already, and was not written by lumina simulate: --configuration writes a file, \
             name another one"
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{file}: {error}")),
    }
}

pub(super) fn write(file: &str, polling: &Polling<'_>, places: &Places) -> Result<(), String> {
    fs::write(file, text(polling, places)).map_err(|error| format!("{file}: {error}"))
}

fn text(polling: &Polling<'_>, places: &Places) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = put(&mut out, polling, places);
    out
}

fn put(out: &mut String, polling: &Polling<'_>, places: &Places) -> std::fmt::Result {
    let Polling { name, tags, rate, timeout } = polling;
    let slaves = places.slaves();
    writeln!(out, "{MARK} --protocol modbus: polls its {slaves} slaves, {tags} registers each.")?;
    let all_tags = slaves as usize * usize::from(*tags) + SPARE_TAGS;
    if all_tags > TagSettings::default().max_tags {
        writeln!(out, "\n[server]\nmax_tags = {all_tags}")?;
    }
    writeln!(out, "\n[[template]]\nname = \"{name}\"")?;
    for address in 0..*tags {
        let signal = Signal::of(address);
        writeln!(out, "  [[template.tag]]\n  name = \"{}{address}\"", signal.name())?;
        writeln!(out, "  address = \"holding:{address}\"\n  type = \"u16\"")?;
        if signal == Signal::Setpoint {
            writeln!(out, "  access = \"rw\"")?;
        }
    }
    let (rate, timeout) = (rate.as_millis(), timeout.as_millis());
    for slave in 1..=slaves {
        let (address, unit) = places.of(slave);
        writeln!(out, "\n[[device]]\nname = \"{name}-{slave:05}\"")?;
        writeln!(out, "url = \"{}://{address}\"\nunit = {unit}", PROTOCOL.scheme)?;
        writeln!(out, "rate = \"{rate}ms\"\ntimeout = \"{timeout}ms\"\ntemplate = \"{name}\"")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::spread::Spread;
    use super::*;
    use crate::base::section::Document;

    fn written(slaves: u32, tags: u16) -> String {
        let first = "127.0.0.1:1502".parse().unwrap();
        let places = Places::new(Spread::Units, slaves, first).unwrap();
        let (rate, timeout) = (Duration::from_millis(1_500), Duration::from_secs(1));
        text(&Polling { name: "hall", tags, rate, timeout }, &places)
    }

    #[test]
    fn each_slave_is_a_short_device_of_one_template() {
        let text = written(300, 5);
        let document = Document::parse("f", &text);
        assert_eq!(document.errors(), []);
        let root = document.root();
        let [template] = &root.tables("template")[..] else { panic!("one template") };
        assert_eq!(template.text("name"), Some("hall"));
        let tags = template.tables("tag");
        let names: Vec<_> = tags.iter().map(|tag| tag.text("name").unwrap()).collect();
        assert_eq!(names, ["ramp0", "sine1", "count2", "setpoint3", "ramp4"]);
        let addresses: Vec<_> = tags.iter().map(|tag| tag.text("address").unwrap()).collect();
        assert_eq!(addresses[3..], ["holding:3", "holding:4"]);
        assert_eq!((tags[3].text("access"), tags[4].text("access")), (Some("rw"), None));
        let devices = root.tables("device");
        assert_eq!(devices.len(), 300);
        let of = |device: usize, key| devices[device].text(key).unwrap();
        assert_eq!((of(0, "name"), of(0, "url")), ("hall-00001", "modbus://127.0.0.1:1502"));
        assert_eq!((of(247, "name"), of(247, "url")), ("hall-00248", "modbus://127.0.0.2:1502"));
        assert_eq!((of(9, "rate"), of(9, "timeout"), of(9, "template")), ("1500ms", "1000ms", "hall"));
        assert_eq!(devices[247].integer("unit", 0..=255), Some(1));
        assert_eq!(devices[246].integer("unit", 0..=255), Some(247));
        assert!(!root.has("server"));
    }

    #[test]
    fn there_is_room_for_many_tags() {
        let text = written(5_000, 20);
        let document = Document::parse("f", &text);
        let server = document.root().table("server").expect("more tags than by default");
        assert_eq!(server.integer("max_tags", 1..=1_000_000), Some(101_000));
    }
}
