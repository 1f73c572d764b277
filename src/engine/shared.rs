//! What the engines of all shards share besides the tags: settings, counters, which shard drives which
//! device, the flight recorder, and the letters that one engine leaves for another.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use super::pending_writes::{Driven, Question, Ticket};
use super::session::ConnKey;
use super::shard::Settings;
use super::trace::Recorder;
use crate::base::bell::Bell;
#[cfg(test)]
use crate::base::mutants::{self, Mutant};
use crate::base::time::Tick;
use crate::metrics::{Counter, Metrics};
use crate::tags::value::{Input, Value};
use crate::tags::{OwnerId, Refusal, TagId, Tags};

/// What all engines of a server share.
pub struct Shared {
    pub(super) settings: Arc<Settings>,
    pub(super) tags: Arc<Tags>,
    shards: Box<[PerShard]>,
    /// Of each polled device.
    drivers: Box<[Driver]>,
    recorder: Mutex<Recorder>,
    /// Those with frames to be told, as the recorder says.
    frames_due: Arc<[AtomicBool]>,
    /// When the server's own tags were refreshed last; 0 is never.
    refreshed_us: AtomicU64,
    /// Accepted connections.
    accepted: AtomicU32,
    accepted_of_listener: Box<[AtomicU32]>,
    /// Connections that hear why they are not served.
    turned_away: AtomicU32,
}

/// Who drives a polled device.
struct Driver {
    /// The shard, or [`NOWHERE`].
    shard: AtomicU16,
    /// What is known of the device; there once it was driven.
    device: OnceLock<Arc<dyn Driven>>,
}

/// No shard drives the device.
const NOWHERE: u16 = u16::MAX;

struct PerShard {
    metrics: Arc<Metrics>,
    /// Connections that it was given, by whoever accepts or dials them.
    load: AtomicU32,
    mailbox: Mutex<Mailbox>,
    has_mail: AtomicBool,
    /// There are peers whose connections are to be recorded, since it looked last.
    has_wanted: AtomicBool,
}

#[derive(Default)]
struct Mailbox {
    letters: Vec<Letter>,
    /// The shard is over: it opens no more letters.
    closed: bool,
}

/// From one engine to another. How many there may be is bounded by who sends them: those that ask and those
/// that answer by the places that [`Shard::order`](super::shard::Shard) reserves, the others by the
/// connections that they are about.
pub(super) enum Letter {
    /// A value for a device that the other shard drives.
    Order { from: u16, ticket: Ticket, owner: OwnerId, tag: TagId, value: Value },
    /// A request in the device's own language.
    Question { from: u16, question: Question },
    /// What became of an order.
    Settled(Ticket, Result<(), Refusal>),
    /// What came of a question.
    Answered(Ticket, Result<Box<[u8]>, Refusal>),
    /// Another connection speaks for the device of this one.
    TakenOver(ConnKey),
}

impl Shared {
    /// For as many engines as there are shards that read the tags' changes.
    pub fn new(settings: Settings, tags: Arc<Tags>) -> Arc<Shared> {
        let shards = tags.shards();
        let frames_due: Arc<[AtomicBool]> = (0..shards).map(|_| AtomicBool::default()).collect();
        Arc::new(Shared {
            shards: (0..shards).map(|_| PerShard::new()).collect(),
            drivers: (0..tags.owners()).map(|_| Driver::default()).collect(),
            recorder: Mutex::new(Recorder::new(settings.trace_memory, Arc::clone(&frames_due))),
            frames_due,
            refreshed_us: AtomicU64::new(0),
            accepted: AtomicU32::new(0),
            accepted_of_listener: settings.listeners.iter().map(|_| AtomicU32::new(0)).collect(),
            turned_away: AtomicU32::new(0),
            settings: Arc::new(settings),
            tags,
        })
    }

    /// How many engines share it.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Wakes a shard, which looks for what was left for it after it fell asleep.
    pub fn bell(&self, number: usize) -> &Bell {
        self.tags.bell(number)
    }

    /// Open connections of all shards.
    pub fn connections(&self) -> u64 {
        self.total(|metrics| &metrics.connections)
    }

    /// The shard with the fewest connections, which is given one more.
    pub fn give_to_least_loaded(&self) -> usize {
        let load = |number: &usize| self.shards[*number].load.load(Ordering::Relaxed);
        let number = (0..self.shards()).min_by_key(load).expect("there is a shard");
        self.give_to(number);
        number
    }

    /// A shard has one connection more.
    pub(super) fn give_to(&self, number: usize) {
        self.shards[number].load.fetch_add(1, Ordering::Relaxed);
    }

    /// A shard would refresh the server's own tags: whether none has done so for as long as `period`.
    pub(super) fn may_refresh(&self, now: Tick, period: Duration) -> bool {
        let last = self.refreshed_us.load(Ordering::Relaxed);
        let is_due = last == 0 || now >= Tick::from_micros(last) + period;
        let refreshed = || {
            self.refreshed_us.compare_exchange(last, now.as_micros(), Ordering::Relaxed, Ordering::Relaxed)
        };
        is_due && refreshed().is_ok()
    }

