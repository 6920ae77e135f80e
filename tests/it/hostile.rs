//! Files that were made to hurt, through the production admission; `zoo hostile` runs ten thousand.

use shoal_onnx::{DenseLayer, Head, MlpSpec, build_mlp};
use shoal_tests::hostile::{Corpus, Expect, Fate, Gauntlet, Hostile, Seeds, Stop, handmade};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Changed files of one test run.
const CHANGED: usize = 150;
/// Children at once.
const JOBS: usize = 2;

fn program() -> (PathBuf, Vec<String>) {
    (PathBuf::from(env!("CARGO_BIN_EXE_zoo")), vec!["agent".into()])
}

/// What becomes of each file, by its place.
async fn fates(files: Vec<Hostile>) -> Vec<(Arc<Hostile>, Fate)> {
    let folder = tempfile::tempdir().unwrap();
    let gauntlet = Arc::new(Gauntlet::new(program(), folder.path()).unwrap());
    let next = Arc::new(std::sync::Mutex::new(files.into_iter().enumerate()));
    let one = || {
        let (gauntlet, next) = (Arc::clone(&gauntlet), Arc::clone(&next));
        async move {
            let mut fates = BTreeMap::new();
            loop {
                let Some((place, file)) = next.lock().unwrap().next() else { return fates };
                let file = Arc::new(file);
                let fate = gauntlet.run(&file).await.unwrap();
                fates.insert(place, (file, fate));
            }
        }
    };
    let lanes = [one(), one()];
    assert_eq!(lanes.len(), JOBS);
    let [first, second] = lanes;
    let (mut all, more) = tokio::join!(first, second);
    all.extend(more);
    all.into_values().collect()
}

fn no_child_hurt(file: &Hostile, fate: &Fate) {
    let name = &file.name;
    assert!(fate.stop != Stop::Lost, "{name}: {}", fate.reason);
    assert!(fate.peak_bytes.unwrap_or(0) <= 256 << 20, "{name} took {:?} bytes", fate.peak_bytes);
    assert!(fate.wall.as_secs() <= 10, "{name} took {:?}", fate.wall);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_made_by_hand_are_stopped_where_they_should_be() {
    // One of them keeps a processor busy until its time is up, and is of the ten thousand only.
    let files = handmade().into_iter().filter(|case| !case.name.starts_with("an expression of 40"));
    let files = files.map(|case| Hostile { name: case.name.into(), expect: case.expect, bytes: case.bytes });
    for (file, fate) in fates(files.collect()).await {
        let name = &file.name;
        no_child_hurt(&file, &fate);
        match file.expect {
            Expect::PreCheck(word) => {
                assert!(fate.stop == Stop::PreCheck && fate.reason.contains(word), "{name}: {fate:?}");
            }
            Expect::NotAdmitted => assert!(fate.stop != Stop::Admitted, "{name} is admitted"),
            Expect::Anything => {}
        }
        if name.starts_with("good") {
            assert_eq!(fate.stop, Stop::Admitted, "{name}: {}", fate.reason);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_hurt_nobody() {
    let corpus = Corpus::new(3, Seeds::find());
    let first = corpus.handmade();
    let mut stops: BTreeMap<Stop, usize> = BTreeMap::new();
    for (file, fate) in fates((first..first + CHANGED).map(|number| corpus.file(number)).collect()).await {
        no_child_hurt(&file, &fate);
        *stops.entry(fate.stop).or_default() += 1;
    }
    for stop in [Stop::PreCheck, Stop::Engine, Stop::Admitted] {
        assert!(stops.get(&stop).is_some_and(|count| *count > 5), "{stops:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn good_files_are_admitted() {
    let seeds = Seeds::find();
    let good = seeds.files().iter().map(|(name, bytes)| Hostile {
        name: name.clone(),
        expect: Expect::Anything,
        bytes: bytes.clone(),
    });
    for (file, fate) in fates(good.collect()).await {
        let is_served = fate.stop == Stop::Admitted;
        // Maps are no tensors, and some of the zoo are there to be refused by name.
        assert!(is_served || fate.reason.contains("unknown operators"), "{}: {}", file.name, fate.reason);
    }
}

/// Dense layers of a thousand by a thousand: 4 MiB each.
fn dense(layers: usize) -> Hostile {
    const WIDTH: usize = 1_024;
    let layer = || DenseLayer { weight: vec![1e-3; WIDTH * WIDTH], bias: vec![0.0; WIDTH] };
    let spec = MlpSpec {
        width: WIDTH,
        normaliser: None,
        layers: (0..layers).map(|_| layer()).collect(),
        head: Head::Values,
    };
    Hostile {
        name: format!("{layers} dense layers"),
        expect: Expect::Anything,
        bytes: build_mlp(&spec).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_models_have_the_memory_and_time_that_they_need() {
    // The largest that counts as small, and one three times as large.
    for (file, fate) in fates(vec![dense(4), dense(12)]).await {
        assert_eq!(fate.stop, Stop::Admitted, "{}: {}", file.name, fate.reason);
        let mib = file.bytes.len() as u64 >> 20;
        let most = 256 + 12 * mib.saturating_sub(15);
        let peak = fate.peak_bytes.unwrap() >> 20;
        println!("{}: {mib} MiB, peak {peak} MiB of {most}", file.name);
        assert!(peak <= most, "{}: {peak} MiB", file.name);
    }
}
