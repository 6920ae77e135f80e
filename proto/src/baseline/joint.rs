//! The part of a baseline that looks at all inputs together: where rows lie, what their principal
//! components leave over, and how thick they stand.
//!
//! It holds for any vector of fixed length: the features of a row, or the activations before a model's
//! last layer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Values of a projected row at most.
pub const JOINT_MAX: usize = 32;
/// Inner edges of a ranking at most.
pub const EDGES_MAX: usize = 32;
/// Inputs at most: 4 MiB of means and scales is what a package may ask of a board.
pub const INPUTS_MAX: usize = 1 << 19;
/// Inputs at most for principal components.
pub const RESIDUAL_INPUTS_MAX: usize = 256;
/// Trees at most, and their greatest depth: all their nodes stay below 64 KiB.
pub const TREES_MAX: usize = 25;
/// See [`TREES_MAX`].
pub const DEPTH_MAX: usize = 8;

/// The reference of all inputs together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JointBaseline {
    /// What projection and trees are drawn from.
    pub seed: u64,
    /// Rows it was fitted to.
    pub rows: u64,
    /// Mean of each input.
    pub mean: Floats,
    /// One over the standard deviation of each input; nought for an input that never changed, which
    /// is left out.
    pub inverse: Floats,
    /// Mahalanobis distance after projection.
    pub distance: DistanceBaseline,
    /// What principal components leave over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residual: Option<ResidualBaseline>,
    /// Half-space trees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trees: Option<TreesBaseline>,
}

/// The reference of Mahalanobis distances in the projected space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistanceBaseline {
    /// Mean of the projected rows; its length is the number of projected values.
    pub centre: Floats,
    /// `L⁻¹`, where `L Lᵀ` is their shrunk covariance: the lower triangle, row by row.
    pub whitening: Floats,
    /// How much of the covariance is the shrinkage's target, in 0 … 1.
    pub shrinkage: f64,
    /// Mean of those squared distances, per projected value: one, but for what the fit does not know.
    pub spread: f64,
    /// Squared distances of rows to a fit that did not know them.
    pub ranks: Ranks,
    /// What each input usually adds to the squared distance of far rows, per row.
    pub usual: Floats,
}

/// The reference of squared lengths that principal components leave over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualBaseline {
    /// Orthonormal axes, one after the other, each as long as there are inputs.
    pub axes: Floats,
    /// The mean standardised row (which clipping moves from nought).
    pub centre: Floats,
    /// Share of the variance that they hold.
    pub explained: f64,
    /// Squared residuals of rows to axes that did not know them.
    pub ranks: Ranks,
    /// What each input usually adds to the squared residual of far rows, per row.
    pub usual: Floats,
}

/// The mass profile of half-space trees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreesBaseline {
    /// How many trees.
    pub trees: u32,
    /// Splits from the root to a leaf.
    pub depth: u32,
    /// Greatest and least standardised value of each input that the trees divide: least of all, then
    /// greatest of all.
    pub ranges: Floats,
    /// Share of the reference's rows in each node, tree by tree, in the order of a heap.
    pub mass: Floats,
    /// Scores of rows that their own mass was taken from.
    pub ranks: Ranks,
}

/// Reference ranks of a statistic whose great values are the strange ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranks {
    /// Inner edges, strictly rising: bin `i` holds `edges[i-1] <= x < edges[i]`. Twenty bins of equal
    /// mass, the last divided further as far as each part keeps enough rows.
    pub edges: Vec<f64>,
    /// Reference rows in each bin, one more than edges.
    pub counts: Vec<u64>,
    /// What is said of values beyond almost all of the reference.
    pub tail: Tail,
}

/// A generalised Pareto tail: of `rows + 1` in `n + 1` rows the value is beyond `from`, and the excess
/// there is above `y` with probability `(1 + shape·y/scale)^(-1/shape)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// Where it begins.
    pub from: f64,
    /// Reference rows beyond.
    pub rows: u64,
    /// Scale of the excess, above nought.
    pub scale: f64,
    /// Weight of the tail, nought (exponential) or more.
    pub shape: f64,
}

