use super::*;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::f64::consts::TAU;

mod calibration;
mod power;

/// A standard normal number (Box and Muller).
fn normal(rng: &mut StdRng) -> f32 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    #[expect(clippy::cast_possible_truncation, reason = "rows are f32")]
    let value = ((-2.0 * u.ln()).sqrt() * (TAU * v).cos()) as f32;
    value
}

/// Rows of a few hidden causes and noise: inputs that move together.
#[derive(Debug, Clone)]
struct Causes {
    width: usize,
    loads: Vec<f32>,
    noise: f32,
}

impl Causes {
    fn new(rng: &mut StdRng, width: usize, causes: usize, noise: f32) -> Self {
        Self { width, loads: (0..width * causes).map(|_| normal(rng)).collect(), noise }
    }

    fn row(&self, rng: &mut StdRng) -> Vec<f32> {
        let causes: Vec<f32> = (0..self.loads.len() / self.width).map(|_| normal(rng)).collect();
        let value = |loads: &[f32], noise: f32| dot(loads, &causes) + self.noise * noise;
        match causes.len() {
            0 => (0..self.width).map(|_| self.noise * normal(rng)).collect(),
            count => self.loads.chunks_exact(count).map(|loads| value(loads, normal(rng))).collect(),
        }
    }

    fn rows(&self, rng: &mut StdRng, count: usize) -> Vec<f32> {
        (0..count).flat_map(|_| self.row(rng)).collect()
    }
}

fn fitted(rows: &[f32], width: usize, parts: Parts) -> JointBaseline {
    fit(rows, width, 7, parts).expect("rows enough that vary")
}

const ALL: Parts = Parts { residual: true, trees: true };

#[test]
fn too_little_is_refused_with_the_reason() {
    for (rows, width, refusal) in [
        (vec![], 0, Refusal::Width { width: 0 }),
        (vec![], 3, Refusal::TooFew { rows: 0 }),
        (vec![1.0; 3 * 49], 3, Refusal::TooFew { rows: 49 }),
        (vec![1.0; 300], 3, Refusal::Constant { rows: 100 }),
        (vec![f32::NAN; 300], 3, Refusal::Constant { rows: 100 }),
        (vec![f32::INFINITY; 300], 3, Refusal::Constant { rows: 100 }),
    ] {
        assert_eq!(fit(&rows, width, 1, ALL).unwrap_err(), refusal);
    }
}

#[test]
fn strange_references_and_rows_give_finite_numbers() {
    let mut rng = StdRng::seed_from_u64(1);
    let wide: Vec<f32> = (0..60 * 300).map(|_| normal(&mut rng)).collect();
    let mut gaps = wide.clone();
    gaps.iter_mut().step_by(7).for_each(|value| *value = f32::NAN);
    gaps.iter_mut().skip(3).step_by(11).for_each(|value| *value = f32::NEG_INFINITY);
    let twins: Vec<f32> = (0..200).flat_map(|_| [normal(&mut rng); 4]).collect();
    let bits: Vec<f32> = (0..800).map(|_| f32::from(u8::from(rng.random_bool(0.3)))).collect();
    let huge: Vec<f32> = (0..400).map(|_| normal(&mut rng).signum() * f32::MAX).collect();
    let one: Vec<f32> = (0..400).map(|row| f32::from(u8::from(row == 9))).collect();
    let cases = [(wide, 300), (gaps, 300), (twins, 4), (bits, 4), (huge, 2), (one.clone(), 1), (one, 4)];
    for (index, (rows, width)) in cases.into_iter().enumerate() {
        let baseline = fitted(&rows, width, ALL);
        assert!(baseline.is_sound(), "case {index}");
        let mut joint = Joint::new(&baseline).unwrap();
        let mut state = JointState::new(&baseline);
        let strange = [f32::NAN, f32::INFINITY, f32::MAX, f32::MIN, 0.0, f32::MIN_POSITIVE, 1e9];
        for value in strange {
            for length in [0, 1, width, width + 3] {
                let seen = joint.observe(&mut state, &vec![value; length]);
                let values = [Some(seen.distance), seen.residual, seen.trees];
                assert!(values.iter().flatten().all(|rank| rank.value.is_finite()), "case {index}: {seen:?}");
                assert!(seen.p > 0.0 && seen.p <= 1.0, "case {index}: {seen:?}");
            }
        }
        let numbers = [state.moved(), state.distance_blame(&joint), state.residual_blame(&joint)].concat();
        assert!(numbers.iter().all(|value| value.is_finite()), "case {index}");
    }
}

