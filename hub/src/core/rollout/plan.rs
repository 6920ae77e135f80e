//! What a rollout does next, and what it waits for.
//!
//! Intuition: a wave is *settled* when every reachable device of it has a verdict or ran out of time.
//! Failures are counted over all waves and stop everything at once; success is asked of each wave.
//! Silence holds the last wave open until its deadline and holds nobody else up.

use super::state::{DeviceState, Seen, sort};
use super::{Phase, Rollout, StopReason};
use serde::{Deserialize, Serialize};
use shoal_proto::fact::SlotReport;
use shoal_proto::id::DeviceId;
use shoal_proto::time::Mono;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the hub sees of one device.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// Its slot for the rollout's model.
    pub slot: Option<&'a SlotReport>,
    /// How long it has been silent.
    pub silent: Duration,
    /// Whether its champion was made from the rollout's version.
    pub descends: bool,
}

/// One act, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Write the assignment into this device's document.
    Assign(DeviceId),
    /// The wave did well: watch it.
    StartSoak,
    /// Begin the next wave.
    NextWave,
    /// The rollout ends; devices go back where [`Phase::reverts`] says so.
    Finish(Phase),
}

/// Why nothing moves right now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// Devices are at it.
    #[error("wave {wave}: {open} devices have no verdict yet, {remaining_s} s left")]
    Devices { wave: u32, open: u64, remaining_s: u64 },
    /// Only silent devices are left.
    #[error("wave {wave}: {unreachable} devices cannot be reached, {remaining_s} s left")]
    Unreachable { wave: u32, unreachable: u64, remaining_s: u64 },
    /// It did well and is watched.
    #[error("wave {wave} did well and is watched for another {remaining_s} s")]
    Soak { wave: u32, remaining_s: u64 },
    /// The deadline passed and the next wave would go blind: late verdicts, or a person, decide.
    #[error(
        "wave {wave}: deadline passed with {succeeded} of {judged} devices confirmed: not enough evidence"
    )]
    Evidence { wave: u32, succeeded: u64, judged: u64 },
}

/// Devices by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Not begun.
    pub pending: u64,
    /// At it.
    pub in_progress: u64,
    /// Confirmed.
    pub succeeded: u64,
    /// Took it back.
    pub failed: u64,
    /// Never served it.
    pub rejected: u64,
    /// Silent.
    pub unreachable: u64,
    /// Ran out of time.
    pub not_enough_evidence: u64,
}

impl Tally {
    fn count(&mut self, state: &DeviceState) {
        *match state {
            DeviceState::Pending => &mut self.pending,
            DeviceState::InProgress(_) => &mut self.in_progress,
            DeviceState::Succeeded => &mut self.succeeded,
            DeviceState::Failed(_) => &mut self.failed,
            DeviceState::Rejected(_) => &mut self.rejected,
            DeviceState::Unreachable { .. } => &mut self.unreachable,
            DeviceState::NotEnoughEvidence => &mut self.not_enough_evidence,
        } += 1;
    }

    const fn bad(&self) -> u64 {
        self.failed + self.rejected
    }

    /// With a verdict.
    const fn executed(&self) -> u64 {
        self.succeeded + self.bad()
    }

    /// With a verdict or out of time.
    const fn judged(&self) -> u64 {
        self.executed() + self.not_enough_evidence
    }
}

/// What the planner says.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Every member's state.
    pub seen: BTreeMap<DeviceId, Seen>,
    /// All members by state.
    pub tally: Tally,
    /// What to do.
    pub steps: Vec<Step>,
    /// What it waits for, where there is nothing to do.
    pub waiting: Option<Waiting>,
    /// When time alone may change the answer.
    pub wake: Option<Duration>,
}

