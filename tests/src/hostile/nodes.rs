//! Operators with settings and stored operands that make no sense.

use super::Expect::{self, Anything, NotAdmitted, PreCheck};
use super::craft::*;

const IMAGE: [i64; 4] = [-1, 3, 8, 8];

fn conv(settings: &[Message]) -> Vec<u8> {
    let kernel = floats("w", &[1, 3, 3, 3], &[0.1; 27]);
    one(&IMAGE, "Conv", &["x", "w"], settings, &[kernel])
}

fn conv_of(op: &str, kernel: &[i64], settings: &[Message]) -> Vec<u8> {
    let count: i64 = kernel.iter().product();
    let weights = vec![0.1; usize::try_from(count).unwrap_or(0)];
    one(&IMAGE, op, &["x", "w"], settings, &[floats("w", kernel, &weights)])
}

fn pool(settings: &[Message]) -> Vec<u8> {
    one(&IMAGE, "MaxPool", &["x"], settings, &[])
}

fn rows(op: &str, settings: &[Message], stored: &[Message]) -> Vec<u8> {
    let names = ["a", "b", "c", "d", "e"];
    let inputs: Vec<&str> = std::iter::once("x").chain(names).take(stored.len() + 1).collect();
    one(&[-1, 4], op, &inputs, settings, stored)
}

fn top(count: i64) -> Vec<u8> {
    chain(&[-1, 4], &[node("TopK", &["x", "a"], &["y", "places"], &[])], &[row("a", &[count])])
}

fn recurrent(op: &str, hidden: i64, w: &[i64], r: &[i64], more: &[Message]) -> Vec<u8> {
    let filled = |dims: &[i64]| vec![0.1; usize::try_from(dims.iter().product::<i64>()).unwrap_or(0)];
    let stored = [floats("w", w, &filled(w)), floats("r", r, &filled(r))];
    let settings = [&[int("hidden_size", hidden)], more].concat();
    one(&[5, 2, 4], op, &["x", "w", "r"], &settings, &stored)
}

fn windows() -> Vec<(&'static str, Expect, Vec<u8>)> {
    let kernel = |size: i64| ints("kernel_shape", &[size, size]);
    vec![
        ("good convolution", Anything, conv(&[])),
        ("stride 0", PreCheck("strides"), conv(&[ints("strides", &[0, 0])])),
        ("stride −1", PreCheck("strides"), conv(&[ints("strides", &[-1, 1])])),
        ("stride of one axis", PreCheck("entries"), conv(&[ints("strides", &[1])])),
        ("strides of five axes", PreCheck("entries"), conv(&[ints("strides", &[1, 1, 1, 1, 1])])),
        ("dilation 0", PreCheck("dilations"), conv(&[ints("dilations", &[0, 1])])),
        ("dilation 2^31", PreCheck("dilations"), conv(&[ints("dilations", &[1 << 31, 1])])),
        ("dilation beyond the image", Anything, conv(&[ints("dilations", &[60_000, 60_000])])),
        ("pads of 2^40", PreCheck("pads"), conv(&[ints("pads", &[1 << 40, 0, 0, 0])])),
        ("pads below 0", PreCheck("pads"), conv(&[ints("pads", &[-1, -1, -1, -1])])),
        ("pads of three sides", PreCheck("entries"), conv(&[ints("pads", &[1, 1, 1])])),
        ("pads of 1,000", Anything, conv(&[ints("pads", &[1_000; 4])])),
        ("auto_pad of nobody", NotAdmitted, conv(&[text("auto_pad", "SAME_SIDEWAYS")])),
        ("group 0", PreCheck("group"), conv(&[int("group", 0)])),
        ("group −1", PreCheck("group"), conv(&[int("group", -1)])),
        ("group that does not divide", NotAdmitted, conv(&[int("group", 2)])),
        ("group of 60,000", NotAdmitted, conv(&[int("group", 60_000)])),
        ("kernel_shape of another", PreCheck("kernel_shape"), conv(&[kernel(5)])),
        ("kernel larger than the image", Anything, conv_of("Conv", &[1, 3, 20, 20], &[])),
        ("kernel of rank 2", PreCheck("kernel"), conv_of("Conv", &[3, 3], &[])),
        ("kernel of size 0", PreCheck("kernel"), conv_of("Conv", &[1, 3, 0, 3], &[])),
        (
            "transposed stride 0",
            PreCheck("strides"),
            conv_of("ConvTranspose", &[3, 1, 3, 3], &[ints("strides", &[0, 0])]),
        ),
        (
            "transposed stride 60,000",
            PreCheck("strides"),
            conv_of("ConvTranspose", &[3, 1, 3, 3], &[ints("strides", &[60_000, 60_000])]),
        ),
        (
            "transposed output_padding 1,000",
            Anything,
            conv_of("ConvTranspose", &[3, 1, 3, 3], &[ints("output_padding", &[1_000, 1_000])]),
        ),
        ("pool kernel 0", PreCheck("kernel_shape"), pool(&[kernel(0)])),
        ("pool without kernel", PreCheck("kernel_shape"), pool(&[])),
        ("pool kernel 60,000", PreCheck("places"), pool(&[kernel(60_000)])),
        (
            "pool kernel 60,000 padded",
            PreCheck("places"),
            pool(&[kernel(60_000), text("auto_pad", "SAME_UPPER")]),
        ),
        ("pool stride 0", PreCheck("strides"), pool(&[kernel(2), ints("strides", &[0, 0])])),
        ("pool of rows", PreCheck("axes"), one(&[-1, 4], "MaxPool", &["x"], &[kernel(2)], &[])),
        ("LRN of size 0", PreCheck("size"), one(&IMAGE, "LRN", &["x"], &[int("size", 0)], &[])),
        ("LRN of size 2^15", Anything, one(&IMAGE, "LRN", &["x"], &[int("size", 1 << 15)], &[])),
        (
            "blocks of 0",
            PreCheck("blocksize"),
            one(&IMAGE, "DepthToSpace", &["x"], &[int("blocksize", 0)], &[]),
        ),
        ("blocks of 5", NotAdmitted, one(&IMAGE, "SpaceToDepth", &["x"], &[int("blocksize", 5)], &[])),
    ]
}

