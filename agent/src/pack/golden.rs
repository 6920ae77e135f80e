//! Golden rows of a table's model: what it answers here, a device must reproduce before it serves it.

use crate::rows::Rows;
use crate::worker::Golden;
use half::f16;
use shoal_infer::{Batching, GOLDEN_TOLERANCE, Predictor, Tensor, TensorData, trial};
use shoal_onnx::Datatype;
use shoal_proto::baseline::FeatureBaseline;

/// Held-out rows among them.
const HELD_OUT_ROWS: usize = 8;
/// How much of what a device may differ is allowed between one row and several here: another processor
/// rounds otherwise again.
const MARGIN: f64 = 0.25;

/// Golden rows: a few that were held out, of all classes, and the ends of the features' ranges. Outputs are
/// those of floating point numbers: labels follow from them.
///
/// `Err` says why there are none, which leaves a package as good as it was without.
pub(super) fn golden(
    predictor: &Predictor,
    held_out: &Rows,
    features: &[FeatureBaseline],
    seed: u64,
) -> Result<Golden, String> {
    let [input] = predictor.inputs() else { return Err("the model takes several inputs".into()) };
    let width = held_out.width();
    let mut rows = held_out.coreset(HELD_OUT_ROWS, seed).features().to_vec();
    #[expect(clippy::cast_possible_truncation, reason = "they were f32")]
    rows.extend(features.iter().map(|feature| feature.min as f32));
    #[expect(clippy::cast_possible_truncation, reason = "they were f32")]
    rows.extend(features.iter().map(|feature| feature.max as f32));
    let rows = finite_rows(predictor, &rows, width)?;
    let mut shape: Vec<usize> =
        input.dims.iter().map(|dim| dim.and_then(|dim| usize::try_from(dim).ok()).unwrap_or(1)).collect();
    let Some(first) = shape.first_mut() else { return Err("the model's input has no rows".into()) };
    if predictor.batching() != Batching::Fixed {
        *first = rows.len() / width.max(1);
    }
    let Some(rows) = rows.get(..*first * width).filter(|rows| !rows.is_empty()) else {
        return Err(format!("the model takes {first} rows at once, and there are fewer"));
    };
    let data = match input.datatype {
        Datatype::F32 => TensorData::F32(rows.to_vec()),
        Datatype::F64 => TensorData::F64(rows.iter().map(|value| f64::from(*value)).collect()),
        Datatype::F16 => TensorData::F16(rows.iter().map(|value| f16::from_f32(*value)).collect()),
        other => return Err(format!("the model's input is {other}")),
    };
    let inputs = vec![Tensor { name: input.name.clone(), shape, data }];
    let mut outputs = predictor.infer(&inputs).map_err(|cause| cause.to_string())?;
    outputs.truncate(predictor.outputs().len());
    outputs.retain(|output| output.datatype().is_float());
    match trial(predictor, Some((&inputs, &outputs))) {
        Ok(Some(most)) if most > MARGIN * GOLDEN_TOLERANCE => {
            Err(format!("answers to one row and to several differ by {most:e}"))
        }
        Ok(_) => Ok(Golden { inputs, outputs }),
        Err(cause) => Err(crate::report::chain(&cause)),
    }
}

/// The rows whose answers are finite: what a model says far out is its own affair.
fn finite_rows(predictor: &Predictor, rows: &[f32], width: usize) -> Result<Vec<f32>, String> {
    let count = rows.len().checked_div(width).unwrap_or(0);
    if predictor.batching() == Batching::Fixed {
        return Ok(rows.to_vec());
    }
    let made = predictor.rows(count, rows).map_err(|cause| cause.to_string())?;
    let sound = made.iter().map(|scores| scores.iter().all(|score| score.is_finite()));
    let kept = rows.chunks_exact(width.max(1)).zip(sound).filter(|(_, sound)| *sound);
    Ok(kept.flat_map(|(row, _)| row).copied().collect())
}
