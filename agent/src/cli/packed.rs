//! How far a fit is, and the package that came of it, as people read them.

use super::show::line;
use crate::pack::{PackReport, Schema};
use indicatif::{ProgressBar, ProgressStyle};
use shoal_learn::Progress;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

/// A bar on a terminal; nothing where no person looks.
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    held_out_loss: Option<f64>,
}

impl Bar {
    pub(super) fn new(json: bool) -> Self {
        let style = || {
            let template = "fitting {bar:30} {pos}/{len} steps, {eta} at most  {msg}";
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        let is_seen = !json && io::stderr().is_terminal();
        Self { bar: is_seen.then(|| ProgressBar::new(0).with_style(style())), held_out_loss: None }
    }

    pub(super) fn on_progress(&mut self, progress: Progress) {
        let Some(bar) = &self.bar else { return };
        self.held_out_loss = progress.held_out_loss.or(self.held_out_loss);
        bar.set_length(progress.steps);
        bar.set_position(progress.step);
        let validation = self.held_out_loss.map(|loss| format!(", validation {loss:.4}")).unwrap_or_default();
        bar.set_message(format!("loss {:.4}{validation}", progress.loss));
    }

    /// Takes the bar away, so that the report stands alone.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A package that was made.
pub(super) fn packed(report: &PackReport) -> String {
    let mut text = String::new();
    line(&mut text, "package", &format!("{} ({} bytes)", report.file.display(), report.size_bytes));
    line(&mut text, "name", &format!("{}  {}", report.name, report.version.short()));
    if report.features > 0 {
        line(&mut text, "features", &report.features.to_string());
    } else {
        line(&mut text, "takes", "tensors, which are not watched");
    }
    if !report.classes.is_empty() {
        line(&mut text, "classes", &report.classes.join(", "));
    }
    let (rows, complete, held_out) = (report.rows, report.complete_rows, report.held_out_rows);
    if report.features > 0 {
        line(&mut text, "rows", &format!("{rows}, {complete} complete, {held_out} held out"));
    }
    if let Some(fit) = &report.fit {
        let (trained, validated) = (fit.trained_rows, fit.validation_rows);
        let rows = format!("{} on {trained} rows, {validated} for when to stop", fit.architecture);
        line(&mut text, "fitted", &format!("{rows}; weights of step {} of {}", fit.best_step, fit.steps));
    }
    scores(&mut text, report);
    if report.features > 0 {
        line(&mut text, "guard / replay rows", &format!("{} / {}", report.guard_rows, report.replay_rows));
    }
    line(&mut text, "golden rows", &report.golden_rows.to_string());
    if let Some(by) = report.retrained_by {
        line(&mut text, "retrained by", &by.to_string());
    }
    for reason in &report.not_trainable {
        line(&mut text, "cannot be trained", reason);
    }
    line(&mut text, "signed", if report.signed { "yes" } else { "no: the hub signs it when it is pushed" });
    if !report.columns.is_empty() {
        let schema = Schema { columns: report.columns.clone(), warnings: Vec::new() };
        let _infallible = write!(text, "\n{schema}");
    }
    for warning in &report.warnings {
        line(&mut text, "warning", warning);
    }
    text
}

fn scores(text: &mut String, report: &PackReport) {
    let seen = if report.fitted { "" } else { " (the model may have seen these rows)" };
    if let Some(accuracy) = report.held_out_accuracy {
        let (low, high) = report.held_out_interval.unwrap_or((0.0, 1.0));
        line(text, "held-out accuracy", &format!("{accuracy:.3}, 95 % {low:.3} to {high:.3}{seen}"));
    }
    if let Some(balanced) = report.held_out_balanced_accuracy {
        line(text, "  mean over classes", &format!("{balanced:.3}"));
    }
    if let Some(rmse) = report.held_out_rmse {
        let mean = report.held_out_rmse_of_mean.map(|mean| format!(", the mean alone {mean:.4}"));
        line(text, "held-out RMSE", &format!("{rmse:.4}{}{seen}", mean.unwrap_or_default()));
    }
    if let Some(calibration) = &report.calibration {
        let (before, after) = (calibration.error_before, calibration.error_after);
        let whose = if calibration.folded { "in the file" } else { "the file stays as it is" };
        let said = format!("{before:.3}, {after:.3} at temperature {:.2} ({whose})", calibration.temperature);
        line(text, "calibration error", &said);
    }
}
