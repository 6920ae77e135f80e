//! Whether a group of rows is treated worse than the others: demographic parity before labels, equal
//! opportunity and equalized odds with them.
//!
//! A test holds one part of a group against all its others. It asks whether the difference of their rates has
//! grown since the package was made, since a model that was packed with one is not drifting by keeping it; where
//! the manifest sets `max_difference` it asks whether the difference is greater than that, whatever it was.

use super::interval::{Measured, above, difference, in_errors};
use super::judge::{Material, WindowTest};
use super::performance::Performance;
use super::reference::AnswerReference;
use super::window::AnswerWindow;
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::PartBaseline;
use shoal_proto::finding::Monitor;

/// Rows of a part below which nothing is said of it.
pub const MIN_PART: u64 = 100;
/// Rows of a part that a rate must be over: of those truly favourable for the rate of favourable answers to
/// them.
const MIN_RATE: u64 = 30;
/// A part whose rate is below this share of another's is treated worse by the rule of the US Equal Employment
/// Opportunity Commission.
pub const FOUR_FIFTHS: f64 = 0.8;
/// How far a difference of rates must have grown since the package was made.
const GROWN: Material = Material { warning: 0.05, drift: 0.10 };
/// Of a difference beyond the manifest's, any is enough.
const BEYOND: Material = Material { warning: 0.0, drift: 0.0 };

/// One group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupReport {
    /// Its name.
    pub name: String,
    /// Its parts.
    pub parts: Vec<PartReport>,
    /// Rates of the favourable answer: demographic parity.
    pub parity: Option<Contrast>,
    /// Rates of the favourable answer to rows that truly are: equal opportunity.
    pub opportunity: Option<Contrast>,
    /// Rates of the favourable answer to rows that are not.
    pub fall_out: Option<Contrast>,
    /// The greater of the two differences: equalized odds.
    pub odds: Option<Measured>,
    /// What parity was at packing.
    pub packed_parity: Option<f64>,
    /// What equal opportunity was at packing.
    pub packed_opportunity: Option<f64>,
}

/// One part of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartReport {
    /// What people call it: `age < 30`.
    pub name: String,
    /// Rows, or labels.
    pub rows: u64,
    /// Fewer than [`MIN_PART`]: its rates are shown and compared with nothing.
    pub too_few: bool,
    /// Share given the favourable answer.
    pub favoured: Option<Measured>,
    /// The same among rows that truly are favourable; without labels what confidence promises, and then
    /// without an interval.
    pub recall: Option<Measured>,
    /// The same among rows that are not.
    pub fall_out: Option<Measured>,
    /// Share of right answers.
    pub accuracy: Option<Measured>,
}

/// The parts with the greatest and the least rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Contrast {
    /// The part with the greatest rate.
    pub most: usize,
    /// The part with the least.
    pub least: usize,
    /// Their difference. The interval (Newcombe) is of these two parts; since they were chosen for being
    /// farthest apart, it is a little too far out where there are many parts.
    pub difference: Measured,
    /// Least over greatest; `None` where the greatest is nought.
    pub ratio: Option<f64>,
}

impl Contrast {
    /// Whether the rule of four fifths is broken.
    #[must_use]
    pub fn breaks_four_fifths(&self) -> bool {
        self.ratio.is_some_and(|ratio| ratio < FOUR_FIFTHS)
    }
}

/// A rate of a part: (hits, of).
type Rate = fn(&PartBaseline) -> (u64, u64);

fn favoured(part: &PartBaseline) -> (u64, u64) {
    (part.favoured, part.rows)
}

fn recall(part: &PartBaseline) -> (u64, u64) {
    (part.both, part.deserving)
}

fn fall_out(part: &PartBaseline) -> (u64, u64) {
    (part.favoured.saturating_sub(part.both), part.rows.saturating_sub(part.deserving))
}

