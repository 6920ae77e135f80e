//! What watches a version's answers, and what labels say of them.

use crate::answer::bias::{self, GroupReport};
use crate::answer::{
    AnswerReference, AnswerWindow, Estimate, GroupCodes, Label, LateLabels, Metrics, Outcome, Performance,
    Priors, WINDOWS, WindowTest, decide, probabilities, top,
};
use crate::budget::{Heights, a_window};
use crate::found::{Found, Subject, said};
use crate::row::{Asked, Given, Row, Truth};
use crate::sequential::{Adwin, Bernoulli, BernoulliBets, Change, Conformal, ConformalBets, Shape, Side};
use serde::{Deserialize, Serialize};
use shoal_proto::baseline::PredictionBaseline;
use shoal_proto::finding::Monitor;
use shoal_proto::manifest::{Manifest, OutputKind};
use shoal_proto::summary::{
    Cells, ClassLabel, Counts, DriftLevel, Estimate as Promised, LabelSlot, LabelSummary, pair,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Labelled rows of a package from which on it makes a promise: less sure than a longer one, and so held to less,
/// but true. What the first labels on the device show instead is what the world is by then: a version that is wrong
/// from its first row would promise to be wrong.
const PROMISED_LABELS: u64 = 20;
/// Labels from which the promise is taken where the package makes none.
const FIRST_LABELS: u64 = 100;
/// Answers from which the reference of predictions is taken where the package has none.
const FIRST_ANSWERS: u64 = 2_000;
/// Labels that count as the recent past: what a trial is compared with.
const RECENT: u64 = 256;
const WORDS: usize = 4;
/// Labels that are tested together, and windows after which fewer are.
const TESTED_LABELS: u64 = 500;
const TESTED_WINDOWS: u32 = 24;
/// Growth of the mean error that is worth a word of an adaptive window's.
const GROWN: f64 = 0.02;
/// Errors of a regression, in root mean squares, beyond which they are all the same to an adaptive window.
const MOST_ERROR: f64 = 4.0;

/// What answers are held against, made ready: no part of the state.
#[derive(Debug, Clone)]
pub(crate) struct OutputReference {
    answers: AnswerReference,
    kind: OutputKind,
    temperature: f64,
    errors: Option<BernoulliBets>,
    residuals: Option<ConformalBets>,
    error: Heights,
    residual: Heights,
    shares: Vec<f32>,
}

/// What was seen of a version's answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outputs {
    #[serde(rename = "w")]
    window: AnswerWindow,
    #[serde(rename = "l")]
    late: LateLabels,
    /// Labels since the last test of labels.
    #[serde(rename = "f")]
    fresh: Performance,
    #[serde(rename = "t")]
    tested: u32,
    #[serde(rename = "e")]
    errors: Bernoulli,
    #[serde(rename = "m")]
    mean: Adwin,
    /// The mean error grew in the open window.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    grown: Option<(f64, f64, u64)>,
    #[serde(rename = "r")]
    residual: Conformal,
    /// Labels and errors so far, while the package promises nothing; then what they promise.
    #[serde(rename = "p")]
    first: (u64, u64),
    /// Answers so far, while the package has no reference of them; then their reference.
    #[serde(rename = "a", default, skip_serializing_if = "Vec::is_empty")]
    first_answers: Vec<u64>,
    /// The last right answers as bits, and how many labels there were.
    #[serde(rename = "b")]
    recent: [u64; WORDS],
    #[serde(rename = "n")]
    labels: u64,
    /// What calibrated confidence promises of the open window, rounded row by row so that sums are exact.
    #[serde(rename = "x")]
    promised: Promised,
    /// Labels that came in the open window.
    #[serde(rename = "v")]
    arrived: LabelSummary,
    /// What the hub is told, by window.
    #[serde(rename = "s")]
    slots: BTreeMap<u64, LabelSlot>,
    #[serde(rename = "c")]
    changed: BTreeSet<u64>,
    /// The first request of each window, so that a label finds its prediction's.
    #[serde(rename = "o")]
    places: VecDeque<(u64, Asked)>,
}

impl OutputReference {
    pub(crate) fn new(manifest: &Manifest, predictions: Option<&PredictionBaseline>) -> Self {
        let answers = AnswerReference::new(manifest, predictions);
        let (error, residual) = (Heights::new(Monitor::Error, 1), Heights::new(Monitor::Residual, 1));
        let known = answers.baseline();
        let bins = answers.residual_bins();
        Self {
            kind: manifest.output.kind,
            temperature: manifest.output.temperature.unwrap_or(1.0),
            errors: (known.labelled >= PROMISED_LABELS && answers.classes() > 0)
                .then(|| promise(known.labelled, known.labelled.saturating_sub(known.correct), error)),
            residuals: (bins.len() > 1).then(|| ConformalBets::new(bins, Shape::Sizes, 1, residual.drift)),
            error,
            residual,
            shares: Vec::new(),
            answers,
        }
    }

