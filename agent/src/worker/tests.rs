use super::admit::admit_package;
use super::resume::{Outside, Shelf};
use super::train::train as train_on;
use super::*;
use crate::pack::{HELD_OUT, PackArgs};
use crate::profile;
use crate::rows::Rows;
use crate::store::{Captured, Label, LabelRow, LabelledRow, SampleRow, SamplesDb, SamplesReader};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use shoal_proto::id::{DeviceId, Digest, ModelName};
use shoal_proto::manifest::{Manifest, Recipe};
use shoal_proto::package::{BASELINE, GOLDEN, GUARD, MANIFEST, MODEL, Package, REPLAY};
use shoal_proto::time::WallMs;
use shoal_watch::answer::GroupCodes;

/// A row of one of two classes. After a `turn` the second feature stands elsewhere, and there the classes
/// lie on the other sides: new, and no contradiction to what is replayed.
pub(super) fn draw(rng: &mut StdRng, turn: bool) -> (Vec<f32>, u32) {
    let class = u32::from(rng.random_bool(0.5));
    let side = if (class == 1) == turn { -2.0 } else { 2.0 };
    let place = if turn { 4.0 } else { 0.0 };
    (vec![side + rng.random_range(-1.0..1.0), place + rng.random_range(-1.0..1.0)], class)
}

pub(super) fn parent(folder: &Path) -> Package {
    fitted(folder, "mlp:16")
}

/// A package of a network that was fitted on the world before its turn.
pub(super) fn fitted(folder: &Path, network: &str) -> Package {
    let mut rng = StdRng::seed_from_u64(1);
    let mut csv = "a,b,y\n".to_owned();
    for _ in 0..300 {
        let (row, class) = draw(&mut rng, false);
        csv += &format!("{},{},{}\n", row[0], row[1], ["no", "yes"][class as usize]);
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
        fit: Some(network.into()),
        recipe: None,
        task: None,
        output: Some(output.clone()),
        seed: 0,
        sign_key: None,
    };
    crate::pack::run(&args).unwrap();
    Package::from_archive(&fs::read(output).unwrap()).unwrap()
}

pub(super) fn samples(count: u64, turn: bool) -> Vec<LabelledRow> {
    let mut rng = StdRng::seed_from_u64(2);
    let one = |at| {
        let (features, class) = draw(&mut rng, turn);
        LabelledRow {
            rowid: at,
            prediction_id: format!("p{at}"),
            features,
            class: Some(class),
            value: None,
            at: WallMs(at),
        }
    };
    (0..count).map(one).collect()
}

/// Writes rows and labels into `samples.db`; those that are there already are labelled again.
pub(super) fn store(state: &Path, rows: &[LabelledRow]) {
    let write = async {
        let (samples, _late) = SamplesDb::open(state, 64 << 20).unwrap();
        for row in rows {
            let sample = SampleRow {
                prediction_id: row.prediction_id.clone(),
                model: ModelName::new("parent").unwrap(),
                version: Digest([1; 32]),
                at: row.at,
                features: row.features.clone().into(),
                class: row.class,
                confidence: 0.5,
                values: std::sync::Arc::new([0.5]),
                groups: GroupCodes::default(),
            };
            while samples.capture(sample.clone()) == Captured::Dropped {
                samples.flush().await.unwrap();
            }
        }
        samples.flush().await.unwrap();
        let mut pending = Vec::new();
        for row in rows {
            let class = row.class.map(Label::Class);
            let Some(label) = class.or_else(|| row.value.map(Label::Value)) else { continue };
            let label = LabelRow {
                prediction_id: row.prediction_id.clone(),
                label,
                source: "test".into(),
                at: row.at,
            };
            pending.push(samples.hand_in_label(label).await.unwrap());
        }
        for label in pending {
            label.on_disk().await.unwrap();
        }
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(write);
}

/// A world that says nothing.
pub(super) struct Silence;

impl Outside for Silence {
    fn elapsed(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn is_stopped(&self) -> bool {
        false
    }

    fn on_step(&mut self, _: Said) {}
}

/// Trains on these rows, in a state folder of their own.
pub(super) fn train(
    job: &TrainingJob,
    parent: &Package,
    rows: &[LabelledRow],
) -> Result<(Package, shoal_proto::decision::Evidence), TrainError> {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path(), rows);
    let job = TrainingJob { state: folder.path().to_owned(), ..job.clone() };
    let reader = SamplesReader::open_read_only(folder.path()).unwrap();
    let made = train_on(&job, parent, &reader, &mut Shelf::open(&job), &mut Silence)?;
    Ok((made.package, made.evidence))
}

pub(super) fn job(state: &Path, parent: &Package) -> TrainingJob {
    TrainingJob {
        state: state.to_owned(),
        run: 1,
        model: ModelName::new("parent").unwrap(),
        parent: parent.version().unwrap(),
        device: DeviceId::new("press-07").unwrap(),
        number: 2,
        seed: 9,
        recipe: Recipe { learning_rate: 5e-3, epochs: 100, ..Recipe::default() },
        holdout_share: 0.3,
        sources: shoal_proto::decision::SourceRules::default(),
        limits: Limits::TRAIN,
        pace: Pace::USUAL,
        replay: None,
    }
}

#[test]
fn a_changed_world_is_learned_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let parent = parent(folder.path());
    let (candidate, evidence) = train(&job(folder.path(), &parent), &parent, &samples(200, true)).unwrap();
    assert_eq!((evidence.holdout_rows, evidence.trained_rows), (60, 140 + 240));
    assert!(evidence.champion_correct < 6 && evidence.candidate_correct > 54, "{evidence:?}");
    assert_eq!(
        evidence.only_candidate - evidence.only_champion,
        evidence.candidate_correct - evidence.champion_correct
    );
    assert_eq!(evidence.classes.iter().map(|class| class.0).sum::<u64>(), 60);
    assert_eq!(evidence.guard_rows, 60);

    let manifest = candidate.manifest().unwrap();
    assert_eq!(manifest.display_name(), "parent@1+press-07.2");
    let lineage = manifest.lineage.unwrap();
    assert_eq!(
        (lineage.parent, lineage.training_set),
        (parent.version().unwrap(), Some(evidence.training_set))
    );
    for file in [BASELINE, GUARD, REPLAY] {
        assert_eq!(candidate.file(file), parent.file(file), "{file} is inherited");
    }
    let reference = candidate.reference().unwrap();
    assert_eq!((reference.rows, reference.predictions.unwrap().labelled), (60, 60));
    admit_package(&candidate, 0).unwrap();
}

