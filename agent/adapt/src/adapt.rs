//! All of it, for one version that serves.

use crate::adapter::{Adapter, Map};
use crate::contest::Contest;
use crate::frame::Frame;
use crate::head::{Head, HeadState, MAX_INPUTS, Opinion, Running, Targets};
use serde::{Deserialize, Serialize};
use shoal_proto::manifest::OutputKind;
use std::collections::VecDeque;
use std::sync::Arc;

/// Rows between two notes of the running moments, for labels that come later.
const NOTE_EVERY: u64 = 32;
/// Notes that are kept: a label of an older row teaches the head nothing.
const NOTES: usize = 64;
/// Labelled rows that are answered again, each left out.
const JUDGED: usize = 256;
/// Share of rows with a label from which on the head is judged by what it said before it learned: leaving one of
/// many alike out forgives it too much.
const DENSE: f64 = 0.25;
/// What a row still counts in that share after one more.
const MEMORY: f64 = 0.998;
/// How near a number must be, in spreads of training.
const NEAR: f64 = 0.25;
/// Probabilities are no nearer to 0.
const LEAST: f32 = 1e-3;

/// The model that serves: answers to rows of raw features.
pub trait Model {
    /// Why it does not answer.
    type Error;

    /// The probability of each class, or the value, of each row: row-major.
    ///
    /// # Errors
    /// When it fails.
    fn answers(&self, rows: usize, features: &[f32]) -> Result<Vec<f32>, Self::Error>;
}

/// What is switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Inputs that have moved are brought back.
    pub inputs: bool,
    /// The head may answer where it is right more often.
    pub head: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { inputs: true, head: true }
    }
}

/// What a prediction needs: the map of the inputs, and the head where it answers.
#[derive(Debug, Clone)]
pub struct Lens {
    frame: Arc<Frame>,
    map: Option<Map>,
    opinion: Option<Arc<Opinion>>,
    kind: OutputKind,
}

impl Lens {
    /// Whether rows stay as they are and the model answers.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.map.is_none() && self.opinion.is_none()
    }

    /// Whether the head answers.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.opinion.is_some()
    }

    /// Whether rows are moved.
    #[must_use]
    pub fn is_map(&self) -> bool {
        self.map.is_some()
    }

    /// Brings rows back, in place.
    pub fn apply(&self, rows: &mut [f32]) {
        if let Some(map) = &self.map {
            rows.chunks_exact_mut(self.frame.width()).for_each(|row| map.apply(&self.frame, row));
        }
    }

    /// The head's answer to a row as it came, in the model's kind of scores, `width` of them: one tells two classes
    /// apart. `None` where the model answers.
    #[must_use]
    pub fn answer(&self, row: &[f32], width: usize) -> Option<Vec<f32>> {
        let scores = self.opinion.as_ref()?.scores(&self.frame, row);
        Some(as_served(self.kind, width, &scores))
    }
}

/// Scores of the head as a model of this kind would give them.
fn as_served(kind: OutputKind, width: usize, scores: &[f32]) -> Vec<f32> {
    if kind == OutputKind::Values {
        return scores.to_vec();
    }
    let floored: Vec<f32> = scores.iter().map(|score| score.clamp(LEAST, 1.0)).collect();
    let sum: f32 = floored.iter().sum();
    let shares = floored.into_iter().map(|share| share / sum);
    if let (1, [first, second]) = (width, &shares.clone().collect::<Vec<_>>()[..]) {
        return vec![if kind == OutputKind::Logits { (second / first).ln() } else { *second }];
    }
    match kind {
        OutputKind::Logits => shares.map(f32::ln).collect(),
        OutputKind::Probabilities | OutputKind::Values => shares.collect(),
    }
}

/// A labelled row on which both were judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Judged {
    phi: shoal_proto::baseline::Floats,
    truth: f64,
    model_right: bool,
    /// The number of its label.
    number: u64,
}

/// What it has seen, as it survives a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdaptState {
    adapter: Adapter,
    head: Option<HeadState>,
    seen: Seen,
}

/// What rows and labels have shown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Seen {
    rows: u64,
    /// Recent share of rows with a label.
    coverage: f64,
    judged: VecDeque<Judged>,
    /// The model on rows that were brought back, against the model on rows as they came.
    adapted: Contest,
    /// The head against the model on rows that were brought back.
    headed: Contest,
    is_muted: bool,
    is_headed: bool,
}

