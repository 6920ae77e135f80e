//! Elements taken to other places: transposing, slicing, padding, repeating, joining, looking up.

use crate::real::{Real, on_this_cpu};

/// In a map: nothing is taken from anywhere.
const NOWHERE: u32 = u32::MAX;

/// Where each block of the result comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Places {
    map: Vec<u32>,
    /// Elements that stay together.
    block: usize,
    /// What stands where nothing is taken.
    fill: f64,
}

/// One axis of the result: for each index the source's index, and the source's stride.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// Indices of the source; `None` is filled.
    pub indices: Vec<Option<usize>>,
    /// Elements of the source from one index to the next.
    pub stride: usize,
}

impl Places {
    /// Makes the map of a result whose axes are independent of each other. `None` when the source is
    /// longer than 32-bit places reach.
    #[must_use]
    pub fn of_axes(axes: &[Axis], fill: f64) -> Option<Self> {
        let (outer, start, block) = Self::outer(axes);
        let mut map: Vec<u32> = vec![u32::try_from(start).ok()?];
        for axis in outer {
            let mut next = Vec::with_capacity(map.len() * axis.indices.len());
            for base in &map {
                for index in &axis.indices {
                    next.push(match index {
                        Some(index) if *base != NOWHERE => {
                            let place = (*base as usize).checked_add(index.checked_mul(axis.stride)?)?;
                            u32::try_from(place).ok().filter(|place| *place != NOWHERE)?
                        }
                        _ => NOWHERE,
                    });
                }
            }
            map = next;
        }
        Some(Self { map, block, fill })
    }

    /// How many places the map of these axes has; `None` when they cannot be counted.
    #[must_use]
    pub fn entries(axes: &[Axis]) -> Option<usize> {
        let (outer, ..) = Self::outer(axes);
        outer.iter().try_fold(1usize, |all, axis| all.checked_mul(axis.indices.len()))
    }

    /// Axes that a map is made for, where its first block begins, and elements of a block.
    fn outer(axes: &[Axis]) -> (&[Axis], usize, usize) {
        let mut block = 1usize;
        let mut outer = axes;
        while let Some((last, before)) = outer.split_last() {
            let is_whole = last.stride == block
                && last.indices.iter().enumerate().all(|(place, index)| *index == Some(place));
            if !is_whole {
                break;
            }
            block *= last.indices.len();
            outer = before;
        }
        // The innermost axis left may still be a run from somewhere.
        let run = outer.split_last().filter(|(last, _)| last.stride == block).and_then(|(last, before)| {
            let first = (*last.indices.first()?)?;
            let is_run = last.indices.iter().zip(first..).all(|(index, place)| *index == Some(place));
            is_run.then(|| (before, first * block, block * last.indices.len()))
        });
        run.unwrap_or((outer, 0, block))
    }

    /// Takes single elements from these places.
    #[must_use]
    pub fn of_elements(map: &[usize]) -> Option<Self> {
        let map = map.iter().map(|place| u32::try_from(*place).ok()).collect::<Option<_>>()?;
        Some(Self { map, block: 1, fill: 0.0 })
    }

    /// Bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.map.len() * size_of::<u32>()
    }

    /// Whether it takes one run, which is the whole of a source of this length.
    #[must_use]
    pub fn is_identity(&self, length: usize) -> bool {
        self.block == length && self.map == [0]
    }
}

/// Fills `y` from places of `x`.
pub fn take<T: Real>(places: &Places, x: &[T], y: &mut [T]) {
    let fill = T::of(places.fill);
    if places.block == 1 {
        for (y, from) in y.iter_mut().zip(&places.map) {
            *y = if *from == NOWHERE { fill } else { x[*from as usize] };
        }
        return;
    }
    for (y, from) in y.chunks_exact_mut(places.block).zip(&places.map) {
        match *from {
            NOWHERE => y.fill(fill),
            from => y.copy_from_slice(&x[from as usize..from as usize + places.block]),
        }
    }
}

/// The gradient of [`take`]: what was taken twice sums up.
pub fn give_back<T: Real>(places: &Places, dy: &[T], dx: &mut [T]) {
    dx.fill(T::ZERO);
    if places.block == 1 {
        for (dy, to) in dy.iter().zip(&places.map).filter(|(_, to)| **to != NOWHERE) {
            dx[*to as usize] += *dy;
        }
        return;
    }
    for (dy, to) in dy.chunks_exact(places.block).zip(&places.map).filter(|(_, to)| **to != NOWHERE) {
        add(&mut dx[*to as usize..*to as usize + places.block], dy);
    }
}

fn add<T: Real>(to: &mut [T], from: &[T]) {
    on_this_cpu(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to += *from;
            }
        },
    );
}

