//! The stream in parts: runs of rows with the same value in a column, such as a batch or a site.

use super::BacktestError;
use super::score::{Answers, Beside, Figures, Score, Three};
use serde::Serialize;
use shoal_proto::manifest::Manifest;
use shoal_watch::row::Truth;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Values that results are told by, at most: more are a feature, and no part of a stream.
pub(super) const MAX_PARTS: usize = 1_000;

/// How it went in one part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartReport {
    /// The column's value.
    pub value: String,
    /// Its first row, numbered from one.
    pub first_row: u64,
    /// Its last row.
    pub last_row: u64,
    /// Its rows.
    pub rows: u64,
    /// Labels that were asked for.
    pub asked: u64,
    /// All rows, each answered when it came.
    #[serde(flatten)]
    pub all: Beside,
    /// Of these, the rows whose label was not asked for.
    pub unasked: Beside,
    /// The rows whose label was not asked for, answered again by the version that serves when the part ends;
    /// absent where all were asked for, or where the rows of the part do not stand together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Figures>,
}

#[derive(Debug)]
struct Part {
    value: String,
    first_row: u64,
    last_row: u64,
    rows: u64,
    asked: u64,
    runs: u64,
    all: Three,
    unasked: Three,
    after: Option<Score>,
}

/// All parts so far.
#[derive(Debug)]
pub(super) struct Parts {
    manifest: Arc<Manifest>,
    parts: Vec<Part>,
    places: BTreeMap<String, usize>,
    /// The part that is under way, and which of its rows were asked about.
    open: Option<(usize, Vec<bool>)>,
}

/// A run of rows that is over.
#[derive(Debug)]
pub(super) struct Ended {
    place: usize,
    /// Of each of its rows, whether its label was asked for.
    pub(super) asked: Vec<bool>,
    /// Whether its rows are answered again.
    pub(super) is_whole: bool,
}

impl Parts {
    pub(super) fn new(manifest: Arc<Manifest>) -> Self {
        Self { manifest, parts: Vec::new(), places: BTreeMap::new(), open: None }
    }

    /// Ends the part that is under way, unless the next row is of it.
    pub(super) fn end_unless(&mut self, next: Option<&str>) -> Option<Ended> {
        let (place, _) = self.open.as_ref()?;
        if next == Some(self.parts[*place].value.as_str()) {
            return None;
        }
        let (place, asked) = self.open.take()?;
        let is_whole = self.parts[place].runs == 1;
        Some(Ended { place, asked, is_whole })
    }

    /// Keeps what the version that serves says of the rows that were not asked about.
    pub(super) fn keep_after(&mut self, ended: &Ended, after: Score) {
        self.parts[ended.place].after = Some(after);
    }

    /// Counts a row.
    pub(super) fn add(
        &mut self,
        (row, value): (u64, &str),
        answers: &Answers,
        truth: Option<Truth>,
        is_asked: bool,
    ) -> Result<(), BacktestError> {
        let place = match self.open.as_ref() {
            Some((place, _)) => *place,
            None => self.begin(row, value)?,
        };
        if let Some((_, asked)) = &mut self.open {
            asked.push(is_asked);
        }
        let part = &mut self.parts[place];
        (part.last_row, part.rows) = (row, part.rows + 1);
        part.asked += u64::from(is_asked);
        if let Some(truth) = truth {
            part.all.add(answers, truth);
            if !is_asked {
                part.unasked.add(answers, truth);
            }
        }
        Ok(())
    }

    fn begin(&mut self, row: u64, value: &str) -> Result<usize, BacktestError> {
        let place = match self.places.get(value) {
            Some(place) => *place,
            None if self.parts.len() == MAX_PARTS => return Err(BacktestError::Parts),
            None => {
                let (all, unasked) = (Three::new(&self.manifest), Three::new(&self.manifest));
                let (value, first_row) = (value.to_owned(), row);
                self.places.insert(value.clone(), self.parts.len());
                let (rows, asked, runs, after) = (0, 0, 0, None);
                let last_row = row;
                let part = Part { value, first_row, last_row, rows, asked, runs, all, unasked, after };
                self.parts.push(part);
                self.parts.len() - 1
            }
        };
        self.parts[place].runs += 1;
        self.open = Some((place, Vec::new()));
        Ok(place)
    }

    pub(super) fn report(&self) -> Vec<PartReport> {
        let of = |part: &Part| PartReport {
            value: part.value.clone(),
            first_row: part.first_row,
            last_row: part.last_row,
            rows: part.rows,
            asked: part.asked,
            all: part.all.figures(),
            unasked: part.unasked.figures(),
            after: part
                .after
                .as_ref()
                .filter(|_| part.runs == 1)
                .map(Score::figures)
                .filter(|after| after.rows > 0),
        };
        self.parts.iter().map(of).collect()
    }
}
