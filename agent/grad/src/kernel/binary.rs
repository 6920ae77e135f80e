//! Functions of two numbers with broadcasting, and broadcasting by itself.

use super::unary::CHUNK;
use crate::real::{Real, on_this_cpu};

/// A function of two numbers; comparisons give one or nought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    Pow,
    /// `a`, below nought times `b`.
    PRelu,
    /// Derivative of [`Binary::PRelu`] by `a`.
    PReluByInput,
    /// Derivative of [`Binary::PRelu`] by `b`.
    PReluBySlope,
    /// `b · a^(b - 1)`.
    PowByBase,
    /// `a^b · ln a`, nought for `a` ≤ 0.
    PowByExponent,
    /// One where `a` is larger, a half where both are the same.
    IsLarger,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    And,
    Or,
    Xor,
    /// The rest, with the sign of `b`.
    Mod,
    /// The rest, with the sign of `a`.
    Rest,
}

/// How two tensors are walked together: sizes and strides of both, with the innermost axis last,
/// whose strides are nought or one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    axes: Vec<[usize; 3]>,
    made: Vec<usize>,
}

impl Broadcast {
    /// The common shape of two, by ONNX's and NumPy's rule; `None` when there is none.
    #[must_use]
    pub fn new(a: &[usize], b: &[usize]) -> Option<Self> {
        let rank = a.len().max(b.len());
        let size =
            |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
        let mut made = Vec::with_capacity(rank);
        let mut axes: Vec<[usize; 3]> = Vec::with_capacity(rank);
        let (mut step_a, mut step_b) = (1usize, 1usize);
        for axis in (0..rank).rev() {
            let (mine, other) = (size(a, axis), size(b, axis));
            let both = match (mine, other) {
                (m, o) if m == o => m,
                (1, o) => o,
                (m, 1) => m,
                _ => return None,
            };
            made.push(both);
            let stride_a = if mine == 1 { 0 } else { step_a };
            let stride_b = if other == 1 { 0 } else { step_b };
            (step_a, step_b) = (step_a.checked_mul(mine.max(1))?, step_b.checked_mul(other.max(1))?);
            if both == 1 {
                continue;
            }
            match axes.last_mut() {
                Some(inner) if stride_a == inner[0] * inner[1] && stride_b == inner[0] * inner[2] => {
                    inner[0] *= both;
                }
                _ => axes.push([both, stride_a, stride_b]),
            }
        }
        made.reverse();
        axes.reverse();
        if axes.is_empty() {
            axes.push([1, 1, 1]);
        }
        Some(Self { axes, made })
    }

    /// Sizes of what comes out.
    #[must_use]
    pub fn made(&self) -> &[usize] {
        &self.made
    }

    /// Calls with places in a, b and the result, and a length, for each run; both strides of a run are
    /// in `self.inner()`.
    #[inline(always)]
    pub(crate) fn runs(&self, mut work: impl FnMut(usize, usize, usize, usize)) {
        let (inner, outer) = self.axes.split_last().expect("a shape has at least one axis here");
        let length = inner[0];
        let total: usize = outer.iter().map(|axis| axis[0]).product();
        let mut counters = [0usize; 16];
        let (mut a, mut b) = (0, 0);
        for run in 0..total {
            work(a, b, run * length, length);
            for (counter, axis) in counters.iter_mut().zip(outer).rev() {
                *counter += 1;
                a += axis[1];
                b += axis[2];
                if *counter < axis[0] {
                    break;
                }
                *counter = 0;
                a -= axis[0] * axis[1];
                b -= axis[0] * axis[2];
            }
        }
    }

    /// Strides of a and b within a run.
    pub(crate) fn inner(&self) -> [usize; 2] {
        let inner = self.axes.last().expect("a shape has at least one axis here");
        [inner[1], inner[2]]
    }
}

/// Axes that may be walked.
pub(crate) const MAX_AXES: usize = 16;

