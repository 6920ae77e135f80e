//! Files whose sizes ask for more than any board has: refused by name, before anything is allocated.

use std::collections::{BTreeMap, BTreeSet};

use shoal_grad::MAX_HELD_BYTES;
use shoal_onnx::{Attribute, Constant, ConstantData, Datatype, Graph, Node, TensorSpec};

use super::super::{BatchNorm, Lowered, Wanted, lower};
use crate::failure::LearnError;

/// More than a dozen refusals may take together: half of what one of them asks for at least.
const MOST_TAKEN_BYTES: u64 = 2 << 30;

/// A node that reads what is before it, numbers of its own, and settings.
struct Step {
    op: &'static str,
    /// Names of what it reads; `#0` is the first of its own lists.
    inputs: Vec<&'static str>,
    lists: Vec<Vec<f64>>,
    settings: Vec<(&'static str, Attribute)>,
}

fn step(op: &'static str, inputs: &[&'static str], lists: &[&[f64]]) -> Step {
    let lists = lists.iter().map(|list| list.to_vec()).collect();
    Step { op, inputs: inputs.to_vec(), lists, settings: Vec::new() }
}

fn with(mut step: Step, name: &'static str, value: Attribute) -> Step {
    step.settings.push((name, value));
    step
}

/// A graph of these steps on `x`; each makes `y` and reads the last one's as `y`.
fn graph(steps: &[Step]) -> Graph {
    let mut initializers = BTreeMap::new();
    let mut nodes = Vec::new();
    for (place, step) in steps.iter().enumerate() {
        for (at, list) in step.lists.iter().enumerate() {
            let constant = Constant { dims: vec![list.len()], data: ConstantData::F64(list.clone()) };
            initializers.insert(format!("{place}#{at}"), constant);
        }
        let name = |input: &&str| match *input {
            "y" => format!("y{}", place - 1),
            own if own.starts_with('#') => format!("{place}{own}"),
            other => other.to_owned(),
        };
        nodes.push(Node {
            name: format!("n{place}"),
            op: step.op.to_owned(),
            inputs: step.inputs.iter().map(name).collect(),
            outputs: vec![format!("y{place}")],
            attributes: step
                .settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        });
    }
    let spec = |name: &str| TensorSpec {
        name: name.into(),
        datatype: Datatype::F32,
        dims: Vec::new(),
        ranked: false,
    };
    let last = format!("y{}", steps.len() - 1);
    Graph { opset: 17, inputs: vec![spec("x")], outputs: vec![spec(&last)], initializers, nodes }
}

fn lowered(steps: &[Step], x: &[usize]) -> Result<Lowered, LearnError> {
    let graph = graph(steps);
    let last = format!("y{}", steps.len() - 1);
    let wanted = Wanted {
        values: &[&last],
        inputs: &BTreeMap::from([("x".to_owned(), x.to_vec())]),
        trainable: &BTreeSet::new(),
        rank: None,
        batch_norm: BatchNorm::AsStored,
        room: MAX_HELD_BYTES,
    };
    lower(&graph, &wanted)
}

/// Most memory that this process has ever had.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

const HUGE: f64 = (1u64 << 40) as f64;
const MANY: f64 = (1u64 << 31) as f64;

/// `x` made large without memory, then a step that would need much.
fn on_expanded(sizes: &[f64], then: Step) -> Vec<Step> {
    vec![step("Expand", &["x", "#0"], &[sizes]), then]
}

fn ints(values: &[i64]) -> Attribute {
    Attribute::Ints(values.to_vec())
}

fn text(value: &str) -> Attribute {
    Attribute::Text(value.into())
}

fn movements() -> Vec<(Vec<Step>, &'static [usize])> {
    let pads = |pads: &[f64]| step("Pad", &["x", "#0"], &[pads]);
    let large = [(1u64 << 15) as f64, (1u64 << 15) as f64];
    vec![
        (vec![step("Tile", &["x", "#0"], &[&[HUGE]])], &[2]),
        (vec![step("Tile", &["x", "#0"], &[&[9e18]])], &[2]),
        (vec![step("Tile", &["x", "#0"], &[&[65536.0, 65536.0]])], &[2, 2]),
        (vec![pads(&[HUGE, HUGE])], &[2]),
        (vec![pads(&[9e18, 9e18])], &[2]),
        (vec![pads(&[30000.0, 30000.0, 30000.0, 30000.0])], &[2, 2]),
        (vec![with(pads(&[HUGE, 0.0]), "mode", text("reflect"))], &[2]),
        (vec![with(pads(&[0.0, HUGE]), "mode", text("edge"))], &[2]),
        (vec![step("Expand", &["x", "#0"], &[&[HUGE, HUGE]])], &[1]),
        (vec![step("Expand", &["x", "#0"], &[&[MANY, MANY]])], &[1]),
        (vec![step("ConstantOfShape", &["#0"], &[&[f64::from(1 << 28)]])], &[1]),
        (vec![step("ConstantOfShape", &["#0"], &[&[HUGE, HUGE]])], &[1]),
        (vec![step("Range", &["#0", "#1", "#2"], &[&[0.0], &[1e9], &[1.0]])], &[1]),
        (vec![step("Range", &["#0", "#1", "#2"], &[&[0.0], &[1.0], &[1e-300]])], &[1]),
        (vec![step("Range", &["#0", "#1", "#2"], &[&[0.0], &[1.0], &[0.0]])], &[1]),
        (vec![step("Resize", &["x", "", "#0"], &[&[HUGE, 1.0]])], &[2, 2]),
        (vec![step("Resize", &["x", "", "", "#0"], &[&[MANY, MANY]])], &[2, 2]),
        (on_expanded(&large, step("Trilu", &["y"], &[])), &[1]),
        (on_expanded(&large, step("Transpose", &["y"], &[])), &[1]),
        (on_expanded(&[MANY], step("Slice", &["y", "#0", "#1"], &[&[1.0], &[9e18]])), &[1]),
        (on_expanded(&[MANY, 1.0], step("Gather", &["y", "#0"], &[&[0.0, 0.0]])), &[1]),
        (on_expanded(&[1.0, MANY], step("GatherND", &["y", "#0"], &[&[0.0]])), &[1]),
        (on_expanded(&[MANY], with(step("Pad", &["y", "#0"], &[&[1.0, 1.0]]), "mode", text("edge"))), &[1]),
        (on_expanded(&[MANY, 1.0, 1.0], step("MatMul", &["y", "y"], &[])), &[1]),
        (vec![step("Reshape", &["x", "#0"], &[&[HUGE, HUGE, -1.0]])], &[4]),
        (vec![step("Reshape", &["x", "#0"], &[&[HUGE, HUGE]])], &[4]),
        (vec![with(step("DepthToSpace", &["x"], &[]), "blocksize", Attribute::Int(1 << 32))], &[1, 4, 2, 2]),
        (vec![with(step("SpaceToDepth", &["x"], &[]), "blocksize", Attribute::Int(1 << 31))], &[1, 4, 2, 2]),
    ]
}

