//! Maps of the input folded into the weights: the folded file on `x` answers as the original does on
//! the mapped `x`.

#![expect(clippy::unwrap_used, reason = "the lint's exception for tests does not reach their helpers")]

use prost::Message;
use shoal_infer::*;
use shoal_onnx::{
    Affine, DenseLayer, FoldError, Head, Limits, MlpSpec, Normaliser, build_mlp, fold_input_affine,
};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto::Dimension,
    tensor_shape_proto::dimension, type_proto,
};

/// Numbers without a pattern, between -1 and 1.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

fn tensor(name: &str, dims: &[i64], seed: u32) -> TensorProto {
    let count: i64 = dims.iter().product();
    // Away from zero: some are divided by.
    let float_data =
        noise(usize::try_from(count).unwrap(), seed).iter().map(|v| v + 1.5f32.copysign(*v)).collect();
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type: 1, float_data, ..Default::default() }
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    let input = inputs.iter().map(|name| (*name).into()).collect();
    let domain = if ["Scaler", "LinearRegressor"].contains(&op) { "ai.onnx.ml" } else { "" };
    NodeProto {
        op_type: op.into(),
        input,
        output: vec![output.into()],
        attribute,
        domain: domain.into(),
        ..Default::default()
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: 2, i, ..Default::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: 1, f, ..Default::default() }
}

fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: 6, floats, ..Default::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: 7, ints: ints.to_vec(), ..Default::default() }
}

