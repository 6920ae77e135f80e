//! The whole of the module on streams of which the truth is known.

mod group;
mod label;
mod merge;
mod stream;

use super::*;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shoal_proto::baseline::PredictionBaseline;
use shoal_proto::manifest::{Group, Manifest, OutputKind, Task};

const MANIFEST: &str = include_str!("../../../../proto/testdata/v1/model.toml");

/// A model of `classes` classes; 0 for a regression.
fn manifest(classes: usize, groups: Vec<Group>) -> Manifest {
    let mut manifest = Manifest::parse(MANIFEST).unwrap();
    manifest.output.classes = (0..classes).map(|class| format!("c{class}")).collect();
    if classes == 0 {
        manifest.model.task = Task::Regression;
        manifest.output.kind = OutputKind::Values;
    }
    manifest.groups = groups;
    Manifest::parse(&manifest.to_text()).unwrap()
}

/// One row: probabilities as the model has them, and the truth.
struct Row {
    probabilities: Vec<f32>,
    truth: u32,
    codes: GroupCodes,
}

/// A stream of rows whose features are normal around class means on a circle: the model knows the true
/// posterior, `sharpened`, so that it is overconfident above 1.
struct Stream {
    rng: ChaCha8Rng,
    classes: usize,
    spread: f64,
    sharpened: f64,
    /// Below 1, rows are drawn towards the middle, where classes meet, and their truth is what the posterior
    /// says there: inputs change and the truth of an input does not.
    drawn: f64,
    /// Chance of each class.
    priors: Vec<f64>,
    /// Chance that the truth is not what the posterior says but the next class: concept drift.
    turned: f64,
}

impl Stream {
    fn new(seed: u64, classes: usize) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            classes,
            spread: 0.8,
            sharpened: 1.0,
            drawn: 1.0,
            priors: vec![1.0 / classes as f64; classes],
            turned: 0.0,
        }
    }

    fn normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (1.0 - self.rng.random::<f64>(), self.rng.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// A class by its share.
    fn pick(&mut self, shares: &[f64]) -> usize {
        let (mut left, mut class) = (self.rng.random::<f64>(), 0);
        while class + 1 < shares.len() && left >= shares[class] {
            left -= shares[class];
            class += 1;
        }
        class
    }

    #[expect(clippy::cast_possible_truncation, reason = "probabilities are f32")]
    fn row(&mut self) -> Row {
        let priors = self.priors.clone();
        let mut class = self.pick(&priors);
        let classes = self.classes as f64;
        let middle = |class: usize| (std::f64::consts::TAU * class as f64 / classes).sin_cos();
        let (y, x) = middle(class);
        let (x, y) = (x + self.spread * self.normal(), y + self.spread * self.normal());
        let (x, y) = (x * self.drawn, y * self.drawn);
        // The model was trained at spread 0.8 and equal priors, and goes on to believe in them.
        let posterior = |sharpened: f64| {
            let shares: Vec<f64> = (0..self.classes)
                .map(|class| {
                    let (my, mx) = middle(class);
                    (-sharpened * ((x - mx).powi(2) + (y - my).powi(2)) / (2.0 * 0.64)).exp()
                })
                .collect();
            let total: f64 = shares.iter().sum();
            shares.into_iter().map(|share| share / total).collect::<Vec<f64>>()
        };
        let (probabilities, truly) = (posterior(self.sharpened), posterior(1.0));
        if self.drawn < 1.0 {
            class = self.pick(&truly);
        }
        let turned = self.rng.random::<f64>() < self.turned;
        let truth = if turned { (class + 1) % self.classes } else { class };
        let probabilities = probabilities.into_iter().map(|share| share as f32).collect();
        Row { probabilities, truth: u32::try_from(truth).unwrap(), codes: GroupCodes::default() }
    }

    fn rows(&mut self, count: usize) -> Vec<Row> {
        (0..count).map(|_| self.row()).collect()
    }
}

fn packed(rows: &[Row], classes: usize, groups: &Groups) -> PredictionBaseline {
    let flat: Vec<f32> = rows.iter().flat_map(|row| row.probabilities.clone()).collect();
    let truth: Vec<u32> = rows.iter().map(|row| row.truth).collect();
    let raw: Vec<(u32, f32)> = rows.iter().map(|row| top(&row.probabilities)).collect();
    let codes: Vec<GroupCodes> = rows.iter().map(|row| row.codes).collect();
    of_classes(classes, &raw, &flat, &truth, groups, &codes)
}

fn reference(rows: &[Row], classes: usize) -> AnswerReference {
    let baseline = packed(rows, classes, &Groups::default());
    AnswerReference::new(&manifest(classes, Vec::new()), Some(&baseline))
}

fn observed(reference: &AnswerReference, rows: &[Row]) -> AnswerWindow {
    let mut window = AnswerWindow::new(reference);
    for row in rows {
        window.observe_class(reference, top(&row.probabilities), &row.probabilities, row.codes);
    }
    window
}

fn labelled(reference: &AnswerReference, rows: &[Row]) -> Performance {
    let mut labels = Performance::new(reference);
    labels.predicted(rows.len() as u64);
    for row in rows {
        let outcome = Outcome::Scores { probabilities: &row.probabilities, truth: row.truth };
        assert!(labels.label(reference, &Label { outcome, groups: row.codes, chance: None }));
    }
    labels
}

fn accuracy(rows: &[Row]) -> f64 {
    rows.iter().filter(|row| top(&row.probabilities).0 == row.truth).count() as f64 / rows.len() as f64
}
