//! Support vector machines.

use crate::array::{Array, Data, Kind, View};
use crate::kernel::{Extent, OutputShape, RunError};
use crate::labels::Labels;
use crate::linear::dot;
use crate::number::narrow;
use crate::post::{PostTransform, Second, logistic};
use crate::settings::{Settings, SettingsError};

/// Most classes: there is a score for each pair.
const MAX_CLASSES: usize = 1 << 8;
/// Rounds of the coupling of pairwise probabilities, as libsvm bounds them.
const MAX_ROUNDS: usize = 100;
/// Pairwise probabilities keep this far from zero and one.
const MARGIN: f32 = 1e-7;

#[derive(Debug, Clone, Copy)]
enum Shape {
    Linear,
    Poly,
    Rbf,
    Sigmoid,
}

/// How near two points are.
#[derive(Debug, Clone, Copy)]
struct Nearness {
    shape: Shape,
    gamma: f32,
    coef0: f32,
    degree: f32,
}

impl Nearness {
    fn parse(settings: &Settings, is_linear: bool) -> Result<Self, SettingsError> {
        let shape = match settings.text("kernel_type", "LINEAR")? {
            _ if is_linear => Shape::Linear,
            "LINEAR" => Shape::Linear,
            "POLY" => Shape::Poly,
            "RBF" => Shape::Rbf,
            "SIGMOID" => Shape::Sigmoid,
            _ => return Err(SettingsError::value("kernel_type", "it is not known")),
        };
        let (gamma, coef0, degree) = match settings.floats("kernel_params")? {
            [] => (0.0, 0.0, 0.0),
            [gamma, coef0, degree] => (*gamma, *coef0, *degree),
            other => {
                return Err(SettingsError::Length { name: "kernel_params", expected: 3, got: other.len() });
            }
        };
        Ok(Self { shape, gamma, coef0, degree })
    }

    fn of(self, a: &[f32], b: &[f32]) -> f32 {
        match self.shape {
            Shape::Linear => dot(a, b),
            Shape::Poly => (self.gamma * dot(a, b) + self.coef0).powf(self.degree),
            Shape::Sigmoid => (self.gamma * dot(a, b) + self.coef0).tanh(),
            Shape::Rbf => {
                let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
                let distance: f64 = a.iter().zip(b).map(square).sum();
                narrow((-f64::from(self.gamma) * distance).exp())
            }
        }
    }
}

/// A machine that gives a number.
#[derive(Debug, Clone)]
pub(crate) struct SvmRegressor {
    nearness: Nearness,
    /// Row-major, vectors × features; empty for a linear machine.
    vectors: Vec<f32>,
    coefficients: Vec<f32>,
    features: usize,
    rho: f32,
    gives_side: bool,
}

impl SvmRegressor {
    pub(crate) fn parse(settings: &Settings) -> Result<Self, SettingsError> {
        let coefficients = settings.floats("coefficients")?.to_vec();
        let rho = *settings.floats("rho")?.first().ok_or(SettingsError::Missing { name: "rho" })?;
        let given = settings.int("n_supports", 0)?;
        let count = usize::try_from(given)
            .ok()
            .ok_or_else(|| SettingsError::value("n_supports", format!("{given} is no count")))?;
        let vectors = settings.floats("support_vectors")?.to_vec();
        let features = if count == 0 { coefficients.len() } else { features(&vectors, count)? };
        if coefficients.is_empty() || (count > 0 && coefficients.len() != count) {
            let (expected, got) = (count, coefficients.len());
            return Err(SettingsError::Length { name: "coefficients", expected, got });
        }
        let nearness = Nearness::parse(settings, count == 0)?;
        let gives_side = settings.int("one_class", 0)? != 0;
        Ok(Self { nearness, vectors, coefficients, features, rho, gives_side })
    }

    pub(crate) fn outputs() -> Vec<OutputShape> {
        vec![OutputShape { kind: Kind::F32, extents: vec![Extent::Rows, Extent::Known(1)] }]
    }

    pub(crate) fn run(&self, x: &View<'_>) -> Result<Vec<Array>, RunError> {
        let (rows, width) = x.table();
        if width != self.features {
            return Err(RunError::Features { expected: self.features, got: width });
        }
        let features = x.data.f32s().ok_or(RunError::NotNumbers)?;
        let mut made = Vec::with_capacity(rows);
        for row in features.chunks_exact(width) {
            let sum = if self.vectors.is_empty() {
                f64::from(dot(&self.coefficients, row))
            } else {
                let both = self.vectors.chunks_exact(width).zip(&self.coefficients);
                both.map(|(v, c)| f64::from(self.nearness.of(row, v)) * f64::from(*c)).sum()
            };
            let value = narrow(sum + f64::from(self.rho));
            made.push(match self.gives_side {
                true if value > 0.0 => 1.0,
                true => -1.0,
                false => value,
            });
        }
        Ok(vec![Array { shape: vec![rows, 1], data: Data::F32(made) }])
    }
}

