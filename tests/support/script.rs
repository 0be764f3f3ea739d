//! Scripts for several threads, written in bytes.
//!
//! Any bytes are a script. It has scenes: in each, up to four threads begin at the same moment, and
//! each runs some lines. After a scene everything, or what the script selects, is compared with a
//! reference model. A scene in which only one thread has lines is run line by line, so it has a single
//! outcome, which the model computes. For a scene of several threads it computes all possible
//! outcomes: which contexts may have ended, how, and which must have.
//!
//! What a thread observes during a scene it checks itself, whatever other threads do.

use std::fmt;
use std::hint;
use std::io;
use std::mem;
use std::panic::{self, catch_unwind, panic_any, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, unbounded, Receiver, Sender};
use go_context::{
    AfterFunc, CancelCauseFunc, CancelFunc, Cause, Context, CustomContext, Error, Key, RecvError,
    SendError,
};

use crate::custom::Lever;
use crate::reference::{self, Nature};
use crate::{is_closed, Task, LIMIT};

// The script

/// The operation of a line. Numbers pick from what exists when the scene begins, modulo how much.
#[derive(Clone, Copy, Debug)]
enum Op {
    Cancel,
    CancelAndCount,
    Guard,
    DropContext,
    DropCancel,
    WithCancel,
    WithCancelCause,
    WithDeadline,
    WithDeadlineCause,
    WithTimeoutMax,
    WithValue,
    WithoutCancel,
    Merge,
    Custom,
    Wrap,
    Close,
    AfterFunc,
    Stop,
    StopAndWait,
    DropAfterFunc,
    /// Calls `done`, and keeps the channel.
    Listen,
    /// Observes a context for some time, or until it is done.
    Look,
    /// Many children, kept as one.
    Fan,
    /// A chain of contexts that is created and dropped.
    Chain,
    /// Many children that are created and dropped.
    Contend,
    /// A blocking call on a child, cut short by a timeout.
    Block,
    Group,
}

use Op::*;

/// By their byte, modulo the number of operations: the interesting ones are listed more than once.
const OPS: [Op; 34] = [
    Cancel,
    WithCancel,
    DropContext,
    WithCancelCause,
    CancelAndCount,
    WithDeadline,
    DropCancel,
    Merge,
    AfterFunc,
    Stop,
    WithValue,
    Listen,
    Look,
    Custom,
    Close,
    Wrap, //
    Cancel,
    WithCancel,
    DropContext,
    StopAndWait,
    CancelAndCount,
    WithDeadlineCause,
    Guard,
    Chain,
    AfterFunc,
    Contend,
    WithoutCancel,
    WithTimeoutMax,
    DropAfterFunc,
    Block,
    Group,
    Fan, //
    Look,
    Fan,
];

#[derive(Clone, Copy, Debug)]
struct Line {
    lane: usize,
    op: Op,
    a: usize,
    b: usize,
}

const LANES: usize = 4;
/// Bounds for the time that a script takes: how many lines it has, and how many of them start
/// threads or wait for time to pass.
const MOST_LINES: usize = 48;
const MOST_SLOW: usize = 4;

/// Two bytes for the whole script, then four for each line.
fn scenes(script: &[u8]) -> Vec<Vec<Line>> {
    let mut scenes = vec![Vec::new()];
    for line in script.chunks(4).take(MOST_LINES) {
        let byte = |at: usize| usize::from(line.get(at).copied().unwrap_or_default());
        if byte(1) & 4 != 0 {
            scenes.push(Vec::new());
        }
        let line = Line {
            lane: byte(1) % LANES,
            op: OPS[byte(0) % OPS.len()],
            a: byte(2),
            b: byte(3),
        };
        scenes.last_mut().expect("there is one at least").push(line);
    }
    // The lines of one thread have one outcome, if everything is checked after each line.
    let alone = |scene: &[Line]| scene.iter().all(|line| line.lane == scene[0].lane);
    scenes
        .into_iter()
        .flat_map(|scene| match alone(&scene) {
            true => scene.into_iter().map(|line| vec![line]).collect(),
            false => vec![scene],
        })
        .collect()
}

/// Runs a script, and panics if anything is wrong or hangs.
pub fn play(script: &[u8]) {
    expect_planned_panics();
    let (head, rest) = script.split_at(script.len().min(2));
    let scenes = scenes(rest);
    let _trace = Trace(&scenes);
    let mut crew = CREW.lock().unwrap_or_else(PoisonError::into_inner);
    let [eyes, order] = [0, 1].map(|at| head.get(at).copied().unwrap_or_default());
    let mut world = World::new(eyes);
    for scene in &scenes {
        world.play(scene, &mut crew);
    }
    world.let_all_go(usize::from(order), &mut crew);
}

/// Prints the script during a panic.
struct Trace<'a>(&'a [Vec<Line>]);

impl Drop for Trace<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            for (number, scene) in self.0.iter().enumerate() {
                for Line { lane, op, a, b } in scene {
                    eprintln!("scene {number}, thread {lane}: {op:?} {a} {b}");
                }
            }
        }
    }
}

/// The payload of an intended panic.
struct Planned;

/// Suppresses the messages of intended panics.
fn expect_planned_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<Planned>() {
                hook(info);
            }
        }));
    });
}

// The threads

