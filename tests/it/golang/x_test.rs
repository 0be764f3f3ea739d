//! `context/x_test.go`: what every user of the package may rely on.

use std::any::type_name;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use go_context::crossbeam_channel::{bounded, never, TryRecvError};
use go_context::{CancelFunc, Context, Error, Key};
use support::custom::OwnDone;
use support::threads::spawn;
use support::{assert_closes, assert_open, cause, receive, wait, HOUR};

use super::common::{
    assert_cause, assert_err, assert_no_cause, eventually, forward, Name, Own, SHORT,
};

// Roots and cancellation

#[test]
fn background() {
    let ctx = Context::background();
    assert_open(&ctx);
    assert_eq!(ctx.to_string(), "context.Background");
}

#[test]
fn todo() {
    let ctx = Context::todo();
    assert_open(&ctx);
    assert_eq!(ctx.to_string(), "context.TODO");
}

#[test]
fn with_cancel() {
    let (first, cancel) = Context::background().with_cancel();
    assert_eq!(first.to_string(), "context.Background.WithCancel");
    let wrapper = forward(&first);
    let (last, _cancel_last) = wrapper.with_cancel();
    let all = [&first, &wrapper, &last];
    for ctx in all {
        assert!(ctx.is_cancellable(), "{ctx}");
        assert_open(ctx);
    }

    cancel.cancel();
    all.into_iter()
        .for_each(|ctx| assert_err(ctx, Error::Canceled));
}

#[test]
fn simultaneous_cancels() {
    let (root, cancel) = Context::background().with_cancel();
    let mut tree = vec![(root.clone(), cancel)];
    let mut queue = VecDeque::from([root]);
    while tree.len() < 100 {
        let parent = queue.pop_front().unwrap();
        for _ in 0..4 {
            let (child, cancel) = parent.with_cancel();
            queue.push_back(child.clone());
            tree.push((child, cancel));
        }
    }
    assert_eq!(tree.len(), 101);

    let (contexts, cancels): (Vec<Context>, Vec<CancelFunc>) = tree.into_iter().unzip();
    let calls: Vec<_> = cancels
        .into_iter()
        .map(|cancel| spawn(move || cancel.cancel()))
        .collect();
    for ctx in &contexts {
        wait(ctx);
    }
    calls.iter().for_each(receive);
}

#[test]
fn interlocked_cancels() {
    let (parent, cancel_parent) = Context::background().with_cancel();
    let (child, cancel_child) = parent.with_cancel();
    let call = spawn(move || {
        parent.wait();
        cancel_child.cancel();
    });
    cancel_parent.cancel();
    wait(&child);
    receive(&call);
}

#[test]
fn with_cancel_canceled_parent() {
    let (parent, cancel) = Context::background().with_cancel_cause();
    let why = cause("because");
    cancel.cancel(why.clone());
    let (child, _cancel_child) = parent.with_cancel();
    assert_cause(&child, Error::Canceled, &why);
}

#[test]
fn with_cancel_simultaneously_canceled_parent() {
    for _ in 0..500 {
        let (parent, cancel) = Context::background().with_cancel_cause();
        let why = cause("because");
        let call = spawn({
            let why = why.clone();
            move || cancel.cancel(why)
        });
        let (child, _cancel_child) = parent.with_cancel();
        wait(&child);
        assert_cause(&child, Error::Canceled, &why);
        receive(&call);
    }
}

// Deadlines

#[track_caller]
fn assert_expires(name: &str, ctx: &Context) {
    wait(ctx);
    assert_eq!(ctx.err(), Some(Error::DeadlineExceeded), "{name}");
}

#[test]
fn deadline() {
    let bg = Context::background();

    let (ctx, _cancel) = bg.with_deadline(Instant::now() + SHORT);
    let text = ctx.to_string();
    assert!(
        text.starts_with("context.Background.WithDeadline("),
        "{text}"
    );
    assert_expires("WithDeadline", &ctx);

    let (ctx, _cancel) = bg.with_deadline(Instant::now() + SHORT);
    assert_expires("WithDeadline and a wrapper", &forward(&ctx));

    let (ctx, _cancel) = bg.with_deadline(Instant::now() + SHORT);
    let (child, _cancel) = forward(&ctx).with_deadline(Instant::now() + HOUR);
    assert_expires("WithDeadline, a wrapper and WithDeadline", &child);

    let past = SystemTime::now() - SHORT;
    let (ctx, _cancel) = bg.with_deadline(past);
    assert_err(&ctx, Error::DeadlineExceeded);

    let (ctx, _cancel) = bg.with_deadline(Instant::now());
    assert_err(&ctx, Error::DeadlineExceeded);
}

