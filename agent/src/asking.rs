//! Which rows to ask a person about: those whose labels would teach most.
//!
//! A queue of one model. It is full of the most doubtful rows of the last hours, and not of the same row many times:
//! a row that lies near one that waits, or that was answered, asks nothing new. Nearness and not balance of classes,
//! since a model that has gone wrong may give one class for everything, and classes are what it is asked about.
//!
//! Half of the places are kept for what doubt does not see: rows that are like none of training, about which a model
//! may be sure and wrong, and rows of classes of which no label ever came. The other half stays free of them: of a
//! broken sensor's rows all are outlying.
//!
//! Pure: time comes as an argument, and the memory is bounded by the rows that wait.

use serde::{Deserialize, Serialize};
use shoal_proto::infer::Why;
use shoal_proto::time::{Mono, Now};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How near a row must be to another to ask the same: the root of the mean square over the features, each in its own
/// recent spreads. Two rows of independent features lie 1.4 apart.
const NEAR: f64 = 0.25;
/// Rows after which an earlier one counts half as much and less in those spreads, as they follow the stream.
const MEMORY: f64 = 1_000.0;
/// A day of the budget.
const DAY: Duration = Duration::from_secs(86_400);
/// Times in a day that a row may be asked about, for each that is: a rule that keeps the best of many needs some.
const OFFERS: u64 = 4;

/// What a person is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Rows that wait, of a model; 0: nobody is asked.
    pub queue: usize,
    /// Rows older than this wait no longer; as long a row that was answered speaks for those near it.
    pub max_age: Duration,
    /// Rows a day that are asked about over MQTT; 0: none.
    pub per_day: u64,
}

impl Default for Settings {
    /// As many as a person would look at; a day, since who labels comes once a day.
    fn default() -> Self {
        Self { queue: 64, max_age: DAY, per_day: 0 }
    }
}

/// A row that may be asked about.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// What a label refers to.
    pub prediction_id: String,
    /// When it was predicted.
    pub at: Now,
    /// The features, in the manifest's order.
    pub features: Arc<[f32]>,
    /// The class that was answered.
    pub class: Option<u32>,
    /// How sure the answer was.
    pub confidence: f32,
    /// How much a label would teach; comparable within one model.
    pub doubt: f32,
    /// Whether it is like none of training.
    pub outlying: bool,
}

#[derive(Debug, Clone)]
struct Waiting {
    question: Question,
    told: bool,
}

#[derive(Debug, Clone)]
struct Answered {
    at: Mono,
    features: Arc<[f32]>,
    class: Option<u32>,
}

/// The rows of one model that wait for a label.
#[derive(Debug, Clone)]
pub struct Queue {
    places: usize,
    max_age: Duration,
    rows: Vec<Waiting>,
    answered: VecDeque<Answered>,
    labelled: BTreeSet<u32>,
    moments: Vec<Moments>,
    seen: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    mean: f64,
    variance: f64,
}

