//! What watches a version's inputs: every column, all columns together, and how rows follow each other.

mod joints;
mod reference;

pub(crate) use reference::InputReference;

use crate::budget::{Heights, ROWS_A_MONTH, a_window, share};
use crate::column::{
    Columns, Frequent, MOVED, Rhythm, RhythmLearner, Seen, Tally, WindowTests, critical_p, rearranged,
};
use crate::found::{Found, Subject, said};
use crate::joint::{Attribution, attribute};
use crate::row::{Asked, Row};
use crate::sequential::{Bernoulli, Conformal};
use joints::JointInputs;
use reference::JointReference;
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::{FeatureKind, Intervals, JointBaseline};
use shoal_proto::finding::Monitor;
use shoal_proto::summary::DriftLevel;

/// Rows below which a window says nothing.
pub(crate) const MIN_ROWS: u64 = 50;
/// PSI above its mean with no change from which on a shift matters: 0.1 is a third of a standard deviation of
/// a normal feature and the lower of the usual bands; half of it is worth a warning.
const SHIFTED: [f64; 2] = [0.05, 0.10];
/// L∞ between categories' shares from which on a change of their mix matters.
const MIXED: [f64; 2] = [0.03, 0.08];

/// Unseen categories that are listed.
const KEPT_CATEGORIES: usize = 5;
/// Refused requests that are taken in at once.
const MOST_MISFITS: u64 = 1_000;
/// Outlying rows of a window that are marked: what a person may look at.
const KEPT_OUTLIERS: usize = 16;
/// The shortest silence that is told where the rhythm was learned here.
const LEAST_SILENCE_MS: u64 = 60_000;

/// What was seen of a version's inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Inputs {
    #[serde(rename = "c")]
    columns: Columns,
    #[serde(rename = "s")]
    cusums: Vec<Conformal>,
    #[serde(rename = "r")]
    rates: Vec<Bernoulli>,
    #[serde(rename = "d")]
    duplicates: Bernoulli,
    /// Requests that were of another schema.
    #[serde(rename = "m", default)]
    misfits: Bernoulli,
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    joint: Option<JointInputs>,
    /// What the model's last layer reads.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    embedding: Option<JointInputs>,
    #[serde(rename = "h")]
    rhythm: Rhythm,
    /// Learns the rhythm where the package says none, and then what it learned.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    learner: Option<RhythmLearner>,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    learned: Option<Intervals>,
    /// The request of the last row: rows of one have no time between them.
    #[serde(rename = "a")]
    last: Asked,
    /// The strangest rows of the open window, by their chance.
    #[serde(rename = "o", default)]
    strangest: Vec<(f64, Asked)>,
    #[serde(skip)]
    seen: Scratch,
}

/// Room for one row's outcome: of the process, and not of the state.
#[derive(Debug, Clone, Default)]
struct Scratch(Seen);

impl PartialEq for Scratch {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

/// One column's window, for people.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ColumnWindow {
    pub(crate) tests: WindowTests,
    pub(crate) level: DriftLevel,
    /// Categories that training never saw: how many, about, and the commonest with their rows.
    pub(crate) unseen: Option<(f64, Vec<Frequent>)>,
    /// The column whose values it seems to hold.
    pub(crate) like: Option<usize>,
}

impl Inputs {
    pub(crate) fn new(reference: &InputReference) -> Self {
        let joint = |of: &Option<JointReference>, baseline: &Option<JointBaseline>| {
            of.as_ref().and(baseline.as_ref()).map(JointInputs::new)
        };
        let (features, embedding) = (&reference.baseline.joint, &reference.baseline.embedding);
        Self {
            columns: Columns::new(&reference.columns),
            cusums: vec![Conformal::default(); reference.bets.len()],
            rates: vec![Bernoulli::default(); reference.rates.len()],
            duplicates: Bernoulli::default(),
            misfits: Bernoulli::default(),
            joint: joint(&reference.joint, features),
            embedding: joint(&reference.embedding, embedding),
            rhythm: Rhythm::default(),
            learner: reference.intervals.is_none().then(RhythmLearner::default),
            learned: None,
            last: Asked::default(),
            strangest: Vec::with_capacity(KEPT_OUTLIERS),
            seen: Scratch::default(),
        }
    }

