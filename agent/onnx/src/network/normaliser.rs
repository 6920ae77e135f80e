//! The scaling that a network begins with: written as nodes, and computed for rows at hand.

use tract_onnx::pb::GraphProto;

use super::{NORMALISER_PREFIX, NetworkError, node, store};

/// `clip((y - mean) / std, -clip, clip)`, where `y` is `asinh(x / s)` of a feature that bends and `x` of all
/// others.
///
/// An infinite feature comes out as ± `clip`; one that is no number stays none, and reaches no other feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Normaliser {
    /// `s` for each feature, zero for one that does not bend; empty when none does.
    pub bend: Vec<f32>,
    /// One for each feature.
    pub mean: Vec<f32>,
    /// One for each feature, above zero.
    pub std: Vec<f32>,
    /// Above zero; bounds how far a broken sensor can push the network.
    pub clip: f32,
}

/// What features are cut at before they are multiplied by nought, where only some bend: the engine's `asinh` of
/// more than half the largest number of 32 bits is infinite.
const FINITE: f32 = 1e38;
/// Does nothing for one feature.
const PLAIN: (f32, f32) = (1.0, 0.0);

impl Normaliser {
    /// What each feature is multiplied by first, and whether it bends: one or zero.
    fn gains(&self) -> impl Iterator<Item = (f32, f32)> + Clone + '_ {
        self.bend.iter().map(|s| if *s > 0.0 { (1.0 / s, 1.0) } else { PLAIN })
    }

    /// Scales rows of features in place: what the written nodes compute.
    pub fn apply(&self, rows: &mut [f32]) {
        self.bend_rows(rows);
        let columns = self.mean.iter().zip(&self.std).cycle();
        for (value, (mean, std)) in rows.iter_mut().zip(columns) {
            *value = ((*value - mean) / std).clamp(-self.clip, self.clip);
        }
    }

    /// Only bends them.
    pub fn bend_rows(&self, rows: &mut [f32]) {
        for (value, (gain, bent)) in rows.iter_mut().zip(self.gains().cycle()) {
            if bent > 0.0 {
                *value = (*value * gain).asinh();
            }
        }
    }

    /// Writes the nodes that scale `features`; gives the name of what they make.
    pub(super) fn write(&self, graph: &mut GraphProto, width: usize) -> Result<String, NetworkError> {
        let name = |part: &str| format!("{NORMALISER_PREFIX}{part}");
        let not_above_zero = self.std.iter().chain([&self.clip]).find(|v| **v <= 0.0);
        if let Some(value) = not_above_zero {
            return Err(NetworkError::Value { name: name("std"), value: value.to_string() });
        }
        let value = self.write_bend(graph, width)?;
        store(graph, &name("mean"), &[width], &self.mean)?;
        store(graph, &name("std"), &[width], &self.std)?;
        store(graph, &name("low"), &[], &[-self.clip])?;
        store(graph, &name("high"), &[], &[self.clip])?;
        graph.node.push(node("Sub", &[&value, &name("mean")], &name("centred"), Vec::new()));
        graph.node.push(node("Div", &[&name("centred"), &name("std")], &name("scaled"), Vec::new()));
        let operands = [&*name("scaled"), &name("low"), &name("high")];
        graph.node.push(node("Clip", &operands, &name("features"), Vec::new()));
        Ok(name("features"))
    }

    /// The bend: `Sub` of nought and `Mul` first, so that a map of the input can be folded in; then `Asinh`.
    ///
    /// Where some features do not bend, both forms are computed, each multiplied by one or nought and added:
    /// exact, since everything was cut at [`FINITE`] before, and without a choice of each number.
    fn write_bend(&self, graph: &mut GraphProto, width: usize) -> Result<String, NetworkError> {
        let (gains, bent): (Vec<f32>, Vec<f32>) = self.gains().unzip();
        let plain: Vec<f32> = bent.iter().map(|bent| 1.0 - bent).collect();
        if bent.iter().all(|bent| *bent == 0.0) {
            return Ok("features".to_owned());
        }
        let name = |part: &str| format!("{NORMALISER_PREFIX}{part}");
        let push = |graph: &mut GraphProto, op: &str, operands: &[&str], output: &str| {
            graph.node.push(node(op, operands, &name(output), Vec::new()));
            name(output)
        };
        store(graph, &name("shift"), &[width], &vec![0.0; width])?;
        store(graph, &name("gain"), &[width], &gains)?;
        let moved = push(graph, "Sub", &["features", &name("shift")], "moved");
        let gained = push(graph, "Mul", &[&moved, &name("gain")], "gained");
        if plain.iter().all(|plain| *plain == 0.0) {
            return Ok(push(graph, "Asinh", &[&gained], "bent"));
        }
        store(graph, &name("least"), &[], &[-FINITE])?;
        store(graph, &name("most"), &[], &[FINITE])?;
        store(graph, &name("bends"), &[width], &bent)?;
        store(graph, &name("plain"), &[width], &plain)?;
        let finite = push(graph, "Clip", &[&gained, &name("least"), &name("most")], "finite");
        let asinh = push(graph, "Asinh", &[&finite], "asinh");
        let curved = push(graph, "Mul", &[&asinh, &name("bends")], "curved");
        let straight = push(graph, "Mul", &[&finite, &name("plain")], "straight");
        Ok(push(graph, "Add", &[&curved, &straight], "bent"))
    }
}
