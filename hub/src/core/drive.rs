//! Driving rollouts: asking the planner, doing its steps, remembering what devices said.

use super::effect::{Note, Record};
use super::hub::{Hub, Turn};
use super::rollout::{Assigned, Phase, Plan, Rollout, Sight, Step, Stopwatch, plan};
use shoal_proto::fact::{Assignment, Fact};
use shoal_proto::id::{DeviceId, RolloutId};
use shoal_proto::time::Mono;
use std::time::Duration;

/// Shortest time between two plannings of one rollout: ten thousand members take tens of milliseconds.
const PLAN_EVERY: Duration = Duration::from_millis(200);
/// Longest time between two: the stopwatches are written to disk this often.
const PLAN_AT_LEAST: Duration = Duration::from_secs(60);
/// Steps of one turn: assign, soak, next wave, assign, finish, with room.
const MAX_ROUNDS: usize = 8;

impl Hub {
    /// Plans the rollouts of a device soon, since something about it has changed.
    pub(super) fn plan_soon(&mut self, device: &DeviceId, now: Mono) {
        let ids: Vec<RolloutId> = self
            .plans
            .keys()
            .filter(|id| self.rollouts.get(*id).is_some_and(|it| it.members.contains_key(device)))
            .cloned()
            .collect();
        for id in ids {
            let earliest = self.planned.get(&id).map_or(now, |last| last.after(PLAN_EVERY).max(now));
            self.plans.entry(id).and_modify(|at| *at = (*at).min(earliest));
        }
    }

