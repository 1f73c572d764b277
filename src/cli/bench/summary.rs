//! What came of a run, for people and for programs.

use std::fmt;
use std::time::Duration;

use crate::cli::load::{LATE_US, Latency, Outcome, Percentiles, per_second};

use super::conductor::{Conductor, Mark};
use super::json::Fields;
use super::plan::{Plan, Speech};
use super::run::{Done, Run};

/// From this share of its core on, the client may not have been able to do more.
const BUSY_SHARE: f64 = 0.9;
/// From this share of waiting on, others have its core too often.
const CROWDED_SHARE: f64 = 0.1;
/// Less than this share of the rate is a rate that was not reached.
const REACHED_SHARE: f64 = 0.99;

/// Microseconds of what was measured.
type Figure = fn(&Percentiles) -> u64;

/// What is told of times, and where it stands.
const FIGURES: [(&str, Figure); 5] = [
    ("p50", |took| took.p50_us),
    ("p90", |took| took.p90_us),
    ("p99", |took| took.p99_us),
    ("p999", |took| took.p999_us),
    ("max", |took| took.max_us),
];

/// The figures of a run that is over. What they mean is said where they are counted.
pub(super) struct Summary<'a> {
    run: &'a Run,
    first: Mark,
    last: Mark,
    /// How long after the end the last answers were waited for.
    waited: Duration,
    /// The server's process, if it is known.
    pid: Option<u32>,
    resident_before: u64,
    interrupted: bool,
}

