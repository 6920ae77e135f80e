//! Which inputs a finding is about: how far each moved, times how much the model's answer hangs on it.

use serde::{Deserialize, Serialize};

/// Rows that sensitivities are taken on, at most.
pub const ROWS: usize = 64;
/// Predictions for all sensitivities, at most: with many inputs fewer rows are used, down to four.
pub const EVALUATIONS: usize = 32_768;
const MIN_ROWS: usize = 4;

/// An input's part in a finding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// The input's index.
    pub feature: usize,
    /// How far it moved, in the units that were given.
    pub shift: f64,
    /// How much the answer hangs on it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<f64>,
    /// Its part of the whole, in 0 … 1; all parts add up to one, or to nought where nothing moved that the
    /// answer hangs on.
    pub share: f64,
}

/// Ranks inputs by `|shift| × sensitivity`, or by `|shift|` where the sensitivities are not known or do not
/// fit; greatest first, in order of the inputs where equal. Shifts that are not finite count as nought.
///
/// It is a first-order reading: it takes the answer to hang on each input alone.
#[must_use]
pub fn attribute(shifts: &[f64], sensitivity: Option<&[f32]>) -> Vec<Attribution> {
    let known = sensitivity.filter(|values| values.len() == shifts.len());
    let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
    let part = |(feature, shift): (usize, &f64)| {
        let sensitivity = known.map(|values| finite(f64::from(values[feature])).abs());
        let shift = finite(*shift);
        Attribution { feature, shift, sensitivity, share: shift.abs() * sensitivity.unwrap_or(1.0) }
    };
    let mut parts: Vec<Attribution> = shifts.iter().enumerate().map(part).collect();
    let greatest = parts.iter().fold(0.0, |most: f64, part| most.max(part.share));
    if greatest > 0.0 && greatest.is_finite() {
        // By the greatest first, so that no sum overflows.
        parts.iter_mut().for_each(|part| part.share /= greatest);
        let total: f64 = parts.iter().map(|part| part.share).sum();
        parts.iter_mut().for_each(|part| part.share /= total);
    } else {
        parts.iter_mut().for_each(|part| part.share = 0.0);
    }
    parts.sort_by(|a, b| b.share.total_cmp(&a.share));
    parts
}

/// How much a model's answer changes when an input moves by one standard deviation: the mean over rows and both
/// directions of the greatest change of any output.
///
/// `predict` is given row-major rows and returns as many outputs for each; it is called once, and then
/// twice an input, with at most [`ROWS`] rows, spread evenly over those given, and [`EVALUATIONS`] rows in
/// all. Missing values stay missing. Nought for an input that does not vary, and for changes that are no number.
pub fn sensitivity<E>(
    rows: &[f32],
    deviations: &[f32],
    mut predict: impl FnMut(&[f32]) -> Result<Vec<f32>, E>,
) -> Result<Vec<f32>, E> {
    let width = deviations.len();
    let given = rows.len().checked_div(width).unwrap_or(0);
    if given == 0 {
        return Ok(vec![0.0; width]);
    }
    let most = (EVALUATIONS / (2 * width + 1)).clamp(MIN_ROWS, ROWS).min(given);
    let chosen = (0..most).flat_map(|index| rows[index * given / most * width..][..width].iter().copied());
    let mut batch: Vec<f32> = chosen.collect();
    let before = predict(&batch)?;
    let mut found = vec![0.0; width];
    for (input, deviation) in deviations.iter().enumerate() {
        if !(deviation.is_finite() && *deviation > 0.0) {
            continue;
        }
        let kept: Vec<f32> = batch.iter().skip(input).step_by(width).copied().collect();
        let mut sum = 0.0;
        for shift in [*deviation, -deviation] {
            let column = batch.iter_mut().skip(input).step_by(width);
            column.zip(&kept).for_each(|(to, from)| *to = from + shift);
            sum += change(&before, &predict(&batch)?, most);
        }
        batch.iter_mut().skip(input).step_by(width).zip(&kept).for_each(|(to, from)| *to = *from);
        #[expect(clippy::cast_possible_truncation, reason = "a mean of f32")]
        let mean = (sum / (2 * most) as f64) as f32;
        found[input] = if mean.is_finite() { mean } else { 0.0 };
    }
    Ok(found)
}

