//! tract, held at arm's length: every call is guarded against panics, and errors become text.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use half::f16;
use ndarray::ArrayD;
use shoal_onnx::{Datatype, TensorSpec};
use thiserror::Error;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, IntoTValue, SymbolScope, TDim,
    TValue, TVec, Tensor as Held, TractResult, TypedRunnableModel,
};
use tract_onnx::{Onnx, pb::ModelProto};

use crate::kernels;
use crate::tensor::{Tensor, TensorData, each};

/// What the engine said, or that it panicked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineFailure {
    /// The engine refused.
    #[error("{message}")]
    Error { message: String },
    /// The engine panicked; it holds no state that could be torn.
    #[error("the engine panicked: {message}")]
    Panicked { message: String },
}

/// A size of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Size {
    /// Any number of rows.
    Batch,
    Fixed(usize),
}

/// A model optimised for given input shapes; `Send + Sync`, cheap to share.
pub(crate) type Plan = Arc<TypedRunnableModel>;

fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, EngineFailure> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(cause)) => Err(EngineFailure::Error { message: format!("{cause:#}") }),
        Err(payload) => Err(EngineFailure::Panicked { message: text(payload.as_ref()) }),
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    let known = payload.downcast_ref::<String>().cloned();
    known.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Optimises a model for the given input types and shapes.
pub(crate) fn compile(proto: &ModelProto, inputs: &[(Datatype, Vec<Size>)]) -> Result<Plan, EngineFailure> {
    guarded(|| {
        let mut onnx: Onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
        kernels::register(&mut onnx.op_register);
        let mut model = onnx.model_for_proto_model(proto)?;
        let scope: SymbolScope = model.symbols.clone();
        let batch: TDim = scope.new_with_prefix("N").into();
        for (slot, (datatype, sizes)) in inputs.iter().enumerate() {
            let dims: TVec<TDim> = sizes
                .iter()
                .map(|size| match size {
                    Size::Batch => batch.clone(),
                    Size::Fixed(size) => (*size).into(),
                })
                .collect();
            model.set_input_fact(slot, InferenceFact::dt_shape(datum_type(*datatype), dims))?;
        }
        model.into_optimized()?.into_runnable()
    })
}

/// Runs a plan on inputs in the model's order; outputs are in the model's order and unnamed.
pub(crate) fn run(plan: &Plan, inputs: TVec<TValue>) -> Result<TVec<TValue>, EngineFailure> {
    guarded(|| plan.run(inputs))
}

/// Hands a tensor to the engine as the datatype the model wants.
pub(crate) fn give(tensor: &Tensor, wanted: Datatype) -> Result<TValue, EngineFailure> {
    guarded(|| {
        let held = held(&tensor.data, &tensor.shape)?;
        Ok(cast(held, wanted)?.into_tvalue())
    })
}

fn held(data: &TensorData, shape: &[usize]) -> TractResult<Held> {
    match data {
        TensorData::Bool(v) => Held::from_shape(shape, v),
        TensorData::U8(v) => Held::from_shape(shape, v),
        TensorData::U16(v) => Held::from_shape(shape, v),
        TensorData::U32(v) => Held::from_shape(shape, v),
        TensorData::U64(v) => Held::from_shape(shape, v),
        TensorData::I8(v) => Held::from_shape(shape, v),
        TensorData::I16(v) => Held::from_shape(shape, v),
        TensorData::I32(v) => Held::from_shape(shape, v),
        TensorData::I64(v) => Held::from_shape(shape, v),
        TensorData::F16(v) => Held::from_shape(shape, v),
        TensorData::F32(v) => Held::from_shape(shape, v),
        TensorData::F64(v) => Held::from_shape(shape, v),
        TensorData::String(v) => Ok(Held::from(ArrayD::from_shape_vec(shape.to_vec(), v.clone())?)),
    }
}

/// Hands plain features to the engine.
pub(crate) fn give_f32(shape: &[usize], values: &[f32], wanted: Datatype) -> Result<TValue, EngineFailure> {
    guarded(|| Ok(cast(Held::from_shape(shape, values)?, wanted)?.into_tvalue()))
}

fn cast(held: Held, wanted: Datatype) -> TractResult<Held> {
    let wanted = datum_type(wanted);
    if held.datum_type() == wanted {
        return Ok(held);
    }
    Ok(held.cast_to_dt(wanted)?.into_owned())
}

