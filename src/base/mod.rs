//! What every other module may use, and what uses none of them.

pub mod time;
