//! A context with two parents.

use std::any::Any;

use crate::cancel::CancelFunc;
use crate::context::Context;
use crate::sync::Arc;
use crate::tree::Node;
use crate::unwind::FirstPanic;
use crate::value::{Layer, Link, Values};

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
        let node = Node::merge(self.node.clone(), other.node.clone(), depth);
        let ctx = Context {
            node: Some(node.clone()),
            values: Values::new(Join {
                link: Link {
                    below: self.values.clone(),
                    key: None,
                    depth,
                },
                other: other.clone(),
            }),
        };
        (ctx, CancelFunc::new(node))
    }
}

/// The values of the second parent, and its name for `Display`.
pub(crate) struct Join {
    link: Link,
    pub(crate) other: Context,
}

impl Layer for Join {
    fn link(&self) -> &Link {
        &self.link
    }

    fn find<'a>(&'a self, _: &dyn Any) -> Option<&'a dyn Any> {
        None
    }

    fn other(&self) -> Option<&Values> {
        Some(&self.other.values).filter(|values| !values.same(&self.link.below))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn text(&self) -> String {
        String::new()
    }

    fn unlink(self: Arc<Self>, panics: &mut FirstPanic, more: &mut Vec<Values>) -> Values {
        let Some(Join { link, other }) = Arc::into_inner(self) else {
            return Values::default();
        };
        more.push(other.values);
        panics.catch(|| drop(other.node));
        link.below
    }
}
