//! The phase of a node, by itself.

use super::*;

use crate::runtime::sync::{AtomicU32, Mutex, Ordering};
use crate::tree::phase::{AtomicPhase, CauseIn, End, LinkIndex, Phase};
use crate::tree::Origin;
use crate::Error;

/// A node's phase, its lock, and what is written before the phase changes.
struct Modelled {
    phase: AtomicPhase,
    lock: Mutex<()>,
    cause: [AtomicU32; 2],
    closed: AtomicU32,
}

const BY: [CauseIn; 2] = [CauseIn::Node, CauseIn::Parent(LinkIndex::First)];

fn end(by: usize) -> End {
    End {
        error: Error::Canceled,
        cause: BY[by],
        origin: Origin::NONE,
    }
}

impl Modelled {
    fn new(phase: Phase) -> Arc<Modelled> {
        Arc::new(Modelled {
            phase: AtomicPhase::new(phase),
            lock: Mutex::new(()),
            cause: [AtomicU32::new(0), AtomicU32::new(0)],
            closed: AtomicU32::new(0),
        })
    }

    /// Claims under the lock, and closes with the lock released.
    fn claim(&self, by: usize) -> bool {
        self.cause[by].store(1, Ordering::Relaxed);
        let lock = self.lock.lock();
        let claimed = self.phase.claim(Phase::Closing(end(by)));
        drop(lock);
        if claimed {
            self.closed.store(1, Ordering::Relaxed);
            self.phase.close(end(by));
        }
        claimed
    }

    fn finish_unregistered(&self, by: usize) -> bool {
        self.cause[by].store(1, Ordering::Relaxed);
        self.closed.store(1, Ordering::Relaxed);
        self.phase.finish_unregistered(end(by))
    }

    fn register(&self) -> bool {
        let lock = self.lock.lock();
        let opened = self.phase.open();
        drop(lock);
        opened
    }

    /// Loads the phase twice, and asserts that all is there that was written before.
    fn read(&self) -> Option<End> {
        let phase = self.phase.load();
        if let Phase::Done(_) = phase {
            assert_eq!(self.closed.load(Ordering::Relaxed), 1, "done before closed");
        }
        let end = phase.end()?;
        let by = usize::from(end.cause != BY[0]);
        let cause = self.cause[by].load(Ordering::Relaxed);
        assert_eq!(cause, 1, "claimed before the cause was stored");
        assert_eq!(self.phase.load().end(), Some(end), "another end");
        Some(end)
    }
}

#[test]
fn phase_of_registered_is_claimed_once() {
    in_all_orders(|| {
        let node = Modelled::new(Phase::Open);
        let other = spawn({
            let node = node.clone();
            move || node.claim(1)
        });
        let reader = spawn({
            let node = node.clone();
            move || node.read()
        });
        let mine = node.claim(0);
        let theirs = other.join().unwrap();
        let seen = reader.join().unwrap();
        assert!(mine != theirs);
        let end = node.read();
        assert_eq!(end, Some(self::end(usize::from(theirs))));
        assert!(seen.is_none() || seen == end, "another end");
    });
}

#[test]
fn phase_finished_during_registration_has_one_end() {
    in_all_orders(|| {
        let node = Modelled::new(Phase::Unregistered);
        let registrar = spawn({
            let node = node.clone();
            move || node.register()
        });
        let reader = spawn({
            let node = node.clone();
            move || node.read()
        });
        let finished = node.finish_unregistered(0);
        assert!(finished || node.claim(0));
        assert!(registrar.join().unwrap() != finished);
        let seen = reader.join().unwrap();
        assert!(seen.is_none() || seen == node.read(), "another end");
    });
}

#[test]
fn phase_claimed_and_finished_at_once_has_one_end() {
    in_all_orders(|| {
        let node = Modelled::new(Phase::Unregistered);
        let claimer = spawn({
            let node = node.clone();
            move || node.claim(1)
        });
        let finished = node.finish_unregistered(0);
        let claimed = claimer.join().unwrap();
        assert!(finished != claimed);
        assert_eq!(node.read(), Some(end(usize::from(claimed))));
    });
}