/// Plans a rollout. A member that `fleet` does not hold was removed and counts as silent for ever.
#[must_use]
pub fn plan(
    rollout: &Rollout,
    fleet: &BTreeMap<DeviceId, Sight<'_>>,
    unreachable_after: Duration,
    now: Mono,
) -> Plan {
    let deadline = Duration::from_secs(rollout.strategy.deadline_s);
    let elapsed = rollout.running.elapsed(now);
    let late = rollout.is_running() && elapsed >= deadline;
    let gone = Sight { slot: None, silent: Duration::MAX, descends: false };
    let mut plan =
        Plan { seen: BTreeMap::new(), tally: Tally::default(), steps: Vec::new(), waiting: None, wake: None };
    let (mut assigned, mut wave) = (Tally::default(), Tally::default());
    let mut wakes = Vec::new();
    for (device, member) in &rollout.members {
        let sight = fleet.get(device).unwrap_or(&gone);
        let overdue = late || member.wave < rollout.wave;
        let (version, verdict) = (rollout.version, member.verdict.as_ref());
        let seen = sort(version, member.assigned, verdict, sight, unreachable_after, overdue);
        plan.tally.count(&seen.state);
        if member.assigned.is_some() {
            assigned.count(&seen.state);
        }
        if member.wave == rollout.wave {
            wave.count(&seen.state);
            if member.assigned.is_none() {
                plan.steps.push(Step::Assign(device.clone()));
            } else if matches!(seen.state, DeviceState::Pending | DeviceState::InProgress(_)) {
                wakes.push(unreachable_after.saturating_sub(sight.silent));
            }
        }
        plan.seen.insert(device.clone(), seen);
    }
    if !rollout.is_running() {
        plan.steps.clear();
        return plan;
    }
    if let Some(reason) = too_many_failures(rollout, &assigned) {
        plan.steps = vec![Step::Finish(Phase::Stopped(reason))];
        return plan;
    }
    if plan.steps.is_empty() {
        let left = deadline.saturating_sub(elapsed);
        if !late {
            wakes.push(left);
        }
        let (steps, waiting) = decide_wave(rollout, &wave, late, left, now);
        if let Some(Waiting::Soak { .. }) = waiting {
            wakes.push(soak_left(rollout, now).unwrap_or_default());
        }
        (plan.steps, plan.waiting) = (steps, waiting);
        plan.wake = wakes.into_iter().min();
    }
    plan
}

fn too_many_failures(rollout: &Rollout, assigned: &Tally) -> Option<StopReason> {
    let limit = rollout.strategy.abort;
    let (failed, executed) = (assigned.bad(), assigned.executed());
    let crossed = failed > 0
        && executed >= u64::from(limit.min_number_of_executed_things)
        && per_cent(failed, executed) >= limit.threshold_percentage;
    let threshold_percentage = limit.threshold_percentage;
    crossed.then_some(StopReason::TooManyFailures { failed, executed, threshold_percentage })
}

/// Decides on a wave of which every device is assigned.
fn decide_wave(
    rollout: &Rollout,
    tally: &Tally,
    late: bool,
    left: Duration,
    now: Mono,
) -> (Vec<Step>, Option<Waiting>) {
    let wave = rollout.wave;
    let last = rollout.members.values().all(|member| member.wave <= wave);
    let wait = |waiting| (Vec::new(), Some(waiting));
    let finish = |phase| (vec![Step::Finish(phase)], None);
    let (open, remaining_s) = (tally.pending + tally.in_progress, left.as_secs());
    let (succeeded, judged, unreachable) = (tally.succeeded, tally.judged(), tally.unreachable);
    if open > 0 {
        return wait(Waiting::Devices { wave, open, remaining_s });
    }
    if unreachable > 0 && !late && (last || judged == 0) {
        return wait(Waiting::Unreachable { wave, unreachable, remaining_s });
    }
    let success_percentage = rollout.strategy.success_percentage;
    if succeeded > 0 && per_cent(succeeded, judged) >= success_percentage {
        if last {
            return finish(Phase::Succeeded);
        }
        return match soak_left(rollout, now) {
            Some(Duration::ZERO) => (vec![Step::NextWave], None),
            Some(left) => wait(Waiting::Soak { wave, remaining_s: left.as_secs() }),
            None => (vec![Step::StartSoak], None),
        };
    }
    if tally.not_enough_evidence > 0 || judged == 0 {
        return if last {
            finish(Phase::Stopped(StopReason::TooLittleEvidence { succeeded, judged }))
        } else {
            wait(Waiting::Evidence { wave, succeeded, judged })
        };
    }
    finish(Phase::Stopped(StopReason::TooFewSuccesses { wave, succeeded, judged, success_percentage }))
}

/// What is left of the soak; `None` before it began.
fn soak_left(rollout: &Rollout, now: Mono) -> Option<Duration> {
    let soak = Duration::from_secs(rollout.strategy.soak_s);
    rollout.soaking.map(|watch| soak.saturating_sub(watch.elapsed(now)))
}

#[expect(clippy::cast_precision_loss, reason = "device counts are far below 2^52")]
fn per_cent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}
