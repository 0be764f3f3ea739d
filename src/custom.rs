//! Contexts that are not the crate's own.

use std::any::{type_name, Any};
use std::fmt;
use std::time::Instant;

use crossbeam_channel::Receiver;

use crate::context::Context;
use crate::error::{Cause, Error};
use crate::foreign::{Foreign, Source};
use crate::pool::Task;
use crate::sync::Arc;
use crate::tree::{Hold, Node};
use crate::unwind::FirstPanic;
use crate::value::{Head, Key, Layer, Step, Types, Values, Wanted};

/// A context of your own making, for [`Context::custom`]: what in Go is any type that implements the
/// interface.
///
/// All methods may be called from any thread, at any time and any number of times. None is called
/// under a lock of this crate, so they may use contexts as they like.
///
/// # What counts
///
/// Only a disconnected [`done`](CustomContext::done) cancels, or the function given to
/// [`after_func`](CustomContext::after_func) being called, where there is one. Who first finds the
/// context done asks for error and cause, and the answer stays; so `err` and `cause` must not ask a
/// `Context` made of the same object. A context that does not keep to the rules harms only itself:
///
/// | if | then |
/// | --- | --- |
/// | `err` is set and `done` is connected | it is not cancelled yet |
/// | `done` is disconnected and `err` is not set | it is [`Error::Canceled`] |
/// | `err` or `cause` panics | it is as if they had said `None` |
/// | `done` carries messages | they are taken out, and say nothing; a `select!` of yours would see them |
/// | `done` gives another channel at each call | the one that it gave to `Context::custom` counts |
/// | a `Drop`, `after_func` or any other method panics | the call that led to it panics, when all else is done |
/// | the function that calls off panics | nobody hears of it |
///
/// What is said of [`Context::done`] is for a custom context to keep: its channel is yours. If nobody
/// holds the `Context` any more, its callbacks run, as always, though your channel may be connected.
///
/// # Examples
///
/// A context that is done when a program's legacy stop channel closes:
///
/// ```
/// use go_context::crossbeam_channel::{bounded, Receiver, TryRecvError};
/// use go_context::{Context, CustomContext, Error};
///
/// struct Stopping(Receiver<()>);
///
/// impl CustomContext for Stopping {
///     fn done(&self) -> Receiver<()> {
///         self.0.clone()
///     }
///     fn err(&self) -> Option<Error> {
///         (self.0.try_recv() == Err(TryRecvError::Disconnected)).then_some(Error::Canceled)
///     }
/// }
///
/// let (stop, stopping) = bounded(0);
/// let ctx = Context::custom(Stopping(stopping));
/// let (child, _cancel) = ctx.with_cancel();
/// drop(stop);
/// assert_eq!(child.wait(), Error::Canceled);
/// ```
///
/// One that changes a single thing about a context of ours, as an embedded `context.Context` does in
/// Go. It hands on the other's done channel, so it is cancelled with it, at once and without anybody
/// to watch:
///
/// ```
/// use std::time::Instant;
/// use go_context::crossbeam_channel::Receiver;
/// use go_context::{Context, CustomContext, Error};
///
/// struct NoDeadline(Context);
///
/// impl CustomContext for NoDeadline {
///     fn wrapped(&self) -> Option<&Context> {
///         Some(&self.0)
///     }
///     fn done(&self) -> Receiver<()> {
///         self.0.done()
///     }
///     fn err(&self) -> Option<Error> {
///         self.0.err()
///     }
///     fn deadline(&self) -> Option<Instant> {
///         None
///     }
/// }
///
/// let (inner, cancel) = Context::background().with_timeout(std::time::Duration::from_secs(60));
/// let ctx = Context::custom(NoDeadline(inner));
/// let (child, _cancel) = ctx.with_cancel();
/// assert_eq!(child.deadline(), None);
/// cancel.cancel();
/// assert_eq!(child.err(), Some(Error::Canceled));
/// ```
pub trait CustomContext: Send + Sync + 'static {
    /// The channel that disconnects when the context is done, the same each time. One that is
    /// [`never()`](crossbeam_channel::never) says that the context cannot be cancelled.
    fn done(&self) -> Receiver<()>;

    /// Why the context is done, once `done` is disconnected.
    fn err(&self) -> Option<Error>;

    /// What lies behind the error. As a default, what [`wrapped`](CustomContext::wrapped) says; without
    /// either it is the error itself.
    fn cause(&self) -> Option<Cause> {
        self.wrapped().and_then(Context::cause)
    }

    /// When the context will be done at the latest. As a default, what
    /// [`wrapped`](CustomContext::wrapped) says.
    fn deadline(&self) -> Option<Instant> {
        self.wrapped().and_then(Context::deadline)
    }

    /// Answers a lookup, if it has a value under the key. As a default,
    /// [`wrapped`](CustomContext::wrapped) is asked. See [`Lookup`].
    fn value<'a>(&'a self, lookup: &mut Lookup<'_, 'a>) {
        if let Some(wrapped) = self.wrapped() {
            lookup.forward(wrapped);
        }
    }

    /// Has `f` called once, on any thread, when the context is done, and returns a function that
    /// calls it off.
    ///
    /// `None`, the default, says that the context has no such service. Then a thread waits for
    /// `done`, one for all the children and callbacks of this context, as long as there are any;
    /// so long, too, one `f` serves them all. If the system refuses the thread, it is started as soon
    /// as it can be. The function that calls it off is not called once `f` has been.
    fn after_func(&self, f: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>> {
        drop(f);
        None
    }

    /// The context that this one wraps, if it does: the source of the defaults. If `done` is that
    /// context's own channel, the two are cancelled as one.
    fn wrapped(&self) -> Option<&Context> {
        None
    }

    /// Writes what stands for this context when it or a child is printed: as a default the name of
    /// its type.
    fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(type_name::<Self>())
    }
}