impl Queue {
    /// Nothing waits.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            places: settings.queue,
            max_age: settings.max_age,
            rows: Vec::new(),
            answered: VecDeque::new(),
            labelled: BTreeSet::new(),
            moments: Vec::new(),
            seen: 0.0,
        }
    }

    /// Takes a row into the spreads that nearness is measured in.
    pub fn see(&mut self, features: &[f32]) {
        if self.moments.len() != features.len() {
            self.moments = vec![Moments::default(); features.len()];
            self.seen = 0.0;
        }
        self.seen = (self.seen + 1.0).min(MEMORY);
        let share = 1.0 / self.seen;
        for (moments, value) in self.moments.iter_mut().zip(features).filter(|(_, value)| value.is_finite()) {
            let off = f64::from(*value) - moments.mean;
            moments.mean += share * off;
            moments.variance = (1.0 - share) * (moments.variance + share * off * off);
        }
    }

    /// Lets a row wait if its label would teach more than that of the least of those that do; says whether it waits.
    pub fn offer(&mut self, question: Question, now: Mono) -> bool {
        self.forget(now);
        if self.places == 0 || self.is_too_sure(&question) || self.is_answered(&question) {
            return false;
        }
        let near: Vec<usize> = (0..self.rows.len())
            .filter(|at| {
                let other = &self.rows[*at].question;
                other.class == question.class && self.is_near(&other.features, &question.features)
            })
            .collect();
        // One that a person was told of stays until it is answered.
        if near.iter().any(|at| {
            self.rows[*at].told || doubt(&self.rows[*at].question).total_cmp(&doubt(&question)).is_ge()
        }) {
            return false;
        }
        for at in near.into_iter().rev() {
            self.rows.remove(at);
        }
        let id = question.prediction_id.clone();
        self.rows.push(Waiting { question, told: false });
        if self.rows.len() > self.places
            && let Some(out) = self.least()
        {
            self.rows.remove(out);
        }
        self.rows.last().is_some_and(|last| last.question.prediction_id == id)
    }

    /// Whether a full queue has no place for it: cheaper to know than what it is near to.
    fn is_too_sure(&self, question: &Question) -> bool {
        if self.rows.len() < self.places {
            return false;
        }
        let is_apart = self.is_apart(question);
        let apart = self.rows.iter().filter(|row| self.is_apart(&row.question)).count();
        let leaves = apart + usize::from(is_apart) > self.places / 2;
        let same = || self.rows.iter().filter(|row| self.is_apart(&row.question) == is_apart);
        is_apart == leaves && same().all(|row| doubt(&row.question) >= doubt(question))
    }

    /// The one that leaves: of those apart where they have more than their half, else of the others.
    fn least(&self) -> Option<usize> {
        let apart = self.rows.iter().filter(|row| self.is_apart(&row.question)).count();
        let leaves = apart > self.places / 2;
        let rows = self.rows.iter().enumerate();
        let may_leave = rows.filter(|(_, row)| self.is_apart(&row.question) == leaves);
        let least = may_leave.min_by(|(_, a), (_, b)| doubt(&a.question).total_cmp(&doubt(&b.question)));
        least.map(|(at, _)| at)
    }

    fn is_apart(&self, question: &Question) -> bool {
        self.why(question) != Why::Uncertain
    }

    /// Why it is asked about.
    #[must_use]
    pub fn why(&self, question: &Question) -> Why {
        match question.class {
            _ if question.outlying => Why::Outlying,
            Some(class) if !self.labelled.contains(&class) => Why::New,
            _ => Why::Uncertain,
        }
    }

    fn is_answered(&self, question: &Question) -> bool {
        let same = |answered: &&Answered| answered.class == question.class;
        self.answered.iter().filter(same).any(|one| self.is_near(&one.features, &question.features))
    }

    fn is_near(&self, a: &[f32], b: &[f32]) -> bool {
        if a.len() != b.len() || a.is_empty() || a.len() != self.moments.len() {
            return false;
        }
        let (mut sum, mut count) = (0.0, 0.0);
        for ((a, b), Moments { variance, .. }) in a.iter().zip(b).zip(&self.moments) {
            let off = f64::from(*a) - f64::from(*b);
            match (off.is_finite(), a.is_finite() == b.is_finite()) {
                (false, true) => {} // missing in both
                (false, false) => (sum, count) = (sum + 1.0, count + 1.0),
                (true, _) if *variance > 0.0 => (sum, count) = (sum + off * off / variance, count + 1.0),
                (true, _) => {}
            }
        }
        sum <= NEAR * NEAR * count
    }

    /// Takes note of a label: its row waits no longer, nor do those near it. `truth`: the class that it named.
    pub fn answered(
        &mut self,
        prediction_id: &str,
        row: (&Arc<[f32]>, Option<u32>),
        truth: Option<u32>,
        now: Mono,
    ) {
        if self.places == 0 {
            return;
        }
        self.labelled.extend(truth);
        self.rows.retain(|row| row.question.prediction_id != prediction_id);
        self.settle(row.0, row.1, now);
    }

    /// A row that nobody can tell about waits no longer; `false` where it did not wait.
    pub fn skip(&mut self, prediction_id: &str, now: Mono) -> bool {
        self.forget(now);
        let Some(at) = self.rows.iter().position(|row| row.question.prediction_id == prediction_id) else {
            return false;
        };
        let Question { features, class, .. } = self.rows.remove(at).question;
        self.settle(&features, class, now);
        true
    }

    fn settle(&mut self, features: &Arc<[f32]>, class: Option<u32>, now: Mono) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.retain(|row| row.question.class != class || !self.is_near(&row.question.features, features));
        self.rows = rows;
        if self.answered.len() == self.places {
            self.answered.pop_front();
        }
        self.answered.push_back(Answered { at: now, features: Arc::clone(features), class });
    }

    fn forget(&mut self, now: Mono) {
        let max_age = self.max_age;
        self.rows.retain(|row| now.since(row.question.at.mono) <= max_age);
        self.answered.retain(|one| now.since(one.at) <= max_age);
    }

    /// Doubts are measured again, as more is known by now.
    pub fn rescore(&mut self, doubt: impl Fn(&Question) -> f32) {
        for row in &mut self.rows {
            row.question.doubt = doubt(&row.question);
        }
    }

    /// The rows to ask about first: in turns one that stands apart and one of the rest, the most doubtful first.
    pub fn next(&mut self, count: usize, now: Mono) -> Vec<&Question> {
        self.forget(now);
        self.ranked().into_iter().take(count).map(|row| &row.question).collect()
    }

    fn ranked(&self) -> Vec<&Waiting> {
        let (mut apart, mut rest): (Vec<_>, Vec<_>) =
            self.rows.iter().partition(|row| self.is_apart(&row.question));
        for part in [&mut apart, &mut rest] {
            part.sort_by(|a, b| doubt(&b.question).total_cmp(&doubt(&a.question)));
        }
        let (mut apart, mut rest) = (apart.into_iter(), rest.into_iter());
        let mut ranked = Vec::with_capacity(self.rows.len());
        while ranked.len() < self.rows.len() {
            ranked.extend(apart.next());
            ranked.extend(rest.next());
        }
        ranked
    }

    /// The first that nobody was told of yet.
    pub fn untold(&mut self, now: Mono) -> Option<&Question> {
        self.forget(now);
        self.ranked().into_iter().find(|row| !row.told).map(|row| &row.question)
    }

    /// Somebody was told of it.
    pub fn tell(&mut self, prediction_id: &str) {
        for row in self.rows.iter_mut().filter(|row| row.question.prediction_id == prediction_id) {
            row.told = true;
        }
    }

    /// Rows that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// What is no number is most doubtful.
