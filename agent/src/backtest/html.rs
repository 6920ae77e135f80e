//! The report as one page: no script, nothing from elsewhere, light or dark as the reader's system is.

mod chart;
mod tables;

use super::report::BacktestReport;
use std::fmt::Write as _;

/// The page.
pub(super) fn page(report: &BacktestReport) -> String {
    let mut out = String::with_capacity(1 << 16);
    let title = escaped(&report.model);
    push(&mut out, format_args!("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"));
    push(&mut out, format_args!("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"));
    push(&mut out, format_args!("<title>Backtest of {title}</title><style>"));
    out.push_str(include_str!("html/style.css"));
    push(&mut out, format_args!("</style></head><body><h1>Backtest of {title}</h1>"));
    let seconds = report.interval_ms as f64 / 1e3;
    push(
        &mut out,
        format_args!(
            "<p>{} rows, one in {seconds} s of virtual time. Labels: {}.</p>",
            grouped(report.rows),
            escaped(&labels(report))
        ),
    );
    cards(&mut out, report);
    chart::draw(&mut out, report);
    tables::figures(&mut out, report);
    tables::parts(&mut out, report);
    tables::runs(&mut out, report);
    tables::versions(&mut out, report);
    tables::findings(&mut out, report);
    footer(&mut out, report);
    out.push_str("</body></html>\n");
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes all text");
}

fn labels(report: &BacktestReport) -> String {
    let labels = &report.labels;
    let late = match labels.delay_rows {
        0 => String::new(),
        rows => format!(", each {rows} rows late"),
    };
    let used = grouped(labels.used);
    match (labels.budget, &labels.budget_of) {
        (None, _) => format!("all ({used}){late}"),
        (Some(0), _) => "none".to_owned(),
        (Some(most), Some(column)) => format!("at most {most} for each {column}, {used} in all{late}"),
        (Some(most), None) => format!("at most {most}, {used} came{late}"),
    }
}

fn cards(out: &mut String, report: &BacktestReport) {
    let (looped, fixed) = (report.figures.all.looped.first(), report.figures.all.fixed.first());
    let is_share = is_share(report);
    let what = if is_share { "accuracy" } else { "mean absolute error" };
    let beside = match looped.zip(fixed) {
        Some((looped, fixed)) if is_share => {
            format!("{:+.1} points to the package's model", (looped - fixed) * 100.0)
        }
        Some((looped, fixed)) => format!("{:+.4} to the package's model", looped - fixed),
        None => String::new(),
    };
    let accepted = report.runs.iter().filter(|run| run.accepted).count();
    let drifts = report.findings.iter().filter(|one| one.finding.level.word() == "drift").count();
    let mut all = vec![
        (show(looped, is_share), format!("{what} of the loop"), beside),
        (show(fixed, is_share), format!("{what} of the package's model"), "never retrained".to_owned()),
    ];
    if let Some(repeated) = report.figures.all.no_change.first() {
        let beside = "the last label that came, again".to_owned();
        all.push((show(Some(repeated), is_share), format!("{what} of no change"), beside));
    }
    if let Some(after) = &report.figures.after {
        let mean = report.figures.part_means.and_then(|means| means.after).or(after.first());
        let by = report.by.as_deref().unwrap_or("part");
        all.push((
            show(mean, is_share),
            format!("{what} after each {by}"),
            "rows without a label, answered again".to_owned(),
        ));
    }
    let retrained = format!("{accepted} of {} runs accepted", report.runs.len());
    all.push((report.runs.len().to_string(), "training runs".to_owned(), retrained));
    let beside = format!("{drifts} of them drift");
    all.push((grouped(report.findings.len() as u64 + report.more_findings), "findings".to_owned(), beside));
    out.push_str("<div class=\"cards\">");
    for (figure, what, beside) in all {
        let (what, beside) = (escaped(&what), escaped(&beside));
        push(
            out,
            format_args!("<div class=\"card\"><b>{figure}</b><span>{what}</span><span>{beside}</span></div>"),
        );
    }
    out.push_str("</div>");
}

fn footer(out: &mut String, report: &BacktestReport) {
    let spent = &report.spent;
    let policy = &report.policy;
    let mib = spent.peak_bytes as f64 / f64::from(1_u32 << 20);
    push(
        out,
        format_args!(
            "<footer><p>Took {:.1} s ({:.1} s of processors) and {mib:.0} MiB at most. A row took {:.0} µs: \
             model {:.1}, core and monitors {:.1}, adaptation {:.1}, samples {:.1}, training {:.1}, admission {:.1}.</p>",
            spent.wall_s,
            spent.cpu_s,
            spent.row_us,
            spent.predict_us,
            spent.monitor_us,
            spent.adapt_us,
            spent.store_us,
            spent.train_us,
            spent.admit_us
        ),
    );
    push(
        out,
        format_args!(
            "<p>Windows of {} rows or {} s, at least {} labels and {} s from one run to the next, {:.0} % held \
             out, seed {}. Every row is answered before its label is known.</p></footer>",
            grouped(policy.window_rows),
            grouped(policy.window_s),
            policy.min_labels,
            grouped(policy.cooldown_s),
            policy.holdout_share * 100.0,
            report.seed
        ),
    );
}

/// Whether the first figure is a share, and more is better.
fn is_share(report: &BacktestReport) -> bool {
    report.figures.all.looped.accuracy.is_some()
}

fn show(value: Option<f64>, is_share: bool) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if is_share => format!("{:.1} %", value * 100.0),
        Some(value) => format!("{value:.4}"),
    }
}

/// A whole number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Text that a page may hold: names come from files.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
