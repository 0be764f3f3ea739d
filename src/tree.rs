//! The cancellation tree.
//!
//! A [`Node`] is one context's place in the tree. It holds its parent, and its parent knows it only
//! weakly: a child keeps its parent alive, a parent never keeps a child alive.
//!
//! # State
//!
//! A node's `phase` tells how far it has come. It only ever moves forward:
//!
//! | phase | meaning | `err` |
//! | --- | --- | --- |
//! | `LOOSE` | nobody has looked at it yet, and its parent does not know it | settles first |
//! | `OPEN` | settled: its parent and the timer know it | `None` |
//! | `CLOSING` + error | claimed by a cancellation that is about to close the done channel | what the channel says |
//! | error | done | `Some` |
//!
//! `settle.rs` says what is gained by that and when it is allowed.
//!
//! # Invariants
//!
//! 1. The parents of a settled node are settled.
//! 2. `phase` leaves `OPEN` under the node's lock, and by that the cancellation has *claimed* the
//!    node: it alone takes the table of children, closes the channel and starts the callbacks. A
//!    `LOOSE` node has none of these, and is claimed by the one who changes its phase.
//! 3. The table grows only while the node is `OPEN`, under its lock. So a child either is in the
//!    table that the claim takes, or finds its parent claimed and ends as the parent has: none is
//!    lost.
//! 4. The done channel is made only while the node is `OPEN`, under its lock. So a claim that finds
//!    no channel has none to close, and a node is `CLOSING` only if it has one.
//! 5. A node leaves its parent's table when it and all its descendants are done, or when it is
//!    dropped. So who cancels the parent meanwhile still finds it, and waits.
//! 6. A dropped node has no descendants: each would hold it.
//!
//! # Locks
//!
//! No thread ever holds two of the crate's locks at once, so there is no order to keep. Nothing
//! foreign runs under one: channels are closed, callbacks started and everything that may own a
//! user's value dropped with all locks given back.

mod end;
mod hold;
mod settle;
mod walk;

use std::mem;
use std::panic::RefUnwindSafe;
use std::time::Instant;

use crossbeam_channel::{never, Receiver};
use once_cell::race::OnceBox;
use once_cell::sync::Lazy;

use crate::callback::Callback;
use crate::cancellation::Cancellation;
use crate::done::{self, Channel, Done};
use crate::error::{Cause, Error};
use crate::foreign::{Foreign, Watch};
use crate::pool;
use crate::slab::{self, Slab};
use crate::sync::{fence, Arc, AtomicU32, AtomicU8, Mutex, Ordering, Weak};
use crate::timer;

pub(crate) use self::hold::Hold;
use self::hold::Seats;
pub(crate) use self::walk::cancel;
use self::walk::Aftermath;

/// What made a node, and what it needs for that.
pub(crate) enum Kind {
    Todo,
    Cancel,
    /// As `Cancel`, for signals to cancel.
    Signals(Box<SignalNames>),
    /// `without_cancel`: a node that holds its parent and does not listen to it.
    Detached,
    /// A deadline of the node's own.
    Deadline {
        /// A cause for when it passes.
        cause: Option<Box<Cause>>,
        /// The lane of the timer's queue.
        lane: u8,
    },
    /// The second parent, if it has a node.
    Merge(Option<Box<Tie>>),
    /// A stand-in for its parent; see `hold.rs`.
    Seat,
    /// A context that is not the crate's own. The phase of such a node tells how far its end has
    /// come down to its children; what it says itself is for the foreign context to know.
    Custom(Box<Foreign>),
}

/// The names of the signals that cancel a node, as they are printed.
pub(crate) struct SignalNames(pub(crate) String);

/// A hold on a parent, and the place in its table.
pub(crate) struct Tie {
    parent: Arc<Node>,
    /// `NONE`, unless there is an entry for the child in the parent's table or in what a walk has yet
    /// to visit of it. Changed under the parent's lock, and by the walk when it gets there.
    slot: AtomicU32,
}

