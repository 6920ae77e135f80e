//! Drift as people read it: of a running agent, and of a recorded stream.

use super::show::line;
use crate::watch::{Placed, WatchReport};
use shoal_proto::finding::{Finding, Trials};
use shoal_proto::summary::DriftLevel;
use shoal_watch::Drift;
use shoal_watch::answer::Measured;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Features that are listed: beyond it a person wants the JSON.
const MAX_LISTED: usize = 12;
/// Findings that are listed.
const MAX_FINDINGS: usize = 40;

/// One model of a running agent.
pub(super) fn drift(drift: &Drift) -> String {
    let mut text = String::new();
    line(&mut text, "model", &format!("{} ({})", drift.name, drift.version.short()));
    standing(&mut text, drift);
    if drift.findings.is_empty() {
        text.push_str("nothing was found lately\n");
    } else {
        text.push_str("\nfound lately\n");
    }
    let skipped = drift.findings.len().saturating_sub(MAX_FINDINGS);
    for finding in drift.findings.iter().skip(skipped) {
        let _infallible = writeln!(text, "  window {:<5} {}", finding.window.number, said(finding));
        let _infallible = writeln!(text, "               {}", finding.monitor.advice());
    }
    text
}

/// A recorded stream.
pub(super) fn watched(report: &WatchReport) -> String {
    let mut text = String::new();
    line(&mut text, "model", &report.model);
    line(&mut text, "rows", &format!("{} in {} windows", report.rows, report.windows));
    line(&mut text, "windows", &report.levels.iter().map(|level| letter(*level)).collect::<String>());
    for (feature, cells) in &report.foreign {
        line(&mut text, "no numbers", &format!("{cells} cells of `{feature}`, taken for missing"));
    }
    standing(&mut text, &report.drift);
    line(&mut text, "monitors' state", &format!("{} bytes on disk", report.state_bytes));
    if report.findings.is_empty() {
        text.push_str("nothing was found\n");
        return text;
    }
    text.push_str("\nfound, in the order of time\n");
    let alike = together(&report.findings);
    for those in alike.iter().take(MAX_FINDINGS) {
        found(&mut text, those);
    }
    if let Some(more) = alike.len().checked_sub(MAX_FINDINGS).filter(|more| *more > 0) {
        let _infallible = writeln!(text, "  and {more} more: --json has all of them");
    }
    text
}

/// Findings of one monitor and level in one window, the first of which says when; warnings of what became
/// drift in the same window are left out.
pub(super) fn together(findings: &[Placed]) -> Vec<Vec<&Placed>> {
    let mut all: Vec<Vec<&Placed>> = Vec::new();
    let subject =
        |one: &Placed| (one.finding.window.number, one.finding.monitor, one.finding.feature.clone());
    let kind = |one: &Placed| (one.finding.window.number, one.finding.monitor, one.finding.level);
    let drifted: BTreeSet<_> =
        findings.iter().filter(|one| one.finding.level == DriftLevel::Drift).map(subject).collect();
    for one in findings {
        let grew = one.finding.level == DriftLevel::Warning && drifted.contains(&subject(one));
        match all.iter_mut().find(|those| kind(those[0]) == kind(one)) {
            _ if grew => {}
            Some(those) => those.push(one),
            None => all.push(vec![one]),
        }
    }
    all
}

pub(super) fn found(text: &mut String, those: &[&Placed]) {
    let one = those[0];
    let mark = one.mark.as_ref().map_or_else(String::new, |mark| format!(" [{mark}]"));
    let window = one.finding.window.number;
    let _infallible = writeln!(text, "  row {:<7} window {window:<4}{mark} {}", one.row, said(&one.finding));
    if those.len() > 1 {
        let others = those[1..].iter().take(MAX_LISTED);
        let names: Vec<String> =
            others.filter_map(|it| it.finding.feature.clone().or(it.finding.group.clone())).collect();
        let more = (those.len() - 1).checked_sub(MAX_LISTED).filter(|more| *more > 0);
        let more = more.map_or_else(String::new, |more| format!(" and {more} more"));
        let _infallible = writeln!(text, "      then also {}{more}", names.join(", "));
    }
    let _infallible = writeln!(text, "      since about row {}; what to do: {}", one.since_row, one.advice);
}

