//! Random scripts of operations. After each operation every context, or some of them, is compared
//! with a reference model.
//!
//! The model is a list of vertices, one for each context, without channels or threads: a cancel
//! visits the list, and what is still alive is computed anew each time, starting with the script's
//! handles.

use std::any::type_name;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, never, Receiver, Sender, TryRecvError};
use go_context::{
    AfterFunc, CancelCauseFunc, CancelFunc, Cause, Context, CustomContext, Error, Key, Lookup,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};
use support::custom::Registry;
use support::reference::{self, Nature};
use support::{is_closed, without_times, Task};

// The script

/// One step. A number picks from what exists at that moment, modulo how much there is.
#[derive(Clone, Debug)]
enum Op {
    Derive(usize, How),
    Merge(usize, usize),
    /// A custom context with a channel of its own.
    Custom(Foreign),
    /// A custom context that passes the done channel of another through.
    Wrap(usize, Shell),
    /// Calls `done`, and keeps the channel.
    Listen(usize),
    Cancel(usize),
    CancelBecause(usize),
    /// Turns the cancel function into a guard, and drops that.
    Guard(usize),
    DropContext(usize),
    DropCancel(usize),
    AfterFunc(usize),
    Stop(usize),
    StopAndWait(usize),
    DropAfterFunc(usize),
    /// Closes the channel of a custom context.
    Close(usize),
}

#[derive(Clone, Debug)]
enum How {
    Cancel,
    CancelCause,
    Deadline(When),
    DeadlineCause(When),
    TimeoutMax,
    TimeoutZero,
    /// A deadline that passes during this step, with a child that observes it.
    Soon,
    Value(Tag),
    WithoutCancel,
}

/// A deadline relative to the parent's. If that has none, the last three are `Far`.
#[derive(Clone, Copy, Debug)]
enum When {
    Past,
    Far,
    Earlier,
    Equal,
    Later,
}

#[derive(Clone, Debug)]
struct Foreign {
    err: Option<Error>,
    with_cause: bool,
    deadline: Option<Reported>,
    value: Option<Tag>,
    watched: Watched,
}

#[derive(Clone, Copy, Debug)]
enum Reported {
    Far,
    /// Past, although the context is open.
    Past,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Watched {
    ByThread,
    ByItself,
    Never,
}

#[derive(Clone, Debug)]
struct Shell {
    hides_deadline: bool,
    value: Option<Tag>,
}

/// A key. There are two types of keys, so that equal numbers of different types can be compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tag {
    Left(u8),
    Right(u8),
}

#[derive(PartialEq, Eq)]
struct Left(u8);

impl Key for Left {
    type Value = usize;
}

#[derive(PartialEq, Eq)]
struct Right(u8);

impl Key for Right {
    type Value = usize;
}

const TAGS: [Tag; 4] = [Tag::Left(0), Tag::Left(1), Tag::Right(0), Tag::Right(1)];

fn tag() -> impl Strategy<Value = Tag> {
    prop::sample::select(&TAGS[..])
}

fn how() -> impl Strategy<Value = How> {
    let when = || {
        prop::sample::select(vec![
            When::Far,
            When::Past,
            When::Earlier,
            When::Equal,
            When::Later,
        ])
    };
    prop_oneof![
        8 => Just(How::Cancel),
        6 => Just(How::CancelCause),
        3 => when().prop_map(How::Deadline),
        3 => when().prop_map(How::DeadlineCause),
        1 => Just(How::TimeoutMax),
        1 => Just(How::TimeoutZero),
        1 => Just(How::Soon),
        6 => tag().prop_map(How::Value),
        2 => Just(How::WithoutCancel),
    ]
}

