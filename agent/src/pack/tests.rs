mod fits;

use super::*;
use crate::inspect::{InspectArgs, run as look};
use clap::Parser;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use shoal_proto::package::{GOLDEN, GUARD, Package, REPLAY};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    pack: PackArgs,
}

fn args(folder: &Path, csv: &str, more: &[&str]) -> PackArgs {
    let data = folder.join("blobs.csv");
    File::create(&data).unwrap().write_all(csv.as_bytes()).unwrap();
    let output = folder.join("out.shoal");
    let fixed = ["pack", "--data", data.to_str().unwrap(), "--output", output.to_str().unwrap()];
    Cli::try_parse_from(fixed.iter().chain(more)).unwrap().pack
}

/// Three classes around three points, a column that is no feature, and a few holes.
fn blobs(rows: usize) -> String {
    let mut rng = StdRng::seed_from_u64(3);
    let mut csv = "when,a,b,y,v\n".to_owned();
    for at in 0..rows {
        let class = at % 3;
        let (x, y) = ([0.0, 4.0, 0.0][class], [0.0, 0.0, 4.0][class]);
        let (a, b): (f64, f64) = (x + rng.random_range(-1.0..1.0), y + rng.random_range(-1.0..1.0));
        let b = if at % 50 == 7 { String::new() } else { b.to_string() };
        writeln!(csv, "day{at},{a},{b},c{class},{}", 2.0 * a + 1.0).unwrap();
    }
    csv
}

#[test]
fn a_fitted_package_is_whole_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    File::create(&key).unwrap().write_all(hex::encode([5; 32]).as_bytes()).unwrap();
    let more = ["--label", "y", "--drop", "when,v", "--fit", "mlp:8", "--sign-key", key.to_str().unwrap()];
    let args = args(folder.path(), &blobs(300), &more);
    let report = run(&args).unwrap();
    assert_eq!((report.name.as_str(), report.features, report.rows), ("blobs@1", 2, 300));
    assert_eq!((report.complete_rows, report.held_out_rows, report.replay_rows), (294, 60, 234));
    assert!(report.held_out_accuracy.unwrap() > 0.95, "{report:?}");
    assert!(report.fitted && report.signed && report.not_trainable.is_empty(), "{report:?}");

    let package = Package::from_archive(&fs::read(&report.file).unwrap()).unwrap();
    assert_eq!(package.version().unwrap(), report.version);
    let manifest = package.manifest().unwrap();
    assert_eq!(manifest.output.classes, ["c0", "c1", "c2"]);
    let baseline = package.baseline().unwrap();
    assert_eq!((baseline.rows, baseline.features[1].missing), (300, 6));
    assert_eq!(baseline.predictions.unwrap().labelled, 60);
    assert_eq!(report.golden_rows, 10);
    assert!(package.file(GOLDEN).is_some());
    for file in [GUARD, REPLAY] {
        assert!(!Rows::from_npz("x", package.file(file).unwrap(), 2).unwrap().is_empty());
    }
    let text = look(&InspectArgs { file: report.file.clone() }).unwrap().to_string();
    for word in ["blobs@1", "c0, c1, c2", "signed by", "features f32 [?, 2]", "trainable", "yes"] {
        assert!(text.contains(word), "{word} is not in:\n{text}");
    }
    assert_eq!(run(&args).unwrap().version, report.version, "the same data and seed give the same version");

    let onnx = folder.path().join("model.onnx");
    File::create(&onnx).unwrap().write_all(package.file("model.onnx").unwrap()).unwrap();
    let again = PackArgs { onnx: Some(onnx.clone()), fit: None, name: Some("other".into()), ..args };
    let report = run(&again).unwrap();
    assert_eq!((report.name.as_str(), report.fitted), ("other@1", false));
    let error = run(&PackArgs { drop: vec!["when".into()], ..again }).unwrap_err();
    assert!(error.to_string().contains("takes 2 features, the data has 3"), "{error}");
    let text = look(&InspectArgs { file: onnx }).unwrap().to_string();
    assert!(text.contains("Gemm"), "{text}");
}

