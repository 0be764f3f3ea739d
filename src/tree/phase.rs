//! The state of a node, and all memory orderings of it.
//!
//! A node's phase only moves forward:
//!
//! ```text
//! Unregistered ──▶ Open ──▶ Closing ──▶ Done
//!      │             └───────────────────▲
//!      └─────────────────────────────────┘
//! ```
//!
//! Every store is a release and every load an acquire, so a thread that sees a phase sees all that
//! was written before it: a cause is stored before the phase that says there is one, and a done
//! channel is closed before the phase becomes `Done`.

use super::origin::Origin;
use crate::error::Error;
use crate::runtime::sync::{AtomicU32, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its parents and the timer do not have it, so it is done if its parent is.
    Unregistered,
    /// Registered and not done.
    Open,
    /// Claimed by a cancellation that is closing its done channels. A node without one skips this.
    Closing(End),
    Done(End),
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) error: Error,
    pub(crate) cause: CauseIn,
    pub(crate) origin: Origin,
}

impl End {
    /// Returns the end of a node that ends like its parent.
    pub(crate) fn of_parent(error: Error, index: LinkIndex) -> End {
        End {
            error,
            cause: CauseIn::Parent(index),
            origin: Origin::NONE,
        }
    }
}

/// Where the cause of an end is stored. It is never copied from node to node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CauseIn {
    /// None was given: it is the error itself.
    Error,
    /// In the node itself.
    Node,
    /// In the parent behind this link, or above it.
    Parent(LinkIndex),
    /// In what the custom context behind this link says of itself.
    Custom(LinkIndex),
}

/// Which of its parents a node is linked to. Only a merged node has a second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkIndex {
    First,
    Second,
}

impl LinkIndex {
    pub(crate) const ALL: [LinkIndex; 2] = [LinkIndex::First, LinkIndex::Second];
}

const UNREGISTERED: u32 = 0;
const OPEN: u32 = 1;
const CLOSING: u32 = 2;
const DONE: u32 = 3;

const CAUSES: [CauseIn; 8] = [
    CauseIn::Error,
    CauseIn::Node,
    CauseIn::Parent(LinkIndex::First),
    CauseIn::Parent(LinkIndex::Second),
    CauseIn::Custom(LinkIndex::First),
    CauseIn::Custom(LinkIndex::Second),
    CauseIn::Error, // never encoded so
    CauseIn::Error,
];

impl Phase {
    /// Returns how the node ended, if a cancellation has claimed it.
    pub(crate) fn end(self) -> Option<End> {
        match self {
            Phase::Unregistered | Phase::Open => None,
            Phase::Closing(end) | Phase::Done(end) => Some(end),
        }
    }

    /// Two bits for the phase, one for the error, three for the cause, the others for the origin.
    #[inline]
    fn encode(self) -> u32 {
        let bits = |end: End| {
            let cause = match end.cause {
                CauseIn::Error => 0,
                CauseIn::Node => 1,
                CauseIn::Parent(index) => 2 | index as u32,
                CauseIn::Custom(index) => 4 | index as u32,
            };
            (end.error as u32) << 2 | cause << 3 | end.origin.bits() << 6
        };
        match self {
            Phase::Unregistered => UNREGISTERED,
            Phase::Open => OPEN,
            Phase::Closing(end) => CLOSING | bits(end),
            Phase::Done(end) => DONE | bits(end),
        }
    }

    #[inline]
    fn decode(bits: u32) -> Phase {
        let end = End {
            error: error_in(bits),
            cause: CAUSES[(bits >> 3 & 7) as usize],
            origin: Origin::from_bits(bits >> 6),
        };
        match bits & 3 {
            UNREGISTERED => Phase::Unregistered,
            OPEN => Phase::Open,
            CLOSING => Phase::Closing(end),
            _ => Phase::Done(end),
        }
    }
}

#[inline]
fn error_in(bits: u32) -> Error {
    match bits >> 2 & 1 {
        0 => Error::Canceled,
        _ => Error::DeadlineExceeded,
    }
}

