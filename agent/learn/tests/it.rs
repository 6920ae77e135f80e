//! Training: gradients as PyTorch's, losses that fall, files that serve what was trained.

#![expect(clippy::unwrap_used, reason = "the lint's exception for tests does not reach their helpers")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use shoal_infer::{Predictor, Tensor, read_npz};
use shoal_learn::*;
use shoal_onnx::{Limits, OnnxModel};

fn testdata(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../onnx/testdata/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Inputs and targets of a `.grad.npz`, with the reference's arrays.
fn reference(name: &str) -> (Dataset, BTreeMap<String, Tensor>) {
    let arrays: BTreeMap<String, Tensor> = read_npz(&testdata(&format!("{name}.grad.npz")))
        .unwrap()
        .into_iter()
        .map(|a| (a.name.clone(), a))
        .collect();
    let (x, t) = (&arrays["x"], &arrays["t"]);
    let targets = match t.i64s() {
        Some(classes) => Targets::Classes(classes.iter().map(|c| u32::try_from(*c).unwrap()).collect()),
        None => Targets::Values { width: t.shape[1], values: t.f32s().unwrap().to_vec() },
    };
    let width = x.shape[1..].iter().product();
    (Dataset::new(width, x.f32s().unwrap().to_vec(), targets, vec![]).unwrap(), arrays)
}

fn run(onnx: &[u8], data: &Dataset, recipe: &Recipe) -> Trained {
    fine_tune(onnx, &mut data.clone(), recipe, &mut |_| ControlFlow::Continue(())).unwrap()
}

const ZOO: [(&str, &str); 4] =
    [("mlp_a", "mlp_a"), ("mlp_b", "mlp_b"), ("ae", "ae"), ("mlp_a.dynamo", "mlp_a")];

#[test]
fn gradients_are_pytorchs() {
    for (name, reference_name) in ZOO {
        let (data, arrays) = reference(reference_name);
        let Gradients { loss, by: found } =
            gradients(&testdata(&format!("{name}.onnx")), &mut data.clone()).unwrap();
        let expected = f64::from(arrays["loss"].f32s().unwrap()[0]);
        assert!((loss - expected).abs() <= 1e-5 * expected.abs(), "{name}: {loss} {expected}");
        let wanted: Vec<&str> = arrays.keys().filter_map(|key| key.strip_prefix("g:")).collect();
        assert_eq!(found.keys().collect::<Vec<_>>(), wanted, "{name}");
        for (parameter, got) in &found {
            let wanted = arrays[&format!("g:{parameter}")].f32s().unwrap();
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v.powi(2)).sum::<f64>().sqrt();
            let difference = norm(&mut got.iter().zip(wanted).map(|(a, b)| a - f64::from(*b)));
            let relative = difference / norm(&mut wanted.iter().map(|v| f64::from(*v)));
            assert!(relative <= 1e-5, "{name} {parameter}: {relative}");
        }
    }
}

#[test]
fn training_lowers_the_loss_and_the_file_serves_it() {
    for (name, reference_name) in ZOO {
        let (data, _) = reference(reference_name);
        let onnx = testdata(&format!("{name}.onnx"));
        let recipe = Recipe { learning_rate: 3e-3, epochs: 30, batch: 8, ..Recipe::default() };
        let trained = run(&onnx, &data, &recipe);
        assert!(
            trained.last_loss < 0.9 * trained.first_loss,
            "{name}: {} {}",
            trained.first_loss,
            trained.last_loss
        );
        assert_eq!(trained.steps, 120);
        assert_eq!(trained.onnx.len(), onnx.len());
        // What tract serves has the loss that the trainer says.
        let served = Predictor::load(&trained.onnx, &Limits::default()).unwrap();
        let rows = served.rows(data.len(), data.features()).unwrap();
        let loss: f64 = match data.targets() {
            Targets::Classes(classes) => {
                rows.iter().zip(classes).map(|(row, class)| cross_entropy(row, *class)).sum::<f64>()
                    / data.len() as f64
            }
            Targets::Values { values, .. } => {
                rows.values.iter().zip(values).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
                    / values.len() as f64
            }
        };
        assert!(
            (loss - trained.last_loss).abs() <= 1e-5 * (1.0 + loss),
            "{name}: {loss} {}",
            trained.last_loss
        );
        // And the gradient at the new weights is computed from the new file.
        assert!((gradients(&trained.onnx, &mut data.clone()).unwrap().loss - trained.last_loss).abs() < 1e-5);
    }
}