fn windows() -> Vec<(Vec<Step>, &'static [usize])> {
    let pool = |pads: i64, kernel: i64| {
        let pool = with(step("MaxPool", &["x"], &[]), "kernel_shape", ints(&[kernel]));
        with(pool, "pads", ints(&[pads, pads]))
    };
    let weights = |op| with(step(op, &["x", "x"], &[]), "kernel_shape", ints(&[1]));
    vec![
        (vec![pool(i64::MAX, 1)], &[1, 1, 4]),
        (vec![pool(0, i64::MAX)], &[1, 1, 4]),
        (vec![with(pool(0, 2), "dilations", ints(&[i64::MAX]))], &[1, 1, 4]),
        (vec![with(weights("Conv"), "pads", ints(&[i64::MAX, i64::MAX]))], &[1, 1, 1]),
        (vec![with(weights("ConvTranspose"), "pads", ints(&[i64::MAX, i64::MAX]))], &[1, 1, 1]),
        (vec![with(weights("ConvTranspose"), "output_padding", ints(&[i64::MAX]))], &[1, 1, 1]),
    ]
}

#[test]
fn sizes_beyond_all_memory_are_refused_by_node_and_operator() {
    let before = peak_bytes();
    for (steps, x) in movements().into_iter().chain(windows()) {
        let named = format!("n{} ({})", steps.len() - 1, steps[steps.len() - 1].op);
        match lowered(&steps, x) {
            Err(LearnError::Op { node, op, source }) => {
                let source = source.to_string();
                assert_eq!(format!("{node} ({op})"), named, "{source}");
                assert!(source.contains(|c: char| c.is_ascii_digit()), "{named}: no size in `{source}`");
            }
            other => panic!("{named}: {:?}", other.map(|_made| ())),
        }
    }
    assert!(peak_bytes() < before + MOST_TAKEN_BYTES, "{} bytes", peak_bytes());
}

#[test]
fn what_fits_by_itself_does_not_fit_many_times() {
    let fill = || step("ConstantOfShape", &["#0"], &[&[f64::from(1 << 24)]]);
    let steps = [fill(), fill(), fill(), step("Sum", &["y0", "y1", "y2", "x"], &[])];
    let refused = lowered(&steps, &[1]).map(|_made| ()).unwrap_err();
    assert!(matches!(&refused, LearnError::Op { node, .. } if node == "n2"), "{refused}");
    assert!(refused.is_too_large());
}

#[test]
fn the_border_of_an_empty_axis_is_refused_unless_it_is_filled() {
    for (mode, is_right) in [("constant", true), ("edge", false), ("reflect", false), ("wrap", false)] {
        let pad = with(step("Pad", &["x", "#0"], &[&[0.0, 1.0, 0.0, 2.0]]), "mode", text(mode));
        match lowered(&[pad], &[2, 0]) {
            Ok(made) => {
                assert!(is_right, "{mode}");
                assert_eq!(made.tape.shape(made.values["y0"].id), [2, 3]);
            }
            Err(LearnError::Op { op, source, .. }) => {
                assert!(
                    !is_right && op == "Pad" && source.to_string().contains("axis 1 is empty"),
                    "{mode}: {source}"
                );
            }
            Err(other) => panic!("{mode}: {other}"),
        }
        // A border of nothing changes nothing.
        let nothing = with(step("Pad", &["x", "#0"], &[&[0.0, 0.0, 0.0, 0.0]]), "mode", text(mode));
        let made = lowered(&[nothing], &[2, 0]).unwrap();
        assert_eq!(made.tape.shape(made.values["y0"].id), [2, 0], "{mode}");
    }
}

#[test]
fn a_window_wider_than_all_channels_sees_each_once() {
    for channels in [0, 1, 3] {
        let response = |size| with(step("LRN", &["x"], &[]), "size", Attribute::Int(size));
        let made = lowered(&[response(i64::MAX)], &[1, channels, 2]).unwrap();
        assert_eq!(made.tape.shape(made.values["y0"].id), [1, channels, 2]);
    }
}
