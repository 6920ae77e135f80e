//! Sizes that no file holds: made by other nodes, or by the number of rows.

use super::Expect::{self, Anything, NotAdmitted, PreCheck};
use super::craft::*;

/// A shape that stands in two parts and is only joined by a node.
fn joined(op: &str, first: i64, second: i64) -> Vec<u8> {
    let join = node("Concat", &["a", "b"], &["s"], &[int("axis", 0)]);
    let made = match op {
        "ConstantOfShape" => node(op, &["s"], &["z"], &[]),
        _ => node(op, &["x", "s"], &["z"], &[]),
    };
    let sum = node("ReduceSum", &["z"], &["y"], &[]);
    chain(&[-1, 4], &[join, made, sum], &[row("a", &[first]), row("b", &[second])])
}

/// A stored number that is multiplied by itself, `times` times, and then is a size.
fn squared(op: &str, times: usize) -> Vec<u8> {
    let name = |at: usize| format!("s{at}");
    let mut nodes: Vec<Message> =
        (0..times).map(|at| node("Mul", &[&name(at), &name(at)], &[&name(at + 1)], &[])).collect();
    nodes.push(node("Concat", &[&name(times), "one"], &["s"], &[int("axis", 0)]));
    nodes.push(node(op, &["x", "s"], &["z"], &[]));
    nodes.push(node("ReduceSum", &["z"], &["y"], &[]));
    chain(&[-1, 4], &nodes, &[row("s0", &[16]), row("one", &[1])])
}

/// `x` beside itself, again and again.
fn concatenated(times: usize) -> Vec<u8> {
    let name = |at: usize| if at == 0 { "x".to_owned() } else { format!("v{at}") };
    let mut nodes: Vec<Message> = (0..times)
        .map(|at| node("Concat", &[&name(at), &name(at)], &[&name(at + 1)], &[int("axis", 1)]))
        .collect();
    nodes.push(node("ReduceSum", &[&name(times)], &["y"], &[]));
    chain(&[-1, 4], &nodes, &[])
}

/// A row against a column, each of `size`.
fn outer(size: i64) -> Vec<u8> {
    let nodes = [
        node("ConstantOfShape", &["s"], &["a"], &[]),
        node("ConstantOfShape", &["t"], &["b"], &[]),
        node("Add", &["a", "b"], &["c"], &[]),
        node("ReduceSum", &["c"], &["d"], &[]),
        node("Add", &["x", "d"], &["y"], &[]),
    ];
    chain(&[-1, 4], &nodes, &[row("s", &[size, 1]), row("t", &[1, size])])
}

/// Multiplied matrices of `size` by `size`.
fn matrices(size: i64, times: usize) -> Vec<u8> {
    let name = |at: usize| format!("m{at}");
    let mut nodes =
        vec![node("Expand", &["e", "s"], &["m0"], &[]), node("Expand", &["x", "r"], &["x0"], &[])];
    nodes.push(node("MatMul", &["x0", "m0"], &["m1"], &[]));
    for at in 1..times {
        nodes.push(node("MatMul", &[&name(at), "m0"], &[&name(at + 1)], &[]));
    }
    nodes.push(node("ReduceSum", &[&name(times)], &["y"], &[]));
    let stored = [floats("e", &[1, 1], &[1e-3]), row("s", &[size, size]), row("r", &[size, size])];
    chain(&[1, 1], &nodes, &stored)
}

fn scan(length: i64) -> Vec<u8> {
    let body = graph(
        &[node("Add", &["h", "v"], &["o"], &[]), node("Identity", &["o"], &["p"], &[])],
        &[],
        &[value("h", 1, &[1]), value("v", 1, &[1])],
        &[value("o", 1, &[1]), value("p", 1, &[1])],
    );
    let nodes = [
        node("ConstantOfShape", &["s"], &["v"], &[]),
        node("Scan", &["h", "v"], &["e", "all"], &[inner("body", &body), int("num_scan_inputs", 1)]),
        node("Add", &["x", "e"], &["y"], &[]),
    ];
    chain(&[-1, 4], &nodes, &[row("s", &[length, 1]), floats("h", &[1], &[0.0])])
}

