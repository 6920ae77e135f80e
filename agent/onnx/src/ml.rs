//! Settings of the operators of `ai.onnx.ml`, handed to the crate that runs them.

use shoal_ml::{Array, Data, Kernel, Setting, Settings};
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto, attribute_proto::AttributeType};

use crate::spec::Datatype;

/// The settings of a node, those that no kernel reads left out.
#[must_use]
pub fn ml_settings(node: &NodeProto) -> Settings {
    let mut settings = Settings::default();
    for attribute in &node.attribute {
        if let Some(value) = setting(attribute) {
            settings.insert(attribute.name.as_str(), value);
        }
    }
    settings
}

/// Says why a node makes no kernel.
pub(crate) fn trap(node: &NodeProto) -> Option<String> {
    let refused = Kernel::parse(&node.op_type, &ml_settings(node), None).err()?;
    Some(refused.to_string())
}

/// A setting of a node; `None` for kinds that no kernel reads.
pub(crate) fn setting(raw: &AttributeProto) -> Option<Setting> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(match AttributeType::try_from(raw.r#type).ok()? {
        AttributeType::Float => Setting::Float(raw.f),
        AttributeType::Int => Setting::Int(raw.i),
        AttributeType::String => Setting::Text(text(&raw.s)),
        AttributeType::Floats => Setting::Floats(raw.floats.clone()),
        AttributeType::Ints => Setting::Ints(raw.ints.clone()),
        AttributeType::Strings => Setting::Texts(raw.strings.iter().map(|bytes| text(bytes)).collect()),
        AttributeType::Tensor => Setting::Tensor(array(raw.t.as_ref()?)?),
        AttributeType::Undefined
        | AttributeType::Graph
        | AttributeType::SparseTensor
        | AttributeType::TypeProto
        | AttributeType::Tensors
        | AttributeType::Graphs
        | AttributeType::SparseTensors
        | AttributeType::TypeProtos => return None,
    })
}

/// Numbers of a fixed size, from raw bytes or from the typed field.
macro_rules! elements {
    ($tensor:expr, $kind:ty, $typed:expr) => {
        match $tensor.raw_data.as_slice() {
            [] => $typed,
            raw => raw.as_chunks().0.iter().map(|bytes| <$kind>::from_le_bytes(*bytes)).collect(),
        }
    };
}

/// A stored tensor that the pre-check has passed; `None` for types no kernel reads.
fn array(tensor: &TensorProto) -> Option<Array> {
    let shape = tensor.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Option<_>>()?;
    let ints = &tensor.int32_data;
    let data = match Datatype::from_onnx(tensor.data_type)? {
        Datatype::F32 => Data::F32(elements!(tensor, f32, tensor.float_data.clone())),
        Datatype::F64 => Data::F64(elements!(tensor, f64, tensor.double_data.clone())),
        Datatype::I64 => Data::I64(elements!(tensor, i64, tensor.int64_data.clone())),
        Datatype::I32 => Data::I32(elements!(tensor, i32, ints.clone())),
        Datatype::I16 => {
            Data::I16(elements!(tensor, i16, ints.iter().map(|v| i16::try_from(*v).unwrap_or(0)).collect()))
        }
        Datatype::U8 => {
            Data::U8(elements!(tensor, u8, ints.iter().map(|v| u8::try_from(*v).unwrap_or(0)).collect()))
        }
        Datatype::String => {
            Data::Text(tensor.string_data.iter().map(|b| String::from_utf8_lossy(b).into_owned()).collect())
        }
        Datatype::Bool | Datatype::U16 | Datatype::U32 | Datatype::U64 | Datatype::I8 | Datatype::F16 => {
            return None;
        }
    };
    Some(Array { shape, data })
}
