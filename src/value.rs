//! Values: a list that a context shares with its descendants, and lookup by typed key.

use std::any::{type_name, Any, TypeId};
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::iter;

use crate::runtime::sync::Arc;
use crate::runtime::unwind::FirstPanic;

/// A type that can be used as a key for the values of a context.
///
/// The key's type determines the type of the value, so a lookup needs no cast. Keys are compared by
/// type and then by `==`: two crates that each have a `RequestId` do not collide, and a unit struct
/// is the key of one value, while an enum or a newtype has many. A built-in type cannot be a key,
/// because the orphan rule forbids implementing `Key` for it.
///
/// [`Context::value`](crate::Context::value) returns a shared reference, so choose a type of value
/// that can be used through one: for a value that changes, a `Mutex` or an atomic.
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
/// What Go checks at run time is a compile error here. A key must be comparable:
///
/// ```compile_fail,E0277
/// struct Uncomparable(Vec<u8>);
/// impl go_context::Key for Uncomparable {
///     type Value = ();
/// }
/// ```
///
/// with a total equivalence, which excludes floats:
///
/// ```compile_fail,E0277
/// #[derive(PartialEq)]
/// struct Float(f64);
/// impl go_context::Key for Float {
///     type Value = ();
/// }
/// ```
///
/// a lookup must name a key:
///
/// ```compile_fail,E0277
/// go_context::Context::background().value(&None::<u8>);
/// ```
///
/// the key must name the type of its value:
///
/// ```compile_fail,E0046
/// #[derive(PartialEq, Eq)]
/// struct Nameless;
/// impl go_context::Key for Nameless {}
/// ```
///
/// it cannot be a type of another crate, such as a string:
///
/// ```compile_fail,E0117
/// impl go_context::Key for &'static str {
///     type Value = ();
/// }
/// ```
///
/// and its value must be `Send` and `Sync`:
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

/// One value, or another source of values, on top of the layers below.
pub(crate) trait Layer: Send + Sync {
    fn head(&self) -> Head;

    fn below(&self) -> Option<&dyn Layer>;

    /// Searches this layer, and perhaps some of those below.
    fn search<'a>(&'a self, key: Wanted<'_>) -> Step<'a>;

    fn as_any(&self) -> &dyn Any;

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;

    /// Returns the layer's part of the `Display` output; empty if its node or `display.rs` writes
    /// it.
    fn text(&self) -> String {
        String::new()
    }