    /// Whether this state is of such a reference.
    pub(crate) fn fits(&self, reference: &InputReference) -> bool {
        self.columns.fits(&reference.columns)
            && self.cusums.len() == reference.bets.len()
            && self.rates.len() == reference.rates.len()
            && fits(&self.joint, &reference.joint, &reference.baseline.joint)
            && fits(&self.embedding, &reference.embedding, &reference.baseline.embedding)
    }

    /// Takes a row. Allocates nothing.
    pub(crate) fn observe(&mut self, reference: &mut InputReference, row: &Row<'_>) {
        if row.asked != self.last || row.asked == Asked::default() {
            self.last = row.asked;
            self.on_time(reference, u64::try_from(row.at.0.as_millis()).unwrap_or(u64::MAX));
            self.misfits.observe(&reference.misfits, false);
        }
        let Scratch(seen) = &mut self.seen;
        self.columns.observe(&reference.columns, row.features, seen);
        for ((cusum, bets), code) in self.cusums.iter_mut().zip(&reference.bets).zip(&seen.codes) {
            if let Some(bets) = bets
                && usize::from(*code) < bets.bins()
            {
                cusum.observe(bets, usize::from(*code));
            }
        }
        for (state, rate) in self.rates.iter_mut().zip(&reference.rates) {
            state.observe(&rate.bets, seen.events[rate.column] & rate.events != 0);
        }
        self.duplicates.observe(&reference.duplicates, seen.duplicate);
        if let (Some(state), Some(of)) = (&mut self.joint, &mut reference.joint)
            && let Some(p) = state.observe(of, row.features)
        {
            keep(&mut self.strangest, (p, row.asked));
        }
        if let (Some(state), Some(of)) = (&mut self.embedding, &mut reference.embedding)
            && row.embedding.len() == of.joint.width()
            && let Some(p) = state.observe(of, row.embedding)
            && reference.joint.is_none()
        {
            keep(&mut self.strangest, (p, row.asked));
        }
    }

    /// Takes requests that were refused, since what they sent is not what the version takes. More than a window's
    /// worth says nothing new.
    pub(crate) fn misfit(&mut self, reference: &InputReference, requests: u64) {
        for _ in 0..requests.min(MOST_MISFITS) {
            self.misfits.observe(&reference.misfits, true);
        }
    }

    /// The chance of a row as strange as this one among those of training; `None` where the package has
    /// nothing to say. Counts nothing.
    pub(crate) fn strangeness(reference: &mut InputReference, features: &[f32]) -> Option<f64> {
        reference.joint.as_mut().map(|of| of.joint.look(features).p)
    }

    fn on_time(&mut self, reference: &InputReference, now_ms: u64) {
        let known = reference.intervals.as_ref().or(self.learned.as_ref());
        let tick = self.rhythm.observe(known, now_ms);
        if let Some(learner) = &mut self.learner
            && let Some(learned) = learner.learn(tick)
        {
            (self.learned, self.learner) = (Some(learned), None);
        }
    }

    /// The window's counts on the reference's edges.
    pub(crate) fn tally(&self) -> &Tally {
        self.columns.tally()
    }

    /// The strangest rows of the open window: the chance of such a row, and its request.
    pub(crate) fn strangest(&self) -> &[(f64, Asked)] {
        &self.strangest
    }

    /// Rows of the window that are like none of training.
    pub(crate) fn outliers(&self) -> u64 {
        self.joint.as_ref().or(self.embedding.as_ref()).map_or(0, JointInputs::outliers)
    }

    /// When the source will have been silent for too long. Where the rhythm was learned from a few minutes, or
    /// a burst, no pause below a minute is one.
    pub(crate) fn silent_at(&self, reference: &InputReference) -> Option<u64> {
        let one_false_in = ROWS_A_MONTH / share(Monitor::Interval);
        if let Some(intervals) = &reference.intervals {
            return self.rhythm.silent_at(intervals, one_false_in);
        }
        let at = self.rhythm.silent_at(self.learned.as_ref()?, one_false_in)?;
        Some(at.max(self.rhythm.last_ms()?.saturating_add(LEAST_SILENCE_MS)))
    }

