//! Inputs that have moved, brought back without labels.

use super::admit::admit_package;
use super::tests::{draw, fitted, job, train};
use super::*;
use crate::store::LabelledRow;
use rand::{SeedableRng as _, rngs::StdRng};
use shoal_proto::manifest::Recipe as Written;
use shoal_proto::package::{MODEL, Package, REFERENCE};
use shoal_proto::time::WallMs;

/// The world before its turn, seen by sensors that have another zero and another gain.
fn seen(count: u64, (gain, zero): ([f32; 2], [f32; 2])) -> Vec<LabelledRow> {
    let mut rng = StdRng::seed_from_u64(4);
    let one = |at| {
        let (row, class) = draw(&mut rng, false);
        let features = (0..2).map(|feature| row[feature] * gain[feature] + zero[feature]).collect();
        let (class, value) = (Some(class), None);
        LabelledRow { rowid: at, prediction_id: format!("p{at}"), features, class, value, at: WallMs(at) }
    };
    (0..count).map(one).collect()
}

const AGED: ([f32; 2], [f32; 2]) = ([1.8, 0.5], [5.0, -1.0]);

fn affine(folder: &Path, parent: &Package) -> TrainingJob {
    let recipe = Written { scope: "input-affine".into(), ..Written::default() };
    TrainingJob { recipe, ..job(folder, parent) }
}

#[test]
fn a_moved_input_is_brought_back_without_labels() {
    for network in ["linear", "mlp:16"] {
        let folder = tempfile::tempdir().unwrap();
        let parent = fitted(folder.path(), network);
        let job = affine(folder.path(), &parent);
        let rows = seen(200, AGED);
        let (candidate, evidence) = train(&job, &parent, &rows).unwrap();
        assert_eq!((evidence.holdout_rows, evidence.trained_rows), (60, 140), "{network}");
        assert!(
            evidence.champion_correct < 45 && evidence.candidate_correct >= 58,
            "{network}: {evidence:?}"
        );
        admit_package(&candidate, 0).unwrap();

        // Labels of training rows do not matter, nor do rows that are held out.
        let mut others = rows.clone();
        for row in &mut others[..140] {
            row.class = row.class.map(|class| 1 - class);
        }
        for row in &mut others[140..] {
            row.features[0] += 100.0;
        }
        let (permuted, judged) = train(&job, &parent, &others).unwrap();
        assert_eq!(permuted.file(MODEL), candidate.file(MODEL), "{network}");
        assert_ne!(judged.training_set, evidence.training_set, "the labels are part of the record");
        assert_eq!(train(&job, &parent, &rows).unwrap().0, candidate, "{network}");

        // A second step starts from where the first one ended.
        assert!(candidate.file(REFERENCE).is_some());
        let again = affine(folder.path(), &candidate);
        let (second, evidence) = train(&again, &candidate, &seen(200, ([0.9, 1.0], [-3.0, 2.0]))).unwrap();
        assert!(
            evidence.champion_correct < 45 && evidence.candidate_correct >= 57,
            "{network}: {evidence:?}"
        );
        admit_package(&second, 0).unwrap();
    }
}

#[test]
fn rows_without_labels_count_and_a_step_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let parent = fitted(folder.path(), "mlp:16");
    let mut job = affine(folder.path(), &parent);
    let mut rows = seen(400, AGED);
    for (at, row) in rows.iter_mut().enumerate() {
        row.class = row.class.filter(|_| at % 4 == 0);
    }
    let (whole, evidence) = train(&job, &parent, &rows).unwrap();
    assert_eq!((evidence.holdout_rows, evidence.trained_rows), (30, 280));
    assert!(evidence.candidate_correct >= 29, "{evidence:?}");
    job.recipe.max_rows = 50;
    let (_, evidence) = train(&job, &parent, &rows).unwrap();
    assert_eq!((evidence.holdout_rows, evidence.trained_rows), (15, 50), "the newest before the holdout");

    job.recipe = Written { input_cap: 0.1, ..affine(folder.path(), &parent).recipe };
    let (short, evidence) = train(&job, &parent, &rows).unwrap();
    assert_ne!(short.file(MODEL), whole.file(MODEL));
    assert!(evidence.candidate_correct < 25, "a tenth of a deviation is too little: {evidence:?}");
}

#[test]
fn an_input_that_says_too_little_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let parent = fitted(folder.path(), "linear");
    let job = affine(folder.path(), &parent);
    let error = train(&job, &parent, &seen(36, AGED)).unwrap_err();
    assert!(matches!(error, TrainError::SameInputs { rows: 26 }), "{error}");
    let text = crate::inspect::run(&crate::inspect::InspectArgs { file: folder.path().join("parent.shoal") });
    let text = text.unwrap().to_string();
    assert!(text.contains("input-affine a map of 2 features can be folded in"), "{text}");
}
