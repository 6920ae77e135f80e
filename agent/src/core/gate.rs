//! The gate: may a retrained version go on trial?
//!
//! Champion and candidate answer the same holdout, which lies later in time than what was trained on. Classifiers
//! are compared by McNemar's exact one-sided test, regressions by Wilcoxon's signed-rank test of their absolute
//! errors; want of evidence is a "no" that says how many labels would do. What must not suffer (guard set, classes,
//! groups, confidence, time, size) is refused where it suffers more than it may, and by more than chance explains.

mod paired;

pub(in crate::core) use paired::count;
pub use paired::share;

use super::shadow::too_slow;
use paired::{above, certain_gain, mcnemar, rows_for_z, rows_to_decide};
use shoal_proto::decision::{Evidence, Measured, PartEvidence, Rejection, Verdict};
use shoal_proto::manifest::GatePolicy;

/// What a class may lose where all classes together gain much, as a multiple of what it may lose otherwise.
const LOSS_FOR_GAIN: f64 = 2.0;
/// The certain gain of mean recall that is much, as a share of what a class may lose.
const MUCH: f64 = 0.5;
/// Growth of the mean log-loss, in nats, that is of no account: a version may be a little surer than it should be.
const LOG_LOSS_RISE: f64 = 0.05;
/// Root mean squared error of a regression, as a multiple of the champion's, beyond which the few large errors
/// are not made good by many small ones.
const RMSE_GROWTH: f64 = 1.1;
/// Time of a row, as a multiple of the champion's and above that, that is noise of a busy board.
const ROW_TIME_GROWTH: f64 = 1.5;
const ROW_TIME_US: f64 = 50.0;
/// Size of the model, as a multiple of the champion's and above that: training moves numbers, it adds few.
const SIZE_GROWTH: f64 = 1.5;
const SIZE_BYTES: f64 = 65_536.0;
/// Relative distance of trained weights from their parent's that is still the same model: generous, since it is
/// there against a run that went out of bounds, which the holdout alone may not show.
const DISTANCE: f64 = 10.0;

/// Decides from what was measured. `classes` name the rows of `evidence.classes`; of the labels that come, the
/// share `held_out` becomes evidence.
#[must_use]
pub fn decide(evidence: &Evidence, policy: &GatePolicy, classes: &[String], held_out: f64) -> Verdict {
    let gate = Gate { evidence, measured: evidence.measured.as_deref(), policy, classes, held_out };
    let no = gate.too_little().or_else(|| gate.harm()).or_else(|| gate.no_gain()).or_else(|| gate.cost());
    no.map_or(Verdict::Accept, Verdict::Reject)
}

#[derive(Clone, Copy)]
struct Gate<'a> {
    evidence: &'a Evidence,
    measured: Option<&'a Measured>,
    policy: &'a GatePolicy,
    classes: &'a [String],
    held_out: f64,
}