/// The action of a line, with all that it needs. Its result goes back to the world.
type Act = Box<dyn FnOnce() -> Made + Send>;

enum Made {
    Nothing,
    Context(usize, Context, Option<CancelEither>),
    Fan(usize, Context, Vec<Context>),
    Done(usize, Receiver<()>),
    Function(usize, AfterFunc),
    Stopped(usize, bool),
}

/// The threads are kept from script to script, so that no time is spent on starting them. They run
/// one script at a time.
static CREW: Mutex<Crew> = Mutex::new(Crew(Vec::new()));

/// All except the first.
struct Crew(Vec<Sender<Task>>);

impl Crew {
    /// Runs all lanes at once: the first on this thread, which need not be woken.
    fn play(&mut self, lanes: Vec<Vec<Act>>) -> Vec<Made> {
        while self.0.len() < LANES - 1 {
            let (give, jobs) = unbounded::<Task>();
            thread::spawn(move || jobs.iter().for_each(|job| job()));
            self.0.push(give);
        }
        let mut lanes = lanes.into_iter();
        let first = lanes.next().unwrap_or_default();
        let others = self.0.iter().zip(lanes);
        let others: Vec<_> = others.filter(|(_, acts)| !acts.is_empty()).collect();
        let missing = Arc::new(AtomicUsize::new(1 + others.len()));
        let (tell, told) = unbounded();
        let jobs = others.len();
        for (jobs, acts) in others {
            let (missing, tell) = (missing.clone(), tell.clone());
            let job = move || {
                meet(&missing);
                let _ = tell.send(catch_unwind(AssertUnwindSafe(|| play_lane(acts))));
            };
            jobs.send(Box::new(job)).expect("no job ends its thread");
        }
        meet(&missing);
        let mut made = play_lane(first);
        for _ in 0..jobs {
            match told.recv_timeout(LIMIT).expect("a thread hangs") {
                Ok(more) => made.extend(more),
                Err(payload) => resume_unwind(payload),
            }
        }
        made
    }
}

fn play_lane(acts: Vec<Act>) -> Vec<Made> {
    acts.into_iter().map(|act| act()).collect()
}

/// Spins, so that all begin together and not one by one as they are woken.
fn meet(missing: &AtomicUsize) {
    missing.fetch_sub(1, Ordering::SeqCst);
    let mut rounds = 0;
    while missing.load(Ordering::SeqCst) > 0 {
        rounds += 1;
        match rounds % 64 {
            0 => thread::yield_now(),
            _ => hint::spin_loop(),
        }
    }
}

#[track_caller]
fn eventually(condition: impl Fn() -> bool) {
    let start = Instant::now();
    for round in 0_u32.. {
        if condition() {
            return;
        }
        assert!(start.elapsed() < LIMIT, "it does not come to pass");
        match round {
            0..=20 => thread::yield_now(), // gives way to the thread it waits for
            _ => thread::sleep(Duration::from_micros(20)),
        }
    }
}

// What the script creates

/// Counts how many of a script's values, causes and callbacks are alive.
struct Token(Arc<AtomicUsize>);

impl Token {
    fn new(alive: &Arc<AtomicUsize>) -> Token {
        alive.fetch_add(1, Ordering::SeqCst);
        Token(alive.clone())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(PartialEq, Eq)]
struct Name(u8);

const NAMES: u8 = 3;

impl Key for Name {
    /// The number of its context.
    type Value = (usize, Token);
}

struct Given {
    number: usize,
    _token: Token,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cause {}", self.number)
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cause {}", self.number)
    }
}

impl std::error::Error for Given {}

#[derive(Clone)]
enum CancelEither {
    Plain(CancelFunc),
    Because(CancelCauseFunc),
}

impl CancelEither {
    fn cancel(&self, cause: Option<Cause>) {
        match (self, cause) {
            (CancelEither::Plain(cancel), _) => cancel.cancel(),
            (CancelEither::Because(cancel), Some(cause)) => cancel.cancel(cause),
            (CancelEither::Because(cancel), None) => cancel.cancel(Error::Canceled),
        }
    }
}

/// Both kinds of custom contexts: with a channel of its own, or wrapped around another.
struct Outsider {
    wrapped: Option<Context>,
    done: Receiver<()>,
    end: End,
    cause: Option<Cause>,
    /// `None` if it has no `after_func`, so that a thread waits for its channel.
    lever: Option<Lever>,
    _token: Token,
}

impl CustomContext for Outsider {
    fn done(&self) -> Receiver<()> {
        let inner = self.wrapped.as_ref().map(Context::done);
        inner.unwrap_or_else(|| self.done.clone())
    }

    fn err(&self) -> Option<Error> {
        let inner = self.wrapped.as_ref().map(Context::err);
        inner.unwrap_or(Some(self.end.err))
    }

    fn cause(&self) -> Option<Cause> {
        let inner = self.wrapped.as_ref().map(Context::cause);
        inner.unwrap_or_else(|| self.cause.clone())
    }

    fn after_func(&self, f: Task) -> Option<Task> {
        Some(self.lever.as_ref()?.register(f))
    }

    fn wrapped(&self) -> Option<&Context> {
        self.wrapped.as_ref()
    }
}

/// What a callback records.
#[derive(Default)]
struct Record {
    runs: AtomicUsize,
    is_running: AtomicBool,
    was_early: AtomicBool,
}

