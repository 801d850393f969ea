//! Delays that grow: doubling from a first delay to a ceiling, with the jitter passed in so that the core stays pure.

use std::time::Duration;

/// The ceiling of attempt `n` (from 0): `first` doubled `n` times, at most `most`.
#[must_use]
pub fn ceiling(first: Duration, most: Duration, n: u32) -> Duration {
    first.checked_mul(1_u32.checked_shl(n).unwrap_or(u32::MAX)).unwrap_or(most).min(most)
}

/// Full jitter: a uniform part of the ceiling. `random` is uniform over all of `u32`.
#[must_use]
pub fn full_jitter(ceiling: Duration, random: u32) -> Duration {
    ceiling.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_ceiling() {
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(60));
        let seen: Vec<u64> = (0..8).map(|n| ceiling(first, most, n).as_secs()).collect();
        assert_eq!(seen, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(ceiling(first, most, 400), most);
        assert_eq!(full_jitter(most, 0), Duration::ZERO);
        assert_eq!(full_jitter(most, u32::MAX), most);
    }
}
