//! Tables of numbers from CSV files: a header, feature columns, and a label.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Numbers in a table at most: 256 MiB as f32, what a machine that packs can spare.
pub const MAX_CELLS: usize = 64 << 20;
/// Classes at most that may be found in a label column: beyond it the column holds values.
pub const MAX_FOUND_CLASSES: usize = 1_000;

/// Which columns are features.
#[derive(Debug, Clone, Copy)]
pub enum Features<'a> {
    /// All but the label and these.
    AllBut(&'a [String]),
    /// These, in this order, wherever they stand; a stream's further columns are ignored.
    Named(&'a [String]),
}

/// What the label column holds.
#[derive(Debug, Clone, Copy)]
pub enum Label<'a> {
    /// Classes that are to be found out: numbers in numeric order, else by text.
    Classes(&'a str),
    /// Classes of a model; another one is an error.
    Of(&'a str, &'a [String]),
    /// Numbers.
    Values(&'a str),
}

impl Label<'_> {
    fn column(&self) -> &str {
        match self {
            Label::Classes(column) | Label::Of(column, _) | Label::Values(column) => column,
        }
    }
}

/// A table in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The feature columns' names.
    pub names: Vec<String>,
    /// Row-major; NaN where a cell is empty, `NaN`, `NA` or `null`.
    pub features: Vec<f32>,
    /// One a row.
    pub targets: Targets,
}

/// The label column.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// None was asked for.
    None,
    /// Class names, and one of them for each row that has a label.
    Classes {
        /// In the model's order.
        classes: Vec<String>,
        /// By row.
        rows: Vec<Option<u32>>,
    },
    /// A number for each row that has one.
    Values(Vec<Option<f32>>),
}

/// A table that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// No such file, or one that cannot be read.
    #[error("failed to open `{file}`")]
    Open {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Not CSV, or rows of different lengths.
    #[error("failed to read `{file}`")]
    Csv {
        file: PathBuf,
        #[source]
        source: csv::Error,
    },
    /// A column that is needed is not there.
    #[error("`{file}` has no column `{column}`; it has {has}")]
    Column { file: PathBuf, column: String, has: String },
    /// The header names a column twice.
    #[error("`{file}` has two columns `{column}`")]
    Twice { file: PathBuf, column: String },
    /// A cell that should be a number is none.
    #[error("`{file}`, line {line}, column `{column}`: expected a number, got `{value}`")]
    NotANumber { file: PathBuf, line: u64, column: String, value: String },
    /// A label that the model does not know.
    #[error("`{file}`, line {line}, column `{column}`: `{value}` is none of the classes {classes}")]
    UnknownClass { file: PathBuf, line: u64, column: String, value: String, classes: String },
    /// Too many different labels.
    #[error("`{file}`, column `{column}`: more than {MAX_FOUND_CLASSES} classes")]
    TooManyClasses { file: PathBuf, column: String },
    /// Nothing to read.
    #[error("`{file}` has {what}")]
    Empty { file: PathBuf, what: &'static str },
    /// More than fits.
    #[error("`{file}` has more than {MAX_CELLS} numbers")]
    TooLarge { file: PathBuf },
}

impl TableError {
    /// What a person can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Open { .. } => return None,
            Self::Csv { .. } => "every row needs as many cells as the header, separated by commas, in UTF-8",
            Self::Column { .. } => "name a column of the header with --label",
            Self::Twice { .. } => "rename one of them in the header",
            Self::NotANumber { .. } => {
                "leave the column out with --drop, encode it as numbers, or leave the cell empty for a missing value"
            }
            Self::UnknownClass { .. } => "correct the label, or leave the cell empty",
            Self::TooManyClasses { .. } => "use --task regression for a label that is a number",
            Self::Empty { .. } => "the first line names the columns, each further line is a row",
            Self::TooLarge { .. } => "take a sample of the rows",
        })
    }
}

impl Table {
    /// Reads a file.
    pub fn read(file: &Path, features: Features<'_>, label: Option<Label<'_>>) -> Result<Self, TableError> {
        let opened = File::open(file).map_err(|source| TableError::Open { file: file.to_owned(), source })?;
        Self::parse(file, opened, features, label)
    }