fn features(vectors: &[f32], count: usize) -> Result<usize, SettingsError> {
    if vectors.is_empty() || !vectors.len().is_multiple_of(count) {
        let (expected, got) = (count, vectors.len());
        return Err(SettingsError::Length { name: "support_vectors", expected, got });
    }
    Ok(vectors.len() / count)
}

/// A machine that gives a label.
#[derive(Debug, Clone)]
pub(crate) struct SvmClassifier {
    nearness: Nearness,
    labels: Labels,
    /// First vector of each class and one past the last; empty for a linear machine.
    starts: Vec<usize>,
    vectors: Vec<f32>,
    /// Row-major: (classes - 1) × vectors, or classes × features for a linear machine.
    coefficients: Vec<f32>,
    features: usize,
    rho: Vec<f32>,
    /// Platt's scaling for each pair; empty without probabilities.
    platt: Vec<(f32, f32)>,
    is_positive: bool,
    post: PostTransform,
}

impl SvmClassifier {
    pub(crate) fn parse(settings: &Settings) -> Result<Self, SettingsError> {
        let labels = Labels::parse(settings, "classlabels_strings", "classlabels_ints")?;
        let classes = labels.len();
        if classes > MAX_CLASSES {
            return Err(SettingsError::value("classlabels_ints", format!("more than {MAX_CLASSES} classes")));
        }
        let coefficients = settings.floats("coefficients")?.to_vec();
        let rho = settings.floats("rho")?.to_vec();
        let mut starts = vec![0usize];
        for count in settings.ints("vectors_per_class")? {
            let wrong = || SettingsError::value("vectors_per_class", format!("{count} is no count"));
            let count = usize::try_from(*count).ok().filter(|c| *c < 1 << 32).ok_or_else(wrong)?;
            starts.push(starts.last().copied().unwrap_or(0) + count);
        }
        let count = starts.last().copied().unwrap_or(0);
        let vectors = settings.floats("support_vectors")?.to_vec();
        let pairs = classes * (classes - 1) / 2;
        let (a, b) = (settings.floats("prob_a")?, settings.floats("prob_b")?);
        let fails = |name, expected, got| Err(SettingsError::Length { name, expected, got });
        let is_linear = count == 0;
        let features = if is_linear {
            if coefficients.is_empty() || !coefficients.len().is_multiple_of(classes) {
                return fails("coefficients", classes, coefficients.len());
            }
            starts.clear();
            coefficients.len() / classes
        } else {
            if starts.len() != classes + 1 {
                return fails("vectors_per_class", classes, starts.len() - 1);
            }
            if classes < 2 || coefficients.len() != (classes - 1) * count {
                return fails("coefficients", (classes - 1) * count, coefficients.len());
            }
            features(&vectors, count)?
        };
        let wanted = if is_linear { 1 } else { pairs };
        if rho.len() < wanted {
            return fails("rho", wanted, rho.len());
        }
        if a.len() != b.len() || (!is_linear && !a.is_empty() && a.len() < pairs) {
            return fails("prob_a", pairs, a.len());
        }
        let is_positive = coefficients.iter().all(|value| *value >= 0.0);
        Ok(Self {
            nearness: Nearness::parse(settings, is_linear)?,
            labels,
            starts,
            vectors,
            coefficients,
            features,
            rho,
            platt: a.iter().copied().zip(b.iter().copied()).collect(),
            is_positive,
            post: PostTransform::named(settings.text("post_transform", "NONE")?)?,
        })
    }

    fn gives_pairs(&self) -> bool {
        !self.starts.is_empty() && self.platt.is_empty()
    }

    fn width(&self) -> usize {
        let classes = self.labels.len();
        if self.gives_pairs() && classes > 2 { classes * (classes - 1) / 2 } else { classes }
    }

    pub(crate) fn outputs(&self) -> Vec<OutputShape> {
        let extents = vec![Extent::Rows, Extent::Known(self.width())];
        vec![
            OutputShape { kind: self.labels.kind(), extents: vec![Extent::Rows] },
            OutputShape { kind: Kind::F32, extents },
        ]
    }

    pub(crate) fn run(&self, x: &View<'_>) -> Result<Vec<Array>, RunError> {
        let (rows, width) = x.table();
        if width != self.features {
            return Err(RunError::Features { expected: self.features, got: width });
        }
        let features = x.data.f32s().ok_or(RunError::NotNumbers)?;
        let mut scores = Vec::with_capacity(rows * self.width());
        let mut winners = Vec::with_capacity(rows);
        for row in features.chunks_exact(width) {
            let (winner, mut own) =
                if self.starts.is_empty() { self.linear_row(row) } else { self.vector_row(row) };
            winners.push(winner);
            if self.gives_pairs() && self.labels.len() == 2 {
                let second =
                    if self.post == PostTransform::None { Second::Mirror } else { Second::Complement };
                let second = if self.post == PostTransform::Logistic { Second::Mirror } else { second };
                own = self.post.pair(own[0], second).to_vec();
            } else {
                self.post.apply(&mut own);
            }
            scores.extend(own);
        }
        let scores = Array { shape: vec![rows, self.width()], data: Data::F32(scores) };
        Ok(vec![Array { shape: vec![rows], data: self.labels.pick(&winners) }, scores])
    }

