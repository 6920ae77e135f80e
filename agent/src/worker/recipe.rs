//! A package's recipe, as the trainer takes it.

mod leaves;

use serde::Serialize;
use shoal_learn::{ClassWeights, LossKind, Optimizer, Recipe, RecipeError, Schedule, Scope};
use shoal_onnx::{FoldError, Limits, RefitSettings, TreeRefitError, refit_as, takes_input_affine};
use shoal_proto::manifest;
use std::fmt;

/// The scope of the leaves of trees; `all` means them too.
const LEAVES: &str = "leaves";
/// The scope of the map of the inputs.
const INPUT_AFFINE: &str = "input-affine";

/// Of `search`: the recipe as it is.
pub(super) const NO_SEARCH: &str = "none";
/// Of `search`: recipes near it are tried first.
pub(super) const HALVING: &str = "halving";

/// Steps of a run at most, whatever the recipe says.
const MAX_STEPS: u64 = 20_000;

/// The way by which a model is retrained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Step by step; what stands against it is told by an inspection.
    Gradients,
    /// New weights for the leaves of its trees.
    Leaves,
    /// A map of its inputs, without labels.
    InputAffine,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gradients => "gradients",
            Self::Leaves => "new weights for the leaves of its trees",
            Self::InputAffine => "a map of its inputs, without labels",
        })
    }
}

/// How a candidate is made.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Way {
    /// By gradients, step by step.
    Gradients(Recipe),
    /// By new weights for the leaves of trees, at once.
    Leaves(LeafRefit),
    /// By a map of the inputs, without labels.
    InputAffine {
        /// Most standard deviations of a step.
        cap: f64,
    },
}

/// How leaves are refitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LeafRefit {
    pub(super) settings: RefitSettings,
    /// Whether all classes count alike, however many rows they have.
    pub(super) is_balanced: bool,
    /// What the rows and all that is made of them may take.
    pub(super) memory_bytes: u64,
}

/// Reads a package's recipe for a model with trees or without; `memory_bytes` is the device's own bound.
///
/// # Errors
/// The first [`RecipeError`], which names the setting, what it is and what it may be.
pub(super) fn parse(
    recipe: &manifest::Recipe,
    has_trees: bool,
    seed: u64,
    memory_bytes: u64,
) -> Result<Way, RecipeError> {
    let own_bytes = u64::from(recipe.memory_mib) << 20;
    let memory_bytes = if own_bytes == 0 { memory_bytes } else { own_bytes.min(memory_bytes) };
    if recipe.search != NO_SEARCH && recipe.search != HALVING {
        return refuse("search", &recipe.search, "none or halving");
    }
    match recipe.scope.as_str() {
        INPUT_AFFINE if recipe.input_cap.is_finite() && recipe.input_cap > 0.0 => {
            Ok(Way::InputAffine { cap: recipe.input_cap })
        }
        INPUT_AFFINE => refuse("input_cap", recipe.input_cap, "a number above 0"),
        "all" | LEAVES if has_trees => {
            let settings = leaves::settings(recipe)?;
            let is_balanced = class_weights(recipe)? == ClassWeights::Balanced;
            Ok(Way::Leaves(LeafRefit { settings, is_balanced, memory_bytes }))
        }
        LEAVES => refuse("scope", LEAVES, "all or another one of networks: the model has no trees"),
        other if has_trees => refuse("scope", other, "leaves or input-affine: the model has trees"),
        _ => Ok(Way::Gradients(gradients(recipe, seed, memory_bytes)?)),
    }
}

/// See [`super::check_recipe`].
pub(super) fn check(recipe: &manifest::Recipe, onnx: &[u8]) -> Result<By, super::TrainError> {
    let limits = Limits::default();
    let has_trees = shoal_onnx::leaves(onnx, &limits).map_err(TreeRefitError::from)?.is_some();
    match parse(recipe, has_trees, 0, 0)? {
        Way::Gradients(_) => Ok(By::Gradients),
        Way::Leaves(LeafRefit { settings, .. }) => {
            refit_as(onnx, &settings, &limits).map_err(explain)?;
            Ok(By::Leaves)
        }
        Way::InputAffine { .. } => match takes_input_affine(onnx, &limits) {
            Ok(_) | Err(FoldError::Width) => Ok(By::InputAffine),
            Err(cause) => Err(cause.into()),
        },
    }
}

