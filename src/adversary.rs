//! Shared code of the tests that damage files at random. Those tests are next to the code whose files they damage,
//! in files of this name.
//!
//! `make adversary` runs many more rounds than `make test`; `SALTGATE_ADVERSARY_SEED` repeats a run.

/// How many rounds to run, and the seed of the random numbers.
pub(crate) fn rounds_and_seed(usual: u64) -> (u64, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("SALTGATE_ADVERSARY_ROUNDS").unwrap_or(usual);
    let seed = number("SALTGATE_ADVERSARY_SEED").unwrap_or_else(|| getrandom::u64().unwrap());
    println!("SALTGATE_ADVERSARY_SEED={seed} SALTGATE_ADVERSARY_ROUNDS={rounds}");
    (rounds, seed)
}

/// A directory in memory if there is one, so that syncs are fast; syncing has the same effect there.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// SplitMix64: the same numbers for the same seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize]
    }

    /// A number below this one, for an index.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.roll(end.max(1) as u64) as usize
    }
}

/// The damage to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    Bits,
    Overwrite,
    Cut,
}

pub(crate) const DAMAGES: [Damage; 3] = [Damage::Bits, Damage::Overwrite, Damage::Cut];

impl Damage {
    pub(crate) fn to(self, bytes: &mut Vec<u8>, dice: &mut Dice) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Bits => {
                for _ in 0..=dice.roll(3) {
                    let at = dice.below(bytes.len());
                    bytes[at] ^= 1 << dice.roll(8);
                }
            }
            Self::Overwrite => {
                let (at, length, with) = (dice.below(bytes.len()), 1 + dice.below(200), dice.pick(&[0, 0xff, b'A']));
                let end = bytes.len().min(at + length);
                bytes[at..end].fill(with);
            }
            Self::Cut => bytes.truncate(dice.below(bytes.len())),
        }
    }
}
