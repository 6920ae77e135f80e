//! Each operator, forward and backward, against the engine that serves: values as tract computes
//! them, gradients as differences of its values. candle appears on one side only.

#![expect(clippy::unwrap_used, reason = "the lint's exception for tests does not reach their helpers")]

use std::collections::BTreeMap;

use shoal_infer::Predictor;
use shoal_learn::{Dataset, Targets, gradients};
use shoal_onnx::{Limits, patch_initializers};

const ROWS: usize = 5;
const WIDTH: usize = 4;
/// Step of the differences, in f32: rounding of the loss over it stays below the tolerance.
const STEP: f32 = 4e-3;
/// Largest error of a gradient, relative to the largest slope of its parameter.
const TOLERANCE: f64 = 1e-2;

/// As much of protobuf as an ONNX file needs.
fn number(field: u8, mut value: u64) -> Vec<u8> {
    let mut bytes = vec![field << 3];
    while value > 127 {
        bytes.push(u8::try_from(value & 127).unwrap() | 128);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

fn part(field: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = number(field, body.len() as u64);
    bytes[0] |= 2;
    bytes.extend(body);
    bytes
}

fn floats(name: &str, dims: &[u64], values: &[f32]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| number(1, *dim)).collect();
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    part(5, &[dims, number(2, 1), part(8, name.as_bytes()), part(9, &raw)].concat())
}

fn wholes(name: &str, values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    part(5, &[number(1, values.len() as u64), number(2, 7), part(8, name.as_bytes()), part(9, &raw)].concat())
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| part(1, input.as_bytes())).collect();
    let attributes: Vec<u8> = attributes.iter().flat_map(|attribute| part(5, attribute)).collect();
    part(
        1,
        &[inputs, part(2, output.as_bytes()), part(3, output.as_bytes()), part(4, op.as_bytes()), attributes]
            .concat(),
    )
}

fn int(name: &str, value: i64) -> Vec<u8> {
    // A negative number is its two's complement.
    let value = u64::from_ne_bytes(value.to_ne_bytes());
    [part(1, name.as_bytes()), number(3, value), vec![0xa0, 1, 2]].concat()
}

fn float(name: &str, value: f32) -> Vec<u8> {
    [part(1, name.as_bytes()), vec![0x15], value.to_le_bytes().to_vec(), vec![0xa0, 1, 1]].concat()
}

fn ints(name: &str, values: &[u64]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|value| number(8, *value)).collect();
    [part(1, name.as_bytes()), values, vec![0xa0, 1, 7]].concat()
}

fn text(name: &str, value: &str) -> Vec<u8> {
    [part(1, name.as_bytes()), part(4, value.as_bytes()), vec![0xa0, 1, 3]].concat()
}

fn interface(field: u8, name: &str) -> Vec<u8> {
    let shape = [part(1, &part(2, b"N")), part(1, &number(1, WIDTH as u64))].concat();
    let kind = part(2, &part(1, &[number(1, 1), part(2, &shape)].concat()));
    part(field, &[part(1, name.as_bytes()), kind].concat())
}

/// Numbers between -1 and 1 that follow no pattern.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).unwrap()) / 32_768.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// `x · w` as `h`, the nodes under test from `h` to `y`, and what they store.
fn model(nodes: &[Vec<u8>], stored: &[Vec<u8>]) -> Vec<u8> {
    let graph = [
        node("MatMul", &["x", "w"], "h", &[]),
        nodes.concat(),
        floats("w", &[4, 4], &noise(16, 1)),
        stored.concat(),
        interface(11, "x"),
        interface(12, "y"),
    ];
    [number(1, 8), part(8, &number(2, 17)), part(7, &graph.concat())].concat()
}

struct Served {
    features: Vec<f32>,
    targets: Vec<f32>,
}

impl Served {
    /// The mean squared error, by tract.
    fn loss(&self, onnx: &[u8]) -> f64 {
        let rows = Predictor::load(onnx, &Limits::default()).unwrap().rows(ROWS, &self.features).unwrap();
        assert_eq!(rows.width, WIDTH);
        let squares =
            rows.values.iter().zip(&self.targets).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
        squares.sum::<f64>() / self.targets.len() as f64
    }

    fn check(&self, name: &str, onnx: &[u8]) {
        let targets = Targets::Values { width: WIDTH, values: self.targets.clone() };
        let data = Dataset::new(WIDTH, self.features.clone(), targets, vec![]).unwrap();
        let (loss, slopes) = gradients(onnx, &data).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let expected = self.loss(onnx);
        assert!((loss - expected).abs() <= 1e-5 * (1.0 + expected), "{name}: {loss}, tract {expected}");
        let graph = shoal_onnx::OnnxModel::parse(onnx, &Limits::default()).unwrap().graph();
        for (parameter, slopes) in &slopes {
            let shoal_onnx::ConstantData::F32(values) = &graph.initializers[parameter].data else { panic!() };
            let at = |place: usize, change: f32| {
                let mut moved = values.clone();
                moved[place] += change;
                self.loss(&patch_initializers(onnx, &BTreeMap::from([(parameter.clone(), moved)])).unwrap())
            };
            let most = slopes.iter().fold(1e-2f64, |most, slope| most.max(f64::from(slope.abs())));
            // Every third element: each costs two loads of the model.
            for place in (0..values.len()).step_by(3) {
                let slope = (at(place, STEP) - at(place, -STEP)) / f64::from(2.0 * STEP);
                let error = (slope - f64::from(slopes[place])).abs();
                assert!(
                    error <= TOLERANCE * most,
                    "{name} {parameter}[{place}]: {} for {slope}",
                    slopes[place]
                );
            }
        }
    }
}

