//! What is found, how soon, and what it costs.

use super::*;
use shoal_proto::baseline::FeatureBaseline;

const SEEDS: u64 = 8;
/// All seeds but one.
const MOST: usize = 7;
/// A bet this rich is drift: one false alarm in 100,000 rows or more.
const DRIFT: f64 = 1e5;
const MISSED: usize = 2_000;

/// A conformal CUSUM on ranks, as small as it can be: bets of half on high, low, outer and inner ranks.
#[derive(Debug, Clone)]
struct Bets {
    rank: Vec<f64>,
    wealth: [f64; 4],
}

impl Bets {
    fn new(counts: &[u64]) -> Self {
        let all = counts.iter().sum::<u64>() as f64;
        let mut before = 0.0;
        let rank = counts.iter().map(|count| {
            let middle = (before + *count as f64 / 2.0) / all;
            before += *count as f64;
            middle
        });
        Self { rank: rank.collect(), wealth: [1.0; 4] }
    }

    fn alarm(&mut self, bin: usize, family: usize) -> bool {
        let location = 2.0 * self.rank[bin] - 1.0;
        let scale = 2.0 * location.abs() - 1.0;
        for (wealth, bet) in self.wealth.iter_mut().zip([location, -location, scale, -scale]) {
            *wealth = wealth.max(1.0) * (1.0 + 0.5 * bet);
        }
        self.wealth.iter().sum::<f64>() / 4.0 >= DRIFT * family as f64
    }
}

/// Rows until each of distance, residual, trees and the first of all columns alarm; [`MISSED`] if none did.
fn delays(
    baseline: &JointBaseline,
    columns: &[FeatureBaseline],
    rows: impl Iterator<Item = Vec<f32>>,
) -> [usize; 4] {
    let mut joint = Joint::new(baseline).unwrap();
    let ranks = [Some(joint.distance_ranks()), joint.residual_ranks(), joint.tree_ranks()];
    let mut bets: Vec<Bets> = ranks.iter().map(|ranks| Bets::new(&ranks.unwrap().counts)).collect();
    let mut single: Vec<Bets> = columns.iter().map(|column| Bets::new(&column.counts)).collect();
    let mut delays = [MISSED; 4];
    for (count, row) in (1..MISSED).zip(rows) {
        let seen = joint.look(&row);
        let bins = [seen.distance.bin, seen.residual.unwrap().bin, seen.trees.unwrap().bin];
        for ((bets, bin), delay) in bets.iter_mut().zip(bins).zip(&mut delays) {
            *delay = if bets.alarm(bin, 1) { count.min(*delay) } else { *delay };
        }
        let cells = single.iter_mut().zip(columns).zip(&row);
        let alarms = cells
            .map(|((bets, column), value)| bets.alarm(column.bin(f64::from(*value)), columns.len()))
            .filter(|alarm| *alarm);
        if alarms.count() > 0 {
            delays[3] = delays[3].min(count);
        }
    }
    delays
}

#[expect(clippy::cast_possible_truncation, reason = "rows are f32")]
fn single(value: f64) -> f32 {
    value as f32
}

type Change = fn(&mut [f32]);

fn medians(width: usize, causes: usize, change: Change) -> ([usize; 4], [usize; 4]) {
    let mut all: [Vec<usize>; 4] = Default::default();
    for seed in 0..SEEDS {
        let mut rng = StdRng::seed_from_u64(300 + seed);
        let world = Causes::new(&mut rng, width, causes, 1.0);
        let rows = world.rows(&mut rng, 2_000);
        let column = |index: usize| rows.iter().skip(index).step_by(width).map(|value| f64::from(*value));
        let columns: Vec<FeatureBaseline> =
            (0..width).map(|index| FeatureBaseline::of(column(index))).collect();
        let scales: Vec<f32> = columns.iter().map(|column| single(column.std)).collect();
        let baseline = fitted(&rows, width, ALL);
        let changed = (0..MISSED).map(|_| {
            let mut row = world.row(&mut rng);
            row.iter_mut().zip(&scales).for_each(|(value, scale)| *value /= scale);
            change(&mut row);
            row.iter_mut().zip(&scales).for_each(|(value, scale)| *value *= scale);
            row
        });
        let found = delays(&baseline, &columns, changed);
        all.iter_mut().zip(found).for_each(|(all, found)| all.push(found));
    }
    let missed = [0, 1, 2, 3].map(|at: usize| all[at].iter().filter(|delay| **delay == MISSED).count());
    let median = all.map(|mut delays| {
        delays.sort_unstable();
        delays[delays.len() / 2]
    });
    (median, missed)
}