/// The sum over rows of the greatest change of an output.
fn change(before: &[f32], after: &[f32], rows: usize) -> f64 {
    let outputs = (before.len() / rows).max(1);
    let greatest = |(before, after): (&[f32], &[f32])| {
        let changes = before.iter().zip(after).map(|(before, after)| f64::from((after - before).abs()));
        changes.filter(|change| change.is_finite()).fold(0.0, f64::max)
    };
    before.chunks(outputs).zip(after.chunks(outputs)).map(greatest).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn shares_add_up_and_the_greatest_comes_first() {
        let found = attribute(&[0.5, -2.0, 0.0, 1.0], Some(&[4.0, 0.5, 9.0, 1.0]));
        let order: Vec<usize> = found.iter().map(|part| part.feature).collect();
        assert_eq!(order, [0, 1, 3, 2]);
        assert_eq!((found[0].share, found[1].share, found[1].shift), (0.5, 0.25, -2.0));
        let alone = attribute(&[0.5, -2.0, 0.0, 1.0], None);
        assert_eq!((alone[0].feature, alone[0].sensitivity), (1, None));
        assert!((alone.iter().map(|part| part.share).sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn strange_shifts_have_a_meaning() {
        for (shifts, sensitivity) in [
            (vec![], None),
            (vec![0.0, 0.0], None),
            (vec![f64::NAN, f64::INFINITY], Some([1.0, 1.0].as_slice())),
            (vec![1.0, 1.0], Some([0.0, 0.0].as_slice())),
            (vec![1.0, 2.0], Some([f32::NAN, f32::INFINITY].as_slice())),
        ] {
            let found = attribute(&shifts, sensitivity);
            assert_eq!(found.len(), shifts.len());
            assert!(found.iter().all(|part| part.share == 0.0 && part.shift.is_finite()), "{found:?}");
        }
        assert!((attribute(&[f64::MAX, f64::MAX], None)[0].share - 0.5).abs() < 1e-12);
        assert_eq!(attribute(&[1.0, 3.0], Some(&[1.0]))[0].sensitivity, None);
    }

    #[test]
    fn a_linear_model_is_as_sensitive_as_its_weights_say() {
        let weights = [2.0_f32, 0.0, -0.5, 1.0];
        let (mut calls, mut rows_asked) = (0, 0);
        let found = sensitivity(&[0.25; 4 * 500], &[1.0, 1.0, 2.0, 0.0], |rows| {
            calls += 1;
            rows_asked += rows.len() / 4;
            let score = |row: &[f32]| row.iter().zip(weights).map(|(x, weight)| x * weight).sum::<f32>();
            Ok::<_, Infallible>(rows.chunks_exact(4).flat_map(|row| [score(row), 1.0]).collect())
        });
        assert_eq!(found.unwrap(), [2.0, 0.0, 1.0, 0.0]);
        assert_eq!((calls, rows_asked), (7, 7 * ROWS));
    }

    #[test]
    fn evaluations_are_bounded_and_a_failure_is_passed_on() {
        let width = 2_048;
        let mut asked = 0;
        let found = sensitivity(&vec![0.5; width * 100], &vec![1.0; width], |rows| {
            asked += rows.len() / width;
            Ok::<_, Infallible>(rows.chunks_exact(width).map(|row| row[7]).collect())
        });
        let found = found.unwrap();
        assert!(asked <= EVALUATIONS, "{asked}");
        assert_eq!((found[7], found[8]), (1.0, 0.0));
        assert_eq!(sensitivity(&[1.0], &[1.0], |_| Err("broken")), Err("broken"));
        assert_eq!(sensitivity(&[], &[1.0], |_| Err("never called")), Ok(vec![0.0]));
        let strange = sensitivity(&[f32::NAN, 1.0], &[1.0, 1.0], |rows| Ok::<_, Infallible>(rows.to_vec()));
        assert_eq!(strange.unwrap(), [0.0, 1.0]);
    }
}
