//! What the monitors see, and what they find.

use super::super::effect::{Effect, Note};
use super::super::event::{Labelled, Observation};
use super::{Agent, Turn};
use shoal_proto::fact::{Count, Fact};
use shoal_proto::finding::Finding;
use shoal_proto::id::ModelName;
use shoal_proto::summary::DriftLevel;
use shoal_proto::time::Now;

/// Findings of one window that are reported; the summary holds the counts of all.
const MAX_FINDINGS: usize = 8;

impl Agent {
    pub(super) fn on_predicted(&mut self, now: Now, rows: &[Observation], turn: &mut Turn) {
        for row in rows {
            self.count(Count::Predictions, 1);
            let Some(model) = self.models.get_mut(&row.model) else { continue };
            if row.version != model.slot.serving() {
                continue; // answered before a swap: counted, but judged by nobody
            }
            model.watch.observe(row);
            if let Some(candidate) = model.slot.on_trial_mut() {
                candidate.trial.requests += 1;
            }
            if model.watch.rows() >= self.policy.window_rows {
                self.close_window(now, &row.model, turn);
            }
        }
    }

    pub(super) fn on_labelled(&mut self, now: Now, label: &Labelled, turn: &mut Turn) {
        self.count(Count::Labels, 1);
        let Some(model) = self.models.get_mut(&label.model) else { return };
        model.slot.labels_since_run += 1;
        if label.version == model.slot.serving() {
            let before = model.watch.level();
            model.watch.label(label);
            let raised = model.watch.level() > before;
            if let (Some(candidate), Some(correct)) = (model.slot.on_trial_mut(), label.correct()) {
                candidate.trial.labels.0 += 1;
                candidate.trial.labels.1 += u64::from(correct);
            }
            if raised {
                // The hub sees at once what the window will say when it closes.
                let open = model.watch.open_summary(now.wall);
                self.fact(now, Fact::OpenWindow(open), turn);
            }
        }
        self.consider_training(now, &label.model, turn);
    }

    /// Seals the open window: its summary and findings become facts.
    pub(super) fn close_window(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let next = self.next_window_id(turn);
        let Some(model) = self.models.get_mut(name) else { return };
        model.window_opened = now.mono;
        model.failures = 0;
        let (summary, mut findings) = model.watch.close(now.wall, next);
        findings.sort_by(|a, b| {
            let excess = |f: &Finding| f.statistic / f.threshold.max(f64::MIN_POSITIVE);
            b.level.cmp(&a.level).then(excess(b).total_cmp(&excess(a)))
        });
        findings.truncate(MAX_FINDINGS);
        self.count(Count::Windows, 1);
        if summary.level == DriftLevel::Drift {
            self.count(Count::Drifts, 1);
        }
        let (incarnation, number) = (summary.id.incarnation, summary.id.number);
        self.fact(now, Fact::Window(summary), turn);
        for finding in findings {
            turn.effects.push(Effect::Note(Note::Found(finding.clone())));
            self.fact(now, Fact::Finding(finding), turn);
        }
        if let Some(floor) = number.checked_sub(self.policy.keep_windows)
            && floor.is_multiple_of(self.policy.keep_windows.div_ceil(16).max(1))
        {
            self.fact(now, Fact::WindowFloor(incarnation, floor), turn);
        }
        self.write_counts(now, turn);
        self.remember_model(name, turn);
        self.consider_training(now, name, turn);
    }
}
