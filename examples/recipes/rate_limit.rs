//! A rate limit that allows bursts: a token bucket. In Go: `golang.org/x/time/rate`.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use go_context::{Context, Error};

pub struct Limiter {
    interval: Duration,
    burst: u32,
    /// When the bucket will be full again.
    full_at: Mutex<Instant>,
}

impl Limiter {
    /// Allows an event in each `interval`, and up to `burst` events at once.
    pub fn new(interval: Duration, burst: u32) -> Limiter {
        Limiter {
            interval,
            burst,
            full_at: Mutex::new(Instant::now()),
        }
    }

    /// Blocks until an event is allowed. As in Go, fails at once if the deadline is earlier than
    /// that, and takes no token if it fails.
    pub fn wait(&self, ctx: &Context) -> Result<(), Error> {
        ctx.check()?;
        let (full_at, pause) = self.take(ctx, Instant::now())?;
        let slept = ctx.sleep(pause);
        if slept.is_err() {
            self.give_back(full_at);
        }
        slept
    }

    /// Takes a token, and returns when the bucket will be full and how long to wait from `now` on.
    pub fn take(&self, ctx: &Context, now: Instant) -> Result<(Instant, Duration), Error> {
        let mut full_at = self.full_at.lock().unwrap();
        let next = now.max(*full_at) + self.interval;
        let pause = (next - now).saturating_sub(self.interval * self.burst);
        if ctx
            .deadline()
            .is_some_and(|deadline| now + pause > deadline)
        {
            return Err(Error::DeadlineExceeded);
        }
        *full_at = next;
        Ok((next, pause))
    }

    /// Does nothing if later tokens have been taken, because their times are fixed.
    pub fn give_back(&self, taken: Instant) {
        let mut full_at = self.full_at.lock().unwrap();
        if *full_at == taken {
            *full_at -= self.interval;
        }
    }
}
