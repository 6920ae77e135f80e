//! Runs: resumed, bounded in memory, of every scope, loss and optimiser.

#![expect(clippy::unwrap_used, reason = "the lint's exception for tests does not reach their helpers")]

use shoal_infer::{Predictor, TensorData, read_npz};
use shoal_learn::*;
use shoal_onnx::{ConstantData, Limits, OnnxModel};

fn testdata(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/zoo");
    std::fs::read(format!("{folder}/{name}")).unwrap()
}

/// A network of another exporter, and its rows.
fn network(name: &str) -> (Vec<u8>, Dataset) {
    let arrays = read_npz(&testdata(&format!("{name}.grad.npz"))).unwrap();
    let find = |wanted: &str| arrays.iter().find(|array| array.name == wanted).unwrap();
    let floats = |data: &TensorData| -> Vec<f32> {
        match data {
            TensorData::F32(values) => values.clone(),
            #[expect(clippy::cast_possible_truncation, reason = "fixtures are of 32 bits")]
            TensorData::F64(values) => values.iter().map(|value| *value as f32).collect(),
            TensorData::I64(values) => {
                values.iter().map(|value| i16::try_from(*value).unwrap().into()).collect()
            }
            TensorData::I32(values) => {
                values.iter().map(|value| i16::try_from(*value).unwrap().into()).collect()
            }
            other => panic!("{other:?}"),
        }
    };
    let (x, t) = (find("x"), find("t"));
    let targets = match t.i64s() {
        Some(classes) => Targets::Classes(classes.iter().map(|c| u32::try_from(*c).unwrap()).collect()),
        None => Targets::Values { width: t.shape[1..].iter().product(), values: floats(&t.data) },
    };
    let data = Dataset::new(x.shape[1..].iter().product(), floats(&x.data), targets, vec![]).unwrap();
    (testdata(&format!("{name}.onnx")), data)
}

fn run(onnx: &[u8], data: &Dataset, recipe: &Recipe) -> Trained {
    fine_tune(onnx, &mut data.clone(), recipe, &mut |_| std::ops::ControlFlow::Continue(())).unwrap()
}

fn few(epochs: u32) -> Recipe {
    Recipe { epochs, batch: 3, learning_rate: 3e-3, seed: 5, ..Recipe::default() }
}

/// Recipes that remember something between steps.
fn recipes() -> Vec<Recipe> {
    let momentum = Optimizer::Sgd { momentum: 0.9 };
    vec![
        Recipe { optimizer: momentum, clip_norm: 0.5, ..few(4) },
        Recipe { optimizer: Optimizer::AdamW { weight_decay: 0.1 }, ewc: 0.3, l2_to_start: 0.1, ..few(4) },
        Recipe { warm_up: 0.3, schedule: Schedule::Cosine, patience: 2, evaluate_every: 2, ..few(4) },
        Recipe { scope: Scope::LowRank { rank: 2 }, ..few(4) },
        Recipe { batch_norm: Statistics::Batch, batch: 4, ..few(4) },
    ]
}

#[test]
fn a_resumed_run_ends_with_the_same_bytes() {
    let (onnx, data) = network("cnn1d");
    for recipe in recipes() {
        let whole = {
            let (mut rows, mut held_out) = (data.clone(), data.clone());
            let mut session = Session::new(&onnx, &mut rows, Some(&mut held_out), &recipe).unwrap();
            while session.step().unwrap().is_some() {}
            session.finish().unwrap()
        };
        for stopped in [0, 1, 4] {
            let (mut rows, mut held_out) = (data.clone(), data.clone());
            let mut first = Session::new(&onnx, &mut rows, Some(&mut held_out), &recipe).unwrap();
            for _ in 0..stopped {
                first.step().unwrap();
            }
            let text = serde_json::to_string(&first.checkpoint()).unwrap();
            drop(first);
            let (mut rows, mut held_out) = (data.clone(), data.clone());
            let mut again = Session::new(&onnx, &mut rows, Some(&mut held_out), &recipe).unwrap();
            again.resume(&serde_json::from_str(&text).unwrap()).unwrap();
            while again.step().unwrap().is_some() {}
            assert_eq!(again.finish().unwrap(), whole, "stopped after {stopped}: {recipe:?}");
        }
        let (mut rows, mut others) = (data.clone(), data.clone());
        let checkpoint = Session::new(&onnx, &mut rows, None, &recipe).unwrap().checkpoint();
        let other = Recipe { seed: 6, ..recipe };
        let mut session = Session::new(&onnx, &mut others, None, &other).unwrap();
        assert_eq!(session.resume(&checkpoint), Err(CheckpointError::OtherRun));
    }
}

