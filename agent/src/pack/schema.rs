//! What a table's columns are, as far as their numbers and names tell.

use super::units::unit;
use crate::table::Table;
use serde::Serialize;
use std::fmt;

/// Different whole numbers up to which a column may hold categories.
const MAX_CATEGORIES: usize = 20;
/// Rows for each of them, on the average, below which it may as well hold measurements.
const ROWS_A_CATEGORY: usize = 5;
/// Share of missing values from which on it is said.
const MANY_MISSING: f64 = 0.2;
/// Columns that are printed: beyond it a person wants the JSON.
const MAX_PRINTED: usize = 24;

/// What the columns and rows of a table are.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Schema {
    /// The features, in the model's order.
    pub columns: Vec<Column>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// A feature.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its unit, where the name carries one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// What its numbers look like.
    pub kind: ColumnKind,
    /// Least value.
    pub min: f32,
    /// One of a hundred values is below this.
    pub q01: f32,
    /// One of a hundred values is above this.
    pub q99: f32,
    /// Greatest value.
    pub max: f32,
    /// Different values.
    pub distinct: usize,
    /// Share of the rows without a value.
    pub missing: f64,
}

/// What the numbers of a column look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// No value at all.
    Empty,
    /// One value.
    Constant,
    /// Nought and one.
    Flag,
    /// A few whole numbers: a category, perhaps, whose order means nothing.
    Categories,
    /// Whole numbers.
    Whole,
    /// Numbers.
    Number,
}

impl Schema {
    /// Looks at a table.
    #[must_use]
    pub fn of(table: &Table) -> Self {
        let columns: Vec<Column> = (0..table.width()).map(|place| Column::of(table, place)).collect();
        let mut warnings = Vec::new();
        let constant = named(&columns, |column| column.distinct <= 1);
        if !constant.is_empty() {
            warnings.push(format!("always the same, so nothing is learned from it: {constant}"));
        }
        let missing = named(&columns, |column| column.missing >= MANY_MISSING);
        if !missing.is_empty() {
            let share = MANY_MISSING * 100.0;
            warnings.push(format!("{share:.0} % of the rows or more have no value in {missing}"));
        }
        warnings.extend(same_columns(table).into_iter().map(|(first, second)| {
            format!("column `{}` is the same as `{}`", table.names[second], table.names[first])
        }));
        let twice = repeated_rows(table);
        if twice > 0 {
            let rows = table.rows();
            warnings.push(format!(
                "{twice} of {rows} rows repeat the features of another: the held-out score may be too good"
            ));
        }
        Self { columns, warnings }
    }
}