    /// Drops a reference to the layer. If it was the last one, returns the layers below; other
    /// values are added to `more`.
    fn unlink(self: Arc<Self>, panics: &mut FirstPanic, more: &mut Vec<Values>) -> Values;
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Head {
    /// The types of the keys in this layer and below.
    pub(crate) types: Types,
    /// How many derivations lie between this layer and the root, including those of nodes.
    pub(crate) depth: u32,
}

/// How a search continues.
pub(crate) enum Step<'a> {
    /// A reference to a value of the key's type.
    Found(&'a dyn Any),
    /// Continue with the layers below, and then with other values.
    On(Option<&'a dyn Layer>, Option<&'a Values>),
    /// Continue with these answers, one after the other.
    Answers(Vec<Answer<'a>>),
}

pub(crate) enum Answer<'a> {
    /// A reference to a value of the key's type.
    Value(&'a dyn Any),
    /// The value that these values have under the key, if any.
    In(&'a Values),
}

/// A reference to a key, and its type.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'k> {
    pub(crate) key: &'k dyn Any,
    types: Types,
}

/// A set of key types: a Bloom filter with one hash function. Most lookups with a type of key that
/// is not in use end here.
#[derive(Clone, Copy, Default)]
pub(crate) struct Types(u32);

impl Types {
    pub(crate) const ALL: Types = Types(u32::MAX);

    #[inline]
    fn one(id: TypeId) -> Types {
        /// A hasher for `TypeId`, which is a hash already.
        struct Fold(u64);

        impl Hasher for Fold {
            fn write(&mut self, bytes: &[u8]) {
                for byte in bytes {
                    self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
                }
            }
            #[inline]
            fn write_u64(&mut self, n: u64) {
                self.0 ^= n;
            }
            #[inline]
            fn finish(&self) -> u64 {
                self.0
            }
        }

        let mut fold = Fold(0);
        id.hash(&mut fold);
        Types(1 << (fold.finish() >> 59))
    }

    pub(crate) fn with(self, others: Types) -> Types {
        Types(self.0 | others.0)
    }

    #[inline]
    fn meets(self, others: Types) -> bool {
        self.0 & others.0 != 0
    }
}

struct Pair<K: Key> {
    below: Below<K>,
    head: Head,
    key: K,
    value: K::Value,
}

/// The layers below a value. Keys of one type often follow each other; a search goes through them
/// without a virtual call.
///
/// The type is laid out so that it takes no more room than its larger variant.
enum Below<K: Key> {
    Same(Option<Arc<Pair<K>>>),
    Other(Arc<dyn Layer>),
}

impl<K: Key> Below<K> {
    fn new(values: &Values) -> Below<K> {
        let Some(top) = &values.0 else {
            return Below::Same(None);
        };
        if !top.as_any().is::<Pair<K>>() {
            return Below::Other(top.clone());
        }
        match top.clone().into_any().downcast() {
            Ok(pair) => Below::Same(Some(pair)),
            Err(_) => Below::Other(top.clone()),
        }
    }

    fn top(&self) -> Option<&dyn Layer> {
        match self {
            Below::Same(pair) => pair.as_deref().map(|pair| pair as &dyn Layer),
            Below::Other(layer) => Some(&**layer),
        }
    }
}

impl<K: Key> Layer for Pair<K> {
    fn head(&self) -> Head {
        self.head
    }

    fn below(&self) -> Option<&dyn Layer> {
        self.below.top()
    }

    fn search<'a>(&'a self, wanted: Wanted<'_>) -> Step<'a> {
        if !self.head.types.meets(wanted.types) {
            return Step::On(None, None);
        }
        let Some(key) = wanted.key.downcast_ref::<K>() else {
            return Step::On(self.below(), None);
        };
        let mut pair = self;
        loop {
            if pair.key == *key {
                return Step::Found(&pair.value);
            }
            pair = match &pair.below {
                Below::Same(Some(below)) => below,
                below => return Step::On(below.top(), None),
            };
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn text(&self) -> String {
        let (key, value) = (type_name::<K>(), type_name::<K::Value>());
        format!(".WithValue({key}, {value})")
    }

    fn unlink(self: Arc<Self>, panics: &mut FirstPanic, _: &mut Vec<Values>) -> Values {
        let Some(pair) = Arc::into_inner(self) else {
            return Values::default();
        };
        panics.catch(|| drop(pair.key));
        panics.catch(|| drop(pair.value));
        match pair.below {
            Below::Same(below) => Values(below.map(|pair| pair as Arc<dyn Layer>)),
            Below::Other(layer) => Values(Some(layer)),
        }
    }
}

impl Values {
    pub(crate) fn new(layer: impl Layer + 'static) -> Values {
        Values(Some(Arc::new(layer)))
    }

    pub(crate) fn with<K: Key>(&self, key: K, value: K::Value, depth: u32) -> Values {
        let types = self.types().with(Types::one(TypeId::of::<K>()));
        Values::new(Pair {
            below: Below::new(self),
            head: Head { types, depth },
            key,
            value,
        })
    }

    #[inline]
    pub(crate) fn get<K: Key>(&self, key: &K) -> Option<&K::Value> {
        // Checked here, where the compiler knows the type.
        if !self.types().meets(Types::one(TypeId::of::<K>())) {
            return None;
        }
        self.find(key)?.downcast_ref()
    }

    /// Returns the nearest value under a key. Of two merged lists the first is searched completely
    /// before the second; a list that is reached in several ways is searched once.
    pub(crate) fn find(&self, key: &dyn Any) -> Option<&dyn Any> {
        let types = Types::one(key.type_id());
        if !self.types().meets(types) {
            return None;
        }
        let mut pending: Vec<Answer<'_>> = Vec::new();
        let mut searched: BTreeSet<*const Values> = BTreeSet::new();
        let mut next = self.0.as_deref();
        loop {
            while let Some(layer) = next {
                match layer.search(Wanted { key, types }) {
                    Step::Found(value) => return Some(value),
                    Step::On(below, other) => {
                        next = below;
                        pending.extend(other.map(Answer::In));
                    }
                    Step::Answers(answers) => {
                        next = None;
                        pending.extend(answers.into_iter().rev());
                    }
                }
            }
            next = loop {
                match pending.pop()? {
                    Answer::Value(value) => return Some(value),
                    Answer::In(other) if searched.insert(other) => break other.0.as_deref(),
                    Answer::In(_) => {}
                }
            };
        }
    }

    /// Iterates over the layers from the nearest to the farthest.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &dyn Layer> {
        iter::successors(self.top(), |layer| layer.below())
    }

    #[inline]
    pub(crate) fn top(&self) -> Option<&dyn Layer> {
        self.0.as_deref()
    }

    #[inline]
    pub(crate) fn depth(&self) -> u32 {
        self.top().map_or(0, |layer| layer.head().depth)
    }

    #[inline]
    pub(crate) fn types(&self) -> Types {
        self.top()
            .map_or(Types::default(), |layer| layer.head().types)
    }

    pub(crate) fn same(&self, other: &Values) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

/// Drops a long list in a loop, because the stack of the dropping thread may be small. Every value
/// is dropped, even if some of them panic.
impl Drop for Values {
    #[inline]
    fn drop(&mut self) {
        if let Some(top) = self.0.take() {
            let_go(top);
        }
    }
}

fn let_go(top: Arc<dyn Layer>) {
    let mut panics = FirstPanic::default();
    let mut more = Vec::new();
    let mut next = Some(top);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::size_of;

    #[test]
    fn what_lies_below_a_value_takes_two_words() {
        #[derive(PartialEq, Eq)]
        struct Unit;
        impl Key for Unit {
            type Value = ();
        }
        assert_eq!(size_of::<Below<Unit>>(), size_of::<[usize; 2]>());
    }
}
