//! What a run measures for the gate, and what the gate says of it.

use super::compare;
use super::tests::{job, parent, samples, train};
use super::*;
use crate::core::gate;
use crate::pack::PackArgs;
use crate::store::LabelledRow;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use shoal_proto::decision::{Evidence, Verdict};
use shoal_proto::manifest::Recipe;
use shoal_proto::package::{MODEL, Package};
use shoal_proto::time::WallMs;

fn decide(package: &Package, evidence: &Evidence) -> Verdict {
    let manifest = package.manifest().unwrap();
    gate::decide(evidence, &manifest.gate, &manifest.output.classes, 0.3)
}

#[test]
fn what_is_measured_beside_right_and_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let parent = parent(folder.path());
    let (candidate, evidence) = train(&job(folder.path(), &parent), &parent, &samples(200, true)).unwrap();
    let measured = evidence.measured.as_deref().unwrap();
    let pairs = measured.class_pairs.iter().fold((0, 0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
    assert_eq!(pairs, (evidence.only_champion, evidence.only_candidate));
    let loss = measured.log_loss.unwrap();
    assert!(loss.candidate < 0.3 && loss.champion > 2.0 && loss.deviation > 0.0, "{loss:?}");
    assert!(measured.distance.is_some_and(|far| far > 0.01 && far < 10.0), "{measured:?}");
    let bytes = |package: &Package| package.file(MODEL).unwrap().len() as u64;
    assert_eq!(measured.model_bytes, (bytes(&parent), bytes(&candidate)));
    assert_eq!((measured.errors, measured.row_us), (None, None), "no clock, no time");
    assert_eq!(decide(&candidate, &evidence), Verdict::Accept);
    let model = parent.file(MODEL).unwrap();
    assert_eq!(compare::distance(model, model), None);
}

/// A value that follows two features. After a `turn` the second stands where it never was, and much is added there.
fn valued(count: u64, turn: bool) -> Vec<LabelledRow> {
    let mut rng = StdRng::seed_from_u64(5);
    let (place, more) = if turn { (8.0, 20.0) } else { (0.0, 0.0) };
    let mut one = |at| {
        let (a, b) = (rng.random_range(-2.0..2.0_f32), place + rng.random_range(-1.0..1.0_f32));
        let value = 3.0 * a + b + more + rng.random_range(-0.05..0.05);
        LabelledRow {
            rowid: at,
            prediction_id: format!("p{at}"),
            features: vec![a, b],
            class: None,
            value: Some(value.into()),
            at: WallMs(at),
        }
    };
    (0..count).map(&mut one).collect()
}

fn regression(folder: &Path) -> Package {
    let mut csv = "a,b,y\n".to_owned();
    for row in valued(300, false) {
        csv += &format!("{},{},{}\n", row.features[0], row.features[1], row.value.unwrap());
    }
    let (data, output) = (folder.join("parent.csv"), folder.join("parent.shoal"));
    fs::File::create(&data).unwrap().write_all(csv.as_bytes()).unwrap();
    let args = PackArgs {
        data: Some(data),
        label: Some("y".into()),
        drop: Vec::new(),
        shuffled: false,
        groups: Vec::new(),
        golden: None,
        classes: Vec::new(),
        name: None,
        version: 1,
        description: String::new(),
        onnx: None,
        fit: Some("mlp:8".into()),
        recipe: None,
        task: Some(crate::pack::TaskArg::Regression),
        output: Some(output.clone()),
        seed: 0,
        sign_key: None,
    };
    crate::pack::run(&args).unwrap();
    Package::from_archive(&fs::read(output).unwrap()).unwrap()
}

/// After a large change no candidate is within the champion's old error on half of the rows; it is nearer on all.
#[test]
fn a_regression_that_follows_a_drift_passes() {
    let folder = tempfile::tempdir().unwrap();
    let parent = regression(folder.path());
    let recipe = Recipe { learning_rate: 1e-2, epochs: 60, ..Recipe::default() };
    let job = TrainingJob { recipe, ..job(folder.path(), &parent) };
    let (candidate, evidence) = train(&job, &parent, &valued(200, true)).unwrap();
    let errors = evidence.measured.as_deref().unwrap().errors.unwrap();
    assert!(errors.champion_rmse > 10.0 && errors.candidate_rmse < errors.champion_rmse / 2.0, "{errors:?}");
    assert!(errors.z > 5.0, "{errors:?}");
    assert!(evidence.measured.as_deref().unwrap().log_loss.is_none());
    let mut unguarded = evidence.clone();
    unguarded.guard_rows = 0;
    assert_eq!(decide(&candidate, &unguarded), Verdict::Accept, "{evidence:?}");
}
