//! What training makes smaller.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};

use crate::dataset::{Dataset, Rows, Targets};
use crate::failure::{LearnError, at};
use crate::ops::log_softmax_of;
use crate::program::{Head, Program};

/// Rows of a step of evaluation: bounds memory, changes nothing else.
const EVALUATED_AT_ONCE: usize = 256;

type Variables = BTreeMap<String, Var>;

/// The weighted mean over some rows: cross-entropy of the scores, or squared error of the values
/// (also a mean over the columns). Divided by the data's mean weight and not by the rows' own, so
/// that a step of light rows is a small step.
pub(crate) fn of_rows(
    program: &Program,
    variables: &Variables,
    data: &Dataset,
    rows: &Rows,
) -> Result<Tensor, LearnError> {
    let total = match data.targets() {
        Targets::Classes(_) => cross_entropy(program, variables, rows)?,
        Targets::Values { width, .. } => squared_error(program, variables, rows, *width)?,
    };
    let count = rows.weights.len() as f64 * data.mean_weight();
    total.affine(1.0 / count, 0.0).map_err(at("the loss"))
}

/// The loss over all rows, without gradients.
pub(crate) fn of_all(program: &Program, variables: &Variables, data: &Dataset) -> Result<f64, LearnError> {
    let order: Vec<usize> = (0..data.len()).collect();
    let mut sum = 0.0;
    for part in order.chunks(EVALUATED_AT_ONCE) {
        let loss = of_rows(program, variables, data, &data.pick(part))?;
        sum += value(&loss)? * part.len() as f64;
    }
    Ok(sum / data.len() as f64)
}

/// The number in a scalar tensor.
pub(crate) fn value(loss: &Tensor) -> Result<f64, LearnError> {
    Ok(f64::from(loss.to_scalar::<f32>().map_err(at("reading the loss"))?))
}

fn cross_entropy(program: &Program, variables: &Variables, rows: &Rows) -> Result<Tensor, LearnError> {
    let scores = program.scores(variables, &rows.features)?;
    let columns = scores.dims().get(1).copied().unwrap_or(0);
    let classes = match (program.head(), columns) {
        (Head::Binary, 1) => 2,
        (Head::Binary, _) => {
            return Err(LearnError::Targets {
                expected: "values: each column has its own Sigmoid".into(),
                got: "classes".into(),
            });
        }
        (Head::Scores, columns) => columns,
    };
    if let Some(class) = rows.classes.iter().find(|class| **class as usize >= classes) {
        return Err(LearnError::Targets {
            expected: format!("classes below {classes}"),
            got: format!("class {class}"),
        });
    }
    let mut wanted = vec![0f32; rows.classes.len() * classes];
    for ((row, class), weight) in
        wanted.chunks_exact_mut(classes.max(1)).zip(&rows.classes).zip(&rows.weights)
    {
        row[*class as usize] = *weight;
    }
    let work = || {
        let scores = match program.head() {
            Head::Scores => scores,
            Head::Binary => Tensor::cat(&[scores.zeros_like()?, scores], 1)?,
        };
        let wanted = Tensor::from_vec(wanted, (rows.classes.len(), classes), &Device::Cpu)?;
        (log_softmax_of(&scores, 1)? * wanted)?.sum_all()?.neg()
    };
    work().map_err(at("the cross-entropy"))
}

fn squared_error(
    program: &Program,
    variables: &Variables,
    rows: &Rows,
    width: usize,
) -> Result<Tensor, LearnError> {
    let made = program.output(variables, &rows.features)?;
    let count = rows.weights.len();
    if made.dims() != [count, width] {
        let got = format!("{width} values a row");
        return Err(LearnError::Targets {
            expected: format!("{} values a row", made.dims().get(1).copied().unwrap_or(0)),
            got,
        });
    }
    let work = || {
        let wanted = Tensor::from_slice(&rows.values, (count, width), &Device::Cpu)?;
        let weights = Tensor::from_slice(&rows.weights, (count, 1), &Device::Cpu)?;
        (made - wanted)?.sqr()?.broadcast_mul(&weights)?.sum_all()?.affine(1.0 / width as f64, 0.0)
    };
    work().map_err(at("the squared error"))
}