pub(crate) struct Node {
    /// `None` under `Context::background`, which has no node.
    tie: Option<Tie>,
    kind: Kind,
    /// The node's own deadline or the one it inherited.
    deadline: Option<Instant>,
    /// How many derivations lie between this node and the root, those of values counted too.
    depth: u32,
    phase: AtomicU8,
    /// How many can derive from the node.
    holds: AtomicU32,
    /// The number of the thread that did so first, or 0.
    first: AtomicU32,
    /// How often other threads have, up to a limit.
    others: AtomicU8,
    /// Made when the node settles.
    hub: OnceBox<Hub>,
}

/// Where others meet at a node.
#[derive(Default)]
struct Hub {
    done: Done,
    seats: OnceBox<Seats>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Taken by the claim.
    children: Slab<Child>,
    /// For a custom context with children.
    watch: Option<Box<Watch>>,
    /// Set by the claim, unless there is nothing to tell: no cause, and nothing to wait for.
    cancellation: Option<Arc<Cancellation>>,
}

/// Who is told when a node is done.
enum Child {
    /// By the first tie of that node, or by the second.
    Node(Weak<Node>, Rank),
    Callback(Arc<Callback>),
}

/// Whether somebody holds a node.
#[derive(Clone, Copy)]
enum Presence {
    Held,
    Gone,
}

#[derive(Clone, Copy)]
enum Rank {
    First,
    Second,
}

const OPEN: u8 = 0;
const CANCELED: u8 = 1;
const DEADLINE_EXCEEDED: u8 = 2;
const CLOSING: u8 = 4;
const LOOSE: u8 = 8;

fn is_claimed(phase: u8) -> bool {
    phase != OPEN && phase != LOOSE
}

fn is_over(phase: u8) -> bool {
    phase == CANCELED || phase == DEADLINE_EXCEEDED
}

impl Tie {
    fn new(parent: Arc<Node>) -> Tie {
        Tie {
            parent,
            slot: AtomicU32::new(slab::NONE),
        }
    }

    fn leave(&self, presence: Presence) -> Option<Watch> {
        if self.slot.load(Ordering::Relaxed) == slab::NONE {
            return None;
        }
        match (self.parent.vacate(&self.slot), presence) {
            (Ok(watch), _) => return watch,
            (Err(Some(walk)), Presence::Gone) => {
                self.slot.store(slab::NONE, Ordering::Relaxed);
                walk.left();
            }
            (Err(_), _) => {}
        }
        None
    }
}

fn phase(error: Error) -> u8 {
    match error {
        Error::Canceled => CANCELED,
        Error::DeadlineExceeded => DEADLINE_EXCEEDED,
    }
}

/// The error in a phase that is not `OPEN`.
fn error(phase: u8) -> Error {
    match phase & !CLOSING {
        CANCELED => Error::Canceled,
        _ => Error::DeadlineExceeded,
    }
}

impl Node {
    /// The node of `Context::todo`.
    pub(crate) fn todo() -> Hold {
        static TODO: Lazy<Hold> =
            Lazy::new(|| Hold::new(Arc::new(Node::new(None, Kind::Todo, 0, None))));
        TODO.clone()
    }

    fn new(parent: Option<Arc<Node>>, kind: Kind, depth: u32, deadline: Option<Instant>) -> Node {
        let phase = match kind {
            Kind::Todo | Kind::Detached => OPEN,
            _ => LOOSE,
        };
        if let Some(parent) = &parent {
            parent.note_derivation();
        }
        Node {
            tie: parent.map(Tie::new),
            kind,
            deadline,
            depth,
            phase: AtomicU8::new(phase),
            holds: AtomicU32::new(0),
            first: AtomicU32::new(0),
            others: AtomicU8::new(0),
            hub: OnceBox::new(),
        }
    }

    /// A child to be cancelled on its own or with its parent.
    pub(crate) fn with_cancel(parent: Option<Arc<Node>>, depth: u32) -> Arc<Node> {
        let inherited = parent.as_ref().and_then(|parent| parent.deadline());
        let under_custom = parent.as_ref().is_some_and(|parent| parent.is_custom());
        // Made in place: a node made on the stack is copied before its last words have arrived there.
        let node = Arc::new_cyclic(|_| Node::new(parent, Kind::Cancel, depth, inherited));
        if under_custom {
            node.settle();
        }
        node
    }

