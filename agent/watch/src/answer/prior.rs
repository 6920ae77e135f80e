//! Which classes have become more frequent, told from the answers alone.
//!
//! Black-box shift estimation (Lipton, Wang and Smola 2018): when only the frequencies of the classes change,
//! the answers' frequencies are `μ = A q`, where `A` is the confusion of the held-out rows by true class. Where
//! they have such a solution it is `q = A⁻¹ μ`; otherwise inversion gives frequencies below nought, so that `q` is
//! taken as the likeliest one (expectation maximisation, which keeps it above nought and summing to one), drawn
//! to the package's own frequencies by a few rows (a Dirichlet prior) so that a class that `A` can hardly tell
//! from another stays where it was. Wrong when inputs of a class change, or the truth does.

use super::reference::AnswerReference;
use super::window::AnswerWindow;
use crate::column::Shift;
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::Confusion;

/// Rows that the package's frequencies are worth.
const PRIOR_ROWS: f64 = 1.0;
/// Steps of expectation maximisation at most.
const STEPS: usize = 2_000;
/// A step that moves less than this is the last.
const STILL: f64 = 1e-9;
/// A condition number beyond which the estimate says little: errors in the answers' frequencies come out so
/// many times greater.
const MOST_CONDITION: f64 = 10.0;
/// Held-out rows of a class below which its column of the confusion is not known.
const MIN_CLASS_ROWS: u64 = 20;

/// Frequencies of the classes in a window, estimated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Priors {
    /// Estimated share of each class; they sum to one.
    pub shares: Vec<f64>,
    /// The same among the held-out rows.
    pub reference: Vec<f64>,
    /// How many times more frequent each class is: the weights of importance weighting; 1 of a class without
    /// held-out rows.
    pub weights: Vec<f64>,
    /// Greatest over least singular value of the confusion, infinite where two classes cannot be told apart.
    #[serde(serialize_with = "finite")]
    pub condition: f64,
    /// Whether the confusion is well conditioned and known well enough to be believed.
    pub is_reliable: bool,
    /// Probability that classes are answered in such different shares with no change.
    pub p: Option<f64>,
}

fn finite<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(value.min(f64::MAX))
}

impl Priors {
    /// The frequencies in a window; `None` of a regression, of more classes than [`Confusion::FULL`], and
    /// without held-out rows or answers.
    #[must_use]
    pub fn of(window: &AnswerWindow, reference: &AnswerReference) -> Option<Self> {
        let confusion = &reference.baseline().classes.as_ref()?.confusion;
        let classes = confusion.classes();
        if !confusion.is_full() || classes == 0 {
            return None;
        }
        let k = usize::try_from(classes).ok()?;
        let answered = window.answered();
        let margins = confusion.margins();
        let known = |class: usize| margins[class][2];
        let (rows, held_out): (u64, u64) = (answered.iter().sum(), (0..k).map(known).sum());
        if rows == 0 || held_out == 0 || answered.len() != k {
            return None;
        }
        let columns = conditional(confusion, &margins)?;
        let start: Vec<f64> = (0..k).map(|class| known(class) as f64 / held_out as f64).collect();
        let observed: Vec<f64> = answered.iter().map(|count| *count as f64).collect();
        let shares = likeliest(&columns, &observed, &start);
        let weights = shares.iter().zip(&start).map(|(now, then)| if *then > 0.0 { now / then } else { 1.0 });
        let condition = condition(&columns);
        let is_known = (0..k).all(|class| known(class) >= MIN_CLASS_ROWS);
        let before: Vec<u64> = margins.iter().map(|margin| margin[1]).collect();
        Some(Self {
            weights: weights.collect(),
            is_reliable: condition <= MOST_CONDITION && is_known,
            condition,
            p: Shift::between(&before, &answered, 1.0).map(|shift| shift.p),
            reference: start,
            shares,
        })
    }
}

/// Chance of each answer given each true class, by true class. A class without rows is taken to be answered
/// right.
fn conditional(confusion: &Confusion, margins: &[[u64; 3]]) -> Option<Vec<Vec<f64>>> {
    let classes = confusion.classes();
    (0..classes)
        .zip(margins)
        .map(|(truth, margin)| {
            let share = |answer: u32| {
                let count = confusion.get(truth, answer)?;
                let right = f64::from(u8::from(truth == answer));
                Some(if margin[2] == 0 { right } else { count as f64 / margin[2] as f64 })
            };
            (0..classes).map(share).collect()
        })
        .collect()
}

