//! What the tree knows of a context that is not the crate's own.
//!
//! All of it may be code of the user's: it is called with no lock held, and while the tree is at
//! work in a way that can wait for nobody, not at all.

use std::fmt;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{bounded, never, select_biased, Receiver, Sender, TryRecvError};
use once_cell::race::OnceBox;

use crate::error::{Cause, Error};
use crate::pool::{self, Task};
use crate::sync::{Arc, AtomicBool, Ordering};
use crate::unwind::{self, FirstPanic};

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
    /// How it ended: the first answer, so that it says the same for ever.
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
        // If two threads have asked, the first answer counts.
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
    /// thread that waits for its channel. If asking it panics, the thread will do, and the panic comes
    /// back to go on its way when the watch is in place.
    pub(crate) fn watch(&self, news: impl Fn() + Clone + Send + 'static) -> (Watch, FirstPanic) {
        let mut panics = FirstPanic::default();
        let mut stop = None;
        let fired = Arc::new(AtomicBool::new(false));
        panics.catch(|| {
            let (fired, news) = (fired.clone(), news.clone());
            stop = self.source.after_func(Box::new(move || {
                fired.store(true, Ordering::Relaxed);
                news();
            }));
        });
        let watch: Watch = match stop {
            Some(stop) => Box::new(CallOff {
                stop: Some(stop),
                fired,
            }),
            None => Box::new(wait_for(&self.done, news)),
        };
        (watch, panics)
    }
}

/// Has a thread wait for the channel to be disconnected, until what it returns is dropped.
fn wait_for(done: &Receiver<()>, news: impl Fn() + Clone + Send + 'static) -> Sender<()> {
    let (stop, stopped) = bounded(0);
    let done = done.clone();
    let wait = move || loop {
        select_biased! {
            recv(stopped) -> _ => return,
            recv(done) -> message => if message.is_err() {
                return news();
            }
        }
    };
    // Not one of the threads for callbacks, of which there are only so many.
    let thread = thread::Builder::new().name("go-ctx-watch".into());
    if thread.spawn(wait.clone()).is_err() {
        pool::start(Box::new(wait));
    }
    stop
}

/// Calls off what a custom context was asked to call, unless it has done so.
struct CallOff {
    stop: Option<Task>,
    fired: Arc<AtomicBool>,
}

impl Drop for CallOff {
    fn drop(&mut self) {
        let stop = self.stop.take();
        unwind::contain(|| {
            if let Some(stop) = stop.filter(|_| !self.fired.load(Ordering::Relaxed)) {
                stop();
            }
        });
    }
}
