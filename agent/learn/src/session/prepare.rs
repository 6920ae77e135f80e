//! What is worked out before the first step: whether everything fits, where it goes, what rows weigh.

use shoal_grad::Id;
use shoal_onnx::{Parameter, patch_parameters};

use crate::checkpoint::Fingerprint;
use crate::dataset::{Source, TargetKind};
use crate::failure::LearnError;
use crate::feeder::Kept;
use crate::model::Model;
use crate::network::{Network, Plan};
use crate::optimizer::Memory;
use crate::recipe::{ClassWeights, Recipe, Statistics};

/// Rows of an evaluation at once: bounds memory, changes nothing else.
const EVALUATED_AT_ONCE: usize = 64;

/// A run laid out.
pub(super) struct Planned {
    pub(super) network: Network,
    pub(super) kept: Option<Kept>,
    pub(super) evaluated: Network,
    pub(super) bytes: usize,
}

/// Lays the run out within its memory: as many rows at once as fit, activations kept where that fits too.
pub(super) fn planned(plan: Plan<'_>, batch: usize, source: &mut dyn Source) -> Result<Planned, LearnError> {
    let budget = match plan.recipe.memory_bytes {
        0 => usize::MAX,
        bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
    };
    let mut rows = batch;
    let mut may_keep = true;
    loop {
        let Laid { whole, network, evaluated, cuts, bytes, kept_bytes } =
            match laid(plan, (rows, batch), may_keep, source.rows()) {
                Err(error) if rows > 1 && error.is_too_large() => {
                    rows = rows.div_ceil(2);
                    continue;
                }
                laid => laid?,
            };
        if bytes > budget {
            if kept_bytes > 0 && bytes - kept_bytes <= budget {
                may_keep = false;
            } else if rows > 1 {
                rows = rows.div_ceil(2);
            } else {
                return Err(LearnError::Memory { needed: bytes, budget });
            }
            continue;
        }
        let Some(cuts) = cuts else { return Ok(Planned { network, kept: None, evaluated, bytes }) };
        match Kept::compute(cuts, &whole, source)? {
            Some(kept) => return Ok(Planned { network, kept: Some(kept), evaluated, bytes }),
            None => may_keep = false,
        }
    }
}

/// A run with so many rows at once, whether it fits or not.
struct Laid {
    whole: Network,
    network: Network,
    evaluated: Network,
    cuts: Option<Vec<(Id, usize)>>,
    bytes: usize,
    kept_bytes: usize,
}

fn laid(
    plan: Plan<'_>,
    (rows, batch): (usize, usize),
    may_keep: bool,
    all_rows: usize,
) -> Result<Laid, LearnError> {
    let whole = Network::new(plan, rows)?;
    let cuts = if may_keep { Kept::cuts(plan, &whole)? } else { None };
    let evaluated =
        if rows > EVALUATED_AT_ONCE { Network::new(plan, EVALUATED_AT_ONCE)? } else { whole.clone() };
    let mut network = whole.clone();
    let mut kept_bytes = 0;
    if let Some(cuts) = &cuts {
        let ids: Vec<Id> = cuts.iter().map(|(id, _)| *id).collect();
        network.tape.feed(&ids);
        kept_bytes = Kept::width(cuts) * all_rows * size_of::<f32>();
    }
    let network = network.with_gradients()?;
    let bytes = run_bytes(plan, &network, &evaluated, batch)? + kept_bytes;
    Ok(Laid { whole, network, evaluated, cuts, bytes, kept_bytes })
}

/// Bytes of a run: both programs, the optimiser's memory, sums of parts, the best weights, rows at hand.
pub(crate) fn run_bytes(
    plan: Plan<'_>,
    network: &Network,
    evaluated: &Network,
    batch: usize,
) -> Result<usize, LearnError> {
    let elements: usize = network.moving.iter().map(|moving| moving.dims.iter().product::<usize>()).sum();
    let sums = if network.rows < batch { elements } else { 0 };
    let best = if plan.recipe.patience > 0 { elements } else { 0 };
    let row = plan.model.width() + plan.targets.width();
    let rest = Memory::elements(elements, plan.recipe) + sums + best + row * network.rows;
    let programs = network.bytes(&network.results())? + evaluated.bytes(&[evaluated.loss])?;
    Ok(programs + rest * size_of::<f32>())
}

/// Whether new values can be written into the file: said before the first step, not after the last.
pub(super) fn writable(onnx: &[u8], model: &Model, picked: &[Parameter]) -> Result<(), LearnError> {
    let same =
        picked.iter().map(|parameter| (parameter.name.clone(), model.stored(&parameter.name).to_vec()));
    patch_parameters(onnx, &same.collect())?;
    Ok(())
}

/// Whether rows have the features that the model takes.
pub(super) fn fits(model: &Model, source: &dyn Source, recipe: &Recipe) -> Result<(), LearnError> {
    let (expected, got) = (model.width(), source.width());
    if expected != got {
        return Err(LearnError::Width { expected, got });
    }
    if source.rows() == 0 {
        return Err(crate::dataset::DatasetError::Empty.into());
    }
    let needs = matches!(recipe.batch_norm, Statistics::Batch) && recipe.batch < 2;
    if needs {
        let reason = "a batch of one row has no statistics of its own".into();
        return Err(LearnError::Interface { reason });
    }
    Ok(())
}

/// The class of each row, where classes have weights.
pub(super) fn classes(source: &mut dyn Source, recipe: &Recipe) -> Result<Vec<u32>, LearnError> {
    if source.targets() != TargetKind::Classes || recipe.class_weights == ClassWeights::Equal {
        return Ok(Vec::new());
    }
    let (mut features, mut target) = (vec![0.0; source.width()], [0.0]);
    let mut classes = Vec::with_capacity(source.rows());
    for row in 0..source.rows() {
        source.read(&[row], &mut features, &mut target)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked when it is fed"
        )]
        classes.push(target[0].max(0.0) as u32);
    }
    Ok(classes)
}

/// A weight for each class; none where they weigh the same.
pub(super) fn class_weights(recipe: &Recipe, classes: &[u32], columns: usize) -> Vec<f32> {
    match &recipe.class_weights {
        ClassWeights::Equal => Vec::new(),
        ClassWeights::Given(weights) => weights.clone(),
        ClassWeights::Balanced => {
            let count = columns.max(2);
            let of_class = |class: usize| classes.iter().filter(|mine| **mine as usize == class).count();
            let weight = |class: usize| classes.len() as f32 / (count * of_class(class).max(1)) as f32;
            (0..count).map(weight).collect()
        }
    }
}

/// What a checkpoint is told apart by.
pub(super) fn fingerprint(onnx: &[u8], recipe: &Recipe, source: &dyn Source) -> u64 {
    let mut print = Fingerprint::new()
        .with(env!("CARGO_PKG_VERSION").as_bytes())
        .with(onnx)
        .with(format!("{recipe:?}").as_bytes())
        .with(&(source.rows() as u64).to_le_bytes())
        .with(&(source.replay_from() as u64).to_le_bytes());
    for row in 0..source.rows() {
        print = print.with(&source.weight(row).to_le_bytes());
    }
    print.value()
}
