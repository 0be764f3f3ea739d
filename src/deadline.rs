//! A point in time, given by either clock.

use std::time::{Duration, Instant, SystemTime};

/// A point in time for [`Context::with_deadline`](crate::Context::with_deadline), made from an
/// [`Instant`] or a [`SystemTime`].
///
/// A `SystemTime` is turned into the `Instant` that is as far from now, so a clock that is set
/// later does not move the deadline. One that has passed, also long before the epoch, is a deadline
/// that has passed; one too far ahead for an `Instant` is no deadline at all.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant, SystemTime};
/// use go_context::{Context, Error};
///
/// let bg = Context::background();
/// let (ctx, _cancel) = bg.with_deadline(Instant::now() + Duration::from_secs(60));
/// assert!(ctx.err().is_none());
///
/// let (ctx, _cancel) = bg.with_deadline(SystemTime::UNIX_EPOCH);
/// assert_eq!(ctx.err(), Some(Error::DeadlineExceeded));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// `timeout` from now.
    #[inline]
    pub(crate) fn after(timeout: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(timeout))
    }

    /// The deadline as an `Instant`; `None` where it is further off than one can tell.
    pub(crate) fn instant(self) -> Option<Instant> {
        self.0
    }
}

impl From<Instant> for Deadline {
    fn from(instant: Instant) -> Deadline {
        Deadline(Some(instant))
    }
}

impl From<SystemTime> for Deadline {
    fn from(time: SystemTime) -> Deadline {
        match time.duration_since(SystemTime::now()) {
            Ok(ahead) => Deadline::after(ahead),
            Err(passed) => {
                let now = Instant::now();
                // Further back than an `Instant` reaches, any that has passed will do.
                Deadline(Some(now.checked_sub(passed.duration()).unwrap_or(now)))
            }
        }
    }
}
