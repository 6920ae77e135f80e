//! What people are shown of a version's monitors.

use crate::answer::bias::GroupReport;
use crate::answer::{Estimate, Metrics, Priors};
use crate::found::Subject;
use crate::inputs::ColumnWindow;
use crate::row::Asked;
use crate::watch::Watch;
use serde::{Deserialize, Serialize};
use shoal_proto::finding::{Finding, ModelHealth, Monitor};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::summary::{DriftLevel, WindowId};
use shoal_proto::time::WallMs;

/// One model's monitors, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Which model.
    pub model: ModelName,
    /// The version that is watched.
    pub version: Digest,
    /// What people call it.
    pub name: String,
    /// The worst level that holds.
    pub level: DriftLevel,
    /// How well it does, by part.
    pub health: ModelHealth,
    /// The open window.
    pub window: WindowId,
    /// When it was opened.
    pub opened: WallMs,
    /// Rows in it.
    pub rows: u64,
    /// Whether the reference of its features was learned from the first rows here.
    pub learned: bool,
    /// What holds now: monitor, what it is about, level.
    pub standing: Vec<(Monitor, String, DriftLevel)>,
    /// What was found lately, oldest first.
    pub findings: Vec<Finding>,
    /// Features in the last closed window, in the model's order; empty before the first.
    pub features: Vec<FeatureDrift>,
    /// Which features moved, the one that matters most first.
    pub moved: Vec<Moved>,
    /// The strangest rows of the open window and of the one before, the strangest first: what a person should
    /// look at, and label.
    pub outliers: Vec<Outlying>,
    /// What calibrated confidence promises of the last closed window, without labels. Blind to concept drift: where
    /// the truth changed and inputs did not, only labels tell.
    pub estimate: Estimate,
    /// What the labels of the last 168 windows say.
    pub performance: Metrics,
    /// Labels that came when their window was let go already.
    pub labels_too_late: u64,
    /// How often each class is truly there, as far as answers tell; classifiers only.
    pub priors: Option<Priors>,
    /// How each group fares, by labels.
    pub groups: Vec<GroupReport>,
    /// What the monitors of all features together cost: multiplications a row.
    pub joint_operations: usize,
}

/// One feature in one window, beside its reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureDrift {
    /// Its name.
    pub feature: String,
    /// What the window's tests say of it.
    pub level: DriftLevel,
    /// Population stability index; what it is on average with no change is subtracted.
    pub psi: Option<f64>,
    /// The probability of such a window with no change.
    pub p: f64,
    /// Jensen–Shannon distance, base 2.
    pub jensen_shannon: f64,
    /// Wasserstein-1 distance in standard deviations of the reference.
    pub wasserstein: f64,
    /// Kolmogorov–Smirnov statistic over the bins.
    pub kolmogorov: f64,
    /// Share of rows without a value, and of training's.
    pub missing: (f64, f64),
    /// Share of rows out of the trained range.
    pub out_of_range: f64,
    /// Of a category: about how many different ones came that training never saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<f64>,
    /// The commonest of them, with the rows that they have at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frequent: Vec<(f32, u64)>,
    /// The feature whose values it seems to hold: the sender has changed the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
}

/// A row that is like none of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outlying {
    /// What a label refers to; of a request of several rows, the request.
    pub prediction_id: String,
    /// Its number among the requests of its life.
    pub number: u64,
    /// The chance of a row as strange among those of training.
    pub p: f64,
}

/// A feature that moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// Its name.
    pub feature: String,
    /// How far, as PSI beyond chance or L∞ of categories.
    pub shift: f64,
    /// How much the answer changes when it moves by a standard deviation, where the package knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<f64>,
    /// Its part of all, in 0 … 1.
    pub share: f64,
}

impl Watch {
    /// Everything that people are shown.
    #[must_use]
    pub fn drift(&self) -> Drift {
        let (inputs, outputs, standing, kept, learned) = self.parts();
        let against = self.against();
        let manifest = &against.watched.manifest;
        let name = |at: usize| manifest.features.get(at).map_or_else(String::new, |it| it.name.clone());
        let subject = |subject: Subject| match subject {
            Subject::Model => String::new(),
            Subject::Feature(at) => usize::try_from(at).map_or_else(|_| String::new(), name),
            Subject::Part(group, part) => self.part_name(group, part),
        };
        let moved = inputs.attribution(&against.inputs, &against.columns).into_iter();
        Drift {
            model: manifest.model.name.clone(),
            version: self.version(),
            name: manifest.display_name(),
            level: self.level(),
            health: self.health(),
            window: self.window().clone(),
            opened: self.opened(),
            rows: self.rows(),
            learned: learned.is_some() || against.watched.reference.learned,
            standing: standing.iter().map(|it| (it.monitor, subject(it.subject), it.level)).collect(),
            findings: kept.iter().cloned().collect(),
            features: against
                .columns
                .iter()
                .enumerate()
                .map(|(at, one)| feature(name(at), one, one.like.map(name)))
                .collect(),
            moved: moved
                .map(|part| Moved {
                    feature: name(part.feature),
                    shift: part.shift,
                    sensitivity: part.sensitivity,
                    share: part.share,
                })
                .collect(),
            outliers: outliers(&manifest.model.name, inputs.strangest(), &against.strangest),
            estimate: against.estimate.clone().unwrap_or_else(|| outputs.estimate(&against.outputs)),
            performance: outputs.metrics(&against.outputs),
            labels_too_late: outputs.too_late(),
            priors: outputs.priors(&against.outputs),
            groups: outputs.groups(&against.outputs),
            joint_operations: against.inputs.joint_operations(),
        }
    }
}

fn outliers(model: &ModelName, open: &[(f64, Asked)], closed: &[(f64, Asked)]) -> Vec<Outlying> {
    let mut all: Vec<_> = open.iter().chain(closed).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let one = |(p, asked): &(f64, Asked)| Outlying {
        prediction_id: asked.prediction_id(model),
        number: asked.number,
        p: *p,
    };
    all.into_iter().map(one).collect()
}

fn feature(feature: String, window: &ColumnWindow, like: Option<String>) -> FeatureDrift {
    let tests = &window.tests;
    FeatureDrift {
        feature,
        level: window.level,
        psi: tests.shift.map(|shift| shift.psi - shift.bias),
        p: tests.p,
        jensen_shannon: tests.distances.jensen_shannon,
        wasserstein: tests.distances.wasserstein,
        kolmogorov: tests.distances.kolmogorov,
        missing: (tests.missing.share, tests.missing.reference),
        out_of_range: tests.range.share,
        unseen: window.unseen.as_ref().map(|(distinct, _)| *distinct),
        frequent: window
            .unseen
            .iter()
            .flat_map(|(_, frequent)| frequent.iter().map(|one| (one.value, one.most)))
            .collect(),
        like,
    }
}
