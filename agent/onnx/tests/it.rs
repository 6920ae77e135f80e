//! Files as they come: good ones described and patched, bad ones refused by name.

#![expect(clippy::unwrap_used, reason = "the lint's exception for tests does not reach their helpers")]

use std::collections::BTreeMap;

use prost::Message;
use shoal_onnx::*;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto,
};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        float_data: values.to_vec(),
        ..Default::default()
    }
}

fn whole(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: 7,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    let input = inputs.iter().map(|i| (*i).into()).collect();
    NodeProto {
        op_type: op.into(),
        name: "n".into(),
        input,
        output: vec![output.into()],
        attribute,
        ..Default::default()
    }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: values.to_vec(),
        ..Default::default()
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i: value, ..Default::default() }
}

fn interface(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim =
        dims.iter().map(|d| Dimension { value: Some(dimension::Value::DimValue(*d)), ..Default::default() });
    let shape = Some(TensorShapeProto { dim: dim.collect() });
    let value = Some(type_proto::Value::TensorType(type_proto::Tensor { elem_type: 1, shape }));
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value, ..Default::default() }),
        ..Default::default()
    }
}

fn graph(nodes: Vec<NodeProto>, stored: Vec<TensorProto>) -> GraphProto {
    GraphProto {
        node: nodes,
        initializer: stored,
        input: vec![interface("x", &[1, 3, 8, 8])],
        output: vec![interface("y", &[])],
        ..Default::default()
    }
}

fn file(graph: GraphProto) -> Vec<u8> {
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() }.encode_to_vec()
}

fn one(op: &str, inputs: &[&str], attributes: Vec<AttributeProto>, stored: Vec<TensorProto>) -> Vec<u8> {
    file(graph(vec![node(op, inputs, "y", attributes)], stored))
}

