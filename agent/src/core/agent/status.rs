//! What an operator of the device is shown.

use super::super::shadow::ShadowVerdict;
use super::super::trial::TrialVerdict;
use super::run::Phase;
use super::{Agent, BEATS_A_REPORT, Turn, Waiting};
use serde::{Deserialize, Serialize};
use shoal_proto::decision::{SlotState, Trigger};
use shoal_proto::fact::{Fact, Health};
use shoal_proto::id::{DeviceId, Digest, ModelName};
use shoal_proto::summary::DriftLevel;
use shoal_proto::time::Now;
use std::collections::BTreeMap;

/// The device at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Who.
    pub device: DeviceId,
    /// Starts of the process.
    pub boot: u64,
    /// Whether the hub answers.
    pub hub: bool,
    /// Operations that the hub has not yet acknowledged.
    pub outbox: usize,
    /// Counters, since the device is in use.
    pub counts: BTreeMap<String, u64>,
    /// Its models.
    pub models: Vec<ModelStatus>,
}

/// One model at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// Which.
    pub model: ModelName,
    /// The version that answers.
    pub serving: Digest,
    /// Its name.
    pub name: String,
    /// Whether it is loaded.
    pub ready: bool,
    /// What would serve after a rollback.
    pub previous: Option<Digest>,
    /// What wants to serve, and where it stands.
    pub candidate: Option<(Digest, SlotState)>,
    /// What the monitors say.
    pub level: DriftLevel,
    /// Rows in the open window.
    pub window_rows: u64,
    /// Recent labels, and right answers among them.
    pub recent_labels: (u64, u64),
    /// Labels since the last training run.
    pub labels_since_run: u64,
    /// What a training run waits for; `None`: nothing.
    pub training_waits_for: Option<String>,
    /// What wants a run that waits.
    #[serde(default)]
    pub training_wanted: Option<Trigger>,
    /// The run that is under way.
    #[serde(default)]
    pub training: Option<TrainingStatus>,
    /// What a shadow or a trial waits for.
    pub trial_waits_for: Option<String>,
    /// How the last candidate ended.
    pub last_end: Option<shoal_proto::fact::EndReport>,
}

/// A training run at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingStatus {
    /// Its number.
    pub run: u64,
    /// What started it.
    #[serde(default)]
    pub trigger: Option<Trigger>,
    /// What it waits for while it rests; `None`: it goes.
    #[serde(default)]
    pub paused: Option<String>,
    /// Steps made, as the child last said; the core does not know.
    pub step: u64,
    /// Steps to make, unless it stops early.
    pub steps: u64,
    /// Loss of that step's rows.
    pub loss: Option<f64>,
}

