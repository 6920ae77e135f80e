//! Tree ensembles: the engine walks them without looking where it steps.

use super::Expect::{self, Anything, NotAdmitted, PreCheck};
use super::craft::*;

/// One tree of a root and two leaves, with one thing changed.
struct Trees {
    features: Vec<i64>,
    nodes: Vec<i64>,
    trees: Vec<i64>,
    yes: Vec<i64>,
    no: Vec<i64>,
    modes: Vec<&'static str>,
    values: Vec<f32>,
    class_nodes: Vec<i64>,
    class_trees: Vec<i64>,
    classes: Vec<i64>,
}

fn good() -> Trees {
    Trees {
        features: vec![0, 0, 0],
        nodes: vec![0, 1, 2],
        trees: vec![0, 0, 0],
        yes: vec![1, 0, 0],
        no: vec![2, 0, 0],
        modes: vec!["BRANCH_LEQ", "LEAF", "LEAF"],
        values: vec![0.1, 0.0, 0.0],
        class_nodes: vec![1, 1, 1, 2, 2, 2],
        class_trees: vec![0; 6],
        classes: vec![0, 1, 2, 0, 1, 2],
    }
}

fn with(change: impl FnOnce(&mut Trees)) -> Vec<u8> {
    let mut trees = good();
    change(&mut trees);
    let settings = [
        ints("nodes_featureids", &trees.features),
        ints("nodes_nodeids", &trees.nodes),
        ints("nodes_treeids", &trees.trees),
        ints("nodes_truenodeids", &trees.yes),
        ints("nodes_falsenodeids", &trees.no),
        texts("nodes_modes", &trees.modes),
        floats_of("nodes_values", &trees.values),
        ints("class_nodeids", &trees.class_nodes),
        ints("class_treeids", &trees.class_trees),
        ints("class_ids", &trees.classes),
        floats_of("class_weights", &vec![0.5; trees.classes.len()]),
        ints("classlabels_int64s", &[0, 1, 2]),
        text("post_transform", "NONE"),
    ];
    let node = ml_node("TreeEnsembleClassifier", &["x"], &["label", "y"], &settings);
    let outputs = [value("label", 7, &[-1]), value("y", 1, &[-1, 3])];
    file(&graph(&[node], &[], &[value("x", 1, &[-1, 4])], &outputs))
}

/// Another operator of classical learning, on rows of four.
fn learned(op: &str, settings: &[Message]) -> Vec<u8> {
    chain(&[-1, 4], &[ml_node(op, &["x"], &["y"], settings)], &[])
}

fn machine(vectors: &[f32], counts: &[i64], kernel: &str) -> Vec<u8> {
    let settings = [
        floats_of("support_vectors", vectors),
        ints("vectors_per_class", counts),
        floats_of("coefficients", &[1.0; 4]),
        floats_of("rho", &[0.0]),
        ints("classlabels_ints", &[0, 1]),
        floats_of("kernel_params", &[0.1, 0.0, 3.0]),
        text("kernel_type", kernel),
    ];
    let node = ml_node("SVMClassifier", &["x"], &["label", "y"], &settings);
    let outputs = [value("label", 7, &[-1]), value("y", 1, &[-1, 2])];
    file(&graph(&[node], &[], &[value("x", 1, &[-1, 4])], &outputs))
}

fn others() -> Vec<(&'static str, Expect, Vec<u8>)> {
    vec![
        ("good vectors", Anything, machine(&[0.1; 16], &[2, 2], "RBF")),
        ("vectors of another width", NotAdmitted, machine(&[0.1; 15], &[2, 2], "RBF")),
        ("vectors of no class", NotAdmitted, machine(&[0.1; 16], &[-1, 5], "RBF")),
        ("2^62 vectors of a class", NotAdmitted, machine(&[0.1; 16], &[1 << 62, 1 << 62], "POLY")),
        ("a kernel of nobody", NotAdmitted, machine(&[0.1; 16], &[2, 2], "SOFT")),
        (
            "a scaler of another width",
            NotAdmitted,
            learned("Scaler", &[floats_of("offset", &[0.0; 3]), floats_of("scale", &[1.0; 3])]),
        ),
        (
            "a scaler by no number",
            NotAdmitted,
            learned("Scaler", &[floats_of("offset", &[0.0; 4]), floats_of("scale", &[f32::NAN; 4])]),
        ),
        ("an imputer of nothing", NotAdmitted, learned("Imputer", &[])),
        ("a norm of nobody", NotAdmitted, learned("Normalizer", &[text("norm", "L7")])),
        (
            "labels without values",
            NotAdmitted,
            learned(
                "LabelEncoder",
                &[floats_of("keys_floats", &[0.0, 1.0]), floats_of("values_floats", &[1.0])],
            ),
        ),
        (
            "a vector of 2^40",
            NotAdmitted,
            learned("FeatureVectorizer", &[ints("inputdimensions", &[1 << 40])]),
        ),
        (
            "a regression on 2^40 targets",
            NotAdmitted,
            learned("LinearRegressor", &[floats_of("coefficients", &[1.0; 4]), int("targets", 1 << 40)]),
        ),
    ]
}

pub(super) fn cases() -> Vec<(&'static str, Expect, Vec<u8>)> {
    let mut cases = others();
    cases.extend([
        ("good trees", Anything, with(|_| {})),
        ("a tree that walks in a circle", Anything, with(|t| t.no = vec![0, 0, 0])),
        (
            "a tree that walks in a longer circle",
            PreCheck("child of another"),
            with(|t| {
                t.modes = vec!["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"];
                t.yes = vec![1, 0, 0];
                t.no = vec![1, 2, 0];
            }),
        ),
        (
            "a tree that walks out of the forest",
            PreCheck("does not exist"),
            with(|t| t.yes = vec![1 << 30, 0, 0]),
        ),
        ("a tree that walks before its root", PreCheck("does not exist"), with(|t| t.yes = vec![-1, 0, 0])),
        ("a class that writes beyond the scores", PreCheck("not below"), with(|t| t.classes[0] = 1 << 20)),
        ("a class far beyond the scores", PreCheck("not below"), with(|t| t.classes[5] = (1 << 32) - 1)),
        ("a negative class", PreCheck("not below"), with(|t| t.classes[1] = -1)),
        ("a feature that is not there", NotAdmitted, with(|t| t.features[0] = 1 << 20)),
        ("a negative feature", PreCheck("no feature"), with(|t| t.features[0] = -1)),
        ("nodes with holes", PreCheck("does not exist"), with(|t| t.nodes = vec![0, 7, 9])),
        ("two nodes of one number", PreCheck("twice"), with(|t| t.nodes = vec![0, 1, 1])),
        ("2^40 trees", PreCheck("does not exist"), with(|t| t.trees = vec![0, 0, 1 << 40])),
        ("lists of different lengths", PreCheck("nodes_values"), with(|t| t.values = vec![0.1])),
        (
            "no leaf at all",
            Anything,
            with(|t| {
                t.class_nodes = vec![];
                t.class_trees = vec![];
                t.classes = vec![];
            }),
        ),
        ("a mode of nobody", PreCheck("mode"), with(|t| t.modes = vec!["BRANCH_MAYBE", "LEAF", "LEAF"])),
        ("thresholds that are no numbers", Anything, with(|t| t.values = vec![f32::NAN; 3])),
    ]);
    cases
}