fn refusal(bytes: &[u8]) -> String {
    let limits = Limits { max_bytes: 100_000, max_nodes: 100, ..Limits::default() };
    match OnnxModel::parse(bytes, &limits) {
        Ok(_) => "accepted".into(),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn hostile_files_are_refused_by_name() {
    let w = || tensor("w", &[1, 3, 3, 3], &[0.0; 27]);
    let conv = |attributes| one("Conv", &["x", "w"], attributes, vec![w()]);
    let external = TensorProto {
        data_location: Some(1),
        external_data: vec![StringStringEntryProto {
            key: "location".into(),
            value: "../../etc/passwd".into(),
        }],
        ..tensor("w", &[2], &[])
    };
    let relu = || node("Relu", &["x"], "y", vec![]);
    let mut loops = node("If", &["x"], "y", vec![]);
    loops.attribute = vec![AttributeProto {
        name: "then_branch".into(),
        r#type: 5,
        g: Some(graph(vec![node("Zorp", &["x"], "y", vec![])], vec![])),
        ..Default::default()
    }];
    let good = fixture("mlp_a.onnx");
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "not an ONNX model: it holds no graph"),
        ("garbage", b"this is no model at all".to_vec(), "not an ONNX model: damaged at byte 0"),
        ("zeros", vec![0; 64], "not an ONNX model"),
        ("truncated", good[..good.len() / 2].to_vec(), "not an ONNX model: damaged"),
        ("too large", vec![0; 100_001], "model is 100001 bytes, the limit is 100000"),
        ("two graphs", [good.clone(), good.clone()].concat(), "it holds 2 graphs"),
        ("no node", file(graph(vec![], vec![])), "its graph has no node"),
        (
            "unknown op",
            one("Zorp", &["x"], vec![], vec![]),
            "unknown operators: Zorp (not known to this build)",
        ),
        ("unknown inside", file(graph(vec![loops], vec![])), "unknown operators: Zorp"),
        ("random op", one("RandomUniformLike", &["x"], vec![], vec![]), "it is random"),
        ("loop", one("Loop", &["x"], vec![], vec![]), "has no bound"),
        (
            "foreign domain",
            file(graph(vec![NodeProto { domain: "evil".into(), ..relu() }], vec![])),
            "evil.Relu (its domain",
        ),
        (
            "many nodes",
            file(graph((0..101).map(|_| relu()).collect(), vec![])),
            "model has 101 nodes, the limit is 100",
        ),
        (
            "external data",
            one("Add", &["x", "w"], vec![], vec![external]),
            "tensor `w` is stored in another file",
        ),
        (
            "short floats",
            one("Add", &["x", "w"], vec![], vec![tensor("w", &[3], &[1.0])]),
            "shape [3] of f32 needs 3 elements, it holds 1",
        ),
        (
            "short raw",
            one(
                "Add",
                &["x", "w"],
                vec![],
                vec![TensorProto { raw_data: vec![0; 7], ..tensor("w", &[2], &[]) }],
            ),
            "needs 8 bytes, it holds 7",
        ),
        (
            "huge tensor",
            one("Add", &["x", "w"], vec![], vec![tensor("w", &[1 << 40], &[])]),
            "the limit is 67108864",
        ),
        (
            "overflowing dims",
            one("Add", &["x", "w"], vec![], vec![tensor("w", &[i64::MAX, i64::MAX, i64::MAX], &[])]),
            "make no sense",
        ),
        ("negative dim", one("Add", &["x", "w"], vec![], vec![tensor("w", &[-1], &[])]), "make no sense"),
        (
            "odd type",
            one("Add", &["x", "w"], vec![], vec![TensorProto { data_type: 99, ..tensor("w", &[1], &[1.0]) }]),
            "element type 99 is not served",
        ),
        ("stride 0", conv(vec![ints("strides", &[1, 0])]), "strides holds 0"),
        ("dilation -1", conv(vec![ints("dilations", &[-1, 1])]), "dilations holds -1"),
        ("group 0", conv(vec![int("group", 0)]), "group is 0"),
        ("huge pads", conv(vec![ints("pads", &[1 << 40, 0, 0, 0])]), "pads holds 1099511627776"),
        ("wrong kernel", conv(vec![ints("kernel_shape", &[5, 5])]), "kernel_shape is [5, 5]"),
        (
            "kernel 0",
            one("MaxPool", &["x"], vec![ints("kernel_shape", &[0, 2])], vec![]),
            "kernel_shape holds 0",
        ),
        ("no kernel", one("MaxPool", &["x"], vec![], vec![]), "kernel_shape is missing"),
        (
            "bad perm",
            one("Transpose", &["x"], vec![ints("perm", &[0, 0, 1, 2])], vec![]),
            "is no permutation",
        ),
        ("far perm", one("Transpose", &["x"], vec![ints("perm", &[0, 9])], vec![]), "is no permutation"),
        (
            "gather",
            one("Gather", &["w", "i"], vec![], vec![tensor("w", &[2], &[0.0; 2]), whole("i", &[2])]),
            "index 2 is outside of 2",
        ),
        (
            "expand",
            one("Expand", &["x", "s"], vec![], vec![whole("s", &[1 << 20, 1 << 18])]),
            "over the limit",
        ),
        ("tile", one("Tile", &["x", "s"], vec![], vec![whole("s", &[1, 1, 1 << 38, 1])]), "over the limit"),
        ("fill", one("ConstantOfShape", &["s"], vec![], vec![whole("s", &[i64::MAX, 4])]), "over the limit"),
        ("reshape", one("Reshape", &["x", "s"], vec![], vec![whole("s", &[-1, -1])]), "two sizes are -1"),
        (
            "slice",
            one(
                "Slice",
                &["x", "a", "b", "c", "d"],
                vec![],
                vec![whole("a", &[0]), whole("b", &[1]), whole("c", &[1]), whole("d", &[0])],
            ),
            "a step is 0",
        ),
        ("axis", one("Softmax", &["x"], vec![int("axis", 1 << 40)], vec![]), "does not exist"),
        ("dangling", one("Relu", &["z"], vec![], vec![]), "`n` reads `z`"),
        (
            "cycle",
            file(graph(vec![node("Relu", &["y"], "z", vec![]), node("Relu", &["z"], "y", vec![])], vec![])),
            "`n` reads `y`",
        ),
        ("no output", file(graph(vec![node("Relu", &["x"], "z", vec![])], vec![])), "`output` reads `y`"),
        ("made twice", file(graph(vec![relu(), relu()], vec![])), "two values are named `y`"),
        ("stored twice", one("Add", &["x", "w"], vec![], vec![w(), w()]), "two values are named `w`"),
        ("good", one("Relu", &["x"], vec![], vec![]), "accepted"),
    ];
    for (name, bytes, expected) in table {
        let got = refusal(&bytes);
        assert!(got.contains(expected), "{name}: expected `{expected}`, got `{got}`");
    }
}

#[test]
fn no_prefix_and_no_flipped_byte_panics() {
    let good = fixture("mlp_a.dynamo.onnx");
    for end in 0..good.len().min(600) {
        assert_ne!(refusal(&good[..end]), "accepted", "{end}");
    }
    let mut refused = 0;
    for at in 0..2000 {
        let mut bad = good.clone();
        let place = at * 7919 % bad.len();
        bad[place] ^= 1 << (at % 8);
        refused += usize::from(refusal(&bad) != "accepted");
        let _ = inspect(&bad, &Limits::default()).is_ok();
        let _ = patch_initializers(&bad, &BTreeMap::from([("x".into(), vec![])])).is_ok();
    }
    assert!(refused > 0);
}

