//! Reproducible random inputs: a seed determines an input, and a run uses a series of seeds.
//!
//! `IMACTL_DIFF_CASES` is the number of inputs, `IMACTL_DIFF_SECONDS` a time limit instead of it,
//! `IMACTL_DIFF_SEED` the first seed. A failure prints its seed; with one case, this reproduces it.

use std::time::{Duration, Instant};

/// A small generator (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// The seeds of a run: `cases` of them, unless the environment overrides it.
pub fn seeds(cases: u64) -> impl Iterator<Item = u64> {
    let setting = |name: &str| std::env::var(name).ok().map(|value| value.parse().expect(name));
    let first: u64 = setting("IMACTL_DIFF_SEED").unwrap_or(1);
    let seconds = setting("IMACTL_DIFF_SECONDS").map(Duration::from_secs);
    let cases =
        setting("IMACTL_DIFF_CASES").unwrap_or(if seconds.is_some() { u64::MAX } else { cases });
    let start = Instant::now();
    let in_time = move |_: &u64| seconds.map_or(true, |seconds| start.elapsed() < seconds);
    (first..first.saturating_add(cases)).take_while(in_time)
}
