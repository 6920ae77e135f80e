//! The reference profile of a model version, taken from rows; and what a row of scores answers.

use crate::rows::{Rows, Truth};
use shoal_proto::baseline::{Baseline, FeatureBaseline, JointBaseline, PredictionBaseline, RhythmBaseline};
use shoal_proto::manifest::{Manifest, OutputKind};
use shoal_watch::answer::{Groups, of_classes, of_values, probabilities};
use shoal_watch::joint;
use shoal_watch::sequential::spacing;

/// What a classifier's scores say: the class, and its probability.
///
/// One score of two classes is that of the second. Scores that are not numbers never win; when none is
/// one, the answer is class 0 with confidence 0. Values of a regression answer nothing.
#[must_use]
pub fn answer(kind: OutputKind, scores: &[f32]) -> Option<(u32, f32)> {
    let is_logits = match kind {
        OutputKind::Logits => true,
        OutputKind::Probabilities => false,
        OutputKind::Values => return None,
    };
    if let [score] = *scores {
        let second = if is_logits { 1.0 / (1.0 + (-score).exp()) } else { score };
        return Some(if second >= 0.5 { (1, second) } else { (0, zero_if_nan(1.0 - second)) });
    }
    let (mut class, mut best) = (0, f32::NEG_INFINITY);
    for (index, score) in (0..).zip(scores) {
        if *score > best {
            (class, best) = (index, *score);
        }
    }
    let confidence = if is_logits {
        1.0 / scores.iter().filter(|score| !score.is_nan()).map(|score| (score - best).exp()).sum::<f32>()
    } else {
        best
    };
    Some((class, if best.is_finite() { zero_if_nan(confidence) } else { 0.0 }))
}

fn zero_if_nan(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value }
}

/// What the order of rows means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The order in which they came.
    Time,
    /// None: they were shuffled, or sorted by something.
    None,
}

/// Keeps the projection of all features together from being drawn as anything else is.
const JOINT_SEED: u64 = 0x6a6f_696e_7473_6561;

/// The profile of rows, row-major. Features are profiled as the f32 that a model is given, so that a
/// live value equal to an edge falls on the same side of it.
#[must_use]
pub fn baseline(
    width: usize,
    features: &[f32],
    order: Order,
    predictions: Option<PredictionBaseline>,
) -> Baseline {
    let column = |index: usize| features.iter().skip(index).step_by(width.max(1)).map(|v| f64::from(*v));
    let profile = |index: usize| {
        let profile = FeatureBaseline::of(column(index));
        match order {
            Order::None => profile.without_order(),
            Order::Time => {
                let spacing = spacing(&column(index).collect::<Vec<_>>());
                FeatureBaseline { spacing, ..profile }
            }
        }
    };
    let rows = || features.chunks_exact(width.max(1));
    Baseline {
        rows: features.len().checked_div(width).unwrap_or(0) as u64,
        features: (0..width).map(profile).collect(),
        predictions,
        rhythm: (order == Order::Time && width > 0).then(|| RhythmBaseline::of(rows())),
        joint: joint::fit(features, width, JOINT_SEED, joint::Parts::default()).ok(), // too few rows: none
        ..Baseline::default()
    }
}

/// The profile of what a model's last layer read of rows, `width` numbers each. `None` of too few rows, or of
/// too many numbers.
#[must_use]
pub fn embedding(width: usize, values: &[f32]) -> Option<JointBaseline> {
    joint::fit(values, width, JOINT_SEED, joint::Parts::default()).ok()
}

/// The profile of a version's answers to rows that it was not trained on: `scores` are its outputs,
/// row-major, as many for each row as of the next. `None` of a model with several values.
#[must_use]
pub fn predictions(manifest: &Manifest, rows: &Rows, scores: &[f32]) -> Option<PredictionBaseline> {
    let width = scores.len().checked_div(rows.len()).filter(|width| *width > 0)?;
    match rows.truth() {
        Truth::Values(truth) if width == 1 => Some(of_values(scores, truth, rows.features(), rows.width())),
        Truth::Values(_) => None,
        Truth::Classes(truth) => {
            let (kind, temperature) = (manifest.output.kind, manifest.output.temperature.unwrap_or(1.0));
            let (mut raw, mut shares, mut row_shares) = (Vec::new(), Vec::new(), Vec::new());
            for scores in scores.chunks_exact(width) {
                raw.push(answer(kind, scores)?);
                probabilities(kind, temperature, scores, &mut row_shares);
                shares.extend_from_slice(&row_shares);
            }
            let groups = Groups::new(manifest, &[]);
            let codes: Vec<_> =
                rows.features().chunks_exact(rows.width().max(1)).map(|row| groups.codes(row)).collect();
            Some(of_classes(manifest.output.classes.len(), &raw, &shares, truth, &groups, &codes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_answer_with_class_and_probability() {
        use OutputKind::{Logits, Probabilities, Values};
        for (kind, scores, expected) in [
            (Probabilities, vec![0.2, 0.7, 0.1], Some((1, 0.7))),
            (Logits, vec![0.0, 0.0], Some((0, 0.5))),
            (Logits, vec![1_000.0, 0.0, f32::NAN], Some((0, 1.0))),
            (Probabilities, vec![0.9], Some((1, 0.9))),
            (Probabilities, vec![0.25], Some((0, 0.75))),
            (Logits, vec![0.0], Some((1, 0.5))),
            (Probabilities, vec![f32::NAN, f32::NAN], Some((0, 0.0))),
            (Probabilities, vec![f32::NAN], Some((0, 0.0))),
            (Values, vec![3.0], None),
        ] {
            assert_eq!(answer(kind, &scores), expected, "{kind:?} {scores:?}");
        }
    }

    #[test]
    fn rows_are_profiled_by_column() {
        let rows = [1.0, 10.0, 2.0, f32::NAN, 3.0, 30.0];
        let profile = baseline(2, &rows, Order::Time, None);
        assert_eq!((profile.rows, profile.features.len()), (3, 2));
        assert_eq!((profile.features[1].missing, profile.features[1].max), (1, 30.0));
        assert_eq!(Baseline::parse(&profile.to_bytes()).unwrap(), profile);
        assert!(profile.rhythm.is_some() && baseline(2, &rows, Order::None, None).rhythm.is_none());
    }

    #[test]
    fn answers_are_profiled_as_they_are_served() {
        let manifest = Manifest::parse(include_str!("../../proto/testdata/v1/model.toml")).unwrap();
        let mut rows = Rows::none(2, true);
        for (row, class) in [([0.0, 1.0], 0), ([1.0, 1.0], 1), ([2.0, 0.0], 0)] {
            rows.push_class(&row, class);
        }
        let profile = predictions(&manifest, &rows, &[0.95, 0.05, 0.45, 0.55, 0.0, 1.0]).unwrap();
        assert_eq!((profile.labelled, profile.correct), (3, 2));
        assert_eq!((profile.counts[9], profile.counts[15], profile.counts[19]), (1, 1, 1));
        let reliable = profile.classes.unwrap().reliability;
        assert_eq!(reliable.bins.iter().map(|bin| bin.count).sum::<u64>(), 3);
    }
}
