//! Fits of small seeded tables: what they score, what they are sure of, and that they can be had again.

use super::*;
use crate::worker::Golden;
use shoal_infer::{Predictor, trial};
use shoal_onnx::Limits;
use shoal_proto::package::MODEL;

const CHANNELS: usize = 2;
const LENGTH: usize = 32;

/// Windows of two channels: a wave in the first, of one of two frequencies and any phase; noise in the
/// second. No single column tells the classes apart.
fn waves(rows: usize) -> String {
    let mut rng = StdRng::seed_from_u64(11);
    let header: Vec<String> =
        (0..CHANNELS * LENGTH).map(|at| format!("c{}_{}", at / LENGTH, at % LENGTH)).collect();
    let mut csv = format!("{},y\n", header.join(","));
    for at in 0..rows {
        let (turns, phase) = ([2.0, 5.0][at % 2], rng.random_range(0.0..std::f64::consts::TAU));
        for sample in 0..LENGTH {
            let angle = phase + turns * std::f64::consts::TAU * sample as f64 / LENGTH as f64;
            write!(csv, "{},", 20.0 + 3.0 * angle.sin() + rng.random_range(-0.5..0.5)).unwrap();
        }
        for _ in 0..LENGTH {
            write!(csv, "{},", rng.random_range(-1.0..1.0)).unwrap();
        }
        writeln!(csv, "{}", ["slow", "fast"][at % 2]).unwrap();
    }
    csv
}

/// Two classes whose features overlap, and one label in six at random: nobody can be sure.
fn noisy(rows: usize) -> String {
    let mut rng = StdRng::seed_from_u64(7);
    let mut csv = "a,b,c,d,y\n".to_owned();
    for at in 0..rows {
        let class = if rng.random_bool(1.0 / 6.0) { usize::from(rng.random_bool(0.5)) } else { at % 2 };
        for _ in 0..4 {
            write!(csv, "{},", at as f64 % 2.0 + rng.random_range(-1.5..1.5)).unwrap();
        }
        writeln!(csv, "{class}").unwrap();
    }
    csv
}

fn package(report: &PackReport) -> Package {
    Package::from_archive(&fs::read(&report.file).unwrap()).unwrap()
}

#[test]
fn one_layer_is_enough_for_what_a_line_parts() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--label", "y", "--drop", "when,v", "--fit", "linear"];
    let report = run(&args(folder.path(), &blobs(300), &more)).unwrap();
    let (low, high) = report.held_out_interval.unwrap();
    let accuracy = report.held_out_accuracy.unwrap();
    assert!(accuracy > 0.95 && low < accuracy && accuracy <= high && low > 0.85, "{report:?}");
    assert!(report.held_out_balanced_accuracy.unwrap() > 0.95 && report.not_trainable.is_empty());
    let fit = report.fit.clone().unwrap();
    assert_eq!((fit.trained_rows, fit.validation_rows), (186, 48), "the 60 held out are in neither");
    assert!(fit.best_step <= fit.steps && fit.architecture == "linear");

    let more = ["--label", "v", "--drop", "when,y,b", "--task", "regression", "--fit", "linear"];
    let report = run(&args(folder.path(), &blobs(300), &more)).unwrap();
    let (error, constant) = (report.held_out_rmse.unwrap(), report.held_out_rmse_of_mean.unwrap());
    assert!(error < 0.05 && constant > 3.0 && report.calibration.is_none(), "{error} {constant}");
}

#[test]
fn windows_of_two_frequencies_are_told_apart_by_convolutions() {
    let folder = tempfile::tempdir().unwrap();
    let csv = waves(400);
    let fit = |network| run(&args(folder.path(), &csv, &["--label", "y", "--fit", network])).unwrap();
    let report = fit("cnn1d:2x32:8,16");
    assert!(report.held_out_accuracy.unwrap() > 0.95, "{report:?}");
    assert!(report.not_trainable.is_empty(), "{:?}", report.not_trainable);
    let found = shoal_onnx::inspect(package(&report).file(MODEL).unwrap(), &Limits::default()).unwrap();
    assert_eq!(found.inputs[0].to_string(), "features f32[?, 64]");
    for op in ["Reshape", "Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm", "Softmax"] {
        assert!(found.ops.keys().any(|one| one.as_str() == op), "{op} is not in {:?}", found.ops);
    }
    assert_eq!(fit("cnn1d:2x32:8,16").version, report.version, "the same seed gives the same bytes");
    let line = fit("linear").held_out_accuracy.unwrap();
    assert!(line < 0.8, "a line does not tell phases from frequencies: {line}");
}

