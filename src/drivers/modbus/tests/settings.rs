//! `[[device]]` and `[[template]]`: what is made of them, and what is wrong.

use super::bench::read;
use super::*;
use crate::drivers::modbus::settings::{BitWrite, Carrier, Fleet};
use std::sync::Arc;

#[track_caller]
fn good(text: &str, files: &[(&str, &str)]) -> Fleet {
    let (fleet, _, errors) = read(text, files);
    assert_eq!(errors, Vec::new(), "{text}");
    fleet
}

/// All that is wrong, and nothing else: each message begins so.
#[track_caller]
fn check(text: &str, files: &[(&str, &str)], expected: &[&str]) {
    let errors: Vec<String> = read(text, files).2.iter().map(ToString::to_string).collect();
    let fits = errors.len() == expected.len()
        && errors.iter().zip(expected).all(|(error, begin)| error.starts_with(begin));
    assert!(fits, "{text}\n{errors:#?}\ninstead of\n{expected:#?}");
}

#[test]
fn defaults() {
    let fleet = good(&plain(""), &[]);
    let [line] = &fleet.lines[..] else { panic!("{} lines", fleet.lines.len()) };
    assert_eq!((line.carrier, &*line.url), (Carrier::Tcp, "modbus://10.0.0.7:502"));
    assert_eq!((line.window, line.min_gap, line.echo_tid, line.dead_share), (1, Duration::ZERO, true, 10));
    let device = &line.devices[0];
    assert_eq!((&*device.name, device.unit, device.timeout), ("m", 1, seconds(1)));
    assert_eq!((device.retries, device.write_retries, device.write_expiry), (1, 0, seconds(2)));
    assert_eq!(device.stale_after, None);
    let model = &device.model;
    assert_eq!((model.write_single, model.bit_write, &model.rates[..]), (true, None, &[seconds(1)][..]));
    assert!(!model.points[0].is_writable && !model.points[0].verify);
}

#[test]
fn every_key() {
    let fleet = good(
        "
        [[device]]
        name = 'm'
        url = 'modbus+udp://10.0.0.7:1502'
        unit = 9
        rate = '2s'
        timeout = '300ms'
        retries = 3
        write_retries = 2
        write_expiry = '9s'
        stale_after = '1m'
        merge_gap = 0
        window = 4
        min_gap = '5ms'
        max_registers = 10
        max_bits = 100
        dead_share = 25
        write_single = false
        use_fc22 = true
        bit_write = 'rmw'
          [[device.tag]]
          name = 'a/b'
          address = '40011'
          type = 'u16'
          order = 'badc'
          scale = 0.1
          offset = 3
          min = 0
          max = 100
          access = 'rw'
          verify = true
          rate = '200ms'
          deadband = '1%'
          units = 'V'
          description = 'L1'
        ",
        &[],
    );
    let line = &fleet.lines[0];
    assert_eq!(
        (line.carrier, line.host.to_string().as_str(), line.window),
        (Carrier::Udp, "10.0.0.7:1502", 4)
    );
    assert_eq!((line.min_gap, line.dead_share), (millis(5), 25));
    let device = &line.devices[0];
    assert_eq!((device.unit, device.timeout, device.stale_after), (9, millis(300), Some(seconds(60))));
    assert_eq!((device.retries, device.write_retries, device.write_expiry), (3, 2, seconds(9)));
    assert_eq!((device.model.write_single, device.model.bit_write), (false, Some(BitWrite::ReadModifyWrite)));
    let point = &device.model.points[0];
    assert_eq!((&*point.name, point.address.number(), point.rate), ("a/b", 10, millis(200)));
    assert!(point.is_writable && point.verify && point.deadband.is_some());
}

const METER: &str = "
[[template]]
name = 'em24'
  [[template.tag]]
  name = 'voltage'
  address = 'input:0'
  type = 'i32'
  order = 'cdab'
  scale = 0.1
";

#[test]
fn equal_devices_of_a_template_share_their_model() {
    let short = |number: u32| {
        format!("[[device]]\nname = 'meter{number}'\nurl = 'modbus://10.0.1.{number}'\ntemplate = 'em24'\n")
    };
    let mut text = METER.to_owned() + &(1..=100).map(short).collect::<String>();
    text += "[[device]]\nname = 'slow'\nurl = 'modbus://10.0.2.1'\ntemplate = 'em24'\nrate = '10s'\n";
    text += "[[device]]\nname = 'more'\nurl = 'modbus://10.0.2.1'\nunit = 2\ntemplate = 'em24'\n";
    text += "[[device.tag]]\nname = 'current'\naddress = 'input:12'\ntype = 'i32'\n";
    let fleet = good(&text, &[]);
    assert_eq!((fleet.lines.len(), fleet.names.len()), (101, 102));
    let model = |line: usize, device: usize| &fleet.lines[line].devices[device].model;
    assert!((1..100).all(|line| Arc::ptr_eq(model(0, 0), model(line, 0))));
    assert_eq!((model(100, 0).points.len(), model(100, 1).points.len()), (1, 2));
    assert_eq!(model(100, 0).rates, [seconds(10)]);
}

