//! Modbus: what is read of a unit, in which requests, and what is learned from its refusals.
//!
//! [`places`] says where the points of a unit lie, [`plan`] which requests read them, and [`quarantine`]
//! which of those are sent once the unit has refused some.

pub mod places;
pub mod plan;
pub mod quarantine;