/// One kind of what was measured.
struct Row {
    what: &'static str,
    /// Of those that were due in the time that is measured, whenever they came.
    count: u64,
    /// Of those that came in that time, whenever they were due: a backlog that comes after the end is no
    /// speed. `None` where the run has none of them.
    a_second: Option<u64>,
    /// `None` where nothing was measured.
    took: Option<Percentiles>,
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
        let Conductor { waited, resident_before, interrupted, .. } = *conductor;
        Ok(Summary { run, first, last, waited, pid: conductor.pid(), resident_before, interrupted })
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
        let was_measured = !(reads.is_empty() && writes.is_empty());
        Row {
            what: "requests",
            count: counts.reads.value() + counts.writes.value(),
            a_second: Some(self.reached()),
            took: was_measured.then(|| reads.percentiles_with(writes)),
        }
    }

    /// Requests that were answered in a second.
    fn reached(&self) -> u64 {
        self.a_second(|done| done.reads + done.writes)
    }

    fn reads(&self) -> Row {
        let Run { counts, reads, .. } = self.run;
        let a_second = (self.plan().writes < 1.0).then(|| self.a_second(|done| done.reads));
        Row { what: "reads", count: counts.reads.value(), a_second, took: measured(reads) }
    }

    fn writes(&self) -> Row {
        let Run { counts, writes, .. } = self.run;
        let a_second = (self.plan().writes > 0.0).then(|| self.a_second(|done| done.writes));
        Row { what: "writes", count: counts.writes.value(), a_second, took: measured(writes) }
    }

    fn updates(&self) -> Row {
        let Run { counts, updates, .. } = self.run;
        let a_second = (self.plan().subscribers > 0).then(|| self.a_second(|done| done.updates));
        Row { what: "updates", count: counts.updates.value(), a_second, took: measured(updates) }
    }

    /// How many of something came in a second from the first mark to the last.
    fn a_second(&self, of: impl Fn(Done) -> u64) -> u64 {
        per_second(of(self.last.done) - of(self.first.done), self.last.at - self.first.at)
    }

    /// Writes that a subscriber was not told of, as a newer one came before it was. `None` where nobody has
    /// subscribed.
    fn conflated(&self) -> Option<u64> {
        let (counts, subscribers) = (&self.run.counts, self.plan().subscribers as u64);
        let told_all = counts.writes.value() * subscribers;
        (subscribers > 0).then(|| told_all.saturating_sub(counts.updates.value()))
    }

    fn client(&self) -> Client {
        let span = self.marked_seconds();
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

    /// Microseconds of something for each answer between the marks, if there were any.
    fn per_answer(&self, span: Duration) -> Option<f64> {
        let answers = self.last.answers - self.first.answers;
        (answers > 0).then(|| span.as_secs_f64() * 1e6 / answers as f64)
    }

    fn errors(&self) -> u64 {
        self.run.faults.count() + self.run.counts.unanswered.value()
    }

    /// What a reader of the figures must know, one line each.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        notes.extend(self.client().note(self.plan()));
        if let Some(pace) = self.plan().pace {
            let (reached, rate) = (self.reached(), pace.rate);
            if (reached as f64) < rate as f64 * REACHED_SHARE {
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
        if self.run.counts.foreign.value() > 0 {
            let (what, who) = match self.plan().speech {
                Speech::Line { .. } => ("tags", "another bench with the same --name"),
                Speech::Modbus { .. } => ("registers", "another bench, or what the device itself does"),
            };
            notes.push(format!(
                "there were values that this run did not write, or not last: somebody else may write these \
                 {what}, such as {who}"
            ));
        }
        if let Some(pid) = self.pid.filter(|_| self.server().is_none()) {
            notes.push(format!(
                "process {pid} was gone before the end, so its CPU time and memory are not known (--pid)"
            ));
        }
        if self.interrupted {
            notes.push("ended early, by a signal".to_owned());
        }
        notes
    }

    /// What the figures depend on; equal in runs that can be compared.
    fn put_parameters(&self, fields: &mut Fields) {
        let plan = self.plan();
        let (line, modbus) = match &plan.speech {
            Speech::Line { value_bytes, .. } => (*value_bytes, None),
            Speech::Modbus { unit, address, registers } => {
                (None, Some([(*unit).into(), *address, *registers]))
            }
        };
        fields.text("protocol", plan.speech.as_str());
        fields.number("connections", plan.connections as u64);
        fields.number("pipeline", plan.pipeline as u64);
        fields.maybe("rate", plan.pace.map(|pace| pace.rate));
        fields.decimal("writes_share", Some(plan.writes));
        fields.number("tags", plan.places as u64);
        fields.maybe("value_bytes", line.map(|bytes| bytes as u64));
        for (at, key) in ["unit", "address", "registers"].into_iter().enumerate() {
            fields.maybe(key, modbus.map(|of: [u16; 3]| of[at].into()));
        }
        fields.number("subscribers", plan.subscribers as u64);
        fields.decimal("warm_up_s", Some(plan.warm_up.as_secs_f64()));
        fields.decimal("planned_s", Some(plan.duration.as_secs_f64()));
        fields.number("seed", plan.seed);
    }

    fn put_figures(&self, fields: &mut Fields) {
        let counts = &self.run.counts;
        fields.decimal("duration_s", Some(self.span().as_secs_f64()));
        for Row { what, count, a_second, took } in
            [self.requests(), self.reads(), self.writes(), self.updates()]
        {
            fields.number(what, count);
            fields.maybe(&format!("{what}_per_s"), a_second);
            for (figure, of) in FIGURES {
                fields.maybe(&format!("{what}_{figure}_us"), took.as_ref().map(of));
            }
        }
        fields.maybe("conflated", self.conflated());
        for (key, number) in [
            ("errors", self.errors()),
            ("refused", counts.refused.value()),
            ("wrong", counts.wrong.value()),
            ("unanswered", counts.unanswered.value()),
            ("lost_connections", counts.lost.value()),
        ] {
            fields.number(key, number);
        }
        let is_open = self.plan().pace.is_some();
        fields.maybe("queued", is_open.then(|| counts.queued.value()));
        fields.maybe("unsent", is_open.then(|| counts.unsent.value()));
        let late = measured(&self.run.lateness);
        fields.maybe("late_p99_us", late.map(|late| late.p99_us));
        fields.maybe("late_max_us", late.map(|late| late.max_us));
    }

    fn put_processes(&self, fields: &mut Fields) {
        let client = self.client();
        fields.decimal("client_cpu_share", Some(client.used));
        fields.decimal("client_waited_share", Some(client.waited));
        fields.flag("client_was_bottleneck", client.was_bottleneck());
        let server = self.server();
        let used = server.as_ref().map(|server| [server.user + server.system, server.user, server.system]);
        let kinds = ["cpu", "user", "system"];
        for (at, kind) in kinds.into_iter().enumerate() {
            let per_request = used.and_then(|used| self.per_answer(used[at]));
            fields.decimal(&format!("server_{kind}_us_per_request"), per_request);
        }
        fields.decimal("server_cpu_share", used.map(|used| used[0].as_secs_f64() / self.marked_seconds()));
        let server = server.as_ref();
        fields.maybe("server_rss_before_bytes", server.map(|server| server.resident_before));
        fields.maybe("server_rss_after_bytes", server.map(|server| server.resident_after));
    }

    /// From the first mark to the last, which is later.
    fn marked_seconds(&self) -> f64 {
        (self.last.at - self.first.at).as_secs_f64()
    }
}

impl Client {
    fn was_bottleneck(&self) -> bool {
        self.used + self.waited >= BUSY_SHARE
    }

    /// What it means for the figures of that run, if it does.
    fn note(&self, plan: &Plan) -> Option<String> {
        let [percent, waits] = [self.used, self.waited].map(|share| share * 100.0);
        if self.used >= BUSY_SHARE {
            let apart = match plan.speech {
                Speech::Line { .. } => ", each with another --name,",
                Speech::Modbus { .. } if plan.writes > 0.0 => ", each with other registers (--address),",
                Speech::Modbus { .. } => "",
            };
            Some(format!(
                "the client was the bottleneck: it used {percent:.0} % of its core; the server may be faster \
                 than this. Run several at once{apart} or on another machine"
            ))
        } else if self.was_bottleneck() {
            Some(format!(
                "the client was the bottleneck: it used {percent:.0} % of a core and waited for one for \
                 {waits:.0} % of the time, which others had; the server may be faster than this"
            ))
        } else if self.waited >= CROWDED_SHARE {
            Some(format!(
                "the client waited for a processor for {waits:.0} % of the time, which others had; that is \
                 in all the times"
            ))
        } else {
            None
        }
    }
}

impl Outcome for Summary<'_> {
    fn complaints(&self) -> Vec<String> {
        let mut complaints = self.run.faults.lines();
        let counts = &self.run.counts;
        let all = self.plan().connections + self.plan().subscribers;
        match counts.lost.value() {
            0 => {}
            lost if lost < all as u64 => {
                complaints.push(format!("{lost} of {all} connections were lost; the others went on"));
            }
            _ if self.span() < self.plan().duration && !self.interrupted => {
                let seconds = self.span().as_secs_f64();
                complaints
                    .push(format!("all {all} connections were lost, which ended the run at {seconds:.1} s"));
            }
            _ => complaints.push(format!("all {all} connections were lost")),
        }
        let cut = counts.cut.value();
        if cut > 0 {
            complaints.push(format!(
                "{cut} requests were not answered before their connections were lost; in the figures they \
                 took until then"
            ));
        }
        let unanswered = counts.unanswered.value() - cut;
        if unanswered > 0 {
            let seconds = self.waited.as_secs_f64();
            complaints.push(format!(
                "{unanswered} requests were not answered, up to {seconds:.1} s after the end; in the figures \
                 they took until then"
            ));
        }
        if self.requests().count == 0 {
            complaints.push(format!(
                "nothing was measured: no request that was due in the {:?} after the warm-up was answered \
                 as it should be",
                self.span()
            ));
        }
        complaints
    }

    fn json(&self) -> String {
        let mut fields = Fields::default();
        fields.text("version", env!("CARGO_PKG_VERSION"));
        fields.text("url", &self.plan().url);
        self.put_parameters(&mut fields);
        self.put_figures(&mut fields);
        self.put_processes(&mut fields);
        fields.flag("interrupted", self.interrupted);
        fields.texts("notes", &self.notes());
        fields.texts("complaints", &self.complaints());
        fields.finish()
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
            Speech::Modbus { registers, .. } => writeln!(f, "× {registers} registers")?,
        }
        write!(f, "\n{:9}{:>11}{:>11}", "", "count", "a second")?;
        ["p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"]
            .iter()
            .try_for_each(|head| write!(f, "{head:>10}"))?;
        writeln!(f)?;
        let mut rows = vec![self.requests()];
        if counts.reads.value() > 0 && counts.writes.value() > 0 {
            rows.extend([self.reads(), self.writes()]);
        }
        if plan.subscribers > 0 {
            rows.push(self.updates());
        }
        for Row { what, count, a_second, took } in rows {
            let a_second = a_second.map_or("-".to_owned(), |a_second| a_second.to_string());
            write!(f, "{what:<9}{count:>11}{a_second:>11}")?;
            FIGURES.iter().try_for_each(|(_, of)| write!(f, "{:>10}", ms(took.as_ref().map(of))))?;
            writeln!(f)?;
        }
        writeln!(f)?;
        if let Some(conflated) = self.conflated() {
            writeln!(f, "conflated {conflated} updates: whoever subscribed was told a newer value instead")?;
        }
        if plan.pace.is_some() {
            let late = measured(&self.run.lateness);
            let [p99, max] = [late.map(|late| late.p99_us), late.map(|late| late.max_us)].map(ms);
            writeln!(f, "late      p99 {p99} ms, max {max} ms: sent after they were due, by the client")?;
            let (queued, unsent) = (counts.queued.value(), counts.unsent.value());
            writeln!(f, "queued    {queued} behind others of their connection; {unsent} were never sent")?;
        }
        writeln!(f, "errors    {}", self.errors())?;
        if let Some(Server { user, system, resident_before, resident_after }) = self.server() {
            let [cpu, user_us, system_us] = [user + system, user, system]
                .map(|span| self.per_answer(span).map_or("-".to_owned(), |micros| format!("{micros:.2}")));
            let share = (user + system).as_secs_f64() / self.marked_seconds() * 100.0;
            let [before, after] = [resident_before, resident_after].map(|bytes| bytes as f64 / 1_048_576.0);
            writeln!(
                f,
                "server    {cpu} µs of CPU a request (user {user_us}, system {system_us}), {share:.0} % of a \
                 core; {before:.1} MiB before, {after:.1} MiB after"
            )?;
        }
        let Client { used, waited } = self.client();
        let (used, waited) = (used * 100.0, waited * 100.0);
        write!(f, "client    {used:.0} % of its core, waited for it {waited:.0} % of the time")?;
        self.notes().iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

/// What was noted, if anything was.
fn measured(latency: &Latency) -> Option<Percentiles> {
    (!latency.is_empty()).then(|| latency.percentiles())
}

/// In milliseconds.
fn ms(us: Option<u64>) -> String {
    us.map_or("-".to_owned(), |us| format!("{:.3}", us as f64 / 1_000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_the_bottleneck_was() {
        let check = |used, waited, was_bottleneck, part: &str| {
            let client = Client { used, waited };
            assert_eq!(client.was_bottleneck(), was_bottleneck, "{used} {waited}");
            let note = client.note(&Plan::of_test()).unwrap_or_default();
            assert!(note.contains(part) && note.is_empty() == part.is_empty(), "{used} {waited}: {note}");
        };
        check(0.5, 0.05, false, "");
        check(0.98, 0.0, true, "it used 98 % of its core; the server may be faster");
        check(0.6, 0.35, true, "used 60 % of a core and waited for one for 35 % of the time");
        check(0.3, 0.2, false, "waited for a processor for 20 % of the time");
    }

    /// What is advised can be done.
    #[test]
    fn several_clients_are_told_apart_by_their_protocols_options() {
        let check = |plan: Plan, advice: &str| {
            let note = Client { used: 1.0, waited: 0.0 }.note(&plan).unwrap_or_default();
            assert!(note.ends_with(advice), "{note}");
        };
        let modbus = || Speech::Modbus { unit: 1, address: 0, registers: 10 };
        check(Plan::of_test(), "at once, each with another --name, or on another machine");
        check(Plan { speech: modbus(), writes: 0.0, ..Plan::of_test() }, "at once or on another machine");
        let advice = "at once, each with other registers (--address), or on another machine";
        check(Plan { speech: modbus(), ..Plan::of_test() }, advice);
    }
}