    fn linear_row(&self, row: &[f32]) -> (usize, Vec<f32>) {
        let weights = self.coefficients.chunks_exact(self.features);
        let scores: Vec<f32> = weights.map(|weights| dot(weights, row) + self.rho[0]).collect();
        let best = first_best(&scores);
        let most = scores[best];
        let is_second = self.labels.len() == 2
            && self.platt.is_empty()
            && if self.is_positive { most >= 0.5 } else { most > 0.0 };
        (if is_second { 1 } else { best }, scores)
    }

    /// Scores of all pairs of classes, each of which votes for one of its two.
    fn vector_row(&self, row: &[f32]) -> (usize, Vec<f32>) {
        let near: Vec<f32> =
            self.vectors.chunks_exact(self.features).map(|vector| self.nearness.of(row, vector)).collect();
        let (classes, count) = (self.labels.len(), near.len());
        let mut votes = vec![0usize; classes];
        let mut scores = Vec::new();
        for first in 0..classes - 1 {
            for second in first + 1..classes {
                let part = |class: usize, line: usize| -> f64 {
                    let own = self.starts[class]..self.starts[class + 1];
                    let weights = &self.coefficients[line * count..(line + 1) * count][own.clone()];
                    weights.iter().zip(&near[own]).map(|(w, n)| f64::from(*w) * f64::from(*n)).sum()
                };
                let sum = part(first, second - 1) + part(second, first) + f64::from(self.rho[scores.len()]);
                votes[if sum > 0.0 { first } else { second }] += 1;
                scores.push(narrow(sum));
            }
        }
        let most = votes.iter().max().copied().unwrap_or(0);
        let winner = votes.iter().position(|votes| *votes == most).unwrap_or(0);
        if self.platt.is_empty() {
            return (winner, scores);
        }
        (winner, couple(classes, &self.pairwise(&scores)))
    }

    /// The probability of each class against each other, row-major.
    fn pairwise(&self, scores: &[f32]) -> Vec<f32> {
        let classes = self.labels.len();
        let mut pairwise = vec![0.0f32; classes * classes];
        let mut at = 0;
        for first in 0..classes - 1 {
            for second in first + 1..classes {
                let (a, b) = self.platt[at];
                let one = (1.0 - logistic(scores[at] * a + b)).clamp(MARGIN, 1.0 - MARGIN);
                pairwise[first * classes + second] = one;
                pairwise[second * classes + first] = 1.0 - one;
                at += 1;
            }
        }
        pairwise
    }
}

fn first_best(scores: &[f32]) -> usize {
    let mut best = 0;
    for (place, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = place;
        }
    }
    best
}

/// Class probabilities from pairwise ones: the second method of Wu, Lin and Weng (2004), as libsvm
/// uses it; minimises the sum over pairs of (r[j,i] p[i] - r[i,j] p[j])².
fn couple(classes: usize, pairwise: &[f32]) -> Vec<f32> {
    let r = |a: usize, b: usize| f64::from(pairwise[a * classes + b]);
    let mut q = vec![0.0f64; classes * classes];
    for a in 0..classes {
        for b in (0..classes).filter(|b| *b != a) {
            q[a * classes + a] += r(b, a) * r(b, a);
            q[a * classes + b] = -r(b, a) * r(a, b);
        }
    }
    let mut p = vec![1.0 / classes as f64; classes];
    let enough = 0.005 / classes as f64;
    for _ in 0..MAX_ROUNDS {
        let line = |a: usize, p: &[f64]| (0..classes).map(|b| q[a * classes + b] * p[b]).sum::<f64>();
        let mut qp: Vec<f64> = (0..classes).map(|a| line(a, &p)).collect();
        let mut pqp: f64 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        if qp.iter().all(|qp| (qp - pqp).abs() < enough) {
            break;
        }
        for a in 0..classes {
            let own = q[a * classes + a];
            let step = (pqp - qp[a]) / own;
            p[a] += step;
            let grown = 1.0 + step;
            pqp = (pqp + step * (step * own + 2.0 * qp[a])) / (grown * grown);
            for b in 0..classes {
                qp[b] = (qp[b] + step * q[a * classes + b]) / grown;
                p[b] /= grown;
            }
        }
    }
    p.into_iter().map(narrow).collect()
}