#[test]
fn many_small_parts_are_refused_before_they_are_decoded() {
    let attributes: Vec<u8> = [0x2a, 0].repeat(60_000);
    let limits = Limits { max_messages: 10_000, ..Limits::default() };
    let wrap = |key: u8, body: &[u8]| {
        let mut bytes = vec![key];
        prost::encoding::encode_varint(body.len() as u64, &mut bytes);
        bytes.extend(body);
        bytes
    };
    let bytes = wrap(0x3a, &wrap(0x0a, &attributes));
    let refused = OnnxModel::parse(&bytes, &limits).unwrap_err();
    assert_eq!(refused, Refusal::TooManyParts { messages: 10_001, limit: 10_000 });
}

#[test]
fn zoo_is_described() {
    for (name, kind, parameters, producer) in [
        ("mlp_a", OutputKind::Logits, 6, "pytorch"),
        ("mlp_b", OutputKind::Logits, 4, "pytorch"),
        ("ae", OutputKind::Values, 8, "pytorch"),
        ("mlp_a.dynamo", OutputKind::Logits, 6, "pytorch"),
    ] {
        let found = inspect(&fixture(&format!("{name}.onnx")), &Limits::default()).unwrap();
        assert_eq!(found.servable, Servable::Yes, "{name}");
        assert_eq!(found.output_kind, kind, "{name}");
        assert_eq!(found.trainable.parameters.len(), parameters, "{name}: {:?}", found.trainable);
        assert!(found.trainable.reasons.is_empty(), "{name}");
        assert!(found.producer.starts_with(producer), "{name}: {}", found.producer);
        assert_eq!(found.inputs[0].dims[0], None, "{name}");
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Inspection>(&text).unwrap(), found);
    }
    let a = inspect(&fixture("mlp_a.onnx"), &Limits::default()).unwrap();
    assert_eq!(
        a.parameters,
        ParameterCount { count: 16 * 64 + 64 + 64 * 64 + 64 + 64 * 6 + 6, size_bytes: 5638 * 4 }
    );
    assert_eq!(a.trainable.parameters[..2], ["0.weight", "0.bias"]);
}

#[test]
fn what_is_against_a_model_is_said() {
    let found = inspect(&one("Det", &["x"], vec![], vec![]), &Limits::default()).unwrap();
    assert!(matches!(&found.servable, Servable::No { reasons } if reasons[0].starts_with("Det (")));
    let found = inspect(&one("Scaler", &["x"], vec![], vec![]), &Limits::default()).unwrap();
    assert!(
        matches!(&found.servable, Servable::No { reasons } if reasons[0].contains("setting `offset` is missing"))
    );
    let found = inspect(&one("Hardmax", &["x"], vec![], vec![]), &Limits::default()).unwrap();
    assert_eq!(found.servable, Servable::Yes);
    assert!(found.trainable.reasons.iter().any(|r| r == "Hardmax cannot be trained through"));
    assert!(found.trainable.parameters.is_empty());
}

fn spec(head: Head) -> MlpSpec {
    MlpSpec {
        width: 2,
        normaliser: Some(Normaliser {
            bend: Vec::new(),
            mean: vec![1.0, 2.0],
            std: vec![0.5, 4.0],
            clip: 3.0,
        }),
        layers: vec![
            DenseLayer { weight: vec![0.25; 6], bias: vec![0.5; 3] },
            DenseLayer { weight: vec![-1.0; 6], bias: vec![0.0, 1.0] },
        ],
        head,
    }
}

#[test]
fn a_written_network_is_a_good_file() {
    let bytes = build_mlp(&spec(Head::Classes)).unwrap();
    assert_eq!(bytes, build_mlp(&spec(Head::Classes)).unwrap());
    let found = inspect(&bytes, &Limits::default()).unwrap();
    assert_eq!(found.servable, Servable::Yes);
    assert_eq!(found.output_kind, OutputKind::Probabilities);
    assert_eq!(found.inputs[0].to_string(), "features f32[?, 2]");
    assert_eq!(found.outputs[0].to_string(), "probabilities f32[?, 2]");
    let names = ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"];
    assert_eq!(found.trainable.parameters, names);
    let values = inspect(&build_mlp(&spec(Head::Values)).unwrap(), &Limits::default()).unwrap();
    assert_eq!(values.outputs[0].to_string(), "values f32[?, 2]");
}