#[test]
fn a_head_is_trained_on_activations_that_are_kept() {
    for name in ["cnn1d", "lstm", "tfm", "keras_conv2d", "token"] {
        let (onnx, data) = network(name);
        let recipe = Recipe { scope: Scope::LastLayer, ..few(5) };
        let ask = |memory_bytes| {
            let mut rows = data.clone();
            let recipe = Recipe { memory_bytes, ..recipe.clone() };
            let mut session = Session::new(&onnx, &mut rows, None, &recipe).unwrap();
            let keeps = session.keeps_activations();
            let bytes = session.bytes();
            while session.step().unwrap().is_some() {}
            (keeps, bytes, session.finish().unwrap())
        };
        let (keeps, _, trained) = ask(0);
        assert!(keeps, "{name}");
        let all = run(&onnx, &data, &Recipe { scope: Scope::All, ..recipe.clone() });
        assert!(
            trained.parameters.len() < all.parameters.len() && trained.last_loss < trained.first_loss,
            "{name}"
        );
        assert!((trained.first_loss - all.first_loss).abs() < 1e-6, "{name}");
    }
}

#[test]
fn memory_is_planned_and_batches_are_cut_to_it() {
    let (onnx, data) = network("cnn1d");
    let recipe = Recipe { batch: data.len(), ..few(6) };
    let mut rows = data.clone();
    let whole = Session::new(&onnx, &mut rows, None, &recipe).unwrap();
    assert_eq!(whole.rows_at_once(), data.len());
    let needed = whole.bytes();
    drop(whole);
    let unbounded = run(&onnx, &data, &recipe);
    for share in [0.8, 0.6] {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of some bytes")]
        let budget = (needed as f64 * share) as u64;
        let bounded = Recipe { memory_bytes: budget, ..recipe.clone() };
        let mut rows = data.clone();
        let session = Session::new(&onnx, &mut rows, None, &bounded).unwrap();
        assert!(session.rows_at_once() < data.len() && session.bytes() as u64 <= budget, "{share}");
        drop(session);
        let trained = run(&onnx, &data, &bounded);
        assert!((trained.last_loss - unbounded.last_loss).abs() < 1e-4, "{share}: {}", trained.last_loss);
    }
    let mut rows = data.clone();
    let nothing = Recipe { memory_bytes: 1_000, ..recipe };
    let refused = Session::new(&onnx, &mut rows, None, &nothing).unwrap_err();
    assert!(matches!(refused, LearnError::Memory { budget: 1_000, .. }), "{refused}");
}

