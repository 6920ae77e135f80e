//! From file to file: half precision, and the linear models of scikit-learn's exports.

#![expect(clippy::unwrap_used, reason = "the lint's exception for tests does not reach their helpers")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use shoal_infer::{Predictor, TensorData};
use shoal_learn::*;
use shoal_onnx::{ConstantData, Datatype, Limits, OnnxModel};

/// Protobuf, as far as a small file needs it.
mod wire {
    pub(super) fn number(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    pub(super) fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
        let value = value.as_ref();
        [varint((field << 3) | 2), varint(value.len() as u64), value.to_vec()].concat()
    }

    pub(super) fn text(field: u64, value: &str) -> Vec<u8> {
        bytes(field, value)
    }

    fn varint(mut value: u64) -> Vec<u8> {
        let mut made = Vec::new();
        while value >= 0x80 {
            made.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        made.push(value.to_le_bytes()[0]);
        made
    }
}
use wire::{bytes, number, text};

const SINGLE: u64 = 1;
const HALF: u64 = 10;

/// How a file keeps its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Single,
    Half,
    /// Half precision in a form whose length varies with the value.
    HalfAsNumbers,
}

impl Kept {
    fn code(self) -> u64 {
        if self == Self::Single { SINGLE } else { HALF }
    }
}

/// Bits of a number that half precision holds exactly.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let narrow = |bits: u32| u16::try_from(bits).unwrap();
    let sign = narrow((bits >> 16) & 0x8000);
    if value == 0.0 {
        return sign;
    }
    let exponent = (bits >> 23) & 0xff;
    assert!((113..143).contains(&exponent) && bits & 0x1fff == 0, "{value} is no half");
    sign | narrow((exponent - 112) << 10) | narrow((bits >> 13) & 0x3ff)
}

fn tensor(name: &str, dims: &[u64], values: &[f32], kept: Kept) -> Vec<u8> {
    let mut made: Vec<u8> = dims.iter().flat_map(|dim| number(1, *dim)).collect();
    made.extend([number(2, kept.code()), text(8, name)].concat());
    made.extend(match kept {
        Kept::Single => bytes(9, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()),
        Kept::Half => {
            bytes(9, values.iter().flat_map(|value| half(*value).to_le_bytes()).collect::<Vec<u8>>())
        }
        Kept::HalfAsNumbers => values.iter().flat_map(|value| number(5, half(*value).into())).collect(),
    });
    bytes(5, made)
}

fn interface(field: u64, name: &str, columns: u64, code: u64) -> Vec<u8> {
    let open = bytes(1, text(2, "N"));
    let shape = [open, bytes(1, number(1, columns))].concat();
    let kind = bytes(1, [number(1, code), bytes(2, shape)].concat());
    bytes(field, [text(1, name), bytes(2, kind)].concat())
}

fn node(op: &str, domain: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut made: Vec<u8> = inputs.iter().flat_map(|name| text(1, name)).collect();
    made.extend(outputs.iter().flat_map(|name| text(2, name)));
    made.extend([text(3, &format!("{op}_node")), text(4, op)].concat());
    made.extend(attributes.iter().flat_map(|attribute| bytes(5, attribute)));
    made.extend(text(7, domain));
    bytes(1, made)
}

fn floats(name: &str, values: &[f32]) -> Vec<u8> {
    let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [text(1, name), bytes(7, packed), number(20, 6)].concat()
}

fn word(name: &str, value: &str) -> Vec<u8> {
    [text(1, name), bytes(4, value), number(20, 3)].concat()
}

fn whole(name: &str, value: u64) -> Vec<u8> {
    [text(1, name), number(3, value), number(20, 2)].concat()
}

fn wholes(name: &str, values: std::ops::Range<u64>) -> Vec<u8> {
    [text(1, name), values.flat_map(|value| number(8, value)).collect(), number(20, 7)].concat()
}

fn file(graph: &[Vec<u8>]) -> Vec<u8> {
    let set = |domain: &str, version| bytes(8, [text(1, domain), number(2, version)].concat());
    [number(1, 8), bytes(7, graph.concat()), set("", 17), set("ai.onnx.ml", 3)].concat()
}

/// Numbers in -1/2 to 1/2, in steps of 1/256: exact in half precision.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u8::try_from(state >> 24).unwrap())
    };
    (0..count).map(|_| (next() - 128.0) / 256.0).collect()
}

