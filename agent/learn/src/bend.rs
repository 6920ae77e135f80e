//! Which features are bent before they are scaled, by the training rows alone.
//!
//! A sensor's gain multiplies what it measures, and readings of such sensors have long tails. `asinh(x / s)` is
//! a line near zero and a logarithm far from it, of either sign: a gain becomes a shift, and a few large values
//! no longer own the spread. A feature bends where that makes it more like a normal variable: by the greatest
//! likelihood of a normal variable before the bend, with the bend's own slope (Box and Cox 1964, here with
//! Johnson's function of 1949).

/// `s` is the median of |x| divided by one of these: from a line for most values to a logarithm for most.
const BENDS: [f64; 4] = [1.0, 3.0, 10.0, 30.0];
/// Features that vary less than this, relative to their size, do not bend: over so short a piece every curve is
/// a line.
const LEAST_SPREAD: f64 = 1e-3;

/// For each feature the `s` it is divided by before `asinh`, zero where it stays as it is; empty when all do.
#[must_use]
pub fn bends(features: &[f32], width: usize) -> Vec<f32> {
    let column = |at: usize| features.iter().skip(at).step_by(width).map(|x| f64::from(*x)).collect();
    let bends: Vec<f32> = (0..width).map(|at| bend(column(at))).collect();
    if bends.iter().any(|s| *s > 0.0) { bends } else { Vec::new() }
}

/// The `s` of one feature, or zero.
///
/// The gain in log-likelihood must be above ln n: that of chance among four curves is below it.
fn bend(values: Vec<f64>) -> f32 {
    let rows = values.len().max(1) as f64;
    let (_, spread) = moments(&values);
    let size = values.iter().map(|x| x.abs()).sum::<f64>() / rows;
    let mut sizes: Vec<f64> = values.iter().map(|x| x.abs()).collect();
    let half = sizes.len() / 2;
    if half == 0 || spread <= LEAST_SPREAD * size {
        return 0.0;
    }
    let median = *sizes.select_nth_unstable_by(half, f64::total_cmp).1;
    let straight = -rows * spread.ln() + rows.ln();
    let curved = |s: f64| {
        let slopes: f64 = values.iter().map(|x| s.ln() + 0.5 * (x / s).powi(2).ln_1p()).sum();
        let bent: Vec<f64> = values.iter().map(|x| (x / s).asinh()).collect();
        -rows * moments(&bent).1.ln() - slopes
    };
    let scores = BENDS.map(|k| median / k).into_iter().filter(|s| is_safe(*s)).map(|s| (curved(s), s));
    let best = scores.filter(|(score, _)| *score > straight).max_by(|a, b| a.0.total_cmp(&b.0));
    #[expect(clippy::cast_possible_truncation, reason = "stored as f32")]
    best.map_or(0.0, |(_, s)| s as f32)
}

/// Whether 32 bits hold the number and one over it.
fn is_safe(s: f64) -> bool {
    s > f64::from(f32::MIN_POSITIVE) && 1.0 / s > f64::from(f32::MIN_POSITIVE)
}

/// Mean and standard deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let rows = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / rows;
    (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows).sqrt())
}
