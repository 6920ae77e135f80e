//! How far apart samples must lie to be near enough independent.

/// Correlation below which samples count as independent: at 0.1 the run length is what it states.
const MOST_CORRELATION: f64 = 0.1;
/// The furthest that is looked: ten minutes at a sample a second.
const MOST_LAG: usize = 600;
/// Samples that a lag must be seen over, or its correlation is noise.
const LEAST_PAIRS: usize = 50;

/// The smallest lag at which the autocorrelation of a reference column, in its time order, is below a
/// tenth; at most six hundred and at most a fiftieth less than the column; one for independent or
/// constant values. Values that are not finite count as the mean.
#[must_use]
pub fn spacing(values: &[f64]) -> u32 {
    let finite = || values.iter().copied().filter(|x| x.is_finite());
    let count = finite().count().max(1) as f64;
    // Scaled first: squares of great values would overflow.
    let scale = finite().fold(0.0_f64, |most, x| most.max(x.abs())).max(f64::MIN_POSITIVE);
    let mean = finite().map(|x| x / scale).sum::<f64>() / count;
    let centred: Vec<f64> =
        values.iter().map(|x| if x.is_finite() { x / scale - mean } else { 0.0 }).collect();
    let variance = centred.iter().map(|x| x * x).sum::<f64>() / count;
    if variance <= f64::EPSILON * f64::EPSILON {
        return 1;
    }
    let most = MOST_LAG.min(values.len().saturating_sub(LEAST_PAIRS)).max(1);
    let correlation = |lag: usize| {
        let sum: f64 = centred.iter().zip(&centred[lag.min(centred.len())..]).map(|(a, b)| a * b).sum();
        sum / count / variance
    };
    let lag = (1..most).find(|lag| correlation(*lag).abs() < MOST_CORRELATION).unwrap_or(most);
    u32::try_from(lag).unwrap_or(u32::MAX)
}