impl Agent {
    /// The device at a glance.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        Status {
            device: self.policy.device.clone(),
            boot: self.boot,
            hub: self.peer.is_connected(),
            outbox: self.peer.log.waiting(),
            counts: self.counts.iter().map(|(count, total)| (count.key().to_owned(), *total)).collect(),
            models: self.models.keys().filter_map(|name| self.model_status(now, name)).collect(),
        }
    }

    fn model_status(&self, now: Now, name: &ModelName) -> Option<ModelStatus> {
        let model = self.models.get(name)?;
        let serving = model.slot.serving();
        let shadow_waits_for = model.slot.in_shadow().and_then(|candidate| {
            let stood = model.stood(now.mono).unwrap_or(candidate.shadow.stood_before);
            match candidate.shadow.judge(&candidate.policy, stood) {
                ShadowVerdict::Waiting(waiting) => Some(waiting.to_string()),
                ShadowVerdict::Pass | ShadowVerdict::Reject(_) => None,
            }
        });
        let trial_waits_for = model.slot.on_trial().and_then(|candidate| {
            let served = candidate.trial.served_before + now.mono.since(model.trial_since);
            match candidate.trial.judge(&candidate.policy, served) {
                TrialVerdict::Waiting(waiting) => Some(waiting.to_string()),
                TrialVerdict::Confirm | TrialVerdict::RollBack(_) => None,
            }
        });
        Some(ModelStatus {
            model: name.clone(),
            serving,
            name: self.versions.get(&serving).map_or_else(String::new, |info| info.record.name.clone()),
            ready: model.answering,
            previous: model.slot.previous,
            candidate: model.slot.candidate.as_ref().map(|candidate| (candidate.version, candidate.state)),
            level: model.watch.level(),
            window_rows: model.watch.rows(),
            recent_labels: model.watch.recent_accuracy(),
            labels_since_run: model.slot.labels_since_run,
            training_waits_for: self.decide_training(now, name).err().map(|waiting| waiting.to_string()),
            training_wanted: model.wanted.map(|wanted| wanted.trigger),
            training: model.run.map(|run| TrainingStatus {
                run: run.number,
                trigger: Some(run.trigger),
                paused: self.paused(now, name),
                step: 0,
                steps: 0,
                loss: None,
            }),
            trial_waits_for: shadow_waits_for.or(trial_waits_for),
            last_end: model.slot.last_end.clone(),
        })
    }

    /// What a run waits for that is under way and does not go.
    fn paused(&self, now: Now, name: &ModelName) -> Option<String> {
        let run = self.models.get(name)?.run.filter(|run| run.phase != Phase::Going || run.stop.is_some())?;
        if run.stop.is_some() {
            return Some("stopping".into());
        }
        Some(self.held(now).map_or_else(|| "going on soon".into(), |hold| Waiting::Budget(hold).to_string()))
    }

    /// Whether every model answers.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.models.values().all(|model| model.answering)
    }

    /// The manifest of the version that serves a model.
    #[must_use]
    pub fn manifest(&self, name: &ModelName) -> Option<std::sync::Arc<shoal_proto::manifest::Manifest>> {
        let serving = self.models.get(name)?.slot.serving();
        self.versions.get(&serving).map(|info| info.manifest.clone())
    }

    /// Every version on disk, by name.
    #[must_use]
    pub fn versions(&self) -> Vec<(Digest, shoal_proto::fact::VersionRecord)> {
        self.versions.values().map(|info| (info.version, info.record.clone())).collect()
    }

    /// The device's document, for those who look on.
    #[must_use]
    pub fn document(&self) -> &shoal_proto::document::Document {
        &self.document
    }

    /// The canonical bytes of the device's document.
    #[must_use]
    pub fn document_bytes(&self) -> Vec<u8> {
        self.document.to_bytes()
    }

    /// How the device is: in the document now and then, or when something about it has changed; between, in passing.
    pub(super) fn beat(&mut self, now: Now, turn: &mut Turn) {
        let words = without_numbers(&self.training_words(now));
        let told = self.facts().health().map(|health| without_numbers(&health.training));
        let since = now.mono.since(self.reported);
        if told != Some(words) || since >= self.policy.heartbeat * BEATS_A_REPORT {
            return self.write_report(now, turn);
        }
        self.remember_counts(turn);
        if self.peer.is_connected() && since >= self.policy.heartbeat / 2 {
            self.say_beat(now, turn);
        }
    }

    /// Counters, and the health with them.
    pub(super) fn write_report(&mut self, now: Now, turn: &mut Turn) {
        self.reported = now.mono;
        self.write_counts(now, turn);
        let training = self.training_words(now);
        let health = Health { uptime_s: now.mono.0.as_secs(), capturing: true, training };
        self.fact(now, Fact::Health(health), turn);
    }

    /// What training does or waits for, of each model.
    fn training_words(&self, now: Now) -> String {
        let words =
            self.models.keys().map(|name| match (self.paused(now, name), self.decide_training(now, name)) {
                (Some(paused), _) => format!("{name}: paused, {paused}"),
                (None, Ok(_)) => format!("{name}: starting"),
                (None, Err(waiting)) => format!("{name}: {waiting}"),
            });
        words.collect::<Vec<_>>().join("; ")
    }
}

/// The same words, whatever they count.
fn without_numbers(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}