impl Record {
    fn run(&self, done: Option<&Receiver<()>>) {
        self.is_running.store(true, Ordering::SeqCst);
        let early = done.is_some_and(|done| !is_closed(done));
        self.was_early.fetch_or(early, Ordering::SeqCst);
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.is_running.store(false, Ordering::SeqCst);
    }
}

// What holds whatever other threads do

/// Observes a context in one order or the other: error and channel agree, and stay the same.
fn look(ctx: &Context, done_first: bool) -> Option<Error> {
    if done_first {
        let closed = is_closed(&ctx.done());
        assert!(!closed || ctx.err().is_some(), "done, and no error");
    }
    let cause = ctx.cause();
    let err = ctx.err();
    if err.is_some() {
        assert!(is_closed(&ctx.done()), "an error, and not done");
        assert!(ctx.cause().is_some(), "an error without a cause");
        assert_eq!((ctx.err(), ctx.check()), (err, err.map_or(Ok(()), Err)));
    }
    if let Some(cause) = cause {
        assert!(same(&cause, &ctx.cause()), "the cause has changed");
    }
    err
}

/// Polls error and channel in turn until the context is done, but not for long.
fn watch(ctx: &Context, how: usize) {
    let done = ctx.done();
    for _ in 0..how * 8 {
        if ctx.err().is_some() {
            assert!(
                is_closed(&done),
                "an error, and a channel that is not closed"
            );
            break;
        }
        if is_closed(&done) {
            assert!(ctx.err().is_some(), "done, and no error");
            break;
        }
    }
    look(ctx, how & 1 != 0);
}

fn same(cause: &Cause, other: &Option<Cause>) -> bool {
    let plain = cause.downcast_ref::<Error>();
    other.as_ref().is_some_and(|other| {
        Arc::ptr_eq(cause, other) || plain.is_some() && plain == other.downcast_ref()
    })
}

/// A child of a done context is done like its parent.
fn is_born_as(parent: &Context, derive: impl FnOnce() -> Context) -> Context {
    let before = parent.err().zip(parent.cause());
    let child = derive();
    if let Some((err, cause)) = before {
        assert_eq!(child.err(), Some(err), "a child is not born done");
        assert!(same(&cause, &child.cause()), "a child has another cause");
    }
    child
}

/// A chain that is cancelled somewhere: all below are done then.
fn chain(top: &Context, length: usize, how: usize) {
    let mut links = vec![top.with_cancel()];
    for number in 1..length {
        let last = &links[number - 1].0;
        links.push(match (number + how) % 4 {
            0 => last
                .with_value(Name(0), (0, Token(Arc::default())))
                .with_cancel(),
            1 => last.with_timeout(FAR),
            2 => last.merge(top),
            _ => last.with_cancel(),
        });
    }
    let end = &links[length - 1].0;
    let done = (how & 1 != 0).then(|| end.done());
    if how & 2 != 0 {
        look(end, true);
    }
    if how & 16 == 0 {
        let at = how % length;
        links[at].1.cancel();
        for (ctx, _) in &links[at..] {
            assert!(look(ctx, how & 4 != 0).is_some(), "a link is not done");
        }
    }
    if how & 8 != 0 {
        links.reverse();
    }
    drop(links);
    // Another thread's cancellation may be running, and then that ends it.
    eventually(|| done.as_ref().map_or(true, is_closed));
}

/// Enough children to make a parent contended.
fn contend(parent: &Context, count: usize, how: usize) {
    let mut children = Vec::new();
    for number in 0..count {
        let derive = || match number % 3 {
            0 => parent.with_cancel(),
            1 => parent.with_timeout(FAR),
            _ => parent.without_cancel().with_cancel(),
        };
        children.push(derive());
        if (number + how) % 5 == 0 {
            look(&children[number].0, how & 1 != 0);
        }
    }
    for (number, (child, cancel)) in children.into_iter().enumerate() {
        match (number + how) % 4 {
            0 => drop(cancel.drop_guard()),
            1 => cancel.cancel(),
            _ => continue,
        }
        assert!(look(&child, how & 2 != 0).is_some());
    }
}

fn block(parent: &Context, how: usize, token: Token) {
    let nap = Duration::from_micros(20);
    let (child, _cancel) = parent.with_timeout(nap);
    let (give, take) = bounded::<()>(0);
    let err = match how % 4 {
        0 => child.wait(),
        1 => match child.recv(&take) {
            Err(RecvError::Done(err)) => err,
            _ => unreachable!("the sender sends nothing"),
        },
        2 => {
            let (give, _take) = bounded(0);
            match child.send(&give, token) {
                Err(SendError::Done(Token(_), err)) => err,
                _ => unreachable!("the receiver receives nothing"),
            }
        }
        _ => {
            assert_eq!(child.iter(&take).next(), None);
            child.err().expect("nothing else can have ended it")
        }
    };
    drop(give);
    assert_eq!(look(&child, true), Some(err));
    if err == Error::DeadlineExceeded && parent.err().is_none() {
        let deadline = child.deadline().expect("it has exceeded one");
        assert!(Instant::now() >= deadline, "a deadline is early");
    }
    let start = Instant::now();
    match parent.sleep(nap) {
        Ok(()) => assert!(start.elapsed() >= nap, "a sleep is short"),
        Err(err) => assert_eq!(look(parent, true), Some(err)),
    }
}

