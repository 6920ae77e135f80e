//! The monitors of one served version: integer counts per row, tests at each window's close, and a
//! CUSUM on labelled errors. Pure: time comes as an argument, memory does not grow with rows.
//!
//! Two references. Windows are counted on the edges of the package's baseline, which versions born on
//! devices inherit, so that a fleet's summaries add up; they are tested against what this version was
//! trained on, or alarms would never clear after a retraining.
//!
//! The level of a model is that of its worst finding. One drifting feature of many suffices, with no
//! share of features to reach: the tests are corrected for the number of features already, and a rule
//! such as "half of the columns" is blind to the one broken sensor.

mod error;
mod shift;
mod tally;
mod verdict;

use crate::core::event::{Labelled, Observation, VersionInfo};
use error::ErrorWatch;
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::{Baseline, CONFIDENCE_BINS};
use shoal_proto::finding::{Finding, Monitor};
use shoal_proto::id::Digest;
use shoal_proto::manifest::Manifest;
use shoal_proto::summary::{DriftLevel, LabelSummary, WindowId, WindowSummary};
use shoal_proto::time::WallMs;
use std::sync::Arc;
pub(crate) use tally::prediction_cell;
use tally::{Tally, sparse};
use verdict::{Found, MIN_ROWS, judge};

/// Most findings of one close, the strongest first; the level of every feature is in the summary.
pub const MAX_FINDINGS: usize = 32;

/// The monitors of one version.
///
/// Serialised, it holds its counts and not the references, which stand in the package on disk: one that
/// was read back is [attached](Self::attach) before it observes again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Watch {
    version: Digest,
    id: WindowId,
    opened: WallMs,
    rows: u64,
    /// Counts on the baseline's edges.
    fleet: Tally,
    /// Counts on the reference's edges, where they differ.
    own: Option<Tally>,
    /// (class × confidence), row-major.
    predictions: Vec<u64>,
    labels: LabelSummary,
    errors: ErrorWatch,
    /// Of the last closed window.
    closed: DriftLevel,
    /// What inputs and predictions said in the last window that had rows enough.
    data: DriftLevel,
    #[serde(skip)]
    against: Option<Against>,
}

/// What a version is held against.
#[derive(Debug, Clone)]
struct Against {
    manifest: Arc<Manifest>,
    baseline: Arc<Baseline>,
    digest: Digest,
    reference: Arc<Baseline>,
}

impl Against {
    fn new(info: &VersionInfo) -> Self {
        Self {
            manifest: Arc::clone(&info.manifest),
            baseline: Arc::clone(&info.baseline),
            digest: info.record.baseline,
            reference: Arc::clone(&info.reference),
        }
    }

    /// Whether the reference's edges are the baseline's.
    fn is_shared(&self) -> bool {
        Arc::ptr_eq(&self.baseline, &self.reference) || self.baseline == self.reference
    }
}

impl Watch {
    /// Begins to watch a version.
    #[must_use]
    pub fn new(info: &VersionInfo, id: WindowId, opened: WallMs) -> Self {
        let against = Against::new(info);
        Self {
            version: info.version,
            id,
            opened,
            rows: 0,
            fleet: Tally::new(&info.baseline),
            own: (!against.is_shared()).then(|| Tally::new(&info.reference)),
            predictions: vec![0; info.manifest.output.classes.len() * CONFIDENCE_BINS],
            labels: LabelSummary::default(),
            errors: ErrorWatch::new(info.reference.predictions.as_ref()),
            closed: DriftLevel::Stable,
            data: DriftLevel::Stable,
            against: Some(against),
        }
    }

    /// Gives a watch that was read from disk its references again; `false`, and nothing changed, when it
    /// is of another version or of other edges.
    #[must_use = "a watch of another version cannot go on"]
    pub fn attach(&mut self, info: &VersionInfo) -> bool {
        let against = Against::new(info);
        let fits = self.version == info.version
            && self.fleet.fits(&info.baseline)
            && self.own.is_none() == against.is_shared()
            && self.own.as_ref().is_none_or(|own| own.fits(&info.reference))
            && self.predictions.len() == info.manifest.output.classes.len() * CONFIDENCE_BINS;
        if fits {
            self.against = Some(against);
        }
        fits
    }

    fn against(&self) -> &Against {
        self.against.as_ref().expect("a watch that was read from disk is attached to its version first")
    }

