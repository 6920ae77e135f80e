//! What a recipe says of trees.

use super::refuse;
use crate::worker::TrainError;
use shoal_learn::RecipeError;
use shoal_onnx::{Boosting, Ensemble, Library, Objective, RefitError, RefitSettings, TreeRefitError};
use shoal_proto::manifest::Recipe;

/// What `ensemble` may be.
const ENSEMBLE: &str = "auto, forest, or for boosted trees lightgbm:R, xgboost:R, scikit-learn:R or \
     scikit-learn-histogram:R with the learning rate R, above 0 and at most 1";
/// What it must be where the file does not tell.
const UNSAID: &str = "forest, or for boosted trees lightgbm:R, xgboost:R, scikit-learn:R or \
     scikit-learn-histogram:R with the learning rate R: the file does not say how its trees were made";
/// What `objective` must be where the file does not tell.
const OBJECTIVE: &str = "squares, logistic or softmax: what is done to the scores of the trees is not known";

/// Reads the settings of a refit.
///
/// # Errors
/// The first [`RecipeError`].
pub(super) fn settings(recipe: &Recipe) -> Result<RefitSettings, RecipeError> {
    if !(0.0..=1.0).contains(&recipe.decay) {
        return refuse("decay", recipe.decay, "0 to 1");
    }
    if let Some(lambda) = recipe.lambda_l2.filter(|lambda| !(0.0..f64::INFINITY).contains(lambda)) {
        return refuse("lambda_l2", lambda, "0 or above");
    }
    let objective = match recipe.objective.as_str() {
        "auto" => None,
        "squares" => Some(Objective::Squares),
        "logistic" => Some(Objective::Logistic),
        "softmax" => Some(Objective::Softmax),
        other => return refuse("objective", other, "auto, squares, logistic or softmax"),
    };
    let min_rows_per_leaf = usize::try_from(recipe.min_rows_per_leaf).unwrap_or(usize::MAX);
    Ok(RefitSettings { ensemble: ensemble(recipe)?, objective, decay: recipe.decay, min_rows_per_leaf })
}

fn ensemble(recipe: &Recipe) -> Result<Option<Ensemble>, RecipeError> {
    let text = recipe.ensemble.as_str();
    match text {
        "auto" => return Ok(None),
        "forest" => return Ok(Some(Ensemble::Forest)),
        _ => {}
    }
    let Some((library, rate)) = text.split_once(':') else { return refuse("ensemble", text, ENSEMBLE) };
    let library = match library {
        "lightgbm" => Library::LightGbm,
        "xgboost" => Library::XgBoost,
        "scikit-learn" => Library::ScikitLearn,
        "scikit-learn-histogram" => Library::ScikitLearnHistogram,
        _ => return refuse("ensemble", text, ENSEMBLE),
    };
    let shrinkage = match rate.trim().parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1.0 => rate,
        _ => return refuse("ensemble", text, ENSEMBLE),
    };
    Ok(Some(Ensemble::Boosted(Boosting {
        shrinkage,
        lambda_l2: recipe.lambda_l2.unwrap_or(if library == Library::XgBoost { 1.0 } else { 0.0 }),
        holds_average: recipe.holds_average.unwrap_or(library == Library::LightGbm),
        library,
    })))
}

/// Names the setting of the recipe, where it is one that has to be said.
pub(in crate::worker) fn explain(cause: TreeRefitError) -> TrainError {
    let unsaid = |setting, expected| RecipeError { setting, value: "auto".to_owned(), expected }.into();
    match cause {
        TreeRefitError::Refit { source: RefitError::NeedsShrinkage | RefitError::Ambiguous, .. } => {
            unsaid("ensemble", UNSAID)
        }
        TreeRefitError::Behind { .. } => unsaid("objective", OBJECTIVE),
        other => other.into(),
    }
}