pub(super) use leaves::explain;

fn class_weights(recipe: &manifest::Recipe) -> Result<ClassWeights, RecipeError> {
    match recipe.class_weights.as_str() {
        "equal" => Ok(ClassWeights::Equal),
        "balanced" => Ok(ClassWeights::Balanced),
        other => refuse("class_weights", other, "equal or balanced"),
    }
}

fn gradients(recipe: &manifest::Recipe, seed: u64, memory_bytes: u64) -> Result<Recipe, RecipeError> {
    let parsed = Recipe {
        scope: scope(&recipe.scope)?,
        optimizer: optimizer(recipe)?,
        learning_rate: recipe.learning_rate,
        batch: usize::try_from(recipe.batch).unwrap_or(usize::MAX),
        epochs: recipe.epochs,
        max_steps: MAX_STEPS,
        seed,
        l2_to_start: recipe.l2_to_start,
        ewc: recipe.ewc,
        loss: loss(&recipe.loss)?,
        clip_norm: recipe.clip_norm,
        warm_up: recipe.warm_up,
        schedule: match recipe.schedule.as_str() {
            "constant" => Schedule::Constant,
            "cosine" => Schedule::Cosine,
            other => return refuse("schedule", other, "constant or cosine"),
        },
        class_weights: class_weights(recipe)?,
        replay_share: recipe.replay_share,
        patience: recipe.patience,
        memory_bytes,
        ..Recipe::default()
    };
    parsed.check()?;
    Ok(parsed)
}

fn refuse<T>(setting: &'static str, value: impl ToString, expected: &'static str) -> Result<T, RecipeError> {
    Err(RecipeError { setting, value: value.to_string(), expected })
}

fn scope(text: &str) -> Result<Scope, RecipeError> {
    const RANK: &str = "low-rank: and a number above 0";
    Ok(match text {
        "all" => Scope::All,
        "last" => Scope::LastLayer,
        "bias" | "norms-and-biases" => Scope::BiasAndNorm,
        low_rank if low_rank.starts_with("low-rank") => {
            let rank = low_rank.strip_prefix("low-rank:").and_then(|rank| rank.trim().parse().ok());
            match rank {
                Some(rank) if rank > 0 => Scope::LowRank { rank },
                _ => return refuse("scope", text, RANK),
            }
        }
        globs => {
            let globs: Vec<String> = globs.split(',').map(|glob| glob.trim().to_owned()).collect();
            if globs.iter().any(String::is_empty) {
                let expected = "all, last, norms-and-biases, low-rank:R, input-affine, or name globs with commas between them";
                return refuse("scope", format!("`{text}`"), expected);
            }
            Scope::Names(globs)
        }
    })
}

fn optimizer(recipe: &manifest::Recipe) -> Result<Optimizer, RecipeError> {
    let (weight_decay, momentum) = (recipe.weight_decay, recipe.momentum);
    let optimizer = match recipe.optimizer.as_str() {
        "adam" => Optimizer::Adam,
        "adamw" => Optimizer::AdamW { weight_decay },
        "sgd" => Optimizer::Sgd { momentum },
        other => return refuse("optimizer", other, "adam, adamw or sgd"),
    };
    if weight_decay != 0.0 && !matches!(optimizer, Optimizer::AdamW { .. }) {
        return refuse("weight_decay", weight_decay, "0, or optimizer adamw");
    }
    if momentum != 0.0 && !matches!(optimizer, Optimizer::Sgd { .. }) {
        return refuse("momentum", momentum, "0, or optimizer sgd");
    }
    Ok(optimizer)
}