    pub(super) fn plan_due(&mut self, turn: &mut Turn) {
        let now = turn.now.mono;
        let due: Vec<RolloutId> =
            self.plans.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.drive(turn, &id);
        }
    }

    /// What the planner says of a rollout now.
    pub(super) fn look(&self, rollout: &Rollout, now: Mono) -> Plan {
        let fleet = rollout
            .members
            .iter()
            .filter_map(|(id, member)| {
                let device = self.devices.get(id)?;
                let slot = device.slots.get(&rollout.model);
                let done = |assigned: Assigned| {
                    member.verdict.is_none()
                        && slot.is_some_and(|it| it.applied_generation >= assigned.generation)
                };
                // Walking a device's versions is dear: only when the answer can matter.
                let descends = member.assigned.is_some_and(done)
                    && slot.is_some_and(|it| device.descends(it.champion, rollout.version));
                Some((id.clone(), Sight { slot, silent: device.silent(now), descends }))
            })
            .collect();
        plan(rollout, &fleet, self.policy.unreachable_after, now)
    }

    fn drive(&mut self, turn: &mut Turn, id: &RolloutId) {
        let now = turn.now.mono;
        let Some(mut rollout) = self.rollouts.remove(id) else { return };
        let before = rollout.clone();
        let mut wake = PLAN_AT_LEAST;
        for _ in 0..MAX_ROUNDS {
            let plan = self.look(&rollout, now);
            if rollout.is_running() {
                for (device, seen) in plan.seen.into_iter().filter(|(_, seen)| seen.state.is_verdict()) {
                    if let Some(member) = rollout.members.get_mut(&device) {
                        member.verdict = Some(seen);
                    }
                }
            }
            if plan.steps.is_empty() {
                wake = plan.wake.unwrap_or(PLAN_AT_LEAST).clamp(PLAN_EVERY, PLAN_AT_LEAST);
                break;
            }
            self.act(turn, &mut rollout, plan.steps);
        }
        let unwritten = rollout.running.elapsed(now).saturating_sub(before.running.written());
        if rollout != before || unwritten >= PLAN_AT_LEAST {
            self.save(turn, &mut rollout);
        }
        if rollout.is_running() {
            self.plans.insert(id.clone(), now.after(wake));
            self.planned.insert(id.clone(), now);
        } else {
            self.plans.remove(id);
            self.planned.remove(id);
        }
        self.rollouts.insert(id.clone(), rollout);
    }

    /// Writes a rollout down, its stopwatches as they stand.
    pub(super) fn save(&mut self, turn: &mut Turn, rollout: &mut Rollout) {
        rollout.running.settle(turn.now.mono);
        if let Some(soaking) = &mut rollout.soaking {
            soaking.settle(turn.now.mono);
        }
        turn.records.push(Record::Rollout(Box::new(rollout.clone())));
    }

    fn act(&mut self, turn: &mut Turn, rollout: &mut Rollout, steps: Vec<Step>) {
        let mut assign = Vec::new();
        for step in steps {
            match step {
                Step::Assign(device) => assign.push(device),
                Step::StartSoak => {
                    rollout.soaking = Some(Stopwatch::start(turn.now.mono));
                    turn.note(Note::SoakStarted { rollout: rollout.id.clone(), wave: rollout.wave });
                }
                Step::NextWave => {
                    rollout.wave += 1;
                    rollout.running = Stopwatch::start(turn.now.mono);
                    rollout.soaking = None;
                }
                Step::Finish(phase) => self.finish(turn, rollout, phase),
            }
        }
        if !assign.is_empty() {
            self.assign(turn, rollout, assign);
        }
    }

    fn assign(&mut self, turn: &mut Turn, rollout: &mut Rollout, devices: Vec<DeviceId>) {
        let generation = self.next_generation(turn);
        let wish = Assignment {
            version: rollout.version,
            rollout: Some(rollout.id.clone()),
            artifact: self.models.get(&rollout.version).map(|model| model.artifact.clone()),
            trial: rollout.strategy.trial,
            revert: false,
        };
        let note = Note::WaveStarted {
            rollout: rollout.id.clone(),
            wave: rollout.wave,
            devices: devices.len(),
            generation,
        };
        turn.note(note);
        for id in devices {
            let Some(device) = self.devices.get(&id) else {
                rollout.members.remove(&id); // it was removed meanwhile
                continue;
            };
            let before = device.slots.get(&rollout.model).map(|slot| slot.champion);
            if let Some(member) = rollout.members.get_mut(&id) {
                member.assigned = Some(Assigned { generation, before });
            }
            self.write(turn, &id, Fact::Assignment(generation, rollout.model.clone(), wish.clone()));
        }
    }

    /// Ends a rollout and sends devices back where the phase says so.
    pub(super) fn finish(&mut self, turn: &mut Turn, rollout: &mut Rollout, phase: Phase) {
        rollout.phase = phase.clone();
        rollout.ended = Some(turn.now.wall);
        if phase.reverts() {
            self.revert(turn, rollout);
        }
        turn.note(Note::RolloutEnded { rollout: rollout.id.clone(), phase });
    }

    /// Gives every device that was assigned what it had before; one that had nothing keeps what it has.
    fn revert(&mut self, turn: &mut Turn, rollout: &mut Rollout) {
        let back: Vec<_> = rollout
            .members
            .iter()
            .filter(|(_, member)| member.reverted.is_none())
            .filter_map(|(id, member)| Some((id.clone(), member.assigned?.before?)))
            .filter(|(_, before)| *before != rollout.version)
            .collect();
        if back.is_empty() {
            return;
        }
        let generation = self.next_generation(turn);
        turn.note(Note::Reverting { rollout: rollout.id.clone(), devices: back.len() });
        for (id, version) in back {
            if let Some(member) = rollout.members.get_mut(&id) {
                member.reverted = Some(generation);
            }
            let wish = Assignment {
                version,
                rollout: Some(rollout.id.clone()),
                artifact: self.models.get(&version).map(|model| model.artifact.clone()),
                trial: rollout.strategy.trial,
                revert: true,
            };
            self.write(turn, &id, Fact::Assignment(generation, rollout.model.clone(), wish));
        }
    }
}
