//! Makes the joint part of a baseline from rows.
//!
//! Ranks must come from rows that a fit does not know: of those it knows, the distances are too small (with 200
//! rows of 20 inputs, of new rows one in eight is called one in twenty; see the tests). Distances are those of leaving
//! one row out, which have a closed form; residuals come from four parts, each against the axes of the
//! other three; trees take a row's own mass out of their counts.

use super::matrix::{eigen, whitening};
use super::space::{Metric, Projection, scaling, standardise};
use super::{Joint, ranks, trees};
use shoal_proto::baseline::{
    DEPTH_MAX, DistanceBaseline, Floats, INPUTS_MAX, JOINT_MAX, JointBaseline, RESIDUAL_INPUTS_MAX, Ranks,
    ResidualBaseline, TREES_MAX, TreesBaseline,
};

/// Rows that a joint baseline is made of, at least.
pub const MIN_FIT_ROWS: usize = 50;
/// Rows a projected value, at least: with fewer rows, fewer values.
const ROWS_A_VALUE: usize = 4;
/// Shrinkage at least: two columns that are the same must not make the covariance singular.
const MIN_SHRINKAGE: f64 = 1e-4;
/// Share of the variance that the axes hold, as in `NannyML`.
const EXPLAINED: f64 = 0.65;
/// Rows that axes and trees are fitted to, at most: the cost of packing grows with them, the ranks do not.
const MAX_ROWS: usize = 16_384;
const PARTS: usize = 4;
/// A row that is met this often is judged as it stands: of a value that repeats, leaving one out is wrong.
const REPEATED: usize = 3;

/// The optional parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Principal components; none is made for more than [`RESIDUAL_INPUTS_MAX`] inputs, where the projected
    /// distance has to do.
    pub residual: bool,
    /// Half-space trees.
    pub trees: bool,
}

impl Default for Parts {
    /// Principal components and no trees: see the tests for what either adds.
    fn default() -> Self {
        Self { residual: true, trees: false }
    }
}

/// Why no joint baseline is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Rows have no or too many inputs.
    #[error("rows of {width} inputs, expected 1 to {INPUTS_MAX}")]
    Width { width: usize },
    /// Too few rows.
    #[error("{rows} rows, expected {MIN_FIT_ROWS} or more")]
    TooFew { rows: usize },
    /// No input varies.
    #[error("no input varies over {rows} rows")]
    Constant { rows: usize },
}

/// The joint baseline of row-major rows: features, or any vectors of one length.
///
/// The same rows and seed give the same bytes. It costs `rows × (inputs + 1,024)` operations, and with principal
/// components `inputs² × rows + 50 inputs³` more.
pub fn fit(rows: &[f32], width: usize, seed: u64, parts: Parts) -> Result<JointBaseline, Refusal> {
    if width == 0 || width > INPUTS_MAX {
        return Err(Refusal::Width { width });
    }
    let count = rows.len() / width;
    if count < MIN_FIT_ROWS {
        return Err(Refusal::TooFew { rows: count });
    }
    let (mean, inverse) = scaling(rows, width);
    let live = inverse.iter().filter(|inverse| **inverse > 0.0).count();
    let to = live.min(JOINT_MAX).min(count / ROWS_A_VALUE);
    let mut z = vec![0.0; width];
    let projection = Projection::new(seed, &inverse, to);
    let mut projected = vec![0.0; count * to];
    if to > 0 {
        for (row, y) in rows.chunks_exact(width).zip(projected.chunks_exact_mut(to)) {
            standardise(row, &mean, &inverse, &mut z);
            projection.project(&z, y);
        }
    }
    let distance = distance(&projected, to, width).ok_or(Refusal::Constant { rows: count })?;
    let step = count.div_ceil(MAX_ROWS);
    let mut some = Vec::new();
    let wants_axes = parts.residual && live > 1 && width <= RESIDUAL_INPUTS_MAX;
    let wants_trees = parts.trees && width <= usize::from(u16::MAX);
    if wants_axes || wants_trees {
        for row in rows.chunks_exact(width).step_by(step) {
            standardise(row, &mean, &inverse, &mut z);
            some.extend_from_slice(&z);
        }
    }
    let residual = wants_axes.then(|| residual(&some, width)).flatten();
    let trees = wants_trees.then(|| forest(seed, &inverse, &some));
    let (mean, inverse) = (Floats(mean), Floats(inverse));
    let rows_fitted = count as u64;
    let mut made = JointBaseline { seed, rows: rows_fitted, mean, inverse, distance, residual, trees };
    usual(&mut made, rows);
    Ok(made)
}