/// Adaptation of one version that serves.
#[derive(Debug, Clone)]
pub struct Adapt {
    frame: Arc<Frame>,
    kind: OutputKind,
    targets: Targets,
    settings: Settings,
    adapter: Adapter,
    head: Option<Head>,
    /// Running moments at earlier rows, by their place.
    notes: VecDeque<(u64, Running)>,
    seen: Seen,
}

impl Adapt {
    /// Begins for a version. `prior` are rows of training with their targets, for the head: the replay set.
    #[must_use]
    pub fn new(
        frame: Arc<Frame>,
        kind: OutputKind,
        targets: Targets,
        settings: Settings,
        seed: u64,
        prior: (&[f32], &[f64]),
    ) -> Self {
        let wants = settings.head && frame.live() <= MAX_INPUTS;
        let head = if wants { Head::new(&frame, seed, targets, prior.0, prior.1) } else { None };
        Self {
            adapter: Adapter::new(&frame),
            frame,
            kind,
            targets,
            settings,
            head,
            notes: VecDeque::new(),
            seen: Seen::default(),
        }
    }

    /// What predictions need now.
    #[must_use]
    pub fn lens(&self) -> Lens {
        let moves = self.settings.inputs && !self.seen.is_muted && self.adapter.map().strength() > 0.0;
        let opinion = self.head.as_ref().filter(|_| self.seen.is_headed).map(|head| Arc::new(head.opinion()));
        Lens {
            frame: Arc::clone(&self.frame),
            map: moves.then(|| self.adapter.map().clone()),
            opinion,
            kind: self.kind,
        }
    }

    /// The adapter of inputs.
    #[must_use]
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Whether labels said that bringing inputs back does harm: then it is not done.
    #[must_use]
    pub fn is_muted(&self) -> bool {
        self.seen.is_muted
    }

    /// Whether the head answers.
    #[must_use]
    pub fn is_headed(&self) -> bool {
        self.seen.is_headed
    }

    /// Labels that the head has learned.
    #[must_use]
    pub fn labels(&self) -> u64 {
        self.head.as_ref().map_or(0, Head::labels)
    }

    /// Takes a row as it came, after its prediction. `place` rises with the rows, and is told again with the row's
    /// label.
    ///
    /// # Errors
    /// When the model fails; the row was taken.
    pub fn observe<M: Model>(&mut self, row: &[f32], place: u64, model: &M) -> Result<(), M::Error> {
        self.seen.rows += 1;
        self.seen.coverage *= MEMORY;
        let mut z = Vec::new();
        self.frame.standardise(row, &mut z);
        if let Some(head) = &mut self.head {
            if self.seen.rows % NOTE_EVERY == 1 {
                if self.notes.len() == NOTES {
                    self.notes.pop_front();
                }
                self.notes.push_back((place, head.running().clone()));
            }
            head.observe(&z);
        }
        if self.settings.inputs && self.adapter.push(&z) {
            self.settle(row, model)?;
        }
        Ok(())
    }

    fn settle<M: Model>(&mut self, row: &[f32], model: &M) -> Result<(), M::Error> {
        let frame = Arc::clone(&self.frame);
        let mut rows = Vec::new();
        self.adapter.settle(&frame, |asked| {
            rows.clear();
            for z in asked {
                let start = rows.len();
                rows.extend_from_slice(row); // what is not live, as it came last
                frame.put(z, &mut rows[start..]);
            }
            model.answers(asked.len(), &rows)
        })?;
        Ok(())
    }

    /// How much a label of this row would teach; the greater, the more. `None` without a head.
    #[must_use]
    pub fn doubt(&self, row: &[f32]) -> Option<f32> {
        let head = self.head.as_ref()?;
        let mut z = Vec::new();
        self.frame.standardise(row, &mut z);
        Some(head.doubt(&head.features_by(head.running(), &z)))
    }

