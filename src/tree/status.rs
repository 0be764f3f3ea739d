//! What a context is asked: its error, its cause and its done channel.

use crossbeam_channel::{never, Receiver};

use super::done::{self, DoneChannels};
use super::external::{External, Outcome};
use super::origin::Origin;
use super::phase::{CauseIn, End, LinkIndex, Phase};
use super::{Extra, Kind, Node};
use crate::error::{Cause, Error};
use crate::runtime::sync::{fence, Arc, Ordering};

/// After so many calls of `err` a node is registered, so that each further one is a single load.
const REGISTERED_AFTER: u8 = if cfg!(model) { 2 } else { 16 };

/// How many unregistered nodes a call of `err` passes at most on its way up, because it stores them in
/// an array on the stack. It registers the next one.
const MAX_LEVELS: usize = 8;

impl Node {
    /// Returns the error once the done channels are closed, and not before.
    #[inline]
    pub(crate) fn err(self: &Arc<Self>) -> Option<Error> {
        // crossbeam checks for disconnection with a relaxed load, so a thread that saw a channel
        // disconnected may not see the phase stored before. This fence makes up for it.
        fence(Ordering::Acquire);
        match self.phase.err() {
            Ok(err) if self.kind != Kind::Custom => err,
            _ => self.err_slowly(),
        }
    }

    fn err_slowly(self: &Arc<Self>) -> Option<Error> {
        match self.phase.load() {
            _ if self.kind == Kind::Custom => self.external_err(),
            Phase::Open => None,
            Phase::Done(end) => Some(end.error),
            Phase::Unregistered => self.unregistered_err(),
            Phase::Closing(end) => self.closing_err(end),
        }
    }

    /// Returns the error of a node whose done channels are being closed, one after the other. Returns
    /// `None` while no channel is closed. Once one is, waits for the others and returns the error.
    #[cold]
    fn closing_err(&self, end: End) -> Option<Error> {
        let done = self.done.get()?;
        done.is_closing().then(|| {
            done.wait_closed();
            end.error
        })
    }

    #[cold]
    fn external_err(&self) -> Option<Error> {
        let external = self.external()?;
        external.is_done().then(|| self.outcome(external).error)
    }

    fn unregistered_err(self: &Arc<Self>) -> Option<Error> {
        let err_calls = self.err_calls.load(Ordering::Relaxed);
        if err_calls >= REGISTERED_AFTER || self.deadline_passed() {
            self.register();
            return self.err();
        }
        self.err_calls.store(err_calls + 1, Ordering::Relaxed);
        self.ancestors_err()
    }

    /// Returns the error of an unregistered node: that of the nearest ancestor that is registered.
    ///
    /// The answer is written into the nodes on the way, so that it cannot change later: suppose thread
    /// A is told that the node ended like its parent, while thread B, which found the parent open, is
    /// about to cancel the node with another cause. B's change of the phase fails, because A's came
    /// first; or A's fails, and A returns what B has written.
    #[inline]
    pub(super) fn ancestors_err(self: &Arc<Self>) -> Option<Error> {
        let parent = self.parent.as_ref()?;
        match parent.phase.is_open() && parent.kind != Kind::Custom {
            true => None, // the most frequent case
            false => self.ancestors_err_from(parent),
        }
    }

