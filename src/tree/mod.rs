//! The cancellation tree. `docs/design.md` follows one cancel and one deadline through it, step by step.
//!
//! A [`Node`] is the place of one context in the tree. It owns its parent, and its parent has only
//! a weak reference to it: a child keeps its parent alive, but a parent never keeps a child alive.
//!
//! # Registered late
//!
//! Most contexts are derived, passed on and dropped without anything waiting for them. So a node
//! begins *unregistered*: it is not in its parent's table and its timer is not set. It is done when
//! its parent is, so `err` checks the ancestors. It is registered when it gets a done channel, a
//! callback or a registered child, or after a number of calls of `err`; or at creation, if its end
//! does not follow from a single parent's: a deadline under a cancellable parent, signals, two
//! parents, a custom parent, or a custom context itself.
//!
//! # Invariants
//!
//! 1. The parents of a registered node are registered.
//! 2. A phase changes under the node's lock, with two exceptions: the claiming thread changes
//!    `Closing` to `Done`, and an unregistered node may become `Done`.
//! 3. The cancellation that changes the phase of a registered node has *claimed* it: it alone takes
//!    the table of children, closes the channels and hands over the callbacks.
//! 4. Children are inserted only while the node is `Open`, under the lock of the table. So a child
//!    either is in the table when the node is claimed, or finds the node claimed.
//! 5. Done channels are made only while the node is `Open`, under its lock. So a claim that finds no
//!    channel has none to close.
//! 6. A claimed node with children is *busy* until all its descendants are done.
//! 7. A node leaves its parent's table when it and all its descendants are done, or when it is
//!    dropped. So another cancellation, coming from above, finds it and waits.
//! 8. A node being dropped has no descendants, because each would own it.
//!
//! # Locks
//!
//! A thread that holds a node's lock may lock a parent or one of its shards, then a timer queue or a
//! custom context's watch; no other lock of the crate. A parent is older than its child, so there is
//! no circle. No foreign code runs under a lock: channels are closed, callbacks handed over and
//! everything that may own a value of the user's is dropped with all locks released.

mod abandon;
mod callback;
mod children;
mod done;
mod expiry;
mod explain;
mod external;
mod origin;
pub(crate) mod phase;
mod propagate;
mod register;
mod status;
mod waiter;

use std::mem::size_of;
use std::panic::{Location, RefUnwindSafe};
use std::time::{Duration, Instant};

use once_cell::race::OnceBox;
use once_cell::sync::Lazy;

use crate::error::Cause;
use crate::runtime::rounded::round;
use crate::runtime::slab;
use crate::runtime::sync::{Arc, AtomicU8, Condvar, Mutex};
use crate::runtime::timestamp::Timestamp;

pub(crate) use self::callback::Callback;
use self::children::{ChildSlot, Table};
use self::done::DoneChannels;
pub(crate) use self::explain::Limit;
pub(crate) use self::external::{External, ExternalSource};
pub(crate) use self::origin::{CancelledBy, Origin};
use self::phase::{AtomicPhase, Phase};
pub(crate) use self::phase::{CauseIn, LinkIndex};
#[cfg_attr(not(feature = "net"), allow(unused_imports))]
pub(crate) use self::waiter::Waiter;

pub(crate) struct Node {
    /// `None` under `Context::background`, which has no node.
    parent: Option<Arc<Node>>,
    /// The node's place in the parent's table.
    slot: ChildSlot,
    kind: Kind,
    /// Data of some kinds only; one pointer if absent.
    extra: OnceBox<Extra>,
    /// The node's own deadline or an inherited one, whichever is earlier.
    deadline: Timestamp,
    /// Where in the user's code it was derived.
    derived_at: &'static Location<'static>,
    phase: AtomicPhase,
    /// How often `err` was called while the node was unregistered.
    err_calls: AtomicU8,
    /// How often its lock was found taken by a thread that inserts a child.
    contention: AtomicU8,
    /// Made by the first call of `done`, or when the node is found to be contended.
    done: OnceBox<DoneChannels>,
    state: Mutex<State>,
    /// Notified when the node is no longer busy, or a child in a taken table has been dropped, if
    /// `State::is_awaited`.
    progress: Condvar,
}

/// 96 bytes + the two counts of the `Arc` + the handles that `with_cancel` returns = 144, the limit in
/// `docs/performance.md` (`docs/design.md`, Budgets).
const _: () = assert!(cfg!(model) || size_of::<Node>() <= 96 || size_of::<usize>() != 8);

