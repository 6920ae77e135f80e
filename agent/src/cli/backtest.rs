//! A backtest as people read it.

use super::drift::{found, together};
use super::show::line;
use crate::backtest::{BacktestError, BacktestReport, Beside, Figures, RunReport};
use std::fmt::Write as _;

/// Findings that are listed, of one monitor in one window together.
const MAX_FINDINGS: usize = 20;
/// Parts that are listed: beyond it a person wants the JSON.
const MAX_PARTS: usize = 60;
/// Runs that are listed, the latest.
const MAX_RUNS: usize = 40;

/// Its exit code (sysexits): what the caller gave is at fault, unless the device's own folder is.
pub(super) fn exit_code(cause: &BacktestError) -> u8 {
    match cause {
        BacktestError::Policy(_) => 78,
        BacktestError::Folder(_)
        | BacktestError::Store(_)
        | BacktestError::Vault(_)
        | BacktestError::File(_) => 70,
        BacktestError::Read { .. }
        | BacktestError::Package { .. }
        | BacktestError::NoFeatures { .. }
        | BacktestError::Stream(_)
        | BacktestError::Empty { .. }
        | BacktestError::NoTruth { .. }
        | BacktestError::Label { .. }
        | BacktestError::Parts
        | BacktestError::NotServed { .. }
        | BacktestError::Infer { .. } => 64,
    }
}

/// The whole report.
pub(super) fn report(report: &BacktestReport) -> String {
    let mut text = String::new();
    line(&mut text, "model", &report.model);
    let seconds = report.interval_ms as f64 / 1e3;
    line(&mut text, "rows", &format!("{}, one in {seconds} s of virtual time", report.rows));
    line(&mut text, "labels", &labels(report));
    for (feature, cells) in &report.foreign {
        line(&mut text, "no numbers", &format!("{cells} cells of `{feature}`, taken for missing"));
    }
    for alarm in &report.alarms {
        line(&mut text, "alarm", alarm);
    }
    figures(&mut text, report);
    parts(&mut text, report);
    runs(&mut text, report);
    findings(&mut text, report);
    spent(&mut text, report);
    text
}

fn labels(report: &BacktestReport) -> String {
    let labels = &report.labels;
    let budget = match (labels.budget, &labels.budget_of, labels.chosen) {
        (None, ..) => "all".to_owned(),
        (Some(0), ..) => return "none".to_owned(),
        (Some(most), Some(column), Some(rule)) => format!("at most {most} a `{column}`, chosen by `{rule}`"),
        (Some(most), _, rule) => format!("at most {most}, chosen by `{}`", rule.unwrap_or("first")),
    };
    let late = match labels.delay_rows {
        0 => String::new(),
        rows => format!(", {rows} rows late"),
    };
    format!("{budget}{late}: {} asked for, {} came", labels.asked, labels.used)
}

fn figures(text: &mut String, report: &BacktestReport) {
    let is_class = report.figures.all.looped.accuracy.is_some();
    let (first, second) = if is_class { ("accuracy", "mean recall") } else { ("MAE", "RMSE") };
    let _infallible =
        writeln!(text, "\n{:<34} {:>8}  {first:>9}  {second:>11}", "each row answered as it came", "rows");
    let mut row = |name: &str, of: &Figures| {
        let pair = if is_class { (of.accuracy, of.balanced_accuracy) } else { (of.mae, of.rmse) };
        let (one, two) = (number(pair.0, is_class), number(pair.1, is_class));
        let _infallible = writeln!(text, "  {name:<32} {:>8}  {one:>9}  {two:>11}", of.rows);
    };
    let Beside { looped, fixed, no_change } = &report.figures.all;
    row("the loop", looped);
    row("the package's model, as it is", fixed);
    row("the last label that came, again", no_change);
    if report.labels.budget.is_some_and(|most| most > 0) {
        row("loop, rows not asked about", &report.figures.unasked.looped);
        row("model, rows not asked about", &report.figures.unasked.fixed);
    }
    if let Some(after) = &report.figures.after {
        row("loop, answered again after a part", after);
    }
}

