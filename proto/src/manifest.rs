//! `model.toml`: what a package says of its model.

mod gate;
mod goal;
mod group;

use crate::id::{DeviceId, Digest, ModelName};
pub use gate::GatePolicy;
pub use goal::Goal;
pub use group::{GROUP_PARTS, Group, MAX_GROUPS};
use serde::{Deserialize, Serialize};

/// The manifest format that this build writes, and the highest it reads.
pub const FORMAT: u32 = 1;
/// Abilities that a package may demand of its reader in `requires`.
pub const ABILITIES: [&str; 0] = [];
/// Most features of a model: beyond it a tabular schema is a mistake.
pub const MAX_FEATURES: usize = 65_536;
/// Most classes of a classifier.
pub const MAX_CLASSES: usize = 10_000;

/// `model.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format, [`FORMAT`].
    pub format: u32,
    /// Abilities without which a reader must refuse the package.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// Name, number, task.
    pub model: ModelInfo,
    /// Where features go into the graph.
    pub input: InputInfo,
    /// What comes out of it.
    pub output: OutputInfo,
    /// How it is trained again.
    #[serde(default)]
    pub recipe: Recipe,
    /// What a retrained version must show.
    #[serde(default)]
    pub gate: GatePolicy,
    /// How well it shall do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
    /// Where it comes from; absent for a root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// The features, in the order of the input tensor's last dimension.
    ///
    /// None: the model takes tensors (images, sequences, text, several inputs). It is served and its
    /// answers are watched; its inputs are not, and it is not trained here.
    #[serde(rename = "feature", default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<Feature>,
    /// Groups of rows that are watched for being treated worse than the others.
    #[serde(rename = "group", default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
}

/// Name, number, task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelInfo {
    /// The model's name, the same over all versions.
    pub name: ModelName,
    /// The base version's number, for people: `gas@3`.
    pub version: u32,
    /// What it answers.
    pub task: Task,
    /// One sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// What a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// One class of several.
    Classification,
    /// Numbers.
    Regression,
}

/// Where features go into the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputInfo {
    /// The ONNX input, of shape `[N, features]`; the first one where there are no features.
    pub tensor: String,
}

/// What comes out of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputInfo {
    /// The ONNX output, of shape `[N, classes]` or `[N, values]`.
    pub tensor: String,
    /// What its numbers are.
    pub kind: OutputKind,
    /// The classes, in the order of the output tensor; empty for regression.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// What scores before the Softmax are to be divided by for calibrated confidences, above zero, where
    /// that was measured and the file does not do it itself. For readers: the file is served as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The tensor inside the graph whose drift is watched beside the inputs': what the last layer reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<String>,
}

/// What the numbers of an output are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// Before a softmax.
    Logits,
    /// Sum to one.
    Probabilities,
    /// Regression values.
    Values,
}

/// One column of the input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Its unit, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// Least value of the training data.
    pub min: f64,
    /// Greatest value of the training data.
    pub max: f64,
}

