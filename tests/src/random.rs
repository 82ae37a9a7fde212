//! splitmix64: small, and the same everywhere, so that a seed replays its run.

/// A stream of random numbers.
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    #[expect(
        clippy::should_implement_trait,
        reason = "a stream without an end is no iterator"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// The stream that belongs to these numbers, in their order, and to no others.
    #[must_use]
    pub fn of(parts: &[u64]) -> Self {
        let mut random = Self(0);
        for part in parts {
            random = Self(random.next() ^ part);
        }
        random
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// One of them; there must be one.
    pub fn pick<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        let index = usize::try_from(self.below(list.len() as u64)).expect("an index of a list");
        &list[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_run() {
        let draw = |seed| {
            let mut random = Random(seed);
            (0..5).map(|_| random.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn neighbouring_streams_are_strangers() {
        assert_eq!(Random::of(&[1, 2]).next(), Random::of(&[1, 2]).next());
        assert_ne!(Random::of(&[1, 2]).next(), Random::of(&[2, 1]).next());
        assert_ne!(Random::of(&[1, 2]).next(), Random::of(&[1, 2, 0]).next());
    }
}
