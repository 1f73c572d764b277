//! Names of hosts are looked up here, in threads of their own: the system's way to do so blocks, for as long
//! as a name server that is gone makes it wait.
//!
//! One question a name is under way, whoever asks. A name that kept its thread waiting is asked for behind
//! the others next time, and never in all threads: so a name whose server is gone delays the names that are
//! answered once, and no more. Who waits too long gets the addresses that were found last.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::base::host::{Host, NamedHost};
use crate::base::time::Tick;
use crate::engine::{ConnKey, Endpoint, Shared};

/// Threads that look up, at most; none is started before there is a question for it.
const THREADS: usize = 4;
/// Of them, those that may be busy with names that were slow the last time.
const SLOW_THREADS: usize = 2;
/// A name is slow when its lookup took longer.
const SLOW: Duration = Duration::from_secs(1);
/// How long a connection waits for its name. What is left of the time to connect is for the last known
/// address.
const PATIENCE: Duration = Duration::from_secs(2);
const NO_ANSWER: &str = "no answer yet";

/// What a name stands for, without ports; or why that is not known.
pub(super) type Found = Result<Arc<[SocketAddr]>, Arc<str>>;
type LookUp = fn(&str) -> Result<Vec<SocketAddr>, String>;

/// Looks up names for all shards.
pub(super) struct Resolver {
    shared: Arc<Shared>,
    look_up: LookUp,
    state: Mutex<State>,
    /// There is a question.
    asked: Condvar,
    mailboxes: Box<[Mailbox]>,
}

/// Answers for a shard.
#[derive(Default)]
struct Mailbox {
    answers: Mutex<Vec<(ConnKey, Found)>>,
    has_any: AtomicBool,
}

#[derive(Default)]
struct State {
    names: HashMap<Arc<str>, Name>,
    /// Names that are to be looked up, and were answered in time before or never asked for.
    prompt: VecDeque<Arc<str>>,
    /// Those that were slow.
    slow: VecDeque<Arc<str>>,
    /// Threads that are busy with one that was slow.
    busy_with_slow: usize,
    threads: usize,
    idle: usize,
}

/// What is known of a name.
#[derive(Default)]
struct Name {
    /// The addresses found last, in the order in which they are tried.
    known: Option<Arc<[SocketAddr]>>,
    /// Why the last lookup failed.
    fault: Option<Arc<str>>,
    was_slow: bool,
    is_asked: bool,
    /// The connections that wait, and their shards.
    askers: Vec<(usize, ConnKey)>,
}

