//! Linear classifiers and regressors.

use crate::array::{Array, Data, Kind, View};
use crate::kernel::{Extent, OutputShape, RunError};
use crate::labels::Labels;
use crate::number::narrow;
use crate::post::{PostTransform, Second};
use crate::settings::{Settings, SettingsError};

/// Most outputs of a linear model: each row gives this many numbers.
const MAX_TARGETS: usize = 1 << 16;

/// `y = W x + b`, with a label on top for a classifier.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// Row-major, targets × features.
    weights: Vec<f32>,
    bias: Vec<f32>,
    features: usize,
    post: PostTransform,
    labels: Option<Labels>,
}

impl Linear {
    pub(crate) fn classifier(settings: &Settings) -> Result<Self, SettingsError> {
        let labels = Labels::parse(settings, "classlabels_strings", "classlabels_ints")?;
        let bias = settings.floats("intercepts")?.to_vec();
        // Without intercepts onnxruntime computes nothing at all; the labels say how many there are.
        let bias = if bias.is_empty() { vec![0.0; labels.len()] } else { bias };
        let fits = bias.len() == labels.len() || (bias.len() == 1 && labels.len() <= 2);
        if !fits {
            let (expected, got) = (labels.len(), bias.len());
            return Err(SettingsError::Length { name: "intercepts", expected, got });
        }
        Self::of(settings, bias, Some(labels))
    }

    pub(crate) fn regressor(settings: &Settings) -> Result<Self, SettingsError> {
        let given = settings.int("targets", 1)?;
        let wrong = || SettingsError::value("targets", format!("{given}, expected 1 to {MAX_TARGETS}"));
        let targets =
            usize::try_from(given).ok().filter(|n| (1..=MAX_TARGETS).contains(n)).ok_or_else(wrong)?;
        let bias = settings.floats("intercepts")?;
        let bias = match bias {
            [] => vec![0.0; targets],
            bias if bias.len() == targets => bias.to_vec(),
            bias => {
                let (expected, got) = (targets, bias.len());
                return Err(SettingsError::Length { name: "intercepts", expected, got });
            }
        };
        Self::of(settings, bias, None)
    }

    fn of(settings: &Settings, bias: Vec<f32>, labels: Option<Labels>) -> Result<Self, SettingsError> {
        let weights = settings.floats("coefficients")?.to_vec();
        if weights.is_empty() || !weights.len().is_multiple_of(bias.len()) {
            let (expected, got) = (bias.len(), weights.len());
            return Err(SettingsError::Length { name: "coefficients", expected, got });
        }
        let features = weights.len() / bias.len();
        let post = PostTransform::named(settings.text("post_transform", "NONE")?)?;
        Ok(Self { weights, bias, features, post, labels })
    }

    fn is_pair(&self) -> bool {
        self.bias.len() == 1 && self.labels.as_ref().is_some_and(|labels| labels.len() == 2)
    }

    pub(crate) fn outputs(&self) -> Vec<OutputShape> {
        let width = if self.is_pair() { 2 } else { self.bias.len() };
        let scores = OutputShape { kind: Kind::F32, extents: vec![Extent::Rows, Extent::Known(width)] };
        match &self.labels {
            None => vec![scores],
            Some(labels) => vec![OutputShape { kind: labels.kind(), extents: vec![Extent::Rows] }, scores],
        }
    }

    pub(crate) fn run(&self, x: &View<'_>) -> Result<Vec<Array>, RunError> {
        let (rows, width) = x.table();
        if width != self.features {
            return Err(RunError::Features { expected: self.features, got: width });
        }
        let features = x.data.f32s().ok_or(RunError::NotNumbers)?;
        let targets = self.bias.len();
        let out = if self.is_pair() { 2 } else { targets };
        let mut scores = Vec::with_capacity(rows * out);
        let mut winners = Vec::with_capacity(rows);
        for row in features.chunks_exact(width) {
            let start = scores.len();
            for (weights, bias) in self.weights.chunks_exact(width).zip(&self.bias) {
                scores.push(dot(weights, row) + bias);
            }
            let own = &mut scores[start..];
            if self.labels.is_some() {
                winners.push(winner(own, targets));
            }
            if self.is_pair() {
                let score = own[0];
                scores.truncate(start);
                scores.extend(pair(self.post, score));
            } else if targets > 1 || self.post == PostTransform::Probit {
                // A single score is only taken through Probit, as onnxruntime does it.
                self.post.apply(own);
            }
        }
        let scores = Array { shape: vec![rows, out], data: Data::F32(scores) };
        Ok(match &self.labels {
            None => vec![scores],
            Some(labels) => {
                let last = labels.len() - 1;
                winners.iter_mut().for_each(|winner| *winner = (*winner).min(last));
                vec![Array { shape: vec![rows], data: labels.pick(&winners) }, scores]
            }
        })
    }
}

fn pair(post: PostTransform, score: f32) -> [f32; 2] {
    match post {
        PostTransform::Logistic => post.pair(score, Second::Mirror),
        _ => post.pair(score, Second::Complement),
    }
}

/// The place of the best score; for a single score, whether it is above zero.
fn winner(scores: &[f32], targets: usize) -> usize {
    if targets == 1 {
        return usize::from(scores[0] > 0.0);
    }
    let mut best = 0;
    for (place, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = place;
        }
    }
    best
}

/// The scalar product, added up in f64: the order of the sum then does not show.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    narrow(a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())
}