fn group(parent: &Context, how: usize) {
    let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let result = catch_unwind(AssertUnwindSafe(|| {
        parent.scope_all(|s| {
            s.set_limit(1 + how / 4 % 2);
            for number in 0..3 {
                let (begun, ended) = (&begun, &ended);
                s.spawn(move |ctx| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    look(ctx, true);
                    ended.fetch_add(1, Ordering::SeqCst);
                    match (number, how % 4) {
                        (1, 1) => Err(io::Error::other("boom")),
                        (1, 2) => panic_any(Planned),
                        _ => Ok(()),
                    }
                });
            }
            Ok(s.context().clone())
        })
    }));
    let [begun, ended] = [begun, ended].map(AtomicUsize::into_inner);
    assert_eq!(begun, ended, "a worker has outlived its group");
    match (result, how % 4) {
        (Ok(Ok(ctx)), 0 | 3) => {
            assert_eq!(begun, 3, "a worker was forgotten");
            assert!(
                look(&ctx, true).is_some(),
                "a group has ended and is not done"
            );
        }
        (Ok(Err(errors)), 1) if errors[0].to_string() == "boom" => {}
        (Err(payload), 2) if payload.is::<Planned>() => {}
        (result, _) => panic!("it cannot end so: {result:?} after {begun} workers"),
    }
}

// The model

/// A way for a context to end.
#[derive(Clone, Copy, Debug, PartialEq)]
struct End {
    err: Error,
    /// The number of a cause, if one was given.
    cause: Option<usize>,
    /// The deadline that passed.
    since: Option<Instant>,
}

const CANCELED: End = End {
    err: Error::Canceled,
    cause: None,
    since: None,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Open,
    /// It is done or will soon be, whatever else happens: by its deadline, or because a custom context
    /// is done.
    Coming,
    Done,
}

use State::{Coming, Done, Open};

/// A context: what the model has computed, and the script's handles.
struct Vertex {
    /// The contexts that it keeps alive, and whose values it finds after its own.
    parents: Vec<usize>,
    nature: Nature,
    name: Option<u8>,
    deadline: Option<Instant>,
    state: State,
    /// The ends that it may have come to, and those among them that came from no ancestor. Once it
    /// has been observed there is one.
    ends: Vec<End>,
    own: Vec<End>,

    context: Option<Context>,
    /// The others of a fan.
    more: Arc<Vec<Context>>,
    cancel: Option<CancelEither>,
    done: Option<Receiver<()>>,
    custom: Option<(Lever, End)>,
}

impl reference::Vertex for Vertex {
    type Name = u8;

    fn parents(&self) -> &[usize] {
        &self.parents
    }

    fn nature(&self) -> Nature {
        self.nature
    }

    fn name(&self) -> Option<&u8> {
        self.name.as_ref()
    }

    fn has_handle(&self) -> bool {
        self.context.is_some() || self.cancel.is_some()
    }
}

struct Function {
    on: usize,
    handle: Option<Arc<AfterFunc>>,
    record: Arc<Record>,
    was_stopped: bool,
}

struct World {
    vertices: Vec<Vertex>,
    functions: Vec<Function>,
    causes: Vec<Cause>,
    alive: Arc<AtomicUsize>,
    /// Which contexts are observed between scenes: one bit for each of many cases.
    eyes: u8,
    scene: usize,
    slow: usize,
    /// The state when the scene began.
    before: Before,
    /// The effects of the lines of this scene.
    ending: Vec<(usize, End)>,
    born: Vec<(usize, Option<(End, State)>)>,
}

#[derive(Default)]
struct Before {
    states: Vec<State>,
    held: Vec<bool>,
}

const FAR: Duration = Duration::from_secs(3_600_000);
const MOMENT: Duration = Duration::from_micros(200);

impl World {
    fn new(eyes: u8) -> World {
        let mut world = World {
            vertices: Vec::new(),
            functions: Vec::new(),
            causes: Vec::new(),
            alive: Arc::default(),
            eyes,
            scene: 0,
            slow: 0,
            before: Before::default(),
            ending: Vec::new(),
            born: Vec::new(),
        };
        for root in [Context::background(), Context::todo()] {
            let new = world.add(&[], Nature::Endless);
            world.vertices[new].context = Some(root);
        }
        world
    }

    fn play(&mut self, scene: &[Line], crew: &mut Crew) {
        self.begin();
        let mut lanes: Vec<Vec<Act>> = (0..LANES).map(|_| Vec::new()).collect();
        for line in scene {
            lanes[line.lane].extend(self.plan(line));
        }
        let made = crew.play(lanes);
        self.close_scene(made);
    }

    fn begin(&mut self) {
        self.before = Before {
            states: self.vertices.iter().map(|vertex| vertex.state).collect(),
            held: reference::alive(&self.vertices),
        };
    }