#[test]
fn a_written_bend_is_scaling_and_not_trained() {
    let with = |bend: Vec<f32>| {
        let normaliser = spec(Head::Classes).normaliser.map(|plain| Normaliser { bend, ..plain });
        build_mlp(&MlpSpec { normaliser, ..spec(Head::Classes) })
    };
    let plain = build_mlp(&spec(Head::Classes)).unwrap();
    assert_eq!(with(vec![0.0, 0.0]).unwrap(), plain, "nothing is written where nothing bends");
    for (bend, nodes) in [(vec![2.0, 3.0], 10), (vec![0.0, 3.0], 14)] {
        let found = inspect(&with(bend).unwrap(), &Limits::default()).unwrap();
        assert_eq!((&found.servable, found.output_kind), (&Servable::Yes, OutputKind::Probabilities));
        assert_eq!(found.trainable, inspect(&plain, &Limits::default()).unwrap().trainable);
        assert_eq!(found.input_affine, InputAffine::Yes { features: 2 });
        assert_eq!((found.ops["Asinh"], found.ops.values().sum::<usize>()), (1, nodes));
    }
    assert!(matches!(with(vec![1.0]), Err(NetworkError::Length { .. })));
    assert!(matches!(with(vec![1.0, 1e-42]), Err(NetworkError::Value { .. })), "1 / s is infinite");
}

fn cnn() -> CnnSpec {
    let conv = |inputs: usize, filters: usize, stride| ConvLayer {
        weight: vec![0.25; filters * inputs * 5],
        bias: vec![0.5; filters],
        kernel: 5,
        stride,
    };
    CnnSpec {
        channels: 2,
        length: 8,
        normaliser: Some(Normaliser { bend: Vec::new(), mean: vec![1.0; 16], std: vec![0.5; 16], clip: 3.0 }),
        convolutions: vec![conv(2, 3, 1), conv(3, 4, 2)],
        dense: DenseLayer { weight: vec![-1.0; 8], bias: vec![0.0, 1.0] },
        head: Head::Classes,
    }
}

#[test]
fn a_written_convolutional_network_takes_rows() {
    let bytes = build_cnn(&cnn()).unwrap();
    assert_eq!(bytes, build_cnn(&cnn()).unwrap());
    let found = inspect(&bytes, &Limits::default()).unwrap();
    assert_eq!((&found.servable, found.output_kind), (&Servable::Yes, OutputKind::Probabilities));
    assert_eq!(found.inputs[0].to_string(), "features f32[?, 16]");
    assert_eq!(found.outputs[0].to_string(), "probabilities f32[?, 2]");
    assert_eq!((found.trainable.parameters.len(), found.trainable.reasons.len()), (6, 0));
    let values = build_cnn(&CnnSpec { head: Head::Values, ..cnn() }).unwrap();
    assert_eq!(inspect(&values, &Limits::default()).unwrap().outputs[0].to_string(), "values f32[?, 2]");
    let with = |change: fn(&mut CnnSpec)| {
        let mut spec = cnn();
        change(&mut spec);
        build_cnn(&spec).unwrap_err()
    };
    assert_eq!(with(|s| s.length = 0), NetworkError::Empty);
    assert_eq!(with(|s| s.convolutions.clear()), NetworkError::Empty);
    assert_eq!(with(|s| s.convolutions[0].kernel = 4), NetworkError::Empty);
    let name = "convolutions.1.weight".into();
    assert_eq!(
        with(|s| s.convolutions[1].weight.truncate(5)),
        NetworkError::Length { name, expected: 60, got: 5 }
    );
}

#[test]
fn a_network_that_does_not_fit_is_not_written() {
    let with = |change: fn(&mut MlpSpec)| {
        let mut spec = spec(Head::Classes);
        change(&mut spec);
        build_mlp(&spec).unwrap_err()
    };
    assert_eq!(with(|s| s.layers.clear()), NetworkError::Empty);
    assert_eq!(with(|s| s.width = 0), NetworkError::Empty);
    assert_eq!(
        with(|s| s.layers[1].weight.truncate(5)),
        NetworkError::Length { name: "layers.1.weight".into(), expected: 6, got: 5 }
    );
    assert!(matches!(with(|s| s.layers[0].bias[0] = f32::NAN), NetworkError::Value { .. }));
    assert!(matches!(with(|s| s.normaliser.as_mut().unwrap().std[0] = 0.0), NetworkError::Value { .. }));
}