/// Joins tensors of `widths` elements for each of the outer indices.
pub fn join<'a, T: Real>(widths: &[usize], parts: impl Fn(usize) -> &'a [T], y: &mut [T]) {
    let total: usize = widths.iter().sum();
    let mut start = 0;
    for (place, width) in widths.iter().enumerate().filter(|(_, width)| **width > 0) {
        for (y, x) in y.chunks_exact_mut(total).zip(parts(place).chunks_exact(*width)) {
            y[start..start + width].copy_from_slice(x);
        }
        start += width;
    }
}

/// Takes `y.len() / outer` elements from `start` on for each of the outer indices.
pub fn part<T: Real>(total: usize, start: usize, width: usize, x: &[T], y: &mut [T]) {
    if width > 0 {
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(total)) {
            y.copy_from_slice(&x[start..start + width]);
        }
    }
}

/// The gradient of [`part`]: noughts around it.
pub fn place<T: Real>(total: usize, start: usize, width: usize, dy: &[T], dx: &mut [T]) {
    dx.fill(T::ZERO);
    if width > 0 {
        for (dy, dx) in dy.chunks_exact(width).zip(dx.chunks_exact_mut(total)) {
            dx[start..start + width].copy_from_slice(dy);
        }
    }
}

/// Sizes of a look-up along one axis by indices that are data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookUp {
    /// Indices before the axis.
    pub outer: usize,
    /// Size of the axis.
    pub axis: usize,
    /// Elements after it.
    pub inner: usize,
}

impl LookUp {
    /// The place of an index, counted from the end when it is negative; one that is not there becomes the
    /// nearest: data is checked before.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is cut to the axis")]
    fn place<T: Real>(&self, index: T) -> usize {
        let index = index.f64();
        let from_start = if index < 0.0 { index + self.axis as f64 } else { index };
        (from_start.max(0.0) as usize).min(self.axis.saturating_sub(1))
    }

    /// Whether an index exists.
    #[must_use]
    pub fn holds(&self, index: f64) -> bool {
        index.fract() == 0.0 && index >= -(self.axis as f64) && index < self.axis as f64
    }
}

/// Looks `indices` up in `table` [outer, axis, inner]: `y` is [outer, indices, inner].
pub fn look_up<T: Real>(sizes: &LookUp, table: &[T], indices: &[T], y: &mut [T]) {
    let mut rows = y.chunks_exact_mut(sizes.inner.max(1));
    for outer in 0..sizes.outer {
        for index in indices {
            let from = (outer * sizes.axis + sizes.place(*index)) * sizes.inner;
            if let Some(row) = rows.next() {
                row.copy_from_slice(&table[from..from + sizes.inner]);
            }
        }
    }
}

/// The gradient of [`look_up`] by the table.
pub fn look_up_gradient<T: Real>(sizes: &LookUp, indices: &[T], dy: &[T], dtable: &mut [T]) {
    dtable.fill(T::ZERO);
    let mut rows = dy.chunks_exact(sizes.inner.max(1));
    for outer in 0..sizes.outer {
        for index in indices {
            let to = (outer * sizes.axis + sizes.place(*index)) * sizes.inner;
            if let Some(row) = rows.next() {
                add(&mut dtable[to..to + sizes.inner], row);
            }
        }
    }
}

/// Sums along an axis of [outer, axis, inner], from the start or from the end; `before`: without the
/// element itself.
pub fn running_sum<T: Real>([axis, inner]: [usize; 2], from_end: bool, before: bool, x: &[T], y: &mut [T]) {
    for (y, x) in y.chunks_exact_mut((axis * inner).max(1)).zip(x.chunks_exact((axis * inner).max(1))) {
        for column in 0..inner {
            let mut sum = T::ZERO;
            for step in 0..axis {
                let row = if from_end { axis - 1 - step } else { step };
                let at = row * inner + column;
                y[at] = if before { sum } else { sum + x[at] };
                sum += x[at];
            }
        }
    }
}

/// `y = x · scale + shift` for [outer, channels, inner], with one scale and shift a channel.
pub fn channels<T: Real>(inner: usize, x: Option<&[T]>, scale: &[T], shift: &[T], y: &mut [T]) {
    if let Some(x) = x {
        y.copy_from_slice(x);
    }
    let count = scale.len();
    if inner == 1 {
        for y in y.chunks_exact_mut(count.max(1)) {
            on_this_cpu(
                #[inline(always)]
                || {
                    for ((y, scale), shift) in y.iter_mut().zip(scale).zip(shift) {
                        *y = *y * *scale + *shift;
                    }
                },
            );
        }
        return;
    }
    for (place, y) in y.chunks_exact_mut(inner.max(1)).enumerate() {
        let (scale, shift) = (scale[place % count], shift[place % count]);
        on_this_cpu(
            #[inline(always)]
            || {
                for y in y {
                    *y = *y * scale + shift;
                }
            },
        );
    }
}