fn said(finding: &Finding) -> String {
    let subject = finding.feature.as_ref().or(finding.group.as_ref());
    let subject = subject.map_or_else(String::new, |subject| format!(" `{subject}`"));
    let unit = match finding.monitor.trials() {
        Trials::Rows => "rows",
        Trials::Labels => "labels",
        Trials::Windows => "windows",
    };
    let rate = if finding.one_false_in > 0.0 {
        format!(", by chance once in {:.0} {unit}", finding.one_false_in)
    } else {
        String::new()
    };
    let level = finding.level.word();
    let (statistic, threshold) = (finding.statistic, finding.threshold);
    format!("{level}: {}{subject}, {statistic:.3} against {threshold:.3}{rate}", finding.monitor)
}

fn letter(level: DriftLevel) -> char {
    match level {
        DriftLevel::Stable => '.',
        DriftLevel::Warning => 'w',
        DriftLevel::Drift => 'D',
    }
}

fn standing(text: &mut String, drift: &Drift) {
    let parts: Vec<String> = drift
        .health
        .parts
        .iter()
        .filter(|(_, level)| *level > DriftLevel::Stable)
        .map(|(part, level)| format!("{} {}", part.word(), level.word()))
        .collect();
    let parts = if parts.is_empty() { "all parts stable".to_owned() } else { parts.join(", ") };
    line(text, "health", &format!("{} of 100: {parts}", drift.health.score));
    line(text, "level", drift.level.word());
    if drift.learned {
        line(text, "reference", "learned from the first rows here, which may have been strange already");
    }
    let holding: Vec<String> = drift
        .standing
        .iter()
        .take(MAX_LISTED)
        .map(|(monitor, subject, _)| format!("{monitor} {subject}").trim().to_owned())
        .collect();
    if !holding.is_empty() {
        line(text, "holds now", &holding.join(", "));
    }
    let moved: Vec<String> = drift
        .moved
        .iter()
        .take(MAX_LISTED)
        .map(|moved| format!("{} {:.0} %", moved.feature, moved.share * 100.0))
        .collect();
    if !moved.is_empty() {
        line(text, "moved, by weight", &moved.join(", "));
    }
    let strange: Vec<&str> = drift.outliers.iter().take(3).map(|one| one.prediction_id.as_str()).collect();
    if !strange.is_empty() {
        let more = format!("{} marked, look at {}", drift.outliers.len(), strange.join(", "));
        line(text, "outlying rows", &more);
    }
    performance(text, drift);
}

fn performance(text: &mut String, drift: &Drift) {
    let measured = |one: &Measured| match one.interval {
        Some((low, high)) => format!("{:.3}, 95 % {low:.3} to {high:.3}", one.value),
        None => format!("{:.3}", one.value),
    };
    let estimate = &drift.estimate;
    let promised = estimate.reference.map_or_else(String::new, |one| format!(" (packed {one:.3})"));
    if let Some(accuracy) = &estimate.accuracy {
        let blind = "without labels; blind to concept drift";
        line(text, "estimated accuracy", &format!("{}{promised}: {blind}", measured(accuracy)));
    }
    if let Some(mae) = &estimate.mae {
        line(text, "estimated error", &format!("{}{promised}", measured(mae)));
    }
    let labels = &drift.performance;
    let coverage = labels.coverage.map_or_else(String::new, |share| format!(", {:.1} %", share * 100.0));
    line(text, "labels", &format!("{} of {} rows{coverage}", labels.labelled, labels.predicted));
    let optional = [
        ("accuracy", &labels.accuracy),
        ("  mean over classes", &labels.balanced_accuracy),
        ("F1", &labels.f1),
        ("AUC", &labels.auc),
        ("log-loss", &labels.log_loss),
        ("Brier score", &labels.brier),
        ("calibration error", &labels.ece),
        ("MAE", &labels.mae),
        ("RMSE", &labels.rmse),
        ("R²", &labels.r2),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            line(text, name, &measured(value));
        }
    }
    for group in &drift.groups {
        for part in &group.parts {
            let share = |one: &Option<Measured>| one.as_ref().map_or("too few".to_owned(), measured);
            let (favoured, recall) = (share(&part.favoured), share(&part.recall));
            let said = format!("{} rows, favoured {favoured}, found {recall}", part.rows);
            line(text, &part.name, &said);
        }
    }
}
