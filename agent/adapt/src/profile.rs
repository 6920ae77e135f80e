//! The moments of training rows, class by class.

use shoal_proto::baseline::{InputProfile, PROFILE_CLASSES, PROFILE_FEATURES};

/// A spread below this share of the mean is a constant, whatever the rounding left.
const CONSTANT: f64 = 1e-3;
/// Rows of a class below which it has no moments of its own.
const MIN_CLASS_ROWS: u64 = 5;
/// Standardised values beyond this would own the moments.
const FAR: f64 = 10.0;

/// Taken of row-major training rows and their classes; `bend` says where each feature bends (nought: nowhere) and
/// `fixed` which are never adapted. Where there are no classes, or too many, all rows are one. `None` of no rows,
/// or of too many features.
#[must_use]
pub fn profile(
    rows: &[f32],
    classes: &[u32],
    count: usize,
    bend: &[f32],
    fixed: &[bool],
) -> Option<InputProfile> {
    let width = bend.len();
    if rows.is_empty() || !(1..=PROFILE_FEATURES).contains(&width) || fixed.len() != width {
        return None;
    }
    let count = if classes.is_empty() || count > PROFILE_CLASSES { 1 } else { count.max(1) };
    let class = |row: usize| match count {
        1 => 0,
        _ => classes.get(row).map_or(0, |class| usize::try_from(*class).unwrap_or(0).min(count - 1)),
    };
    let bent = |at: usize, x: f32| {
        let x = f64::from(x);
        if bend[at] > 0.0 { (x / f64::from(bend[at])).asinh() } else { x }
    };
    let (mut mean, mut std) = (vec![0.0; width], vec![0.0; width]);
    for at in 0..width {
        let values = rows.iter().skip(at).step_by(width).filter(|x| x.is_finite()).map(|x| bent(at, *x));
        let (n, sum) = values.clone().fold((0.0, 0.0), |(n, sum), x| (n + 1.0, sum + x));
        if n < 2.0 || fixed[at] {
            continue;
        }
        mean[at] = sum / n;
        let spread = (values.map(|x| (x - mean[at]).powi(2)).sum::<f64>() / n).sqrt();
        // A straight column a thousandth of its mean wide holds its last digits.
        if spread > CONSTANT * mean[at].abs() + 1e-6 {
            std[at] = spread;
        }
    }
    let mut seen = vec![0_u64; count];
    let (mut n, mut sums) = (vec![0.0; count * width], vec![0.0; count * width]);
    let mut squares = vec![0.0; count * width];
    for (place, row) in rows.chunks_exact(width).enumerate() {
        let class = class(place);
        seen[class] += 1;
        for (at, x) in row.iter().enumerate().filter(|(at, x)| x.is_finite() && std[*at] > 0.0) {
            let z = ((bent(at, *x) - mean[at]) / std[at]).clamp(-FAR, FAR);
            let cell = class * width + at;
            n[cell] += 1.0;
            sums[cell] += z;
            squares[cell] += z * z;
        }
    }
    let all: u64 = seen.iter().sum();
    let (mut means, mut variances) = (vec![0.0; count * width], vec![1.0; count * width]);
    for (class, rows) in seen.iter_mut().enumerate() {
        if *rows < MIN_CLASS_ROWS {
            *rows = 0; // it lies where all do, and is expected nowhere
            continue;
        }
        for cell in (0..width).map(|at| class * width + at).filter(|cell| n[*cell] > 0.0) {
            means[cell] = sums[cell] / n[cell];
            variances[cell] = (squares[cell] / n[cell] - means[cell] * means[cell]).max(0.0);
        }
    }
    let known: u64 = seen.iter().sum();
    let share = |rows: &u64| if known == 0 { 1.0 / count as f64 } else { *rows as f64 / known as f64 };
    debug_assert!(known <= all);
    Some(InputProfile {
        bend: bend.to_vec().into(),
        mean: singles(&mean),
        std: singles(&std),
        shares: singles(&seen.iter().map(share).collect::<Vec<_>>()),
        means: singles(&means),
        variances: singles(&variances),
    })
}

#[expect(clippy::cast_possible_truncation, reason = "moments are kept as f32")]
fn singles(values: &[f64]) -> shoal_proto::baseline::Floats {
    values.iter().map(|value| *value as f32).collect::<Vec<_>>().into()
}
