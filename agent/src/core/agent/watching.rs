//! What the monitors see, and what they find.

use super::super::effect::{Effect, Note};
use super::super::event::{Labelled, Observation};
use super::{Agent, Model, Turn};
use shoal_proto::fact::{Count, Fact};
use shoal_proto::finding::Finding;
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::infer::HealthOut;
use shoal_proto::summary::{DriftLevel, LabelKey};
use shoal_proto::time::{Mono, Now};
use shoal_watch::Drift;
use std::collections::BTreeSet;

/// Findings of one moment that are reported to the hub; the summary holds the counts of all.
const MAX_FINDINGS: usize = 8;

impl Model {
    /// When its source will have been silent for too long; `None` once that was said.
    pub(super) fn silent_at(&self) -> Option<Mono> {
        self.watch.silent_at().filter(|_| self.serving && !self.watch.is_silent())
    }
}

impl Agent {
    pub(super) fn on_predicted(&mut self, now: Now, rows: &[Observation], turn: &mut Turn) {
        let mut watched: BTreeSet<&ModelName> = BTreeSet::new();
        for row in rows {
            self.count(Count::Predictions, 1);
            let Some(model) = self.models.get_mut(&row.model) else { continue };
            if row.version != model.slot.serving() || row.version != model.watch.version() {
                continue; // answered before a swap: counted, but judged by nobody
            }
            model.watch.observe(&row.row());
            watched.insert(&row.model);
            if let Some(candidate) = model.slot.on_trial_mut() {
                candidate.trial.requests += 1;
            }
            if model.watch.rows() >= self.policy.window_rows {
                self.close_window(now, &row.model, turn);
            }
        }
        for name in watched {
            self.listen(now, name, turn);
        }
    }

    /// Senders speak of other features than the package.
    pub(super) fn on_misfit(
        &mut self,
        now: Now,
        name: &ModelName,
        version: Digest,
        requests: u64,
        turn: &mut Turn,
    ) {
        let Some(model) = self.models.get_mut(name) else { return };
        if version == model.slot.serving() && version == model.watch.version() {
            model.watch.misfit(requests);
            self.listen(now, name, turn);
        }
    }

    pub(super) fn on_labelled(&mut self, now: Now, label: &Labelled, turn: &mut Turn) {
        self.count(Count::Labels, 1);
        let Some(model) = self.models.get_mut(&label.model) else { return };
        model.slot.labels_since_run += 1;
        if label.version == model.slot.serving() && label.version == model.watch.version() {
            model.watch.label(&label.given());
            match model.slot.on_trial_mut() {
                Some(candidate) => {
                    if let Some(right) = candidate.trial.right(label) {
                        candidate.trial.labels.0 += 1;
                        candidate.trial.labels.1 += u64::from(right);
                    }
                }
                None => label.error().into_iter().for_each(|error| model.errors.push(error)),
            }
            self.listen(now, &label.model, turn);
        }
        self.consider_training(now, &label.model, turn);
    }

    /// Says what the monitors found without waiting for the window's close.
    pub(super) fn listen(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let Some(model) = self.models.get_mut(name) else { return };
        let before = model.watch.level();
        let findings = model.watch.poll(now);
        if findings.is_empty() {
            return;
        }
        if model.watch.level() > before {
            // The hub sees at once what the window will say when it closes.
            let open = model.watch.open_summary(now.wall);
            self.fact(now, Fact::OpenWindow(open), turn);
        }
        self.say(now, name, findings, turn);
        self.remember_model(name, turn);
        self.consider_training(now, name, turn);
    }

    fn say(&mut self, now: Now, name: &ModelName, findings: Vec<Finding>, turn: &mut Turn) {
        for (place, finding) in findings.into_iter().enumerate() {
            turn.effects.push(Effect::Note(Note::Found(finding.clone())));
            if place < MAX_FINDINGS {
                self.fact(now, Fact::Finding(finding.clone()), turn);
            }
            turn.effects.push(Effect::TellFinding(finding));
        }
        self.tell_health(now, name, turn);
    }

    /// How well a model does, where applications have not heard it yet.
    pub(super) fn tell_health(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let Some(model) = self.models.get_mut(name) else { return };
        let health = model.watch.health();
        if model.told.as_ref() != Some(&health) {
            model.told = Some(health.clone());
            let (model, version) = (name.clone(), model.watch.version());
            turn.effects.push(Effect::TellHealth(HealthOut { model, version, health, since: now.wall }));
        }
    }

    /// Seals the open window: its summary and findings become facts.
    pub(super) fn close_window(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let next = self.next_window_id(turn);
        let Some(model) = self.models.get_mut(name) else { return };
        model.window_opened = now.mono;
        model.failures = 0;
        let closed = model.watch.close(now, next);
        self.count(Count::Windows, 1);
        if closed.summary.level == DriftLevel::Drift {
            self.count(Count::Drifts, 1);
        }
        let (incarnation, number) = (closed.summary.id.incarnation, closed.summary.id.number);
        self.fact(now, Fact::Window(closed.summary), turn);
        self.say(now, name, closed.findings, turn);
        self.tell_labels(now, name, turn);
        if let Some(floor) = number.checked_sub(self.policy.keep_windows)
            && floor.is_multiple_of(self.policy.keep_windows.div_ceil(16).max(1))
        {
            self.drop_windows(floor);
            self.fact(now, Fact::WindowFloor(incarnation, floor), turn);
        }
        if now.mono.since(self.reported) >= self.policy.heartbeat {
            self.write_report(now, turn);
        } else {
            self.write_counts(now, turn);
        }
        self.remember_model(name, turn);
        self.consider_training(now, name, turn);
    }

    /// Windows below a floor go; those that a hub never had are counted.
    fn drop_windows(&mut self, floor: u64) {
        if self.peer.cursor().is_some() {
            self.count(Count::WindowsDropped, floor.saturating_sub(self.untold));
        }
        self.untold = self.untold.max(floor);
    }

    /// What labels said of the predictions of each window, where more came: now and then, and not with each.
    pub(super) fn tell_labels(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let Some(model) = self.models.get_mut(name) else { return };
        let (present, version) = (model.watch.window().incarnation, model.watch.version());
        for (number, slot) in model.watch.take_label_slots() {
            let incarnation = self.lives.of(number, present);
            let key = LabelKey { incarnation, number, model: name.clone(), version };
            self.fact(now, Fact::Labels(key, slot), turn);
        }
    }

    /// What the monitors of a model say, whole.
    #[must_use]
    pub fn drift(&self, name: &ModelName) -> Option<Drift> {
        self.models.get(name).map(|model| model.watch.drift())
    }
}
