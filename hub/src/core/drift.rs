//! The fleet's view of drift: a pure fold over all documents, in key order.
//!
//! Counts on a baseline's frozen edges are integers, so windows of any devices and versions that share
//! the baseline add up exactly. PSI here is an effect size with its noise beside it, not a verdict: the
//! verdict at window close is the device's own. Labels count for the window of their prediction.

pub mod figures;
#[cfg(test)]
mod tests;

use super::registered::Registered;
use figures::{Figures, GroupView, Proportion};
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::FeatureBaseline;
use shoal_proto::document::Document;
use shoal_proto::fact::WINDOW;
use shoal_proto::id::{DeviceId, Digest, Incarnation, ModelName};
use shoal_proto::summary::{
    Counts, DriftLevel, FeatureSummary, FleetSummary, LabelBook, LabelSummary, WindowLabels, WindowSummary,
};
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
    /// Rows of these windows with a label, whenever it came.
    #[serde(default)]
    pub labelled: u64,
    /// Those as a share of all rows: labels may be few, or given to some rows rather than to others.
    #[serde(default)]
    pub coverage: f64,
    /// Right answers among them; `None` without labels and for a regression.
    #[serde(default)]
    pub accuracy: Option<Proportion>,
    /// What labels say beside it.
    #[serde(default)]
    pub figures: Figures,
    /// Windows whose label tables were too large to travel: the figures by class and group lack them.
    #[serde(default)]
    pub cut: u64,
    /// What confidence promises without labels; blind to concept drift.
    #[serde(default)]
    pub estimated: Option<Estimated>,
    /// Of the newest windows that have a score.
    #[serde(default)]
    pub health: Option<HealthScore>,
    /// Rows that are like none of training.
    #[serde(default)]
    pub outliers: u64,
    /// Rows that are the same as the row before.
    #[serde(default)]
    pub duplicates: u64,
    /// In order of name and value.
    #[serde(default)]
    pub groups: Vec<GroupView>,
    /// The versions that answered on this baseline.
    #[serde(default)]
    pub versions: Vec<VersionDrift>,
}

/// Performance without labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimated {
    /// Rows with a calibrated confidence.
    pub rows: u64,
    /// The accuracy that it promises.
    pub accuracy: f64,
}

/// How well a model is over the devices that say so, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HealthScore {
    /// On the worst device.
    pub lowest: u8,
    /// Over the devices.
    pub mean: f64,
    /// How many say so.
    pub devices: u64,
}

/// One version on this baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionDrift {
    /// Which.
    pub version: Digest,
    /// Its name, where the registry has it.
    pub name: Option<String>,
    /// Rows that it answered.
    pub rows: u64,
    /// Of those, rows with a label.
    pub labelled: u64,
    /// Right answers among them; `None` without labels and for a regression.
    pub accuracy: Option<Proportion>,
    /// What confidence promises.
    pub estimated: Option<Estimated>,
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
    /// Of those, rows below it, where the device tells them apart.
    #[serde(default)]
    pub below: u64,
    /// Rows with an infinite value.
    #[serde(default)]
    pub infinite: u64,
    /// Rows with the same value as the row before.
    #[serde(default)]
    pub repeats: u64,
    /// Rows with a category that training never saw.
    #[serde(default)]
    pub unseen: u64,
    /// Rows by category of the baseline, for a categorical feature.
    #[serde(default)]
    pub categories: Counts,
    /// Mean of ln|x|: another unit moves it by the factor's logarithm.
    #[serde(default)]
    pub mean_log_size: Option<f64>,
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
    /// Labels for predictions of the windows looked at.
    pub labelled: u64,
    /// Right answers among them.
    pub correct: u64,
    /// Rows of the windows looked at.
    #[serde(default)]
    pub rows: u64,
    /// Of its newest window, 0 to 100.
    #[serde(default)]
    pub health: Option<u8>,
    /// The version of its newest window.
    pub version: Digest,
    /// When its newest window closed, by the device's clock.
    pub closed: WallMs,
}

/// A window, and what is known of its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// As it was sealed.
    pub window: WindowSummary,
    /// Joined to it.
    pub labels: WindowLabels,
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
) -> BTreeMap<ModelName, Vec<Seen>> {
    let book = LabelBook::of(document);
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
        let windows = found[skip..].iter().filter_map(|(_, _, value)| from_cbor::<WindowSummary>(value).ok());
        let seen = windows.map(|window| Seen { labels: book.labels_of(&window), window });
        newest.insert(model, seen.collect());
    }
    newest
}

