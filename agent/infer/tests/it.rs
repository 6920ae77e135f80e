//! Models served: the zoo's answers, errors by name, archives, admission.

#![expect(clippy::unwrap_used, reason = "the lint's exception for tests does not reach their helpers")]

use std::path::PathBuf;

use prost::Message;

use shoal_infer::*;
use shoal_onnx::{Datatype, DenseLayer, Head, Limits, MlpSpec, Normaliser, build_mlp};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto,
};

fn testdata(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../onnx/testdata/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn load(name: &str) -> Predictor {
    Predictor::load(&testdata(name), &Limits::default()).unwrap()
}

/// The input and outputs of an `.io.npz`, named as the model names them.
fn golden(predictor: &Predictor, npz: &[u8]) -> (Vec<Tensor>, Vec<Tensor>) {
    let arrays = read_npz(npz).unwrap();
    let mut input = arrays.iter().find(|a| a.name == "x").unwrap().clone();
    input.name = predictor.inputs()[0].name.clone();
    let output = |(place, spec): (usize, &shoal_onnx::TensorSpec)| {
        let key = if place == 0 { "y".to_owned() } else { format!("y{place}") };
        let mut array = arrays.iter().find(|a| a.name == key)?.clone();
        array.name = spec.name.clone();
        Some(array)
    };
    let outputs = predictor.outputs().iter().enumerate().filter_map(output).collect();
    (vec![input], outputs)
}

const ZOO: [&str; 4] = ["mlp_a", "mlp_b", "ae", "mlp_a.dynamo"];

#[test]
fn zoo_answers_as_onnxruntime_does() {
    for name in ZOO {
        let predictor = load(&format!("{name}.onnx"));
        assert_eq!(predictor.batching(), Batching::Open, "{name}");
        let npz = testdata(&format!("{name}.io.npz"));
        let (inputs, outputs) = golden(&predictor, &npz);
        let model = testdata(&format!("{name}.onnx"));
        let admitted = admit(&model, Some((&inputs, &outputs)), &Limits::default()).unwrap();
        assert!(admitted.golden_difference.unwrap() <= GOLDEN_TOLERANCE, "{name}");
        let text = serde_json::to_string(&admitted).unwrap();
        assert_eq!(serde_json::from_str::<Admission>(&text).unwrap().parameters, admitted.parameters);
        let features = inputs[0].f32s().unwrap();
        let all = predictor.rows(32, features).unwrap();
        let width = features.len() / 32;
        for (row, together) in features.chunks(width).zip(all.iter()) {
            let alone = predictor.rows(1, row).unwrap();
            let worst = alone.values.iter().zip(together).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 1e-5, "{name}: {worst}");
        }
    }
}

#[test]
fn wrong_requests_name_the_input() {
    let predictor = load("mlp_a.onnx");
    let f32s = |name: &str, shape: &[usize], count: usize| Tensor {
        name: name.into(),
        shape: shape.to_vec(),
        data: TensorData::F32(vec![0.0; count]),
    };
    let text = |tensors: &[Tensor]| predictor.infer(tensors).unwrap_err().to_string();
    assert_eq!(text(&[]), "input `x` is missing");
    assert_eq!(text(&[f32s("z", &[1, 16], 16)]), "the model has no input `z`, it has x");
    assert_eq!(text(&[f32s("x", &[1, 16], 16), f32s("x", &[1, 16], 16)]), "input `x` was given twice");
    assert_eq!(text(&[f32s("x", &[1, 15], 15)]), "input `x`: expected shape [?, 16], got [1, 15]");
    assert_eq!(text(&[f32s("x", &[0, 16], 0)]), "input `x`: expected shape [?, 16], got [0, 16]");
    assert_eq!(text(&[f32s("x", &[16], 16)]), "input `x`: expected shape [?, 16], got [16]");
    let wide = Tensor { name: "x".into(), shape: vec![1, 16], data: TensorData::F64(vec![0.0; 16]) };
    assert_eq!(text(&[wide]), "input `x`: expected f32, got f64");
    assert!(predictor.infer(&[f32s("x", &[2, 16], 16)]).unwrap_err().is_bad_request());
    let error = predictor.rows(2, &[0.0; 31]).unwrap_err();
    assert_eq!(error.to_string(), "input `x`: 2 rows of 16 features, got 31 numbers");
    assert!(predictor.rows(0, &[]).unwrap().values.is_empty());
}

