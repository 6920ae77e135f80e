//! What a run would take, before there are rows.

use shoal_grad::MAX_HELD_BYTES;
use shoal_onnx::{StoredTensor, stored_tensors};

use crate::dataset::TargetKind;
use crate::failure::LearnError;
use crate::lower::{BatchNorm, Wanted, lower};
use crate::model::{Head, Model};
use crate::network::{Network, Plan};
use crate::recipe::Recipe;
use crate::scope;
use crate::session::run_bytes;

/// What can be trained, and what it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Every stored tensor, trained or why not.
    pub tensors: Vec<StoredTensor>,
    /// Bytes of a run with so many rows at once, beside the file and the rows; without those numbers of rows
    /// that cannot be worked on at once.
    pub bytes: Vec<(usize, usize)>,
}

/// Plans runs of a recipe with these numbers of rows at once: nothing is computed.
///
/// # Errors
/// [`LearnError`] when the model cannot be trained at all.
pub fn plan(onnx: &[u8], recipe: &Recipe, batches: &[usize]) -> Result<Planned, LearnError> {
    let model = Model::parse(onnx)?;
    let picked = scope::select(&model.graph, &recipe.scope)?;
    let targets = targets(&model)?;
    let plan = Plan { model: &model, recipe, picked: &picked, targets };
    let mut bytes = Vec::with_capacity(batches.len());
    for rows in batches {
        let run = || {
            let evaluated = Network::new(plan, *rows)?;
            let network = evaluated.clone().with_gradients()?;
            run_bytes(plan, &network, &evaluated, *rows)
        };
        match run() {
            Ok(needed) => bytes.push((*rows, needed)),
            Err(error) if *rows > 1 && error.is_too_large() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Planned { tensors: stored_tensors(&model.graph), bytes })
}

/// Classes where the scores can be told to be a classifier's, else as many values as come out.
fn targets(model: &Model) -> Result<TargetKind, LearnError> {
    if matches!(model.head, Head::Softmax | Head::Shares) {
        return Ok(TargetKind::Classes);
    }
    let inputs = [(model.input.clone(), model.shape(1))].into();
    let wanted = Wanted {
        values: &[&model.output],
        inputs: &inputs,
        trainable: &Default::default(),
        rank: None,
        batch_norm: BatchNorm::AsStored,
        room: MAX_HELD_BYTES,
    };
    let lowered = lower(&model.graph, &wanted)?;
    Ok(TargetKind::Values(lowered.tape.len(lowered.values[&model.output].id)))
}
