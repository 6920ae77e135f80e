//! Normalisation to mean 0 and variance 1.

use super::total;
use crate::kernel::blocks::{BLOCK, each, gather, load, short};
use crate::real::{Real, on_this_cpu};

/// Where the results of a normalisation go; all are overwritten.
#[derive(Debug)]
pub struct Normalised<'a, T> {
    /// `(x - mean) · inverse`.
    pub xhat: &'a mut [T],
    /// `1 / √(variance + ε)` [groups].
    pub inverse: &'a mut [T],
    /// Mean [groups].
    pub mean: Option<&'a mut [T]>,
    /// Variance, the sum of squares divided by the count [groups].
    pub variance: Option<&'a mut [T]>,
}

/// Normalises x [a, groups, c] over the first and the last axis: layers with `a` 1, batches with the
/// channels as groups.
///
/// The variance is that of the differences to the mean, in a second pass.
///
/// # Panics
/// When a slice has not the size that the axes give.
pub fn normalise_forward<T: Real>(sizes: [usize; 3], epsilon: T, x: &[T], out: Normalised<'_, T>) {
    let [a, groups, c] = sizes;
    let mut out = out;
    assert_eq!((x.len(), out.xhat.len()), (a * groups * c, a * groups * c), "x and xhat");
    assert_eq!(out.inverse.len(), groups, "inverse deviations");
    on_this_cpu(
        #[inline(always)]
        || {
            if c == 1 && a > 1 {
                columns_forward(sizes, epsilon, x, &mut out);
            } else {
                rows_forward(sizes, epsilon, x, &mut out);
            }
        },
    );
}

/// `dx = inverse · (dxhat - mean of dxhat - xhat · mean of dxhat · xhat)`, overwritten.
///
/// # Panics
/// When a slice has not the size that the axes give.
pub fn normalise_backward<T: Real>(sizes: [usize; 3], dxhat: &[T], xhat: &[T], inverse: &[T], dx: &mut [T]) {
    let [a, groups, c] = sizes;
    let all = a * groups * c;
    assert_eq!((dxhat.len(), xhat.len(), dx.len()), (all, all, all), "dxhat, xhat and dx");
    assert_eq!(inverse.len(), groups, "inverse deviations");
    on_this_cpu(
        #[inline(always)]
        || {
            if c == 1 && a > 1 {
                columns_backward(sizes, dxhat, xhat, inverse, dx);
            } else {
                rows_backward(sizes, dxhat, xhat, inverse, dx);
            }
        },
    );
}

/// One part of a mean over `count` elements.
#[inline(always)]
fn share<T: Real>(count: usize) -> T {
    #[expect(clippy::cast_precision_loss, reason = "no slice has 2⁵³ elements")]
    let count = count as f64;
    T::of(1.0 / count)
}

#[inline(always)]
fn rows_forward<T: Real>([a, groups, c]: [usize; 3], epsilon: T, x: &[T], out: &mut Normalised<'_, T>) {
    let share = share::<T>(a * c);
    for group in 0..groups {
        let rows = (0..a).map(|row| (row * groups + group) * c);
        let mut sum = [T::ZERO; BLOCK];
        for at in rows.clone() {
            gather(
                &mut sum,
                [&x[at..at + c]],
                #[inline(always)]
                |sum, [x]| sum + x,
            );
        }
        let mean = total(sum) * share;
        let mut sum = [T::ZERO; BLOCK];
        for at in rows.clone() {
            gather(
                &mut sum,
                [&x[at..at + c]],
                #[inline(always)]
                |sum, [x]| sum + (x - mean) * (x - mean),
            );
        }
        let variance = total(sum) * share;
        let inverse = T::ONE / (variance + epsilon).sqrt();
        for at in rows {
            each(
                [&x[at..at + c]],
                [&mut out.xhat[at..at + c]],
                #[inline(always)]
                |[x], _| [(x - mean) * inverse],
            );
        }
        out.inverse[group] = inverse;
        if let Some(to) = &mut out.mean {
            to[group] = mean;
        }
        if let Some(to) = &mut out.variance {
            to[group] = variance;
        }
    }
}

