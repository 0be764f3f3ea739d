//! Values: a list that a context shares with all its descendants, and lookup by typed key.

use std::any::{type_name, Any, TypeId};
use std::iter;
use std::mem;

use crate::sync::Arc;
use crate::unwind::FirstPanic;

/// A type whose values are keys of a context, each naming a value of one type.
///
/// The type of the value follows from that of the key, so a lookup needs no cast. A key is found
/// by its type first and then by `==`: two crates that each have a `RequestId` cannot meet, and a
/// unit struct names one value while an enum or a newtype names many. A built-in type cannot be a
/// key, for the orphan rule lets no one implement `Key` for it.
///
/// Give the value a type that derefs to what is needed, or that can be changed behind a reference:
/// contexts hand out `&Value` only.
///
/// # Examples
///
/// ```
/// use go_context::{Context, Key};
///
/// #[derive(PartialEq, Eq)]
/// struct RequestId;
/// impl Key for RequestId {
///     type Value = u64;
/// }
///
/// let ctx = Context::background().with_value(RequestId, 42);
/// assert_eq!(ctx.value(&RequestId), Some(&42));
/// ```
///
/// What Go finds out when the program runs, the compiler finds here. A key has to be comparable:
///
/// ```compile_fail,E0277
/// struct Uncomparable(Vec<u8>);
/// impl go_context::Key for Uncomparable {
///     type Value = ();
/// }
/// ```
///
/// fully so, which a float is not:
///
/// ```compile_fail,E0277
/// #[derive(PartialEq)]
/// struct Float(f64);
/// impl go_context::Key for Float {
///     type Value = ();
/// }
/// ```
///
/// it has to name the type of its value:
///
/// ```compile_fail,E0046
/// #[derive(PartialEq, Eq)]
/// struct Nameless;
/// impl go_context::Key for Nameless {}
/// ```
///
/// it cannot be a type of somebody else's, such as a string:
///
/// ```compile_fail,E0117
/// impl go_context::Key for &'static str {
///     type Value = ();
/// }
/// ```
///
/// and its value is shared between threads:
///
/// ```compile_fail,E0277
/// #[derive(PartialEq, Eq)]
/// struct Counter;
/// impl go_context::Key for Counter {
///     type Value = std::rc::Rc<u32>;
/// }
/// ```
pub trait Key: Any + Eq + Send + Sync {
    /// The type of the values under this key.
    type Value: Any + Send + Sync;
}

/// The values of a context, the nearest first.
#[derive(Clone, Default)]
pub(crate) struct Values(Option<Arc<dyn Layer>>);

/// One value, on top of those before it.
pub(crate) trait Layer: Send + Sync {
    fn link(&self) -> &Link;
    fn as_any(&self) -> &dyn Any;
    /// The names of the types of key and value.
    fn names(&self) -> (&'static str, &'static str);
    /// Lets go of the layer, and returns those below if this was the last hold on it.
    fn unlink(self: Arc<Self>, panics: &mut FirstPanic) -> Values;
}

pub(crate) struct Link {
    below: Values,
    /// Saves a look at the key itself where its type is another.
    key: TypeId,
    /// How many derivations lie between this layer and the root, those of nodes counted too.
    pub(crate) depth: u32,
}

struct Pair<K: Key> {
    link: Link,
    key: K,
    value: K::Value,
}

impl<K: Key> Layer for Pair<K> {
    fn link(&self) -> &Link {
        &self.link
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn names(&self) -> (&'static str, &'static str) {
        (type_name::<K>(), type_name::<K::Value>())
    }

    fn unlink(self: Arc<Self>, panics: &mut FirstPanic) -> Values {
        let Some(Pair { link, key, value }) = Arc::into_inner(self) else {
            return Values::default();
        };
        panics.catch(|| drop(key));
        panics.catch(|| drop(value));
        link.below
    }
}

impl Values {
    pub(crate) fn with<K: Key>(&self, key: K, value: K::Value, depth: u32) -> Values {
        Values(Some(Arc::new(Pair {
            link: Link {
                below: self.clone(),
                key: TypeId::of::<K>(),
                depth,
            },
            key,
            value,
        })))
    }

    pub(crate) fn get<K: Key>(&self, key: &K) -> Option<&K::Value> {
        self.layers()
            .filter(|layer| layer.link().key == TypeId::of::<K>())
            .filter_map(|layer| layer.as_any().downcast_ref::<Pair<K>>())
            .find(|pair| pair.key == *key)
            .map(|pair| &pair.value)
    }

    pub(crate) fn layers(&self) -> impl Iterator<Item = &dyn Layer> {
        iter::successors(self.0.as_deref(), |layer| layer.link().below.0.as_deref())
    }

    pub(crate) fn depth(&self) -> u32 {
        self.0.as_deref().map_or(0, |layer| layer.link().depth)
    }
}

/// A long list is let go in a loop: the stack of the thread that drops the last handle may be
/// small. Every value is dropped, whichever of them panic.
impl Drop for Values {
    fn drop(&mut self) {
        let mut panics = FirstPanic::default();
        while let Some(layer) = self.0.take() {
            let mut below = layer.unlink(&mut panics);
            self.0 = mem::take(&mut below.0);
        }
        panics.resume();
    }
}
