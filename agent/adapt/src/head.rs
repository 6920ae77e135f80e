//! A second opinion that learns from every label at once: recursive least squares.
//!
//! Linear in the inputs, which are standardised by their own running moments, and in random Fourier features of
//! them (Rahimi and Recht 2007): a ridge regression on one-of-classes targets, exact after every label, in constant
//! memory. Its prior are rows of training that the package carries. Old labels fade, so that it follows a change.

use crate::adapt::right;
use crate::frame::Frame;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::Floats;
use std::sync::Arc;

/// Random features.
const FOURIER: usize = 64;
/// Live inputs beyond which there is no head: an update costs the square of them.
pub(crate) const MAX_INPUTS: usize = 256;
/// Rows of training that make the prior.
pub(crate) const PRIOR_ROWS: usize = 512;
/// What a label counts beside a row of training.
const LABEL_WEIGHT: f64 = 10.0;
/// What an earlier label still counts after one more.
const MEMORY: f64 = 0.999;
/// What the last row counts in the running moments.
const FADE: f64 = 1.0 / 256.0;
/// Standardised inputs beyond this say no more.
const FAR: f32 = 5.0;
/// The least running spread, of 1 in training.
const LEAST_STD: f64 = 1e-3;
/// Labels over which the recent share of errors fades, and the long one: a change is seen in some tens of labels.
const RECENT: f64 = 24.0;
const LONG: f64 = 96.0;
/// The labels that rows of training count for among those: as many as the long share is made of.
const PRIOR_ERRORS: u64 = 97;
/// Standard deviations by which errors must have risen: once in thirty thousand labels by chance.
const SURPRISED: f64 = 4.0;
/// What is left of the certainty of what was learned before a change: a twentieth.
const UNLEARN: f64 = 20.0;
/// Added to the predictive variance of a margin, so that no doubt is without bound.
const LEAST_VARIANCE: f64 = 0.01;

/// What is learned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Targets {
    /// So many classes.
    Classes(usize),
    /// A number, with its mean and spread in training.
    Value {
        /// Mean.
        mean: f64,
        /// Spread, above nought.
        std: f64,
    },
}

impl Targets {
    /// Outputs.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Classes(classes) => *classes,
            Self::Value { .. } => 1,
        }
    }
}

/// Running moments of standardised inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) mean: Vec<f64>,
    pub(crate) variance: Vec<f64>,
}

impl Running {
    fn new(live: usize) -> Self {
        Self { mean: vec![0.0; live], variance: vec![1.0; live] }
    }

    fn observe(&mut self, z: &[f32]) {
        for ((mean, variance), z) in self.mean.iter_mut().zip(&mut self.variance).zip(z) {
            if z.is_nan() {
                continue;
            }
            let off = f64::from(*z) - *mean;
            *mean += FADE * off;
            *variance = (1.0 - FADE) * (*variance + FADE * off * off);
        }
    }
}

/// The fixed part: random directions, from a seed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fourier {
    directions: Vec<f32>,
    phases: Vec<f32>,
}

impl Fourier {
    fn new(live: usize, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        #[expect(clippy::cast_precision_loss, reason = "at most 256 inputs")]
        let scale = 0.5 / (live.max(1) as f32).sqrt();
        let directions = (0..FOURIER * live).map(|_| normal(&mut random) * scale).collect();
        let phases = (0..FOURIER).map(|_| random.random::<f32>() * std::f32::consts::TAU).collect();
        Self { directions, phases }
    }
}

fn normal(random: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f32, f32) = (1.0 - random.random::<f32>(), random.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

/// What a head answers with: all that a prediction needs of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Opinion {
    fourier: Arc<Fourier>,
    running: Running,
    weights: Vec<f64>,
    targets: Targets,
}

impl Opinion {
    /// The features of a row that is standardised by the frame.
    pub(crate) fn features(&self, z: &[f32]) -> Vec<f32> {
        features(&self.fourier, &self.running, z)
    }

    /// Scores, which are near 1 for a class and near 0 for the others; or the value.
    #[must_use]
    pub(crate) fn scores(&self, frame: &Frame, row: &[f32]) -> Vec<f32> {
        let mut z = Vec::new();
        frame.standardise(row, &mut z);
        outputs(&self.weights, &self.features(&z), self.targets)
    }
}

