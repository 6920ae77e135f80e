//! Inputs that have moved are brought back, without labels.
//!
//! The last rows are held against the moments of training, class by class. How often each class comes is found by
//! expectation and maximisation with the model's own answers, so that rows of the expected mix are what the moments
//! are brought to; and where some mix of the classes that training knew explains the rows as they are, nothing is
//! moved at all: a mere change of the mix is no drift of the inputs. What is left is a gain and an offset a feature,
//! both bounded, as strong as the evidence (James and Stein 1961).

use crate::frame::{FAR, Frame};
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::Floats;
use std::collections::VecDeque;

/// Rows that are remembered.
const RING: usize = 256;
/// Rows between two looks.
const STEP: usize = 16;
/// Rows below which moments say nothing.
const MIN_ROWS: usize = 16;
/// The newest rows, held against those before to see whether something has just changed.
const NEWEST: usize = 32;
/// Rows below which that is not asked.
const MIN_BOTH: usize = 64;
/// The statistic of it from which on older rows are forgotten; about 1 with no change, twice and thrice that where
/// rows of a class come in clumps.
const CHANGED: f64 = 8.0;
/// Rounds in which the mix of classes is found: from training's, and from the one that was found last.
const ROUNDS: (usize, usize) = (10, 4);
/// Rows between two looks once there are many to look at.
const LATER_STEP: usize = 32;
/// Rows that the model answers in each round: the mix of four classes is known to five points by so many.
const ASKED: usize = 64;
/// What rows of training count among those of the ring: as so many rows.
const PRIOR_ROWS: f64 = 20.0;
/// What the mix of training counts for in the mix.
const PRIOR_MIX: f64 = 0.2;
/// Keeps a feature that stands still from being blown up.
const LEAST_STD: f64 = 0.05;
/// Most gain, and its inverse.
const MAX_GAIN: f64 = 4.0;
/// What sampling adds to the distance of moments (mean and logarithm of the spread), of one row.
const NOISE: f64 = 1.5;
/// What is too little to matter: 0.14 standard deviations, root mean square.
const TOLERATED: f64 = 0.02;
/// Times the noise at which half of a movement is believed.
const DOUBT: f64 = 3.0;
/// Steps of the projected gradient that looks for the mix that explains the rows.
const DESCENT: usize = 100;

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settled {
    /// How much of the movement is taken back, 0 to 1.
    pub strength: f64,
    /// How far the rows are from what any mix of classes explains, in squared standard deviations a feature.
    pub distance: f64,
    /// Whether older rows were forgotten, since something has just changed.
    pub changed: bool,
}

/// Brings inputs back; serialised, it goes on as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    ring: VecDeque<Floats>,
    since: usize,
    map: Map,
    /// The mix of classes that was found last.
    mix: Vec<f64>,
}

/// What is done to a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Map {
    gain: Floats,
    offset: Floats,
    strength: f64,
}

impl Map {
    /// Gain and offset of each live feature, in standardised units.
    #[must_use]
    pub fn parts(&self) -> (&[f32], &[f32]) {
        (&self.gain, &self.offset)
    }

    /// How much of the movement is taken back, 0 to 1; at 0 rows stay as they are to the bit.
    #[must_use]
    pub fn strength(&self) -> f64 {
        self.strength
    }

    /// Moves a row's features, in place.
    pub fn apply(&self, frame: &Frame, row: &mut [f32]) {
        if self.strength > 0.0 {
            frame.moved(row, |at, z| self.gain[at].mul_add(z, self.offset[at]).clamp(-FAR, FAR));
        }
    }
}

impl Adapter {
    /// Moves nothing yet.
    #[must_use]
    pub fn new(frame: &Frame) -> Self {
        Self {
            ring: VecDeque::with_capacity(RING),
            since: 0,
            map: Map {
                gain: vec![1.0; frame.live()].into(),
                offset: vec![0.0; frame.live()].into(),
                strength: 0.0,
            },
            mix: frame.shares.clone(),
        }
    }

    /// Whether this state is of such a frame.
    #[must_use]
    pub fn fits(&self, frame: &Frame) -> bool {
        self.map.gain.len() == frame.live()
            && self.map.offset.len() == frame.live()
            && self.mix.len() == frame.classes()
            && self.ring.iter().all(|row| row.len() == frame.live())
    }

    /// What is done to rows now.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The share of each class that was found last.
    #[must_use]
    pub fn mix(&self) -> &[f64] {
        &self.mix
    }

    /// Remembers a row as it came, standardised; `true` when it is time to [`settle`](Self::settle).
    pub(crate) fn push(&mut self, row: &[f32]) -> bool {
        let mut z =
            if self.ring.len() == RING { self.ring.pop_front().unwrap_or_default().0 } else { Vec::new() };
        z.clear();
        z.extend_from_slice(row);
        self.ring.push_back(Floats(z));
        self.since += 1;
        let step = if self.ring.len() < RING / 2 { STEP } else { LATER_STEP };
        self.since >= step && self.ring.len() >= MIN_ROWS
    }

