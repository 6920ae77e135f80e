//! A guard against a source whose labels are poisoned, or that has broken: its labels disagree with what was
//! answered far more than those of others do under like conditions.
//!
//! Like is compared with like: rows of the same quarter of the period, the same answered class and a like
//! confidence, so that neither a source that labels the hard rows (as active labelling asks for) nor one that only
//! came after a drift stands out by its choice of rows. The test is Cochran's (1954) and Mantel and Haenszel's
//! (1959) over these strata; sparse ones count for little, and those that only one side has for nothing.
//!
//! It cannot tell a liar from a source that only ever speaks when the answer was wrong. Such a one is to be given
//! twice the weight of the others: those whose word decides against all others anyway are not set apart.

use super::words::CLEARLY;
use std::collections::BTreeMap;

/// Labels on each side that can be compared, at least.
const MIN_LABELS: u64 = 30;
/// Standard errors: one in thirty thousand by chance, for what is asked of several sources in each run.
const LEAST_Z: f64 = 4.0;
/// Shares of disagreement that differ by less may be what sources are about.
const LEAST_DIFFERENCE: f64 = 0.15;
/// Parts of the period.
const PERIODS: usize = 4;
/// Bounds of the confidence of answers that are alike.
const CONFIDENCE: [f32; 4] = [0.5, 0.7, 0.9, 0.97];
/// Sources that are compared at most, those with most labels: the work is theirs times the strata.
const MAX_SOURCES: usize = 16;

/// A label beside its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) source: u32,
    /// What was answered.
    pub(super) class: u32,
    pub(super) confidence: f32,
    pub(super) disagrees: bool,
}

/// A source that stands out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct StandsOut {
    pub(super) source: u32,
    pub(super) labels: u64,
    pub(super) difference: f64,
    pub(super) z: f64,
}

/// Labels and disagreements.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    labels: u64,
    against: u64,
}

impl Cell {
    fn add(&mut self, labels: u64, against: u64) {
        self.labels += labels;
        self.against += against;
    }

    fn share(self) -> f64 {
        self.against as f64 / self.labels as f64
    }
}

/// The source that stands out most, of the labels of a period in the order of prediction; none where none does.
pub(super) fn worst(seen: &[Seen], weight: impl Fn(u32) -> f64) -> Option<StandsOut> {
    let mut strata: BTreeMap<(u32, usize, usize), BTreeMap<u32, Cell>> = BTreeMap::new();
    let mut labels: BTreeMap<u32, u64> = BTreeMap::new();
    for (place, one) in seen.iter().enumerate() {
        let bin = CONFIDENCE.iter().filter(|bound| one.confidence >= **bound).count();
        let stratum = (one.class, bin, place * PERIODS / seen.len().max(1));
        let cell = strata.entry(stratum).or_default().entry(one.source).or_default();
        cell.add(1, one.disagrees.into());
        *labels.entry(one.source).or_default() += 1;
    }
    let mut sources: Vec<(u64, u32)> = labels.iter().map(|(source, labels)| (*labels, *source)).collect();
    sources.retain(|(labels, _)| *labels >= MIN_LABELS);
    sources.sort_by_key(|(labels, source)| (std::cmp::Reverse(*labels), *source));
    sources.truncate(MAX_SOURCES);
    let all: Vec<u32> = sources.iter().map(|(_, source)| *source).collect();
    let decides = |source: u32| {
        let others = all.iter().filter(|other| **other != source).map(|other| weight(*other));
        weight(source) >= CLEARLY * others.fold(0.0, f64::max)
    };
    let judged = all.iter().filter(|source| !decides(**source));
    judged
        .filter_map(|source| compared(*source, strata.values()))
        .filter(|found| found.z > LEAST_Z && found.difference > LEAST_DIFFERENCE)
        .max_by(|a, b| a.z.total_cmp(&b.z))
}

