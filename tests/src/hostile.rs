//! Files that were made to hurt: written by hand, and good ones changed by a seed.
//!
//! A file of the corpus is known by the seed and its number alone.

mod computed;
pub mod craft;
mod encoding;
mod gauntlet;
mod mutate;
mod nodes;
mod package;
mod seeds;
mod trees;
mod walk;

pub use gauntlet::{Fate, Gauntlet, Stop};
pub use package::package;
pub use seeds::Seeds;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// What must become of a file made by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The pre-check refuses it, with this word.
    PreCheck(&'static str),
    /// It is not admitted; who stops it does not matter.
    NotAdmitted,
    /// It may pass, as long as it hurts nobody.
    Anything,
}

/// A file made by hand.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is wrong with it.
    pub name: &'static str,
    /// What must become of it.
    pub expect: Expect,
    /// The file.
    pub bytes: Vec<u8>,
}

/// All files made by hand.
#[must_use]
pub fn handmade() -> Vec<Case> {
    let mut cases = Vec::new();
    for group in [encoding::cases(), nodes::cases(), computed::cases(), trees::cases()] {
        cases.extend(group.into_iter().map(|(name, expect, bytes)| Case { name, expect, bytes }));
    }
    cases
}

/// The files of a seed: first those made by hand, then changed ones.
#[derive(Debug)]
pub struct Corpus {
    seed: u64,
    handmade: Vec<Case>,
    seeds: Seeds,
}

/// A file of the corpus.
#[derive(Debug, Clone)]
pub struct Hostile {
    /// What was done, and to what.
    pub name: String,
    /// What must become of it.
    pub expect: Expect,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Corpus {
    /// The corpus of a seed over these good files.
    #[must_use]
    pub fn new(seed: u64, seeds: Seeds) -> Self {
        Self { seed, handmade: handmade(), seeds }
    }

    /// Files made by hand.
    #[must_use]
    pub fn handmade(&self) -> usize {
        self.handmade.len()
    }

    /// The good files.
    #[must_use]
    pub fn seeds(&self) -> &Seeds {
        &self.seeds
    }

    /// The file of this number.
    #[must_use]
    pub fn file(&self, number: usize) -> Hostile {
        if let Some(Case { name, expect, bytes }) = self.handmade.get(number) {
            return Hostile { name: (*name).to_owned(), expect: *expect, bytes: bytes.clone() };
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(number as u64);
        let files = self.seeds.files();
        let (name, bytes) = &files[rng.random_range(0..files.len())];
        let (_, other) = &files[rng.random_range(0..files.len())];
        let (way, bytes) = mutate::mutate(&mut rng, bytes, other);
        Hostile { name: format!("{name} {way}"), expect: Expect::Anything, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_seed_and_number() {
        let corpus = |seed| Corpus::new(seed, Seeds::find());
        let (one, same, other) = (corpus(1), corpus(1), corpus(2));
        let mut differ = 0;
        for number in one.handmade()..one.handmade() + 60 {
            assert_eq!(one.file(number).bytes, same.file(number).bytes);
            differ += usize::from(one.file(number).bytes != other.file(number).bytes);
        }
        assert!(differ > 50, "{differ} of 60");
        let mut names: Vec<_> = handmade().iter().map(|case| case.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "two cases have one name");
    }
}
