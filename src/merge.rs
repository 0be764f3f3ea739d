//! A context with two parents.

use std::any::Any;

use crate::cancel::CancelFunc;
use crate::context::Context;
use crate::runtime::sync::Arc;
use crate::runtime::unwind::FirstPanic;
use crate::tree::Node;
use crate::value::{Head, Layer, Step, Values, Wanted};

impl Context {
    /// Creates a child of two parents. It is done when either parent is, with the error and cause
    /// of the first. It has the earlier of their deadlines; values of this context take precedence
    /// over those of `other`. Go has no equivalent.
    ///
    /// No thread is used. The child is unregistered from both parents as soon as it is done or
    /// dropped.
    ///
    /// # Examples
    ///
    /// Work that stops when the request is over or the server shuts down, whichever is first:
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::Context;
    ///
    /// let (server, shut_down) = Context::background().with_cancel_cause();
    /// let (request, _cancel) = Context::background().with_timeout(Duration::from_secs(60));
    ///
    /// let (ctx, cancel) = request.merge(&server);
    /// let _cancel_on_exit = cancel.drop_guard();
    /// assert_eq!(ctx.deadline(), request.deadline());
    /// shut_down.cancel("going down");
    /// assert_eq!(ctx.cause().unwrap().to_string(), "going down");
    /// assert!(request.err().is_none());
    /// ```
    pub fn merge(&self, other: &Context) -> (Context, CancelFunc) {
        let depth = self.depth();
        let [first, second] = [self, other].map(|ctx| ctx.node.clone());
        let node = Node::merge(first, second, depth);
        let types = self.values.types().with(other.values.types());
        let ctx = Context {
            node: Some(node.clone()),
            values: Values::new(Join {
                below: self.values.clone(),
                other: other.clone(),
                head: Head { types, depth },
            }),
        };
        (ctx, CancelFunc::new(node))
    }
}

/// The values of the second parent, and its name for `Display`.
pub(crate) struct Join {
    below: Values,
    pub(crate) other: Context,
    head: Head,
}

impl Layer for Join {
    fn head(&self) -> Head {
        self.head
    }

    fn below(&self) -> Option<&dyn Layer> {
        self.below.top()
    }

    fn search<'a>(&'a self, _: Wanted<'_>) -> Step<'a> {
        let other = Some(&self.other.values).filter(|values| !values.same(&self.below));
        Step::On(self.below(), other)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn unlink(self: Arc<Self>, panics: &mut FirstPanic, more: &mut Vec<Values>) -> Values {
        let Some(join) = Arc::into_inner(self) else {
            return Values::default();
        };
        more.push(join.other.values);
        panics.catch(|| drop(join.other.node));
        join.below
    }
}
