//! What the tree knows of a context that is not the crate's own.
//!
//! All of it may be code of the user's: it is called with no lock held, and while the tree is at
//! work in a way that can wait for nobody, not at all.

use std::fmt;
use std::time::Instant;

use crossbeam_channel::{bounded, never, select_biased, Receiver, TryRecvError};
use once_cell::race::OnceBox;

use crate::error::{Cause, Error};
use crate::pool::{self, Task};
use crate::unwind;

/// A custom context, as far as cancellation goes.
pub(crate) trait Source: Send + Sync {
    fn err(&self) -> Option<Error>;
    fn cause(&self) -> Option<Cause>;
    fn deadline(&self) -> Option<Instant>;
    /// Has `f` called when the context is done; `None` if it does not know how. What comes back
    /// calls that off.
    fn after_func(&self, f: Task) -> Option<Task>;
    fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

pub(crate) struct Foreign {
    source: Box<dyn Source>,
    done: Receiver<()>,
    /// How it ended. Asked once, so that it says the same for ever.
    verdict: OnceBox<Verdict>,
}

struct Verdict {
    error: Error,
    cause: Option<Cause>,
}

/// Keeps watch for the end of a context until it is dropped.
pub(crate) type Watch = Box<dyn Send>;

impl Foreign {
    pub(crate) fn new(source: Box<dyn Source>, done: Receiver<()>) -> Foreign {
        Foreign {
            source,
            done,
            verdict: OnceBox::new(),
        }
    }

    pub(crate) fn is_cancellable(&self) -> bool {
        !self.done.same_channel(&never())
    }

    pub(crate) fn done(&self) -> Receiver<()> {
        self.done.clone()
    }

    /// Whether the done channel is disconnected, whatever messages it carries.
    pub(crate) fn is_done(&self) -> bool {
        (0..=self.done.len()).any(|_| self.done.try_recv() == Err(TryRecvError::Disconnected))
    }

    pub(crate) fn err(&self) -> Option<Error> {
        self.is_done().then(|| self.verdict().error)
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        self.is_done().then(|| {
            let verdict = self.verdict();
            let cause = verdict.cause.clone();
            cause.unwrap_or_else(|| verdict.error.as_cause())
        })
    }

    /// Error and cause for those below, once the context is done.
    pub(crate) fn end(&self) -> (Error, Option<Cause>) {
        let verdict = self.verdict();
        (verdict.error, verdict.cause.clone())
    }

    /// A context that is done and does not say why, or panics when asked, counts as cancelled.
    fn verdict(&self) -> &Verdict {
        if let Some(verdict) = self.verdict.get() {
            return verdict;
        }
        let (mut error, mut cause) = (None, None);
        unwind::contain(|| error = self.source.err());
        unwind::contain(|| cause = self.source.cause());
        let verdict = Verdict {
            error: error.unwrap_or(Error::Canceled),
            cause,
        };
        // Not while asking: the context may ask for this itself. The first answer counts.
        let late = self.verdict.set(Box::new(verdict));
        drop(late);
        self.verdict.get().expect("set above")
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.source.deadline()
    }

    pub(crate) fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.name(f)
    }

    /// Has `news` called once, when the context is done: by itself if it knows how, or else by a
    /// thread that waits for its channel.
    pub(crate) fn watch(&self, news: impl Fn() + Send + Sync + Clone + 'static) -> Watch {
        if let Some(stop) = self.source.after_func(Box::new(news.clone())) {
            return Box::new(OnDrop(Some(stop)));
        }
        let done = self.done.clone();
        let (stop, stopped) = bounded::<()>(0);
        pool::start(Box::new(move || loop {
            select_biased! {
                recv(stopped) -> _ => return,
                recv(done) -> message => if message.is_err() {
                    return news();
                }
            }
        }));
        Box::new(stop)
    }
}

struct OnDrop(Option<Task>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(unwind::contain);
    }
}