    /// Reads CSV text; `file` is what errors call it.
    pub fn parse(
        file: &Path,
        text: impl Read,
        features: Features<'_>,
        label: Option<Label<'_>>,
    ) -> Result<Self, TableError> {
        let file = file.to_owned();
        let failed = |source| TableError::Csv { file: file.clone(), source };
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
        let header = reader.headers().map_err(failed)?.clone();
        let header: Vec<&str> = header.iter().map(|name| name.trim_start_matches('\u{feff}')).collect();
        let layout = Layout::new(&file, &header, features, label.as_ref())?;
        let (mut numbers, mut labels) = (Vec::new(), Vec::new());
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(failed)? {
            let line = record.position().map_or(0, csv::Position::line);
            for place in &layout.features {
                numbers.push(cell(&file, line, header[*place], &record[*place])?.unwrap_or(f32::NAN));
            }
            if numbers.len() > MAX_CELLS {
                return Err(TableError::TooLarge { file });
            }
            if let Some(place) = layout.label {
                labels.push((line, record[place].to_owned()));
            }
        }
        if numbers.is_empty() {
            return Err(TableError::Empty { file, what: "no rows" });
        }
        let targets = match label {
            None => Targets::None,
            Some(Label::Classes(column)) => found_classes(&file, column, &labels)?,
            Some(Label::Of(column, classes)) => known_classes(&file, column, classes, &labels)?,
            Some(Label::Values(column)) => Targets::Values(
                labels
                    .iter()
                    .map(|(line, text)| cell(&file, *line, column, text))
                    .collect::<Result<_, _>>()?,
            ),
        };
        let names = layout.features.iter().map(|place| header[*place].to_owned()).collect();
        Ok(Self { names, features: numbers, targets })
    }

    /// Features of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.names.len()
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.features.len() / self.width().max(1)
    }

    /// The features of a row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.features[row * self.width()..(row + 1) * self.width()]
    }
}

/// Where the columns stand.
struct Layout {
    features: Vec<usize>,
    label: Option<usize>,
}

impl Layout {
    fn new(
        file: &Path,
        header: &[&str],
        features: Features<'_>,
        label: Option<&Label<'_>>,
    ) -> Result<Self, TableError> {
        let mut sorted = header.to_vec();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(TableError::Twice { file: file.to_owned(), column: pair[0].to_owned() });
        }
        let find = |column: &str| {
            header.iter().position(|name| *name == column).ok_or_else(|| TableError::Column {
                file: file.to_owned(),
                column: column.to_owned(),
                has: listed(header),
            })
        };
        let label = label.map(|label| find(label.column())).transpose()?;
        let features = match features {
            Features::Named(names) => names.iter().map(|name| find(name)).collect::<Result<_, _>>()?,
            Features::AllBut(dropped) => {
                let dropped = dropped.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
                (0..header.len()).filter(|place| Some(*place) != label && !dropped.contains(place)).collect()
            }
        };
        let layout: Self = Self { features, label };
        if layout.features.is_empty() {
            return Err(TableError::Empty { file: file.to_owned(), what: "no feature columns" });
        }
        Ok(layout)
    }
}

/// The first names of a list.
pub(crate) fn listed(names: &[impl AsRef<str>]) -> String {
    const MOST: usize = 8;
    let mut text: Vec<String> = names.iter().take(MOST).map(|name| format!("`{}`", name.as_ref())).collect();
    if names.len() > MOST {
        text.push(format!("and {} more", names.len() - MOST));
    }
    text.join(", ")
}

