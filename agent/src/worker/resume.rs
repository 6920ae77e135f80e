//! A training run that goes on where it was: which rows it was given and how far it is, in `train.db`.
//!
//! Whatever goes wrong with a checkpoint costs steps that are made again, and never the run.

use super::chain;
use super::job::{Said, Spent, TrainingJob};
use super::samples::Pinned;
use super::train::TrainError;
use crate::store::{StoreError, TrainDb};
use crate::vault::Vault;
use serde::{Deserialize, Serialize};
use shoal_learn::{Checkpoint, Session};
use shoal_proto::decision::Searched;
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::wire::{from_cbor, to_cbor};
use std::time::Duration;

/// When a run writes a checkpoint, and when it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pace {
    /// Steps from one checkpoint to the next,
    pub steps: u64,
    /// but not sooner than this,
    pub least_ms: u64,
    /// and not later than this.
    pub most_ms: u64,
    /// From one line of progress to the next.
    pub said_ms: u64,
}

impl Pace {
    /// Small models make hundreds of steps a second, and each checkpoint costs an fsync and pages of a flash
    /// card: at most one in ten seconds, which is then also about what a kill costs. A large one makes a step
    /// in seconds: what it may lose is a minute.
    pub const USUAL: Self = Self { steps: 100, least_ms: 10_000, most_ms: 60_000, said_ms: 1_000 };

    fn is_due(&self, steps: u64, passed: Duration) -> bool {
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        passed >= self.most_ms || (steps >= self.steps && passed >= self.least_ms)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::USUAL
    }
}

/// What a run knows of the world while it goes on.
pub(super) trait Outside {
    /// Time since the run began.
    fn elapsed(&self) -> Duration;
    /// Whether somebody asked it to stop.
    fn is_stopped(&self) -> bool;
    /// A step was made.
    fn on_step(&mut self, said: Said);
    /// What this process has taken.
    fn spent(&self) -> Spent {
        Spent::default()
    }
}

/// The run's place in `train.db`; without one (no room, no database) it cannot be resumed, and goes on.
#[derive(Debug)]
pub(super) struct Shelf {
    runs: Option<TrainDb>,
    model: ModelName,
    job: Digest,
    pace: Pace,
    /// Rows that are the only ones: a version is made again of them.
    only: Option<Pinned>,
}

/// Why a checkpoint was not written, said once for all that follow.
fn give_up(runs: &mut Option<TrainDb>, attempt: &str, cause: &StoreError) {
    tracing::warn!(error = %chain(cause), attempt, "the run cannot be resumed");
    *runs = None;
}

impl Shelf {
    pub(super) fn open(job: &TrainingJob) -> Self {
        let mut shelf = Self {
            runs: None,
            model: job.model.clone(),
            // All that decides which rows and weights come out.
            job: Digest::of(&to_cbor(&(
                (&job.model, job.parent, job.seed, job.number),
                (&job.recipe, job.holdout_share, job.limits.memory_bytes, &job.sources),
            ))),
            pace: job.pace,
            only: None,
        };
        match TrainDb::open(&job.state) {
            Ok(runs) => shelf.runs = Some(runs),
            Err(cause) => give_up(&mut shelf.runs, "open", &cause),
        }
        shelf
    }

    /// For a job that made a version before: of the same rows, and nothing of it is written.
    pub(super) fn of_version(job: &TrainingJob, rows: Pinned) -> Self {
        let (model, pace) = (job.model.clone(), job.pace);
        Self { runs: None, model, job: Digest([0; 32]), pace, only: Some(rows) }
    }

    /// The rows that this job was given when it first began, where `is_good`; else those that are chosen now,
    /// which are on disk before the first step.
    pub(super) fn rows(
        &mut self,
        is_good: impl FnOnce(&Pinned) -> Result<bool, TrainError>,
        choose: impl FnOnce() -> Result<Pinned, TrainError>,
    ) -> Result<Pinned, TrainError> {
        if let Some(only) = self.only.take() {
            return if is_good(&only)? { Ok(only) } else { Err(TrainError::Moved) };
        }
        let found = self.runs.as_ref().map(|runs| runs.rows(&self.model, self.job)).transpose();
        let found = match found {
            Ok(found) => found.flatten().and_then(|bytes| from_cbor::<Pinned>(&bytes).ok()),
            Err(cause) => {
                give_up(&mut self.runs, "read", &cause);
                None
            }
        };
        if let Some(pinned) = found
            && is_good(&pinned)?
        {
            return Ok(pinned);
        }
        let pinned = choose()?;
        let begun =
            self.runs.as_mut().map(|runs| runs.begin(&self.model, self.job, &to_cbor(&pinned))).transpose();
        if let Err(cause) = begun {
            give_up(&mut self.runs, "begin", &cause);
        }
        Ok(pinned)
    }