fn parts(text: &mut String, report: &BacktestReport) {
    let Some(by) = &report.by else { return };
    let is_class = report.figures.all.looped.accuracy.is_some();
    let show = |value: Option<f64>| number(value, is_class);
    let what = if is_class { "accuracy" } else { "MAE" };
    let head = format!("{what} by `{by}`");
    let _infallible = writeln!(
        text,
        "\n{head:<24} {:>7} {:>6}  {:>8} {:>8} {:>9} {:>8} {:>8}",
        "rows", "asked", "loop", "static", "no change", "unasked", "after"
    );
    let mut row = |name: &str, counts: [String; 2], figures: [Option<f64>; 5]| {
        let [looped, fixed, no_change, unasked, after] = figures.map(show);
        let [rows, asked] = counts;
        let _infallible = writeln!(
            text,
            "  {name:<22} {rows:>7} {asked:>6}  {looped:>8} {fixed:>8} {no_change:>9} {unasked:>8} {after:>8}"
        );
    };
    for part in report.parts.iter().take(MAX_PARTS) {
        let figures = [
            part.all.looped.first(),
            part.all.fixed.first(),
            part.all.no_change.first(),
            part.unasked.looped.first(),
            part.after.and_then(|after| after.first()),
        ];
        row(&part.value, [part.rows.to_string(), part.asked.to_string()], figures);
    }
    if let Some(means) = &report.figures.part_means {
        let figures = [means.looped, means.fixed, means.no_change, means.unasked, means.after];
        row("mean", [String::new(), String::new()], figures);
    }
    if let Some(more) = report.parts.len().checked_sub(MAX_PARTS).filter(|more| *more > 0) {
        let _infallible = writeln!(text, "  and {more} more: --json has all of them");
    }
}

fn runs(text: &mut String, report: &BacktestReport) {
    if report.runs.is_empty() {
        let why = report.waits_for.as_deref().unwrap_or("nothing");
        let _infallible = writeln!(text, "\nnothing was retrained; at the end training waits for: {why}");
        return;
    }
    let _infallible = writeln!(text, "\ntraining runs");
    let skipped = report.runs.len().saturating_sub(MAX_RUNS);
    for run in &report.runs[skipped..] {
        let _infallible = writeln!(text, "  row {:<7} run {:<3} {}", run.row, run.run, said(run));
    }
    if let Some(adapted) = &report.adapted {
        let _infallible = writeln!(text, "  adaptation: {adapted}");
    }
    if let Some(waits_for) = &report.waits_for {
        let _infallible = writeln!(text, "  at the end: {waits_for}");
    }
    let _infallible = writeln!(text, "\nversions");
    for version in &report.versions {
        let spans: Vec<String> = version.served.iter().map(|(from, to)| format!("{from} to {to}")).collect();
        let _infallible = writeln!(text, "  {:<28} rows {}", version.name, spans.join(", "));
    }
}

fn said(run: &RunReport) -> String {
    let trigger = run.trigger;
    let evidence = run.evidence.as_ref().map_or_else(String::new, |evidence| {
        format!(
            ", {} of {} held-out rows right, {} before",
            evidence.candidate_correct, evidence.holdout_rows, evidence.champion_correct
        )
    });
    let verdict = match &run.reason {
        Some(reason) => format!("refused: {reason}"),
        None => "accepted".to_owned(),
    };
    let end = run.end.as_ref().map_or_else(String::new, |end| {
        let why = end.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        format!(", {} after row {}{why}", end.end, end.row)
    });
    format!("{trigger}{evidence}; {verdict}{end}")
}

fn findings(text: &mut String, report: &BacktestReport) {
    let count = report.findings.len() as u64 + report.more_findings;
    if count == 0 {
        text.push_str("\nthe monitors found nothing\n");
        return;
    }
    let _infallible = writeln!(text, "\nfound by the monitors, in the order of time ({count} findings)");
    let alike = together(&report.findings);
    for those in alike.iter().take(MAX_FINDINGS) {
        found(text, those);
    }
    if let Some(more) = alike.len().checked_sub(MAX_FINDINGS).filter(|more| *more > 0) {
        let _infallible = writeln!(text, "  and {more} more: --json has all of them");
    }
}

fn spent(text: &mut String, report: &BacktestReport) {
    let spent = &report.spent;
    text.push('\n');
    let mib = spent.peak_bytes as f64 / f64::from(1_u32 << 20);
    let all = format!("{:.1} s, {:.1} s of processors, {mib:.0} MiB at most", spent.wall_s, spent.cpu_s);
    line(text, "took", &all);
    let split = format!(
        "{:.0} µs: model {:.1}, core and monitors {:.1}, adaptation {:.1}, samples {:.1}, training {:.1}, admission {:.1}",
        spent.row_us,
        spent.predict_us,
        spent.monitor_us,
        spent.adapt_us,
        spent.store_us,
        spent.train_us,
        spent.admit_us
    );
    line(text, "a row", &split);
}

fn number(value: Option<f64>, is_share: bool) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if is_share => format!("{:.1} %", value * 100.0),
        Some(value) => format!("{value:.4}"),
    }
}