/// Rows after rows after rows.
fn batches(times: usize) -> Vec<u8> {
    let name = |at: usize| if at == 0 { "x".to_owned() } else { format!("v{at}") };
    let mut nodes: Vec<Message> =
        (0..times).map(|at| node("Concat", &[&name(at), "x"], &[&name(at + 1)], &[int("axis", 0)])).collect();
    nodes.push(node("ReduceSum", &[&name(times)], &["y"], &[]));
    chain(&[-1, 4], &nodes, &[])
}

/// The number of rows, added and divided again and again: an expression that grows with each node.
fn expressions(times: usize) -> Vec<u8> {
    let name = |at: usize| format!("n{at}");
    let mut nodes = vec![node("Shape", &["x"], &["s"], &[]), node("Gather", &["s", "zero"], &["n0"], &[])];
    for at in 0..times {
        let (op, by) = [("Div", "three"), ("Mul", "two"), ("Add", "n0"), ("Sub", "one")][at % 4];
        nodes.push(node(op, &[&name(at), by], &[&name(at + 1)], &[]));
    }
    nodes.push(node("Concat", &[&name(times), "one"], &["t"], &[int("axis", 0)]));
    nodes.push(node("Expand", &["e", "t"], &["z"], &[]));
    nodes.push(node("ReduceSum", &["z"], &["u"], &[]));
    nodes.push(node("Add", &["x", "u"], &["y"], &[]));
    let stored = [
        row("zero", &[0]),
        row("one", &[1]),
        row("two", &[2]),
        row("three", &[3]),
        floats("e", &[1, 1], &[1.0]),
    ];
    chain(&[-1, 4], &nodes, &stored)
}

fn branches() -> Vec<u8> {
    let branch = |op: &str| graph(&[node(op, &["x"], &["z"], &[])], &[], &[], &[Message::new().text(1, "z")]);
    let both = [inner("then_branch", &branch("Relu")), inner("else_branch", &branch("Sigmoid"))];
    let nodes = [
        node("ReduceSum", &["x"], &["t"], &[int("keepdims", 0)]),
        node("Cast", &["t"], &["c"], &[int("to", 9)]),
        node("If", &["c"], &["y"], &both),
    ];
    chain(&[-1, 4], &nodes, &[])
}

