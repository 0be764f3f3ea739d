//! What a thread does all the time: it creates contexts, passes them on, observes and ends them.

use std::io;
use std::mem;
use std::panic::{catch_unwind, panic_any, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, select, Receiver, RecvTimeoutError, Sender};
use go_context::{Cause, Context, Error, RecvError, SendError};
use support::custom::Lever;
use support::{is_closed, HOUR};

use crate::contract::{
    is_because, look, must, must_be_born_as, must_be_done, Function, Planned, Token,
};
use crate::random::Random;
use crate::things::{new_cause, number, Cancel, Number, Outsider, Wrapper};

/// How many contexts a thread keeps.
const KEPT: usize = 100;
/// How many parents all threads share.
const PARENTS: usize = 4;
/// Far more than any wait takes.
const LIMIT: Duration = Duration::from_secs(30);

/// What the threads share.
pub(crate) struct Shared {
    pub(crate) stop: AtomicBool,
    pub(crate) counts: Counts,
    parents: [Mutex<Arc<Parent>>; PARENTS],
    /// Contexts that one thread has created, for another to end.
    gifts: (Sender<Item>, Receiver<Item>),
    /// What ends the waits of other threads.
    ends: (Sender<Cancel>, Receiver<Cancel>),
}

/// How much was created and done.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) made: [AtomicU64; KINDS.len()],
    pub(crate) cancels: AtomicU64,
    pub(crate) expiries: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) blocked: AtomicU64,
}

impl Counts {
    pub(crate) fn total(&self) -> u64 {
        self.made.iter().map(crate::contract::load).sum()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Cancel,
    CancelCause,
    Past,
    Near,
    Far,
    Never,
    Value,
    WithoutCancel,
    Merge,
    Custom,
    CustomCalls,
    Wrapper,
    Group,
}

pub(crate) const KINDS: [&str; 13] = [
    "with_cancel",
    "with_cancel_cause",
    "deadline, past",
    "timeout, near",
    "deadline, far",
    "timeout, without end",
    "with_value",
    "without_cancel",
    "merge",
    "custom, watched",
    "custom, calls",
    "custom, wrapper",
    "scope",
];

/// How often each is created: as often as it is listed. A custom context may need a thread.
const MIX: [Kind; 32] = {
    use Kind::*;
    [
        Cancel,
        Cancel,
        Cancel,
        Cancel,
        Cancel,
        Cancel,
        Cancel,
        Cancel,
        Cancel,
        Cancel, //
        CancelCause,
        CancelCause,
        CancelCause,
        CancelCause,
        Past,
        Near,
        Near,
        Near,
        Far,
        Far,
        Far,
        Far,
        Never,
        Value,
        Value,
        Value,
        Value,
        WithoutCancel,
        Merge,
        Merge,
        Wrapper,
        CustomCalls,
    ]
};

/// A context from which all threads derive at once, until one of them cancels it.
struct Parent {
    ctx: Context,
    cancel: go_context::CancelCauseFunc,
    cause: Cause,
    /// Set when `cancel` has returned: from then on all children are done.
    is_over: AtomicBool,
}

impl Parent {
    fn new() -> Arc<Parent> {
        let (ctx, cancel) = Context::background().with_cancel_cause();
        Arc::new(Parent {
            ctx,
            cancel,
            cause: new_cause(),
            is_over: AtomicBool::new(false),
        })
    }
}

impl Shared {
    pub(crate) fn new() -> Arc<Shared> {
        Arc::new(Shared {
            stop: AtomicBool::new(false),
            counts: Counts::default(),
            parents: std::array::from_fn(|_| Mutex::new(Parent::new())),
            gifts: bounded(256),
            ends: bounded(64),
        })
    }