fn foreign() -> impl Strategy<Value = Foreign> {
    let err = prop::sample::select(vec![
        None,
        Some(Error::Canceled),
        Some(Error::DeadlineExceeded),
    ]);
    let deadline = prop::sample::select(vec![None, Some(Reported::Far), Some(Reported::Past)]);
    let watched = prop_oneof![
        4 => Just(Watched::ByThread),
        4 => Just(Watched::ByItself),
        1 => Just(Watched::Never),
    ];
    let value = prop::option::of(tag());
    (err, any::<bool>(), deadline, value, watched).prop_map(
        |(err, with_cause, deadline, value, watched)| Foreign {
            err,
            with_cause,
            deadline,
            value,
            watched,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let pick = 0..64_usize;
    let shell =
        (any::<bool>(), prop::option::of(tag())).prop_map(|(hides_deadline, value)| Shell {
            hides_deadline,
            value,
        });
    prop_oneof![
        12 => (pick.clone(), how()).prop_map(|(of, how)| Op::Derive(of, how)),
        5 => (pick.clone(), pick.clone()).prop_map(|(first, other)| Op::Merge(first, other)),
        3 => foreign().prop_map(Op::Custom),
        3 => (pick.clone(), shell).prop_map(|(of, shell)| Op::Wrap(of, shell)),
        3 => pick.clone().prop_map(Op::Listen),
        3 => pick.clone().prop_map(Op::Cancel),
        3 => pick.clone().prop_map(Op::CancelBecause),
        1 => pick.clone().prop_map(Op::Guard),
        8 => pick.clone().prop_map(Op::DropContext),
        6 => pick.clone().prop_map(Op::DropCancel),
        5 => pick.clone().prop_map(Op::AfterFunc),
        2 => pick.clone().prop_map(Op::Stop),
        2 => pick.clone().prop_map(Op::StopAndWait),
        2 => pick.clone().prop_map(Op::DropAfterFunc),
        3 => pick.prop_map(Op::Close),
    ]
}

// The model

/// How a context ended: its error, and which of the causes given so far, if it was one of them.
type End = (Error, Option<usize>);

const CANCELED: End = (Error::Canceled, None);

struct Vertex {
    /// The contexts that it keeps alive, and whose values it finds after its own.
    parents: Vec<usize>,
    nature: Nature,
    /// The value's number is that of the vertex.
    value: Option<Tag>,
    deadline: Option<Instant>,
    text: String,
    end: Option<End>,
    /// Whether the script has a handle to the context, and its cancel function.
    context: bool,
    cancel: bool,
}

impl reference::Vertex for Vertex {
    type Name = Tag;

    fn parents(&self) -> &[usize] {
        &self.parents
    }

    fn nature(&self) -> Nature {
        self.nature
    }

    fn name(&self) -> Option<&Tag> {
        self.value.as_ref()
    }

    fn has_handle(&self) -> bool {
        self.context || self.cancel
    }
}

struct Callback {
    on: usize,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Waiting,
    Stopped,
    Ran,
}

#[derive(Default)]
struct Model {
    vertices: Vec<Vertex>,
    callbacks: Vec<Callback>,
}

impl Model {
    fn add(&mut self, parents: &[usize], nature: Nature, text: String) -> usize {
        let follows = nature != Nature::Endless;
        let ends = parents.iter().map(|&parent| self.vertices[parent].end);
        let end = ends.flatten().next().filter(|_| follows);
        let deadlines = parents
            .iter()
            .filter_map(|&parent| self.vertices[parent].deadline);
        let deadline = deadlines.min().filter(|_| follows);
        self.vertices.push(Vertex {
            parents: parents.to_vec(),
            nature,
            value: None,
            deadline,
            text,
            end,
            context: true,
            cancel: nature == Nature::Cancellable,
        });
        self.vertices.len() - 1
    }

    fn child(&mut self, parent: usize, nature: Nature, step: &str) -> usize {
        let text = format!("{}{step}", self.vertices[parent].text);
        self.add(&[parent], nature, text)
    }

    /// Whether a deadline would be the context's own: that of the parent is not before.
    fn is_own_deadline(&self, parent: usize, at: Instant) -> bool {
        let inherited = self.vertices[parent].deadline;
        inherited.map_or(true, |inherited| at <= inherited)
    }

    fn deadline(&mut self, parent: usize, at: Instant, expired: Option<Option<usize>>) -> usize {
        if !self.is_own_deadline(parent, at) {
            return self.child(parent, Nature::Cancellable, ".WithCancel");
        }
        let new = self.child(parent, Nature::Cancellable, ".WithDeadline([])");
        self.vertices[new].deadline = Some(at);
        if let Some(cause) = expired {
            self.end(new, (Error::DeadlineExceeded, cause));
        }
        new
    }

    /// The first end counts, also for all that follow this vertex.
    fn end(&mut self, vertex: usize, end: End) {
        if self.vertices[vertex].end.is_some() {
            return;
        }
        self.vertices[vertex].end = Some(end);
        for other in 0..self.vertices.len() {
            let it = &self.vertices[other];
            if it.nature != Nature::Endless && it.parents.contains(&vertex) {
                self.end(other, end);
            }
        }
    }

    /// The consequences of the last step: what is not alive ends, and callbacks run.
    fn settle(&mut self) {
        let held = reference::alive(&self.vertices);
        for (vertex, held) in held.iter().enumerate() {
            if !held && self.vertices[vertex].nature == Nature::Cancellable {
                self.end(vertex, CANCELED);
            }
        }
        for callback in 0..self.callbacks.len() {
            let on = reference::node(&self.vertices, self.callbacks[callback].on);
            let over = self.vertices[on].end.is_some() || !held[on];
            if over
                && reference::is_cancellable(&self.vertices, on)
                && self.callbacks[callback].stage == Stage::Waiting
            {
                self.callbacks[callback].stage = Stage::Ran;
            }
        }
    }

    /// Whether anything must be registered with a custom context.
    fn has_listeners(&self, custom: usize) -> bool {
        let held = reference::alive(&self.vertices);
        let listens = |vertex: usize| {
            let it = &self.vertices[vertex];
            held[vertex]
                && it.end.is_none()
                && matches!(it.nature, Nature::Cancellable | Nature::Wrapper)
                && it
                    .parents
                    .iter()
                    .any(|&of| reference::node(&self.vertices, of) == custom)
        };
        let waits = |callback: &Callback| {
            callback.stage == Stage::Waiting
                && reference::node(&self.vertices, callback.on) == custom
        };
        self.vertices[custom].end.is_none()
            && ((0..self.vertices.len()).any(listens) || self.callbacks.iter().any(waits))
    }
}

// The contexts

/// Only a hang takes this long.
fn limit() -> Duration {
    match FAILED.load(Ordering::Relaxed) {
        false => Duration::from_secs(30),
        // Otherwise shrinking a failing script would take hours.
        true => Duration::from_secs(1),
    }
}

static FAILED: AtomicBool = AtomicBool::new(false);

fn eventually(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > limit() {
            return false;
        }
        thread::sleep(Duration::from_micros(50)); // gives way to the thread it waits for
    }
    true
}

/// A cause with a number.
#[derive(Debug)]
struct Given(usize);

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cause {}", self.0)
    }
}

