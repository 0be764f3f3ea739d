//! The cancellation tree.
//!
//! A [`Node`] is one context's place in the tree. It holds its parent, and its parent knows it only
//! weakly: a child keeps its parent alive, a parent never keeps a child alive.
//!
//! # State
//!
//! A node's `phase` tells how far its cancellation has come. It only ever moves forward:
//!
//! | phase | meaning | `err` |
//! | --- | --- | --- |
//! | `OPEN` | not cancelled | `None` |
//! | `CLOSING` + error | claimed by a cancellation that is about to close the done channel | what the channel says |
//! | error | done | `Some` |
//!
//! # Invariants
//!
//! 1. `phase` leaves `OPEN` under the node's lock, and by that the cancellation has *claimed* the
//!    node: it alone takes the table of children, closes the channel and starts the callbacks.
//! 2. The table grows only while the node is `OPEN`, under its lock. So a child either is in the
//!    table that the claim takes, or finds its parent claimed and is born done: none is lost.
//! 3. The done channel is made only while the node is `OPEN`, under its lock. So a claim that finds
//!    no channel has none to close, and a node is `CLOSING` only if it has one.
//! 4. A node leaves its parent's table when it and all its descendants are done, or when it is
//!    dropped. So who cancels the parent meanwhile still finds it, and waits.
//! 5. A dropped node has no descendants: each would hold it.
//!
//! # Locks
//!
//! No thread ever holds two of the crate's locks at once, so there is no order to keep. Nothing
//! foreign runs under one: channels are closed, callbacks started and everything that may own a
//! user's value dropped with all locks given back.

use std::panic::RefUnwindSafe;
use std::time::Instant;

use crossbeam_channel::{never, Receiver};
use once_cell::sync::Lazy;

use crate::callback::Callback;
use crate::cancellation::{self, Cancellation};
use crate::done::{self, Channel, Done};
use crate::error::{Cause, Error};
use crate::pool::{self, Task};
use crate::slab::{self, Slab};
use crate::sync::{Arc, AtomicU32, AtomicU8, Mutex, Ordering, Weak};
use crate::timer::{self, Expire};
use crate::unwind::FirstPanic;

/// What made a node: for `Display`, and to know what can be cancelled at all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Todo,
    Cancel,
    Deadline,
    /// `without_cancel`: a node that holds its parent and does not listen to it.
    Detached,
}

pub(crate) struct Node {
    /// `None` under `Context::background`, which has no node.
    parent: Option<Arc<Node>>,
    kind: Kind,
    phase: AtomicU8,
    /// How many derivations lie between this node and the root, those of values counted too.
    depth: u32,
    /// The slot in the parent's table, or `NONE`. Written once, under the parent's lock.
    slot: AtomicU32,
    /// The node's own deadline or the one it inherited.
    deadline: Option<Instant>,
    /// For `Kind::Deadline` alone.
    expiry: Option<Box<Expiry>>,
    done: Done,
    state: Mutex<State>,
}

/// Who is told when a node is done.
enum Child {
    Node(Weak<Node>),
    Callback(Arc<Callback>),
}

struct State {
    /// Made with the first child, taken by the claim.
    children: Option<Box<Slab<Child>>>,
    /// Set by the claim, unless there is nothing to tell: no cause, and nothing to wait for.
    cancellation: Option<Arc<Cancellation>>,
}

/// What a node keeps for its own deadline.
struct Expiry {
    cause: Option<Cause>,
}

