//! The monitors of one served version, all together. Pure: time comes as an argument, memory does not grow
//! with rows.
//!
//! Two references. Windows are counted on the edges of the package's baseline, which versions born on
//! devices inherit, so that a fleet's summaries add up; they are tested against what this version was
//! trained on, or alarms would never clear after a retraining.
//!
//! The level of a model is that of its worst finding. One drifting feature of many suffices, with no
//! share of features to reach: the tests are corrected for the number of features already, and a rule
//! such as "half of the columns" is blind to the one broken sensor.

mod against;

use crate::answer::GroupCodes;
use crate::budget::one_false_in;
use crate::column::Columns;
use crate::found::{Found, Subject};
use crate::inputs::{Inputs, MIN_ROWS};
use crate::joint::{self, LEARNER_ROWS, Learner};
use crate::outputs::Outputs;
use crate::row::{Given, Row};
use against::{Against, Standing};
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::{Baseline, FeatureBaseline};
use shoal_proto::finding::{Finding, ModelHealth, Monitor};
use shoal_proto::id::Digest;
use shoal_proto::manifest::Manifest;
use shoal_proto::summary::{DriftLevel, LabelSlot, WindowId, WindowSummary};
use shoal_proto::time::{Mono, Now, WallMs};
use std::collections::VecDeque;
use std::sync::Arc;

/// Keeps the projection of a learned embedding from being drawn as anything else is.
const EMBEDDING_SEED: u64 = 0x656d_6265_6464_696e;
/// Findings that are kept for people, the latest.
pub const KEPT_FINDINGS: usize = 64;
/// New findings of one close, the strongest first; the level of every feature is in the summary.
pub const MAX_FINDINGS: usize = 32;

/// What is watched.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The version.
    pub version: Digest,
    /// What it says of itself.
    pub manifest: Arc<Manifest>,
    /// On whose edges a fleet counts.
    pub baseline: Arc<Baseline>,
    /// Its digest.
    pub digest: Digest,
    /// What the version was trained on, and is held against.
    pub reference: Arc<Baseline>,
}

/// The monitors of one version.
///
/// Serialised, it holds what was seen and not the references, which stand in the package on disk: one that
/// was read back is [attached](Self::attach) before it observes again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Watch {
    version: Digest,
    id: WindowId,
    opened: WallMs,
    rows: u64,
    inputs: Inputs,
    /// Counts on the baseline's edges, where they are not the reference's.
    fleet: Option<Columns>,
    outputs: Outputs,
    /// Gathers rows where the package has no baseline, and then the baseline that came of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    learner: Option<Learner>,
    /// The same for what the last layer reads, of a model that takes tensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    embeddings: Option<Learner>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    learned: Option<Baseline>,
    /// What holds now, by monitor and subject.
    standing: Vec<Standing>,
    /// What was found lately, oldest first.
    kept: VecDeque<Finding>,
    #[serde(skip)]
    against: Option<Box<Against>>,
}

/// A window that was closed.
#[derive(Debug, Clone, PartialEq)]
pub struct Closed {
    /// Its counts.
    pub summary: WindowSummary,
    /// What was found with it and not before.
    pub findings: Vec<Finding>,
}

impl Watch {
    /// Begins to watch a version.
    #[must_use]
    pub fn new(watched: &Watched, id: WindowId, opened: WallMs) -> Self {
        let against = Against::new(watched, None);
        let width = watched.manifest.features.len();
        Self {
            version: watched.version,
            opened,
            rows: 0,
            inputs: Inputs::new(&against.inputs),
            fleet: against.fleet.as_ref().map(Columns::new),
            outputs: Outputs::new(&against.outputs, id.number),
            learner: against.has_no_baseline().then(|| Learner::new(width, LEARNER_ROWS as u64, id.number)),
            embeddings: None,
            learned: None,
            standing: Vec::new(),
            kept: VecDeque::new(),
            id,
            against: Some(Box::new(against)),
        }
    }

    /// Gives a watch that was read from disk its references again; `false`, and nothing changed, when it
    /// is of another version or of other edges.
    #[must_use = "a watch of another version cannot go on"]
    pub fn attach(&mut self, watched: &Watched) -> bool {
        let mut against = Against::new(watched, self.learned.as_ref());
        let fits = self.version == watched.version
            && self.inputs.fits(&against.inputs)
            && self.outputs.attach(&watched.manifest, &mut against.outputs)
            && self.fleet.is_some() == against.fleet.is_some()
            && self.fleet.iter().zip(&against.fleet).all(|(state, reference)| state.fits(reference));
        if fits {
            self.against = Some(Box::new(against));
        }
        fits
    }

