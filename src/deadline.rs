//! The argument of `with_deadline`: a time on the monotonic or on the system clock.

use std::time::{Duration, Instant, SystemTime};

use crate::runtime::timestamp::Timestamp;

/// Represents the time for [`Context::with_deadline`](crate::Context::with_deadline). Converts from
/// an [`Instant`], an [`Option`] of one, or a [`SystemTime`].
///
/// A `SystemTime` is converted to the `Instant` that is equally far from now, so changing the
/// system time later does not move the deadline.
///
/// The resolution is one nanosecond. The range is from 146 years before the start of the process to
/// 438 years after it. An earlier time is replaced by the start of that range, and a later one means
/// no deadline.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant, SystemTime};
/// use go_context::{Context, Error};
///
/// let bg = Context::background();
/// let in_a_minute = Instant::now() + Duration::from_secs(60);
/// let (ctx, _cancel) = bg.with_deadline(in_a_minute);
/// assert!(ctx.err().is_none());
///
/// let (ctx, _cancel) = bg.with_deadline(SystemTime::UNIX_EPOCH);
/// assert_eq!(ctx.err(), Some(Error::DeadlineExceeded));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    at: Timestamp,
}

impl Deadline {
    /// Returns the deadline `timeout` from now.
    #[inline]
    pub(crate) fn after(timeout: Duration) -> Deadline {
        Deadline {
            at: Timestamp::now().saturating_add(timeout),
        }
    }

    #[inline]
    pub(crate) fn timestamp(self) -> Timestamp {
        self.at
    }
}

impl From<Instant> for Deadline {
    fn from(instant: Instant) -> Deadline {
        Deadline { at: instant.into() }
    }
}

/// Converts what [`Context::deadline`](crate::Context::deadline) returns, so that a context can be
/// given the deadline of another one. `None` means no deadline.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use go_context::Context;
///
/// let bg = Context::background();
/// let (request, _cancel) = bg.with_timeout(Duration::from_secs(60));
/// let (audit, _cancel) = bg.with_deadline(request.deadline());
/// assert_eq!(audit.deadline(), request.deadline());
/// ```
impl From<Option<Instant>> for Deadline {
    fn from(instant: Option<Instant>) -> Deadline {
        let at = instant.map_or(Timestamp::NONE, Timestamp::from);
        Deadline { at }
    }
}

impl From<SystemTime> for Deadline {
    fn from(time: SystemTime) -> Deadline {
        match time.duration_since(SystemTime::now()) {
            Ok(ahead) => Deadline::after(ahead),
            Err(passed) => {
                let now = Instant::now();
                // If an `Instant` cannot represent that, any time that has passed will do.
                now.checked_sub(passed.duration()).unwrap_or(now).into()
            }
        }
    }
}