#[test]
fn a_device_reproduces_golden_rows() {
    let folder = tempfile::tempdir().unwrap();
    let report = run(&args(folder.path(), &noisy(200), &["--label", "y", "--fit", "mlp:8"])).unwrap();
    let package = package(&report);
    let golden = Golden::from_npz(package.file(GOLDEN).unwrap()).unwrap();
    assert_eq!((golden.rows(), golden.outputs[0].name.as_str()), (10, "probabilities"));
    let ends: Vec<f64> = package.manifest().unwrap().features.iter().map(|feature| feature.max).collect();
    let rows = golden.inputs[0].f32s().unwrap();
    assert!(rows[36..].iter().zip(&ends).all(|(value, end)| f64::from(*value) == *end), "the last row");
    let predictor = Predictor::load(package.file(MODEL).unwrap(), &Limits::default()).unwrap();
    assert!(trial(&predictor, Some((&golden.inputs, &golden.outputs))).unwrap().unwrap() < 1e-6);
}

#[test]
fn confidences_are_mended_in_the_file_or_told_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let csv = noisy(4_000);
    let report = run(&args(folder.path(), &csv, &["--label", "y", "--fit", "mlp:32"])).unwrap();
    let fitted = report.calibration.unwrap();
    assert!(fitted.folded && fitted.error_after < 0.08, "{fitted:?}");
    assert_eq!(package(&report).manifest().unwrap().output.temperature, None, "the file does it itself");

    // The same model, five times as sure of itself.
    let sure = sharpened(package(&report).file(MODEL).unwrap(), 5.0);
    let onnx = folder.path().join("sure.onnx");
    File::create(&onnx).unwrap().write_all(&sure).unwrap();
    let more = ["--label", "y", "--onnx", onnx.to_str().unwrap()];
    let report = run(&args(folder.path(), &csv, &more)).unwrap();
    let given = report.calibration.unwrap();
    assert!(!given.folded && (3.0..8.0).contains(&given.temperature), "{given:?}");
    assert!(given.error_before > 0.08 && given.error_after < given.error_before / 1.5, "{given:?}");
    let package = package(&report);
    assert_eq!(package.file(MODEL).unwrap(), sure, "the file is not touched");
    assert_eq!(package.manifest().unwrap().output.temperature, Some(given.temperature));
}

/// The last layer's numbers times `by`.
fn sharpened(onnx: &[u8], by: f32) -> Vec<u8> {
    let graph = shoal_onnx::OnnxModel::parse(onnx, &Limits::default()).unwrap().graph();
    let scaled = ["layers.1.weight", "layers.1.bias"].map(|name| {
        let shoal_onnx::ConstantData::F32(values) = &graph.initializers[name].data else { panic!("f32") };
        (name.to_owned(), values.iter().map(|value| value * by).collect())
    });
    shoal_onnx::patch_initializers(onnx, &scaled.into()).unwrap()
}

#[test]
fn columns_are_described_and_units_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut csv = "temp_c,pressure [bar],mode,fixed,y\n".to_owned();
    for at in 0..100 {
        writeln!(csv, "{}.5,{},{},1,{}", 20 + at % 2 * 20, f64::from(at) / 7.0, at % 4, at % 2).unwrap();
    }
    let report = run(&args(folder.path(), &csv, &["--label", "y", "--fit", "linear"])).unwrap();
    let manifest = package(&report).manifest().unwrap();
    let units: Vec<_> = manifest.features.iter().map(|feature| feature.unit.as_str()).collect();
    assert_eq!(units, ["°C", "bar", "", ""]);
    assert_eq!(report.columns[2].kind, ColumnKind::Categories);
    assert!(report.warnings.iter().any(|warning| warning.contains("`fixed`")), "{:?}", report.warnings);
}

#[test]
fn a_few_rows_are_all_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--label", "y", "--drop", "when,v", "--fit", "mlp:4"];
    let mut steps = Vec::new();
    let args = args(folder.path(), &blobs(40), &more);
    let report = run_with(&args, &mut |progress| steps.push(progress.step)).unwrap();
    let fit = report.fit.unwrap();
    assert_eq!((fit.validation_rows, report.calibration), (0, None));
    assert_eq!(steps, (1..=fit.steps).collect::<Vec<_>>());
}
