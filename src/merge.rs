//! The values of a context with two parents.

use std::any::Any;

use crate::context::Context;
use crate::runtime::sync::Arc;
use crate::runtime::unwind::FirstPanic;
use crate::value::{Head, Layer, Step, Values, Wanted};

/// The values of both parents, and the second parent for `Display`.
pub(crate) struct MergedValues {
    below: Values,
    pub(crate) other: Context,
    head: Head,
}

impl MergedValues {
    /// Returns the values of a child of `first` and `other`. Those of `first` take precedence.
    pub(crate) fn join(first: &Context, other: &Context, depth: u32) -> Values {
        let types = first.values.types().with(other.values.types());
        Values::new(MergedValues {
            below: first.values.clone(),
            other: other.clone(),
            head: Head { types, depth },
        })
    }
}

impl Layer for MergedValues {
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
        let Some(merged) = Arc::into_inner(self) else {
            return Values::default();
        };
        more.push(merged.other.values);
        panics.catch(|| drop(merged.other.node));
        merged.below
    }
}