#[test]
fn a_sorted_table_is_told_from_one_in_the_order_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "a,b,y\n".to_owned();
    for row in 0..600 {
        let class = row / 300;
        text += &format!("{}.{},{}.{},c{class}\n", class * 9, row * 37 % 10, class * 7, row * 53 % 10);
    }
    let asks = |more: &[&str]| {
        let report = run(&args(folder.path(), &text, &[&["--label", "y", "--fit", "linear"], more].concat()));
        report.unwrap().warnings.iter().any(|warning| warning.contains("--shuffled"))
    };
    assert_eq!((asks(&[]), asks(&["--shuffled"])), (true, false));
}

#[test]
fn groups_are_packed_and_what_does_not_fit_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let pack = |group: &str| {
        let more = ["--label", "y", "--drop", "when,v", "--fit", "linear", "--group", group];
        run(&args(folder.path(), &blobs(300), &more))
    };
    let report = pack("a:2.0=c1").unwrap();
    let package = Package::from_archive(&fs::read(&report.file).unwrap()).unwrap();
    assert_eq!(package.manifest().unwrap().groups[0].parts(), 2);
    let groups = package.baseline().unwrap().predictions.unwrap().groups;
    assert_eq!(groups[0].parts.iter().map(|part| part.rows).sum::<u64>(), report.held_out_rows as u64);
    let report = pack("site:north, south=c1").unwrap();
    let package = Package::from_archive(&fs::read(&report.file).unwrap()).unwrap();
    let named = &package.manifest().unwrap().groups[0];
    assert_eq!(
        (named.values.as_slice(), named.feature.is_none()),
        (&["north".into(), "south".into()][..], true)
    );
    for (group, word) in [
        ("a", "--group a"),
        ("a:x", "--group a:x"),
        ("nobody:1=c1", "nobody"),
        ("a:2,1=c1", "rise"),
        ("a:2.0", "positive"),
    ] {
        let error = pack(group).unwrap_err();
        let said = format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn what_the_last_layer_reads_is_profiled() {
    let folder = tempfile::tempdir().unwrap();
    let pack = |fit: &str| {
        let more = ["--label", "y", "--drop", "when,v", "--fit", fit];
        let report = run(&args(folder.path(), &blobs(300), &more)).unwrap();
        let package = Package::from_archive(&fs::read(&report.file).unwrap()).unwrap();
        (package.manifest().unwrap().output.embedding, package.baseline().unwrap().embedding)
    };
    assert_eq!(pack("linear"), (None, None), "a linear model sees nothing but its inputs");
    let (tensor, profile) = pack("mlp:8");
    assert!(tensor.is_some_and(|tensor| !tensor.is_empty()));
    assert_eq!(profile.unwrap().mean.len(), 8);
}

#[test]
fn a_regression_is_packed_with_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--label", "v", "--drop", "when,y,b", "--task", "regression", "--fit", "mlp:8"];
    let report = run(&args(folder.path(), &blobs(300), &more)).unwrap();
    assert!(report.held_out_rmse.unwrap() < 0.5 && report.classes.is_empty(), "{report:?}");
    let package = Package::from_archive(&fs::read(&report.file).unwrap()).unwrap();
    let predictions = package.baseline().unwrap().predictions.unwrap();
    let values = predictions.values.unwrap();
    assert!(values.rmse < 0.5 && values.answers.counts.iter().sum::<u64>() == 60, "{values:?}");
}

#[test]
fn what_cannot_be_packed_is_said() {
    let folder = tempfile::tempdir().unwrap();
    for (csv, more, words) in [
        (blobs(300), vec!["--label", "y", "--fit", "mlp:8"], vec!["column `when`", "line 2"]),
        (blobs(12), vec!["--label", "y", "--drop", "when", "--fit", "mlp:8"], vec!["11 rows", "20"]),
        (blobs(60), vec!["--label", "y", "--drop", "when", "--fit", "cnn:8"], vec!["cnn:8"]),
        (
            blobs(60),
            vec!["--label", "y", "--drop", "when", "--fit", "mlp:0"],
            vec!["mlp:0", "linear", "cnn1d:3x128:32,64"],
        ),
        (
            blobs(60),
            vec!["--label", "y", "--drop", "when", "--fit", "cnn1d:3x4:8"],
            vec!["12 features", "has 3"],
        ),
        (blobs(60), vec!["--label", "z", "--drop", "when", "--fit", "mlp:8"], vec!["no column `z`"]),
        (blobs(60), vec!["--label", "y", "--drop", "when", "--fit", "mlp:8", "--name", "A B"], vec!["A B"]),
        (blobs(60), vec!["--label", "y", "--drop", "when", "--onnx", "/no/m.onnx"], vec!["/no/m.onnx"]),
    ] {
        let error = run(&args(folder.path(), &csv, &more)).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    assert!(Cli::try_parse_from(["pack", "--data", "x", "--label", "y"]).is_err(), "no model at all");
}

/// A model of the fixtures with what another runtime answers.
fn fixture(name: &str) -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/testdata");
    (folder.join(format!("{name}.onnx")), folder.join(format!("{name}.io.npz")))
}