#[inline(always)]
fn rows_backward<T: Real>([a, groups, c]: [usize; 3], dxhat: &[T], xhat: &[T], inverse: &[T], dx: &mut [T]) {
    let share = share::<T>(a * c);
    for (group, inverse) in inverse.iter().enumerate() {
        let rows = (0..a).map(|row| (row * groups + group) * c);
        let (mut sum, mut product) = ([T::ZERO; BLOCK], [T::ZERO; BLOCK]);
        for at in rows.clone() {
            gather(
                &mut sum,
                [&dxhat[at..at + c]],
                #[inline(always)]
                |sum, [d]| sum + d,
            );
            gather(
                &mut product,
                [&dxhat[at..at + c], &xhat[at..at + c]],
                #[inline(always)]
                |sum, [d, xhat]| sum + d * xhat,
            );
        }
        let (mean, product) = (total(sum) * share, total(product) * share);
        for at in rows {
            each(
                [&dxhat[at..at + c], &xhat[at..at + c]],
                [&mut dx[at..at + c]],
                #[inline(always)]
                |[d, xhat], _| [*inverse * (d - mean - xhat * product)],
            );
        }
    }
}

/// Rows of one element would waste the lanes, so that groups take them, a block at a time.
#[inline(always)]
fn columns_forward<T: Real>([a, groups, _]: [usize; 3], epsilon: T, x: &[T], out: &mut Normalised<'_, T>) {
    let share = share::<T>(a);
    for first in (0..groups).step_by(BLOCK) {
        let cut = first..groups.min(first + BLOCK);
        let (mut mean, mut variance, mut inverse) = ([T::ZERO; BLOCK], [T::ZERO; BLOCK], [T::ZERO; BLOCK]);
        for x in x.chunks_exact(groups) {
            for (sum, x) in mean.iter_mut().zip(load(&x[cut.clone()])) {
                *sum += x;
            }
        }
        for mean in &mut mean {
            *mean *= share;
        }
        for x in x.chunks_exact(groups) {
            for ((sum, x), mean) in variance.iter_mut().zip(load(&x[cut.clone()])).zip(&mean) {
                *sum += (x - *mean) * (x - *mean);
            }
        }
        for (variance, inverse) in variance.iter_mut().zip(&mut inverse) {
            *variance *= share;
            *inverse = T::ONE / (*variance + epsilon).sqrt();
        }
        for (x, xhat) in x.chunks_exact(groups).zip(out.xhat.chunks_exact_mut(groups)) {
            let mut made = load(&x[cut.clone()]);
            for ((made, mean), inverse) in made.iter_mut().zip(&mean).zip(&inverse) {
                *made = (*made - *mean) * *inverse;
            }
            short(&mut xhat[cut.clone()], &made);
        }
        short(&mut out.inverse[cut.clone()], &inverse);
        for (to, from) in [(&mut out.mean, &mean), (&mut out.variance, &variance)] {
            if let Some(to) = to {
                short(&mut to[cut.clone()], from);
            }
        }
    }
}

#[inline(always)]
fn columns_backward<T: Real>(
    [a, groups, _]: [usize; 3],
    dxhat: &[T],
    xhat: &[T],
    inverse: &[T],
    dx: &mut [T],
) {
    let share = share::<T>(a);
    for first in (0..groups).step_by(BLOCK) {
        let cut = first..groups.min(first + BLOCK);
        let (mut mean, mut product) = ([T::ZERO; BLOCK], [T::ZERO; BLOCK]);
        let inverse = load(&inverse[cut.clone()]);
        for (d, xhat) in dxhat.chunks_exact(groups).zip(xhat.chunks_exact(groups)) {
            let (d, xhat) = (load(&d[cut.clone()]), load(&xhat[cut.clone()]));
            for lane in 0..BLOCK {
                mean[lane] += d[lane];
                product[lane] += d[lane] * xhat[lane];
            }
        }
        let read = dxhat.chunks_exact(groups).zip(xhat.chunks_exact(groups));
        for ((d, xhat), dx) in read.zip(dx.chunks_exact_mut(groups)) {
            let (d, xhat) = (load(&d[cut.clone()]), load(&xhat[cut.clone()]));
            let mut made = [T::ZERO; BLOCK];
            for lane in 0..BLOCK {
                let taken = mean[lane] * share + xhat[lane] * (product[lane] * share);
                made[lane] = inverse[lane] * (d[lane] - taken);
            }
            short(&mut dx[cut.clone()], &made);
        }
    }
}