fn operands() -> Vec<(&'static str, Expect, Vec<u8>)> {
    vec![
        (
            "a permutation that is none",
            PreCheck("permutation"),
            rows("Transpose", &[ints("perm", &[0, 0])], &[]),
        ),
        ("a permutation of three", NotAdmitted, rows("Transpose", &[ints("perm", &[2, 1, 0])], &[])),
        ("an axis of 2^40", PreCheck("axis"), rows("Softmax", &[int("axis", 1 << 40)], &[])),
        ("an axis of 9", Anything, rows("Softmax", &[int("axis", 9)], &[])),
        (
            "an axis of −9",
            NotAdmitted,
            rows("Concat", &[int("axis", -9)], &[floats("a", &[1, 4], &[0.0; 4])]),
        ),
        ("flattened at 40", NotAdmitted, rows("Flatten", &[int("axis", 40)], &[])),
        ("a sum over axis 40", NotAdmitted, rows("ReduceSum", &[], &[row("a", &[40])])),
        ("a mean over axis 40", NotAdmitted, rows("ReduceMean", &[ints("axes", &[40])], &[])),
        ("gathered beyond", NotAdmitted, rows("Gather", &[int("axis", 1)], &[row("a", &[4])])),
        ("gathered at 2^62", NotAdmitted, rows("Gather", &[int("axis", 1)], &[row("a", &[1 << 62])])),
        ("gathered before", NotAdmitted, rows("Gather", &[int("axis", 1)], &[row("a", &[-5])])),
        (
            "gathered elements beyond",
            NotAdmitted,
            rows("GatherElements", &[int("axis", 1)], &[whole("a", &[1, 1], &[9])]),
        ),
        ("gathered tuples beyond", NotAdmitted, rows("GatherND", &[], &[whole("a", &[1, 2], &[0, 9])])),
        (
            "scattered beyond",
            NotAdmitted,
            rows(
                "ScatterElements",
                &[int("axis", 1)],
                &[whole("a", &[1, 1], &[9]), floats("b", &[1, 1], &[1.0])],
            ),
        ),
        (
            "scattered tuples beyond",
            NotAdmitted,
            rows("ScatterND", &[], &[whole("a", &[1, 2], &[0, 9]), floats("b", &[1], &[1.0])]),
        ),
        (
            "a step of 0",
            PreCheck("step"),
            rows("Slice", &[], &[row("a", &[0]), row("b", &[1]), row("c", &[1]), row("d", &[0])]),
        ),
        (
            "a slice of nothing",
            Anything,
            rows("Slice", &[], &[row("a", &[3]), row("b", &[1]), row("c", &[1])]),
        ),
        (
            "a slice backwards",
            Anything,
            rows("Slice", &[], &[row("a", &[3]), row("b", &[i64::MIN]), row("c", &[1]), row("d", &[-1])]),
        ),
        (
            "a slice of axis 40",
            NotAdmitted,
            rows("Slice", &[], &[row("a", &[0]), row("b", &[1]), row("c", &[40])]),
        ),
        (
            "a step of i64::MIN",
            PreCheck("a step"),
            rows("Slice", &[], &[row("a", &[3]), row("b", &[0]), row("c", &[1]), row("d", &[i64::MIN])]),
        ),
        ("split below 0", NotAdmitted, rows("Split", &[int("axis", 1)], &[row("a", &[-2, 6])])),
        ("split of more than there is", NotAdmitted, rows("Split", &[int("axis", 1)], &[row("a", &[40])])),
        ("split into 0", PreCheck("num_outputs"), rows("Split", &[int("num_outputs", 0)], &[])),
        ("squeezed where it is wide", NotAdmitted, rows("Squeeze", &[], &[row("a", &[1])])),
        ("unsqueezed at 60", NotAdmitted, rows("Unsqueeze", &[], &[row("a", &[60])])),
        ("unsqueezed twice at once", NotAdmitted, rows("Unsqueeze", &[], &[row("a", &[0, 0])])),
        ("two open sizes", PreCheck("two sizes"), rows("Reshape", &[], &[row("a", &[-1, -1])])),
        ("a size of −7", PreCheck("size"), rows("Reshape", &[], &[row("a", &[-7, 4])])),
        ("a shape that does not divide", NotAdmitted, rows("Reshape", &[], &[row("a", &[3, 7])])),
        ("padded to 2^40", PreCheck("pads"), rows("Pad", &[], &[row("a", &[0, 1 << 40, 0, 0])])),
        ("padded below nothing", NotAdmitted, rows("Pad", &[], &[row("a", &[0, -9, 0, 0])])),
        ("padded on three sides", NotAdmitted, rows("Pad", &[], &[row("a", &[0, 1, 1])])),
        (
            "a mirror larger than the row",
            Anything,
            rows("Pad", &[text("mode", "reflect")], &[row("a", &[0, 9, 0, 9])]),
        ),
        ("top 2^40", PreCheck("keeps"), top(1 << 40)),
        ("top −1", PreCheck("keeps"), top(-1)),
        (
            "one-hot of 2^40",
            PreCheck("depth"),
            rows("OneHot", &[], &[row("a", &[1 << 40]), floats("b", &[2], &[0.0, 1.0])]),
        ),
        (
            "one-hot without values",
            NotAdmitted,
            rows("OneHot", &[], &[row("a", &[4]), floats("b", &[0], &[])]),
        ),
        (
            "one-hot beyond its depth",
            NotAdmitted,
            one(
                &[-1, 4],
                "OneHot",
                &["i", "a", "b"],
                &[],
                &[row("i", &[9]), row("a", &[4]), floats("b", &[2], &[0.0, 1.0])],
            ),
        ),
        ("summed along axis 9", NotAdmitted, rows("CumSum", &[], &[whole("a", &[], &[9])])),
        ("an upper triangle of 2^62", Anything, rows("Trilu", &[], &[whole("a", &[], &[1 << 62])])),
        (
            "resized by 0",
            PreCheck("scale"),
            one(&IMAGE, "Resize", &["x", "", "a"], &[], &[floats("a", &[4], &[1.0, 1.0, 0.0, 0.0])]),
        ),
        (
            "resized by −1",
            PreCheck("scale"),
            one(&IMAGE, "Resize", &["x", "", "a"], &[], &[floats("a", &[4], &[1.0, 1.0, -1.0, 1.0])]),
        ),
        (
            "resized by a million",
            PreCheck("scale"),
            one(&IMAGE, "Resize", &["x", "", "a"], &[], &[floats("a", &[4], &[1.0, 1.0, 1e6, 1e6])]),
        ),
        (
            "resized by no number",
            PreCheck("scale"),
            one(&IMAGE, "Resize", &["x", "", "a"], &[], &[floats("a", &[4], &[f32::NAN; 4])]),
        ),
        ("a matrix that does not fit", NotAdmitted, rows("MatMul", &[], &[floats("a", &[5, 2], &[0.0; 10])])),
        ("a sum without its operand", NotAdmitted, rows("Add", &[], &[])),
        (
            "a sum with too many",
            NotAdmitted,
            rows("Add", &[], &[floats("a", &[1], &[0.0]), floats("b", &[1], &[0.0])]),
        ),
    ]
}

