//! The timer thread: one for all deadlines.
//!
//! It sleeps in a `select!` over `after` for the earliest deadline and a channel that wakes it. It never
//! runs the user's code, never waits for another thread, and hands over whatever is large; see
//! [`OnExpire`].

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{after, bounded, never, select, Receiver, Sender};
use crossbeam_utils::Backoff;
use once_cell::sync::Lazy;

use super::pool::Pool;
use super::sync::{Arc, AtomicBool, AtomicCell, Ordering, Weak};
use super::timer_queue::{is_of, TimerQueues};
pub(crate) use super::timer_queue::{Inserted, TimerId};
use super::timestamp::Timestamp;
use super::unwind;
use super::workers::RETRY;

pub(crate) use super::pool::Task;

/// What happens when a timer expires.
pub(crate) trait OnExpire: Send + Sync {
    /// Called on the timer thread or on one of the pool, with no lock held. Must not run the user's
    /// code, wait for another thread or make more than so many steps, which it counts down. The user's
    /// code is added to `rest`, which is handed over to the pool for a whole batch of timers at once.
    fn expire(self: Arc<Self>, now: Timestamp, steps: &mut u32, rest: &mut Vec<Task>);
}

/// A timer's `OnExpire`. The timer does not keep it alive.
type Timer = Weak<dyn OnExpire>;

/// The timer thread ticks the pool: it is the one thread that never waits for a callback.
static POOL: Lazy<Pool> = Lazy::new(|| {
    let begin_ticks = || {
        TIMERS.wake();
        TIMERS.ensure_running();
    };
    Pool::new(begin_ticks, retry_refused)
});

static TIMERS: Lazy<Timers> = Lazy::new(|| Timers {
    queues: TimerQueues::new(),
    wake: bounded(1),
    is_running: AtomicBool::new(false),
});

struct Timers {
    queues: TimerQueues<Timer>,
    wake: (Sender<()>, Receiver<()>),
    /// Whether the thread has been started.
    is_running: AtomicBool,
}

/// Whether the thread is being started, or the system has refused it.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// How many timers the thread takes out at once. If there are as many, the pool expires them, so that
/// the thread is free for the next ones.
const BATCH: usize = 256;

/// How many steps it makes for all of them, because other deadlines wait meanwhile. A deadline without
/// children takes one.
const BATCH_STEPS: u32 = 2048;

/// Adds a timer, which never expires before `at`. The caller must then call [`wake_for`], with no lock
/// held.
pub(crate) fn insert(at: Timestamp, timer: Timer) -> Inserted {
    let queues = &TIMERS.queues;
    queues.insert(queues.shard(), at, timer)
}

/// Wakes the thread if a new timer is due before the next wake-up. The first call starts the thread.
pub(crate) fn wake_for(inserted: Inserted) {
    if inserted.must_wake {
        TIMERS.wake();
    }
    TIMERS.ensure_running();
}

/// Removes the timer of `owner`, if it is still pending.
pub(crate) fn remove<T>(id: TimerId, owner: &T) {
    let removed = TIMERS.queues.remove(id, |timer| is_of(timer, owner));
    drop(removed); // with the lock released
}

/// Hands tasks over to the threads for callbacks.
#[inline]
pub(crate) fn run_on_pool(tasks: Vec<Task>) {
    if !tasks.is_empty() {
        POOL.hand_over(tasks);
    }
}

/// Hands over work of the crate's own, ahead of all tasks.
pub(crate) fn run_on_pool_first(work: Task) {
    POOL.hand_over_first(work);
}

/// Starts the timer thread if the system has refused it before.
#[inline]
pub(crate) fn retry_refused() {
    if REFUSED.load(Ordering::Relaxed) {
        TIMERS.retry();
    }
}

/// Returns how long a thread that waits for a context may block before it has to call
/// [`retry_refused`]: without limit, unless the system has refused the timer thread.
pub(crate) fn longest_wait() -> Option<Duration> {
    REFUSED.load(Ordering::Relaxed).then_some(RETRY)
}

/// Returns a channel that receives a message when [`longest_wait`] has passed.
pub(crate) fn retry_channel() -> Receiver<Instant> {
    longest_wait().map_or_else(never, after)
}

impl Timers {
    fn wake(&self) {
        let _ = self.wake.0.try_send(()); // full: the thread is about to scan the queues anyway
    }

