//! The Modbus units of a world: what stands where, who writes it, and what it looks like when it is whole.
//!
//! Unit 1 is raw memory, unit 2 shows tags. *Blocks* are written by everybody, and always all of a block with
//! one stamp, from which each of its registers follows; a register or a tag that is *owned* has one writer,
//! who counts its versions up, as devices do with their tags.

use std::fmt::Write;

use super::peers::polled_tag;
use crate::protocols::modbus::Span;

/// The unit that is raw memory.
pub const RAW: u8 = 1;
/// The unit that shows tags.
pub const SHOWN: u8 = 2;
/// There is no such unit.
pub const NOBODY: u8 = 7;

/// Masters in streams: each has registers and tags of its own.
pub const MOST_MASTERS: usize = 3;
/// Connections that a master makes at most. What was sent on one may be carried out when the next is there,
/// so each has a register and tags that no other writes.
pub const CONNECTIONS_EACH: usize = 16;
/// Of these, one has a register that unit 2 shows as well.
pub const SHOWN_CONNECTION: usize = 2;
/// Of these, so many have tags of the polled device.
pub const POLLED_CONNECTIONS_EACH: usize = 3;
/// Connections of a half-closer of the line protocol that have a register.
pub const LINE_REGISTERS_EACH: usize = 8;

/// Registers of unit 1 that are always written as one.
pub const BLOCKS: [Span; 2] = [Span { start: 0, quantity: 8 }, Span { start: 16, quantity: 120 }];
/// Coils of unit 1 that are always written as one, and go out when nobody does.
pub const COILS: Span = Span { start: 0, quantity: 32 };
/// From here on, registers of unit 1 are owned.
const FIRST_OWNED: u16 = 600;
/// From here on, they are owned by clients of the line protocol.
const FIRST_OF_LINES: u16 = 700;
/// From here on, they are nobody's and may hold anything.
pub const FIRST_SCRATCH: u16 = 760;
/// Registers of unit 1.
pub const HOLDINGS: u16 = 800;

/// Registers of unit 2, from address 0, that show six tags and are always written as one.
pub const BLOCK_OF_TAGS: u16 = 10;
/// Where each of its values begins, and where the last one ends.
pub const CUTS: [u16; 6] = [0, 2, 4, 5, 6, BLOCK_OF_TAGS];
/// Stamps of that block are below.
pub const STAMPS: u16 = 256;
/// A tag that is written whenever that block is.
pub const TAG_OF_BLOCK: &str = "mb/u";
/// A register of unit 2 that takes its safe value when nobody writes it.
pub const GUARDED: u16 = 20;
/// Its tag.
pub const GUARDED_TAG: &str = "mb/guarded";
/// What it becomes.
pub const SAFE: u16 = 9_999;
/// Masters write it less than this.
pub const UNSAFE_BELOW: u16 = 1_000;
/// Registers of unit 2 that show two tags of a device, each with its quality.
pub const DEVICE_REGISTERS: u16 = 6;
/// The devices that are shown.
pub const DEVICES: usize = 2;
/// The tag of the polled device that peers by datagrams write.
pub const UDP_POLLED_TAG: &str = "udp/polled";
/// Where unit 2 shows it.
pub const UDP_POLLED: u16 = 320;
/// Tags of each operator that unit 2 shows.
pub const SHOWN_OF_OPERATORS: usize = 2;

/// The register of unit 1 that a master's connection owns.
pub fn own_register(master: usize, connection: usize) -> u16 {
    FIRST_OWNED + (master * CONNECTIONS_EACH + connection) as u16
}

/// The register of unit 1 that a half-closer's connection owns.
pub fn line_register(client: usize, connection: usize) -> u16 {
    FIRST_OF_LINES + (client * LINE_REGISTERS_EACH + connection) as u16
}

/// Where unit 2 shows, by its tag, the register that this connection of a master owns.
pub fn shown_register(master: usize) -> u16 {
    400 + master as u16
}

/// The tag of a register of unit 1.
pub fn tag_of(register: u16) -> String {
    format!("modbus/{RAW}/holding/{register}")
}

/// The tags of all registers that have one writer; they begin with 0.
pub fn owned_tags() -> impl Iterator<Item = String> {
    (FIRST_OWNED..FIRST_SCRATCH).map(tag_of)
}

/// Whether a tag is a register that has one writer.
pub fn is_owned_register(tag: &str) -> bool {
    let register = tag.strip_prefix("modbus/1/holding/").and_then(|register| register.parse().ok());
    register.is_some_and(|register| (FIRST_OWNED..FIRST_SCRATCH).contains(&register))
}

/// The tags of the polled device that a master's connection owns.
pub fn polled_tags(master: usize, connection: usize) -> [String; 2] {
    ["a", "b"].map(|which| format!("plc0/m{master}-{connection}{which}"))
}