/// The learner.
#[derive(Debug, Clone)]
pub struct Head {
    fourier: Arc<Fourier>,
    running: Running,
    /// Symmetric, row-major.
    covariance: Vec<f64>,
    /// Feature by feature, output by output.
    weights: Vec<f64>,
    targets: Targets,
    size: usize,
    labels: u64,
    errors: Errors,
}

/// How often the head was wrong before it learned: lately, and before that.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Errors {
    recent: f64,
    long: f64,
    /// Labels since the last change.
    since: u64,
}

impl Errors {
    /// Takes an answer; `true` where answers have become worse beyond chance: the truth has changed.
    fn judge(&mut self, wrong: bool) -> bool {
        let wrong = f64::from(u8::from(wrong));
        self.since += 1;
        let fade = |time: f64| (1.0 / time).max(1.0 / self.since as f64);
        self.recent += fade(RECENT) * (wrong - self.recent);
        self.long += fade(LONG) * (wrong - self.long);
        // Of a mean that fades with time t, as much varies as of 2t draws.
        let deviation = ((self.long * (1.0 - self.long)).max(0.01) / (2.0 * RECENT)).sqrt();
        let changed = self.since as f64 > LONG && self.recent - self.long > SURPRISED * deviation;
        if changed {
            *self = Self::default();
        }
        changed
    }
}

/// A head as it survives a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HeadState {
    running: Running,
    /// The lower triangle.
    covariance: Floats,
    weights: Floats,
    labels: u64,
    errors: Errors,
}

impl Head {
    /// Learns rows of training first, row-major with their targets (classes as numbers). `None` where there are
    /// too many inputs, or no rows.
    #[must_use]
    pub fn new(frame: &Frame, seed: u64, targets: Targets, rows: &[f32], truth: &[f64]) -> Option<Self> {
        let (width, live) = (frame.width(), frame.live());
        let count = (rows.len() / width.max(1)).min(truth.len());
        if live > MAX_INPUTS || count == 0 || targets.width() == 0 {
            return None;
        }
        let size = 1 + live + FOURIER;
        let mut head = Self {
            fourier: Arc::new(Fourier::new(live, seed)),
            running: Running::new(live),
            covariance: Vec::new(),
            weights: vec![0.0; size * targets.width()],
            targets,
            size,
            labels: 0,
            errors: Errors::default(),
        };
        let mut prior = Vec::new();
        let (mut gram, mut moments) = (vec![0.0; size * size], vec![0.0; size * targets.width()]);
        let mut z = Vec::new();
        let step = count.div_ceil(PRIOR_ROWS);
        for (row, truth) in rows.chunks_exact(width).zip(truth).step_by(step) {
            frame.standardise(row, &mut z);
            let phi = features(&head.fourier, &head.running, &z);
            for (a, x) in phi.iter().enumerate() {
                let x = f64::from(*x);
                for (cell, y) in gram[a * size..][..size].iter_mut().zip(&phi) {
                    *cell += x * f64::from(*y);
                }
                for (output, cell) in moments[a * targets.width()..][..targets.width()].iter_mut().enumerate()
                {
                    *cell += x * target(targets, *truth, output);
                }
            }
            prior.push((phi, *truth));
        }
        for at in 0..size {
            gram[at * size + at] += 1.0;
        }
        head.covariance = inverse(gram, size)?;
        for a in 0..size {
            for b in 0..size {
                let c = head.covariance[a * size + b];
                for output in 0..targets.width() {
                    head.weights[a * targets.width() + output] += c * moments[b * targets.width() + output];
                }
            }
        }
        let wrong =
            prior.iter().filter(|(phi, truth)| !right(targets, &head.left_out(phi, *truth, 1.0), *truth));
        let share = wrong.count() as f64 / prior.len() as f64;
        head.errors = Errors { recent: share, long: share, since: PRIOR_ERRORS };
        Some(head)
    }

    /// Labels that were learned.
    #[must_use]
    pub fn labels(&self) -> u64 {
        self.labels
    }

    /// Takes a row's inputs into the running moments: once, when it was predicted.
    pub(crate) fn observe(&mut self, z: &[f32]) {
        self.running.observe(z);
    }

    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    /// The features of a row by other running moments: those of its time.
    pub(crate) fn features_by(&self, running: &Running, z: &[f32]) -> Vec<f32> {
        features(&self.fourier, running, z)
    }

    pub(crate) fn outputs(&self, phi: &[f32]) -> Vec<f32> {
        outputs(&self.weights, phi, self.targets)
    }