    fn parent(&self, number: usize) -> Arc<Parent> {
        let parent = self.parents[number].lock();
        parent.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A context, with what is known of it and how it may end.
#[derive(Default)]
struct Item {
    ctx: Context,
    cancel: Option<Cancel>,
    lever: Option<Lever>,
    deadline: Option<Instant>,
    number: Option<u64>,
    /// The parents whose end is its own.
    under: Vec<Arc<Parent>>,
    /// Whether only its one parent can have ended it.
    by_parent: bool,
    is_custom: bool,
    done: Option<Receiver<()>>,
    functions: Vec<Function>,
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    random: Random,
    parents: [Arc<Parent>; PARENTS],
    kept: Vec<Item>,
    made: [u64; KINDS.len()],
    cancels: u64,
    expiries: u64,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, random: Random) -> Worker {
        Worker {
            parents: std::array::from_fn(|number| shared.parent(number)),
            shared,
            random,
            kept: Vec::with_capacity(KEPT + 1),
            made: [0; KINDS.len()],
            cancels: 0,
            expiries: 0,
        }
    }

    pub(crate) fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            for _ in 0..100 {
                self.step();
            }
            self.tell_counts();
        }
        self.random.shuffle(&mut self.kept);
        while let Some(item) = self.kept.pop() {
            self.part_with(item);
        }
        self.tell_counts();
    }

    fn tell_counts(&mut self) {
        let counts = &self.shared.counts;
        for (all, mine) in counts.made.iter().zip(&mut self.made) {
            all.fetch_add(mem::take(mine), Ordering::Relaxed);
        }
        counts
            .cancels
            .fetch_add(mem::take(&mut self.cancels), Ordering::Relaxed);
        counts
            .expiries
            .fetch_add(mem::take(&mut self.expiries), Ordering::Relaxed);
    }

    fn step(&mut self) {
        match self.random.below(1000) {
            0..=499 => self.keep_another(),
            500..=579 => self.look_at_one(),
            580..=599 => self.watch_parent(),
            600..=679 => self.cancel_one(),
            680..=759 => self.add_function(),
            760..=799 => self.stop_function(),
            800..=849 => self.give(),
            850..=899 => self.take(),
            900..=949 => self.fan(),
            950..=984 => self.chain(),
            985..=989 => self.replace_parent(),
            990..=994 => self.block(),
            995 => self.watch_custom(),
            996 => self.group(),
            _ => self.end_for_another(),
        }
    }

    // One context

    fn count(&mut self, kind: Kind) {
        self.made[kind as usize] += 1;
    }

