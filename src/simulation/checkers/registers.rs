//! The rules for what Modbus masters are answered.

use std::fmt::Display;

use super::super::record::Record;
use super::super::units;
use super::{State, Verdict, violation};

/// What is always written as one is never read in parts of two writes: a block of registers, the two halves
/// of a 32-bit value, several tags of one request. A request that writes a block and reads it sees its own
/// write.
pub fn no_block_is_torn(who: &str, asked: &dyn Display, words: &dyn Display, is_whole: bool) -> Verdict {
    if !is_whole {
        return violation("no_block_is_torn", format_args!("{who} asked for {asked} and got {words}"));
    }
    Ok(())
}

/// Nor is it told in parts by lines.
pub fn no_value_is_torn(who: &str, tag: &str, now: &State) -> Verdict {
    if !units::is_whole_value(tag, &now.value) {
        return violation("no_value_is_torn", format_args!("{who} was told '{tag} {now}'"));
    }
    Ok(())
}

/// A request is refused only where there is a reason to, and with the exception for that reason.
pub fn refusals_have_their_cause(who: &str, asked: &dyn Display, code: u8, causes: &[u8]) -> Verdict {
    if !causes.contains(&code) {
        return violation(
            "refusals_have_their_cause",
            format_args!("{who} asked for {asked} and got exception {code}; there was cause for {causes:?}"),
        );
    }
    Ok(())
}

/// Nobody is told that a device's tag is written before the device has said so.
pub fn answered_after_the_device(record: &Record, who: &str, tag: &str, value: i64) -> Verdict {
    if !record.device_did.contains(&(tag.to_owned(), value)) {
        let rule = "answered_after_the_device";
        return violation(rule, format_args!("{who} was told that {tag} is {value}; the device was not"));
    }
    Ok(())
}

/// The path to the device is not there.
const OFFLINE: u8 = 10;

/// Who writes tags of a device is refused for what became of one of these writes. Of those that never
/// reached the driver nothing is known: the device was offline.
pub fn refused_as_the_device_did(record: &Record, who: &str, writes: &[(String, i64)], code: u8) -> Verdict {
    let mut ends = writes.iter().map(|write| record.ends_of_orders.get(write));
    let is_one = ends.any(|end| match end {
        Some(ends) => ends.contains(&Some(code)),
        None => code == OFFLINE,
    });
    if !is_one {
        let ends: Vec<_> = writes.iter().map(|write| record.ends_of_orders.get(write)).collect();
        return violation(
            "refused_as_the_device_did",
            format_args!("{who} wrote {writes:?} and got exception {code}; what became of it: {ends:?}"),
        );
    }
    Ok(())
}

/// A value is shown only while its quality is one for which it is: `most` is the worst.
pub fn what_is_bad_is_not_shown(who: &str, asked: &dyn Display, quality: u16, most: u16) -> Verdict {
    if quality > most {
        let rule = "what_is_bad_is_not_shown";
        return violation(rule, format_args!("{who} asked for {asked} and got a value of quality {quality}"));
    }
    Ok(())
}

/// What no master has written for long has taken its safe value.
pub fn watchdogs_have_struck(tag: &str, value: &str, safe: &str) -> Verdict {
    if value != safe {
        return violation("watchdogs_have_struck", format_args!("{tag} is {value} and not {safe}"));
    }
    Ok(())
}
