//! Tricks with the bytes themselves: protobuf, names, stored tensors.

use super::Expect::{self, Anything, NotAdmitted, PreCheck};
use super::craft::*;

/// Nodes of a long chain: the pre-check allows 10,000.
const LONG: usize = 100_000;
/// The longest chain that passes the pre-check by its number of nodes.
const LONG_ENOUGH: usize = 10_000;

fn good() -> Vec<u8> {
    one(&[-1, 4], "Add", &["x", "w"], &[], &[floats("w", &[4], &[1.0; 4])])
}

fn add(stored: Message) -> Vec<u8> {
    one(&[-1, 4], "Add", &["x", "w"], &[], &[stored])
}

fn relu(input: &str, output: &str) -> Message {
    node("Relu", &[input], &[output], &[])
}

/// `Relu` after `Relu`.
fn long(nodes: usize) -> Vec<u8> {
    let name = |at: usize| if at == 0 { "x".to_owned() } else { format!("v{at}") };
    let mut all: Vec<Message> = (1..nodes).map(|at| relu(&name(at - 1), &name(at))).collect();
    all.push(relu(&name(nodes - 1), "y"));
    chain(&[-1, 4], &all, &[])
}

/// `Add` of a value to itself, again and again: the paths through it double with each.
fn doubling(nodes: usize) -> Vec<u8> {
    let name = |at: usize| if at == 0 { "x".to_owned() } else { format!("v{at}") };
    let mut all = Vec::new();
    for at in 0..nodes {
        all.push(node("Add", &[&name(at), &name(at)], &[&name(at + 1)], &[]));
    }
    all.push(relu(&name(nodes), "y"));
    chain(&[-1, 4], &all, &[])
}

/// An `If` inside an `If` inside an `If` …
fn nested(depth: usize) -> Vec<u8> {
    let mut body = graph(&[relu("x", "z")], &[], &[], &[Message::new().text(1, "z")]);
    for _ in 0..depth {
        let deeper = node("If", &["c"], &["z"], &[inner("then_branch", &body), inner("else_branch", &body)]);
        body = graph(&[deeper], &[], &[], &[Message::new().text(1, "z")]);
        if body.0.len() > 1 << 20 {
            break;
        }
    }
    let last = node("If", &["c"], &["y"], &[inner("then_branch", &body), inner("else_branch", &body)]);
    chain(&[-1, 4], &[last], &[tensor("c", 9, &[]).packed(5, &[1])])
}

/// Messages inside messages that are not ONNX's.
fn bombs(depth: usize) -> Vec<u8> {
    let mut inside = Message::new();
    for _ in 0..depth {
        inside = Message::new().message(6, &Message::new().message(1, &Message::new().message(5, &inside)));
    }
    let attribute = Message::new().text(1, "g").raw(&inside.0);
    chain(&[-1, 4], &[node("Relu", &["x"], &["y"], &[attribute])], &[])
}