    pub(crate) fn against(&self) -> &Against {
        self.against.as_ref().expect("a watch that was read from disk is attached to its version first")
    }

    /// Takes a predicted row of this version. Allocates nothing.
    ///
    /// # Panics
    /// When the watch was read from disk and not attached: a bug of the caller.
    pub fn observe(&mut self, row: &Row<'_>) {
        let against = self.against.as_mut().expect("a watch that was read from disk is attached first");
        self.rows += 1;
        self.inputs.observe(&mut against.inputs, row);
        if let (Some(fleet), Some(reference)) = (&mut self.fleet, &against.fleet) {
            fleet.observe(reference, row.features, &mut against.seen);
        }
        self.outputs.observe(&mut against.outputs, self.id.number, row);
        if let Some(learner) = &mut self.learner {
            learner.observe(row.features);
            if learner.is_done() {
                self.learn();
            }
        }
        if !row.embedding.is_empty() && self.against().learns_embeddings() {
            self.learn_embedding(row.embedding);
        }
    }

    fn learn_embedding(&mut self, embedding: &[f32]) {
        let (rows, seed) = (LEARNER_ROWS as u64, self.id.number);
        let learner = self.embeddings.get_or_insert_with(|| Learner::new(embedding.len(), rows, seed));
        learner.observe(embedding);
        if !learner.is_done() {
            return;
        }
        let made = joint::fit(&learner.rows(), embedding.len(), EMBEDDING_SEED, joint::Parts::default());
        self.embeddings = None;
        let reference = &*self.against().watched.reference;
        // Where nothing can be made of them, none is waited for again.
        self.adopt(Baseline { embedding: made.ok(), learned: true, ..reference.clone() });
    }

    /// Takes requests that were refused, since what they sent is not what the version takes.
    pub fn misfit(&mut self, requests: u64) {
        let against = self.against.as_mut().expect("a watch that was read from disk is attached first");
        self.inputs.misfit(&against.inputs, requests);
    }

    /// Takes the truth about an answer of this version.
    pub fn label(&mut self, given: &Given<'_>) {
        let against = self.against.as_mut().expect("a watch that was read from disk is attached first");
        self.outputs.label(&against.watched.manifest, &mut against.outputs, given);
    }

    /// Makes a baseline of the first rows, where the package has none.
    fn learn(&mut self) {
        let Some(learner) = self.learner.take() else { return };
        let against = self.against();
        let (rows, width) = (learner.rows(), against.watched.manifest.features.len().max(1));
        let column = |at: usize| rows.iter().skip(at).step_by(width).map(|value| f64::from(*value));
        let learned = Baseline {
            rows: (rows.len() / width) as u64,
            features: (0..width).map(|at| FeatureBaseline::of(column(at)).without_order()).collect(),
            learned: true,
            ..Baseline::default()
        };
        self.adopt(learned);
    }

    /// Begins to hold rows against what was learned of the first ones.
    fn adopt(&mut self, learned: Baseline) {
        let against = self.against();
        let outputs = against.outputs.clone();
        let fresh = Against::new(&against.watched, Some(&learned));
        self.inputs = Inputs::new(&fresh.inputs);
        self.fleet = fresh.fleet.as_ref().map(Columns::new);
        self.learned = Some(learned);
        self.against = Some(Box::new(Against { outputs, ..fresh }));
    }

    /// What was found since this was last asked, without waiting for the window's close.
    pub fn poll(&mut self, now: Now) -> Vec<Finding> {
        let mut found = Vec::new();
        self.inputs.running(&self.against().inputs, &mut found);
        self.outputs.running(&self.against().outputs, &mut found);
        if let Some((silent_ms, most_ms)) = self.inputs.silence(&self.against().inputs, millis(now.mono))
            && silent_ms >= most_ms
        {
            found.push(Found {
                monitor: Monitor::Silent,
                subject: Subject::Model,
                level: DriftLevel::Warning,
                statistic: silent_ms as f64,
                threshold: most_ms as f64,
                since: None,
            });
        }
        let fresh = self.fresh(&found);
        self.stand(&fresh, false);
        self.say(fresh, now.wall)
    }