#[test]
fn a_run_is_deterministic_and_holds_the_newest_rows_out() {
    let folder = tempfile::tempdir().unwrap();
    let parent = parent(folder.path());
    let job = job(folder.path(), &parent);
    let mut rows = samples(100, true);
    let first = train(&job, &parent, &rows).unwrap();
    assert_eq!(train(&job, &parent, &rows).unwrap(), first);
    for row in &mut rows[70..] {
        row.class = row.class.map(|class| 1 - class);
    }
    let (candidate, evidence) = train(&job, &parent, &rows).unwrap();
    assert_eq!(candidate.file(MODEL), first.0.file(MODEL), "held-out rows do not move a weight");
    assert_eq!(evidence.training_set, first.1.training_set);
    assert!(evidence.candidate_correct < 5);
}

#[test]
fn too_few_or_unusable_rows_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let parent = parent(folder.path());
    let job = job(folder.path(), &parent);
    let mut rows = samples(40, true);
    for row in &mut rows[..20] {
        row.features[0] = f32::NAN;
    }
    let error = train(&job, &parent, &rows).unwrap_err();
    assert!(matches!(error, TrainError::TooFewRows { training: 14, holdout: 6, .. }), "{error}");
    let mut bad = job.clone();
    bad.recipe.scope = "nothing.*".into();
    let error = chain(&train(&bad, &parent, &samples(100, true)).unwrap_err());
    assert!(error.contains("nothing.*"), "{error}");
    bad.recipe.scope = "low-rank:none".into();
    let error = chain(&train(&bad, &parent, &samples(100, true)).unwrap_err());
    assert!(error.contains("the package's recipe is refused: scope is low-rank:none"), "{error}");
}

/// Each kind of recipe learns the changed world; what is looked at by patience is not trained on.
#[test]
fn what_a_recipe_may_say_trains() {
    let folder = tempfile::tempdir().unwrap();
    let parent = parent(folder.path());
    let job = job(folder.path(), &parent);
    let usual = &job.recipe;
    let mut table = Vec::new();
    let mut row = |trained, change: &dyn Fn(&mut Recipe)| {
        let mut recipe = usual.clone();
        change(&mut recipe);
        table.push((trained, recipe));
    };
    row(380, &|r| (r.optimizer, r.weight_decay) = ("adamw".into(), 0.01));
    row(380, &|r| (r.optimizer, r.momentum, r.learning_rate) = ("sgd".into(), 0.9, 0.05));
    row(380, &|r| (r.clip_norm, r.warm_up, r.schedule) = (1.0, 0.1, "cosine".into()));
    row(380, &|r| (r.class_weights, r.replay_share) = ("balanced".into(), 0.25));
    row(380, &|r| r.ewc = 0.1);
    row(380, &|r| (r.scope, r.learning_rate) = ("low-rank:2".into(), 0.02));
    row(380 - 28, &|r| r.patience = 10);
    for (trained, recipe) in table {
        let job = TrainingJob { recipe, ..job.clone() };
        let (candidate, evidence) = train(&job, &parent, &samples(200, true)).unwrap();
        assert_eq!((evidence.holdout_rows, evidence.trained_rows), (60, trained), "{:?}", job.recipe);
        let mine = (candidate.file(MODEL), evidence.candidate_correct);
        assert!(
            mine.0 != parent.file(MODEL) && mine.1 > evidence.champion_correct,
            "{:?} {evidence:?}",
            job.recipe
        );
    }
}