/// How a model is trained again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// What moves: of networks `all`, `last`, `norms-and-biases` (or `bias`), `low-rank:R`, or name globs with
    /// commas between them; of trees `leaves` (which `all` means too); and of either `input-affine`, a scale
    /// and a shift of each feature, which are fitted without labels.
    pub scope: String,
    /// Step size.
    pub learning_rate: f64,
    /// Rows in a step.
    pub batch: u32,
    /// Passes over the training set.
    pub epochs: u32,
    /// Pull towards the parent's weights.
    pub l2_to_start: f64,
    /// Most labelled rows of the device in a run.
    pub max_rows: u32,
    /// How they move: `adam`, `adamw` or `sgd`.
    #[serde(skip_serializing_if = "is_adam")]
    pub optimizer: String,
    /// Pull of `adamw` towards nought.
    #[serde(skip_serializing_if = "is_nought")]
    pub weight_decay: f64,
    /// Share of its speed that `sgd` keeps from step to step.
    #[serde(skip_serializing_if = "is_nought")]
    pub momentum: f64,
    /// What is made smaller: `auto`, `cross-entropy`, `multi-label`, `mean-squared`, `huber:δ`, `quantile:q` or
    /// `reconstruction`.
    #[serde(skip_serializing_if = "is_auto")]
    pub loss: String,
    /// `equal` or `balanced`.
    #[serde(skip_serializing_if = "is_equal")]
    pub class_weights: String,
    /// Length that all gradients together have at most; nought for no bound.
    #[serde(skip_serializing_if = "is_nought")]
    pub clip_norm: f64,
    /// Strength of elastic weight consolidation: pull towards the parent's weights, the harder the more they
    /// matter to the replayed rows.
    #[serde(skip_serializing_if = "is_nought")]
    pub ewc: f64,
    /// Share of each batch that is replayed rows; nought mixes them in as they come.
    #[serde(skip_serializing_if = "is_nought")]
    pub replay_share: f64,
    /// Looks at the newest of the training rows, which are then not trained on, without a better one after
    /// which to stop; nought for never. The gate's holdout is not among them.
    #[serde(skip_serializing_if = "is_none")]
    pub patience: u32,
    /// Share of the steps in which the step size grows from nought.
    #[serde(skip_serializing_if = "is_nought")]
    pub warm_up: f64,
    /// What becomes of the step size after it: `constant` or `cosine`.
    #[serde(skip_serializing_if = "is_constant")]
    pub schedule: String,
    /// Whether recipes near this one are tried first, of networks that are trained by gradients: `none`, or
    /// `halving`, which takes about as many steps again.
    #[serde(skip_serializing_if = "is_no_search")]
    pub search: String,
    /// Memory in MiB that training may take, within the device's own limit; nought for that limit.
    #[serde(skip_serializing_if = "is_none")]
    pub memory_mib: u32,
    /// Part of a leaf's old weight that is kept, 0 to 1. Only of trees, as all up to `holds_average`.
    #[serde(skip_serializing_if = "is_usual_decay")]
    pub decay: f64,
    /// Rows that must reach a leaf, or it keeps its weight.
    #[serde(skip_serializing_if = "is_one")]
    pub min_rows_per_leaf: u32,
    /// What the trees are: `auto`, which tells most forests of classes; `forest`; or of boosted trees the
    /// library and its learning rate, which no file says: `lightgbm:R`, `xgboost:R`, `scikit-learn:R`,
    /// `scikit-learn-histogram:R`.
    #[serde(skip_serializing_if = "is_auto")]
    pub ensemble: String,
    /// What boosted trees bring down: `auto` where the file shows it, `squares`, `logistic` or `softmax`.
    #[serde(skip_serializing_if = "is_auto")]
    pub objective: String,
    /// Added to the second derivatives of a boosted leaf; without it the library's own default, which is 1
    /// for XGBoost and 0 for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda_l2: Option<f64>,
    /// Whether the first tree of each target holds the average as well (LightGBM's `boost_from_average`);
    /// without it the library's own default, which is true for LightGBM and false for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds_average: Option<bool>,
    /// Most standard deviations that `input-affine` moves a feature's mean by, and most by which it changes
    /// its spread (by a factor of one more than this).
    #[serde(skip_serializing_if = "is_usual_cap")]
    pub input_cap: f64,
}

/// LightGBM's own `refit_decay_rate`.
const USUAL_DECAY: f64 = 0.9;
/// Ageing sensors stay within three deviations between two runs, while a wrong unit or a broken sensor is not
/// made to look as usual.
const USUAL_CAP: f64 = 3.0;

fn is_usual_decay(decay: &f64) -> bool {
    *decay == USUAL_DECAY
}

fn is_usual_cap(cap: &f64) -> bool {
    *cap == USUAL_CAP
}

