//! Training children as they are: processes, killed, stopped and measured.

use super::tests::{job, parent, samples, store};
use super::tree_tests::{packed, shifted, tree_job};
use super::*;
use crate::store::TrainDb;
use crate::vault::Vault;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use shoal_proto::decision::Evidence;
use shoal_proto::id::Digest;
use shoal_proto::manifest::Recipe;
use shoal_proto::package::{MODEL, Package};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use tokio_util::task::TaskTracker;

/// Set in the child: this very test program, started again for one job.
const JOB: &str = "SHOAL_TEST_TRAINING_JOB";
const NAME: &str = "worker::process_tests::a_training_child";

/// Not a test of its own: what the others start.
#[test]
fn a_training_child() {
    if let Some(job) = std::env::var_os(JOB) {
        run(&WorkerArgs::Train { job: job.into() }).unwrap();
    }
}

fn start(path: &Path, job: &TrainingJob) -> Child {
    fs::File::create(path).unwrap().write_all(&serde_json::to_vec(job).unwrap()).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
        .env(JOB, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What a child said: steps, and the answer where there was one.
struct Heard {
    first: Option<u64>,
    last: u64,
    answer: Option<Answer<Born>>,
}

/// Listens until the end; `on_step` may do something to the child at each step it hears of.
fn listen(child: &mut Child, mut on_step: impl FnMut(&mut Child, u64)) -> Heard {
    let mut heard = Heard { first: None, last: 0, answer: None };
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The test program itself says something too, on the same line where nothing ends it.
        let Some(json) = line.find('{').map(|at| &line[at..]) else { continue };
        if let Ok(said) = serde_json::from_str::<Said>(json) {
            heard.first.get_or_insert(said.step);
            heard.last = said.step;
            on_step(child, said.step);
        } else {
            heard.answer = serde_json::from_str(json).ok();
        }
    }
    heard
}

/// A state folder with a parent, its job and rows.
fn state() -> (tempfile::TempDir, TrainingJob) {
    let folder = tempfile::tempdir().unwrap();
    let parent = parent(folder.path());
    let vault = Vault::open(folder.path()).unwrap();
    vault.put(&parent).unwrap();
    crate::keys::device_key(folder.path()).unwrap();
    store(folder.path(), &samples(200, true));
    let mut job = job(folder.path(), &parent);
    job.recipe.epochs = 20;
    job.recipe.optimizer = "adamw".into();
    job.recipe.patience = 50;
    job.recipe.ewc = 0.01;
    job.pace = Pace { steps: 7, least_ms: 0, most_ms: 60_000, said_ms: 0 };
    (folder, job)
}

fn model(state: &Path, version: Digest) -> Vec<u8> {
    Vault::join(state).get(version).unwrap().file(MODEL).unwrap().to_vec()
}

/// What does not differ from run to run: all but the time of a row.
fn timeless(mut evidence: Evidence) -> Evidence {
    let measured = evidence.measured.as_deref_mut().expect("it is measured");
    assert!(measured.row_us.take().is_some_and(|(old, new)| old > 0.0 && new > 0.0));
    evidence
}

fn born(heard: Heard) -> Born {
    match heard.answer {
        Some(Answer::Yes(born)) => born,
        other => panic!("{other:?}"),
    }
}

#[test]
fn killed_at_any_instant_a_run_ends_in_the_same_bytes() {
    kill_again_and_again("none", 0..3);
}

#[test]
fn killed_at_any_instant_a_search_ends_in_the_same_bytes() {
    kill_again_and_again("halving", 3..5);
}

/// With rows enough to search, where that is asked for.
fn searching(search: &str) -> (tempfile::TempDir, TrainingJob) {
    let (folder, mut job) = state();
    if search != "none" {
        store(folder.path(), &samples(300, true));
        job.recipe.search = search.into();
        job.recipe.epochs = 8;
    }
    (folder, job)
}

fn kill_again_and_again(search: &str, seeds: std::ops::Range<u64>) {
    let (untouched, job) = searching(search);
    let path = untouched.path().join("job.json");
    let whole = listen(&mut start(&path, &job), |_, _| {});
    assert_eq!(whole.first, Some(1));
    let steps = whole.last;
    let whole = born(whole);
    assert!(steps > 100, "{steps}");
    for seed in seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let (folder, mut job) = searching(search);
        assert_eq!(job.parent, whole_parent(&untouched), "the same parent");
        job.state = folder.path().to_owned();
        let path = folder.path().join("job.json");
        let (mut kills, mut resumed, mut reached) = (0_u64, 0_u32, 0_u64);
        let last = loop {
            // Before the first step, somewhere after the last one that was seen, or beyond the end.
            let at = random.random_range(reached.saturating_sub(3)..=reached + 60);
            let mut child = start(&path, &job);
            if at == 0 {
                child.kill().unwrap();
            }
            let heard = listen(&mut child, |child, step| {
                if step >= at {
                    child.kill().unwrap();
                }
            });
            let status = child.wait().unwrap();
            resumed += u32::from(heard.first.is_some_and(|first| first > 1));
            reached = reached.max(heard.last);
            if status.signal() == Some(9) && heard.answer.is_none() {
                kills += 1;
                // Rows come in and are labelled otherwise meanwhile: they are for the next run.
                let mut later = samples(220 + 10 * kills, false);
                later[..5].iter_mut().for_each(|row| row.class = Some(1));
                store(folder.path(), &later);
                continue;
            }
            break heard;
        };
        let version = born(last).version;
        assert!(kills >= 2 && resumed >= 1, "seed {seed}: {kills} kills, {resumed} resumed");
        assert_eq!(version, whole.version, "seed {seed}");
        assert_eq!(model(folder.path(), version), model(untouched.path(), whole.version));
        let runs = TrainDb::open(folder.path()).unwrap();
        assert_eq!(runs.checkpoint(&job.model).unwrap(), None, "over");
    }
}

