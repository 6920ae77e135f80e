//! A device in virtual time: the production core, its samples, versions, training and admission, and no hub.
//!
//! What a core asks for is done at once: a run, an admission and a swap take no virtual time, so that the next
//! row is answered by what came of them. What the core writes to `state.db` is not kept: this device never
//! starts again. A label whose row the samples' quota has evicted still reaches the monitors, which on a device
//! it would not.

use super::BacktestError;
use super::journal::{Journal, When};
use crate::adapting::{self, Adapted, Answering};
use crate::beside;
use crate::clock::Clock;
use crate::config::{LoopSettings, Sizes};
use crate::core::{
    Agent, Asked, Boot, Budget, Effect, Event, Labelled, Observation, Policy, TrainJob, Trained, Truth,
    Untrained, VersionInfo,
};
use crate::file::write_atomic;
use crate::report::chain;
use crate::store::{Label, LabelRow, SampleRow, SamplesDb};
use crate::vault::{Vault, version_info};
use crate::worker::{Limits, TrainingJob, Why, admit_here, train_here};
use shoal_adapt::{Adapt, Lens, Settings};
use shoal_infer::Predictor;
use shoal_proto::decision::{Rejection, ShadowSeen};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::manifest::Manifest;
use shoal_proto::package::{MODEL, Package};
use shoal_proto::time::{Mono, Now, WallMs};
use shoal_watch::answer::GroupCodes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The device's key below its state folder: the same for every backtest, so that versions are the same.
const KEY: &str = "device.key";
/// Who gives the labels.
const SOURCE: &str = "backtest";
/// Rows and labels that wait for the disk.
const TOGETHER: usize = 256;

/// A version that answers.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) version: Digest,
    pub(super) predictor: Predictor,
    pub(super) manifest: Arc<Manifest>,
}

/// Time that parts of the device took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Took {
    pub(super) predict: Duration,
    pub(super) core: Duration,
    pub(super) adapt: Duration,
    pub(super) store: Duration,
    pub(super) train: Duration,
    pub(super) admit: Duration,
}

/// A row that was answered.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) version: Digest,
    pub(super) asked: Asked,
    pub(super) features: Arc<[f32]>,
    pub(super) class: Option<u32>,
    pub(super) confidence: f32,
    pub(super) values: Arc<[f32]>,
    /// What the last layer read, where it is watched.
    pub(super) embedding: Arc<[f32]>,
}

/// The device.
#[derive(Debug)]
pub(super) struct World {
    agent: Agent,
    model: ModelName,
    vault: Vault,
    samples: SamplesDb,
    sizes: Sizes,
    interval_ms: u64,
    now: Now,
    row: u64,
    part: Option<String>,
    serving: Option<Arc<Served>>,
    adapting: Settings,
    /// The candidate that answers unheard, and since which row.
    shadow: Option<(Served, u64)>,
    /// Of the version that serves, where its package says what inputs looked like.
    adapt: Option<Adapt>,
    waiting: VecDeque<Event>,
    rows: Vec<SampleRow>,
    labels: Vec<LabelRow>,
    pub(super) clock: Clock,
    pub(super) took: Took,
    pub(super) journal: Journal,
    /// The last to go.
    state: tempfile::TempDir,
}

