//! Lumina Server: the live data of a plant, carried by one thread.

#![forbid(unsafe_code)]

pub mod base;