    fn derive(&mut self, kind: Kind, from: &Item, other: &Item) -> Item {
        self.count(kind);
        let asked = self.random.one_in(4);
        let before = asked
            .then(|| from.ctx.err().zip(from.ctx.cause()))
            .flatten();
        let mut item = Item {
            deadline: from.deadline,
            number: from.number,
            under: from.under.clone(),
            ..Item::default()
        };
        let with = |item: &mut Item, (ctx, cancel)| {
            item.ctx = ctx;
            item.cancel = Some(Cancel::Plain(cancel));
        };
        let now = Instant::now();
        let parent = &from.ctx;
        match kind {
            Kind::Cancel => {
                with(&mut item, parent.with_cancel());
                item.by_parent = from.by_parent;
            }
            Kind::CancelCause => {
                let (ctx, cancel) = parent.with_cancel_cause();
                (item.ctx, item.cancel) = (ctx, Some(Cancel::Because(cancel)));
                item.by_parent = from.by_parent;
            }
            Kind::Past => {
                let at = now - Duration::from_millis(1);
                with(&mut item, parent.with_deadline(at));
                item.deadline = item.deadline.min(Some(at)).or(Some(at));
                if item.deadline == Some(at) {
                    must_be_done(
                        &item.ctx,
                        "a deadline has passed and the context is not done",
                    );
                }
            }
            Kind::Near => {
                let timeout = Duration::from_micros(self.random.below(2000) as u64);
                with(&mut item, parent.with_timeout_cause(timeout, new_cause()));
                item.deadline = item.ctx.deadline();
                let (at, latest) = (item.deadline, Instant::now() + timeout);
                must(at <= Some(latest), "a deadline is late");
                let own = from.deadline.is_none() || at < from.deadline;
                must(!own || at >= Some(now + timeout), "a deadline is early");
            }
            Kind::Far => {
                let at = now + HOUR;
                with(&mut item, parent.with_deadline(at));
                item.deadline = item.deadline.min(Some(at)).or(Some(at));
            }
            Kind::Never => with(&mut item, parent.with_timeout(Duration::MAX)),
            Kind::Value => {
                let number = self.random.below(1 << 20) as u64;
                item.ctx = parent.with_value(Number, (number, Token::new()));
                item.number = Some(number);
                item.by_parent = from.by_parent;
                item.is_custom = from.is_custom;
            }
            Kind::WithoutCancel => {
                item.ctx = parent.without_cancel();
                (item.deadline, item.under) = (None, Vec::new());
            }
            Kind::Merge => {
                with(&mut item, parent.merge(&other.ctx));
                let deadlines = [from.deadline, other.deadline];
                item.deadline = deadlines.into_iter().flatten().min();
                item.number = from.number.or(other.number);
                item.under.extend(other.under.iter().cloned());
            }
            Kind::Custom | Kind::CustomCalls => {
                let (outsider, lever) = Outsider::new(kind == Kind::CustomCalls);
                item = Item {
                    ctx: Context::custom(outsider),
                    lever: Some(lever),
                    is_custom: true,
                    ..Item::default()
                };
            }
            Kind::Wrapper => {
                item.ctx = Context::custom(Wrapper(parent.clone(), Token::new()));
                item.is_custom = true;
            }
            Kind::Group => unreachable!("a group is no item"),
        }
        let follows = item.cancel.is_some() && !matches!(kind, Kind::Past | Kind::Near);
        if follows && kind != Kind::Merge {
            must_be_born_as(&item.ctx, before);
        }
        item
    }

    /// A root, a shared parent or one of the thread's own.
    fn some_parent(&mut self) -> Item {
        match self.random.below(8) {
            0 => Item::default(),
            1 => Item {
                ctx: Context::todo(),
                ..Item::default()
            },
            2..=4 => {
                let number = self.random.below(PARENTS);
                if self.parents[number].is_over.load(Ordering::Relaxed) {
                    self.parents[number] = self.shared.parent(number);
                }
                let parent = &self.parents[number];
                Item {
                    ctx: parent.ctx.clone(),
                    under: vec![parent.clone()],
                    by_parent: true,
                    ..Item::default()
                }
            }
            _ => match self.kept.is_empty() {
                true => Item::default(),
                false => {
                    let item = self.random.pick(&self.kept);
                    Item {
                        ctx: item.ctx.clone(),
                        deadline: item.deadline,
                        number: item.number,
                        under: item.under.clone(),
                        is_custom: item.is_custom,
                        ..Item::default()
                    }
                }
            },
        }
    }

    fn keep_another(&mut self) {
        let kind = *self.random.pick(&MIX);
        let (from, other) = (self.some_parent(), self.some_parent());
        let mut item = self.derive(kind, &from, &other);
        // Many are never observed.
        if self.random.one_in(4) {
            item.done = Some(item.ctx.done());
        }
        self.keep(item);
    }

    fn keep(&mut self, item: Item) {
        self.kept.push(item);
        if self.kept.len() > KEPT {
            let any = self.random.below(self.kept.len());
            let item = self.kept.swap_remove(any);
            self.part_with(item);
        }
    }

