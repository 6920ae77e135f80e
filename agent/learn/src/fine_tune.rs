//! Training in one call, and gradients by themselves.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use shoal_grad::{Program, Real};
use shoal_onnx::ConstantData;

use crate::dataset::Source;
use crate::failure::LearnError;
use crate::model::Model;
use crate::network::{Network, Plan};
use crate::recipe::{LossKind, Recipe, Scope};
use crate::scope;
use crate::session::{Progress, Session, Trained};

/// Lists what could be trained, in the order of the layers.
///
/// # Errors
/// [`LearnError`] when the model cannot be trained at all.
pub fn trainable_parameters(onnx: &[u8]) -> Result<Vec<String>, LearnError> {
    Ok(Model::parse(onnx)?.parameters().into_iter().map(|parameter| parameter.name).collect())
}

/// Trains a copy of the file: cross-entropy on the scores before a last Softmax (or Sigmoid of one
/// column) for classes, squared error on the output for values, unless the recipe says otherwise.
///
/// The same file, data and recipe give the same bytes on the same build and kind of CPU. The
/// progress callback is asked after each step and may stop the run.
///
/// # Errors
/// [`LearnError`]; then nothing is written.
pub fn fine_tune(
    onnx: &[u8],
    source: &mut dyn Source,
    recipe: &Recipe,
    on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Trained, LearnError> {
    let mut session = Session::new(onnx, source, None, recipe)?;
    while let Some(progress) = session.step()? {
        if on_progress(progress).is_break() {
            return Err(LearnError::Stopped { step: progress.step });
        }
    }
    session.finish()
}

/// A loss and its gradients by parameter, flattened row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// Mean over the rows.
    pub loss: f64,
    /// By every trainable parameter.
    pub by: BTreeMap<String, Vec<f64>>,
}

/// Computes with a model's loss at any weights: in 32 bits as training does, or in 64 to check it.
#[derive(Debug)]
pub struct Slopes<T> {
    network: Network,
    program: Program<T>,
    stored: BTreeMap<String, Vec<f64>>,
}

impl<T: Real> Slopes<T> {
    /// Lays the model out for all rows of a source at once.
    ///
    /// # Errors
    /// [`LearnError`]; a parameter without a gradient is one.
    pub fn new(onnx: &[u8], source: &mut dyn Source, loss: LossKind) -> Result<Self, LearnError> {
        let model = Model::parse(onnx)?;
        let (expected, got) = (model.width(), source.width());
        if expected != got {
            return Err(LearnError::Width { expected, got });
        }
        let recipe = Recipe { scope: Scope::All, loss, ..Recipe::default() };
        let picked = scope::select(&model.graph, &recipe.scope)?;
        let plan = Plan { model: &model, recipe: &recipe, picked: &picked, targets: source.targets() };
        let network = Network::new(plan, source.rows())?.with_gradients()?;
        let mut program = network.program::<T>(&network.results())?;
        let rows: Vec<usize> = (0..source.rows()).collect();
        let mut features = vec![0.0; rows.len() * got];
        let mut targets = vec![0.0; rows.len() * source.targets().width()];
        source.read(&rows, &mut features, &mut targets)?;
        let targets = if loss == LossKind::Reconstruction { &features } else { &targets };
        let put = |to: &mut [T], from: &[f32]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = T::of(f64::from(*from)));
        };
        put(program.own_mut(network.features), &features);
        put(program.own_mut(network.targets), targets);
        program.own_mut(network.weights).fill(T::of(1.0 / rows.len() as f64));
        let mut stored = BTreeMap::new();
        for moving in &network.moving {
            let constant = model.graph.initializers.get(&moving.name).map(|constant| &constant.data);
            let Some(ConstantData::F32(values)) = constant else { continue };
            stored.insert(moving.name.clone(), values.iter().map(|value| f64::from(*value)).collect());
        }
        Ok(Self { network, program, stored })
    }

    /// Loss and gradients at the stored weights, moved by `step` times `direction`.
    pub fn at(&mut self, direction: &BTreeMap<String, Vec<f64>>, step: f64) -> Gradients {
        for moving in &self.network.moving {
            let Some(stored) = self.stored.get(&moving.name) else { continue };
            let along = direction.get(&moving.name).map_or(&[][..], Vec::as_slice);
            let moved = stored.iter().zip(along.iter().chain(std::iter::repeat(&0.0)));
            let values = self.program.own_mut(moving.id).iter_mut();
            values.zip(moved).for_each(|(value, (stored, along))| *value = T::of(stored + step * along));
        }
        self.program.run();
        let wide = |values: &[T]| values.iter().map(|value| value.f64()).collect();
        let by = self.network.moving.iter().map(|m| (m.name.clone(), wide(self.program.get(m.gradient))));
        Gradients { loss: self.program.get(self.network.loss)[0].f64(), by: by.collect() }
    }

    /// The output before a last Softmax or Sigmoid is not kept; this is the memory of the whole run.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.program.bytes()
    }
}

/// The loss over all rows and its gradient by every trainable parameter, in 32 bits.
///
/// # Errors
/// [`LearnError`]; a parameter without a gradient is one.
pub fn gradients(onnx: &[u8], source: &mut dyn Source) -> Result<Gradients, LearnError> {
    Ok(Slopes::<f32>::new(onnx, source, LossKind::Auto)?.at(&BTreeMap::new(), 0.0))
}