#[test]
fn one_predictor_serves_several_threads() {
    let predictor = load("mlp_a.onnx");
    let expected = predictor.rows(1, &[0.25; 16]).unwrap();
    std::thread::scope(|scope| {
        let run = || predictor.rows(1, &[0.25; 16]).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), expected);
        }
    });
}

#[test]
fn a_written_network_computes_what_it_says() {
    let spec = MlpSpec {
        width: 2,
        normaliser: Some(Normaliser {
            bend: Vec::new(),
            mean: vec![1.0, 2.0],
            std: vec![0.5, 4.0],
            clip: 3.0,
        }),
        layers: vec![DenseLayer { weight: vec![1.0, 0.0, 0.0, 1.0, 1.0, 1.0], bias: vec![0.0, 0.0, 0.5] }],
        head: Head::Values,
    };
    let predictor = Predictor::load(&build_mlp(&spec).unwrap(), &Limits::default()).unwrap();
    // (9 - 1) / 0.5 is cut to 3; (4 - 2) / 4 = 0.5.
    let rows = predictor.rows(2, &[9.0, 4.0, 1.0, 2.0]).unwrap();
    assert_eq!((rows.width, rows.values), (3, vec![3.0, 0.5, 4.0, 0.0, 0.0, 0.5]));
}

#[test]
fn a_written_bend_serves_what_rows_were_scaled_to() {
    const WIDTH: usize = 3;
    let unit = (0..9).map(|at| if at % 4 == 0 { 1.0 } else { 0.0 }).collect();
    let spec = |bend: [f32; WIDTH], mean: [f32; WIDTH], std: [f32; WIDTH], clip| MlpSpec {
        width: WIDTH,
        normaliser: Some(Normaliser { bend: bend.into(), mean: mean.into(), std: std.into(), clip }),
        layers: vec![DenseLayer { weight: Vec::clone(&unit), bias: vec![0.0; 3] }],
        head: Head::Values,
    };
    let serve = |spec: &MlpSpec, rows: &[f32]| {
        let predictor = Predictor::load(&build_mlp(spec).unwrap(), &Limits::default()).unwrap();
        predictor.rows(rows.len() / WIDTH, rows).unwrap().values
    };
    let some = [0.0, 1.0, -1.5, 3.25, 1e-30, -1e30, f32::MAX, f32::MIN_POSITIVE, 0.1, 1234.567, -0.3, 7.0];
    let bends = [[0.0; 3], [2.0, 2.0, 2.0], [0.0, 2.0, 0.0], [1e-3, 0.0, 1e4]];
    for bend in bends {
        for batch in [1, 4] {
            let spec = spec(bend, [0.5, 1.0, -2.0], [0.5, 4.0, 1.0], 5.0);
            for rows in some.chunks(WIDTH * batch) {
                let mut expected = rows.to_vec();
                spec.normaliser.as_ref().unwrap().apply(&mut expected);
                let got = serve(&spec, rows);
                let apart = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart <= 1e-6, "{bend:?}: {got:?}, expected {expected:?}");
            }
        }
        // What does not bend is served exactly, however it looks.
        let bare = spec(bend, [0.0; 3], [1.0; 3], f32::MAX);
        let plain = |at: usize, value: f32| bend[at % WIDTH] == 0.0 && value.abs() <= 1e38;
        for (at, value) in some.iter().enumerate().filter(|(at, value)| plain(*at, **value)) {
            let mut row = [0.5; WIDTH];
            row[at % WIDTH] = *value;
            assert_eq!(serve(&bare, &row)[at % WIDTH].to_bits(), value.to_bits(), "{bend:?} {value}");
        }
        let wild = [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY];
        assert_eq!(serve(&spec(bend, [0.5, 1.0, -2.0], [0.5, 4.0, 1.0], 5.0), &wild), [5.0, -5.0, 5.0]);
    }
}

