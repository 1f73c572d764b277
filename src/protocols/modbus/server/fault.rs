//! What is wrong with a write, as Modbus says it.

use super::super::pdu::Exception;
use crate::tags::{Limit, Refusal};

/// The one place where refusals get their exception.
impl From<Refusal> for Exception {
    fn from(refusal: Refusal) -> Exception {
        match refusal {
            Refusal::Denied | Refusal::TakenOver => Exception::IllegalFunction,
            Refusal::NoSuchTag | Refusal::NoSuchPoint | Refusal::NoSuchSubscription | Refusal::ReadOnly => {
                Exception::IllegalDataAddress
            }
            Refusal::OutOfRange | Refusal::DoesNotFit(_) => Exception::IllegalDataValue,
            Refusal::Device { code: Some(code), .. } => Exception::from_code(code),
            Refusal::Timeout => Exception::GatewayTargetDeviceFailedToRespond,
            Refusal::Offline => Exception::GatewayPathUnavailable,
            Refusal::Limit(Limit::PendingWrites(_)) => Exception::ServerDeviceBusy,
            Refusal::WrongType(_) | Refusal::ValueOnly | Refusal::Device { code: None, .. } => {
                Exception::ServerDeviceFailure
            }
            Refusal::Limit(_) => Exception::ServerDeviceFailure,
        }
    }
}