impl std::error::Error for Given {}

/// The script's handle to a custom context with its own channel, for closing it.
#[derive(Default)]
struct Lever {
    open: Mutex<Option<Sender<()>>>,
    registered: Registry,
}

impl Lever {
    fn close(&self) {
        let open = self.open.lock().unwrap().take();
        drop(open);
        self.registered.call_all();
    }
}

/// Both kinds of custom contexts.
struct Outsider {
    number: usize,
    wrapped: Option<Context>,
    done: Receiver<()>,
    err: Option<Error>,
    cause: Option<Cause>,
    deadline: Option<Instant>,
    value: Option<Tag>,
    lever: Option<Arc<Lever>>,
}

impl CustomContext for Outsider {
    fn done(&self) -> Receiver<()> {
        let inner = self.wrapped.as_ref().map(Context::done);
        inner.unwrap_or_else(|| self.done.clone())
    }

    /// If it has its own channel, this is the error even while that is open.
    fn err(&self) -> Option<Error> {
        self.wrapped.as_ref().map_or(self.err, Context::err)
    }

    fn cause(&self) -> Option<Cause> {
        let inner = self.wrapped.as_ref().map(Context::cause);
        inner.unwrap_or_else(|| self.cause.clone())
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn value<'a>(&'a self, lookup: &mut Lookup<'_, 'a>) {
        match self.value {
            Some(Tag::Left(n)) => drop(lookup.answer(&Left(n), &self.number)),
            Some(Tag::Right(n)) => drop(lookup.answer(&Right(n), &self.number)),
            None => {}
        }
        if let Some(wrapped) = &self.wrapped {
            lookup.forward(wrapped);
        }
    }

    fn after_func(&self, f: Task) -> Option<Task> {
        Some(self.lever.as_ref()?.registered.register(f))
    }

    fn wrapped(&self) -> Option<&Context> {
        self.wrapped.as_ref()
    }

    fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outsider-{}", self.number)
    }
}

enum Cancel {
    Plain(CancelFunc),
    Because(CancelCauseFunc),
}

/// The script's handles to one context.
#[derive(Default)]
struct Real {
    context: Option<Context>,
    cancel: Option<Cancel>,
    done: Option<Receiver<()>>,
    custom: Option<Custom>,
}

struct Custom {
    lever: Arc<Lever>,
    /// How it will have ended.
    end: End,
    watches_itself: bool,
    is_closed: bool,
}

struct Registered {
    handle: Option<AfterFunc>,
    /// Receives whether the context was done when the callback ran. Disconnects when it is dropped.
    ran: Receiver<bool>,
    seen: bool,
}

struct World {
    model: Model,
    real: Vec<Real>,
    registered: Vec<Registered>,
    causes: Vec<Cause>,
    start: Instant,
    /// The script with names instead of picks.
    trace: Vec<String>,
    eyes: Eyes,
    /// Whether another thread brings the consequences of the last step.
    by_thread: bool,
}