fn cross_entropy(scores: &[f32], class: u32) -> f64 {
    let most = scores.iter().fold(f32::MIN, |a, b| a.max(*b));
    let sum: f64 = scores.iter().map(|s| f64::from(s - most).exp()).sum();
    sum.ln() - f64::from(scores[class as usize] - most)
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (data, _) = reference("mlp_b");
    let onnx = testdata("mlp_b.onnx");
    let recipe = |seed| Recipe { seed, epochs: 3, batch: 8, ..Recipe::default() };
    assert_eq!(run(&onnx, &data, &recipe(1)), run(&onnx, &data, &recipe(1)));
    assert_ne!(run(&onnx, &data, &recipe(1)).onnx, run(&onnx, &data, &recipe(2)).onnx);
    let fit = |seed| fit_small(&data, 6, &recipe(seed));
    assert_eq!(fit(1), fit(1));
    assert_ne!(fit(1), fit(2));
}

#[test]
fn scope_says_what_moves() {
    let (data, _) = reference("mlp_a");
    let onnx = testdata("mlp_a.onnx");
    let moved = |scope| run(&onnx, &data, &Recipe { scope, epochs: 1, ..Recipe::default() });
    let all = ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"];
    for (scope, expected) in [
        (Scope::All, &all[..]),
        (Scope::LastLayer, &all[4..]),
        (Scope::BiasAndNorm, &["0.bias", "2.bias", "4.bias"]),
        (Scope::Names(vec!["2.*".into()]), &all[2..4]),
    ] {
        let trained = moved(scope.clone());
        assert_eq!(trained.parameters, expected, "{scope:?}");
        let stored = |bytes: &[u8]| OnnxModel::parse(bytes, &Limits::default()).unwrap().graph().initializers;
        let (before, after) = (stored(&onnx), stored(&trained.onnx));
        for (name, constant) in &before {
            assert_eq!(after[name] != *constant, expected.contains(&name.as_str()), "{scope:?} {name}");
        }
    }
    let refused = |patterns: &[&str]| {
        let scope = Scope::Names(patterns.iter().map(|p| (*p).into()).collect());
        fine_tune(&onnx, &mut data.clone(), &Recipe { scope, ..Recipe::default() }, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap_err()
    };
    assert!(matches!(refused(&["0.*", "nothing"]), LearnError::NothingInScope { .. }));
    assert!(matches!(refused(&[]), LearnError::NothingInScope { .. }));
    assert_eq!(trainable_parameters(&onnx).unwrap(), all);
}

#[test]
fn the_pull_to_the_start_holds_weights_back() {
    let (data, _) = reference("mlp_a");
    let onnx = testdata("mlp_a.onnx");
    let last = |l2_to_start| {
        let optimizer = Optimizer::Sgd { momentum: 0.9 };
        run(&onnx, &data, &Recipe { optimizer, l2_to_start, learning_rate: 0.01, ..Recipe::default() })
            .last_loss
    };
    assert!(last(0.0) < last(1.0));
}

#[test]
fn weights_of_rows_count() {
    let onnx = testdata("mlp_b.onnx");
    let (data, _) = reference("mlp_b");
    let Targets::Classes(classes) = data.targets() else { unreachable!() };
    let part = |rows: std::ops::Range<usize>| {
        let features = data.features()[rows.start * 128..rows.end * 128].to_vec();
        Dataset::new(128, features, Targets::Classes(classes[rows].to_vec()), vec![]).unwrap()
    };
    let weights = (0..32).map(|row| if row < 8 { 2.5 } else { 0.0 }).collect();
    let weighted = Dataset::new(128, data.features().to_vec(), data.targets().clone(), weights).unwrap();
    let recipe = Recipe {
        optimizer: Optimizer::Sgd { momentum: 0.0 },
        learning_rate: 0.1,
        epochs: 1,
        ..Recipe::default()
    };
    let (whole, few) = (run(&onnx, &weighted, &recipe), run(&onnx, &part(0..8), &recipe));
    assert!((whole.first_loss - few.first_loss).abs() < 1e-5);
    assert!((whole.last_loss - few.last_loss).abs() < 1e-5, "the same step, whatever rows of no weight say");
}

#[test]
fn a_network_is_fitted_from_data_alone() {
    // Two classes apart along the second feature, which is large; the first never changes.
    let rows = |count: usize| (0..count).map(|i| (i, f32::from(u8::try_from(i % 50).unwrap())));
    let features: Vec<f32> =
        rows(200).flat_map(|(i, x)| [7.0, 1e4 + x + if i % 2 == 0 { 80.0 } else { 0.0 }]).collect();
    let classes: Vec<u32> = (0..200).map(|i| i % 2).collect();
    let data = Dataset::new(2, features.clone(), Targets::Classes(classes.clone()), vec![]).unwrap();
    let recipe = Recipe { learning_rate: 1e-2, ..Recipe::default() };
    let onnx = fit_small(&data, 2, &recipe);
    let served = Predictor::load(&onnx, &Limits::default()).unwrap().rows(200, &features).unwrap();
    let right =
        served.iter().zip(&classes).filter(|(row, class)| (row[1] > row[0]) == (**class == 1)).count();
    assert_eq!(right, 200);
    assert!(served.iter().all(|row| (row[0] + row[1] - 1.0).abs() < 1e-5));
    // A regression far from zero.
    let values: Vec<f32> = features.chunks(2).map(|row| 3.0 * row[1] - 2e4).collect();
    let mean = values.iter().sum::<f32>() / 200.0;
    let data =
        Dataset::new(2, features.clone(), Targets::Values { width: 1, values: values.clone() }, vec![])
            .unwrap();
    let onnx = fit_small(&data, 0, &recipe);
    let served = Predictor::load(&onnx, &Limits::default()).unwrap().rows(200, &features).unwrap();
    let error = |guess: &dyn Fn(usize) -> f32| {
        values.iter().enumerate().map(|(i, v)| (v - guess(i)).powi(2)).sum::<f32>()
    };
    assert!(error(&|i| served.values[i]) < 0.01 * error(&|_| mean));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let onnx = testdata("mlp_a.onnx");
    let (data, _) = reference("mlp_a");
    let go = |onnx: &[u8], data: &Dataset, recipe: Recipe| {
        fine_tune(onnx, &mut data.clone(), &recipe, &mut |_| ControlFlow::Continue(())).unwrap_err()
    };
    assert!(matches!(go(b"garbage", &data, Recipe::default()), LearnError::Refused(_)));
    let narrow = Dataset::new(4, vec![0.0; 8], Targets::Classes(vec![0, 1]), vec![]).unwrap();
    assert!(matches!(go(&onnx, &narrow, Recipe::default()), LearnError::Width { expected: 16, got: 4 }));
    let odd = Dataset::new(16, vec![0.0; 16], Targets::Classes(vec![6]), vec![]).unwrap();
    assert!(matches!(go(&onnx, &odd, Recipe::default()), LearnError::Targets { .. }));
    let odd =
        Dataset::new(16, vec![0.0; 16], Targets::Values { width: 2, values: vec![0.0; 2] }, vec![]).unwrap();
    assert!(matches!(go(&onnx, &odd, Recipe::default()), LearnError::Targets { .. }));
    for recipe in [
        Recipe { learning_rate: f64::NAN, ..Recipe::default() },
        Recipe { batch: 0, ..Recipe::default() },
        Recipe { optimizer: Optimizer::Sgd { momentum: 1.0 }, ..Recipe::default() },
    ] {
        assert!(matches!(go(&onnx, &data, recipe), LearnError::Recipe(_)));
    }
    let wild =
        Recipe { learning_rate: 1e30, optimizer: Optimizer::Sgd { momentum: 0.0 }, ..Recipe::default() };
    assert!(matches!(go(&onnx, &data, wild), LearnError::NotFinite { .. }));
    let stopped = fine_tune(&onnx, &mut data.clone(), &Recipe::default(), &mut |p| {
        if p.step == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(LearnError::Stopped { step: 3 })));
    let targets = |count| Targets::Classes(vec![0; count]);
    assert_eq!(Dataset::new(2, vec![], targets(0), vec![]), Err(DatasetError::Empty));
    assert!(matches!(Dataset::new(2, vec![0.0; 3], targets(2), vec![]), Err(DatasetError::Length { .. })));
    assert!(matches!(
        Dataset::new(1, vec![0.0, f32::NAN], targets(2), vec![]),
        Err(DatasetError::Value { row: 1, .. })
    ));
    assert!(matches!(
        Dataset::new(1, vec![0.0; 2], targets(2), vec![1.0, -1.0]),
        Err(DatasetError::Value { .. })
    ));
    assert_eq!(Dataset::new(1, vec![0.0; 2], targets(2), vec![0.0; 2]), Err(DatasetError::NoWeight));
}

#[test]
fn a_recipe_is_written_by_people() {
    let text = r#"{"scope": {"names": ["a*"]}, "optimizer": {"sgd": {"momentum": 0.9}}, "epochs": 2}"#;
    let recipe: Recipe = serde_json::from_str(text).unwrap();
    assert_eq!(recipe.scope, Scope::Names(vec!["a*".into()]));
    assert_eq!(recipe.optimizer, Optimizer::Sgd { momentum: 0.9 });
    assert_eq!((recipe.epochs, recipe.batch), (2, Recipe::default().batch));
    assert!(serde_json::from_str::<Recipe>(r#"{"epoch": 2}"#).is_err());
    assert_eq!(
        serde_json::from_str::<Recipe>(r#"{"optimizer": "adam", "scope": "last_layer"}"#).unwrap().scope,
        Scope::LastLayer
    );
}

#[test]
fn a_bent_network_is_fitted_served_and_trained_on() {
    // The class is the logarithm's sign: a few large values own the first column's spread.
    let logs: Vec<f32> = (0..200u16).map(|at| 6.0 * f32::from(at * 73 % 200) / 200.0 - 3.0).collect();
    let rows = |gain: f32| -> Vec<f32> {
        logs.iter().zip(0u16..).flat_map(|(log, at)| [gain * log.exp(), f32::from(at % 7)]).collect()
    };
    let truth: Vec<u32> = logs.iter().map(|log| u32::from(*log > 0.0)).collect();
    let data = Dataset::new(2, rows(1.0), Targets::Classes(truth.clone()), vec![]).unwrap();
    let architecture = Architecture::Linear;
    let fitted = |noise: f64, seed| {
        let recipe = Recipe { learning_rate: 1e-2, epochs: 60, seed, ..Recipe::default() };
        let plan = FitPlan { architecture: &architecture, classes: 2, clip: 5.0, noise, recipe: &recipe };
        shoal_learn::fit(&data, None, &plan, &mut |_| ControlFlow::Continue(())).map(|fitted| fitted.onnx)
    };
    let onnx = fitted(0.1, 3).unwrap();
    assert_eq!(fitted(0.1, 3).unwrap(), onnx, "noise is drawn from the seed");
    assert!([fitted(0.1, 4), fitted(0.0, 3)].iter().all(|other| other.as_ref().unwrap() != &onnx));
    assert!(matches!(fitted(f64::NAN, 3), Err(LearnError::Recipe(_))));

    let graph = OnnxModel::parse(&onnx, &Limits::default()).unwrap().graph();
    let ops: Vec<&str> = graph.nodes.iter().map(|node| node.op.as_str()).collect();
    assert_eq!(ops.iter().filter(|op| **op == "Asinh").count(), 1, "{ops:?}");
    assert_eq!(trainable_parameters(&onnx).unwrap(), ["layers.0.weight", "layers.0.bias"]);
    let right = |onnx: &[u8], rows: &[f32]| {
        let scores = Predictor::load(onnx, &Limits::default()).unwrap().rows(truth.len(), rows).unwrap();
        scores.values.chunks(2).zip(&truth).filter(|(p, class)| u32::from(p[1] > p[0]) == **class).count()
    };
    assert!(right(&onnx, &rows(1.0)) >= 196, "{}", right(&onnx, &rows(1.0)));

    // A sensor of twice the gain: training goes on from there, and only behind the scaling.
    let moved = Dataset::new(2, rows(2.0), Targets::Classes(truth.clone()), vec![]).unwrap();
    let recipe = Recipe { learning_rate: 1e-2, epochs: 60, ..Recipe::default() };
    let trained = run(&onnx, &moved, &recipe);
    assert!(trained.last_loss < trained.first_loss / 2.0, "{} {}", trained.first_loss, trained.last_loss);
    assert!(right(&trained.onnx, &rows(2.0)) >= 196 && right(&onnx, &rows(2.0)) < 190);
    let again = OnnxModel::parse(&trained.onnx, &Limits::default()).unwrap().graph();
    let scaling = graph.initializers.iter().filter(|(name, _)| name.starts_with("norm."));
    assert!(scaling.clone().count() > 4 && { scaling }.all(|(name, old)| again.initializers[name] == *old));
}

fn fit_small(data: &Dataset, classes: usize, recipe: &Recipe) -> Vec<u8> {
    let architecture = Architecture::Mlp { hidden: vec![8] };
    let plan = FitPlan { architecture: &architecture, classes, clip: 5.0, noise: 0.0, recipe };
    shoal_learn::fit(data, None, &plan, &mut |_| ControlFlow::Continue(())).unwrap().onnx
}
