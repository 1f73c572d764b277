//! What came of a run, for people and for programs.

use std::fmt;
use std::time::Duration;

use crate::cli::load::{LATE_US, Latency, Outcome, Percentiles, object, per_second, text, texts};

use super::conductor::{ANSWERS_WITHIN, Conductor, Mark};
use super::plan::{Plan, Speech};
use super::run::Run;

/// From this share of its core on, the client may not have been able to do more.
const BUSY_SHARE: f64 = 0.9;
/// From this share of waiting on, others have its core too often.
const CROWDED_SHARE: f64 = 0.1;
/// Less than this share of the rate is a rate that was not reached.
const REACHED_SHARE: f64 = 0.99;

/// The figures of a run that is over. What they mean is said where they are counted.
pub(super) struct Summary<'a> {
    run: &'a Run,
    first: Mark,
    last: Mark,
    resident_before: u64,
    interrupted: bool,
}

/// One kind of what was measured.
struct Row {
    what: &'static str,
    count: u64,
    took: Percentiles,
}

/// What the client used of its core, and how long it waited for one, as shares of the time.
struct Client {
    used: f64,
    waited: f64,
}

/// What the server used from the first mark to the last.
struct Server {
    user: Duration,
    system: Duration,
    resident_before: u64,
    resident_after: u64,
}

impl<'a> Summary<'a> {
    /// Of what the conductor saw; an error if there was nothing to measure.
    pub(super) fn of(run: &'a Run, conductor: &mut Conductor) -> Result<Summary<'a>, String> {
        let (first, last) = conductor.finish()?;
        let Conductor { resident_before, interrupted, .. } = *conductor;
        Ok(Summary { run, first, last, resident_before, interrupted })
    }

    fn plan(&self) -> &Plan {
        &self.run.plan
    }

    /// What was measured.
    fn span(&self) -> Duration {
        self.run.end() - self.run.measured()
    }

    fn requests(&self) -> Row {
        let Run { counts, reads, writes, .. } = self.run;
        let count = counts.reads.value() + counts.writes.value();
        Row { what: "requests", count, took: reads.percentiles_with(writes) }
    }

    fn reads(&self) -> Row {
        Row::of("reads", self.run.counts.reads.value(), &self.run.reads)
    }

    fn writes(&self) -> Row {
        Row::of("writes", self.run.counts.writes.value(), &self.run.writes)
    }

    fn updates(&self) -> Row {
        Row::of("updates", self.run.counts.updates.value(), &self.run.updates)
    }

    /// Writes that a subscriber was not told of, as a newer one came before it was.
    fn conflated(&self) -> u64 {
        let counts = &self.run.counts;
        let told_all = counts.writes.value() * self.plan().subscribers as u64;
        told_all.saturating_sub(counts.updates.value())
    }

    fn client(&self) -> Client {
        let span = (self.last.at - self.first.at).as_secs_f64().max(f64::MIN_POSITIVE);
        let (first, last) = (self.first.own, self.last.own);
        Client {
            used: last.used.saturating_sub(first.used).as_secs_f64() / span,
            waited: last.waited.saturating_sub(first.waited).as_secs_f64() / span,
        }
    }

    fn server(&self) -> Option<Server> {
        let (first, last) = (self.first.server?, self.last.server?);
        Some(Server {
            user: last.user.saturating_sub(first.user),
            system: last.system.saturating_sub(first.system),
            resident_before: self.resident_before,
            resident_after: last.resident_bytes,
        })
    }

    /// Microseconds of something for each answer between the marks.
    fn per_answer(&self, span: Duration) -> f64 {
        let answers = self.last.answers - self.first.answers;
        if answers == 0 { 0.0 } else { span.as_secs_f64() * 1e6 / answers as f64 }
    }

    fn errors(&self) -> u64 {
        self.run.faults.count() + self.run.counts.unanswered.value()
    }

    fn reached(&self) -> u64 {
        per_second(self.requests().count, self.span())
    }

    /// What a reader of the figures must know, one line each.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        notes.extend(self.client().note());
        if let Some(pace) = self.plan().pace {
            if (self.reached() as f64) < pace.rate as f64 * REACHED_SHARE {
                let (reached, rate) = (self.reached(), pace.rate);
                notes.push(format!("the rate was not reached: {reached} of {rate} requests/s were answered"));
            }
            let late = self.run.lateness.percentiles().p99_us;
            if late >= LATE_US {
                let late = late as f64 / 1_000.0;
                notes.push(format!(
                    "requests were sent late, p99 {late:.2} ms: the client had too little of a processor, \
                     which counts as the server's time"
                ));
            }
        }
        if self.interrupted {
            notes.push("ended early, by a signal".to_owned());
        }
        notes
    }

