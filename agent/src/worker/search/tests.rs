use super::super::resume::{Outside, Shelf};
use super::super::tests::{Silence, job, parent, samples, store};
use super::super::train::{Made, train};
use super::super::{Said, TrainingJob};
use super::*;
use crate::store::SamplesReader;
use shoal_proto::package::Package;
use std::path::Path;

fn own(scope: &str) -> manifest::Recipe {
    let (scope, search) = (scope.to_owned(), "halving".to_owned());
    manifest::Recipe { scope, search, learning_rate: 1e-3, epochs: 7, ..manifest::Recipe::default() }
}

#[test]
fn the_recipe_is_tried_beside_those_near_it_the_cheapest_first() {
    let near = ["@0.0003333", "@0.001", "@0.003"];
    for (scope, tried) in [
        ("all", vec!["last@0.001", "norms-and-biases@0.001", "all*"]),
        ("last", vec!["last*", "norms-and-biases@0.001", "all@0.001"]),
        ("bias", vec!["last@0.001", "bias*", "all@0.001"]),
        ("low-rank:2", vec!["last@0.001", "norms-and-biases@0.001", "low-rank:2*", "all@0.001"]),
        ("head.*", vec!["last@0.001", "norms-and-biases@0.001", "head.**", "all@0.001"]),
    ] {
        let expected = tried.iter().flat_map(|one| match one.strip_suffix('*') {
            Some(scope) => near.iter().map(|rate| format!("{scope}{rate}")).collect(),
            None => vec![(*one).to_owned()],
        });
        let recipes = recipes(&own(scope));
        let told: Vec<String> =
            recipes.iter().map(|recipe| format!("{}@{}", recipe.scope, recipe.learning_rate)).collect();
        assert_eq!(told, expected.collect::<Vec<_>>(), "{scope}");
        assert!(
            recipes.len() <= 6 && recipes.iter().all(|recipe| recipe.search == "none" && recipe.epochs == 7)
        );
        let plain = manifest::Recipe { search: "none".into(), ..own(scope) };
        assert_eq!(recipes.iter().filter(|recipe| **recipe == plain).count(), 1, "the package's own");
    }
}

#[test]
fn half_of_them_go_on_with_twice_the_steps() {
    for (recipes, expected) in [
        (6, vec![(6, 1), (3, 2)]),
        (5, vec![(5, 1), (2, 2)]),
        (4, vec![(4, 1), (2, 2)]),
        (2, vec![(2, 1)]),
        (1, vec![]),
    ] {
        assert_eq!(rungs(recipes).collect::<Vec<_>>(), expected, "{recipes}");
    }
}

/// Trains in a state folder whose rows are there.
fn run(job: &TrainingJob, parent: &Package, outside: &mut dyn Outside) -> Result<Made, TrainError> {
    let reader = SamplesReader::open_read_only(&job.state).unwrap();
    train(job, parent, &reader, &mut Shelf::open(job), outside)
}

fn searching(folder: &Path) -> (Package, TrainingJob) {
    let parent = parent(folder);
    store(folder, &samples(300, true));
    let mut job = job(folder, &parent);
    (job.recipe.search, job.recipe.epochs) = ("halving".into(), 20);
    (parent, job)
}

#[test]
fn what_was_chosen_is_recorded_and_makes_the_same_version_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (parent, job) = searching(folder.path());
    let found = run(&job, &parent, &mut Silence).unwrap();
    let (searched, recipe) = found.search.unwrap();
    let (place, best) = searched.best().unwrap();
    assert_eq!((recipes(&job.recipe)[place].clone(), searched.rows), (recipe.clone(), 42));
    assert!(best < searched.parent && found.evidence.candidate_correct > 80, "{searched}");
    let rungs: Vec<usize> = searched.tried.iter().map(|tried| tried.scores.len()).collect();
    assert_eq!((rungs.len(), rungs.iter().sum::<usize>()), (5, 7), "{searched}");
    assert!(shoal_proto::wire::to_cbor(&searched).len() < 512 && searched.to_string().contains("* "));
    let again = TrainingJob { recipe, ..job.clone() };
    let again = run(&again, &parent, &mut Silence).unwrap();
    assert!(again.search.is_none());
    assert_eq!(again.package.to_files(), found.package.to_files(), "which is how it is made again");
    // Too few rows to score by: the recipe as it is.
    let few = tempfile::tempdir().unwrap();
    store(few.path(), &samples(200, true));
    let few = TrainingJob { state: few.path().to_owned(), ..job };
    assert!(run(&few, &parent, &mut Silence).unwrap().search.is_none());
}

#[test]
fn a_run_that_would_learn_nothing_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let (parent, job) = searching(folder.path());
    // The newest of the training rows, and those held out, are of the world that the parent knows.
    let mut rows = samples(300, false);
    rows[..168].iter_mut().for_each(|row| row.class = row.class.map(|class| 1 - class));
    let state = tempfile::tempdir().unwrap();
    store(state.path(), &rows);
    let job = TrainingJob { state: state.path().to_owned(), ..job };
    let Err(TrainError::NothingBetter { best, search, rows }) = run(&job, &parent, &mut Silence) else {
        panic!("nothing is better")
    };
    assert!(best >= search.parent && search.best().is_some_and(|(_, found)| found == best), "{search}");
    assert_eq!(rows.sources.len(), 1);
    let why = super::super::Why::from(TrainError::NothingBetter { best, search: search.clone(), rows });
    let text = serde_json::to_string(&why).unwrap();
    let why: super::super::Why = serde_json::from_str(&text).unwrap();
    let untrained = why.untrained("no".into());
    assert_eq!(untrained.how.search, Some(search));
}

/// Stops after so many steps, and counts them.
struct Impatient {
    steps: u64,
    made: u64,
    said: Vec<Said>,
}

impl Outside for Impatient {
    fn elapsed(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn is_stopped(&self) -> bool {
        self.made >= self.steps
    }

    fn on_step(&mut self, said: Said) {
        self.made += 1;
        self.said.push(said);
    }
}

#[test]
fn stopped_again_and_again_it_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (parent, mut job) = searching(folder.path());
    job.recipe.epochs = 5;
    let mut watching = Impatient { steps: u64::MAX, made: 0, said: Vec::new() };
    let whole = run(&job, &parent, &mut watching).unwrap();
    let run_steps = watching.said.iter().map(|said| said.steps).max().unwrap();
    let steps: Vec<u64> = watching.said.iter().map(|said| said.step).collect();
    assert_eq!(steps, (1..=run_steps).collect::<Vec<_>>(), "search and run are one count");
    job.number += 1;
    let other = run(&job, &parent, &mut Silence).unwrap();
    job.number += 1;
    let (mut made, mut stops) = (0, 0);
    let found = loop {
        let mut impatient = Impatient { steps: 17, made: 0, said: Vec::new() };
        let outcome = run(&job, &parent, &mut impatient);
        made += impatient.made;
        match outcome {
            Err(TrainError::Paused { step, steps }) => {
                assert_eq!((step, steps >= step), (made, true));
                stops += 1;
            }
            outcome => break outcome.unwrap(),
        }
    };
    assert!(stops > 5 && made == run_steps, "{stops} stops, {made} of {run_steps} steps");
    let model = |made: &Made| made.package.file(shoal_proto::package::MODEL).map(<[u8]>::to_vec);
    assert_eq!((model(&found), &found.search), (model(&whole), &whole.search));
    assert_eq!(model(&other), model(&whole));
}
