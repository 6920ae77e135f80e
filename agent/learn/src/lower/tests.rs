//! Every graph of `testdata/{ops,layers}.npz`, against the gradients that PyTorch computed in 64 bits.

mod hostile;

use std::collections::{BTreeMap, BTreeSet};

use shoal_grad::kernel::binary::Fold;
use shoal_grad::{Id, MAX_HELD_BYTES, Program, Real};
use shoal_infer::{Tensor, TensorData, read_npz};
use shoal_onnx::{Graph, Limits, OnnxModel};

use super::{BatchNorm, Lowered, Wanted, lower};
use crate::failure::LearnError;

#[derive(Default)]
struct Case {
    onnx: Vec<u8>,
    feeds: BTreeMap<String, Tensor>,
    weights: Vec<f64>,
    output: (String, Vec<f64>),
    loss: f64,
    gradients: BTreeMap<String, Vec<f64>>,
    of_feeds: BTreeMap<String, Vec<f64>>,
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    match &tensor.data {
        TensorData::F64(values) => values.clone(),
        TensorData::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        #[expect(clippy::cast_precision_loss, reason = "indices are small")]
        TensorData::I64(values) => values.iter().map(|value| *value as f64).collect(),
        TensorData::I32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        TensorData::Bool(values) => values.iter().map(|value| f64::from(u8::from(*value))).collect(),
        other => panic!("{other:?}"),
    }
}

fn cases() -> BTreeMap<String, Case> {
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    let read = |archive: &str| {
        let path = format!("{}/testdata/{archive}.npz", env!("CARGO_MANIFEST_DIR"));
        read_npz(&std::fs::read(path).unwrap()).unwrap()
    };
    for array in read("ops").into_iter().chain(read("layers")) {
        let name = array.name.clone();
        let parts: Vec<&str> = name.split('|').collect();
        let case = cases.entry(parts[0].to_owned()).or_default();
        match parts[1..] {
            ["onnx"] => {
                let TensorData::U8(bytes) = array.data else { panic!("{name}") };
                case.onnx = bytes;
            }
            ["in", input] => drop(case.feeds.insert(input.to_owned(), array)),
            ["c"] => case.weights = numbers(&array),
            ["out", output] => case.output = (output.to_owned(), numbers(&array)),
            ["loss"] => case.loss = numbers(&array)[0],
            ["grad", parameter] => drop(case.gradients.insert(parameter.to_owned(), numbers(&array))),
            ["gradin", input] => drop(case.of_feeds.insert(input.to_owned(), numbers(&array))),
            _ => panic!("{name}"),
        }
    }
    cases
}

struct Computed {
    output: Vec<f64>,
    loss: f64,
    /// `None`: no gradient at all.
    gradients: BTreeMap<String, Option<Vec<f64>>>,
}

fn compute<T: Real>(case: &Case, graph: &Graph) -> Result<Computed, LearnError> {
    let trainable: BTreeSet<String> = case.gradients.keys().cloned().collect();
    let inputs = case.feeds.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    let wanted = Wanted {
        values: &[&case.output.0],
        inputs: &inputs,
        trainable: &trainable,
        rank: None,
        batch_norm: BatchNorm::AsStored,
        room: MAX_HELD_BYTES,
    };
    let Lowered { mut tape, values, parameters, .. } = lower(graph, &wanted)?;
    let whole = |source| LearnError::Program { source };
    let output = values[&case.output.0].id;
    let shape = tape.shape(output).to_vec();
    let weights = tape.stored(&shape, case.weights.clone()).map_err(whole)?;
    let weighted = tape.mul(output, weights).map_err(whole)?;
    let axes: Vec<usize> = (0..shape.len()).collect();
    let loss = tape.reduce(Fold::Sum { scale: 1.0 }, weighted, &axes).map_err(whole)?;
    let fed: BTreeMap<&String, Id> = case.feeds.keys().map(|name| (name, values[name].id)).collect();
    let mut by: BTreeMap<String, Id> = parameters.clone();
    by.extend(case.of_feeds.keys().map(|name| (format!("<{name}"), fed[name])));
    let ids: Vec<Id> = by.values().copied().collect();
    let found = tape.differentiate(loss, &ids).map_err(whole)?;
    let results: Vec<Id> = found.iter().flatten().copied().chain([output, loss]).collect();
    let mut program = Program::<T>::new(&tape, &results).map_err(whole)?;
    let mut fill = |id: Id, values: Vec<f64>| {
        program.own_mut(id).iter_mut().zip(values).for_each(|(place, value)| *place = T::of(value));
    };
    for (name, tensor) in &case.feeds {
        fill(fed[name], numbers(tensor));
    }
    for (name, id) in &parameters {
        let stored = &graph.initializers[name].data;
        let shoal_onnx::ConstantData::F32(values) = stored else { panic!("{name}: {stored:?}") };
        fill(*id, values.iter().map(|value| f64::from(*value)).collect());
    }
    // Twice: the second run must not see what the first left.
    program.run();
    program.run();
    let get = |id: Id| program.get(id).iter().map(|value| value.f64()).collect::<Vec<f64>>();
    let gradients = by.into_keys().zip(&found).map(|(name, id)| (name, id.map(get))).collect();
    Ok(Computed { output: get(output), loss: get(loss)[0], gradients })
}