#[test]
fn thin_matrices_are_merged_into_the_weights() {
    let (onnx, data) = network("mlp");
    let trained = run(&onnx, &data, &Recipe { scope: Scope::LowRank { rank: 1 }, ..few(20) });
    assert!(trained.last_loss < trained.first_loss);
    let stored = |bytes: &[u8]| OnnxModel::parse(bytes, &Limits::default()).unwrap().graph().initializers;
    let (before, after) = (stored(&onnx), stored(&trained.onnx));
    for name in &trained.parameters {
        let (ConstantData::F32(old), ConstantData::F32(new)) = (&before[name].data, &after[name].data) else {
            panic!("{name}")
        };
        let [_, columns] = *before[name].dims.as_slice() else { panic!("{name}") };
        let moved: Vec<f64> = old.iter().zip(new).map(|(a, b)| f64::from(b - a)).collect();
        let most = moved.iter().fold(0f64, |most, v| most.max(v.abs()));
        assert!(most > 1e-4, "{name}");
        // Of rank one: every 2 by 2 corner has no determinant.
        for (row, next) in moved.chunks(columns).zip(moved.chunks(columns).skip(1)) {
            let corner = row[0] * next[columns - 1] - row[columns - 1] * next[0];
            assert!(corner.abs() < 1e-4 * most * most + 1e-9, "{name}: {corner}");
        }
    }
    let untouched = before.iter().filter(|(name, _)| !trained.parameters.contains(name));
    assert!({ untouched }.all(|(name, constant)| after[name] == *constant));
}

#[test]
fn every_loss_falls_and_the_file_still_serves() {
    let values = |kind| Recipe { loss: kind, ..few(30) };
    for (name, recipe) in [
        ("keras_values", values(LossKind::MeanSquared)),
        ("keras_values", values(LossKind::Huber { delta: 0.5 })),
        ("keras_values", values(LossKind::Quantile { quantile: 0.9 })),
        ("ae.dynamo", values(LossKind::Reconstruction)),
        ("keras_binary", few(30)),
        ("token", few(30)),
        ("unet", few(10)),
        ("bilstm2", few(10)),
        ("tfm.dynamo", few(10)),
        ("skl_mlp", few(30)),
        ("mb", Recipe { batch_norm: Statistics::Batch, batch: 4, ..few(10) }),
        ("mlp", Recipe { class_weights: ClassWeights::Balanced, ..few(30) }),
        ("mlp", Recipe { scope: Scope::BiasAndNorm, ..few(30) }),
    ] {
        let (onnx, data) = network(name);
        let trained = run(&onnx, &data, &recipe);
        assert!(
            trained.last_loss < trained.first_loss,
            "{name}: {} to {}",
            trained.first_loss,
            trained.last_loss
        );
        assert_eq!(trained.onnx.len(), onnx.len(), "{name}");
        assert_eq!(run(&onnx, &data, &recipe).onnx, trained.onnx, "{name}: the same again");
        Predictor::load(&trained.onnx, &Limits::default()).unwrap();
    }
}

#[test]
fn the_best_weights_on_held_out_rows_are_kept() {
    let (onnx, data) = network("mlp");
    let Targets::Classes(classes) = data.targets() else { panic!() };
    // Held out: the same rows, called something else; every step makes them worse in the end.
    let wrong = classes.iter().map(|class| (class + 1) % 3).collect();
    let held_out =
        Dataset::new(data.width(), data.features().to_vec(), Targets::Classes(wrong), vec![]).unwrap();
    let recipe = Recipe { patience: 2, evaluate_every: 1, learning_rate: 0.05, ..few(50) };
    let (mut rows, mut judged) = (data.clone(), held_out);
    let mut session = Session::new(&onnx, &mut rows, Some(&mut judged), &recipe).unwrap();
    let mut best = (0, f64::INFINITY);
    while let Some(progress) = session.step().unwrap() {
        let loss = progress.held_out_loss.unwrap();
        if loss < best.1 {
            best = (progress.step, loss);
        }
    }
    let trained = session.finish().unwrap();
    assert_eq!((trained.best_step, trained.steps), (best.0, best.0 + 2), "two worse ones end it");
}

#[test]
fn what_is_looked_up_must_be_there() {
    let (onnx, data) = network("token");
    let mut features = data.features().to_vec();
    for wrong in [1e6, -1e6, 0.5] {
        features[3] = wrong;
        let mut odd = Dataset::new(data.width(), features.clone(), data.targets().clone(), vec![]).unwrap();
        let refused = Session::new(&onnx, &mut odd, None, &few(1)).unwrap_err();
        assert!(matches!(refused, LearnError::Index { value, .. } if value == wrong), "{refused}");
    }
}
