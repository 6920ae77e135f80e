//! What is done to scores before they come out.

use crate::settings::SettingsError;

/// The constant of Winitzki's approximation to the inverse error function, the one onnxruntime uses.
const WINITZKI: f32 = 0.147;

/// Scores this near to zero are left out of [`PostTransform::SoftmaxZero`].
const NEAR_ZERO: f32 = 1e-7;

/// What is done to scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PostTransform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl PostTransform {
    pub(crate) fn named(name: &str) -> Result<Self, SettingsError> {
        Ok(match name {
            "NONE" => Self::None,
            "SOFTMAX" => Self::Softmax,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            _ => return Err(SettingsError::value("post_transform", "it is not known")),
        })
    }

    /// The number of opset 5's `TreeEnsemble`. The standard lists Softmax before Logistic;
    /// onnxruntime, which all answers are compared with, reads them the other way round.
    pub(crate) fn numbered(code: i64) -> Result<Self, SettingsError> {
        Ok(match code {
            0 => Self::None,
            1 => Self::Logistic,
            2 => Self::Softmax,
            3 => Self::SoftmaxZero,
            4 => Self::Probit,
            _ => return Err(SettingsError::value("post_transform", "it is not known")),
        })
    }

    /// Applies it to the scores of one row.
    pub(crate) fn apply(self, scores: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Softmax => softmax(scores),
            Self::SoftmaxZero => softmax_zero(scores),
            Self::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
        }
    }

    /// Makes two scores of the one that a model with two classes gives, and transforms them.
    pub(crate) fn pair(self, score: f32, second: Second) -> [f32; 2] {
        match (self, second) {
            (Self::Logistic, _) => [logistic(-score), logistic(score)],
            (_, Second::Complement) => [1.0 - score, score],
            (_, Second::Mirror) => [-score, score],
        }
    }
}

/// What the other class of two gets when a model gives one score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    /// One minus the score, which is a probability.
    Complement,
    /// The score with its sign turned, which is a margin.
    Mirror,
}

pub(crate) fn logistic(score: f32) -> f32 {
    let tail = 1.0 / (1.0 + (-score.abs()).exp());
    if score < 0.0 { 1.0 - tail } else { tail }
}

fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - most).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// Softmax over the scores that are not zero; the others keep zero.
fn softmax_zero(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        if score.abs() > NEAR_ZERO {
            *score = (*score - most).exp();
            sum += *score;
        } else {
            *score *= (-most).exp();
        }
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// The quantile function of the normal distribution, after Winitzki's approximation; in f32 like
/// onnxruntime, since near one half the rounding is larger than the tolerance of a comparison.
pub(crate) fn probit(probability: f32) -> f32 {
    let x = 2.0 * probability - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let half = 2.0 / (std::f32::consts::PI * WINITZKI) + 0.5 * log;
    let inverse = ((half * half - log / WINITZKI).sqrt() - half).sqrt();
    std::f32::consts::SQRT_2 * if x < 0.0 { -inverse } else { inverse }
}
