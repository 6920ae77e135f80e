//! Groups of rows that are watched for being treated worse than the others: `[[group]]` in `model.toml`.

use super::{Manifest, Task};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Most groups of a model: each costs a few counters a window and a comparison a row.
pub const MAX_GROUPS: usize = 16;
/// Ranges or values of one group.
pub const GROUP_PARTS: RangeInclusive<usize> = 2..=32;

/// One way to part the rows: `age` below 30, 30 to 60, above.
///
/// The parts come from a numeric feature that is cut, or are values that requests and labels name by a
/// parameter of the group's name, where the model must not see them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The feature that is cut; absent where requests name the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// Where it is cut, strictly rising: part `i` holds `cuts[i-1] <= x < cuts[i]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<f64>,
    /// What requests may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// The favourable answer; the second class of two where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<String>,
    /// How far rates of two parts may differ, above 0 and at most 1. Absent: no further than they did on the held-out
    /// rows when the package was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_difference: Option<f64>,
}

impl Group {
    /// How many parts it has.
    #[must_use]
    pub fn parts(&self) -> usize {
        if self.feature.is_some() { self.cuts.len() + 1 } else { self.values.len() }
    }

    /// What people call a part: `age < 30`, `30 <= age < 60`, `site = a`; empty of a part that there is not.
    #[must_use]
    pub fn part_name(&self, part: usize) -> String {
        let name = &self.name;
        if self.feature.is_none() {
            return self.values.get(part).map(|value| format!("{name} = {value}")).unwrap_or_default();
        }
        let low = part.checked_sub(1).and_then(|below| self.cuts.get(below));
        match (low, self.cuts.get(part)) {
            (None, Some(high)) if part == 0 => format!("{name} < {high}"),
            (Some(low), Some(high)) => format!("{low} <= {name} < {high}"),
            (Some(low), None) => format!("{low} <= {name}"),
            _ => String::new(),
        }
    }

    /// The class of the favourable answer.
    #[must_use]
    pub fn positive_class(&self, classes: &[String]) -> Option<u32> {
        let index = match &self.positive {
            Some(positive) => classes.iter().position(|class| class == positive)?,
            None if classes.len() == 2 => 1,
            None => return None,
        };
        u32::try_from(index).ok()
    }

    /// What is wrong with it, if anything is.
    fn fault(&self, manifest: &Manifest) -> Option<String> {
        let name = &self.name;
        let classes = &manifest.output.classes;
        let say = |text: String| Some(format!("group `{name}` {text}"));
        let rising =
            self.cuts.windows(2).all(|pair| pair[0] < pair[1]) && self.cuts.iter().all(|c| c.is_finite());
        let mut values = self.values.clone();
        values.sort_unstable();
        let named_twice = values.windows(2).find(|pair| pair[0] == pair[1]);
        let parts = self.parts();
        match &self.feature {
            _ if name.is_empty() => Some("a group has no name".into()),
            _ if manifest.model.task != Task::Classification => say("needs a classifier".into()),
            Some(_) if !self.values.is_empty() => say("has both a feature and values: one of them".into()),
            Some(feature) if !manifest.features.iter().any(|known| known.name == *feature) => {
                say(format!("cuts feature `{feature}`, which there is not"))
            }
            None if !self.cuts.is_empty() => say("has cuts and no feature to cut".into()),
            _ if !GROUP_PARTS.contains(&parts) => {
                say(format!("has {parts} parts, expected {} to {}", GROUP_PARTS.start(), GROUP_PARTS.end()))
            }
            _ if !rising => say(format!("has cuts {:?} that do not rise", self.cuts)),
            _ if named_twice.is_some() || values.iter().any(String::is_empty) => {
                say("has a value that is empty or stands twice".into())
            }
            _ if self.positive_class(classes).is_none() => match &self.positive {
                Some(positive) => say(format!("calls `{positive}` favourable, which is no class")),
                None => say(format!(
                    "must say which of the {} classes is the favourable one: `positive`",
                    classes.len()
                )),
            },
            _ => match self.max_difference {
                Some(most) if !(most > 0.0 && most <= 1.0) => {
                    say(format!("has max_difference {most}, expected above 0 and at most 1"))
                }
                _ => None,
            },
        }
    }
}

