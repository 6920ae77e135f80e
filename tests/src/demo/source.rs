//! Where a device's rows come from: the gas nose, or a user's own recording.

use super::data::Recording;
use super::sensor::{Device, GASES, train_csv};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Age at which the noses stop ageing.
const OLDEST: f64 = 1.0;
/// Share of the poisoned device's labels that are wrong.
pub(super) const FLIPPED: f64 = 0.7;
/// Share of a recording's end that is repeated when it is over, so that rollouts have something to see.
const REPEATED: f64 = 0.2;

/// One row of a device.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) features: Vec<f32>,
    /// The true class.
    pub(super) truth: String,
    /// What the device's operator says it is.
    pub(super) told: String,
}

/// What all devices' rows come from.
#[derive(Debug, Clone)]
pub(super) enum World {
    /// The gas nose.
    Nose { seed: u64 },
    /// A recording.
    Recorded(Arc<Recording>),
}

/// The course of a device's stream, in rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    /// Rows before anything changes.
    pub(super) fresh: usize,
    /// Rows over which it changes.
    pub(super) ageing: usize,
    /// Rows after it, before the rollouts begin.
    pub(super) settled: usize,
}

impl Course {
    pub(super) const fn rows(&self) -> usize {
        self.fresh + self.ageing + self.settled
    }
}

/// One device's rows.
#[derive(Debug)]
pub(super) struct Source {
    kind: Kind,
    at: usize,
    flipped: bool,
    random: ChaCha8Rng,
    classes: Vec<String>,
}

#[derive(Debug)]
enum Kind {
    Nose { device: Box<Device>, course: Course },
    Recorded { rows: Vec<(Vec<f32>, usize)> },
}

impl World {
    /// The training file, the label's column, and the name of the model.
    pub(super) fn training(&self) -> (String, String, &'static str) {
        match self {
            Self::Nose { seed } => (train_csv(*seed, 3_000), "gas".into(), "nose"),
            Self::Recorded(recording) => (recording.train_csv(), recording.label.clone(), "model"),
        }
    }

    /// The course of one of `devices` streams.
    pub(super) fn course(&self, devices: usize, quick: bool) -> Course {
        match self {
            Self::Nose { .. } if quick => Course { fresh: 400, ageing: 700, settled: 800 },
            Self::Nose { .. } => Course { fresh: 600, ageing: 1_200, settled: 900 },
            Self::Recorded(recording) => {
                let rows = recording.device(0, devices).count();
                Course { fresh: rows / 12, ageing: rows * 7 / 12, settled: rows / 3 }
            }
        }
    }

    /// One device's rows.
    pub(super) fn source(
        &self,
        id: usize,
        devices: usize,
        course: Course,
        seed: u64,
        flipped: bool,
    ) -> Source {
        let random = ChaCha8Rng::seed_from_u64(seed ^ (id as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (kind, classes) = match self {
            Self::Nose { seed } => {
                let device = Box::new(Device::new(*seed, id, OLDEST));
                (Kind::Nose { device, course }, GASES.iter().map(|gas| (*gas).to_owned()).collect())
            }
            Self::Recorded(recording) => {
                let rows = recording.device(id, devices).map(|(row, class)| (row.to_vec(), class)).collect();
                (Kind::Recorded { rows }, recording.classes.clone())
            }
        };
        Source { kind, at: 0, flipped, random, classes }
    }

    /// A training file as a laboratory would record it after the drift; `wrong` mixes up its labels.
    pub(super) fn later_training(&self, devices: usize, wrong: bool) -> String {
        let (mut text, ..) = self.training();
        // The fleet's own aged noses, brought to the laboratory.
        let course = Course { fresh: 0, ageing: 1, settled: 0 };
        let rows_each = match self {
            Self::Nose { .. } => 3_000 / devices.max(1),
            Self::Recorded(recording) => recording.device(0, devices).count(),
        };
        for id in 0..devices {
            let mut source = self.source(id, devices, course, 1, false);
            for at in 0..rows_each {
                // Of a recording only every second row, so that not all that is served was learned.
                let row = source.next();
                if matches!(self, Self::Recorded(_)) && at % 2 == 1 {
                    continue;
                }
                let cells: Vec<String> = row.features.iter().map(|cell| cell_text(*cell)).collect();
                text.push_str(&format!("{},{}\n", cells.join(","), row.truth));
            }
        }
        if wrong { rotate_labels(&text) } else { text }
    }
}

fn cell_text(cell: f32) -> String {
    if cell.is_finite() { cell.to_string() } else { String::new() }
}

/// Every class is called by the next one's name.
fn rotate_labels(text: &str) -> String {
    let (head, body) = text.split_once('\n').unwrap_or((text, ""));
    let label = |line: &str| line.rsplit_once(',').map_or("", |(_, label)| label).to_owned();
    let classes: std::collections::BTreeSet<String> = body.lines().map(label).collect();
    let classes: Vec<String> = classes.into_iter().collect();
    let mut rotated = format!("{head}\n");
    for line in body.lines() {
        let place = classes.iter().position(|class| *class == label(line)).unwrap_or(0);
        let cells = line.rsplit_once(',').map_or(line, |(cells, _)| cells);
        rotated.push_str(&format!("{cells},{}\n", classes[(place + 1) % classes.len()]));
    }
    rotated
}

impl Source {
    /// The next row; it never ends.
    pub(super) fn next(&mut self) -> Row {
        let (features, class) = match &mut self.kind {
            Kind::Nose { device, course } => {
                #[expect(clippy::cast_precision_loss, reason = "row numbers are far below 2^52")]
                let age =
                    self.at.saturating_sub(course.fresh).min(course.ageing) as f64 / course.ageing as f64;
                let (row, class) = device.next(age);
                (row.to_vec(), class)
            }
            Kind::Recorded { rows } => {
                #[expect(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "row numbers are far below 2^52"
                )]
                let tail = ((rows.len() as f64 * REPEATED) as usize).max(1);
                let at = if self.at < rows.len() {
                    self.at
                } else {
                    rows.len() - tail + (self.at - rows.len()) % tail
                };
                rows[at].clone()
            }
        };
        self.at += 1;
        let lie = self.flipped && self.random.random_bool(FLIPPED);
        let shift = if lie { self.random.random_range(1..self.classes.len()) } else { 0 };
        let told = self.classes[(class + shift) % self.classes.len()].clone();
        Row { features, truth: self.classes[class].clone(), told }
    }

    /// Whether the operator tells this row's truth at all.
    pub(super) fn is_labelled(&mut self) -> bool {
        self.random.random_bool(0.6)
    }
}
