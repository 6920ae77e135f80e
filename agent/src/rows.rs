//! Labelled rows, complete and finite: what is trained on, tested on, and kept in a package's `.npz`
//! files (arrays `x` f32 [N, F], `y` i64 [N] classes or f32 [N] values).

use rand::seq::SliceRandom as _;
use rand::{SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use shoal_infer::{NpzError, Tensor, TensorData, read_npz, write_npz};
use shoal_learn::{Dataset, DatasetError, Targets};

/// The truth of each row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truth {
    /// A class.
    Classes(Vec<u32>),
    /// A number.
    Values(Vec<f32>),
}

/// Labelled rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    width: usize,
    features: Vec<f32>,
    truth: Truth,
}

/// A file of rows that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// Not an archive of arrays.
    #[error("`{file}` cannot be read")]
    Npz {
        file: &'static str,
        #[source]
        source: NpzError,
    },
    /// Arrays that are not those of labelled rows.
    #[error("`{file}`: expected arrays x f32 [N, {width}] and y i64 [N] or f32 [N]")]
    Arrays { file: &'static str, width: usize },
}

impl Truth {
    /// No rows, of classes or of values.
    #[must_use]
    pub fn none(is_classes: bool) -> Self {
        if is_classes { Self::Classes(Vec::new()) } else { Self::Values(Vec::new()) }
    }

    fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Values(values) => values.len(),
        }
    }
}

impl Rows {
    /// No rows of this width.
    #[must_use]
    pub fn none(width: usize, is_classes: bool) -> Self {
        Self { width, features: Vec::new(), truth: Truth::none(is_classes) }
    }

    /// Adds a row with its class; `false`, and nothing added, when it is not complete and finite, of
    /// another width, or when these rows have values.
    pub fn push_class(&mut self, row: &[f32], class: u32) -> bool {
        let fits = self.fits(row);
        match &mut self.truth {
            Truth::Classes(classes) if fits => classes.push(class),
            _ => return false,
        }
        self.features.extend_from_slice(row);
        true
    }

    /// Adds a row with its value; see [`Rows::push_class`].
    pub fn push_value(&mut self, row: &[f32], value: f32) -> bool {
        let fits = self.fits(row) && value.is_finite();
        match &mut self.truth {
            Truth::Values(values) if fits => values.push(value),
            _ => return false,
        }
        self.features.extend_from_slice(row);
        true
    }

