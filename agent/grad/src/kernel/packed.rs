//! Products with one operand laid out beforehand, for small products that are repeated: the steps of
//! a recurrent layer.

use crate::kernel::gemm::Matrix;
use crate::real::Real;
use pulp::Simd;

/// Columns that are stored together: a multiple of the lanes of all vectors, and two of the widest.
const PANEL: usize = 32;
/// Rows of the left operand that are kept near while all panels pass.
const NEAR: usize = 64;

/// What a product is added to.
#[derive(Debug, Clone, Copy)]
pub enum Onto<'a, T> {
    /// Nothing: the result is overwritten.
    Nought,
    /// The result as it is.
    Itself,
    /// This row, in each row of the result, which is overwritten.
    Row(&'a [T]),
}

/// A left operand: rows of k elements.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a, T> {
    /// Where its elements are.
    pub data: &'a [T],
    /// Elements from one row to the next.
    pub stride: usize,
}

/// A result: rows of n elements.
#[derive(Debug)]
pub struct RowsMut<'a, T> {
    /// Where its elements are.
    pub data: &'a mut [T],
    /// Elements from one row to the next.
    pub stride: usize,
}

/// A product to run.
#[derive(Debug)]
pub struct Product<'a, T> {
    sizes: [usize; 3],
    a: Rows<'a, T>,
    packed: &'a [T],
    onto: Onto<'a, T>,
    c: RowsMut<'a, T>,
}

/// Elements that a right operand of `k` rows and `n` columns takes when packed.
#[must_use]
pub fn packed_len(k: usize, n: usize) -> usize {
    k * n.next_multiple_of(PANEL)
}

/// Lays out `b` [k, n] in panels; `packed` has [`packed_len`] elements.
pub fn pack<T: Real>([k, n]: [usize; 2], b: Matrix<'_, T>, packed: &mut [T]) {
    assert_eq!(packed.len(), packed_len(k, n), "packed operand of {k} x {n}");
    for (panel, first) in packed.chunks_exact_mut((k * PANEL).max(1)).zip((0..n).step_by(PANEL)) {
        if b.row == 1 && b.column > 1 {
            // Read along the columns, which are runs.
            let width = PANEL.min(n - first);
            if width < PANEL {
                panel.fill(T::ZERO);
            }
            for column in 0..width {
                let from = &b.data[(first + column) * b.column..][..k];
                for (to, from) in panel[column..].iter_mut().step_by(PANEL).zip(from) {
                    *to = *from;
                }
            }
            continue;
        }
        for (p, row) in panel.chunks_exact_mut(PANEL).enumerate() {
            let (row, rest) = row.split_at_mut(PANEL.min(n - first));
            rest.fill(T::ZERO);
            if b.column == 1 {
                row.copy_from_slice(&b.data[p * b.row + first..][..row.len()]);
                continue;
            }
            let from = b.data[p * b.row + first * b.column..].iter().step_by(b.column);
            for (element, from) in row.iter_mut().zip(from) {
                *element = *from;
            }
        }
    }
}

/// `c = onto + a · b` with a [m, k], b [k, n] as [`pack`] left it, c [m, n].
#[inline]
pub fn multiply<T: Real>(
    sizes: [usize; 3],
    a: Rows<'_, T>,
    packed: &[T],
    onto: Onto<'_, T>,
    c: RowsMut<'_, T>,
) {
    let [_, n, k] = sizes;
    assert_eq!(packed.len(), packed_len(k, n), "packed operand of {k} x {n}");
    T::packed(Product { sizes, a, packed, onto, c });
}

/// Numbers that vectors hold.
pub(crate) trait Lanes: Real {
    type Vector<S: Simd>: Copy;
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;
    fn fused<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>)
    -> Self::Vector<S>;
    fn sum<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    fn vectors<S: Simd>(slice: &[Self]) -> &[Self::Vector<S>];
    fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [Self::Vector<S>];
}

