//! The mean of the recent past against the mean of what came before it.
//!
//! Tests: all samples of an adaptive window have one mean. Adaptive windowing, ADWIN2 of Bifet and
//! Gavaldà (2007): an exponential histogram of the window, cut wherever the means of the two parts
//! differ by more than their bound for bounded values. False alarms: at most `delta` for each test by
//! the paper's bound; on stationary streams none were measured in millions of samples. Needs no
//! reference. Blind to changes of the spread, and slow for small ones; after a change it forgets what was
//! before. For values in `[0, 1]`: an error, a probability.

use serde::{Deserialize, Serialize};

/// Confidence of the paper and of all its implementations.
const DELTA: f64 = 0.002;
/// Buckets of one size, before two of them are joined.
const BUCKETS: usize = 5;
/// Sizes: a window of up to five times 2^20 samples; older ones are dropped.
const SIZES: usize = 20;
/// Samples between two searches for a cut.
const CLOCK: u64 = 32;
/// Samples that each part of a cut must have.
const MIN_PART: f64 = 5.0;
/// Samples before the first search.
const MIN_WINDOW: u64 = 10;

/// Samples that lie together.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Bucket {
    #[serde(rename = "s")]
    sum: f64,
    /// Sum of the squared distances from the mean.
    #[serde(rename = "q")]
    squares: f64,
}

impl Bucket {
    /// Both as one, of `n` and `m` samples (Chan, Golub and LeVeque 1979).
    fn join(self, n: f64, other: Self, m: f64) -> Self {
        let gap = self.sum / n - other.sum / m;
        Self {
            sum: self.sum + other.sum,
            squares: self.squares + other.squares + gap * gap * n * m / (n + m),
        }
    }
}

/// A cut that was made: the mean is another one now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Means of the older and of the younger part.
    pub before: f64,
    pub after: f64,
    /// Samples of the younger part: when the change was.
    pub since: u64,
}

/// An adaptive window of samples in logarithmic space; the memory is taken when it is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    /// For each size the buckets in use, oldest first; one more than [`BUCKETS`] while two are joined.
    #[serde(rename = "b")]
    buckets: Box<[[Bucket; BUCKETS + 1]; SIZES]>,
    #[serde(rename = "u")]
    used: [u8; SIZES],
    #[serde(rename = "w")]
    width: u64,
    #[serde(rename = "a")]
    all: Bucket,
    #[serde(rename = "t")]
    ticks: u64,
}

impl Default for Adwin {
    fn default() -> Self {
        Self {
            buckets: Box::new([[Bucket::default(); BUCKETS + 1]; SIZES]),
            used: [0; SIZES],
            width: 0,
            all: Bucket::default(),
            ticks: 0,
        }
    }
}

impl Adwin {
    /// Takes one sample in `[0, 1]`, and says when the mean has changed. What is not finite is passed over.
    pub fn observe(&mut self, value: f64) -> Option<Change> {
        if !value.is_finite() {
            return None;
        }
        let new = Bucket { sum: value, squares: 0.0 };
        self.all = if self.width == 0 { new } else { self.all.join(self.width as f64, new, 1.0) };
        self.width += 1;
        self.ticks += 1;
        self.push(new);
        if !self.ticks.is_multiple_of(CLOCK) || self.width <= MIN_WINDOW {
            return None;
        }
        let change = self.cut();
        let mut cut = change;
        while cut.is_some() {
            self.drop_oldest();
            cut = self.cut();
        }
        change
    }

    /// Mean of the window; nought of none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.width == 0 { 0.0 } else { self.all.sum / self.width as f64 }
    }

    /// Samples in the window.
    #[must_use]
    pub fn width(&self) -> u64 {
        self.width
    }

    /// Forgets all samples.
    pub fn reset(&mut self) {
        self.buckets.fill([Bucket::default(); BUCKETS + 1]);
        self.used.fill(0);
        (self.width, self.all, self.ticks) = (0, Bucket::default(), 0);
    }

    /// Bytes of the state.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.buckets)
    }

    /// Buckets of a size.
    fn used(&self, size: usize) -> usize {
        usize::from(self.used[size]).min(BUCKETS)
    }

    /// Adds the youngest bucket; where there are too many of a size, the two oldest become one of twice.
    fn push(&mut self, mut new: Bucket) {
        let mut samples = 1.0;
        for size in 0..SIZES {
            let used = self.used(size);
            self.buckets[size][used] = new;
            if used < BUCKETS {
                self.used[size] += 1;
                return;
            }
            new = self.buckets[size][0].join(samples, self.buckets[size][1], samples);
            self.buckets[size].copy_within(2.., 0);
            self.used[size] -= 1;
            samples *= 2.0;
        }
        self.forget(new, samples); // the window is as long as it can be
    }

    fn drop_oldest(&mut self) {
        if let Some(size) = (0..SIZES).rfind(|size| self.used(*size) > 0) {
            let old = self.buckets[size][0];
            self.buckets[size].copy_within(1.., 0);
            self.used[size] -= 1;
            self.forget(old, 2_f64.powi(i32::try_from(size).unwrap_or_default()));
        }
    }

    /// Takes a bucket out of the sums over the window.
    fn forget(&mut self, old: Bucket, samples: f64) {
        let all = self.width as f64;
        let rest = all - samples;
        if rest < 1.0 {
            (self.width, self.all) = (0, Bucket::default());
            return;
        }
        let sum = self.all.sum - old.sum;
        let gap = old.sum / samples - sum / rest;
        let squares = self.all.squares - old.squares - gap * gap * samples * rest / all;
        self.all = Bucket { sum, squares: squares.max(0.0) };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a power of two below 2^21"
        )]
        let samples = samples as u64;
        self.width -= samples;
    }

    /// The two parts whose means differ by more than chance, at the cut where they do so most.
    fn cut(&self) -> Option<Change> {
        let width = self.width as f64;
        let confidence = (2.0 * width.ln() / DELTA).ln();
        let variance = self.all.squares / width;
        let (mut old, mut sum) = (0.0, 0.0);
        let (mut most, mut found) = (1.0, None);
        for size in (0..SIZES).rev() {
            let samples = 2_f64.powi(i32::try_from(size).unwrap_or_default());
            for bucket in &self.buckets[size][..self.used(size)] {
                old += samples;
                sum += bucket.sum;
                let young = width - old;
                if young < MIN_PART {
                    return found;
                }
                if old < MIN_PART {
                    continue;
                }
                let (before, after) = (sum / old, (self.all.sum - sum) / young);
                let parts = 1.0 / old + 1.0 / young;
                let bound = (2.0 * parts * variance * confidence).sqrt() + 2.0 / 3.0 * parts * confidence;
                if (before - after).abs() > most * bound {
                    most = (before - after).abs() / bound;
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "below the width"
                    )]
                    let since = young as u64;
                    found = Some(Change { before, after, since });
                }
            }
        }
        found
    }
}