/// What is wrong with a manifest's groups, if anything is.
pub(super) fn fault(manifest: &Manifest) -> Option<String> {
    let groups = &manifest.groups;
    if groups.len() > MAX_GROUPS {
        return Some(format!("{} groups, {MAX_GROUPS} are the most", groups.len()));
    }
    let mut names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Some(format!("group `{}` stands twice", pair[0]));
    }
    groups.iter().find_map(|group| group.fault(manifest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = concat!(
        include_str!("../../testdata/v1/model.toml"),
        "\n[[group]]\nname = \"age\"\nfeature = \"s1\"\ncuts = [30.0, 60.0]\nmax_difference = 0.1\n",
        "\n[[group]]\nname = \"site\"\nvalues = [\"a\", \"b\"]\npositive = \"ethanol\"\n",
    );

    #[test]
    fn groups_round_trip_and_name_their_parts() {
        let manifest = Manifest::parse(GOOD).unwrap();
        assert_eq!(Manifest::parse(&manifest.to_text()).unwrap(), manifest);
        let [age, site] = &manifest.groups[..] else { panic!("two groups") };
        let names: Vec<String> = (0..4).map(|part| age.part_name(part)).collect();
        assert_eq!(names, ["age < 30", "30 <= age < 60", "60 <= age", ""]);
        assert_eq!((age.parts(), site.parts(), site.part_name(1)), (3, 2, "site = b".to_owned()));
        let classes = &manifest.output.classes;
        assert_eq!((age.positive_class(classes), site.positive_class(classes)), (Some(1), Some(0)));
    }

    #[test]
    fn a_manifest_without_groups_is_written_as_before() {
        let old = Manifest::parse(include_str!("../../testdata/v1/model.toml")).unwrap();
        assert!(old.groups.is_empty() && !old.to_text().contains("group"));
    }

    #[test]
    fn faults_are_named() {
        for (from, to, word) in [
            ("feature = \"s1\"", "feature = \"s9\"", "s9"),
            ("feature = \"s1\"\n", "", "no feature"),
            ("cuts = [30.0, 60.0]", "cuts = [60.0, 30.0]", "rise"),
            ("cuts = [30.0, 60.0]", "cuts = [nan]", "rise"),
            ("cuts = [30.0, 60.0]", "", "1 parts"),
            ("cuts = [30.0, 60.0]", "values = [\"x\", \"y\"]", "both"),
            ("values = [\"a\", \"b\"]", "values = [\"a\", \"a\"]", "twice"),
            ("name = \"site\"", "name = \"age\"", "stands twice"),
            ("name = \"site\"", "name = \"\"", "no name"),
            ("positive = \"ethanol\"", "positive = \"petrol\"", "petrol"),
            ("max_difference = 0.1", "max_difference = 0.0", "max_difference"),
            ("max_difference = 0.1", "colour = 1", "colour"),
            ("classes = [\"ethanol\", \"acetone\"]", "classes = [\"ethanol\", \"b\", \"c\"]", "positive"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "`{from}` is not in the sample");
            let error = Manifest::parse(&text).unwrap_err().to_string();
            assert!(error.contains(word), "{error} does not name {word}");
        }
        let many: String = (0..=MAX_GROUPS)
            .map(|i| format!("\n[[group]]\nname = \"g{i}\"\nvalues = [\"a\", \"b\"]\n"))
            .collect();
        let text = format!("{}{many}", include_str!("../../testdata/v1/model.toml"));
        assert!(Manifest::parse(&text).unwrap_err().to_string().contains("17 groups"));
    }
}