/// Repeats `x`, the first of the two, into `y`.
pub fn expand<T: Real>(walk: &Broadcast, x: &[T], y: &mut [T]) {
    let is_run = walk.inner()[0] == 1;
    walk.runs(|a, _, at, length| {
        let y = &mut y[at..at + length];
        if is_run {
            y.copy_from_slice(&x[a..a + length]);
        } else {
            y.fill(x[a]);
        }
    });
}

/// Computes `y = f(a, b)`. With `a` left out, `y` holds it already (and has its shape).
pub fn forward<T: Real>(function: Binary, walk: &Broadcast, a: Option<&[T]>, b: &[T], y: &mut [T]) {
    let [a_runs, b_runs] = walk.inner().map(|stride| stride == 1);
    walk.runs(|a_at, b_at, at, length| {
        let mut from = 0;
        while from < length {
            let part = CHUNK.min(length - from);
            let y = &mut y[at + from..at + from + part];
            match a {
                Some(a) if a_runs => y.copy_from_slice(&a[a_at + from..a_at + from + part]),
                Some(a) => y.fill(a[a_at]),
                None => {}
            }
            if b_runs {
                pairs(function, y, &b[b_at + from..b_at + from + part]);
            } else {
                one(function, y, b[b_at]);
            }
            from += part;
        }
    });
}

macro_rules! each {
    ($function:expr, $map:ident) => {
        match $function {
            Binary::Add => $map!(|a, b| a + b),
            Binary::Sub => $map!(|a, b| a - b),
            Binary::Mul => $map!(|a, b| a * b),
            Binary::Div => $map!(|a, b| a / b),
            Binary::Min => $map!(|a, b| if b < a { b } else { a }),
            Binary::Max => $map!(|a, b| if b > a { b } else { a }),
            Binary::PRelu => $map!(|a, b| if a < T::ZERO { a * b } else { a }),
            Binary::PReluByInput => $map!(|a, b| if a < T::ZERO { b } else { T::ONE }),
            Binary::PReluBySlope => $map!(|a, _b| if a < T::ZERO { a } else { T::ZERO }),
            Binary::Greater => $map!(|a, b| truth::<T>(a > b)),
            Binary::GreaterOrEqual => $map!(|a, b| truth::<T>(a >= b)),
            Binary::Less => $map!(|a, b| truth::<T>(a < b)),
            Binary::LessOrEqual => $map!(|a, b| truth::<T>(a <= b)),
            Binary::Equal => $map!(|a, b| truth::<T>(a == b)),
            Binary::IsLarger => {
                $map!(|a, b| if a > b { T::ONE } else { truth::<T>(a == b) * T::of(0.5) })
            }
            rare => $map!(|a, b| slow(rare, a, b)),
        }
    };
}

fn pairs<T: Real>(function: Binary, y: &mut [T], b: &[T]) {
    macro_rules! map {
        (|$a:ident, $b:ident| $made:expr) => {
            on_this_cpu(
                #[inline(always)]
                || {
                    for (place, b) in y.iter_mut().zip(b) {
                        let ($a, $b) = (*place, *b);
                        *place = $made;
                    }
                },
            )
        };
    }
    each!(function, map);
}

fn one<T: Real>(function: Binary, y: &mut [T], b: T) {
    macro_rules! map {
        (|$a:ident, $b:ident| $made:expr) => {
            on_this_cpu(
                #[inline(always)]
                || {
                    for place in y.iter_mut() {
                        let ($a, $b) = (*place, b);
                        *place = $made;
                    }
                },
            )
        };
    }
    each!(function, map);
}

#[inline(always)]
fn truth<T: Real>(is_true: bool) -> T {
    if is_true { T::ONE } else { T::ZERO }
}

