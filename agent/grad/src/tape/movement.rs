//! Elements taken to other places, on a tape.

use std::sync::Arc;

use super::{Id, Tape, elements};
use crate::error::GradError;
use crate::kernel::movement::{Axis, LookUp, Places};
use crate::op::Op;

impl Tape {
    /// The same elements in another shape.
    ///
    /// # Errors
    /// [`GradError::Shape`] when the shape has another number of elements.
    pub fn view(&mut self, x: Id, shape: &[usize]) -> Result<Id, GradError> {
        if self.shape(x) == shape {
            return Ok(x);
        }
        if Some(self.len(x)) != elements(shape) {
            return Err(GradError::shape(format!("sizes {:?} are not {shape:?}", self.shape(x))));
        }
        self.one(Op::View, &[x], shape.to_vec())
    }

    /// Puts axes into another order: axis i of the result is axis `order[i]`.
    ///
    /// # Errors
    /// [`GradError::Shape`] when it is no order of the axes.
    pub fn transpose(&mut self, x: Id, order: &[usize]) -> Result<Id, GradError> {
        let shape = self.shape(x).to_vec();
        let mut seen = order.to_vec();
        seen.sort_unstable();
        if !seen.into_iter().eq(0..shape.len()) {
            return Err(GradError::shape(format!("{order:?} is no order of the axes of {shape:?}")));
        }
        self.may_walk(&shape)?;
        let all = |axis: &usize| (*axis, (0..shape[*axis]).map(Some).collect());
        let axes: Vec<(usize, Vec<Option<usize>>)> = order.iter().map(all).collect();
        self.take(x, &axes, 0.0)
    }

    /// Takes along each axis: for each axis of the result, the axis of `x` it walks and which indices;
    /// `None` becomes `fill`. An axis of `x` that is not named stays at nought; an axis number beyond
    /// those of `x` repeats.
    ///
    /// # Errors
    /// [`GradError::Shape`] when an index is not there, [`GradError::Room`] when the map is too large.
    pub fn take(&mut self, x: Id, axes: &[(usize, Vec<Option<usize>>)], fill: f64) -> Result<Id, GradError> {
        let shape = self.shape(x).to_vec();
        let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
        let mut from = Vec::with_capacity(axes.len());
        for (axis, indices) in axes {
            let size = shape.get(*axis).copied();
            if let Some(index) =
                indices.iter().flatten().find(|index| size.is_some_and(|size| **index >= size))
            {
                return Err(GradError::shape(format!("index {index} on axis {axis} of sizes {shape:?}")));
            }
            let stride = if size.is_some() { stride(*axis) } else { 0 };
            from.push(Axis { indices: indices.clone(), stride });
        }
        let made: Vec<usize> = axes.iter().map(|(_, indices)| indices.len()).collect();
        let too_large = || GradError::Size { shape: made.clone() };
        elements(&made).ok_or_else(too_large)?;
        let entries = Places::entries(&from).ok_or_else(too_large)?;
        self.room.fits_map(&made, entries)?;
        let places = Places::of_axes(&from, fill).ok_or_else(too_large)?;
        self.take_places(x, places, made)
    }

    /// Takes single elements by their places.
    ///
    /// # Errors
    /// [`GradError::Shape`] when a place is not there, [`GradError::Room`] when the map is too large.
    pub fn take_elements(&mut self, x: Id, map: &[usize], shape: &[usize]) -> Result<Id, GradError> {
        let length = self.len(x);
        if let Some(place) = map.iter().find(|place| **place >= length) {
            return Err(GradError::shape(format!("element {place} of {length}")));
        }
        let places = Places::of_elements(map).ok_or_else(|| GradError::Size { shape: shape.to_vec() })?;
        self.take_places(x, places, shape.to_vec())
    }

    fn take_places(&mut self, x: Id, places: Places, made: Vec<usize>) -> Result<Id, GradError> {
        if places.is_identity(self.len(x)) {
            return self.view(x, &made);
        }
        self.room.hold(&made, places.bytes())?;
        self.one(Op::Take(Arc::new(places)), &[x], made)
    }

    /// Takes `[start, start + length)` of an axis.
    ///
    /// # Errors
    /// [`GradError::Shape`] when it is not there.
    pub fn part(&mut self, x: Id, axis: usize, start: usize, length: usize) -> Result<Id, GradError> {
        let mut made = self.shape(x).to_vec();
        let size = made.get(axis).copied().unwrap_or(0);
        if start.checked_add(length).is_none_or(|end| end > size) {
            return Err(GradError::shape(format!("{length} from {start} on of axis {axis} of {made:?}")));
        }
        if length == size {
            return Ok(x);
        }
        let inner: usize = made[axis + 1..].iter().product();
        made[axis] = length;
        self.one(Op::Part([size * inner, start * inner, length * inner]), &[x], made)
    }

    /// Joins tensors along an axis.
    ///
    /// # Errors
    /// [`GradError::Shape`] when the other axes differ.
    pub fn join(&mut self, parts: &[Id], axis: usize) -> Result<Id, GradError> {
        let shapes: Vec<Vec<usize>> = parts.iter().map(|id| self.shape(*id).to_vec()).collect();
        let wrong = || GradError::shape(format!("sizes {shapes:?} do not join along axis {axis}"));
        let mut made = shapes.first().cloned().ok_or_else(wrong)?;
        let with = |shape: &[usize]| {
            let mut shape = shape.to_vec();
            shape.get_mut(axis).map(|size| std::mem::replace(size, 0)).map(|size| (size, shape))
        };
        let (_, rest) = with(&made).ok_or_else(wrong)?;
        let inner: usize = made[axis + 1..].iter().product();
        let mut widths = Vec::with_capacity(parts.len());
        made[axis] = 0;
        for shape in &shapes {
            let (size, others) = with(shape).ok_or_else(wrong)?;
            if others != rest {
                return Err(wrong());
            }
            made[axis] += size;
            widths.push(size * inner);
        }
        match parts {
            [only] => Ok(*only),
            _ => self.one(Op::Join(widths), parts, made),
        }
    }

    /// Looks up along an axis by indices that are data.
    ///
    /// # Errors
    /// [`GradError::Shape`] when the axis is not there.
    pub fn look_up(&mut self, table: Id, indices: Id, axis: usize) -> Result<Id, GradError> {
        let shape = self.shape(table).to_vec();
        let Some(size) = shape.get(axis).copied().filter(|size| *size > 0) else {
            return Err(GradError::shape(format!("axis {axis} of sizes {shape:?}")));
        };
        let made = [&shape[..axis], self.shape(indices), &shape[axis + 1..]].concat();
        let outer = shape[..axis].iter().product();
        let inner = shape[axis + 1..].iter().product();
        self.one(Op::LookUp(LookUp { outer, axis: size, inner }), &[table, indices], made)
    }

    /// Sums along an axis up to each element, from the start or the end; `before`: without itself.
    ///
    /// # Errors
    /// [`GradError::Shape`] when the axis is not there.
    pub fn running_sum(&mut self, x: Id, axis: usize, from_end: bool, before: bool) -> Result<Id, GradError> {
        let shape = self.shape(x).to_vec();
        let Some(size) = shape.get(axis) else {
            return Err(GradError::shape(format!("axis {axis} of sizes {shape:?}")));
        };
        let inner = shape[axis + 1..].iter().product();
        self.one(Op::RunningSum([*size, inner], from_end, before), &[x], shape)
    }
}
