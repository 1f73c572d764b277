//! The driver behind byte queues and on virtual time: the test is the slave, and answers by hand.

mod bench;
mod isolation;
mod learning;
mod line;
mod matching;
mod overwritten;
mod settings;
mod tables;
mod truth;
mod writes;

use std::time::Duration;

use bench::{Asked, Bench, orderly, read_reply};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A device `m` with these keys, and tags: name, address, type, other keys.
fn device(keys: &str, tags: &[(&str, &str, &str)]) -> String {
    let mut text = format!("[[device]]\nname = 'm'\nurl = 'modbus://10.0.0.7'\n{keys}\n");
    for (name, address, others) in tags {
        text += &format!("[[device.tag]]\nname = '{name}'\naddress = '{address}'\n{others}\n");
    }
    text
}

/// One with a register at 10 and another at 11, which one request reads.
fn plain(keys: &str) -> String {
    device(keys, &[("a", "holding:10", "type = 'u16'"), ("b", "holding:11", "type = 'u16'")])
}
