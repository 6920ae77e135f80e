//! Functions of elements side by side in many slices, in blocks that stay in registers.
//!
//! A plain loop over a dozen slices becomes no vector instructions, because the compiler gives up
//! proving that writing one leaves the others alone; blocks are copies, and need no proof.

use crate::real::Real;

/// Elements that are worked on together: the widest vector.
pub(crate) const BLOCK: usize = 16;

/// Writes to all `written` what `make` says of the elements of `read` and `written` at one place.
///
/// It belongs into [`crate::on_this_cpu`], `make` must be inlined, and all slices must be as long as
/// the first of `written`.
#[inline(always)]
pub(crate) fn each<T: Real, const IN: usize, const OUT: usize>(
    read: [&[T]; IN],
    mut written: [&mut [T]; OUT],
    make: impl Fn([T; IN], [T; OUT]) -> [T; OUT],
) {
    let len = written[0].len();
    let mut at = 0;
    while at + BLOCK <= len {
        whole(read, &mut written, at, 0, &make);
        at += BLOCK;
    }
    if at < len && len >= BLOCK {
        whole(read, &mut written, len - BLOCK, BLOCK - (len - at), &make);
    } else if at < len {
        let mut blocks = [[T::ZERO; BLOCK]; IN];
        let mut made = [[T::ZERO; BLOCK]; OUT];
        for (block, read) in blocks.iter_mut().zip(read) {
            short(block, &read[..len]);
        }
        for (block, written) in made.iter_mut().zip(&written) {
            short(block, &written[..len]);
        }
        work(&blocks, &mut made, 0, &make);
        for (block, written) in made.iter().zip(&mut written) {
            short(&mut written[..len], block);
        }
    }
}

/// Joins all elements of `read` to `lanes`, each to the one of its place in its block; see [`each`].
#[inline(always)]
pub(crate) fn gather<T: Real, const IN: usize>(
    lanes: &mut [T; BLOCK],
    read: [&[T]; IN],
    join: impl Fn(T, [T; IN]) -> T,
) {
    let len = read[0].len();
    let mut at = 0;
    while at + BLOCK <= len {
        fold(read, at, 0, lanes, &join);
        at += BLOCK;
    }
    if at < len && len >= BLOCK {
        fold(read, len - BLOCK, BLOCK - (len - at), lanes, &join);
    } else {
        for (place, lane) in lanes.iter_mut().enumerate().take(len - at) {
            let mut from = [T::ZERO; IN];
            for (from, read) in from.iter_mut().zip(read) {
                *from = read[at + place];
            }
            *lane = join(*lane, from);
        }
    }
}

/// Joins one block, of which the first `done` elements are joined already.
#[inline(always)]
fn fold<T: Real, const IN: usize>(
    read: [&[T]; IN],
    at: usize,
    done: usize,
    lanes: &mut [T; BLOCK],
    join: &impl Fn(T, [T; IN]) -> T,
) {
    let mut blocks = [[T::ZERO; BLOCK]; IN];
    for (block, read) in blocks.iter_mut().zip(read) {
        block.copy_from_slice(&read[at..at + BLOCK]);
    }
    for (lane, sum) in lanes.iter_mut().enumerate() {
        let mut from = [T::ZERO; IN];
        for (from, block) in from.iter_mut().zip(&blocks) {
            *from = block[lane];
        }
        let joined = join(*sum, from);
        *sum = if lane < done { *sum } else { joined };
    }
}

/// Joins all lanes to one number.
#[inline(always)]
pub(crate) fn join<T: Real>(mut lanes: [T; BLOCK], join: impl Fn(T, T) -> T) -> T {
    let mut half = BLOCK / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// One block, of which the first `done` elements stay as they are.
#[inline(always)]
fn whole<T: Real, const IN: usize, const OUT: usize>(
    read: [&[T]; IN],
    written: &mut [&mut [T]; OUT],
    at: usize,
    done: usize,
    make: &impl Fn([T; IN], [T; OUT]) -> [T; OUT],
) {
    let mut blocks = [[T::ZERO; BLOCK]; IN];
    let mut made = [[T::ZERO; BLOCK]; OUT];
    for (block, read) in blocks.iter_mut().zip(read) {
        block.copy_from_slice(&read[at..at + BLOCK]);
    }
    for (block, written) in made.iter_mut().zip(written.iter()) {
        block.copy_from_slice(&written[at..at + BLOCK]);
    }
    work(&blocks, &mut made, done, make);
    for (block, written) in made.iter().zip(written) {
        written[at..at + BLOCK].copy_from_slice(block);
    }
}

#[inline(always)]
fn work<T: Real, const IN: usize, const OUT: usize>(
    read: &[[T; BLOCK]; IN],
    made: &mut [[T; BLOCK]; OUT],
    done: usize,
    make: &impl Fn([T; IN], [T; OUT]) -> [T; OUT],
) {
    for lane in 0..BLOCK {
        let mut from = [T::ZERO; IN];
        for (from, block) in from.iter_mut().zip(read) {
            *from = block[lane];
        }
        let mut old = [T::ZERO; OUT];
        for (old, block) in old.iter_mut().zip(made.iter()) {
            *old = block[lane];
        }
        let new = make(from, old);
        for ((block, new), old) in made.iter_mut().zip(new).zip(old) {
            block[lane] = if lane < done { old } else { new };
        }
    }
}

/// A block of at most as many elements, with noughts behind them.
#[inline(always)]
pub(crate) fn load<T: Real>(from: &[T]) -> [T; BLOCK] {
    let mut block = [T::ZERO; BLOCK];
    if let Some(from) = from.first_chunk() {
        block = *from;
    } else {
        short(&mut block, from);
    }
    block
}

/// Copies fewer than a block of elements, without the call that a copy of unknown length is.
#[inline(always)]
pub(crate) fn short<T: Copy>(to: &mut [T], from: &[T]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_covered_once() {
        for len in [0, 1, 15, 16, 17, 40] {
            let read: Vec<f32> = (0u8..).take(len).map(f32::from).collect();
            let (mut sum, mut count) = (vec![1.0; len], vec![2.0; len]);
            each([&read, &read], [&mut sum, &mut count], |[a, b], [sum, count]| [sum + a * b, count + 1.0]);
            assert!(sum.iter().zip(&read).all(|(sum, v)| *sum == 1.0 + v * v), "{len}");
            assert_eq!(count, vec![3.0; len]);
        }
    }

    #[test]
    fn every_element_is_gathered_once() {
        for len in [0, 1, 15, 16, 17, 40] {
            let read: Vec<f32> = (0u8..).take(len).map(f32::from).collect();
            let mut lanes = [0.5; BLOCK];
            gather(&mut lanes, [&read, &read], |lane, [a, b]| lane + a + b);
            assert_eq!(join(lanes, |a, b| a + b), 8.0 + read.iter().sum::<f32>() * 2.0, "{len}");
        }
    }
}