/// The phase of one node. `open` and `claim` are called under the node's lock, `close` by the thread
/// that has claimed it, and `finish_unregistered` without a lock.
pub(crate) struct AtomicPhase(AtomicU32);

const _: () = assert!(Origin::BITS + 6 <= u32::BITS);

impl AtomicPhase {
    pub(crate) fn new(phase: Phase) -> AtomicPhase {
        AtomicPhase(AtomicU32::new(phase.encode()))
    }

    #[inline]
    pub(crate) fn load(&self) -> Phase {
        Phase::decode(self.0.load(Ordering::Acquire))
    }

    /// Returns the error of a node that is open or done. Fails if that takes more than the phase.
    #[inline]
    pub(crate) fn err(&self) -> Result<Option<Error>, ()> {
        let bits = self.0.load(Ordering::Acquire);
        match bits & 3 {
            OPEN => Ok(None),
            DONE => Ok(Some(error_in(bits))),
            _ => Err(()),
        }
    }

    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire) == OPEN
    }

    #[inline]
    pub(crate) fn is_unregistered(&self) -> bool {
        self.0.load(Ordering::Acquire) == UNREGISTERED
    }

    /// `Unregistered` to `Open`. Fails if the node is done already.
    pub(crate) fn open(&self) -> bool {
        self.change(UNREGISTERED, OPEN)
    }

    /// `Unregistered` to `Done`. Fails if the node has been registered or is done already.
    #[inline]
    pub(crate) fn finish_unregistered(&self, end: End) -> bool {
        self.change(UNREGISTERED, Phase::Done(end).encode())
    }

    /// `Unregistered` or `Open` to `to`. Fails if the node has been claimed already.
    pub(crate) fn claim(&self, to: Phase) -> bool {
        // The caller holds the lock, so an open node stays open; an unregistered one may become `Done`.
        if self.is_open() {
            self.0.store(to.encode(), Ordering::Release);
            return true;
        }
        self.change(UNREGISTERED, to.encode())
    }

    /// `Closing` to `Done`, once the channels are closed.
    pub(crate) fn close(&self, end: End) {
        self.0.store(Phase::Done(end).encode(), Ordering::Release);
    }

    #[inline]
    fn change(&self, from: u32, to: u32) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

#[cfg(all(test, not(model)))]
mod tests {
    use std::time::Duration;

    use super::super::origin::CancelledBy;
    use super::*;

    fn phases() -> Vec<Phase> {
        let errors = [Error::Canceled, Error::DeadlineExceeded];
        let ends = errors.map(|error| {
            CAUSES.map(|cause| End {
                error,
                cause,
                origin: Origin::deadline(Duration::from_millis(5)),
            })
        });
        let claimed = ends.into_iter().flatten();
        let claimed = claimed.flat_map(|end| [Phase::Closing(end), Phase::Done(end)]);
        [Phase::Unregistered, Phase::Open]
            .into_iter()
            .chain(claimed)
            .collect()
    }

    #[test]
    fn decode_reverses_encode() {
        for phase in phases() {
            assert_eq!(AtomicPhase::new(phase).load(), phase);
        }
    }

    #[test]
    fn phase_only_moves_forward() {
        let end = End {
            error: Error::Canceled,
            cause: CauseIn::Node,
            origin: Origin::here(CancelledBy::Group),
        };
        for phase in phases() {
            let is_claimed = phase.end().is_some();
            assert_eq!(AtomicPhase::new(phase).open(), phase == Phase::Unregistered);
            let finished = AtomicPhase::new(phase).finish_unregistered(end);
            assert_eq!(finished, phase == Phase::Unregistered);
            let atomic = AtomicPhase::new(phase);
            assert_eq!(atomic.claim(Phase::Closing(end)), !is_claimed);
            let expected = if is_claimed {
                phase
            } else {
                Phase::Closing(end)
            };
            assert_eq!(atomic.load(), expected);
        }
    }
}
