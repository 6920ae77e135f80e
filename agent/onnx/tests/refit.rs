//! Leaves refitted as the libraries themselves do it: `testdata/gen_refit.py`.

#![expect(clippy::unwrap_used, reason = "the lint's exception for tests does not reach their helpers")]

use std::io::Cursor;

use npyz::npz::NpzArchive;
use prost::Message;
use shoal_ml::*;
use shoal_onnx::{
    Affine, FoldError, Leaves, Limits, TreeRefitError, fold_input_affine, inspect, ml_settings, refit_as,
    refit_trees, takes_input_affine,
};
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto};

fn array<T: npyz::Deserialize>(name: &str) -> Option<Vec<T>> {
    let path = format!("{}/testdata/refit.npz", env!("CARGO_MANIFEST_DIR"));
    let mut archive = NpzArchive::new(Cursor::new(std::fs::read(path).unwrap())).unwrap();
    Some(archive.by_name(name).unwrap()?.into_vec().unwrap())
}

fn file(name: &str) -> Vec<u8> {
    array(name).unwrap()
}

fn graph(bytes: &[u8]) -> GraphProto {
    ModelProto::decode(bytes).unwrap().graph.unwrap()
}

fn trees(graph: &GraphProto) -> &NodeProto {
    graph.node.iter().find(|node| node.op_type.starts_with("Tree")).unwrap()
}

fn leaves(bytes: &[u8]) -> Vec<f32> {
    let graph = graph(bytes);
    let is_weights =
        |a: &&AttributeProto| a.name.ends_with("_weights") || a.name.ends_with("_weights_as_tensor");
    trees(&graph).attribute.iter().find(is_weights).unwrap().floats.clone()
}

/// The scores that the serving kernel gives.
fn scores(bytes: &[u8], rows: &[f32]) -> Vec<f32> {
    let graph = graph(bytes);
    let node = trees(&graph);
    let kernel = Kernel::parse(&node.op_type, &ml_settings(node), None).unwrap();
    let made = kernel.run(&[View { shape: &[rows.len() / 4, 4], data: Slice::F32(rows) }]).unwrap();
    match &made.last().unwrap().data {
        Data::F32(values) => values.clone(),
        other => panic!("{other:?}"),
    }
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Labelled rows of the fixture: those of the drifted data, or those that the trees were grown on.
struct Rows {
    x: Vec<f32>,
    values: Vec<f32>,
    two: Vec<u32>,
    three: Vec<u32>,
    weights: Vec<f32>,
}

impl Rows {
    fn new(prefix: &str) -> Self {
        let named = |name: &str| format!("{prefix}{name}");
        Self {
            x: array(&named("x")).unwrap(),
            values: array(&named("r")).unwrap(),
            two: array(&named("b")).unwrap(),
            three: array(&named("m")).unwrap(),
            weights: array("w").unwrap(),
        }
    }

    fn samples(&self, case: &str, is_weighted: bool) -> Samples<'_> {
        let labels = match case {
            case if case.contains("values") || case == "lgb_average" => Labels::Values(&self.values),
            case if case.contains("two") => Labels::Classes(&self.two),
            _ => Labels::Classes(&self.three),
        };
        let weights = is_weighted.then_some(self.weights.as_slice());
        Samples { features: &self.x, width: 4, labels, weights }
    }
}

fn boosted(library: Library, shrinkage: f64, lambda_l2: f64, holds_average: bool) -> Option<Ensemble> {
    Some(Ensemble::Boosted(Boosting { shrinkage, lambda_l2, holds_average, library }))
}

fn settings(ensemble: Option<Ensemble>, decay: f64, min_rows_per_leaf: usize) -> RefitSettings {
    RefitSettings { ensemble, decay, min_rows_per_leaf, ..RefitSettings::default() }
}

/// Refits a case and gives the worst difference of leaves and of scores to the library's own.
fn compare(case: &str, samples: &Samples<'_>, settings: &RefitSettings) -> (f32, f32) {
    let old = file(&format!("{case}.old"));
    let new = array(&format!("{case}.new")).unwrap_or_else(|| old.clone());
    let made = refit_trees(&old, samples, settings, &Limits::default()).unwrap();
    assert_eq!(made.onnx.len(), old.len(), "{case}");
    let metadata = ModelProto::decode(made.onnx.as_slice()).unwrap().metadata_props;
    assert_eq!(metadata[0].value, "kept", "{case}");
    let test: Vec<f32> = array("test").unwrap();
    let expected: Vec<f32> = array(&format!("{case}.y")).unwrap();
    let (leaf, score) =
        (worst(&leaves(&made.onnx), &leaves(&new)), worst(&scores(&made.onnx, &test), &expected));
    (leaf, score)
}

