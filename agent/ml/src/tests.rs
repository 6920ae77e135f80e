//! What files from elsewhere may say, and what must become of it.

use crate::{Array, Data, Kernel, Kind, RunError, Setting, Settings, SettingsError, Slice, View};

fn settings(pairs: &[(&str, Setting)]) -> Settings {
    let mut settings = Settings::default();
    pairs.iter().for_each(|(name, value)| settings.insert(*name, value.clone()));
    settings
}

fn ints(values: &[i64]) -> Setting {
    Setting::Ints(values.to_vec())
}

fn floats(values: &[f32]) -> Setting {
    Setting::Floats(values.to_vec())
}

fn texts(values: &[&str]) -> Setting {
    Setting::Texts(values.iter().map(|text| (*text).to_owned()).collect())
}

/// Two leaves below one question, of two classes or one target.
fn tree() -> Vec<(&'static str, Setting)> {
    vec![
        ("nodes_treeids", ints(&[0, 0, 0])),
        ("nodes_nodeids", ints(&[0, 1, 2])),
        ("nodes_featureids", ints(&[1, 0, 0])),
        ("nodes_modes", texts(&["BRANCH_LEQ", "LEAF", "LEAF"])),
        ("nodes_values", floats(&[0.5, 0.0, 0.0])),
        ("nodes_truenodeids", ints(&[1, 0, 0])),
        ("nodes_falsenodeids", ints(&[2, 0, 0])),
        ("target_treeids", ints(&[0, 0])),
        ("target_nodeids", ints(&[1, 2])),
        ("target_ids", ints(&[0, 0])),
        ("target_weights", floats(&[10.0, 20.0])),
        ("n_targets", Setting::Int(1)),
    ]
}

fn regressor(changes: &[(&str, Setting)]) -> Result<Kernel, SettingsError> {
    let mut settings = settings(&tree());
    changes.iter().for_each(|(name, value)| settings.insert(*name, value.clone()));
    Kernel::parse("TreeEnsembleRegressor", &settings, None)
}

fn run(kernel: &Kernel, shape: &[usize], values: &[f32]) -> Result<Vec<Array>, RunError> {
    kernel.run(&[View { shape, data: Slice::F32(values) }])
}

#[test]
fn a_small_tree_answers() {
    let kernel = regressor(&[]).unwrap();
    let made = run(&kernel, &[3, 2], &[0.0, 0.5, 0.0, 0.6, 0.0, f32::NAN]).unwrap();
    assert_eq!(made[0], Array { shape: vec![3, 1], data: Data::F32(vec![10.0, 20.0, 20.0]) });
    assert_eq!(run(&kernel, &[3, 1], &[0.0; 3]).unwrap_err(), RunError::Features { expected: 2, got: 1 });
    assert_eq!(run(&kernel, &[0, 2], &[]).unwrap()[0].shape, [0, 1]);
}

