//! Each property on its seeds, and on many mutations of them: always the same ones.

use std::fs;
use std::path::Path;

use imactl_fuzz::PROPERTIES;

/// A small generator (SplitMix64), so that each run tries the same inputs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Changes a few bytes, cuts, repeats, inserts.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), random.next() as u8),
            2 => {
                let end = (at + random.below(16)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.extend(copy);
            }
            _ if bytes.is_empty() => bytes.push(random.next() as u8),
            3 => bytes[at] ^= 1 << random.below(8),
            4 => bytes[at] = [0, 0xff, 0x7f, 0x80, b'\n', b' '][random.below(6)],
            _ => bytes[at] = random.next() as u8,
        }
    }
}

#[test]
fn properties_hold_on_seeds_and_their_mutations() {
    for (name, property) in PROPERTIES {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let mut paths: Vec<_> =
            fs::read_dir(&seeds).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{name} has no seeds");
        let mut random = Random(1);
        for path in paths {
            let seed = fs::read(&path).unwrap();
            property(&seed);
            for _ in 0..2_000 {
                let mut bytes = seed.clone();
                mutate(&mut bytes, &mut random);
                property(&bytes);
            }
        }
    }
}