/// Seen: 3e-7 at the leaves, 5e-7 at the scores.
#[test]
fn lightgbm_refits_alike() {
    let rows = Rows::new("");
    let lgb = |lambda, average| boosted(Library::LightGbm, 0.2, lambda, average);
    let table = [
        ("lgb_values", lgb(0.0, false), 0.9, false),
        ("lgb_average", lgb(1.5, true), 0.5, true),
        ("lgb_two", lgb(0.0, false), 0.7, false),
        ("lgb_two_average", lgb(0.0, true), 0.25, true),
        ("lgb_three", lgb(0.0, false), 0.6, true),
        ("lgb_three_average", lgb(0.5, true), 0.3, false),
    ];
    for (case, ensemble, decay, is_weighted) in table {
        let (leaf, score) = compare(case, &rows.samples(case, is_weighted), &settings(ensemble, decay, 0));
        assert!(leaf <= 1e-5 && score <= 1e-5, "{case}: {leaf} {score}");
    }
}

/// XGBoost sums in f32; seen: 5e-8 at the leaves.
#[test]
fn xgboost_refreshes_alike() {
    let rows = Rows::new("");
    for (case, is_weighted) in [("xgb_values", true), ("xgb_two", false), ("xgb_three", true)] {
        let settings = settings(boosted(Library::XgBoost, 0.3, 1.5, false), 0.0, 0);
        let (leaf, score) = compare(case, &rows.samples(case, is_weighted), &settings);
        assert!(leaf <= 1e-5 && score <= 1e-5, "{case}: {leaf} {score}");
    }
}

/// scikit-learn has no refit: on the rows that the trees were grown on nothing may change.
#[test]
fn leaves_of_the_same_rows_come_out_again() {
    let rows = Rows::new("old_");
    let skl = boosted(Library::ScikitLearn, 0.2, 0.0, false);
    let table = [
        ("skl_values", skl),
        ("skl_two", skl),
        ("skl_three", skl),
        ("forest_values", Some(Ensemble::Forest)),
        ("forest_two", None),
        ("forest_three", None),
        ("tree_three", None),
    ];
    for (case, ensemble) in table {
        let (leaf, score) = compare(case, &rows.samples(case, false), &settings(ensemble, 0.0, 1));
        assert!(leaf <= 1e-5 && score <= 1e-5, "{case}: {leaf} {score}");
    }
}

fn mean_loss(case: &str, bytes: &[u8], rows: &Rows) -> f32 {
    let scores = scores(bytes, &rows.x);
    let width = scores.len() / (rows.x.len() / 4);
    let classes = if case.contains("two") { &rows.two } else { &rows.three };
    let loss = |(row, scores): (usize, &[f32])| match width {
        1 => (scores[0] - rows.values[row]).powi(2),
        _ => -scores[classes[row] as usize].max(1e-3).ln(),
    };
    scores.chunks(width).enumerate().map(loss).sum::<f32>() / (rows.x.len() / 4) as f32
}

#[test]
fn what_too_few_rows_reach_stays_and_the_rest_fits_better() {
    let rows = Rows::new("");
    let boosting = boosted(Library::LightGbm, 0.2, 0.0, true);
    for (case, ensemble) in
        [("lgb_average", boosting), ("forest_three", None), ("forest_two", None), ("lgb_three", boosting)]
    {
        let old = file(&format!("{case}.old"));
        let refit = |least| {
            let settings = settings(ensemble, 0.5, least);
            refit_trees(&old, &rows.samples(case, false), &settings, &Limits::default()).unwrap()
        };
        let (all, few, none) = (refit(1), refit(12), refit(usize::MAX));
        assert!(few.report.kept > all.report.kept, "{case}");
        assert_eq!((none.onnx, none.report.largest_change), (old.clone(), 0.0), "{case}");
        let (before, after) = (mean_loss(case, &old, &rows), mean_loss(case, &all.onnx, &rows));
        assert!(after < before, "{case}: {before} -> {after}");
        let changed = old.iter().zip(&all.onnx).filter(|(a, b)| a != b).count();
        assert!(changed > 0 && changed <= 4 * all.report.weights.len(), "{case}");
    }
}

