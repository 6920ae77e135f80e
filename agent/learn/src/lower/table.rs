//! Every operator that is trained through. A new one is a line here, a function in its family, and its
//! name in `shoal_onnx::TRAINABLE_OPS`.

use super::{
    Call, Made, activation, arith, conv, einsum, gather, linear, ml, norm, pool, recurrent, reduce, resize,
    shape,
};

/// Lowers a node.
pub(crate) type Work = fn(&mut Call<'_>) -> Made;

/// Finds the work of an operator.
pub(crate) fn find(op: &str) -> Option<Work> {
    TABLE.binary_search_by_key(&op, |(name, _)| name).ok().map(|place| TABLE[place].1)
}

/// By name.
pub(crate) const TABLE: &[(&str, Work)] = &[
    ("Abs", activation::plain),
    ("Add", arith::binary),
    ("And", arith::binary),
    ("AveragePool", pool::average),
    ("BatchNormalization", norm::batch),
    ("Cast", arith::cast),
    ("CastLike", arith::cast),
    ("Ceil", activation::plain),
    ("Celu", activation::with_settings),
    ("Clip", activation::clip),
    ("Concat", shape::concat),
    ("Constant", shape::constant),
    ("ConstantOfShape", shape::constant_of_shape),
    ("Conv", conv::convolve),
    ("ConvTranspose", conv::transpose),
    ("Cos", activation::plain),
    ("CumSum", reduce::running_sum),
    ("DepthToSpace", resize::depth_to_space),
    ("DequantizeLinear", ml::dequantize),
    ("Div", arith::binary),
    ("Dropout", shape::pass),
    ("Einsum", einsum::einsum),
    ("Elu", activation::with_settings),
    ("Equal", arith::binary),
    ("Erf", activation::plain),
    ("Exp", activation::plain),
    ("Expand", shape::expand),
    ("Flatten", shape::flatten),
    ("Floor", activation::plain),
    ("GRU", recurrent::gru),
    ("Gather", gather::gather),
    ("GatherElements", gather::elements),
    ("Gelu", activation::gelu),
    ("Gemm", linear::gemm),
    ("GlobalAveragePool", pool::global),
    ("GlobalMaxPool", pool::global),
    ("Greater", arith::binary),
    ("GreaterOrEqual", arith::binary),
    ("GroupNormalization", norm::group),
    ("HardSigmoid", activation::with_settings),
    ("HardSwish", activation::plain),
    ("Identity", shape::pass),
    ("InstanceNormalization", norm::instance),
    ("IsNaN", activation::plain),
    ("LSTM", recurrent::lstm),
    ("LayerNormalization", norm::layer),
    ("LeakyRelu", activation::with_settings),
    ("Less", arith::binary),
    ("LessOrEqual", arith::binary),
    ("Log", activation::plain),
    ("LogSoftmax", norm::softmax),
    ("LpNormalization", norm::lp),
    ("MatMul", linear::matmul),
    ("Max", arith::many),
    ("MaxPool", pool::max),
    ("Mean", arith::many),
    ("MeanVarianceNormalization", norm::mean_variance),
    ("Min", arith::many),
    ("Mish", activation::plain),
    ("Mod", arith::binary),
    ("Mul", arith::binary),
    ("Neg", activation::plain),
    ("Not", activation::plain),
    ("Or", arith::binary),
    ("PRelu", arith::prelu),
    ("Pad", gather::pad),
    ("Pow", arith::binary),
    ("QuantizeLinear", ml::quantize),
    ("RMSNormalization", norm::rms),
    ("RNN", recurrent::rnn),
    ("Range", shape::range),
    ("Reciprocal", activation::plain),
    ("ReduceL1", reduce::reduce),
    ("ReduceL2", reduce::reduce),
    ("ReduceLogSum", reduce::reduce),
    ("ReduceLogSumExp", reduce::reduce),
    ("ReduceMax", reduce::reduce),
    ("ReduceMean", reduce::reduce),
    ("ReduceMin", reduce::reduce),
    ("ReduceProd", reduce::reduce),
    ("ReduceSum", reduce::reduce),
    ("ReduceSumSquare", reduce::reduce),
    ("Relu", activation::plain),
    ("Reshape", shape::reshape),
    ("Resize", resize::resize),
    ("Round", activation::plain),
    ("Selu", activation::with_settings),
    ("Shape", shape::shape),
    ("Sigmoid", activation::plain),
    ("Sign", activation::plain),
    ("Sin", activation::plain),
    ("Size", shape::size),
    ("Slice", gather::slice),
    ("Softmax", norm::softmax),
    ("Softplus", activation::plain),
    ("Softsign", activation::plain),
    ("SpaceToDepth", resize::space_to_depth),
    ("Split", shape::split),
    ("Sqrt", activation::plain),
    ("Squeeze", shape::squeeze),
    ("Sub", arith::binary),
    ("Sum", arith::many),
    ("Swish", activation::with_settings),
    ("Tan", activation::plain),
    ("Tanh", activation::plain),
    ("ThresholdedRelu", activation::with_settings),
    ("Tile", gather::tile),
    ("Transpose", shape::transpose),
    ("Trilu", gather::trilu),
    ("Unsqueeze", shape::unsqueeze),
    ("Upsample", resize::resize),
    ("Where", arith::choose),
    ("Xor", arith::binary),
    ("ai.onnx.ml.Normalizer", ml::normalizer),
    ("ai.onnx.ml.Scaler", ml::scaler),
];

#[cfg(test)]
mod tests {
    use super::TABLE;

    #[test]
    fn the_table_is_the_list_of_trainable_operators() {
        let names: Vec<&str> = TABLE.iter().map(|(name, _)| *name).collect();
        assert!(names.is_sorted(), "it is searched by halves");
        assert_eq!(names, shoal_onnx::TRAINABLE_OPS);
    }
}