    /// Drops all handles of the script, on all threads at once.
    fn let_all_go(mut self, order: usize, crew: &mut Crew) {
        self.begin();
        let mut acts: Vec<Act> = Vec::new();
        for vertex in &mut self.vertices {
            let (context, more) = (vertex.context.take(), mem::take(&mut vertex.more));
            let cancel = vertex.cancel.take();
            acts.push(act(|| drop((context, more))));
            acts.push(act(|| drop(cancel)));
        }
        for function in &mut self.functions {
            let handle = function.handle.take();
            acts.push(act(|| drop(handle)));
        }
        if order & 1 != 0 {
            acts.reverse();
        }
        let mut lanes: Vec<Vec<Act>> = (0..LANES).map(|_| Vec::new()).collect();
        for (number, act) in acts.into_iter().enumerate() {
            lanes[(number * (order / 8) + number / 4) % (1 + order / 2 % LANES)].push(act);
        }
        let made = crew.play(lanes);
        self.close_scene(made);

        let customs = self.vertices.iter().flat_map(|vertex| &vertex.custom);
        for (lever, _) in customs {
            eventually(|| lever.is_idle());
        }
        let alive = self.alive.clone();
        drop(self);
        eventually(|| alive.load(Ordering::SeqCst) == 0);
    }

    // The actions

    fn plan(&mut self, line: &Line) -> Option<Act> {
        let &Line { a, b, .. } = line;
        Some(match line.op {
            Cancel => self.plan_cancel(a, b, false)?,
            CancelAndCount => self.plan_cancel(a, b, true)?,
            Guard => {
                let of = self.pick(a, |vertex| vertex.cancel.is_some())?;
                let cancel = self.vertices[of].cancel.take()?;
                self.ending.push((of, CANCELED));
                act(move || match cancel {
                    CancelEither::Plain(cancel) => drop(cancel.drop_guard()),
                    CancelEither::Because(cancel) => drop(cancel.drop_guard()),
                })
            }
            DropContext => {
                let (of, _) = self.context(a);
                let vertex = &mut self.vertices[of];
                let context = (of >= 2).then(|| vertex.context.take());
                let more = mem::take(&mut vertex.more);
                act(|| drop((context, more)))
            }
            DropCancel => {
                let of = self.pick(a, |vertex| vertex.cancel.is_some())?;
                let cancel = self.vertices[of].cancel.take();
                act(|| drop(cancel))
            }
            WithCancel => self.plan_child(a, None, |parent| {
                let (ctx, cancel) = parent.with_cancel();
                (ctx, CancelEither::Plain(cancel))
            }),
            WithCancelCause => self.plan_child(a, None, |parent| {
                let (ctx, cancel) = parent.with_cancel_cause();
                (ctx, CancelEither::Because(cancel))
            }),
            WithTimeoutMax => self.plan_child(a, None, |parent| {
                let (ctx, cancel) = parent.with_timeout(Duration::MAX);
                (ctx, CancelEither::Plain(cancel))
            }),
            WithDeadline => {
                let at = self.deadline(a, b);
                self.plan_child(a, Some((at, None)), move |parent| {
                    let (ctx, cancel) = parent.with_deadline(at);
                    (ctx, CancelEither::Plain(cancel))
                })
            }
            WithDeadlineCause => {
                let at = self.deadline(a, b);
                let (number, cause) = self.give_cause();
                self.plan_child(a, Some((at, Some(number))), move |parent| {
                    let (ctx, cancel) = parent.with_deadline_cause(at, cause);
                    (ctx, CancelEither::Plain(cancel))
                })
            }
            WithValue => {
                let (of, parent) = self.context(a);
                let new = self.add(&[of], Nature::Value);
                let name = b as u8 % NAMES;
                self.vertices[new].name = Some(name);
                let value = (new, self.token());
                Box::new(move || Made::Context(new, parent.with_value(Name(name), value), None))
            }
            WithoutCancel => {
                let (of, parent) = self.context(a);
                let new = self.add(&[of], Nature::Endless);
                Box::new(move || Made::Context(new, parent.without_cancel(), None))
            }
            Merge => {
                let ((a, first), (b, other)) = (self.context(a), self.context(b));
                let new = self.add(&[a, b], Nature::Cancellable);
                Box::new(move || {
                    let (ctx, cancel) = first.merge(&other);
                    Made::Context(new, ctx, Some(CancelEither::Plain(cancel)))
                })
            }
            Custom => self.plan_custom(a),
            Wrap => {
                let (of, inner) = self.context(a);
                let new = self.add(&[of], Nature::Wrapper);
                let outsider = Outsider {
                    done: inner.done(),
                    wrapped: Some(inner),
                    end: CANCELED,
                    cause: None,
                    lever: None,
                    _token: self.token(),
                };
                Box::new(move || Made::Context(new, Context::custom(outsider), None))
            }
            Close => {
                let of = self.pick(a, |vertex| vertex.custom.is_some())?;
                let (lever, end) = self.vertices[of].custom.clone()?;
                self.ending.push((of, end));
                act(move || lever.close())
            }
            AfterFunc => self.plan_function(a, b),
            Stop => {
                let (of, handle, _) = self.function(a)?;
                Box::new(move || Made::Stopped(of, handle.stop()))
            }
            StopAndWait => {
                let (of, handle, record) = self.function(a)?;
                Box::new(move || {
                    let stopped = handle.stop_and_wait();
                    let is_running = record.is_running.load(Ordering::SeqCst);
                    assert!(!is_running, "a function runs on that was waited for");
                    Made::Stopped(of, stopped)
                })
            }
            DropAfterFunc => {
                let (of, handle, _) = self.function(a)?;
                self.functions[of].handle = None;
                act(|| drop(handle))
            }
            Listen => {
                let (of, context) = self.context(a);
                Box::new(move || Made::Done(of, context.done()))
            }
            Look => {
                let (_, context) = self.context(a);
                act(move || {
                    watch(&context, b);
                    is_born_as(&context, || context.with_cancel().0);
                    is_born_as(&context, || context.with_timeout(FAR).0);
                })
            }
            Fan => {
                let (of, parent) = self.context(a);
                let new = self.add(&[of], Nature::Cancellable);
                Box::new(move || {
                    let fan: Vec<_> = (0..b % 48).map(|_| parent.with_cancel().0).collect();
                    fan.iter()
                        .step_by(1 + b / 64)
                        .for_each(|ctx| drop(ctx.done()));
                    Made::Fan(new, parent.with_cancel().0, fan)
                })
            }
            Chain => {
                let (_, context) = self.context(a);
                act(move || chain(&context, 1 + b / 32, b))
            }
            Contend => {
                let (_, context) = self.context(a);
                act(move || contend(&context, b % 48, b))
            }
            Block => {
                self.slow()?;
                let ((_, context), token) = (self.context(a), self.token());
                act(move || block(&context, b, token))
            }
            Group => {
                self.slow()?;
                let (_, context) = self.context(a);
                act(move || group(&context, b))
            }
        })
    }

