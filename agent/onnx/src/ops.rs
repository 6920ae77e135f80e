//! The operators that the engine serves.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Every operator of tract-onnx 0.23's register but those that are random or answer wrongly, and
/// the kernels of `shoal-ml`; sorted by name.
///
/// A closed list: what is not here is refused by name before the engine sees the file.
pub const SERVED_OPS: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "ArrayFeatureExtractor",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "AveragePool",
    "BatchNormalization",
    "BiasGelu",
    "Binarizer",
    "BitShift",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "BlackmanWindow",
    "CDist",
    "Cast",
    "CastLike",
    "CategoryMapper",
    "Ceil",
    "Celu",
    "Clip",
    "Compress",
    "Concat",
    "Constant",
    "ConstantLike",
    "ConstantOfShape",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "Cos",
    "Cosh",
    "CumSum",
    "DFT",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "DynamicQuantizeLinear",
    "Einsum",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "EyeLike",
    "FastGelu",
    "FeatureVectorizer",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "GatherBlockQuantized",
    "GatherElements",
    "GatherND",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "GridSample",
    "GroupNormalization",
    "HammingWindow",
    "HannWindow",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "If",
    "Imputer",
    "InstanceNormalization",
    "IsInf",
    "IsNaN",
    "LRN",
    "LSTM",
    "LabelEncoder",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "LinearClassifier",
    "LinearRegressor",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "MatMul",
    "MatMulInteger",
    "MatMulNBits",
    "Max",
    "MaxPool",
    "Mean",
    "MeanVarianceNormalization",
    "MelWeightMatrix",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "NonMaxSuppression",
    "NonZero",
    "Normalizer",
    "Not",
    "OneHot",
    "OneHotEncoder",
    "Or",
    "PRelu",
    "Pad",
    "ParametricSoftplus",
    "Pow",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
    "QuickGelu",
    "RMSNormalization",
    "RNN",
    "Range",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Resize",
    "ReverseSequence",
    "RotaryEmbedding",
    "Round",
    "Rsqrt",
    "STFT",
    "SVMClassifier",
    "SVMRegressor",
    "ScaledTanh",
    "Scaler",
    "Scan",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Selu",
    "Shape",
    "Shrink",
    "Sigmoid",
    "Sign",
    "SimplifiedLayerNormalization",
    "Sin",
    "Sinh",
    "Size",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "TopK",
    "Transpose",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
    "Trilu",
    "Unsqueeze",
    "Upsample",
    "Where",
    "Xor",
];

/// Domains whose operators the engine knows; it looks at the name alone, so a foreign `Relu` would
/// be run as if it were ONNX's.
const DOMAINS: &[&str] = &["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];

/// An operator that is not served, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnknownOp {
    /// The domain, empty for ONNX's own.
    pub domain: String,
    /// The operator's name.
    pub name: String,
    /// Why it is not served.
    pub reason: String,
}

impl fmt::Display for UnknownOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.domain.is_empty() {
            write!(f, "{}.", self.domain)?;
        }
        write!(f, "{} ({})", self.name, self.reason)
    }
}

/// Says why an operator is not served, `None` when it is.
pub(crate) fn refuse(domain: &str, name: &str) -> Option<&'static str> {
    if !DOMAINS.contains(&domain) {
        return Some("its domain is not known to this build");
    }
    if SERVED_OPS.binary_search(&name).is_ok() {
        return None;
    }
    Some(match name {
        "RandomNormal" | "RandomNormalLike" | "RandomUniform" | "RandomUniformLike" | "Multinomial"
        | "Bernoulli" => "it is random: the same input would give different answers",
        "GlobalLpPool" => "the engine's answers differ from the standard",
        "Loop" => "its number of rounds has no bound",
        "FusedConv"
        | "FusedGemm"
        | "FusedMatMul"
        | "FusedMatMulActivation"
        | "QGemm"
        | "QLinearAdd"
        | "NhwcMaxPool"
        | "QAttention"
        | "QLinearGlobalAveragePool"
        | "QLinearSigmoid" => "onnxruntime's optimiser made it; serve the file from before",
        "SequenceAt" | "SequenceConstruct" | "SequenceEmpty" | "SequenceErase" | "SequenceInsert"
        | "SequenceLength" | "SequenceMap" | "SplitToSequence" | "ConcatFromSequence" | "Optional"
        | "OptionalGetElement" | "OptionalHasElement" => "sequences and optional values are no tensors",
        "CastMap" | "DictVectorizer" => "maps are no tensors",
        _ => "not known to this build",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_registers_every_served_op() {
        let register = tract_onnx::onnx().op_register.0;
        let is_known =
            |op: &str| register.contains_key(op) || shoal_ml::OPS.contains(&op) || op == "Upsample";
        let missing: Vec<_> = SERVED_OPS.iter().filter(|op| !is_known(op)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(SERVED_OPS.is_sorted());
        let mut unlisted: Vec<_> =
            register.keys().filter(|op| refuse("", op) == Some("not known to this build")).collect();
        unlisted.sort();
        assert!(unlisted.is_empty(), "the engine has learnt {unlisted:?}");
    }
}