    /// A connection that was given to a shard is closed.
    pub(super) fn take_from(&self, number: usize) {
        #[cfg(test)]
        if mutants::strikes(Mutant::UnevenLoad) {
            return;
        }
        self.shards[number].load.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many connections are served and not closed: all, and those of one listener.
    pub(super) fn accepted(&self, listener: usize) -> (usize, usize) {
        let of = |count: &AtomicU32| count.load(Ordering::Relaxed) as usize;
        (of(&self.accepted), of(&self.accepted_of_listener[listener]))
    }

    pub(super) fn count_accepted(&self, listener: usize) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.accepted_of_listener[listener].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_closed(&self, listener: usize) {
        self.accepted.fetch_sub(1, Ordering::Relaxed);
        self.accepted_of_listener[listener].fetch_sub(1, Ordering::Relaxed);
    }

    /// How many hear why they are not served.
    pub(super) fn turned_away(&self) -> usize {
        self.turned_away.load(Ordering::Relaxed) as usize
    }

    pub(super) fn count_turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_gone(&self) {
        self.turned_away.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn metrics(&self, number: usize) -> &Arc<Metrics> {
        &self.shards[number].metrics
    }

    /// A counter of all shards together.
    pub(super) fn total(&self, counter: fn(&Metrics) -> &Counter) -> u64 {
        self.shards.iter().map(|shard| counter(&shard.metrics).value()).sum()
    }

    /// The largest of the shards' counters.
    pub(super) fn largest(&self, counter: fn(&Metrics) -> &Counter) -> u64 {
        self.shards.iter().map(|shard| counter(&shard.metrics).value()).max().unwrap_or(0)
    }

    /// The shard in which the device is driven.
    pub(super) fn driver(&self, owner: OwnerId) -> Option<usize> {
        let number = self.drivers.get(usize::from(owner.0))?.shard.load(Ordering::Acquire);
        (number != NOWHERE).then_some(usize::from(number))
    }

    /// Whether the device, which is or was driven, could be sent a value.
    pub(super) fn check(&self, owner: OwnerId, tag: TagId, value: &Input<'_>) -> Result<(), Refusal> {
        let device = self.drivers[usize::from(owner.0)].device.get();
        device.ok_or(Refusal::Offline)?.check(tag, value)
    }

    pub(super) fn attach(&self, owner: OwnerId, number: usize, device: Arc<dyn Driven>) {
        let driver = &self.drivers[usize::from(owner.0)];
        driver.device.get_or_init(|| device);
        driver.shard.store(number as u16, Ordering::Release);
    }

    /// The device is driven no more, unless another shard does so by now.
    pub(super) fn detach(&self, owner: OwnerId, number: usize) {
        let driver = &self.drivers[usize::from(owner.0)].shard;
        let _ = driver.compare_exchange(number as u16, NOWHERE, Ordering::AcqRel, Ordering::Relaxed);
    }

    pub(super) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().expect("a panic ends the process, so no lock is poisoned")
    }

    /// Whether a shard has frames to tell.
    pub(super) fn has_frames_due(&self, number: usize) -> bool {
        self.frames_due[number].load(Ordering::SeqCst)
    }

    /// Something was recorded that is followed: wake those that have to tell it.
    pub(super) fn ring_for_frames(&self) {
        (0..self.shards())
            .filter(|&number| self.has_frames_due(number))
            .for_each(|number| self.tags.bell(number).ring());
    }

    /// There are new peers whose connections are to be recorded, in whatever shard they are.
    pub(super) fn look_for_wanted(&self) {
        for (number, shard) in self.shards.iter().enumerate() {
            shard.has_wanted.store(true, Ordering::SeqCst);
            self.tags.bell(number).ring();
        }
    }

    /// Whether a shard is to look for connections that are to be recorded.
    pub(super) fn take_wanted(&self, number: usize) -> bool {
        let has_wanted = &self.shards[number].has_wanted;
        has_wanted.load(Ordering::SeqCst) && has_wanted.swap(false, Ordering::SeqCst)
    }

    /// Leave a letter for a shard. It comes back if the shard is over.
    pub(super) fn post(&self, to: usize, letter: Letter) -> Result<(), Letter> {
        #[cfg(test)]
        if mutants::strikes(Mutant::LostLetter) {
            return Ok(());
        }
        let shard = &self.shards[to];
        let mut mailbox = shard.lock();
        if mailbox.closed {
            return Err(letter);
        }
        mailbox.letters.push(letter);
        shard.has_mail.store(true, Ordering::SeqCst);
        drop(mailbox);
        self.tags.bell(to).ring();
        Ok(())
    }

    /// Whether something was left for a shard besides changes.
    pub fn has_left(&self, number: usize) -> bool {
        let shard = &self.shards[number];
        shard.has_mail.load(Ordering::SeqCst)
            || shard.has_wanted.load(Ordering::SeqCst)
            || self.has_frames_due(number)
    }

    /// Take the letters of a shard; `letters` must be empty.
    pub(super) fn take_letters(&self, number: usize, letters: &mut Vec<Letter>) {
        let shard = &self.shards[number];
        if shard.has_mail.load(Ordering::SeqCst) {
            let mut mailbox = shard.lock();
            shard.has_mail.store(false, Ordering::SeqCst);
            std::mem::swap(&mut mailbox.letters, letters);
        }
    }

    /// A shard is over. Returns the letters that it will not open.
    pub(super) fn close_mailbox(&self, number: usize) -> Vec<Letter> {
        let mut mailbox = self.shards[number].lock();
        mailbox.closed = true;
        std::mem::take(&mut mailbox.letters)
    }
}

impl Default for Driver {
    fn default() -> Self {
        Driver { shard: AtomicU16::new(NOWHERE), device: OnceLock::new() }
    }
}

impl PerShard {
    fn new() -> PerShard {
        PerShard {
            metrics: Arc::default(),
            load: AtomicU32::new(0),
            mailbox: Mutex::default(),
            has_mail: AtomicBool::new(false),
            has_wanted: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().expect("a panic ends the process, so no lock is poisoned")
    }
}
