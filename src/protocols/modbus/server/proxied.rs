//! A unit that is a polled device: what masters ask of it is asked of the device, over the one connection
//! that its driver has.

use std::time::Duration;

use super::super::pdu::{Exception, Pdu};
use super::super::request::Request;
use super::Outcome;
use crate::engine::Context;
use crate::tags::OwnerId;

/// The way to a device.
pub(super) struct Proxied {
    pub(super) device: Box<str>,
    pub(super) owner: OwnerId,
    /// An answer to the same request that is younger is good enough; 0: the device is asked each time.
    pub(super) max_age: Duration,
}

impl Proxied {
    /// Pass a request on. What the device answers is the reply, exceptions included.
    pub(super) fn execute(&self, cx: &mut Context<'_>, request: &Request<'_>) -> Result<Outcome, Exception> {
        let mut pdu = Pdu::new();
        request.encode(&mut pdu);
        let ticket = cx.ask(self.owner, pdu[..].into(), self.max_age)?;
        Ok(Outcome::Pending(vec![ticket]))
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        match self.max_age {
            Duration::ZERO => format!("the device {}", self.device),
            age => format!("the device {}, answers shared for {age:?}", self.device),
        }
    }
}