type Case = (&'static str, Vec<Vec<u8>>, Vec<Vec<u8>>);

fn one(op: &'static str, inputs: &[&str], attributes: &[Vec<u8>], stored: Vec<Vec<u8>>) -> Case {
    (op, vec![node(op, inputs, "y", attributes)], stored)
}

fn row(name: &str, seed: u32) -> Vec<u8> {
    floats(name, &[4], &noise(4, seed))
}

/// Between 0.5 and 1.5, for quotients and variances.
fn above_zero(name: &str, seed: u32) -> Vec<u8> {
    let values: Vec<f32> = noise(4, seed).iter().map(|v| 1.0 + v / 2.0).collect();
    floats(name, &[4], &values)
}

fn cases() -> Vec<Case> {
    // The bounds of Clip lie between the values of `h`, none closer than five steps.
    let square = || floats("v", &[4, 4], &noise(16, 5));
    let then = |op: &'static str, first: Vec<u8>, last: Vec<u8>, stored| (op, vec![first, last], stored);
    vec![
        one(
            "Gemm",
            &["h", "v", "b"],
            &[int("transB", 1), float("alpha", 0.5), float("beta", 2.0)],
            vec![square(), row("b", 6)],
        ),
        one("Gemm", &["h", "v"], &[], vec![square()]),
        one("MatMul", &["h", "v"], &[], vec![square()]),
        one("Add", &["b", "h"], &[], vec![row("b", 7)]),
        one("Sub", &["h", "b"], &[], vec![row("b", 7)]),
        one("Mul", &["h", "b"], &[], vec![row("b", 7)]),
        one("Div", &["h", "b"], &[], vec![above_zero("b", 7)]),
        one("Neg", &["h"], &[], vec![]),
        then("Sqrt", node("Mul", &["h", "h"], "a", &[]), node("Sqrt", &["a"], "y", &[]), vec![]),
        one("Relu", &["h"], &[], vec![]),
        one("LeakyRelu", &["h"], &[float("alpha", 0.2)], vec![]),
        one("LeakyRelu", &["h"], &[], vec![]),
        one("Sigmoid", &["h"], &[], vec![]),
        one("Tanh", &["h"], &[], vec![]),
        one("Erf", &["h"], &[], vec![]),
        one("Gelu", &["h"], &[], vec![]),
        one("Gelu", &["h"], &[text("approximate", "tanh")], vec![]),
        one(
            "Clip",
            &["h", "low", "high"],
            &[],
            vec![floats("low", &[], &[-0.35]), floats("high", &[], &[0.27])],
        ),
        one("Clip", &["h", "", "high"], &[], vec![floats("high", &[], &[0.27])]),
        then(
            "Softmax",
            node("Softmax", &["h"], "a", &[int("axis", -1)]),
            node("Mul", &["a", "b"], "y", &[]),
            vec![row("b", 8)],
        ),
        then(
            "LogSoftmax",
            node("LogSoftmax", &["h"], "a", &[]),
            node("Mul", &["a", "b"], "y", &[]),
            vec![row("b", 8)],
        ),
        one(
            "BatchNormalization",
            &["h", "s", "b", "m", "v"],
            &[float("epsilon", 1e-3)],
            vec![row("s", 9), row("b", 10), row("m", 11), above_zero("v", 12)],
        ),
        then(
            "Transpose",
            node("Transpose", &["v"], "t", &[ints("perm", &[1, 0])]),
            node("MatMul", &["h", "t"], "y", &[]),
            vec![square()],
        ),
        then(
            "Reshape",
            node("Reshape", &["h", "s"], "a", &[]),
            node("Flatten", &["a"], "y", &[]),
            vec![wholes("s", &[0, 2, -1])],
        ),
        then(
            "Unsqueeze",
            node("Unsqueeze", &["h", "s"], "a", &[]),
            node("Squeeze", &["a", "s"], "y", &[]),
            vec![wholes("s", &[1])],
        ),
        then(
            "Identity",
            node("Identity", &["h"], "a", &[]),
            node("Cast", &["a"], "y", &[int("to", 1)]),
            vec![],
        ),
        one("Dropout", &["h"], &[], vec![]),
    ]
}

#[test]
fn every_op_has_tracts_values_and_slopes() {
    let served = Served { features: noise(ROWS * WIDTH, 3), targets: noise(ROWS * WIDTH, 4) };
    for (name, nodes, stored) in cases() {
        served.check(name, &model(&nodes, &stored));
    }
}

#[test]
fn every_trainable_op_has_a_case() {
    let written: Vec<u8> = cases().into_iter().flat_map(|(_, nodes, _)| nodes.concat()).collect();
    for op in shoal_onnx::TRAINABLE_OPS.iter().filter(|op| **op != "Constant") {
        let field = part(4, op.as_bytes());
        assert!(written.windows(field.len()).any(|window| window == field), "{op}");
    }
}