#[test]
fn timeout() {
    let bg = Context::background();

    let (ctx, _cancel) = bg.with_timeout(SHORT);
    let text = ctx.to_string();
    assert!(
        text.starts_with("context.Background.WithDeadline("),
        "{text}"
    );
    assert_expires("WithTimeout", &ctx);

    let (ctx, _cancel) = bg.with_timeout(SHORT);
    assert_expires("WithTimeout and a wrapper", &forward(&ctx));

    let (ctx, _cancel) = bg.with_timeout(SHORT);
    let (child, _cancel) = forward(&ctx).with_timeout(HOUR);
    assert_expires("WithTimeout, a wrapper and WithTimeout", &child);
}

#[test]
fn canceled_timeout() {
    let (parent, _cancel_parent) = Context::background().with_timeout(HOUR);
    let (ctx, cancel) = forward(&parent).with_timeout(HOUR);
    cancel.cancel();
    assert_err(&ctx, Error::Canceled);
    assert_open(&parent);
}

#[test]
fn deadline_exceeded_supports_timeout() {
    assert!(Error::DeadlineExceeded.is_timeout());
    let err = io::Error::from(Error::DeadlineExceeded);
    assert_eq!(err.kind(), io::ErrorKind::TimedOut);
}

// Values

/// A value that may be nil.
type Nilable = Option<&'static str>;

#[derive(PartialEq, Eq)]
struct Key1(i32);

impl Key for Key1 {
    type Value = Nilable;
}

#[derive(PartialEq, Eq)]
struct Key2(i32);

impl Key for Key2 {
    type Value = Nilable;
}

const K1: Key1 = Key1(1);
const K2: Key2 = Key2(1); // the number of K1, and another type
const K3: Key2 = Key2(3);

#[track_caller]
fn assert_values(name: &str, ctx: &Context, expected: [Nilable; 3]) {
    let found = [ctx.value(&K1), ctx.value(&K2), ctx.value(&K3)];
    assert_eq!(
        found.map(|value| value.copied().flatten()),
        expected,
        "{name}"
    );
}

fn with_value_text<K: Key>() -> String {
    let (key, value) = (type_name::<K>(), type_name::<K::Value>());
    format!(".WithValue({key}, {value})")
}

/// c0 to c4 of Go's test: each has a value more, and the last one hides the first with nil.
fn chain() -> [Context; 5] {
    let c0 = Context::background();
    let c1 = c0.with_value(K1, Some("c1k1"));
    let c2 = c1.with_value(K2, Some("c2k2"));
    let c3 = c2.with_value(K3, Some("c3k3"));
    let c4 = c3.with_value(K1, None);
    [c0, c1, c2, c3, c4]
}

#[test]
fn values() {
    let [c0, c1, c2, c3, c4] = chain();
    assert_values("c0", &c0, [None, None, None]);
    assert_values("c1", &c1, [Some("c1k1"), None, None]);
    assert_values("c2", &c2, [Some("c1k1"), Some("c2k2"), None]);
    assert_values("c3", &c3, [Some("c1k1"), Some("c2k2"), Some("c3k3")]);
    assert_values("c4", &c4, [None, Some("c2k2"), Some("c3k3")]);
    assert_eq!(c4.value(&K1), Some(&None), "the nil is a value of its own");

    let (one, two) = (with_value_text::<Key1>(), with_value_text::<Key2>());
    assert_eq!(c1.to_string(), format!("context.Background{one}"));
    assert_eq!(c2.to_string(), format!("context.Background{one}{two}"));
    assert_eq!(
        c4.to_string(),
        format!("context.Background{one}{two}{two}{one}")
    );
}

#[test]
fn values_wrapped() {
    let [c0, c1, _, _, c4] = chain();
    let o0 = forward(&c0);
    assert_values("o0", &o0, [None, None, None]);
    let o1 = forward(&c1);
    assert_values("o1", &o1, [Some("c1k1"), None, None]);
    let o2 = o1.with_value(K2, Some("o2k2"));
    assert_values("o2", &o2, [Some("c1k1"), Some("o2k2"), None]);
    let o3 = forward(&c4);
    assert_values("o3", &o3, [None, Some("c2k2"), Some("c3k3")]);
    let o4 = o3.with_value(K3, None);
    assert_values("o4", &o4, [None, Some("c2k2"), None]);
}

#[test]
fn without_cancel() {
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    let ctx = ctx.with_value(Name("key"), "value").without_cancel();
    assert_eq!(ctx.deadline(), None);
    assert!(!ctx.is_cancellable());
    assert!(ctx.done().same_channel(&never()));
    assert_open(&ctx);
    assert_eq!(ctx.value(&Name("key")), Some(&"value"));
}

