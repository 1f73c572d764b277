//! Why a request was refused though it was well-formed: a policy, a limit, or the state of the tag or its
//! device.

use std::borrow::Cow;
use std::fmt;

use super::value::Kind;

/// A well-formed request that is not carried out. Each protocol maps it to its own wire answer in one
/// function; the `Display` text is for people.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// No such tag.
    NoSuchTag,
    /// The polled device below whose name the tag would be has none of that name.
    NoSuchPoint,
    /// No such subscription.
    NoSuchSubscription,
    /// The tag cannot be written.
    ReadOnly,
    /// What a device owns, or a memory holds, is written a value, with neither a quality nor a time.
    ValueOnly,
    /// The tag's type cannot hold the value.
    WrongType(Kind),
    /// Outside the tag's declared limits.
    OutOfRange,
    /// What the value is written to cannot hold it, for this reason.
    DoesNotFit(&'static str),
    /// The peer has no right to it.
    Denied,
    /// Another connection speaks for the peer's device by now.
    TakenOver,
    /// The device refused.
    Device {
        /// Its own reason, for people.
        reason: Cow<'static, str>,
        /// Its code, where its protocol has one; passed on unchanged to who speaks the same.
        code: Option<u8>,
    },
    /// The device did not answer in time; the write may or may not have happened.
    Timeout,
    /// Nothing was sent: the device is not connected, is held off, or the order expired.
    Offline,
    /// A limit of the server is reached.
    Limit(Limit),
}

/// A limit of the server, with its setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `max_tags`
    Tags(usize),
    /// `max_text`, in bytes
    Text(usize),
    /// `max_subscriptions` of one connection
    Subscriptions(usize),
    /// `max_connections`
    Connections(usize),
    /// Writes that wait for devices
    PendingWrites(usize),
    /// Traces at once, of all connections (`trace_memory`)
    Traces(usize),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoSuchTag => f.write_str("no such tag"),
            Refusal::NoSuchPoint => {
                f.write_str("no such tag: the configuration gives this polled device none")
            }
            Refusal::NoSuchSubscription => f.write_str("no such subscription"),
            Refusal::ReadOnly => f.write_str("the tag cannot be written"),
            Refusal::ValueOnly => f.write_str("this tag is written a value, without quality and time"),
            Refusal::WrongType(kind) => {
                write!(f, "the tag's type is {} and cannot hold the value", kind.as_str())
            }
            Refusal::OutOfRange => f.write_str("the value is outside the tag's limits"),
            Refusal::DoesNotFit(why) => f.write_str(why),
            Refusal::Denied => f.write_str("this peer may not do that (the listener's read and write)"),
            Refusal::TakenOver => f.write_str("another connection speaks for this device by now"),
            Refusal::Device { reason, .. } => f.write_str(reason),
            Refusal::Timeout => f.write_str("the device did not answer in time; the write may have happened"),
            Refusal::Offline => f.write_str(
                "the device is not connected, silent, paused or busy for write_expiry; nothing was sent",
            ),
            Refusal::Limit(limit) => limit.fmt(f),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Tags(most) => write!(f, "tags: this server holds at most {most} (max_tags)"),
            Limit::Text(most) => write!(f, "text: a value has at most {most} bytes (max_text)"),
            Limit::Subscriptions(most) => {
                write!(f, "subscriptions: a connection has at most {most} (max_subscriptions)")
            }
            Limit::Connections(most) => {
                write!(f, "connections: this server serves at most {most} (max_connections)")
            }
            Limit::PendingWrites(most) => write!(f, "pending writes: at most {most} wait for devices"),
            Limit::Traces(most) => {
                write!(f, "traces: this server follows at most {most} at once (trace_memory)")
            }
        }
    }
}

impl std::error::Error for Refusal {}