impl Ranks {
    /// The bin of a value.
    #[must_use]
    pub fn bin(&self, value: f64) -> usize {
        self.edges.partition_point(|edge| *edge <= value)
    }

    /// Whether bins, edges and tail fit each other.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let tail = self.tail;
        let finite = tail.from.is_finite() && tail.scale.is_finite() && tail.shape.is_finite();
        self.edges.len() <= EDGES_MAX
            && self.edges.iter().all(|edge| edge.is_finite())
            && self.edges.windows(2).all(|pair| pair[0] < pair[1])
            && self.counts.len() == self.edges.len() + 1
            && self.counts.iter().all(|count| *count < 1 << 48)
            && tail.rows <= self.counts.iter().sum()
            && finite
            && tail.scale > 0.0
            && tail.shape >= 0.0
    }
}

impl JointBaseline {
    /// Whether all lengths fit each other, all numbers are finite, and nothing is larger than a board
    /// can bear.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let inputs = self.mean.len();
        let small = (1..=INPUTS_MAX).contains(&inputs);
        let finite = [&self.mean, &self.inverse].iter().all(|values| values.is_finite());
        let fits = self.inverse.len() == inputs && self.inverse.iter().all(|inverse| *inverse >= 0.0);
        let live = self.inverse.iter().filter(|inverse| **inverse > 0.0).count();
        small
            && finite
            && fits
            && self.distance.is_sound(inputs, live)
            && self.residual.as_ref().is_none_or(|residual| residual.is_sound(inputs))
            && self.trees.as_ref().is_none_or(|trees| trees.is_sound(live))
    }
}

impl DistanceBaseline {
    fn is_sound(&self, inputs: usize, live: usize) -> bool {
        let to = self.centre.len();
        (1..=JOINT_MAX.min(live)).contains(&to)
            && self.whitening.len() == to * (to + 1) / 2
            && self.usual.len() == inputs
            && [&self.centre, &self.whitening, &self.usual].iter().all(|values| values.is_finite())
            && self.shrinkage.is_finite()
            && (self.spread.is_finite() && self.spread > 0.0)
            && self.ranks.is_sound()
    }
}

impl ResidualBaseline {
    fn is_sound(&self, inputs: usize) -> bool {
        inputs <= RESIDUAL_INPUTS_MAX
            && !self.axes.is_empty()
            && self.axes.len().is_multiple_of(inputs)
            && self.axes.len() / inputs <= inputs
            && self.centre.len() == inputs
            && self.usual.len() == inputs
            && [&self.axes, &self.centre, &self.usual].iter().all(|values| values.is_finite())
            && self.explained.is_finite()
            && self.ranks.is_sound()
    }
}

impl TreesBaseline {
    fn is_sound(&self, live: usize) -> bool {
        let (Ok(trees), Ok(depth)) = (usize::try_from(self.trees), usize::try_from(self.depth)) else {
            return false;
        };
        (1..=TREES_MAX).contains(&trees)
            && (1..=DEPTH_MAX).contains(&depth)
            && self.mass.len() == trees * ((2 << depth) - 1)
            && self.ranges.len() == 2 * live
            && [&self.mass, &self.ranges].iter().all(|values| values.is_finite())
            && self.ranks.is_sound()
    }
}

/// Numbers that are written as the base64 of their little-endian bytes where a person may read the
/// file, and as bytes elsewhere: exact, and a third as long as digits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Floats(pub Vec<f32>);

impl Floats {
    /// Whether no value is infinite or not a number.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.0.iter().all(|value| value.is_finite())
    }
}

impl std::ops::Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl From<Vec<f32>> for Floats {
    fn from(values: Vec<f32>) -> Self {
        Self(values)
    }
}

