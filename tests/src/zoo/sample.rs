//! What a model is asked, and what it must answer: `NAME.io.npz`.

use anyhow::{Context as _, bail, ensure};
use shoal_infer::{Predictor, Tensor, TensorData, read_npz};
use shoal_onnx::{Datatype, TensorSpec};
use std::path::Path;

/// Largest difference of a floating point output, as a share of its largest number or of one.
const TOLERANCE: f64 = 1e-5;
/// The same for outputs of half precision: others round between layers, where we compute in f32.
const HALF_TOLERANCE: f64 = 4.0 / 1024.0;

/// Inputs and expected outputs in the model's order, under its own names.
#[derive(Debug)]
pub(super) struct Sample {
    inputs: Vec<Tensor>,
    outputs: Vec<(Tensor, bool)>,
    /// Rows of all inputs, where the model leaves their number open.
    open_rows: Option<usize>,
}

/// A part of a sample, asked at once.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) inputs: Vec<Tensor>,
    expected: Vec<(Tensor, bool)>,
}

impl Sample {
    /// Reads a file; arrays have the model's own names, or are x, x1, x2 … and y, y1, y2 …
    pub(super) fn read(path: &Path, predictor: &Predictor) -> anyhow::Result<Self> {
        let arrays = read_npz(&std::fs::read(path)?).with_context(|| path.display().to_string())?;
        let find = |spec: &TensorSpec, letter: char, place: usize| {
            let short = if place == 0 { letter.to_string() } else { format!("{letter}{place}") };
            let named = |name: &str| arrays.iter().find(|array| array.name == name);
            let found = named(&spec.name).or_else(|| named(&short))?;
            Some(Tensor { name: spec.name.clone(), ..found.clone() })
        };
        let mut inputs = Vec::new();
        for (place, spec) in predictor.inputs().iter().enumerate() {
            let input = find(spec, 'x', place);
            inputs.push(input.with_context(|| format!("`{}` has no input `{}`", path.display(), spec.name))?);
        }
        let outputs: Vec<_> = predictor
            .outputs()
            .iter()
            .enumerate()
            .filter_map(|(place, spec)| Some((find(spec, 'y', place)?, spec.datatype == Datatype::F16)))
            .collect();
        ensure!(!outputs.is_empty(), "`{}` has none of the model's outputs", path.display());
        let rows = inputs.first().and_then(|input| input.shape.first()).copied();
        let is_open = predictor.inputs().iter().zip(&inputs).all(|(spec, input)| {
            matches!(spec.dims.first(), Some(None)) && input.shape.first().copied() == rows
        });
        Ok(Self { inputs, outputs, open_rows: rows.filter(|rows| is_open && *rows > 0) })
    }

    /// All rows at once.
    pub(super) fn whole(&self) -> Question {
        Question { inputs: self.inputs.clone(), expected: self.outputs.clone() }
    }

    /// Each row alone; one question of all where the model fixes how many it takes.
    pub(super) fn rows(&self) -> Vec<Question> {
        let Some(rows) = self.open_rows else { return vec![self.whole()] };
        // An output that is not of rows is only comparable for all of them.
        let of_rows = || self.outputs.iter().filter(|(output, _)| output.shape.first() == Some(&rows));
        let question = |place| Question {
            inputs: self.inputs.iter().map(|input| row(input, place, rows)).collect(),
            expected: of_rows().map(|(output, half)| (row(output, place, rows), *half)).collect(),
        };
        (0..rows).map(question).collect()
    }
}

impl Question {
    /// The largest difference, as a share of the output's largest number or of one; an error names what
    /// is wrong.
    pub(super) fn check(&self, got: &[Tensor]) -> anyhow::Result<f64> {
        let mut worst = 0.0f64;
        for (expected, is_half) in &self.expected {
            let name = &expected.name;
            let got = got.iter().find(|tensor| tensor.name == *name);
            let got = got.with_context(|| format!("output `{name}` was not answered"))?;
            ensure!(
                got.shape == expected.shape,
                "output `{name}`: expected shape {:?}, got {:?}",
                expected.shape,
                got.shape
            );
            if !is_float(&expected.data) && !is_float(&got.data) {
                ensure!(labels(&got.data) == labels(&expected.data), "output `{name}` has another label");
                continue;
            }
            let difference = difference(&floats(&got.data)?, &floats(&expected.data)?);
            let allowed = if *is_half { HALF_TOLERANCE } else { TOLERANCE };
            ensure!(difference <= allowed, "output `{name}` differs by {difference:.1e}");
            worst = worst.max(difference);
        }
        Ok(worst)
    }
}

