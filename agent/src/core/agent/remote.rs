//! Commands of the hub: each has its effect once, and a report that the hub gets whoever is cut off.

use super::super::effect::{Effect, RemoteTask};
use super::{Agent, Turn, Waiting};
use shoal_proto::command::{Ask, Command, PLACES, Report, State, fitting};
use shoal_proto::decision::{Rejection, Trigger, Verdict};
use shoal_proto::fact::Fact;
use shoal_proto::id::ModelName;
use shoal_proto::time::Now;

impl Agent {
    /// Takes up the commands that have no report yet.
    pub(super) fn on_remote_commands(&mut self, now: Now, turn: &mut Turn) {
        let reports = self.facts().reports();
        for (place, command) in self.facts().commands() {
            let is_known = reports.get(&place).is_some_and(|report| report.id >= command.id);
            if place < PLACES && !is_known {
                self.take_command(now, place, &command, turn);
            }
        }
    }

    /// What the end of the process cut off: a task is begun again, a run goes on by itself.
    pub(super) fn resume_commands(&mut self, turn: &mut Turn) {
        for (place, Report { id, .. }, what) in self.open_commands() {
            let task = match what {
                Ask::Train { .. } => continue,
                Ask::Labels { model, rows } => RemoteTask::Labels { model, rows },
                Ask::Log { lines } => RemoteTask::Log { lines },
            };
            turn.effects.push(Effect::Remote { place, id, task });
        }
    }

    /// Commands that were accepted and are not over.
    fn open_commands(&self) -> Vec<(u8, Report, Ask)> {
        let mut reports = self.facts().reports();
        let commands = self.facts().commands().into_iter();
        commands
            .filter_map(|(place, command)| {
                let report = reports.remove(&place)?;
                let is_open = report.id == command.id && !report.state.is_over();
                is_open.then_some((place, report, command.what))
            })
            .collect()
    }

    fn take_command(&mut self, now: Now, place: u8, command: &Command, turn: &mut Turn) {
        let id = command.id;
        if let Some(reason) = &command.withdrawn {
            return self.report(now, place, (id, None), (State::Withdrawn, reason), turn);
        }
        let task = match &command.what {
            Ask::Train { model } => {
                let first = Some(self.next_run);
                let said = self.train_for_hub(now, model, turn);
                let (state, text) = match &said {
                    Ok(text) => (State::Accepted, text),
                    Err(reason) => (State::Failed, reason),
                };
                return self.report(now, place, (id, first), (state, text), turn);
            }
            Ask::Labels { model, .. } if !self.models.contains_key(model) => {
                let reason = format!("no model `{model}` is served here");
                return self.report(now, place, (id, None), (State::Failed, &reason), turn);
            }
            Ask::Labels { model, rows } => RemoteTask::Labels { model: model.clone(), rows: *rows },
            Ask::Log { lines } => RemoteTask::Log { lines: *lines },
        };
        self.report(now, place, (id, None), (State::Accepted, ""), turn);
        turn.effects.push(Effect::Remote { place, id, task });
    }

    /// As an operator's word, but what is in the way now is waited for: who asked is far.
    fn train_for_hub(&mut self, now: Now, name: &ModelName, turn: &mut Turn) -> Result<String, String> {
        let candidate = self.models.get(name).and_then(|model| model.slot.candidate.as_ref());
        if let Some(version) = candidate.map(|candidate| candidate.version) {
            self.want(name, Trigger::Command, turn);
            return Ok(format!("a run follows: {}", Waiting::Candidate { version }));
        }
        self.on_train_command(now, name, turn)
    }

    /// What was done, or why not.
    pub(super) fn on_remote(
        &mut self,
        now: Now,
        (place, id): (u8, u64),
        outcome: Result<String, String>,
        turn: &mut Turn,
    ) {
        let is_open = |(open, report, _): &(u8, Report, Ask)| (*open, report.id) == (place, id);
        if self.open_commands().iter().any(is_open) {
            let (state, text) = match &outcome {
                Ok(text) => (State::Done, text),
                Err(reason) => (State::Failed, reason),
            };
            self.report(now, place, (id, None), (state, text), turn);
        }
    }

    /// A run of a model began: those who asked for one hear its number.
    pub(super) fn on_run_began(&mut self, now: Now, name: &ModelName, run: u64, turn: &mut Turn) {
        for (place, of) in self.awaiting(name, |first| first <= run) {
            self.report(now, place, of, (State::Accepted, &format!("run {run} is under way")), turn);
        }
    }

    /// A run that was asked for ended.
    pub(super) fn on_asked_run_ended(
        &mut self,
        now: Now,
        name: &ModelName,
        (run, verdict): (u64, &Verdict),
        turn: &mut Turn,
    ) {
        let (state, text) = match verdict {
            Verdict::Accept => (State::Done, format!("run {run} passed the gate")),
            Verdict::Reject(reason) => {
                let is_tried = !matches!(reason, Rejection::Cancelled | Rejection::TrainingFailed { .. });
                let state = if is_tried { State::Done } else { State::Failed };
                (state, format!("run {run} brought no version: {reason}"))
            }
        };
        for (place, of) in self.awaiting(name, |first| first <= run) {
            self.report(now, place, of, (state, &text), turn);
        }
    }

    /// The run that would have followed, after this one where one is under way, does not.
    pub(super) fn on_asked_run_dropped(
        &mut self,
        now: Now,
        name: &ModelName,
        after: Option<u64>,
        turn: &mut Turn,
    ) {
        for (place, of) in self.awaiting(name, |first| after.is_none_or(|run| first > run)) {
            self.report(now, place, of, (State::Failed, &Rejection::Cancelled.to_string()), turn);
        }
    }

    /// Who asked for a run of a model, by the first run that counts for them.
    fn awaiting(&self, name: &ModelName, counts: impl Fn(u64) -> bool) -> Vec<(u8, (u64, Option<u64>))> {
        let of_it = |(_, report, what): &(u8, Report, Ask)| {
            matches!(what, Ask::Train { model } if model == name) && report.run.is_some_and(&counts)
        };
        let open = self.open_commands().into_iter();
        open.filter(of_it).map(|(place, report, _)| (place, (report.id, report.run))).collect()
    }

    fn report(
        &mut self,
        now: Now,
        place: u8,
        (id, run): (u64, Option<u64>),
        (state, text): (State, &str),
        turn: &mut Turn,
    ) {
        let text = fitting(text).to_owned();
        self.fact(now, Fact::Report(place, Report { id, state, text, run, at: now.wall }), turn);
    }
}
