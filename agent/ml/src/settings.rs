//! Settings of an operator, as they stand in a file.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::array::{Array, Kind};

/// Settings by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings(BTreeMap<String, Setting>);

/// One setting.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Setting {
    Float(f32),
    Int(i64),
    Text(String),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Texts(Vec<String>),
    Tensor(Array),
}

/// Why settings do not make a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// The operator is not one of this crate's.
    #[error("operator `{op}` is not known")]
    UnknownOp { op: String },
    /// A setting that is needed is not there.
    #[error("setting `{name}` is missing")]
    Missing { name: &'static str },
    /// A setting is of another type.
    #[error("setting `{name}` is not {expected}")]
    Type { name: &'static str, expected: &'static str },
    /// Two lists that belong together differ in length.
    #[error("`{name}` has {got} entries, expected {expected}")]
    Length { name: &'static str, expected: usize, got: usize },
    /// A value makes no sense.
    #[error("`{name}`: {reason}")]
    Value { name: &'static str, reason: String },
    /// A tree is no tree.
    #[error("node {node} of tree {tree}: {reason}")]
    Tree { tree: i64, node: i64, reason: &'static str },
}

impl SettingsError {
    pub(crate) fn value(name: &'static str, reason: impl Into<String>) -> Self {
        Self::Value { name, reason: reason.into() }
    }
}

/// Writes a getter that gives an empty list for a setting that is absent.
macro_rules! list {
    ($get:ident, $variant:ident, $of:ty, $expected:literal) => {
        pub(crate) fn $get(&self, name: &'static str) -> Result<&[$of], SettingsError> {
            match self.0.get(name) {
                None => Ok(&[]),
                // An empty list may have lost its type on the way.
                Some(Setting::Floats(v)) if v.is_empty() => Ok(&[]),
                Some(Setting::Ints(v)) if v.is_empty() => Ok(&[]),
                Some(Setting::$variant(values)) => Ok(values),
                Some(_) => Err(SettingsError::Type { name, expected: $expected }),
            }
        }
    };
}

impl Settings {
    /// Adds or replaces a setting.
    pub fn insert(&mut self, name: impl Into<String>, setting: Setting) {
        self.0.insert(name.into(), setting);
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    list!(floats, Floats, f32, "a list of floats");
    list!(ints, Ints, i64, "a list of whole numbers");
    list!(texts, Texts, String, "a list of text");

    pub(crate) fn float(&self, name: &'static str, default: f32) -> Result<f32, SettingsError> {
        match self.0.get(name) {
            None => Ok(default),
            Some(Setting::Float(value)) => Ok(*value),
            Some(_) => Err(SettingsError::Type { name, expected: "a float" }),
        }
    }

    pub(crate) fn int(&self, name: &'static str, default: i64) -> Result<i64, SettingsError> {
        match self.0.get(name) {
            None => Ok(default),
            Some(Setting::Int(value)) => Ok(*value),
            Some(_) => Err(SettingsError::Type { name, expected: "a whole number" }),
        }
    }

    pub(crate) fn text(&self, name: &'static str, default: &'static str) -> Result<&str, SettingsError> {
        match self.0.get(name) {
            None => Ok(default),
            Some(Setting::Text(value)) => Ok(value),
            Some(_) => Err(SettingsError::Type { name, expected: "text" }),
        }
    }

    pub(crate) fn tensor(&self, name: &'static str) -> Result<Option<&Array>, SettingsError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Setting::Tensor(array)) => Ok(Some(array)),
            Some(_) => Err(SettingsError::Type { name, expected: "a tensor" }),
        }
    }

    /// Numbers from a list of floats, or from the tensor that later opsets have beside it.
    pub(crate) fn numbers(
        &self,
        list: &'static str,
        tensor: &'static str,
    ) -> Result<(Vec<f64>, bool), SettingsError> {
        match self.tensor(tensor)? {
            None => Ok((self.floats(list)?.iter().map(|v| f64::from(*v)).collect(), false)),
            Some(array) => {
                let values = array.data.as_slice();
                let is_wide = values.kind() == Kind::F64;
                let numbers =
                    values.f64s().ok_or(SettingsError::Type { name: tensor, expected: "of numbers" })?;
                Ok((numbers.into_owned(), is_wide))
            }
        }
    }
}
