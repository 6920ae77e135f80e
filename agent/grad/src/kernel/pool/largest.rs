//! The largest number of each window.

use super::PoolShape;
use crate::kernel::window::{inside, read_steps};
use crate::real::{Real, on_this_cpu};

/// The largest number of each window; not a number when one in it is not, and the lowest number when
/// it has no cell inside.
///
/// # Panics
/// When a slice does not have the size that the shape says.
pub fn max_forward<T: Real>(s: &PoolShape, x: &[T], y: &mut [T]) {
    s.check(x.len(), y.len());
    if y.is_empty() {
        return;
    }
    if x.is_empty() {
        y.fill(T::LOWEST);
        return;
    }
    match pairs(s) {
        Some(1) => on_this_cpu(
            #[inline(always)]
            || forward_pairs::<T, 1>(s, x, y),
        ),
        Some(2) => on_this_cpu(
            #[inline(always)]
            || forward_pairs::<T, 2>(s, x, y),
        ),
        _ => on_this_cpu(
            #[inline(always)]
            || forward_windows(s, x, y),
        ),
    }
}

/// The gradient of the input: that of each output goes to the first largest number of its window.
///
/// # Panics
/// When a slice does not have the size that the shape says.
pub fn max_backward<T: Real>(s: &PoolShape, x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
    s.check(x.len(), y.len());
    s.check(dx.len(), dy.len());
    if y.is_empty() || x.is_empty() {
        dx.fill(T::ZERO);
        return;
    }
    match pairs(s) {
        Some(1) => on_this_cpu(
            #[inline(always)]
            || backward_pairs::<T, 1>(s, x, y, dy, dx),
        ),
        Some(2) => on_this_cpu(
            #[inline(always)]
            || backward_pairs::<T, 2>(s, x, y, dy, dx),
        ),
        _ => on_this_cpu(
            #[inline(always)]
            || backward_windows(s, x, y, dy, dx),
        ),
    }
}

/// The height of windows that are two wide, one or two high, beside each other and inside.
fn pairs(s: &PoolShape) -> Option<usize> {
    let [height, width] = s.kernel;
    let beside = width == 2 && s.stride == s.kernel && s.dilation == [1, 1] && s.pads[..2] == [0, 0];
    let inside = s.made[0] * height <= s.size[0] && s.made[1] * width <= s.size[1];
    (beside && inside && height <= 2).then_some(height)
}

/// The larger one; not a number when one of them is not.
#[inline(always)]
#[expect(clippy::eq_op, reason = "what is not a number does not equal itself")]
fn largest<T: Real>(most: T, value: T) -> T {
    if value > most || value != value { value } else { most }
}

#[inline(always)]
fn forward_pairs<T: Real, const HEIGHT: usize>(s: &PoolShape, x: &[T], y: &mut [T]) {
    let width = s.size[1];
    for (y, x) in y.chunks_exact_mut(s.made_plane()).zip(x.chunks_exact(s.plane())) {
        for (y, x) in y.chunks_exact_mut(s.made[1]).zip(x.chunks_exact(width * HEIGHT)) {
            let first = x[..width].as_chunks::<2>().0;
            let second = x[(HEIGHT - 1) * width..].as_chunks::<2>().0;
            for ((y, first), second) in y.iter_mut().zip(first).zip(second) {
                let most = largest(first[0], first[1]);
                *y = if HEIGHT == 1 { most } else { largest(largest(most, second[0]), second[1]) };
            }
        }
    }
}

#[inline(always)]
fn backward_pairs<T: Real, const HEIGHT: usize>(s: &PoolShape, x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
    let (width, used) = (s.size[1], s.made[0] * HEIGHT * s.size[1]);
    let planes = dx.chunks_exact_mut(s.plane()).zip(x.chunks_exact(s.plane()));
    let made = y.chunks_exact(s.made_plane()).zip(dy.chunks_exact(s.made_plane()));
    for ((dx, x), (y, dy)) in planes.zip(made) {
        dx[used..].fill(T::ZERO);
        let rows = dx.chunks_exact_mut(width * HEIGHT).zip(x.chunks_exact(width * HEIGHT));
        let made = y.chunks_exact(s.made[1]).zip(dy.chunks_exact(s.made[1]));
        for ((dx, x), (y, dy)) in rows.zip(made) {
            let (first_dx, second_dx) = dx.split_at_mut(width);
            let (first, second) = x.split_at(width);
            if HEIGHT == 1 {
                give_pairs(first, y, dy, first_dx);
            } else {
                give_squares([first, second], y, dy, [first_dx, second_dx]);
            }
        }
    }
}