    /// Drops a context, all its handles in random order.
    fn part_with(&mut self, item: Item) {
        if self.random.one_in(8) {
            self.check(&item);
        }
        let ctx = item.ctx;
        match self.random.below(3) {
            0 => drop((ctx, item.cancel, item.functions)),
            1 => drop((item.functions, item.cancel, ctx)),
            _ => {
                if let Some(cancel) = item.cancel {
                    cancel.guard();
                    self.cancels += 1;
                    must_be_done(&ctx, "a context is not done after its guard was dropped");
                    let closed = item.done.as_ref().map_or(true, is_closed);
                    must(closed, "a channel is open after the cancellation");
                }
            }
        }
        if self.random.one_in(2) {
            item.lever.into_iter().for_each(|lever| lever.close());
        }
    }

    fn check(&mut self, item: &Item) {
        let err = look(&item.ctx, self.random.one_in(2));
        if err == Some(Error::DeadlineExceeded) {
            self.expiries += 1;
        }
        must(
            number(&item.ctx) == item.number,
            "a context has another value",
        );
        must(
            item.ctx.deadline() == item.deadline,
            "a context has another deadline",
        );
        if let (Some(done), Some(_), false) = (&item.done, err, item.is_custom) {
            must(
                is_closed(done),
                "an error, and a channel from before that is open",
            );
        }
        // The order matters: first whether it must be done, then whether it is.
        for parent in &item.under {
            if parent.is_over.load(Ordering::Acquire) {
                must_be_done(
                    &item.ctx,
                    "a parent was cancelled and a descendant is not done",
                );
                let right = !item.by_parent || is_because(&item.ctx, &parent.cause);
                must(right, "a child has not the cause of its parent");
            }
        }
    }

    fn look_at_one(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        let any = self.random.below(self.kept.len());
        let item = mem::take(&mut self.kept[any]);
        self.check(&item);
        self.kept[any] = item;
    }

    fn cancel_one(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        let any = self.random.below(self.kept.len());
        let item = &mut self.kept[any];
        if let Some(lever) = item.lever.take() {
            lever.close();
            must_be_done(
                &item.ctx,
                "a custom context is not done after its channel was closed",
            );
        }
        if let Some(cancel) = &item.cancel {
            item.by_parent = false;
            cancel.cancel();
            self.cancels += 1;
            must_be_done(&item.ctx, "a context is not done after it was cancelled");
        }
    }

    fn add_function(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        let any = self.random.below(self.kept.len());
        let what = self.random.below(64);
        let item = &mut self.kept[any];
        // The channel of a custom context without handles may be open.
        let done = item.done.clone().filter(|_| !item.is_custom);
        item.functions
            .push(Function::new(&item.ctx, done, move || match what {
                0..=7 => panic_any(Planned),
                8 => thread::sleep(Duration::from_micros(200)),
                _ => {}
            }));
    }

    fn stop_function(&mut self) {
        let stops = self.random.one_in(2);
        let mut functions = self.kept.iter_mut().filter_map(|item| item.functions.pop());
        if let Some(function) = functions.next() {
            match stops {
                true => function.stop(),
                false => function.stop_and_wait(),
            }
        }
    }

    // With other threads

    fn give(&mut self) {
        if let Some(item) = self.kept.pop() {
            if let Err(refused) = self.shared.gifts.0.try_send(item) {
                self.part_with(refused.into_inner());
            }
        }
    }

    fn take(&mut self) {
        if let Ok(item) = self.shared.gifts.1.try_recv() {
            self.check(&item);
            match self.random.one_in(2) {
                true => self.keep(item),
                false => self.part_with(item),
            }
        }
    }

    /// Observes a shared parent over and over: another thread may be cancelling it at this moment.
    fn watch_parent(&mut self) {
        let parent = self.random.pick(&self.parents).clone();
        let done = parent.ctx.done();
        for _ in 0..500 {
            if parent.ctx.err().is_some() {
                must(is_closed(&done), "an error, and a channel that is open");
                return;
            }
            if is_closed(&done) {
                must(parent.ctx.err().is_some(), "a closed channel, and no error");
                return;
            }
        }
    }

