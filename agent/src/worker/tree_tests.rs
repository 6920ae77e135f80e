//! Packages of trees, trained: their leaves follow the labels, and all else goes as with networks.

use super::admit::admit_package;
use super::resume::{Outside, Shelf};
use super::tests::{job, store, train};
use super::train::train as train_on;
use super::*;
use crate::pack::{PackArgs, TaskArg};
use crate::profile::answer;
use crate::store::{LabelledRow, SamplesReader};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use shoal_infer::{Predictor, TensorData, read_npz};
use shoal_proto::manifest::{OutputKind, Recipe as Written};
use shoal_proto::package::{MODEL, Package, REPLAY};
use shoal_proto::time::WallMs;
use std::fmt::Write as _;

const WIDTH: usize = 4;

/// A tree model among the fixtures of refits, and the rows that it was grown on.
fn fixture(case: &str) -> (Vec<u8>, Vec<f32>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/testdata/refit.npz");
    let arrays = read_npz(&fs::read(path).unwrap()).unwrap();
    let find = |name: &str| arrays.iter().find(|array| array.name == name).unwrap();
    let TensorData::U8(onnx) = &find(&format!("{case}.old")).data else { panic!("a file is bytes") };
    (onnx.clone(), find("old_x").f32s().unwrap().to_vec())
}

/// Rows in the range of those that the trees were grown on, with the trees' own answers.
fn answered(onnx: &[u8], grown_on: &[f32], count: usize, seed: u64) -> Vec<(Vec<f32>, Vec<f32>)> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut one = || {
        let row: Vec<f32> =
            (0..WIDTH).map(|at| grown_on[rng.random_range(0..grown_on.len() / WIDTH) * WIDTH + at]).collect();
        row
    };
    let rows: Vec<Vec<f32>> = (0..count).map(|_| one()).collect();
    let predictor = Predictor::load(onnx, &shoal_onnx::Limits::default()).unwrap();
    let scores = predictor.rows(count, &rows.concat()).unwrap();
    let width = scores.width;
    rows.into_iter().zip(scores.values.chunks(width).map(<[f32]>::to_vec)).collect()
}

fn class(scores: &[f32]) -> u32 {
    answer(OutputKind::Probabilities, scores).unwrap().0
}

/// A package of trees whose data says what they answer; values with noise.
pub(super) fn packed(folder: &Path, case: &str, recipe: &str) -> Result<Package, crate::pack::PackError> {
    let (onnx, grown_on) = fixture(case);
    let is_regression = case.contains("values");
    let mut csv = "a,b,c,d,y\n".to_owned();
    let mut rng = StdRng::seed_from_u64(5);
    for (row, scores) in answered(&onnx, &grown_on, 300, 1) {
        row.iter().for_each(|value| write!(csv, "{value},").unwrap());
        if is_regression {
            writeln!(csv, "{}", scores[0] + rng.random_range(-1.5..1.5)).unwrap();
        } else {
            writeln!(csv, "c{}", class(&scores)).unwrap();
        }
    }
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    };
    let output = folder.join("parent.shoal");
    let args = PackArgs {
        data: Some(write("trees.csv", csv.as_bytes())),
        label: Some("y".into()),
        drop: Vec::new(),
        shuffled: false,
        groups: Vec::new(),
        golden: None,
        classes: Vec::new(),
        name: Some("parent".into()),
        version: 1,
        description: String::new(),
        onnx: Some(write("trees.onnx", &onnx)),
        fit: None,
        recipe: (!recipe.is_empty()).then(|| write("recipe.toml", recipe.as_bytes())),
        task: is_regression.then_some(TaskArg::Regression),
        output: Some(output.clone()),
        seed: 0,
        sign_key: None,
    };
    let report = crate::pack::run(&args)?;
    assert_eq!(report.not_trainable.is_empty(), report.retrained_by == Some(By::Leaves), "{report:?}");
    let package = Package::from_archive(&fs::read(output).unwrap()).unwrap();
    let mut files = package.to_files();
    if is_regression {
        files.remove(REPLAY); // two truths for the same row have no answer that is near enough to either
    }
    Ok(Package::new(files).unwrap())
}

/// What the world says now: the next class, or four more.
pub(super) fn shifted(case: &str, count: usize) -> Vec<LabelledRow> {
    let (onnx, grown_on) = fixture(case);
    let mut rng = StdRng::seed_from_u64(6);
    let rows = answered(&onnx, &grown_on, count, 2).into_iter().zip(0..);
    rows.map(|((features, scores), at)| {
        let is_value = case.contains("values");
        let value = f64::from(scores[0]) + 4.0 + rng.random_range(-1.5..1.5);
        let classes = u32::try_from(scores.len().max(2)).unwrap();
        LabelledRow {
            rowid: at,
            prediction_id: format!("p{at}"),
            class: (!is_value).then(|| (class(&scores) + 1) % classes),
            value: is_value.then_some(value),
            features,
            at: WallMs(at),
        }
    })
    .collect()
}

pub(super) fn tree_job(state: &Path, parent: &Package) -> TrainingJob {
    TrainingJob { recipe: parent.manifest().unwrap().recipe, ..job(state, parent) }
}