    /// Where the package makes no promise, what the first labels and answers made.
    fn learn(&mut self, manifest: &Manifest, state: &Outputs) {
        let counted: u64 = state.first_answers.iter().sum();
        if self.has_no_answers() && counted >= FIRST_ANSWERS {
            let learned =
                PredictionBaseline { counts: state.first_answers.clone(), ..PredictionBaseline::default() };
            self.answers = AnswerReference::new(manifest, Some(&learned));
        }
        if self.errors.is_none() && self.answers.classes() > 0 && state.first.0 >= FIRST_LABELS {
            self.errors = Some(promise(state.first.0, state.first.1, self.error));
        }
    }

    fn has_no_answers(&self) -> bool {
        self.answers.classes() > 0 && self.answers.baseline().counts.is_empty()
    }

    pub(crate) fn answers(&self) -> &AnswerReference {
        &self.answers
    }
}

fn promise(labels: u64, errors: u64, heights: Heights) -> BernoulliBets {
    BernoulliBets::new(errors, labels, 1, heights.drift)
}

impl Outputs {
    pub(crate) fn new(reference: &OutputReference, window: u64) -> Self {
        let mut outputs = Self {
            window: AnswerWindow::new(&reference.answers),
            late: LateLabels::new(WINDOWS),
            fresh: Performance::new(&reference.answers),
            tested: 0,
            errors: Bernoulli::default(),
            mean: Adwin::default(),
            grown: None,
            residual: Conformal::default(),
            first: (0, 0),
            first_answers: Vec::new(),
            recent: [0; WORDS],
            labels: 0,
            promised: Promised::default(),
            arrived: LabelSummary::default(),
            slots: BTreeMap::new(),
            changed: BTreeSet::new(),
            places: VecDeque::new(),
        };
        outputs.late.open(window);
        outputs
    }

    /// Whether this state is of such a reference, which then learns what the state had learned.
    pub(crate) fn attach(&self, manifest: &Manifest, reference: &mut OutputReference) -> bool {
        reference.learn(manifest, self);
        self.window.fits(&reference.answers)
            && self.late.fits(&reference.answers)
            && self.fresh.fits(&reference.answers)
    }

    /// Takes an answer of the open window.
    pub(crate) fn observe(&mut self, reference: &mut OutputReference, window: u64, row: &Row<'_>) {
        let Row { asked, features, answer, .. } = *row;
        if self.places.back().is_none_or(|(last, first)| *last != window || first.life != asked.life) {
            self.places.push_back((window, asked));
            while self.places.len() > WINDOWS as usize * 2 {
                self.places.pop_front();
            }
        }
        self.late.predicted(window, 1);
        if reference.answers.classes() == 0 {
            if let Some(value) = answer.values.first() {
                self.window.observe_value(&reference.answers, *value, features);
            }
            return;
        }
        let raw = (answer.class.unwrap_or(u32::MAX), answer.confidence);
        let mut shares = std::mem::take(&mut reference.shares);
        probabilities(reference.kind, reference.temperature, answer.values, &mut shares);
        let codes = row.groups.or(reference.answers.groups().codes(features));
        self.window.observe_class(&reference.answers, raw, &shares, codes);
        if reference.answers.calibration().is_fitted() {
            let (_, confidence) = top(&shares);
            self.promised.observe(reference.answers.calibration().expect(confidence));
        }
        reference.shares = shares;
    }

    /// Takes the truth about an answer of this version, whichever window it was in.
    pub(crate) fn label(&mut self, manifest: &Manifest, reference: &mut OutputReference, given: &Given<'_>) {
        let mut shares = std::mem::take(&mut reference.shares);
        let groups = given.groups.or(reference.answers.groups().codes(given.features));
        let outcome = match given.truth {
            Truth::Class(truth) => {
                probabilities(reference.kind, reference.temperature, given.answer.values, &mut shares);
                if shares.len() == reference.answers.classes() {
                    Outcome::Scores { probabilities: &shares, truth }
                } else {
                    let (class, confidence) =
                        (given.answer.class.unwrap_or(u32::MAX), given.answer.confidence);
                    Outcome::Class { class, confidence, truth }
                }
            }
            #[expect(clippy::cast_possible_truncation, reason = "answers are f32")]
            Truth::Value(truth) => Outcome::Value {
                answer: given.answer.values.first().copied().unwrap_or(f32::NAN),
                truth: truth as f32,
            },
        };
        let label = Label { outcome, groups, chance: None };
        self.arrived.labelled += 1;
        let correct = match given.truth {
            Truth::Class(truth) => Some(given.answer.class == Some(truth)),
            Truth::Value(_) => None,
        };
        if let Some(correct) = correct {
            self.on_class(manifest, reference, correct);
        } else if let Some(error) = outcome.error() {
            self.on_error(reference, error);
        }
        if let Some(window) = self.window_of(given.asked) {
            self.late.label(&reference.answers, window, &label);
            self.fresh.label(&reference.answers, &label);
            self.tell(window, reference, &label, given);
        }
        reference.shares = shares;
    }

