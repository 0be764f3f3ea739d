//! The values of a context: a linked list, shared with its descendants, and a lookup by typed key.
//!
//! The nodes of the list are independent of those of the cancellation tree.

use std::any::{type_name, Any, TypeId};
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::iter;

use crate::runtime::sync::Arc;
use crate::runtime::unwind::FirstPanic;

/// Makes a type usable as a key for the values of a context, and determines the type of the value.
///
/// A lookup therefore needs no cast. Keys are compared by type and then by `==`: two crates that
/// each have a key `RequestId` do not collide. A unit struct is a single key. Each variant of an
/// enum, and each value of a newtype, is a key of its own.
///
/// [`Context::value`](crate::Context::value) returns a shared reference. For a value that changes,
/// use a `Mutex` or an atomic.
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
/// What Go checks at run time is a compile error here. A key must be comparable with `==`:
///
/// ```compile_fail,E0277
/// struct Uncomparable(Vec<u8>);
/// impl go_context::Key for Uncomparable {
///     type Value = ();
/// }
/// ```
///
/// and `==` must be reflexive, which excludes floats:
///
/// ```compile_fail,E0277
/// #[derive(PartialEq)]
/// struct Float(f64);
/// impl go_context::Key for Float {
///     type Value = ();
/// }
/// ```
///
/// A lookup must use a key:
///
/// ```compile_fail,E0277
/// go_context::Context::background().value(&None::<u8>);
/// ```
///
/// A key must determine the type of its value:
///
/// ```compile_fail,E0046
/// #[derive(PartialEq, Eq)]
/// struct Untyped;
/// impl go_context::Key for Untyped {}
/// ```
///
/// A key cannot be a built-in type or one of another crate, because of the orphan rule:
///
/// ```compile_fail,E0117
/// impl go_context::Key for &'static str {
///     type Value = ();
/// }
/// ```
///
/// A value must be `Send` and `Sync`:
///
/// ```compile_fail,E0277
/// #[derive(PartialEq, Eq)]
/// struct Counter;
/// impl go_context::Key for Counter {
///     type Value = std::rc::Rc<u32>;
/// }
/// ```
pub trait Key: Any + Eq + Send + Sync {
    /// Determines the type of the values under this key.
    type Value: Any + Send + Sync;
}

/// The values of a context, the nearest first.
#[derive(Clone, Default)]
pub(crate) struct Values(Option<Arc<dyn ValueNode>>);

/// One value, or another source of values, and the nodes that follow it in the list.
pub(crate) trait ValueNode: Send + Sync {
    fn meta(&self) -> Meta;

    fn next(&self) -> Option<&dyn ValueNode>;

    /// Searches this node, and perhaps some that follow it.
    fn search<'a>(&'a self, query: Query<'_>) -> SearchStep<'a>;

    fn as_any(&self) -> &dyn Any;

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;

    /// Returns the node's part of the `Display` output. It is empty if `display.rs` writes that
    /// part.
    fn text(&self) -> String {
        String::new()
    }