    /// A child for signals to cancel.
    #[cfg_attr(not(feature = "signal"), allow(dead_code))]
    pub(crate) fn with_signals(parent: Option<Arc<Node>>, depth: u32, names: String) -> Arc<Node> {
        let inherited = parent.as_ref().and_then(|parent| parent.deadline());
        let kind = Kind::Signals(Box::new(SignalNames(names)));
        Node::new(parent, kind, depth, inherited).settled()
    }

    /// A child with a deadline of its own; if the parent's comes first, that will do.
    pub(crate) fn with_deadline(
        parent: Option<Arc<Node>>,
        depth: u32,
        deadline: Instant,
        cause: Option<Cause>,
    ) -> Arc<Node> {
        let inherited = parent.as_ref().and_then(|parent| parent.deadline());
        if inherited.is_some_and(|inherited| inherited < deadline) {
            drop(cause); // which may panic: not with a node about to be returned, that would leak
            return Node::with_cancel(parent, depth);
        }
        let kind = Kind::Deadline {
            cause: cause.map(Box::new),
            lane: timer::my_lane(),
        };
        let node = Arc::new_cyclic(|_| Node::new(parent, kind, depth, Some(deadline)));
        if node.parent().is_some_and(|parent| parent.is_cancellable()) {
            node.settle(); // there is another end to it
        }
        node
    }

    /// A child that nothing cancels.
    pub(crate) fn without_cancel(parent: Option<Arc<Node>>, depth: u32) -> Arc<Node> {
        Arc::new(Node::new(parent, Kind::Detached, depth, None))
    }

    /// A child of two.
    pub(crate) fn merge(
        first: Option<Arc<Node>>,
        second: Option<Arc<Node>>,
        depth: u32,
    ) -> Arc<Node> {
        let deadlines = [&first, &second].map(|parent| parent.as_ref()?.deadline());
        let deadline = deadlines.into_iter().flatten().min();
        let second = second.map(|second| Box::new(Tie::new(second)));
        Node::new(first, Kind::Merge(second), depth, deadline).settled()
    }

    /// The root of a custom context. One that hands on the done channel of a node of ours is a
    /// child of that, and needs nobody to watch it.
    pub(crate) fn custom(foreign: Foreign, wrapped: Option<&Arc<Node>>) -> Arc<Node> {
        let parent = wrapped.filter(|node| node.hands_out(&foreign.done()));
        Node::new(parent.cloned(), Kind::Custom(Box::new(foreign)), 0, None).settled()
    }

    fn hub(&self) -> &Hub {
        self.hub.get_or_init(Box::default)
    }

    /// Cancels the node and all its descendants. When it returns they are done, whoever cancelled
    /// them.
    pub(crate) fn cancel(self: &Arc<Self>, cause: Option<Cause>) {
        if !(self.is_loose() && self.cancel_loose(cause.as_ref())) {
            drop(cancel(self, Error::Canceled, cause));
        }
    }

    fn cancellation(&self) -> Option<Arc<Cancellation>> {
        self.hub.get()?.state.lock().cancellation.clone()
    }

    /// Waits the moment that it takes who has claimed the node to close its channel.
    fn wait_closed(&self, found: u8) {
        if found & CLOSING != 0 {
            self.hub().done.wait_closed();
        }
    }

    /// Puts a child in the table, unless it is there; false if it is. If the node has been claimed,
    /// says how far that has come.
    fn admit(self: &Arc<Self>, child: Child, slot: &AtomicU32) -> Result<bool, u8> {
        if let Kind::Custom(foreign) = &self.kind {
            if self.phase.load(Ordering::Acquire) == OPEN && foreign.is_done() {
                self.end(foreign);
            }
        }
        let mut state = self.hub().state.lock();
        if slot.load(Ordering::Relaxed) != slab::NONE {
            return Ok(false);
        }
        match self.phase.load(Ordering::Relaxed) {
            OPEN => {
                let first = state.children.is_empty();
                slot.store(state.children.insert(child), Ordering::Relaxed);
                drop(state);
                if first {
                    self.watch();
                }
                Ok(true)
            }
            phase => Err(phase),
        }
    }

