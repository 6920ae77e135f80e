//! Reads a TOML file key by key, and gathers every problem instead of stopping at the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The line, from one; zero where something is missing altogether.
    pub line: usize,
    /// The key.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        write!(f, "{}; {}", self.what, self.fix)
    }
}

/// A file being read. Keys that nobody asked for are problems in the end.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    text: &'t str,
    root: DeTable<'t>,
    asked: BTreeMap<String, BTreeSet<String>>,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut reader = Self { text, root: root.into_inner(), asked: BTreeMap::new(), problems: Vec::new() };
        for error in errors {
            let line = error.span().map_or(0, |span| reader.line(span.start));
            reader.problem(line, "", error.message().to_owned(), "see toml.io for the syntax");
        }
        reader
    }

    /// Whether a table is written.
    pub(super) fn has(&self, table: &str) -> bool {
        self.root.contains_key(table)
    }

    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    pub(super) fn problem(&mut self, line: usize, key: &str, what: String, fix: &str) {
        self.problems.push(Problem { line, key: key.to_owned(), what, fix: fix.to_owned() });
    }

    pub(super) fn has_problem_at(&self, table: &str, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == format!("{table}.{key}"))
    }

    /// The line of a key; zero where it is not written.
    pub(super) fn line_of(&mut self, table: &str, key: &str) -> usize {
        self.value(table, key).map_or(0, |(line, _)| line)
    }

    pub(super) fn lacks(&mut self, table: &str, key: &str, what: &str) {
        let fix = format!("write `{key} = …` under `[{table}]`: {what}");
        self.problem(0, &format!("{table}.{key}"), "is missing".into(), &fix);
    }

    fn value(&mut self, table: &str, key: &str) -> Option<(usize, DeValue<'t>)> {
        self.asked.entry(table.to_owned()).or_default().insert(key.to_owned());
        let value = self.root.get(table)?.get_ref().as_table()?.get(key)?;
        Some((self.line(value.span().start), value.get_ref().clone()))
    }

    fn wrong<T>(&mut self, line: usize, table: &str, key: &str, found: &DeValue<'_>, fix: &str) -> Option<T> {
        let what = match found.as_str() {
            Some(text) => format!("`{text}` cannot be taken"),
            None => format!("a value of type {} cannot be taken", found.type_str()),
        };
        self.problem(line, &format!("{table}.{key}"), what, &format!("write {fix}"));
        None
    }

    /// A text with a form of its own.
    pub(super) fn parsed<T: FromStr>(&mut self, table: &str, key: &str, fix: &str) -> Option<T> {
        let (line, value) = self.value(table, key)?;
        match value.as_str().and_then(|text| text.parse().ok()) {
            Some(parsed) => Some(parsed),
            None => self.wrong(line, table, key, &value, fix),
        }
    }

    /// A URL of one scheme, with host and port.
    pub(super) fn url(&mut self, table: &str, key: &str, scheme: &str) -> Option<String> {
        let (line, value) = self.value(table, key)?;
        let prefix = format!("{scheme}://");
        let fits = |text: &str| text.strip_prefix(&prefix).is_some_and(|rest| !rest.is_empty());
        match value.as_str().filter(|text| fits(text)) {
            Some(text) => Some(text.trim_end_matches('/').to_owned()),
            None => self.wrong(line, table, key, &value, &format!("a URL such as \"{prefix}host:port\"")),
        }
    }

    /// A path; a relative one is taken from `base`.
    pub(super) fn path(&mut self, table: &str, key: &str, base: &Path) -> Option<PathBuf> {
        let (line, value) = self.value(table, key)?;
        match value.as_str().filter(|text| !text.is_empty()) {
            Some(text) => Some(base.join(text)),
            None => self.wrong(line, table, key, &value, "a path in quotes"),
        }
    }

    /// A whole number in a range.
    pub(super) fn whole(&mut self, table: &str, key: &str, least: u64, most: u64) -> Option<u64> {
        let (line, value) = self.value(table, key)?;
        let number = value.as_integer().and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Some(number),
            None => self.wrong(line, table, key, &value, &format!("a whole number from {least} to {most}")),
        }
    }

    /// A number in a range.
    pub(super) fn share(&mut self, table: &str, key: &str, least: f64, most: f64) -> Option<f64> {
        let (line, value) = self.value(table, key)?;
        let text = match &value {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) => number.as_str(),
            _ => "",
        };
        match text.parse::<f64>().ok().filter(|number| (least..=most).contains(number)) {
            Some(number) => Some(number),
            None => self.wrong(line, table, key, &value, &format!("a number from {least} to {most}")),
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, table: &str, key: &str) -> Option<bool> {
        let (line, value) = self.value(table, key)?;
        match value.as_bool() {
            Some(flag) => Some(flag),
            None => self.wrong(line, table, key, &value, "true or false"),
        }
    }

    /// A list of texts, with the line of each.
    pub(super) fn texts(&mut self, table: &str, key: &str) -> Vec<(usize, String)> {
        let Some((line, value)) = self.value(table, key) else { return Vec::new() };
        let Some(items) = value.as_array() else {
            return self.wrong(line, table, key, &value, "a list of texts in quotes").unwrap_or_default();
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            let line = self.line(item.span().start);
            match item.get_ref().as_str() {
                Some(text) => texts.push((line, text.to_owned())),
                None => drop(self.wrong::<()>(line, table, key, item.get_ref(), "a text in quotes")),
            }
        }
        texts
    }

    /// A table of texts.
    pub(super) fn text_map(&mut self, table: &str, key: &str) -> BTreeMap<String, String> {
        let Some((line, value)) = self.value(table, key) else { return BTreeMap::new() };
        let Some(items) = value.as_table() else {
            return self
                .wrong(line, table, key, &value, "a table such as { site = \"lyon\" }")
                .unwrap_or_default();
        };
        let mut map = BTreeMap::new();
        for (name, item) in items {
            let line = self.line(item.span().start);
            match item.get_ref().as_str() {
                Some(text) => drop(map.insert(name.get_ref().to_string(), text.to_owned())),
                None => drop(self.wrong::<()>(line, table, key, item.get_ref(), "a text in quotes")),
            }
        }
        map
    }

    /// Tables in a table, by their names, each of numbers that lie within bounds; those that are not written, or
    /// are wrong, are `None`. With the line of each.
    pub(super) fn numbers_by_name<const N: usize>(
        &mut self,
        table: &str,
        key: &str,
        known: [(&str, f64, f64); N],
    ) -> Vec<(usize, String, [Option<f64>; N])> {
        let Some((line, value)) = self.value(table, key) else { return Vec::new() };
        let shape = format!("tables such as [{table}.{key}.NAME]");
        let Some(tables) = value.as_table() else {
            return self.wrong(line, table, key, &value, &shape).unwrap_or_default();
        };
        let mut found = Vec::new();
        for (name, item) in tables {
            let line = self.line(item.span().start);
            let Some(fields) = item.get_ref().as_table() else {
                self.wrong::<()>(line, table, key, item.get_ref(), &shape);
                continue;
            };
            let path = format!("{key}.{}", name.get_ref());
            let mut numbers = [None; N];
            for (field, value) in fields {
                let line = self.line(value.span().start);
                let word = field.get_ref().as_ref();
                let place = known.iter().position(|(name, ..)| *name == word);
                let Some((place, (_, least, most))) = place.map(|place| (place, known[place])) else {
                    let names: Vec<String> = known.iter().map(|(name, ..)| (*name).to_owned()).collect();
                    self.unknown(field, &format!("{table}.{path}"), &names);
                    continue;
                };
                let text = match value.get_ref() {
                    DeValue::Float(number) => number.as_str(),
                    DeValue::Integer(number) => number.as_str(),
                    _ => "",
                };
                numbers[place] = text.parse::<f64>().ok().filter(|number| (least..=most).contains(number));
                if numbers[place].is_none() {
                    let fix = format!("a number from {least} to {most}");
                    self.wrong::<()>(line, table, &format!("{path}.{word}"), value.get_ref(), &fix);
                }
            }
            found.push((line, name.get_ref().to_string(), numbers));
        }
        found
    }

    /// One path of each table of an array of tables.
    pub(super) fn tables(&mut self, table: &str, key: &str, base: &Path) -> Vec<PathBuf> {
        self.asked.entry(table.to_owned()).or_default();
        let Some(found) = self.root.get(table).cloned() else { return Vec::new() };
        let line = self.line(found.span().start);
        let Some(items) = found.get_ref().as_array() else {
            self.problem(line, table, "is one table".into(), &format!("write `[[{table}]]` for each"));
            return Vec::new();
        };
        let mut paths = Vec::new();
        for item in items.iter() {
            let Some(fields) = item.get_ref().as_table() else { continue };
            let text = fields.get(key).and_then(|value| value.get_ref().as_str());
            match text {
                Some(text) => paths.push(base.join(text)),
                None => self.problem(
                    self.line(item.span().start),
                    &format!("{table}.{key}"),
                    "is missing".into(),
                    &format!("write `{key} = \"…\"` under `[[{table}]]`"),
                ),
            }
            for (name, _) in fields.iter().filter(|(name, _)| name.get_ref() != key) {
                self.unknown(name, table, &[key.to_owned()]);
            }
        }
        paths
    }

    fn unknown(&mut self, name: &Spanned<std::borrow::Cow<'_, str>>, table: &str, known: &[String]) {
        let line = self.line(name.span().start);
        let word = name.get_ref().as_ref();
        let key = if table.is_empty() { word.to_owned() } else { format!("{table}.{word}") };
        let fix = match nearest(word, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", known.join(", ")),
        };
        self.problem(line, &key, "is not known".into(), &fix);
    }

    /// The settings, if nothing was wrong.
    pub(super) fn finish<T>(mut self, settings: T) -> Result<T, Vec<Problem>> {
        let root = std::mem::take(&mut self.root);
        let asked = std::mem::take(&mut self.asked);
        let tables: Vec<String> = asked.keys().cloned().collect();
        for (name, value) in &root {
            let Some(known) = asked.get(name.get_ref().as_ref()) else {
                self.unknown(name, "", &tables);
                continue;
            };
            let known: Vec<String> = known.iter().cloned().collect();
            match value.get_ref().as_table() {
                Some(fields) => {
                    for (field, _) in fields
                        .iter()
                        .filter(|(field, _)| !known.iter().any(|key| key == field.get_ref().as_ref()))
                    {
                        self.unknown(field, name.get_ref(), &known);
                    }
                }
                None if known.is_empty() => {}
                None => {
                    let line = self.line(value.span().start);
                    self.problem(line, name.get_ref(), "is not a table".into(), "write it as `[name]`");
                }
            }
        }
        if self.problems.is_empty() {
            return Ok(settings);
        }
        self.problems.sort();
        self.problems.dedup();
        Err(self.problems)
    }
}

/// The known word that differs least, if it differs little.
fn nearest<'k>(word: &str, known: &'k [String]) -> Option<&'k String> {
    known
        .iter()
        .map(|key| (distance(word, key), key))
        .filter(|(far, key)| *far <= key.len() / 3 + 1)
        .min()
        .map(|(_, key)| key)
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row.last().copied().unwrap_or_default()
}