fn interface(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim =
        dims.iter().map(|d| Dimension { value: Some(dimension::Value::DimValue(*d)), ..Default::default() });
    let shape = (!dims.is_empty()).then(|| TensorShapeProto { dim: dim.collect() });
    let value = Some(type_proto::Value::TensorType(type_proto::Tensor { elem_type: 1, shape }));
    let kind = Some(TypeProto { value, ..Default::default() });
    ValueInfoProto { name: name.into(), r#type: kind, ..Default::default() }
}

fn graph(dims: &[i64], node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> GraphProto {
    let (input, output) = (vec![interface("x", dims)], vec![interface("y", &[])]);
    GraphProto { name: "g".into(), node, initializer, input, output, ..Default::default() }
}

fn file(graph: GraphProto) -> Vec<u8> {
    let set = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    ModelProto {
        ir_version: 8,
        opset_import: vec![set("", 15), set("ai.onnx.ml", 3)],
        graph: Some(graph),
        metadata_props: vec![StringStringEntryProto { key: "note".into(), value: "kept".into() }],
        ..Default::default()
    }
    .encode_to_vec()
}

fn answer(bytes: &[u8], shape: &[usize], values: Vec<f32>) -> Vec<f32> {
    let predictor = Predictor::load(bytes, &Limits::default()).unwrap();
    let name = predictor.inputs()[0].name.clone();
    let made =
        predictor.infer(&[Tensor { name, shape: shape.to_vec(), data: TensorData::F32(values) }]).unwrap();
    made[0].f32s().unwrap().to_vec()
}

fn map(count: usize, is_shifted: bool) -> Vec<Affine> {
    let one = |(scale, shift): (f32, &f32)| Affine {
        scale: 1.0 + 0.4 * f64::from(scale),
        shift: if is_shifted { f64::from(*shift) } else { 0.0 },
    };
    noise(count, 77).into_iter().zip(&noise(count, 78)).map(one).collect()
}

/// Folds, runs both, and gives the worst difference, relative to the largest answer.
fn difference(bytes: &[u8], shape: &[usize], axis: usize, map: &[Affine]) -> f32 {
    let folded = fold_input_affine(bytes, map, &Limits::default()).unwrap();
    assert_eq!(folded.len(), bytes.len());
    assert_eq!(
        ModelProto::decode(folded.as_slice()).unwrap().metadata_props,
        ModelProto::decode(bytes).unwrap().metadata_props
    );
    let x = noise(shape.iter().product(), 5);
    let inner: usize = shape[axis + 1..].iter().product();
    let feature = |at: usize| map[at / inner % shape[axis]];
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
    let one = |(at, x): (usize, &f32)| feature(at).apply(f64::from(*x)) as f32;
    let mapped: Vec<f32> = x.iter().enumerate().map(one).collect();
    let (expected, got) = (answer(bytes, shape, mapped), answer(&folded, shape, x.clone()));
    assert_ne!(answer(bytes, shape, x), expected, "the map must matter");
    let largest = expected.iter().fold(1f32, |most, value| most.max(value.abs()));
    expected.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

const TOLERANCE: f32 = 2e-6;

#[test]
fn scalers_and_normalisers_take_the_map_in() {
    let two = |first: &str, second: &str| {
        vec![node(first, &["x", "m"], "v", vec![]), node(second, &["v", "s"], "y", vec![])]
    };
    for (first, second) in [("Sub", "Div"), ("Sub", "Mul"), ("Mul", "Add"), ("Add", "Mul"), ("Div", "Sub")] {
        for dims in [&[3][..], &[1, 3]] {
            let bytes =
                file(graph(&[2, 3], two(first, second), vec![tensor("m", dims, 1), tensor("s", dims, 2)]));
            let worst = difference(&bytes, &[2, 3], 1, &map(3, true));
            assert!(worst <= TOLERANCE, "{first} {second} {dims:?}: {worst}");
        }
        let one = vec![tensor("m", &[], 1), tensor("s", &[1], 2)];
        let bytes = file(graph(&[2, 3], two(first, second), one));
        let alike = vec![Affine { scale: 1.25, shift: 0.5 }; 3];
        assert!(difference(&bytes, &[2, 3], 1, &alike) <= TOLERANCE, "{first} {second}");
        let error = fold_input_affine(&bytes, &map(3, true), &Limits::default()).unwrap_err().to_string();
        assert!(error.contains("one number for all features"), "{error}");
    }
    // The stored number may stand first, and a Constant stores as well.
    let nodes = vec![
        NodeProto {
            attribute: vec![AttributeProto {
                name: "value".into(),
                r#type: 4,
                t: Some(tensor("", &[3], 1)),
                ..Default::default()
            }],
            ..node("Constant", &[], "m", vec![])
        },
        node("Identity", &["x"], "w", vec![]),
        node("Mul", &["m", "w"], "v", vec![]),
        node("Add", &["s", "v"], "y", vec![]),
    ];
    let bytes = file(graph(&[2, 3], nodes, vec![tensor("s", &[3], 2)]));
    assert!(difference(&bytes, &[2, 3], 1, &map(3, true)) <= TOLERANCE);
    let attributes = vec![floats("offset", vec![0.5, 1.0, -2.0]), floats("scale", vec![2.0, 0.1, 3.0])];
    let bytes = file(graph(&[2, 3], vec![node("Scaler", &["x"], "y", attributes)], vec![]));
    assert!(difference(&bytes, &[2, 3], 1, &map(3, true)) <= TOLERANCE);
    let coefficients = floats("coefficients", noise(6, 3));
    let attributes = vec![int("targets", 2), coefficients, floats("intercepts", vec![1.0, 2.0])];
    let bytes = file(graph(&[2, 3], vec![node("LinearRegressor", &["x"], "y", attributes)], vec![]));
    assert!(difference(&bytes, &[2, 3], 1, &map(3, true)) <= TOLERANCE);
}

#[test]
fn dense_layers_take_the_map_in() {
    for (turn_a, turn_b, alpha, beta) in
        [(0, 0, 1.0, 1.0), (0, 1, 1.0, 1.0), (1, 0, 0.5, 1.0), (1, 1, 2.0, 0.25), (0, 1, -1.5, 3.0)]
    {
        let attributes =
            vec![int("transA", turn_a), int("transB", turn_b), float("alpha", alpha), float("beta", beta)];
        let (input, axis) = if turn_a == 1 { ([3, 2], 0) } else { ([2, 3], 1) };
        let shape = input.map(|size| usize::try_from(size).unwrap());
        for bias in [&[4][..], &[1, 4]] {
            let matrix = if turn_b == 1 { [4, 3] } else { [3, 4] };
            let stored = vec![tensor("w", &matrix, 1), tensor("b", bias, 2)];
            let nodes = vec![node("Gemm", &["x", "w", "b"], "y", attributes.clone())];
            let worst = difference(&file(graph(&input, nodes, stored)), &shape, axis, &map(3, true));
            assert!(worst <= TOLERANCE, "{turn_a} {turn_b} {alpha} {beta} {bias:?}: {worst}");
        }
    }
    let then = |last: NodeProto, stored: Vec<TensorProto>| {
        let nodes = vec![node("MatMul", &["x", "w"], "v", vec![]), last];
        file(graph(&[2, 5, 3], nodes, [vec![tensor("w", &[3, 4], 1)], stored].concat()))
    };
    let added = then(node("Add", &["v", "b"], "y", vec![]), vec![tensor("b", &[4], 2)]);
    assert!(difference(&added, &[2, 5, 3], 2, &map(3, true)) <= TOLERANCE);
    let bare = then(node("Relu", &["v"], "y", vec![]), vec![]);
    assert!(difference(&bare, &[2, 5, 3], 2, &map(3, false)) <= TOLERANCE);
    let error = fold_input_affine(&bare, &map(3, true), &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("nothing before it takes the shift in"), "{error}");
}

#[test]
fn convolutions_take_the_map_in_where_they_do_not_pad() {
    let conv = |input: &[i64], kernel: &[i64], inputs: &[&str], attributes: Vec<AttributeProto>| {
        let stored = vec![tensor("w", kernel, 1), tensor("b", &kernel[..1], 2)];
        file(graph(input, vec![node("Conv", inputs, "y", attributes)], stored))
    };
    let all = ["x", "w", "b"];
    let plain = conv(&[2, 4, 9], &[5, 4, 3], &all, vec![]);
    assert!(difference(&plain, &[2, 4, 9], 1, &map(4, true)) <= TOLERANCE);
    let grouped = conv(&[1, 4, 6, 7], &[6, 2, 3, 2], &all, vec![int("group", 2), ints("strides", &[2, 1])]);
    assert!(difference(&grouped, &[1, 4, 6, 7], 1, &map(4, true)) <= TOLERANCE);
    let padded = conv(&[2, 4, 9], &[5, 4, 3], &all, vec![ints("pads", &[1, 1])]);
    assert!(difference(&padded, &[2, 4, 9], 1, &map(4, false)) <= TOLERANCE);
    let said =
        |bytes: &[u8]| fold_input_affine(bytes, &map(4, true), &Limits::default()).unwrap_err().to_string();
    assert!(said(&padded).contains("it pads with zeros"));
    let bare = conv(&[2, 4, 9], &[5, 4, 3], &all[..2], vec![]);
    assert!(difference(&bare, &[2, 4, 9], 1, &map(4, false)) <= TOLERANCE);
    assert_eq!(said(&bare), "nothing before the output `y` takes the rest of the map in");
}

#[test]
fn exported_models_take_the_map_in() {
    for name in ["mlp_a.onnx", "mlp_b.onnx", "ae.onnx", "mlp_a.dynamo.onnx"] {
        let path = format!("{}/../onnx/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        let predictor = Predictor::load(&bytes, &Limits::default()).unwrap();
        let width = predictor.inputs()[0].row_elements().unwrap();
        let worst = difference(&bytes, &[8, width], 1, &map(width, true));
        assert!(worst <= 1e-5, "{name}: {worst}");
    }
    for bend in [[0.0; 3], [0.5, 0.1, 2.0], [0.0, 0.5, 0.0]] {
        let (mean, std) = (vec![1.0, 2.0, 0.0], vec![0.5, 4.0, 0.1]);
        let spec = MlpSpec {
            width: 3,
            normaliser: Some(Normaliser { bend: bend.into(), mean, std, clip: 3.0 }),
            layers: vec![DenseLayer { weight: noise(12, 9), bias: noise(4, 10) }],
            head: Head::Values,
        };
        let worst = difference(&build_mlp(&spec).unwrap(), &[20, 3], 1, &map(3, true));
        assert!(worst <= TOLERANCE, "{bend:?}: {worst}");
    }
}

#[test]
fn what_stands_in_the_way_is_named() {
    let bytes = |nodes: Vec<NodeProto>| {
        let stored = vec![tensor("w", &[3, 3], 1), tensor("b", &[3], 2), tensor("z", &[2, 3], 3)];
        file(graph(&[2, 3], nodes, stored))
    };
    let gemm = || node("Gemm", &["x", "w", "b"], "y", vec![]);
    let said = |bytes: &[u8], map: &[Affine]| {
        fold_input_affine(bytes, map, &Limits::default()).unwrap_err().to_string()
    };
    let table = [
        (vec![node("Tanh", &["x"], "y", vec![])], "node `y` (Tanh): it takes no map in"),
        (
            vec![node("Gemm", &["x", "w", "b"], "v", vec![]), node("Add", &["v", "x"], "y", vec![])],
            "`x` is read in 2 places",
        ),
        (
            vec![node("Gemm", &["x", "w", "b"], "v", vec![]), node("MatMul", &["v", "w"], "y", vec![])],
            "its operand `w` is shared by 2 readers",
        ),
        (vec![node("Add", &["x", "z"], "y", vec![])], "`z` is not one number for each feature"),
        (vec![node("Sub", &["b", "x"], "y", vec![])], "the input is its second operand"),
        (vec![node("MatMul", &["z", "x"], "y", vec![])], "the input is not its first operand"),
        (
            vec![node("Identity", &["x"], "y", vec![])],
            "nothing before the output `y` takes the rest of the map in",
        ),
    ];
    for (nodes, expected) in table {
        let got = said(&bytes(nodes), &map(3, true));
        assert!(got.contains(expected), "expected `{expected}`, got `{got}`");
    }
    let good = bytes(vec![gemm()]);
    assert_eq!(said(&good, &map(2, true)), "the input has 3 features, the map is for 2");
    let zero = [Affine { scale: 0.0, shift: 1.0 }; 3];
    assert!(matches!(
        fold_input_affine(&good, &zero, &Limits::default()).unwrap_err(),
        FoldError::Map { feature: 0, .. }
    ));
    assert_eq!(fold_input_affine(&good, &[Affine::IDENTITY; 3], &Limits::default()).unwrap(), good);
    let mut given = graph(&[2, 3], vec![gemm()], vec![tensor("w", &[3, 3], 1), tensor("b", &[3], 2)]);
    given.input.push(interface("w", &[3, 3]));
    assert!(said(&file(given), &map(3, true)).contains("`w` may be given by the caller"));
    // Taken back, the old answers return.
    let map = map(3, true);
    let there = fold_input_affine(&good, &map, &Limits::default()).unwrap();
    let back: Vec<Affine> = map.iter().map(|affine| affine.inverse()).collect();
    let again = fold_input_affine(&there, &back, &Limits::default()).unwrap();
    let x = noise(6, 5);
    let pairs = answer(&good, &[2, 3], x.clone()).into_iter().zip(answer(&again, &[2, 3], x));
    assert!(pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 1e-5);
}