#[test]
fn what_cannot_be_told_must_be_said() {
    let rows = Rows::new("");
    let said = |case: &str, samples: Samples<'_>, settings: RefitSettings| {
        let old = file(&format!("{case}.old"));
        let error = refit_trees(&old, &samples, &settings, &Limits::default()).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        cause.unwrap_or_else(|| error.to_string())
    };
    let plain = settings(None, 0.9, 1);
    let boosting = settings(boosted(Library::LightGbm, 0.2, 0.0, false), 0.9, 1);
    let forest = settings(Some(Ensemble::Forest), 0.9, 1);
    let table = [
        ("lgb_values", plain, "cannot be told from the file; set `ensemble`"),
        ("forest_values", plain, "cannot be told from the file; set `ensemble`"),
        ("lgb_two", plain, "set `ensemble` to boosted with the shrinkage"),
        ("xgb_three", plain, "set `ensemble` to boosted with the shrinkage"),
        ("xgb_three", forest, "`ensemble` contradicts the file: its scores are made probabilities"),
        ("forest_two", boosting, "`ensemble` contradicts the file: its leaves hold class frequencies"),
        ("lgb_two", RefitSettings { decay: 1.5, ..boosting }, "`decay` is 1.5, expected 0 to 1"),
        (
            "lgb_two",
            RefitSettings { objective: Some(Objective::Squares), ..boosting },
            "`objective` contradicts the file",
        ),
        ("lgb_two", settings(boosted(Library::LightGbm, 0.0, 0.0, false), 0.9, 1), "`shrinkage` is 0"),
    ];
    for (case, settings, expected) in table {
        let got = said(case, rows.samples(case, false), settings);
        assert!(got.contains(expected), "{case}: expected `{expected}`, got `{got}`");
    }
    let good = rows.samples("lgb_three", false);
    let with = |samples| said("lgb_three", samples, boosting);
    assert_eq!(
        with(Samples { labels: Labels::Classes(&[3; 160]), ..good }),
        "row 0: its class does not exist"
    );
    assert_eq!(with(Samples { labels: Labels::Classes(&[0; 3]), ..good }), "expected 160 labels, got 3");
    assert_eq!(with(Samples { width: 2, ..good }), "expected 4 features, got 2");
    assert_eq!(with(Samples { features: &[], ..good }), "there are no rows to refit on");
    let weights = [-1.0; 160];
    assert!(with(Samples { weights: Some(&weights), ..good }).starts_with("row 0: its weight is negative"));
    assert_eq!(
        with(Samples { labels: Labels::Values(&rows.values), ..good }),
        "the ensemble is not refitted: a classifier's labels are classes"
    );
}

