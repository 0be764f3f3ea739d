//! What the crate itself adds to the values of a context: data without a key, which users cannot look up.

use std::any::{Any, TypeId};

use crate::context::Context;
use crate::runtime::sync::Arc;
use crate::runtime::unwind::{drop_nested, FirstPanic};
use crate::value::{KeyTypeFilter, Meta, Query, SearchStep, ValueNode, Values};

pub(crate) struct Extension<T> {
    next: Values,
    meta: Meta,
    data: T,
}

impl<T: Send + Sync + 'static> Extension<T> {
    /// Returns the data of a node that has some of this type.
    pub(crate) fn data(node: &dyn ValueNode) -> Option<&T> {
        let extension = node.as_any().downcast_ref::<Extension<T>>()?;
        Some(&extension.data)
    }

    /// Returns whether there may be such data among the values.
    pub(crate) fn may_be_in(values: &Values) -> bool {
        values.types().may_contain(Extension::<T>::types())
    }

    fn types() -> KeyTypeFilter {
        KeyTypeFilter::of(TypeId::of::<T>())
    }
}

impl Context {
    /// Returns the same context with data of the crate's.
    pub(crate) fn with_extension<T: Send + Sync + 'static>(&self, data: T) -> Context {
        let types = self.values.types().with(Extension::<T>::types());
        Context {
            values: Values::new(Extension {
                next: self.values.clone(),
                meta: Meta {
                    types,
                    node: self.address(),
                },
                data,
            }),
            node: self.node.clone(),
        }
    }
}

impl<T: Send + Sync + 'static> ValueNode for Extension<T> {
    fn meta(&self) -> Meta {
        self.meta
    }

    fn next(&self) -> Option<&dyn ValueNode> {
        self.next.top()
    }

    fn search<'a>(&'a self, _: Query<'_>) -> SearchStep<'a> {
        SearchStep::Continue(self.next(), None)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn take_next(self: Arc<Self>, panics: &mut FirstPanic, _: &mut Vec<Values>) -> Values {
        let Some(extension) = Arc::into_inner(self) else {
            return Values::default();
        };
        panics.catch(|| drop_nested(extension.data));
        extension.next
    }
}