// Layers

/// Numbers without a pattern: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % limit
    }
}

#[derive(PartialEq, Eq)]
struct Layer(usize);

impl Key for Layer {
    type Value = Arc<usize>;
}

struct Layers {
    top: Context,
    values: Vec<Arc<usize>>,
    cancels: Vec<CancelFunc>,
}

impl Layers {
    /// At least thirty layers, at least one of each kind.
    fn new(random: &mut Random, timeout: Duration) -> Layers {
        let mut layers = Layers {
            top: Context::background(),
            values: Vec::new(),
            cancels: Vec::new(),
        };
        let mut met = [false; 3];
        let mut count = 0;
        while count < 30 || met.contains(&false) {
            let kind = random.below(3);
            layers.add(kind, timeout);
            met[kind] = true;
            count += 1;
        }
        layers
    }

    fn add(&mut self, kind: usize, timeout: Duration) {
        if kind == 0 {
            let value = Arc::new(self.values.len());
            self.top = self.top.with_value(Layer(*value), value.clone());
            self.values.push(value);
            return;
        }
        let (top, cancel) = match kind {
            1 => self.top.with_cancel(),
            _ => self.top.with_timeout(timeout),
        };
        self.top = top;
        self.cancels.push(cancel);
    }

    #[track_caller]
    fn assert_values(&self, seed: u64) {
        for value in &self.values {
            let found = self.top.value(&Layer(**value));
            let same = found.is_some_and(|found| Arc::ptr_eq(found, value));
            assert!(same, "seed {seed}: value {value}");
        }
    }
}

#[test]
fn layers_cancel() {
    for seed in 1..=50 {
        let mut random = Random(seed);
        let layers = Layers::new(&mut random, HOUR);
        assert_open(&layers.top);
        layers.assert_values(seed);
        assert!(layers.top.to_string().starts_with("context.Background."));

        let any = random.below(layers.cancels.len());
        layers.cancels[any].cancel();
        assert_err(&layers.top, Error::Canceled);
        layers.assert_values(seed);
    }
}

#[test]
fn layers_timeout() {
    for seed in 1..=50 {
        let layers = Layers::new(&mut Random(seed), SHORT);
        layers.assert_values(seed);
        assert!(layers.top.to_string().starts_with("context.Background."));
        assert_expires("the innermost layer", &layers.top);
        layers.assert_values(seed);
    }
}

// Causes: the rows of Go's table, under the names that they have there

#[test]
fn cause_background() {
    assert_open(&Context::background());
}

#[test]
fn cause_todo() {
    assert_open(&Context::todo());
}

#[test]
fn cause_with_cancel() {
    let (ctx, cancel) = Context::background().with_cancel();
    cancel.cancel();
    assert_no_cause(&ctx, Error::Canceled);
}

#[test]
fn cause_with_cancel_cause() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    let why = cause("parent");
    cancel.cancel(why.clone());
    assert_cause(&ctx, Error::Canceled, &why);
}

/// `cancel(nil)`.
#[test]
fn cause_with_cancel_cause_nil() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    cancel.cancel(Error::Canceled);
    cancel.cancel("too late");
    assert_no_cause(&ctx, Error::Canceled);
}

#[test]
fn cause_with_cancel_cause_parent_cause_before_child() {
    let (parent, cancel_parent) = Context::background().with_cancel_cause();
    let (child, cancel_child) = parent.with_cancel_cause();
    let why = cause("parent");
    cancel_parent.cancel(why.clone());
    cancel_child.cancel("child");
    assert_cause(&child, Error::Canceled, &why);
}

#[test]
fn cause_with_cancel_cause_parent_cause_after_child() {
    let (parent, cancel_parent) = Context::background().with_cancel_cause();
    let (child, cancel_child) = parent.with_cancel_cause();
    let (whose, why) = (cause("parent"), cause("child"));
    cancel_child.cancel(why.clone());
    cancel_parent.cancel(whose.clone());
    assert_cause(&child, Error::Canceled, &why);
    assert_cause(&parent, Error::Canceled, &whose);
}

#[test]
fn cause_with_cancel_cause_parent_cause_before_nil() {
    let (parent, cancel_parent) = Context::background().with_cancel_cause();
    let (child, cancel_child) = parent.with_cancel();
    let why = cause("parent");
    cancel_parent.cancel(why.clone());
    cancel_child.cancel();
    assert_cause(&child, Error::Canceled, &why);
}

