//! Choosing and joining columns: `ArrayFeatureExtractor` and `FeatureVectorizer`.

use crate::array::{Array, Data, Slice, View};
use crate::kernel::RunError;
use crate::settings::{Settings, SettingsError};

/// Takes the columns that the second input names.
pub(crate) fn extract(x: &View<'_>, indices: &View<'_>) -> Result<Array, RunError> {
    let width = x.width();
    let indices = indices.data.i64s().ok_or(RunError::NotWhole)?;
    let wrong = |index: i64| RunError::Index { index, size: width };
    let places = indices
        .iter()
        .map(|index| usize::try_from(*index).ok().filter(|place| *place < width).ok_or(wrong(*index)))
        .collect::<Result<Vec<usize>, _>>()?;
    fn take<T: Clone>(values: &[T], width: usize, places: &[usize]) -> Vec<T> {
        let rows = values.chunks_exact(width.max(1));
        rows.flat_map(|row| places.iter().map(|place| row[*place].clone())).collect()
    }
    let data = match x.data {
        Slice::Bool(v) => Data::Bool(take(v, width, &places)),
        Slice::U8(v) => Data::U8(take(v, width, &places)),
        Slice::I16(v) => Data::I16(take(v, width, &places)),
        Slice::I32(v) => Data::I32(take(v, width, &places)),
        Slice::I64(v) => Data::I64(take(v, width, &places)),
        Slice::F32(v) => Data::F32(take(v, width, &places)),
        Slice::F64(v) => Data::F64(take(v, width, &places)),
        Slice::Text(v) => Data::Text(take(v, width, &places)),
    };
    let shape = match x.shape {
        [] | [_] => vec![1, places.len()],
        [outer @ .., _] => outer.iter().copied().chain([places.len()]).collect(),
    };
    Ok(Array { shape, data })
}

/// Puts the inputs of each row side by side.
#[derive(Debug, Clone)]
pub(crate) struct Vectorizer {
    widths: Vec<usize>,
}

impl Vectorizer {
    pub(crate) fn parse(settings: &Settings) -> Result<Self, SettingsError> {
        let wrong = |width: i64| SettingsError::value("inputdimensions", format!("{width} is no width"));
        let width = |width: &i64| usize::try_from(*width).ok().filter(|w| *w < 1 << 24).ok_or(wrong(*width));
        let widths = settings.ints("inputdimensions")?.iter().map(width).collect::<Result<Vec<_>, _>>()?;
        if widths.is_empty() {
            return Err(SettingsError::Missing { name: "inputdimensions" });
        }
        Ok(Self { widths })
    }

    pub(crate) fn inputs(&self) -> usize {
        self.widths.len()
    }

    pub(crate) fn width(&self) -> usize {
        self.widths.iter().sum()
    }

    pub(crate) fn run(&self, inputs: &[View<'_>]) -> Result<Array, RunError> {
        let rows = inputs.first().map_or(0, |x| x.table().0);
        let width = self.width();
        let mut made = vec![0.0f32; rows * width];
        let mut column = 0;
        for (x, wanted) in inputs.iter().zip(&self.widths) {
            let (own_rows, own) = x.table();
            if own_rows != rows || own != *wanted {
                return Err(RunError::Features { expected: *wanted, got: own });
            }
            let values = x.data.f32s().ok_or(RunError::NotNumbers)?;
            for (row, part) in values.chunks_exact(own.max(1)).enumerate() {
                made[row * width + column..][..own].copy_from_slice(part);
            }
            column += own;
        }
        Ok(Array { shape: vec![rows, width], data: Data::F32(made) })
    }
}
