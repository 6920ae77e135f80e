//! Every archive of `testdata`: models with what onnxruntime answered, row by row and all at once.

#![expect(clippy::unwrap_used, reason = "the lint's exception for tests does not reach their helpers")]

use std::collections::BTreeMap;

use shoal_infer::{Batching, Predictor, Tensor, TensorData, read_npz};
use shoal_onnx::{Limits, Servable, inspect};

/// Largest difference allowed, relative to max(1, max|y|).
const TOLERANCE: f64 = 1e-5;

#[derive(Default)]
struct Case {
    model: Vec<u8>,
    inputs: BTreeMap<String, Tensor>,
    outputs: BTreeMap<String, Tensor>,
}

fn cases(archive: &str) -> BTreeMap<String, Case> {
    let path = format!("{}/testdata/{archive}.npz", env!("CARGO_MANIFEST_DIR"));
    let arrays = read_npz(&std::fs::read(path).unwrap()).unwrap();
    let shapes: BTreeMap<String, Vec<usize>> = arrays
        .iter()
        .filter_map(|array| {
            let key = array.name.strip_suffix("|shape")?;
            let sizes = array.i64s().unwrap().iter().map(|size| usize::try_from(*size).unwrap());
            Some((key.to_owned(), sizes.collect()))
        })
        .collect();
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for mut array in arrays.into_iter().filter(|array| !array.name.ends_with("|shape")) {
        let key = array.name.clone();
        let parts: Vec<&str> = key.split('|').collect();
        let case = cases.entry(parts[0].to_owned()).or_default();
        if parts[1] == "onnx" {
            let TensorData::U8(bytes) = array.data else { panic!("{key}") };
            case.model = bytes;
            continue;
        }
        array.name = parts[2].to_owned();
        if let (Some(&"text"), TensorData::U8(bytes)) = (parts.get(3), &array.data) {
            array.shape = shapes[key.strip_suffix("|text").unwrap()].clone();
            let text = String::from_utf8(bytes.clone()).unwrap();
            array.data = TensorData::String(text.split('\n').map(str::to_owned).collect());
        }
        let side = if parts[1] == "in" { &mut case.inputs } else { &mut case.outputs };
        side.insert(array.name.clone(), array);
    }
    cases
}

fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    match &tensor.data {
        TensorData::F32(v) => Some(v.iter().map(|x| f64::from(*x)).collect()),
        TensorData::F16(v) => Some(v.iter().map(|x| x.to_f64()).collect()),
        TensorData::F64(v) => Some(v.clone()),
        _ => None,
    }
}

/// What is wrong with an answer, if anything is.
fn compare(wanted: &Tensor, got: &Tensor, tolerance: f64) -> Option<String> {
    if wanted.shape != got.shape {
        return Some(format!("{}: shape {:?}, expected {:?}", wanted.name, got.shape, wanted.shape));
    }
    let (Some(a), Some(b)) = (floats(wanted), floats(got)) else {
        let tell = || format!("{}: {:?}, expected {:?}", wanted.name, got.data, wanted.data);
        return (wanted.data != got.data).then(tell);
    };
    if wanted.datatype() != got.datatype() {
        return Some(format!("{}: {}, expected {}", wanted.name, got.datatype(), wanted.datatype()));
    }
    let scale = a.iter().filter(|v| v.is_finite()).fold(1.0f64, |most, v| most.max(v.abs()));
    let off = |(a, b): (&f64, &f64)| {
        let is_same = (a.is_nan() && b.is_nan()) || a == b;
        if is_same {
            0.0
        } else if (a - b).is_nan() {
            f64::INFINITY
        } else {
            (a - b).abs() / scale
        }
    };
    let worst = a.iter().zip(&b).map(off).fold(0.0f64, f64::max);
    (worst > tolerance).then(|| {
        let at = a.iter().zip(&b).position(|pair| off(pair) > tolerance).unwrap_or(0);
        format!("{}: off by {worst:e}, first at {at}: {}, expected {}", wanted.name, b[at], a[at])
    })
}