    /// What the figures depend on; equal in runs that can be compared.
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let plan = self.plan();
        let (line, modbus) = match &plan.speech {
            Speech::Line { value_bytes, .. } => (*value_bytes, None),
            Speech::Modbus { unit, address, registers } => (None, Some((*unit, *address, *registers))),
        };
        let null = || "null".to_owned();
        vec![
            ("protocol", text(plan.speech.as_str())),
            ("connections", plan.connections.to_string()),
            ("pipeline", plan.pipeline.to_string()),
            ("rate", plan.pace.map_or_else(null, |pace| pace.rate.to_string())),
            ("writes_share", plan.writes.to_string()),
            ("tags", plan.places.to_string()),
            ("value_bytes", line.map_or_else(null, |bytes| bytes.to_string())),
            ("unit", modbus.map_or_else(null, |(unit, ..)| unit.to_string())),
            ("address", modbus.map_or_else(null, |(_, address, _)| address.to_string())),
            ("registers", modbus.map_or_else(null, |(.., registers)| registers.to_string())),
            ("subscribers", plan.subscribers.to_string()),
            ("warm_up_s", plan.warm_up.as_secs_f64().to_string()),
            ("planned_s", plan.duration.as_secs_f64().to_string()),
            ("seed", plan.seed.to_string()),
        ]
    }
}

impl Client {
    fn was_bottleneck(&self) -> bool {
        self.used + self.waited >= BUSY_SHARE
    }

    /// What it means for the figures, if it does.
    fn note(&self) -> Option<String> {
        let [percent, waits] = [self.used, self.waited].map(|share| share * 100.0);
        if self.used >= BUSY_SHARE {
            Some(format!(
                "the client was the bottleneck: it used {percent:.0} % of its core; the server may be faster \
                 than this. Run several at once, each with another --name, or on another machine"
            ))
        } else if self.was_bottleneck() {
            Some(format!(
                "the client was the bottleneck: it used {percent:.0} % of a core and waited for one for \
                 {waits:.0} % of the time, which others had; the server may be faster than this"
            ))
        } else if self.waited >= CROWDED_SHARE {
            Some(format!(
                "the client waited for a processor for {waits:.0} % of the time, which others had; that is in \
                 all times"
            ))
        } else {
            None
        }
    }
}

impl Row {
    fn of(what: &'static str, count: u64, latency: &Latency) -> Row {
        Row { what, count, took: latency.percentiles() }
    }

    fn fields(&self, span: Duration) -> [(String, String); 7] {
        let Row { what, count, took } = self;
        let Percentiles { p50_us, p90_us, p99_us, p999_us, max_us } = took;
        let field = |name: &str, figure: u64| (format!("{what}{name}"), figure.to_string());
        [
            field("", *count),
            field("_per_s", per_second(*count, span)),
            field("_p50_us", *p50_us),
            field("_p90_us", *p90_us),
            field("_p99_us", *p99_us),
            field("_p999_us", *p999_us),
            field("_max_us", *max_us),
        ]
    }
}