impl World {
    /// A new device with one package, which serves when this returns.
    pub(super) fn start(
        package: &Package,
        settings: &LoopSettings,
        interval_ms: u64,
        seed: u64,
    ) -> Result<Self, BacktestError> {
        let state = tempfile::tempdir().map_err(BacktestError::Folder)?;
        let key = Digest::of(b"the key of every backtest").to_string();
        write_atomic(&state.path().join(KEY), key.as_bytes())?;
        let vault = Vault::open(state.path())?;
        let info = vault.put(package)?;
        // Labels never come before their row: nobody waits for late joins.
        let (samples, _late) = SamplesDb::open(state.path(), settings.sizes.samples_bytes)?;
        let boot = Boot {
            boot: 1,
            versions: vec![info.clone()],
            configured: vec![info.clone()],
            seed,
            ..Boot::default()
        };
        let now = Now::default();
        let mut effects = Vec::new();
        // A recording has no temperature, and its runs take no time.
        let policy = Policy { budget: Budget::NONE, ..settings.policy.clone() };
        let agent = Agent::new(policy, boot, now, &mut effects);
        let mut world = Self {
            agent,
            model: info.record.model.clone(),
            vault,
            samples,
            sizes: settings.sizes,
            interval_ms,
            now,
            row: 0,
            part: None,
            serving: None,
            adapting: settings.policy.adapt,
            shadow: None,
            adapt: None,
            waiting: VecDeque::new(),
            rows: Vec::new(),
            labels: Vec::new(),
            clock: Clock::start(),
            took: Took::default(),
            journal: Journal::default(),
            state,
        };
        world.journal.know(&info);
        for effect in effects {
            world.carry_out(effect)?;
        }
        world.turn()?;
        Ok(world)
    }

    /// The version that answers.
    pub(super) fn serving(&self) -> Result<Arc<Served>, BacktestError> {
        self.serving.clone().ok_or_else(|| BacktestError::NotServed {
            reason: self.journal.alarms.last().cloned().unwrap_or_else(|| "it was not asked to".into()),
        })
    }

    /// Time goes on to the next row, of this part of the stream.
    pub(super) fn advance(&mut self, part: Option<&str>) -> Result<(), BacktestError> {
        let at = Mono::from_millis((self.row + 1) * self.interval_ms);
        loop {
            let due = self.agent.next_deadline();
            if due > at || due <= self.now.mono {
                break;
            }
            self.set_time(due);
            self.handle(Event::Tick)?;
        }
        self.set_time(at);
        self.row += 1;
        if self.part.as_deref() != part {
            self.part = part.map(str::to_owned);
        }
        Ok(())
    }

    fn set_time(&mut self, mono: Mono) {
        let wall = WallMs(u64::try_from(mono.0.as_millis()).unwrap_or(u64::MAX));
        self.now = Now { mono, wall };
    }

    /// Through what the next row is seen.
    pub(super) fn lens(&self) -> Option<Lens> {
        self.adapt.as_ref().map(Adapt::lens).filter(|lens| !lens.is_clear())
    }

    /// How much a row's label would teach.
    pub(super) fn doubt(&self, row: &[f32]) -> Option<f32> {
        self.adapt.as_ref()?.doubt(row)
    }

    /// What adaptation has come to.
    pub(super) fn adapted(&self) -> Option<Adapted> {
        self.adapt.as_ref().map(Adapted::of)
    }

    /// A row was answered: the monitors see it, and it is kept.
    pub(super) fn predicted(&mut self, row: &Answered) -> Result<(), BacktestError> {
        if let (Some(adapt), Some(served)) = (&mut self.adapt, &self.serving) {
            let start = self.clock.mono();
            let model = Answering { predictor: &served.predictor, manifest: &served.manifest };
            let place = row.asked.number;
            let taken = adapt.observe(&row.features, place, &model);
            taken.map_err(|source| BacktestError::Infer { row: place, source })?;
            self.took.adapt += self.clock.mono().since(start);
        }
        self.rows.push(SampleRow {
            prediction_id: self.prediction_id(row.asked),
            model: self.model.clone(),
            version: row.version,
            at: self.now.wall,
            features: Arc::clone(&row.features),
            class: row.class,
            confidence: row.confidence,
            values: Arc::clone(&row.values),
            groups: GroupCodes::default(),
        });
        if self.rows.len() >= TOGETHER {
            self.write()?;
        }
        self.handle(Event::Predicted(vec![Observation {
            place: None,
            model: self.model.clone(),
            version: row.version,
            asked: row.asked,
            at: self.now.mono,
            features: Arc::clone(&row.features),
            class: row.class,
            confidence: row.confidence,
            values: Arc::clone(&row.values),
            embedding: Arc::clone(&row.embedding),
            groups: GroupCodes::default(),
        }]))?;
        self.beside(row, None)
    }

