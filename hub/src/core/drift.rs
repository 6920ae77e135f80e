//! The fleet's view of drift: a pure fold over all documents, in key order.
//!
//! Counts on a baseline's frozen edges are integers, so windows of any devices and versions that share
//! the baseline add up exactly. PSI here is an effect size with its noise beside it, not a verdict: the
//! verdict at window close is the device's own.

#[cfg(test)]
mod tests;

use super::registered::Registered;
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::FeatureBaseline;
use shoal_proto::document::Document;
use shoal_proto::fact::WINDOW;
use shoal_proto::id::{DeviceId, Digest, Incarnation, ModelName};
use shoal_proto::summary::{Counts, DriftLevel, WindowSummary};
use shoal_proto::time::WallMs;
use shoal_proto::wire::from_cbor;
use std::collections::BTreeMap;

/// Added to every bin before PSI is taken, so that an empty bin is no infinity.
const SMOOTHING: f64 = 0.5;
/// Share of reporting devices from which drift is the fleet's and not a device's.
const TOGETHER_SHARE: f64 = 0.5;

/// One baseline of one model over the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftView {
    /// Which model.
    pub model: ModelName,
    /// Whose edges the counts are on.
    pub baseline: Digest,
    /// The version that brought the baseline; absent when the registry does not have it.
    pub version: Option<String>,
    /// Rows behind the counts.
    pub rows: u64,
    /// Windows behind the counts.
    pub windows: u64,
    /// Whether devices drift alone or together.
    pub scope: Scope,
    /// Devices whose newest window says `drift`, as a share of those that report.
    pub drifting_share: f64,
    /// In the manifest's order.
    pub features: Vec<FeatureDrift>,
    /// In order of id.
    pub devices: Vec<DeviceDrift>,
}

/// Alone or together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// No device says `drift`.
    Nobody,
    /// One device of several: look at the device.
    Alone,
    /// Several, but fewer than half.
    Some,
    /// At least half, and more than one: look at the world, or at the model.
    Together,
}

/// One feature over the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureDrift {
    /// Its name, or its number where the registry does not have the baseline.
    pub name: String,
    /// Population stability index against the baseline; `None` without a baseline or without rows.
    pub psi: Option<f64>,
    /// What PSI is on average when nothing has moved: (bins - 1)(n + m)/(n m).
    pub noise: Option<f64>,
    /// Rows in each bin.
    pub counts: Vec<u64>,
    /// Rows of the baseline in each bin.
    pub reference: Vec<u64>,
    /// Rows with no value.
    pub missing: u64,
    /// Rows out of the trained range.
    pub out_of_range: u64,
    /// Devices whose newest window has this feature above `stable`.
    pub devices: Vec<DeviceId>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceDrift {
    /// Which.
    pub device: DeviceId,
    /// Of its newest window.
    pub level: DriftLevel,
    /// When the windows began that are all above `stable`; by the device's clock, at the earliest what
    /// is looked at.
    pub since: Option<WallMs>,
    /// Features above `stable` in its newest window.
    pub features: Vec<String>,
    /// Labels in the windows looked at.
    pub labelled: u64,
    /// Right answers among them.
    pub correct: u64,
    /// The version of its newest window.
    pub version: Digest,
    /// When its newest window closed, by the device's clock.
    pub closed: WallMs,
}

/// A window in a document: whether of the current incarnation, its number, its bytes.
type Stored<'a> = (bool, u64, &'a [u8]);

