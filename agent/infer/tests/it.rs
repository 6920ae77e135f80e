//! Models served: the zoo's answers, errors by name, archives, admission.

use std::path::PathBuf;

use shoal_infer::*;
use shoal_onnx::{Datatype, DenseLayer, Head, Limits, MlpSpec, Normaliser, build_mlp};

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
        normaliser: Some(Normaliser { mean: vec![1.0, 2.0], std: vec![0.5, 4.0], clip: 3.0 }),
        layers: vec![DenseLayer { weight: vec![1.0, 0.0, 0.0, 1.0, 1.0, 1.0], bias: vec![0.0, 0.0, 0.5] }],
        head: Head::Values,
    };
    let predictor = Predictor::load(&build_mlp(&spec).unwrap(), &Limits::default()).unwrap();
    // (9 - 1) / 0.5 is cut to 3; (4 - 2) / 4 = 0.5.
    let rows = predictor.rows(2, &[9.0, 4.0, 1.0, 2.0]).unwrap();
    assert_eq!((rows.width, rows.values), (3, vec![3.0, 0.5, 4.0, 0.0, 0.0, 0.5]));
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
const KNOWN: &[(&str, Option<Batching>)] = &[];

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
        let known = KNOWN.iter().find(|(known, _)| *known == name).and_then(|(_, batching)| *batching);
        let report = match Predictor::load(&std::fs::read(&path).unwrap(), &Limits::default()) {
            Ok(predictor) => {
                let io = std::fs::read(path.with_file_name(format!("{name}.io.npz")));
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
    if let (Some(features), Datatype::F32) = (inputs[0].f32s(), predictor.inputs()[0].datatype) {
        if let Err(error) = predictor.rows(rows, features) {
            return format!("rows fail: {error}");
        }
    }
    if worst <= 1e-5 { format!("equal ({worst:.0e})") } else { format!("differs by {worst:e}") }
}