    /// `φᵀPφ`: how little is known of such a row.
    pub(crate) fn leverage(&self, phi: &[f32]) -> f64 {
        let mut sum = 0.0;
        for (a, x) in phi.iter().enumerate() {
            let row = &self.covariance[a * self.size..][..self.size];
            sum += f64::from(*x) * row.iter().zip(phi).map(|(c, y)| c * f64::from(*y)).sum::<f64>();
        }
        sum.max(0.0)
    }

    /// How doubtful the answer to a row is: greater where the margin is small beside its own predictive deviation.
    pub(crate) fn doubt(&self, phi: &[f32]) -> f32 {
        let outputs = self.outputs(phi);
        let deviation = (self.leverage(phi) + LEAST_VARIANCE).sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "a margin in deviations")]
        match self.targets {
            Targets::Value { .. } => deviation as f32,
            Targets::Classes(_) => -(f64::from(margin(&outputs)) / deviation) as f32,
        }
    }

    /// What a label still weighs after so many more.
    pub(crate) fn weight(age: u64) -> f64 {
        LABEL_WEIGHT * MEMORY.powi(i32::try_from(age).unwrap_or(i32::MAX))
    }

    /// What the head would say of a row that it had not learned, with a weight.
    pub(crate) fn left_out(&self, phi: &[f32], truth: f64, weight: f64) -> Vec<f32> {
        let pull = (weight * self.leverage(phi)).min(0.999);
        let said = self.outputs(phi);
        let one = |(output, said): (usize, &f32)| {
            let target = self.unscaled(target(self.targets, truth, output));
            #[expect(clippy::cast_possible_truncation, reason = "scores are f32")]
            let left = (target - (target - f64::from(*said)) / (1.0 - pull)) as f32;
            left
        };
        said.iter().enumerate().map(one).collect()
    }

    fn unscaled(&self, target: f64) -> f64 {
        match self.targets {
            Targets::Classes(_) => target,
            Targets::Value { mean, std } => target * std + mean,
        }
    }

    /// Learns a label; `wrong`: what the head would have said of it.
    pub(crate) fn learn(&mut self, phi: &[f32], truth: f64, wrong: bool) {
        let (size, width) = (self.size, self.targets.width());
        if self.errors.judge(wrong) {
            // What was learned is of another world: as if it had been learned from fewer rows.
            self.covariance.iter_mut().for_each(|cell| *cell *= UNLEARN);
        }
        let mut gain = vec![0.0; size];
        for (a, gain) in gain.iter_mut().enumerate() {
            let row = &self.covariance[a * size..][..size];
            *gain = row.iter().zip(phi).map(|(c, y)| c * f64::from(*y)).sum();
        }
        let seen: f64 = gain.iter().zip(phi).map(|(g, x)| g * f64::from(*x)).sum();
        let scale = 1.0 / (MEMORY / LABEL_WEIGHT + seen.max(0.0));
        for output in 0..width {
            let said: f64 =
                phi.iter().enumerate().map(|(a, x)| f64::from(*x) * self.weights[a * width + output]).sum();
            let off = (target(self.targets, truth, output) - said) * scale;
            for (a, gain) in gain.iter().enumerate() {
                self.weights[a * width + output] += gain * off;
            }
        }
        // Kept symmetric: both halves are written from one product.
        for a in 0..size {
            for b in 0..=a {
                let cell = (self.covariance[a * size + b] - gain[a] * gain[b] * scale) / MEMORY;
                self.covariance[a * size + b] = cell;
                self.covariance[b * size + a] = cell;
            }
        }
        // Directions that no row shows would be forgotten without end: never beyond the prior's ridge.
        let trace: f64 = (0..size).map(|at| self.covariance[at * size + at]).sum();
        if trace > size as f64 {
            let down = size as f64 / trace;
            self.covariance.iter_mut().for_each(|cell| *cell *= down);
        }
        self.labels += 1;
    }

    /// What predictions need of it now.
    pub(crate) fn opinion(&self) -> Opinion {
        Opinion {
            fourier: Arc::clone(&self.fourier),
            running: self.running.clone(),
            weights: self.weights.clone(),
            targets: self.targets,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "kept as f32")]
    pub(crate) fn state(&self) -> HeadState {
        let rows = (0..self.size).flat_map(|a| self.covariance[a * self.size..][..=a].iter());
        HeadState {
            running: self.running.clone(),
            covariance: rows.map(|cell| *cell as f32).collect::<Vec<_>>().into(),
            weights: self.weights.iter().map(|weight| *weight as f32).collect::<Vec<_>>().into(),
            labels: self.labels,
            errors: self.errors,
        }
    }

    /// Goes on from a state; `false`, and nothing changed, where it is of another shape.
    #[must_use]
    pub(crate) fn restore(&mut self, state: &HeadState) -> bool {
        let size = self.size;
        let fits = state.covariance.len() == size * (size + 1) / 2
            && state.weights.len() == self.weights.len()
            && state.running.mean.len() == self.running.mean.len()
            && state.running.variance.len() == self.running.mean.len()
            && state.covariance.is_finite()
            && state.weights.is_finite();
        if !fits {
            return false;
        }
        let mut cells = state.covariance.iter();
        for a in 0..size {
            for b in 0..=a {
                let cell = f64::from(*cells.next().unwrap_or(&0.0));
                self.covariance[a * size + b] = cell;
                self.covariance[b * size + a] = cell;
            }
        }
        self.weights = state.weights.iter().map(|weight| f64::from(*weight)).collect();
        (self.running, self.labels, self.errors) = (state.running.clone(), state.labels, state.errors);
        true
    }
}