#[test]
fn whether_leaves_can_be_refitted_is_told_without_rows() {
    let limits = Limits::default();
    let told = |bytes: &[u8]| shoal_onnx::leaves(bytes, &limits).unwrap();
    let needs = |bytes: &[u8], word: &str| match told(bytes) {
        Some(Leaves::Unsaid { reason }) => assert!(reason.contains(word), "{reason}"),
        other => panic!("{other:?}"),
    };
    for case in ["forest_two", "forest_three", "tree_three"] {
        assert_eq!(told(&file(&format!("{case}.old"))), Some(Leaves::Forest), "{case}");
    }
    for case in ["lgb_two", "lgb_three", "lgb_values", "xgb_three", "forest_values"] {
        needs(&file(&format!("{case}.old")), "set `ensemble`");
    }
    needs(&with_node("lgb_values", "Exp", "", vec![], false), "set `objective`");
    match told(&with_node("lgb_values", "Sin", "", vec![], true)) {
        Some(Leaves::Fixed { reason }) => assert!(reason.contains("(Sin) stands before"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let ae = std::fs::read(format!("{}/testdata/ae.onnx", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert_eq!(told(&ae), None);
    let boosting = settings(boosted(Library::LightGbm, 0.2, 0.0, false), 0.9, 1);
    let said = refit_as(&file("lgb_two.old"), &boosting, &limits).unwrap();
    assert_eq!(Some(said), boosting.ensemble);
    assert_eq!(takes_input_affine(&ae, &limits).unwrap(), 32);
    assert!(takes_input_affine(&file("lgb_two.old"), &limits).is_err());
    let scaler = vec![floats("offset", vec![1.0; 4]), floats("scale", vec![0.5; 4])];
    let scaled = with_node("lgb_values", "Scaler", "ai.onnx.ml", scaler, true);
    assert!(matches!(takes_input_affine(&scaled, &limits), Ok(4) | Err(FoldError::Width)));
    let found = inspect(&scaled, &limits).unwrap();
    assert!(matches!(found.leaves, Some(Leaves::Unsaid { .. })));
}

fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: 6, floats, ..Default::default() }
}

/// Puts a node between the input and the trees, or behind the trees.
fn with_node(case: &str, op: &str, domain: &str, attribute: Vec<AttributeProto>, is_before: bool) -> Vec<u8> {
    let mut model = ModelProto::decode(file(&format!("{case}.old")).as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let place = graph.node.iter().position(|node| node.op_type.starts_with("Tree")).unwrap();
    let trees = &mut graph.node[place];
    let value = if is_before { trees.input[0].clone() } else { trees.output[0].clone() };
    let (input, output) = if is_before {
        trees.input[0] = "between".into();
        (value, "between".to_owned())
    } else {
        (value, "behind".to_owned())
    };
    let node = NodeProto {
        op_type: op.into(),
        domain: domain.into(),
        input: vec![input],
        output: vec![output],
        attribute,
        ..Default::default()
    };
    graph.node.insert(if is_before { place } else { place + 1 }, node);
    model.encode_to_vec()
}

#[test]
fn what_stands_around_the_trees_is_followed_or_refused() {
    let rows = Rows::new("");
    let boosting = settings(boosted(Library::LightGbm, 0.2, 0.0, false), 0.9, 0);
    let refit = |bytes: &[u8], samples: Samples<'_>, settings: RefitSettings| {
        refit_trees(bytes, &samples, &settings, &Limits::default())
    };
    let plain = refit(&file("lgb_values.old"), rows.samples("lgb_values", false), boosting).unwrap();
    let scaler = vec![floats("offset", vec![1.0; 4]), floats("scale", vec![0.5; 4])];
    let scaled = with_node("lgb_values", "Scaler", "ai.onnx.ml", scaler, true);
    let wide: Vec<f32> = rows.x.iter().map(|value| value * 2.0 + 1.0).collect();
    let made =
        refit(&scaled, Samples { features: &wide, ..rows.samples("lgb_values", false) }, boosting).unwrap();
    assert!(worst(&leaves(&made.onnx), &leaves(&plain.onnx)) < 1e-6);
    let strange = with_node("lgb_values", "Sin", "", vec![], true);
    let error = refit(&strange, rows.samples("lgb_values", false), boosting).unwrap_err();
    assert!(matches!(error, TreeRefitError::Before { op, .. } if op == "Sin"));
    let behind = with_node("lgb_values", "Exp", "", vec![], false);
    let error = refit(&behind, rows.samples("lgb_values", false), boosting).unwrap_err();
    assert!(matches!(error, TreeRefitError::Behind { op, .. } if op == "Exp"));
    let squares = RefitSettings { objective: Some(Objective::Squares), ..boosting };
    let made = refit(&behind, rows.samples("lgb_values", false), squares).unwrap();
    assert_eq!(leaves(&made.onnx), leaves(&plain.onnx));
    let sigmoid = with_node("lgb_values", "Sigmoid", "", vec![], false);
    let labels: Vec<f32> = rows.two.iter().map(|class| if *class == 1 { 1.0 } else { 0.0 }).collect();
    let samples = Samples { labels: Labels::Values(&labels), ..rows.samples("lgb_values", false) };
    let by_value = refit(&sigmoid, samples, boosting).unwrap();
    let by_class = refit(&sigmoid, rows.samples("lgb_two", false), boosting).unwrap();
    assert_eq!(leaves(&by_value.onnx), leaves(&by_class.onnx));
    assert_ne!(leaves(&by_value.onnx), leaves(&plain.onnx));
    let error = refit(
        &std::fs::read(format!("{}/testdata/ae.onnx", env!("CARGO_MANIFEST_DIR"))).unwrap(),
        samples,
        boosting,
    );
    assert!(matches!(error.unwrap_err(), TreeRefitError::Ensembles { count: 0 }));
}

#[test]
fn broken_files_never_panic() {
    let rows = Rows::new("");
    let ensemble = boosted(Library::LightGbm, 0.2, 0.0, false);
    let map = [Affine { scale: 0.5, shift: 1.0 }; 4];
    let mut refitted = 0;
    for (case, ensemble) in [("lgb_three", ensemble), ("forest_two", None)] {
        let good = file(&format!("{case}.old"));
        for at in 0..1500 {
            let mut bad = good.clone();
            let place = at * 7919 % bad.len();
            bad[place] ^= 1 << (at % 8);
            let samples = rows.samples(case, false);
            refitted += usize::from(
                refit_trees(&bad, &samples, &settings(ensemble, 0.5, 1), &Limits::default()).is_ok(),
            );
            assert!(fold_input_affine(&bad, &map, &Limits::default()).is_err(), "trees take no map in");
        }
        assert!(
            refit_trees(&good[..good.len() / 2], &rows.samples(case, false), &FOREST, &Limits::default())
                .is_err()
        );
    }
    assert!(refitted > 0);
}

const FOREST: RefitSettings =
    RefitSettings { ensemble: Some(Ensemble::Forest), objective: None, decay: 0.5, min_rows_per_leaf: 1 };