fn whole_parent(state: &tempfile::TempDir) -> Digest {
    Package::from_archive(&fs::read(state.path().join("parent.shoal")).unwrap()).unwrap().version().unwrap()
}

#[test]
fn a_run_that_is_told_to_stop_pauses_within_a_step_and_goes_on() {
    let (folder, mut job) = state();
    job.pace.steps = 1_000_000; // no checkpoint but that of the pause
    let path = folder.path().join("job.json");
    let whole = born(listen(&mut start(&path, &job), |_, _| {}));
    // Another number, another job: the run begins anew.
    job.number += 1;
    let mut asked = None;
    let mut child = start(&path, &job);
    let heard = listen(&mut child, |_, step| {
        if step >= 40 && asked.is_none() {
            asked = Some(step);
            fs::remove_file(&path).unwrap();
        }
    });
    assert!(child.wait().unwrap().success());
    let Some(Answer::No(why)) = heard.answer else { panic!("{:?}", heard.answer) };
    assert!(why.reason.starts_with(&format!("paused at step {} of ", heard.last)), "{}", why.reason);
    assert_eq!((heard.first, asked), (Some(1), Some(40)));
    let again = listen(&mut start(&path, &job), |_, _| {});
    assert_eq!(again.first, Some(heard.last + 1), "goes on after the step of the pause");
    let version = born(again).version;
    assert_ne!(version, whole.version, "another number");
    assert_eq!(model(folder.path(), version), model(folder.path(), whole.version), "the same weights");
}

/// Children of this very test program; the job is given as an argument, and handed on by the environment. What
/// the test program itself says is left out.
fn workers(state: &Path) -> Workers {
    let script = format!(
        r#"mkfifo "$3.out"; grep --line-buffered -o '{{.*' < "$3.out" &
        exec env {JOB}="$3" "$0" --exact {NAME} --nocapture --test-threads=1 > "$3.out""#
    );
    let program = std::env::current_exe().unwrap().display().to_string();
    let prefix = vec!["-c".into(), script, program];
    Workers::new((PathBuf::from("/bin/sh"), prefix), state.to_owned(), Limits::ADMIT, Limits::TRAIN).unwrap()
}

