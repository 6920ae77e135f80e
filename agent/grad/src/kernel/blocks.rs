//! Functions of elements side by side in many slices, in blocks that stay in registers.
//!
//! A plain loop over a dozen slices becomes no vector instructions, because the compiler gives up
//! proving that writing one leaves the others alone; blocks are copies, and need no proof.

use crate::real::Real;

/// Elements that are worked on together: the widest vector.
const BLOCK: usize = 16;

/// Writes to all `written` what `make` says of the elements of `read` and `written` at one place.
///
/// It belongs into [`crate::on_this_cpu`], and all slices must be as long as the first of `written`.
#[inline(always)]
pub(crate) fn each<T: Real, const IN: usize, const OUT: usize>(
    read: [&[T]; IN],
    mut written: [&mut [T]; OUT],
    make: impl Fn([T; IN], [T; OUT]) -> [T; OUT],
) {
    let len = written[0].len();
    let mut at = 0;
    while at + BLOCK <= len {
        let mut blocks = [[T::ZERO; BLOCK]; IN];
        let mut made = [[T::ZERO; BLOCK]; OUT];
        for (block, read) in blocks.iter_mut().zip(read) {
            block.copy_from_slice(&read[at..at + BLOCK]);
        }
        for (block, written) in made.iter_mut().zip(&written) {
            block.copy_from_slice(&written[at..at + BLOCK]);
        }
        work(&blocks, &mut made, &make);
        for (block, written) in made.iter().zip(&mut written) {
            written[at..at + BLOCK].copy_from_slice(block);
        }
        at += BLOCK;
    }
    if at < len {
        let mut blocks = [[T::ZERO; BLOCK]; IN];
        let mut made = [[T::ZERO; BLOCK]; OUT];
        for (block, read) in blocks.iter_mut().zip(read) {
            short(block, &read[at..len]);
        }
        for (block, written) in made.iter_mut().zip(&written) {
            short(block, &written[at..len]);
        }
        work(&blocks, &mut made, &make);
        for (block, written) in made.iter().zip(&mut written) {
            short(&mut written[at..len], block);
        }
    }
}

#[inline(always)]
fn work<T: Real, const IN: usize, const OUT: usize>(
    read: &[[T; BLOCK]; IN],
    made: &mut [[T; BLOCK]; OUT],
    make: &impl Fn([T; IN], [T; OUT]) -> [T; OUT],
) {
    for lane in 0..BLOCK {
        let mut old = [T::ZERO; IN];
        for (old, block) in old.iter_mut().zip(read) {
            *old = block[lane];
        }
        let mut new = [T::ZERO; OUT];
        for (new, block) in new.iter_mut().zip(made.iter()) {
            *new = block[lane];
        }
        for (block, new) in made.iter_mut().zip(make(old, new)) {
            block[lane] = new;
        }
    }
}

/// Copies fewer than a block of elements, without the call that a copy of unknown length is.
#[inline(always)]
fn short<T: Copy>(to: &mut [T], from: &[T]) {
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
}