fn row(tensor: &Tensor, rows: usize, at: usize) -> Tensor {
    let each = tensor.data.len() / rows;
    let range = at * each..(at + 1) * each;
    let mut shape = tensor.shape.clone();
    shape[0] = 1;
    let data = match &tensor.data {
        TensorData::F32(v) => TensorData::F32(v[range].to_vec()),
        TensorData::F64(v) => TensorData::F64(v[range].to_vec()),
        TensorData::I64(v) => TensorData::I64(v[range].to_vec()),
        TensorData::I32(v) => TensorData::I32(v[range].to_vec()),
        TensorData::I16(v) => TensorData::I16(v[range].to_vec()),
        TensorData::F16(v) => TensorData::F16(v[range].to_vec()),
        TensorData::U8(v) => TensorData::U8(v[range].to_vec()),
        TensorData::Bool(v) => TensorData::Bool(v[range].to_vec()),
        TensorData::String(v) => TensorData::String(v[range].to_vec()),
        TensorData::I8(v) => TensorData::I8(v[range].to_vec()),
        other => panic!("{}", other.datatype()),
    };
    Tensor { name: tensor.name.clone(), shape, data }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// What is wrong with a case, if anything is.
fn fault(case: &Case, tolerance: f64) -> Option<String> {
    let predictor = match Predictor::load(&case.model, &Limits::default()) {
        Ok(predictor) => predictor,
        Err(error) => return Some(format!("does not load: {}", chain(&error))),
    };
    let inputs: Vec<Tensor> = case.inputs.values().cloned().collect();
    let made = match predictor.infer(&inputs) {
        Ok(made) => made,
        Err(error) => return Some(format!("does not run: {}", chain(&error))),
    };
    let find = |made: &[Tensor], name: &str| made.iter().find(|tensor| tensor.name == name).cloned();
    for wanted in case.outputs.values() {
        let Some(got) = find(&made, &wanted.name) else { return Some(format!("no output {}", wanted.name)) };
        if let Some(fault) = compare(wanted, &got, tolerance) {
            return Some(fault);
        }
    }
    let rows = inputs.first().and_then(|input| input.shape.first()).copied().unwrap_or(0);
    let is_row = |tensor: &Tensor| tensor.shape.first() == Some(&rows);
    let by_row = predictor.batching() != Batching::Fixed && rows > 1;
    if !by_row || !inputs.iter().chain(case.outputs.values()).all(is_row) || predictor.couples_rows() {
        return None;
    }
    for at in 0..rows {
        let one: Vec<Tensor> = inputs.iter().map(|input| row(input, rows, at)).collect();
        let made = match predictor.infer(&one) {
            Ok(made) => made,
            Err(error) => return Some(format!("does not run on row {at}: {}", chain(&error))),
        };
        for wanted in case.outputs.values() {
            if let Some(fault) =
                compare(&row(wanted, rows, at), &find(&made, &wanted.name).unwrap(), tolerance)
            {
                return Some(format!("row {at}: {fault}"));
            }
        }
    }
    None
}

/// What is refused, and a word of the reason that must be given before anything is deployed.
const REFUSED: &[(&str, &str)] = &[
    ("ConvT.shape", "output_shape"),
    ("FusedConv", "optimiser"),
    ("FusedGemm", "optimiser"),
    ("FusedMatMul", "optimiser"),
    ("GlobalLpPool", "differ"),
    ("LpPool", "not known"),
    ("Pad.neg", "pads hold -1"),
    ("Pad.wrap.19", "mode wrap"),
    ("keras.gru", "no bound"),
    ("keras.rnn", "no bound"),
    ("loop_const", "no bound"),
    ("sequence", "no tensors"),
    ("sequence_concat", "no tensors"),
];

/// Whether a case is one of [`REFUSED`], and inspection says why.
fn is_refused(name: &str, case: &Case) -> bool {
    let Some((_, word)) = REFUSED.iter().find(|(refused, _)| *refused == name) else { return false };
    let Servable::No { reasons } = inspect(&case.model, &Limits::default()).unwrap().servable else {
        panic!("{name} is served now");
    };
    assert!(reasons.iter().any(|reason| reason.contains(word)), "{name}: {reasons:?}");
    true
}

fn check(archive: &str, least: usize, tolerance: f64) {
    let cases = cases(archive);
    assert!(cases.len() >= least, "{archive} holds {} cases", cases.len());
    let faults: Vec<String> = cases
        .iter()
        .filter(|(name, case)| !is_refused(name, case))
        .filter_map(|(name, case)| Some(format!("{name}: {}", fault(case, tolerance)?)))
        .collect();
    let count = faults.len();
    assert!(faults.is_empty(), "{count} of {} cases:\n{}", cases.len(), faults.join("\n"));
}

#[test]
fn operators_of_ai_onnx_ml_answer_as_onnxruntime_does() {
    check("ml", 285, TOLERANCE);
}

#[test]
fn exports_of_table_models_answer_as_onnxruntime_does() {
    check("tables", 150, TOLERANCE);
}

#[test]
fn exports_of_keras_answer_as_onnxruntime_does() {
    check("keras", 21, TOLERANCE);
}

#[test]
fn core_operators_answer_as_onnxruntime_does() {
    check("core", 370, TOLERANCE);
}

#[test]
fn half_precision_is_served_as_such() {
    // Half precision has eleven bits: onnxruntime rounds between the layers, we at the end.
    check("half", 6, 4e-3);
}
