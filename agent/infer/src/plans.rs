//! Plans for concrete input shapes, made when first needed; a bounded number is kept.

use std::sync::{Mutex, PoisonError};

use shoal_onnx::Datatype;
use tract_onnx::pb::ModelProto;

use crate::engine::{self, EngineFailure, Plan, Size};

/// Eight plans: one for each power of two of rows up to 32, and two for odd shapes. Each holds a
/// copy of the weights.
const MAX_PLANS: usize = 8;

/// Shapes of all inputs, in the model's order.
pub(crate) type Shapes = Vec<Vec<usize>>;

/// Makes and keeps plans; the one used longest ago goes first.
#[derive(Debug)]
pub(crate) struct Plans {
    proto: ModelProto,
    datatypes: Vec<Datatype>,
    kept: Mutex<Vec<(Shapes, Plan)>>,
}

impl Plans {
    pub(crate) fn new(proto: ModelProto, datatypes: Vec<Datatype>) -> Self {
        Self { proto, datatypes, kept: Mutex::default() }
    }

    /// The plan for these shapes. Two callers may make the same plan at once; one is dropped.
    pub(crate) fn get(&self, shapes: &Shapes) -> Result<Plan, EngineFailure> {
        if let Some(plan) = self.recall(shapes) {
            return Ok(plan);
        }
        let facts: Vec<_> = self.datatypes.iter().copied().zip(shapes.iter().map(|s| fixed(s))).collect();
        let plan = engine::compile(&self.proto, &facts)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_PLANS {
            kept.remove(0);
        }
        kept.push((shapes.clone(), plan.clone()));
        Ok(plan)
    }

    /// A plan for sizes that may be open, not kept.
    pub(crate) fn compile(&self, facts: &[(Datatype, Vec<Size>)]) -> Result<Plan, EngineFailure> {
        engine::compile(&self.proto, facts)
    }

    fn recall(&self, shapes: &Shapes) -> Option<Plan> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|(known, _)| known == shapes)?;
        let entry = kept.remove(place);
        let plan = entry.1.clone();
        kept.push(entry);
        Some(plan)
    }
}

pub(crate) fn fixed(shape: &[usize]) -> Vec<Size> {
    shape.iter().copied().map(Size::Fixed).collect()
}
