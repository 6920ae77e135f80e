//! The reference profile of a model version, taken from rows; and what a row of scores answers.

use crate::watch::prediction_cell;
use shoal_proto::baseline::{Baseline, CONFIDENCE_BINS, FeatureBaseline, PredictionBaseline};
use shoal_proto::manifest::OutputKind;

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

/// The profile of rows, row-major. Features are profiled as the f32 that a model is given, so that a
/// live value equal to an edge falls on the same side of it.
#[must_use]
pub fn baseline(width: usize, features: &[f32], predictions: Option<PredictionBaseline>) -> Baseline {
    let column = |index: usize| features.iter().skip(index).step_by(width.max(1)).map(|v| f64::from(*v));
    Baseline {
        rows: features.len().checked_div(width).unwrap_or(0) as u64,
        features: (0..width).map(|index| FeatureBaseline::of(column(index))).collect(),
        predictions,
        ..Baseline::default()
    }
}

/// The profile of a classifier's answers to rows that it was not trained on, with the true classes.
#[must_use]
pub fn predictions(
    classes: usize,
    answers: impl IntoIterator<Item = (u32, f32)>,
    truth: &[u32],
) -> PredictionBaseline {
    let mut profile =
        PredictionBaseline { counts: vec![0; classes * CONFIDENCE_BINS], ..PredictionBaseline::default() };
    for ((class, confidence), truth) in answers.into_iter().zip(truth) {
        if let Some(cell) = profile.counts.get_mut(prediction_cell(class, confidence)) {
            *cell += 1;
        }
        profile.labelled += 1;
        profile.correct += u64::from(class == *truth);
    }
    profile
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
        let profile = baseline(2, &rows, Some(predictions(2, [(0, 0.95), (1, 0.5), (1, 1.0)], &[0, 1, 0])));
        assert_eq!((profile.rows, profile.features.len()), (3, 2));
        assert_eq!((profile.features[1].missing, profile.features[1].max), (1, 30.0));
        let predicted = profile.predictions.clone().unwrap();
        assert_eq!((predicted.labelled, predicted.correct), (3, 2));
        assert_eq!((predicted.counts[9], predicted.counts[15], predicted.counts[19]), (1, 1, 1));
        assert_eq!(Baseline::parse(&profile.to_bytes()).unwrap(), profile);
    }
}