/// Population stability index with [`SMOOTHING`], and its mean when nothing has moved; `None` without
/// rows or with one bin.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
pub fn psi(reference: &[u64], counts: &[u64]) -> Option<(f64, f64)> {
    let bins = reference.len();
    let (m, n) = (total(reference), total(counts));
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

fn total(counts: &[u64]) -> f64 {
    counts.iter().map(|count| *count as f64).sum()
}

/// Folds windows of the fleet, given device by device in order of id.
#[must_use]
pub fn fold(
    fleet: impl IntoIterator<Item = (DeviceId, BTreeMap<ModelName, Vec<Seen>>)>,
    registry: &BTreeMap<Digest, Registered>,
) -> Vec<DriftView> {
    let mut groups: BTreeMap<(ModelName, Digest), Group> = BTreeMap::new();
    for (device, models) in fleet {
        for (model, seen) in models {
            let Some(newest) = seen.last().map(|it| it.window.baseline) else { continue };
            let mut by_baseline: BTreeMap<Digest, Vec<Seen>> = BTreeMap::new();
            for one in seen {
                by_baseline.entry(one.window.baseline).or_default().push(one);
            }
            for (baseline, seen) in by_baseline {
                let group = groups.entry((model.clone(), baseline)).or_default();
                group.windows += seen.len() as u64;
                for Seen { window, labels } in &seen {
                    group.versions.entry(window.version).or_default().absorb(window, labels);
                    group.cut += u64::from(labels.cut);
                }
                if newest == baseline {
                    group.devices.push((device.clone(), seen));
                }
            }
        }
    }
    groups.into_iter().map(|((model, baseline), group)| group.into_view(model, baseline, registry)).collect()
}

#[derive(Debug, Default)]
struct Group {
    windows: u64,
    /// Windows whose label tables are not whole.
    cut: u64,
    /// Exact sums, by the version that answered.
    versions: BTreeMap<Digest, FleetSummary>,
    /// Those whose newest window is on this baseline.
    devices: Vec<(DeviceId, Vec<Seen>)>,
}

impl Group {
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
        let mut sum = FleetSummary::default();
        self.versions.values().for_each(|version| sum.absorb_sum(version));
        let is_classifier = sum.labels.measured == 0 && known.is_none_or(|it| !it.classes.is_empty());
        let devices: Vec<DeviceDrift> =
            self.devices.iter().filter_map(|(device, seen)| device_view(device, seen, &name)).collect();
        let features = sum.features.iter().enumerate().map(|(index, sums)| {
            let reference = known.and_then(|it| it.baseline.features.get(index));
            let above = self.devices.iter().filter(|(_, seen)| {
                let newest = seen.last().and_then(|it| it.window.features.get(index));
                newest.is_some_and(|it| it.level > DriftLevel::Stable)
            });
            feature_view(name(index), sums, reference, above.map(|(device, _)| device.clone()).collect())
        });
        let drifting = devices.iter().filter(|it| it.level == DriftLevel::Drift).count();
        let (scope, drifting_share) = scope(drifting, devices.len());
        let labelled = sum.label_counts().labelled;
        let version = |(version, sum): (&Digest, &FleetSummary)| VersionDrift {
            version: *version,
            name: registry.get(version).map(|it| it.record.name.clone()),
            rows: sum.rows,
            labelled: sum.label_counts().labelled,
            accuracy: accuracy(sum.label_counts(), is_classifier),
            estimated: estimated(sum),
        };
        DriftView {
            model,
            baseline,
            version: known.map(|it| it.record.name.clone()),
            rows: sum.rows,
            windows: self.windows,
            scope,
            drifting_share,
            features: features.collect(),
            labelled,
            coverage: Proportion::of(labelled, sum.rows).map_or(0.0, |it| it.share),
            accuracy: accuracy(sum.label_counts(), is_classifier),
            figures: Figures::of(&sum.labels),
            cut: self.cut,
            estimated: estimated(&sum),
            health: health(&devices),
            outliers: sum.outliers,
            duplicates: sum.duplicates,
            groups: figures::groups(&sum.groups, &sum.labels.groups),
            versions: self.versions.iter().map(version).collect(),
            devices,
        }
    }
}

fn accuracy(labels: LabelSummary, is_classifier: bool) -> Option<Proportion> {
    Proportion::of(labels.correct, labels.labelled).filter(|_| is_classifier)
}

fn estimated(sum: &FleetSummary) -> Option<Estimated> {
    sum.estimate.accuracy().map(|accuracy| Estimated { rows: sum.estimate.rows, accuracy })
}

fn health(devices: &[DeviceDrift]) -> Option<HealthScore> {
    let scores: Vec<u8> = devices.iter().filter_map(|it| it.health).collect();
    let sum: f64 = scores.iter().copied().map(f64::from).sum();
    let lowest = *scores.iter().min()?;
    Some(HealthScore { lowest, mean: sum / scores.len() as f64, devices: scores.len() as u64 })
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
    sums: &FeatureSummary,
    reference: Option<&FeatureBaseline>,
    devices: Vec<DeviceId>,
) -> FeatureDrift {
    let reference = reference.map(|it| it.counts.clone()).unwrap_or_default();
    let counts = sums.counts.dense(reference.len());
    let value = psi(&reference, &counts);
    FeatureDrift {
        name,
        psi: value.map(|(psi, _)| psi),
        noise: value.map(|(_, noise)| noise),
        counts,
        reference,
        missing: sums.missing,
        out_of_range: sums.out_of_range,
        below: sums.below,
        infinite: sums.infinite,
        repeats: sums.repeats,
        unseen: sums.unseen,
        categories: sums.categories.clone(),
        mean_log_size: Some(sums).filter(|it| !it.log_size.is_zero()).and_then(FeatureSummary::mean_log_size),
        devices,
    }
}

fn device_view(device: &DeviceId, seen: &[Seen], name: &impl Fn(usize) -> String) -> Option<DeviceDrift> {
    let newest = &seen.last()?.window;
    let run = seen.iter().rev().map(|it| &it.window).take_while(|it| it.level > DriftLevel::Stable);
    let labels = counts_of(seen);
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
        labelled: labels.labelled,
        correct: labels.correct,
        rows: seen.iter().map(|it| it.window.rows).fold(0, u64::saturating_add),
        health: newest.health.map(|it| it.min(100)),
        version: newest.version,
        closed: newest.closed,
    })
}

/// Labels for the predictions of some windows, and right answers among them.
#[must_use]
pub fn counts_of(seen: &[Seen]) -> LabelSummary {
    seen.iter().fold(LabelSummary::default(), |mut sum, one| {
        sum.absorb(one.labels.counts());
        sum
    })
}
