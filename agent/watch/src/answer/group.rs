//! Which group a row is of.

use serde::{Deserialize, Serialize};
use shoal_proto::baseline::{GroupBaseline, PartBaseline};
use shoal_proto::manifest::{Group, MAX_GROUPS, Manifest};

/// A row that is of no part of a group: its feature is missing, or nobody named its value.
pub const NO_PART: u8 = u8::MAX;

/// The part of each group that a row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
pub struct GroupCodes([u8; MAX_GROUPS]);

impl Default for GroupCodes {
    fn default() -> Self {
        Self([NO_PART; MAX_GROUPS])
    }
}

impl From<Vec<u8>> for GroupCodes {
    fn from(parts: Vec<u8>) -> Self {
        let mut codes = Self::default();
        for (code, part) in codes.0.iter_mut().zip(parts) {
            *code = part;
        }
        codes
    }
}

impl From<GroupCodes> for Vec<u8> {
    fn from(codes: GroupCodes) -> Self {
        let used = codes.0.iter().rposition(|part| *part != NO_PART).map_or(0, |last| last + 1);
        codes.0[..used].to_vec()
    }
}

impl GroupCodes {
    /// These, and where they say nothing, others.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        let mut codes = self;
        for (code, other) in codes.0.iter_mut().zip(others.0) {
            if *code == NO_PART {
                *code = other;
            }
        }
        codes
    }

    /// The part of a group, if the row is of one.
    #[must_use]
    pub fn part(&self, group: usize) -> Option<usize> {
        self.0.get(group).copied().filter(|part| *part != NO_PART).map(usize::from)
    }
}

/// The groups of a package, ready to tell rows apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Groups {
    rules: Vec<Rule>,
}

/// One group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    /// As the manifest has it.
    pub(super) group: Group,
    feature: Option<usize>,
    cuts: Vec<f32>,
    /// The favourable class.
    pub(super) positive: u32,
    /// Where its parts begin among those of all groups.
    pub(super) start: usize,
    /// How many parts it has.
    pub(super) parts: usize,
    /// The held-out rows, where the package counted them.
    pub(super) reference: Option<Vec<PartBaseline>>,
}

impl Groups {
    /// The groups of a manifest, against what the package counted of them.
    #[must_use]
    pub fn new(manifest: &Manifest, reference: &[GroupBaseline]) -> Self {
        let (mut rules, mut start) = (Vec::new(), 0);
        for group in manifest.groups.iter().take(MAX_GROUPS) {
            let feature =
                group.feature.as_ref().map(|name| manifest.features.iter().position(|f| f.name == *name));
            // A checked manifest has both; one that was put together by hand has rows of no part.
            let feature = feature.map(|index| index.unwrap_or(usize::MAX));
            let parts = group.parts();
            let known = reference.iter().find(|known| known.name == group.name && known.parts.len() == parts);
            #[expect(clippy::cast_possible_truncation, reason = "features are f32, and so is what cuts them")]
            let cuts = group.cuts.iter().map(|cut| *cut as f32).collect();
            rules.push(Rule {
                feature,
                cuts,
                positive: group.positive_class(&manifest.output.classes).unwrap_or(u32::MAX),
                start,
                parts,
                reference: known.map(|known| known.parts.clone()),
                group: group.clone(),
            });
            start += parts;
        }
        Self { rules }
    }

    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// How many groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Parts of all groups together.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.rules.last().map_or(0, |last| last.start + last.parts)
    }

    /// Every part of all groups, by the places of its group and of itself.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.rules.iter().enumerate().flat_map(|(group, rule)| (0..rule.parts).map(move |part| (group, part)))
    }

    /// The parts that a row's features tell; those that requests name are still open.
    #[must_use]
    pub fn codes(&self, features: &[f32]) -> GroupCodes {
        let mut codes = GroupCodes::default();
        for (code, rule) in codes.0.iter_mut().zip(&self.rules) {
            let value = rule.feature.and_then(|index| features.get(index));
            if let Some(value) = value.filter(|value| !value.is_nan()) {
                let part = rule.cuts.iter().take_while(|cut| *cut <= value).count();
                *code = u8::try_from(part).unwrap_or(NO_PART);
            }
        }
        codes
    }

    /// Takes in that a request named a group's value; `false`, and nothing changed, where the package does not
    /// know both.
    pub fn name(&self, codes: &mut GroupCodes, group: &str, value: &str) -> bool {
        let Some((code, rule)) =
            codes.0.iter_mut().zip(&self.rules).find(|(_, rule)| rule.group.name == group)
        else {
            return false;
        };
        let part = rule.group.values.iter().position(|known| known == value);
        let Some(part) = part.and_then(|part| u8::try_from(part).ok()) else { return false };
        *code = part;
        true
    }

    /// What people call a part.
    #[must_use]
    pub fn part_name(&self, group: usize, part: usize) -> String {
        self.rules.get(group).map(|rule| rule.group.part_name(part)).unwrap_or_default()
    }

    /// Calls `count` with the place of each part that a row is of, and the favourable class of its group.
    pub(super) fn each(&self, codes: GroupCodes, mut count: impl FnMut(usize, u32)) {
        for (code, rule) in codes.0.iter().zip(&self.rules) {
            let part = usize::from(*code);
            if *code != NO_PART && part < rule.parts {
                count(rule.start + part, rule.positive);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_proto::wire::{from_cbor, to_cbor};

    #[test]
    fn rows_are_told_apart_by_feature_and_by_name() {
        let text = concat!(
            include_str!("../../../../proto/testdata/v1/model.toml"),
            "\n[[group]]\nname = \"age\"\nfeature = \"s2\"\ncuts = [0.1, 0.7]\n",
            "\n[[group]]\nname = \"site\"\nvalues = [\"a\", \"b\"]\n",
        );
        let groups = Groups::new(&Manifest::parse(text).unwrap(), &[]);
        assert_eq!((groups.len(), groups.parts()), (2, 5));
        for (value, part) in [
            (0.0, Some(0)),
            (0.1, Some(1)),
            (0.7, Some(2)), // as f32 it is below 0.7 as f64
            (f32::INFINITY, Some(2)),
            (f32::NEG_INFINITY, Some(0)),
            (f32::NAN, None),
        ] {
            assert_eq!(groups.codes(&[9.0, value]).part(0), part, "{value}");
        }
        assert_eq!(groups.codes(&[]).part(0), None);
        let mut codes = groups.codes(&[0.0, 0.5]);
        assert!(groups.name(&mut codes, "site", "b") && !groups.name(&mut codes, "site", "c"));
        assert!(!groups.name(&mut codes, "age", "b") && !groups.name(&mut codes, "sex", "b"));
        assert_eq!((codes.part(0), codes.part(1), codes.part(2)), (Some(1), Some(1), None));
        assert_eq!(from_cbor::<GroupCodes>(&to_cbor(&codes)).unwrap(), codes);
        assert_eq!(groups.part_name(1, 1), "site = b");
        let mut seen = Vec::new();
        groups.each(codes, |place, positive| seen.push((place, positive)));
        assert_eq!(seen, [(1, 1), (4, 1)]);
    }
}