    fn fits(&self, row: &[f32]) -> bool {
        row.len() == self.width && row.iter().all(|value| value.is_finite())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.truth.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Features of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// All features, row-major.
    #[must_use]
    pub fn features(&self) -> &[f32] {
        &self.features
    }

    /// The truth of each row.
    #[must_use]
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// The classes; empty where there are values.
    #[must_use]
    pub fn classes(&self) -> &[u32] {
        match &self.truth {
            Truth::Classes(classes) => classes,
            Truth::Values(_) => &[],
        }
    }

    /// The rows at these places, in this order.
    #[must_use]
    pub fn pick(&self, places: &[usize]) -> Self {
        let features =
            places.iter().flat_map(|at| &self.features[at * self.width..(at + 1) * self.width]).copied();
        let truth = match &self.truth {
            Truth::Classes(all) => Truth::Classes(places.iter().map(|at| all[*at]).collect()),
            Truth::Values(all) => Truth::Values(places.iter().map(|at| all[*at]).collect()),
        };
        Self { width: self.width, features: features.collect(), truth }
    }

    /// The rows as training data, with a weight for each or none.
    pub fn dataset(&self, weights: Vec<f32>) -> Result<Dataset, DatasetError> {
        let targets = match &self.truth {
            Truth::Classes(classes) => Targets::Classes(classes.clone()),
            Truth::Values(values) => Targets::Values { width: 1, values: values.clone() },
        };
        Dataset::new(self.width, self.features.clone(), targets, weights)
    }

    /// Adds all of other rows; `false`, and nothing added, when they are of another kind.
    pub fn append(&mut self, other: &Self) -> bool {
        match (&mut self.truth, &other.truth) {
            (Truth::Classes(mine), Truth::Classes(more)) if self.width == other.width => mine.extend(more),
            (Truth::Values(mine), Truth::Values(more)) if self.width == other.width => mine.extend(more),
            _ => return false,
        }
        self.features.extend_from_slice(&other.features);
        true
    }

    /// Places in a seeded order, class by class (values: as one class).
    fn strata(&self, seed: u64) -> Vec<Vec<usize>> {
        let most = self.classes().iter().max().copied().unwrap_or(0);
        let of = |at: usize| self.classes().get(at).copied().unwrap_or(0);
        let mut random = StdRng::seed_from_u64(seed);
        (0..=most)
            .map(|class| {
                let mut places: Vec<usize> = (0..self.len()).filter(|at| of(*at) == class).collect();
                places.shuffle(&mut random);
                places
            })
            .collect()
    }

    /// Two parts by chance, the second with this share of every class.
    #[must_use]
    pub fn split(&self, share: f64, seed: u64) -> (Self, Self) {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for places in self.strata(seed) {
            let total = places.len();
            let wanted =
                places.iter().enumerate().filter(|(at, _)| (*at as f64) < share * total as f64 - 0.5);
            let taken = wanted.count();
            second.extend_from_slice(&places[..taken]);
            first.extend_from_slice(&places[taken..]);
        }
        first.sort_unstable();
        second.sort_unstable();
        (self.pick(&first), self.pick(&second))
    }

    /// At most `most` rows by chance, as many of each class as there are or as fit.
    #[must_use]
    pub fn coreset(&self, most: usize, seed: u64) -> Self {
        let strata = self.strata(seed);
        let deepest = strata.iter().map(Vec::len).max().unwrap_or(0);
        let by_turns = (0..deepest).flat_map(|at| strata.iter().filter_map(move |places| places.get(at)));
        let mut places: Vec<usize> = by_turns.take(most).copied().collect();
        places.sort_unstable();
        self.pick(&places)
    }

    /// The `.npz` file of these rows.
    pub fn to_npz(&self) -> Result<Vec<u8>, NpzError> {
        let y = match &self.truth {
            Truth::Classes(classes) => {
                TensorData::I64(classes.iter().map(|class| i64::from(*class)).collect())
            }
            Truth::Values(values) => TensorData::F32(values.clone()),
        };
        let x = TensorData::F32(self.features.clone());
        write_npz(&[
            Tensor { name: "x".into(), shape: vec![self.len(), self.width], data: x },
            Tensor { name: "y".into(), shape: vec![self.len()], data: y },
        ])
    }

    /// Reads an `.npz` file of rows of this width; rows that are not complete are passed over.
    pub fn from_npz(file: &'static str, bytes: &[u8], width: usize) -> Result<Self, RowsError> {
        let tensors = read_npz(bytes).map_err(|source| RowsError::Npz { file, source })?;
        let wrong = || RowsError::Arrays { file, width };
        let find = |name: &str| tensors.iter().find(|tensor| tensor.name == name).ok_or_else(wrong);
        let (x, y) = (find("x")?, find("y")?);
        let features = x.f32s().ok_or_else(wrong)?;
        if width == 0 || x.shape != [features.len() / width, width] || y.shape != [features.len() / width] {
            return Err(wrong());
        }
        let mut rows = Self::none(width, y.i64s().is_some());
        let each = features.chunks_exact(width);
        match (y.i64s(), y.f32s()) {
            (Some(classes), _) => {
                for (row, class) in each.zip(classes) {
                    rows.push_class(row, u32::try_from(*class).map_err(|_cause| wrong())?);
                }
            }
            (None, Some(values)) => {
                for (row, value) in each.zip(values) {
                    rows.push_value(row, *value);
                }
            }
            (None, None) => return Err(wrong()),
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(counts: &[usize]) -> Rows {
        let mut rows = Rows::none(2, true);
        for (class, count) in (0..).zip(counts) {
            for at in 0..*count {
                assert!(rows.push_class(&[at as f32, class as f32], class));
            }
        }
        rows
    }

    fn count(rows: &Rows, class: u32) -> usize {
        rows.classes().iter().filter(|one| **one == class).count()
    }

    #[test]
    fn incomplete_rows_are_not_taken() {
        let mut rows = rows(&[1]);
        assert!(!rows.push_class(&[f32::NAN, 1.0], 0));
        assert!(!rows.push_class(&[1.0], 0));
        assert!(!rows.push_value(&[1.0, 1.0], 0.5));
        assert_eq!((rows.len(), rows.features().len()), (1, 2));
    }

    #[test]
    fn a_split_keeps_the_share_of_every_class() {
        let all = rows(&[100, 10, 1]);
        let (first, second) = all.split(0.2, 1);
        assert_eq!((count(&second, 0), count(&second, 1), count(&second, 2)), (20, 2, 0));
        assert_eq!(first.len() + second.len(), all.len());
        assert_eq!(all.split(0.2, 1), (first, second));
    }

    #[test]
    fn a_coreset_is_balanced() {
        let core = rows(&[100, 50, 3]).coreset(23, 1);
        assert_eq!((core.len(), count(&core, 0), count(&core, 1), count(&core, 2)), (23, 10, 10, 3));
        assert_eq!(rows(&[5]).coreset(100, 1), rows(&[5]));
    }

    #[test]
    fn files_of_rows_round_trip() {
        let mut values = Rows::none(1, false);
        assert!(values.push_value(&[2.0], 0.5) && values.push_value(&[3.0], -1.0));
        for rows in [rows(&[3, 2]), values] {
            let bytes = rows.to_npz().unwrap();
            assert_eq!(Rows::from_npz("guard.npz", &bytes, rows.width()).unwrap(), rows);
            assert_eq!(bytes, rows.to_npz().unwrap());
            assert!(Rows::from_npz("guard.npz", &bytes, 7).is_err());
        }
        assert!(Rows::from_npz("guard.npz", b"no", 1).is_err());
    }
}