macro_rules! lanes {
    ($real:ty, $vector:ident, $splat:ident, $fused:ident, $sum:ident, $vectors:ident, $vectors_mut:ident) => {
        impl Lanes for $real {
            type Vector<S: Simd> = S::$vector;
            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> S::$vector {
                simd.$splat(value)
            }
            #[inline(always)]
            fn fused<S: Simd>(simd: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                simd.$fused(a, b, c)
            }
            #[inline(always)]
            fn sum<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$sum(a, b)
            }
            #[inline(always)]
            fn vectors<S: Simd>(slice: &[Self]) -> &[S::$vector] {
                S::$vectors(slice).0
            }
            #[inline(always)]
            fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [S::$vector] {
                S::$vectors_mut(slice).0
            }
        }
    };
}
lanes!(f32, f32s, splat_f32s, mul_add_e_f32s, add_f32s, as_simd_f32s, as_mut_simd_f32s);
lanes!(f64, f64s, splat_f64s, mul_add_e_f64s, add_f64s, as_simd_f64s, as_mut_simd_f64s);

/// Runs a product in the widest vectors of this CPU.
pub(crate) fn run<T: Lanes>(product: Product<'_, T>) {
    pulp::Arch::new().dispatch(Run(product));
}

struct Run<'a, T>(Product<'a, T>);

impl<T: Lanes> pulp::WithSimd for Run<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Product { sizes: [m, n, k], a, packed, onto, mut c } = self.0;
        for top in (0..m).step_by(NEAR) {
            let bottom = m.min(top + NEAR);
            for first in (0..n).step_by(PANEL) {
                let panel = &packed[first * k..][..k * PANEL];
                let place = Place { k, first, width: PANEL.min(n - first), onto };
                let mut row = top;
                if S::REGISTER_COUNT >= 32 {
                    while row + 8 <= bottom {
                        tile::<T, S, 8>(simd, place, row, a, panel, &mut c);
                        row += 8;
                    }
                }
                while row + 4 <= bottom {
                    tile::<T, S, 4>(simd, place, row, a, panel, &mut c);
                    row += 4;
                }
                while row < bottom {
                    tile::<T, S, 1>(simd, place, row, a, panel, &mut c);
                    row += 1;
                }
            }
        }
    }
}

/// Which columns of the result a tile makes.
#[derive(Clone, Copy)]
struct Place<'a, T> {
    k: usize,
    first: usize,
    width: usize,
    onto: Onto<'a, T>,
}

/// M rows and one panel of the result, two vectors of columns at a time.
#[inline(always)]
fn tile<T: Lanes, S: Simd, const M: usize>(
    simd: S,
    place: Place<'_, T>,
    row: usize,
    a: Rows<'_, T>,
    panel: &[T],
    c: &mut RowsMut<'_, T>,
) {
    let rows: [&[T]; M] = std::array::from_fn(
        #[inline(always)]
        |i| &a.data[(row + i) * a.stride..][..place.k],
    );
    let lanes = lanes::<T, S>();
    for left in (0..place.width).step_by(2 * lanes) {
        let width = (place.width - left).min(2 * lanes);
        if width <= lanes {
            let sums = sums::<T, S, M, 1>(simd, rows, panel, left);
            for (i, sum) in sums.iter().enumerate() {
                let out = &mut c.data[(row + i) * c.stride + place.first + left..][..width];
                leave(simd, sum, place, left, out);
            }
        } else {
            let sums = sums::<T, S, M, 2>(simd, rows, panel, left);
            for (i, sum) in sums.iter().enumerate() {
                let out = &mut c.data[(row + i) * c.stride + place.first + left..][..width];
                leave(simd, sum, place, left, out);
            }
        }
    }
}

/// The products of M rows with V vectors of columns.
#[inline(always)]
fn sums<T: Lanes, S: Simd, const M: usize, const V: usize>(
    simd: S,
    rows: [&[T]; M],
    panel: &[T],
    left: usize,
) -> [[T::Vector<S>; V]; M] {
    let mut sums = [[T::splat(simd, T::ZERO); V]; M];
    for (p, line) in panel.as_chunks::<PANEL>().0.iter().enumerate() {
        let line = T::vectors::<S>(&line[left..left + V * lanes::<T, S>()]);
        for (sum, row) in sums.iter_mut().zip(rows) {
            let factor = T::splat(simd, row[p]);
            for (sum, line) in sum.iter_mut().zip(line) {
                *sum = T::fused(simd, factor, *line, *sum);
            }
        }
    }
    sums
}