const BOOSTED: &str = "ensemble = \"lightgbm:0.2\"\nholds_average = false\ndecay = 0.0\n";

#[test]
fn leaves_follow_what_the_labels_say_now() {
    for (case, recipe) in [
        ("forest_three", "decay = 0.1\n"),
        ("forest_two", "decay = 0.1\nscope = \"leaves\"\nclass_weights = \"balanced\"\n"),
        ("lgb_three", BOOSTED),
        ("lgb_two", BOOSTED),
        ("lgb_values", "ensemble = \"lightgbm:0.2\"\ndecay = 0.0\n"),
        ("forest_values", "ensemble = \"forest\"\ndecay = 0.1\n"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let parent = packed(folder.path(), case, recipe).unwrap();
        let job = tree_job(folder.path(), &parent);
        let mut rows = shifted(case, 300);
        let (candidate, evidence) = train(&job, &parent, &rows).unwrap();
        let replayed = if case.contains("values") { 0 } else { 240 };
        assert_eq!((evidence.holdout_rows, evidence.trained_rows), (90, 210 + replayed), "{case}");
        assert!(evidence.candidate_correct > 50 && evidence.champion_correct < 30, "{case}: {evidence:?}");
        let (old, new) = (parent.file(MODEL).unwrap(), candidate.file(MODEL).unwrap());
        assert!(old != new && old.len() == new.len(), "{case}: only leaves");
        admit_package(&candidate, 0).unwrap();
        assert_eq!(candidate.manifest().unwrap().display_name(), "parent@1+press-07.2");

        let again = train(&job, &parent, &rows).unwrap();
        assert_eq!(again.0.version().unwrap(), candidate.version().unwrap(), "{case}");
        // What is held out moves no leaf.
        for row in &mut rows[210..] {
            row.class = row.class.map(|_| 0);
            row.value = row.value.map(|value| value * -3.0);
        }
        let (blind, _) = train(&job, &parent, &rows).unwrap();
        assert_eq!(blind.file(MODEL), candidate.file(MODEL), "{case}");
    }
}

#[test]
fn what_the_file_does_not_say_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for (case, recipe, word) in [
        ("lgb_three", "decay = 0.5\n", "ensemble is auto, expected forest, or for boosted trees lightgbm:R"),
        ("forest_three", BOOSTED, "its leaves hold class frequencies"),
        ("forest_three", "scope = \"last\"\n", "scope is last, expected leaves or input-affine"),
        ("forest_three", "decay = 2.0\n", "decay is 2, expected 0 to 1"),
        ("forest_three", "scope = \"input-affine\"\n", "(TreeEnsembleClassifier)"),
        ("forest_three", "colour = 1\n", "colour"),
    ] {
        let error = chain(&packed(folder.path(), case, recipe).unwrap_err());
        assert!(error.contains(word), "{error}");
    }
    // Without a recipe there is a package, which says what it lacks; a run says it too.
    let parent = packed(folder.path(), "lgb_three", "").unwrap();
    let error =
        chain(&train(&tree_job(folder.path(), &parent), &parent, &shifted("lgb_three", 60)).unwrap_err());
    assert!(error.contains("the package's recipe is refused: ensemble is auto"), "{error}");
    let look = |file: &str| {
        let file = folder.path().join(file);
        crate::inspect::run(&crate::inspect::InspectArgs { file }).unwrap().to_string()
    };
    let text = look("parent.shoal");
    for word in
        ["leaves       can be refitted once the recipe says how", "retrained    no: the package's recipe"]
    {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
    packed(folder.path(), "forest_three", "").unwrap();
    let text = look("parent.shoal");
    for word in ["leaves       can be refitted\n", "retrained    by new weights", "no map can be folded in"] {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}

/// A world in which nobody wants the run.
struct Stop(Vec<Said>);

impl Outside for Stop {
    fn elapsed(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn is_stopped(&self) -> bool {
        true
    }

    fn on_step(&mut self, said: Said) {
        self.0.push(said);
    }
}

#[test]
fn a_refit_stops_when_told_and_keeps_to_its_memory() {
    let folder = tempfile::tempdir().unwrap();
    let parent = packed(folder.path(), "forest_three", "").unwrap();
    let mut job = tree_job(folder.path(), &parent);
    let rows = shifted("forest_three", 100);
    store(folder.path(), &rows);
    let reader = SamplesReader::open_read_only(folder.path()).unwrap();
    let mut stop = Stop(Vec::new());
    let error = train_on(&job, &parent, &reader, &mut Shelf::open(&job), &mut stop).unwrap_err();
    assert!(matches!(error, TrainError::Paused { step: 0, steps: 1 }), "{error}");
    assert_eq!(stop.0, [Said::at(0, 1, None)]);

    job.recipe = Written { max_rows: 100, ..job.recipe };
    job.limits.memory_bytes = 0;
    let error = train(&job, &parent, &rows).unwrap_err();
    let TrainError::TooManyRows { rows, width, needed, budget } = &error else { panic!("{error}") };
    assert_eq!((*rows, *width, *budget), (70 + 240, WIDTH, 1));
    assert!(*needed >= 310 * 4 * 4 && error.to_string().contains("`max_rows`"), "{error}");
}