pub(super) fn cases() -> Vec<(&'static str, Expect, Vec<u8>)> {
    let range = |last: f32, step: f32| {
        let nodes = [
            node("Range", &["a", "b", "c"], &["r"], &[]),
            node("ReduceSum", &["r"], &["s"], &[]),
            node("Add", &["x", "s"], &["y"], &[]),
        ];
        chain(
            &[-1, 4],
            &nodes,
            &[floats("a", &[], &[0.0]), floats("b", &[], &[last]), floats("c", &[], &[step])],
        )
    };
    let whole_range = |last: i64, step: i64| {
        let nodes = [
            node("Range", &["a", "b", "c"], &["r"], &[]),
            node("Cast", &["r"], &["f"], &[int("to", 1)]),
            node("ReduceSum", &["f"], &["s"], &[]),
            node("Add", &["x", "s"], &["y"], &[]),
        ];
        chain(&[-1, 4], &nodes, &[whole("a", &[], &[0]), whole("b", &[], &[last]), whole("c", &[], &[step])])
    };
    let loops = |count: i64| {
        let body = graph(
            &[node("Identity", &["c"], &["d"], &[]), node("Relu", &["h"], &["o"], &[])],
            &[],
            &[value("i", 7, &[]), value("c", 9, &[]), value("h", 1, &[-1, 4])],
            &[value("d", 9, &[]), value("o", 1, &[-1, 4])],
        );
        let settings = [inner("body", &body)];
        chain(&[-1, 4], &[node("Loop", &["n", "", "x"], &["y"], &settings)], &[whole("n", &[], &[count])])
    };
    let eye = [
        node("EyeLike", &["z"], &["e"], &[]),
        node("ReduceSum", &["e"], &["s"], &[]),
        node("Add", &["x", "s"], &["y"], &[]),
    ];
    let eyes = [&[node("ConstantOfShape", &["n"], &["z"], &[])][..], &eye].concat();
    let by_rows = [
        node("Shape", &["x"], &["n"], &[]),
        node("Mul", &["n", "f"], &["m"], &[]),
        node("Expand", &["x1", "m"], &["z"], &[]),
        node("ReduceSum", &["z"], &["y"], &[]),
    ];
    vec![
        (
            "a constant shape of 2^60",
            PreCheck("limit"),
            one(&[-1, 4], "Expand", &["x", "s"], &[], &[row("s", &[1 << 40, 1 << 20])]),
        ),
        ("expanded to 2^38 in two parts", Anything, joined("Expand", 1 << 38, 4)),
        ("expanded to 2^28 in two parts", NotAdmitted, joined("Expand", 1 << 28, 4)),
        ("expanded to i64::MAX in two parts", NotAdmitted, joined("Expand", i64::MAX, 4)),
        ("tiled 2^38 times in two parts", Anything, joined("Tile", 1 << 38, 1)),
        ("tiled −1 times in two parts", NotAdmitted, joined("Tile", -1, 1)),
        ("tiled 2^62 times in two parts", Anything, joined("Tile", 1 << 62, 1 << 62)),
        ("filled with 2^40 in two parts", Anything, joined("ConstantOfShape", 1 << 40, 4)),
        ("filled with 2^27 in two parts", NotAdmitted, joined("ConstantOfShape", 1 << 25, 4)),
        ("filled with −4 in two parts", NotAdmitted, joined("ConstantOfShape", -4, 4)),
        ("reshaped to 0 in two parts", NotAdmitted, joined("Reshape", 3, 5)),
        ("expanded to a square of a square", Anything, squared("Expand", 3)),
        ("tiled by a square of a square", Anything, squared("Tile", 3)),
        ("expanded to an overflow", Anything, squared("Expand", 5)),
        ("beside itself 20 times", Anything, concatenated(20)),
        ("beside itself 40 times", NotAdmitted, concatenated(40)),
        ("beside itself 70 times", NotAdmitted, concatenated(70)),
        ("a row of 2^16 against a column", NotAdmitted, outer(1 << 16)),
        ("matrices of 2,000, fifty times", NotAdmitted, matrices(2_000, 50)),
        ("matrices of 4,000, fifty times", NotAdmitted, matrices(4_000, 50)),
        ("a range to 1e30", PreCheck("counts"), range(1e30, 1.0)),
        ("a range by 0.0", PreCheck("the step"), range(1.0, 0.0)),
        ("a range by no number", PreCheck("the step"), range(1.0, f32::NAN)),
        ("a range by 1e-30", PreCheck("counts"), range(1.0, 1e-30)),
        ("a range to i64::MAX", PreCheck("counts"), whole_range(i64::MAX, 1)),
        ("a range by 0", PreCheck("step is 0"), whole_range(9, 0)),
        ("a range to 2^30", PreCheck("counts"), whole_range(1 << 30, 1)),
        ("a range backwards", Anything, whole_range(9, -1)),
        ("a loop of 2^62", PreCheck("bound"), loops(1 << 62)),
        ("a scan of 2^20", Anything, scan(1 << 20)),
        ("a scan of 2^40", NotAdmitted, scan(1 << 40)),
        ("two branches", Anything, branches()),
        ("an expression of 40 steps", Anything, expressions(40)),
        ("400 batches beside one another", Anything, batches(400)),
        ("9,000 batches beside one another", Anything, batches(9_000)),
        ("an identity of 2^16", NotAdmitted, chain(&[-1, 4], &eyes, &[row("n", &[1 << 16, 1 << 12])])),
        (
            "a million for each row",
            NotAdmitted,
            chain(&[-1, 4], &by_rows, &[row("f", &[1 << 22, 1 << 10]), floats("x1", &[1, 1], &[1.0])]),
        ),
    ]
}
