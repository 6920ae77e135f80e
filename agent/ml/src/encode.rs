//! `OneHotEncoder`.

use std::collections::HashMap;

use crate::array::{Array, Data, View};
use crate::kernel::RunError;
use crate::settings::{Settings, SettingsError};

/// Most categories: each element becomes a row this wide.
const MAX_CATEGORIES: usize = 1 << 16;

/// A one in the column of the category.
#[derive(Debug, Clone)]
pub(crate) struct OneHot {
    places: Places,
    categories: usize,
    /// Whether what is not known becomes a row of zeros; otherwise it is an error.
    takes_unknown: bool,
}

#[derive(Debug, Clone)]
enum Places {
    Ints(HashMap<i64, usize>),
    Texts(HashMap<String, usize>),
}

impl OneHot {
    pub(crate) fn parse(settings: &Settings) -> Result<Self, SettingsError> {
        let (ints, texts) = (settings.ints("cats_int64s")?, settings.texts("cats_strings")?);
        let categories = ints.len().max(texts.len());
        if categories == 0 || (!ints.is_empty() && !texts.is_empty()) || categories > MAX_CATEGORIES {
            let reason = format!("{categories} categories, expected 1 to {MAX_CATEGORIES} of one kind");
            return Err(SettingsError::value("cats_int64s", reason));
        }
        let places = if texts.is_empty() {
            Places::Ints(ints.iter().copied().zip(0..).collect())
        } else {
            Places::Texts(texts.iter().cloned().zip(0..).collect())
        };
        Ok(Self { places, categories, takes_unknown: settings.int("zeros", 1)? != 0 })
    }

    pub(crate) fn categories(&self) -> usize {
        self.categories
    }

    pub(crate) fn run(&self, x: &View<'_>) -> Result<Array, RunError> {
        let found: Vec<Option<usize>> = match (&self.places, x.data) {
            (Places::Texts(known), crate::array::Slice::Text(texts)) => {
                texts.iter().map(|text| known.get(text).copied()).collect()
            }
            (Places::Texts(_), _) => return Err(RunError::NotText),
            (Places::Ints(known), given) => match given.i64s() {
                Some(ints) => ints.iter().map(|value| known.get(value).copied()).collect(),
                None => {
                    let floats = given.f64s().ok_or(RunError::NotNumbers)?;
                    floats.iter().map(|value| known.get(&whole(*value)).copied()).collect()
                }
            },
        };
        let mut made = vec![0.0f32; found.len() * self.categories];
        for (row, place) in made.chunks_exact_mut(self.categories).zip(found) {
            match place {
                Some(place) => row[place] = 1.0,
                None if self.takes_unknown => {}
                None => return Err(RunError::UnknownCategory),
            }
        }
        let mut shape = x.shape.to_vec();
        shape.push(self.categories);
        Ok(Array { shape, data: Data::F32(made) })
    }
}

/// Cuts the fraction off, as onnxruntime does before it looks a category up.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, which no category is")]
fn whole(value: f64) -> i64 {
    value as i64
}
