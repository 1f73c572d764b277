//! `FRAME` lines, for `TRACE`.

use std::fmt::Write;

use super::put_line;
use crate::engine::{Context, Frame};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// `FRAME time device in|out hex`, then what there is to say besides: `skipped=n` where the reader was too
/// slow for n frames before this one; and with `detail=yes` the protocol (`via=modbus`), the peer, `from=`
/// where it asks us and `to=` where we ask it, and the number of the connection.
pub(super) fn put(cx: &mut Context<'_>, frame: &Frame<'_>) {
    let _ = write!(cx, "FRAME {} {} {} ", frame.time.0, frame.name, frame.direction.as_str());
    put_hex(cx, frame.bytes);
    if frame.skipped > 0 {
        let _ = write!(cx, " skipped={}", frame.skipped);
    }
    if !frame.detailed {
        return cx.put(b"\n");
    }
    let origin = &frame.origin;
    if !origin.scheme.is_empty() {
        let _ = write!(cx, " via={}", origin.scheme);
    }
    let side = if origin.we_ask { "to" } else { "from" };
    put_line(cx, format_args!(" {side}={} conn={}", origin.peer, origin.serial));
}

fn put_hex(cx: &mut Context<'_>, bytes: &[u8]) {
    let mut hex = [0; 256];
    for part in bytes.chunks(hex.len() / 2) {
        for (digits, byte) in hex.chunks_exact_mut(2).zip(part) {
            digits[0] = DIGITS[usize::from(byte >> 4)];
            digits[1] = DIGITS[usize::from(byte & 15)];
        }
        cx.put(&hex[..2 * part.len()]);
    }
}
