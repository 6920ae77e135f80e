//! What a tape holds before a run is bounded.

use super::{MAX_HELD_BYTES, Tape};
use crate::error::GradError;

fn is_refused<T: std::fmt::Debug>(made: Result<T, GradError>) -> bool {
    matches!(made, Err(GradError::Room { .. }))
}

#[test]
fn maps_and_made_up_numbers_share_the_room_of_a_tape() {
    // A transpose of [4, 2] has a map of eight places, 32 bytes.
    let turned = |tape: &mut Tape| {
        let x = tape.fed(&[4, 2]).unwrap();
        tape.transpose(x, &[1, 0])
    };
    let indices = 6 * 2 * size_of::<Option<usize>>();
    let mut tape = Tape::holding(indices + 32);
    turned(&mut tape).unwrap();
    turned(&mut tape).unwrap();
    assert!(is_refused(turned(&mut tape)), "the third needs room for its indices");
    let mut tape = Tape::holding(80);
    tape.filled(&[10], |at| at as f64).unwrap();
    assert!(is_refused(tape.filled(&[1], |_| 0.0)));
    assert_eq!(tape.stored(&[1], vec![1.0]).map(|one| tape.len(one)), Ok(1), "what is given does not count");
    assert!(is_refused(Tape::holding(usize::MAX).filled(&[MAX_HELD_BYTES / 8 + 1], |_| 0.0)));
    let two = tape.number(2.0).unwrap();
    assert!(is_refused(tape.add(two, two)), "what is worked out at once is made up too");
}

#[test]
fn a_whole_axis_needs_no_room() {
    let mut tape = Tape::holding(4 * 2 * size_of::<Option<usize>>());
    let x = tape.fed(&[3]).unwrap();
    let all: Vec<Option<usize>> = (0..3).map(Some).collect();
    for _ in 0..100 {
        assert_eq!(tape.take(x, &[(0, all.clone())], 0.0), Ok(x));
    }
}

#[test]
fn sizes_that_cannot_be_counted_are_refused() {
    let mut tape = Tape::new();
    let x = tape.fed(&[2]).unwrap();
    let wide = [1 << 40, 1 << 40];
    assert!(tape.fed(&[0, 1 << 40, 1 << 40]).is_err(), "nothing in it, and no stride that can be counted");
    assert!(tape.view(x, &wide).is_err());
    assert!(tape.fed(&wide).is_err());
    assert!(tape.stored(&wide, vec![0.0]).is_err());
    assert!(tape.filled(&wide, |_| 0.0).is_err());
    assert!(is_refused(tape.may_walk(&[usize::MAX, 2])));
    assert!(tape.may_map(&wide).is_err());
    assert!(tape.part(x, 0, 1, usize::MAX).is_err());
}
