//! The demo over a user's own recording: a training file, and a stream in the order of time.

use std::collections::BTreeSet;

/// A training file and a stream with the same features and label.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The features' names, in the order of the training file.
    pub features: Vec<String>,
    /// The label's column.
    pub label: String,
    /// All labels, sorted.
    pub classes: Vec<String>,
    train: Vec<(Vec<f32>, usize)>,
    stream: Vec<(Vec<f32>, usize)>,
}

/// A recording that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Not CSV.
    #[error("{file} cannot be read as CSV")]
    Csv {
        /// Which file.
        file: &'static str,
        #[source]
        source: csv::Error,
    },
    /// A column that is needed.
    #[error("{file} has no column `{column}` (it has: {present})")]
    Column {
        /// Which file.
        file: &'static str,
        /// Which column.
        column: String,
        /// Those that are there.
        present: String,
    },
    /// A stream may only hold what the training file knows.
    #[error("{file} row {row}: label `{label}` is not in the training file")]
    Label {
        /// Which file.
        file: &'static str,
        /// Counted from 1, without the head.
        row: usize,
        /// As written.
        label: String,
    },
    /// Nothing to learn or to tell apart.
    #[error("{file} has {found}, expected {expected}")]
    Few {
        /// Which file.
        file: &'static str,
        /// What it has.
        found: String,
        /// What is needed.
        expected: &'static str,
    },
}

/// A table as text: head and rows.
struct Table {
    file: &'static str,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn parse(file: &'static str, text: &str) -> Result<Self, DataError> {
        let wrong = |source| DataError::Csv { file, source };
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let head = reader.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
        let rows = reader
            .records()
            .map(|record| Ok(record.map_err(wrong)?.iter().map(str::to_owned).collect()))
            .collect::<Result<_, DataError>>()?;
        Ok(Self { file, head, rows })
    }

    fn column(&self, name: &str) -> Result<usize, DataError> {
        self.head.iter().position(|column| column == name).ok_or_else(|| DataError::Column {
            file: self.file,
            column: name.to_owned(),
            present: self.head.join(", "),
        })
    }

    /// Columns that are numbers wherever they hold anything.
    fn varies(&self, at: usize) -> bool {
        self.rows.iter().any(|row| row[at] != self.rows[0][at])
    }

    fn numeric(&self, column: usize) -> bool {
        self.rows.iter().all(|row| row[column].is_empty() || row[column].parse::<f32>().is_ok())
            && self.rows.iter().any(|row| !row[column].is_empty())
    }

    fn read(
        &self,
        features: &[String],
        label: &str,
        classes: &[String],
    ) -> Result<Vec<(Vec<f32>, usize)>, DataError> {
        let label = self.column(label)?;
        let columns = features.iter().map(|name| self.column(name)).collect::<Result<Vec<_>, _>>()?;
        let value = |cell: &String| cell.parse().unwrap_or(f32::NAN);
        self.rows
            .iter()
            .enumerate()
            .map(|(number, row)| {
                let class = classes.binary_search(&row[label]).map_err(|_place| DataError::Label {
                    file: self.file,
                    row: number + 1,
                    label: row[label].clone(),
                })?;
                Ok((columns.iter().map(|column| value(&row[*column])).collect(), class))
            })
            .collect()
    }
}

impl Recording {
    /// Reads both files. Features are the columns of numbers that both have, other than the label;
    /// further columns of either are passed over. An empty or unreadable cell is a missing value.
    pub fn parse(train: &str, stream: &str, label: &str) -> Result<Self, DataError> {
        let (train, stream) =
            (Table::parse("the training file", train)?, Table::parse("the stream", stream)?);
        let column = train.column(label)?;
        let classes: Vec<String> =
            train.rows.iter().map(|row| row[column].clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let features: Vec<String> = train
            .head
            .iter()
            .enumerate()
            .filter(|(at, name)| *at != column && train.numeric(*at) && stream.head.contains(name))
            .filter(|(at, _)| train.varies(*at)) // a constant tells nothing, and out there it may be none
            .map(|(_, name)| name.clone())
            .collect();
        if classes.len() < 2 || features.is_empty() {
            let found = format!("{} labels and {} features", classes.len(), features.len());
            return Err(DataError::Few { file: train.file, found, expected: "two labels and a feature" });
        }
        let recording = Self {
            train: train.read(&features, label, &classes)?,
            stream: stream.read(&features, label, &classes)?,
            label: label.to_owned(),
            features,
            classes,
        };
        if recording.stream.is_empty() {
            let (file, found) = (stream.file, "no row".to_owned());
            return Err(DataError::Few { file, found, expected: "a row for each device" });
        }
        Ok(recording)
    }

    /// The training file with the features and the label only.
    #[must_use]
    pub fn train_csv(&self) -> String {
        let mut text = self.features.join(",") + "," + &self.label + "\n";
        for (row, class) in &self.train {
            for value in row {
                if value.is_finite() {
                    text.push_str(&value.to_string());
                }
                text.push(',');
            }
            text.push_str(&self.classes[*class]);
            text.push('\n');
        }
        text
    }

    /// One device's share of the stream: every `devices`-th row, so that each sees the whole course of
    /// the drift.
    pub fn device(&self, id: usize, devices: usize) -> impl Iterator<Item = (&[f32], usize)> {
        self.stream.iter().skip(id).step_by(devices.max(1)).map(|(row, class)| (row.as_slice(), *class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAIN: &str = "a,site,b,y\n1,x,2,no\n3,x,,yes\n";
    const STREAM: &str = "y,b,a,extra\nyes,1,10,9\nno,2,20,9\nyes,3,30,9\nno,4,40,9\nno,5,50,9\n";

    #[test]
    fn rows_are_dealt_so_that_every_device_sees_the_whole_course() {
        let recording = Recording::parse(TRAIN, STREAM, "y").unwrap();
        assert_eq!(recording.features, ["a", "b"]);
        assert_eq!(recording.classes, ["no", "yes"]);
        let rows = |id| recording.device(id, 2).map(|(row, class)| (row[0], class)).collect::<Vec<_>>();
        assert_eq!(rows(0), [(10.0, 1), (30.0, 1), (50.0, 0)]);
        assert_eq!(rows(1), [(20.0, 0), (40.0, 0)]);
    }

    #[test]
    fn the_training_file_keeps_what_is_used() {
        let recording = Recording::parse(TRAIN, STREAM, "y").unwrap();
        assert_eq!(recording.train_csv(), "a,b,y\n1,2,no\n3,,yes\n");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (train, stream, label, word) in [
            (TRAIN, STREAM, "z", "`z`"),
            (TRAIN, "a,b\n1,2\n", "y", "`y`"),
            (TRAIN, "a,b,y\n1,2,perhaps\n", "y", "perhaps"),
            ("a,y\n1,no\n", STREAM, "y", "1 labels"),
            (TRAIN, "a,b,y\n", "y", "no row"),
            ("a,y\n1,no,3\n", STREAM, "y", "CSV"),
        ] {
            let error = Recording::parse(train, stream, label).unwrap_err().to_string();
            assert!(error.contains(word), "{error} does not name {word}");
        }
    }
}