/// The gradients of [`channels`] by scale and shift.
pub fn channels_gradient<T: Real>(inner: usize, x: &[T], dy: &[T], dscale: &mut [T], dshift: &mut [T]) {
    dscale.fill(T::ZERO);
    dshift.fill(T::ZERO);
    let count = dscale.len().max(1);
    if inner == 1 {
        for (x, dy) in x.chunks_exact(count).zip(dy.chunks_exact(count)) {
            on_this_cpu(
                #[inline(always)]
                || {
                    for (((dscale, dshift), x), dy) in dscale.iter_mut().zip(dshift.iter_mut()).zip(x).zip(dy)
                    {
                        *dscale += *x * *dy;
                        *dshift += *dy;
                    }
                },
            );
        }
        return;
    }
    for (place, (x, dy)) in x.chunks_exact(inner.max(1)).zip(dy.chunks_exact(inner.max(1))).enumerate() {
        let (products, sum) = products_and_sum(x, dy);
        dscale[place % count] += products;
        dshift[place % count] += sum;
    }
}

#[inline(always)]
fn products_and_sum<T: Real>(x: &[T], dy: &[T]) -> (T, T) {
    const LANES: usize = 16;
    on_this_cpu(
        #[inline(always)]
        || {
            let (mut products, mut sums) = ([T::ZERO; LANES], [T::ZERO; LANES]);
            let whole = x.len() / LANES * LANES;
            for (x, dy) in x.chunks_exact(LANES).zip(dy.chunks_exact(LANES)) {
                for lane in 0..LANES {
                    products[lane] += x[lane] * dy[lane];
                    sums[lane] += dy[lane];
                }
            }
            let (mut product, mut sum) = (T::ZERO, T::ZERO);
            for lane in 0..LANES {
                product += products[lane];
                sum += sums[lane];
            }
            for (x, dy) in x[whole..].iter().zip(&dy[whole..]) {
                product += *x * *dy;
                sum += *dy;
            }
            (product, sum)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(indices: &[i32], stride: usize) -> Axis {
        Axis { indices: indices.iter().map(|index| usize::try_from(*index).ok()).collect(), stride }
    }

    #[test]
    fn blocks_stay_together_where_they_can() {
        for (axes, map, block) in [
            // The transpose of [2, 3].
            (vec![axis(&[0, 1, 2], 1), axis(&[0, 1], 3)], vec![0, 3, 1, 4, 2, 5], 1),
            // Rows turned round, of [2, 3].
            (vec![axis(&[1, 0], 3), axis(&[0, 1, 2], 1)], vec![3, 0], 3),
            // Columns 1 and 2 of [2, 3].
            (vec![axis(&[0, 1], 3), axis(&[1, 2], 1)], vec![1, 4], 2),
            // Padded with something on both sides.
            (vec![axis(&[-1, 0, 1, -1], 1)], vec![NOWHERE, 0, 1, NOWHERE], 1),
            (vec![axis(&[0, 1], 3), axis(&[0, 1, 2], 1)], vec![0], 6),
            (vec![], vec![0], 1),
        ] {
            let places = Places::of_axes(&axes, 7.0).unwrap();
            assert_eq!((places.map, places.block), (map, block), "{axes:?}");
        }
    }

    #[test]
    fn what_is_taken_is_given_back() {
        let places = Places::of_axes(&[axis(&[1, -1, 1, 0], 2), axis(&[0, 1], 1)], 9.0).unwrap();
        let mut y = [0.0; 8];
        take(&places, &[1.0, 2.0, 3.0, 4.0], &mut y);
        assert_eq!(y, [3.0, 4.0, 9.0, 9.0, 3.0, 4.0, 1.0, 2.0]);
        let mut dx = [5.0; 4];
        give_back(&places, &[1.0, 10.0, 100.0, 100.0, 2.0, 20.0, 3.0, 30.0], &mut dx);
        assert_eq!(dx, [3.0, 30.0, 3.0, 30.0]);
    }

    #[test]
    fn running_sums_in_every_direction() {
        let x = [1.0, 2.0, 3.0];
        for (from_end, before, wanted) in [
            (false, false, [1.0, 3.0, 6.0]),
            (false, true, [0.0, 1.0, 3.0]),
            (true, false, [6.0, 5.0, 3.0]),
            (true, true, [5.0, 3.0, 0.0]),
        ] {
            let mut y = [0.0; 3];
            running_sum([3, 1], from_end, before, &x, &mut y);
            assert_eq!(y, wanted);
        }
    }
}