/// Eight features, a rectified layer of sixteen, three scores.
fn network(kept: Kept) -> Vec<u8> {
    let stored = [
        tensor("w1", &[8, 16], &numbers(128, 1), kept),
        tensor("b1", &[16], &numbers(16, 2), kept),
        tensor("w2", &[16, 3], &numbers(48, 3), kept),
        tensor("b2", &[3], &numbers(3, 4), kept),
    ];
    file(&[
        node("Gemm", "", &["x", "w1", "b1"], &["h"], &[]),
        node("Relu", "", &["h"], &["r"], &[]),
        node("MatMul", "", &["r", "w2"], &["m"], &[]),
        node("Add", "", &["m", "b2"], &["y"], &[]),
        text(2, "g"),
        stored.concat(),
        interface(11, "x", 8, kept.code()),
        interface(12, "y", 3, kept.code()),
    ])
}

/// The largest of the first features is the class.
fn rows(width: usize, classes: usize) -> Dataset {
    const ROWS: usize = 48;
    let features = numbers(ROWS * width, 9);
    let class = |row: &[f32]| {
        let best = (0..classes).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        u32::try_from(best).unwrap()
    };
    let targets = Targets::Classes(features.chunks(width).map(class).collect());
    Dataset::new(width, features, targets, vec![]).unwrap()
}