#[test]
fn models_that_may_not_be_served_are_refused() {
    fn kind(bytes: &[u8], golden: Option<(&[Tensor], &[Tensor])>) -> &'static str {
        admit(bytes, golden, &Limits::default()).unwrap_err().kind()
    }
    assert_eq!(kind(b"garbage", None), "refused");
    let spec = |width, weight, value: f32| MlpSpec {
        width,
        normaliser: None,
        layers: vec![DenseLayer { weight, bias: vec![value] }],
        head: Head::Values,
    };
    let wide = build_mlp(&spec(2, vec![f32::MAX, f32::MAX], f32::MAX)).unwrap();
    assert_eq!(kind(&wide, None), "not_finite");
    let good = build_mlp(&spec(1, vec![2.0], 1.0)).unwrap();
    let input = [Tensor::new("features", vec![1, 1], TensorData::F32(vec![3.0])).unwrap()];
    let answer =
        |name: &str, value: f32| [Tensor::new(name, vec![1, 1], TensorData::F32(vec![value])).unwrap()];
    assert_eq!(kind(&good, Some((&input, &answer("values", 7.001)))), "golden_values");
    assert_eq!(kind(&good, Some((&input, &answer("values", f32::NAN)))), "golden_values");
    assert_eq!(kind(&good, Some((&input, &answer("other", 7.0)))), "golden_shape");
    assert_eq!(kind(&good, Some((&[], &answer("values", 7.0)))), "golden_run");
    assert!(admit(&good, Some((&input, &answer("values", 7.0))), &Limits::default()).is_ok());
}

#[test]
fn archives_come_back_as_they_went() {
    let tensors = [
        Tensor::new("a", vec![2, 2], TensorData::F32(vec![1.0, -2.0, f32::MAX, 0.5])).unwrap(),
        Tensor::new("b", vec![], TensorData::I64(vec![i64::MIN])).unwrap(),
        Tensor::new("c", vec![0, 3], TensorData::F64(vec![])).unwrap(),
        Tensor::new("d", vec![3], TensorData::Bool(vec![true, false, true])).unwrap(),
        Tensor::new("e", vec![1, 1, 2], TensorData::U8(vec![1, 255])).unwrap(),
        Tensor::new("f", vec![2], TensorData::I32(vec![-1, 7])).unwrap(),
    ];
    let bytes = write_npz(&tensors).unwrap();
    assert_eq!(read_npz(&bytes).unwrap(), tensors);
    assert_eq!(write_npz(&tensors).unwrap(), bytes);
    assert_eq!(read_npz(&testdata("mlp_a.grad.npz")).unwrap().len(), 9);
}

#[test]
fn bad_archives_are_refused() {
    assert!(matches!(read_npz(b"garbage"), Err(NpzError::NotNpz { .. })));
    let good = testdata("mlp_a.io.npz");
    assert!(read_npz(&good[..good.len() - 40]).is_err());
    for at in 0..500 {
        let mut bad = good.clone();
        let place = at * 7919 % bad.len();
        bad[place] ^= 1 << (at % 8);
        let _ = read_npz(&bad).is_ok();
    }
    let text = Tensor::new("t", vec![1], TensorData::String(vec!["x".into()])).unwrap();
    assert!(matches!(write_npz(&[text]), Err(NpzError::Text { .. })));
    let one = Tensor::new("t", vec![1], TensorData::U8(vec![1])).unwrap();
    assert!(matches!(write_npz(&[one.clone(), one]), Err(NpzError::Duplicate { .. })));
    assert!(Tensor::new("t", vec![usize::MAX, 2], TensorData::U8(vec![1])).is_err());
}

/// What the whole zoo is known to do here; a model that stops loading fails the test.
const KNOWN: &[(&str, Batching)] = &[
    ("ae", Batching::Open),
    ("cnn1d", Batching::Open),
    ("cnn1d.folded", Batching::Open),
    ("cnn1d.folded.qdq", Batching::Open),
    ("cnn2d", Batching::Open),
    ("gru", Batching::Open),
    ("lgb_r", Batching::Open),
    ("lstm", Batching::Open),
    ("mbv2", Batching::Open),
    ("mlp_a", Batching::Open),
    ("mlp_a.dynamo", Batching::Open),
    ("mlp_a.qdq", Batching::Open),
    ("mlp_b", Batching::Open),
    ("skl_logreg", Batching::Open),
    ("skl_mlp", Batching::Open),
    ("skl_rf", Batching::Open),
    ("skl_rf.zipmap", Batching::Open),
    ("skl_rfr", Batching::Open),
    ("tfm", Batching::Open),
    ("xgb_c", Batching::Open),
];

