//! Custom contexts: types of the user's that act as contexts.

use std::any::{type_name, Any};
use std::fmt;
use std::time::Instant;

use crossbeam_channel::Receiver;

use crate::context::Context;
use crate::error::{Cause, Error};
use crate::runtime::sync::Arc;
use crate::runtime::timer::Task;
use crate::runtime::unwind::{drop_nested, FirstPanic};
use crate::tree::{External, ExternalSource, Node};
use crate::value::{Answer, Key, KeyTypeFilter, Meta, Query, SearchStep, ValueNode, Values};

/// Implement this to make your own type usable as a context, via [`Context::custom`].
///
/// [`done`](CustomContext::done) and [`deadline`](CustomContext::deadline) are called once, by
/// `Context::custom`. The other methods may be called from any thread, at any time and any number
/// of times. None is called under a lock of this crate, so they may use contexts freely.
///
/// # Rules
///
/// The context is cancelled only when [`done`](CustomContext::done) is disconnected, or when it
/// calls the function given to [`after_func`](CustomContext::after_func). `err` and `cause` are
/// called when a thread first observes this, and the first result is cached. They must not call
/// into a `Context` created from the same object. A context that breaks a rule affects only itself
/// and its descendants:
///
/// | if | then |
/// | --- | --- |
/// | `err` is set and `done` is connected | it is not cancelled yet |
/// | `done` is disconnected and `err` is not set | its error is [`Error::Canceled`] |
/// | `err` or `cause` panics | that counts as `None` |
/// | `done` carries messages | they are removed and ignored; your own `select!` may see them |
/// | `done` would return another channel | only the one returned to `Context::custom` counts |
/// | a `Drop` or any other method panics | the call that led to it panics, after everything else is done |
/// | what `after_func` returned panics | the panic hook reports it, and it is contained |
///
/// The channel is yours, so it is up to your type to keep the promises of [`Context::done`]. If the
/// last handle to the `Context` is dropped its callbacks run, as for any other context, even if
/// your channel is still connected.
///
/// Custom contexts that wrap one another may be nested 100,000 deep.
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
/// A wrapper that changes one property of another context, like a struct that embeds a
/// `context.Context` in Go. It returns the other's done channel, so the two are cancelled together,
/// at once and without a watcher thread:
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
    /// Returns the channel that disconnects when the context is done. Return
    /// [`never()`](crossbeam_channel::never) if the context cannot be cancelled.
    fn done(&self) -> Receiver<()>;

    /// Returns why the context is done, once `done` is disconnected.
    fn err(&self) -> Option<Error>;

    /// Returns the reason for the cancellation; with `None` it is the error itself. The default
    /// forwards to [`wrapped`](CustomContext::wrapped).
    fn cause(&self) -> Option<Cause> {
        self.wrapped().and_then(Context::cause)
    }

    /// Returns the deadline of the context, if it has one. Called once, by [`Context::custom`], so
    /// it must not change. The default forwards to [`wrapped`](CustomContext::wrapped).
    fn deadline(&self) -> Option<Instant> {
        self.wrapped().and_then(Context::deadline)
    }

    /// Answers a lookup, if the context has a value under the key. The default forwards to
    /// [`wrapped`](CustomContext::wrapped). See [`Lookup`].
    fn value<'a>(&'a self, lookup: &mut Lookup<'_, 'a>) {
        if let Some(wrapped) = self.wrapped() {
            lookup.forward(wrapped);
        }
    }

    /// Registers `f` to be called once, on any thread, when the context is done. Returns a function
    /// that unregisters it.
    ///
    /// Return `None` (the default) if you cannot do this. A single thread, `go-ctx-watch`, then
    /// waits on `done` on behalf of all children and callbacks, for as long as there are any and
    /// for a moment (100 ms) after the last one. If the thread cannot be spawned, a thread for
    /// callbacks waits instead, as soon as there is one.
    ///
    /// One `f` likewise serves all children and callbacks, and is unregistered after the last one.
    /// The function returned is not called after `f` has been. This method may block: a child that
    /// is derived meanwhile is watched by a thread until the method returns.
    fn after_func(&self, f: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>> {
        drop(f);
        None
    }

    /// Returns the context that this one wraps, if any, to which the default methods forward. If
    /// `done` returns that context's own channel, the two are cancelled together.
    fn wrapped(&self) -> Option<&Context> {
        None
    }

    /// Writes the name by which this context and its children are displayed. The default is the
    /// name of its type.
    fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(type_name::<Self>())
    }
}

/// Collects the answers of [`CustomContext::value`] to a lookup by key. The first one that has a
/// value counts.
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
    /// The answers so far, the first of which counts. No answer is added after a value.
    answers: Vec<Answer<'a>>,
}

impl<'a> Lookup<'_, 'a> {
    /// Answers with `value` if `key` is the key that is looked up.
    ///
    /// # Examples
    ///
    /// See [`Lookup`].
    pub fn answer<K: Key>(&mut self, key: &K, value: &'a K::Value) -> &mut Self {
        if !self.has_value() && self.key.downcast_ref() == Some(key) {
            self.answers.push(Answer::Value(value));
        }
        self
    }

    /// Answers with the value that another context has under the key, if it has one.
    ///
    /// The other context is searched after `value` has returned. The order of `answer` and
    /// `forward` is kept: an `answer` after a `forward` counts only if the other context has no
    /// value.
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
        // Searched after `value` has returned, so that nested contexts do not recurse.
        if !self.has_value() {
            self.answers.push(Answer::In(&ctx.values));
        }
        self
    }

    fn has_value(&self) -> bool {
        matches!(self.answers.last(), Some(Answer::Value(_)))
    }
}

impl fmt::Debug for Lookup<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup")
            .field("found", &self.has_value())
            .finish_non_exhaustive()
    }
}

/// # Custom contexts
impl Context {
    /// Creates a context from a type of yours. Contexts can be derived from it like from any other.
    ///
    /// One watcher serves all its children: see [`CustomContext`].
    ///
    /// # Examples
    ///
    /// See [`CustomContext`].
    #[must_use]
    pub fn custom(inner: impl CustomContext) -> Context {
        let inner = Arc::new(inner);
        let external = External::new(Box::new(inner.clone()), inner.done());
        let wrapped = inner.wrapped().and_then(|wrapped| wrapped.node.as_ref());
        Context {
            node: Some(Node::custom(external, wrapped, inner.deadline())),
            values: Values::new(Custom { inner }),
        }
    }
}

impl<T: CustomContext> ExternalSource for Arc<T> {
    fn err(&self) -> Option<Error> {
        T::err(self)
    }

    fn cause(&self) -> Option<Cause> {
        T::cause(self)
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

impl<T: CustomContext> ValueNode for Custom<T> {
    fn meta(&self) -> Meta {
        Meta {
            types: KeyTypeFilter::ALL,
            depth: 0,
        }
    }

    fn next(&self) -> Option<&dyn ValueNode> {
        None
    }

    fn search<'a>(&'a self, query: Query<'_>) -> SearchStep<'a> {
        let mut lookup = Lookup {
            key: query.key,
            answers: Vec::new(),
        };
        self.inner.value(&mut lookup);
        SearchStep::Answers(lookup.answers)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn take_next(self: Arc<Self>, panics: &mut FirstPanic, _: &mut Vec<Values>) -> Values {
        panics.catch(|| drop_nested(self));
        Values::default()
    }
}
