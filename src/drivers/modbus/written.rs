//! What was written of late: a poll that was sent before says nothing of it.

use std::time::Duration;

use super::points::PointSettings;
use crate::base::time::Tick;
use crate::protocols::modbus::{Area, Span};

/// Writes that are over, and since when.
pub(super) struct Written {
    writes: Vec<(Area, Span, Tick)>,
    /// No request that is under way was sent longer ago.
    timeout: Duration,
}

impl Written {
    pub(super) fn new(timeout: Duration) -> Written {
        Written { writes: Vec::new(), timeout }
    }

    pub(super) fn note(&mut self, area: Area, span: Span, now: Tick) {
        self.writes.retain(|(of, part, _)| *of != area || *part != span);
        self.forget_old(now);
        self.writes.push((area, span, now));
    }

    pub(super) fn forget_old(&mut self, now: Tick) {
        self.writes.retain(|(.., confirmed)| now - *confirmed <= self.timeout);
    }

    pub(super) fn clear(&mut self) {
        self.writes.clear();
    }

    /// Whether some of the point was written after `sent`.
    #[inline]
    pub(super) fn is_newer(&self, point: &PointSettings, sent: Tick) -> bool {
        !self.writes.is_empty() && self.is_written_since(point, sent)
    }

    fn is_written_since(&self, point: &PointSettings, sent: Tick) -> bool {
        let (area, span) = (point.address.area(), point.span());
        self.writes
            .iter()
            .any(|(of, part, confirmed)| *of == area && part.overlaps(span) && sent < *confirmed)
    }
}
