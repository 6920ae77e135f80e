//! On worlds whose truth is known.

use super::*;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shoal_proto::baseline::{Baseline, FeatureBaseline};
use shoal_proto::manifest::OutputKind;
use std::convert::Infallible;
use std::sync::Arc;

const WIDTH: usize = 16;
const CLASSES: usize = 4;

fn normal(random: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f32, f32) = (1.0 - random.random::<f32>(), random.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

/// Classes as clouds; the model knows them as they were in training.
struct World {
    random: ChaCha8Rng,
    centres: Vec<Vec<f32>>,
    mix: [f64; CLASSES],
}

/// The best there is in training: the nearest centre, all spreads being alike.
struct Nearest(Vec<Vec<f32>>);

impl Model for Nearest {
    type Error = Infallible;

    fn answers(&self, _rows: usize, features: &[f32]) -> Result<Vec<f32>, Infallible> {
        let mut shares = Vec::new();
        for row in features.chunks_exact(WIDTH) {
            let off =
                |centre: &Vec<f32>| -> f32 { centre.iter().zip(row).map(|(c, x)| (c - x).powi(2)).sum() };
            let scores: Vec<f32> = self.0.iter().map(|centre| (-0.5 * off(centre)).exp() + 1e-30).collect();
            let sum: f32 = scores.iter().sum();
            shares.extend(scores.into_iter().map(|score| score / sum));
        }
        Ok(shares)
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let centres =
            (0..CLASSES).map(|_| (0..WIDTH).map(|_| 0.55 * normal(&mut random)).collect()).collect();
        Self { random, centres, mix: [0.25; CLASSES] }
    }

    fn row(&mut self) -> (Vec<f32>, u32) {
        let mut at: f64 = self.random.random();
        let mut class = 0;
        while class + 1 < CLASSES && at >= self.mix[class] {
            at -= self.mix[class];
            class += 1;
        }
        let row = (0..WIDTH).map(|feature| self.centres[class][feature] + normal(&mut self.random)).collect();
        (row, u32::try_from(class).unwrap())
    }

    fn begin(&mut self, settings: Settings) -> (Adapt, Nearest) {
        let drawn: Vec<_> = (0..1_000).map(|_| self.row()).collect();
        let rows: Vec<f32> = drawn.iter().flat_map(|(row, _)| row.clone()).collect();
        let classes: Vec<u32> = drawn.iter().map(|(_, class)| *class).collect();
        let inputs = profile(&rows, &classes, CLASSES, &[0.0; WIDTH], &[false; WIDTH]);
        let column = |at: usize| rows.iter().skip(at).step_by(WIDTH).map(|x| f64::from(*x));
        let features = (0..WIDTH).map(|at| FeatureBaseline::of(column(at)).without_order()).collect();
        let baseline = Baseline { rows: 1_000, features, inputs, ..Baseline::default() };
        let baseline = Baseline::parse(&baseline.to_bytes()).unwrap();
        let frame = Arc::new(Frame::new(&baseline).unwrap());
        let truth: Vec<f64> = classes.iter().map(|class| f64::from(*class)).collect();
        let targets = Targets::Classes(CLASSES);
        let adapt = Adapt::new(frame, OutputKind::Probabilities, targets, settings, 7, (&rows, &truth));
        (adapt, Nearest(self.centres.clone()))
    }
}

/// How many of the served and of the untouched answers were right.
struct Run {
    served: f64,
    still: f64,
    switches: u32,
    asked: u64,
}

/// What happens to a row: features, and what its label says.
type Change<'a> = &'a dyn Fn(&mut Vec<f32>, u32, usize) -> u32;

fn run(
    seed: u64,
    rows: usize,
    settings: Settings,
    labels: f64,
    mix: [f64; CLASSES],
    change: Change<'_>,
) -> Run {
    let mut world = World::new(seed);
    let (mut adapt, model) = world.begin(settings);
    world.mix = mix;
    let (mut served, mut still, mut switches, mut asked) = (0, 0, 0, 0);
    for at in 0..rows {
        let (mut row, class) = world.row();
        let said = change(&mut row, class, at);
        let truth = if said >= 100 { said - 100 } else { class };
        let lens = adapt.lens();
        let mut moved = row.clone();
        lens.apply(&mut moved);
        let own = lens.answer(&row, CLASSES).unwrap_or_else(|| model.answers(1, &moved).unwrap());
        served += u32::from(best(&own) == truth);
        still += u32::from(best(&model.answers(1, &row).unwrap()) == truth);
        let place = at as u64;
        adapt.observe(&row, place, &model).unwrap();
        if world.random.random_bool(labels) {
            let before = adapt.is_headed();
            adapt.label(&row, place, f64::from(said % 100), &model).unwrap();
            switches += u32::from(before != adapt.is_headed());
            asked += 1;
        }
    }
    let share = |right: u32| 100.0 * f64::from(right) / rows as f64;
    Run { served: share(served), still: share(still), switches, asked }
}

fn best(scores: &[f32]) -> u32 {
    let at = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
    u32::try_from(at).unwrap()
}

const EVEN: [f64; CLASSES] = [0.25; CLASSES];
const SEEDS: std::ops::Range<u64> = 0..4;

/// The means over seeds: served, untouched.
fn table(
    rows: usize,
    settings: Settings,
    labels: f64,
    mix: [f64; CLASSES],
    change: Change<'_>,
) -> (f64, f64) {
    let runs: Vec<Run> = SEEDS.map(|seed| run(seed, rows, settings, labels, mix, change)).collect();
    let mean = |of: fn(&Run) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
    let switches: u32 = runs.iter().map(|run| run.switches).sum();
    let asked: u64 = runs.iter().map(|run| run.asked).sum();
    let (served, still) = (mean(|run| run.served), mean(|run| run.still));
    println!("served {served:.1} untouched {still:.1}, {switches} switches, {asked} labels");
    (served, still)
}

const INPUTS: Settings = Settings { inputs: true, head: false };

/// Gains from 0.5 to 2 and offsets of up to two deviations, another for each feature.
fn sensors(row: &mut [f32], strength: f32) {
    for (at, x) in row.iter_mut().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "sixteen features")]
        let phase = at as f32 * 2.4;
        *x = *x * (strength * 0.7 * phase.sin()).exp() + strength * 2.0 * phase.cos();
    }
}