fn shared() -> Option<PathBuf> {
    let named = std::env::var_os("SHOAL_SHARED").map(PathBuf::from);
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    Some(named.unwrap_or(beside).join("models")).filter(|folder| folder.is_dir())
}

#[test]
fn the_whole_zoo_does_what_it_used_to() {
    let Some(folder) = shared() else {
        println!("skipped: no folder ../shared/models (set SHOAL_SHARED)");
        return;
    };
    let mut lost = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".onnx") else { continue };
        let known = KNOWN.iter().find(|(known, _)| *known == name).map(|(_, batching)| *batching);
        let report = match Predictor::load(&std::fs::read(&path).unwrap(), &Limits::default()) {
            Ok(predictor) => {
                let base = name.strip_suffix(".zipmap").unwrap_or(name);
                let io = std::fs::read(path.with_file_name(format!("{base}.io.npz")));
                let answers = io.map_or("no reference".into(), |io| answers(&predictor, &io));
                format!("{:?}, {answers}", predictor.batching())
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                format!(
                    "does not load: {error}: {}",
                    cause.unwrap_or_default().chars().take(160).collect::<String>()
                )
            }
        };
        println!("{name}: {report}");
        if let Some(batching) = known
            && !(report.starts_with(&format!("{batching:?}, ")) && report.contains("equal"))
        {
            lost.push(format!("{name}: {report}"));
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

fn answers(predictor: &Predictor, io: &[u8]) -> String {
    let (inputs, outputs) = golden(predictor, io);
    let made = match predictor.infer(&inputs) {
        Ok(made) => made,
        Err(error) => {
            return format!(
                "does not run: {error}: {:?}",
                std::error::Error::source(&error).map(ToString::to_string)
            );
        }
    };
    let mut worst = 0.0f32;
    for wanted in &outputs {
        let got = made.iter().find(|tensor| tensor.name == wanted.name).unwrap();
        assert_eq!(got.shape, wanted.shape);
        match (got.f32s(), wanted.f32s()) {
            (Some(got), Some(wanted)) => {
                let scale = wanted.iter().fold(1.0f32, |most, v| most.max(v.abs()));
                worst = got.iter().zip(wanted).fold(worst, |most, (a, b)| most.max((a - b).abs() / scale));
            }
            _ if got.data == wanted.data => {}
            _ => return "labels differ".into(),
        }
    }
    let rows = inputs[0].shape[0];
    if let (Some(features), Datatype::F32) = (inputs[0].f32s(), predictor.inputs()[0].datatype)
        && let Err(error) = predictor.rows(rows, features)
    {
        return format!("rows fail: {error}");
    }
    if worst <= 1e-5 { format!("equal ({worst:.0e})") } else { format!("differs by {worst:e}") }
}

fn interface(name: &str, elem_type: i32, dims: &[i64]) -> ValueInfoProto {
    let size = |d: &i64| match d {
        0 => dimension::Value::DimParam("open".into()),
        d => dimension::Value::DimValue(*d),
    };
    let dim = dims.iter().map(|d| Dimension { value: Some(size(d)), ..Default::default() }).collect();
    let tensor = type_proto::Tensor { elem_type, shape: Some(TensorShapeProto { dim }) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value, ..Default::default() }),
        ..Default::default()
    }
}

/// A model of one node: operand `x`, then stored `w` when there is one.
fn one(
    op: &str,
    attribute: Vec<AttributeProto>,
    input: ValueInfoProto,
    stored: Option<TensorProto>,
    swap: bool,
) -> Predictor {
    let mut operands: Vec<String> =
        std::iter::once("x".into()).chain(stored.iter().map(|_| "w".into())).collect();
    if swap {
        operands.reverse();
    }
    let node = NodeProto {
        op_type: op.into(),
        input: operands,
        output: vec!["y".into()],
        attribute,
        ..Default::default()
    };
    let graph = GraphProto {
        node: vec![node],
        initializer: stored.into_iter().collect(),
        input: vec![input],
        output: vec![interface("y", 1, &[])],
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    let model = ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() };
    Predictor::load(&model.encode_to_vec(), &Limits::default()).unwrap()
}

