//! Modbus: what is read of a unit, in which requests, and what is learned from its refusals.
//!
//! [`places`] says where the points of a unit lie, and [`plan`] which requests read them.

pub mod places;
pub mod plan;
