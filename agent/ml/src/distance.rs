//! Two operators on whole tensors that the engine lacks: `CDist` and `ReverseSequence`.

use crate::array::{Array, Data, Slice, View};
use crate::kernel::RunError;
use crate::number::narrow;
use crate::settings::{Settings, SettingsError};

/// Distances between the rows of two tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Distance {
    is_squared: bool,
}

impl Distance {
    pub(crate) fn parse(settings: &Settings) -> Result<Self, SettingsError> {
        match settings.text("metric", "sqeuclidean")? {
            "sqeuclidean" => Ok(Self { is_squared: true }),
            "euclidean" => Ok(Self { is_squared: false }),
            _ => Err(SettingsError::value("metric", "it is not served")),
        }
    }

    pub(crate) fn run(self, a: &View<'_>, b: &View<'_>) -> Result<Array, RunError> {
        let ((rows, width), (columns, other)) = (a.table(), b.table());
        if width != other {
            return Err(RunError::Features { expected: width, got: other });
        }
        let shape = vec![rows, columns];
        if let (Slice::F64(a), Slice::F64(b)) = (a.data, b.data) {
            return Ok(Array { shape, data: Data::F64(self.all(a, b, width, |a, b| a - b)) });
        }
        let (a, b) = (a.data.f32s().ok_or(RunError::NotNumbers)?, b.data.f32s().ok_or(RunError::NotNumbers)?);
        let made = self.all(&a, &b, width, |a, b| f64::from(a) - f64::from(b));
        Ok(Array { shape, data: Data::F32(made.into_iter().map(narrow).collect()) })
    }

    fn all<T: Copy>(self, a: &[T], b: &[T], width: usize, minus: impl Fn(T, T) -> f64) -> Vec<f64> {
        let width = width.max(1);
        let one = |a: &[T], b: &[T]| {
            let sum: f64 = a.iter().zip(b).map(|(a, b)| minus(*a, *b).powi(2)).sum();
            if self.is_squared { sum } else { sum.sqrt() }
        };
        a.chunks_exact(width)
            .flat_map(|a| b.chunks_exact(width).map(move |b| (a, b)))
            .map(|(a, b)| one(a, b))
            .collect()
    }
}

/// Turns the beginning of each sequence round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reverse {
    /// Whether the first axis is time and the second the batch.
    is_time_first: bool,
}

impl Reverse {
    pub(crate) fn parse(settings: &Settings) -> Result<Self, SettingsError> {
        match (settings.int("batch_axis", 1)?, settings.int("time_axis", 0)?) {
            (1, 0) => Ok(Self { is_time_first: true }),
            (0, 1) => Ok(Self { is_time_first: false }),
            _ => Err(SettingsError::value("time_axis", "time and batch are the first two axes")),
        }
    }

    pub(crate) fn run(self, x: &View<'_>, lengths: &View<'_>) -> Result<Array, RunError> {
        let lengths = lengths.data.i64s().ok_or(RunError::NotWhole)?;
        let &[first, second, ref inner @ ..] = x.shape else {
            return Err(RunError::Features { expected: 2, got: x.shape.len() });
        };
        let inner: usize = inner.iter().product();
        let (times, batch) = if self.is_time_first { (first, second) } else { (second, first) };
        if lengths.len() != batch {
            return Err(RunError::Features { expected: batch, got: lengths.len() });
        }
        let at = |time: usize, row: usize| {
            if self.is_time_first { time * batch + row } else { row * times + time }
        };
        let mut order: Vec<usize> = (0..times * batch).collect();
        for (row, length) in lengths.iter().enumerate() {
            let wrong = RunError::Index { index: *length, size: times };
            let length = usize::try_from(*length).ok().filter(|length| *length <= times).ok_or(wrong)?;
            for time in 0..length {
                order[at(time, row)] = at(length - 1 - time, row);
            }
        }
        fn take<T: Clone>(values: &[T], order: &[usize], inner: usize) -> Vec<T> {
            order
                .iter()
                .flat_map(|place| values[place * inner..(place + 1) * inner].iter().cloned())
                .collect()
        }
        let data = match x.data {
            Slice::Bool(v) => Data::Bool(take(v, &order, inner)),
            Slice::U8(v) => Data::U8(take(v, &order, inner)),
            Slice::I16(v) => Data::I16(take(v, &order, inner)),
            Slice::I32(v) => Data::I32(take(v, &order, inner)),
            Slice::I64(v) => Data::I64(take(v, &order, inner)),
            Slice::F32(v) => Data::F32(take(v, &order, inner)),
            Slice::F64(v) => Data::F64(take(v, &order, inner)),
            Slice::Text(v) => Data::Text(take(v, &order, inner)),
        };
        Ok(Array { shape: x.shape.to_vec(), data })
    }
}