fn train(onnx: &[u8], data: &Dataset, recipe: &Recipe) -> Trained {
    fine_tune(onnx, &mut data.clone(), recipe, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn served(onnx: &[u8], data: &Dataset) -> Vec<f32> {
    let predictor = Predictor::load(onnx, &Limits::default()).unwrap();
    predictor.rows(data.len(), data.features()).unwrap().values
}

/// Stored tensors, half precision widened.
fn stored(onnx: &[u8]) -> BTreeMap<String, Vec<f32>> {
    let graph = OnnxModel::parse(onnx, &Limits::default()).unwrap().training_graph();
    let floats = |(name, constant): (String, shoal_onnx::Constant)| match constant.data {
        ConstantData::F32(values) => Some((name, values)),
        _ => None,
    };
    graph.initializers.into_iter().filter_map(floats).collect()
}

/// Half of the last place of half precision, and of its smallest number.
fn rounding(value: f32) -> f32 {
    (value.abs() / 2048.0).max(0.5f32.powi(25))
}

#[test]
fn half_precision_is_trained_in_single_and_rounded_once() {
    let (halves, singles) = (network(Kept::Half), network(Kept::Single));
    let data = rows(8, 3);
    let recipe = Recipe { learning_rate: 1e-2, epochs: 20, batch: 16, seed: 3, ..Recipe::default() };
    let (trained, master) = (train(&halves, &data, &recipe), train(&singles, &data, &recipe));
    assert!(trained.last_loss < 0.7 * trained.first_loss, "{} {}", trained.first_loss, trained.last_loss);
    assert_eq!((trained.first_loss, trained.last_loss), (master.first_loss, master.last_loss));
    assert_eq!(trained.parameters, ["w1", "b1", "w2", "b2"]);

    // Written as it was: half precision, nothing else touched.
    assert_eq!(trained.onnx.len(), halves.len());
    let kinds = |onnx: &[u8]| OnnxModel::parse(onnx, &Limits::default()).unwrap().graph();
    let (before, after) = (kinds(&halves), kinds(&trained.onnx));
    assert_eq!(
        (&before.nodes, &before.inputs, &before.outputs),
        (&after.nodes, &after.inputs, &after.outputs)
    );
    assert!(after.initializers.values().all(|constant| constant.datatype() == Datatype::F16));

    // The weights are those of the run in single precision, rounded once.
    let (rounded, exact) = (stored(&trained.onnx), stored(&master.onnx));
    let mut moved = 0;
    for (name, exact) in &exact {
        for (rounded, exact) in rounded[name].iter().zip(exact) {
            assert!((rounded - exact).abs() <= rounding(*exact), "{name}: {rounded} {exact}");
            moved += usize::from(rounded != exact);
        }
    }
    assert!(moved > 100, "{moved} numbers were rounded");

    // What is served agrees with what was trained, to the rounding of 11 bits over two layers.
    for (rounded, exact) in served(&trained.onnx, &data).iter().zip(served(&master.onnx, &data)) {
        assert!((rounded - exact).abs() <= 4e-3 * exact.abs().max(1.0), "{rounded} {exact}");
    }
    let again = gradients(&trained.onnx, &mut data.clone()).unwrap().loss;
    assert!((again - trained.last_loss).abs() < 2e-3, "{again} {}", trained.last_loss);
    assert_eq!(train(&halves, &data, &recipe), trained, "the same again");
}

#[test]
fn a_resumed_run_in_half_precision_ends_with_the_same_bytes() {
    let (onnx, data) = (network(Kept::Half), rows(8, 3));
    let recipe = Recipe { learning_rate: 1e-2, epochs: 4, batch: 16, seed: 3, ..Recipe::default() };
    let whole = train(&onnx, &data, &recipe);
    for stopped in [1, 5, 11] {
        let mut source = data.clone();
        let mut first = Session::new(&onnx, &mut source, None, &recipe).unwrap();
        for _ in 0..stopped {
            first.step().unwrap();
        }
        let text = serde_json::to_string(&first.checkpoint()).unwrap();
        let mut source = data.clone();
        let mut again = Session::new(&onnx, &mut source, None, &recipe).unwrap();
        again.resume(&serde_json::from_str(&text).unwrap()).unwrap();
        while again.step().unwrap().is_some() {}
        assert_eq!(again.finish().unwrap(), whole, "stopped after {stopped}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_the_first_step() {
    let onnx = network(Kept::HalfAsNumbers);
    let mut source = rows(8, 3);
    let refused = Session::new(&onnx, &mut source, None, &Recipe::default()).unwrap_err();
    assert!(
        matches!(&refused, LearnError::Patch(cause) if cause.to_string().contains("`w1`")),
        "{refused:?}"
    );
}

/// A linear model with what follows it, and what its loss is.
struct Linear {
    onnx: Vec<u8>,
    parameters: &'static [&'static str],
    loss: Loss,
}

#[derive(Debug, Clone, Copy)]
enum Loss {
    Scores,
    Probabilities,
    Squares,
}

const BOTH: &[&str] = &["LinearClassifier_node/coefficients", "LinearClassifier_node/intercepts"];

fn classifier(rows: usize, classes: u64, post: &str, is_normalised: bool, loss: Loss) -> Linear {
    let mut coefficients = numbers(rows * 4, 5);
    let mut intercepts = numbers(rows, 6);
    if (rows, classes) == (2, 2) {
        // As skl2onnx writes a binary model: both signs.
        let (first, second) = coefficients.split_at_mut(4);
        first.iter_mut().zip(second).for_each(|(first, second)| *first = -*second);
        intercepts[0] = -intercepts[1];
    }
    let scores = if is_normalised { "p" } else { "y" };
    let attributes = [
        wholes("classlabels_ints", 0..classes),
        floats("coefficients", &coefficients),
        floats("intercepts", &intercepts),
        word("post_transform", post),
    ];
    let mut graph = vec![node("LinearClassifier", "ai.onnx.ml", &["x"], &["label", scores], &attributes)];
    if is_normalised {
        graph.push(node("Normalizer", "ai.onnx.ml", &["p"], &["y"], &[word("norm", "L1")]));
    }
    let label = interface(12, "label", 1, 7);
    graph.extend([text(2, "g"), interface(11, "x", 4, SINGLE), label, interface(12, "y", classes, SINGLE)]);
    Linear { onnx: file(&graph), parameters: BOTH, loss }
}

fn regressor(has_intercepts: bool) -> Linear {
    let mut attributes = vec![floats("coefficients", &numbers(8, 5)), whole("targets", 2)];
    if has_intercepts {
        attributes.push(floats("intercepts", &numbers(2, 6)));
    }
    let graph = [
        node("LinearRegressor", "ai.onnx.ml", &["x"], &["y"], &attributes),
        text(2, "g"),
        interface(11, "x", 4, SINGLE),
        interface(12, "y", 2, SINGLE),
    ];
    let both: &[&str] = &["LinearRegressor_node/coefficients", "LinearRegressor_node/intercepts"];
    let parameters = if has_intercepts { both } else { &both[..1] };
    Linear { onnx: file(&graph), parameters, loss: Loss::Squares }
}

/// The loss of what a file serves.
fn loss_served(onnx: &[u8], data: &Dataset, loss: Loss) -> f64 {
    let made: Vec<f64> = served(onnx, data).into_iter().map(f64::from).collect();
    let columns = made.len() / data.len();
    let of_class = |row: &[f64], class: u32| match loss {
        Loss::Scores => row.iter().map(|score| score.exp()).sum::<f64>().ln() - row[class as usize],
        _ => -row[class as usize].ln(),
    };
    match data.targets() {
        Targets::Classes(classes) => {
            let sum: f64 = made.chunks(columns).zip(classes).map(|(row, class)| of_class(row, *class)).sum();
            sum / data.len() as f64
        }
        Targets::Values { values, .. } => {
            let sum: f64 = made.iter().zip(values).map(|(a, b)| (a - f64::from(*b)).powi(2)).sum();
            sum / made.len() as f64
        }
    }
}

#[test]
fn weights_in_the_nodes_of_linear_models_are_trained() {
    let three = |post, is_normalised, loss| (classifier(3, 3, post, is_normalised, loss), rows(4, 3));
    let two =
        |count, post, is_normalised, loss| (classifier(count, 2, post, is_normalised, loss), rows(4, 2));
    let values = |model| {
        let values = rows(4, 2).features().chunks(4).flat_map(|row| [row[0] - row[1], row[2]]).collect();
        let data =
            Dataset::new(4, rows(4, 2).features().to_vec(), Targets::Values { width: 2, values }, vec![]);
        (model, data.unwrap())
    };
    let models = [
        three("SOFTMAX", false, Loss::Probabilities),
        three("SOFTMAX", true, Loss::Probabilities),
        three("SOFTMAX_ZERO", false, Loss::Probabilities),
        three("LOGISTIC", true, Loss::Probabilities),
        three("NONE", false, Loss::Scores),
        two(2, "LOGISTIC", true, Loss::Probabilities),
        two(1, "LOGISTIC", false, Loss::Probabilities),
        two(1, "LOGISTIC", true, Loss::Probabilities),
        two(1, "NONE", false, Loss::Scores),
        values(regressor(true)),
        values(regressor(false)),
    ];
    for (place, (model, data)) in models.iter().enumerate() {
        assert_eq!(trainable_parameters(&model.onnx).unwrap(), model.parameters, "{place}");
        let listed = plan(&model.onnx, &Recipe::default(), &[1]).unwrap().tensors;
        assert!(
            listed.iter().filter(|tensor| tensor.role.is_ok()).count() == model.parameters.len(),
            "{place}"
        );
        // Gradients are slopes of the loss, which is that of what is served.
        let mut slopes = Slopes::<f64>::new(&model.onnx, &mut data.clone(), LossKind::Auto).unwrap();
        let at = slopes.at(&BTreeMap::new(), 0.0);
        let loss = loss_served(&model.onnx, data, model.loss);
        assert!((at.loss - loss).abs() < 1e-5, "{place}: {} {loss}", at.loss);
        for (name, gradient) in &at.by {
            for element in 0..gradient.len() {
                let mut direction = vec![0.0; gradient.len()];
                direction[element] = 1.0;
                let along = BTreeMap::from([(name.clone(), direction)]);
                let slope = (slopes.at(&along, 1e-5).loss - slopes.at(&along, -1e-5).loss) / 2e-5;
                assert!((slope - gradient[element]).abs() < 1e-8, "{place} {name} {element}: {slope}");
            }
        }
        // The file serves what was trained.
        let recipe = Recipe { learning_rate: 3e-2, epochs: 20, batch: 16, ..Recipe::default() };
        let trained = train(&model.onnx, data, &recipe);
        assert!(trained.last_loss < 0.8 * trained.first_loss, "{place}: {trained:?}");
        let loss = loss_served(&trained.onnx, data, model.loss);
        assert!((trained.last_loss - loss).abs() < 1e-5, "{place}: {} {loss}", trained.last_loss);
        assert_eq!(trained.onnx.len(), model.onnx.len());
        assert_eq!(trained.parameters, model.parameters);
        assert_eq!(train(&model.onnx, data, &recipe), trained, "{place}: the same again");
    }
    let probit = classifier(3, 3, "PROBIT", false, Loss::Scores);
    let refused = trainable_parameters(&probit.onnx).unwrap_err();
    assert!(refused.to_string().contains("ai.onnx.ml.LinearClassifier"), "{refused}");
}

#[test]
fn gradients_of_a_logistic_regression_are_pytorchs() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/zoo");
    let read = |name: &str| std::fs::read(format!("{folder}/skl_logreg.{name}")).unwrap();
    let arrays = shoal_infer::read_npz(&read("grad.npz")).unwrap();
    let find = |name: &str| arrays.iter().find(|array| array.name == name).unwrap();
    let classes = find("t").i64s().unwrap().iter().map(|class| u32::try_from(*class).unwrap()).collect();
    let features = find("x").f32s().unwrap().to_vec();
    let mut data = Dataset::new(6, features, Targets::Classes(classes), vec![]).unwrap();
    let found =
        Slopes::<f64>::new(&read("onnx"), &mut data, LossKind::Auto).unwrap().at(&BTreeMap::new(), 0.0);
    assert_eq!(found.by.len(), 2);
    for (name, gradient) in &found.by {
        let TensorData::F64(wanted) = &find(&format!("g:{name}")).data else { panic!("{name}") };
        assert_eq!(gradient.len(), wanted.len());
        let apart = gradient.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-6, "{name}: {apart}");
    }
}