    /// How long the source has been silent, and for how long it may be, in milliseconds.
    pub(crate) fn silence(&self, reference: &InputReference, now_ms: u64) -> Option<(u64, u64)> {
        let (last, at) = (self.rhythm.last_ms()?, self.silent_at(reference)?);
        Some((now_ms.saturating_sub(last), at.saturating_sub(last)))
    }

    /// What row by row detectors say now, or said since the last close.
    pub(crate) fn running(&self, reference: &InputReference, found: &mut Vec<Found>) {
        for (column, (cusum, bets)) in self.cusums.iter().zip(&reference.bets).enumerate() {
            let Some(bets) = bets else { continue };
            for (monitor, sign, heights) in [
                (Monitor::Location, cusum.location(bets), reference.location),
                (Monitor::Spread, cusum.spread(bets), reference.spread),
            ] {
                said(monitor, Found::feature(column), sign, heights, found);
            }
        }
        for (state, rate) in self.rates.iter().zip(&reference.rates) {
            said(rate.monitor, Found::feature(rate.column), state.worse(&rate.bets), rate.heights, found);
        }
        let alone = |monitor| Heights::new(monitor, 1);
        let duplicates = self.duplicates.worse(&reference.duplicates);
        said(Monitor::Duplicate, Subject::Model, duplicates, alone(Monitor::Duplicate), found);
        let misfits = self.misfits.worse(&reference.misfits);
        said(Monitor::Schema, Subject::Model, misfits, alone(Monitor::Schema), found);
        for column in self.columns.stuck(&reference.columns) {
            let limit = reference.columns.stuck_at(column).unwrap_or(u32::MAX);
            found.push(Found {
                monitor: Monitor::Stuck,
                subject: Found::feature(column),
                level: DriftLevel::Drift,
                statistic: f64::from(self.columns.run(column)),
                threshold: f64::from(limit),
                since: Some(u64::from(self.columns.run(column))),
            });
        }
        for (column, jump) in self.columns.jumps(&reference.columns) {
            found.push(Found {
                monitor: Monitor::Scale,
                subject: Found::feature(column),
                level: DriftLevel::Drift,
                statistic: jump.sigmas.abs(),
                threshold: jump.threshold,
                since: None,
            });
        }
        self.joint_running(reference, found);
    }

    fn joint_running(&self, reference: &InputReference, found: &mut Vec<Found>) {
        if let (Some(state), Some(of)) = (&self.joint, &reference.joint) {
            state.features_running(of, found);
        }
        if let (Some(state), Some(of)) = (&self.embedding, &reference.embedding) {
            state.embedding_running(of, found);
            if self.joint.is_none() {
                state.outliers_running(of, found);
            }
        }
    }

    /// The tests of the window's columns, each with the level that it has among its like.
    pub(crate) fn close(&self, reference: &InputReference, found: &mut Vec<Found>) -> Vec<ColumnWindow> {
        let tally = self.tally();
        if tally.rows < MIN_ROWS {
            return Vec::new();
        }
        let features = reference.columns.features().iter().zip(&tally.columns).enumerate();
        let unseen = |at: usize| {
            let novel = self.columns.novel(&reference.columns, at).filter(|novel| novel.rows() > 0)?;
            Some((novel.distinct(), novel.frequent().into_iter().take(KEPT_CATEGORIES).collect()))
        };
        let mut windows: Vec<ColumnWindow> = features
            .map(|(at, (feature, column))| ColumnWindow {
                tests: WindowTests::of(feature, column),
                level: DriftLevel::Stable,
                unseen: unseen(at),
                like: None,
            })
            .collect();
        for (monitor, is_category) in [(Monitor::Feature, false), (Monitor::Category, true)] {
            let of_kind: Vec<usize> = (0..windows.len())
                .filter(|at| (reference.columns.features()[*at].kind == FeatureKind::Category) == is_category)
                .collect();
            let p: Vec<f64> = of_kind.iter().map(|at| windows[*at].tests.p).collect();
            let (drift, warning) = a_window(monitor);
            let critical = [critical_p(&p, warning), critical_p(&p, drift)];
            for at in of_kind {
                if let Some(one) = judge(monitor, at, &windows[at].tests, critical) {
                    windows[at].level = one.level;
                    found.push(one);
                }
            }
        }
        self.order(reference, &mut windows, found);
        if let Some(intervals) = &reference.intervals
            && let Some(shift) = self.rhythm.shift(intervals)
        {
            let (drift, _) = a_window(Monitor::Interval);
            if shift.p <= drift && shift.psi - shift.bias >= SHIFTED[1] {
                found.push(Found {
                    monitor: Monitor::Interval,
                    subject: Subject::Model,
                    level: DriftLevel::Drift,
                    statistic: shift.psi,
                    threshold: shift.psi_at(drift),
                    since: None,
                });
            }
        }
        windows
    }

