//! A recorded stream: CSV read once from top to bottom, some rows at a time, as long as it may be.

use crate::table::{TableError, listed};
use shoal_proto::manifest::{Manifest, Task};
use shoal_watch::row::Truth;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Rows that are read at once: enough for a model to answer them together.
pub const ROWS_AT_ONCE: usize = 256;

/// Which columns of a stream are read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Columns<'a> {
    /// The features, in the model's order.
    pub features: &'a [String],
    /// The truth.
    pub label: Option<&'a str>,
    /// Further columns, as text.
    pub others: &'a [String],
}

/// The truth that a cell tells; the error is what it should have been.
///
/// # Errors
/// A class that the model does not have, or no number.
pub fn truth_of(manifest: &Manifest, label: &str) -> Result<Truth, String> {
    match manifest.model.task {
        Task::Classification => {
            let classes = &manifest.output.classes;
            let index = classes.iter().position(|class| class == label);
            let index = index.ok_or_else(|| format!("none of the classes {}", classes.join(", ")))?;
            Ok(Truth::Class(u32::try_from(index).unwrap_or(u32::MAX)))
        }
        Task::Regression => {
            let value: Option<f64> = label.parse().ok().filter(|value: &f64| value.is_finite());
            value.map(Truth::Value).ok_or_else(|| "no number".to_owned())
        }
    }
}

/// Some rows of a stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chunk {
    /// Row-major; NaN where a cell is empty or holds no number.
    pub features: Vec<f32>,
    /// One a row, as written; empty where it is missing.
    pub labels: Vec<String>,
    /// Of each row the other columns, row-major.
    pub others: Vec<String>,
    /// How many rows these are.
    pub rows: usize,
}

/// A stream that is being read.
#[derive(Debug)]
pub struct Stream<R> {
    file: PathBuf,
    reader: csv::Reader<R>,
    features: Vec<usize>,
    label: Option<usize>,
    others: Vec<usize>,
    record: csv::StringRecord,
    /// Cells of features that hold something and no number, by feature.
    foreign: Vec<u64>,
}

impl Stream<File> {
    /// Opens a file.
    pub fn open(file: &Path, columns: Columns<'_>) -> Result<Self, TableError> {
        let opened = File::open(file).map_err(|source| TableError::Open { file: file.to_owned(), source })?;
        Self::new(file, opened, columns)
    }
}

impl<R: Read> Stream<R> {
    /// Reads CSV text; `file` is what errors call it.
    pub fn new(file: &Path, text: R, columns: Columns<'_>) -> Result<Self, TableError> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
        let failed = |source| TableError::Csv { file: file.to_owned(), source };
        let header = reader.headers().map_err(failed)?.clone();
        let header: Vec<&str> = header.iter().map(|name| name.trim_start_matches('\u{feff}')).collect();
        let find = |column: &str| {
            header.iter().position(|name| *name == column).ok_or_else(|| TableError::Column {
                file: file.to_owned(),
                column: column.to_owned(),
                has: listed(&header),
            })
        };
        let all = |names: &[String]| names.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>();
        let features = all(columns.features)?;
        Ok(Self {
            label: columns.label.map(find).transpose()?,
            others: all(columns.others)?,
            foreign: vec![0; features.len()],
            features,
            file: file.to_owned(),
            reader,
            record: csv::StringRecord::new(),
        })
    }

    /// The next rows; none at the end. A cell that holds no number is counted and taken for missing: a
    /// stream shows what an application would have sent.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, TableError> {
        let mut chunk = Chunk::default();
        while chunk.rows < ROWS_AT_ONCE {
            let failed = |source| TableError::Csv { file: self.file.clone(), source };
            if !self.reader.read_record(&mut self.record).map_err(failed)? {
                break;
            }
            for (place, foreign) in self.features.iter().zip(&mut self.foreign) {
                let text = &self.record[*place];
                let number = text.parse::<f32>();
                *foreign += u64::from(number.is_err() && !crate::table::is_missing(text));
                chunk.features.push(number.unwrap_or(f32::NAN));
            }
            if let Some(place) = self.label {
                let text = &self.record[place];
                chunk.labels.push(if crate::table::is_missing(text) {
                    String::new()
                } else {
                    text.to_owned()
                });
            }
            chunk.others.extend(self.others.iter().map(|place| self.record[*place].to_owned()));
            chunk.rows += 1;
        }
        Ok((chunk.rows > 0).then_some(chunk))
    }

    /// Cells so far that held something and no number, by feature.
    #[must_use]
    pub fn foreign(&self) -> &[u64] {
        &self.foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_some_rows_at_a_time() {
        let mut text = String::from("note,b,a,y\n");
        for row in 0..600 {
            text.push_str(&format!("n{row},{row},{},c{}\n", if row == 5 { "oops" } else { "1.5" }, row % 2));
        }
        let names = ["a".to_owned(), "b".to_owned()];
        let others = ["note".to_owned()];
        let columns = Columns { features: &names, label: Some("y"), others: &others };
        let mut stream = Stream::new(Path::new("s.csv"), text.as_bytes(), columns).unwrap();
        let mut sizes = Vec::new();
        while let Some(chunk) = stream.next_chunk().unwrap() {
            if sizes.is_empty() {
                assert_eq!(chunk.features[..4], [1.5, 0.0, 1.5, 1.0]);
                assert!(chunk.features[10].is_nan() && chunk.labels[1] == "c1" && chunk.others[2] == "n2");
            }
            sizes.push(chunk.rows);
        }
        assert_eq!((sizes, stream.foreign()), (vec![256, 256, 88], &[1, 0][..]));
        let missing = ["z".to_owned()];
        let columns = Columns { features: &missing, ..Columns::default() };
        let error = Stream::new(Path::new("s.csv"), text.as_bytes(), columns).unwrap_err().to_string();
        assert!(error.contains("no column `z`") && error.contains("`note`"), "{error}");
    }
}
