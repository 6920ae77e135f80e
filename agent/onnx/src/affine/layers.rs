//! Operators that multiply with a matrix: the map goes into it, and its shift into the bias.

use tract_onnx::pb::NodeProto;

use crate::patch::AttributePatch;
use crate::refit::called;

use super::fold::{Axis, Carry, Fold, FoldError, int, refused};
use super::operands::Stored;

impl Fold<'_> {
    /// `alpha A' B' + beta C`.
    pub(super) fn gemm(&mut self, node: &NodeProto, carry: &Carry) -> Result<Carry, FoldError> {
        let matrix = self.stored(node, 1)?;
        let is_turned = int(node, "transB").unwrap_or(0) != 0;
        let place = usize::from(int(node, "transA").unwrap_or(0) == 0);
        self.along(node, Axis { place, rank: 2 })?;
        let shift = self.mix(node, &matrix, is_turned, carry)?;
        self.axis = Axis { place: 1, rank: 2 };
        let factor =
            |name: &str| node.attribute.iter().find(|a| a.name == name).map_or(1.0, |a| f64::from(a.f));
        let (alpha, beta) = (factor("alpha"), factor("beta"));
        let left = Carry::shifted(shift.iter().map(|shift| alpha * shift).collect());
        let has_bias = node.input.get(2).is_some_and(|name| !name.is_empty()) && beta != 0.0;
        if !left.is_shifted() || !has_bias {
            return Ok(left);
        }
        let part: Vec<f64> = left.shift.iter().map(|shift| shift / beta).collect();
        self.bias(node, 2, &part)
    }

    pub(super) fn mat_mul(&mut self, node: &NodeProto, carry: &Carry) -> Result<Carry, FoldError> {
        let matrix = self.stored(node, 1)?;
        let rank = self.axis.rank;
        self.along(node, Axis { place: rank.saturating_sub(1), rank })?;
        Ok(Carry::shifted(self.mix(node, &matrix, false, carry)?))
    }

    /// Checks that features lie where a node reads them.
    fn along(&self, node: &NodeProto, wanted: Axis) -> Result<(), FoldError> {
        let Axis { place, rank } = self.axis;
        if self.axis == wanted {
            return Ok(());
        }
        Err(refused(
            node,
            format!("features are axis {place} of {rank}, it wants {} of {}", wanted.place, wanted.rank),
        ))
    }

    /// Scales a matrix by the features; gives what the shift adds to each of its outputs.
    fn mix(
        &mut self,
        node: &NodeProto,
        matrix: &Stored,
        is_turned: bool,
        carry: &Carry,
    ) -> Result<Vec<f64>, FoldError> {
        let &[rows, columns] = matrix.dims.as_slice() else {
            return Err(refused(node, "its stored operand is no matrix"));
        };
        let (features, outputs) = if is_turned { (columns, rows) } else { (rows, columns) };
        if features != carry.width() {
            return Err(FoldError::Features { expected: features, got: carry.width() });
        }
        let mut shift = vec![0.0; outputs];
        let mut new = matrix.values.clone();
        for (at, value) in new.iter_mut().enumerate() {
            let (row, column) = (at / columns, at % columns);
            let (feature, output) = if is_turned { (column, row) } else { (row, column) };
            shift[output] += carry.shift[feature] * *value;
            *value *= carry.scale[feature];
        }
        self.store(node, matrix, &new)?;
        Ok(shift)
    }

    /// Adds to a stored bias, which has one number for each output.
    fn bias(&mut self, node: &NodeProto, slot: usize, part: &[f64]) -> Result<Carry, FoldError> {
        let old = self.stored(node, slot)?;
        if old.values.len() != part.len() || old.dims.last().is_some_and(|last| *last != part.len()) {
            return Err(refused(node, "its bias has not one number for each output"));
        }
        let new: Vec<f64> = old.values.iter().zip(part).map(|(old, part)| old + part).collect();
        self.store(node, &old, &new)?;
        Ok(Carry::identity(part.len()))
    }

    pub(super) fn conv(&mut self, node: &NodeProto, carry: &Carry) -> Result<Carry, FoldError> {
        let kernel = self.stored(node, 1)?;
        self.along(node, Axis { place: 1, rank: kernel.dims.len() })?;
        let [outputs, own, window @ ..] = kernel.dims.as_slice() else {
            return Err(refused(node, "its kernel has no channels"));
        };
        let (outputs, own, window) = (*outputs, *own, window.iter().product::<usize>());
        let groups = usize::try_from(int(node, "group").unwrap_or(1)).unwrap_or(0);
        if groups == 0 || own * groups != carry.width() || !outputs.is_multiple_of(groups) {
            return Err(FoldError::Features { expected: own * groups, got: carry.width() });
        }
        if carry.is_shifted() && pads(node) {
            return Err(refused(node, "it pads with zeros, which the shift would not reach"));
        }
        let mut shift = vec![0.0; outputs];
        let mut new = kernel.values.clone();
        for (at, value) in new.iter_mut().enumerate() {
            let (output, channel) = (at / (own * window), at / window % own);
            let channel = output / (outputs / groups) * own + channel;
            shift[output] += carry.shift[channel] * *value;
            *value *= carry.scale[channel];
        }
        self.store(node, &kernel, &new)?;
        let left = Carry::shifted(shift);
        let has_bias = node.input.get(2).is_some_and(|name| !name.is_empty());
        if left.is_shifted() && has_bias { self.bias(node, 2, &left.shift) } else { Ok(left) }
    }

    /// `((a x + c) - o) s` is `(x - (o - c) / a) (a s)`.
    pub(super) fn scaler(
        &mut self,
        place: usize,
        node: &NodeProto,
        carry: &Carry,
    ) -> Result<Carry, FoldError> {
        let (offset, scale) = (floats(node, "offset"), floats(node, "scale"));
        let rank = self.axis.rank;
        self.along(node, Axis { place: rank.saturating_sub(1), rank })?;
        if offset.len() == 1 && !carry.is_uniform() {
            return Err(refused(node, "it has one offset for all features"));
        }
        if offset.len() != scale.len() || (offset.len() != 1 && offset.len() != carry.width()) {
            return Err(FoldError::Features { expected: offset.len(), got: carry.width() });
        }
        let moved = offset
            .iter()
            .enumerate()
            .map(|(at, offset)| (offset - carry.shift[at]) / carry.scale[at])
            .collect();
        let scaled = scale.iter().zip(&carry.scale).map(|(old, scale)| old * scale).collect();
        self.set(place, node, "offset", moved);
        self.set(place, node, "scale", scaled);
        Ok(Carry::identity(carry.width()))
    }

    pub(super) fn linear(
        &mut self,
        place: usize,
        node: &NodeProto,
        carry: &Carry,
    ) -> Result<Carry, FoldError> {
        let (mut matrix, mut bias) = (floats(node, "coefficients"), floats(node, "intercepts"));
        let width = carry.width();
        self.along(node, Axis { place: 1, rank: 2 })?;
        if width == 0 || !matrix.len().is_multiple_of(width) {
            return Err(refused(node, "its coefficients do not go with the features"));
        }
        let mut shift = vec![0.0; matrix.len() / width];
        for (at, value) in matrix.iter_mut().enumerate() {
            shift[at / width] += carry.shift[at % width] * *value;
            *value *= carry.scale[at % width];
        }
        if bias.len() == shift.len() {
            bias.iter_mut().zip(&shift).for_each(|(bias, shift)| *bias += shift);
            self.set(place, node, "intercepts", bias);
        } else if shift.iter().any(|shift| *shift != 0.0) {
            return Err(refused(node, "it has no intercepts to take the shift in"));
        }
        self.set(place, node, "coefficients", matrix);
        Ok(Carry::identity(width))
    }

    fn set(&mut self, place: usize, node: &NodeProto, attribute: &str, values: Vec<f64>) {
        self.attributes.push(AttributePatch {
            place,
            node: called(node),
            attribute: attribute.into(),
            values,
        });
    }
}

fn floats(node: &NodeProto, name: &str) -> Vec<f64> {
    let found = node.attribute.iter().find(|attribute| attribute.name == name);
    found.map(|found| found.floats.iter().copied().map(f64::from).collect()).unwrap_or_default()
}

/// Whether a convolution may read beyond the edge.
fn pads(node: &NodeProto) -> bool {
    node.attribute.iter().any(|attribute| match attribute.name.as_str() {
        "pads" => attribute.ints.iter().any(|pad| *pad != 0),
        "auto_pad" => !matches!(attribute.s.as_slice(), b"" | b"NOTSET" | b"VALID"),
        _ => false,
    })
}
