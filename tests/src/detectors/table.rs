//! A table as it is printed, and as other programs read it.

use serde_json::{Map, Value};
use std::fmt;

/// Rows under named columns.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// What the numbers mean and how they were measured.
    pub(super) note: String,
    pub(super) columns: &'static [&'static str],
    pub(super) rows: Vec<Vec<Cell>>,
    /// Targets that were not reached, each with what was found.
    pub(super) missed: Vec<String>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(String),
    /// A number and its decimals.
    Number(f64, usize),
    Nothing,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number as f64, 0)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(cell: Option<T>) -> Self {
        cell.map_or(Self::Nothing, Into::into)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.pad(text),
            Self::Number(number, decimals) => f.pad(&format!("{number:.decimals$}")),
            Self::Nothing => f.pad("–"),
        }
    }
}

impl Table {
    pub(super) fn new(name: &'static str, columns: &'static [&'static str], note: String) -> Self {
        Self { name, note, columns, rows: Vec::new(), missed: Vec::new() }
    }

    /// Notes that `found` should be at most `most`.
    pub(super) fn at_most(&mut self, what: &str, found: Option<f64>, most: f64) {
        if found.is_none_or(|found| found > most) {
            let found = found.map_or("nothing".into(), |found| format!("{found:.2}"));
            self.missed.push(format!("{}, {what}: {found}, at most {most:.2}", self.name));
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let cells = self.columns.iter().zip(row).map(|(column, cell)| {
                let value = match cell {
                    Cell::Text(text) => Value::from(text.as_str()),
                    Cell::Number(number, _) => Value::from(*number),
                    Cell::Nothing => Value::Null,
                };
                ((*column).to_owned(), value)
            });
            Value::Object(cells.collect::<Map<_, _>>())
        });
        serde_json::json!({ "name": self.name, "note": self.note, "rows": rows.collect::<Vec<_>>() })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| row[column].to_string().chars().count());
                cells.max().unwrap_or_default().max(self.columns[column].chars().count())
            })
            .collect();
        writeln!(f, "## {}\n{}", self.name, self.note)?;
        let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
        let head = self.columns.iter().zip(&widths).map(|(name, width)| format!("{name:<width$}"));
        writeln!(f, "{}", line(head.collect()))?;
        writeln!(f, "{}", line(widths.iter().map(|width| "-".repeat(*width)).collect()))?;
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| match cell {
                Cell::Text(_) => format!("{cell:<width$}"),
                Cell::Number(..) | Cell::Nothing => format!("{cell:>width$}"),
            });
            writeln!(f, "{}", line(cells.collect()))?;
        }
        Ok(())
    }
}