/// Mean and shrunk covariance of projected rows, and the ranks of distances with one row left out.
fn distance(projected: &[f32], to: usize, width: usize) -> Option<DistanceBaseline> {
    let n = projected.len().checked_div(to)? as f64;
    let mut centre = vec![0.0_f64; to];
    for y in projected.chunks_exact(to) {
        centre.iter_mut().zip(y).for_each(|(sum, y)| *sum += f64::from(*y) / n);
    }
    let mut scatter = vec![0.0; to * to];
    let (mut fourth, mut v) = (0.0, vec![0.0; to]);
    for y in projected.chunks_exact(to) {
        v.iter_mut().zip(y.iter().zip(&centre)).for_each(|(v, (y, centre))| *v = f64::from(*y) - centre);
        add_square(&mut scatter, &v, 1.0);
        fourth += v.iter().map(|v| v * v).sum::<f64>().powi(2);
    }
    let shrinkage = ledoit_wolf(&scatter, to, n, fourth);
    let target = (0..to).map(|at| scatter[at * to + at]).sum::<f64>() / to as f64 / (n - 1.0);
    for row in 0..to {
        for column in 0..to {
            let own = if row == column { shrinkage * target } else { 0.0 };
            let at = row * to + column;
            scatter[at] = (1.0 - shrinkage) * scatter[at] / (n - 1.0) + own;
        }
    }
    let inverse = whitening(&scatter, to)?;
    let lower = (0..to).flat_map(|row| inverse[row * to..][..=row].iter().copied());
    let (centre, whitening) = (floats(centre), floats(lower));
    whitening.is_finite().then_some(())?;
    let metric = Metric::new(&centre, &whitening);
    let (mut y, mut white) = (vec![0.0; to], metric.white());
    let known = projected.chunks_exact(to).map(|row| {
        y.copy_from_slice(row);
        metric.distance(&mut y, &mut white)
    });
    let known: Vec<f64> = known.collect();
    let unknown: Vec<f64> = known.iter().map(|known| left_out(*known, n, shrinkage)).collect();
    let spread = unknown.iter().sum::<f64>() / n / to as f64;
    let ranks = ranks(&as_it_stands(&known, unknown));
    let usual = Floats(vec![0.0; width]);
    let whole = spread.is_finite() && spread > 0.0;
    whole.then_some(DistanceBaseline { centre, whitening, shrinkage, spread, ranks, usual })
}

/// The squared distance of a row to mean and covariance of all others, from its distance to those of all
/// (Sherman and Morrison). The shrinkage's target is taken as known; without shrinkage it is exact.
fn left_out(known: f64, n: f64, shrinkage: f64) -> f64 {
    let leverage = (1.0 - shrinkage) * n / (n - 1.0).powi(2) * known;
    let moved = (n / (n - 1.0)).powi(2) * (n - 2.0) / (n - 1.0);
    moved * known / (1.0 - leverage).max(1.0 / n)
}

/// How much to shrink towards a multiple of the identity (Ledoit and Wolf 2004, their lemma 3.3).
fn ledoit_wolf(scatter: &[f64], size: usize, n: f64, fourth: f64) -> f64 {
    let mean = (0..size).map(|at| scatter[at * size + at]).sum::<f64>() / n / size as f64;
    let square: f64 = scatter.iter().map(|value| (value / n).powi(2)).sum();
    let apart = square - size as f64 * mean * mean;
    let noise = (fourth / n - square) / n;
    let share = if apart > 0.0 { noise / apart } else { 1.0 };
    if share.is_nan() { 1.0 } else { share.clamp(MIN_SHRINKAGE, 1.0) }
}

/// Takes the values of rows that are met often as the fit says them, and all others as they were held out.
fn as_it_stands(known: &[f64], mut unknown: Vec<f64>) -> Vec<f64> {
    let mut order: Vec<usize> = (0..known.len()).collect();
    order.sort_unstable_by(|a, b| known[*a].total_cmp(&known[*b]));
    for same in order.chunk_by(|a, b| known[*a].total_cmp(&known[*b]).is_eq()) {
        if same.len() >= REPEATED {
            same.iter().for_each(|row| unknown[*row] = known[*row]);
        }
    }
    unknown
}

/// Principal axes of standardised rows.
fn residual(rows: &[f32], width: usize) -> Option<ResidualBaseline> {
    let mut parts = vec![(0.0, vec![0.0; width], vec![0.0; width * width]); PARTS];
    for (index, row) in rows.chunks_exact(width).enumerate() {
        let (count, sum, scatter) = &mut parts[index % PARTS];
        let row: Vec<f64> = row.iter().map(|z| f64::from(*z)).collect();
        *count += 1.0;
        sum.iter_mut().zip(&row).for_each(|(sum, z)| *sum += z);
        add_square(scatter, &row, 1.0);
    }
    let all = principal(&parts, None, width, None)?;
    let held_out: Vec<Axes> =
        (0..PARTS).filter_map(|part| principal(&parts, Some(part), width, Some(all.count))).collect();
    if held_out.len() < PARTS {
        return None;
    }
    let known: Vec<f64> = rows.chunks_exact(width).map(|row| all.left(row)).collect();
    let unknown =
        rows.chunks_exact(width).enumerate().map(|(index, row)| held_out[index % PARTS].left(row)).collect();
    let ranks: Ranks = ranks(&as_it_stands(&known, unknown));
    let Axes { axes, centre, explained, .. } = all;
    let (axes, centre) = (floats(axes), floats(centre));
    Some(ResidualBaseline { axes, centre, explained, ranks, usual: Floats(vec![0.0; width]) })
}

