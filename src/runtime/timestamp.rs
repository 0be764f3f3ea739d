//! A moment as one number.

use std::time::{Duration, Instant};

use once_cell::sync::Lazy;

/// A moment in nanoseconds, or none, which comes after all others. It takes half the room of an
/// `Option<Instant>`.
///
/// It reaches 146 years back from the start of the process and 438 years ahead; a duration in Go
/// reaches 292 years both ways. A moment before that range counts as the earliest, and one after it
/// is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(pub(crate) u64);

/// The number that stands for `START`: a quarter of the range is for moments before it.
const ORIGIN: u64 = 1 << 62;

static START: Lazy<Instant> = Lazy::new(Instant::now);

impl Timestamp {
    pub(crate) const NONE: Timestamp = Timestamp(u64::MAX);

    #[inline]
    pub(crate) fn now() -> Timestamp {
        Instant::now().into()
    }

    #[inline(never)] // so that callers which seldom come here stay small
    pub(crate) fn has_passed(self) -> bool {
        self <= Timestamp::now()
    }

    /// Returns the moment a duration later.
    #[inline]
    pub(crate) fn saturating_add(self, duration: Duration) -> Timestamp {
        let nanos = duration.as_secs().checked_mul(1_000_000_000);
        let nanos = nanos.map_or(u64::MAX, |nanos| {
            nanos.saturating_add(duration.subsec_nanos().into())
        });
        Timestamp(self.0.saturating_add(nanos))
    }

    /// Returns how long this moment is after the other one, or zero.
    pub(crate) fn saturating_since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn instant(self) -> Option<Instant> {
        match self.0.checked_sub(ORIGIN) {
            _ if self == Timestamp::NONE => None,
            Some(ahead) => START.checked_add(Duration::from_nanos(ahead)),
            None => START.checked_sub(Duration::from_nanos(ORIGIN - self.0)),
        }
    }
}

impl From<Instant> for Timestamp {
    #[inline]
    fn from(at: Instant) -> Timestamp {
        let start = *START;
        match at.checked_duration_since(start) {
            Some(ahead) => Timestamp(ORIGIN).saturating_add(ahead),
            None => {
                let back = Timestamp(0).saturating_add(start - at);
                Timestamp(ORIGIN.saturating_sub(back.0))
            }
        }
    }
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    #[test]
    fn timestamp_keeps_instants_and_their_order() {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        let near = [
            now - hour,
            now,
            now + Duration::from_nanos(1),
            now + 400 * YEAR,
        ];
        for at in near {
            assert_eq!(Timestamp::from(at).instant(), Some(at));
        }
        assert!(near
            .windows(2)
            .all(|two| Timestamp::from(two[0]) < Timestamp::from(two[1])));
        assert!(Timestamp::from(near[3]) < Timestamp::NONE);
    }

    #[test]
    fn timestamp_out_of_range_is_none() {
        assert_eq!(
            Timestamp::from(Instant::now() + 500 * YEAR),
            Timestamp::NONE
        );
        assert_eq!(Timestamp::NONE.instant(), None);
    }
}