#[test]
fn what_stands_still_is_left_alone() {
    let (served, still) = table(2_000, INPUTS, 0.0, EVEN, &|_, _, _| 0);
    assert!(served > still - 0.5);
}

#[test]
fn a_mix_of_classes_is_no_drift() {
    for mix in [[0.7, 0.1, 0.1, 0.1], [0.9, 0.1, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]] {
        let (served, still) = table(2_000, INPUTS, 0.0, mix, &|_, _, _| 0);
        assert!(served > still - 1.0, "{mix:?}");
    }
}

#[test]
fn sensors_that_drift_are_brought_back_without_labels() {
    let (served, still) = table(3_000, INPUTS, 0.0, EVEN, &|row, _, at| {
        #[expect(clippy::cast_precision_loss, reason = "rows")]
        sensors(row, (at as f32 / 1_500.0).min(1.0));
        0
    });
    assert!(served > still + 10.0);
    let (served, still) = table(2_000, INPUTS, 0.0, EVEN, &|row, _, _| {
        sensors(row, 1.0);
        0
    });
    assert!(served > still + 15.0);
    let (served, still) = table(2_000, INPUTS, 0.0, [0.55, 0.25, 0.1, 0.1], &|row, _, _| {
        sensors(row, 1.0);
        0
    });
    assert!(served > still + 10.0);
}

#[test]
fn labels_teach_the_head_what_the_model_does_not_know() {
    // The classes change their names: no map of inputs helps.
    let rotated: Change<'_> = &|_, class, at| if at < 500 { class } else { 100 + (class + 1) % 4 };
    for (labels, gain) in [(1.0, 45.0), (0.1, 25.0)] {
        let (served, still) = table(3_000, Settings::default(), labels, EVEN, rotated);
        assert!(served > still + gain, "{labels}");
    }
}

#[test]
fn wrong_labels_on_a_still_stream_change_nothing_that_is_served() {
    for labels in [1.0, 0.3, 0.05] {
        for seed in 0..20 {
            let noise = std::cell::RefCell::new(ChaCha8Rng::seed_from_u64(seed));
            let flipped: Change<'_> = &|_, class, _| {
                let mut noise = noise.borrow_mut();
                if noise.random_bool(0.3) { (class + noise.random_range(1..4)) % 4 } else { class }
            };
            let run = run(seed, 2_000, Settings::default(), labels, EVEN, flipped);
            assert!(run.served > run.still - 1.0, "{labels} {seed}: {} {}", run.served, run.still);
        }
    }
}