    fn on_class(&mut self, manifest: &Manifest, reference: &mut OutputReference, correct: bool) {
        self.arrived.correct += u64::from(correct);
        let slot = usize::try_from(self.labels % RECENT).unwrap_or_default();
        let bit = 1_u64 << (slot % 64);
        self.recent[slot / 64] =
            if correct { self.recent[slot / 64] | bit } else { self.recent[slot / 64] & !bit };
        self.labels += 1;
        self.mean_error(f64::from(u8::from(!correct)));
        match &reference.errors {
            Some(bets) => self.errors.observe(bets, !correct),
            None => {
                self.first = (self.first.0 + 1, self.first.1 + u64::from(!correct));
                reference.learn(manifest, self);
            }
        }
    }

    fn on_error(&mut self, reference: &OutputReference, error: f32) {
        let size = f64::from(error.abs()) / reference.answers.unit();
        if size.is_finite() {
            self.mean_error((size / MOST_ERROR).min(1.0));
        }
        if let (Some(bets), Some(bin)) = (&reference.residuals, reference.answers.residual_bin(error)) {
            self.residual.observe(bets, bin);
        }
    }

    fn mean_error(&mut self, error: f64) {
        if let Some(Change { before, after, since }) = self.mean.observe(error)
            && after - before >= GROWN
        {
            self.grown = Some((before, after, since));
        }
    }

    fn window_of(&self, asked: Asked) -> Option<u64> {
        let before = |(_, first): &&(u64, Asked)| first.life == asked.life && first.number <= asked.number;
        self.places.iter().rev().find(before).map(|(window, _)| *window)
    }

    fn tell(&mut self, window: u64, reference: &OutputReference, label: &Label<'_>, given: &Given<'_>) {
        let slot = self.slots.entry(window).or_default();
        slot.seq += 1;
        match label.outcome {
            Outcome::Value { answer, truth } => slot.sums.observe_value(answer.into(), truth.into()),
            Outcome::Class { class, truth, .. } => {
                let scores = ClassLabel {
                    truth: narrow(truth),
                    answered: narrow(class),
                    confidence: Some(given.answer.confidence),
                    scores: &[],
                    groups: &cells(&label.groups, reference),
                };
                slot.sums.observe_class(&scores);
            }
            Outcome::Scores { probabilities, truth } => {
                let (class, confidence) = top(probabilities);
                let scores = ClassLabel {
                    truth: narrow(truth),
                    answered: narrow(class),
                    confidence: Some(confidence),
                    scores: probabilities,
                    groups: &cells(&label.groups, reference),
                };
                slot.sums.observe_class(&scores);
            }
        }
        self.changed.insert(window);
        while self.slots.len() > WINDOWS as usize {
            self.slots.pop_first();
        }
    }

