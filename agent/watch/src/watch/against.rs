//! What a version is held against, and what holds of it.

use super::Watched;
use crate::answer::Estimate;
use crate::column::{Reference, Seen};
use crate::found::{Found, Subject};
use crate::inputs::{ColumnWindow, InputReference};
use crate::outputs::OutputReference;
use crate::row::Asked;
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::Baseline;
use shoal_proto::finding::Monitor;
use shoal_proto::summary::DriftLevel;
use std::sync::Arc;

/// A finding that holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) monitor: Monitor,
    pub(crate) subject: Subject,
    pub(crate) level: DriftLevel,
}

impl Standing {
    /// Whether it says the same as a finding. Of all features together, the one that is named is a hint: that
    /// another one is named is nothing new.
    pub(super) fn is_of(&self, one: &Found) -> bool {
        let of_all = matches!(one.monitor, Monitor::Joint | Monitor::Reconstruction);
        self.monitor == one.monitor && (of_all || self.subject == one.subject)
    }
}

/// What a version is held against.
#[derive(Debug, Clone)]
pub(crate) struct Against {
    pub(crate) watched: Watched,
    pub(crate) inputs: InputReference,
    pub(crate) outputs: OutputReference,
    pub(super) fleet: Option<Reference>,
    pub(super) seen: Seen,
    /// Of the last closed window that had rows enough.
    pub(crate) columns: Vec<ColumnWindow>,
    pub(crate) estimate: Option<Estimate>,
    /// The strangest rows of the last closed window.
    pub(crate) strangest: Vec<(f64, Asked)>,
    pub(super) is_learned: bool,
}

impl Against {
    pub(super) fn new(watched: &Watched, learned: Option<&Baseline>) -> Self {
        let reference = learned.map_or_else(|| Arc::clone(&watched.reference), |own| Arc::new(own.clone()));
        let is_shared = Arc::ptr_eq(&watched.baseline, &reference) || watched.baseline == reference;
        Self {
            inputs: InputReference::new(&reference),
            outputs: OutputReference::new(&watched.manifest, watched.reference.predictions.as_ref()),
            fleet: (!is_shared).then(|| Reference::new(&watched.baseline.features, f64::INFINITY)),
            seen: Seen::default(),
            columns: Vec::new(),
            estimate: None,
            strangest: Vec::new(),
            is_learned: learned.is_some(),
            watched: watched.clone(),
        }
    }

    /// Whether the first rows have to tell what embeddings are like: of models that take tensors.
    pub(super) fn learns_embeddings(&self) -> bool {
        !self.is_learned
            && self.watched.manifest.features.is_empty()
            && self.watched.reference.embedding.is_none()
    }

    pub(super) fn has_no_baseline(&self) -> bool {
        let reference = &self.watched.reference;
        !self.watched.manifest.features.is_empty() && reference.features.iter().all(|it| it.rows() == 0)
    }
}