/// Graphs that are refused, each with a word of the reason: what is not trained through is said.
const REFUSED: [(&str, &str); 15] = [
    ("AveragePool.3d", "3 axes"),
    ("Conv.3d", "3 axes"),
    ("MaxPool.3d", "3 axes"),
    ("ConvTranspose.1d.shape", "not served"),
    ("ConvTranspose.1d.shape2", "not served"),
    ("ConvTranspose.2d.shape", "not served"),
    ("Pad.neg", "pads hold -1"),
    ("Pad.wrap", "not served"),
    ("GRU.acts", "HardSigmoid"),
    ("LSTM.acts", "HardSigmoid"),
    ("GatherElements.dyn", "known beforehand"),
    ("Resize.cubic", "cubic"),
    ("ScatterElements", "no backward"),
    ("ScatterND", "no backward"),
    ("if_const", "no backward"),
];

/// A gradient below this share of all together is nought but for rounding: the bias of a key in attention.
const SHARE_OF_ALL: f64 = 1e-2;

fn off(got: &[f64], wanted: &[f64], least: f64) -> f64 {
    if got.len() != wanted.len() {
        return f64::INFINITY;
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let apart = norm(&mut got.iter().zip(wanted).map(|(a, b)| a - b));
    let size = norm(&mut wanted.iter().copied());
    if apart <= 1e-12 { 0.0 } else { apart / size.max(least) }
}

fn check<T: Real>(name: &str, case: &Case, graph: &Graph, most: f64) -> Result<(), String> {
    let made = compute::<T>(case, graph).map_err(|error| crate::failure::chain(&error))?;
    let far =
        |what: &str, off: f64| if off <= most { Ok(()) } else { Err(format!("{what} is off by {off:e}")) };
    far("the output", off(&made.output, &case.output.1, 1e-3))?;
    far("the loss", off(&[made.loss], &[case.loss], 1.0))?;
    let all = case.gradients.values().chain(case.of_feeds.values()).flatten();
    let least = SHARE_OF_ALL * all.map(|value| value * value).sum::<f64>().sqrt();
    let wanted = case.gradients.iter().map(|(name, values)| (name.clone(), values));
    let of_feeds = case.of_feeds.iter().map(|(name, values)| (format!("<{name}"), values));
    for (parameter, wanted) in wanted.chain(of_feeds) {
        match &made.gradients[&parameter] {
            Some(got) => far(&format!("the gradient by {parameter}"), off(got, wanted, least))?,
            None if wanted.iter().all(|value| *value == 0.0) => {}
            None => return Err(format!("{parameter} has no gradient in {name}")),
        }
    }
    Ok(())
}

/// Notes a graph that does not work: it may be one that is known not to, for the reason that is known.
fn refuse<'a>(name: &'a str, reason: &str, refused: &mut BTreeSet<&'a str>, wrong: &mut Vec<String>) {
    match REFUSED.iter().find(|(known, word)| *known == name && reason.contains(word)) {
        Some(_) => drop(refused.insert(name)),
        None => wrong.push(format!("{name}: {reason}")),
    }
}

#[test]
fn gradients_of_every_operator_are_pytorchs() {
    let mut wrong = Vec::new();
    let mut refused = BTreeSet::new();
    let cases = cases();
    let mut ops: BTreeSet<String> = BTreeSet::new();
    for (name, case) in &cases {
        let graph = match OnnxModel::parse(&case.onnx, &Limits::default()) {
            Ok(model) => model.training_graph(),
            Err(refusal) => {
                refuse(name, &refusal.to_string(), &mut refused, &mut wrong);
                continue;
            }
        };
        ops.extend(graph.nodes.iter().map(|node| node.op.clone()));
        for (bits, done) in
            [(64, check::<f64>(name, case, &graph, 1e-6)), (32, check::<f32>(name, case, &graph, 1e-4))]
        {
            if let Err(reason) = done {
                refuse(name, &format!("in {bits} bits: {reason}"), &mut refused, &mut wrong);
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), 2 * cases.len(), wrong.join("\n"));
    assert_eq!(refused.len(), REFUSED.len(), "no longer refused; so much the better: {refused:?}");
    let untested: Vec<&&str> = shoal_onnx::TRAINABLE_OPS.iter().filter(|op| !ops.contains(**op)).collect();
    println!("{} cases, without: {untested:?}", cases.len());
}
