//! Custom contexts: user-defined types that act as contexts.

use std::any::{type_name, Any};
use std::fmt;
use std::time::Instant;

use crossbeam_channel::Receiver;

use crate::context::Context;
use crate::enter::Hooks;
use crate::error::{Cause, Error};
use crate::runtime::sync::Arc;
use crate::runtime::unwind::{drop_nested, FirstPanic};
use crate::runtime::Task;
use crate::tree::{External, ExternalSource, Node};
use crate::value::{Answer, Key, KeyTypeFilter, Meta, Query, SearchStep, ValueNode, Values};

/// Makes your own type usable as a context, through [`Context::custom`]. In Go this is any type
/// that implements the interface `context.Context`.
///
/// Only [`done`](CustomContext::done) and [`err`](CustomContext::err) must be implemented.
/// `Context::custom` calls `done`, [`deadline`](CustomContext::deadline) and
/// [`wrapped`](CustomContext::wrapped) once, and keeps the results. `wrapped` and the other methods
/// may also be called later, from any thread and any number of times. No method is called under a
/// lock of this crate, so all of them may use contexts freely.
///
/// # Rules
///
/// The context is cancelled when `done` is disconnected, or when the context calls the function
/// given to [`after_func`](CustomContext::after_func). `err` and [`cause`](CustomContext::cause)
/// are called when a thread first observes this, and the result is cached. They must not call into
/// a `Context` created from the same object. A context that breaks a rule affects only itself and
/// its descendants:
///
/// | If | then |
/// | --- | --- |
/// | `err` returns `Some` before `done` is disconnected | the context is not cancelled yet |
/// | `done` is disconnected and `err` returns `None` | the error is [`Error::Canceled`] |
/// | `err` or `cause` panics | that counts as `None` |
/// | `done` carries messages | they are received and ignored; your own `select!` may receive them |
/// | `done` would later return another channel | only the first one is used |
/// | the function that `after_func` returned panics | the panic is reported by the panic hook |
/// | another method or a `Drop` panics | the call that led to it panics, after finishing its work |
///
/// The channel is yours, so your type must keep the promises of [`Context::done`] for it. When the
/// last [handle](Context#ownership) to the `Context` is dropped, its callbacks run as for any other
/// context, even if your channel is still connected.
///
/// Custom contexts that wrap each other may be nested 100,000 deep.
///
/// # Examples
///
/// A context that is done when an existing stop channel is disconnected:
///
/// ```
/// use go_context::crossbeam_channel::{bounded, Receiver, TryRecvError};
/// use go_context::{Context, CustomContext, Error};
///
/// struct StopChannel(Receiver<()>);
///
/// impl CustomContext for StopChannel {
///     fn done(&self) -> Receiver<()> {
///         self.0.clone()
///     }
///     fn err(&self) -> Option<Error> {
///         match self.0.try_recv() {
///             Err(TryRecvError::Disconnected) => Some(Error::Canceled),
///             _ => None,
///         }
///     }
/// }
///
/// let (stop, stopped) = bounded(0);
/// let ctx = Context::custom(StopChannel(stopped));
/// let (child, _cancel) = ctx.with_cancel();
/// drop(stop);
/// assert_eq!(child.wait(), Error::Canceled);
/// ```
///
/// A wrapper that changes one property of another context, like a struct that embeds a
/// `context.Context` in Go. It returns the channel of the other context, so the two are cancelled
/// together, and no thread has to wait for the channel:
///
/// ```
/// use std::time::{Duration, Instant};
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
/// let minute = Duration::from_secs(60);
/// let (inner, cancel) = Context::background().with_timeout(minute);
/// let ctx = Context::custom(NoDeadline(inner));
/// let (child, _cancel) = ctx.with_cancel();
/// assert_eq!(child.deadline(), None);
/// cancel.cancel();
/// assert_eq!(child.err(), Some(Error::Canceled));
/// ```
pub trait CustomContext: Send + Sync + 'static {
    /// Returns the channel that is disconnected when the context is done. Return
    /// [`never()`](crossbeam_channel::never) if the context cannot be cancelled.
    ///
    /// # Examples
    ///
    /// See [`CustomContext`].
    fn done(&self) -> Receiver<()>;

    /// Returns why the context is done. Called when it is first observed to be done.
    ///
    /// # Examples
    ///
    /// See [`CustomContext`].
    fn err(&self) -> Option<Error>;

    /// Returns the cause of the cancellation. If it is `None`, the cause is the error itself. The
    /// default forwards to [`wrapped`](CustomContext::wrapped).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use go_context::crossbeam_channel::{bounded, Receiver};
    /// use go_context::{Cause, Context, CustomContext, Error};
    ///
    /// struct Stopped;
    /// impl CustomContext for Stopped {
    ///     fn done(&self) -> Receiver<()> {
    ///         bounded(0).1 // disconnected from the start
    ///     }
    ///     fn err(&self) -> Option<Error> {
    ///         Some(Error::Canceled)
    ///     }
    ///     fn cause(&self) -> Option<Cause> {
    ///         Some(Arc::new(std::fmt::Error))
    ///     }
    /// }
    ///
    /// let (child, _cancel) = Context::custom(Stopped).with_cancel();
    /// assert!(child.cause().unwrap().is::<std::fmt::Error>());
    /// ```
    fn cause(&self) -> Option<Cause> {
        self.wrapped().and_then(Context::cause)
    }

    /// Returns the deadline of the context, if it has one. It must not change. The context is not
    /// cancelled at its deadline by this crate; that is up to your type. The default forwards to
    /// [`wrapped`](CustomContext::wrapped).
    ///
    /// # Examples
    ///
    /// See [`CustomContext`].
    fn deadline(&self) -> Option<Instant> {
        self.wrapped().and_then(Context::deadline)
    }

    /// Answers a lookup if the context has a value under the key. The default forwards to
    /// [`wrapped`](CustomContext::wrapped).
    ///
    /// # Examples
    ///
    /// See [`Lookup`].
    fn value<'a>(&'a self, lookup: &mut Lookup<'_, 'a>) {
        if let Some(wrapped) = self.wrapped() {
            lookup.forward(wrapped);
        }
    }

    /// Registers `f` to be called once, on any thread, when the context is done. Returns a function
    /// that unregisters `f`. It is not called once `f` has been called.
    ///
    /// Return `None` (the default) if you cannot do this. A thread named `go-ctx-watch` then waits
    /// on `done` on behalf of all children and callbacks, until 100 ms after the last of them is
    /// gone. If it cannot be spawned, a callback thread waits instead.
    ///
    /// At most one `f` is registered at a time, on behalf of all children and callbacks. It is
    /// unregistered after the last of them is gone. This method may block; while it does, a thread
    /// waits on `done` for the children that are derived meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::crossbeam_channel::Receiver;
    /// use go_context::{Context, CustomContext, Error};
    ///
    /// type Func = Box<dyn FnOnce() + Send>;
    ///
    /// struct Wrapper(Context);
    /// impl CustomContext for Wrapper {
    ///     fn done(&self) -> Receiver<()> {
    ///         self.0.done()
    ///     }
    ///     fn err(&self) -> Option<Error> {
    ///         self.0.err()
    ///     }
    ///     fn after_func(&self, f: Func) -> Option<Func> {
    ///         let registered = self.0.after_func(f);
    ///         Some(Box::new(move || drop(registered.stop())))
    ///     }
    /// }
    ///
    /// let (inner, cancel) = Context::background().with_cancel();
    /// let ctx = Context::custom(Wrapper(inner));
    /// let (child, _cancel) = ctx.with_cancel();
    /// cancel.cancel();
    /// assert_eq!(child.wait(), Error::Canceled);
    /// ```
    fn after_func(&self, f: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>> {
        drop(f);
        None
    }

    /// Returns the context that this one wraps, if any. The default methods forward to it. If
    /// `done` returns the channel of the wrapped context, the two are cancelled together.
    ///
    /// # Examples
    ///
    /// See [`CustomContext`].
    fn wrapped(&self) -> Option<&Context> {
        None
    }

    /// Writes the name of the context for the `Display` output and for
    /// [explanations](Context::explain). The default is the name of its type.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::fmt;
    /// use go_context::crossbeam_channel::{never, Receiver};
    /// use go_context::{Context, CustomContext, Error};
    ///
    /// struct Plugin;
    /// impl CustomContext for Plugin {
    ///     fn done(&self) -> Receiver<()> {
    ///         never()
    ///     }
    ///     fn err(&self) -> Option<Error> {
    ///         None
    ///     }
    ///     fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    ///         f.write_str("plugin")
    ///     }
    /// }
    ///
    /// let (child, _cancel) = Context::custom(Plugin).with_cancel();
    /// assert_eq!(child.to_string(), "plugin.WithCancel");
    /// ```
    fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(type_name::<Self>())
    }
}

