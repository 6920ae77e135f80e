//! An affine map of each input feature: found without labels, and folded into a file's weights.
//!
//! Inputs whose mean and spread have moved are brought back to what the model was trained on. The
//! map is small, bounded and invertible; folded in, it costs nothing when the model is run.

mod fold;
mod layers;
mod operands;

pub use fold::{FoldError, fold_input_affine, takes_input_affine};

use serde::{Deserialize, Serialize};

/// Rows below which mean and spread say too little: the error of a spread is then above an eighth.
const MIN_ROWS: u64 = 30;

/// `x' = scale · x + shift` for one feature, or one channel of a convolution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Not zero.
    pub scale: f64,
    /// In the unit of the feature.
    pub shift: f64,
}

impl Affine {
    /// Changes nothing.
    pub const IDENTITY: Self = Self { scale: 1.0, shift: 0.0 };

    /// Maps a number.
    #[must_use]
    pub fn apply(self, x: f64) -> f64 {
        self.scale * x + self.shift
    }

    /// Takes the map back.
    #[must_use]
    pub fn inverse(self) -> Self {
        Self { scale: 1.0 / self.scale, shift: -self.shift / self.scale }
    }

    /// One map after another: a step that was measured behind the steps before it.
    #[must_use]
    pub fn after(self, first: Self) -> Self {
        Self { scale: self.scale * first.scale, shift: self.scale * first.shift + self.shift }
    }
}

/// Running count, mean and variance of a feature; Welford's sums, joined as Chan's.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Moments {
    /// Values seen.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Sum of squared distances from the mean.
    pub squares: f64,
}

impl Moments {
    /// Takes a value in; those that are no finite number are passed over.
    pub fn push(&mut self, value: f32) {
        if value.is_finite() {
            self.join(&Self { count: 1, mean: f64::from(value), squares: 0.0 });
        }
    }

    /// Joins what was seen elsewhere.
    pub fn join(&mut self, other: &Self) {
        let count = self.count + other.count;
        if count == 0 {
            return;
        }
        let (own, part) = (self.count as f64, other.count as f64);
        let apart = other.mean - self.mean;
        self.mean += apart * part / count as f64;
        self.squares += other.squares + apart * apart * own * part / count as f64;
        self.count = count;
    }

    /// Standard deviation; zero when nothing varies.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        if self.count == 0 { 0.0 } else { (self.squares / self.count as f64).sqrt() }
    }
}

/// The step that brings recent inputs back to the reference, feature by feature.
///
/// `cap` bounds the step: the mean is moved by at most `cap` standard deviations of the reference,
/// and the spread by a factor of at most `1 + cap`. Features that do not vary in the reference, or
/// of which too little was seen, stay as they are; of those that do not vary now only the mean is
/// moved, since a stuck sensor has no spread to bring back. Features beyond the shorter of the two
/// lists are left out. Steps measured one behind the other are joined by [`Affine::after`].
#[must_use]
pub fn input_affine(reference: &[Moments], recent: &[Moments], cap: f64) -> Vec<Affine> {
    let cap = if cap.is_finite() { cap.max(0.0) } else { 0.0 };
    reference.iter().zip(recent).map(|(reference, recent)| step(reference, recent, cap)).collect()
}

fn step(reference: &Moments, recent: &Moments, cap: f64) -> Affine {
    let (usual, now) = (reference.deviation(), recent.deviation());
    let is_known = reference.count.min(recent.count) >= MIN_ROWS;
    let is_spread = usual > 0.0 && usual.is_finite() && now.is_finite();
    if !is_known || !is_spread {
        return Affine::IDENTITY;
    }
    let moved = (recent.mean - reference.mean).clamp(-cap * usual, cap * usual);
    let wider = if now > 0.0 { (now / usual).clamp(1.0 / (1.0 + cap), 1.0 + cap) } else { 1.0 };
    let step = Affine { scale: 1.0 / wider, shift: reference.mean - (reference.mean + moved) / wider };
    if step.scale.is_finite() && step.shift.is_finite() { step } else { Affine::IDENTITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(values: impl Iterator<Item = f32>) -> Moments {
        let mut moments = Moments::default();
        values.for_each(|value| moments.push(value));
        moments
    }

    fn spread(mean: f32, deviation: f32) -> Moments {
        // Half of the values a deviation below, half above.
        seen((0..100).map(|at| if at % 2 == 0 { mean - deviation } else { mean + deviation }))
    }

    #[test]
    fn moments_are_those_of_all_values_however_they_come() {
        let all = seen((0..1000).map(|at| 1000.0 + (at % 7) as f32));
        let mut joined = seen((0..300).map(|at| 1000.0 + (at % 7) as f32));
        joined.join(&seen((300..1000).map(|at| 1000.0 + (at % 7) as f32).chain([f32::NAN])));
        assert_eq!(all.count, joined.count);
        assert!((all.mean - joined.mean).abs() < 1e-9 && (all.squares - joined.squares).abs() < 1e-6);
        assert!((spread(3.0, 2.0).deviation() - 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_step_brings_mean_and_spread_back_up_to_the_cap() {
        let reference = [spread(10.0, 2.0)];
        let one = |recent: Moments, cap| input_affine(&reference, &[recent], cap)[0];
        let whole = one(spread(11.0, 3.0), 1.0);
        assert!((whole.apply(11.0) - 10.0).abs() < 1e-9 && (whole.apply(14.0) - 12.0).abs() < 1e-9);
        let capped = one(spread(30.0, 20.0), 0.5);
        assert!((capped.scale - 1.0 / 1.5).abs() < 1e-12);
        assert!((capped.apply(11.0) - 10.0).abs() < 1e-9, "the mean moves by half a deviation");
        let stuck = one(seen((0..100).map(|_| 11.0)), 1.0);
        assert!((stuck.scale, stuck.apply(11.0)) == (1.0, 10.0));
        let few = seen((0..10).map(|at| at as f32));
        for same in
            [one(few, 1.0), one(spread(10.0, 2.0), 1.0), one(spread(50.0, 9.0), 0.0), one(few, f64::NAN)]
        {
            assert!((same.scale - 1.0).abs() < 1e-9 && same.shift.abs() < 1e-9, "{same:?}");
        }
        let constant = seen((0..100).map(|_| 1.0));
        assert_eq!(input_affine(&[constant], &[spread(3.0, 1.0)], 1.0), [Affine::IDENTITY]);
    }

    #[test]
    fn steps_are_joined_and_taken_back() {
        let (first, second) = (Affine { scale: 2.0, shift: 1.0 }, Affine { scale: -0.5, shift: 3.0 });
        let both = second.after(first);
        assert_eq!(both.apply(7.0), second.apply(first.apply(7.0)));
        assert_eq!(both.inverse().apply(both.apply(7.0)), 7.0);
    }
}
