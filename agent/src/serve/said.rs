//! What a request says beside its tensors.

use super::models::{MIN_PREFIX, ServedModel};
use super::refused::{Refused, shortened};
use serde_json::Value;
use shoal_proto::infer::Parameters;
use shoal_watch::answer::GroupCodes;

/// The parameter that names the schema a sender was made for.
const SCHEMA: &str = "schema";

impl ServedModel {
    /// What a request says beside its tensors: the groups it is of, and the schema that its sender was made for.
    /// A value that the package does not list is of no part of its group.
    pub(super) fn check_said(&self, said: &Parameters) -> Result<GroupCodes, Refused> {
        let mut codes = GroupCodes::default();
        if said.is_empty() {
            return Ok(codes);
        }
        let manifest = &self.info().manifest;
        if let Some(schema) = said.get(SCHEMA) {
            let expected = self.info().record.schema.to_string();
            let fits = |text: &str| text.len() >= MIN_PREFIX && expected.starts_with(text);
            if !schema.as_str().is_some_and(fits) {
                let got = schema.as_str().map_or_else(|| schema.to_string(), str::to_owned);
                return Err(Refused::Schema {
                    model: self.name().to_string(),
                    got: shortened(&got),
                    expected,
                });
            }
        }
        for group in manifest.groups.iter().filter(|group| group.feature.is_none()) {
            match said.get(&group.name) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => drop(self.groups.name(&mut codes, &group.name, text)),
                Some(Value::Number(number)) => {
                    self.groups.name(&mut codes, &group.name, &number.to_string());
                }
                Some(other) => {
                    let (group, known) = (group.name.clone(), group.values.join(", "));
                    return Err(Refused::Group { group, known, got: shortened(&other.to_string()) });
                }
            }
        }
        Ok(codes)
    }
}
