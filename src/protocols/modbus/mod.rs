//! Modbus: what most control systems, panels and PLCs speak. Here is the pure part, shared by the server and
//! by the driver that polls devices: bytes in, strict types out, and back. Nothing is allocated for a
//! message.
//!
//! A frame ([`mbap`] over TCP and UDP, [`rtu`] where serial converters are at the other end) carries a unit
//! and a PDU: a [`Request`] one way, a [`Response`] or an [`Exception`] the other. An [`Address`] is how
//! people name a place in a unit, a [`Conversion`] makes a tag's value of the registers there.
//!
//! Sections are those of the *MODBUS Application Protocol Specification V1.1b3* unless another document is
//! named.

pub mod address;
pub mod convert;
mod decimal;
pub mod identification;
pub mod mbap;
pub mod pdu;
pub mod request;
pub mod response;
pub mod rtu;
pub mod server;
#[cfg(test)]
mod tests;
mod words;

pub use address::{Address, Area};
pub use convert::{Conversion, Order, Type};
pub use pdu::{Bits, Exception, Function, Mask, Pdu, Registers, Span};
pub use request::Request;
pub use response::{ReplyError, Response};
