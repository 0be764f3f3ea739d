//! A context with two parents.

use std::any::Any;

use crate::cancel::CancelFunc;
use crate::context::Context;
use crate::sync::Arc;
use crate::tree::{Hold, Node};
use crate::unwind::FirstPanic;
use crate::value::{Head, Layer, Step, Values, Wanted};

impl Context {
    /// A child of two parents: it is done when either is, with the error and cause of the one that
    /// was first. It has the earlier of their deadlines, and the values of this context before those
    /// of the other. Go has nothing like it.
    ///
    /// It needs no thread, and once it is done or nobody holds it both parents have forgotten it.
    ///
    /// # Examples
    ///
    /// Work that ends with the request or with the server, whichever is first:
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
        let [first, second] = [self, other].map(|ctx| ctx.node.as_deref().cloned());
        let node = Node::merge(first, second, depth);
        let types = self.values.types().with(other.values.types());
        let ctx = Context {
            node: Some(Hold::new(node.clone())),
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