    /// Cancels a shared parent, from which others derive meanwhile.
    fn replace_parent(&mut self) {
        let number = self.random.below(PARENTS);
        let slot = &self.shared.parents[number];
        let new = Parent::new();
        self.made[Kind::CancelCause as usize] += 1;
        let mut locked = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let old = mem::replace(&mut *locked, new.clone());
        drop(locked);
        self.parents[number] = new;
        old.cancel.cancel(old.cause.clone());
        must_be_done(&old.ctx, "a parent is not done after it was cancelled");
        must(
            is_because(&old.ctx, &old.cause),
            "a parent has another cause",
        );
        old.is_over.store(true, Ordering::Release);
        self.cancels += 1;
    }

    fn end_for_another(&mut self) {
        if let Ok(cancel) = self.shared.ends.1.try_recv() {
            cancel.cancel();
            self.cancels += 1;
        }
    }

    /// Blocks until a timeout or until another thread ends it.
    fn block(&mut self) {
        self.shared.counts.blocked.fetch_add(1, Ordering::Relaxed);
        let from = self.some_parent();
        let timeout = Duration::from_micros(100 + self.random.below(1500) as u64);
        self.count(Kind::Near);
        let (ctx, cancel) = from.ctx.with_timeout(timeout);
        let _ = self.shared.ends.0.try_send(Cancel::Plain(cancel));
        let (give, take) = bounded(0);
        let err = match self.random.below(6) {
            0 => Some(ctx.wait()),
            1 => ctx.sleep(HOUR).err(),
            2 => match ctx.recv::<Token>(&take) {
                Err(RecvError::Done(err)) => Some(err),
                _ => None,
            },
            3 => match ctx.send(&give, Token::new()) {
                Err(SendError::Done(_, err)) => Some(err),
                _ => None,
            },
            4 => {
                must(
                    ctx.iter(&take).next().is_none(),
                    "a message that was not sent",
                );
                ctx.err()
            }
            _ => select! {
                recv(take) -> _ => None,
                recv(ctx.done()) -> _ => ctx.err(),
            },
        };
        must(err.is_some(), "a call ended before its context did");
        must(
            look(&ctx, true) == err,
            "a call returned another error than the context",
        );
        let nap = Duration::from_micros(50);
        let start = Instant::now();
        match from.ctx.sleep(nap) {
            Ok(()) => must(start.elapsed() >= nap, "a sleep was short"),
            Err(err) => must(
                from.ctx.err() == Some(err),
                "a sleep returned another error",
            ),
        }
        drop(give);
    }

    /// A custom context that a thread watches, as long as there is a child.
    fn watch_custom(&mut self) {
        let root = Item::default();
        let mut custom = self.derive(Kind::Custom, &root, &root);
        let child = self.derive(Kind::Cancel, &custom, &root);
        if let (Some(lever), true) = (custom.lever.take(), self.random.one_in(2)) {
            lever.close();
            must(
                child.ctx.wait() == Error::Canceled,
                "a custom context has ended otherwise",
            );
        }
        self.keep(child);
        self.keep(custom);
    }

    /// A group, of which a worker may fail or panic.
    fn group(&mut self) {
        self.shared.counts.groups.fetch_add(1, Ordering::Relaxed);
        self.count(Kind::Group);
        let parent = self.some_parent().ctx;
        let (how, limit) = (self.random.below(4), 1 + self.random.below(3));
        let (begun, ended) = (AtomicU64::new(0), AtomicU64::new(0));
        let (parent, begun_by, ended_by) = (&parent, &begun, &ended);
        let result = catch_unwind(AssertUnwindSafe(|| {
            parent.scope_all(|s| {
                s.set_limit(limit);
                for number in 0..3 {
                    let thread = thread::Builder::new().name("soak-group".into());
                    s.spawn_with(thread, move |ctx| {
                        begun_by.fetch_add(1, Ordering::SeqCst);
                        look(ctx, true);
                        ended_by.fetch_add(1, Ordering::SeqCst);
                        match (number, how) {
                            (1, 1) => Err(io::Error::other("planned")),
                            (1, 2) => panic_any(Planned),
                            _ => Ok(()),
                        }
                    })?;
                }
                Ok(s.context().clone())
            })
        }));
        let begun = begun.into_inner();
        must(
            begun == ended.into_inner(),
            "a worker has outlived its group",
        );
        match (result, how) {
            (Ok(Ok(ctx)), 0 | 3) => {
                must(begun == 3, "a worker was forgotten");
                must_be_done(&ctx, "a group has ended and is not done");
            }
            (Ok(Err(errors)), 1) if errors[0].to_string() == "planned" => {}
            (Err(payload), 2) if payload.is::<Planned>() => {}
            _ => must(false, "a group has ended as it should not"),
        }
    }

