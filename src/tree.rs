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

mod walk;

use std::mem;
use std::panic::RefUnwindSafe;
use std::time::Instant;

use crossbeam_channel::{never, Receiver};
use once_cell::sync::Lazy;

use crate::callback::Callback;
use crate::cancellation::Cancellation;
use crate::done::{self, Channel, Done};
use crate::error::{Cause, Error};
use crate::foreign::{Foreign, Watch};
use crate::pool::{self, Task};
use crate::slab::{self, Slab};
use crate::sync::{fence, Arc, AtomicU32, AtomicU8, Mutex, Ordering, Weak};
use crate::timer;
use crate::unwind::FirstPanic;

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
    Deadline(Box<Expiry>),
    /// The second parent, if it has a node.
    Merge(Option<Box<Tie>>),
    /// A context that is not the crate's own. The phase of such a node tells how far its end has
    /// come down to its children; what it says itself is for the foreign context to know.
    Custom(Box<Foreign>),
}

/// A deadline of the node's own.
pub(crate) struct Expiry {
    cause: Option<Cause>,
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
    phase: AtomicU8,
    /// How many derivations lie between this node and the root, those of values counted too.
    depth: u32,
    /// The node's own deadline or the one it inherited.
    deadline: Option<Instant>,
    done: Done,
    state: Mutex<State>,
}

struct State {
    /// Made with the first child, taken by the claim.
    children: Option<Box<Table>>,
    /// Set by the claim, unless there is nothing to tell: no cause, and nothing to wait for.
    cancellation: Option<Arc<Cancellation>>,
}