    fn plan_cancel(&mut self, a: usize, b: usize, count: bool) -> Option<Act> {
        let of = self.pick(a, |vertex| vertex.cancel.is_some())?;
        let cancel = self.vertices[of].cancel.clone()?;
        let takes_cause = matches!(cancel, CancelEither::Because(_)) && b & 1 != 0;
        let (number, cause) = takes_cause.then(|| self.give_cause()).unzip();
        self.ending.push((
            of,
            End {
                cause: number,
                ..CANCELED
            },
        ));
        let below = match count {
            true => self.descendants(of),
            false => Vec::new(),
        };
        Some(act(move || {
            cancel.cancel(cause);
            for ctx in below
                .iter()
                .flat_map(|(ctx, more)| more.iter().chain([ctx]))
            {
                assert!(look(ctx, b & 2 != 0).is_some(), "a descendant is not done");
            }
        }))
    }

    fn plan_child(
        &mut self,
        a: usize,
        deadline: Option<(Instant, Option<usize>)>,
        derive: impl FnOnce(&Context) -> (Context, CancelEither) + Send + 'static,
    ) -> Act {
        let (of, parent) = self.context(a);
        let new = self.add(&[of], Nature::Cancellable);
        let vertex = &mut self.vertices[new];
        let inherited = vertex.deadline;
        if let Some((at, cause)) = deadline {
            if inherited.map_or(true, |inherited| at <= inherited) {
                vertex.deadline = Some(at);
                let end = End {
                    err: Error::DeadlineExceeded,
                    cause,
                    since: Some(at),
                };
                let now = Instant::now();
                let state = match at {
                    _ if at <= now => Done,
                    _ if at < now + FAR / 2 => Coming,
                    _ => Open,
                };
                self.born.last_mut().expect("just added").1 = Some((end, state));
            }
        }
        Box::new(move || {
            let (context, cancel) = derive(&parent);
            Made::Context(new, context, Some(cancel))
        })
    }

    /// From far ahead to long ago, and some near that of the parent.
    fn deadline(&mut self, a: usize, b: usize) -> Instant {
        let now = Instant::now();
        let inherited = self.vertices[self.context(a).0].deadline;
        let inherited = inherited.unwrap_or(now + FAR);
        match b % 8 {
            0 | 1 if self.slow().is_some() => now + MOMENT,
            2 => now - MOMENT,
            3 => inherited - MOMENT,
            4 => inherited,
            5 => inherited + MOMENT,
            _ => now + FAR,
        }
    }

    fn plan_custom(&mut self, a: usize) -> Act {
        let new = self.add(&[], Nature::Custom);
        let (lever, done) = Lever::new();
        let err = [Error::Canceled, Error::DeadlineExceeded][a & 1];
        let (number, cause) = (a & 2 != 0).then(|| self.give_cause()).unzip();
        let end = End {
            err,
            cause: number,
            since: None,
        };
        self.vertices[new].custom = Some((lever.clone(), end));
        let outsider = Outsider {
            wrapped: None,
            done,
            end,
            cause,
            lever: (a & 4 != 0).then_some(lever),
            _token: self.token(),
        };
        Box::new(move || Made::Context(new, Context::custom(outsider), None))
    }

    fn plan_function(&mut self, a: usize, b: usize) -> Act {
        let (of, context) = self.context(a);
        let on = reference::node(&self.vertices, of);
        let record: Arc<Record> = Arc::default();
        let number = self.functions.len();
        self.functions.push(Function {
            on,
            handle: None,
            record: record.clone(),
            was_stopped: false,
        });
        // A custom context without handles may be open when the callback runs.
        let done = match self.vertices[on].nature {
            Nature::Custom | Nature::Wrapper => None,
            _ => self.vertices[of].done.clone(),
        };
        let token = self.token();
        Box::new(move || {
            let function = context.after_func(move || {
                let _token = token;
                record.run(done.as_ref());
                if b & 1 != 0 {
                    panic_any(Planned);
                }
            });
            Made::Function(number, function)
        })
    }

