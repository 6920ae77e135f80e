//! How even the ranks of new rows are, and how often a row of the reference's kind is called an outlier.

use super::*;

const LEVELS: [f64; 3] = [0.05, 0.01, 0.001];
const SEEDS: u64 = 8;
const NEW_ROWS: usize = 10_000;

/// Shares of new rows whose p is below each level, and the squared distances of the rows that were fitted.
fn shares(joint: &mut Joint, ranks: &Ranks, fresh: &[f32]) -> [f64; 3] {
    let (width, mut below) = (joint.width(), [0.0; 3]);
    for row in fresh.chunks_exact(width) {
        let p = survival(ranks, joint.look(row).distance.value);
        LEVELS.iter().zip(&mut below).for_each(|(level, count)| *count += f64::from(u8::from(p < *level)));
    }
    below.map(|count| count / (fresh.len() / width) as f64)
}

#[test]
fn ranks_are_honest_where_in_sample_ones_are_not() {
    println!(
        "   n inputs | share of new rows with p below .05, .01, .001: in sample | left out (worst seed at .001)"
    );
    for (n, width) in [(200, 20), (500, 20), (2_000, 20), (10_000, 20), (200, 128), (2_000, 128)] {
        let (mut within, mut honest, mut worst, mut promised) = ([0.0; 3], [0.0; 3], 0.0_f64, 0.0);
        for seed in 0..SEEDS {
            let mut rng = StdRng::seed_from_u64(100 + seed);
            let world = Causes::new(&mut rng, width, width / 4, 1.0);
            let rows = world.rows(&mut rng, n);
            let baseline = fitted(&rows, width, Parts { residual: false, trees: false });
            let mut joint = Joint::new(&baseline).unwrap();
            let fresh = world.rows(&mut rng, NEW_ROWS / (1 + width / 64));
            let known: Vec<f64> =
                rows.chunks_exact(width).map(|row| joint.look(row).distance.value).collect();
            let (a, b) = (
                shares(&mut joint, &ranks(&known), &fresh),
                shares(&mut joint, &baseline.distance.ranks, &fresh),
            );
            (0..3).for_each(|at| {
                within[at] += a[at] / SEEDS as f64;
                honest[at] += b[at] / SEEDS as f64;
            });
            worst = worst.max(b[2]);
            promised += joint.expected_outliers(OUTLIER_ALPHA) / SEEDS as f64;
        }
        println!(
            "{n:>6} {width:>4} | {:.4} {:.4} {:.5} | {:.4} {:.4} {:.5} ({worst:.5}) promised {promised:.5}",
            within[0], within[1], within[2], honest[0], honest[1], honest[2]
        );
        assert!((0.04..0.062).contains(&honest[0]), "{honest:?}");
        assert!((0.006..0.016).contains(&honest[1]), "{honest:?}");
        assert!((0.0002..0.0025).contains(&honest[2]), "{honest:?}");
        assert!(honest[2] < promised && worst < 3.0 * promised);
        if n <= 500 {
            assert!(within[1] > 1.5 * honest[1], "in sample distances are too small");
        }
    }
}

#[test]
fn bins_of_new_rows_are_those_of_the_reference() {
    println!("   n statistic | chi-square of as many new rows over its degrees of freedom, mean of 10 seeds");
    for n in [200, 500, 2_000, 10_000] {
        let mut ratio = [0.0; 3];
        for seed in 0..10 {
            let mut rng = StdRng::seed_from_u64(200 + seed);
            let world = Causes::new(&mut rng, 20, 5, 1.0);
            let baseline = fitted(&world.rows(&mut rng, n), 20, ALL);
            let mut joint = Joint::new(&baseline).unwrap();
            let mut state = JointState::new(&baseline);
            (0..n).for_each(|_| {
                joint.observe(&mut state, &world.row(&mut rng));
            });
            let parts = [
                (&baseline.distance.ranks, state.distance()),
                (&baseline.residual.as_ref().unwrap().ranks, state.residual()),
                (&baseline.trees.as_ref().unwrap().ranks, state.trees()),
            ];
            for (ratio, (ranks, counts)) in ratio.iter_mut().zip(parts) {
                // Two samples of n rows: chi-square over its degrees of freedom.
                let terms = ranks.counts.iter().zip(counts);
                let terms = terms.map(|(a, b)| (*a as f64 - *b as f64).powi(2) / (a + b).max(1) as f64);
                *ratio += terms.sum::<f64>() / (counts.len() - 1) as f64 / 10.0;
            }
        }
        println!("{n:>6} | distance {:.2} residual {:.2} trees {:.2}", ratio[0], ratio[1], ratio[2]);
        assert!(ratio.iter().all(|ratio| (0.5..1.7).contains(ratio)), "{ratio:?}");
    }
}

#[test]
fn values_that_repeat_are_ranked_as_they_are() {
    let mut rng = StdRng::seed_from_u64(9);
    let row = |rng: &mut StdRng| [0.1, 0.3, 0.5].map(|p| f32::from(u8::from(rng.random_bool(p))));
    let rows: Vec<f32> = (0..2_000).flat_map(|_| row(&mut rng)).collect();
    let baseline = fitted(&rows, 3, ALL);
    let (mut joint, mut state) = (Joint::new(&baseline).unwrap(), JointState::new(&baseline));
    (0..20_000).for_each(|_| {
        joint.observe(&mut state, &row(&mut rng));
    });
    for (ranks, counts) in [
        (joint.distance_ranks(), state.distance()),
        (joint.residual_ranks().unwrap(), state.residual()),
        (joint.tree_ranks().unwrap(), state.trees()),
    ] {
        for (reference, now) in ranks.counts.iter().zip(counts) {
            let (reference, now) = (*reference as f64 / 2e3, *now as f64 / 2e4);
            let error = (reference * (1.0 - reference) / 1_800.0).sqrt();
            assert!((reference - now).abs() < 5.0 * error + 1e-3, "{ranks:?} {counts:?}");
        }
    }
    assert!(state.outliers().1 < 60, "{:?}", state.outliers());
}