/// Which contexts are observed after which step: one bit for each of many cases. After the last
/// step all are.
#[derive(Clone, Copy, Debug)]
struct Eyes(u64);

impl Eyes {
    const OPEN: Eyes = Eyes(u64::MAX);

    fn look_at(self, number: usize, step: usize) -> bool {
        self.0 >> ((number * 17 + step * 31) % 64) & 1 == 1
    }
}

fn eyes() -> impl Strategy<Value = Eyes> {
    let few = any::<[u64; 3]>().prop_map(|[one, two, three]| Eyes(one & two & three));
    prop_oneof![
        1 => Just(Eyes(0)),
        2 => few,
        1 => any::<u64>().prop_map(Eyes),
    ]
}

const MOMENT: Duration = Duration::from_millis(1);

/// A minute is more than a case takes and less than any far deadline.
const MINUTE: Duration = Duration::from_secs(60);
const FAR: Duration = Duration::from_secs(3_600_000);

impl World {
    fn new(eyes: Eyes) -> World {
        let mut world = World {
            eyes,
            by_thread: false,
            model: Model::default(),
            real: Vec::new(),
            registered: Vec::new(),
            causes: Vec::new(),
            start: Instant::now(),
            trace: Vec::new(),
        };
        let roots = [Context::background(), Context::todo()];
        for (root, name) in roots
            .into_iter()
            .zip(["context.Background", "context.TODO"])
        {
            let new = world.model.add(&[], Nature::Endless, name.into());
            world.enter(new, root, None);
            world.trace.push(format!("c{new} = {name}"));
        }
        world
    }

    fn enter(&mut self, new: usize, context: Context, cancel: Option<Cancel>) {
        assert_eq!(new, self.real.len(), "the model is a step ahead");
        self.real.push(Real {
            context: Some(context),
            cancel,
            ..Real::default()
        });
    }

    fn report(&mut self, step: String) {
        self.trace.push(step);
    }

