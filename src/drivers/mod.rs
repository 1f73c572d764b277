//! Drivers: what is polled, when, and what a device's silence or refusal means for it and for others.
//!
//! Here are the parts without a connection: plain data that is handed times and outcomes. Those of this level
//! serve any protocol in which we ask and a device answers; a protocol's own are in a folder of its name.

pub mod backoff;
pub mod breaker;
pub mod dead_share;
pub mod modbus;
pub mod round_trip;
pub mod schedule;