fn likeliest(columns: &[Vec<f64>], observed: &[f64], start: &[f64]) -> Vec<f64> {
    let total: f64 = observed.iter().sum::<f64>() + PRIOR_ROWS;
    let k = start.len();
    // No class begins at nought, or it would stay there.
    let mut shares: Vec<f64> = start.iter().map(|share| 0.99 * share + 0.01 / k as f64).collect();
    let prior = shares.clone();
    for _ in 0..STEPS {
        let mixed: Vec<f64> =
            (0..k).map(|answer| (0..k).map(|class| columns[class][answer] * shares[class]).sum()).collect();
        let mut next: Vec<f64> = (0..k)
            .map(|class| {
                let claims = (0..k)
                    .filter(|answer| mixed[*answer] > 0.0)
                    .map(|answer| observed[answer] * columns[class][answer] * shares[class] / mixed[answer]);
                (claims.sum::<f64>() + PRIOR_ROWS * prior[class]) / total
            })
            .collect();
        let sum: f64 = next.iter().sum(); // below one where an answer was never given to held-out rows
        next.iter_mut().for_each(|share| *share /= sum);
        let moved = next.iter().zip(&shares).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        shares = next;
        if moved < STILL {
            break;
        }
    }
    shares
}

/// Greatest over least singular value, by Jacobi's rotations of `AᵀA`.
fn condition(columns: &[Vec<f64>]) -> f64 {
    let k = columns.len();
    let dot = |i: usize, j: usize| columns[i].iter().zip(&columns[j]).map(|(a, b)| a * b).sum::<f64>();
    let mut gram: Vec<Vec<f64>> = (0..k).map(|i| (0..k).map(|j| dot(i, j)).collect()).collect();
    for _ in 0..30 {
        let mut off = 0.0;
        for i in 0..k {
            for j in i + 1..k {
                off += gram[i][j].powi(2);
                rotate(&mut gram, i, j);
            }
        }
        if off < 1e-18 {
            break;
        }
    }
    let values = (0..k).map(|i| gram[i][i].max(0.0));
    let (least, most) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    if least > most * 1e-12 { (most / least).sqrt() } else { f64::INFINITY }
}

fn rotate(gram: &mut [Vec<f64>], i: usize, j: usize) {
    let coupled = gram[i][j];
    if coupled.abs() < 1e-15 {
        return;
    }
    let theta = (gram[j][j] - gram[i][i]) / (2.0 * coupled);
    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let t = if theta == 0.0 { 1.0 } else { t };
    let c = 1.0 / t.hypot(1.0);
    let s = t * c;
    for row in gram.iter_mut() {
        let (a, b) = (row[i], row[j]);
        (row[i], row[j]) = (c * a - s * b, s * a + c * b);
    }
    let (head, tail) = gram.split_at_mut(j);
    for (a, b) in head[i].iter_mut().zip(&mut tail[0]) {
        (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_are_those_of_the_inverse_where_it_has_any() {
        let columns = [vec![0.9, 0.1, 0.0], vec![0.2, 0.7, 0.1], vec![0.0, 0.1, 0.9]];
        let truth = [0.2, 0.5, 0.3];
        let observed: Vec<f64> =
            (0..3).map(|a| 1e6 * (0..3).map(|c| columns[c][a] * truth[c]).sum::<f64>()).collect();
        let shares = likeliest(&columns, &observed, &[1.0 / 3.0; 3]);
        assert!(shares.iter().zip(truth).all(|(a, b)| (a - b).abs() < 1e-4), "{shares:?}");
        // No mixture answers class 0 to every row; the nearest is all of class 0, and none is below nought.
        let shares = likeliest(&columns, &[1e6, 0.0, 0.0], &[1.0 / 3.0; 3]);
        assert!(shares[0] > 0.99 && shares.iter().all(|share| *share >= 0.0), "{shares:?}");
    }

    #[test]
    fn a_condition_is_known() {
        // Singular values of [[2, 0], [0, 0.5]] rotated are 2 and 0.5.
        for angle in [0.0_f64, 0.3, 1.0] {
            let (s, c) = angle.sin_cos();
            let columns = [vec![2.0 * c, 2.0 * s], vec![-0.5 * s, 0.5 * c]];
            assert!((condition(&columns) - 4.0).abs() < 1e-6, "{angle}");
        }
        let mixed = [vec![1.0, 0.0, 0.0], vec![0.0, 0.5, 0.5], vec![0.0, 0.5, 0.5]];
        assert_eq!(condition(&mixed), f64::INFINITY);
        // [[1, 1], [0, 1]]: singular values are the golden ratio and its inverse.
        let golden = condition(&[vec![1.0, 1.0], vec![0.0, 1.0]]);
        assert!((golden - 2.618_034).abs() < 1e-5, "{golden}");
    }
}
