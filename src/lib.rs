//! Lumina Server: the live data of a plant, carried by one thread.
//!
//! In reading order: [`tags`] is what is carried, [`engine`] carries it, [`protocols`] are how peers speak of
//! it, [`drivers`] fetch it from devices, the [`reactor`] connects the engine to sockets and clocks, and
//! [`server`] puts them together.

#![forbid(unsafe_code)]

pub mod base;
pub mod cli;
pub mod config;
pub mod drivers;
pub mod engine;
#[cfg(any(test, feature = "simulation"))]
pub mod fuzz;
pub mod metrics;
pub mod protocols;
pub mod reactor;
pub mod security;
pub mod server;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
pub mod tags;
