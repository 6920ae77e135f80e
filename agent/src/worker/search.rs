//! A recipe chosen by successive halving (Jamieson and Talwalkar 2016) before the run itself: a few are trained for
//! some steps each, the better half for twice as many, and so on until one is left. All are scored on the newest of
//! the training rows, which they are not trained on; what the gate holds out is never looked at.
//!
//! A recipe begins each rung anew from the parent: so its schedule fits the rung, nothing but the scores has to
//! outlive a power cut, and one session at a time is in memory. All rungs together make as many steps as the run.

use super::answer::{AnswerError, Judge};
use super::recipe::{self, Way};
use super::resume::{Outside, Shelf, Span, drive};
use super::train::{Data, MEASURED_AT_ONCE, TrainError, VALIDATION_SHARE};
use shoal_learn::{LearnError, Session, Source as _};
use shoal_proto::decision::{OUT_OF_BOUNDS, Searched, Tried};
use shoal_proto::manifest::{self, Manifest};

/// Rows below which a score says little: then nothing is tried.
const MIN_SCORED_ROWS: usize = 30;
/// Step sizes that are tried beside the recipe's, as multiples of it.
const RATES: [f64; 3] = [1.0 / 3.0, 1.0, 3.0];
/// Characters of a scope that a record tells: a package may name a hundred layers.
const TOLD_SCOPE: usize = 24;

/// What a search came to.
#[derive(Debug)]
pub(super) struct Found {
    /// By which the run is made.
    pub(super) recipe: manifest::Recipe,
    pub(super) searched: Searched,
    /// Steps of all rungs.
    pub(super) steps: u64,
}

