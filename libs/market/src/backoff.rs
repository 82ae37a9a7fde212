//! Full-jitter backoff: a random wait between nothing and an exponentially growing cap, so that
//! callers that failed together do not come back together.

use std::time::Duration;

/// The cap before the jitter: `base` doubled per earlier failure, never above `cap`.
pub(crate) fn ceiling(base: Duration, cap: Duration, failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    base.saturating_mul(factor).min(cap)
}

/// A wait for the attempt after `failures` (counted from 0) earlier failures.
pub(crate) fn full_jitter(base: Duration, cap: Duration, failures: u32) -> Duration {
    let millis = u64::try_from(ceiling(base, cap, failures).as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(rand::random_range(0..=millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let ms = Duration::from_millis;
        let ceilings: Vec<_> = (0..6).map(|n| ceiling(ms(200), ms(3_000), n)).collect();
        assert_eq!(ceilings, [200, 400, 800, 1_600, 3_000, 3_000].map(ms));
        assert_eq!(ceiling(ms(200), ms(3_000), 900), ms(3_000), "no overflow");
    }
}