/// A source against all others, over the strata that both have; `None` where they share too few labels.
fn compared<'a>(source: u32, strata: impl Iterator<Item = &'a BTreeMap<u32, Cell>>) -> Option<StandsOut> {
    let (mut mine, mut theirs) = (0, 0);
    let (mut beyond, mut variance, mut difference, mut weights) = (0.0, 0.0, 0.0, 0.0);
    for stratum in strata {
        let own = stratum.get(&source).copied().unwrap_or_default();
        let mut others = Cell::default();
        for (_, cell) in stratum.iter().filter(|(other, _)| **other != source) {
            others.add(cell.labels, cell.against);
        }
        if own.labels == 0 || others.labels == 0 {
            continue;
        }
        (mine, theirs) = (mine + own.labels, theirs + others.labels);
        let (n1, n2) = (own.labels as f64, others.labels as f64);
        let (all, against) = (n1 + n2, (own.against + others.against) as f64);
        beyond += own.against as f64 - n1 * against / all;
        variance += n1 * n2 * against * (all - against) / (all * all * (all - 1.0));
        difference += n1 * n2 / all * (own.share() - others.share());
        weights += n1 * n2 / all;
    }
    if mine < MIN_LABELS || theirs < MIN_LABELS || variance <= 0.0 {
        return None;
    }
    Some(StandsOut { source, labels: mine, difference: difference / weights, z: beyond / variance.sqrt() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    /// Labels of sources by turns: of each the share of lies, and whether it labels the hard rows only. The answer
    /// is wrong as often as its confidence says, and more by `drift` in the second half.
    fn stream(seed: u64, sources: &[(f64, bool)], drift: f64) -> Vec<Seen> {
        let mut rng = StdRng::seed_from_u64(seed);
        let one = |at: usize| {
            let source = rng.random_range(0..sources.len());
            let (lies, is_hard) = sources[source];
            let confidence: f32 =
                if is_hard { rng.random_range(0.4..0.7) } else { rng.random_range(0.4..1.0) };
            let more = if at >= 500 { drift } else { 0.0 };
            let wrong = rng.random_bool((1.0 - f64::from(confidence) + more).min(1.0));
            let disagrees = wrong != rng.random_bool(lies);
            Seen {
                source: u32::try_from(source).unwrap(),
                class: u32::from(at.is_multiple_of(3)),
                confidence,
                disagrees,
            }
        };
        (0..1_000).map(one).collect()
    }

    #[test]
    fn liars_are_found_and_honest_sources_are_not() {
        let found = |sources: &[(f64, bool)], drift: f64| -> Vec<Option<u32>> {
            let worst = |seed| worst(&stream(seed, sources, drift), |_| 1.0).map(|found| found.source);
            (0..20).map(worst).collect()
        };
        for drift in [0.0, 0.3] {
            let honest = found(&[(0.0, false), (0.0, true), (0.0, false)], drift);
            assert_eq!(honest, [None; 20], "one labels the hard rows; drift {drift}");
        }
        let liar = found(&[(0.0, false), (0.6, false), (0.02, true)], 0.0);
        let found_it = liar.iter().filter(|found| **found == Some(1)).count();
        assert!(
            found_it >= 17 && liar.iter().all(|found| found.is_none_or(|source| source == 1)),
            "{liar:?}"
        );
        let few = found(&[(0.0, false), (0.1, false)], 0.0);
        assert_eq!(few, [None; 20], "what differs little is left");
    }

    #[test]
    fn too_few_labels_or_more_weight_are_not_judged() {
        let seen = stream(1, &[(0.0, false), (0.9, false)], 0.0);
        assert!(worst(&seen, |_| 1.0).is_some_and(|found| found.source == 1 && found.difference > 0.3));
        assert_eq!(worst(&seen, |source| if source == 1 { 1.0 } else { 0.5 }), None);
        assert_eq!(worst(&seen[..50], |_| 1.0), None);
        let alone: Vec<Seen> = seen.into_iter().filter(|one| one.source == 1).collect();
        assert_eq!(worst(&alone, |_| 1.0), None);
        assert_eq!(worst(&[], |_| 1.0), None);
    }
}
