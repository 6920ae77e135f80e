//! How good answers to rows are that the model was not fitted on.

/// The normal distribution's quantile for 95 %, two-sided.
const Z: f64 = 1.959_963_984_540_054;

/// The interval that holds a proportion with 95 % confidence. Wilson 1927, without continuity correction.
pub(super) fn wilson(right: u64, rows: u64) -> (f64, f64) {
    let n = rows.max(1) as f64;
    let share = right as f64 / n;
    let centre = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    // At the ends the formula is exact, and its rounding is not.
    let low = if right == 0 { 0.0 } else { (centre - half) / scale };
    let high = if right >= rows { 1.0 } else { (centre + half) / scale };
    (low, high)
}

/// The mean over the classes that occur of the share answered right of each; `None` without rows.
pub(super) fn balanced_accuracy(answers: impl IntoIterator<Item = u32>, truth: &[u32]) -> Option<f64> {
    let classes = truth.iter().max().map_or(0, |most| *most as usize + 1);
    let mut counts = vec![(0u64, 0u64); classes];
    for (answer, truth) in answers.into_iter().zip(truth) {
        let (rows, right) = &mut counts[*truth as usize];
        *rows += 1;
        *right += u64::from(answer == *truth);
    }
    let shares: Vec<f64> = counts
        .iter()
        .filter(|(rows, _)| *rows > 0)
        .map(|(rows, right)| *right as f64 / *rows as f64)
        .collect();
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}

/// Root mean square of the differences.
pub(super) fn rmse(answers: impl IntoIterator<Item = f32>, truth: &[f32]) -> f64 {
    let squares = answers.into_iter().zip(truth).map(|(y, t)| (f64::from(y) - f64::from(*t)).powi(2));
    (squares.sum::<f64>() / truth.len().max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_is_that_of_the_tables() {
        for (right, rows, low, high) in
            [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)]
        {
            let (l, h) = wilson(right, rows);
            assert!((l - low).abs() < 1e-4 && (h - high).abs() < 1e-4, "{right} of {rows}: {l} to {h}");
        }
    }

    #[test]
    fn a_class_that_is_never_answered_counts_as_much_as_a_large_one() {
        assert_eq!(balanced_accuracy([0, 0, 0, 0], &[0, 0, 0, 2]), Some(0.5));
        assert_eq!(balanced_accuracy([], &[]), None);
        assert!((rmse([1.0, 3.0], &[0.0, 0.0]) - 5f64.sqrt()).abs() < 1e-12);
    }
}
