//! The protocols that peers speak to us: one file (or folder) and one row of the table each.

#[cfg(test)]
mod conformance;
mod echo;
pub mod line;
pub mod modbus;

use crate::engine::Protocol;

/// All protocols. Listener URLs, configuration, help, tests and fuzzing walk this table; nothing else knows
/// them.
pub const PROTOCOLS: &[Protocol] = &[
    line::PROTOCOL,
    line::DATAGRAM_PROTOCOL,
    modbus::server::PROTOCOL,
    modbus::server::DATAGRAM_PROTOCOL,
    modbus::server::RTU_PROTOCOL,
    echo::PROTOCOL,
];

/// The row whose listener URLs begin with `scheme`.
pub fn by_scheme(scheme: &str) -> Option<&'static Protocol> {
    PROTOCOLS.iter().find(|protocol| protocol.scheme == scheme)
}