struct Axes {
    axes: Vec<f64>,
    centre: Vec<f64>,
    count: usize,
    explained: f64,
}

impl Axes {
    fn left(&self, row: &[f32]) -> f64 {
        let z: Vec<f64> = row.iter().zip(&self.centre).map(|(z, centre)| f64::from(*z) - centre).collect();
        let along = |axis: &[f64]| axis.iter().zip(&z).map(|(a, z)| a * z).sum::<f64>().powi(2);
        let held: f64 = self.axes.chunks_exact(z.len()).map(along).sum();
        (z.iter().map(|z| z * z).sum::<f64>() - held).max(0.0)
    }
}

/// The axes of all parts but one; as many as asked for, or as hold [`EXPLAINED`], but never all of them.
fn principal(
    parts: &[(f64, Vec<f64>, Vec<f64>)],
    without: Option<usize>,
    width: usize,
    count: Option<usize>,
) -> Option<Axes> {
    let (mut n, mut centre, mut covariance) = (0.0, vec![0.0; width], vec![0.0; width * width]);
    let used = parts.iter().enumerate().filter(|(part, _)| Some(*part) != without);
    for (_, (rows, sum, scatter)) in used {
        n += rows;
        centre.iter_mut().zip(sum).for_each(|(to, from)| *to += from);
        covariance.iter_mut().zip(scatter).for_each(|(to, from)| *to += from);
    }
    centre.iter_mut().for_each(|sum| *sum /= n);
    covariance.iter_mut().for_each(|sum| *sum /= n);
    add_square(&mut covariance, &centre, -1.0);
    let (values, mut axes) = eigen(covariance, width);
    let total: f64 = values.iter().map(|value| value.max(0.0)).sum();
    let mut held = 0.0;
    let shares: Vec<f64> = values
        .iter()
        .map(|value| {
            held += value.max(0.0);
            held / total
        })
        .collect();
    if !(total > 0.0 && n > 1.0) {
        return None;
    }
    let enough = shares.iter().position(|share| *share >= EXPLAINED).map_or(width, |at| at + 1);
    let count = count.unwrap_or(enough).min(width - 1);
    axes.truncate(count * width);
    let explained = *shares.get(count.checked_sub(1)?)?;
    Some(Axes { axes, centre, count, explained })
}

fn forest(seed: u64, inverse: &[f32], rows: &[f32]) -> TreesBaseline {
    let (ranges, mass, scores) = trees::grow(seed, inverse, rows, (TREES_MAX, DEPTH_MAX));
    let small = |number: usize| u32::try_from(number).expect("a constant far below 2^32");
    let (count, depth) = (small(TREES_MAX), small(DEPTH_MAX));
    let ranks = ranks(&scores);
    TreesBaseline { trees: count, depth, ranges: Floats(ranges), mass: Floats(mass), ranks }
}

/// Takes down what inputs usually add to far rows, by looking at all rows again.
fn usual(made: &mut JointBaseline, rows: &[f32]) {
    let Ok(mut joint) = Joint::new(made) else { return };
    let (n, width) = (made.rows as f64, joint.width());
    let far = made.distance.ranks.tail.from;
    let left = made.residual.as_ref().map(|residual| residual.ranks.tail.from);
    let (mut distance, mut residual) = (vec![0.0_f64; width], vec![0.0_f64; width]);
    for row in rows.chunks_exact(width) {
        let seen = joint.look(row);
        let unknown = left_out(seen.distance.value, n, made.distance.shrinkage);
        if unknown >= far && seen.distance.value > 0.0 {
            let larger = unknown / seen.distance.value / n;
            let shares = joint.distance_shares().iter();
            distance.iter_mut().zip(shares).for_each(|(sum, share)| *sum += larger * f64::from(*share));
        }
        if seen.residual.zip(left).is_some_and(|(rank, from)| rank.value >= from) {
            let shares = joint.residual_shares().iter();
            residual.iter_mut().zip(shares).for_each(|(sum, share)| *sum += f64::from(*share) / n);
        }
    }
    made.distance.usual = floats(distance);
    if let Some(part) = &mut made.residual {
        part.usual = floats(residual);
    }
}

/// Adds `weight · v vᵀ`.
fn add_square(matrix: &mut [f64], v: &[f64], weight: f64) {
    for (line, x) in matrix.chunks_exact_mut(v.len()).zip(v) {
        let x = x * weight;
        line.iter_mut().zip(v).for_each(|(to, y)| *to += x * y);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a baseline keeps f32")]
fn floats(values: impl IntoIterator<Item = f64>) -> Floats {
    Floats(values.into_iter().map(|value| value as f32).collect())
}