    /// Has a custom context watched, as long as it has children.
    fn watch(self: &Arc<Self>) {
        let Kind::Custom(foreign) = &self.kind else {
            return;
        };
        if self.tie.is_some() {
            return;
        }
        let node = Arc::downgrade(self);
        let (watch, panics) = foreign.watch(move || {
            if let Some(node) = node.upgrade() {
                if let Kind::Custom(foreign) = &node.kind {
                    node.end(foreign);
                }
            }
        });
        let mut watch = Some(Box::new(watch));
        let mut state = self.hub().state.lock();
        if !state.children.is_empty() && state.watch.is_none() {
            state.watch = watch.take();
        }
        drop(state);
        drop(watch);
        panics.resume();
    }

    /// Brings the end of a custom context down to its children. One that is tied to another context
    /// hands that one's end down, as the walk that is on its way from there would.
    fn end(self: &Arc<Self>, foreign: &Foreign) {
        let tied = self
            .parent()
            .and_then(|parent| Some((parent.err()?, parent.cause())));
        let (error, cause) = tied.unwrap_or_else(|| foreign.end());
        drop(cancel(self, error, cause));
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    pub(crate) fn parent(&self) -> Option<&Arc<Node>> {
        self.tie.as_ref().map(|tie| &tie.parent)
    }

    fn second(&self) -> Option<&Tie> {
        match &self.kind {
            Kind::Merge(second) => second.as_deref(),
            _ => None,
        }
    }

    fn tie(&self, rank: Rank) -> Option<&Tie> {
        match rank {
            Rank::First => self.tie.as_ref(),
            Rank::Second => self.second(),
        }
    }

    fn ties(&self) -> impl Iterator<Item = (Rank, &Tie)> {
        let first = self.tie.iter().map(|tie| (Rank::First, tie));
        first.chain(self.second().map(|tie| (Rank::Second, tie)))
    }

    #[inline]
    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.kind {
            Kind::Custom(foreign) => foreign.deadline(),
            _ => self.deadline,
        }
    }

    pub(crate) fn is_cancellable(&self) -> bool {
        match &self.kind {
            Kind::Todo | Kind::Detached => false,
            Kind::Custom(foreign) => foreign.is_cancellable(),
            _ => true,
        }
    }

    fn is_custom(&self) -> bool {
        matches!(self.kind, Kind::Custom(_))
    }

    /// `Some` once the done channel is disconnected, and not before.
    #[inline]
    pub(crate) fn err(self: &Arc<Self>) -> Option<Error> {
        // Who polls the channel and finds it disconnected has acquired nothing by that: crossbeam
        // reads the mark with a relaxed load. This makes up for it.
        fence(Ordering::Acquire);
        match self.phase.load(Ordering::Acquire) {
            OPEN if !self.is_custom() => None,
            CANCELED if !self.is_custom() => Some(Error::Canceled),
            phase => self.err_in(phase),
        }
    }

    #[cold]
    fn err_in(self: &Arc<Self>, mut found: u8) -> Option<Error> {
        if let Kind::Custom(foreign) = &self.kind {
            return foreign.err();
        }
        if found == LOOSE {
            self.settle();
            found = self.phase.load(Ordering::Acquire);
        }
        if found & CLOSING != 0 {
            // While the channel is being closed, the channel itself is asked.
            let done = &self.hub().done;
            if !done.is_closing() {
                return None;
            }
            done.wait_closed();
        }
        is_claimed(found).then(|| error(found))
    }

    pub(crate) fn cause(self: &Arc<Self>) -> Option<Cause> {
        if let Kind::Custom(foreign) = &self.kind {
            return foreign.cause();
        }
        let error = self.err()?;
        let cancellation = self.cancellation();
        let cause = cancellation.and_then(|cancellation| cancellation.cause().cloned());
        Some(cause.unwrap_or_else(|| error.as_cause()))
    }

    #[inline]
    pub(crate) fn done(self: &Arc<Self>) -> Receiver<()> {
        fence(Ordering::Acquire); // as in `err`
        let found = self.phase.load(Ordering::Acquire);
        match self.hub.get() {
            Some(hub) if found & CLOSING == 0 => {
                hub.done.mine().unwrap_or_else(|| self.make_done())
            }
            // It ended before anybody had looked, or where others have, their channels are closed.
            None if is_over(found) => done::closed(),
            _ => self.make_done(),
        }
    }