    /// The label slots that changed since this was last asked, by window.
    pub(crate) fn take_changed(&mut self) -> Vec<(u64, LabelSlot)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|window| Some((window, self.slots.get(&window)?.clone()))).collect()
    }

    /// The strength of the evidence that answers have become worse than promised, as the logarithm of the labels
    /// in which chance alone says so once; `None` while nothing is promised.
    pub(crate) fn worse(&self, reference: &OutputReference) -> Option<f64> {
        let of = |sign: crate::sequential::Sign| sign.log_e;
        let errors = reference.errors.as_ref().map(|bets| of(self.errors.worse(bets)));
        errors.or_else(|| reference.residuals.as_ref().map(|bets| of(self.residual.sign(bets, Side::Higher))))
    }

    /// (labels, right) of the recent past.
    pub(crate) fn recent(&self) -> (u64, u64) {
        let right = self.recent.iter().map(|word| u64::from(word.count_ones())).sum();
        (self.labels.min(RECENT), right)
    }

    /// Labels that came while the window was open.
    pub(crate) fn arrived(&self) -> LabelSummary {
        self.arrived
    }

    /// What detectors of labels say now, or said since the last close.
    pub(crate) fn running(&self, reference: &OutputReference, found: &mut Vec<Found>) {
        if let Some(bets) = &reference.errors {
            said(Monitor::Error, Subject::Model, self.errors.worse(bets), reference.error, found);
        }
        if let Some(bets) = &reference.residuals {
            let residual = self.residual.sign(bets, Side::Higher);
            said(Monitor::Residual, Subject::Model, residual, reference.residual, found);
        }
        if let Some((before, after, since)) = self.grown {
            found.push(Found {
                monitor: Monitor::ErrorMean,
                subject: Subject::Model,
                level: DriftLevel::Warning,
                statistic: after,
                threshold: before + GROWN,
                since: Some(since),
            });
        }
    }

    /// The tests of the window's answers, and of labels where enough have come.
    pub(crate) fn close(&mut self, reference: &OutputReference, found: &mut Vec<Found>) {
        let mut tests = self.window.tests(&reference.answers);
        self.tested += 1;
        let labelled = self.fresh.labelled();
        if labelled >= TESTED_LABELS || self.tested >= TESTED_WINDOWS {
            tests.extend(self.fresh.tests(&reference.answers));
            self.tested = 0;
            self.fresh = Performance::new(&reference.answers);
        }
        judged(&tests, found);
    }

    /// Begins the next window, and learns from the last where the package says nothing.
    pub(crate) fn reset(&mut self, manifest: &Manifest, reference: &mut OutputReference, window: u64) {
        if reference.has_no_answers() {
            let cells = self.window.cells();
            self.first_answers.resize(cells.len(), 0);
            self.first_answers.iter_mut().zip(cells).for_each(|(sum, count)| *sum += count);
            reference.learn(manifest, self);
        }
        self.window.reset();
        self.promised = Promised::default();
        self.late.open(window);
        if let Some(bets) = &reference.errors {
            self.errors.close(bets);
        }
        self.residual.close();
        self.grown = None;
        self.arrived = LabelSummary::default();
    }

    /// (class × confidence), row-major, or a regression's answers: of the open window.
    pub(crate) fn cells(&self, reference: &OutputReference) -> (Counts, Counts) {
        let cells = Counts::of(self.window.cells());
        if reference.answers.classes() > 0 { (cells, Counts::default()) } else { (Counts::default(), cells) }
    }

    /// What calibrated confidence promises of the open window, as it travels.
    pub(crate) fn promised(&self) -> Promised {
        self.promised
    }

    /// Rows of each part of the groups, and those that were given the favourable answer.
    pub(crate) fn parts(&self, reference: &OutputReference) -> Cells<2> {
        let mut cells = Cells::default();
        for ((group, part), (rows, favoured)) in reference.answers.groups().places().zip(self.window.parts())
        {
            cells.add_all(pair(narrow_place(group), narrow_place(part)), [rows, favoured]);
        }
        cells
    }

    /// What is to be expected of the open window without labels.
    pub(crate) fn estimate(&self, reference: &OutputReference) -> Estimate {
        Estimate::of(&self.window, &reference.answers)
    }

    /// What labels of the last windows say.
    pub(crate) fn metrics(&self, reference: &OutputReference) -> Metrics {
        Metrics::of(&self.late.recent(&reference.answers), &reference.answers)
    }

    /// How often each class is truly there, as far as the answers tell.
    pub(crate) fn priors(&self, reference: &OutputReference) -> Option<Priors> {
        Priors::of(&self.window, &reference.answers)
    }

    /// How each group fares, by the labels of the last windows.
    pub(crate) fn groups(&self, reference: &OutputReference) -> Vec<GroupReport> {
        bias::of_labels(&self.late.recent(&reference.answers), &reference.answers)
    }

    /// Labels whose window was let go already.
    pub(crate) fn too_late(&self) -> u64 {
        self.late.too_late()
    }
}

fn judged(tests: &[WindowTest], found: &mut Vec<Found>) {
    let mut monitors: Vec<Monitor> = tests.iter().map(|test| test.monitor).collect();
    monitors.sort_unstable();
    monitors.dedup();
    for monitor in monitors {
        let alike: Vec<WindowTest> = tests.iter().filter(|test| test.monitor == monitor).copied().collect();
        let (drift, warning) = a_window(monitor);
        found.extend(decide(&alike, drift, warning).into_iter().map(|said| {
            let subject = said.test.part.map_or(Subject::Model, |(group, part)| {
                Subject::Part(narrow_place(group), narrow_place(part))
            });
            let material = said.test.material;
            Found {
                monitor,
                subject,
                level: said.level,
                statistic: said.test.effect,
                threshold: if said.level == DriftLevel::Drift { material.drift } else { material.warning },
                since: None,
            }
        }));
    }
}

fn cells(groups: &GroupCodes, reference: &OutputReference) -> Vec<u32> {
    let all = 0..reference.answers.groups().len();
    all.filter_map(|group| Some(pair(narrow_place(group), narrow_place(groups.part(group)?)))).collect()
}

fn narrow(class: u32) -> u16 {
    u16::try_from(class).unwrap_or(u16::MAX)
}

fn narrow_place(place: usize) -> u16 {
    u16::try_from(place).unwrap_or(u16::MAX)
}