#[test]
fn joint_changes_are_found_that_columns_do_not_show() {
    println!(
        "change                         | median delay (missed of {SEEDS}): distance, residual, trees, columns"
    );
    let cases: [(&str, usize, usize, Change); 6] = [
        ("nothing, 20 inputs", 20, 4, |_| {}),
        ("one of 20 turns its sign", 20, 4, |row| row[3] = -row[3]),
        ("one of 64 turns its sign", 64, 8, |row| row[3] = -row[3]),
        ("64 move by 0.25 sd", 64, 0, |row| row.iter_mut().for_each(|value| *value += 0.25)),
        ("64 correlated move by 0.25 sd", 64, 8, |row| row.iter_mut().for_each(|value| *value += 0.25)),
        ("one of 64 moves by 1.5 sd", 64, 8, |row| row[9] += 1.5),
    ];
    for (name, width, causes, change) in cases {
        let (median, missed) = medians(width, causes, change);
        let cell = |at: usize| format!("{:>5} ({:>2})", median[at], missed[at]);
        println!("{name:<30} | {} {} {} {}", cell(0), cell(1), cell(2), cell(3));
        match name {
            "nothing, 20 inputs" => {
                assert!(missed[..2].iter().all(|missed| *missed >= MOST), "{missed:?}");
            }
            "one of 64 moves by 1.5 sd" => assert!(median[0].min(median[1]) < 600),
            name if name.contains("sign") => {
                assert!(median[0].min(median[1]) < 300 && missed[3] >= MOST, "{median:?} {missed:?}");
            }
            _ => {} // Thin shifts are what `mean_shift` is for.
        }
    }
}

#[test]
fn a_mean_that_moves_a_little_everywhere_is_found_at_a_close() {
    println!(
        "rows of reference, inputs, window | windows with p below .05, .01, .001; 0.1 sd everywhere: below .001"
    );
    for (n, width, causes, window) in
        [(200, 20, 4, 250), (2_000, 20, 4, 250), (2_000, 64, 0, 250), (2_000, 64, 8, 250), (2_000, 64, 8, 50)]
    {
        let (mut below, mut found, mut windows) = ([0.0; 3], 0.0, 0.0);
        for seed in 0..40 {
            let mut rng = StdRng::seed_from_u64(600 + seed);
            let world = Causes::new(&mut rng, width, causes, 1.0);
            let baseline = fitted(&world.rows(&mut rng, n), width, Parts { residual: false, trees: false });
            let mut joint = Joint::new(&baseline).unwrap();
            let mut state = JointState::new(&baseline);
            for moved in [0.0, 0.0, 0.0, 0.1] {
                for _ in 0..window {
                    let mut row = world.row(&mut rng);
                    row.iter_mut()
                        .zip(baseline.inverse.iter())
                        .for_each(|(x, inverse)| *x += moved / inverse);
                    joint.observe(&mut state, &row);
                }
                let p = state.mean_shift(&joint).p;
                state.reset();
                if moved > 0.0 {
                    found += f64::from(u8::from(p < 1e-3)) / 40.0;
                } else {
                    windows += 1.0;
                    let levels = below.iter_mut().zip([0.05, 0.01, 0.001]);
                    levels.for_each(|(count, level)| *count += f64::from(u8::from(p < level)));
                }
            }
            assert_eq!(state.mean_shift(&joint), MeanShift { statistic: 0.0, p: 1.0 });
        }
        let rate = below.map(|count| count / windows);
        println!(
            "{n:>5} {width:>3} ({causes}) {window:>4} | {:.3} {:.3} {:.3}; {found:.2}",
            rate[0], rate[1], rate[2]
        );
        assert!(rate[0] < 0.12 && rate[1] < 0.05 && rate[2] < 0.02, "{rate:?}");
        if n == 2_000 && window == 250 && width == 64 {
            assert!(found > 0.9, "{found}");
        }
    }
}

/// The chance that an outlier has a greater score than a usual row.
fn auc(usual: &[f64], strange: &[f64]) -> f64 {
    let greater = strange.iter().map(|s| {
        usual
            .iter()
            .map(|u| if s > u { 1.0 } else { 0.5 * f64::from(u8::from(s.total_cmp(u).is_eq())) })
            .sum::<f64>()
    });
    greater.sum::<f64>() / (usual.len() * strange.len()) as f64
}

