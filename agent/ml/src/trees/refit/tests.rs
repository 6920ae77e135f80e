//! Small ensembles whose new leaves are known by hand.

use crate::{
    Array, Boosting, Data, Ensemble, Kernel, Labels, Library, RefitError, RefitSettings, Refitted, Samples,
    Setting, Settings,
};

fn settings(pairs: &[(&str, Setting)]) -> Settings {
    let mut settings = Settings::default();
    pairs.iter().for_each(|(name, value)| settings.insert(*name, value.clone()));
    settings
}

fn ints(values: &[i64]) -> Setting {
    Setting::Ints(values.to_vec())
}

fn doubles(values: &[f64]) -> Setting {
    Setting::Tensor(Array { shape: vec![values.len()], data: Data::F64(values.to_vec()) })
}

fn modes(values: &[u8]) -> Setting {
    Setting::Tensor(Array { shape: vec![values.len()], data: Data::U8(values.to_vec()) })
}

/// Two stumps on the first feature, split at zero.
fn stumps(changes: &[(&str, Setting)]) -> Kernel {
    let text = ["BRANCH_LEQ", "LEAF", "LEAF"].map(str::to_owned);
    let mut all = settings(&[
        ("nodes_treeids", ints(&[0, 0, 0, 1, 1, 1])),
        ("nodes_nodeids", ints(&[0, 1, 2, 0, 1, 2])),
        ("nodes_featureids", ints(&[0; 6])),
        ("nodes_modes", Setting::Texts([text.clone(), text].concat())),
        ("nodes_values", Setting::Floats(vec![0.0; 6])),
        ("nodes_truenodeids", ints(&[1, 0, 0, 1, 0, 0])),
        ("nodes_falsenodeids", ints(&[2, 0, 0, 2, 0, 0])),
        ("target_treeids", ints(&[1, 0, 0, 1])),
        ("target_nodeids", ints(&[2, 1, 2, 1])),
        ("target_ids", ints(&[0; 4])),
        ("target_weights", Setting::Floats(vec![4.0, 1.0, 2.0, 3.0])),
        ("n_targets", Setting::Int(1)),
    ]);
    changes.iter().for_each(|(name, value)| all.insert(*name, value.clone()));
    Kernel::parse("TreeEnsembleRegressor", &all, None).unwrap()
}

fn boosted(shrinkage: f64) -> RefitSettings {
    let boosting = Boosting { shrinkage, lambda_l2: 0.0, holds_average: false, library: Library::LightGbm };
    RefitSettings { ensemble: Some(Ensemble::Boosted(boosting)), decay: 0.5, ..RefitSettings::default() }
}

const FOREST: RefitSettings =
    RefitSettings { ensemble: Some(Ensemble::Forest), objective: None, decay: 0.5, min_rows_per_leaf: 1 };

fn refit(kernel: &Kernel, labels: &[f32], settings: &RefitSettings) -> Result<Refitted, RefitError> {
    // Two rows go left, none goes right.
    let features = [-1.0, -2.0];
    kernel.refit(
        &Samples { features: &features, width: 1, labels: Labels::Values(labels), weights: None },
        settings,
    )
}

fn weights(refitted: &Refitted) -> Vec<f64> {
    refitted.weights.iter().map(|(_, weight)| *weight).collect()
}

#[test]
fn each_tree_corrects_those_before_it() {
    let kernel = stumps(&[("base_values", Setting::Floats(vec![2.0]))]);
    let made = refit(&kernel, &[10.0, 14.0], &boosted(0.5)).unwrap();
    // First tree: mean residual 10, halved, and half of the old 1: 3. Second: 7, 3.5, with half of 3: 3.25.
    assert_eq!(weights(&made), [4.0, 3.0, 2.0, 3.25]);
    assert_eq!((made.refitted, made.kept, made.trees, made.rows), (2, 2, 2, 2));
    assert_eq!(made.largest_change, 2.0);
    // As LightGBM does it, leaves without rows shrink.
    let made =
        refit(&kernel, &[10.0, 14.0], &RefitSettings { min_rows_per_leaf: 0, ..boosted(0.5) }).unwrap();
    assert_eq!(weights(&made), [2.0, 3.0, 1.0, 3.25]);
}