#[test]
fn a_state_goes_on_where_it_was() {
    let mut world = World::new(9);
    let (mut adapt, model) = world.begin(Settings::default());
    let fresh = adapt.clone();
    for at in 0..600_u64 {
        let (mut row, class) = world.row();
        sensors(&mut row, 1.0);
        let place = at;
        adapt.observe(&row, place, &model).unwrap();
        if at % 3 == 0 {
            adapt.label(&row, place, f64::from((class + 1) % 4), &model).unwrap();
        }
    }
    let bytes = shoal_proto::wire::to_cbor(&adapt.state());
    let mut again = fresh;
    assert!(again.restore(shoal_proto::wire::from_cbor(&bytes).unwrap()));
    assert_eq!((again.labels(), again.is_headed()), (adapt.labels(), adapt.is_headed()));
    let (row, _) = world.row();
    let (mut one, mut other) = (row.clone(), row.clone());
    adapt.lens().apply(&mut one);
    again.lens().apply(&mut other);
    assert_eq!(one, other);
    println!("{} bytes", bytes.len());
    assert!(bytes.len() < 128 * 1024);
}

#[test]
fn rows_that_lack_values_are_taken_and_stay_as_they_are() {
    let mut world = World::new(3);
    let (mut adapt, model) = world.begin(Settings::default());
    for at in 0..300_u64 {
        let (mut row, class) = world.row();
        sensors(&mut row, 1.0);
        (row[0], row[1], row[2]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
        let place = at;
        adapt.observe(&row, place, &model).unwrap();
        adapt.label(&row, place, f64::from(class), &model).unwrap();
    }
    let mut row = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    row.extend([0.5; WIDTH - 3]);
    let lens = adapt.lens();
    let mut moved = row.clone();
    lens.apply(&mut moved);
    assert!(moved[0].is_nan() && moved[1] == f32::INFINITY && moved[2] == f32::NEG_INFINITY);
    assert!(moved[3..].iter().all(|x| x.is_finite()));
    assert!(lens.answer(&row, CLASSES).is_none_or(|scores| scores.iter().all(|score| score.is_finite())));
}

#[test]
fn a_budget_of_labels_lasts_and_is_never_exceeded() {
    for (rows, budget) in [(2_000, 50), (300, 50), (200, 20), (60, 50)] {
        let mut asker = Asker::default();
        let mut random = ChaCha8Rng::seed_from_u64(rows);
        let (mut left, mut doubts) = (budget, 0.0);
        for _ in 0..rows {
            let doubt: f32 = random.random();
            if asker.offer(doubt, left, budget) {
                left -= 1;
                doubts += doubt;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a budget")]
        let mean = doubts / (budget - left) as f32;
        println!("{rows} rows: {} of {budget} asked, mean rank {mean:.2}", budget - left);
        assert!(left < budget * 3 / 4 && mean > 0.6);
    }
}

#[test]
fn numbers_are_learned_too() {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut draw = move || -> Vec<f32> { (0..3).map(|_| normal(&mut random)).collect() };
    let truth = |row: &[f32]| f64::from(2.0 * row[0] - row[1] + 0.3 * row[2]);
    let drawn: Vec<Vec<f32>> = (0..400).map(|_| draw()).collect();
    let rows: Vec<f32> = drawn.concat();
    let values: Vec<f64> = drawn.iter().map(|row| truth(row)).collect();
    struct Sum;
    impl Model for Sum {
        type Error = Infallible;
        fn answers(&self, _: usize, features: &[f32]) -> Result<Vec<f32>, Infallible> {
            Ok(features.chunks_exact(3).map(|row| 2.0 * row[0] - row[1] + 0.3 * row[2]).collect())
        }
    }
    let features = (0..3).map(|at| {
        FeatureBaseline::of(rows.iter().skip(at).step_by(3).map(|x| f64::from(*x))).without_order()
    });
    let inputs = profile(&rows, &[], 0, &[0.0; 3], &[false; 3]);
    let baseline = Baseline { features: features.collect(), inputs, ..Baseline::default() };
    let frame = Arc::new(Frame::new(&baseline).unwrap());
    let targets = Targets::Value { mean: 0.0, std: 2.2 };
    let mut adapt = Adapt::new(
        frame,
        OutputKind::Values,
        targets,
        Settings { inputs: false, head: true },
        1,
        (&rows, &values),
    );
    for place in 0..600 {
        let row = draw();
        adapt.observe(&row, place, &Sum).unwrap();
        adapt.label(&row, place, 5.0 - truth(&row), &Sum).unwrap();
    }
    assert!(adapt.is_headed());
    let row = draw();
    let said = adapt.lens().answer(&row, 1).unwrap()[0];
    assert!((f64::from(said) - (5.0 - truth(&row))).abs() < 0.5, "{said} for {}", 5.0 - truth(&row));
}