#[test]
fn cause_with_cancel_cause_parent_cause_after_nil() {
    let (parent, cancel_parent) = Context::background().with_cancel_cause();
    let (child, cancel_child) = parent.with_cancel();
    cancel_child.cancel();
    cancel_parent.cancel("parent");
    assert_no_cause(&child, Error::Canceled);
}

#[test]
fn cause_with_cancel_cause_child_cause_after_nil() {
    let (parent, cancel_parent) = Context::background().with_cancel();
    let (child, cancel_child) = parent.with_cancel_cause();
    cancel_parent.cancel();
    cancel_child.cancel("child");
    assert_no_cause(&child, Error::Canceled);
}

#[test]
fn cause_with_cancel_cause_child_cause_before_nil() {
    let (parent, cancel_parent) = Context::background().with_cancel();
    let (child, cancel_child) = parent.with_cancel_cause();
    let why = cause("child");
    cancel_child.cancel(why.clone());
    cancel_parent.cancel();
    assert_cause(&child, Error::Canceled, &why);
}

#[test]
fn cause_with_timeout() {
    let (ctx, cancel) = Context::background().with_timeout(Duration::ZERO);
    cancel.cancel();
    assert_no_cause(&ctx, Error::DeadlineExceeded);
}

#[test]
fn cause_with_timeout_canceled() {
    let (ctx, cancel) = Context::background().with_timeout(HOUR);
    cancel.cancel();
    assert_no_cause(&ctx, Error::Canceled);
}

#[test]
fn cause_with_timeout_cause() {
    let why = cause("slow");
    let (ctx, cancel) = Context::background().with_timeout_cause(Duration::ZERO, why.clone());
    cancel.cancel();
    assert_cause(&ctx, Error::DeadlineExceeded, &why);
}

#[test]
fn cause_with_timeout_cause_canceled() {
    let (ctx, cancel) = Context::background().with_timeout_cause(HOUR, "slow");
    cancel.cancel();
    assert_no_cause(&ctx, Error::Canceled);
}

#[test]
fn cause_with_timeout_cause_stacked() {
    let (parent, cancel) = Context::background().with_cancel_cause();
    let why = cause("slow");
    let (ctx, _cancel) = parent.with_timeout_cause(Duration::ZERO, why.clone());
    cancel.cancel("early");
    assert_cause(&ctx, Error::DeadlineExceeded, &why);
}

#[test]
fn cause_with_timeout_cause_stacked_canceled() {
    let (parent, cancel) = Context::background().with_cancel_cause();
    let (ctx, _cancel) = parent.with_timeout_cause(HOUR, "slow");
    let why = cause("early");
    cancel.cancel(why.clone());
    assert_cause(&ctx, Error::Canceled, &why);
}

#[test]
fn cause_without_cancel() {
    assert_open(&Context::background().without_cancel());
}

#[test]
fn cause_without_cancel_canceled() {
    let (parent, cancel) = Context::background().with_cancel_cause();
    let ctx = parent.without_cancel();
    cancel.cancel("early");
    assert_open(&ctx);
}

#[test]
fn cause_without_cancel_timeout() {
    let (parent, cancel) = Context::background().with_timeout_cause(Duration::ZERO, "slow");
    let ctx = parent.without_cancel();
    cancel.cancel();
    assert_open(&ctx);
}

/// A custom context under `parent` that is cancelled with it, by a callback, or by a call.
fn custom_child(parent: &Context) -> (Context, Own) {
    let own = Own::new(Some(parent));
    parent.after_func({
        let own = own.clone();
        move || own.cancel(Error::Canceled)
    });
    (own.context(), own)
}

#[test]
fn cause_parent_of_custom_context_not_canceled() {
    let (parent, cancel_parent) = Context::background().with_cancel_cause();
    let (ctx, own) = custom_child(&parent);
    own.cancel(Error::Canceled);
    assert_no_cause(&ctx, Error::Canceled);
    // Otherwise its callback would wait on and keep it alive, through the custom context.
    cancel_parent.cancel("over");
}

#[test]
fn cause_parent_of_custom_context_is_canceled_before() {
    let (parent, cancel_parent) = Context::background().with_cancel_cause();
    let (ctx, own) = custom_child(&parent);
    let why = cause("parent");
    cancel_parent.cancel(why.clone());
    own.cancel(Error::Canceled);
    assert_cause(&ctx, Error::Canceled, &why);
}