    /// The truth about a row came.
    pub(super) fn labelled(&mut self, row: Answered, truth: Truth) -> Result<(), BacktestError> {
        if let (Some(adapt), Some(served)) = (&mut self.adapt, &self.serving) {
            let start = self.clock.mono();
            let model = Answering { predictor: &served.predictor, manifest: &served.manifest };
            let place = row.asked.number;
            let taught = adapt.label(&row.features, place, adapting::target(truth), &model);
            taught.map_err(|source| BacktestError::Infer { row: place, source })?;
            self.took.adapt += self.clock.mono().since(start);
        }
        self.labels.push(LabelRow {
            prediction_id: self.prediction_id(row.asked),
            label: match truth {
                Truth::Class(class) => Label::Class(class),
                Truth::Value(value) => Label::Value(value),
            },
            source: SOURCE.into(),
            at: self.now.wall,
        });
        if self.labels.len() >= TOGETHER {
            self.write()?;
        }
        self.beside(&row, Some(truth))?;
        self.handle(Event::Labelled(Labelled {
            model: self.model.clone(),
            version: row.version,
            asked: row.asked,
            features: row.features,
            class: row.class,
            confidence: row.confidence,
            values: row.values,
            truth,
            groups: GroupCodes::default(),
        }))
    }

    /// The stream is over.
    pub(super) fn end(&mut self) {
        self.journal.rest(self.row);
    }

    /// What training waits for.
    pub(super) fn waits_for(&self) -> Option<String> {
        let status = self.agent.status(self.now);
        let model = status.models.into_iter().find(|model| model.model == self.model)?;
        model.trial_waits_for.map(|word| format!("trial: {word}")).or(model.training_waits_for)
    }

    fn prediction_id(&self, asked: Asked) -> String {
        format!("{}#0", asked.prediction_id(&self.model))
    }

    fn handle(&mut self, event: Event) -> Result<(), BacktestError> {
        self.waiting.push_back(event);
        self.turn()
    }

