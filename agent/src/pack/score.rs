//! How good answers to rows are that the model was not fitted on.

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
    fn a_class_that_is_never_answered_counts_as_much_as_a_large_one() {
        assert_eq!(balanced_accuracy([0, 0, 0, 0], &[0, 0, 0, 2]), Some(0.5));
        assert_eq!(balanced_accuracy([], &[]), None);
        assert!((rmse([1.0, 3.0], &[0.0, 0.0]) - 5f64.sqrt()).abs() < 1e-12);
    }
}