    #[cold]
    fn make_done(self: &Arc<Self>) -> Receiver<()> {
        match &self.kind {
            Kind::Custom(foreign) => return foreign.done(),
            Kind::Todo | Kind::Detached => return never(),
            _ => {}
        }
        if self.is_loose() {
            self.settle();
        }
        let done = &self.hub().done;
        if done.is_closing() {
            done.wait_closed(); // who has seen one channel closed gets no open one
        } else if self.phase.load(Ordering::Acquire) == OPEN {
            let mut spare = Some(Channel::new());
            let state = self.hub().state.lock();
            if self.phase.load(Ordering::Relaxed) == OPEN {
                spare = spare.and_then(|channel| done.install(channel));
            }
            drop(state);
            drop(spare);
        }
        done.any().unwrap_or_else(done::closed)
    }

    /// Whether `done` is a done channel of this node, on whatever thread it was asked for.
    fn hands_out(self: &Arc<Self>, done: &Receiver<()>) -> bool {
        let made = self.hub.get().is_some_and(|hub| hub.done.has(done));
        made || self.done().same_channel(done)
    }

    /// Has `callback` started once the node is done. It is started at once if it is done already.
    pub(crate) fn register(self: &Arc<Self>, callback: &Arc<Callback>) {
        if self.is_loose() {
            self.settle();
        }
        let child = Child::Callback(callback.clone());
        if let Err(found) = self.admit(child, &callback.slot) {
            self.wait_closed(found); // it may count on finding the context done
            callback.clone().start().into_iter().for_each(pool::start);
        }
    }

    /// Gives back the slot of a callback that has been taken back.
    pub(crate) fn unregister(&self, callback: &Callback) {
        drop(self.vacate(&callback.slot).unwrap_or_default());
    }

    /// Frees a slot of the table, and returns the watch if there is nobody left to watch for. Fails if
    /// a walk has taken the table.
    fn vacate(&self, slot: &AtomicU32) -> Result<Option<Watch>, Option<Arc<Cancellation>>> {
        let mut state = self.hub().state.lock();
        if is_claimed(self.phase.load(Ordering::Relaxed)) {
            return Err(state.cancellation.clone());
        }
        let child = state.children.remove(slot.load(Ordering::Relaxed));
        slot.store(slab::NONE, Ordering::Relaxed);
        let watch = match state.children.is_empty() {
            true => state.watch.take().map(|watch| *watch),
            false => None,
        };
        let spent = state
            .children
            .is_spent()
            .then(|| mem::take(&mut state.children));
        drop(state);
        drop((child, spent));
        Ok(watch)
    }

    /// Leaves the tables of its parents. What they had to watch for it alone comes back.
    ///
    /// A walk that has taken such a table will visit the node, or if it is being dropped cannot, and
    /// waits to be told. So a drop comes here before it runs any code of the user's.
    fn detach(&self, presence: Presence) -> [Option<Watch>; 2] {
        [self.tie.as_ref(), self.second()].map(|tie| tie?.leave(presence))
    }

    /// Sets the timer of a node that has just settled; if the time is over already, so is the node.
    fn arm(self: &Arc<Self>) {
        let Some((lane, key)) = self.timer() else {
            return;
        };
        if self.is_due() {
            return drop(self.time_out());
        }
        let timer: Weak<Node> = Arc::downgrade(self);
        timer::insert(lane, key, timer);
        // A cancellation that came too early to find the timer has left its mark before.
        if self.phase.load(Ordering::Acquire) != OPEN {
            timer::remove(lane, key);
        }
    }

    /// The timer's place in the queue. The address of the hub tells it from all others: it stays the
    /// same wherever the node goes, and the timer is gone before it.
    fn timer(&self) -> Option<(u8, timer::Key)> {
        let Kind::Deadline { lane, .. } = self.kind else {
            return None;
        };
        let hub: *const Hub = self.hub.get()?;
        Some((lane, (self.deadline?, hub as usize)))
    }

    fn disarm(&self) {
        if let Some((lane, key)) = self.timer() {
            timer::remove(lane, key);
        }
    }

    /// Cancels the node for its deadline.
    fn time_out(self: &Arc<Self>) -> Aftermath {
        let cause = match &self.kind {
            Kind::Deadline { cause, .. } => cause.as_deref().cloned(),
            _ => None,
        };
        cancel(self, Error::DeadlineExceeded, cause)
    }
}

// What a node shares between threads is behind locks and atomics that no panic leaves half changed.
impl RefUnwindSafe for Node {}
