//! A model whose truth is known: two classes, the second with the chance that it says.

use crate::answer::{Groups, of_classes};
use crate::joint;
use crate::row::{Answer, Asked, Given, Row, Truth};
use crate::watch::{Watch, Watched};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shoal_proto::baseline::{Baseline, FeatureBaseline, RhythmBaseline};
use shoal_proto::finding::Finding;
use shoal_proto::id::{Digest, Incarnation};
use shoal_proto::manifest::{Feature, Group, Manifest};
use shoal_proto::summary::WindowId;
use shoal_proto::time::{Mono, Now, WallMs};
use std::sync::Arc;

const MANIFEST: &str = include_str!("../../../../proto/testdata/v1/model.toml");
/// Milliseconds between rows.
pub(super) const STEP: u64 = 1_000;

pub(super) fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

/// One row of the world, with its truth.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) features: Vec<f32>,
    pub(super) scores: [f32; 2],
    pub(super) truth: u32,
    /// What the last layer reads: nothing, unless a test gives it.
    pub(super) embedding: Vec<f32>,
}

impl Sample {
    pub(super) fn class(&self) -> u32 {
        u32::from(self.scores[1] >= 0.5)
    }

    fn answer(&self) -> Answer<'_> {
        let class = self.class();
        Answer { class: Some(class), confidence: self.scores[class as usize], values: &self.scores }
    }
}

/// A world that does not change by itself.
#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: ChaCha8Rng,
    pub(super) width: usize,
    pub(super) watched: Watched,
    pub(super) now: u64,
    pub(super) asked: u64,
}

impl World {
    pub(super) fn new(seed: u64, width: usize, rows: usize) -> Self {
        Self::with(seed, width, rows, |_| {})
    }

    /// The first feature decides; the second goes with it; the last is one of four categories where there are
    /// three or more; group `side` is whether the second is below nought.
    pub(super) fn with(seed: u64, width: usize, rows: usize, change: impl Fn(&mut Manifest)) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut manifest = Manifest::parse(MANIFEST).unwrap();
        let feature = |i| Feature { name: format!("f{i}"), unit: String::new(), min: -5.0, max: 5.0 };
        manifest.features = (0..width).map(feature).collect();
        let mut side = Group { name: "side".into(), feature: Some("f1".into()), ..Group::default() };
        side.cuts = vec![0.0];
        manifest.groups = vec![side];
        change(&mut manifest);
        let samples: Vec<Sample> = (0..rows).map(|_| draw(&mut rng, width)).collect();
        let flat: Vec<f32> = samples.iter().flat_map(|sample| sample.features.clone()).collect();
        let column = |at: usize| flat.iter().skip(at).step_by(width).map(|x| f64::from(*x));
        let groups = Groups::new(&manifest, &[]);
        let codes: Vec<_> = samples.iter().map(|sample| groups.codes(&sample.features)).collect();
        let raw: Vec<_> = samples.iter().map(|one| (one.class(), one.scores[one.class() as usize])).collect();
        let shares: Vec<f32> = samples.iter().flat_map(|sample| sample.scores).collect();
        let truth: Vec<u32> = samples.iter().map(|sample| sample.truth).collect();
        let baseline = Arc::new(Baseline {
            rows: rows as u64,
            features: (0..width).map(|at| FeatureBaseline::of(column(at))).collect(),
            predictions: Some(of_classes(2, &raw, &shares, &truth, &groups, &codes)),
            rhythm: Some(RhythmBaseline::of(flat.chunks_exact(width))),
            joint: joint::fit(&flat, width, 1, joint::Parts::default()).ok(),
            ..Baseline::default()
        });
        let watched = Watched {
            version: Digest([7; 32]),
            digest: baseline.digest(),
            reference: Arc::clone(&baseline),
            baseline,
            manifest: Arc::new(manifest),
        };
        Self { rng, width, watched, now: 0, asked: 0 }
    }

    pub(super) fn watch(&self) -> Watch {
        Watch::new(&self.watched, window(0), WallMs(0))
    }

    pub(super) fn sample(&mut self) -> Sample {
        draw(&mut self.rng, self.width)
    }

    pub(super) fn now(&self) -> Now {
        Now { mono: Mono::from_millis(self.now), wall: WallMs(self.now) }
    }

    /// Predicts a row; tells which request it was.
    pub(super) fn predict(&mut self, watch: &mut Watch, sample: &Sample) -> Asked {
        self.now += STEP;
        self.asked += 1;
        let asked = Asked { life: 1, number: self.asked };
        let at = Mono::from_millis(self.now);
        let (features, answer) = (&sample.features[..], sample.answer());
        watch.observe(&Row {
            asked,
            at,
            features,
            answer,
            embedding: &sample.embedding,
            groups: Default::default(),
        });
        asked
    }

    pub(super) fn label(&self, watch: &mut Watch, asked: Asked, sample: &Sample) {
        let (features, answer, truth) = (&sample.features[..], sample.answer(), Truth::Class(sample.truth));
        watch.label(&Given { asked, features, answer, truth, groups: Default::default() });
    }

    /// Predicts rows that are changed, with their labels, and looks at the detectors after each; what was found.
    pub(super) fn run(
        &mut self,
        watch: &mut Watch,
        rows: u64,
        mut change: impl FnMut(&mut Sample, u64),
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        for at in 0..rows {
            let mut sample = self.sample();
            change(&mut sample, at);
            let asked = self.predict(watch, &sample);
            self.label(watch, asked, &sample);
            if at % 8 == 7 {
                findings.extend(watch.poll(self.now()));
            }
        }
        findings.extend(watch.poll(self.now()));
        findings
    }

    /// The same, and closes the window.
    pub(super) fn window(
        &mut self,
        watch: &mut Watch,
        rows: u64,
        change: impl FnMut(&mut Sample, u64),
    ) -> (Vec<Finding>, shoal_proto::summary::WindowSummary) {
        let mut findings = self.run(watch, rows, change);
        let closed = watch.close(self.now(), window(watch.window().number + 1));
        findings.extend(closed.findings);
        (findings, closed.summary)
    }
}

pub(super) fn window(number: u64) -> WindowId {
    WindowId { incarnation: Incarnation(1), number }
}

fn draw(rng: &mut ChaCha8Rng, width: usize) -> Sample {
    let mut features: Vec<f32> = (0..width).map(|_| normal(rng)).collect();
    if width > 1 {
        features[1] = 0.9 * features[0] + 0.436 * features[1];
    }
    if width > 2 {
        features[width - 1] = rng.random_range(0..4_u8).into();
    }
    let second = 1.0 / (1.0 + (-3.0 * features[0]).exp());
    let truth = u32::from(rng.random::<f32>() < second);
    Sample { features, scores: [1.0 - second, second], truth, embedding: Vec::new() }
}
