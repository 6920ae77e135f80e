use super::*;
use crate::column::tests::Draws;
use crate::column::{Columns, Reference, Seen};

type Draw = fn(&mut Draws) -> f32;

/// The kinds of columns that are tested: their names and their draws.
const KINDS: [(&str, Draw); 7] = [
    ("normal", Draws::normal),
    ("log-normal", |rng| (rng.normal() * 1.5).exp()),
    ("uniform", Draws::uniform),
    ("Cauchy", |rng| rng.normal() / rng.normal()),
    ("half noughts", |rng| if rng.uniform() < 0.5 { 0.0 } else { rng.normal() }),
    ("5 categories", |rng| (rng.uniform() * rng.uniform() * 5.0).floor()),
    ("counts", |rng| (rng.uniform() * 60.0).floor()),
];

fn baseline(rng: &mut Draws, draw: Draw, rows: usize) -> FeatureBaseline {
    FeatureBaseline::of((0..rows).map(|_| f64::from(draw(rng))))
}

fn tests(feature: &FeatureBaseline, values: impl IntoIterator<Item = f32>) -> WindowTests {
    let reference = Reference::new(std::slice::from_ref(feature), 1e6);
    let (mut columns, mut seen) = (Columns::new(&reference), Seen::default());
    values.into_iter().for_each(|value| columns.observe(&reference, &[value], &mut seen));
    WindowTests::of(feature, &columns.tally().columns[0])
}

#[test]
fn false_alarms_at_250_rows_keep_to_their_rate() {
    const SEEDS: u64 = 24;
    const WINDOWS: u32 = 60;
    println!(
        "share of {} windows of 250 rows that alarm at p < 0.01, of a baseline of 2,000 rows:",
        SEEDS * 60
    );
    println!("kind          decides   PSI     KS      W1      G       range   unseen  | W1>0.1  JS>0.1");
    for (name, draw) in KINDS {
        let mut alarms = [0_u32; 9];
        for seed in 0..SEEDS {
            let mut rng = Draws::new(seed);
            let feature = baseline(&mut rng, draw, 2_000);
            for _ in 0..WINDOWS {
                let all = tests(&feature, (0..250).map(|_| draw(&mut rng)));
                let of = all.distances;
                let psi = all.shift.map_or(1.0, |shift| shift.p);
                let g = all.mix.map_or(1.0, |mix| mix.p);
                let p = [all.p, psi, of.kolmogorov_p, of.wasserstein_p, g, all.range.p, all.unseen.p];
                let fixed = [of.wasserstein > 0.1, of.jensen_shannon > 0.1];
                let said = p.into_iter().map(|p| p < 0.01).chain(fixed);
                alarms.iter_mut().zip(said).for_each(|(sum, said)| *sum += u32::from(said));
            }
        }
        let windows = f64::from(WINDOWS) * SEEDS as f64;
        let shares = alarms.map(|alarms| f64::from(alarms) / windows);
        let text: Vec<String> = shares.iter().map(|share| format!("{share:.4}")).collect();
        println!("{name:<13} {}  | {}", text[..7].join("  "), text[7..].join("  "));
        assert!(shares[0] <= 0.02, "{name} decides: {}", shares[0]);
        assert!(shares[1..7].iter().all(|share| *share <= 0.025), "{name}: {shares:?}");
    }
}

#[test]
fn drift_is_found_within_windows_of_250() {
    type Change = fn(f32) -> f32;
    let changes: [(&str, Change, f64); 5] = [
        ("mean + 0.25 sd", |x| x + 0.25, 0.4),
        ("mean + 0.5 sd", |x| x + 0.5, 0.95),
        ("sd x 1.5", |x| x * 1.5, 0.95),
        ("sd / 1.5", |x| x / 1.5, 0.9),
        ("a gap of 1.2 sd", |x| if x < 0.0 { x - 0.6 } else { x + 0.6 }, 0.95),
    ];
    for (name, change, least) in changes {
        let (mut decides, mut psi, mut distance) = (0_u32, 0_u32, 0_u32);
        for seed in 0..40 {
            let mut rng = Draws::new(seed);
            let feature = rng.baseline(5_000);
            let all = tests(&feature, (0..250).map(|_| change(rng.normal())));
            decides += u32::from(all.p < 1e-3);
            psi += u32::from(all.shift.is_some_and(|shift| shift.p < 1e-3));
            distance += u32::from(all.distances.wasserstein_p < 1e-3);
        }
        println!("{name}: {decides} of 40 at p < 0.001 (PSI {psi}, Wasserstein {distance})");
        assert!(f64::from(decides) >= 40.0 * least, "{name}");
    }
}

#[test]
fn a_changed_mix_and_unlisted_categories_are_found() {
    let mut rng = Draws::new(2);
    let feature = baseline(&mut rng, KINDS[5].1, 2_000);
    let mixed = tests(&feature, (0..250).map(|row| (row % 5) as f32));
    assert!(mixed.p < 1e-9 && mixed.mix.is_some_and(|mix| mix.freedom >= 2.0) && mixed.unseen.p == 1.0);
    let unlisted =
        tests(&feature, (0..250).map(|row| if row % 25 == 0 { 17.0 } else { (KINDS[5].1)(&mut rng) }));
    assert!(unlisted.unseen.p < 1e-6 && unlisted.p <= 2.0 * unlisted.unseen.p, "{unlisted:?}");
    assert!((unlisted.unseen.share - 0.04).abs() < 1e-12 && unlisted.range.p == 1.0);
}

#[test]
fn rates_of_missing_infinite_and_outlying_values_are_found() {
    let mut rng = Draws::new(4);
    let feature = rng.baseline(2_000);
    let every = |value: f32, rng: &mut Draws| {
        let rows: Vec<f32> = (0..250).map(|row| if row % 25 == 0 { value } else { rng.normal() }).collect();
        tests(&feature, rows)
    };
    let missing = every(f32::NAN, &mut rng);
    assert!(missing.missing.p < 1e-6 && missing.infinite.p == 1.0 && missing.rows == 240, "{missing:?}");
    let infinite = every(f32::INFINITY, &mut rng);
    assert!(infinite.infinite.p < 1e-6 && infinite.range.p < 1e-6 && infinite.missing.p == 1.0);
    assert!(every(50.0, &mut rng).range.p < 1e-6);
    let nothing = tests(&feature, []);
    assert_eq!((nothing.p, nothing.range.p, nothing.distances), (1.0, 1.0, Distances::NONE));
}

#[test]
fn rows_that_depend_on_each_other_raise_no_alarm_where_the_spacing_says_so() {
    let (mut without, mut with) = (0_u32, 0_u32);
    let windows = 400;
    for seed in 0..20 {
        let (mut rng, mut level) = (Draws::new(seed), 0.0);
        let mut next = |rng: &mut Draws| {
            level = 0.8 * level + 0.6 * rng.normal();
            level
        };
        let mut feature = FeatureBaseline::of((0..20_000).map(|_| f64::from(next(&mut rng))));
        for _ in 0..windows / 20 {
            let rows: Vec<f32> = (0..1_000).map(|_| next(&mut rng)).collect();
            for (spacing, alarms) in [(1, &mut without), (10, &mut with)] {
                feature.spacing = spacing;
                *alarms += u32::from(tests(&feature, rows.iter().copied()).p < 0.01);
            }
        }
    }
    println!(
        "autoregressive 0.8: {without} of {windows} windows alarm at p < 0.01, {with} with a spacing of 10"
    );
    assert!(without > 40 && with <= 12);
}