    fn ancestors_err_from<'a>(self: &'a Arc<Self>, mut parent: &'a Arc<Node>) -> Option<Error> {
        let mut path = [self; MAX_LEVELS];
        let mut levels = 1;
        while parent.is_unregistered() {
            if levels == MAX_LEVELS || parent.deadline_passed() {
                parent.register();
                break;
            }
            path[levels] = parent;
            levels += 1;
            parent = parent.parent.as_ref()?;
        }
        let mut error = parent.err()?;
        for node in path[..levels].iter().rev() {
            let end = End::of_parent(error, LinkIndex::First);
            if !node.phase.finish_unregistered(end) {
                error = node.err()?; // another thread has ended it, or registered it
            }
        }
        Some(error)
    }

    pub(crate) fn cause(self: &Arc<Self>) -> Option<Cause> {
        let error = self.err()?;
        Some(self.find_cause().unwrap_or_else(|| error.as_cause()))
    }

    /// Finds the cause of a node that is done, where its end began.
    fn find_cause(&self) -> Option<Cause> {
        if let Some(external) = self.external() {
            return self.outcome(external).cause.clone();
        }
        let mut node = self;
        loop {
            let (index, of_custom) = match node.phase.load().end()?.cause {
                CauseIn::Error => return None,
                CauseIn::Node => return node.own_cause(),
                CauseIn::Parent(index) => (index, false),
                CauseIn::Custom(index) => (index, true),
            };
            node = node.link(index)?.0;
            while let Some(external) = node.external() {
                match &node.parent {
                    // Its children end like the context that it wraps.
                    Some(wrapped) if !of_custom => node = wrapped,
                    _ => return node.outcome(external).cause.clone(),
                }
            }
        }
    }

    /// Stores a cause in a node that is about to end. Returns where to find it, and the cause itself
    /// if it is not used: suppose threads A and B store one each and then end the node. Whichever ends
    /// it, the cause is that of the thread that stored it first, and so is the origin.
    pub(super) fn store_cause(
        &self,
        cause: Cause,
        origin: Origin,
    ) -> (CauseIn, Origin, Option<Extra>) {
        let is_open = self.phase.load().end().is_none();
        let unused = match self.extra.get() {
            Some(Extra::Signals(signals)) if is_open => signals
                .1
                .set(Box::new(cause))
                .err()
                .map(|cause| Extra::Cause(*cause, origin)),
            _ if is_open && matches!(self.kind, Kind::Cancel | Kind::Group) => self
                .extra
                .set(Box::new(Extra::Cause(cause, origin)))
                .err()
                .map(|extra| *extra),
            _ => return (CauseIn::Error, origin, Some(Extra::Cause(cause, origin))),
        };
        let origin = match self.extra.get() {
            Some(Extra::Cause(_, first)) => *first,
            _ => origin,
        };
        (CauseIn::Node, origin, unused)
    }

    fn own_cause(&self) -> Option<Cause> {
        match self.extra.get()? {
            Extra::Cause(cause, _) => Some(cause.clone()),
            Extra::Signals(signals) => signals.1.get().cloned(),
            Extra::Second(..) | Extra::External(_) => None,
        }
    }

    /// Returns how a custom context, which must be done, ended.
    ///
    /// Contexts that wrap one another are asked from the innermost to the outermost, so that each
    /// finds the answer of the one that it wraps ready, and the stack stays shallow.
    pub(super) fn outcome<'a>(&'a self, external: &'a External) -> &'a Outcome {
        let mut wrapped = Vec::new();
        let mut next = self.parent();
        while let Some(node) = next {
            match node.external() {
                Some(inner) if !inner.has_outcome() => wrapped.push(inner),
                _ => break,
            }
            next = node.parent();
        }
        for inner in wrapped.into_iter().rev() {
            inner.outcome();
        }
        external.outcome()
    }

    #[inline]
    pub(crate) fn done(self: &Arc<Self>) -> Receiver<()> {
        fence(Ordering::Acquire); // as in `err`
        let phase = self.phase.load();
        match (self.done.get(), phase) {
            (Some(done), Phase::Open | Phase::Done(_)) => {
                done.for_this_thread().unwrap_or_else(|| self.make_done())
            }
            (None, Phase::Done(_)) if self.kind != Kind::Custom => done::closed(),
            _ => self.make_done(),
        }
    }

    #[cold]
    fn make_done(self: &Arc<Self>) -> Receiver<()> {
        if let Some(external) = self.external() {
            return external.done();
        }
        if !self.is_cancellable() {
            return never();
        }
        if self.is_unregistered() {
            self.register_ancestors();
            self.register_self(self.deadline_passed(), true);
        }
        let made = self.done.get().and_then(DoneChannels::for_this_thread);
        if let (true, Some(done)) = (self.phase.is_open(), made) {
            return done;
        }
        let state = self.state.lock();
        if self.phase.is_open() {
            let done = self.done.get_or_init(DoneChannels::new);
            return done.make_for_this_thread();
        }
        drop(state);
        let Some(done) = self.done.get() else {
            return done::closed();
        };
        if done.is_closing() {
            done.wait_closed(); // after one channel was seen closed, none may be found open
        }
        done.any()
    }

    /// Waits until the done channels of a claimed node are closed, so that what the caller does next
    /// finds it done.
    pub(super) fn wait_closed(&self) {
        if let (Phase::Closing(_), Some(done)) = (self.phase.load(), self.done.get()) {
            done.wait_closed();
        }
    }

    /// Returns whether `done` is a done channel of this node, of whichever thread.
    pub(super) fn hands_out(self: &Arc<Self>, done: &Receiver<()>) -> bool {
        let made = self
            .done
            .get()
            .is_some_and(|channels| channels.contains(done));
        made || self.done().same_channel(done)
    }
}