/// A question for the value under a key, put to [`CustomContext::value`]. The first answer counts.
///
/// # Examples
///
/// ```
/// use go_context::crossbeam_channel::{never, Receiver};
/// use go_context::{Context, CustomContext, Error, Key, Lookup};
///
/// #[derive(PartialEq, Eq)]
/// struct Host;
/// impl Key for Host {
///     type Value = String;
/// }
///
/// struct Settings {
///     host: String,
/// }
/// impl CustomContext for Settings {
///     fn done(&self) -> Receiver<()> {
///         never()
///     }
///     fn err(&self) -> Option<Error> {
///         None
///     }
///     fn value<'a>(&'a self, lookup: &mut Lookup<'_, 'a>) {
///         lookup.answer(&Host, &self.host);
///     }
/// }
///
/// let ctx = Context::custom(Settings { host: "localhost".into() });
/// let (child, _cancel) = ctx.with_cancel();
/// assert_eq!(child.value(&Host).unwrap(), "localhost");
/// ```
pub struct Lookup<'k, 'a> {
    key: &'k dyn Any,
    found: Option<&'a dyn Any>,
}

impl<'a> Lookup<'_, 'a> {
    /// Gives the value, if `key` is what is looked for.
    ///
    /// # Examples
    ///
    /// See [`Lookup`].
    pub fn answer<K: Key>(&mut self, key: &K, value: &'a K::Value) -> &mut Self {
        if self.found.is_none() && self.key.downcast_ref() == Some(key) {
            self.found = Some(value);
        }
        self
    }

    /// Asks another context.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{Context, Lookup};
    ///
    /// struct Both(Context, Context);
    /// impl Both {
    ///     fn value<'a>(&'a self, lookup: &mut Lookup<'_, 'a>) {
    ///         lookup.forward(&self.0).forward(&self.1);
    ///     }
    /// }
    /// ```
    pub fn forward(&mut self, ctx: &'a Context) -> &mut Self {
        if self.found.is_none() {
            self.found = ctx.values.find(self.key);
        }
        self
    }
}

impl fmt::Debug for Lookup<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found.is_some();
        f.debug_struct("Lookup")
            .field("found", &found)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// A context of the caller's own making, to be derived from like any other.
    ///
    /// One watcher serves all its children: see [`CustomContext`].
    ///
    /// # Examples
    ///
    /// See [`CustomContext`].
    #[must_use]
    pub fn custom(inner: impl CustomContext) -> Context {
        let inner = Arc::new(inner);
        let foreign = Foreign::new(Box::new(inner.clone()), inner.done());
        let wrapped = inner.wrapped().and_then(|wrapped| wrapped.node.as_deref());
        Context {
            node: Some(Hold::new(Node::custom(foreign, wrapped))),
            values: Values::new(Custom { inner }),
        }
    }
}

impl<T: CustomContext> Source for Arc<T> {
    fn err(&self) -> Option<Error> {
        T::err(self)
    }

    fn cause(&self) -> Option<Cause> {
        T::cause(self)
    }

    fn deadline(&self) -> Option<Instant> {
        T::deadline(self)
    }

    fn after_func(&self, f: Task) -> Option<Task> {
        T::after_func(self, f)
    }

    fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::name(self, f)
    }
}

/// The values of a custom context.
struct Custom<T> {
    inner: Arc<T>,
}

impl<T: CustomContext> Layer for Custom<T> {
    fn head(&self) -> Head {
        Head {
            types: Types::ALL,
            depth: 0,
        }
    }

    fn below(&self) -> Option<&dyn Layer> {
        None
    }

    fn search<'a>(&'a self, wanted: Wanted<'_>) -> Step<'a> {
        let mut lookup = Lookup {
            key: wanted.key,
            found: None,
        };
        self.inner.value(&mut lookup);
        lookup.found.map_or(Step::On(None, None), Step::Found)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn unlink(self: Arc<Self>, panics: &mut FirstPanic, _: &mut Vec<Values>) -> Values {
        panics.catch(|| drop(self));
        Values::default()
    }
}