    /// Counts a predicted row; one that another version answered is passed over. Allocates nothing.
    ///
    /// # Panics
    /// When the watch was read from disk and not attached: a bug of the caller.
    pub fn observe(&mut self, row: &Observation) {
        if row.version != self.version {
            return;
        }
        let against = self.against.as_ref().expect("a watch that was read from disk is attached first");
        self.rows += 1;
        self.fleet.observe(&against.baseline, &row.features);
        if let Some(own) = &mut self.own {
            own.observe(&against.reference, &row.features);
        }
        if let Some(cell) =
            row.class.and_then(|class| self.predictions.get_mut(prediction_cell(class, row.confidence)))
        {
            *cell += 1;
        }
    }

    /// Counts a label for an answer of this version, and may raise the level at once. A regression's
    /// labels are counted, and not judged.
    pub fn label(&mut self, label: &Labelled) {
        if label.version != self.version {
            return;
        }
        self.labels.labelled += 1;
        if let Some(correct) = label.correct() {
            self.labels.correct += u64::from(correct);
            self.errors.observe(correct);
        }
    }

    /// The version that is watched.
    #[must_use]
    pub fn version(&self) -> Digest {
        self.version
    }

    /// The open window.
    #[must_use]
    pub fn window(&self) -> &WindowId {
        &self.id
    }

    /// When the open window was opened, by the device's clock.
    #[must_use]
    pub fn opened(&self) -> WallMs {
        self.opened
    }

    /// Rows in the open window.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The level of the last closed window, or Drift from the label on with which errors became too many.
    #[must_use]
    pub fn level(&self) -> DriftLevel {
        self.closed.max(self.errors.level())
    }

    /// What labels alone say: [`DriftLevel::Drift`] while errors are too many.
    #[must_use]
    pub fn error_level(&self) -> DriftLevel {
        self.errors.level()
    }

    /// (labels, right answers) of the last 256 labels.
    #[must_use]
    pub fn recent_accuracy(&self) -> (u64, u64) {
        self.errors.recent()
    }

    /// The open window as it stands.
    #[must_use]
    pub fn open_summary(&self, now: WallMs) -> WindowSummary {
        let against = self.against();
        let model = against.manifest.model.name.clone();
        WindowSummary {
            closed: now,
            rows: self.rows,
            features: self.fleet.summaries(),
            predictions: sparse(&self.predictions),
            labels: self.labels,
            level: self.level(),
            ..WindowSummary::new(self.id.clone(), model, self.version, against.digest, self.opened)
        }
    }

    /// Tests the window, seals it and opens the next. A window of fewer than 50 rows says nothing new of
    /// inputs and predictions: their last level stays.
    pub fn close(&mut self, now: WallMs, next: WindowId) -> (WindowSummary, Vec<Finding>) {
        let mut found = Vec::new();
        if self.rows >= MIN_ROWS {
            let tally = self.own.as_ref().unwrap_or(&self.fleet);
            found = judge(&self.against().reference, tally, &self.predictions);
            self.data = worst(&found);
        }
        let mut summary = self.open_summary(now);
        for one in &found {
            if let Some(feature) = one.feature.and_then(|index| summary.features.get_mut(index)) {
                feature.level = feature.level.max(one.level);
            }
        }
        found.extend(self.errors.close().map(|(level, statistic, threshold)| Found {
            monitor: Monitor::Error,
            feature: None,
            level,
            statistic,
            threshold,
        }));
        self.closed = self.data.max(worst(&found));
        summary.level = self.closed;
        let findings = self.findings(found, now);
        self.rows = 0;
        self.fleet.reset();
        if let Some(own) = &mut self.own {
            own.reset();
        }
        self.predictions.fill(0);
        self.labels = LabelSummary::default();
        (self.id, self.opened) = (next, now);
        (summary, findings)
    }

    fn findings(&self, mut found: Vec<Found>, at: WallMs) -> Vec<Finding> {
        let excess = |one: &Found| one.statistic / one.threshold.abs().max(f64::MIN_POSITIVE);
        found.sort_by(|a, b| b.level.cmp(&a.level).then(excess(b).total_cmp(&excess(a))));
        found.truncate(MAX_FINDINGS);
        let manifest = &self.against().manifest;
        let name = |index: usize| manifest.features.get(index).map(|feature| feature.name.clone());
        let finding = |one: Found| Finding {
            model: manifest.model.name.clone(),
            version: self.version,
            monitor: one.monitor,
            feature: one.feature.and_then(name),
            group: None,
            level: one.level,
            statistic: one.statistic,
            threshold: one.threshold,
            one_false_in: 0.0,
            since: None,
            window: self.id.clone(),
            at,
        };
        found.into_iter().map(finding).collect()
    }
}

fn worst(found: &[Found]) -> DriftLevel {
    found.iter().map(|one| one.level).max().unwrap_or_default()
}

#[cfg(test)]
mod tests;
