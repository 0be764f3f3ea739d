//! The values of a context with two parents.

use std::any::Any;

use crate::context::Context;
use crate::runtime::sync::Arc;
use crate::runtime::unwind::FirstPanic;
use crate::value::{Meta, Query, SearchStep, ValueNode, Values};

/// The values of both parents, and the second parent for `Display`.
pub(crate) struct MergedValues {
    next: Values,
    pub(crate) other: Context,
    meta: Meta,
}

impl MergedValues {
    /// Returns the values of a child of `first` and `other`. Those of `first` take precedence.
    pub(crate) fn join(first: &Context, other: &Context, node: usize) -> Values {
        let types = first.values.types().with(other.values.types());
        Values::new(MergedValues {
            next: first.values.clone(),
            other: other.clone(),
            meta: Meta { types, node },
        })
    }
}

impl ValueNode for MergedValues {
    fn meta(&self) -> Meta {
        self.meta
    }

    fn next(&self) -> Option<&dyn ValueNode> {
        self.next.top()
    }

    fn search<'a>(&'a self, _: Query<'_>) -> SearchStep<'a> {
        let other = Some(&self.other.values).filter(|values| !values.ptr_eq(&self.next));
        SearchStep::Continue(self.next(), other)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn take_next(self: Arc<Self>, panics: &mut FirstPanic, more: &mut Vec<Values>) -> Values {
        let Some(merged) = Arc::into_inner(self) else {
            return Values::default();
        };
        more.push(merged.other.values);
        panics.catch(|| drop(merged.other.node));
        merged.next
    }
}