#[test]
fn distance_and_trees_find_outliers() {
    println!(
        "outliers                          | AUC distance, trees, lesser p of both; found at 0.001: distance, both"
    );
    type Draw = fn(&Causes, &mut StdRng, bool) -> Vec<f32>;
    let clusters: Draw = |world, rng, strange| {
        let middle: f32 = if strange {
            0.0
        } else if rng.random_bool(0.5) {
            6.0
        } else {
            -6.0
        };
        world.row(rng).iter().map(|value| value + middle).collect()
    };
    let far: Draw = |world, rng, strange| {
        let (mut row, at) = (world.row(rng), rng.random_range(0..world.width));
        row[at] += if strange { 8.0 } else { 0.0 };
        row
    };
    let turned: Draw = |world, rng, strange| {
        let mut row = world.row(rng);
        row[..world.width / 2].iter_mut().for_each(|value| *value *= if strange { -1.0 } else { 1.0 });
        row
    };
    let even: Draw = |world, rng, strange| {
        if strange { (0..world.width).map(|_| rng.random_range(-6.0..6.0)).collect() } else { world.row(rng) }
    };
    let cases: [(&str, usize, Draw); 4] = [
        ("one input 8 off, correlated", 3, far),
        ("half of the inputs turned", 3, turned),
        ("anywhere in the box, correlated", 3, even),
        ("between two clusters", 0, clusters),
    ];
    for (name, causes, draw) in cases {
        let mut mean = [0.0; 5];
        for seed in 0..SEEDS {
            let mut rng = StdRng::seed_from_u64(400 + seed);
            let world = Causes::new(&mut rng, 10, causes, 1.0);
            let rows: Vec<f32> = (0..2_000).flat_map(|_| draw(&world, &mut rng, false)).collect();
            let mut joint = Joint::new(&fitted(&rows, 10, ALL)).unwrap();
            let mut scores: [[Vec<f64>; 3]; 2] = Default::default();
            let mut found = [0.0; 2];
            for (strange, scores) in [false, true].into_iter().zip(&mut scores) {
                for _ in 0..300 {
                    let seen = joint.look(&draw(&world, &mut rng, strange));
                    let alone = survival(joint.distance_ranks(), seen.distance.value);
                    let now = [seen.distance.value, seen.trees.unwrap().value, -seen.p];
                    scores.iter_mut().zip(now).for_each(|(all, now)| all.push(now));
                    if strange {
                        found[0] += f64::from(u8::from(alone < OUTLIER_ALPHA)) / 300.0;
                        found[1] += f64::from(u8::from(seen.outlier(OUTLIER_ALPHA).is_some())) / 300.0;
                    }
                }
            }
            let [usual, strange] = &scores;
            let now = [0, 1, 2].map(|at: usize| auc(&usual[at], &strange[at]));
            mean.iter_mut().zip(now.iter().chain(&found)).for_each(|(sum, now)| *sum += now / SEEDS as f64);
        }
        println!("{name:<33} | {:.3} {:.3} {:.3}; {:.3} {:.3}", mean[0], mean[1], mean[2], mean[3], mean[4]);
        if name == "between two clusters" {
            assert!(mean[1] > mean[0], "{mean:?}");
        } else {
            assert!(mean[0] > 0.75 && mean[0] > mean[1], "{mean:?}");
        }
    }
}

#[test]
fn what_moved_is_named() {
    let (mut turned, mut moved, mut left) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut rng = StdRng::seed_from_u64(500 + seed);
        let world = Causes::new(&mut rng, 24, 5, 1.0);
        let baseline = fitted(&world.rows(&mut rng, 2_000), 24, ALL);
        let mut joint = Joint::new(&baseline).unwrap();
        let mut first = |change: Change, blame: fn(&JointState, &Joint) -> Vec<f64>| {
            let mut state = JointState::new(&baseline);
            for _ in 0..500 {
                let mut row = world.row(&mut rng);
                change(&mut row);
                joint.observe(&mut state, &row);
            }
            attribute(&blame(&state, &joint), None)[0].feature
        };
        turned += u64::from(first(|row| row[3] = -row[3], JointState::distance_blame) == 3);
        left += u64::from(first(|row| row[3] = -row[3], JointState::residual_blame) == 3);
        moved += u64::from(first(|row| row[7] += 1.5, |state, _| state.moved()) == 7);
    }
    println!("named first of 24, of {SEEDS}: turned {turned} (by the residual {left}), moved {moved}");
    assert!([turned, left, moved].iter().all(|named| *named >= SEEDS - 2));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the cost is measured")]
fn what_a_row_costs() {
    println!("inputs | ns a row: distance | with residual | with trees | operations | bytes of state");
    for width in [20, 128, 512] {
        let mut rng = StdRng::seed_from_u64(6);
        let world = Causes::new(&mut rng, width, 8, 1.0);
        let rows = world.rows(&mut rng, 300);
        let cost = |parts: Parts| {
            let baseline = fitted(&rows, width, parts);
            let (mut joint, mut state) = (Joint::new(&baseline).unwrap(), JointState::new(&baseline));
            let mut best = f64::INFINITY;
            for _ in 0..20 {
                let begin = std::time::Instant::now();
                rows.chunks_exact(width).for_each(|row| {
                    joint.observe(&mut state, row);
                });
                best = best.min(begin.elapsed().as_nanos() as f64 / 300.0);
            }
            (best, joint.operations(), shoal_proto::wire::to_cbor(&state).len())
        };
        let none = cost(Parts { residual: false, trees: false });
        let axes = cost(Parts { residual: true, trees: false });
        let trees = cost(Parts { residual: false, trees: true });
        println!(
            "{width:>6} | {:>8.0} | {:>8.0} | {:>8.0} | {} / {} | {}",
            none.0, axes.0, trees.0, none.1, axes.1, axes.2
        );
        assert!(none.0 < 50.0 * width as f64 + 10_000.0, "generous: the machine is shared");
    }
}