/// Numbers in a vector.
#[inline(always)]
fn lanes<T: Lanes, S: Simd>() -> usize {
    size_of::<T::Vector<S>>() / size_of::<T>()
}

/// Puts a row of a tile in its place.
#[inline(always)]
fn leave<T: Lanes, S: Simd, const V: usize>(
    simd: S,
    sum: &[T::Vector<S>; V],
    place: Place<'_, T>,
    left: usize,
    out: &mut [T],
) {
    if out.len() == V * lanes::<T, S>() {
        let onto = match place.onto {
            Onto::Nought => None,
            Onto::Itself => Some(load(simd, out)),
            Onto::Row(row) => Some(load(simd, &row[place.first + left..][..out.len()])),
        };
        for (v, out) in T::vectors_mut::<S>(out).iter_mut().enumerate() {
            *out = onto.map_or(
                sum[v],
                #[inline(always)]
                |onto: [T::Vector<S>; V]| T::sum(simd, onto[v], sum[v]),
            );
        }
        return;
    }
    let mut made = [T::ZERO; PANEL];
    for (v, made) in T::vectors_mut::<S>(&mut made)[..V].iter_mut().enumerate() {
        *made = sum[v];
    }
    let row = match place.onto {
        Onto::Row(row) => &row[place.first + left..][..out.len()],
        Onto::Nought | Onto::Itself => &[],
    };
    for (j, (out, made)) in out.iter_mut().zip(made).enumerate() {
        *out = match place.onto {
            Onto::Nought => made,
            Onto::Itself => *out + made,
            Onto::Row(_) => row[j] + made,
        };
    }
}

/// Some vectors of a slice that has just as many.
#[inline(always)]
fn load<T: Lanes, S: Simd, const V: usize>(simd: S, from: &[T]) -> [T::Vector<S>; V] {
    let mut loaded = [T::splat(simd, T::ZERO); V];
    for (loaded, from) in loaded.iter_mut().zip(T::vectors::<S>(from)) {
        *loaded = *from;
    }
    loaded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Real>(most: f64) {
        for [m, n, k] in [[1, 1, 1], [3, 5, 2], [8, 32, 7], [13, 70, 9], [70, 33, 64], [2, 4, 0], [0, 3, 2]] {
            let fill = |len: usize, step: f64| -> Vec<T> {
                (0..len).map(|v| T::of((v as f64 * step).sin())).collect()
            };
            let (a, b, row) = (fill(m * (k + 1), 0.7), fill(k * n, 1.3), fill(n, 0.3));
            let mut packed = vec![T::ZERO; packed_len(k, n)];
            pack([k, n], Matrix { data: &b, row: 1, column: k }, &mut packed);
            for onto in [Onto::Nought, Onto::Itself, Onto::Row(&row[..])] {
                let before = fill(m * (n + 2), 0.9);
                let mut c = before.clone();
                let rows = Rows { data: &a, stride: k + 1 };
                multiply([m, n, k], rows, &packed, onto, RowsMut { data: &mut c, stride: n + 2 });
                for (place, got) in c.iter().enumerate() {
                    let (i, j) = (place / (n + 2), place % (n + 2));
                    let mut wanted = match onto {
                        Onto::Nought if j < n => 0.0,
                        Onto::Row(row) if j < n => row[j].f64(),
                        _ => before[place].f64(),
                    };
                    if j < n {
                        wanted += (0..k).map(|p| a[i * (k + 1) + p].f64() * b[j * k + p].f64()).sum::<f64>();
                    }
                    assert!((got.f64() - wanted).abs() < most, "{m} {n} {k} {onto:?} {i} {j}");
                }
            }
        }
    }

    #[test]
    fn products_of_every_size() {
        check::<f64>(1e-12);
        check::<f32>(1e-5);
    }
}