fn tensors(folder: &Path, name: &str, more: &[&str]) -> Result<PackReport, PackError> {
    let (onnx, golden) = fixture(name);
    let output = folder.join("out.shoal");
    let fixed = ["pack", "--onnx", onnx.to_str().unwrap(), "--golden", golden.to_str().unwrap()];
    let rest = ["--output", output.to_str().unwrap()];
    run(&Cli::try_parse_from(fixed.iter().chain(&rest).chain(more)).unwrap().pack)
}

#[test]
fn a_model_that_takes_tensors_is_packed_with_golden_rows() {
    let folder = tempfile::tempdir().unwrap();
    let report = tensors(folder.path(), "ae", &[]).unwrap();
    assert_eq!((report.name.as_str(), report.features, report.classes.len()), ("ae@1", 0, 0));
    assert!(report.golden_rows > 1 && !report.not_trainable.is_empty(), "{report:?}");
    let package = Package::from_archive(&fs::read(&report.file).unwrap()).unwrap();
    assert!(package.manifest().unwrap().features.is_empty());
    let text = look(&InspectArgs { file: report.file }).unwrap().to_string();
    for word in ["golden.npz", "takes tensors", &format!("{} rows", report.golden_rows)] {
        assert!(text.contains(word), "{word} is not in:\n{text}");
    }
    let report = tensors(folder.path(), "mlp_b", &["--name", "b", "--classes", "a,b,c,d,e,f"]).unwrap();
    assert_eq!((report.name.as_str(), report.classes.len()), ("b@1", 6));
    let report = tensors(folder.path(), "mlp_b", &["--name", "b", "--task", "classification"]).unwrap();
    assert_eq!(report.classes, ["0", "1", "2", "3", "4", "5"]);
    let error = tensors(folder.path(), "mlp_b", &["--classes", "a,b"]).unwrap_err().to_string();
    assert!(error.contains("names 2 classes") && error.contains("6 scores"), "{error}");
}

#[test]
fn golden_outputs_that_the_model_does_not_give_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (onnx, golden) = fixture("ae");
    let mut arrays = shoal_infer::read_npz(&fs::read(golden).unwrap()).unwrap();
    let wrong = folder.path().join("wrong.npz");
    let pack = |arrays: &[shoal_infer::Tensor]| {
        File::create(&wrong).unwrap().write_all(&shoal_infer::write_npz(arrays).unwrap()).unwrap();
        let args = ["pack", "--onnx", onnx.to_str().unwrap(), "--golden", wrong.to_str().unwrap()];
        let output = folder.path().join("o.shoal");
        let args = [&args[..], &["--output", output.to_str().unwrap()]].concat();
        crate::worker::chain(&run(&Cli::try_parse_from(args).unwrap().pack).unwrap_err())
    };
    let y = arrays.iter_mut().find(|array| array.name == "y").unwrap();
    let shoal_infer::TensorData::F32(values) = &mut y.data else { panic!("y is f32") };
    values[3] += 0.01;
    let said = pack(&arrays);
    assert!(said.contains("differs by"), "{said}");
    arrays.retain(|array| array.name == "x");
    let said = pack(&arrays);
    assert!(said.contains("no array for an output") && said.contains("`y`"), "{said}");
    let alone = ["pack", "--fit", "mlp:8"];
    assert!(Cli::try_parse_from(alone).is_err(), "nothing to fit on");
}
