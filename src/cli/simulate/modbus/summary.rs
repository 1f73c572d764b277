//! What came of a run, for people and for programs.

use std::fmt;
use std::time::Duration;

use super::faults::{FAULTS, Fault};
use super::plant::Plant;
use crate::cli::load::{LATE_US, Outcome, Percentiles, object, per_second, text, texts};

/// The figures of a run that is over. What they mean is said where they are counted.
pub(super) struct Summary {
    places: String,
    slaves: u32,
    asked: u64,
    connections: u64,
    requests: u64,
    answers: u64,
    exceptions: u64,
    overruns: u64,
    elsewhere: u64,
    unsent: u64,
    violations: u64,
    strays: u64,
    written: u64,
    faults: Vec<OfFault>,
    lateness: Percentiles,
    /// The whole run.
    duration: Duration,
    served: Served,
}

struct OfFault {
    fault: Fault,
    slaves: u64,
    requests: u64,
    deeds: u64,
}

/// From the first request on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Served {
    pub(super) span: Duration,
    /// Processor time of this process.
    pub(super) cpu: Duration,
}

impl Summary {
    pub(super) fn of(plant: &Plant, duration: Duration, served: Served) -> Summary {
        let counts = &plant.counts;
        let of_fault = |fault: Fault| {
            let counts = counts.of(fault);
            let (slaves, requests) = (counts.slaves.value(), counts.requests.value());
            OfFault { fault, slaves, requests, deeds: counts.deeds.value() }
        };
        Summary {
            places: plant.places.describe(),
            slaves: plant.places.slaves(),
            asked: counts.asked.value(),
            connections: counts.connections.value(),
            requests: counts.requests.value(),
            answers: counts.answers.value(),
            exceptions: counts.exceptions.value(),
            overruns: counts.overruns.value(),
            elsewhere: counts.elsewhere.value(),
            unsent: counts.unsent.value(),
            violations: counts.violations.value(),
            strays: counts.strays.value(),
            written: counts.written.value(),
            faults: FAULTS.map(of_fault).into(),
            lateness: plant.lateness.percentiles(),
            duration,
            served,
        }
    }

    fn requests_per_second(&self) -> u64 {
        per_second(self.requests, self.served.span)
    }

    /// Of one core.
    fn cpu_percent(&self) -> f64 {
        let seconds = self.served.span.as_secs_f64();
        if seconds > 0.0 { 100.0 * self.served.cpu.as_secs_f64() / seconds } else { 0.0 }
    }
}

impl Outcome for Summary {
    fn complaints(&self) -> Vec<String> {
        let Summary { violations, .. } = self;
        if *violations == 0 {
            return Vec::new();
        }
        vec![format!("{violations} connections were closed: what came there is not Modbus")]
    }

    fn json(&self) -> String {
        let mut fields = vec![
            ("places", text(&self.places)),
            ("devices", self.slaves.to_string()),
            ("asked", self.asked.to_string()),
            ("connections", self.connections.to_string()),
            ("requests", self.requests.to_string()),
            ("answers", self.answers.to_string()),
            ("exceptions", self.exceptions.to_string()),
            ("overruns", self.overruns.to_string()),
            ("elsewhere", self.elsewhere.to_string()),
            ("unsent", self.unsent.to_string()),
            ("violations", self.violations.to_string()),
            ("strays", self.strays.to_string()),
            ("written", self.written.to_string()),
            ("requests_per_s", self.requests_per_second().to_string()),
            ("late_p99_us", self.lateness.p99_us.to_string()),
            ("duration_s", format!("{:.3}", self.duration.as_secs_f64())),
            ("served_s", format!("{:.3}", self.served.span.as_secs_f64())),
            ("cpu_s", format!("{:.3}", self.served.cpu.as_secs_f64())),
            ("cpu_percent", format!("{:.1}", self.cpu_percent())),
        ];
        let names: Vec<[String; 3]> = self
            .faults
            .iter()
            .map(|of| ["slaves", "requests", "faults"].map(|what| format!("{}_{what}", of.fault.name())))
            .collect();
        for (of, [slaves, requests, deeds]) in self.faults.iter().zip(&names) {
            fields.push((slaves, of.slaves.to_string()));
            fields.push((requests, of.requests.to_string()));
            fields.push((deeds, of.deeds.to_string()));
        }
        fields.push(("complaints", texts(&self.complaints())));
        object(&fields)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.duration.as_secs_f64();
        writeln!(f, "{seconds:.1} s of {} slaves at {}", self.slaves, self.places)?;
        writeln!(f, "asked      {} slaves, by {} connections", self.asked, self.connections)?;
        let rate = self.requests_per_second();
        writeln!(f, "requests   {}, {rate} requests/s from the first one on", self.requests)?;
        writeln!(f, "answered   {}, of which {} by an exception", self.answers, self.exceptions)?;
        for OfFault { fault, slaves, requests, deeds } in self.faults.iter().filter(|of| of.slaves > 0) {
            let (name, what) = (fault.name(), fault.deeds());
            writeln!(f, "{name:<10} {slaves} slaves: {deeds} of {requests} requests {what}")?;
        }
        #[rustfmt::skip]
        let others = [
            ("written",   self.written,   "coils and registers that no longer follow their signal"),
            ("unsent",    self.unsent,    "answers: the connection ended before they were due"),
            ("overruns",  self.overruns,  "requests answered with exception 6: too many at once"),
            ("elsewhere", self.elsewhere, "requests answered with exception 10: there is no such unit"),
            ("strays",    self.strays,    "connections to addresses where no slave is"),
        ];
        for (name, count, what) in others.into_iter().filter(|(_, count, _)| *count > 0) {
            writeln!(f, "{name:<10} {count} {what}")?;
        }
        write!(
            f,
            "CPU        {:.2} s, {:.1} % of a core",
            self.served.cpu.as_secs_f64(),
            self.cpu_percent()
        )?;
        if self.lateness.p99_us >= LATE_US {
            let late = self.lateness.p99_us as f64 / 1_000.0;
            write!(f, "\nlate       p99 {late:.2} ms: this process had too little of a processor")?;
        }
        Ok(())
    }
}