fn others() -> Vec<(&'static str, Expect, Vec<u8>)> {
    let einsum = |equation: &str| {
        one(
            &[-1, 4],
            "Einsum",
            &["x", "w"],
            &[text("equation", equation)],
            &[floats("w", &[4, 4], &[0.1; 16])],
        )
    };
    let quantise = |scales: &[f32], zeros: &[u8]| {
        let scale = floats("s", &[scales.len() as i64], scales);
        let zero = tensor("z", 2, &[zeros.len() as i64]).bytes(9, zeros);
        let first = node("QuantizeLinear", &["x", "s", "z"], &["q"], &[int("axis", 1)]);
        let second = node("DequantizeLinear", &["q", "s", "z"], &["y"], &[int("axis", 1)]);
        chain(&[-1, 4], &[first, second], &[scale, zero])
    };
    let cast = |x: &str, to: i64, made: &str| node("Cast", &[x], &[made], &[int("to", to)]);
    let divided = |op: &str| {
        let zero = whole("z", &[1], &[0]);
        let nodes = [
            cast("x", 7, "i"),
            node("Sub", &["z", "z"], &["o"], &[]),
            node(op, &["i", "o"], &["q"], &[]),
            cast("q", 1, "y"),
        ];
        chain(&[-1, 4], &nodes, &[zero])
    };
    let overflow = [
        cast("x", 7, "i"),
        node("Div", &["m", "n"], &["q"], &[]),
        node("Add", &["i", "q"], &["r"], &[]),
        cast("r", 1, "y"),
    ];
    let nbits = |n, k, block| {
        let settings = [int("N", n), int("K", k), int("bits", 4), int("block_size", block)];
        let stored = [tensor("b", 2, &[1, 1, 16]).bytes(9, &[0; 16]), floats("s", &[1], &[1.0])];
        chain(
            &[-1, 32],
            &[node("MatMulNBits", &["x", "b", "s"], &["y"], &settings).text(7, "com.microsoft")],
            &stored,
        )
    };
    vec![
        ("good LSTM", Anything, recurrent("LSTM", 3, &[1, 12, 4], &[1, 12, 3], &[])),
        ("hidden_size 0", PreCheck("hidden_size"), recurrent("LSTM", 0, &[1, 12, 4], &[1, 12, 3], &[])),
        ("hidden_size of others", NotAdmitted, recurrent("GRU", 50_000, &[1, 9, 4], &[1, 12, 3], &[])),
        ("weights of another layer", NotAdmitted, recurrent("LSTM", 3, &[1, 7, 4], &[1, 12, 3], &[])),
        ("no direction", NotAdmitted, recurrent("RNN", 3, &[0, 3, 4], &[0, 3, 3], &[])),
        (
            "a direction of nobody",
            PreCheck("direction"),
            recurrent("LSTM", 3, &[1, 12, 4], &[1, 12, 3], &[text("direction", "sideways")]),
        ),
        ("a layout of 7", Anything, recurrent("GRU", 3, &[1, 9, 4], &[1, 9, 3], &[int("layout", 7)])),
        ("good Einsum", Anything, einsum("ij,jk->ik")),
        ("an equation of nothing", NotAdmitted, einsum("")),
        ("an equation of arrows", NotAdmitted, einsum("->->->")),
        ("an equation of 300 axes", NotAdmitted, einsum(&format!("{},jk->ik", "i".repeat(300)))),
        ("an equation of symbols", NotAdmitted, einsum("🎯é,..é->\u{202e}")),
        ("an equation that repeats", Anything, einsum("ii,ij->j")),
        ("an equation that makes an axis", Anything, einsum("ij,jk->iz")),
        ("good quantisation", Anything, quantise(&[0.1], &[128])),
        ("quantised by 0", PreCheck("scale"), quantise(&[0.0], &[128])),
        ("quantised by no number", PreCheck("scale"), quantise(&[f32::NAN], &[128])),
        ("three scales for four columns", NotAdmitted, quantise(&[0.1; 3], &[128; 3])),
        ("more zero points than scales", PreCheck("zero points"), quantise(&[0.1; 4], &[128; 7])),
        ("no scale", PreCheck("no scale"), quantise(&[], &[])),
        ("a whole number over 0", Anything, divided("Div")),
        ("a remainder by 0", NotAdmitted, divided("Mod")),
        (
            "i64::MIN over −1",
            Anything,
            chain(&[-1, 4], &overflow, &[whole("m", &[1], &[i64::MIN]), whole("n", &[1], &[-1])]),
        ),
        (
            "a logarithm of 0",
            NotAdmitted,
            chain(&[-1, 4], &[node("Sub", &["x", "x"], &["z"], &[]), node("Log", &["z"], &["y"], &[])], &[]),
        ),
        ("a matrix of 2^40 by 2^40 bits", PreCheck("N is"), nbits(1 << 40, 1 << 40, 32)),
        ("a block of 0", PreCheck("block_size"), nbits(1, 32, 0)),
        ("−1 columns", PreCheck("N is"), nbits(-1, 32, 32)),
        ("a Fourier transform of nothing", NotAdmitted, one(&[-1, 4], "DFT", &["x"], &[], &[])),
        (
            "windows of a Fourier transform 2^40 wide",
            PreCheck("length"),
            one(
                &[1, 64, 1],
                "STFT",
                &["x", "a", "", "b"],
                &[],
                &[whole("a", &[], &[1]), whole("b", &[], &[1 << 40])],
            ),
        ),
        (
            "a step of 0 in a Fourier transform",
            PreCheck("length"),
            one(
                &[1, 64, 1],
                "STFT",
                &["x", "a", "", "b"],
                &[],
                &[whole("a", &[], &[0]), whole("b", &[], &[16])],
            ),
        ),
        (
            "a Hann window of 2^40",
            PreCheck("length"),
            chain(
                &[-1, 4],
                &[node("HannWindow", &["n"], &["h"], &[]), node("Add", &["x", "h"], &["y"], &[])],
                &[whole("n", &[], &[1 << 40])],
            ),
        ),
        (
            "a mel matrix of 2^30",
            PreCheck("length"),
            chain(
                &[-1, 4],
                &[
                    node("MelWeightMatrix", &["n", "n", "n", "f", "g"], &["h"], &[]),
                    node("Add", &["x", "h"], &["y"], &[]),
                ],
                &[whole("n", &[], &[1 << 30]), floats("f", &[], &[0.0]), floats("g", &[], &[8_000.0])],
            ),
        ),
        (
            "groups of 0",
            PreCheck("num_groups"),
            one(
                &IMAGE,
                "GroupNormalization",
                &["x", "a", "a"],
                &[int("num_groups", 0)],
                &[floats("a", &[3], &[1.0; 3])],
            ),
        ),
        (
            "a normaliser of another width",
            NotAdmitted,
            one(
                &IMAGE,
                "BatchNormalization",
                &["x", "a", "a", "a", "a"],
                &[],
                &[floats("a", &[7], &[1.0; 7])],
            ),
        ),
        (
            "a category for each",
            NotAdmitted,
            chain(
                &[-1, 4],
                &[ml_node(
                    "CategoryMapper",
                    &["x"],
                    &["y"],
                    &[ints("cats_int64s", &[1, 2, 3]), texts("cats_strings", &["a"])],
                )],
                &[],
            ),
        ),
        (
            "a linear classifier of other classes",
            NotAdmitted,
            chain(
                &[-1, 4],
                &[ml_node(
                    "LinearClassifier",
                    &["x"],
                    &["l", "y"],
                    &[
                        floats_of("coefficients", &[1.0; 7]),
                        floats_of("intercepts", &[0.0]),
                        ints("classlabels_ints", &[0, 1, 2]),
                    ],
                )],
                &[],
            ),
        ),
    ]
}

pub(super) fn cases() -> Vec<(&'static str, Expect, Vec<u8>)> {
    [windows(), operands(), others()].concat()
}