#[test]
fn the_same_rows_and_seed_give_the_same_bytes() {
    let mut rng = StdRng::seed_from_u64(2);
    let rows = Causes::new(&mut rng, 40, 5, 1.0).rows(&mut rng, 200);
    let bytes = |seed| shoal_proto::wire::to_cbor(&fit(&rows, 40, seed, ALL).unwrap());
    assert_eq!(bytes(3), bytes(3));
    assert_ne!(bytes(3), bytes(4));
    let read: JointBaseline = shoal_proto::wire::from_cbor(&bytes(3)).unwrap();
    assert_eq!(read, fit(&rows, 40, 3, ALL).unwrap());
}

#[test]
fn counts_add_up_however_the_rows_are_split_and_a_state_read_back_goes_on_as_before() {
    let mut rng = StdRng::seed_from_u64(3);
    let world = Causes::new(&mut rng, 12, 3, 0.5);
    let baseline = fitted(&world.rows(&mut rng, 400), 12, ALL);
    let mut joint = Joint::new(&baseline).unwrap();
    let rows: Vec<Vec<f32>> =
        (0..900).map(|_| world.row(&mut rng).iter().map(|x| x * 1.3).collect()).collect();
    let mut whole = JointState::new(&baseline);
    rows.iter().for_each(|row| {
        joint.observe(&mut whole, row);
    });
    let mut parts = vec![JointState::new(&baseline); 5];
    for row in &rows {
        let part = rng.random_range(0..5);
        joint.observe(&mut parts[part], row);
        let bytes = shoal_proto::wire::to_cbor(&parts[part]);
        parts[part] = shoal_proto::wire::from_cbor(&bytes).unwrap();
    }
    let mut merged = JointState::new(&baseline);
    assert!(parts.iter().rev().all(|part| merged.merge(part)));
    assert_eq!(merged, whole);
    assert!(whole.outliers().1 > 0 && whole.fits(&baseline));
    for counts in [whole.distance(), whole.residual(), whole.trees()] {
        assert_eq!(counts.iter().sum::<u64>(), 900);
    }
    let other = fitted(&world.rows(&mut rng, 60), 6, ALL);
    assert!(!merged.merge(&JointState::new(&other)) && !merged.fits(&other));
    assert_eq!(merged, whole);
    merged.reset();
    assert_eq!(merged, JointState::new(&baseline));
}

#[test]
fn shares_of_a_distance_add_up_to_it() {
    let mut rng = StdRng::seed_from_u64(4);
    for width in [3, 32, 33, 100] {
        let world = Causes::new(&mut rng, width, 2, 1.0);
        let baseline = fitted(&world.rows(&mut rng, 500), width, ALL);
        let mut joint = Joint::new(&baseline).unwrap();
        let row: Vec<f32> = world.row(&mut rng).iter().map(|x| 2.0 * x).collect();
        let seen = joint.look(&row);
        let sum = joint.distance_shares().iter().map(|share| f64::from(*share)).sum::<f64>();
        assert!((sum / seen.distance.value - 1.0).abs() < 1e-3, "{width}: {sum} {seen:?}");
        let left = joint.residual_shares().iter().map(|share| f64::from(*share)).sum::<f64>();
        let value = seen.residual.unwrap().value;
        assert!((left / value - 1.0).abs() < 1e-3, "{width}: {left} {value}");
    }
}

#[test]
fn an_unsound_baseline_is_refused() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut baseline = fitted(&Causes::new(&mut rng, 5, 0, 1.0).rows(&mut rng, 100), 5, ALL);
    baseline.distance.usual.0.pop();
    assert_eq!(Joint::new(&baseline).unwrap_err(), Unsound);
}
