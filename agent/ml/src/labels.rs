//! Class labels, and the operators that trade one label for another.

use std::collections::HashMap;

use crate::array::{Array, Data, Kind, Slice, View};
use crate::kernel::RunError;
use crate::settings::{Settings, SettingsError};

/// The labels of a classifier.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Labels {
    Ints(Vec<i64>),
    Texts(Vec<String>),
}

impl Labels {
    pub(crate) fn parse(
        settings: &Settings,
        texts: &'static str,
        ints: &'static str,
    ) -> Result<Self, SettingsError> {
        let (named, numbered) = (settings.texts(texts)?, settings.ints(ints)?);
        match (named, numbered) {
            ([], []) => Err(SettingsError::Missing { name: ints }),
            ([], numbered) => Ok(Self::Ints(numbered.to_vec())),
            (named, _) => Ok(Self::Texts(named.to_vec())),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Ints(labels) => labels.len(),
            Self::Texts(labels) => labels.len(),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Ints(_) => Kind::I64,
            Self::Texts(_) => Kind::Text,
        }
    }

    /// The labels at these places, which are below [`Labels::len`].
    pub(crate) fn pick(&self, places: &[usize]) -> Data {
        match self {
            Self::Ints(labels) => Data::I64(places.iter().map(|place| labels[*place]).collect()),
            Self::Texts(labels) => Data::Text(places.iter().map(|place| labels[*place].clone()).collect()),
        }
    }
}

/// Numbers as keys: all NaN are one, both zeros are one.
fn key(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

/// Where a key stands in its list.
#[derive(Debug, Clone)]
enum Keys {
    Ints(HashMap<i64, usize>),
    Floats(HashMap<u64, usize>),
    Texts(HashMap<String, usize>),
}

impl Keys {
    fn of(keys: Slice<'_>) -> Self {
        // The first of two equal keys counts.
        fn index<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = K>) -> HashMap<K, usize> {
            let mut places = HashMap::new();
            keys.enumerate().for_each(|(place, key)| {
                places.entry(key).or_insert(place);
            });
            places
        }
        if let Slice::Text(texts) = keys {
            return Self::Texts(index(texts.iter().cloned()));
        }
        match (keys.i64s(), keys.f64s()) {
            (Some(ints), _) => Self::Ints(index(ints.iter().copied())),
            (None, floats) => {
                Self::Floats(index(floats.iter().flat_map(|v| v.iter()).map(|value| key(*value))))
            }
        }
    }

    fn find(&self, given: Slice<'_>) -> Result<Vec<Option<usize>>, RunError> {
        match (self, given) {
            (Self::Texts(known), Slice::Text(texts)) => {
                Ok(texts.iter().map(|text| known.get(text).copied()).collect())
            }
            (Self::Ints(known), given) => {
                let ints = given.i64s().ok_or(RunError::NotWhole)?;
                Ok(ints.iter().map(|value| known.get(value).copied()).collect())
            }
            (Self::Floats(known), given) => {
                let floats = given.f64s().ok_or(RunError::NotNumbers)?;
                Ok(floats.iter().map(|value| known.get(&key(*value)).copied()).collect())
            }
            (Self::Texts(_), _) => Err(RunError::NotText),
        }
    }
}

/// Trades elements for others by a table: `LabelEncoder` and `CategoryMapper`.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    keys: Keys,
    values: Data,
    default: Data,
    /// The table read from values to keys, for `CategoryMapper`, which goes both ways.
    back: Option<Box<Exchange>>,
}

