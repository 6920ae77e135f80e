//! What `samples.db` was given and what it said was on disk.

use super::state::filler;
use anyhow::{Context as _, bail};
use rusqlite::{Connection, OpenFlags};
use shoal_agent::store::{Label, LabelRow, SampleRow};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::time::WallMs;
use shoal_watch::answer::GroupCodes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Features of a row.
const FEATURES: u64 = 8;
/// Who labels.
const SOURCE: &str = "operator";

/// Rows and labels in the order in which they were handed in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Samples {
    rows: Vec<String>,
    rows_on_disk: usize,
    labels: Vec<(String, u32)>,
    labels_on_disk: usize,
    /// All that were ever handed in: a disk that lies may bring any of them back.
    ever: BTreeSet<String>,
}

/// What a database was found to hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// Rows, in order.
    rows: Vec<String>,
    /// The label of a row, or one that waits for its row.
    labels: BTreeMap<String, u32>,
    /// Rows that are not what was written.
    pub(super) wrong: u64,
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Missing {
    pub(super) checked: u64,
    pub(super) lost: u64,
    pub(super) unknown: u64,
}

fn features(id: &str) -> Vec<f32> {
    let number = id.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    (0..FEATURES).map(|place| f32::from(u16::from_le_bytes([filler(number, place, 1)[0], 1]))).collect()
}

/// The row of a prediction.
pub(super) fn row(id: &str) -> SampleRow {
    SampleRow {
        prediction_id: id.to_owned(),
        model: ModelName::new("nose").expect("a model's name"),
        version: Digest::of(b"nose"),
        at: WallMs(1_700_000_000_000),
        features: features(id).into(),
        class: Some(1),
        confidence: 0.5,
        values: vec![0.5, 0.5].into(),
        groups: GroupCodes::default(),
    }
}

/// A label of it.
pub(super) fn label(id: &str, class: u32) -> LabelRow {
    LabelRow {
        prediction_id: id.to_owned(),
        label: Label::Class(class),
        source: SOURCE.into(),
        at: WallMs(1_700_000_000_000),
    }
}

impl Samples {
    pub(super) fn issue(&mut self, rows: &[String], labels: &[(String, u32)]) {
        self.rows.extend_from_slice(rows);
        self.labels.extend_from_slice(labels);
        self.ever.extend(rows.iter().chain(labels.iter().map(|(id, _)| id)).cloned());
    }

    /// All that was handed in is on disk.
    pub(super) fn on_disk(&mut self) {
        self.rows_on_disk = self.rows.len();
        self.labels_on_disk = self.labels.len();
    }

    /// A database that lost some is gone on with as it is.
    pub(super) fn settle(&mut self, found: &Found) {
        self.rows.clone_from(&found.rows);
        self.labels = found.labels.iter().map(|(id, class)| (id.clone(), *class)).collect();
        self.on_disk();
    }

    /// Rows that a label may be about: some that are there, and one that was never captured.
    pub(super) fn known(&self) -> &[String] {
        &self.rows
    }

    /// What was said to be on disk and is not, or is there and was never handed in.
    pub(super) fn missing(&self, found: &Found) -> Missing {
        let mut missing = Missing { unknown: found.wrong, ..Missing::default() };
        let rows: BTreeSet<&String> = found.rows.iter().collect();
        for id in &self.rows[..self.rows_on_disk] {
            missing.checked += 1;
            missing.lost += u64::from(!rows.contains(id));
        }
        let mut may: BTreeMap<&String, (bool, Vec<u32>)> = BTreeMap::new();
        for (number, (id, class)) in self.labels.iter().enumerate() {
            let (must, classes) = may.entry(id).or_default();
            if number < self.labels_on_disk {
                *must = true;
                classes.clear();
            }
            classes.push(*class);
        }
        for (id, (must, classes)) in &may {
            missing.checked += u64::from(*must);
            match found.labels.get(*id) {
                None => missing.lost += u64::from(*must),
                Some(class) => missing.lost += u64::from(!classes.contains(class)),
            }
        }
        let held = found.rows.iter().chain(found.labels.keys());
        missing.unknown += held.filter(|id| !self.ever.contains(*id)).count() as u64;
        missing
    }
}

/// Reads a database beside its writer.
pub(super) fn read(dir: &Path, thorough: bool) -> anyhow::Result<Found> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(dir.join("samples.db"), flags)?;
    if thorough {
        let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        if verdict != "ok" {
            bail!("samples.db: {verdict}");
        }
    }
    let mut found = Found::default();
    let mut query =
        connection.prepare("SELECT prediction_id, features, label_class FROM sample ORDER BY id")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next().context("failed to read samples.db")? {
        let (id, bytes): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let written: Vec<u8> = features(&id).iter().flat_map(|value| value.to_le_bytes()).collect();
        found.wrong += u64::from(bytes != written);
        if let Some(class) = row.get(2)? {
            found.labels.insert(id.clone(), class);
        }
        found.rows.push(id);
    }
    let mut query = connection.prepare("SELECT prediction_id, label_class FROM parked")?;
    let mut parked = query.query([])?;
    while let Some(row) = parked.next()? {
        found.labels.insert(row.get(0)?, row.get(1)?);
    }
    Ok(found)
}
