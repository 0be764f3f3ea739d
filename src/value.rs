//! Values: a list that a context shares with all its descendants, and lookup by typed key.

use std::any::{type_name, Any, TypeId};
use std::collections::BTreeSet;
use std::iter;

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
/// it cannot be left out:
///
/// ```compile_fail,E0277
/// go_context::Context::background().value(&None::<u8>);
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

/// One value, or what else can have values, on top of those before it.
pub(crate) trait Layer: Send + Sync {
    fn link(&self) -> &Link;

    /// The value under `key`, if this very layer has it. The key is a reference to one, and so is
    /// what comes back to a value of its type.
    fn find<'a>(&'a self, key: &dyn Any) -> Option<&'a dyn Any>;

    /// Other values, to be searched when those below have been.
    fn other(&self) -> Option<&Values> {
        None
    }

    fn as_any(&self) -> &dyn Any;

    /// What it adds to the text of a context.
    fn text(&self) -> String;

    /// Lets go of the layer, and returns those below if this was the last hold on it; other values
    /// go into `more`.
    fn unlink(self: Arc<Self>, panics: &mut FirstPanic, more: &mut Vec<Values>) -> Values;
}

pub(crate) struct Link {
    pub(crate) below: Values,
    /// The type of the key, where the layer has one: saves a look at the layer itself.
    pub(crate) key: Option<TypeId>,
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

    fn find<'a>(&'a self, key: &dyn Any) -> Option<&'a dyn Any> {
        let key: &K = key.downcast_ref()?;
        (self.key == *key).then_some(&self.value)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn text(&self) -> String {
        let (key, value) = (type_name::<K>(), type_name::<K::Value>());
        format!(".WithValue({key}, {value})")
    }

    fn unlink(self: Arc<Self>, panics: &mut FirstPanic, _: &mut Vec<Values>) -> Values {
        let Some(Pair { link, key, value }) = Arc::into_inner(self) else {
            return Values::default();
        };
        panics.catch(|| drop(key));
        panics.catch(|| drop(value));
        link.below
    }
}

impl Values {
    pub(crate) fn new(layer: impl Layer + 'static) -> Values {
        Values(Some(Arc::new(layer)))
    }

    pub(crate) fn with<K: Key>(&self, key: K, value: K::Value, depth: u32) -> Values {
        let link = Link {
            below: self.clone(),
            key: Some(TypeId::of::<K>()),
            depth,
        };
        Values::new(Pair { link, key, value })
    }

    pub(crate) fn get<K: Key>(&self, key: &K) -> Option<&K::Value> {
        self.find(key)?.downcast_ref()
    }

    /// The nearest value under a key. Where two lists were merged, all of the first comes before the
    /// second; a list that is reached in many ways is searched once.
    pub(crate) fn find(&self, key: &dyn Any) -> Option<&dyn Any> {
        let key_type = key.type_id();
        let mut pending: Vec<&Values> = Vec::new();
        let mut searched: BTreeSet<*const Values> = BTreeSet::new();
        let mut values = self;
        loop {
            for layer in values.layers() {
                let keyed = layer.link().key;
                if keyed.map_or(true, |keyed| keyed == key_type) {
                    if let Some(value) = layer.find(key) {
                        return Some(value);
                    }
                }
                if keyed.is_none() {
                    pending.extend(layer.other());
                }
            }
            values = loop {
                let other = pending.pop()?;
                if searched.insert(other) {
                    break other;
                }
            };
        }
    }

    pub(crate) fn layers(&self) -> impl Iterator<Item = &dyn Layer> {
        iter::successors(self.0.as_deref(), |layer| layer.link().below.0.as_deref())
    }

    pub(crate) fn depth(&self) -> u32 {
        self.0.as_deref().map_or(0, |layer| layer.link().depth)
    }

    pub(crate) fn same(&self, other: &Values) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

/// A long list is let go in a loop: the stack of the thread that drops the last handle may be
/// small. Every value is dropped, whichever of them panic.
impl Drop for Values {
    fn drop(&mut self) {
        let mut panics = FirstPanic::default();
        let mut more = Vec::new();
        let mut next = self.0.take();
        while let Some(layer) = next {
            let mut below = layer.unlink(&mut panics, &mut more);
            next = below.0.take();
            while next.is_none() {
                let Some(mut other) = more.pop() else { break };
                next = other.0.take();
            }
        }
        panics.resume();
    }
}