    /// Drops a reference to the node. If it was the last one, returns the next nodes; other values
    /// are added to `more`.
    fn take_next(self: Arc<Self>, panics: &mut FirstPanic, more: &mut Vec<Values>) -> Values;
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Meta {
    /// The types of the keys in this node and those that follow it.
    pub(crate) types: KeyTypeFilter,
    /// The address of the tree node of the context that was derived from, which says where in the path
    /// this was. The context that has the value owns that node, so no other node has the address.
    pub(crate) node: usize,
}

/// How a search continues.
pub(crate) enum SearchStep<'a> {
    /// The value, of the key's value type.
    Found(&'a dyn Any),
    /// Continue with the next nodes, and after them with other values.
    Continue(Option<&'a dyn ValueNode>, Option<&'a Values>),
    /// Continue with the first of these answers that has a value.
    Answers(Vec<Answer<'a>>),
}

pub(crate) enum Answer<'a> {
    /// The value, of the key's value type.
    Value(&'a dyn Any),
    /// The result of a search of these values.
    In(&'a Values),
}

/// The key that is looked up, and its type.
#[derive(Clone, Copy)]
pub(crate) struct Query<'k> {
    pub(crate) key: &'k dyn Any,
    types: KeyTypeFilter,
}

/// A set of key types: a Bloom filter with one hash function. It ends most lookups of a key type
/// that is not in use.
#[derive(Clone, Copy, Default)]
pub(crate) struct KeyTypeFilter(u32);

impl KeyTypeFilter {
    pub(crate) const ALL: KeyTypeFilter = KeyTypeFilter(u32::MAX);

    #[inline]
    pub(crate) fn of(id: TypeId) -> KeyTypeFilter {
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
        KeyTypeFilter(1 << (fold.finish() >> 59))
    }

    pub(crate) fn with(self, others: KeyTypeFilter) -> KeyTypeFilter {
        KeyTypeFilter(self.0 | others.0)
    }

    #[inline]
    pub(crate) fn may_contain(self, others: KeyTypeFilter) -> bool {
        self.0 & others.0 != 0
    }
}

struct Entry<K: Key> {
    next: Next<K>,
    meta: Meta,
    key: K,
    value: K::Value,
}

/// The nodes that follow an entry. Keys of one type often follow each other, and a search passes
/// them without a virtual call.
///
/// Takes two words, like a bare `Arc<dyn ValueNode>`.
enum Next<K: Key> {
    Same(Option<Arc<Entry<K>>>),
    Other(Arc<dyn ValueNode>),
}

impl<K: Key> Next<K> {
    fn new(values: &Values) -> Next<K> {
        let Some(top) = &values.0 else {
            return Next::Same(None);
        };
        if !top.as_any().is::<Entry<K>>() {
            return Next::Other(top.clone());
        }
        match top.clone().into_any().downcast() {
            Ok(entry) => Next::Same(Some(entry)),
            Err(_) => Next::Other(top.clone()),
        }
    }

    fn top(&self) -> Option<&dyn ValueNode> {
        match self {
            Next::Same(entry) => entry.as_deref().map(|entry| entry as &dyn ValueNode),
            Next::Other(node) => Some(&**node),
        }
    }
}

impl<K: Key> ValueNode for Entry<K> {
    fn meta(&self) -> Meta {
        self.meta
    }

    fn next(&self) -> Option<&dyn ValueNode> {
        self.next.top()
    }

    fn search<'a>(&'a self, query: Query<'_>) -> SearchStep<'a> {
        if !self.meta.types.may_contain(query.types) {
            return SearchStep::Continue(None, None);
        }
        let Some(key) = query.key.downcast_ref::<K>() else {
            return SearchStep::Continue(self.next(), None);
        };
        let mut entry = self;
        loop {
            if entry.key == *key {
                return SearchStep::Found(&entry.value);
            }
            entry = match &entry.next {
                Next::Same(Some(next)) => next,
                next => return SearchStep::Continue(next.top(), None),
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

    fn take_next(self: Arc<Self>, panics: &mut FirstPanic, _: &mut Vec<Values>) -> Values {
        let Some(entry) = Arc::into_inner(self) else {
            return Values::default();
        };
        panics.catch(|| drop(entry.key));
        panics.catch(|| drop(entry.value));
        match entry.next {
            Next::Same(next) => Values(next.map(|entry| entry as Arc<dyn ValueNode>)),
            Next::Other(node) => Values(Some(node)),
        }
    }
}

impl Values {
    pub(crate) fn new(node: impl ValueNode + 'static) -> Values {
        Values(Some(Arc::new(node)))
    }

    pub(crate) fn with<K: Key>(&self, key: K, value: K::Value, node: usize) -> Values {
        let types = self.types().with(KeyTypeFilter::of(TypeId::of::<K>()));
        Values::new(Entry {
            next: Next::new(self),
            meta: Meta { types, node },
            key,
            value,
        })
    }

    #[inline]
    pub(crate) fn get<K: Key>(&self, key: &K) -> Option<&K::Value> {
        // Checked here, where the filter of the key's type is a constant.
        let types = KeyTypeFilter::of(TypeId::of::<K>());
        if !self.types().may_contain(types) {
            return None;
        }
        self.find(key)?.downcast_ref()
    }

    /// Returns the nearest value under a key. Of two merged lists the first is searched completely
    /// before the second; a list that is reached in several ways is searched once.
    pub(crate) fn find(&self, key: &dyn Any) -> Option<&dyn Any> {
        let types = KeyTypeFilter::of(key.type_id());
        if !self.types().may_contain(types) {
            return None;
        }
        let mut pending: Vec<Answer<'_>> = Vec::new();
        let mut searched: BTreeSet<*const Values> = BTreeSet::new();
        let mut next = self.0.as_deref();
        loop {
            while let Some(node) = next {
                match node.search(Query { key, types }) {
                    SearchStep::Found(value) => return Some(value),
                    SearchStep::Continue(following, other) => {
                        next = following;
                        pending.extend(other.map(Answer::In));
                    }
                    SearchStep::Answers(answers) => {
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

    /// Returns an iterator over the nodes, from the nearest to the farthest.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &dyn ValueNode> {
        iter::successors(self.top(), |node| node.next())
    }

    #[inline]
    pub(crate) fn top(&self) -> Option<&dyn ValueNode> {
        self.0.as_deref()
    }

    #[inline]
    pub(crate) fn types(&self) -> KeyTypeFilter {
        self.top()
            .map_or(KeyTypeFilter::default(), |node| node.meta().types)
    }

    pub(crate) fn ptr_eq(&self, other: &Values) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

/// Drops a long list in a loop, because recursion could overflow the stack. Every value is dropped,
/// even if some of them panic.
impl Drop for Values {
    #[inline]
    fn drop(&mut self) {
        if let Some(top) = self.0.take() {
            drop_list(top);
        }
    }
}

/// Drops a list in a loop. Resumes the first panic after everything has been dropped.
fn drop_list(top: Arc<dyn ValueNode>) {
    let mut panics = FirstPanic::default();
    let mut more = Vec::new();
    let mut next = Some(top);
    while let Some(node) = next {
        let mut following = node.take_next(&mut panics, &mut more);
        next = following.0.take();
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
    fn next_takes_two_words() {
        #[derive(PartialEq, Eq)]
        struct Unit;
        impl Key for Unit {
            type Value = ();
        }
        assert_eq!(size_of::<Next<Unit>>(), size_of::<[usize; 2]>());
    }
}
