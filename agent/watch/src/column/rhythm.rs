//! The rhythm of rows: changes of the sampling interval, and a source that has gone silent.

use super::shift::{Shift, join_bins};
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::{Intervals, OCTAVES};

/// Intervals from which a rhythm is learned on the device, where the package has none.
const LEARNED: usize = 256;
/// Silence begins at this many times the longest pause of the baseline, at least.
const LONGEST_PAUSES: f64 = 2.0;
/// And at this many times the usual interval, at least.
const INTERVALS: u64 = 3;

/// What the time since the last row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tick {
    /// Milliseconds since the row before; `None` for the first, and after a clock that went back.
    pub interval_ms: Option<u64>,
    /// Shorter than two thirds of the usual; an event of a rate.
    pub short: bool,
    /// Longer than one and a half of the usual; an event of a rate.
    pub long: bool,
}

/// When rows came: the open window's counts, and the last row's time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rhythm {
    /// When the last row came, by a clock that does not go back.
    #[serde(rename = "l")]
    last_ms: Option<u64>,
    /// Intervals of the window by octave.
    #[serde(rename = "o")]
    octaves: [u64; OCTAVES],
    #[serde(rename = "s")]
    short: u64,
    #[serde(rename = "g")]
    long: u64,
}

impl Rhythm {
    /// A row has come.
    pub fn observe(&mut self, baseline: Option<&Intervals>, now_ms: u64) -> Tick {
        let interval_ms = self.last_ms.and_then(|last| now_ms.checked_sub(last));
        self.last_ms = Some(now_ms);
        let Some(ms) = interval_ms else { return Tick::default() };
        self.octaves[Intervals::octave(ms)] += 1;
        let short = baseline.is_some_and(|of| of.is_short(ms));
        let long = baseline.is_some_and(|of| of.is_long(ms));
        self.short += u64::from(short);
        self.long += u64::from(long);
        Tick { interval_ms, short, long }
    }

    /// When the source will have been silent for too long, unless a row comes before; `None` before the first
    /// row, or without a baseline of two intervals.
    ///
    /// That is twice the longest pause of the baseline, or what the longest would have been in `one_false_in`
    /// intervals were pauses' tails exponential.
    #[must_use]
    pub fn silent_at(&self, baseline: &Intervals, one_false_in: f64) -> Option<u64> {
        Some(self.last_ms?.saturating_add(silence_ms(baseline, one_false_in)?))
    }

    /// When the last row came.
    #[must_use]
    pub fn last_ms(&self) -> Option<u64> {
        self.last_ms
    }

    /// The window's intervals beside the baseline's: PSI over octaves. `None` without either, or where all are
    /// in one octave; changes within one octave are told by the rates of short and long ones.
    #[must_use]
    pub fn shift(&self, baseline: &Intervals) -> Option<Shift> {
        let mut reference = baseline.octaves.clone();
        reference.resize(OCTAVES, 0);
        let (left, right) = join_bins(&reference, &self.octaves, 1.0);
        Shift::between(&left, &right, 1.0)
    }

    /// Intervals of the window: all, short and long ones.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.octaves.iter().sum(), self.short, self.long)
    }

    /// Closes the window; the last row's time stays.
    pub fn reset(&mut self) {
        *self = Self { last_ms: self.last_ms, ..Self::default() };
    }
}

/// The silence that no pause explains, in milliseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is above nought")]
fn silence_ms(baseline: &Intervals, one_false_in: f64) -> Option<u64> {
    let count = baseline.count();
    if count < 2 {
        return None;
    }
    let tail = one_false_in.max(1.0).ln() / (count as f64).ln();
    let pause = LONGEST_PAUSES.max(tail) * baseline.max_ms as f64;
    Some((pause.ceil() as u64).max(baseline.median_ms.saturating_mul(INTERVALS)).max(1))
}

/// Learns a rhythm from the first 256 intervals on the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RhythmLearner {
    #[serde(rename = "i")]
    intervals_ms: Vec<u32>,
}

impl Default for RhythmLearner {
    fn default() -> Self {
        Self { intervals_ms: Vec::with_capacity(LEARNED) }
    }
}

impl RhythmLearner {
    /// One interval, by the row's tick; the rhythm, marked as learned, when it was the last that was needed.
    pub fn learn(&mut self, tick: Tick) -> Option<Intervals> {
        let ms = tick.interval_ms?;
        if self.intervals_ms.len() < LEARNED {
            self.intervals_ms.push(u32::try_from(ms).unwrap_or(u32::MAX));
        }
        if self.intervals_ms.len() < LEARNED {
            return None;
        }
        let mut learned = Intervals::of(self.intervals_ms.iter().copied().map(u64::from))?;
        learned.learned = true;
        Some(learned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rhythm_is_learned_and_its_change_and_silence_are_told() {
        let (mut rhythm, mut learner) = (Rhythm::default(), RhythmLearner::default());
        let (mut now, mut learned) = (5_000, None);
        for row in 0..=LEARNED as u64 {
            now += 1_000 + (row % 7) * 10;
            let tick = rhythm.observe(None, now);
            assert!(learned.is_none() && !tick.short && !tick.long);
            learned = learner.learn(tick);
        }
        let baseline = learned.unwrap();
        assert_eq!((baseline.median_ms, baseline.max_ms, baseline.learned), (1_030, 1_060, true));
        let silent = rhythm.silent_at(&baseline, 1e6).unwrap() - now;
        assert!((3 * 1_030..4_000).contains(&silent), "{silent}");
        rhythm.reset();
        for _ in 0..100 {
            now += 1_000;
            assert_eq!(rhythm.observe(Some(&baseline), now).interval_ms, Some(1_000));
        }
        assert_eq!((rhythm.counts(), rhythm.silent_at(&baseline, 1e6)), ((100, 0, 0), Some(now + silent)));
        for (step, short, long) in [(600, true, false), (1_600, false, true), (0, true, false)] {
            now += step;
            let tick = rhythm.observe(Some(&baseline), now);
            assert_eq!((tick.interval_ms, tick.short, tick.long), (Some(step), short, long));
        }
        assert_eq!(rhythm.observe(Some(&baseline), now - 1), Tick::default(), "a clock that went back");
    }

    #[test]
    fn a_mix_of_intervals_is_held_against_the_baseline() {
        let mixed = |row: u64, every: u64| if row.is_multiple_of(every) { 8_000 } else { 1_000 };
        let baseline = Intervals::of((0..1_000).map(|row| mixed(row, 5))).unwrap();
        for (every, is_off) in [(5, false), (2, true)] {
            let (mut rhythm, mut now) = (Rhythm::default(), 0);
            for row in 0..400 {
                now += mixed(row, every);
                rhythm.observe(Some(&baseline), now);
            }
            let shift = rhythm.shift(&baseline).unwrap();
            assert_eq!(shift.p < 1e-3, is_off, "{every}: {shift:?}");
        }
        let rhythm = Rhythm::default();
        assert_eq!((rhythm.shift(&baseline), rhythm.silent_at(&baseline, 1e6)), (None, None));
        let bytes = shoal_proto::wire::to_cbor(&rhythm);
        assert_eq!(shoal_proto::wire::from_cbor::<Rhythm>(&bytes).unwrap(), rhythm);
    }
}