/// The kind of number the engine holds: half precision is widened.
pub(crate) fn held_as(datatype: Datatype) -> Datatype {
    if datatype == Datatype::F16 { Datatype::F32 } else { datatype }
}

/// Takes an output from the engine, rounded to half precision where the file says so.
pub(crate) fn take(spec: &TensorSpec, value: &TValue) -> Result<Tensor, EngineFailure> {
    let mut taken = taken(&spec.name, value)?;
    if let (Datatype::F16, TensorData::F32(values)) = (spec.datatype, &taken.data) {
        taken.data = TensorData::F16(values.iter().map(|value| f16::from_f32(*value)).collect());
    }
    Ok(taken)
}

/// Takes a tensor from the engine as it is there.
pub(crate) fn taken(name: &str, value: &TValue) -> Result<Tensor, EngineFailure> {
    guarded(|| {
        let name = name.to_owned();
        let shape = value.shape().to_vec();
        let data = match value.datum_type() {
            DatumType::Bool => TensorData::Bool(elements(value)?),
            DatumType::U8 => TensorData::U8(elements(value)?),
            DatumType::U16 => TensorData::U16(elements(value)?),
            DatumType::U32 => TensorData::U32(elements(value)?),
            DatumType::U64 => TensorData::U64(elements(value)?),
            DatumType::I8 => TensorData::I8(elements(value)?),
            DatumType::I16 => TensorData::I16(elements(value)?),
            DatumType::I32 => TensorData::I32(elements(value)?),
            DatumType::I64 => TensorData::I64(elements(value)?),
            DatumType::F32 => TensorData::F32(elements(value)?),
            DatumType::F64 => TensorData::F64(elements(value)?),
            DatumType::String => TensorData::String(elements(value)?),
            DatumType::TDim => TensorData::I64(elements(value.cast_to::<i64>()?.as_ref())?),
            // Half precision and quantised numbers are handed out as what they stand for.
            _ => TensorData::F32(elements(value.cast_to::<f32>()?.as_ref())?),
        };
        Ok(Tensor { name, shape, data })
    })
}

/// Takes the elements of a floating point tensor as f32, with its shape.
pub(crate) fn take_f32(value: &TValue) -> Result<Vec<f32>, EngineFailure> {
    guarded(|| match value.datum_type() {
        DatumType::F32 => elements(value),
        _ => elements(value.cast_to::<f32>()?.as_ref()),
    })
}

fn elements<T: tract_onnx::prelude::Datum>(held: &Held) -> TractResult<Vec<T>> {
    Ok(held.try_as_plain_ram()?.as_slice::<T>()?.to_vec())
}

fn datum_type(datatype: Datatype) -> DatumType {
    match datatype {
        Datatype::Bool => DatumType::Bool,
        Datatype::U8 => DatumType::U8,
        Datatype::U16 => DatumType::U16,
        Datatype::U32 => DatumType::U32,
        Datatype::U64 => DatumType::U64,
        Datatype::I8 => DatumType::I8,
        Datatype::I16 => DatumType::I16,
        Datatype::I32 => DatumType::I32,
        Datatype::I64 => DatumType::I64,
        Datatype::F16 => DatumType::F16,
        Datatype::F32 => DatumType::F32,
        Datatype::F64 => DatumType::F64,
        Datatype::String => DatumType::String,
    }
}

/// What the engine makes of a tensor of zeros, or of a number, for the runs at load.
pub(crate) fn sample(name: &str, datatype: Datatype, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let mut data = match datatype {
        Datatype::Bool => TensorData::Bool(Vec::new()),
        Datatype::U8 => TensorData::U8(Vec::new()),
        Datatype::U16 => TensorData::U16(Vec::new()),
        Datatype::U32 => TensorData::U32(Vec::new()),
        Datatype::U64 => TensorData::U64(Vec::new()),
        Datatype::I8 => TensorData::I8(Vec::new()),
        Datatype::I16 => TensorData::I16(Vec::new()),
        Datatype::I32 => TensorData::I32(Vec::new()),
        Datatype::I64 => TensorData::I64(Vec::new()),
        // Half: away from the poles of logarithms, roots and quotients.
        Datatype::F16 | Datatype::F32 => TensorData::F32(vec![0.5; count]),
        Datatype::F64 => TensorData::F64(vec![0.5; count]),
        Datatype::String => TensorData::String(Vec::new()),
    };
    if !datatype.is_float() {
        each!(&mut data, values => values.resize(count, Default::default()));
    }
    Tensor { name: name.to_owned(), shape: shape.to_vec(), data }
}