#[derive(Default)]
struct Table {
    slots: Slab<Child>,
    /// For a custom context with children.
    watch: Option<Watch>,
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

impl Tie {
    fn new(parent: Arc<Node>) -> Tie {
        Tie {
            parent,
            slot: AtomicU32::new(slab::NONE),
        }
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
    pub(crate) fn todo() -> Arc<Node> {
        static TODO: Lazy<Arc<Node>> = Lazy::new(|| Arc::new(Node::new(None, Kind::Todo, 0, None)));
        TODO.clone()
    }

    fn new(parent: Option<Arc<Node>>, kind: Kind, depth: u32, deadline: Option<Instant>) -> Node {
        Node {
            tie: parent.map(Tie::new),
            kind,
            phase: AtomicU8::new(OPEN),
            depth,
            deadline,
            done: Done::new(),
            state: Mutex::new(State {
                children: None,
                cancellation: None,
            }),
        }
    }

    /// A child to be cancelled on its own or with its parent.
    pub(crate) fn with_cancel(parent: Option<Arc<Node>>, depth: u32) -> Arc<Node> {
        let inherited = parent.as_ref().and_then(|parent| parent.deadline());
        Node::new(parent, Kind::Cancel, depth, inherited).attached()
    }

    /// A child for signals to cancel.
    #[cfg_attr(not(feature = "signal"), allow(dead_code))]
    pub(crate) fn with_signals(parent: Option<Arc<Node>>, depth: u32, names: String) -> Arc<Node> {
        let inherited = parent.as_ref().and_then(|parent| parent.deadline());
        let kind = Kind::Signals(Box::new(SignalNames(names)));
        Node::new(parent, kind, depth, inherited).attached()
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
            return Node::new(parent, Kind::Cancel, depth, inherited).attached();
        }
        let kind = Kind::Deadline(Box::new(Expiry { cause }));
        let node = Node::new(parent, kind, depth, Some(deadline)).attached();
        if deadline > Instant::now() {
            node.arm();
        } else if node.phase.load(Ordering::Acquire) == OPEN {
            drop(node.time_out());
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
        Node::new(first, Kind::Merge(second), depth, deadline).attached()
    }

    /// The root of a custom context. One that hands on the done channel of a node of ours is a
    /// child of that, and needs nobody to watch it.
    pub(crate) fn custom(foreign: Foreign, wrapped: Option<&Arc<Node>>) -> Arc<Node> {
        let parent = wrapped.filter(|node| node.done().same_channel(&foreign.done()));
        Node::new(parent.cloned(), Kind::Custom(Box::new(foreign)), 0, None).attached()
    }

    /// Shares a new node, and makes it known to its parents.
    fn attached(self) -> Arc<Node> {
        let node = Arc::new(self);
        for (rank, tie) in node.ties() {
            if !tie.parent.is_cancellable() {
                continue;
            }
            let child = Child::Node(Arc::downgrade(&node), rank);
            if let Err(found) = tie.parent.admit(child, &tie.slot) {
                node.inherit(&tie.parent, found);
                break;
            }
        }
        // A merge may have been done through one parent before it had its slot in the other.
        if matches!(node.kind, Kind::Merge(_)) && node.is_claimed() {
            drop(node.detach(Presence::Held));
        }
        node
    }

    fn is_claimed(&self) -> bool {
        let _claims_wait = self.state.lock();
        self.phase.load(Ordering::Relaxed) != OPEN
    }

    /// Ends a new node, which has no children and no channel yet, as its parent has ended.
    fn inherit(&self, parent: &Node, found: u8) {
        parent.wait_closed(found); // not to be done before the parent is
        let (error, cancellation) = match &parent.kind {
            Kind::Custom(foreign) => {
                let (error, cause) = foreign.end();
                (error, cause.map(Cancellation::settled))
            }
            _ => (error(found), parent.state.lock().cancellation.clone()),
        };
        let mut state = self.state.lock();
        if self.phase.load(Ordering::Relaxed) == OPEN {
            state.cancellation = cancellation;
            self.phase.store(phase(error), Ordering::Release);
        }
    }

    /// Waits the moment that it takes who has claimed the node to close its channel.
    fn wait_closed(&self, found: u8) {
        if let Some(done) = self.done.receiver().filter(|_| found & CLOSING != 0) {
            let _ = done.recv();
        }
    }

    /// Puts a child in the table; if the node has been claimed, says how far that has come.
    fn admit(self: &Arc<Self>, child: Child, slot: &AtomicU32) -> Result<(), u8> {
        if let Kind::Custom(foreign) = &self.kind {
            if self.phase.load(Ordering::Acquire) == OPEN && foreign.is_done() {
                self.end(foreign);
            }
        }
        let mut state = self.state.lock();
        match self.phase.load(Ordering::Relaxed) {
            OPEN => {
                let table = state.children.get_or_insert_with(Box::default);
                let first = table.slots.is_empty();
                slot.store(table.slots.insert(child), Ordering::Relaxed);
                drop(state);
                if first {
                    self.watch();
                }
                Ok(())
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
        let mut watch = Some(watch);
        let mut state = self.state.lock();
        if let Some(table) = &mut state.children {
            if !table.slots.is_empty() && table.watch.is_none() {
                table.watch = watch.take();
            }
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

    fn tie(&self, rank: Rank) -> Option<&Tie> {
        match (rank, &self.kind) {
            (Rank::First, _) => self.tie.as_ref(),
            (Rank::Second, Kind::Merge(second)) => second.as_deref(),
            (Rank::Second, _) => None,
        }
    }

    fn ties(&self) -> impl Iterator<Item = (Rank, &Tie)> {
        let ranks = [Rank::First, Rank::Second].into_iter();
        ranks.filter_map(|rank| Some((rank, self.tie(rank)?)))
    }

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

    /// `Some` once the done channel is disconnected, and not before: while it is being closed, the
    /// channel itself is asked.
    pub(crate) fn err(&self) -> Option<Error> {
        if let Kind::Custom(foreign) = &self.kind {
            return foreign.err();
        }
        // Who polls the channel and finds it disconnected has acquired nothing by that: crossbeam
        // reads the mark with a relaxed load. This makes up for it.
        fence(Ordering::Acquire);
        match self.phase.load(Ordering::Acquire) {
            OPEN => None,
            phase if phase & CLOSING != 0 && !self.done.is_closed() => None,
            phase => Some(error(phase)),
        }
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        if let Kind::Custom(foreign) = &self.kind {
            return foreign.cause();
        }
        let error = self.err()?;
        let cancellation = self.state.lock().cancellation.clone();
        let cause = cancellation.and_then(|cancellation| cancellation.cause().cloned());
        Some(cause.unwrap_or_else(|| error.as_cause()))
    }

    pub(crate) fn done(&self) -> Receiver<()> {
        match &self.kind {
            Kind::Custom(foreign) => return foreign.done(),
            Kind::Todo | Kind::Detached => return never(),
            _ => {}
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
    pub(crate) fn register(self: &Arc<Self>, callback: &Arc<Callback>) {
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
        let mut state = self.state.lock();
        let Some(table) = &mut state.children else {
            return Err(state.cancellation.clone());
        };
        let child = table.slots.remove(slot.load(Ordering::Relaxed));
        slot.store(slab::NONE, Ordering::Relaxed);
        let watch = match table.slots.is_empty() {
            true => table.watch.take(),
            false => None,
        };
        let spent = table.slots.is_spent().then(|| state.children.take());
        drop(state);
        drop((child, spent));
        Ok(watch)
    }

    /// Leaves the tables of its parents. What they had to watch for it alone comes back.
    ///
    /// A walk that has taken such a table will visit the node, or if it is being dropped cannot, and
    /// waits to be told. So a drop comes here before it runs any code of the user's.
    fn detach(&self, presence: Presence) -> Vec<Watch> {
        let mut watches = Vec::new();
        for (_, tie) in self.ties() {
            if tie.slot.load(Ordering::Relaxed) == slab::NONE {
                continue;
            }
            match (tie.parent.vacate(&tie.slot), presence) {
                (Ok(watch), _) => watches.extend(watch),
                (Err(Some(walk)), Presence::Gone) => {
                    tie.slot.store(slab::NONE, Ordering::Relaxed);
                    walk.left();
                }
                (Err(_), _) => {}
            }
        }
        watches
    }

    fn arm(self: &Arc<Self>) {
        let Some(key) = self.timer_key() else { return };
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
    fn timer_key(&self) -> Option<timer::Key> {
        let Kind::Deadline(expiry) = &self.kind else {
            return None;
        };
        let expiry: *const Expiry = &**expiry;
        Some((self.deadline?, expiry as usize))
    }

    fn disarm(&self) {
        if let Some(key) = self.timer_key() {
            timer::remove(key);
        }
    }

    /// Cancels the node for its deadline.
    fn time_out(self: &Arc<Self>) -> Aftermath {
        let cause = match &self.kind {
            Kind::Deadline(expiry) => expiry.cause.clone(),
            _ => None,
        };
        cancel(self, Error::DeadlineExceeded, cause)
    }

    /// The end of a node that nobody holds. Returns its parent, for the caller to let go; if it has
    /// a second one, that goes into `more`.
    fn abandon(&mut self, panics: &mut FirstPanic, more: &mut Vec<Arc<Node>>) -> Option<Arc<Node>> {
        let mut table = None;
        if self.is_cancellable() && *self.phase.get_mut() == OPEN {
            *self.phase.get_mut() = CANCELED;
            self.done.close();
            self.disarm();
            table = self.state.get_mut().children.take();
        }
        let (slots, watch) = table.map(|table| (table.slots, table.watch)).unzip();
        // Nodes there are none among them: they would hold this one.
        let ready: Vec<Task> = slots
            .into_iter()
            .flatten()
            .filter_map(|child| match child {
                Child::Callback(callback) => callback.start(),
                Child::Node(..) => None,
            })
            .collect();
        let watches = self.detach(Presence::Gone);
        ready.into_iter().for_each(pool::start);
        drop((watch, watches));

        match mem::replace(&mut self.kind, Kind::Detached) {
            Kind::Merge(second) => more.extend(second.map(|tie| tie.parent)),
            kind => panics.catch(|| drop(kind)),
        }
        let cancellation = self.state.get_mut().cancellation.take();
        panics.catch(|| drop(cancellation));
        self.tie.take().map(|tie| tie.parent)
    }
}

// What a node shares between threads is behind locks and atomics that no panic leaves half changed.
impl RefUnwindSafe for Node {}

/// A node that nobody holds is cancelled by that. A long chain is let go in a loop: the stack of
/// the thread that drops the last handle may be small.
impl Drop for Node {
    fn drop(&mut self) {
        let mut panics = FirstPanic::default();
        let mut more = Vec::new();
        let mut next = self.abandon(&mut panics, &mut more);
        while let Some(parent) = next.or_else(|| more.pop()) {
            next =
                Arc::into_inner(parent).and_then(|mut node| node.abandon(&mut panics, &mut more));
        }
        panics.resume();
    }
}
