//! The fold of all slots of a fleet into one summary, the same in every order.

use super::cells::{Cells, Counts};
use super::labels::{LabelKey, LabelSlot, LabelSums, WindowLabels};
use super::{Estimate, FeatureSummary, LabelSummary, WindowSummary, is_zero};
use crate::document::Document;
use crate::fact::{Facts, LABELS};
use crate::id::{DeviceId, Digest, ModelName};
use crate::wire::to_cbor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one sum is over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FleetKey {
    /// Which model.
    pub model: ModelName,
    /// Whose edges the counts are on.
    pub baseline: Digest,
    /// Which version answered.
    pub version: Digest,
}

/// Sums over samples, and nothing that depends on how they were parted into devices and windows: one
/// pass over all samples gives the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FleetSummary {
    /// Rows predicted.
    pub rows: u64,
    /// One a feature, in the manifest's order; their level means nothing.
    pub features: Vec<FeatureSummary>,
    /// As in a window.
    pub predictions: Counts,
    /// As in a window.
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    pub values: Counts,
    /// As in a window.
    #[serde(default)]
    pub estimate: Estimate,
    /// As in a window.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub outliers: u64,
    /// As in a window.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duplicates: u64,
    /// As in a window.
    #[serde(default, skip_serializing_if = "Cells::is_empty")]
    pub groups: Cells<2>,
    /// Labels for these rows.
    #[serde(default)]
    pub labels: LabelSums,
    /// Labels that devices without slots counted when they came.
    #[serde(default)]
    pub arrived: LabelSummary,
}

impl FleetSummary {
    /// Adds a window and what labels said of it. Once for every slot: the caller holds them by key.
    pub fn absorb(&mut self, window: &WindowSummary, labels: &WindowLabels) {
        self.rows = self.rows.saturating_add(window.rows);
        self.absorb_features(&window.features);
        self.predictions.absorb(&window.predictions);
        self.values.absorb(&window.values);
        self.estimate.absorb(window.estimate);
        self.outliers = self.outliers.saturating_add(window.outliers);
        self.duplicates = self.duplicates.saturating_add(window.duplicates);
        self.groups.absorb(&window.groups);
        self.labels.absorb(&labels.own);
        self.arrived.absorb(labels.arrived);
    }

    /// Adds a sum over other samples.
    pub fn absorb_sum(&mut self, other: &Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.absorb_features(&other.features);
        self.predictions.absorb(&other.predictions);
        self.values.absorb(&other.values);
        self.estimate.absorb(other.estimate);
        self.outliers = self.outliers.saturating_add(other.outliers);
        self.duplicates = self.duplicates.saturating_add(other.duplicates);
        self.groups.absorb(&other.groups);
        self.labels.absorb(&other.labels);
        self.arrived.absorb(other.arrived);
    }

    fn absorb_features(&mut self, features: &[FeatureSummary]) {
        if self.features.len() < features.len() {
            self.features.resize_with(features.len(), FeatureSummary::default);
        }
        for (sum, feature) in self.features.iter_mut().zip(features) {
            sum.absorb(feature);
        }
    }

    /// Labels, and right answers among them.
    #[must_use]
    pub fn label_counts(&self) -> LabelSummary {
        LabelSummary {
            labelled: self.labels.labelled.saturating_add(self.arrived.labelled),
            correct: self.labels.correct.saturating_add(self.arrived.correct),
        }
    }

    /// The canonical bytes: equal sums have equal bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        to_cbor(self)
    }
}

/// The label slots of one document, joined to windows one by one.
#[derive(Debug, Clone)]
pub struct LabelBook<'a> {
    document: &'a Document,
    /// The first window with a slot of each life and model.
    first: BTreeMap<(&'a str, &'a str), u64>,
}

impl<'a> LabelBook<'a> {
    /// The slots of a document.
    #[must_use]
    pub fn of(document: &'a Document) -> Self {
        let mut first = BTreeMap::new();
        for (key, _) in document.of_kind(LABELS) {
            let mut parts = key.split('/');
            let (Some(life), _, Some(model)) = (parts.next(), parts.next(), parts.next()) else { continue };
            if !first.contains_key(&(life, model))
                && let Some(key) = LabelKey::parse(key)
            {
                first.insert((life, model), key.number); // keys stand in the order of their numbers
            }
        }
        Self { document, first }
    }

    /// What is known of the labels of a window. The window's own count of labels that came while it was
    /// open is taken only before the first window with a slot: a label never comes before its prediction,
    /// so that none of those is in a slot as well.
    #[must_use]
    pub fn labels_of(&self, window: &WindowSummary) -> WindowLabels {
        let key = LabelKey {
            incarnation: window.id.incarnation,
            number: window.id.number,
            model: window.model.clone(),
            version: window.version,
        };
        let life = key.incarnation.to_string();
        let before = self.first.get(&(life.as_str(), key.model.as_str())).is_none_or(|it| key.number < *it);
        let slot = self.document.get(LABELS, &key.text()).and_then(LabelSlot::from_value).unwrap_or_default();
        let arrived = if before { window.labels } else { LabelSummary::default() };
        WindowLabels { own: slot.sums, arrived, cut: slot.cut }
    }
}

/// Folds all sealed windows of a fleet, and the labels that belong to them. A label slot whose window is
/// not sealed yet waits for it.
#[must_use]
pub fn fold(fleet: &BTreeMap<DeviceId, Document>) -> BTreeMap<FleetKey, FleetSummary> {
    let mut sums: BTreeMap<FleetKey, FleetSummary> = BTreeMap::new();
    for document in fleet.values() {
        let book = LabelBook::of(document);
        for window in Facts(document).windows() {
            let labels = book.labels_of(&window);
            let (model, baseline, version) = (window.model.clone(), window.baseline, window.version);
            sums.entry(FleetKey { model, baseline, version }).or_default().absorb(&window, &labels);
        }
    }
    sums
}