impl Outcome for Summary<'_> {
    fn complaints(&self) -> Vec<String> {
        let mut complaints = self.run.faults.lines();
        let counts = &self.run.counts;
        let (lost, unanswered) = (counts.lost.value(), counts.unanswered.value());
        if lost > 0 {
            let all = self.plan().connections + self.plan().subscribers;
            complaints.push(format!("{lost} of {all} connections were lost; the others went on"));
        }
        if unanswered > 0 {
            let seconds = ANSWERS_WITHIN.as_secs();
            complaints.push(format!(
                "{unanswered} requests were not answered, up to {seconds} s after the end; in the figures \
                 they took until then"
            ));
        }
        complaints
    }

    fn json(&self) -> String {
        let (counts, span) = (&self.run.counts, self.span());
        let mut fields: Vec<(String, String)> = vec![
            ("version".to_owned(), text(env!("CARGO_PKG_VERSION"))),
            ("url".to_owned(), text(&self.plan().url)),
        ];
        fields.extend(self.parameters().into_iter().map(|(key, value)| (key.to_owned(), value)));
        fields.push(("duration_s".to_owned(), format!("{:.3}", span.as_secs_f64())));
        for row in [self.requests(), self.reads(), self.writes(), self.updates()] {
            fields.extend(row.fields(span));
        }
        let lateness = self.run.lateness.percentiles();
        let numbers = [
            ("conflated", self.conflated()),
            ("errors", self.errors()),
            ("refused", counts.refused.value()),
            ("wrong", counts.wrong.value()),
            ("unanswered", counts.unanswered.value()),
            ("lost_connections", counts.lost.value()),
            ("queued", counts.queued.value()),
            ("unsent", counts.unsent.value()),
            ("late_p99_us", lateness.p99_us),
            ("late_max_us", lateness.max_us),
        ];
        fields.extend(numbers.map(|(key, number)| (key.to_owned(), number.to_string())));
        let client = self.client();
        let mut shares = vec![
            ("client_cpu_share", format!("{:.3}", client.used)),
            ("client_waited_share", format!("{:.3}", client.waited)),
            ("client_was_bottleneck", client.was_bottleneck().to_string()),
        ];
        let server = self.server();
        let figure = |of: &dyn Fn(&Server) -> String| server.as_ref().map_or("null".to_owned(), of);
        let elapsed = (self.last.at - self.first.at).as_secs_f64().max(f64::MIN_POSITIVE);
        let us = |span: Duration| format!("{:.3}", self.per_answer(span));
        shares.extend([
            ("server_cpu_us_per_request", figure(&|server| us(server.user + server.system))),
            ("server_user_us_per_request", figure(&|server| us(server.user))),
            ("server_system_us_per_request", figure(&|server| us(server.system))),
            (
                "server_cpu_share",
                figure(&|server| format!("{:.3}", (server.user + server.system).as_secs_f64() / elapsed)),
            ),
            ("server_rss_before_bytes", figure(&|server| server.resident_before.to_string())),
            ("server_rss_after_bytes", figure(&|server| server.resident_after.to_string())),
            ("interrupted", self.interrupted.to_string()),
            ("notes", texts(&self.notes())),
            ("complaints", texts(&self.complaints())),
        ]);
        fields.extend(shares.into_iter().map(|(key, value)| (key.to_owned(), value)));
        let fields: Vec<(&str, String)> =
            fields.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        object(&fields)
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (plan, counts, span) = (self.plan(), &self.run.counts, self.span());
        let (connections, pipeline, writes) = (plan.connections, plan.pipeline, plan.writes * 100.0);
        write!(f, "{}, {:.1} s: {connections} connections, ", plan.url, span.as_secs_f64())?;
        match plan.pace {
            None => write!(f, "{pipeline} in flight on each")?,
            Some(pace) => write!(f, "{} requests/s, {pipeline} in flight on each at most", pace.rate)?,
        }
        write!(f, ", {writes:.0} % writes, {} ", plan.places)?;
        match &plan.speech {
            Speech::Line { value_bytes: None, .. } => writeln!(f, "tags")?,
            Speech::Line { value_bytes: Some(bytes), .. } => writeln!(f, "tags of {bytes} bytes")?,
            Speech::Modbus { registers, .. } => writeln!(f, "block(s) of {registers} registers")?,
        }
        writeln!(
            f,
            "\n{:<9}{:>11}{:>11}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "ms", "count", "a second", "p50", "p90", "p99", "p99.9", "max"
        )?;
        let mut rows = vec![self.requests()];
        if counts.reads.value() > 0 && counts.writes.value() > 0 {
            rows.extend([self.reads(), self.writes()]);
        }
        if plan.subscribers > 0 {
            rows.push(self.updates());
        }
        for Row { what, count, took } in rows {
            write!(f, "{what:<9}{count:>11}{:>11}", per_second(count, span))?;
            for us in [took.p50_us, took.p90_us, took.p99_us, took.p999_us, took.max_us] {
                write!(f, "{:>10.3}", us as f64 / 1_000.0)?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        if plan.subscribers > 0 {
            let (subscribers, conflated) = (plan.subscribers, self.conflated());
            writeln!(f, "conflated {conflated} writes, of which {subscribers} subscribers saw a newer one")?;
        }
        if plan.pace.is_some() {
            let Percentiles { p99_us, max_us, .. } = self.run.lateness.percentiles();
            let [p99, max] = [p99_us, max_us].map(|us| us as f64 / 1_000.0);
            writeln!(
                f,
                "late      p99 {p99:.3} ms, max {max:.3} ms: sent after they were due, by the client"
            )?;
            let (queued, unsent) = (counts.queued.value(), counts.unsent.value());
            writeln!(f, "queued    {queued} behind others of their connection; {unsent} were never sent")?;
        }
        writeln!(f, "errors    {}", self.errors())?;
        if let Some(Server { user, system, resident_before, resident_after }) = self.server() {
            let [user_us, system_us] = [user, system].map(|span| self.per_answer(span));
            let share = (user + system).as_secs_f64() / (self.last.at - self.first.at).as_secs_f64() * 100.0;
            let [before, after] = [resident_before, resident_after].map(|bytes| bytes as f64 / 1_048_576.0);
            writeln!(
                f,
                "server    {:.2} µs of CPU a request (user {user_us:.2}, system {system_us:.2}), {share:.0} % \
                 of a core; {before:.1} MiB before, {after:.1} MiB after",
                user_us + system_us
            )?;
        }
        let Client { used, waited } = self.client();
        let (used, waited) = (used * 100.0, waited * 100.0);
        write!(f, "client    {used:.0} % of its core, waited for it {waited:.0} % of the time")?;
        self.notes().iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_the_bottleneck_was() {
        let check = |used, waited, was_bottleneck, part: &str| {
            let client = Client { used, waited };
            assert_eq!(client.was_bottleneck(), was_bottleneck, "{used} {waited}");
            let note = client.note().unwrap_or_default();
            assert!(note.contains(part) && note.is_empty() == part.is_empty(), "{used} {waited}: {note}");
        };
        check(0.5, 0.05, false, "");
        check(0.98, 0.0, true, "it used 98 % of its core; the server may be faster");
        check(0.6, 0.35, true, "used 60 % of a core and waited for one for 35 % of the time");
        check(0.3, 0.2, false, "waited for a processor for 20 % of the time");
    }
}
