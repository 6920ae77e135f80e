//! The operators of `ai.onnx.ml`, run by `shoal-ml` inside the engine.

use std::sync::Arc;

use ndarray::ArrayD;
use shoal_ml::{Array, Data, Extent, Kernel, Kind, OPS, Settings, Slice, View};
use shoal_onnx::ml_settings;
use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::{AttributeProto, NodeProto, attribute_proto::AttributeType};
use tract_onnx::tract_hir::internal::*;

/// Puts our operators in the place of the engine's own.
pub(crate) fn register(known: &mut OnnxOpRegister) {
    for op in OPS {
        known.insert(op, parse);
    }
    known.insert("Upsample", upsample);
}

/// Version of `Resize` that `Upsample` is read as.
const RESIZE_VERSION: i64 = 13;

/// `Upsample` is `Resize` as it was before it was called so.
fn upsample(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let text = |name: &str, value: &str| AttributeProto {
        name: name.into(),
        r#type: AttributeType::String.into(),
        s: value.into(),
        ..AttributeProto::default()
    };
    let mode = node.attribute.iter().find(|attribute| attribute.name == "mode");
    let mode = if mode.is_some_and(|mode| mode.s != b"nearest") { "linear" } else { "nearest" };
    let [x, scales] = node.input.as_slice() else { bail!("Upsample has {} operands", node.input.len()) };
    let resize = NodeProto {
        op_type: "Resize".into(),
        name: node.name.clone(),
        input: vec![x.clone(), String::new(), scales.clone()],
        output: node.output.clone(),
        attribute: vec![
            text("mode", mode),
            text("coordinate_transformation_mode", "asymmetric"),
            text("nearest_mode", "floor"),
        ],
        ..NodeProto::default()
    };
    let mut context = context.clone();
    context.onnx_operator_set_version = RESIZE_VERSION;
    match context.framework.op_register.0.get("Resize") {
        Some(build) => build(&context, &resize),
        None => bail!("the engine has no Resize"),
    }
}

fn parse(_: &ParsingContext<'_>, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let settings = ml_settings(node);
    let kernel = Kernel::parse(&node.op_type, &settings, None)?;
    Ok((expand(Untyped { op: node.op_type.clone(), settings: Arc::new(settings), kernel }), Vec::new()))
}

/// An operator whose input's type is not known yet.
#[derive(Debug, Clone)]
struct Untyped {
    op: String,
    settings: Arc<Settings>,
    kernel: Kernel,
}

impl Expansion for Untyped {
    fn name(&self) -> StaticName {
        self.op.clone().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.kernel.output_count())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.kernel.inputs())?;
        check_output_arity(outputs, self.kernel.output_count())?;
        solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes| {
            solver.given(&inputs[0].datum_type, move |solver, datum| {
                for (output, made) in outputs.iter().zip(self.kernel.outputs(kind(datum), shapes[0].len())) {
                    solver.equals(&output.datum_type, datum_type(made.kind))?;
                    let shapes: Vec<&[TDim]> = shapes.iter().map(|shape| shape.as_slice()).collect();
                    solver.equals(&output.shape, extents(&made.extents, &shapes))?;
                }
                Ok(())
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let first = kind(model.outlet_fact(inputs[0])?.datum_type);
        let kernel = match first {
            Kind::F64 => Kernel::parse(&self.op, &self.settings, Some(first))?,
            _ => self.kernel.clone(),
        };
        model.wire_node(prefix, Served { op: self.op.clone(), kernel: Arc::new(kernel) }, inputs)
    }
}

/// An operator at work.
#[derive(Debug, Clone)]
struct Served {
    op: String,
    kernel: Arc<Kernel>,
}

impl PartialEq for Served {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kernel, &other.kernel)
    }
}

impl Eq for Served {}

impl Op for Served {
    fn name(&self) -> StaticName {
        self.op.clone().into()
    }

    op_as_typed_op!();
}