    /// A context that is new in this scene.
    fn add(&mut self, parents: &[usize], nature: Nature) -> usize {
        let new = self.vertices.len();
        let deadlines = parents.iter().filter_map(|&of| self.vertices[of].deadline);
        let follows = matches!(
            nature,
            Nature::Cancellable | Nature::Value | Nature::Wrapper
        );
        self.vertices.push(Vertex {
            parents: parents.to_vec(),
            nature,
            name: None,
            deadline: deadlines.min().filter(|_| follows),
            state: Open,
            ends: Vec::new(),
            own: Vec::new(),
            context: None,
            more: Arc::default(),
            cancel: None,
            done: None,
            custom: None,
        });
        self.born.push((new, None));
        new
    }

    fn pick(&self, pick: usize, fits: impl Fn(&Vertex) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.before.states.len())
            .filter(|&n| fits(&self.vertices[n]))
            .collect();
        (!all.is_empty()).then(|| all[pick % all.len()])
    }

    fn context(&self, pick: usize) -> (usize, Context) {
        let of = self.pick(pick, |vertex| vertex.context.is_some());
        let of = of.expect("the roots are always there");
        (of, self.vertices[of].context.clone().expect("just picked"))
    }

    fn function(&self, pick: usize) -> Option<(usize, Arc<go_context::AfterFunc>, Arc<Record>)> {
        let all = self.functions.iter().enumerate();
        let held: Vec<_> = all
            .filter(|(_, function)| function.handle.is_some())
            .collect();
        let (of, function) = held.get(pick % held.len().max(1))?;
        Some((*of, function.handle.clone()?, function.record.clone()))
    }

    fn give_cause(&mut self) -> (usize, Cause) {
        let number = self.causes.len();
        let cause: Cause = Arc::new(Given {
            number,
            _token: self.token(),
        });
        self.causes.push(cause.clone());
        (number, cause)
    }

    fn token(&self) -> Token {
        Token::new(&self.alive)
    }

    fn slow(&mut self) -> Option<()> {
        self.slow += 1;
        (self.slow <= MOST_SLOW).then_some(())
    }

    // Effects

    fn close_scene(&mut self, made: Vec<Made>) {
        for (of, end) in mem::take(&mut self.ending) {
            self.end(of, end, Done);
        }
        for (new, end) in mem::take(&mut self.born) {
            self.bear(new, end);
        }
        let mut refused = Vec::new();
        for made in made {
            match made {
                Made::Nothing => {}
                Made::Context(new, context, cancel) => {
                    self.vertices[new].context = Some(context);
                    self.vertices[new].cancel = cancel;
                }
                Made::Fan(new, context, fan) => {
                    self.vertices[new].context = Some(context);
                    self.vertices[new].more = Arc::new(fan);
                }
                Made::Done(of, done) => self.vertices[of].done = Some(done),
                Made::Function(new, function) => {
                    self.functions[new].handle = Some(Arc::new(function));
                }
                Made::Stopped(of, true) => {
                    let on = self.functions[of].on;
                    let was_over = self.over(on, self.before.states[on], &self.before.held);
                    assert_ne!(was_over, Done, "f{of} was stopped when it was too late");
                    let function = &mut self.functions[of];
                    assert!(!function.was_stopped, "f{of} was stopped twice");
                    function.was_stopped = true;
                }
                Made::Stopped(of, false) => refused.push(of),
            }
        }
        let held = reference::alive(&self.vertices);
        for (of, held) in held.iter().enumerate() {
            if !held && self.vertices[of].nature == Nature::Cancellable {
                self.end(of, CANCELED, Done);
            }
        }
        self.scene += 1;
        for of in 0..self.vertices.len() {
            self.compare(of);
        }
        for (number, function) in self.functions.iter().enumerate() {
            let over = self.over(function.on, self.vertices[function.on].state, &held);
            function.compare(number, over);
            let excused = function.was_stopped || over != Open;
            assert!(
                excused || !refused.contains(&number),
                "f{number} cannot be stopped"
            );
        }
    }

    /// Whether callbacks run: the context is done, or its last handle is dropped.
    fn over(&self, of: usize, state: State, held: &[bool]) -> State {
        match held[of] {
            false if reference::is_cancellable(&self.vertices, of) => Done,
            _ => state,
        }
    }

    /// Every context that was not done may have come to this end, with all that follow it.
    fn end(&mut self, of: usize, end: End, state: State) {
        let vertex = &mut self.vertices[of];
        if !vertex.own.contains(&end) {
            vertex.own.push(end);
        }
        self.hand_down(of, end, state);
    }

    fn hand_down(&mut self, of: usize, end: End, mut state: State) {
        let is_new = self.born.iter().any(|(new, _)| *new == of);
        let was_done = self.before.states.get(of) == Some(&Done);
        if is_new || was_done {
            return;
        }
        let vertex = &mut self.vertices[of];
        vertex.state = vertex.state.max(state);
        if !vertex.ends.contains(&end) {
            vertex.ends.push(end);
        }
        if vertex.nature == Nature::Custom {
            state = Coming;
        }
        for other in of + 1..self.vertices.len() {
            let it = &self.vertices[other];
            if it.nature != Nature::Endless && it.parents.contains(&of) {
                self.hand_down(other, end, state);
            }
        }
    }

    /// What the new context inherits from its parents, which are older than the scene.
    fn bear(&mut self, new: usize, end: Option<(End, State)>) {
        if self.vertices[new].nature == Nature::Endless {
            return;
        }
        let (mut ends, mut state) = (Vec::new(), Open);
        let mut was_done = false;
        for of in self.vertices[new].parents.clone() {
            let parent = &self.vertices[of];
            ends.extend(parent.ends.iter().copied());
            was_done = self.before.states[of] == Done;
            if was_done {
                state = Done;
                break;
            }
            let news = match parent.nature {
                Nature::Custom => parent.state.min(Coming),
                _ => parent.state,
            };
            state = state.max(news);
        }
        let vertex = &mut self.vertices[new];
        if let Some((end, own)) = end.filter(|(_, own)| !was_done && *own != Open) {
            vertex.own.push(end);
            ends.push(end);
            state = state.max(own);
        }
        (vertex.ends, vertex.state) = (ends, state);
    }

    /// Observes a context, if the script selects it, and its channel.
    fn compare(&mut self, of: usize) {
        if self.eyes >> ((of * 5 + self.scene * 3) % 8) & 1 == 1 {
            self.compare_context(of);
        }
        let vertex = &self.vertices[of];
        if let Some(done) = &vertex.done {
            if vertex.state != Open {
                eventually(|| is_closed(done));
            }
            assert_eq!(
                is_closed(done),
                vertex.state != Open,
                "the channel of c{of}"
            );
        }
    }

    fn compare_context(&mut self, of: usize) {
        let vertex = &self.vertices[of];
        let Some(ctx) = vertex.context.clone() else {
            return;
        };
        assert_eq!(ctx.deadline(), vertex.deadline, "the deadline of c{of}");
        assert_eq!(
            ctx.is_cancellable(),
            reference::is_cancellable(&self.vertices, of),
            "c{of}"
        );
        for name in 0..NAMES {
            let found = ctx.value(&Name(name)).map(|value| value.0);
            assert_eq!(
                found,
                reference::lookup(&self.vertices, of, &name),
                "value {name} of c{of}"
            );
        }
        if vertex.state == Coming {
            let all = vertex.more.iter().chain([&ctx]);
            eventually(|| all.clone().all(|ctx| ctx.err().is_some()));
        }
        let found = ctx.err().zip(ctx.cause());
        let Some((err, cause)) = found else {
            assert_eq!(vertex.state, Open, "c{of} is not done");
            assert!(vertex.more.iter().all(|ctx| ctx.err().is_none()), "c{of}");
            return;
        };
        for other in vertex.more.iter() {
            let other = other.err().zip(other.cause());
            let is_like = other.is_some_and(|other| other.0 == err && same(&cause, &Some(other.1)));
            assert!(is_like, "one of the fan c{of} has ended otherwise");
        }
        let ends = vertex.ends.iter().copied().filter(|end| {
            let is_it = match end.cause {
                Some(number) => Arc::ptr_eq(&self.causes[number], &cause),
                None => cause.downcast_ref() == Some(&err),
            };
            let mut parents = vertex.parents.iter().map(|&of| &self.vertices[of]);
            let is_kin = vertex.own.contains(end) || parents.any(|it| it.ends.contains(end));
            let is_time = end.since.map_or(true, |since| since <= Instant::now());
            end.err == err && is_it && is_kin && is_time
        });
        let ends: Vec<End> = ends.collect();
        assert!(
            !ends.is_empty(),
            "c{of} has ended by {err:?} and {cause:?}, not {:?}",
            vertex.ends
        );
        assert!(is_closed(&ctx.done()), "c{of} has an error and is not done");
        let vertex = &mut self.vertices[of];
        (vertex.ends, vertex.state) = (ends, Done);
    }

    /// The contexts that are done when this one is.
    fn descendants(&self, of: usize) -> Vec<(Context, Arc<Vec<Context>>)> {
        let mut among = vec![false; self.vertices.len()];
        among[of] = true;
        for below in of + 1..self.before.states.len() {
            let it = &self.vertices[below];
            let follows = it.nature != Nature::Endless;
            among[below] = follows && it.parents.iter().any(|&parent| among[parent]);
        }
        let all = self.vertices.iter().zip(among);
        all.filter(|(_, among)| *among)
            .filter_map(|(vertex, _)| Some((vertex.context.clone()?, vertex.more.clone())))
            .collect()
    }
}

impl Function {
    /// It runs once when the context is done, if it was not stopped.
    fn compare(&self, number: usize, over: State) {
        let runs = || self.record.runs.load(Ordering::SeqCst);
        match over {
            Done if !self.was_stopped => {
                eventually(|| runs() > 0);
                assert_eq!(runs(), 1, "f{number} has run more than once");
            }
            Coming if !self.was_stopped => assert!(runs() <= 1, "f{number} has run twice"),
            _ => assert_eq!(runs(), 0, "f{number} has run"),
        }
        let was_early = self.record.was_early.load(Ordering::SeqCst);
        assert!(!was_early, "f{number} has run before the context was done");
    }
}

fn act(f: impl FnOnce() + Send + 'static) -> Act {
    Box::new(|| {
        f();
        Made::Nothing
    })
}