/// The recipes that are tried, the cheapest first: the recipe itself, with other step sizes, and with other scopes.
pub(super) fn recipes(own: &manifest::Recipe) -> Vec<manifest::Recipe> {
    let own = manifest::Recipe { search: recipe::NO_SEARCH.into(), ..own.clone() };
    let name = |scope: &str| if scope == "bias" { "norms-and-biases".to_owned() } else { scope.to_owned() };
    let mut scopes = vec!["last".to_owned(), "norms-and-biases".to_owned()];
    for scope in [name(&own.scope), "all".to_owned()] {
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    let of_scope = |scope: &String| {
        let rates = if *scope == name(&own.scope) { &RATES[..] } else { &RATES[1..2] };
        let scope = if *scope == name(&own.scope) { own.scope.clone() } else { scope.clone() };
        let with = |rate: &f64| {
            let learning_rate = rounded(own.learning_rate * rate);
            manifest::Recipe { scope: scope.clone(), learning_rate, ..own.clone() }
        };
        rates.iter().map(with).collect::<Vec<_>>()
    };
    scopes.iter().flat_map(of_scope).collect()
}

/// To four digits, for people; the recipe's own stays as it is.
fn rounded(rate: f64) -> f64 {
    format!("{rate:.3e}").parse().unwrap_or(rate)
}

/// Recipes on each rung, and how many times the first rung's steps each of them makes.
fn rungs(recipes: usize) -> impl Iterator<Item = (usize, u64)> + Clone {
    let halved = std::iter::successors(Some((recipes, 1)), |(left, times)| Some((left / 2, times * 2)));
    halved.take_while(|(left, _)| *left > 1)
}

/// Tries the recipes that are near a package's; `None` where there are too few rows.
///
/// # Errors
/// [`TrainError::NothingBetter`] where none leaves the parent behind; [`TrainError::Paused`], and what the recipe
/// itself would fail with.
pub(super) fn search(
    onnx: &[u8],
    manifest: &Manifest,
    data: &Data<'_>,
    (own, parsed): (&manifest::Recipe, &shoal_learn::Recipe),
    shelf: &mut Shelf,
    outside: &mut dyn Outside,
) -> Result<Option<Found>, TrainError> {
    let all = data.pinned.training();
    let rows = all.len() / VALIDATION_SHARE;
    if rows < MIN_SCORED_ROWS {
        return Ok(None);
    }
    let cut = all.end - rows;
    let (recipes, trained_on) = (recipes(own), data.trained_on(all.start..cut));
    let pass = trained_on.rows().div_ceil(parsed.batch) as u64;
    let run_steps = pass.saturating_mul(parsed.epochs.into()).min(parsed.max_steps);
    let plan = rungs(recipes.len());
    let units: u64 = plan.clone().map(|(left, times)| left as u64 * times).sum();
    let steps = (run_steps / units.max(1)).max(1);
    let tried = recipes.iter().map(|recipe| Tried {
        scope: recipe.scope.chars().take(TOLD_SCOPE).collect(),
        learning_rate: recipe.learning_rate,
        scores: Vec::new(),
    });
    let fresh = Searched { steps, rows: rows as u64, parent: OUT_OF_BOUNDS, tried: tried.collect() };
    let mut searched = shelf.searched(&fresh).unwrap_or(fresh);
    let score = |onnx: &[u8]| score(onnx, manifest, data, cut..all.end);
    searched.parent = score(onnx)?;
    let (mut made, after) = (0, run_steps);
    let mut left: Vec<usize> = (0..recipes.len()).collect();
    for (rung, (count, times)) in plan.enumerate() {
        left.sort_by(|a, b| {
            let score =
                |place: usize| rung.checked_sub(1).and_then(|rung| searched.tried[place].scores.get(rung));
            score(*a).unwrap_or(&0.0).total_cmp(score(*b).unwrap_or(&0.0)).then(a.cmp(b))
        });
        left.truncate(count);
        left.sort_unstable();
        for place in &left {
            let most = steps * times;
            if searched.tried[*place].scores.len() <= rung {
                let recipe = shoal_learn::Recipe {
                    max_steps: most,
                    patience: 0,
                    ..gradients(&recipes[*place], parsed)?
                };
                let is_own = recipe.scope == parsed.scope;
                let span = Span { before: made, after: after + steps * units - made - most };
                let trained = train(onnx, data, all.start..cut, &recipe, (shelf, outside), span);
                let found = match trained {
                    Ok(onnx) => score(&onnx)?,
                    Err(TrainError::Learn(LearnError::NotFinite { .. })) => OUT_OF_BOUNDS,
                    Err(TrainError::Learn(
                        LearnError::NothingInScope { .. }
                        | LearnError::NoGradient { .. }
                        | LearnError::Memory { .. },
                    )) if !is_own => OUT_OF_BOUNDS,
                    Err(other) => return Err(other),
                };
                searched.tried[*place].scores.push(found);
                shelf.keep_searched(&searched);
            }
            made += most;
        }
    }
    let (place, best) = searched.best().unwrap_or((0, OUT_OF_BOUNDS));
    if best >= searched.parent {
        let rows = Box::new(data.pinned.record().clone());
        return Err(TrainError::NothingBetter { best, rows, search: Box::new(searched) });
    }
    Ok(Some(Found { recipe: recipes[place].clone(), searched, steps: made }))
}

/// As the trainer takes it.
pub(super) fn gradients(
    recipe: &manifest::Recipe,
    own: &shoal_learn::Recipe,
) -> Result<shoal_learn::Recipe, TrainError> {
    match recipe::parse(recipe, false, own.seed, own.memory_bytes)? {
        Way::Gradients(recipe) => Ok(recipe),
        Way::Leaves(_) | Way::InputAffine { .. } => Ok(own.clone()),
    }
}

fn train(
    onnx: &[u8],
    data: &Data<'_>,
    places: std::ops::Range<usize>,
    recipe: &shoal_learn::Recipe,
    (shelf, outside): (&mut Shelf, &mut dyn Outside),
    span: Span,
) -> Result<Vec<u8>, TrainError> {
    let mut rows = data.trained_on(places);
    let mut session = Session::new(onnx, &mut rows, None, recipe)?;
    drive(&mut session, shelf, outside, span)?;
    Ok(session.finish()?.onnx)
}

/// Mean log-loss of a classifier, mean squared error of a regression, each row by its weight.
fn score(
    onnx: &[u8],
    manifest: &Manifest,
    data: &Data<'_>,
    places: std::ops::Range<usize>,
) -> Result<f64, TrainError> {
    let fail = |source: AnswerError| TrainError::Answer { who: "a recipe that was tried", source };
    let judge = Judge::new(onnx, manifest).map_err(fail)?;
    let (mut sum, mut weights) = (0.0, 0.0);
    for start in places.clone().step_by(MEASURED_AT_ONCE) {
        let some = start..(start + MEASURED_AT_ONCE).min(places.end);
        let rows = data.pinned.read(data.reader, some.clone(), data.shape)?;
        let losses = judge.judged(&rows, 0.0).map_err(fail)?.losses;
        for (place, loss) in some.zip(losses) {
            let weight = f64::from(data.pinned.weight(place));
            sum += weight * if data.shape.classes > 0 { loss } else { loss * loss };
            weights += weight;
        }
    }
    // As long as it is told everywhere: a text of it is the same number again.
    let score: f64 = format!("{:.5e}", sum / weights).parse().unwrap_or(OUT_OF_BOUNDS);
    Ok(if score.is_finite() { score.min(OUT_OF_BOUNDS) } else { OUT_OF_BOUNDS })
}

#[cfg(test)]
mod tests;