    // Many contexts

    /// A chain of all kinds, cancelled somewhere: all below are done then.
    fn chain(&mut self) {
        let length = match self.random.one_in(50) {
            true => 500,
            false => 1 + self.random.below(24),
        };
        let root = self.some_parent();
        let mut chain: Vec<Item> = Vec::with_capacity(length);
        for number in 0..length {
            let kind = *self.random.pick(&[
                Kind::Cancel,
                Kind::CancelCause,
                Kind::Far,
                Kind::Value,
                Kind::Merge,
                Kind::Wrapper,
            ]);
            let from = if number == 0 {
                &root
            } else {
                &chain[number - 1]
            };
            let item = self.derive(kind, from, &root);
            chain.push(item);
        }
        let done = chain[length - 1].ctx.done();
        let at = self.random.below(length);
        if let Some(cancel) = &chain[at].cancel {
            if self.random.one_in(2) {
                look(&chain[length - 1].ctx, true);
            }
            cancel.cancel();
            self.cancels += 1;
            must(is_closed(&done), "the end of a chain is not done");
            for item in &chain[at..] {
                must_be_done(&item.ctx, "a link of a chain is not done");
            }
        }
        self.random.shuffle(&mut chain);
        drop(chain);
    }

    /// Many children of one context, of which some end before it does.
    fn fan(&mut self) {
        let (from, root) = (self.some_parent(), Item::default());
        let top = self.derive(Kind::CancelCause, &from, &root);
        let width = 1 + self.random.below(24);
        let mut fan: Vec<Item> = Vec::with_capacity(width);
        for _ in 0..width {
            let kind = *self.random.pick(&[
                Kind::Cancel,
                Kind::Cancel,
                Kind::CancelCause,
                Kind::Far,
                Kind::Value,
                Kind::Never,
            ]);
            let mut child = self.derive(kind, &top, &root);
            match self.random.below(4) {
                0 => child.done = Some(child.ctx.done()),
                1 => drop(look(&child.ctx, false)),
                _ => {}
            }
            fan.push(child);
        }
        let early = self.random.below(width);
        if let Some(cancel) = &fan[early].cancel {
            cancel.cancel();
            self.cancels += 1;
        }
        let dropped = fan.pop();
        drop(dropped);
        let (alone, cause) = (!from.ctx.is_cancellable(), new_cause());
        match (&top.cancel, self.random.one_in(4)) {
            (Some(Cancel::Because(cancel)), false) => {
                cancel.cancel(cause.clone());
                self.cancels += 1;
                for (number, child) in fan.iter().enumerate() {
                    must_be_done(&child.ctx, "a child of a fan is not done");
                    let right = number == early || is_because(&child.ctx, &cause);
                    must(right || !alone, "a child has another cause");
                }
                self.random.shuffle(&mut fan);
                drop((fan, top));
            }
            _ => {
                // Only the children keep it alive, and then nothing.
                let done = top.ctx.done();
                drop(top);
                self.random.shuffle(&mut fan);
                drop(fan);
                // Another thread's cancellation from above may be running, and then that ends it.
                let ended = done.recv_timeout(LIMIT) == Err(RecvTimeoutError::Disconnected);
                must(ended, "a context without handles is not done");
            }
        }
    }
}
