//! What a tape may hold before a run: maps of movements, numbers made up, indices while a map is made.

use super::{Tape, elements};
use crate::error::GradError;

/// Bytes of maps and made-up numbers that one tape holds at most, over all its steps: as much as the weights
/// of the largest file that is read (64 Mi numbers of 32 bits). The sizes that a file asks for are its
/// author's; a map of 2³⁰ places would take 4 GiB before the first row is seen.
pub const MAX_HELD_BYTES: usize = 256 << 20;

/// Bytes of an index while a map is made: it is there as it was asked for and once more with its stride.
const INDEX_BYTES: usize = 2 * size_of::<Option<usize>>();

/// Memory that is left.
#[derive(Debug, Clone)]
pub(super) struct Room {
    left: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { left: MAX_HELD_BYTES }
    }
}

impl Room {
    pub(super) fn of(bytes: usize) -> Self {
        Self { left: bytes.min(MAX_HELD_BYTES) }
    }

    /// The number of elements, when each may take so many bytes.
    pub(super) fn look(&self, shape: &[usize], bytes_each: usize) -> Result<usize, GradError> {
        let length = elements(shape).ok_or_else(|| GradError::Size { shape: shape.to_vec() })?;
        self.fits(shape, length.saturating_mul(bytes_each)).map(|()| length)
    }

    /// [`Room::look`], and the memory is taken.
    pub(super) fn take(&mut self, shape: &[usize], bytes_each: usize) -> Result<usize, GradError> {
        let length = self.look(shape, bytes_each)?;
        self.hold(shape, length * bytes_each).map(|()| length)
    }

    /// Whether a map of so many places may be made, for a result of these sizes.
    pub(super) fn fits_map(&self, shape: &[usize], places: usize) -> Result<(), GradError> {
        self.fits(shape, places.saturating_mul(size_of::<u32>()))
    }

    /// Takes memory that something made for a result of these sizes holds.
    pub(super) fn hold(&mut self, shape: &[usize], bytes: usize) -> Result<(), GradError> {
        self.fits(shape, bytes)?;
        self.left -= bytes;
        Ok(())
    }

    fn fits(&self, shape: &[usize], bytes: usize) -> Result<(), GradError> {
        if bytes <= self.left {
            return Ok(());
        }
        Err(GradError::Room { shape: shape.to_vec(), bytes, left: self.left })
    }
}

impl Tape {
    /// Whether lists of the indices along axes of these sizes may be made, for [`Tape::take`]: asked before
    /// they are.
    ///
    /// # Errors
    /// [`GradError::Room`].
    pub fn may_walk(&self, sizes: &[usize]) -> Result<(), GradError> {
        let indices = sizes.iter().fold(0usize, |all, size| all.saturating_add(*size));
        self.room.fits(sizes, indices.saturating_mul(INDEX_BYTES))
    }

    /// Whether a map of single elements may be made, for [`Tape::take_elements`]: asked before it is.
    ///
    /// # Errors
    /// [`GradError::Room`].
    pub fn may_map(&self, shape: &[usize]) -> Result<(), GradError> {
        self.room.look(shape, size_of::<usize>() + size_of::<u32>()).map(|_length| ())
    }
}