/// The state of a process of ours whose job lies in this folder: `T` is stopped.
fn is_stopped(state: &Path) -> bool {
    let children = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let ours = children.filter(|process| {
        let environ = fs::read(process.join("environ")).unwrap_or_default();
        let wanted = format!("{JOB}={}", state.display());
        environ.windows(wanted.len()).any(|window| window == wanted.as_bytes())
    });
    let stats: Vec<String> =
        ours.filter_map(|process| fs::read_to_string(process.join("stat")).ok()).collect();
    stats.iter().any(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim().starts_with('T')))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_and_resumed_a_run_ends_in_the_same_bytes() {
    let (untouched, _) = tokio::task::spawn_blocking(state).await.unwrap();
    let (paused, job) = tokio::task::spawn_blocking(state).await.unwrap();
    let of_core = || crate::core::TrainJob {
        run: job.run,
        model: job.model.clone(),
        parent: job.parent,
        device: job.device.clone(),
        number: job.number,
        seed: job.seed,
        recipe: Recipe { epochs: 400, patience: 0, ..job.recipe.clone() },
        holdout_share: job.holdout_share,
        sources: job.sources.clone(),
    };
    let whole = workers(untouched.path()).train(of_core()).await.unwrap();

    // Half a core, paused at the first step that is heard of, for as long as it takes to see that it is.
    let workers = workers(paused.path()).with_cpu_share(0.5);
    let run = TaskTracker::new().spawn(workers.train(of_core()));
    while workers.progress(job.run).is_none() {
        tokio::task::yield_now().await;
    }
    workers.pause(job.run);
    while !is_stopped(paused.path()) {
        tokio::task::yield_now().await;
    }
    let said = workers.progress(job.run).unwrap();
    for _ in 0..20 {
        assert!(is_stopped(paused.path()), "it stays where it is");
        assert_eq!(workers.progress(job.run).unwrap().step, said.step);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(said.step < said.steps, "{said:?}");
    workers.resume(job.run);
    let trained = run.await.unwrap().unwrap();
    assert_eq!(trained.candidate.version, whole.candidate.version);
    assert_eq!(timeless(trained.evidence), timeless(whole.evidence));
    let (one, other) = (untouched.path(), paused.path());
    assert_eq!(model(one, trained.candidate.version), model(other, trained.candidate.version));
    assert!(workers.written_bytes() > 0 || !Path::new("/proc/self/io").exists(), "what it wrote is known");

    // One that rests is stopped all the same, and goes on where it was.
    let mut again = of_core();
    again.number += 1;
    let run = TaskTracker::new().spawn(workers.train(again.clone()));
    while workers.progress(job.run).is_none() {
        tokio::task::yield_now().await;
    }
    workers.pause(job.run);
    workers.stop(job.run);
    let reason = run.await.unwrap().unwrap_err().reason;
    assert!(reason.starts_with("paused at step "), "{reason}");
    let trained = workers.train(again).await.unwrap();
    assert_eq!(
        model(other, trained.candidate.version),
        model(one, whole.candidate.version),
        "the same weights"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_made_again_and_compared() {
    let (folder, job) = tokio::task::spawn_blocking(state).await.unwrap();
    let of_core = crate::core::TrainJob {
        run: job.run,
        model: job.model.clone(),
        parent: job.parent,
        device: job.device.clone(),
        number: job.number,
        seed: job.seed,
        recipe: job.recipe.clone(),
        holdout_share: job.holdout_share,
        sources: job.sources.clone(),
    };
    let workers = workers(folder.path());
    let trained = workers.train(of_core.clone()).await.unwrap();
    let (version, by) = (trained.candidate.version, trained.how.by.unwrap());
    assert!(by.cpu_ms > 0 && by.memory_bytes == Limits::TRAIN.memory_bytes, "{by:?}");
    // Another run of the model has come since, of other rows.
    tokio::task::spawn_blocking({
        let state = folder.path().to_owned();
        move || store(&state, &samples(260, true))
    })
    .await
    .unwrap();
    let mut next = of_core.clone();
    (next.run, next.number) = (next.run + 1, next.number + 1);
    assert_ne!(workers.train(next).await.unwrap().candidate.version, version);
    let again = workers.replay(of_core.clone(), version, Some(by.memory_bytes)).await.unwrap();
    assert!(again.is_equal && again.differ.is_empty() && again.version == version, "{again:?}");
    // Another seed is another version, and it is said in which files.
    let mut other = of_core.clone();
    other.seed += 1;
    let reason = workers.replay(other, version, None).await.unwrap_err();
    assert!(reason.contains("evicted"), "the digest of the rows is taken with the seed: {reason}");
    let mut other = of_core.clone();
    other.recipe.learning_rate *= 2.0;
    let again = workers.replay(other, version, None).await.unwrap();
    assert!(!again.is_equal && again.differ.contains(&MODEL.to_owned()), "{again:?}");
    // Rows that are gone are named.
    crate::store::evict_oldest(folder.path());
    let reason = workers.replay(of_core.clone(), version, None).await.unwrap_err();
    assert!(reason.starts_with("1 of the rows that it came of are gone: sample "), "{reason}");
    let reason = workers.replay(of_core, job.parent, None).await.unwrap_err();
    assert!(reason.contains("is not known here"), "{reason}");
}

#[test]
fn a_broken_or_foreign_checkpoint_is_dropped_and_the_run_starts_over() {
    let (folder, job) = state();
    let path = folder.path().join("job.json");
    let whole = born(listen(&mut start(&path, &job), |_, _| {}));
    for junk in [b"junk".to_vec(), shoal_proto::wire::to_cbor(&("a", 1))] {
        TrainDb::open(folder.path()).unwrap().keep(&job.model, &junk).unwrap();
        let again = listen(&mut start(&path, &job), |_, _| {});
        assert_eq!(again.first, Some(1));
        assert_eq!(born(again).version, whole.version);
    }
}

#[test]
fn a_refit_is_one_step_and_gives_the_same_bytes_again() {
    let folder = tempfile::tempdir().unwrap();
    let parent = packed(folder.path(), "forest_three", "decay = 0.5\n").unwrap();
    Vault::open(folder.path()).unwrap().put(&parent).unwrap();
    crate::keys::device_key(folder.path()).unwrap();
    store(folder.path(), &shifted("forest_three", 200));
    let mut job = tree_job(folder.path(), &parent);
    job.pace = Pace { steps: 1, least_ms: 0, most_ms: 0, said_ms: 0 };
    let path = folder.path().join("job.json");
    let first = listen(&mut start(&path, &job), |_, _| {});
    assert_eq!((first.first, first.last), (Some(0), 1));
    let first = born(first);
    assert!(first.memory.planned_bytes > 0 && first.memory.peak_bytes > 0, "{:?}", first.memory);
    // Labels that came since are for the next run.
    store(folder.path(), &shifted("forest_three", 260));
    let again = born(listen(&mut start(&path, &job), |_, _| {}));
    assert_eq!((again.version, timeless(again.evidence)), (first.version, timeless(first.evidence)));
    fs::remove_file(&path).unwrap();
}

/// What a run takes beside what it says: pages that SQLite caches, and what the allocator does not give back.
const UNPLANNED_BYTES: u64 = 24 << 20;

#[test]
fn memory_stays_within_what_was_said() {
    let (folder, mut job) = state();
    job.recipe.batch = 4_096;
    job.recipe.epochs = 3;
    store(folder.path(), &samples(6_000, true));
    job.recipe.max_rows = 6_000;
    let path = folder.path().join("job.json");
    for mib in [0_u32, 1] {
        job.recipe.memory_mib = mib;
        let memory = born(listen(&mut start(&path, &job), |_, _| {})).memory;
        let Memory { base_bytes, planned_bytes, peak_bytes } = memory;
        assert!((1..=limits::TRAINER_BYTES).contains(&base_bytes) && planned_bytes > 0, "{memory:?}");
        assert!(mib == 0 || planned_bytes <= u64::from(mib) << 20, "{memory:?}");
        assert!(peak_bytes <= base_bytes + planned_bytes + UNPLANNED_BYTES, "{memory:?}");
    }
}