/// The groups by labels.
#[must_use]
pub fn of_labels(labels: &Performance, reference: &AnswerReference) -> Vec<GroupReport> {
    let one = |group: usize, parts: &[PartBaseline]| {
        let report = |(index, part): (usize, &PartBaseline)| PartReport {
            name: reference.groups().part_name(group, index),
            rows: part.rows,
            too_few: part.rows < MIN_PART,
            favoured: rate(favoured(part)),
            recall: rate(recall(part)),
            fall_out: rate(fall_out(part)),
            accuracy: Measured::rate(part.correct, part.rows),
        };
        let (opportunity, fall_out) = (contrast(parts, recall), contrast(parts, fall_out));
        let odds = [opportunity, fall_out].into_iter().flatten().map(|found| found.difference);
        GroupReport {
            name: String::new(),
            parts: parts.iter().enumerate().map(report).collect(),
            parity: contrast(parts, favoured),
            opportunity,
            fall_out,
            odds: odds.max_by(|a, b| a.value.total_cmp(&b.value)),
            packed_parity: None,
            packed_opportunity: None,
        }
    };
    each(reference, &labels.parts, one)
}

/// The groups by answers alone: parity, and rates that confidence promises.
#[must_use]
pub fn of_answers(window: &AnswerWindow, reference: &AnswerReference) -> Vec<GroupReport> {
    let counted = counts(window);
    let mut reports = each(reference, &counted, |group, parts| GroupReport {
        name: String::new(),
        parts: parts
            .iter()
            .enumerate()
            .map(|(index, part)| PartReport {
                name: reference.groups().part_name(group, index),
                rows: part.rows,
                too_few: part.rows < MIN_PART,
                favoured: rate(favoured(part)),
                recall: None,
                fall_out: None,
                accuracy: None,
            })
            .collect(),
        parity: contrast(parts, favoured),
        opportunity: None,
        fall_out: None,
        odds: None,
        packed_parity: None,
        packed_opportunity: None,
    });
    let parts = reports.iter_mut().flat_map(|report| &mut report.parts);
    for (report, tally) in parts.zip(&window.parts) {
        let (hits, mass, rows) = (tally.hits.value(), tally.mass.value(), tally.rows as f64);
        let share = |hits: f64, of: f64| {
            (of >= 1.0).then(|| Measured::bare((hits / of).clamp(0.0, 1.0), tally.rows)).flatten()
        };
        report.recall = share(hits, mass);
        report.fall_out = share(tally.favoured as f64 - hits, rows - mass);
    }
    reports
}

fn counts(window: &AnswerWindow) -> Vec<PartBaseline> {
    let part = window.parts.iter().map(|tally| PartBaseline {
        rows: tally.rows,
        favoured: tally.favoured,
        ..PartBaseline::default()
    });
    part.collect()
}

fn each(
    reference: &AnswerReference,
    parts: &[PartBaseline],
    one: impl Fn(usize, &[PartBaseline]) -> GroupReport,
) -> Vec<GroupReport> {
    let rules = reference.groups().rules().iter().enumerate();
    let reports = rules.filter_map(|(group, rule)| {
        let parts = parts.get(rule.start..rule.start + rule.parts)?;
        let packed = |of: Rate| {
            let known = rule.reference.as_ref()?;
            contrast(known, of).map(|found| found.difference.value)
        };
        Some(GroupReport {
            name: rule.group.name.clone(),
            packed_parity: packed(favoured),
            packed_opportunity: packed(recall),
            ..one(group, parts)
        })
    });
    reports.collect()
}

fn rate((hits, of): (u64, u64)) -> Option<Measured> {
    Measured::rate(hits, of)
}