impl Column {
    fn of(table: &Table, place: usize) -> Self {
        let name = table.names[place].clone();
        let all = table.features.iter().skip(place).step_by(table.width().max(1));
        let mut values: Vec<f32> = all.copied().filter(|value| value.is_finite()).collect();
        values.sort_by(f32::total_cmp);
        let quantile = |percent: usize| {
            values.get(values.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
        };
        let distinct = values.chunk_by(|a, b| a == b).count();
        let (min, max) = (quantile(0), quantile(100));
        let is_whole = values.iter().all(|value| value.fract() == 0.0);
        let kind = match distinct {
            0 => ColumnKind::Empty,
            1 => ColumnKind::Constant,
            2 if (min, max) == (0.0, 1.0) => ColumnKind::Flag,
            few if is_whole && few <= MAX_CATEGORIES && values.len() >= few * ROWS_A_CATEGORY => {
                ColumnKind::Categories
            }
            _ if is_whole => ColumnKind::Whole,
            _ => ColumnKind::Number,
        };
        let missing = 1.0 - values.len() as f64 / table.rows().max(1) as f64;
        Self {
            unit: unit(&name),
            name,
            kind,
            min,
            q01: quantile(1),
            q99: quantile(99),
            max,
            distinct,
            missing,
        }
    }

    /// What a person may want to know, besides the numbers.
    fn note(&self) -> String {
        match self.kind {
            ColumnKind::Empty => "no value".into(),
            ColumnKind::Constant => "constant".into(),
            ColumnKind::Flag => "flag".into(),
            ColumnKind::Categories => format!("{} whole numbers: a category?", self.distinct),
            ColumnKind::Whole => "whole numbers".into(),
            ColumnKind::Number => String::new(),
        }
    }
}

/// The names of those columns, the first few.
fn named(columns: &[Column], is_such: impl Fn(&Column) -> bool) -> String {
    const MOST: usize = 8;
    let all: Vec<&str> = columns.iter().filter(|one| is_such(one)).map(|one| one.name.as_str()).collect();
    let shown: Vec<String> = all.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    match all.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Pairs of columns with the same numbers, each with the first that has them. Constant ones are not told of
/// again.
fn same_columns(table: &Table) -> Vec<(usize, usize)> {
    let width = table.width();
    let column = |place: usize| table.features.iter().skip(place).step_by(width).map(|value| value.to_bits());
    let varies = |place: &usize| {
        let mut values = column(*place);
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let mut places: Vec<usize> = (0..width).filter(varies).collect();
    places.sort_by(|a, b| column(*a).cmp(column(*b)).then(a.cmp(b)));
    let groups = places.chunk_by(|a, b| column(*a).eq(column(*b)));
    let mut pairs: Vec<_> = groups.flat_map(|group| group[1..].iter().map(|at| (group[0], *at))).collect();
    pairs.sort_unstable_by_key(|(_, second)| *second);
    pairs
}

/// How many rows have the features of an earlier one.
fn repeated_rows(table: &Table) -> usize {
    let bits = |row: usize| table.row(row).iter().map(|value| value.to_bits());
    let mut rows: Vec<usize> = (0..table.rows()).collect();
    rows.sort_unstable_by(|a, b| bits(*a).cmp(bits(*b)));
    rows.chunk_by(|a, b| bits(*a).eq(bits(*b))).map(|group| group.len() - 1).sum()
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.columns[..self.columns.len().min(MAX_PRINTED)];
        let widest = shown.iter().map(|column| column.name.chars().count()).max().unwrap_or(0).clamp(6, 32);
        let head = ["min", "1 %", "99 %", "max"].map(|word| format!("{word:>10}")).join(" ");
        writeln!(f, "  {:<widest$} {:<7} {head}  missing", "column", "unit")?;
        for column in shown {
            let Column { name, unit, min, q01, q99, max, .. } = column;
            let numbers = [min, q01, q99, max].map(|value| format!("{:>10}", short(*value))).join(" ");
            let missing = format!("{:.1} %", column.missing * 100.0);
            let line = format!("  {name:<widest$} {unit:<7} {numbers}  {missing:<8} {}", column.note());
            writeln!(f, "{}", line.trim_end())?;
        }
        let more = self.columns.len() - shown.len();
        if more > 0 {
            writeln!(f, "  and {more} more (--json has all)")?;
        }
        Ok(())
    }
}

/// Four digits, however large the number.
fn short(value: f32) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-3..1e6).contains(&size) {
        let digits = if size >= 1_000.0 {
            0
        } else if size >= 10.0 {
            2
        } else {
            4
        };
        let text = format!("{value:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    } else {
        format!("{value:.2e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Features;
    use std::fmt::Write as _;
    use std::path::Path;

    fn schema(csv: &str) -> Schema {
        let table = Table::parse(Path::new("t.csv"), csv.as_bytes(), Features::AllBut(&[]), None).unwrap();
        Schema::of(&table)
    }

    #[test]
    fn columns_are_told_apart() {
        let mut csv = "temp_c,on,gear,count,same,copy [bar],p [bar],hole\n".to_owned();
        for at in 0..200 {
            let p = f64::from(at) / 8.0;
            let hole = if at % 2 == 0 { String::new() } else { at.to_string() };
            writeln!(csv, "{},{},{},{at},5,{p},{p},{hole}", p * p, at % 2, at % 6).unwrap();
        }
        csv += "0,0,0,0,5,0,0,\n";
        let schema = schema(&csv);
        use ColumnKind::{Categories, Constant, Flag, Number, Whole};
        let kinds: Vec<_> = schema.columns.iter().map(|column| column.kind).collect();
        assert_eq!(kinds, [Number, Flag, Categories, Whole, Constant, Number, Number, Whole]);
        let (first, hole) = (&schema.columns[0], &schema.columns[7]);
        assert_eq!((first.unit.as_str(), first.min, first.distinct), ("°C", 0.0, 200));
        assert!(first.q01 > first.min && first.q99 < first.max && hole.missing > 0.5);
        let text = schema.warnings.join("\n");
        for word in ["`same`", "in `hole`", "`p [bar]` is the same as `copy [bar]`", "1 of 201 rows"] {
            assert!(text.contains(word), "{word} is not in:\n{text}");
        }
        assert_eq!(schema.warnings.len(), 4, "{text}");
        let table = schema.to_string();
        for word in ["temp_c", "°C", "6 whole numbers: a category?", "constant", "50.2 %"] {
            assert!(table.contains(word), "{word} is not in:\n{table}");
        }
    }

    #[test]
    fn a_wide_table_is_cut_and_numbers_stay_short() {
        let head: Vec<String> = (0..60).map(|at| format!("c{at}")).collect();
        let row: Vec<String> = (0..60).map(|at| format!("{at}.5")).collect();
        let text = schema(&format!("{}\n{}\n", head.join(","), row.join(","))).to_string();
        assert!(text.contains("and 36 more"), "{text}");
        for (value, expected) in
            [(0.0, "0"), (1.5, "1.5"), (12345.6, "12346"), (1e-6, "1.00e-6"), (2e9, "2.00e9"), (100.0, "100")]
        {
            assert_eq!(short(value), expected);
        }
    }
}