/// Go looks the cause up each time, and its test calls the result not really right. Here the first
/// result is kept.
#[test]
fn cause_parent_of_custom_context_is_canceled_after() {
    let (parent, cancel_parent) = Context::background().with_cancel_cause();
    let (asked, own_asked) = custom_child(&parent);
    let (unasked, own_unasked) = custom_child(&parent);
    own_asked.cancel(Error::Canceled);
    own_unasked.cancel(Error::Canceled);
    assert_no_cause(&asked, Error::Canceled);

    let why = cause("parent");
    cancel_parent.cancel(why.clone());
    assert_no_cause(&asked, Error::Canceled);
    assert_cause(&unasked, Error::Canceled, &why);
}

#[test]
fn cause_race() {
    for _ in 0..200 {
        let (ctx, cancel) = Context::background().with_cancel_cause();
        let why = cause("because");
        let call = spawn({
            let why = why.clone();
            move || cancel.cancel(why)
        });
        let found = eventually(|| ctx.cause());
        assert!(Arc::ptr_eq(&found, &why), "{found}");
        receive(&call);
    }
}

// Custom contexts

#[test]
fn custom_context_propagation() {
    let (parent, cancel) = Context::background().with_cancel_cause();
    let (close, done) = bounded(0);
    let custom = Context::custom(OwnDone(parent.clone(), done));
    let (child, _cancel_child) = custom.with_cancel();

    let why = cause("because");
    cancel.cancel(why.clone());
    assert_err(&parent, Error::Canceled);
    // It has an error, and its channel is open: that is no cancellation yet.
    assert_open(&custom);
    assert_open(&child);

    drop(close);
    wait(&child);
    assert_cause(&child, Error::Canceled, &why);
}

#[test]
fn custom_context_cause() {
    let own = Own::new(None);
    let ctx = own.context();
    own.cancel(Error::Canceled);
    assert_no_cause(&ctx, Error::Canceled);
}

#[test]
fn custom_context_cause_child_first() {
    let own = Own::new(None);
    let ctx = own.context();
    let (child, cancel_child) = ctx.with_cancel_cause();
    let why = cause("child");
    cancel_child.cancel(why.clone());
    assert_cause(&child, Error::Canceled, &why);
    assert_open(&ctx);

    own.cancel(Error::Canceled);
    assert_cause(&child, Error::Canceled, &why);
    assert_no_cause(&ctx, Error::Canceled);
}

/// A custom context that cancels its child itself.
#[test]
fn custom_context_cause_cancels_its_child() {
    let own = Own::new(None);
    let ctx = own.context();
    let (child, cancel_child) = ctx.with_cancel_cause();
    let cancel_both = || {
        own.cancel(Error::Canceled);
        cancel_child.cancel(Error::Canceled);
    };
    cancel_both();
    assert_no_cause(&child, Error::Canceled);
    assert_no_cause(&ctx, Error::Canceled);
}

// Callbacks

#[test]
fn after_func_called_after_cancel() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (ran, runs) = bounded(1);
    let after = ctx.after_func({
        let done = ctx.done();
        move || ran.send(done.try_recv()).unwrap()
    });
    assert!(runs.is_empty());
    cancel.cancel();
    let done = receive(&runs);
    assert_eq!(done, Err(TryRecvError::Disconnected), "it ran too early");
    assert!(!after.stop());
}

#[test]
fn after_func_called_after_timeout() {
    let (ctx, _cancel) = Context::background().with_timeout(SHORT);
    let (ran, runs) = bounded(1);
    let _after = ctx.after_func({
        let done = ctx.done();
        move || ran.send(done.try_recv()).unwrap()
    });
    let done = receive(&runs);
    assert_eq!(done, Err(TryRecvError::Disconnected), "it ran too early");
}

#[test]
fn after_func_called_immediately() {
    let (ctx, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let (ran, runs) = bounded(1);
    let after = ctx.after_func(move || ran.send(()).unwrap());
    receive(&runs);
    assert!(!after.stop());
}

#[test]
fn after_func_not_called_after_stop() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (ran, runs) = bounded(1);
    let after = ctx.after_func(move || ran.send(()).unwrap());
    assert!(after.stop());
    cancel.cancel();
    assert_closes(&runs);
    assert!(!after.stop());
}

#[test]
fn after_func_called_asynchronously() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (tell, told) = bounded(0);
    let _after = ctx.after_func(move || tell.send(()).unwrap());
    let call = spawn(move || cancel.cancel());
    receive(&call); // though the callback cannot end
    receive(&told);
}

// Err and Done

#[test]
fn context_err_done_race() {
    for _ in 0..500 {
        let (ctx, cancel) = Context::background().with_cancel();
        let done = ctx.done();
        let call = spawn(move || cancel.cancel());
        eventually(|| ctx.err());
        assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected));
        receive(&call);
    }
}
