//! What came of a run, for people and for programs.

use std::fmt;
use std::time::Duration;

use super::run::{Run, Verdict};
use crate::cli::load::{LATE_US, Outcome, Percentiles, object, per_second, text, texts};

/// The figures of a run that is over. What they mean is said where they are counted.
pub(super) struct Summary {
    url: String,
    devices: usize,
    connected: usize,
    connections: u64,
    reports: u64,
    sent: u64,
    confirmed: u64,
    unknown: u64,
    missed: u64,
    lost: u64,
    verdict: Verdict,
    errors: u64,
    what: Vec<String>,
    subscribers: usize,
    updates: u64,
    faults: u64,
    latency: Percentiles,
    lateness: Percentiles,
    duration: Duration,
    interrupted: bool,
}

impl Summary {
    /// Of a run that reported for `duration`.
    pub(super) fn of(
        run: &Run,
        url: String,
        subscribers: usize,
        duration: Duration,
        interrupted: bool,
    ) -> Summary {
        let (counts, ledger) = (&run.counts, run.ledger());
        Summary {
            url,
            devices: ledger.devices(),
            connected: ledger.greeted(),
            connections: counts.connections.value(),
            reports: counts.reports.value(),
            sent: counts.sent.value(),
            confirmed: counts.confirmed.value(),
            unknown: counts.unknown.value(),
            missed: counts.missed.value(),
            lost: ledger.lost(),
            verdict: run.verdict().clone(),
            errors: run.faults.count(),
            what: run.faults.lines(),
            subscribers,
            updates: counts.updates.value(),
            faults: counts.faults.value(),
            latency: run.latency.percentiles(),
            lateness: run.lateness.percentiles(),
            duration,
            interrupted,
        }
    }

    fn per_second(&self, count: u64) -> u64 {
        per_second(count, self.duration)
    }
}

impl Outcome for Summary {
    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        match &self.verdict {
            Verdict::Known if self.lost > 0 => {
                complaints.push(format!("{} confirmed values are not on the server", self.lost));
            }
            Verdict::Known => {}
            Verdict::Failed(why) => complaints
                .push(format!("the server could not be asked for the confirmed values at the end: {why}")),
            Verdict::Asking => {
                complaints.push("the server was not asked for the confirmed values".to_owned())
            }
        }
        // A run that was ended at once has not come to connecting all.
        if self.connected < self.devices && !self.interrupted {
            complaints.push(format!("{} of {} devices connected", self.connected, self.devices));
        }
        complaints.extend_from_slice(&self.what);
        complaints
    }

    fn json(&self) -> String {
        let Percentiles { p50_us, p99_us, p999_us, max_us, .. } = self.latency;
        let fields: [(&str, String); 24] = [
            ("url", text(&self.url)),
            ("devices", self.devices.to_string()),
            ("connected", self.connected.to_string()),
            ("connections", self.connections.to_string()),
            ("reports", self.reports.to_string()),
            ("sent", self.sent.to_string()),
            ("confirmed", self.confirmed.to_string()),
            ("unknown", self.unknown.to_string()),
            ("missed", self.missed.to_string()),
            ("lost", self.lost.to_string()),
            ("verified", (self.verdict == Verdict::Known).to_string()),
            ("errors", self.errors.to_string()),
            ("subscribers", self.subscribers.to_string()),
            ("updates", self.updates.to_string()),
            ("faults", self.faults.to_string()),
            ("reports_per_s", self.per_second(self.reports).to_string()),
            ("confirmed_per_s", self.per_second(self.confirmed).to_string()),
            ("p50_us", p50_us.to_string()),
            ("p99_us", p99_us.to_string()),
            ("p999_us", p999_us.to_string()),
            ("max_us", max_us.to_string()),
            ("late_p99_us", self.lateness.p99_us.to_string()),
            ("duration_s", format!("{:.3}", self.duration.as_secs_f64())),
            ("complaints", texts(&self.complaints())),
        ];
        object(&fields)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.duration.as_secs_f64();
        writeln!(f, "{seconds:.1} s of reports to {}", self.url)?;
        let (connected, devices, connections) = (self.connected, self.devices, self.connections);
        writeln!(f, "connected  {connected} of {devices} devices, by {connections} connections")?;
        let (reports, rate) = (self.reports, self.per_second(self.reports));
        writeln!(f, "sent       {} values in {reports} reports, {rate} reports/s", self.sent)?;
        let rate = self.per_second(self.confirmed);
        writeln!(f, "confirmed  {} values, {rate} values/s", self.confirmed)?;
        if self.unknown > 0 {
            writeln!(f, "unknown    {} values: cut off before the answer", self.unknown)?;
        }
        if self.missed > 0 {
            writeln!(f, "missed     {} reports: their device was away, or the server behind", self.missed)?;
        }
        writeln!(f, "lost       {} confirmed values", self.lost)?;
        writeln!(f, "errors     {}", self.errors)?;
        if self.subscribers > 0 {
            writeln!(f, "updates    {} to {} subscribers", self.updates, self.subscribers)?;
        }
        if self.faults > 0 {
            writeln!(f, "faults     {} by faulty peers", self.faults)?;
        }
        let Percentiles { p50_us, p99_us, p999_us, max_us, .. } = self.latency;
        let [p50, p99, p999, max] = [p50_us, p99_us, p999_us, max_us].map(|us| us as f64 / 1_000.0);
        write!(f, "answered   p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, max {max:.2} ms")?;
        f.write_str(" after a report was due")?;
        if self.lateness.p99_us >= LATE_US {
            let late = self.lateness.p99_us as f64 / 1_000.0;
            write!(
                f,
                "\nlate       p99 {late:.2} ms: this process had too little of a processor, which counts"
            )?;
        }
        Ok(())
    }
}
