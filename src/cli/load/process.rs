//! What processes use of the machine: processor time and memory, as `/proc` says.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::time::{ClockId, clock_gettime};

/// What this process has used of a processor so far.
pub(in crate::cli) fn processor_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// What this thread has had of a processor, and for how long it could have run and had none.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cli) struct OwnTime {
    pub(in crate::cli) used: Duration,
    /// Zero where the kernel does not count it.
    pub(in crate::cli) waited: Duration,
}

impl OwnTime {
    pub(in crate::cli) fn now() -> OwnTime {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        // Time on a processor, time of waiting for one, in nanoseconds.
        let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let waited = schedstat.split(' ').nth(1).and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
        OwnTime {
            used: Duration::new(used.tv_sec as u64, used.tv_nsec as u32),
            waited: Duration::from_nanos(waited),
        }
    }
}

/// A process with all its threads, and its children, theirs, and so on.
#[derive(Debug)]
pub(in crate::cli) struct Family {
    /// The first is the eldest.
    members: Vec<u32>,
}

/// What a family has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Usage {
    /// Processor time outside of the kernel.
    pub(in crate::cli) user: Duration,
    /// And inside.
    pub(in crate::cli) system: Duration,
    /// Resident memory; what processes share counts for each.
    pub(in crate::cli) resident_bytes: u64,
}

/// Of one process, in the system's units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stat {
    /// It is there only until its parent has heard of its end.
    has_ended: bool,
    parent: u32,
    /// With that of children that ended and were waited for.
    user_ticks: u64,
    system_ticks: u64,
    resident_pages: u64,
}

impl Family {
    /// That of a process which is there.
    pub(in crate::cli) fn of(pid: u32) -> io::Result<Family> {
        stat(pid)?;
        let mut family = Family { members: vec![pid] };
        family.look()?;
        Ok(family)
    }

    /// The process that it is the family of.
    pub(in crate::cli) fn eldest(&self) -> u32 {
        *self.members.first().expect("a family has an eldest")
    }

    /// Find the children that came since. It looks at all processes: not in the middle of a measurement.
    pub(in crate::cli) fn look(&mut self) -> io::Result<()> {
        let mut parents: Vec<(u32, u32)> = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok());
            // Others may end meanwhile.
            parents.extend(pid.and_then(|pid| Some((pid, stat(pid).ok()?.parent))));
        }
        let mut at = 0;
        while let Some(&member) = self.members.get(at) {
            for (pid, _) in parents.iter().filter(|(_, parent)| *parent == member) {
                if !self.members.contains(pid) {
                    self.members.push(*pid);
                }
            }
            at += 1;
        }
        Ok(())
    }

    /// What those have used so far who were found. An error if the eldest is gone; what a child used that
    /// ended is with its parent.
    pub(in crate::cli) fn usage(&self) -> io::Result<Usage> {
        let mut sum = stat(self.eldest())?;
        if sum.has_ended {
            return Err(io::ErrorKind::NotFound.into());
        }
        for other in self.members[1..].iter().filter_map(|pid| stat(*pid).ok()) {
            sum.user_ticks += other.user_ticks;
            sum.system_ticks += other.system_ticks;
            sum.resident_pages += other.resident_pages;
        }
        let span = |ticks: u64| Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64);
        Ok(Usage {
            user: span(sum.user_ticks),
            system: span(sum.system_ticks),
            resident_bytes: sum.resident_pages * page_size() as u64,
        })
    }
}

fn stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Stat::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl Stat {
    /// The fields of proc_pid_stat(5), of which the second, a name in brackets, may hold anything.
    fn parse(text: &str) -> Option<Stat> {
        let (_, after_name) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = after_name.split(' ').collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            has_ended: *fields.first()? == "Z",
            parent: u32::try_from(field(4)?).ok()?,
            user_ticks: field(14)? + field(16)?,
            system_ticks: field(15)? + field(17)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_process() {
        let text = "42 (a ) b) S 7 42 42 0 -1 4194560 157 21 0 0 100 20 3 4 20 0 1 0 2207 7311360 1045 18446";
        let stat = Stat::parse(text).unwrap();
        let expected =
            Stat { has_ended: false, parent: 7, user_ticks: 103, system_ticks: 24, resident_pages: 1045 };
        assert_eq!(stat, expected);
        let ended = Stat::parse(&text.replace(") S ", ") Z "));
        assert_eq!(ended, Some(Stat { has_ended: true, ..expected }));
        assert_eq!(Stat::parse("42 (a) S 7"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Family::of(std::process::id()).unwrap().usage().unwrap();
        assert!(usage.resident_bytes > 0);
        assert!(OwnTime::now().used > Duration::ZERO);
        assert!(Family::of(u32::MAX).is_err());
    }
}
