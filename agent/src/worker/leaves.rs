//! New leaves for the trees of a model, from the rows of a run: one step, with all rows in memory.

use super::job::Said;
use super::recipe::{LeafRefit, explain};
use super::resume::Outside;
use super::samples::Stored;
use super::train::TrainError;
use shoal_learn::{LearnError, Source as _, TargetKind};
use shoal_onnx::{Labels, Limits, Samples, refit_trees};

/// Rows that are read between two looks at whether the run is still wanted.
const READ_AT_ONCE: usize = 256;
/// Bytes of a feature: as it is read, as what stands before the trees leaves it, and as the trees compare it,
/// in 64 bits at most.
const FEATURE_BYTES: usize = 4 + 4 + 8;
/// Bytes of a row beside its features: label, as it is read and as a class, weight, and leaf.
const ROW_BYTES: usize = 4 * 4;
/// Bytes of each score of a row: the score and both derivatives, in 64 bits.
const SCORE_BYTES: usize = 3 * 8;

/// A file with new leaves.
pub(super) struct Refitted {
    pub(super) onnx: Vec<u8>,
    /// What the rows were planned to take.
    pub(super) planned_bytes: u64,
}

/// Reads the rows and refits the leaves.
///
/// # Errors
/// [`TrainError::TooManyRows`] before anything is read when they do not fit the memory of the run;
/// [`TrainError::Paused`] when it is not wanted any more.
pub(super) fn refit(
    onnx: &[u8],
    rows: &mut Stored<'_>,
    scores: usize,
    how: &LeafRefit,
    outside: &mut dyn Outside,
) -> Result<Refitted, TrainError> {
    let (count, width) = (rows.rows(), rows.width());
    let of_row = width.saturating_mul(FEATURE_BYTES).saturating_add(ROW_BYTES + scores * SCORE_BYTES);
    let needed = (count as u64).saturating_mul(of_row as u64);
    if needed > how.memory_bytes {
        return Err(TrainError::TooManyRows { rows: count, width, needed, budget: how.memory_bytes });
    }
    let mut features = vec![0.0; count * width];
    let mut targets = vec![0.0; count];
    let places: Vec<usize> = (0..count).collect();
    let each = features.chunks_mut((READ_AT_ONCE * width).max(1)).zip(targets.chunks_mut(READ_AT_ONCE));
    outside.on_step(Said::at(0, 1, None));
    for (places, (features, targets)) in places.chunks(READ_AT_ONCE).zip(each) {
        if outside.is_stopped() {
            return Err(TrainError::Paused { step: 0, steps: 1 });
        }
        rows.read(places, features, targets).map_err(LearnError::from)?;
    }
    let mut weights: Vec<f32> = places.iter().map(|row| rows.weight(*row)).collect();
    let classes = match rows.targets() {
        TargetKind::Classes => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "they came of a u32")]
            let classes: Vec<u32> = targets.iter().map(|class| *class as u32).collect();
            if how.is_balanced {
                balance(&classes, scores, &mut weights);
            }
            Some(classes)
        }
        TargetKind::Values(_) => None,
    };
    let labels = classes.as_deref().map_or(Labels::Values(&targets), Labels::Classes);
    let samples = Samples { features: &features, width, labels, weights: Some(&weights) };
    let made = refit_trees(onnx, &samples, &how.settings, &Limits::default()).map_err(explain)?;
    outside.on_step(Said::at(1, 1, None));
    Ok(Refitted { onnx: made.onnx, planned_bytes: needed })
}

/// Multiplies each row's weight with rows / (classes · rows of its class), as training by gradients does.
fn balance(classes: &[u32], count: usize, weights: &mut [f32]) {
    let mut of_class = vec![0_usize; count.max(2)];
    for class in classes {
        if let Some(rows) = of_class.get_mut(*class as usize) {
            *rows += 1;
        }
    }
    for (weight, class) in weights.iter_mut().zip(classes) {
        let rows = of_class.get(*class as usize).copied().unwrap_or(0).max(1);
        *weight *= classes.len() as f32 / (of_class.len() * rows) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::balance;

    #[test]
    fn a_rare_class_counts_as_much_as_a_frequent_one() {
        let mut weights = [1.0, 1.0, 1.0, 0.5];
        balance(&[0, 0, 0, 1], 2, &mut weights);
        assert!((weights[0] - 2.0 / 3.0).abs() < 1e-6 && (weights[3] - 1.0).abs() < 1e-6, "{weights:?}");
    }
}
