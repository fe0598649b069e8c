//! Chance from a seed: the same seed, the same numbers, on every machine and in every build.

use std::time::Duration;

/// A stream of numbers (splitmix64: a counter whose bits are well stirred). Good enough for dice, not for secrets.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance { state: seed }
    }

    /// A stream of its own for one purpose, so that a number more drawn here changes nothing there.
    pub fn branch(&self, purpose: u64) -> Chance {
        Chance { state: stir(self.state ^ stir(purpose.wrapping_add(STEP))) }
    }

    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        stir(self.state)
    }

    /// A number below `n`; 0 where `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        // The high half of the product: every number is as likely as the next, but for one in 2^64 / n.
        ((u128::from(self.draw()) * u128::from(n)) >> 64) as u64
    }

    /// A place in a list of so many; 0 where it is empty.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A time from `low` to `high`.
    pub fn time(&mut self, low: Duration, high: Duration) -> Duration {
        let span = high.saturating_sub(low).as_nanos().min(u128::from(u64::MAX)) as u64;
        low + Duration::from_nanos(self.within(0, span))
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of them; `None` where there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.index(from.len()))
    }

    /// Puts them in another order.
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.index(i + 1));
        }
    }
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn stir(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed| {
            let mut chance = Chance::new(seed);
            [chance.draw(), chance.draw(), chance.draw()]
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        // The reference values of splitmix64 for the seed 1234567.
        assert_eq!(numbers(1234567)[..2], [6457827717110365317, 3203168211198807973]);
    }

    #[test]
    fn numbers_keep_their_bounds_and_reach_them() {
        let mut chance = Chance::new(1);
        let mut seen = [0; 6];
        for _ in 0..6000 {
            seen[chance.within(0, 5) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
        assert_eq!(chance.below(0), 0);
        assert_eq!(chance.within(3, 3), 3);
        assert_eq!(chance.pick::<u8>(&[]), None);
        let time = chance.time(Duration::from_secs(1), Duration::from_secs(2));
        assert!((1.0..=2.0).contains(&time.as_secs_f64()));
    }

    #[test]
    fn branches_are_streams_of_their_own() {
        let chance = Chance::new(1);
        assert_ne!(chance.branch(0).draw(), chance.branch(1).draw());
        assert_ne!(chance.branch(0).draw(), chance.clone().draw());
    }

    #[test]
    fn a_shuffle_keeps_what_is_there() {
        let mut all: Vec<u32> = (0..20).collect();
        Chance::new(3).shuffle(&mut all);
        assert_ne!(all, (0..20).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>());
    }
}