    fn pick(&self, pick: usize, fits: impl Fn(&Real) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.real.len())
            .filter(|&n| fits(&self.real[n]))
            .collect();
        (!all.is_empty()).then(|| all[pick % all.len()])
    }

    /// A context that the script has a handle to. It never drops the first two.
    fn context(&self, pick: usize) -> (usize, Context) {
        let of = self.pick(pick, |real| real.context.is_some());
        let of = of.expect("the roots are always there");
        (of, self.real[of].context.clone().expect("just picked"))
    }

    fn after_func(&self, pick: usize) -> Option<usize> {
        let all = self.registered.iter().enumerate();
        let held: Vec<usize> = all
            .filter(|(_, registered)| registered.handle.is_some())
            .map(|(n, _)| n)
            .collect();
        (!held.is_empty()).then(|| held[pick % held.len()])
    }

    fn give_cause(&mut self) -> (usize, Cause) {
        let number = self.causes.len();
        let cause: Cause = Arc::new(Given(number));
        self.causes.push(cause.clone());
        (number, cause)
    }

    fn step(&mut self, op: &Op) -> Result<(), String> {
        self.by_thread = matches!(op, Op::Close(_));
        match op {
            Op::Derive(pick, how) => self.derive(*pick, how)?,
            Op::Merge(first, other) => self.merge(*first, *other),
            Op::Custom(foreign) => self.custom(foreign),
            Op::Wrap(pick, shell) => self.wrap(*pick, shell),
            Op::Listen(pick) => {
                let (of, context) = self.context(*pick);
                self.report(format!("c{of}.done()"));
                self.real[of].done = Some(context.done());
            }
            Op::Cancel(pick) => self.cancel(*pick, false),
            Op::CancelBecause(pick) => self.cancel(*pick, true),
            Op::Guard(pick) => {
                if let Some(of) = self.pick(*pick, |real| real.cancel.is_some()) {
                    self.report(format!("drop(cancel{of}.drop_guard())"));
                    self.model.end(of, CANCELED);
                    self.model.vertices[of].cancel = false;
                    match self.real[of].cancel.take().expect("just picked") {
                        Cancel::Plain(cancel) => drop(cancel.drop_guard()),
                        Cancel::Because(cancel) => drop(cancel.drop_guard()),
                    }
                }
            }
            Op::DropContext(pick) => {
                let (of, context) = self.context(*pick);
                if of >= 2 {
                    self.report(format!("drop(c{of})"));
                    self.model.vertices[of].context = false;
                    self.real[of].context = None;
                    drop(context);
                }
            }
            Op::DropCancel(pick) => {
                if let Some(of) = self.pick(*pick, |real| real.cancel.is_some()) {
                    self.report(format!("drop(cancel{of})"));
                    self.model.vertices[of].cancel = false;
                    self.real[of].cancel = None;
                }
            }
            Op::AfterFunc(pick) => self.register(*pick),
            Op::Stop(pick) => self.stop(*pick, AfterFunc::stop, "stop")?,
            Op::StopAndWait(pick) => {
                self.stop(*pick, AfterFunc::stop_and_wait, "stop_and_wait")?;
            }
            Op::DropAfterFunc(pick) => {
                if let Some(of) = self.after_func(*pick) {
                    self.report(format!("drop(f{of})"));
                    self.registered[of].handle = None;
                }
            }
            Op::Close(pick) => self.close(*pick),
        }
        self.model.settle();
        self.compare()
    }

    /// The last step: calls `done` on all contexts, then drops all handles.
    fn let_all_go(&mut self) -> Result<(), String> {
        self.eyes = Eyes::OPEN;
        self.compare()?;
        for real in &mut self.real {
            real.done = real
                .done
                .take()
                .or(real.context.as_ref().map(Context::done));
        }
        self.compare()?;
        self.report("drop everything".into());
        for (real, vertex) in self.real.iter_mut().zip(&mut self.model.vertices) {
            (real.context, real.cancel) = (None, None);
            (vertex.context, vertex.cancel) = (false, false);
        }
        self.model.settle();
        self.compare()
    }

    fn derive(&mut self, pick: usize, how: &How) -> Result<(), String> {
        let (of, parent) = self.context(pick);
        match how {
            How::Cancel => {
                let (context, cancel) = parent.with_cancel();
                let new = self.model.child(of, Nature::Cancellable, ".WithCancel");
                self.report(format!("(c{new}, cancel{new}) = c{of}.with_cancel()"));
                self.enter(new, context, Some(Cancel::Plain(cancel)));
            }
            How::CancelCause => {
                let (context, cancel) = parent.with_cancel_cause();
                let new = self.model.child(of, Nature::Cancellable, ".WithCancel");
                self.report(format!("(c{new}, cancel{new}) = c{of}.with_cancel_cause()"));
                self.enter(new, context, Some(Cancel::Because(cancel)));
            }
            How::Deadline(when) => {
                let at = self.when(of, *when);
                let (context, cancel) = parent.with_deadline(at);
                let new = self.deadline(of, at, None);
                self.report(format!(
                    "(c{new}, cancel{new}) = c{of}.with_deadline({when:?})"
                ));
                self.enter(new, context, Some(Cancel::Plain(cancel)));
            }
            How::DeadlineCause(when) => {
                let at = self.when(of, *when);
                let (number, cause) = self.give_cause();
                let (context, cancel) = parent.with_deadline_cause(at, cause);
                let new = self.deadline(of, at, Some(number));
                self.report(format!(
                    "(c{new}, cancel{new}) = c{of}.with_deadline_cause({when:?}, cause {number})"
                ));
                self.enter(new, context, Some(Cancel::Plain(cancel)));
            }
            How::TimeoutMax => {
                let (context, cancel) = parent.with_timeout(Duration::MAX);
                let new = self.model.child(of, Nature::Cancellable, ".WithCancel");
                self.report(format!("(c{new}, cancel{new}) = c{of}.with_timeout(MAX)"));
                self.enter(new, context, Some(Cancel::Plain(cancel)));
            }
            How::TimeoutZero => {
                let before = Instant::now();
                let (context, cancel) = parent.with_timeout(Duration::ZERO);
                let after = Instant::now();
                // When exactly that was only the context can say.
                let mut at = before;
                if self.model.is_own_deadline(of, before) {
                    at = context.deadline().ok_or("a timeout without a deadline")?;
                    if at < before || at > after {
                        return Err(format!("{at:?} is not from {before:?} to {after:?}"));
                    }
                }
                let new = self.model.deadline(of, at, Some(None));
                self.report(format!("(c{new}, cancel{new}) = c{of}.with_timeout(ZERO)"));
                self.enter(new, context, Some(Cancel::Plain(cancel)));
            }
            How::Soon => {
                let at = Instant::now() + MOMENT;
                let (number, cause) = self.give_cause();
                let (context, cancel) = parent.with_deadline_cause(at, cause);
                let (child, cancel_child) = context.with_cancel();
                let new = self.model.deadline(of, at, None);
                let under = self.model.child(new, Nature::Cancellable, ".WithCancel");
                if self.model.is_own_deadline(of, at) {
                    let end = (Error::DeadlineExceeded, Some(number));
                    self.model.end(new, end);
                }
                self.report(format!(
                    "(c{new}, cancel{new}) = c{of}.with_deadline_cause(soon, cause {number}), \
                     (c{under}, cancel{under}) = c{new}.with_cancel()"
                ));
                self.enter(new, context, Some(Cancel::Plain(cancel)));
                self.enter(under, child, Some(Cancel::Plain(cancel_child)));
                // If nothing is observed, wait for the timer: for a deadline that is
                // registered and fires later.
                let fired = eventually(|| {
                    let (later, _cancel) = Context::background().with_timeout(MOMENT);
                    let done = later.done();
                    !is_closed(&done) && done.recv_timeout(limit()).is_err()
                });
                assert!(fired, "no timer was set before it was due");
            }
            How::Value(tag) => {
                let number = self.real.len();
                let (context, key) = match *tag {
                    Tag::Left(n) => (parent.with_value(Left(n), number), type_name::<Left>()),
                    Tag::Right(n) => (parent.with_value(Right(n), number), type_name::<Right>()),
                };
                let step = format!(".WithValue({key}, usize)");
                let new = self.model.child(of, Nature::Value, &step);
                self.model.vertices[new].value = Some(*tag);
                self.report(format!("c{new} = c{of}.with_value({tag:?}, {new})"));
                self.enter(new, context, None);
            }
            How::WithoutCancel => {
                let new = self.model.child(of, Nature::Endless, ".WithoutCancel");
                self.report(format!("c{new} = c{of}.without_cancel()"));
                self.enter(new, parent.without_cancel(), None);
            }
        }
        Ok(())
    }

    fn when(&self, parent: usize, when: When) -> Instant {
        let far = self.start + FAR;
        let inherited = self.model.vertices[parent].deadline;
        match when {
            When::Past => self.start - Duration::from_millis(1),
            When::Far => far,
            When::Earlier => inherited.map_or(far, |at| at - Duration::from_millis(1)),
            When::Equal => inherited.unwrap_or(far),
            When::Later => inherited.map_or(far, |at| at + Duration::from_millis(1)),
        }
    }

    fn deadline(&mut self, parent: usize, at: Instant, cause: Option<usize>) -> usize {
        let expired = (at < self.start + MINUTE).then_some(cause);
        self.model.deadline(parent, at, expired)
    }

    fn merge(&mut self, first: usize, other: usize) {
        let (a, first) = self.context(first);
        let (b, other) = self.context(other);
        let (context, cancel) = first.merge(&other);
        let texts = [a, b].map(|of| &self.model.vertices[of].text);
        let text = format!("{}.Merge({})", texts[0], texts[1]);
        let new = self.model.add(&[a, b], Nature::Cancellable, text);
        self.report(format!("(c{new}, cancel{new}) = c{a}.merge(&c{b})"));
        self.enter(new, context, Some(Cancel::Plain(cancel)));
    }

    fn custom(&mut self, foreign: &Foreign) {
        let number = self.real.len();
        let (nature, open, done) = match foreign.watched {
            Watched::Never => (Nature::Endless, None, never()),
            _ => {
                let (open, done) = bounded(0);
                (Nature::Custom, Some(open), done)
            }
        };
        let (cause, given) = match foreign.with_cause {
            true => {
                let (number, cause) = self.give_cause();
                (Some(number), Some(cause))
            }
            false => (None, None),
        };
        let lever = Arc::new(Lever {
            open: Mutex::new(open),
            ..Lever::default()
        });
        let deadline = foreign.deadline.map(|reported| match reported {
            Reported::Far => self.start + FAR,
            Reported::Past => self.start - MINUTE,
        });
        let context = Context::custom(Outsider {
            number,
            wrapped: None,
            done,
            err: foreign.err,
            cause: given,
            deadline,
            value: foreign.value,
            lever: (foreign.watched == Watched::ByItself).then(|| lever.clone()),
        });
        let new = self.model.add(&[], nature, format!("outsider-{number}"));
        self.model.vertices[new].value = foreign.value;
        self.model.vertices[new].deadline = deadline;
        self.report(format!("c{new} = custom({foreign:?}, cause {cause:?})"));
        self.enter(new, context, None);
        self.real[new].custom = (nature == Nature::Custom).then(|| Custom {
            lever,
            end: (foreign.err.unwrap_or(Error::Canceled), cause),
            watches_itself: foreign.watched == Watched::ByItself,
            is_closed: false,
        });
    }

    fn wrap(&mut self, pick: usize, shell: &Shell) {
        let (of, inner) = self.context(pick);
        let number = self.real.len();
        let new = self
            .model
            .add(&[of], Nature::Wrapper, format!("outsider-{number}"));
        let it = &mut self.model.vertices[new];
        it.value = shell.value;
        if shell.hides_deadline {
            it.deadline = None;
        }
        let context = Context::custom(Outsider {
            number,
            done: never(),
            err: None,
            cause: None,
            deadline: it.deadline,
            value: shell.value,
            lever: None,
            wrapped: Some(inner),
        });
        self.report(format!("c{new} = custom({shell:?} around c{of})"));
        self.enter(new, context, None);
    }

    fn close(&mut self, pick: usize) {
        let is_open = |real: &Real| real.custom.as_ref().is_some_and(|custom| !custom.is_closed);
        let Some(of) = self.pick(pick, is_open) else {
            return;
        };
        self.report(format!("close c{of}"));
        let custom = self.real[of].custom.as_mut().expect("just picked");
        custom.is_closed = true;
        custom.lever.close();
        let end = custom.end;
        self.model.end(of, end);
    }

    fn cancel(&mut self, pick: usize, because: bool) {
        let Some(of) = self.pick(pick, |real| real.cancel.is_some()) else {
            return;
        };
        let takes_cause = matches!(self.real[of].cancel, Some(Cancel::Because(_)));
        let given = (because && takes_cause).then(|| self.give_cause());
        let number = given.as_ref().map(|(number, _)| *number);
        self.report(format!("cancel{of}.cancel({number:?})"));
        self.model.end(of, (Error::Canceled, number));
        match (self.real[of].cancel.as_ref().expect("just picked"), given) {
            (Cancel::Plain(cancel), _) => cancel.cancel(),
            (Cancel::Because(cancel), Some((_, cause))) => cancel.cancel(cause),
            (Cancel::Because(cancel), None) => cancel.cancel(Error::Canceled),
        }
    }

    fn register(&mut self, pick: usize) {
        let (of, context) = self.context(pick);
        let (tell, ran) = bounded(1);
        // A custom context without handles may be open when the callback runs.
        let nature = self.model.vertices[reference::node(&self.model.vertices, of)].nature;
        let done = match nature {
            Nature::Custom | Nature::Wrapper => None,
            _ => self.real[of].done.clone(),
        };
        let handle = context.after_func(move || {
            let _ = tell.send(done.as_ref().map_or(true, is_closed));
        });
        self.model.callbacks.push(Callback {
            on: of,
            stage: Stage::Waiting,
        });
        self.report(format!("f{} = c{of}.after_func()", self.registered.len()));
        self.registered.push(Registered {
            handle: Some(handle),
            ran,
            seen: false,
        });
    }

    fn stop(
        &mut self,
        pick: usize,
        stop: impl Fn(&AfterFunc) -> bool,
        name: &str,
    ) -> Result<(), String> {
        let Some(of) = self.after_func(pick) else {
            return Ok(());
        };
        self.report(format!("f{of}.{name}()"));
        let handle = self.registered[of].handle.as_ref().expect("just picked");
        let stopped = stop(handle);
        let stage = &mut self.model.callbacks[of].stage;
        if stopped != (*stage == Stage::Waiting) {
            return Err(format!("{name} of f{of} says {stopped}"));
        }
        if stopped {
            *stage = Stage::Stopped;
        }
        Ok(())
    }

    fn compare(&mut self) -> Result<(), String> {
        for (number, real) in self.real.iter().enumerate() {
            self.wait_for_end(number, real)?;
        }
        for number in 0..self.registered.len() {
            self.compare_callback(number)?;
        }
        for (number, real) in self.real.iter().enumerate() {
            if let Some(context) = self.seen(number, real) {
                self.compare_context(number, context)?;
            }
            let is_done = self.model.vertices[number].end.is_some();
            if let Some(done) = &real.done {
                agree(number, "the channel is closed", is_closed(done), is_done)?;
            }
            if let Some(custom) = &real.custom {
                self.compare_registrations(number, custom)?;
            }
        }
        Ok(())
    }

    /// The context, if it is to be observed.
    fn seen<'a>(&self, number: usize, real: &'a Real) -> Option<&'a Context> {
        let context = real.context.as_ref();
        context.filter(|_| self.eyes.look_at(number, self.trace.len()))
    }

    /// Consequences brought by another thread take a moment.
    fn wait_for_end(&self, number: usize, real: &Real) -> Result<(), String> {
        if self.model.vertices[number].end.is_none() {
            return Ok(());
        }
        let has_ended = || {
            let knows = |context: &Context| context.err().is_some();
            let context = match self.by_thread {
                true => real.context.as_ref(),
                false => self.seen(number, real),
            };
            context.map_or(true, knows) && real.done.as_ref().map_or(true, is_closed)
        };
        match eventually(has_ended) {
            true => Ok(()),
            false => Err(format!("c{number} does not end")),
        }
    }

    fn compare_context(&self, number: usize, context: &Context) -> Result<(), String> {
        let vertex = &self.model.vertices[number];
        let err = vertex.end.map(|(err, _)| err);
        agree(number, "err", context.err(), err)?;
        agree(number, "check", context.check().err(), err)?;
        let knows_cause = match (context.cause(), vertex.end) {
            (None, None) => true,
            (Some(cause), Some((_, Some(given)))) => Arc::ptr_eq(&cause, &self.causes[given]),
            (Some(cause), Some((err, None))) => cause.downcast_ref() == Some(&err),
            _ => false,
        };
        if !knows_cause {
            let cause = context.cause();
            return Err(format!(
                "c{number}: its cause is {cause:?}, its end {:?}",
                vertex.end
            ));
        }
        agree(number, "deadline", context.deadline(), vertex.deadline)?;
        let cancellable = reference::is_cancellable(&self.model.vertices, number);
        let says = context.is_cancellable();
        agree(number, "is_cancellable", says, cancellable)?;
        for tag in TAGS {
            let value = match tag {
                Tag::Left(n) => context.value(&Left(n)),
                Tag::Right(n) => context.value(&Right(n)),
            };
            let expected = reference::lookup(&self.model.vertices, number, &tag);
            agree(number, &format!("{tag:?}"), value.copied(), expected)?;
        }
        let text = without_times(&context.to_string());
        agree(number, "Display", text, vertex.text.clone())?;
        // Calling `done` on an open context would create its channel, and that is a step of the script.
        if err.is_some() {
            agree(number, "done", is_closed(&context.done()), true)?;
        }
        Ok(())
    }

    fn compare_callback(&mut self, number: usize) -> Result<(), String> {
        let registered = &mut self.registered[number];
        let callback = &self.model.callbacks[number];
        let on = reference::node(&self.model.vertices, callback.on);
        let goes_with_handle =
            registered.handle.is_none() && !reference::is_cancellable(&self.model.vertices, on);
        match callback.stage {
            Stage::Ran if !registered.seen => {
                registered.seen = true;
                match registered.ran.recv_timeout(limit()) {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(format!("f{number} ran while the context was open")),
                    Err(err) => Err(format!("f{number} does not run: {err:?}")),
                }
            }
            Stage::Ran => Ok(()),
            Stage::Waiting if !goes_with_handle => {
                let ran = registered.ran.try_recv();
                agree_on_callback(number, ran, TryRecvError::Empty)
            }
            Stage::Waiting | Stage::Stopped => {
                let ran = registered.ran.try_recv();
                agree_on_callback(number, ran, TryRecvError::Disconnected)
            }
        }
    }

    /// A context with an `after_func` of its own has one registered function while there is something
    /// to end, and none otherwise.
    fn compare_registrations(&self, number: usize, custom: &Custom) -> Result<(), String> {
        let expected = match custom.watches_itself {
            true => usize::from(self.model.has_listeners(number)),
            false => 0,
        };
        match eventually(|| custom.lever.registered.len() == expected) {
            true => Ok(()),
            false => Err(format!(
                "c{number} has {} functions of ours, not {expected}",
                custom.lever.registered.len()
            )),
        }
    }
}