pub(crate) fn is_missing(text: &str) -> bool {
    ["", "nan", "na", "n/a", "null", "none"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A number, or none where it is missing.
fn cell(file: &Path, line: u64, column: &str, text: &str) -> Result<Option<f32>, TableError> {
    if is_missing(text) {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_cause| TableError::NotANumber {
        file: file.to_owned(),
        line,
        column: column.to_owned(),
        value: text.chars().take(80).collect(),
    })
}

fn found_classes(file: &Path, column: &str, labels: &[(u64, String)]) -> Result<Targets, TableError> {
    let mut classes: Vec<String> = Vec::new();
    for (_, text) in labels.iter().filter(|(_, text)| !is_missing(text)) {
        if let Err(place) = classes.binary_search(text) {
            classes.insert(place, text.clone());
        }
        if classes.len() > MAX_FOUND_CLASSES {
            return Err(TableError::TooManyClasses { file: file.to_owned(), column: column.to_owned() });
        }
    }
    let number = |text: &String| text.parse::<f64>().ok().filter(|value| value.is_finite());
    if classes.iter().all(|class| number(class).is_some()) {
        let key = |class: &String| number(class).unwrap_or_default();
        classes.sort_by(|a, b| key(a).total_cmp(&key(b)).then_with(|| a.cmp(b)));
    }
    known_classes(file, column, &classes, labels)
}

fn known_classes(
    file: &Path,
    column: &str,
    classes: &[String],
    labels: &[(u64, String)],
) -> Result<Targets, TableError> {
    let class = |(line, text): &(u64, String)| {
        if is_missing(text) && !classes.contains(text) {
            return Ok(None);
        }
        (0..).zip(classes).find(|(_, class)| *class == text).map(|(index, _)| Some(index)).ok_or_else(|| {
            TableError::UnknownClass {
                file: file.to_owned(),
                line: *line,
                column: column.to_owned(),
                value: text.chars().take(80).collect(),
                classes: listed(classes),
            }
        })
    };
    let rows = labels.iter().map(class).collect::<Result<_, _>>()?;
    Ok(Targets::Classes { classes: classes.to_vec(), rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, features: Features<'_>, label: Option<Label<'_>>) -> Result<Table, TableError> {
        Table::parse(Path::new("t.csv"), text.as_bytes(), features, label)
    }

    #[test]
    fn numbers_missing_cells_and_classes_are_read() {
        let text = "when,a,y,b\nmon,1,10,2.5\ntue,,9,NaN\nwed,-1e3,,na\n";
        let table = parse(text, Features::AllBut(&["when".into()]), Some(Label::Classes("y"))).unwrap();
        assert_eq!((table.names.clone(), table.rows()), (vec!["a".to_owned(), "b".to_owned()], 3));
        assert_eq!(table.row(0), [1.0, 2.5]);
        assert!(table.row(1).iter().all(|value| value.is_nan()));
        let classes = vec!["9".to_owned(), "10".to_owned()];
        assert_eq!(table.targets, Targets::Classes { classes, rows: vec![Some(1), Some(0), None] });
    }

    #[test]
    fn a_streams_further_columns_are_ignored_and_order_is_the_models() {
        let names = ["b".to_owned(), "a".to_owned()];
        let table = parse("a,note,b\n1,x,2\n", Features::Named(&names), None).unwrap();
        assert_eq!((table.row(0), &table.targets), (&[2.0, 1.0][..], &Targets::None));
        let values = parse("a,v\n1,0.5\n2,\n", Features::AllBut(&[]), Some(Label::Values("v"))).unwrap();
        assert_eq!(values.targets, Targets::Values(vec![Some(0.5), None]));
    }

    #[test]
    fn errors_name_file_line_column_and_fix() {
        let known = ["on".to_owned(), "off".to_owned()];
        let all = Features::AllBut(&[]);
        for (text, label, words) in [
            ("a,b\n1,2\n3,x\n", None, vec!["t.csv", "line 3", "`b`", "`x`"]),
            ("a,b\n1,on\n2,of\n", Some(Label::Of("b", &known)), vec!["line 3", "`of`", "`on`, `off`"]),
            ("a,b\n1,2\n", Some(Label::Classes("y")), vec!["no column `y`", "`a`, `b`"]),
            ("a,a\n1,2\n", None, vec!["two columns `a`"]),
            ("a,b\n", None, vec!["no rows"]),
            ("a\n1\n", Some(Label::Classes("a")), vec!["no feature columns"]),
        ] {
            let error = parse(text, all, label).unwrap_err();
            let said = error.to_string();
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
            assert!(error.hint().is_some());
        }
        let ragged = parse("a,b\n1\n", all, None).unwrap_err();
        let cause = std::error::Error::source(&ragged).map(ToString::to_string).unwrap_or_default();
        assert!(cause.contains("line: 2"), "{cause}");
    }
}