/// Whether a number is the largest one, whose value is known; what is not a number is the largest.
#[inline(always)]
#[expect(clippy::eq_op, reason = "what is not a number does not equal itself")]
fn is_largest<T: Real>(value: T, most: T) -> bool {
    value == most || value != value
}

#[inline(always)]
fn give_pairs<T: Real>(x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
    let (pairs, _) = dx.as_chunks_mut::<2>();
    let (pairs, beyond) = pairs.split_at_mut(y.len());
    beyond.fill([T::ZERO; 2]);
    for (((dx, x), &y), &dy) in pairs.iter_mut().zip(x.as_chunks::<2>().0).zip(y).zip(dy) {
        let left = is_largest(x[0], y);
        *dx = [if left { dy } else { T::ZERO }, if left { T::ZERO } else { dy }];
    }
    if let [last] = dx.as_chunks_mut::<2>().1 {
        *last = T::ZERO;
    }
}

#[inline(always)]
fn give_squares<T: Real>(x: [&[T]; 2], y: &[T], dy: &[T], [above, below]: [&mut [T]; 2]) {
    let used = y.len() * 2;
    above[used..].fill(T::ZERO);
    below[used..].fill(T::ZERO);
    let to = above.as_chunks_mut::<2>().0.iter_mut().zip(below.as_chunks_mut::<2>().0);
    let from = x[0].as_chunks::<2>().0.iter().zip(x[1].as_chunks::<2>().0);
    for ((((above, below), (first, second)), &y), &dy) in to.zip(from).zip(y).zip(dy) {
        let one = is_largest(first[0], y);
        let two = !one & is_largest(first[1], y);
        let three = !(one | two) & is_largest(second[0], y);
        let give = |takes: bool| if takes { dy } else { T::ZERO };
        *above = [give(one), give(two)];
        *below = [give(three), give(!(one | two | three))];
    }
}

#[inline(always)]
fn forward_windows<T: Real>(s: &PoolShape, x: &[T], y: &mut [T]) {
    y.fill(T::LOWEST);
    for (y, x) in y.chunks_exact_mut(s.made_plane()).zip(x.chunks_exact(s.plane())) {
        for (window, y) in y.chunks_exact_mut(s.made[1]).enumerate() {
            for down in s.cells(0, window) {
                let row = &x[s.place(0, window, down) * s.size[1]..][..s.size[1]];
                for along in 0..s.kernel[1] {
                    let offset = along * s.dilation[1];
                    let columns = inside(s.made[1], s.stride[1], offset, s.pads[1], s.size[1]);
                    if columns.is_empty() {
                        continue;
                    }
                    let first = s.place(1, columns.start, along);
                    read_steps(&mut y[columns], &row[first..], s.stride[1], largest);
                }
            }
        }
    }
}

#[inline(always)]
fn backward_windows<T: Real>(s: &PoolShape, x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
    dx.fill(T::ZERO);
    let planes = dx.chunks_exact_mut(s.plane()).zip(x.chunks_exact(s.plane()));
    let made = y.chunks_exact(s.made_plane()).zip(dy.chunks_exact(s.made_plane()));
    for ((dx, x), (y, dy)) in planes.zip(made) {
        for row in 0..s.made[0] {
            let downs = s.cells(0, row);
            for column in 0..s.made[1] {
                let most = y[row * s.made[1] + column];
                let mut places = downs.clone().flat_map(|down| {
                    let start = s.place(0, row, down) * s.size[1];
                    s.cells(1, column).map(move |along| start + s.place(1, column, along))
                });
                if let Some(place) = places.find(|&place| is_largest(x[place], most)) {
                    dx[place] += dy[row * s.made[1] + column];
                }
            }
        }
    }
}