fn agree<T: PartialEq + fmt::Debug>(
    number: usize,
    what: &str,
    found: T,
    expected: T,
) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("c{number}: {what} is {found:?}, not {expected:?}")),
    }
}

fn agree_on_callback(
    number: usize,
    found: Result<bool, TryRecvError>,
    expected: TryRecvError,
) -> Result<(), String> {
    match found == Err(expected) {
        true => Ok(()),
        false => Err(format!("f{number}: found {found:?}, not {expected:?}")),
    }
}

fn run(script: &[Op], eyes: Eyes) -> Result<(), TestCaseError> {
    let mut world = World::new(eyes);
    let mut result = script.iter().try_for_each(|op| world.step(op));
    if result.is_ok() {
        result = world.let_all_go();
    }
    result.map_err(|difference| {
        FAILED.store(true, Ordering::Relaxed);
        let trace = world.trace.join("\n    ");
        TestCaseError::fail(format!("{difference}\nafter\n    {trace}"))
    })
}

proptest! {
    #![proptest_config(Config {
        cases: 600,
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn contexts_behave_like_model(script in prop::collection::vec(op(), 1..60)) {
        run(&script, Eyes::OPEN)?;
    }

    #[test]
    fn contexts_seldom_observed_behave_like_model(
        script in prop::collection::vec(op(), 1..60),
        eyes in eyes(),
    ) {
        run(&script, eyes)?;
    }
}