/// Where unit 2 shows them: two registers each.
pub fn polled_registers(master: usize, connection: usize) -> u16 {
    200 + 4 * (master * POLLED_CONNECTIONS_EACH + connection) as u16
}

/// Where unit 2 shows the tag of an operator: two registers.
pub fn operator_registers(operator: usize, number: usize) -> u16 {
    300 + 2 * (operator * SHOWN_OF_OPERATORS + number) as u16
}

/// Where unit 2 shows a device: its `t0` and that one's quality, its `t1` and that one's quality.
pub fn device_registers(device: usize) -> u16 {
    100 + 10 * device as u16
}

/// Tags of what takes a safe value when nobody writes it, and that value.
pub fn guarded_tags() -> [(&'static str, String); 2] {
    [("modbus/1/coil/0", "false".to_owned()), (GUARDED_TAG, SAFE.to_string())]
}

/// A register of a block of unit 1 that was written with this stamp.
pub fn block_word(at: u16, stamp: u16) -> u16 {
    stamp ^ at
}

/// Whether these registers of a block, from the one at `from` on, come from one write, or from none.
pub fn is_whole_block(from: u16, words: &[u16]) -> bool {
    let mut stamps = (from..).zip(words).map(|(at, word)| word ^ at);
    let first = stamps.next();
    stamps.all(|stamp| Some(stamp) == first) || words.iter().all(|word| *word == 0)
}

/// The coils of the block that was written with this stamp.
pub fn coils(stamp: u16) -> [bool; COILS.quantity as usize] {
    std::array::from_fn(|at| stamp >> (at % 16) & 1 == 1)
}

/// Whether these coils come from one write, or are out.
pub fn are_whole_coils(coils: &[bool]) -> bool {
    coils[..16] == coils[16..]
}

/// The 32-bit number whose registers hold the two halves of a float of this stamp.
fn float_bits(stamp: u16) -> u32 {
    0x4000_0000 + u32::from(stamp) * 0x0001_0001
}

fn int_of(stamp: u16) -> i64 {
    (i64::from(stamp + 1) << 16) + i64::from(stamp)
}

fn long_of(stamp: u16) -> i64 {
    [3, 2, 1, 0].iter().fold(0, |long, word| long << 16 | i64::from(stamp + word))
}

/// The registers of unit 2's block that was written with this stamp: `mb/f`, `mb/i`, `mb/u`, two bits, and
/// `mb/l`.
pub fn block_of_tags(stamp: u16) -> [u16; BLOCK_OF_TAGS as usize] {
    let float = float_bits(stamp);
    let bits = (stamp & 1) | (stamp >> 1 & 1) << 15;
    let long = [3, 2, 1, 0].map(|word| (stamp + word).swap_bytes());
    let [a, b, c, d] = long;
    [(float >> 16) as u16, float as u16, stamp, stamp + 1, stamp, bits, a, b, c, d]
}

/// Whether these registers of that block, from the one at `from` on, come from one write.
pub fn is_whole_block_of_tags(from: u16, words: &[u16]) -> bool {
    let stamp = match (from, words) {
        (0, [_, stamp, ..]) | (2 | 4, [stamp, ..]) => *stamp,
        (5, [_, _, _, _, stamp]) | (6, [_, _, _, stamp]) => stamp.swap_bytes(),
        (_, [bits, ..]) => (bits & 1) | bits >> 15 << 1,
        (_, []) => return true,
    };
    stamp < STAMPS && block_of_tags(stamp)[usize::from(from)..].starts_with(words)
}

/// Whether a value that is told of a tag of that block was written as a whole.
pub fn is_whole_value(tag: &str, value: &str) -> bool {
    let is_whole = |number: i64, of: fn(u16) -> i64| {
        let stamp = number as u16;
        stamp < STAMPS && of(stamp) == number
    };
    match tag {
        _ if value == "null" => true,
        "mb/f" => value
            .parse::<f64>()
            .is_ok_and(|float| is_whole((float as f32).to_bits().into(), |stamp| float_bits(stamp).into())),
        "mb/i" => value.parse().is_ok_and(|int| is_whole(int, int_of)),
        "mb/l" => value.parse().is_ok_and(|long| is_whole(long, long_of)),
        _ => true,
    }
}

/// The configuration of the units. The tags of the polled device are shown if there is one, and it has so
/// many operators.
pub fn config(operators: Option<usize>) -> String {
    let mut text = format!(
        "[[modbus.unit]]\nid = {RAW}\nholdings = {HOLDINGS}\ninputs = 8\ndiscretes = 8\n\
         coils = {{ size = 64, watchdog = \"300ms\", safe = false }}\n"
    );
    let mut show = |address: String, tag: &str, keys: &str| {
        let place = format!("unit = {SHOWN}\naddress = \"{address}\"\ntag = \"{tag}\"\n");
        let _ = write!(text, "[[modbus.map]]\n{place}{keys}\n");
    };
    // What is owned is shown as long as there is a value: then a version that is missing is a fault.
    let last = "on_bad = \"last\"\nserve_uncertain = true\n";
    let long = format!("type = \"i32\"\n{last}");
    for (at, name, keys) in [
        ("0", "mb/f", "type = \"f32\"\n"),
        ("2", "mb/i", "type = \"i32\"\norder = \"cdab\"\n"),
        ("4", TAG_OF_BLOCK, "type = \"u16\"\n"),
        ("5.0", "mb/b0", ""),
        ("5.15", "mb/b15", ""),
        ("6", "mb/l", "type = \"u64\"\norder = \"badc\"\n"),
    ] {
        show(format!("holding:{at}"), name, &format!("{keys}{last}"));
    }
    let guarded = format!("type = \"u16\"\nwatchdog = \"400ms\"\nsafe = {SAFE}\n");
    show(format!("holding:{GUARDED}"), GUARDED_TAG, &format!("{guarded}{last}"));
    for device in 0..DEVICES {
        let first = device_registers(device);
        for (at, tag, keys) in [(first, "t0", "type = \"i32\"\n"), (first + 3, "t1", &long)] {
            let tag = format!("dev{device}/{tag}");
            show(format!("holding:{at}"), &tag, keys);
            show(format!("holding:{}", at + 2), &tag, "show = \"quality\"\n");
        }
    }
    for master in 0..MOST_MASTERS {
        let tag = tag_of(own_register(master, SHOWN_CONNECTION));
        let keys = format!("type = \"u16\"\n{last}");
        show(format!("holding:{}", shown_register(master)), &tag, &keys);
    }
    let Some(operators) = operators else { return text };
    for (master, connection) in polled_connections() {
        let first = polled_registers(master, connection);
        for (tag, at) in polled_tags(master, connection).iter().zip([first, first + 2]) {
            show(format!("holding:{at}"), tag, &long);
        }
    }
    for operator in 0..operators {
        for number in 0..SHOWN_OF_OPERATORS {
            let at = operator_registers(operator, number);
            show(format!("holding:{at}"), &polled_tag(operator, number), &long);
        }
    }
    show(format!("holding:{UDP_POLLED}"), UDP_POLLED_TAG, &long);
    text
}

/// The connections of masters that have tags of the polled device.
pub fn polled_connections() -> impl Iterator<Item = (usize, usize)> {
    (0..MOST_MASTERS).flat_map(|master| (0..POLLED_CONNECTIONS_EACH).map(move |number| (master, number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_torn_is_told_from_what_is_whole() {
        let (one, other) = (block_of_tags(3), block_of_tags(200));
        for (from, to) in CUTS.iter().flat_map(|from| CUTS.iter().map(move |to| (*from, *to))) {
            let Some(words) = one.get(usize::from(from)..usize::from(to)) else { continue };
            assert!(is_whole_block_of_tags(from, words), "{from} to {to}: {words:x?}");
            for at in usize::from(from)..usize::from(to) {
                let mut torn = one;
                torn[at] = other[at];
                // One register, with nothing else there, is never in parts.
                let says_nothing = torn[at] == one[at] || to - from == 1;
                let words = &torn[usize::from(from)..usize::from(to)];
                assert!(says_nothing || !is_whole_block_of_tags(from, words), "{from} to {to}: {words:x?}");
            }
        }
        let block: Vec<u16> = (4..9).map(|at| block_word(at, 77)).collect();
        assert!(is_whole_block(4, &block) && is_whole_block(0, &[0; 9]) && !is_whole_block(3, &block));
        assert!(!is_whole_block(4, &[&block[..3], &[0, 0]].concat()));
        assert!(are_whole_coils(&coils(0x1234)));
        let mut coils = coils(0x1234);
        coils[20] = !coils[20];
        assert!(!are_whole_coils(&coils));

        let float = f64::from(f32::from_bits(0x4005_0005));
        for (tag, whole, torn) in [
            ("mb/f", float.to_string(), f64::from(f32::from_bits(0x4005_0006)).to_string()),
            ("mb/i", (6 << 16 | 5).to_string(), (5 << 16 | 5).to_string()),
            ("mb/l", 0x0008_0007_0006_0005_i64.to_string(), 0x0008_0007_0006_0001_i64.to_string()),
        ] {
            assert!(is_whole_value(tag, &whole) && is_whole_value(tag, "null"), "{tag} {whole}");
            assert!(!is_whole_value(tag, &torn), "{tag} {torn}");
        }
    }
}