pub(super) fn cases() -> Vec<(&'static str, Expect, Vec<u8>)> {
    let g = good();
    let overlong = |value: &[u8]| [&[0x08][..], value, &g].concat();
    let external = tensor("w", 1, &[4])
        .int(14, 1)
        .message(13, &Message::new().text(1, "location").text(2, "../../../../etc/passwd"));
    let device = tensor("w", 1, &[4]).message(13, &Message::new().text(1, "location").text(2, "/dev/zero"));
    let many = |count: usize| (0..count).map(|at| value(&format!("i{at}"), 1, &[-1, 4])).collect::<Vec<_>>();
    let y = || [Message::new().text(1, "y")];
    let x = || [value("x", 1, &[-1, 4])];
    let settings: Vec<Message> = (0..60_000).map(|at| int(&format!("a{at}"), at)).collect();
    let long_name = "n".repeat(2 << 20);
    let function = Message::new().text(1, "Relu").text(10, "evil");
    let sparse = Message::new().message(1, &floats("w", &[1], &[1.0])).message(2, &row("i", &[0])).int(3, 4);
    vec![
        ("good", Anything, g.clone()),
        ("empty", PreCheck("no graph"), Vec::new()),
        ("text", PreCheck("damaged"), b"this is no model at all".to_vec()),
        ("zeros", PreCheck("not an ONNX"), vec![0; 4_096]),
        ("ones", PreCheck("damaged"), vec![0xff; 4_096]),
        ("half", PreCheck("damaged"), g[..g.len() / 2].to_vec()),
        ("two graphs", PreCheck("2 graphs"), [g.clone(), g.clone()].concat()),
        (
            "a graph in pieces",
            PreCheck("graphs"),
            [g.clone(), Message::new().message(7, &Message::new()).0].concat(),
        ),
        ("varint of eleven bytes", PreCheck("damaged"), overlong(&[0xff; 11])),
        ("varint longer than needed", Anything, overlong(&[0x88, 0x80, 0x80, 0x00])),
        ("a group", PreCheck("damaged"), [&[0x0b, 0x0c][..], &g].concat()),
        (
            "length beyond the end",
            PreCheck("damaged"),
            [&g[..], &[0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat(),
        ),
        (
            "length of 2^63",
            PreCheck("damaged"),
            [&[0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01][..], &g].concat(),
        ),
        ("field number 0", NotAdmitted, [&[0x02, 0x01, 0x00][..], &g].concat()),
        ("a graph that is a number", PreCheck("no graph"), Message::new().int(7, 3).0),
        ("graphs 40 deep", NotAdmitted, nested(40)),
        ("graphs 10 deep", Anything, nested(10)),
        ("messages 5,000 deep", PreCheck("nested"), bombs(5_000)),
        ("a million empty nodes", PreCheck("nodes"), chain(&[-1, 4], &vec![Message::new(); 1_000_000], &[])),
        ("100,000 nodes in a chain", PreCheck("nodes"), long(LONG)),
        ("10,000 nodes in a chain", Anything, long(LONG_ENOUGH)),
        ("60 doublings", Anything, doubling(60)),
        ("2,000 doublings", Anything, doubling(2_000)),
        (
            "60,000 settings",
            PreCheck("settings"),
            chain(&[-1, 4], &[node("Relu", &["x"], &["y"], &settings)], &[]),
        ),
        (
            "a name of 2 MiB",
            PreCheck("name has"),
            chain(&[-1, 4], &[relu("x", &long_name), relu(&long_name, "y")], &[]),
        ),
        ("5,000 inputs", PreCheck("5000"), file(&graph(&[relu("i0", "y")], &[], &many(5_000), &y()))),
        (
            "no input",
            NotAdmitted,
            file(&graph(&[node("Constant", &[], &["y"], &[float("value_float", 1.0)])], &[], &[], &y())),
        ),
        ("no node", PreCheck("no node"), chain(&[-1, 4], &[], &[])),
        ("no output", NotAdmitted, file(&graph(&[relu("x", "y")], &[], &x(), &[]))),
        ("external data", PreCheck("another file"), add(external)),
        ("external /dev/zero", PreCheck("another file"), add(device)),
        (
            "a function",
            NotAdmitted,
            [
                chain(&[-1, 4], &[relu("x", "y").text(7, "evil")], &[]),
                Message::new().message(25, &function).0,
            ]
            .concat(),
        ),
        (
            "a sparse tensor",
            PreCheck("sparse"),
            file(&graph(&[node("Add", &["x", "w"], &["y"], &[])], &[], &x(), &y()).message(15, &sparse)),
        ),
        ("a cycle", PreCheck("reads"), chain(&[-1, 4], &[relu("y", "z"), relu("z", "y")], &[])),
        ("a node that reads itself", PreCheck("reads"), chain(&[-1, 4], &[relu("y", "y")], &[])),
        ("dangling", PreCheck("reads"), chain(&[-1, 4], &[relu("nothing", "y")], &[])),
        ("made twice", PreCheck("two values"), chain(&[-1, 4], &[relu("x", "y"), relu("x", "y")], &[])),
        ("an input made again", NotAdmitted, chain(&[-1, 4], &[relu("x", "x"), relu("x", "y")], &[])),
        (
            "an output that is an input",
            Anything,
            file(&graph(&[relu("x", "y")], &[], &x(), &[Message::new().text(1, "x")])),
        ),
        (
            "the same output twice",
            PreCheck("two values"),
            file(&graph(
                &[relu("x", "y")],
                &[],
                &x(),
                &[Message::new().text(1, "y"), Message::new().text(1, "y")],
            )),
        ),
        ("4 TB of weights", PreCheck("limit"), add(tensor("w", 1, &[1 << 40]))),
        ("sizes over 2^80", PreCheck("no sense"), add(tensor("w", 1, &[i64::MAX, i64::MAX, 1 << 20]))),
        ("a negative size", PreCheck("no sense"), add(tensor("w", 1, &[-4]))),
        ("too few weights", PreCheck("holds"), add(tensor("w", 1, &[4]).bytes(9, &[0; 12]))),
        ("too many weights", PreCheck("holds"), add(tensor("w", 1, &[4]).bytes(9, &[0; 400]))),
        ("weights in both places", PreCheck("twice"), add(floats("w", &[4], &[1.0; 4]).packed(4, &[0; 4]))),
        ("weights of type 99", PreCheck("not served"), add(tensor("w", 99, &[4]).bytes(9, &[0; 16]))),
        ("weights of 4 bits", PreCheck("not served"), add(tensor("w", 22, &[4]).bytes(9, &[0; 2]))),
        ("a weight of text", NotAdmitted, add(tensor("w", 8, &[1]).text(6, "boo"))),
        ("weights that are no numbers", NotAdmitted, add(floats("w", &[4], &[f32::NAN; 4]))),
        ("weights that are infinite", NotAdmitted, add(floats("w", &[4], &[f32::INFINITY; 4]))),
        ("weights that are denormal", Anything, add(floats("w", &[4], &[1e-42; 4]))),
        ("an empty weight", Anything, add(floats("w", &[0], &[]))),
        ("rank 1,000", PreCheck("axes"), add(floats("w", &[1; 1_000], &[1.0]))),
        ("input of rank 1,000", PreCheck("axes"), one(&[1; 1_000], "Relu", &["x"], &[], &[])),
        ("input of 2^40", PreCheck("one row"), one(&[-1, 1 << 40], "Relu", &["x"], &[], &[])),
        ("input of 2^62", PreCheck("one row"), one(&[4, 1 << 62], "Relu", &["x"], &[], &[])),
        ("input of 2^28", PreCheck("one row"), one(&[-1, 1 << 28], "Relu", &["x"], &[], &[])),
        (
            "input without shape",
            NotAdmitted,
            file(&graph(
                &[relu("x", "y")],
                &[],
                &[Message::new()
                    .text(1, "x")
                    .message(2, &Message::new().message(1, &Message::new().int(1, 1)))],
                &y(),
            )),
        ),
        ("a random operator", PreCheck("random"), one(&[-1, 4], "RandomNormalLike", &["x"], &[], &[])),
        ("an unknown operator", PreCheck("unknown"), one(&[-1, 4], "Zorp", &["x"], &[], &[])),
        ("a foreign domain", PreCheck("domain"), chain(&[-1, 4], &[relu("x", "y").text(7, "evil")], &[])),
    ]
}