#[test]
fn patching_changes_the_named_values_and_no_other_byte() {
    for name in ["mlp_a.onnx", "mlp_b.onnx", "ae.onnx", "mlp_a.dynamo.onnx"] {
        let old = fixture(name);
        let before = OnnxModel::parse(&old, &Limits::default()).unwrap().graph();
        let target = &parameters(&before)[0];
        let count: usize = target.dims.iter().product();
        // 0x55 in every byte: no such byte pair is likely to be there already.
        let value = f32::from_le_bytes([0x55; 4]);
        let new =
            patch_initializers(&old, &BTreeMap::from([(target.name.clone(), vec![value; count])])).unwrap();
        assert_eq!(new.len(), old.len(), "{name}");
        let changed: Vec<usize> = (0..old.len()).filter(|at| old[*at] != new[*at]).collect();
        assert!(changed.last().unwrap() - changed[0] < count * 4, "{name}");
        let after = OnnxModel::parse(&new, &Limits::default()).unwrap().graph();
        assert_eq!(after.initializers[&target.name].data, ConstantData::F32(vec![value; count]));
        let mut same = after.clone();
        same.initializers.insert(target.name.clone(), before.initializers[&target.name].clone());
        assert_eq!(same, before, "{name}");
        assert_eq!(patch_initializers(&old, &BTreeMap::new()).unwrap(), old);
    }
}

#[test]
fn float_data_packed_or_not_is_patched_in_place() {
    let new = BTreeMap::from([("w".to_owned(), vec![7.0f32, 8.0])]);
    let packed = one("Add", &["x", "w"], vec![], vec![tensor("w", &[2], &[1.0, 2.0])]);
    let patched = patch_initializers(&packed, &new).unwrap();
    assert_eq!(patched, one("Add", &["x", "w"], vec![], vec![tensor("w", &[2], &[7.0, 8.0])]));
    // One by one: field 4 with wire type 5, twice; dims, type and name around it; an unknown field last.
    let values = [[0x25].as_slice(), &1f32.to_le_bytes(), &[0x25], &2f32.to_le_bytes()].concat();
    let stored = [&[0x08, 2, 0x10, 1][..], &values, &[0x42, 1, b'w', 0xfa, 0x7f, 1, 9]].concat();
    let inner = [&[0x2a, u8::try_from(stored.len()).unwrap()][..], &stored].concat();
    let bytes = [&[0x3a, u8::try_from(inner.len()).unwrap()][..], &inner].concat();
    let patched = patch_initializers(&bytes, &new).unwrap();
    let changed: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != patched[*at]).collect();
    assert_eq!(patched.len(), bytes.len());
    assert!(changed.iter().all(|at| (9..18).contains(at)), "{changed:?}");
    assert!(patched.windows(4).any(|w| w == 8f32.to_le_bytes()));
}

#[test]
fn patches_that_do_not_fit_are_refused() {
    let bytes = one("Add", &["x", "w"], vec![], vec![tensor("w", &[2], &[1.0, 2.0]), whole("i", &[1])]);
    let patch = |name: &str, count: usize| {
        patch_initializers(&bytes, &BTreeMap::from([(name.to_owned(), vec![0.0; count])])).unwrap_err()
    };
    assert_eq!(patch("v", 2), PatchError::Unknown { name: "v".into() });
    assert_eq!(patch("w", 3), PatchError::Length { name: "w".into(), expected: 2, got: 3 });
    assert_eq!(
        patch("i", 1),
        PatchError::NotFloat { name: "i".into(), reason: "is not of floating point numbers" }
    );
    let twice = one("Add", &["x", "w"], vec![], vec![tensor("w", &[1], &[1.0]), tensor("w", &[1], &[1.0])]);
    let new = BTreeMap::from([("w".to_owned(), vec![0.0])]);
    assert_eq!(patch_initializers(&twice, &new).unwrap_err(), PatchError::Duplicate { name: "w".into() });
    assert!(matches!(patch_initializers(&bytes[..20], &new), Err(PatchError::NotOnnx { .. })));
}

#[test]
fn many_graphs_beside_many_names_are_checked_one_by_one() {
    let inner = GraphProto { output: vec![interface("x", &[])], ..Default::default() };
    let mut many = node("If", &["x"], "y", vec![]);
    many.attribute = vec![AttributeProto {
        name: "b".into(),
        r#type: 10,
        graphs: vec![inner; 200_000],
        ..Default::default()
    }];
    let names = (0..20_000).map(|i| tensor(&format!("w{i}"), &[1], &[0.0])).collect();
    // Copying the names for each graph would be four thousand million steps.
    assert!(OnnxModel::parse(&file(graph(vec![many], names)), &Limits::default()).is_ok());
}