impl EvalOp for Served {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let plain = inputs.iter().map(plain).collect::<TractResult<TVec<TValue>>>()?;
        let views = plain.iter().map(view).collect::<TractResult<TVec<View<'_>>>>()?;
        self.kernel.run(&views)?.into_iter().map(give).collect()
    }
}

impl TypedOp for Served {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shapes: Vec<&[TDim]> = inputs.iter().map(|fact| &*fact.shape).collect();
        let made = self.kernel.outputs(kind(inputs[0].datum_type), shapes[0].len());
        Ok(made.into_iter().map(|made| datum_type(made.kind).fact(extents(&made.extents, &shapes))).collect())
    }

    as_op!();
}

fn extents(made: &[Extent], shapes: &[&[TDim]]) -> TVec<TDim> {
    let first = shapes[0];
    made.iter()
        .map(|extent| match extent {
            Extent::Known(size) => size.to_dim(),
            Extent::Rows if first.len() < 2 => 1.to_dim(),
            Extent::Rows => first[0].clone(),
            Extent::Axis(axis) => first[*axis].clone(),
            Extent::OtherRows => shapes.get(1).and_then(|shape| shape.first()).cloned().unwrap_or(1.to_dim()),
            Extent::Indices => shapes.get(1).map_or(1.to_dim(), |shape| shape.iter().product()),
        })
        .collect()
}

fn kind(datum: DatumType) -> Kind {
    match datum {
        DatumType::Bool => Kind::Bool,
        DatumType::U8 => Kind::U8,
        DatumType::I16 => Kind::I16,
        DatumType::I32 => Kind::I32,
        DatumType::F64 => Kind::F64,
        DatumType::String => Kind::Text,
        datum if datum.is_float() => Kind::F32,
        _ => Kind::I64,
    }
}

fn datum_type(kind: Kind) -> DatumType {
    match kind {
        Kind::Bool => DatumType::Bool,
        Kind::U8 => DatumType::U8,
        Kind::I16 => DatumType::I16,
        Kind::I32 => DatumType::I32,
        Kind::I64 => DatumType::I64,
        Kind::F32 => DatumType::F32,
        Kind::F64 => DatumType::F64,
        Kind::Text => DatumType::String,
    }
}

/// Sizes that the engine holds as symbols become numbers, other kinds those that kernels read.
fn plain(value: &TValue) -> TractResult<TValue> {
    let wanted = datum_type(kind(value.datum_type()));
    if value.datum_type() == wanted {
        return Ok(value.clone());
    }
    Ok(value.cast_to_dt(wanted)?.into_owned().into_tvalue())
}

fn view(value: &TValue) -> TractResult<View<'_>> {
    let held = value.try_as_plain_ram()?;
    let data = match value.datum_type() {
        DatumType::Bool => Slice::Bool(held.as_slice()?),
        DatumType::U8 => Slice::U8(held.as_slice()?),
        DatumType::I16 => Slice::I16(held.as_slice()?),
        DatumType::I32 => Slice::I32(held.as_slice()?),
        DatumType::I64 => Slice::I64(held.as_slice()?),
        DatumType::F32 => Slice::F32(held.as_slice()?),
        DatumType::F64 => Slice::F64(held.as_slice()?),
        DatumType::String => Slice::Text(held.as_slice()?),
        other => bail!("{other:?} is not served here"),
    };
    Ok(View { shape: value.shape(), data })
}

fn give(made: Array) -> TractResult<TValue> {
    let shape = made.shape;
    Ok(match made.data {
        Data::Bool(v) => Tensor::from_shape(&shape, &v)?,
        Data::U8(v) => Tensor::from_shape(&shape, &v)?,
        Data::I16(v) => Tensor::from_shape(&shape, &v)?,
        Data::I32(v) => Tensor::from_shape(&shape, &v)?,
        Data::I64(v) => Tensor::from_shape(&shape, &v)?,
        Data::F32(v) => Tensor::from_shape(&shape, &v)?,
        Data::F64(v) => Tensor::from_shape(&shape, &v)?,
        Data::Text(v) => Tensor::from(ArrayD::from_shape_vec(shape, v)?),
    }
    .into_tvalue())
}
