//! The gate: may a retrained version go on trial?
//!
//! Champion and candidate answer the same holdout, which lies later in time than what was trained on.
//! The paired difference is tested by McNemar's exact one-sided test; want of evidence is a "no".

use shoal_proto::decision::{Evidence, Rejection, Verdict};
use shoal_proto::manifest::GatePolicy;

/// Holdout rows of a class below which its recall says nothing.
const MIN_CLASS_ROWS: u64 = 10;

/// Decides from what was measured. `classes` name the rows of `evidence.classes`.
#[must_use]
pub fn decide(evidence: &Evidence, policy: &GatePolicy, classes: &[String]) -> Verdict {
    reason_against(evidence, policy, classes).map_or(Verdict::Accept, Verdict::Reject)
}

fn reason_against(evidence: &Evidence, policy: &GatePolicy, classes: &[String]) -> Option<Rejection> {
    let rows = evidence.holdout_rows;
    let needed = u64::from(policy.min_holdout.max(1));
    if rows < needed {
        return Some(Rejection::TooLittleEvidence { holdout: rows, needed });
    }
    let (champion, candidate) =
        (share(evidence.champion_correct, rows), share(evidence.candidate_correct, rows));
    if candidate < policy.min_accuracy {
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
    for (index, (rows, champion, candidate)) in evidence.classes.iter().enumerate() {
        let (old, new) = (share(*champion, *rows), share(*candidate, *rows));
        if *rows >= MIN_CLASS_ROWS && new < old - policy.max_class_loss {
            let class = classes.get(index).cloned().unwrap_or_else(|| index.to_string());
            let allowed = policy.max_class_loss;
            return Some(Rejection::ClassCollapsed { class, champion: old, candidate: new, allowed });
        }
    }
    let p = mcnemar(evidence.only_candidate, evidence.only_champion);
    if p >= policy.significance || candidate - champion <= policy.margin {
        return Some(Rejection::NotBetter { champion, candidate, p, significance: policy.significance });
    }
    None
}

/// A share of counts; zero of nothing.
#[must_use]
pub fn share(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
    let (part, whole) = (part as f64, whole.max(1) as f64);
    part / whole
}

/// McNemar's exact one-sided test: the chance of `better` or more heads among all discordant rows,
/// were both versions equally good.
fn mcnemar(better: u64, worse: u64) -> f64 {
    let discordant = better + worse;
    // Summed in logarithms: 2^-n underflows beyond a thousand discordant rows.
    #[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
    let n = discordant as f64;
    let mut log_choose = 0.0;
    let mut tail = 0.0;
    for tails in 0..=worse {
        #[expect(clippy::cast_precision_loss, reason = "row counts are far below 2^52")]
        let k = tails as f64;
        if tails > 0 {
            log_choose += ((n - k + 1.0) / k).ln();
        }
        tail += (log_choose - n * std::f64::consts::LN_2).exp();
    }
    tail.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_proto::id::Digest;

    fn evidence() -> Evidence {
        Evidence {
            trained_rows: 200,
            holdout_rows: 100,
            champion_correct: 60,
            candidate_correct: 90,
            only_champion: 2,
            only_candidate: 32,
            guard_rows: 100,
            guard_champion_correct: 98,
            guard_candidate_correct: 97,
            classes: vec![(50, 30, 45), (50, 30, 45)],
            training_set: Digest([0; 32]),
        }
    }

    fn verdict(change: impl FnOnce(&mut Evidence)) -> Verdict {
        let mut evidence = evidence();
        change(&mut evidence);
        decide(&evidence, &GatePolicy::default(), &["a".into(), "b".into()])
    }

    #[test]
    fn every_reason_to_refuse() {
        assert_eq!(verdict(|_| ()), Verdict::Accept);
        assert!(matches!(
            verdict(|e| e.holdout_rows = 29),
            Verdict::Reject(Rejection::TooLittleEvidence { holdout: 29, needed: 30 })
        ));
        assert!(matches!(
            verdict(|e| (e.champion_correct, e.candidate_correct) = (24, 49)),
            Verdict::Reject(Rejection::BelowFloor { .. })
        ));
        assert!(matches!(
            verdict(|e| e.guard_candidate_correct = 90),
            Verdict::Reject(Rejection::GuardRegressed { .. })
        ));
        assert!(matches!(
            verdict(|e| e.classes[1] = (50, 45, 30)),
            Verdict::Reject(Rejection::ClassCollapsed { class, .. }) if class == "b"
        ));
        assert!(matches!(
            verdict(|e| (e.only_candidate, e.only_champion, e.candidate_correct) = (6, 3, 63)),
            Verdict::Reject(Rejection::NotBetter { .. })
        ));
        assert!(matches!(
            verdict(|e| (e.only_candidate, e.only_champion) = (0, 0)),
            Verdict::Reject(Rejection::NotBetter { .. })
        ));
        assert_eq!(verdict(|e| e.guard_rows = 0), Verdict::Accept);
        assert_eq!(verdict(|e| e.classes[1] = (9, 9, 0)), Verdict::Accept);
    }

    #[test]
    fn mcnemar_equals_the_binomial_tail() {
        for (better, worse, p) in [(5, 0, 0.03125), (5, 1, 0.109_375), (10, 2, 0.019_287_109), (0, 0, 1.0)] {
            assert!(
                (mcnemar(better, worse) - p).abs() < 1e-8,
                "{better} {worse}: {}",
                mcnemar(better, worse)
            );
        }
        assert!(mcnemar(3_000, 2_000) < 1e-40);
        assert!(mcnemar(2_000, 3_000) > 0.999);
    }
}
