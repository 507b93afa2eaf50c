//! Generated cases: the same in each run; more on request.

/// A small generator (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The generator with this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound.max(1) as u64) as usize
    }

    /// True in this percentage of calls.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.number() % 100 < percent
    }

    /// One of several, with equal probability.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// One of several, with these weights.
    pub fn weighted<'a, T>(&mut self, choices: &'a [(u64, T)]) -> &'a T {
        let total: u64 = choices.iter().map(|(weight, _)| weight).sum();
        let mut left = self.number() % total.max(1);
        for (weight, choice) in choices {
            if left < *weight {
                return choice;
            }
            left -= weight;
        }
        &choices[0].1
    }
}

/// The number of cases of a scenario: `usual`, or that of `LAB_CASES`.
pub fn cases(usual: usize) -> usize {
    std::env::var("LAB_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// The seed of a scenario's cases: `usual`, shifted by `LAB_SEED`.
pub fn seed(usual: u64) -> u64 {
    let moved = std::env::var("LAB_SEED").ok().and_then(|text| text.parse::<u64>().ok());
    usual.wrapping_add(moved.unwrap_or(0).wrapping_mul(0x1_0000))
}