impl Exchange {
    pub(crate) fn label_encoder(settings: &Settings) -> Result<Self, SettingsError> {
        let classes = settings.texts("classes_strings")?;
        if !classes.is_empty() {
            return Self::numbering(classes, settings, "default_int64");
        }
        let list = |side: [&'static str; 4]| -> Result<Data, SettingsError> {
            if let Some(array) = settings.tensor(side[0])? {
                return Ok(array.data.clone());
            }
            if settings.has(side[1]) {
                return Ok(Data::I64(settings.ints(side[1])?.to_vec()));
            }
            if settings.has(side[2]) {
                return Ok(Data::Text(settings.texts(side[2])?.to_vec()));
            }
            Ok(Data::F32(settings.floats(side[3])?.to_vec()))
        };
        let keys = list(["keys_tensor", "keys_int64s", "keys_strings", "keys_floats"])?;
        let values = list(["values_tensor", "values_int64s", "values_strings", "values_floats"])?;
        let (expected, got) = (keys.as_slice().len(), values.as_slice().len());
        if expected != got || got == 0 {
            return Err(SettingsError::Length { name: "values", expected, got });
        }
        let default = match settings.tensor("default_tensor")? {
            Some(array) if array.data.kind() == values.kind() && array.data.as_slice().len() == 1 => {
                array.data.clone()
            }
            Some(_) => {
                return Err(SettingsError::Type {
                    name: "default_tensor",
                    expected: "one of the values' type",
                });
            }
            None => match values.kind() {
                Kind::Text => Data::Text(vec![settings.text("default_string", "_Unused")?.to_owned()]),
                Kind::F32 => Data::F32(vec![settings.float("default_float", -0.0)?]),
                Kind::F64 => Data::F64(vec![-0.0]),
                Kind::I32 => Data::I32(vec![-1]),
                Kind::I16 => Data::I16(vec![-1]),
                Kind::I64 => Data::I64(vec![settings.int("default_int64", -1)?]),
                Kind::Bool | Kind::U8 => {
                    return Err(SettingsError::Type { name: "values_tensor", expected: "of a served type" });
                }
            },
        };
        Ok(Self { keys: Keys::of(keys.as_slice()), values, default, back: None })
    }

    /// `LabelEncoder` of opset 1: text to its place, and back.
    fn numbering(
        classes: &[String],
        settings: &Settings,
        default: &'static str,
    ) -> Result<Self, SettingsError> {
        let places: Vec<i64> = (0..).take(classes.len()).collect();
        Self::both(classes, &places, settings, default)
    }

    pub(crate) fn category_mapper(settings: &Settings) -> Result<Self, SettingsError> {
        let (texts, ints) = (settings.texts("cats_strings")?, settings.ints("cats_int64s")?);
        let (expected, got) = (texts.len(), ints.len());
        if expected != got || got == 0 {
            return Err(SettingsError::Length { name: "cats_int64s", expected, got });
        }
        Self::both(texts, ints, settings, "default_int64")
    }

    fn both(
        texts: &[String],
        ints: &[i64],
        settings: &Settings,
        default: &'static str,
    ) -> Result<Self, SettingsError> {
        let (texts, ints) = (Data::Text(texts.to_vec()), Data::I64(ints.to_vec()));
        let back = Self {
            keys: Keys::of(ints.as_slice()),
            values: texts.clone(),
            default: Data::Text(vec![settings.text("default_string", "_Unused")?.to_owned()]),
            back: None,
        };
        let default = Data::I64(vec![settings.int(default, -1)?]);
        Ok(Self { keys: Keys::of(texts.as_slice()), values: ints, default, back: Some(Box::new(back)) })
    }

    fn for_kind(&self, kind: Kind) -> &Self {
        match &self.back {
            Some(back) if kind != Kind::Text => back,
            _ => self,
        }
    }

    pub(crate) fn gives(&self, kind: Kind) -> Kind {
        self.for_kind(kind).values.kind()
    }

    pub(crate) fn run(&self, x: &View<'_>) -> Result<Array, RunError> {
        let table = self.for_kind(x.data.kind());
        let places = table.keys.find(x.data)?;
        fn take<T: Clone>(values: &[T], default: &[T], places: &[Option<usize>]) -> Vec<T> {
            let one = |place: &Option<usize>| place.map_or(&default[0], |place| &values[place]).clone();
            places.iter().map(one).collect()
        }
        let data = match (&table.values, &table.default) {
            (Data::I64(values), Data::I64(default)) => Data::I64(take(values, default, &places)),
            (Data::I32(values), Data::I32(default)) => Data::I32(take(values, default, &places)),
            (Data::I16(values), Data::I16(default)) => Data::I16(take(values, default, &places)),
            (Data::F32(values), Data::F32(default)) => Data::F32(take(values, default, &places)),
            (Data::F64(values), Data::F64(default)) => Data::F64(take(values, default, &places)),
            (Data::Text(values), Data::Text(default)) => Data::Text(take(values, default, &places)),
            _ => return Err(RunError::NotNumbers),
        };
        Ok(Array { shape: x.shape.to_vec(), data })
    }
}