fn loss(text: &str) -> Result<LossKind, RecipeError> {
    const KNOWN: &str =
        "auto, cross-entropy, multi-label, mean-squared, huber:DELTA, quantile:Q or reconstruction";
    let (kind, number) = match text.split_once(':') {
        Some((kind, number)) => (kind, number.trim().parse::<f64>().ok()),
        None => (text, None),
    };
    Ok(match (kind, number) {
        ("huber", Some(delta)) => LossKind::Huber { delta },
        ("quantile", Some(quantile)) => LossKind::Quantile { quantile },
        _ => match text {
            "auto" => LossKind::Auto,
            "cross-entropy" => LossKind::CrossEntropy,
            "multi-label" => LossKind::MultiLabel,
            "mean-squared" => LossKind::MeanSquared,
            "reconstruction" => LossKind::Reconstruction,
            _ => return refuse("loss", text, KNOWN),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_onnx::{Boosting, Ensemble, Library, Objective};
    use shoal_proto::manifest::Recipe as Written;

    fn parse(written: &Written, seed: u64, memory_bytes: u64) -> Result<Recipe, RecipeError> {
        match super::parse(written, false, seed, memory_bytes)? {
            Way::Gradients(recipe) => Ok(recipe),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_what_is_meant() {
        let names = |names: &[&str]| Scope::Names(names.iter().map(|name| (*name).to_owned()).collect());
        for (text, scope) in [
            ("all", Scope::All),
            ("last", Scope::LastLayer),
            ("bias", Scope::BiasAndNorm),
            ("norms-and-biases", Scope::BiasAndNorm),
            ("low-rank:4", Scope::LowRank { rank: 4 }),
            ("head.*, *.bias", names(&["head.*", "*.bias"])),
        ] {
            let written = Written { scope: text.into(), ..Written::default() };
            assert_eq!(parse(&written, 1, 0).unwrap().scope, scope, "{text}");
        }
        for (text, loss) in [
            ("auto", LossKind::Auto),
            ("huber:0.5", LossKind::Huber { delta: 0.5 }),
            ("quantile:0.9", LossKind::Quantile { quantile: 0.9 }),
            ("multi-label", LossKind::MultiLabel),
        ] {
            let written = Written { loss: text.into(), ..Written::default() };
            assert_eq!(parse(&written, 1, 0).unwrap().loss, loss, "{text}");
        }
        let written = Written {
            optimizer: "adamw".into(),
            weight_decay: 0.1,
            schedule: "cosine".into(),
            class_weights: "balanced".into(),
            memory_mib: 2,
            ..Written::default()
        };
        let parsed = parse(&written, 7, 1 << 30).unwrap();
        assert_eq!((parsed.seed, parsed.memory_bytes), (7, 2 << 20));
        assert_eq!(parsed.optimizer, Optimizer::AdamW { weight_decay: 0.1 });
        assert_eq!((parsed.schedule, parsed.class_weights), (Schedule::Cosine, ClassWeights::Balanced));
        assert_eq!(parse(&written, 7, 1 << 20).unwrap().memory_bytes, 1 << 20, "the device's bound holds");
        let usual = Recipe { seed: 3, memory_bytes: 5, ..Recipe::default() };
        assert_eq!(parse(&Written::default(), 3, 5).unwrap(), usual);
    }

    #[test]
    fn trees_and_inputs_have_ways_of_their_own() {
        let of = |written: &Written, has_trees| super::parse(written, has_trees, 1, 9 << 20);
        let leaves = |written: &Written| match of(written, true).unwrap() {
            Way::Leaves(refit) => refit,
            other => panic!("{other:?}"),
        };
        let plain = leaves(&Written::default());
        assert_eq!((plain.settings, plain.is_balanced), (RefitSettings::default(), false));
        let written = Written {
            scope: "leaves".into(),
            decay: 0.5,
            min_rows_per_leaf: 4,
            ensemble: "xgboost: 0.3".into(),
            objective: "softmax".into(),
            class_weights: "balanced".into(),
            memory_mib: 2,
            ..Written::default()
        };
        let boosting =
            Boosting { shrinkage: 0.3, lambda_l2: 1.0, holds_average: false, library: Library::XgBoost };
        let settings = RefitSettings {
            ensemble: Some(Ensemble::Boosted(boosting)),
            objective: Some(Objective::Softmax),
            decay: 0.5,
            min_rows_per_leaf: 4,
        };
        assert_eq!(leaves(&written), LeafRefit { settings, is_balanced: true, memory_bytes: 2 << 20 });
        let ensemble = |written: Written| leaves(&written).settings.ensemble;
        let light = Written { ensemble: "lightgbm:0.1".into(), ..Written::default() };
        let boosting =
            Boosting { shrinkage: 0.1, lambda_l2: 0.0, holds_average: true, library: Library::LightGbm };
        assert_eq!(ensemble(light.clone()), Some(Ensemble::Boosted(boosting)));
        let said = Written { lambda_l2: Some(2.0), holds_average: Some(false), ..light };
        let boosting = Boosting { lambda_l2: 2.0, holds_average: false, ..boosting };
        assert_eq!(ensemble(said), Some(Ensemble::Boosted(boosting)));
        let forest = Written { ensemble: "forest".into(), ..Written::default() };
        assert_eq!(ensemble(forest), Some(Ensemble::Forest));

        let affine = Written { scope: "input-affine".into(), input_cap: 0.5, ..Written::default() };
        for has_trees in [false, true] {
            assert_eq!(of(&affine, has_trees).unwrap(), Way::InputAffine { cap: 0.5 });
        }
        let bad = |has_trees, change: fn(&mut Written)| {
            let mut written = Written::default();
            change(&mut written);
            of(&written, has_trees).unwrap_err().setting
        };
        assert_eq!(bad(false, |r| r.scope = "leaves".into()), "scope");
        assert_eq!(bad(true, |r| r.scope = "last".into()), "scope");
        assert_eq!(bad(true, |r| r.ensemble = "lightgbm".into()), "ensemble");
        assert_eq!(bad(true, |r| r.ensemble = "catboost:0.1".into()), "ensemble");
        assert_eq!(bad(true, |r| r.ensemble = "xgboost:0".into()), "ensemble");
        assert_eq!(bad(true, |r| r.objective = "hinge".into()), "objective");
        assert_eq!(bad(true, |r| r.decay = 1.5), "decay");
        assert_eq!(bad(true, |r| r.lambda_l2 = Some(-1.0)), "lambda_l2");
        for input_cap in [0.0, f64::NAN] {
            let written = Written { scope: "input-affine".into(), input_cap, ..Written::default() };
            assert_eq!(of(&written, false).unwrap_err().setting, "input_cap");
        }
    }

    #[test]
    fn a_bad_value_is_named() {
        let mut table: Vec<(&str, &str, Written)> = Vec::new();
        let mut row = |setting, value, change: fn(&mut Written)| {
            let mut written = Written::default();
            change(&mut written);
            table.push((setting, value, written));
        };
        row("scope", "low-rank:0", |r| r.scope = "low-rank:0".into());
        row("scope", "low-rank:x", |r| r.scope = "low-rank:x".into());
        row("scope", "low-rank", |r| r.scope = "low-rank".into());
        row("scope", "`a,,b`", |r| r.scope = "a,,b".into());
        row("scope", "``", |r| r.scope = String::new());
        row("optimizer", "lion", |r| r.optimizer = "lion".into());
        row("weight_decay", "0.1", |r| r.weight_decay = 0.1);
        row("momentum", "0.9", |r| r.momentum = 0.9);
        row("momentum", "1", |r| (r.optimizer, r.momentum) = ("sgd".into(), 1.0));
        row("loss", "huber", |r| r.loss = "huber".into());
        row("loss", "hinge:1", |r| r.loss = "hinge:1".into());
        row("loss", "huber:x", |r| r.loss = "huber:x".into());
        row("delta", "-1", |r| r.loss = "huber:-1".into());
        row("quantile", "1", |r| r.loss = "quantile:1".into());
        row("schedule", "linear", |r| r.schedule = "linear".into());
        row("class_weights", "heavy", |r| r.class_weights = "heavy".into());
        row("clip_norm", "-1", |r| r.clip_norm = -1.0);
        row("ewc", "NaN", |r| r.ewc = f64::NAN);
        row("replay_share", "1", |r| r.replay_share = 1.0);
        row("warm_up", "2", |r| r.warm_up = 2.0);
        row("learning_rate", "0", |r| r.learning_rate = 0.0);
        row("batch", "0", |r| r.batch = 0);
        row("search", "random", |r| r.search = "random".into());
        row("epochs", "0", |r| r.epochs = 0);
        for (setting, value, written) in table {
            let error = parse(&written, 1, 0).unwrap_err();
            assert_eq!((error.setting, error.value.as_str()), (setting, value), "{error}");
        }
    }
}