    /// Looks at the rows anew. `answer` gives the classes' probabilities of standardised rows, row-major; it is not
    /// asked where there is one class.
    ///
    /// # Errors
    /// What `answer` fails with; then all stays as it was.
    pub fn settle<E>(
        &mut self,
        frame: &Frame,
        mut answer: impl FnMut(&[Vec<f32>]) -> Result<Vec<f32>, E>,
    ) -> Result<Settled, E> {
        self.since = 0;
        let changed = self.forget(frame);
        let moments = Moments::of(self.ring.iter().map(|row| &row[..]), frame.live());
        let n = moments.rows;
        let weight = n / (n + PRIOR_ROWS);
        let step = self.ring.len().div_ceil(ASKED);
        let some: Vec<&Floats> = self.ring.iter().step_by(step).collect();
        let is_known = !changed && self.map.strength > 0.0;
        let mut mix = if is_known { self.mix.clone() } else { frame.shares.clone() };
        let mut bridge = Bridge::new(frame, &mix, &moments, weight);
        let rounds = match mix.len() {
            1 => 0,
            _ if is_known => ROUNDS.1,
            _ => ROUNDS.0,
        };
        for _ in 0..rounds {
            let rows: Vec<Vec<f32>> = some.iter().map(|row| bridge.full(row)).collect();
            let answers = answer(&rows)?;
            let said = mean_answer(&answers, mix.len());
            for ((share, said), prior) in mix.iter_mut().zip(&said).zip(&frame.shares) {
                *share = 0.5 * *share + 0.5 * ((1.0 - PRIOR_MIX) * said + PRIOR_MIX * prior);
            }
            bridge = Bridge::new(frame, &mix, &moments, weight);
        }
        let distance = unexplained(frame, &moments);
        let noise = NOISE * frame.spacing / n.max(1.0) + TOLERATED;
        let strength = (1.0 - DOUBT * noise / distance).clamp(0.0, 1.0);
        let (gain, offset) = bridge.map(strength);
        (self.map, self.mix) = (Map { gain, offset, strength }, mix);
        Ok(Settled { strength, distance, changed })
    }

    /// Forgets what came before the newest rows, where these are of another world.
    fn forget(&mut self, frame: &Frame) -> bool {
        if self.ring.len() < MIN_BOTH {
            return false;
        }
        let older = self.ring.len() - NEWEST;
        let rows = || self.ring.iter().map(|row| &row[..]);
        let old = Moments::of(rows().take(older), frame.live());
        let new = Moments::of(rows().skip(older), frame.live());
        let scale = 1.0 / old.rows + 1.0 / new.rows;
        let mut statistic = 0.0;
        for at in 0..frame.live() {
            let pooled = (old.rows * old.variance[at] + new.rows * new.variance[at]) / (old.rows + new.rows);
            statistic += (old.mean[at] - new.mean[at]).powi(2) / ((pooled + 1e-3) * scale);
        }
        let changed = statistic / frame.live() as f64 / frame.spacing > CHANGED;
        if changed {
            self.ring.drain(..older);
        }
        changed
    }
}

/// Mean and variance of each live feature; what is missing is left out.
#[derive(Debug)]
struct Moments {
    rows: f64,
    mean: Vec<f64>,
    variance: Vec<f64>,
}

impl Moments {
    fn of<'a>(rows: impl Iterator<Item = &'a [f32]>, live: usize) -> Self {
        let (mut count, mut n) = (0.0, vec![0.0; live]);
        let (mut mean, mut variance) = (vec![0.0; live], vec![0.0; live]);
        for row in rows {
            count += 1.0;
            for (at, z) in row.iter().enumerate().filter(|(_, z)| !z.is_nan()) {
                let z = f64::from(*z);
                n[at] += 1.0;
                mean[at] += z;
                variance[at] += z * z;
            }
        }
        for at in 0..live {
            if n[at] > 0.0 {
                mean[at] /= n[at];
                variance[at] = (variance[at] / n[at] - mean[at] * mean[at]).max(0.0);
            } else {
                variance[at] = 1.0;
            }
        }
        Self { rows: count, mean, variance }
    }
}

/// From where the rows are to where a mix of classes lay in training.
#[derive(Debug)]
struct Bridge {
    from: Vec<(f64, f64)>,
    to: Vec<(f64, f64)>,
}

impl Bridge {
    fn new(frame: &Frame, mix: &[f64], moments: &Moments, weight: f64) -> Self {
        let to: Vec<(f64, f64)> = (0..frame.live()).map(|at| mixture(frame, mix, at)).collect();
        let from = to.iter().enumerate().map(|(at, (mean, std))| {
            let mixed = |own: f64, theirs: f64| weight * own + (1.0 - weight) * theirs;
            let variance = mixed(moments.variance[at], std * std);
            (mixed(moments.mean[at], *mean), variance.sqrt() + LEAST_STD)
        });
        Self { from: from.collect(), to }
    }