fn is_one(value: &u32) -> bool {
    *value == 1
}

fn is_adam(optimizer: &str) -> bool {
    optimizer == "adam"
}

fn is_auto(loss: &str) -> bool {
    loss == "auto"
}

fn is_equal(class_weights: &str) -> bool {
    class_weights == "equal"
}

fn is_no_search(search: &str) -> bool {
    search == "none"
}

fn is_constant(schedule: &str) -> bool {
    schedule == "constant"
}

fn is_nought(value: &f64) -> bool {
    *value == 0.0
}

fn is_none(value: &u32) -> bool {
    *value == 0
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            scope: "all".into(),
            learning_rate: 1e-3,
            batch: 32,
            epochs: 30,
            l2_to_start: 0.0,
            max_rows: 2_000,
            optimizer: "adam".into(),
            weight_decay: 0.0,
            momentum: 0.0,
            loss: "auto".into(),
            class_weights: "equal".into(),
            clip_norm: 0.0,
            ewc: 0.0,
            replay_share: 0.0,
            patience: 0,
            warm_up: 0.0,
            schedule: "constant".into(),
            search: "none".into(),
            memory_mib: 0,
            decay: USUAL_DECAY,
            min_rows_per_leaf: 1,
            ensemble: "auto".into(),
            objective: "auto".into(),
            lambda_l2: None,
            holds_average: None,
            input_cap: USUAL_CAP,
        }
    }
}

/// Where a version comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// The version it was made from.
    pub parent: Digest,
    /// The device that trained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Its number among the versions born on that device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Digest over the training rows (ids and bytes) and the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_set: Option<Digest>,
}

