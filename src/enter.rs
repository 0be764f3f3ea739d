//! Hooks around the work that a context's other threads do.

use std::collections::BTreeSet;

use crate::context::Context;
use crate::extension::Extension;
use crate::merge::MergedValues;
use crate::runtime::sync::Arc;
use crate::runtime::unwind::FirstPanic;
use crate::runtime::Task;
use crate::value::Values;

type Hook = Arc<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

impl Context {
    /// Returns the same context with a hook around the work that runs on other threads: the workers of its
    /// [groups](Context::scope), its [callbacks](Context::after_func) and its
    /// [interrupts](Context::interruptible), and those of contexts that are derived from the returned
    /// handle. Go has no equivalent.
    ///
    /// It is for what belongs to a thread, such as a span of the crate `tracing`, and is otherwise lost
    /// where work moves to another one. `hook` is called on the thread that does the work, and must call
    /// its argument, which does it. If it does not, or panics before it does, the work is done
    /// afterwards; further calls do nothing.
    ///
    /// Like [`with_value`](Context::with_value) it does not change the context itself. Hooks of ancestors
    /// are called too, around those of their descendants, all on the stack of the thread. They apply to
    /// what is started or registered later, through this handle and those derived from it.
    ///
    /// # Examples
    ///
    /// With `tracing` this is `let ctx = ctx.with_enter(move |work| span.in_scope(work))`. Here the hook
    /// sets a thread-local variable:
    ///
    /// ```
    /// use std::cell::Cell;
    /// use go_context::{Context, Error};
    ///
    /// thread_local! {
    ///     static REQUEST: Cell<u32> = const { Cell::new(0) };
    /// }
    ///
    /// let ctx = Context::background().with_enter(|work| {
    ///     let outer = REQUEST.replace(17);
    ///     work();
    ///     REQUEST.set(outer);
    /// });
    /// let seen = ctx.scope(|s| -> Result<_, Error> {
    ///     Ok(s.spawn(|_| Ok(REQUEST.get())).recv())
    /// });
    /// assert_eq!(seen, Ok(Ok(17)));
    /// assert_eq!(REQUEST.get(), 0);
    /// ```
    #[must_use]
    pub fn with_enter(&self, hook: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static) -> Context {
        self.with_extension::<Hook>(Arc::new(hook))
    }

    /// Returns the hooks of the context and its ancestors, for work that it starts.
    pub(crate) fn hooks(&self) -> Hooks {
        let mut hooks = Hooks::default();
        if Extension::<Hook>::may_be_in(&self.values) {
            hooks.collect(&self.values);
        }
        hooks
    }

    pub(crate) fn with_hooks(self, hooks: Hooks) -> Context {
        let outermost_first = hooks.0.into_iter().rev();
        outermost_first.fold(self, |ctx, hook| ctx.with_extension(hook))
    }
}

/// The hooks of a context, the innermost first.
#[derive(Default)]
pub(crate) struct Hooks(Vec<Hook>);

impl Hooks {
    fn collect(&mut self, values: &Values) {
        let mut merges = BTreeSet::new();
        let mut pending = vec![values];
        while let Some(values) = pending.pop() {
            for node in values.nodes() {
                self.0.extend(Extension::<Hook>::data(node).cloned());
                if let Some(merged) = node.as_any().downcast_ref::<MergedValues>() {
                    if merges.insert(merged as *const MergedValues) {
                        pending.push(&merged.other.values);
                    }
                }
            }
        }
        // Both parents of a merged context may have the hook of an ancestor. It runs once, outside those of
        // its descendants.
        let mut seen = BTreeSet::new();
        self.0.reverse();
        self.0
            .retain(|hook| seen.insert(Arc::as_ptr(hook).cast::<()>()));
        self.0.reverse();
    }

    /// Returns a task that does the work inside all hooks.
    pub(crate) fn around(self, work: impl FnOnce() + Send + 'static) -> Task {
        match self.0.is_empty() {
            true => Box::new(work),
            false => Box::new(move || self.run(work)),
        }
    }

    /// Does the work inside all hooks.
    pub(crate) fn run(&self, work: impl FnOnce()) {
        match self.0.is_empty() {
            true => work(),
            false => run_inside(&self.0, Box::new(work)),
        }
    }
}

fn run_inside(hooks: &[Hook], work: Box<dyn FnOnce() + '_>) {
    let Some((outermost, inner)) = hooks.split_last() else {
        return work();
    };
    let mut work = Some(work);
    let mut enter = || {
        if let Some(work) = work.take() {
            run_inside(inner, work);
        }
    };
    let mut panics = FirstPanic::default();
    panics.catch(|| outermost(&mut enter));
    panics.catch(enter); // if the hook has not
    panics.resume();
}
