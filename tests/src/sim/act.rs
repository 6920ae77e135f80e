//! What a device's shell does: each effect that reaches into the world comes back as an event.

use super::builds::as_said_by;
use super::models::Kind;
use super::mutant::Mutant;
use super::world::{Happening, World};
use rand::Rng as _;
use shoal_agent::core::effect::Note;
use shoal_agent::core::{Effect, Event, Record};
use shoal_proto::decision::{Rejection, ShadowSeen, Verdict};
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::topic::Up;

use super::models::NAME;

/// The one model of the simulated fleet.
pub(super) fn model() -> ModelName {
    ModelName::new(NAME).expect("a legal name")
}

impl World {
    /// Writes a transaction, or says so.
    pub(super) fn commit(&mut self, at: usize, records: Vec<Record>) -> Result<(), String> {
        if self.mutant == Mutant::DiskLies && self.random.random_bool(0.05) {
            return Ok(());
        }
        let before = self.boards[at].disk.slot().cloned();
        self.boards[at].disk.commit(records.clone());
        self.on_device_commit(at, &records, before.as_ref())
    }

    pub(super) fn device_effect(&mut self, at: usize, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Persist(records) => self.commit(at, records)?,
            Effect::Publish { topic, frame } => self.publish(at, topic, frame)?,
            Effect::Fetch { model, generation, version, .. } => self.fetch(at, model, generation, version),
            Effect::Admit { version } => self.admit(at, version),
            Effect::Serve { version, .. } => self.serve(at, version)?,
            Effect::Train(job) => {
                if self.mutant == Mutant::SecondRun {
                    self.train(at, &job)?;
                }
                self.train(at, &job)?;
            }
            Effect::Sense => {
                let seen = Box::new(Event::Conditions(self.boards[at].conditions));
                let life = self.boards[at].life;
                self.later(20, Happening::Device(at, life, seen));
            }
            Effect::PauseTraining { run } => self.pause_child(at, run),
            Effect::ResumeTraining { run } => self.resume_child(at, run),
            Effect::StopTraining { run } => self.stop_child(at, run),
            Effect::Shadow { version, .. } => self.shadow(at, version),
            Effect::Remote { place, id, .. } => {
                let life = self.boards[at].life;
                let done = Event::Remote { place, id, outcome: Ok("done".into()) };
                self.later(30, Happening::Device(at, life, Box::new(done)));
            }
            Effect::Remove { version } => {
                self.invariant_nothing_referred_is_removed(at, version)?;
                let life = self.boards[at].life;
                self.later(10, Happening::Removed(at, life, version));
            }
            Effect::Note(said) => self.on_note(at, &said)?,
            Effect::EndShadow { .. } | Effect::Announce(_) | Effect::TellFinding(_) => {}
            // What is under way comes late then, which the core must bear as well.
            Effect::StopFetch { .. } | Effect::TellHealth(_) | Effect::Reply { .. } => {}
        }
        Ok(())
    }

    fn publish(&mut self, at: usize, topic: Up, frame: Vec<u8>) -> Result<(), String> {
        if self.mutant == Mutant::CutAtPuback && self.boards[at].linked {
            self.acknowledge_as_broker(at, &frame);
        }
        if let Some(frame) = as_said_by(self.boards[at].speaks, topic, &frame)? {
            self.send_up(at, topic, frame);
        }
        Ok(())
    }

    fn fetch(&mut self, at: usize, model: ModelName, generation: u64, version: Digest) {
        let (delay, life) = (self.random.random_range(100..20_000), self.boards[at].life);
        let fails = !self.healed && self.random.random_bool(0.05);
        let outcome = if fails {
            Err(Rejection::PackageRefused { reason: "the hub's artifacts cannot be reached".into() })
        } else {
            let info = self.versions[&version].info.clone();
            // Fetched, and perhaps the process ends before the core hears of it.
            self.boards[at].disk.versions.insert(version, info.clone());
            Ok(info)
        };
        let fetched = Event::Fetched { model, generation, outcome };
        self.later(delay, Happening::Device(at, life, Box::new(fetched)));
    }

    fn admit(&mut self, at: usize, version: Digest) {
        let sound = self.versions.get(&version).is_some_and(|it| it.kind != Kind::Inadmissible);
        if sound {
            self.boards[at].seen.admitted.insert(version);
        }
        let ok = sound || self.mutant == Mutant::ServesUnadmitted;
        let outcome = if ok { Ok(()) } else { Err("the engine panics on it".to_owned()) };
        let (delay, life) = (self.random.random_range(10..2_000), self.boards[at].life);
        self.later(delay, Happening::Device(at, life, Box::new(Event::Admitted { version, outcome })));
    }

    /// Loaded beside the version that serves, it is shown rows; now and then it fails there or does not come back.
    fn shadow(&mut self, at: usize, version: Digest) {
        let outcome = match self.versions[&version].kind {
            Kind::Unloadable => Err("an operator of it is not known".to_owned()),
            _ => Ok(None),
        };
        let life = self.boards[at].life;
        let mut happens = |ms, event| self.later(ms, Happening::Device(at, life, Box::new(event)));
        happens(50, Event::Shadowing { model: model(), version, outcome });
        let (rows, fate) = (self.random.random_range(1..200), self.random.random_range(0..100));
        let hurts = !self.healed && fate < 4;
        let failures = if hurts { rows } else { 0 };
        let seen = ShadowSeen { rows, failures, compared: rows, agreed: rows, ..ShadowSeen::default() };
        let event = match fate {
            0 if hurts => Event::ShadowStalled { model: model(), version },
            _ => Event::Shadowed { model: model(), version, seen },
        };
        self.later(1_000, Happening::Device(at, life, Box::new(event)));
    }

    pub(super) fn serve(&mut self, at: usize, version: Digest) -> Result<(), String> {
        self.invariant_may_serve(at, version)?;
        let name = self.versions[&version].info.record.name.clone();
        let (life, board) = (self.boards[at].life, self.boards[at].name());
        self.note(&format!("{board} loads {name} {}", version.short()));
        self.later(50, Happening::Swap(at, life, version));
        Ok(())
    }

    /// The server swaps, in the order in which it was asked.
    pub(super) fn swap(&mut self, at: usize, version: Digest) -> Result<(), String> {
        let on_disk = self.boards[at].disk.versions.contains_key(&version);
        let outcome = match self.versions[&version].kind {
            Kind::Unloadable => Err("an operator of it is not known".to_owned()),
            // Asked for and taken back before it was loaded: nobody waits for it.
            _ if !on_disk => Err("its files are gone".to_owned()),
            _ => Ok(()),
        };
        if outcome.is_ok() {
            let now = self.now;
            let board = &mut self.boards[at];
            board.serving = Some(version);
            board.seen.on_swap(version, now);
        }
        self.device_event(at, Event::Serving { model: model(), version, outcome })
    }

    fn on_note(&mut self, at: usize, said: &Note) -> Result<(), String> {
        let text = match said {
            Note::Found(finding) => format!("found {:?} {}", finding.level, finding.monitor),
            Note::RunEnded(record) => {
                match &record.verdict {
                    Verdict::Accept => self.counts.accepted += 1,
                    Verdict::Reject(Rejection::TrainingFailed { .. } | Rejection::Cancelled) => {}
                    Verdict::Reject(_) => self.counts.refused += 1,
                }
                let candidate = record.candidate.map(|it| it.short());
                format!("run {} ended: {:?} {candidate:?}", record.run, record.verdict)
            }
            Note::OnTrial { version, .. } => {
                self.counts.trials += 1;
                if self.mutant == Mutant::SecondOnTrial {
                    let of_boards = &self.boards[at];
                    let slot = of_boards.disk.slot();
                    let other = of_boards
                        .disk
                        .versions
                        .keys()
                        .find(|it| slot.is_some_and(|slot| slot.versions().all(|held| held != **it)));
                    if let Some(other) = other.copied() {
                        self.serve(at, other)?;
                    }
                }
                format!("on trial {}", version.short())
            }
            Note::Confirmed { version, .. } => {
                self.counts.confirmed += 1;
                if self.mutant == Mutant::PreviousDeleted
                    && let Some(previous) = self.boards[at].disk.slot().and_then(|slot| slot.previous)
                {
                    self.boards[at].disk.versions.remove(&previous);
                }
                format!("confirmed {}", version.short())
            }
            Note::RolledBack { version, reason, .. } => {
                self.counts.rolled_back += 1;
                format!("rolled back {}: {reason}", version.short())
            }
            Note::Staged { version, .. } => format!("staged {}", version.short()),
            Note::Rejected { version, reason, .. } => format!("rejected {}: {reason}", version.short()),
            other => format!("{other:?}"),
        };
        let name = self.boards[at].name();
        self.note(&format!("{name} {text}"));
        Ok(())
    }
}
