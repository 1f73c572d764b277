//! Drivers: what is polled, when, and what a device's silence or refusal means for it and for others.
//!
//! Here are the parts without a connection, plain data that is handed times and outcomes: [`schedule`] says
//! when to poll, [`round_trip`] how long to wait for a reply, [`breaker`] and [`dead_share`] whether to ask a
//! device that did not answer, and [`backoff`] when to connect again. They serve any protocol in which we ask
//! and a device answers; what is a protocol's own is in a folder of its name.

pub mod backoff;
pub mod breaker;
pub mod dead_share;
pub mod modbus;
pub mod round_trip;
pub mod schedule;