/// The newest sealed windows of each model on a device, oldest first: those of the current incarnation
/// before those of earlier lives. `limit` 0 takes all.
#[must_use]
pub fn newest_windows(
    document: &Document,
    current: Option<Incarnation>,
    limit: usize,
) -> BTreeMap<ModelName, Vec<WindowSummary>> {
    let mut keys: BTreeMap<&str, Vec<Stored<'_>>> = BTreeMap::new();
    let current = current.map(|it| it.to_string());
    for (key, value) in document.of_kind(WINDOW) {
        let mut parts = key.splitn(3, '/');
        let (Some(life), Some(number), Some(model)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let number = u64::from_str_radix(number, 16).unwrap_or_default();
        keys.entry(model).or_default().push((current.as_deref() == Some(life), number, value));
    }
    let mut newest = BTreeMap::new();
    for (model, mut found) in keys {
        let Ok(model) = ModelName::new(model) else { continue };
        found.sort_by_key(|(ours, number, _)| (*ours, *number));
        let skip = if limit == 0 { 0 } else { found.len().saturating_sub(limit) };
        let windows: Vec<WindowSummary> =
            found[skip..].iter().filter_map(|(_, _, value)| from_cbor(value).ok()).collect();
        newest.insert(model, windows);
    }
    newest
}

/// Population stability index with [`SMOOTHING`], and its mean when nothing has moved; `None` without
/// rows or with one bin.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
pub fn psi(reference: &[u64], counts: &[u64]) -> Option<(f64, f64)> {
    let bins = reference.len();
    let (m, n) = (reference.iter().sum::<u64>() as f64, counts.iter().sum::<u64>() as f64);
    if bins < 2 || counts.len() != bins || m == 0.0 || n == 0.0 {
        return None;
    }
    let share = |count: u64, total: f64| (count as f64 + SMOOTHING) / (total + SMOOTHING * bins as f64);
    let psi = reference
        .iter()
        .zip(counts)
        .map(|(p, q)| (share(*p, m), share(*q, n)))
        .map(|(p, q)| (q - p) * (q / p).ln())
        .sum();
    Some((psi, (bins as f64 - 1.0) * (n + m) / (n * m)))
}

/// Folds windows of the fleet, given device by device in order of id.
#[must_use]
pub fn fold(
    fleet: impl IntoIterator<Item = (DeviceId, BTreeMap<ModelName, Vec<WindowSummary>>)>,
    registry: &BTreeMap<Digest, Registered>,
) -> Vec<DriftView> {
    let mut groups: BTreeMap<(ModelName, Digest), Group> = BTreeMap::new();
    for (device, models) in fleet {
        for (model, windows) in models {
            let Some(newest) = windows.last() else { continue };
            let mut by_baseline: BTreeMap<Digest, Vec<&WindowSummary>> = BTreeMap::new();
            for window in &windows {
                by_baseline.entry(window.baseline).or_default().push(window);
            }
            for (baseline, windows) in by_baseline {
                let group = groups.entry((model.clone(), baseline)).or_default();
                group.windows += windows.len() as u64;
                for window in &windows {
                    group.absorb(window);
                }
                if newest.baseline == baseline {
                    group.devices.push((device.clone(), windows.into_iter().cloned().collect()));
                }
            }
        }
    }
    groups.into_iter().map(|((model, baseline), group)| group.into_view(model, baseline, registry)).collect()
}

#[derive(Debug, Default)]
struct Group {
    rows: u64,
    windows: u64,
    features: Vec<(Counts, u64, u64)>,
    devices: Vec<(DeviceId, Vec<WindowSummary>)>,
}

impl Group {
    fn absorb(&mut self, window: &WindowSummary) {
        self.rows = self.rows.saturating_add(window.rows);
        if self.features.len() < window.features.len() {
            self.features.resize_with(window.features.len(), Default::default);
        }
        for (sum, feature) in self.features.iter_mut().zip(&window.features) {
            sum.0.absorb(&feature.counts);
            sum.1 = sum.1.saturating_add(feature.missing);
            sum.2 = sum.2.saturating_add(feature.out_of_range);
        }
    }

    fn into_view(
        self,
        model: ModelName,
        baseline: Digest,
        registry: &BTreeMap<Digest, Registered>,
    ) -> DriftView {
        let of_baseline = |it: &&Registered| it.record.model == model && it.record.baseline == baseline;
        let known = registry.values().filter(of_baseline).min_by_key(|it| (it.pushed, it.version));
        let name = |index: usize| {
            let named = known.and_then(|it| it.features.get(index).cloned());
            named.unwrap_or_else(|| format!("feature {index}"))
        };
        let devices: Vec<DeviceDrift> =
            self.devices.iter().filter_map(|(device, windows)| device_view(device, windows, &name)).collect();
        let features = self.features.iter().enumerate().map(|(index, sums)| {
            let reference = known.and_then(|it| it.baseline.features.get(index));
            let above = self.devices.iter().filter(|(_, windows)| {
                let newest = windows.last().and_then(|it| it.features.get(index));
                newest.is_some_and(|it| it.level > DriftLevel::Stable)
            });
            feature_view(name(index), sums, reference, above.map(|(device, _)| device.clone()).collect())
        });
        let features = features.collect();
        let drifting = devices.iter().filter(|it| it.level == DriftLevel::Drift).count();
        let (scope, drifting_share) = scope(drifting, devices.len());
        let version = known.map(|it| it.record.name.clone());
        let (rows, windows) = (self.rows, self.windows);
        DriftView { model, baseline, version, rows, windows, scope, drifting_share, features, devices }
    }
}

#[expect(clippy::cast_precision_loss, reason = "device counts are far below 2^52")]
fn scope(drifting: usize, reporting: usize) -> (Scope, f64) {
    let share = drifting as f64 / reporting.max(1) as f64;
    let scope = match drifting {
        0 => Scope::Nobody,
        1 => Scope::Alone,
        _ if share >= TOGETHER_SHARE => Scope::Together,
        _ => Scope::Some,
    };
    (scope, share)
}

fn feature_view(
    name: String,
    (counts, missing, out_of_range): &(Counts, u64, u64),
    reference: Option<&FeatureBaseline>,
    devices: Vec<DeviceId>,
) -> FeatureDrift {
    let reference = reference.map(|it| it.counts.clone()).unwrap_or_default();
    let counts = counts.dense(reference.len());
    let value = psi(&reference, &counts);
    FeatureDrift {
        name,
        psi: value.map(|(psi, _)| psi),
        noise: value.map(|(_, noise)| noise),
        counts,
        reference,
        missing: *missing,
        out_of_range: *out_of_range,
        devices,
    }
}

fn device_view(
    device: &DeviceId,
    windows: &[WindowSummary],
    name: &impl Fn(usize) -> String,
) -> Option<DeviceDrift> {
    let newest = windows.last()?;
    let run = windows.iter().rev().take_while(|it| it.level > DriftLevel::Stable);
    let sum = |of: fn(&WindowSummary) -> u64| windows.iter().map(of).fold(0, u64::saturating_add);
    Some(DeviceDrift {
        device: device.clone(),
        level: newest.level,
        since: run.last().map(|it| it.opened),
        features: newest
            .features
            .iter()
            .enumerate()
            .filter(|(_, feature)| feature.level > DriftLevel::Stable)
            .map(|(index, _)| name(index))
            .collect(),
        labelled: sum(|it| it.labels.labelled),
        correct: sum(|it| it.labels.correct),
        version: newest.version,
        closed: newest.closed,
    })
}