#[test]
fn mistakes_are_all_told_each_with_its_place() {
    check(
        "[[template]]
name = 't'
[[template.tag]]
name = 'a'
address = 'holding:1'
type = 'u16'
[[template]]
name = 't'
[[device]]
name = 'm/n'
url = 'modbus:10.0.0.7'
unit = 256
rate = '0s'
timeout = 5
retries = 11
merge_gap = 126
window = 17
min_gap = '2m'
max_registers = 126
max_bits = 0
dead_share = 0
template = 'u'
colour = 'red'
[[device.tag]]
name = 'a b'
address = 'holding:70000'
type = 'u17'
order = 'dbca'
min = 5
max = 4
access = 'wo'
deadband = '1'
[[device.tag]]
name = 'bit'
address = 'coil:1'
type = 'u16'
[[device.tag]]
name = 'in'
address = 'input:1'
type = 'u16'
scale = 0
access = 'rw'
[[device.tag]]
address = 'holding:1'
",
        &[],
        &[
            "plant.toml:8:8: there is a template 't' already",
            "plant.toml:10:8: 'name': a device name is one level",
            "plant.toml:11:7: 'url': 'modbus:10.0.0.7' is not a device",
            "plant.toml:12:8: 'unit' is the integer 256, expected an integer from 0 to 255",
            "plant.toml:13:8: 'rate' is the text \"0s\", expected a duration above zero",
            "plant.toml:14:11: 'timeout' is the integer 5, expected a duration",
            "plant.toml:15:11: 'retries' is the integer 11",
            "plant.toml:16:13: 'merge_gap' is the integer 126",
            "plant.toml:17:10: 'window' is the integer 17",
            "plant.toml:18:11: 'min_gap' is the text \"2m\"",
            "plant.toml:19:17: 'max_registers' is the integer 126",
            "plant.toml:20:12: 'max_bits' is the integer 0",
            "plant.toml:21:14: 'dead_share' is the integer 0",
            "plant.toml:22:12: there is no [[template]] of the name 'u'",
            "plant.toml:23:1: unknown key 'colour'",
            "plant.toml:25:8: 'name': ' ' cannot stand in a name",
            "plant.toml:26:11: 'address': the number behind the colon",
            "plant.toml:27:8: 'type': 'u17' is not a type",
            "plant.toml:28:9: 'order': 'dbca' is unknown, did you mean 'dcba'?",
            "plant.toml:30:7: 'max' is below 'min'",
            "plant.toml:31:10: 'access': 'wo' is unknown",
            "plant.toml:32:12: 'deadband' is not one, expected a number such as 0.5",
            "plant.toml:35:11: coil:1 is one bit: a bool, without scale and offset",
            "plant.toml:41:9: expected a scale that is a number other than 0",
            "plant.toml:42:10: inputs and discretes cannot be written",
            "plant.toml:43:1: 'name' is missing in device[1].tag[4]",
            "plant.toml:43:1: 'type' is missing in device[1].tag[4]",
        ],
    );
}

#[test]
fn what_means_nothing_for_a_point_is_a_mistake() {
    check(
        "
[[device]]
name = 'm'
url = 'modbus://10.0.0.7'
[[device.tag]]
name = 'coil'
address = 'coil:1'
deadband = 1
order = 'cdab'
[[device.tag]]
name = 'text'
address = 'holding:1'
type = 'string(4)'
order = 'badc'
min = 1
max = 2
",
        &[],
        &[
            "plant.toml:8:12: 'deadband' means nothing for a tag that is no number",
            "plant.toml:9:9: 'order' means nothing for one bit",
            "plant.toml:15:7: 'min' means nothing",
            "plant.toml:16:7: 'max' means nothing",
        ],
    );
}

#[test]
fn what_only_shows_where_things_come_together() {
    let check_device = |keys: &str, tags: &[(&str, &str, &str)], expected: &[&str]| {
        check(&device(keys, tags), &[], expected);
    };
    check_device(
        "",
        &[("a", "coil:1", ""), ("a", "coil:2", "")],
        &["plant.toml:10:8: the tag 'm/a' is there twice, first at plant.toml:6"],
    );
    check_device(
        "max_registers = 1",
        &[("a", "holding:1", "type = 'u32'")],
        &["plant.toml:6:8: the tag 'm/a' is longer than a request may read"],
    );
    check_device(
        "",
        &[("a", "holding:65535", "type = 'u32'")],
        &["plant.toml:6:8: the tag 'm/a' is longer than a request may read at holding:65535, or reaches"],
    );
    check_device(
        "",
        &[("a", "holding:1.2", "access = 'rw'")],
        &["plant.toml:6:8: the tag 'm/a' is a bit of a register: 'bit_write'"],
    );
    check_device(
        "use_fc22 = false\nbit_write = 'fc22'",
        &[],
        &["plant.toml:5:13: the device has function 22 if"],
    );
    check_device("echo_tid = false\nwindow = 2", &[], &["plant.toml:5:10: without transaction ids"]);
    check(&(plain("") + &plain("unit = 2")), &[], &["plant.toml:14:8: there is a device 'm' already"]);
    check(
        &(plain("window = 2\ndead_share = 5")
            + &plain("unit = 2\nwindow = 3\nmin_gap = '1ms'").replace("'m'", "'n'")),
        &[],
        &[
            "plant.toml:18:10: 'window' is of the connection, which m set otherwise",
            "plant.toml:19:11: 'min_gap'",
        ],
    );
}

/// That may be meant, for two templates; but more often a unit was forgotten.
#[test]
fn two_devices_that_are_one_unit_are_pointed_out() {
    let twin = plain("unit = 1").replace("'m'", "'twin'");
    let fleet = good(&(plain("") + &twin), &[]);
    assert_eq!(
        fleet.warnings,
        ["plant.toml:16: 'twin' is unit 1 of modbus://10.0.0.7:502, as 'm' is (plant.toml:1): \
            each of the two is polled and written by itself"]
    );
    let elsewhere = twin.replace("0.7", "0.8");
    let other = plain("unit = 2").replace("'m'", "'other'");
    assert_eq!(good(&(plain("") + &elsewhere + &other), &[]).warnings, [""; 0]);
}