#[inline(never)]
fn slow<T: Real>(function: Binary, a: T, b: T) -> T {
    let is_true = |x: T| x != T::ZERO;
    match function {
        Binary::Pow => a.pow(b),
        Binary::PowByBase => b * a.pow(b - T::ONE),
        Binary::PowByExponent => {
            if a > T::ZERO {
                a.pow(b) * a.ln()
            } else {
                T::ZERO
            }
        }
        Binary::And => truth(is_true(a) && is_true(b)),
        Binary::Or => truth(is_true(a) || is_true(b)),
        Binary::Xor => truth(is_true(a) != is_true(b)),
        Binary::Rest => T::of(a.f64() % b.f64()),
        Binary::Mod => {
            let (a, b) = (a.f64(), b.f64());
            T::of(a - (a / b).floor() * b)
        }
        _ => T::of(f64::NAN),
    }
}

/// Takes `a` where the condition is not nought, else `b`; all of one shape.
pub fn select<T: Real>(condition: &[T], a: &[T], b: &[T], y: &mut [T]) {
    on_this_cpu(
        #[inline(always)]
        || {
            for (((y, c), a), b) in y.iter_mut().zip(condition).zip(a).zip(b) {
                *y = if *c == T::ZERO { *b } else { *a };
            }
        },
    );
}

/// How the axes of a tensor are summed: sizes with whether they vanish, neighbours of one kind joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduction {
    walk: Broadcast,
    /// Elements that become one.
    pub count: usize,
    is_inner: bool,
}

/// What many numbers become.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Fold {
    /// The sum, times a number.
    Sum {
        scale: f64,
    },
    Max,
    Min,
    Product,
}

impl Reduction {
    /// Reduces the axes for which `vanishes` says so.
    #[must_use]
    pub fn new(shape: &[usize], vanishes: impl Fn(usize) -> bool) -> Option<Self> {
        let kept: Vec<usize> =
            (0..shape.len()).map(|axis| if vanishes(axis) { 1 } else { shape[axis] }).collect();
        let count = (0..shape.len()).filter(|axis| vanishes(*axis)).map(|axis| shape[axis]).product();
        let walk = Broadcast::new(&kept, shape)?;
        let is_inner = walk.inner() == [0, 1];
        Some(Self { walk, count, is_inner })
    }
}

/// Folds `x` into `y`.
pub fn reduce<T: Real>(fold: Fold, how: &Reduction, x: &[T], y: &mut [T]) {
    let start = match fold {
        Fold::Sum { .. } => T::ZERO,
        Fold::Product => T::ONE,
        Fold::Max => T::LOWEST,
        Fold::Min => -T::LOWEST,
    };
    y.fill(start);
    macro_rules! fold {
        (|$sum:ident, $x:ident| $made:expr) => {
            how.walk.runs(|to, from, _, length| {
                let x = &x[from..from + length];
                if how.is_inner {
                    y[to] = lanes(start, y[to], x, |$sum: T, $x: T| $made);
                } else {
                    on_this_cpu(
                        #[inline(always)]
                        || {
                            for (place, x) in y[to..to + length].iter_mut().zip(x) {
                                let ($sum, $x) = (*place, *x);
                                *place = $made;
                            }
                        },
                    );
                }
            })
        };
    }
    match fold {
        Fold::Sum { scale } => {
            fold!(|sum, x| sum + x);
            if scale != 1.0 {
                let scale = T::of(scale);
                y.iter_mut().for_each(|y| *y *= scale);
            }
        }
        Fold::Product => fold!(|product, x| product * x),
        Fold::Max => fold!(|most, x| if most > x { most } else { x }),
        Fold::Min => fold!(|least, x| if least < x { least } else { x }),
    }
}

/// Sums that run beside each other, so that they become one vector.
const LANES: usize = 16;