fn doubt(question: &Question) -> f32 {
    if question.doubt.is_nan() { f32::INFINITY } else { question.doubt }
}

/// A day's budget of questions, in time that the agent ran; it survives restarts, or each would give a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Day {
    ran_ms: u64,
    spent: u64,
    offered_ms: Option<u64>,
}

impl Day {
    /// Time passed; after a day the next begins.
    pub fn run(&mut self, by: Duration) {
        let (day, by) = (millis(DAY), millis(by));
        self.ran_ms = self.ran_ms.saturating_add(by);
        if self.ran_ms >= day {
            *self = Self { ran_ms: self.ran_ms % day, ..Self::default() };
        }
    }

    /// What may still be asked.
    #[must_use]
    pub fn left(&self, per_day: u64) -> u64 {
        per_day.saturating_sub(self.spent)
    }

    /// How long until a row may be offered: as a day's rows are not known beforehand, offers are spread over it.
    #[must_use]
    pub fn until_offer(&self, per_day: u64) -> Duration {
        let pace = millis(DAY) / per_day.saturating_mul(OFFERS).max(1);
        let due = self.offered_ms.map_or(0, |at| at + pace);
        Duration::from_millis(due.saturating_sub(self.ran_ms))
    }

    /// A row was offered, and asked about or not.
    pub fn offered(&mut self, is_asked: bool) {
        self.offered_ms = Some(self.ran_ms);
        self.spent += u64::from(is_asked);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
