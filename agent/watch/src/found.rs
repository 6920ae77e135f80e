//! What a monitor found, before it has a name and a time.

use crate::budget::Heights;
use crate::sequential::Sign;
use shoal_proto::finding::Monitor;
use shoal_proto::summary::DriftLevel;

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(crate) enum Subject {
    /// The whole model.
    Model,
    /// A feature, by its place.
    Feature(u32),
    /// A part of a group, by their places.
    Part(u16, u16),
}

/// What a monitor found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    pub(crate) monitor: Monitor,
    pub(crate) subject: Subject,
    pub(crate) level: DriftLevel,
    pub(crate) statistic: f64,
    pub(crate) threshold: f64,
    /// Rows, or labels, since it began, where that can be told.
    pub(crate) since: Option<u64>,
}

impl Found {
    /// A feature's place as a subject.
    pub(crate) fn feature(column: usize) -> Subject {
        u32::try_from(column).map_or(Subject::Model, Subject::Feature)
    }

    /// How far beyond its threshold it is: for the order of findings.
    pub(crate) fn excess(&self) -> f64 {
        self.statistic / self.threshold.abs().max(f64::MIN_POSITIVE)
    }
}

/// A sequential detector's word, where it has one: it stands from the row at which the threshold was reached
/// to the close of a window at which it is no longer.
pub(crate) fn said(monitor: Monitor, subject: Subject, sign: Sign, heights: Heights, found: &mut Vec<Found>) {
    let statistic = sign.highest.max(sign.log_e);
    let level = heights.level(statistic);
    if level > DriftLevel::Stable {
        let threshold = heights.of(level);
        found.push(Found { monitor, subject, level, statistic, threshold, since: Some(sign.since) });
    }
}
