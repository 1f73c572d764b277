//! Wakes a thread that sleeps until something happens. While the thread is awake, ringing costs a load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(test)]
use super::mutants::{self, Mutant};

/// Rung by whoever has left something for a sleeper: once for all that was left since it fell asleep.
///
/// Nothing is lost if whoever leaves something does so before it rings, and the sleeper looks for what was
/// left after [`fall_asleep`](Self::fall_asleep): one of the two sees the other.
#[derive(Default)]
pub struct Bell {
    asleep: AtomicBool,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Bell {
    /// What wakes the sleeper. Without it, nobody sleeps here who could not wake by himself.
    pub fn hang(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Something was left.
    pub fn ring(&self) {
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            #[cfg(test)]
            if mutants::strikes(Mutant::LostWake) {
                return;
            }
            if let Some(wake) = self.wake.get() {
                wake();
            }
        }
    }

    /// From now on ringing wakes. Then look once more.
    pub fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// Ringing does nothing any more: all that was left so far will be seen.
    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bell").field("asleep", &self.asleep).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn it_wakes_once_and_only_who_sleeps() {
        let (bell, woken) = (Bell::default(), Arc::new(AtomicU32::new(0)));
        let count = Arc::clone(&woken);
        bell.hang(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        bell.ring();
        assert_eq!(woken.load(Ordering::Relaxed), 0, "nobody sleeps");
        bell.fall_asleep();
        bell.ring();
        bell.ring();
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        bell.fall_asleep();
        bell.wake_up();
        bell.ring();
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }
}