    /// Columns that drift, and hold what others among them held.
    fn order(&self, reference: &InputReference, windows: &mut [ColumnWindow], found: &mut Vec<Found>) {
        let drifts = |at: &usize| windows[*at].level == DriftLevel::Drift;
        let moved: Vec<usize> = (0..windows.len()).filter(drifts).collect();
        for one in rearranged(reference.columns.features(), &self.tally().columns, &moved) {
            windows[one.column].like = Some(one.like);
            found.push(Found {
                monitor: Monitor::Schema,
                subject: Found::feature(one.column),
                level: DriftLevel::Drift,
                statistic: one.moved,
                threshold: MOVED,
                since: None,
            });
        }
    }

    /// Which features moved, and how much of it the model is sensitive to.
    pub(crate) fn attribution(
        &self,
        reference: &InputReference,
        windows: &[ColumnWindow],
    ) -> Vec<Attribution> {
        let shift = |window: &ColumnWindow| {
            let shift = window.tests.shift.map_or(0.0, |shift| (shift.psi - shift.bias).max(0.0));
            shift.max(window.tests.mix.map_or(0.0, |_| window.tests.distances.greatest))
        };
        let shifts: Vec<f64> = windows.iter().map(shift).collect();
        let mut parts = attribute(&shifts, reference.baseline.sensitivity.as_deref());
        parts.retain(|part| part.share > 0.0);
        parts
    }

    /// Begins the next window.
    pub(crate) fn reset(&mut self, reference: &InputReference) {
        self.columns.reset();
        self.cusums.iter_mut().for_each(Conformal::close);
        for (state, rate) in self.rates.iter_mut().zip(&reference.rates) {
            state.close(&rate.bets);
        }
        self.duplicates.close(&reference.duplicates);
        self.misfits.close(&reference.misfits);
        self.rhythm.reset();
        self.strangest.clear();
        let both = [(&mut self.joint, &reference.joint), (&mut self.embedding, &reference.embedding)];
        for (state, of) in both {
            if let (Some(state), Some(of)) = (state, of) {
                state.reset(of);
            }
        }
    }
}

/// Whether a state of a vector is of its baseline.
fn fits(state: &Option<JointInputs>, of: &Option<JointReference>, baseline: &Option<JointBaseline>) -> bool {
    state.is_some() == of.is_some() && state.iter().zip(baseline).all(|(state, of)| state.state.fits(of))
}

/// Keeps a row among the strangest, in the place of the least strange one.
fn keep(strangest: &mut Vec<(f64, Asked)>, row: (f64, Asked)) {
    if strangest.len() < KEPT_OUTLIERS {
        strangest.push(row);
    } else if let Some(least) = strangest.iter_mut().max_by(|a, b| a.0.total_cmp(&b.0))
        && row.0 < least.0
    {
        *least = row;
    }
}

/// A column's finding at a close: beyond chance, and so large that it matters.
fn judge(monitor: Monitor, column: usize, tests: &WindowTests, critical: [f64; 2]) -> Option<Found> {
    [(DriftLevel::Drift, 1), (DriftLevel::Warning, 0)].into_iter().find_map(|(level, at)| {
        let (effect, statistic, threshold) = if monitor == Monitor::Category {
            let greatest = tests.distances.greatest;
            (greatest >= MIXED[at], greatest, MIXED[at])
        } else {
            let shift = tests.shift?;
            let needed = shift.bias + SHIFTED[at];
            (shift.psi >= needed, shift.psi, needed)
        };
        let holds = tests.p <= critical[at] && effect;
        let subject = Found::feature(column);
        holds.then_some(Found { monitor, subject, level, statistic, threshold, since: None })
    })
}