/// Collects the answers of [`CustomContext::value`] to a lookup by key. The first answer that has a
/// value is the result.
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
    /// The answers so far. None is added after one that is a value.
    answers: Vec<Answer<'a>>,
}

impl<'a> Lookup<'_, 'a> {
    /// Answers with `value` if `key` is the key that is looked up.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{Key, Lookup};
    ///
    /// #[derive(PartialEq, Eq)]
    /// enum Dimension { Width, Height }
    /// impl Key for Dimension {
    ///     type Value = u32;
    /// }
    ///
    /// struct Window { width: u32, height: u32 }
    /// impl Window {
    ///     // For `CustomContext::value`.
    ///     fn value<'a>(&'a self, lookup: &mut Lookup<'_, 'a>) {
    ///         lookup
    ///             .answer(&Dimension::Width, &self.width)
    ///             .answer(&Dimension::Height, &self.height);
    ///     }
    /// }
    /// ```
    pub fn answer<K: Key>(&mut self, key: &K, value: &'a K::Value) -> &mut Self {
        if !self.has_value() && self.key.downcast_ref() == Some(key) {
            self.answers.push(Answer::Value(value));
        }
        self
    }

    /// Answers with the value that another context has under the key, if any.
    ///
    /// The other context is searched after [`CustomContext::value`] has returned. The order of the
    /// calls matters: an `answer` after a `forward` is used only if the other context has no value.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{Context, Lookup};
    ///
    /// struct Both(Context, Context);
    /// impl Both {
    ///     // For `CustomContext::value`.
    ///     fn value<'a>(&'a self, lookup: &mut Lookup<'_, 'a>) {
    ///         lookup.forward(&self.0).forward(&self.1);
    ///     }
    /// }
    /// ```
    pub fn forward(&mut self, ctx: &'a Context) -> &mut Self {
        // Not searched here, because nested contexts would then recurse.
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
    /// Creates a context from a value of your own type. Children are derived from it like from any
    /// other context.
    ///
    /// At most one thread waits for it, however many children it has; see
    /// [`CustomContext::after_func`]. In Go this is a goroutine for each child.
    ///
    /// # Panics
    ///
    /// Panics if [`done`](CustomContext::done), [`deadline`](CustomContext::deadline) or
    /// [`wrapped`](CustomContext::wrapped) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::crossbeam_channel::{bounded, Receiver};
    /// use go_context::{Context, CustomContext, Error};
    ///
    /// struct Expired;
    /// impl CustomContext for Expired {
    ///     fn done(&self) -> Receiver<()> {
    ///         bounded(0).1 // disconnected from the start
    ///     }
    ///     fn err(&self) -> Option<Error> {
    ///         Some(Error::DeadlineExceeded)
    ///     }
    /// }
    ///
    /// let ctx = Context::custom(Expired);
    /// let (child, _cancel) = ctx.with_cancel();
    /// assert_eq!(child.err(), Some(Error::DeadlineExceeded));
    /// ```
    #[must_use]
    #[track_caller]
    pub fn custom(inner: impl CustomContext) -> Context {
        let inner = Arc::new(inner);
        let external = External::new(Box::new(inner.clone()), inner.done());
        let wrapped = inner.wrapped();
        let hooks = wrapped.map_or_else(Hooks::default, Context::hooks);
        let wrapped = wrapped.and_then(|wrapped| wrapped.node.as_ref());
        Context {
            node: Some(Node::custom(external, wrapped, inner.deadline())),
            values: Values::new(CustomValues { inner }),
        }
        .with_hooks(hooks)
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
struct CustomValues<T> {
    inner: Arc<T>,
}

impl<T: CustomContext> ValueNode for CustomValues<T> {
    fn meta(&self) -> Meta {
        Meta {
            types: KeyTypeFilter::ALL,
            node: 0, // it comes first in any case
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