    /// When [`poll`](Self::poll) would find the source silent, unless a row comes before.
    #[must_use]
    pub fn silent_at(&self) -> Option<Mono> {
        self.inputs.silent_at(&self.against().inputs).map(Mono::from_millis)
    }

    /// Whether it is said of the source already that it is silent.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.standing.iter().any(|it| it.monitor == Monitor::Silent)
    }

    /// Tests the window, seals it and opens the next. A window of fewer than 50 rows says nothing new of
    /// inputs and predictions: what stood of them stays.
    pub fn close(&mut self, now: Now, next: WindowId) -> Closed {
        let mut against = self.against.take().expect("a watch that was read from disk is attached first");
        let mut found = Vec::new();
        self.inputs.running(&against.inputs, &mut found);
        self.outputs.running(&against.outputs, &mut found);
        if self.rows >= MIN_ROWS {
            against.columns = self.inputs.close(&against.inputs, &mut found);
            against.estimate = Some(self.outputs.estimate(&against.outputs));
        }
        self.outputs.close(&against.outputs, &mut found);
        self.against = Some(against);
        let fresh = self.fresh(&found);
        self.stand(&found, true);
        let findings = self.say(fresh, now.wall);
        let mut summary = self.open_summary(now.wall);
        for one in &found {
            if let Subject::Feature(at) = one.subject
                && let Some(feature) = usize::try_from(at).ok().and_then(|at| summary.features.get_mut(at))
            {
                feature.level = feature.level.max(one.level);
            }
        }
        let mut against = self.against.take().expect("it was put there above");
        against.strangest = self.inputs.strangest().to_vec();
        self.rows = 0;
        self.inputs.reset(&against.inputs);
        if let Some(fleet) = &mut self.fleet {
            fleet.reset();
        }
        self.outputs.reset(&against.watched.manifest, &mut against.outputs, next.number);
        self.against = Some(against);
        (self.id, self.opened) = (next, now.wall);
        Closed { summary, findings }
    }

    /// Those that do not stand yet, or not at this level: the strongest first.
    fn fresh(&self, found: &[Found]) -> Vec<Found> {
        let is_new = |one: &&Found| {
            let stood = self.standing.iter().find(|it| it.is_of(one));
            stood.is_none_or(|it| it.level < one.level)
        };
        let mut fresh: Vec<Found> = found.iter().filter(is_new).copied().collect();
        fresh.sort_by(|a, b| b.level.cmp(&a.level).then(b.excess().total_cmp(&a.excess())));
        fresh.truncate(MAX_FINDINGS);
        fresh
    }

    /// What stands: after a close what was found with it, and what too few rows or labels could not deny;
    /// between closes what stood, and what came.
    fn stand(&mut self, found: &[Found], is_close: bool) {
        let few = self.rows < MIN_ROWS;
        if is_close {
            self.standing.retain(|it| few && is_of_windows(it.monitor));
        }
        for one in found {
            self.standing.retain(|it| !it.is_of(one));
            self.standing.push(Standing { monitor: one.monitor, subject: one.subject, level: one.level });
        }
    }

    fn say(&mut self, found: Vec<Found>, at: WallMs) -> Vec<Finding> {
        let findings: Vec<Finding> = found.into_iter().map(|one| self.finding(one, at)).collect();
        for finding in &findings {
            self.kept.push_back(finding.clone());
        }
        while self.kept.len() > KEPT_FINDINGS {
            self.kept.pop_front();
        }
        findings
    }

    fn finding(&self, one: Found, at: WallMs) -> Finding {
        let Watched { manifest, .. } = &self.against().watched;
        let name = |index: u32| manifest.features.get(usize::try_from(index).ok()?).map(|it| it.name.clone());
        let (feature, group) = match one.subject {
            Subject::Model => (None, None),
            Subject::Feature(index) => (name(index), None),
            Subject::Part(group, part) => (None, Some(self.part_name(group, part))),
        };
        let a_row = at.0.saturating_sub(self.opened.0) as f64 / self.rows.max(1) as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "milliseconds of a window"
        )]
        let ago = |rows: u64| (rows as f64 * a_row) as u64;
        Finding {
            model: manifest.model.name.clone(),
            version: self.version,
            monitor: one.monitor,
            feature,
            group,
            level: one.level,
            statistic: one.statistic,
            threshold: one.threshold,
            one_false_in: one_false_in(one.monitor, one.level),
            since: Some(one.since.map_or(self.opened, |rows| WallMs(at.0.saturating_sub(ago(rows))))),
            window: self.id.clone(),
            at,
        }
    }

    pub(crate) fn part_name(&self, group: u16, part: u16) -> String {
        let against = self.against();
        let name = against.watched.manifest.groups.get(usize::from(group)).map(|group| group.name.as_str());
        let part = against.outputs.answers().groups().part_name(usize::from(group), usize::from(part));
        format!("{} = {part}", name.unwrap_or_default())
    }

    /// The open window as it stands.
    #[must_use]
    pub fn open_summary(&self, now: WallMs) -> WindowSummary {
        let Against { watched, outputs, .. } = self.against();
        let tally = self.fleet.as_ref().map_or_else(|| self.inputs.tally(), Columns::tally);
        let model = watched.manifest.model.name.clone();
        let empty = WindowSummary::new(self.id.clone(), model, self.version, watched.digest, self.opened);
        let (predictions, values) = self.outputs.cells(outputs);
        WindowSummary {
            closed: now,
            rows: self.rows,
            features: tally.summaries(),
            predictions,
            values,
            labels: self.outputs.arrived(),
            level: self.level(),
            estimate: self.outputs.promised(),
            outliers: self.inputs.outliers(),
            duplicates: tally.duplicates,
            health: Some(self.health().score),
            groups: self.outputs.parts(outputs),
            ..empty
        }
    }

    /// The label slots that changed since this was last asked, by window number.
    pub fn take_label_slots(&mut self) -> Vec<(u64, LabelSlot)> {
        self.outputs.take_changed()
    }

    /// The chance of a row as strange as this one among those of training; `None` where the package cannot
    /// tell. Counts nothing.
    pub fn strangeness(&mut self, features: &[f32]) -> Option<f64> {
        let against = self.against.as_mut().expect("a watch that was read from disk is attached first");
        Inputs::strangeness(&mut against.inputs, features)
    }

    /// The groups that a request named, each by its place in the package and its value; a value that the
    /// package does not know is of no part.
    #[must_use]
    pub fn named(&self, named: &[(usize, &str)]) -> GroupCodes {
        let against = self.against();
        let mut codes = GroupCodes::default();
        for (group, value) in named {
            if let Some(group) = against.watched.manifest.groups.get(*group) {
                against.outputs.answers().groups().name(&mut codes, &group.name, value);
            }
        }
        codes
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

    /// The level of the worst that holds now.
    #[must_use]
    pub fn level(&self) -> DriftLevel {
        self.standing.iter().map(|it| it.level).max().unwrap_or_default()
    }

    /// What labels alone say.
    #[must_use]
    pub fn error_level(&self) -> DriftLevel {
        let of_labels = |it: &&Standing| matches!(it.monitor, Monitor::Error | Monitor::Residual);
        self.standing.iter().filter(of_labels).map(|it| it.level).max().unwrap_or_default()
    }

    /// How strong the evidence is that labelled answers have become worse than promised: the logarithm of the
    /// labels in which chance alone says so once. `None` while nothing is promised.
    #[must_use]
    pub fn worse(&self) -> Option<f64> {
        self.outputs.worse(&self.against().outputs)
    }

    /// How well the model does.
    #[must_use]
    pub fn health(&self) -> ModelHealth {
        let standing: Vec<_> = self.standing.iter().map(|it| (it.monitor, it.level)).collect();
        ModelHealth::of(&standing)
    }

    /// (labels, right answers) of the last 256 labels.
    #[must_use]
    pub fn recent_accuracy(&self) -> (u64, u64) {
        self.outputs.recent()
    }

    pub(crate) fn parts(&self) -> (&Inputs, &Outputs, &[Standing], &VecDeque<Finding>, Option<&Baseline>) {
        (&self.inputs, &self.outputs, &self.standing, &self.kept, self.learned.as_ref())
    }
}

/// Whether a monitor speaks at closes only, of rows: a close with too few of them is silent.
fn is_of_windows(monitor: Monitor) -> bool {
    matches!(
        monitor,
        Monitor::Feature
            | Monitor::Category
            | Monitor::Prediction
            | Monitor::Estimate
            | Monitor::Parity
            | Monitor::Opportunity
            | Monitor::Calibration
    )
}

fn millis(mono: Mono) -> u64 {
    u64::try_from(mono.0.as_millis()).unwrap_or(u64::MAX)
}
