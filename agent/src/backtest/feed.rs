//! The stream as a backtest takes it: with the truth of each row, and the part of the stream that it is of.

use super::{BacktestArgs, BacktestError};
use crate::stream::{Chunk, Columns, Stream, truth_of};
use shoal_proto::manifest::Manifest;
use shoal_watch::row::Truth;
use std::fs::File;
use std::sync::Arc;

/// Letters of a label that an error repeats.
const SHOWN: usize = 80;

/// Some rows.
#[derive(Debug)]
pub(super) struct Block {
    /// How many they are.
    pub(super) rows: usize,
    /// Row-major.
    pub(super) features: Vec<f32>,
    /// One a row, where the stream knows it.
    pub(super) truths: Vec<Option<Truth>>,
    /// One a row: what results are told by, and what a budget of labels is of.
    pub(super) parts: Vec<(String, String)>,
}

/// A stream that is being read.
#[derive(Debug)]
pub(super) struct Feed {
    stream: Stream<File>,
    manifest: Arc<Manifest>,
    /// Rows that were read, and how many there may be.
    row: u64,
    until: u64,
    /// Columns beside features and label.
    has: (bool, bool),
}

impl Feed {
    pub(super) fn open(args: &BacktestArgs, manifest: Arc<Manifest>) -> Result<Self, BacktestError> {
        let names: Vec<String> = manifest.features.iter().map(|feature| feature.name.clone()).collect();
        let (told_by, budget_of) = (args.told_by(), args.budget_of());
        let others: Vec<String> = told_by.into_iter().chain(budget_of).map(str::to_owned).collect();
        let columns = Columns { features: &names, label: Some(&args.label), others: &others };
        let stream = Stream::open(&args.data, columns)?;
        let has = (told_by.is_some(), budget_of.is_some());
        Ok(Self { stream, manifest, row: 0, until: args.until.unwrap_or(u64::MAX), has })
    }

    /// The next rows; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Block>, BacktestError> {
        if self.row >= self.until {
            return Ok(None);
        }
        let Some(chunk) = self.stream.next_chunk()? else { return Ok(None) };
        let left = usize::try_from(self.until - self.row).unwrap_or(usize::MAX);
        let rows = chunk.rows.min(left);
        let truths = chunk.labels.iter().take(rows).enumerate();
        let truths: Result<Vec<_>, _> =
            truths.map(|(at, label)| self.truth(self.row + at as u64 + 1, label)).collect();
        let parts = (0..rows).map(|at| self.part(&chunk, at)).collect();
        let mut features = chunk.features;
        features.truncate(rows * self.manifest.features.len());
        self.row += rows as u64;
        Ok(Some(Block { rows, features, truths: truths?, parts }))
    }

    /// Cells of features that held something and no number, by feature's name.
    pub(super) fn foreign(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let names = self.manifest.features.iter().map(|feature| feature.name.clone());
        names.zip(self.stream.foreign().iter().copied()).filter(|(_, cells)| *cells > 0)
    }

    fn truth(&self, row: u64, label: &str) -> Result<Option<Truth>, BacktestError> {
        if label.is_empty() {
            return Ok(None);
        }
        truth_of(&self.manifest, label).map(Some).map_err(|expected| BacktestError::Label {
            row,
            label: label.chars().take(SHOWN).collect(),
            expected,
        })
    }

    fn part(&self, chunk: &Chunk, at: usize) -> (String, String) {
        let width = usize::from(self.has.0) + usize::from(self.has.1);
        let cells = &chunk.others[at * width..(at + 1) * width];
        match (self.has, cells) {
            ((true, true), [told_by, budget_of]) => (told_by.clone(), budget_of.clone()),
            ((true, false), [told_by]) => (told_by.clone(), String::new()),
            _ => (String::new(), String::new()),
        }
    }
}

/// A row's features, and the truth about it.
type Known<'a> = (&'a [f32], Option<Truth>);

/// The same stream again, a row at a time, some way behind: what is predicted anew need not be kept.
#[derive(Debug)]
pub(super) struct Behind {
    feed: Feed,
    block: Option<Block>,
    at: usize,
    width: usize,
}

impl Behind {
    pub(super) fn new(feed: Feed) -> Self {
        let width = feed.manifest.features.len();
        Self { feed, block: None, at: 0, width }
    }

    /// The next row's features and truth.
    pub(super) fn next(&mut self) -> Result<Option<Known<'_>>, BacktestError> {
        if self.block.as_ref().is_none_or(|block| self.at >= block.rows) {
            (self.block, self.at) = (self.feed.next()?, 0);
        }
        let Some(block) = &self.block else { return Ok(None) };
        let at = self.at;
        self.at += 1;
        Ok(Some((&block.features[at * self.width..(at + 1) * self.width], block.truths[at])))
    }
}