    /// Brings a session to where the run was; a checkpoint that is broken or of another run is dropped.
    fn resume(&mut self, session: &mut Session<'_>) -> u64 {
        let Some(runs) = &mut self.runs else { return 0 };
        let reason = match runs.checkpoint(&self.model) {
            Ok(None) => return 0,
            Ok(Some(bytes)) => match from_cbor::<Checkpoint>(&bytes) {
                Ok(checkpoint) => match session.resume(&checkpoint) {
                    Ok(()) => return checkpoint.step,
                    Err(cause) => chain(&cause),
                },
                Err(cause) => chain(&cause),
            },
            Err(cause) => chain(&cause),
        };
        tracing::warn!(reason, "a checkpoint is dropped, the run starts over");
        if let Err(cause) = runs.forget(&self.model) {
            give_up(&mut self.runs, "drop", &cause);
        }
        0
    }

    fn keep(&mut self, session: &Session<'_>) {
        let Some(runs) = &mut self.runs else { return };
        let bytes = to_cbor(&session.checkpoint());
        if let Err(cause) = runs.keep(&self.model, &bytes) {
            give_up(&mut self.runs, "write", &cause);
        }
    }

    /// Where the search of this job was, if it tried the same recipes for as many steps.
    pub(super) fn searched(&mut self, fresh: &Searched) -> Option<Searched> {
        let found = self.runs.as_ref().map(|runs| runs.search(&self.model)).transpose();
        let bytes = match found {
            Ok(found) => found.flatten()?,
            Err(cause) => {
                give_up(&mut self.runs, "read", &cause);
                return None;
            }
        };
        let searched = from_cbor::<Searched>(&bytes).ok()?;
        let of = |searched: &Searched| {
            let tried = searched.tried.iter().map(|tried| (tried.scope.clone(), tried.learning_rate));
            (searched.steps, searched.rows, tried.collect::<Vec<_>>())
        };
        (of(&searched) == of(fresh)).then_some(searched)
    }

    /// A recipe has its score: what its session was at is of no more use.
    pub(super) fn keep_searched(&mut self, searched: &Searched) {
        let Some(runs) = &mut self.runs else { return };
        if let Err(cause) = runs.keep_search(&self.model, &to_cbor(searched)) {
            give_up(&mut self.runs, "write", &cause);
        }
    }

    /// The run is over: its candidate is on disk, and which rows it came of is known as long as it is.
    pub(super) fn close(mut self, version: Digest, vault: &Vault) {
        if let (Some(runs), Ok(there)) = (&mut self.runs, vault.list())
            && let Err(cause) = runs.pin(&self.model, self.job, version, &there)
        {
            tracing::warn!(error = %chain(&cause), "the version cannot be made again");
        }
        if let Some(runs) = &mut self.runs
            && let Err(cause) = runs.forget(&self.model)
        {
            tracing::warn!(error = %chain(&cause), "a checkpoint was not dropped; the next run drops it");
        }
    }
}

/// Where a session stands in a run that makes several.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    /// Steps of the sessions before it.
    pub(super) before: u64,
    /// Steps of those after it.
    pub(super) after: u64,
}

/// Makes all steps that are left, and writes checkpoints on the way.
///
/// # Errors
/// [`TrainError::Paused`] within one step of being asked to stop, with a checkpoint written.
pub(super) fn drive(
    session: &mut Session<'_>,
    shelf: &mut Shelf,
    outside: &mut dyn Outside,
    span: Span,
) -> Result<(), TrainError> {
    let mut kept = (shelf.resume(session), outside.elapsed());
    while let Some(progress) = session.step()? {
        let (step, loss) = (span.before + progress.step, progress.loss);
        let steps = span.before + progress.steps + span.after;
        outside.on_step(Said::at(step, steps, Some(loss)));
        let is_stopped = outside.is_stopped();
        let passed = outside.elapsed().saturating_sub(kept.1);
        if is_stopped || shelf.pace.is_due(progress.step - kept.0, passed) {
            shelf.keep(session);
            kept = (progress.step, outside.elapsed());
        }
        if is_stopped {
            return Err(TrainError::Paused { step, steps });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_come_neither_too_often_nor_too_rarely() {
        let second = Duration::from_secs;
        for (steps, passed, is_due) in [
            (5, second(0), false),
            (5_000, second(9), false),
            (100, second(10), true),
            (99, second(59), false),
            (1, second(60), true),
        ] {
            assert_eq!(Pace::USUAL.is_due(steps, passed), is_due, "{steps} {passed:?}");
        }
    }
}