/// Folds a run in [`LANES`] parts, which is both quick and nearer to the truth than one sum.
#[inline(always)]
pub(crate) fn lanes<T: Real>(start: T, before: T, x: &[T], fold: impl Fn(T, T) -> T) -> T {
    on_this_cpu(
        #[inline(always)]
        || {
            let mut sums = [start; LANES];
            let whole = x.chunks_exact(LANES);
            let rest = whole.remainder();
            for chunk in whole {
                for (sum, x) in sums.iter_mut().zip(chunk) {
                    *sum = fold(*sum, *x);
                }
            }
            let mut width = LANES / 2;
            while width > 0 {
                for lane in 0..width {
                    sums[lane] = fold(sums[lane], sums[lane + width]);
                }
                width /= 2;
            }
            let tail = rest.iter().fold(sums[0], |sum, x| fold(sum, *x));
            fold(before, tail)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_broadcast_as_numpy_does() {
        for (a, b, made) in [
            (&[2usize, 3][..], &[3usize][..], Some(vec![2, 3])),
            (&[2, 1, 4], &[3, 1], Some(vec![2, 3, 4])),
            (&[], &[2], Some(vec![2])),
            (&[], &[], Some(vec![])),
            (&[2], &[3], None),
        ] {
            assert_eq!(Broadcast::new(a, b).map(|walk| walk.made().to_vec()), made, "{a:?} {b:?}");
        }
    }

    #[test]
    fn every_pattern_of_strides_is_walked() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [10.0, 20.0, 30.0]);
        for (shape_a, shape_b, wanted) in [
            (&[2usize, 3][..], &[3usize][..], vec![11.0, 22.0, 33.0, 14.0, 25.0, 36.0]),
            (&[3, 2], &[3, 1], vec![11.0, 12.0, 23.0, 24.0, 35.0, 36.0]),
            (&[6, 1], &[1, 1], vec![11.0, 12.0, 13.0, 14.0, 15.0, 16.0]),
        ] {
            let walk = Broadcast::new(shape_a, shape_b).unwrap();
            let mut y = vec![0.0; 6];
            forward(Binary::Add, &walk, Some(&a), &b, &mut y);
            assert_eq!(y, wanted, "{shape_a:?} {shape_b:?}");
            let mut y = a.to_vec();
            forward(Binary::Add, &walk, None, &b, &mut y);
            assert_eq!(y, wanted, "in place, {shape_a:?} {shape_b:?}");
        }
        let walk = Broadcast::new(&[1, 3], &[2, 3]).unwrap();
        let mut y = vec![0.0; 6];
        expand(&walk, &b, &mut y);
        assert_eq!(y, [10.0, 20.0, 30.0, 10.0, 20.0, 30.0]);
    }

    #[test]
    fn every_set_of_axes_is_reduced() {
        let shape = [2usize, 3, 2, 2];
        let x: Vec<f64> = (0..24).map(|v| f64::from(v * 7 % 24)).collect();
        for mask in 0..16usize {
            let vanishes = |axis: usize| mask >> axis & 1 == 1;
            let how = Reduction::new(&shape, vanishes).unwrap();
            let kept: Vec<usize> = (0..4).map(|a| if vanishes(a) { 1 } else { shape[a] }).collect();
            let size: usize = kept.iter().product();
            assert_eq!(how.count, 24 / size);
            let (mut sums, mut most) = (vec![0.0; size], vec![f64::NEG_INFINITY; size]);
            for (at, x) in x.iter().enumerate() {
                let (mut rest, mut place, mut step) = (at, 0, 1);
                for axis in (0..4).rev() {
                    let index = rest % shape[axis];
                    rest /= shape[axis];
                    if !vanishes(axis) {
                        place += index * step;
                    }
                    step *= kept[axis];
                }
                sums[place] += x;
                most[place] = most[place].max(*x);
            }
            let mut y = vec![0.0; size];
            reduce(Fold::Sum { scale: 1.0 }, &how, &x, &mut y);
            assert_eq!(y, sums, "{mask}");
            reduce(Fold::Max, &how, &x, &mut y);
            assert_eq!(y, most, "{mask}");
        }
    }
}