#[test]
fn trees_that_are_none_are_refused() {
    let cases: &[(&str, &[(&str, Setting)])] = &[
        ("not reached", &[("nodes_truenodeids", ints(&[0, 0, 0]))]),
        (
            "every node",
            &[
                ("nodes_modes", texts(&["BRANCH_LEQ", "BRANCH_LT", "LEAF"])),
                ("nodes_truenodeids", ints(&[1, 0, 0])),
                ("nodes_falsenodeids", ints(&[2, 2, 0])),
            ],
        ),
        (
            "two ways",
            &[
                ("nodes_falsenodeids", ints(&[1, 0, 0])),
                ("nodes_modes", texts(&["BRANCH_LEQ", "BRANCH_LT", "LEAF"])),
                ("nodes_truenodeids", ints(&[1, 2, 0])),
                ("nodes_falsenodeids", ints(&[1, 2, 0])),
            ],
        ),
        ("does not exist", &[("nodes_truenodeids", ints(&[7, 0, 0]))]),
        ("twice", &[("nodes_nodeids", ints(&[0, 1, 1]))]),
        ("no feature", &[("nodes_featureids", ints(&[-1, 0, 0]))]),
        ("no feature", &[("nodes_featureids", ints(&[i64::MAX, 0, 0]))]),
        ("nodes_values", &[("nodes_values", floats(&[0.5]))]),
        ("mode", &[("nodes_modes", texts(&["LEAF", "LEAF", "BRANCH_SIDEWAYS"]))]),
        ("not below", &[("target_ids", ints(&[0, 1]))]),
        ("not below", &[("target_ids", ints(&[-1, 0]))]),
        ("expected 1 to", &[("n_targets", Setting::Int(1 << 40))]),
        ("expected 1 to", &[("n_targets", Setting::Int(0))]),
        ("target_weights", &[("target_weights", texts(&["x"]))]),
        (
            "0 nodes",
            &[
                ("nodes_treeids", ints(&[])),
                ("nodes_nodeids", ints(&[])),
                ("nodes_featureids", ints(&[])),
                ("nodes_modes", texts(&[])),
                ("nodes_values", floats(&[])),
                ("nodes_truenodeids", ints(&[])),
                ("nodes_falsenodeids", ints(&[])),
            ],
        ),
        ("aggregate_function", &[("aggregate_function", Setting::Text("MEDIAN".into()))]),
        ("post_transform", &[("post_transform", Setting::Text("MAGIC".into()))]),
    ];
    for (word, changes) in cases {
        let error = regressor(changes).unwrap_err().to_string();
        assert!(error.contains(word), "expected {word}: {error}");
    }
}

#[test]
fn a_deep_chain_is_walked_without_recursion() {
    let depth = 100_000i64;
    let inner = 0..depth;
    let count = 2 * depth + 1;
    let each = |inside: &dyn Fn(i64) -> i64| -> Vec<i64> {
        (0..count).map(|node| if node < depth { inside(node) } else { 0 }).collect()
    };
    let modes: Vec<&str> =
        (0..count).map(|node| if inner.contains(&node) { "BRANCH_LEQ" } else { "LEAF" }).collect();
    let kernel = regressor(&[
        ("nodes_treeids", ints(&vec![0; modes.len()])),
        ("nodes_nodeids", Setting::Ints((0..count).collect())),
        ("nodes_featureids", ints(&vec![0; modes.len()])),
        ("nodes_values", floats(&vec![0.0; modes.len()])),
        ("nodes_truenodeids", Setting::Ints(each(&|node| node + 1))),
        (
            "nodes_falsenodeids",
            Setting::Ints(each(&|node| depth + 1 + node).into_iter().map(|v| v.min(count - 1)).collect()),
        ),
        ("nodes_modes", texts(&modes)),
        ("target_nodeids", ints(&[depth, depth + 1])),
    ]);
    let kernel = kernel.unwrap();
    assert_eq!(run(&kernel, &[1, 1], &[-1.0]).unwrap()[0].data, Data::F32(vec![10.0]));
    assert_eq!(run(&kernel, &[1, 1], &[1.0]).unwrap()[0].data, Data::F32(vec![20.0]));
}

