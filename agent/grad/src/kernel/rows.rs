//! What looks at a whole row at a time: softmax, its logarithm, and normalisation.
//!
//! Sums are made in sixteen parts that are joined at the end, on every CPU in the same order.

mod normalise;
#[cfg(test)]
mod tests;

pub use normalise::{Normalised, normalise_backward, normalise_forward};

use crate::kernel::blocks::{BLOCK, each, gather, join, load, short};
use crate::real::{Real, on_this_cpu};

/// `y = exp(x) / Σ exp(x)` over the middle one of three axes.
///
/// # Panics
/// When a slice has not the size that the axes give; so do all functions here.
pub fn softmax_forward<T: Real>(sizes: [usize; 3], x: &[T], y: &mut [T]) {
    run_forward::<T, false>(sizes, x, y);
}

/// `y = x - ln Σ exp(x)` over the middle one of three axes.
pub fn log_softmax_forward<T: Real>(sizes: [usize; 3], x: &[T], y: &mut [T]) {
    run_forward::<T, true>(sizes, x, y);
}

/// `dx = y · (dy - Σ dy · y)`.
pub fn softmax_backward<T: Real>(sizes: [usize; 3], y: &[T], dy: &[T], dx: &mut [T]) {
    run_backward::<T, false>(sizes, y, dy, dx);
}

/// `dx = dy - exp(y) · Σ dy`.
pub fn log_softmax_backward<T: Real>(sizes: [usize; 3], y: &[T], dy: &[T], dx: &mut [T]) {
    run_backward::<T, true>(sizes, y, dy, dx);
}

fn run_forward<T: Real, const LOG: bool>([outer, axis, inner]: [usize; 3], x: &[T], y: &mut [T]) {
    assert_eq!((x.len(), y.len()), (outer * axis * inner, outer * axis * inner), "x and y");
    let plane = (axis * inner).max(1);
    on_this_cpu(
        #[inline(always)]
        || {
            for (x, y) in x.chunks_exact(plane).zip(y.chunks_exact_mut(plane)) {
                if inner == 1 {
                    row_forward::<T, LOG>(x, y);
                } else {
                    columns_forward::<T, LOG>(inner, x, y);
                }
            }
        },
    );
}

fn run_backward<T: Real, const LOG: bool>([outer, axis, inner]: [usize; 3], y: &[T], dy: &[T], dx: &mut [T]) {
    let all = outer * axis * inner;
    assert_eq!((y.len(), dy.len(), dx.len()), (all, all, all), "y, dy and dx");
    let plane = (axis * inner).max(1);
    let read = y.chunks_exact(plane).zip(dy.chunks_exact(plane));
    on_this_cpu(
        #[inline(always)]
        || {
            for ((y, dy), dx) in read.zip(dx.chunks_exact_mut(plane)) {
                if inner == 1 {
                    row_backward::<T, LOG>(y, dy, dx);
                } else {
                    columns_backward::<T, LOG>(inner, y, dy, dx);
                }
            }
        },
    );
}

#[inline(always)]
fn row_forward<T: Real, const LOG: bool>(x: &[T], y: &mut [T]) {
    let mut most = [T::LOWEST; BLOCK];
    gather(
        &mut most,
        [x],
        #[inline(always)]
        |most, [x]| most.larger(x),
    );
    let most = join(
        most,
        #[inline(always)]
        |a, b| a.larger(b),
    );
    each(
        [x],
        [&mut *y],
        #[inline(always)]
        |[x], _| [(x - most).exp()],
    );
    let mut sum = [T::ZERO; BLOCK];
    gather(
        &mut sum,
        [&*y],
        #[inline(always)]
        |sum, [y]| sum + y,
    );
    let sum = total(sum);
    if LOG {
        let all = sum.ln();
        each(
            [x],
            [y],
            #[inline(always)]
            |[x], _| [x - most - all],
        );
    } else {
        let part = T::ONE / sum;
        each(
            [],
            [y],
            #[inline(always)]
            |[], [y]| [y * part],
        );
    }
}

#[inline(always)]
fn row_backward<T: Real, const LOG: bool>(y: &[T], dy: &[T], dx: &mut [T]) {
    let mut sum = [T::ZERO; BLOCK];
    gather(
        &mut sum,
        [y, dy],
        #[inline(always)]
        |sum, [y, dy]| sum + if LOG { dy } else { dy * y },
    );
    let sum = total(sum);
    each(
        [y, dy],
        [dx],
        #[inline(always)]
        |[y, dy], _| [if LOG { dy - y.exp() * sum } else { y * (dy - sum) }],
    );
}

/// Many columns side by side, a block of them at a time.
#[inline(always)]
fn columns_forward<T: Real, const LOG: bool>(inner: usize, x: &[T], y: &mut [T]) {
    for left in (0..inner).step_by(BLOCK) {
        let cut = left..inner.min(left + BLOCK);
        let mut most = [T::LOWEST; BLOCK];
        for x in x.chunks_exact(inner) {
            for (most, x) in most.iter_mut().zip(load(&x[cut.clone()])) {
                *most = most.larger(x);
            }
        }
        let mut sum = [T::ZERO; BLOCK];
        for (x, y) in x.chunks_exact(inner).zip(y.chunks_exact_mut(inner)) {
            let mut made = load(&x[cut.clone()]);
            for ((made, most), sum) in made.iter_mut().zip(&most).zip(&mut sum) {
                *made = (*made - *most).exp();
                *sum += *made;
            }
            short(&mut y[cut.clone()], &made);
        }
        for sum in &mut sum {
            *sum = if LOG { sum.ln() } else { T::ONE / *sum };
        }
        for (x, y) in x.chunks_exact(inner).zip(y.chunks_exact_mut(inner)) {
            let mut made = load(if LOG { &x[cut.clone()] } else { &y[cut.clone()] });
            for ((made, most), sum) in made.iter_mut().zip(&most).zip(&sum) {
                *made = if LOG { *made - *most - *sum } else { *made * *sum };
            }
            short(&mut y[cut.clone()], &made);
        }
    }
}

#[inline(always)]
fn columns_backward<T: Real, const LOG: bool>(inner: usize, y: &[T], dy: &[T], dx: &mut [T]) {
    for left in (0..inner).step_by(BLOCK) {
        let cut = left..inner.min(left + BLOCK);
        let mut sum = [T::ZERO; BLOCK];
        for (y, dy) in y.chunks_exact(inner).zip(dy.chunks_exact(inner)) {
            let (y, dy) = (load(&y[cut.clone()]), load(&dy[cut.clone()]));
            for ((sum, y), dy) in sum.iter_mut().zip(&y).zip(&dy) {
                *sum += if LOG { *dy } else { *dy * *y };
            }
        }
        let read = y.chunks_exact(inner).zip(dy.chunks_exact(inner));
        for ((y, dy), dx) in read.zip(dx.chunks_exact_mut(inner)) {
            let (y, mut made) = (load(&y[cut.clone()]), load(&dy[cut.clone()]));
            for ((made, y), sum) in made.iter_mut().zip(&y).zip(&sum) {
                *made = if LOG { *made - y.exp() * *sum } else { *y * (*made - *sum) };
            }
            short(&mut dx[cut.clone()], &made);
        }
    }
}

#[inline(always)]
fn total<T: Real>(lanes: [T; BLOCK]) -> T {
    join(
        lanes,
        #[inline(always)]
        |a, b| a + b,
    )
}