#[test]
fn a_manifest_that_speaks_of_another_graph_is_not_admitted() {
    let folder = tempfile::tempdir().unwrap();
    let parent = parent(folder.path());
    admit_package(&parent, 0).unwrap();
    let text = parent.manifest().unwrap().to_text();
    let third = "\n[[feature]]\nname = \"c\"\nmin = 0.0\nmax = 1.0\n";
    for (changed, word) in [
        (text.replace("tensor = \"features\"", "tensor = \"x\""), "`features`, expected `x`"),
        (text.replace("tensor = \"probabilities\"", "tensor = \"y\""), "expected `y`"),
        (text.replace("[\"no\", \"yes\"]", "[\"no\", \"yes\", \"maybe\"]"), "expected 3"),
        (format!("{text}{third}"), "names 3 features"),
    ] {
        assert_ne!(changed, text);
        let width = Manifest::parse(&changed).unwrap().features.len();
        let mut files = parent.to_files();
        files.insert(MANIFEST.into(), changed.into_bytes());
        files.insert(
            BASELINE.into(),
            profile::baseline(width, &vec![0.0; width], profile::Order::None, None).to_bytes(),
        );
        let error = chain(&admit_package(&Package::new(files).unwrap(), 0).unwrap_err());
        assert!(error.contains(word), "{error}");
    }
    let mut files = parent.to_files();
    files.insert(MODEL.into(), b"junk".to_vec());
    assert!(admit_package(&Package::new(files).unwrap(), 0).is_err());
}

/// A package of the autoencoder among the fixtures, with what another runtime answers.
fn tensors(folder: &Path) -> Package {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/testdata");
    let output = folder.join("ae.shoal");
    let args = PackArgs {
        data: None,
        label: None,
        drop: Vec::new(),
        shuffled: false,
        groups: Vec::new(),
        golden: Some(fixtures.join("ae.io.npz")),
        classes: Vec::new(),
        name: None,
        version: 1,
        description: String::new(),
        onnx: Some(fixtures.join("ae.onnx")),
        fit: None,
        recipe: None,
        task: None,
        output: Some(output.clone()),
        seed: 0,
        sign_key: None,
    };
    crate::pack::run(&args).unwrap();
    Package::from_archive(&fs::read(output).unwrap()).unwrap()
}

#[test]
fn golden_inputs_are_answered_as_they_should_be() {
    let folder = tempfile::tempdir().unwrap();
    let package = tensors(folder.path());
    let report = admit_package(&package, 0).unwrap();
    assert!(report.model.golden_difference.is_some_and(|most| most < 1e-5), "{report:?}");
    assert!(report.row_us.is_some_and(|us| us > 0.0) && report.model.parameters.count > 0, "{report:?}");

    let golden = Golden::from_npz(package.file(GOLDEN).unwrap()).unwrap();
    let with = |name: &str, bytes: Vec<u8>| {
        let mut files = package.to_files();
        files.insert(name.into(), bytes);
        admit_package(&Package::new(files).unwrap(), 0).unwrap_err()
    };
    let mut wrong = golden.clone();
    let shoal_infer::TensorData::F32(values) = &mut wrong.outputs[0].data else { panic!("outputs are f32") };
    values[7] += 1e-3;
    let mut stranger = golden;
    stranger.inputs[0].name = "other".into();
    let text = package.manifest().unwrap().to_text();
    let renamed = |from: &str, to: &str| text.replace(&format!("\"{from}\""), to).into_bytes();
    let manifest = package.manifest().unwrap();
    for (name, bytes, kind, word) in [
        (GOLDEN, wrong.to_npz().unwrap(), "golden_values", "differs by"),
        (GOLDEN, stranger.to_npz().unwrap(), "golden_run", "no input `other`"),
        (GOLDEN, b"no archive".to_vec(), "golden", "cannot be read"),
        (MANIFEST, renamed(&manifest.input.tensor, "\"zz\""), "manifest", "expected `zz`"),
        (MANIFEST, renamed(&manifest.output.tensor, "\"zz\""), "manifest", "no output `zz`"),
    ] {
        let error = with(name, bytes);
        assert!(error.kind() == kind && chain(&error).contains(word), "{}", chain(&error));
    }
}

#[test]
fn jobs_and_answers_pass_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.json");
    let admit = AdmitJob { state: "/s".into(), version: Digest([1; 32]), limits: Limits::ADMIT };
    fs::File::create(&path).unwrap().write_all(&serde_json::to_vec(&admit).unwrap()).unwrap();
    assert_eq!(read::<AdmitJob>(&path).unwrap(), admit);
    assert!(matches!(read::<TrainingJob>(&path), Err(WorkerError::Job { .. })));
    assert!(matches!(read::<AdmitJob>(Path::new("/no/job")), Err(WorkerError::Read { .. })));
    let no: Answer<Born> =
        Answer::of(Err(TrainError::TooFewRows { training: 1, holdout: 0, left_out: Box::default() }));
    let text = serde_json::to_string(&no).unwrap();
    assert_eq!(serde_json::from_str::<Answer<Born>>(&text).unwrap(), no);
    let guard = Rows::none(2, true).split(HELD_OUT, 0);
    assert!(guard.0.is_empty() && guard.1.is_empty());
}
