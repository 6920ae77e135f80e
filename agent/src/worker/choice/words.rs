//! What a row's label is when several sources speak of it.

use super::super::samples::One;

/// A source decides against another when it weighs so many times as much.
pub(super) const CLEARLY: f64 = 2.0;

/// What comes of the words on a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Settled {
    /// Its label, and whose that is.
    Label { truth: One, source: u32 },
    /// Nobody who speaks of it has any weight.
    Weightless,
    /// Nobody weighs clearly more than those who disagree with him.
    Contradicted,
}

/// Settles what sources say, the last word at the end: the heaviest is right, and where it is contradicted, only
/// when it is clearly heavier. Values that differ by at most the tolerance are alike.
pub(super) fn settle(words: &[(u32, One)], weight: impl Fn(u32) -> f64, tolerance: f32) -> Settled {
    let heard = || words.iter().filter(|(source, _)| weight(*source) > 0.0);
    // Of those that weigh alike the last.
    let heaviest = heard().max_by(|(a, _), (b, _)| weight(*a).total_cmp(&weight(*b)));
    let Some((source, truth)) = heaviest.copied() else { return Settled::Weightless };
    let against = heard().filter(|(_, other)| truth.differs(*other, tolerance));
    let strongest = against.map(|(source, _)| weight(*source)).fold(0.0, f64::max);
    if strongest * CLEARLY > weight(source) {
        return Settled::Contradicted;
    }
    Settled::Label { truth, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clearly_heavier_word_counts() {
        let weight = |source: u32| [1.0, 1.0, 0.5, 0.4, 0.0][source as usize];
        let label = |class, source| Settled::Label { truth: One::Class(class), source };
        for (words, settled) in [
            (&[(0, 3)][..], label(3, 0)),
            (&[(4, 3)], Settled::Weightless),
            (&[], Settled::Weightless),
            (&[(0, 3), (1, 3)], label(3, 1)),
            (&[(0, 3), (1, 2)], Settled::Contradicted),
            (&[(0, 3), (2, 2)], label(3, 0)),
            (&[(2, 2), (3, 1)], Settled::Contradicted),
            (&[(2, 2), (0, 3), (3, 1)], label(3, 0)),
            (&[(0, 3), (4, 2)], label(3, 0)),
            (&[(0, 3), (2, 2), (1, 2)], Settled::Contradicted),
            (&[(0, 3), (2, 2), (1, 3)], label(3, 1)),
        ] {
            let words: Vec<(u32, One)> = words.iter().map(|(source, c)| (*source, One::Class(*c))).collect();
            assert_eq!(settle(&words, weight, 0.0), settled, "{words:?}");
        }
    }

    #[test]
    fn values_within_the_tolerance_are_alike() {
        let settle = |a, b| settle(&[(0, One::Value(a)), (1, One::Value(b))], |_| 1.0, 0.5);
        assert_eq!(settle(1.0, 1.5), Settled::Label { truth: One::Value(1.5), source: 1 });
        assert_eq!(settle(1.0, 1.6), Settled::Contradicted);
    }
}