impl Serialize for Floats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|value| value.to_le_bytes()).collect();
        if serializer.is_human_readable() {
            serializer.serialize_str(&STANDARD.encode(bytes))
        } else {
            serializer.serialize_bytes(&bytes)
        }
    }
}

impl<'de> Deserialize<'de> for Floats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = if deserializer.is_human_readable() {
            STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?
        } else {
            serde_bytes::ByteBuf::deserialize(deserializer)?.into_vec()
        };
        let (values, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(D::Error::custom(format!("{} bytes are no whole number of f32", bytes.len())));
        }
        Ok(Self(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::{Baseline, BaselineError};

    fn joint() -> JointBaseline {
        let floats = |count: usize| Floats(vec![1.0; count]);
        let tail = Tail { from: 3.0, rows: 10, scale: 1.0, shape: 0.0 };
        let ranks = Ranks { edges: vec![1.0, 3.0], counts: vec![40, 50, 10], tail };
        let distance = DistanceBaseline {
            centre: floats(2),
            whitening: floats(3),
            shrinkage: 0.1,
            spread: 1.1,
            ranks: ranks.clone(),
            usual: floats(3),
        };
        let residual = ResidualBaseline {
            axes: floats(6),
            centre: floats(3),
            explained: 0.7,
            ranks: ranks.clone(),
            usual: floats(3),
        };
        let trees = TreesBaseline { trees: 2, depth: 1, ranges: floats(6), mass: floats(6), ranks };
        let (residual, trees) = (Some(residual), Some(trees));
        JointBaseline { seed: 7, rows: 100, mean: floats(3), inverse: floats(3), distance, residual, trees }
    }

    #[test]
    fn an_old_file_reads_and_keeps_its_bytes() {
        let old = br#"{"rows":100,"features":[],"predictions":null}"#;
        let baseline = Baseline::parse(old).unwrap();
        assert_eq!((&baseline.joint, &baseline.sensitivity, baseline.learned), (&None, &None, false));
        assert_eq!(baseline.to_bytes(), old);
    }

    #[test]
    fn a_joint_part_comes_back_from_json_and_from_cbor() {
        let joint = Some(joint());
        let sensitivity = Some(vec![0.25, 0.0]);
        let baseline = Baseline { rows: 100, joint, sensitivity, learned: true, ..Baseline::default() };
        assert_eq!(Baseline::parse(&baseline.to_bytes()).unwrap(), baseline);
        let cbor = crate::wire::to_cbor(&baseline);
        assert_eq!(crate::wire::from_cbor::<Baseline>(&cbor).unwrap(), baseline);
        assert!(cbor.len() < baseline.to_bytes().len());
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        type Break = fn(&mut JointBaseline);
        let cases: [Break; 12] = [
            |joint| joint.distance.spread = 0.0,
            |joint| joint.mean = Floats::default(),
            |joint| joint.inverse.0[0] = -1.0,
            |joint| joint.mean.0[0] = f32::NAN,
            |joint| joint.inverse.0.fill(0.0),
            |joint| joint.distance.whitening.0.truncate(2),
            |joint| joint.distance.centre.0 = vec![0.0; 4],
            |joint| joint.distance.ranks.edges.reverse(),
            |joint| joint.distance.ranks.tail.scale = 0.0,
            |joint| joint.residual.as_mut().unwrap().axes.0.truncate(5),
            |joint| joint.trees.as_mut().unwrap().mass.0.truncate(5),
            |joint| joint.trees.as_mut().unwrap().depth = 60,
        ];
        assert!(joint().is_sound());
        for (index, break_it) in cases.iter().enumerate() {
            let mut broken = joint();
            break_it(&mut broken);
            assert!(!broken.is_sound(), "case {index}");
            if broken.mean.is_finite() {
                let bytes = Baseline { joint: Some(broken), ..Baseline::default() }.to_bytes();
                assert_eq!(Baseline::parse(&bytes).unwrap_err(), BaselineError::Joint, "case {index}");
            }
        }
        assert!(serde_json::from_str::<Floats>("\"AAAA\"").is_err());
    }
}
