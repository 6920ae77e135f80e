//! Takes the reference of answers when a package is made, from rows that the model was not trained on.

use super::calibration::Calibration;
use super::error_model::{self, expected_error};
use super::group::{GroupCodes, Groups};
use super::probability::top;
use shoal_proto::baseline::{
    CONFIDENCE_BINS, ClassBaseline, Confusion, GroupBaseline, Histogram, PartBaseline, PredictionBaseline,
    RELIABILITY_BINS, Reliability, Spread, ValueBaseline, prediction_cell, score_cell,
};
use shoal_proto::summary::Counts;

/// The reference of a classifier's answers: `probabilities` (row-major, `classes` wide, after
/// [`probabilities`](super::probabilities) and so after the temperature) to rows whose true class is `truth`.
///
/// `raw` are the answers as they are served, class and confidence, whose counts are what live ones add up to.
/// `groups` and `codes` (one a row) may be empty. A row of a class that there is not is left out.
#[must_use]
pub fn of_classes(
    classes: usize,
    raw: &[(u32, f32)],
    probabilities: &[f32],
    truth: &[u32],
    groups: &Groups,
    codes: &[GroupCodes],
) -> PredictionBaseline {
    let mut confusion = Confusion::new(classes);
    let mut scores = Counts::default();
    let mut parts = vec![PartBaseline::default(); groups.parts()];
    let mut counts = vec![0; classes * CONFIDENCE_BINS];
    let (mut labelled, mut correct, mut pairs) = (0, 0, Vec::new());
    for (class, confidence) in raw {
        if let Some(cell) = counts.get_mut(prediction_cell(*class, *confidence)) {
            *cell += 1;
        }
    }
    for (row, (shares, truth)) in probabilities.chunks_exact(classes.max(1)).zip(truth).enumerate() {
        let (class, confidence) = top(shares);
        if !confusion.add(*truth, class) {
            continue;
        }
        labelled += 1;
        correct += u64::from(class == *truth);
        pairs.push((confidence, f64::from(u8::from(class == *truth))));
        if confusion.is_full() {
            for (of, score) in scored(shares) {
                scores.add(score_cell(of, *truth == of, score), 1);
            }
        }
        let codes = codes.get(row).copied().unwrap_or_default();
        groups.each(codes, |place, positive| count_part(&mut parts[place], class, *truth, positive));
    }
    let reliability = Reliability::of(pairs.iter().copied());
    let calibration = Calibration::new(&reliability, 1.0);
    let expected = Spread::of(pairs.iter().map(|(confidence, _)| calibration.expect(*confidence)));
    let groups = groups.rules().iter().map(|rule| GroupBaseline {
        name: rule.group.name.clone(),
        parts: parts[rule.start..rule.start + rule.parts].to_vec(),
    });
    PredictionBaseline {
        counts,
        labelled,
        correct,
        classes: Some(Box::new(ClassBaseline { confusion, reliability, expected, scores })),
        values: None,
        groups: groups.collect(),
    }
}

/// The classes whose scores are kept: of two, one says what the other does.
pub(super) fn scored(shares: &[f32]) -> impl Iterator<Item = (u32, f32)> + '_ {
    (0..).zip(shares.iter().copied()).skip(usize::from(shares.len() == 2))
}

pub(super) fn count_part(part: &mut PartBaseline, class: u32, truth: u32, positive: u32) {
    part.rows += 1;
    part.favoured += u64::from(class == positive);
    part.deserving += u64::from(truth == positive);
    part.both += u64::from(class == positive && truth == positive);
    part.correct += u64::from(class == truth);
}

/// The reference of a regression with one value: `answers` to rows of `width` features (row-major) whose true
/// value is `truth`. A row whose answer or truth is not finite is left out.
#[must_use]
pub fn of_values(answers: &[f32], truth: &[f32], features: &[f32], width: usize) -> PredictionBaseline {
    let rows = answers.len().min(truth.len());
    let whole = features.len() >= rows * width;
    let (mut kept, mut targets, mut inputs, mut errors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in (0..rows).filter(|row| answers[*row].is_finite() && truth[*row].is_finite()) {
        kept.push(answers[row]);
        targets.push(f64::from(truth[row]));
        errors.push((f64::from(answers[row]) - f64::from(truth[row])).abs());
        if whole {
            inputs.extend_from_slice(&features[row * width..(row + 1) * width]);
        }
    }
    let (mean_error, square) = (mean(&errors, |error| error), mean(&errors, |error| error * error));
    let target_mean = mean(&targets, |target| target);
    let target_std = mean(&targets, |target| (target - target_mean).powi(2)).sqrt();
    let rmse = square.sqrt();
    let unit = if narrow(rmse).is_normal() { f64::from(narrow(rmse)) } else { 1.0 };
    let sizes: Vec<f64> = errors.iter().map(|error| error / unit).collect();
    let width = if whole { width } else { 0 };
    let model = error_model::fit(&kept, &inputs, width, &sizes);
    let expected: Vec<f32> = (0..kept.len())
        .map(|row| expected_error(&model, kept[row], &inputs[row * width..(row + 1) * width]))
        .collect();
    let reliability = Reliability::of(expected.iter().copied().zip(sizes));
    let calibration = Calibration::new(&reliability, 256.0);
    PredictionBaseline {
        labelled: kept.len() as u64,
        values: Some(Box::new(ValueBaseline {
            residuals: Histogram::of(errors.iter().map(|error| narrow(*error)), RELIABILITY_BINS),
            answers: Histogram::of(kept, RELIABILITY_BINS),
            mean_error: narrow(mean_error),
            rmse: narrow(rmse),
            target_mean: narrow(target_mean),
            target_std: narrow(target_std),
            expected: Spread::of(expected.iter().map(|size| calibration.expect(*size))),
            model,
            reliability,
        })),
        ..PredictionBaseline::default()
    }
}

fn mean(numbers: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    numbers.iter().map(|number| of(*number)).sum::<f64>() / numbers.len().max(1) as f64
}

/// As f32, held within what is finite.
#[expect(clippy::cast_possible_truncation, reason = "kept as f32, so that JSON reads it back to the bit")]
fn narrow(number: f64) -> f32 {
    (number as f32).clamp(f32::MIN, f32::MAX)
}