    /// Starts the thread if it does not run. If the system refuses it, [`retry_refused`] tries again.
    fn ensure_running(&self) {
        let running = &self.is_running;
        if running.load(Ordering::Relaxed) || running.swap(true, Ordering::SeqCst) {
            return;
        }
        // Before the attempt, so that a thread which comes here meanwhile and then waits tries again.
        REFUSED.store(true, Ordering::SeqCst);
        let thread = thread::Builder::new().name("go-ctx-timer".into());
        match thread.spawn(run) {
            Ok(_) => REFUSED.store(false, Ordering::SeqCst),
            Err(_) => running.store(false, Ordering::SeqCst),
        }
    }

    /// Asks the system for the thread again, but not more often than every [`RETRY`], because a
    /// thread may come here in a loop.
    #[cold]
    fn retry(&self) {
        static NEXT: AtomicCell<Timestamp> = AtomicCell::new(Timestamp(0));
        let (now, next) = (Timestamp::now(), NEXT.load());
        let later = now.saturating_add(RETRY);
        if now >= next && NEXT.compare_exchange(next, later).is_ok() {
            self.ensure_running();
        }
    }
}

fn run() {
    let mut sleep = Sleep::new(Instant::now());
    loop {
        let now = Instant::now();
        let due = TIMERS.queues.take_due(now.into(), BATCH);
        let tick = Lazy::get(&POOL).and_then(|pool| pool.tick(now));
        match due.len() {
            0 => sleep.until_next(&TIMERS, tick),
            BATCH => run_on_pool_first(Box::new(|| expire(due))),
            _ => expire(due),
        }
    }
}

fn expire(due: Vec<Timer>) {
    let now = Timestamp::now();
    let (mut steps, mut rest) = (BATCH_STEPS, Vec::new());
    for timer in due.iter().filter_map(Weak::upgrade) {
        unwind::swallow_panic(|| timer.expire(now, &mut steps, &mut rest));
    }
    run_on_pool(rest);
}

/// How the thread sleeps: it wakes a little early and spins for the last moments, because a sleeping
/// thread is woken late, by about as much each time.
///
/// Spinning may use 2 % of a core. So a thread that has little to do is punctual, and one that has
/// much to do does not burn a core.
struct Sleep {
    /// How late the thread was woken, on average.
    lateness: Duration,
    /// How long it may still spin.
    credit: Duration,
    credited_at: Instant,
}

/// How early the thread wakes at most.
const MAX_LEAD: Duration = Duration::from_micros(200);
const MAX_CREDIT: Duration = Duration::from_millis(5);
/// One part in so many of all time may be spent spinning.
const SPIN_SHARE: u32 = 50;

impl Sleep {
    fn new(now: Instant) -> Sleep {
        Sleep {
            lateness: Duration::ZERO,
            credit: MAX_CREDIT,
            credited_at: now,
        }
    }

    /// Sleeps until the earliest timer is due, until `tick`, or until the thread is woken.
    fn until_next(&mut self, timers: &Timers, tick: Option<Instant>) {
        let now = Instant::now();
        self.earn(now);
        let next = timers.queues.next_wake().instant();
        let lead = if self.credit < self.lateness {
            Duration::ZERO
        } else {
            self.lateness
        };
        let early = next.map(|next| next.checked_sub(lead).unwrap_or(next));
        let Some(wake_at) = early.into_iter().chain(tick).min() else {
            let _ = timers.wake.1.recv();
            return;
        };
        let nap = wake_at.saturating_duration_since(now);
        select! {
            recv(after(nap)) -> _ => {}
            recv(timers.wake.1) -> _ => return,
        }
        let woken = Instant::now();
        if !nap.is_zero() {
            let late = woken.saturating_duration_since(wake_at);
            self.lateness = ((self.lateness * 7 + late) / 8).min(MAX_LEAD);
        }
        if lead.is_zero() {
            return;
        }
        // The timer may have been removed meanwhile. Taking zero timers recomputes the next wake-up.
        timers.queues.take_due(woken.into(), 0);
        let next = timers.queues.next_wake().instant();
        if let Some(next) = next.filter(|next| *next <= woken + lead) {
            self.spin(timers, woken, next);
        }
    }

    /// Spins to the moment `until`, or until the thread is woken, and takes the time from the credit.
    fn spin(&mut self, timers: &Timers, from: Instant, until: Instant) {
        let backoff = Backoff::new();
        let mut now = from;
        while now < until && timers.wake.1.is_empty() {
            backoff.snooze();
            now = Instant::now();
        }
        self.credit = self.credit.saturating_sub(now - from);
    }

    /// Adds the credit for the time since the last call.
    fn earn(&mut self, now: Instant) {
        let earned = (now - self.credited_at) / SPIN_SHARE;
        self.credit = (self.credit + earned).min(MAX_CREDIT);
        self.credited_at = now;
    }
}