/// A manifest that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, or not of this schema.
    #[error("model.toml cannot be read: {reason}")]
    Parse { reason: String },
    /// Written by a newer build.
    #[error("model.toml has format {format}, this build reads up to {FORMAT}")]
    Format { format: u32 },
    /// Demands what this build cannot do.
    #[error("model.toml requires `{ability}`, which this build does not have")]
    Requires { ability: String },
    /// Contradicts itself.
    #[error("model.toml is not consistent: {reason}")]
    Inconsistent { reason: String },
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self =
            toml::from_str(text).map_err(|cause| ManifestError::Parse { reason: cause.to_string() })?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The text of `model.toml`: equal manifests have equal text.
    ///
    /// # Panics
    /// Never: every field has a TOML form.
    #[must_use]
    pub fn to_text(&self) -> String {
        toml::to_string(self).expect("every field of a manifest has a TOML form")
    }

    fn check(&self) -> Result<(), ManifestError> {
        let no = |reason: String| Err(ManifestError::Inconsistent { reason });
        if self.format == 0 || self.format > FORMAT {
            return Err(ManifestError::Format { format: self.format });
        }
        if let Some(ability) = self.requires.iter().find(|need| !ABILITIES.contains(&need.as_str())) {
            return Err(ManifestError::Requires { ability: ability.clone() });
        }
        if self.features.len() > MAX_FEATURES {
            return no(format!("{} features, {MAX_FEATURES} are the most", self.features.len()));
        }
        let mut names: Vec<&str> = self.features.iter().map(|feature| feature.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return no(format!("feature `{}` stands twice", pair[0]));
        }
        if let Some(feature) =
            self.features.iter().find(|f| !(f.min.is_finite() && f.max.is_finite() && f.min <= f.max))
        {
            return no(format!("feature `{}` has range {} to {}", feature.name, feature.min, feature.max));
        }
        if let Some(temperature) = self.output.temperature
            && !(temperature.is_finite() && temperature > 0.0)
        {
            return no(format!("temperature {temperature}, expected a number above 0"));
        }
        let classes = self.output.classes.len();
        match (self.model.task, self.output.kind) {
            (Task::Classification, OutputKind::Values) => {
                no("a classifier's output cannot be `values`".into())
            }
            (Task::Regression, OutputKind::Logits | OutputKind::Probabilities) => {
                no("a regression's output must be `values`".into())
            }
            (Task::Classification, _) if !(2..=MAX_CLASSES).contains(&classes) => {
                no(format!("{classes} classes, expected 2 to {MAX_CLASSES}"))
            }
            (Task::Regression, OutputKind::Values) if classes > 0 => no("a regression has no classes".into()),
            _ => self.goal.and_then(Goal::fault).or_else(|| group::fault(self)).map_or(Ok(()), no),
        }
    }

    /// What people call this version: `gas@3`, or `gas@3+press-07.2` for one born on a device.
    #[must_use]
    pub fn display_name(&self) -> String {
        let base = format!("{}@{}", self.model.name, self.model.version);
        match &self.lineage {
            Some(Lineage { device: Some(device), number: Some(number), .. }) => {
                format!("{base}+{device}.{number}")
            }
            _ => base,
        }
    }

    /// The digest of the input schema: names, units and order of the features, and the classes.
    #[must_use]
    pub fn schema_digest(&self) -> Digest {
        let features: Vec<_> = self.features.iter().map(|f| (&f.name, &f.unit)).collect();
        Digest::of(&crate::wire::to_cbor(&(features, &self.output.classes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../testdata/v1/model.toml");

    #[test]
    fn text_round_trips() {
        let manifest = Manifest::parse(GOOD).unwrap();
        assert_eq!(Manifest::parse(&manifest.to_text()).unwrap(), manifest);
        assert_eq!(manifest.display_name(), "gas@3+press-07.2");
        assert_eq!(manifest.output.temperature, None, "packages of earlier builds are read");
        let mut cooled = manifest;
        cooled.output.temperature = Some(1.5);
        assert_eq!(Manifest::parse(&cooled.to_text()).unwrap(), cooled);
    }

    #[test]
    fn a_recipe_says_what_is_not_as_usual_and_an_older_one_reads() {
        let usual = Manifest::parse(GOOD).unwrap();
        let text = usual.to_text();
        assert!(
            text.contains("max_rows") && !text.contains("optimizer") && !text.contains("patience"),
            "{text}"
        );
        for of_trees in ["decay", "leaf", "ensemble", "objective", "lambda", "average", "input_cap"] {
            assert!(!text.contains(of_trees), "{of_trees} is as usual:\n{text}");
        }
        let mut other = usual.clone();
        other.recipe.optimizer = "adamw".into();
        other.recipe.weight_decay = 0.01;
        other.recipe.patience = 3;
        other.recipe.decay = 0.5;
        other.recipe.ensemble = "lightgbm:0.1".into();
        other.recipe.holds_average = Some(false);
        let text = other.to_text();
        assert!(text.contains("decay = 0.5") && text.contains("holds_average = false"), "{text}");
        assert!(text.contains("weight_decay = 0.01") && !text.contains("schedule"), "{text}");
        assert_eq!(Manifest::parse(&text).unwrap(), other);
    }

    #[test]
    fn contradictions_are_named() {
        for (from, to, word) in [
            ("format = 1", "format = 9", "format 9"),
            ("format = 1", "format = 1\nrequires = [\"quantum\"]", "quantum"),
            ("name = \"s2\"", "name = \"s1\"", "twice"),
            ("min = 0.0", "min = nan", "range"),
            ("kind = \"probabilities\"", "kind = \"values\"", "values"),
            ("classes = [\"ethanol\", \"acetone\"]", "classes = []", "0 classes"),
            ("version = 3", "version = 3\ncolour = 1", "colour"),
            ("kind = \"probabilities\"", "kind = \"probabilities\"\ntemperature = 0.0", "temperature"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "`{from}` is not in the sample");
            let error = Manifest::parse(&text).unwrap_err().to_string();
            assert!(error.contains(word), "{error} does not name {word}");
        }
    }
}