    /// Takes the truth about the row at `place`: the index of a class, or a number.
    ///
    /// # Errors
    /// When the model fails; then the label taught nothing.
    pub fn label<M: Model>(
        &mut self,
        row: &[f32],
        place: u64,
        truth: f64,
        model: &M,
    ) -> Result<(), M::Error> {
        let plain = model.answers(1, row)?;
        let mut moved = row.to_vec();
        self.adapter.map().apply(&self.frame, &mut moved);
        let adapted = if moved == row { plain.clone() } else { model.answers(1, &moved)? };
        let (plain_right, adapted_right) =
            (right(self.targets, &plain, truth), right(self.targets, &adapted, truth));
        self.seen.adapted.judge(adapted_right, plain_right);
        self.seen.is_muted =
            if self.seen.is_muted { self.seen.adapted.is_behind() } else { self.seen.adapted.is_lost() };
        let model_right = if self.seen.is_muted { plain_right } else { adapted_right };
        self.seen.coverage += 1.0 - MEMORY;
        self.teach(row, place, truth, model_right);
        Ok(())
    }

    fn teach(&mut self, row: &[f32], place: u64, truth: f64, model_right: bool) {
        let Some(running) = self.notes.iter().rev().find(|(at, _)| *at <= place).map(|(_, running)| running)
        else {
            return; // too late: what its inputs were like beside others of its time is not known any more
        };
        let Some(head) = &mut self.head else { return };
        let mut z = Vec::new();
        self.frame.standardise(row, &mut z);
        let phi = head.features_by(running, &z);
        let said = head.outputs(&phi);
        let head_right = right(self.targets, &said, truth);
        head.learn(&phi, truth, !head_right);
        let number = head.labels();
        self.seen.headed.judge(head_right, model_right);
        if self.seen.judged.len() == JUDGED {
            self.seen.judged.pop_front();
        }
        self.seen.judged.push_back(Judged { phi: phi.into(), truth, model_right, number });
        let contest = if self.seen.coverage > DENSE { self.seen.headed } else { self.left_out() };
        self.seen.is_headed = if self.seen.is_headed { !contest.is_behind() } else { contest.is_won() };
    }

    /// The contest over the kept labelled rows, each answered by the head as if it had not learned it.
    fn left_out(&self) -> Contest {
        let mut contest = Contest::default();
        let Some(head) = &self.head else { return contest };
        for one in &self.seen.judged {
            let said = head.left_out(&one.phi, one.truth, Head::weight(head.labels() - one.number));
            contest.judge(right(self.targets, &said, one.truth), one.model_right);
        }
        contest
    }

    /// Takes the head away: the model alone answers.
    pub fn behead(&mut self) {
        (self.head, self.seen.is_headed) = (None, false);
    }

    /// Goes on with the head of the version before, which knows the labels that this one was not asked about; it
    /// answers on if it did, until this model is right more often. Nothing is taken over where the two are not of the
    /// same inputs and classes.
    pub fn inherit(&mut self, before: &Self) {
        if self.frame == before.frame
            && self.targets == before.targets
            && self.head.is_some()
            && before.head.is_some()
        {
            self.head.clone_from(&before.head);
            self.notes.clone_from(&before.notes);
            let Seen { rows, coverage, is_headed, .. } = before.seen;
            self.seen = Seen { rows, coverage, is_headed, ..std::mem::take(&mut self.seen) };
        }
    }

    /// What survives a restart.
    #[must_use]
    pub fn state(&self) -> AdaptState {
        AdaptState {
            adapter: self.adapter.clone(),
            head: self.head.as_ref().map(Head::state),
            seen: self.seen.clone(),
        }
    }

    /// Goes on from a state, with places that begin anew: labels of rows before it teach the head nothing. `false`,
    /// and nothing changed, where it is of another version's shape.
    #[must_use]
    pub fn restore(&mut self, state: AdaptState) -> bool {
        let fits = state.adapter.fits(&self.frame)
            && match (&mut self.head, &state.head) {
                (Some(head), Some(kept)) => head.restore(kept),
                (None, None) => true,
                _ => false,
            };
        if fits {
            (self.adapter, self.seen) = (state.adapter, state.seen);
            self.notes.clear();
        }
        fits
    }
}

/// Whether an answer is: the class, or a number that is near.
pub(crate) fn right(targets: Targets, scores: &[f32], truth: f64) -> bool {
    match targets {
        Targets::Classes(_) => best(scores).is_some_and(|class| class as f64 == truth),
        Targets::Value { std, .. } => {
            scores.first().is_some_and(|value| (f64::from(*value) - truth).abs() <= NEAR * std)
        }
    }
}

fn best(scores: &[f32]) -> Option<usize> {
    let sound = scores.iter().enumerate().filter(|(_, score)| !score.is_nan());
    sound.max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0))).map(|(at, _)| at)
}