struct State {
    /// Taken by the cancellation that claims the node.
    children: Table,
    /// The parts of the pending timer's `TimerId`, or `slab::NONE` as its slot.
    timer_slot: u32,
    timer_shard: u8,
    is_busy: bool,
    is_awaited: bool,
    /// How many children were dropped after a cancellation had taken the table with them in it.
    dropped: u32,
    /// The timeout that the node was given, rounded, or one of the following.
    timeout: u32,
}

const NO_TIMEOUT: u32 = u32::MAX;
/// It was given a deadline instead.
const A_DEADLINE: u32 = NO_TIMEOUT - 1;

/// How a node was made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Todo,
    Cancel,
    /// Like `Cancel`, for `Context::scope`.
    Group,
    Deadline,
    /// To be cancelled by signals.
    Signals,
    Merge,
    /// Owns its parent but is not cancelled with it.
    WithoutCancel,
    /// A context that is not the crate's own. The node's phase says how far its end has been
    /// propagated to its children.
    Custom,
}

pub(crate) enum Extra {
    /// Of `Cancel` and `Group`: the cause that a cancellation of this node gave, and its origin. Of
    /// `Deadline`: the cause that was given for when it passes.
    Cause(Cause, Origin),
    /// Of `Signals`: their names, as they are printed, and the cause.
    Signals(Box<(String, OnceBox<Cause>)>),
    /// Of `Merge`: the second parent, if it has a node.
    Second(Arc<Node>, ChildSlot),
    /// Of `Custom`.
    External(Box<External>),
}

impl Node {
    /// Returns the node of `Context::todo`.
    pub(crate) fn todo() -> Arc<Node> {
        static TODO: Lazy<Arc<Node>> =
            Lazy::new(|| Node::new(None, Kind::Todo, Timestamp::NONE, None, NO_TIMEOUT));
        TODO.clone()
    }

    #[inline]
    #[track_caller]
    fn new(
        parent: Option<Arc<Node>>,
        kind: Kind,
        deadline: Timestamp,
        extra: Option<Extra>,
        timeout: u32,
    ) -> Arc<Node> {
        let phase = match kind {
            Kind::Todo | Kind::WithoutCancel => Phase::Open,
            _ => Phase::Unregistered,
        };
        Arc::new(Node {
            parent,
            slot: ChildSlot::default(),
            kind,
            extra: extra.map_or_else(OnceBox::new, |extra| OnceBox::with_value(Box::new(extra))),
            deadline,
            derived_at: Location::caller(),
            phase: AtomicPhase::new(phase),
            err_calls: AtomicU8::new(0),
            contention: AtomicU8::new(0),
            done: OnceBox::new(),
            state: Mutex::new(State {
                children: Table::default(),
                timer_slot: slab::NONE,
                timer_shard: 0,
                is_busy: false,
                is_awaited: false,
                dropped: 0,
                timeout,
            }),
            progress: Condvar::new(),
        })
    }

    /// Creates a child that is cancelled by itself or with its parent.
    #[inline]
    #[track_caller]
    pub(crate) fn with_cancel(parent: Option<Arc<Node>>) -> Arc<Node> {
        Node::cancellable(parent, Kind::Cancel, NO_TIMEOUT)
    }

    /// Creates the node of a group.
    #[track_caller]
    pub(crate) fn group(parent: Option<Arc<Node>>) -> Arc<Node> {
        Node::cancellable(parent, Kind::Group, NO_TIMEOUT)
    }

    #[inline]
    #[track_caller]
    fn cancellable(parent: Option<Arc<Node>>, kind: Kind, timeout: u32) -> Arc<Node> {
        let deadline = earliest_deadline([&parent]);
        let is_custom = |parent: &Arc<Node>| parent.kind == Kind::Custom;
        let is_under_custom = parent.as_ref().is_some_and(is_custom);
        let node = Node::new(parent, kind, deadline, None, timeout);
        if is_under_custom {
            node.register();
        }
        node
    }

    /// Creates a child to be cancelled by signals.
    #[cfg_attr(not(feature = "signal"), allow(dead_code))]
    #[track_caller]
    pub(crate) fn with_signals(parent: Option<Arc<Node>>, names: String) -> Arc<Node> {
        let deadline = earliest_deadline([&parent]);
        let extra = Extra::Signals(Box::new((names, OnceBox::new())));
        let node = Node::new(parent, Kind::Signals, deadline, Some(extra), NO_TIMEOUT);
        node.register();
        node
    }