fn f32s(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|i| f32::from(u8::try_from(i).unwrap())).collect();
    Tensor::new("x", shape.to_vec(), TensorData::F32(values)).unwrap()
}

#[test]
fn open_lengths_are_served_in_chunks_of_rows() {
    let axes = AttributeProto { name: "axes".into(), r#type: 7, ints: vec![1], ..Default::default() };
    let keep = AttributeProto { name: "keepdims".into(), r#type: 2, i: 0, ..Default::default() };
    let mean = one("ReduceMean", vec![axes, keep], interface("x", 1, &[0, 0, 2]), None, false);
    assert_eq!((mean.batching(), mean.row_width()), (Batching::PerSize, None));
    for (rows, length) in [(1, 2), (5, 3), (7, 1), (35, 2)] {
        let made = mean.infer(&[f32s(&[rows, length, 2])]).unwrap();
        assert_eq!(made[0].shape, [rows, 2]);
        let first: Vec<f32> = made[0].f32s().unwrap().to_vec();
        let x = f32s(&[rows, length, 2]);
        let x = x.f32s().unwrap();
        for (row, got) in first.chunks(2).enumerate() {
            let sum: f32 = (0..length).map(|at| x[(row * length + at) * 2]).sum();
            assert!((got[0] - sum / length as f32).abs() < 1e-4, "{rows} {length} {row}");
        }
    }
    assert!(matches!(mean.rows(1, &[0.0; 2]), Err(InferError::NotRows { .. })));
}

#[test]
fn models_for_one_row_are_run_row_by_row() {
    let shape = TensorProto {
        name: "w".into(),
        dims: vec![2],
        data_type: 7,
        int64_data: vec![1, 4],
        ..Default::default()
    };
    let reshape = one("Reshape", vec![], interface("x", 1, &[0, 2, 2]), Some(shape), false);
    assert_eq!(reshape.batching(), Batching::OneByOne);
    let x = f32s(&[3, 2, 2]);
    let made = reshape.infer(std::slice::from_ref(&x)).unwrap();
    assert_eq!((made[0].shape.as_slice(), made[0].f32s()), (&[3, 4][..], x.f32s()));
    assert_eq!(reshape.rows(3, x.f32s().unwrap()).unwrap().values, x.f32s().unwrap());
}

#[test]
fn files_that_fix_their_rows_are_served() {
    for fixed in [1usize, 4] {
        let relu = one("Relu", vec![], interface("x", 1, &[fixed as i64, 2]), None, false);
        assert_eq!(relu.batching(), Batching::Fixed);
        assert_eq!(relu.infer(&[f32s(&[fixed, 2])]).unwrap()[0].shape, [fixed, 2]);
        assert!(matches!(relu.infer(&[f32s(&[3, 2])]), Err(InferError::Shape { .. })));
        assert_eq!(relu.rows(fixed, &vec![1.0; fixed * 2]).unwrap().width, 2);
        let three = relu.rows(3, &[0.5; 6]);
        assert_eq!(three.is_ok(), fixed == 1, "{three:?}");
    }
}

#[test]
fn features_are_cast_and_a_panic_is_an_error() {
    let data = TensorProto {
        name: "w".into(),
        dims: vec![2, 1],
        data_type: 1,
        float_data: vec![7.0, 8.0],
        ..Default::default()
    };
    let gather = one("Gather", vec![], interface("x", 7, &[0]), Some(data), true);
    assert_eq!(gather.rows(3, &[1.0, 0.0, 1.0]).unwrap().values, [8.0, 7.0, 8.0]);
    let far = Tensor::new("x", vec![1], TensorData::I64(vec![5])).unwrap();
    let error = gather.infer(&[far]).unwrap_err();
    assert!(matches!(error, InferError::Panicked { .. } | InferError::Engine { .. }), "{error:?}");
    assert!(!error.is_bad_request());
    assert_eq!(gather.rows(1, &[1.0]).unwrap().values, [8.0]);
}