#[test]
fn settings_of_the_others_are_checked() {
    let one = floats(&[1.0]);
    let cases: &[(&str, &[(&str, Setting)])] = &[
        ("Scaler", &[]),
        ("Scaler", &[("offset", one.clone()), ("scale", floats(&[1.0, 2.0]))]),
        ("Normalizer", &[("norm", Setting::Text("L7".into()))]),
        ("Imputer", &[]),
        ("OneHotEncoder", &[]),
        ("LabelEncoder", &[("keys_int64s", ints(&[1, 2])), ("values_int64s", ints(&[1]))]),
        (
            "LabelEncoder",
            &[
                ("keys_int64s", ints(&[1])),
                ("values_tensor", Setting::Tensor(Array { shape: vec![1], data: Data::U8(vec![1]) })),
            ],
        ),
        ("CategoryMapper", &[("cats_strings", texts(&["a"]))]),
        ("FeatureVectorizer", &[("inputdimensions", ints(&[-1]))]),
        ("LinearRegressor", &[("coefficients", one.clone()), ("targets", Setting::Int(i64::MAX))]),
        ("LinearRegressor", &[("coefficients", one.clone()), ("targets", Setting::Int(2))]),
        ("LinearClassifier", &[("coefficients", one.clone())]),
        (
            "LinearClassifier",
            &[
                ("coefficients", one.clone()),
                ("classlabels_ints", ints(&[1, 2, 3])),
                ("intercepts", floats(&[1.0; 2])),
            ],
        ),
        (
            "SVMRegressor",
            &[("coefficients", one.clone()), ("rho", one.clone()), ("n_supports", Setting::Int(1 << 40))],
        ),
        ("SVMRegressor", &[("coefficients", one.clone())]),
        (
            "SVMClassifier",
            &[
                ("coefficients", one.clone()),
                ("rho", one.clone()),
                ("classlabels_ints", ints(&[1, 2])),
                ("vectors_per_class", ints(&[i64::MAX, i64::MAX])),
            ],
        ),
        (
            "SVMClassifier",
            &[
                ("coefficients", one.clone()),
                ("rho", one.clone()),
                ("classlabels_ints", ints(&[1, 2])),
                ("vectors_per_class", ints(&[1, 1])),
                ("support_vectors", one.clone()),
            ],
        ),
        ("TreeEnsemble", &[]),
        ("CDist", &[("metric", Setting::Text("cosine".into()))]),
        ("ReverseSequence", &[("time_axis", Setting::Int(5))]),
        ("Nothing", &[]),
    ];
    for (op, pairs) in cases {
        let parsed = Kernel::parse(op, &settings(pairs), None);
        assert!(parsed.is_err(), "{op} takes {pairs:?}");
    }
}

#[test]
fn inputs_that_do_not_fit_are_errors() {
    let encoder = Kernel::parse(
        "OneHotEncoder",
        &settings(&[("cats_int64s", ints(&[1])), ("zeros", Setting::Int(0))]),
        None,
    )
    .unwrap();
    assert_eq!(run(&encoder, &[1], &[5.0]).unwrap_err(), RunError::UnknownCategory);
    let extract = Kernel::parse("ArrayFeatureExtractor", &Settings::default(), None).unwrap();
    let x = View { shape: &[1, 2], data: Slice::F32(&[1.0, 2.0]) };
    for index in [2, -1, i64::MIN] {
        let indices = [index];
        let far = View { shape: &[1], data: Slice::I64(&indices) };
        assert_eq!(extract.run(&[x, far]).unwrap_err(), RunError::Index { index, size: 2 });
    }
    assert_eq!(extract.run(&[x]).unwrap_err(), RunError::Inputs { expected: 2, got: 1 });
    let text = ["a".to_owned()];
    let text = View { shape: &[1, 1], data: Slice::Text(&text) };
    assert_eq!(regressor(&[]).unwrap().run(&[text]).unwrap_err(), RunError::NotNumbers);
    let reverse = Kernel::parse("ReverseSequence", &Settings::default(), None).unwrap();
    let far = View { shape: &[2], data: Slice::I64(&[9, 0]) };
    assert!(reverse.run(&[x, far]).is_err());
}

#[test]
fn leaves_are_refitted() {
    let kernel = regressor(&[]).unwrap();
    let mut forest = kernel.forest().unwrap().clone();
    let places = forest.arrive(&[0.0, 9.0]).unwrap();
    assert_eq!(forest.leaves()[forest.span(places[0]).unwrap()][0].weight, 20.0);
    assert!(forest.arrive(&[0.0]).is_none());
    assert!(!forest.refit(&[1.0]));
    assert!(forest.refit(&[1.0, 2.0]));
    assert_eq!(forest.leaves().iter().map(|leaf| leaf.weight).collect::<Vec<_>>(), [1.0, 2.0]);
    assert_eq!(kernel.outputs(Kind::F32, 2)[0].kind, Kind::F32);
}