impl Gate<'_> {
    fn too_little(self) -> Option<Rejection> {
        let needed = u64::from(self.policy.min_holdout.max(1));
        let holdout = self.evidence.holdout_rows;
        if holdout >= needed {
            return None;
        }
        let least = self.labels_for(needed);
        let more_labels = self.more_labels().max(least);
        Some(Rejection::TooLittleEvidence { holdout, needed, more_labels })
    }

    /// What must not suffer.
    fn harm(self) -> Option<Rejection> {
        let Self { evidence, policy, .. } = self;
        let candidate = share(evidence.candidate_correct, evidence.holdout_rows);
        let is_class = self.measured.is_none_or(|measured| measured.errors.is_none());
        if is_class && candidate < policy.min_accuracy {
            return Some(Rejection::BelowFloor { candidate, floor: policy.min_accuracy });
        }
        let guard = (
            share(evidence.guard_champion_correct, evidence.guard_rows),
            share(evidence.guard_candidate_correct, evidence.guard_rows),
        );
        if evidence.guard_rows > 0 && guard.1 < guard.0 - policy.max_guard_loss {
            return Some(Rejection::GuardRegressed {
                champion: guard.0,
                candidate: guard.1,
                allowed: policy.max_guard_loss,
            });
        }
        self.class_loss().or_else(|| self.group_loss())
    }

    /// A class pays more than it may, and more than chance explains. Where the mean recall of all classes surely
    /// gains much, one may lose up to a second bound: what is refused otherwise is a champion that stays wrong.
    fn class_loss(self) -> Option<Rejection> {
        let mut classes: Vec<PartEvidence> = Vec::new();
        for (index, (rows, champion, candidate)) in self.evidence.classes.iter().enumerate() {
            // Older records hold no pairs: then the fewest that the counts allow.
            let fewest = (champion.saturating_sub(*candidate), candidate.saturating_sub(*champion));
            let pairs = self.measured.and_then(|measured| measured.class_pairs.get(index));
            let (only_champion, only_candidate) = *pairs.unwrap_or(&fewest);
            let name = self.classes.get(index).cloned().unwrap_or_else(|| index.to_string());
            classes.push(PartEvidence {
                name,
                rows: *rows,
                champion: *champion,
                only_champion,
                only_candidate,
            });
        }
        let gain = certain_gain(classes.iter().map(|c| (c.rows, c.only_candidate, c.only_champion)));
        let usual = self.policy.max_class_loss;
        let allowed = if gain >= MUCH * usual { LOSS_FOR_GAIN * usual } else { usual };
        let class = classes.into_iter().find(|class| self.is_lost(class, allowed))?;
        let (champion, candidate) = recalls(&class);
        Some(Rejection::ClassCollapsed { class: class.name, champion, candidate, allowed })
    }

    /// The same of a part of a named group, whose loss no gain of others makes good.
    fn group_loss(self) -> Option<Rejection> {
        let allowed = self.policy.max_class_loss;
        let part = self.measured?.parts.iter().find(|part| self.is_lost(part, allowed))?;
        let (champion, candidate) = recalls(part);
        Some(Rejection::GroupCollapsed { group: part.name.clone(), champion, candidate, allowed })
    }

    fn is_lost(self, part: &PartEvidence, allowed: f64) -> bool {
        let (champion, candidate) = recalls(part);
        candidate < champion - allowed
            && mcnemar(part.only_champion, part.only_candidate) < self.policy.significance
    }

    /// It is not shown to be better.
    fn no_gain(self) -> Option<Rejection> {
        let Self { evidence, policy, .. } = self;
        let significance = policy.significance;
        if let Some(errors) = self.measured.and_then(|measured| measured.errors.as_ref()) {
            let (champion, candidate) = (errors.champion_rmse, errors.candidate_rmse);
            let p = above(errors.z);
            // A test of what is not a number passes nothing.
            let is_better = p < significance && candidate <= champion * RMSE_GROWTH;
            let more_labels = (p >= significance).then(|| self.more_labels()).flatten();
            return (!is_better).then_some(Rejection::NotNearer {
                champion,
                candidate,
                p,
                significance,
                more_labels,
            });
        }
        let rows = evidence.holdout_rows;
        let (champion, candidate) =
            (share(evidence.champion_correct, rows), share(evidence.candidate_correct, rows));
        let p = mcnemar(evidence.only_candidate, evidence.only_champion);
        let is_better = p < significance && candidate - champion > policy.margin;
        let more_labels = (p >= significance).then(|| self.more_labels()).flatten();
        (!is_better).then_some(Rejection::NotBetter { champion, candidate, p, significance, more_labels })
    }

    /// What it costs beside.
    fn cost(self) -> Option<Rejection> {
        let (measured, policy) = (self.measured?, self.policy);
        if let Some(loss) = &measured.log_loss {
            let allowed = policy.max_log_loss_rise.unwrap_or(LOG_LOSS_RISE);
            let rise = loss.candidate - loss.champion;
            let error = loss.deviation / count(self.evidence.holdout_rows).sqrt();
            if rise > allowed && above(rise / error) < policy.significance {
                let (champion, candidate) = (loss.champion, loss.candidate);
                return Some(Rejection::WorseCalibrated { champion, candidate, allowed });
            }
        }
        if let Some((champion_us, candidate_us)) = measured.row_us {
            let slow = too_slow((champion_us, candidate_us), policy);
            if slow.is_some() {
                return slow;
            }
        }
        let (champion, candidate) = measured.model_bytes;
        if count(candidate) > count(champion) * SIZE_GROWTH + SIZE_BYTES {
            return Some(Rejection::TooLarge { champion_bytes: champion, candidate_bytes: candidate });
        }
        let allowed = policy.max_distance.unwrap_or(DISTANCE);
        let distance = measured.distance.filter(|distance| distance.is_nan() || *distance > allowed)?;
        Some(Rejection::TooFar { distance, allowed })
    }

    /// Labels beyond those there are that would decide, at the rates seen.
    fn more_labels(self) -> Option<u64> {
        let (evidence, level) = (self.evidence, self.policy.significance);
        let rows = evidence.holdout_rows;
        let errors = self.measured.and_then(|measured| measured.errors.as_ref());
        let needed = match errors {
            Some(errors) => rows_for_z(rows, errors.z, level),
            None => rows_to_decide(rows, evidence.only_candidate, evidence.only_champion, level),
        };
        self.labels_for(needed?)
    }

    /// Labels until the holdout has so many rows.
    fn labels_for(self, rows: u64) -> Option<u64> {
        let missing = count(rows.saturating_sub(self.evidence.holdout_rows).max(1));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most a hundred times the rows"
        )]
        let labels = (missing / self.held_out.clamp(0.01, 1.0)).ceil() as u64;
        Some(labels)
    }
}

/// What a row may take where the policy does not say: a version from elsewhere may do more, if not twice as much.
pub(super) fn usual_row_us(champion_us: f64) -> f64 {
    champion_us * ROW_TIME_GROWTH + ROW_TIME_US
}

/// Shares of right answers of champion and candidate.
fn recalls(part: &PartEvidence) -> (f64, f64) {
    let candidate = (part.champion + part.only_candidate).saturating_sub(part.only_champion);
    (share(part.champion, part.rows), share(candidate, part.rows))
}

#[cfg(test)]
mod tests;