fn contrast(parts: &[PartBaseline], of: Rate) -> Option<Contrast> {
    let share = |(_, (hits, of)): &(usize, (u64, u64))| *hits as f64 / (*of).max(1) as f64;
    let known: Vec<(usize, (u64, u64))> = parts
        .iter()
        .enumerate()
        .filter(|(_, part)| part.rows >= MIN_PART && of(part).1 >= MIN_RATE)
        .map(|(index, part)| (index, of(part)))
        .collect();
    let most = known.iter().max_by(|a, b| share(a).total_cmp(&share(b)))?;
    let least = known.iter().min_by(|a, b| share(a).total_cmp(&share(b)))?;
    if known.len() < 2 {
        return None;
    }
    let ratio = (share(most) > 0.0).then(|| share(least) / share(most));
    Some(Contrast { most: most.0, least: least.0, difference: Measured::difference(most.1, least.1)?, ratio })
}

/// Rates of the favourable answer, part against all others.
pub(super) fn parity_tests(window: &AnswerWindow, reference: &AnswerReference) -> Vec<WindowTest> {
    tests(Monitor::Parity, &counts(window), reference, &[favoured])
}

/// Rates of the favourable answer to rows that are and that are not.
pub(super) fn opportunity_tests(labels: &Performance, reference: &AnswerReference) -> Vec<WindowTest> {
    tests(Monitor::Opportunity, &labels.parts, reference, &[recall, fall_out])
}

fn tests(
    monitor: Monitor,
    parts: &[PartBaseline],
    reference: &AnswerReference,
    rates: &[Rate],
) -> Vec<WindowTest> {
    let mut found = Vec::new();
    for (group, rule) in reference.groups().rules().iter().enumerate() {
        let Some(now) = parts.get(rule.start..rule.start + rule.parts) else { continue };
        let before = rule.reference.as_deref();
        for of in rates {
            // The two parts of a pair say the same, mirrored: one test of them is enough.
            let parts = if rule.parts == 2 { 1 } else { rule.parts };
            found.extend((0..parts).filter_map(|part| {
                let test = one(now, before, part, *of, rule.group.max_difference)?;
                let behind = usize::from(rule.parts == 2 && test.statistic > 0.0);
                Some(WindowTest { monitor, part: Some((group, part + behind)), ..test })
            }));
        }
    }
    found
}

/// One part against all others; `None` with too few rows, or with nothing to hold it against.
fn one(
    now: &[PartBaseline],
    before: Option<&[PartBaseline]>,
    part: usize,
    of: Rate,
    most: Option<f64>,
) -> Option<WindowTest> {
    let (mine, others) = split(now, part, of)?;
    let (gap, variance) = difference(mine, others);
    let (statistic, monitor) = (gap, Monitor::Parity);
    if let Some(most) = most {
        let effect = gap.abs() - most;
        let p = above(in_errors(effect, variance));
        return Some(WindowTest { monitor, part: None, p, statistic, effect, material: BEYOND });
    }
    let (mine, others) = split(before?, part, of)?;
    let (packed, packed_variance) = difference(mine, others);
    // Two-sided, since a part may fall behind or get ahead; a difference that shrank is no finding.
    let z = in_errors(gap - packed, variance + packed_variance);
    let effect = gap.abs() - packed.abs();
    let p = if effect > 0.0 { (2.0 * above(z.abs())).min(1.0) } else { 1.0 };
    Some(WindowTest { monitor, part: None, p, statistic, effect, material: GROWN })
}

type Pair = ((u64, u64), (u64, u64));

fn split(parts: &[PartBaseline], part: usize, of: Rate) -> Option<Pair> {
    let mine = parts.get(part)?;
    let rest = parts.iter().enumerate().filter(|(index, _)| *index != part);
    let (mut rows, mut others) = (0, (0, 0));
    for (_, other) in rest {
        let (hits, all) = of(other);
        rows += other.rows;
        others = (others.0 + hits, others.1 + all);
    }
    let enough = mine.rows.min(rows) >= MIN_PART && of(mine).1.min(others.1) >= MIN_RATE;
    enough.then(|| (of(mine), others))
}
