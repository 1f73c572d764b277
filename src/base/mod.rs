//! What every other module may use, and what uses none of them.

pub mod bell;
pub mod host;
pub mod log;
#[cfg(test)]
pub(crate) mod mutants;
pub mod order;
pub mod random;
pub mod section;
pub mod time;
pub mod timers;