const OPEN: u8 = 0;
const CANCELED: u8 = 1;
const DEADLINE_EXCEEDED: u8 = 2;
const CLOSING: u8 = 4;

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
    pub(crate) fn todo() -> Arc<Node> {
        static TODO: Lazy<Arc<Node>> =
            Lazy::new(|| Arc::new(Node::new(None, Kind::Todo, 0, None, None)));
        TODO.clone()
    }

    fn new(
        parent: Option<Arc<Node>>,
        kind: Kind,
        depth: u32,
        deadline: Option<Instant>,
        expiry: Option<Box<Expiry>>,
    ) -> Node {
        Node {
            parent,
            kind,
            phase: AtomicU8::new(OPEN),
            depth,
            slot: AtomicU32::new(slab::NONE),
            deadline,
            expiry,
            done: Done::new(),
            state: Mutex::new(State {
                children: None,
                cancellation: None,
            }),
        }
    }

    /// A child to be cancelled on its own or with its parent.
    pub(crate) fn cancel(parent: Option<Arc<Node>>, depth: u32) -> Arc<Node> {
        let deadline = parent.as_ref().and_then(|parent| parent.deadline);
        Node::new(parent, Kind::Cancel, depth, deadline, None).attached()
    }

    /// A child with a deadline of its own. A deadline that does not come before the parent's would
    /// make no difference, and none is set.
    pub(crate) fn deadline(
        parent: Option<Arc<Node>>,
        depth: u32,
        deadline: Instant,
        cause: Option<Cause>,
    ) -> Arc<Node> {
        let inherited = parent.as_ref().and_then(|parent| parent.deadline);
        if inherited.is_some_and(|inherited| inherited < deadline) {
            return Node::cancel(parent, depth);
        }
        let expiry = Box::new(Expiry { cause });
        let node =
            Node::new(parent, Kind::Deadline, depth, Some(deadline), Some(expiry)).attached();
        if deadline <= Instant::now() {
            node.clone().expire();
        } else {
            node.arm();
        }
        node
    }

    /// A child that nothing cancels.
    pub(crate) fn detached(parent: Option<Arc<Node>>, depth: u32) -> Arc<Node> {
        Arc::new(Node::new(parent, Kind::Detached, depth, None, None))
    }

    /// Shares a new node, and makes it known to its parent.
    fn attached(self) -> Arc<Node> {
        let node = Arc::new(self);
        if let Some(parent) = node.canceller() {
            let child = Child::Node(Arc::downgrade(&node));
            if let Err(found) = parent.admit(child, &node.slot) {
                // Born done, for the same reason.
                let cancellation = parent.state.lock().cancellation.clone();
                node.state.lock().cancellation = cancellation;
                node.phase.store(phase(error(found)), Ordering::Release);
            }
        }
        node
    }

    /// Puts a child in the table; if the node has been claimed, says how far that has come.
    fn admit(&self, child: Child, slot: &AtomicU32) -> Result<(), u8> {
        let mut state = self.state.lock();
        match self.phase.load(Ordering::Relaxed) {
            OPEN => {
                let children = state.children.get_or_insert_with(Box::default);
                slot.store(children.insert(child), Ordering::Relaxed);
                Ok(())
            }
            phase => Err(phase),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn parent(&self) -> Option<&Arc<Node>> {
        self.parent.as_ref()
    }

    /// The parent, if the node is cancelled with it.
    fn canceller(&self) -> Option<&Arc<Node>> {
        self.parent
            .as_ref()
            .filter(|parent| parent.is_cancellable())
    }

    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    pub(crate) fn when(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn is_cancellable(&self) -> bool {
        !matches!(self.kind, Kind::Todo | Kind::Detached)
    }

    /// `Some` once the done channel is disconnected, and not before: while it is being closed, the
    /// channel itself is asked.
    pub(crate) fn err(&self) -> Option<Error> {
        match self.phase.load(Ordering::Acquire) {
            OPEN => None,
            phase if phase & CLOSING != 0 && !self.done.is_closed() => None,
            phase => Some(error(phase)),
        }
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        let error = self.err()?;
        let cancellation = self.state.lock().cancellation.clone();
        let cause = cancellation.and_then(|cancellation| cancellation.cause().cloned());
        Some(cause.unwrap_or_else(|| error.as_cause()))
    }

    pub(crate) fn done(&self) -> Receiver<()> {
        if !self.is_cancellable() {
            return never();
        }
        if !self.done.is_made() && self.phase.load(Ordering::Acquire) == OPEN {
            let mut spare = Some(Channel::new());
            let state = self.state.lock();
            if self.phase.load(Ordering::Relaxed) == OPEN {
                spare = spare.and_then(|channel| self.done.install(channel));
            }
            drop(state);
            drop(spare);
        }
        self.done.receiver().unwrap_or_else(done::closed)
    }

    /// Has `callback` started once the node is done. It is started at once if it is done already.
    pub(crate) fn register(&self, callback: &Arc<Callback>) {
        let child = Child::Callback(callback.clone());
        let Err(found) = self.admit(child, &callback.slot) else {
            return;
        };
        let Some(task) = callback.take() else { return };
        match self.done.receiver().filter(|_| found & CLOSING != 0) {
            // It may count on finding the context done.
            Some(done) => pool::start(Box::new(move || {
                let _ = done.recv();
                task();
            })),
            None => pool::start(task),
        }
    }

    /// Gives back the slot of a callback that has been taken back.
    pub(crate) fn unregister(&self, callback: &Arc<Callback>) {
        let slot = callback.slot.load(Ordering::Relaxed);
        self.vacate(slot, |children| {
            matches!(children.get(slot), Some(Child::Callback(other)) if Arc::ptr_eq(other, callback))
        });
    }

    /// Frees a slot of the table, if there still is one and `valid` says yes.
    fn vacate(&self, slot: u32, valid: impl FnOnce(&Slab<Child>) -> bool) {
        let mut state = self.state.lock();
        let Some(children) = state.children.as_mut().filter(|children| valid(children)) else {
            return;
        };
        let child = children.remove(slot);
        let table = children.is_spent().then(|| state.children.take());
        drop(state);
        drop((child, table));
    }

    /// Leaves the parent's table.
    fn detach(&self) {
        let slot = self.slot.load(Ordering::Relaxed);
        if let Some(parent) = self.parent.as_ref().filter(|_| slot != slab::NONE) {
            parent.vacate(slot, |_| true);
        }
    }

    fn arm(self: &Arc<Self>) {
        let Some(key) = self.timer() else { return };
        if self.phase.load(Ordering::Acquire) != OPEN {
            return;
        }
        let timer: Weak<Node> = Arc::downgrade(self);
        timer::insert(key, timer);
        // A cancellation that came too early to find the timer has left its mark before.
        if self.phase.load(Ordering::Acquire) != OPEN {
            timer::remove(key);
        }
    }

    /// The timer's place in the queue. The address of the expiry tells it from all others: it stays
    /// the same wherever the node goes, and the timer is gone before it.
    fn timer(&self) -> Option<timer::Key> {
        let expiry: *const Expiry = &**self.expiry.as_ref()?;
        Some((self.deadline?, expiry as usize))
    }

    fn disarm(&self) {
        if let Some(key) = self.timer() {
            timer::remove(key);
        }
    }

    /// The end of a node that nobody holds. Returns its parent, for the caller to let go.
    fn abandon(&mut self) -> Option<Arc<Node>> {
        if self.is_cancellable() && *self.phase.get_mut() == OPEN {
            *self.phase.get_mut() = CANCELED;
            self.detach();
            self.disarm();
            self.done.close();
            let children = self.state.get_mut().children.take();
            for child in children.into_iter().flat_map(|children| *children) {
                // Nodes there are none: they would hold this one.
                if let Child::Callback(callback) = child {
                    callback.take().into_iter().for_each(pool::start);
                }
            }
        }
        self.parent.take()
    }
}

// What a node shares between threads is behind locks and atomics that no panic leaves half changed.
impl RefUnwindSafe for Node {}

/// A node that nobody holds is cancelled by that. A long chain is let go in a loop: the stack of
/// the thread that drops the last handle may be small.
impl Drop for Node {
    fn drop(&mut self) {
        let mut panics = FirstPanic::default();
        let mut parent = self.abandon();
        while let Some(mut node) = parent.and_then(Arc::into_inner) {
            parent = node.abandon();
            panics.catch(|| drop(node));
        }
        panics.resume();
    }
}

/// Called by the timer thread, which must run no code of the user's: what is left is for another.
impl Expire for Node {
    fn expire(self: Arc<Self>) {
        let cause = self.expiry.as_ref().and_then(|expiry| expiry.cause.clone());
        let mut remains = cancel(&self, Error::DeadlineExceeded, cause);
        remains.nodes.extend(Arc::into_inner(self));
        if !remains.is_empty() {
            pool::start(Box::new(move || drop(remains)));
        }
    }
}

/// Cancels a node and all its descendants. When it returns they are done, whoever cancelled them.
pub(crate) fn cancel(root: &Arc<Node>, error: Error, cause: Option<Cause>) -> Remains {
    let mut walk = Walk {
        error,
        has_cause: cause.is_some(),
        own: cause.map(|cause| Cancellation::new(Some(cause))),
        met: Vec::new(),
        pending: Vec::new(),
        ready: Vec::new(),
        remains: Remains::default(),
    };
    let claimed = walk.visit(root);
    while let Some(children) = walk.pending.last_mut() {
        match children.next() {
            Some(Child::Node(child)) => {
                if let Some(child) = child.upgrade() {
                    walk.visit(&child);
                    walk.remains.nodes.extend(Arc::into_inner(child));
                }
            }
            Some(Child::Callback(callback)) => walk.ready.extend(callback.take()),
            None => drop(walk.pending.pop()),
        }
    }
    walk.settle();
    if claimed {
        root.detach();
    }
    walk.ready.into_iter().for_each(pool::start);
    let held = walk.met.into_iter().chain(walk.own);
    walk.remains
        .cancellations
        .extend(held.filter_map(Arc::into_inner));
    walk.remains
}

/// The way of one cancellation down from its root. Each node is claimed and closed as it is met.
struct Walk {
    error: Error,
    has_cause: bool,
    /// Made when the first node needs it.
    own: Option<Arc<Cancellation>>,
    /// Cancellations that were there first.
    met: Vec<Arc<Cancellation>>,
    /// What is left of the tables of claimed nodes, the deepest last.
    pending: Vec<slab::IntoIter<Child>>,
    /// Callbacks to be started once everything is done.
    ready: Vec<Task>,
    remains: Remains,
}

impl Walk {
    /// Claims a node and closes it; false if another cancellation was there first.
    fn visit(&mut self, node: &Node) -> bool {
        let mut state = node.state.lock();
        if node.phase.load(Ordering::Relaxed) != OPEN {
            let first = state.cancellation.clone();
            drop(state);
            if let Some(first) = first.filter(|first| !first.is_settled()) {
                cancellation::meet(&mut self.met, first);
            }
            return false;
        }
        let children = state.children.take();
        let closing = node.done.is_made();
        if self.has_cause || closing || children.is_some() {
            let own = self.own.get_or_insert_with(|| Cancellation::new(None));
            state.cancellation = Some(own.clone());
        }
        let done = phase(self.error);
        let claimed = if closing { done | CLOSING } else { done };
        node.phase.store(claimed, Ordering::Release);
        drop(state);
        if closing {
            node.done.close();
            node.phase.store(done, Ordering::Release);
        }
        node.disarm();
        self.pending
            .extend(children.map(|children| children.into_iter()));
        true
    }

    /// Waits for the cancellations that were met, having let go those who wait for this one.
    fn settle(&mut self) {
        if let Some(own) = &self.own {
            own.finish(&self.met);
        }
        cancellation::wait_all(&mut self.met);
        if let Some(own) = &self.own {
            own.settle();
        }
    }
}

/// What a cancellation was the last to hold. To drop it may run a `Drop` of the user's.
#[must_use]
#[derive(Default)]
pub(crate) struct Remains {
    /// Nodes whose last handle went away while the cancellation passed.
    nodes: Vec<Node>,
    /// Cancellations that no node keeps, with their causes.
    cancellations: Vec<Cancellation>,
}

impl Remains {
    fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.cancellations.is_empty()
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        let mut panics = FirstPanic::default();
        for node in self.nodes.drain(..) {
            panics.catch(|| drop(node));
        }
        for cancellation in self.cancellations.drain(..) {
            panics.catch(|| drop(cancellation));
        }
        panics.resume();
    }
}