impl Resolver {
    pub(super) fn new(shared: &Arc<Shared>, look_up: LookUp) -> Arc<Resolver> {
        Arc::new(Resolver {
            mailboxes: (0..shared.shards()).map(|_| Mailbox::default()).collect(),
            shared: Arc::clone(shared),
            look_up,
            state: Mutex::default(),
            asked: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic ends the process, so no lock is poisoned")
    }

    /// A connection of a shard is to be told what a name stands for. `Err`: nobody can look it up.
    fn ask(self: &Arc<Self>, name: &Arc<str>, shard: usize, conn: ConnKey) -> Result<(), String> {
        let mut state = self.lock();
        if state.ask(name, shard, conn) {
            // A thread that was woken counts as idle until it has taken its question.
            let has_enough = state.prompt.len() + state.slow.len() <= state.idle;
            if !has_enough && state.threads < THREADS {
                let resolver = Arc::clone(self);
                let thread = thread::Builder::new().name("resolver".to_owned());
                match thread.spawn(move || resolver.look_up_all()) {
                    Ok(_) => state.threads += 1,
                    Err(_) if state.threads > 0 => {}
                    Err(error) => {
                        state.take_back(name);
                        return Err(format!("no thread can be started: {error}"));
                    }
                }
            }
            self.asked.notify_one();
        }
        Ok(())
    }

    /// A thread's life. Nobody waits for its end, which may never come.
    fn look_up_all(&self) {
        let mut state = self.lock();
        loop {
            let Some((name, was_slow)) = state.take() else {
                state.idle += 1;
                state = self.asked.wait(state).expect("a panic ends the process, so no lock is poisoned");
                state.idle -= 1;
                continue;
            };
            drop(state);
            let since = Instant::now();
            let found = (self.look_up)(&name);
            let is_slow = since.elapsed() > SLOW;
            state = self.lock();
            let (askers, found) = state.on_found(&name, found, was_slow, is_slow);
            for (shard, conn) in askers {
                self.mailboxes[shard].leave(conn, found.clone());
                self.shared.bell(shard).ring();
            }
            // A place for one that is slow may be free again.
            self.asked.notify_one();
        }
    }

    /// The connection waits no more.
    fn forget(&self, name: &str, shard: usize, conn: ConnKey) {
        if let Some(name) = self.lock().names.get_mut(name) {
            name.askers.retain(|asker| *asker != (shard, conn));
        }
    }

    /// The connection has waited for long enough: what was found last.
    fn give_up(&self, name: &str, shard: usize, conn: ConnKey) -> Found {
        self.forget(name, shard, conn);
        self.lock().names.get(name).map_or_else(|| Err(NO_ANSWER.into()), Name::last_found)
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Vec<(ConnKey, Found)>> {
        self.answers.lock().expect("a panic ends the process, so no lock is poisoned")
    }

    fn leave(&self, conn: ConnKey, found: Found) {
        let mut answers = self.lock();
        answers.push((conn, found));
        self.has_any.store(true, Ordering::SeqCst);
    }

    fn take(&self) -> Vec<(ConnKey, Found)> {
        if !self.has_any.load(Ordering::SeqCst) {
            return Vec::new();
        }
        let mut answers = self.lock();
        self.has_any.store(false, Ordering::SeqCst);
        std::mem::take(&mut answers)
    }
}

impl State {
    /// Somebody asks; whether that is a new question.
    fn ask(&mut self, name: &Arc<str>, shard: usize, conn: ConnKey) -> bool {
        let record = self.names.entry(Arc::clone(name)).or_default();
        record.askers.push((shard, conn));
        if std::mem::replace(&mut record.is_asked, true) {
            return false;
        }
        let queue = if record.was_slow { &mut self.slow } else { &mut self.prompt };
        queue.push_back(Arc::clone(name));
        true
    }

    /// Nobody can look for the name that was asked for last.
    fn take_back(&mut self, name: &str) {
        self.names.remove(name);
        self.prompt.retain(|asked| **asked != *name);
        self.slow.retain(|asked| **asked != *name);
    }

    /// The next question, and whether it was slow the last time.
    fn take(&mut self) -> Option<(Arc<str>, bool)> {
        if let Some(name) = self.prompt.pop_front() {
            return Some((name, false));
        }
        if self.busy_with_slow == SLOW_THREADS {
            return None;
        }
        let name = self.slow.pop_front()?;
        self.busy_with_slow += 1;
        Some((name, true))
    }

    /// What became of a question; who is to be told what.
    fn on_found(
        &mut self,
        name: &Arc<str>,
        found: Result<Vec<SocketAddr>, String>,
        was_slow: bool,
        is_slow: bool,
    ) -> (Vec<(usize, ConnKey)>, Found) {
        self.busy_with_slow -= usize::from(was_slow);
        let record = self.names.entry(Arc::clone(name)).or_default();
        (record.is_asked, record.was_slow) = (false, is_slow);
        let found = match found {
            Ok(addresses) => {
                record.fault = None;
                record.learn(addresses)
            }
            Err(why) => record.fall_back(name, why.into()),
        };
        (std::mem::take(&mut record.askers), found)
    }
}

impl Name {
    /// What came of the last lookup that ended. Where that was long ago, its words are still the best there
    /// are, and no news to whoever tells them.
    fn last_found(&self) -> Found {
        match (&self.known, &self.fault) {
            (Some(known), _) => Ok(Arc::clone(known)),
            (None, Some(fault)) => Err(Arc::clone(fault)),
            (None, None) => Err(NO_ANSWER.into()),
        }
    }

    /// The addresses are these. If they only come in another order, as servers tell them by turns, they are
    /// tried in that of before: or one might never have its turn.
    fn learn(&mut self, addresses: Vec<SocketAddr>) -> Found {
        let is_same = |known: &Arc<[SocketAddr]>| {
            known.len() == addresses.len() && addresses.iter().all(|address| known.contains(address))
        };
        let known = self.known.take().filter(is_same).unwrap_or_else(|| addresses.into());
        self.known = Some(Arc::clone(&known));
        Ok(known)
    }

    /// The addresses cannot be found now: what was found last is better than nothing.
    fn fall_back(&mut self, name: &str, why: Arc<str>) -> Found {
        let is_news = self.fault.as_ref() != Some(&why);
        if is_news && self.known.is_some() {
            log::warn!("'{name}' could not be looked up: {why}; its last known address is used");
        }
        self.fault = Some(why);
        self.last_found()
    }
}

/// What of a shard waits for the addresses of names.
pub(super) struct Lookups {
    resolver: Arc<Resolver>,
    shard: usize,
    now: Tick,
    waiting: HashMap<ConnKey, Endpoint>,
    /// Until when each waits, in that order; some have been answered.
    patience: VecDeque<(Tick, ConnKey)>,
    /// Answers that were taken out of the mailbox.
    answers: Vec<(ConnKey, Found)>,
}

impl Lookups {
    pub(super) fn new(resolver: &Arc<Resolver>, shard: usize) -> Lookups {
        Lookups {
            resolver: Arc::clone(resolver),
            shard,
            now: Tick::default(),
            waiting: HashMap::new(),
            patience: VecDeque::new(),
            answers: Vec::new(),
        }
    }

    /// A turn begins.
    pub(super) fn on_turn(&mut self, now: Tick) {
        self.now = now;
    }

    /// A connection is to be made to a name.
    pub(super) fn begin(&mut self, conn: ConnKey, name: &Arc<str>, to: Endpoint) {
        self.waiting.insert(conn, to);
        self.patience.push_back((self.now + PATIENCE, conn));
        if let Err(why) = self.resolver.ask(name, self.shard, conn) {
            self.answers.push((conn, Err(why.into())));
        }
    }

    /// The connection is not wanted any more.
    pub(super) fn forget(&mut self, conn: ConnKey) {
        if let Some(to) = self.waiting.remove(&conn) {
            self.resolver.forget(&named(&to).name, self.shard, conn);
        }
    }

    /// A connection that waits no more.
    pub(super) fn take(&mut self) -> Option<LookedUp> {
        if self.answers.is_empty() && !self.waiting.is_empty() {
            self.answers = self.resolver.mailboxes[self.shard].take();
        }
        while let Some((conn, found)) = self.answers.pop() {
            if let Some(to) = self.waiting.remove(&conn) {
                return Some(LookedUp::new(conn, to, found));
            }
        }
        while let Some(&(until, conn)) = self.patience.front() {
            if until > self.now && self.waiting.contains_key(&conn) {
                return None;
            }
            self.patience.pop_front();
            if let Some(to) = self.waiting.remove(&conn) {
                let found = self.resolver.give_up(&named(&to).name, self.shard, conn);
                return Some(LookedUp::new(conn, to, found));
            }
        }
        None
    }

    /// Whether there is an answer. Asked after the shard fell asleep, none is missed.
    pub(super) fn have_answers(&self) -> bool {
        !self.waiting.is_empty() && self.resolver.mailboxes[self.shard].has_any.load(Ordering::SeqCst)
    }

    /// When somebody has waited for long enough.
    pub(super) fn next(&self) -> Option<Tick> {
        self.patience.front().map(|(until, _)| *until)
    }
}

/// What a connection has waited for.
pub(super) struct LookedUp {
    pub(super) conn: ConnKey,
    pub(super) to: Endpoint,
    /// Where to connect; or why that is not known.
    pub(super) address: Result<SocketAddr, String>,
}

impl LookedUp {
    fn new(conn: ConnKey, to: Endpoint, found: Found) -> LookedUp {
        let host = named(&to);
        let address = found.and_then(|known| host.choose(&known).ok_or_else(|| "it has no address".into()));
        let address = address.map_err(|why| format!("'{}' could not be looked up: {why}", host.name));
        LookedUp { conn, address, to }
    }
}

fn named(to: &Endpoint) -> &NamedHost {
    match &to.host {
        Host::Name(host) => host,
        Host::Address(_) => unreachable!("addresses are not looked up"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Transport;
    use crate::reactor::shards::tests::shared;

    /// Longer than any answer that is waited for takes.
    const DEADLINE: Duration = Duration::from_secs(20);

    fn conn(number: u32) -> ConnKey {
        ConnKey { index: number, serial: number }
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| format!("{text}:0").parse().unwrap()).collect()
    }

    /// Two names have addresses; those of a dead server are waited for, and others are unknown.
    fn look_up(name: &str) -> Result<Vec<SocketAddr>, String> {
        match name {
            "meter7" => Ok(addresses(&["10.0.0.7"])),
            "meter8" => Ok(addresses(&["10.0.0.8", "10.0.1.8"])),
            name if name.starts_with("dead") => loop {
                thread::park();
            },
            _ => Err("nobody knows it".to_owned()),
        }
    }

    fn lookups() -> Lookups {
        Lookups::new(&Resolver::new(&shared(1), look_up), 0)
    }

    fn begin(lookups: &mut Lookups, number: u32, url: &str) {
        let host = Host::parse(url, 502).unwrap();
        let to = Endpoint { host, from: None, transport: Transport::Stream };
        let name = Arc::clone(&named(&to).name);
        lookups.begin(conn(number), &name, to);
    }

    /// Wait for the next that is looked up: its number, and its address or why there is none.
    fn next(lookups: &mut Lookups) -> (u32, String) {
        let since = Instant::now();
        loop {
            if let Some(LookedUp { conn, address, .. }) = lookups.take() {
                return (conn.index, address.map_or_else(|why| why, |address| address.to_string()));
            }
            assert!(since.elapsed() < DEADLINE, "no answer came");
            thread::yield_now();
        }
    }

    #[test]
    fn names_are_looked_up_and_the_shard_is_woken() {
        let shared = shared(2);
        let woken = Arc::new(AtomicBool::new(false));
        let rung = Arc::clone(&woken);
        shared.bell(1).hang(move || rung.store(true, Ordering::SeqCst));
        shared.bell(1).fall_asleep();
        let resolver = Resolver::new(&shared, look_up);
        let [mut first, mut second] = [0, 1].map(|shard| Lookups::new(&resolver, shard));
        begin(&mut second, 1, "meter7:1502");
        assert_eq!(next(&mut second), (1, "10.0.0.7:1502".to_owned()));
        assert_eq!((second.take().is_none(), second.have_answers()), (true, false));
        while !woken.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        begin(&mut first, 2, "meter9");
        let unknown = "'meter9' could not be looked up: nobody knows it";
        assert_eq!(next(&mut first), (2, unknown.to_owned()));
    }

    #[test]
    fn names_that_hang_delay_no_others() {
        let mut lookups = lookups();
        (1..=3).for_each(|number| begin(&mut lookups, number, &format!("dead{number}")));
        begin(&mut lookups, 7, "meter7");
        assert_eq!(next(&mut lookups).0, 7);
        assert!(lookups.take().is_none());
        lookups.on_turn(lookups.next().expect("somebody waits"));
        let all =
            [1, 2, 3].map(|number| (number, format!("'dead{number}' could not be looked up: no answer yet")));
        assert_eq!([(); 3].map(|()| next(&mut lookups)), all);
        assert!(lookups.take().is_none());
        assert_eq!((lookups.next(), lookups.waiting.len()), (None, 0));
        // Asked for again, they are still the same questions.
        begin(&mut lookups, 4, "dead1");
        assert_eq!(lookups.resolver.lock().names["dead1"].askers, [(0, conn(4))]);
        lookups.forget(conn(4));
        assert_eq!(lookups.resolver.lock().names["dead1"].askers, []);
        begin(&mut lookups, 8, "meter8");
        assert_eq!(next(&mut lookups), (8, "10.0.0.8:502".to_owned()));
    }

    #[test]
    fn who_waits_too_long_gets_the_last_known_address() {
        let mut lookups = lookups();
        let known = addresses(&["10.0.0.5"]);
        let name = "dead1".into();
        lookups.resolver.lock().ask(&name, 0, conn(1));
        lookups.resolver.lock().take();
        drop(lookups.resolver.lock().on_found(&name, Ok(known), false, false));
        begin(&mut lookups, 2, "dead1");
        assert!(lookups.take().is_none());
        lookups.on_turn(lookups.next().expect("somebody waits"));
        assert_eq!(next(&mut lookups), (2, "10.0.0.5:502".to_owned()));
    }

    #[test]
    fn slow_names_wait_for_each_other_and_not_in_all_threads() {
        let mut state = State::default();
        let names: [Arc<str>; 5] = ["s1", "s2", "s3", "p1", "p2"].map(Arc::from);
        for name in &names[..3] {
            assert!(state.ask(name, 0, conn(1)));
            assert!(!state.ask(name, 0, conn(2)), "one question a name");
            assert_eq!(state.take().as_ref(), Some(&(Arc::clone(name), false)));
            let (askers, _) = state.on_found(name, Err("it hangs".to_owned()), false, true);
            assert_eq!(askers, [(0, conn(1)), (0, conn(2))]);
        }
        names.iter().for_each(|name| assert!(state.ask(name, 0, conn(3))));
        let mut take = || state.take().map(|(name, was_slow)| (name.to_string(), was_slow));
        let taken = [(); 5].map(|()| take());
        let expected = [("p1", false), ("p2", false), ("s1", true), ("s2", true)];
        let mut expected: Vec<_> =
            expected.into_iter().map(|(name, was_slow)| Some((name.to_owned(), was_slow))).collect();
        expected.push(None);
        assert_eq!(taken[..], expected);
        // The second is quick this time, and makes room for the third.
        drop(state.on_found(&names[1], Ok(addresses(&["10.0.0.2"])), true, false));
        assert_eq!(state.take(), Some((Arc::clone(&names[2]), true)));
        state.ask(&names[1], 0, conn(4));
        assert_eq!(state.take(), Some((Arc::clone(&names[1]), false)));
    }

    #[test]
    fn what_was_found_last_is_kept_and_its_order_too() {
        #[track_caller]
        fn check(name: &mut Name, found: Result<&[&str], &str>, expected: Result<&[&str], &str>) {
            let found = match found {
                Ok(texts) => name.learn(addresses(texts)),
                Err(why) => name.fall_back("meter", why.into()),
            };
            let expected = expected.map(|texts| addresses(texts).into()).map_err(Arc::from);
            assert_eq!(found, expected);
        }
        let mut name = Name::default();
        assert_eq!(name.last_found(), Err(NO_ANSWER.into()));
        check(&mut name, Err("not now"), Err("not now"));
        assert_eq!(name.last_found(), Err("not now".into()));
        check(&mut name, Ok(&["10.0.0.1", "10.0.0.2"]), Ok(&["10.0.0.1", "10.0.0.2"]));
        check(&mut name, Ok(&["10.0.0.2", "10.0.0.1"]), Ok(&["10.0.0.1", "10.0.0.2"]));
        check(&mut name, Err("not now"), Ok(&["10.0.0.1", "10.0.0.2"]));
        check(&mut name, Ok(&["10.0.0.3"]), Ok(&["10.0.0.3"]));
        check(&mut name, Err("not now"), Ok(&["10.0.0.3"]));
    }
}