    /// Turns of the core until nothing is left to answer.
    fn turn(&mut self) -> Result<(), BacktestError> {
        while let Some(event) = self.waiting.pop_front() {
            let start = self.clock.mono();
            let mut effects = Vec::new();
            self.agent.handle(self.now, event, &mut effects);
            self.took.core += self.clock.mono().since(start);
            for effect in effects {
                self.carry_out(effect)?;
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), BacktestError> {
        match effect {
            Effect::Note(note) => {
                let (row, at_ms, interval_ms) = (self.row, self.now.wall.0, self.interval_ms);
                let when = When { row, at_ms, interval_ms, part: self.part.as_deref() };
                self.journal.note(note, when);
            }
            Effect::Train(job) => {
                let run = job.run;
                self.write()?;
                let start = self.clock.mono();
                let outcome = self.train(job);
                self.took.train += self.clock.mono().since(start);
                self.waiting.push_back(Event::TrainingEnded { run, outcome });
            }
            Effect::Admit { version } => {
                let start = self.clock.mono();
                let outcome = self.admit(version);
                self.took.admit += self.clock.mono().since(start);
                self.waiting.push_back(Event::Admitted { version, outcome });
            }
            Effect::Serve { model, version } => {
                let outcome = self.serve(version);
                self.waiting.push_back(Event::Serving { model, version, outcome });
            }
            Effect::Shadow { model, version } => {
                let outcome = self.load(version).map(|(served, ..)| {
                    self.shadow = Some((served, self.row));
                    None
                });
                self.waiting.push_back(Event::Shadowing { model, version, outcome });
            }
            Effect::EndShadow { .. } => self.shadow = None,
            Effect::Remove { version } => self.vault.remove(version)?,
            Effect::Fetch { model, generation, .. } => {
                let reason = "a backtest has no hub".to_owned();
                let outcome = Err(Rejection::PackageRefused { reason });
                self.waiting.push_back(Event::Fetched { model, generation, outcome });
            }
            Effect::Persist(_)
            | Effect::Publish { .. }
            | Effect::Announce(_)
            | Effect::TellFinding(_)
            | Effect::TellHealth(_)
            | Effect::StopFetch { .. }
            | Effect::StopTraining { .. }
            | Effect::Sense
            | Effect::PauseTraining { .. }
            | Effect::ResumeTraining { .. }
            | Effect::Remote { .. }
            | Effect::Reply { .. } => {}
        }
        Ok(())
    }

    fn train(&mut self, job: TrainJob) -> Result<Trained, Untrained> {
        let limits = Limits { memory_bytes: self.sizes.child_bytes, ..Limits::TRAIN };
        let job = TrainingJob::new(job, self.state.path().to_owned(), limits);
        let born = train_here(&job).map_err(|cause| {
            let why = Why::from(cause);
            let reason = why.reason.clone();
            why.untrained(reason)
        })?;
        let candidate = self.vault.info(born.version).map_err(|cause| chain(&cause))?;
        self.journal.know(&candidate);
        Ok(Trained { candidate, evidence: born.evidence.clone(), how: Box::new(born.how()) })
    }

    fn admit(&self, version: Digest) -> Result<(), String> {
        let package = self.vault.get(version).map_err(|cause| chain(&cause))?;
        admit_here(&package).map(drop).map_err(|cause| chain(&cause))
    }

    fn serve(&mut self, version: Digest) -> Result<(), String> {
        let (served, package, info) = self.load(version)?;
        let before = std::mem::replace(&mut self.adapt, adapting::begin(&package, &info, self.adapting));
        if let (Some(adapt), Some(before)) = (&mut self.adapt, &before) {
            adapt.inherit(before);
        }
        self.serving = Some(Arc::new(served));
        self.journal.serves(version, self.row);
        Ok(())
    }

    fn load(&self, version: Digest) -> Result<(Served, Package, VersionInfo), String> {
        let package = self.vault.get(version).map_err(|cause| chain(&cause))?;
        let info = version_info(version, &package).map_err(|cause| chain(&cause))?;
        let manifest = Arc::clone(&info.manifest);
        let onnx = package.file(MODEL).unwrap_or_default();
        let inside = manifest.output.embedding.as_deref();
        let predictor = Predictor::load_exposing(onnx, inside, &shoal_onnx::Limits::default());
        let predictor = predictor.map_err(|cause| chain(&cause))?;
        Ok((Served { version, predictor, manifest }, package, info))
    }

    /// What the candidate in the shadow makes of a row that was answered, and of the truth about one.
    fn beside(&mut self, row: &Answered, truth: Option<Truth>) -> Result<(), BacktestError> {
        let Some((candidate, since)) = &self.shadow else { return Ok(()) };
        if row.asked.number < *since {
            return Ok(());
        }
        let start = self.clock.mono();
        let made = candidate.predictor.rows(1, &row.features);
        let (manifest, version) = (&candidate.manifest, candidate.version);
        let served = beside::Served { class: row.class, confidence: row.confidence, values: &row.values };
        let seen = match (made, truth) {
            (Ok(made), None) => beside::answered(manifest, served, &made.values),
            (Ok(made), Some(truth)) => beside::labelled(manifest, served, truth, &made.values),
            (Err(_), None) => ShadowSeen { rows: 1, failures: 1, ..ShadowSeen::default() },
            (Err(_), Some(_)) => ShadowSeen::default(),
        };
        self.took.predict += self.clock.mono().since(start);
        let model = self.model.clone();
        self.handle(Event::Shadowed { model, version, seen })
    }

    /// What waits goes to disk.
    fn write(&mut self) -> Result<(), BacktestError> {
        let start = self.clock.mono();
        self.samples.write(std::mem::take(&mut self.rows), std::mem::take(&mut self.labels))?;
        self.took.store += self.clock.mono().since(start);
        Ok(())
    }
}
