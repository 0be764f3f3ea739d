//! A duration in a few bits: a count, and its unit in the last two.

use std::time::Duration;

/// The units in nanoseconds.
const UNITS: [u64; 4] = [1, 1_000, 1_000_000, 1_000_000_000];

/// Returns a duration in so many bits, in the smallest unit that is large enough. With 32 bits these are
/// nanoseconds up to a second, microseconds up to 17 minutes, milliseconds up to 12 days, and seconds. The
/// four largest numbers are not used.
#[inline]
pub(crate) fn round(duration: Duration, bits: u32) -> u32 {
    let most = (1 << (bits - 2)) - 2;
    let nanos = duration.as_secs().saturating_mul(UNITS[3]);
    let nanos = nanos.saturating_add(duration.subsec_nanos().into());
    let (mut index, mut count) = (0, nanos);
    while count > most && index < 3 {
        index += 1;
        count = (nanos / UNITS[index]) + u64::from(nanos % UNITS[index] >= UNITS[index] / 2);
    }
    (count.min(most) as u32) << 2 | index as u32
}

pub(crate) fn from_rounded(number: u32) -> Duration {
    let (count, unit) = (u64::from(number >> 2), UNITS[number as usize & 3]);
    Duration::from_nanos(count.saturating_mul(unit))
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    #[test]
    fn round_takes_the_smallest_unit() {
        let exact = [
            (Duration::ZERO, 32),
            (Duration::from_nanos(1), 32),
            (Duration::from_nanos(999_999_999), 32),
            (Duration::from_micros(1_000_000_001), 32),
            (Duration::from_millis(1_000_000_001), 32),
            (Duration::from_secs(1_000_000_001), 32),
            (Duration::from_nanos(4_000_001), 24),
            (Duration::from_micros(4_000_001), 24),
            (Duration::from_millis(4_000_001), 24),
        ];
        for (duration, bits) in exact {
            let number = round(duration, bits);
            assert_eq!(from_rounded(number), duration);
            assert!(bits == 32 || number < 1 << bits);
        }
    }

    #[test]
    fn round_rounds_and_saturates() {
        let cases = [
            (
                Duration::from_nanos(2_000_000_499),
                32,
                Duration::from_secs(2),
            ),
            (
                Duration::from_nanos(2_000_000_500),
                32,
                Duration::from_micros(2_000_001),
            ),
            (Duration::MAX, 32, Duration::from_secs((1 << 30) - 2)),
            (Duration::MAX, 24, Duration::from_secs((1 << 22) - 2)),
        ];
        for (duration, bits, rounded) in cases {
            assert_eq!(from_rounded(round(duration, bits)), rounded);
        }
    }
}