/// The same that is not a number is no difference; one alone is infinite.
fn difference(got: &[f64], expected: &[f64]) -> f64 {
    let finite = expected.iter().filter(|value| value.is_finite());
    let scale = finite.fold(1.0f64, |most, value| most.max(value.abs()));
    let pairs = got.iter().zip(expected).map(|(got, expected)| {
        let is_same = got == expected || got.is_nan() && expected.is_nan();
        if is_same { 0.0 } else { (got - expected).abs() }
    });
    pairs.fold(0.0f64, |most, one| if one.is_nan() { f64::INFINITY } else { most.max(one) }) / scale
}

fn row(tensor: &Tensor, place: usize, rows: usize) -> Tensor {
    let mut shape = tensor.shape.clone();
    shape[0] = 1;
    let width = tensor.data.len() / rows;
    let range = place * width..(place + 1) * width;
    let data = match &tensor.data {
        TensorData::Bool(values) => TensorData::Bool(values[range].to_vec()),
        TensorData::U8(values) => TensorData::U8(values[range].to_vec()),
        TensorData::U16(values) => TensorData::U16(values[range].to_vec()),
        TensorData::U32(values) => TensorData::U32(values[range].to_vec()),
        TensorData::U64(values) => TensorData::U64(values[range].to_vec()),
        TensorData::I8(values) => TensorData::I8(values[range].to_vec()),
        TensorData::I16(values) => TensorData::I16(values[range].to_vec()),
        TensorData::I32(values) => TensorData::I32(values[range].to_vec()),
        TensorData::I64(values) => TensorData::I64(values[range].to_vec()),
        TensorData::F16(values) => TensorData::F16(values[range].to_vec()),
        TensorData::F32(values) => TensorData::F32(values[range].to_vec()),
        TensorData::F64(values) => TensorData::F64(values[range].to_vec()),
        TensorData::String(values) => TensorData::String(values[range].to_vec()),
    };
    Tensor { name: tensor.name.clone(), shape, data }
}

const fn is_float(data: &TensorData) -> bool {
    matches!(data, TensorData::F16(_) | TensorData::F32(_) | TensorData::F64(_))
}

fn floats(data: &TensorData) -> anyhow::Result<Vec<f64>> {
    match data {
        TensorData::F16(values) => Ok(values.iter().map(|value| value.to_f64()).collect()),
        TensorData::F32(values) => Ok(values.iter().map(|value| f64::from(*value)).collect()),
        TensorData::F64(values) => Ok(values.clone()),
        TensorData::String(_) => bail!("text beside numbers"),
        _ => labels(data).iter().map(|value| Ok(value.parse()?)).collect(),
    }
}

/// What is told apart and not measured, whatever its width: as text.
fn labels(data: &TensorData) -> Vec<String> {
    fn texts<T: ToString>(values: &[T]) -> Vec<String> {
        values.iter().map(T::to_string).collect()
    }
    match data {
        TensorData::Bool(values) => values.iter().map(|value| u8::from(*value).to_string()).collect(),
        TensorData::U8(values) => texts(values),
        TensorData::U16(values) => texts(values),
        TensorData::U32(values) => texts(values),
        TensorData::U64(values) => texts(values),
        TensorData::I8(values) => texts(values),
        TensorData::I16(values) => texts(values),
        TensorData::I32(values) => texts(values),
        TensorData::I64(values) => texts(values),
        TensorData::F16(values) => texts(values),
        TensorData::F32(values) => texts(values),
        TensorData::F64(values) => texts(values),
        TensorData::String(values) => values.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_shares_and_never_hide_what_is_no_number() {
        for (got, expected, difference_of) in [
            (&[1.0, 2.0][..], &[1.0, 2.0][..], 0.0),
            (&[0.0], &[0.5], 0.5),
            (&[90.0], &[100.0], 0.1),
            (&[f64::NAN], &[f64::NAN], 0.0),
            (&[f64::NAN, 1.0], &[1.0, 1.0], f64::INFINITY),
            (&[f64::INFINITY], &[f64::INFINITY], 0.0),
            (&[1.0], &[f64::INFINITY], f64::INFINITY),
        ] {
            let found = difference(got, expected);
            let is_same = found == difference_of || (found - difference_of).abs() < 1e-12;
            assert!(is_same, "{got:?} {expected:?}: {found}");
        }
    }

    #[test]
    fn a_row_is_cut_out_of_its_tensor() {
        let tensor =
            Tensor { name: "x".into(), shape: vec![3, 2], data: TensorData::I64(vec![1, 2, 3, 4, 5, 6]) };
        let one = row(&tensor, 1, 3);
        assert_eq!((one.shape, one.data), (vec![1, 2], TensorData::I64(vec![3, 4])));
    }
}