    /// Creates a child with a deadline of its own, unless the parent's comes first. `timeout` is what the
    /// user gave instead of a deadline; unless it is zero, the clock is not read again.
    #[track_caller]
    pub(crate) fn with_deadline(
        parent: Option<Arc<Node>>,
        deadline: Timestamp,
        timeout: Option<Duration>,
        cause: Option<Cause>,
    ) -> Arc<Node> {
        let is_ahead = timeout.is_some_and(|timeout| !timeout.is_zero());
        let timeout = timeout.map_or(A_DEADLINE, |timeout| round(timeout, u32::BITS));
        if deadline == Timestamp::NONE || earliest_deadline([&parent]) < deadline {
            drop(cause); // before the node is made, which would leak if this panicked
            return Node::cancellable(parent, Kind::Cancel, timeout);
        }
        let extra = cause.map(|cause| Extra::Cause(cause, Origin::NONE));
        let node = Node::new(parent, Kind::Deadline, deadline, extra, timeout);
        if node.parent().is_some_and(|parent| parent.is_cancellable()) {
            node.register_ancestors();
            node.register_self(!is_ahead && node.deadline_passed(), false);
        }
        node
    }

    /// Creates a child that is never done.
    #[track_caller]
    pub(crate) fn without_cancel(parent: Option<Arc<Node>>) -> Arc<Node> {
        Node::new(
            parent,
            Kind::WithoutCancel,
            Timestamp::NONE,
            None,
            NO_TIMEOUT,
        )
    }

    /// Creates a child of two parents.
    #[track_caller]
    pub(crate) fn merge(first: Option<Arc<Node>>, second: Option<Arc<Node>>) -> Arc<Node> {
        let deadline = earliest_deadline([&first, &second]);
        let second = second.map(|second| Extra::Second(second, ChildSlot::default()));
        let node = Node::new(first, Kind::Merge, deadline, second, NO_TIMEOUT);
        node.register();
        node
    }

    /// Creates the node of a custom context. It has no parent, unless it shares the done channel of a
    /// context it wraps; then it is that context's child and needs no watch.
    #[track_caller]
    pub(crate) fn custom(
        external: External,
        wrapped: Option<&Arc<Node>>,
        deadline: Option<Instant>,
    ) -> Arc<Node> {
        let parent = wrapped.filter(|node| node.hands_out(&external.done()));
        let deadline = deadline.map_or(Timestamp::NONE, Timestamp::from);
        let extra = Extra::External(Box::new(external));
        let node = Node::new(
            parent.cloned(),
            Kind::Custom,
            deadline,
            Some(extra),
            NO_TIMEOUT,
        );
        node.register();
        node
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns a number that no other node has at the same time.
    pub(crate) fn address(&self) -> usize {
        self as *const Node as usize
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.instant()
    }

    pub(crate) fn parent(&self) -> Option<&Arc<Node>> {
        self.parent.as_ref()
    }

    /// Returns the custom context of a node that is one.
    #[inline]
    pub(crate) fn external(&self) -> Option<&External> {
        match self.extra.get().filter(|_| self.kind == Kind::Custom) {
            Some(Extra::External(external)) => Some(external),
            _ => None,
        }
    }

    /// Returns the names of the signals that cancel the node.
    pub(crate) fn signal_names(&self) -> Option<&str> {
        match self.extra.get() {
            Some(Extra::Signals(signals)) => Some(&signals.0),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn is_cancellable(&self) -> bool {
        match self.kind {
            Kind::Todo | Kind::WithoutCancel => false,
            Kind::Custom => self.external().is_some_and(External::is_cancellable),
            Kind::Cancel | Kind::Group | Kind::Deadline | Kind::Signals | Kind::Merge => true,
        }
    }

    /// Returns a parent, and the node's place in its table.
    fn link(&self, index: LinkIndex) -> Option<(&Arc<Node>, &ChildSlot)> {
        match (index, self.extra.get()) {
            (LinkIndex::First, _) => Some((self.parent.as_ref()?, &self.slot)),
            (LinkIndex::Second, Some(Extra::Second(node, slot))) => Some((node, slot)),
            (LinkIndex::Second, _) => None,
        }
    }

    fn parents(&self) -> impl Iterator<Item = &Arc<Node>> {
        let second = self.link(LinkIndex::Second).map(|(parent, _)| parent);
        self.parent.iter().chain(second)
    }
}

fn earliest_deadline<const N: usize>(parents: [&Option<Arc<Node>>; N]) -> Timestamp {
    let parents = parents.into_iter().flatten();
    parents
        .map(|parent| parent.deadline)
        .min()
        .unwrap_or(Timestamp::NONE)
}

// What threads share of a node is behind locks and atomics that no panic leaves half changed.
impl RefUnwindSafe for Node {}
