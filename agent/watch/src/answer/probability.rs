//! Scores of a model as probabilities, calibrated by its temperature.

use shoal_proto::manifest::OutputKind;

/// Writes the probabilities of a classifier's scores, each divided by `temperature` as a logit, into `into`,
/// which is emptied first and does not grow once it has held a row.
///
/// One score of two classes is that of the second. Scores that are not numbers are never the answer; when none
/// is one, all are 0. `false`, and nothing written, for the values of a regression.
pub fn probabilities(kind: OutputKind, temperature: f64, scores: &[f32], into: &mut Vec<f32>) -> bool {
    into.clear();
    let is_logits = match kind {
        OutputKind::Logits => true,
        OutputKind::Probabilities => false,
        OutputKind::Values => return false,
    };
    let temperature = if temperature.is_finite() && temperature > 0.0 { temperature } else { 1.0 };
    let pair;
    let scores = if let [score] = *scores {
        pair = if is_logits { [0.0, score] } else { [1.0 - score, score] };
        &pair[..]
    } else {
        scores
    };
    if !is_logits && temperature == 1.0 {
        into.extend(scores.iter().map(|score| if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) }));
        return true;
    }
    let logit = |score: f32| {
        let score = f64::from(score);
        let logit = if is_logits { score } else { score.max(0.0).ln() };
        if score.is_nan() { f64::NEG_INFINITY } else { (logit / temperature).clamp(f64::MIN, f64::MAX) }
    };
    let best = scores.iter().map(|score| logit(*score)).fold(f64::NEG_INFINITY, f64::max);
    if best == f64::NEG_INFINITY {
        into.resize(scores.len(), 0.0);
        return true;
    }
    let total: f64 = scores.iter().map(|score| (logit(*score) - best).exp()).sum();
    #[expect(clippy::cast_possible_truncation, reason = "shares of one")]
    into.extend(scores.iter().map(|score| ((logit(*score) - best).exp() / total) as f32));
    true
}

/// The answer: the class of the greatest probability, the first of equals, and that probability.
#[must_use]
pub fn top(probabilities: &[f32]) -> (u32, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (class, probability) in (0..).zip(probabilities) {
        if *probability > best.1 {
            best = (class, *probability);
        }
    }
    (best.0, if best.1.is_finite() { best.1 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_become_probabilities() {
        use OutputKind::{Logits, Probabilities, Values};
        let mut into = Vec::new();
        for (kind, temperature, scores, expected) in [
            (Probabilities, 1.0, vec![0.2, 0.8], vec![0.2, 0.8]),
            (Probabilities, 2.0, vec![0.2, 0.8], vec![1.0 / 3.0, 2.0 / 3.0]),
            (Probabilities, 1.0, vec![0.9], vec![0.1, 0.9]),
            (Logits, 1.0, vec![0.0], vec![0.5, 0.5]),
            (Logits, 2.0, vec![0.0, 2.0 * 3.0_f32.ln()], vec![0.25, 0.75]),
            (Logits, 1.0, vec![f32::NAN, 1.0], vec![0.0, 1.0]),
            (Logits, 1.0, vec![f32::NAN, f32::NAN], vec![0.0, 0.0]),
            (Logits, 1.0, vec![f32::MAX, f32::MIN], vec![1.0, 0.0]),
            (Logits, 1e-3, vec![f32::INFINITY, f32::NEG_INFINITY], vec![1.0, 0.0]),
            (Logits, 0.0, vec![0.0, 0.0], vec![0.5, 0.5]),
            (Probabilities, 3.0, vec![0.0, 0.0], vec![0.5, 0.5]),
            (Probabilities, 1.0, vec![f32::INFINITY, -1.0], vec![1.0, 0.0]),
        ] {
            assert!(probabilities(kind, temperature, &scores, &mut into));
            assert_eq!(into.len(), expected.len());
            for (got, expected) in into.iter().zip(&expected) {
                assert!((got - expected).abs() < 1e-5, "{kind:?} {temperature} {scores:?}: {into:?}");
            }
        }
        assert!(!probabilities(Values, 1.0, &[1.0], &mut into));
        assert_eq!((top(&[0.1, 0.7, 0.7]), top(&[]), top(&[f32::NAN])), ((1, 0.7), (0, 0.0), (0, 0.0)));
    }
}