#[test]
fn a_forest_takes_the_mean_divided_where_the_operator_does_not() {
    let made = refit(&stumps(&[]), &[10.0, 14.0], &FOREST).unwrap();
    assert_eq!(weights(&made), [4.0, 0.5 + 3.0, 2.0, 1.5 + 3.0]);
    let average = stumps(&[("aggregate_function", Setting::Text("AVERAGE".into()))]);
    let made = refit(&average, &[10.0, 14.0], &RefitSettings { ensemble: None, ..FOREST }).unwrap();
    assert_eq!(weights(&made), [4.0, 0.5 + 6.0, 2.0, 1.5 + 6.0]);
    let error = refit(&average, &[1.0; 2], &boosted(0.5)).unwrap_err();
    assert!(matches!(error, RefitError::Contradiction { name: "ensemble", .. }));
}

#[test]
fn double_precision_stays_so() {
    let kernel = stumps(&[
        ("target_weights", Setting::Floats(vec![])),
        ("target_weights_as_tensor", doubles(&[4.0, 0.1, 2.0, 3.0])),
    ]);
    let made = refit(&kernel, &[10.0, 14.0], &RefitSettings { decay: 1.0, ..boosted(0.5) }).unwrap();
    assert_eq!(weights(&made), [4.0, 0.1, 2.0, 3.0]);
}

#[test]
fn what_is_no_sum_of_trees_is_refused() {
    let least = stumps(&[("aggregate_function", Setting::Text("MIN".into()))]);
    assert!(matches!(refit(&least, &[1.0; 2], &FOREST).unwrap_err(), RefitError::Layout { .. }));
    let twice = stumps(&[("target_nodeids", ints(&[1, 1, 2, 1]))]);
    let reason = "a leaf has two weights for one target";
    assert_eq!(refit(&twice, &[1.0; 2], &FOREST).unwrap_err(), RefitError::Layout { reason });
    let scaler = settings(&[("offset", Setting::Floats(vec![0.0])), ("scale", Setting::Floats(vec![1.0]))]);
    let scaler = Kernel::parse("Scaler", &scaler, None).unwrap();
    assert_eq!(refit(&scaler, &[1.0; 2], &FOREST).unwrap_err(), RefitError::NoTrees);
    let error = refit(&stumps(&[]), &[f32::NAN, 1.0], &FOREST).unwrap_err();
    assert_eq!(error, RefitError::Row { row: 0, reason: "its label is no finite number" });
    let error = refit(&stumps(&[]), &[3e38, 3e38], &boosted(1.0)).map(|made| weights(&made));
    assert!(error.is_ok(), "{error:?}");
}

/// Stumps of opset 5; the leaves that each goes to are given.
fn newer(leaves: [i64; 4]) -> Kernel {
    let all = settings(&[
        ("nodes_featureids", ints(&[0, 0])),
        ("nodes_modes", modes(&[0, 0])),
        ("nodes_splits", doubles(&[0.0, 0.0])),
        ("nodes_truenodeids", ints(&[leaves[0], leaves[2]])),
        ("nodes_falsenodeids", ints(&[leaves[1], leaves[3]])),
        ("nodes_trueleafs", ints(&[1, 1])),
        ("nodes_falseleafs", ints(&[1, 1])),
        ("leaf_targetids", ints(&[0, 0, 0])),
        ("leaf_weights", doubles(&[1.0, 2.0, 3.0])),
        ("tree_roots", ints(&[0, 1])),
        ("n_targets", Setting::Int(1)),
    ]);
    Kernel::parse("TreeEnsemble", &all, None).unwrap()
}

#[test]
fn a_tree_of_one_leaf_is_refitted_once() {
    // The second tree goes to its only leaf both ways, as converters write a constant.
    let made = refit(&newer([0, 1, 2, 2]), &[10.0, 14.0], &boosted(0.5)).unwrap();
    // 12 halved twice and half of 1: 3.5; then a quarter of the 8.5 that are left and half of 3.
    assert_eq!(weights(&made), [0.5 + 3.0, 2.0, 1.5 + 0.25 * 8.5]);
    let error = refit(&newer([0, 1, 1, 2]), &[10.0, 14.0], &boosted(0.5)).unwrap_err();
    assert_eq!(error, RefitError::Layout { reason: "two trees share a leaf" });
}