fn target(targets: Targets, truth: f64, output: usize) -> f64 {
    match targets {
        Targets::Classes(_) => f64::from(u8::from(truth == output as f64)),
        Targets::Value { mean, std } => (truth - mean) / std,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "scores are f32")]
fn outputs(weights: &[f64], phi: &[f32], targets: Targets) -> Vec<f32> {
    let width = targets.width();
    let mut sums = vec![0.0; width];
    for (x, row) in phi.iter().zip(weights.chunks_exact(width)) {
        sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += f64::from(*x) * weight);
    }
    match targets {
        Targets::Classes(_) => sums.into_iter().map(|sum| sum as f32).collect(),
        Targets::Value { mean, std } => sums.into_iter().map(|sum| (sum * std + mean) as f32).collect(),
    }
}

/// `[1, u, cos(Ru + c)]`; what is missing is taken to be at its mean.
fn features(fourier: &Fourier, running: &Running, z: &[f32]) -> Vec<f32> {
    let live = z.len();
    let mut phi = Vec::with_capacity(1 + live + FOURIER);
    phi.push(1.0);
    for ((z, mean), variance) in z.iter().zip(&running.mean).zip(&running.variance) {
        #[expect(clippy::cast_possible_truncation, reason = "standardised values are f32")]
        let u = ((f64::from(*z) - mean) / variance.sqrt().max(LEAST_STD)) as f32;
        phi.push(if u.is_nan() { 0.0 } else { u.clamp(-FAR, FAR) });
    }
    for (direction, phase) in fourier.directions.chunks_exact(live.max(1)).zip(&fourier.phases) {
        let along: f32 = direction.iter().zip(&phi[1..=live]).map(|(r, u)| r * u).sum();
        phi.push((along + phase).cos());
    }
    phi
}

/// By how much the greatest score leads.
pub(crate) fn margin(scores: &[f32]) -> f32 {
    let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for score in scores {
        if *score > first {
            (first, second) = (*score, first);
        } else if *score > second {
            second = *score;
        }
    }
    first - second
}

/// The inverse of a symmetric positive matrix, by its Cholesky factor; `None` of another one.
fn inverse(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    for j in 0..n {
        for k in 0..j {
            let factor = a[j * n + k];
            for i in j..n {
                a[i * n + j] -= a[i * n + k] * factor;
            }
        }
        let root = a[j * n + j];
        if root.is_nan() || root <= 0.0 {
            return None;
        }
        let root = root.sqrt();
        for i in j..n {
            a[i * n + j] /= root;
        }
    }
    // Columns of the inverse of the factor, then their products.
    let mut low = vec![0.0; n * n];
    for j in 0..n {
        low[j * n + j] = 1.0 / a[j * n + j];
        for i in j + 1..n {
            let sum: f64 = (j..i).map(|k| a[i * n + k] * low[k * n + j]).sum();
            low[i * n + j] = -sum / a[i * n + i];
        }
    }
    let mut whole = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let cell: f64 = (i..n).map(|k| low[k * n + i] * low[k * n + j]).sum();
            whole[i * n + j] = cell;
            whole[j * n + i] = cell;
        }
    }
    Some(whole)
}