    /// A row moved all the way.
    #[expect(clippy::cast_possible_truncation, reason = "standardised values are f32")]
    fn full(&self, row: &[f32]) -> Vec<f32> {
        let places = self.from.iter().zip(&self.to);
        let moved = row.iter().zip(places).map(|(z, ((m, s), (tm, ts)))| (f64::from(*z) - m) / s * ts + tm);
        moved.map(|z| z as f32).collect()
    }

    /// Gain and offset, as strong as is said: the gain as a power, so that half of a factor is its root.
    #[expect(clippy::cast_possible_truncation, reason = "standardised values are f32")]
    fn map(&self, strength: f64) -> (Floats, Floats) {
        let one = |((m, s), (tm, ts)): (&(f64, f64), &(f64, f64))| {
            let gain = (ts / s).clamp(1.0 / MAX_GAIN, MAX_GAIN);
            (gain.powf(strength) as f32, (strength * (tm - m * gain)) as f32)
        };
        let (gain, offset): (Vec<f32>, Vec<f32>) = self.from.iter().zip(&self.to).map(one).unzip();
        (gain.into(), offset.into())
    }
}

/// Mean and standard deviation of a feature under a mix of classes.
fn mixture(frame: &Frame, mix: &[f64], at: usize) -> (f64, f64) {
    let mean: f64 = mix.iter().zip(&frame.means).map(|(share, of)| share * of[at]).sum();
    let second: f64 = mix
        .iter()
        .zip(frame.means.iter().zip(&frame.variances))
        .map(|(share, (mean, variance))| share * (variance[at] + mean[at] * mean[at]))
        .sum();
    (mean, (second - mean * mean).max(0.0).sqrt())
}

/// The average of rows of probabilities; evenly where none is a number.
fn mean_answer(answers: &[f32], classes: usize) -> Vec<f64> {
    let mut sums = vec![0.0; classes];
    let mut rows = 0.0;
    for answer in answers.chunks_exact(classes) {
        if answer.iter().all(|share| share.is_finite()) {
            rows += 1.0;
            sums.iter_mut().zip(answer).for_each(|(sum, share)| *sum += f64::from(*share));
        }
    }
    if rows == 0.0 {
        return vec![1.0 / classes as f64; classes];
    }
    sums.iter().map(|sum| sum / rows).collect()
}

/// How far the rows lie from what the best mix of classes explains: of means and of logarithms of spreads, squared,
/// a feature.
fn unexplained(frame: &Frame, moments: &Moments) -> f64 {
    let mix = explaining_mix(frame, moments);
    let mut sum = 0.0;
    for at in 0..frame.live() {
        let (mean, std) = mixture(frame, &mix, at);
        let std = std + LEAST_STD;
        let own = moments.variance[at].sqrt() + LEAST_STD;
        sum += ((moments.mean[at] - mean) / std).powi(2) + (own / std).ln().powi(2);
    }
    (sum / frame.live() as f64).max(f64::MIN_POSITIVE)
}

/// The mix whose means are nearest to the rows': least squares on the simplex by projected gradient.
fn explaining_mix(frame: &Frame, moments: &Moments) -> Vec<f64> {
    let classes = frame.classes();
    let mut mix = frame.shares.clone();
    if classes == 1 {
        return mix;
    }
    let weights: Vec<f64> = (0..frame.live())
        .map(|at| {
            let within = frame.shares.iter().zip(&frame.variances).map(|(share, of)| share * of[at]);
            1.0 / (within.sum::<f64>() + 0.05)
        })
        .collect();
    let dot =
        |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).zip(&weights).map(|((a, b), w)| a * b * w).sum() };
    let square: Vec<Vec<f64>> =
        frame.means.iter().map(|a| frame.means.iter().map(|b| dot(a, b)).collect()).collect();
    let line: Vec<f64> = frame.means.iter().map(|a| dot(a, &moments.mean)).collect();
    // The trace is no less than the greatest eigenvalue.
    let rate = 1.0 / square.iter().enumerate().map(|(at, row)| row[at]).sum::<f64>().max(f64::MIN_POSITIVE);
    for _ in 0..DESCENT {
        let gradient: Vec<f64> = square
            .iter()
            .zip(&line)
            .map(|(row, line)| row.iter().zip(&mix).map(|(a, b)| a * b).sum::<f64>() - line)
            .collect();
        mix.iter_mut().zip(gradient).for_each(|(share, slope)| *share -= rate * slope);
        onto_simplex(&mut mix);
    }
    mix
}

/// The nearest point whose parts are not below nought and sum to one (Duchi et al. 2008).
fn onto_simplex(values: &mut [f64]) {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut shift) = (0.0, 0.0);
    for (at, value) in sorted.iter().enumerate() {
        sum += value;
        let candidate = (sum - 1.0) / (at + 1) as f64;
        if value - candidate > 0.0 {
            shift = candidate;
        }
    }
    values.iter_mut().for_each(|value| *value = (*value - shift).max(0.0));
}
