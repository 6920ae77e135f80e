//! The tables: figures, parts, runs, versions, findings.

use super::{escaped, grouped, is_share, push, show};
use crate::backtest::{BacktestReport, Beside, Figures, RunReport};

/// Findings that are listed: the JSON has all.
const MAX_FINDINGS: usize = 400;

pub(super) fn figures(out: &mut String, report: &BacktestReport) {
    let share = is_share(report);
    let (first, second) = if share { ("Accuracy", "Mean recall") } else { ("MAE", "RMSE") };
    out.push_str("<h2>Figures</h2><div class=\"wide\"><table>");
    push(out, format_args!("<tr><th></th><th>Rows</th><th>{first}</th><th>{second}</th></tr>"));
    let mut row = |name: &str, of: &Figures| {
        let pair = if share { (of.accuracy, of.balanced_accuracy) } else { (of.mae, of.rmse) };
        push(
            out,
            format_args!(
                "<tr><td>{name}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                grouped(of.rows),
                show(pair.0, share),
                show(pair.1, share)
            ),
        );
    };
    let Beside { looped, fixed, no_change } = &report.figures.all;
    row("The loop", looped);
    row("The package&#39;s model, never retrained", fixed);
    row("No change: the last label that came, again", no_change);
    if report.labels.budget.is_some_and(|most| most > 0) {
        row("The loop, rows whose label was not asked for", &report.figures.unasked.looped);
        row("The package&#39;s model on those", &report.figures.unasked.fixed);
    }
    if let Some(after) = &report.figures.after {
        row("The loop, those rows answered again after their part", after);
    }
    out.push_str("</table></div>");
}

pub(super) fn parts(out: &mut String, report: &BacktestReport) {
    let Some(by) = &report.by else { return };
    let share = is_share(report);
    let what = if share { "Accuracy" } else { "Mean absolute error" };
    push(out, format_args!("<h2>{what} by {}</h2><div class=\"wide\"><table>", escaped(by)));
    push(
        out,
        format_args!(
            "<tr><th>{}</th><th>Rows</th><th>Labels</th><th>Loop</th><th>Static</th><th>No change</th>",
            escaped(by)
        ),
    );
    // With all labels there are no rows that were not asked about.
    let some = report.labels.budget.is_some();
    let rest = |unasked: Option<f64>, after: Option<f64>| {
        if some {
            format!("<td>{}</td><td>{}</td></tr>", show(unasked, share), show(after, share))
        } else {
            "</tr>".to_owned()
        }
    };
    out.push_str(if some { "<th>Loop, not asked</th><th>After</th></tr>" } else { "</tr>" });
    for part in &report.parts {
        push(
            out,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td>{}</td>",
                escaped(&part.value),
                grouped(part.rows),
                grouped(part.asked)
            ),
        );
        let three = [part.all.looped.first(), part.all.fixed.first(), part.all.no_change.first()];
        cells(out, three, share);
        out.push_str(&rest(part.unasked.looped.first(), part.after.and_then(|after| after.first())));
    }
    if let Some(means) = &report.figures.part_means {
        out.push_str("<tr class=\"mean\"><td>Mean</td><td></td><td></td>");
        cells(out, [means.looped, means.fixed, means.no_change], share);
        out.push_str(&rest(means.unasked, means.after));
    }
    out.push_str("</table></div>");
}

fn cells(out: &mut String, three: [Option<f64>; 3], share: bool) {
    let better = |a: f64, b: f64| if share { a.max(b) } else { a.min(b) };
    let best = three.iter().flatten().copied().reduce(better);
    for value in three {
        let class = if value.is_some() && value == best { " class=\"best\"" } else { "" };
        push(out, format_args!("<td{class}>{}</td>", show(value, share)));
    }
}

pub(super) fn runs(out: &mut String, report: &BacktestReport) {
    out.push_str("<h2>Training runs</h2>");
    if report.runs.is_empty() {
        let why = report.waits_for.as_deref().unwrap_or("nothing");
        push(out, format_args!("<p>None. At the end training waits for: {}.</p>", escaped(why)));
        return;
    }
    out.push_str(
        "<div class=\"wide\"><table><tr><th>Run</th><th>After row</th><th class=\"left\">Started by</th>\
         <th>Trained on</th><th>Held out</th><th>Champion</th><th>Candidate</th><th class=\"left\">Verdict</th>\
         </tr>",
    );
    for run in &report.runs {
        let evidence = run.evidence.as_ref();
        let count = |of: Option<u64>| of.map_or_else(|| "–".to_owned(), grouped);
        let right = |of: Option<u64>| {
            let rows = evidence.map_or(0, |evidence| evidence.holdout_rows);
            #[expect(clippy::cast_precision_loss, reason = "rows are far below 2^52")]
            let share = of.filter(|_| rows > 0).map(|right| right as f64 / rows as f64);
            show(share, true)
        };
        push(
            out,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td class=\"left\">{}</td><td>{}</td><td>{}</td><td>{}</td>\
                 <td>{}</td><td class=\"left\">{}</td></tr>",
                run.run,
                grouped(run.row),
                run.trigger,
                count(evidence.map(|evidence| evidence.trained_rows)),
                count(evidence.map(|evidence| evidence.holdout_rows)),
                right(evidence.map(|evidence| evidence.champion_correct)),
                right(evidence.map(|evidence| evidence.candidate_correct)),
                verdict(run)
            ),
        );
    }
    out.push_str("</table></div>");
    if let Some(adapted) = &report.adapted {
        push(out, format_args!("<p>Adaptation at the end: {}.</p>", escaped(&adapted.to_string())));
    }
    if let Some(waits_for) = &report.waits_for {
        push(out, format_args!("<p>At the end: {}.</p>", escaped(waits_for)));
    }
}

fn verdict(run: &RunReport) -> String {
    let mut text = if run.accepted {
        let name = escaped(run.candidate.as_deref().unwrap_or_default());
        format!("<span class=\"tag good\">accepted</span> {name}")
    } else {
        let reason = escaped(run.reason.as_deref().unwrap_or_default());
        format!("<span class=\"tag bad\">refused</span> {reason}")
    };
    if let Some(end) = &run.end {
        let why = end.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", escaped(reason)));
        text.push_str(&format!(", {} after row {}{why}", end.end, grouped(end.row)));
    }
    text
}

pub(super) fn versions(out: &mut String, report: &BacktestReport) {
    out.push_str(
        "<h2>Versions</h2><div class=\"wide\"><table><tr><th>Version</th><th class=\"left\">Digest</th>\
         <th>Served rows</th></tr>",
    );
    for version in &report.versions {
        let spans: Vec<String> = version
            .served
            .iter()
            .map(|(from, to)| format!("{} to {}", grouped(*from), grouped(*to)))
            .collect();
        push(
            out,
            format_args!(
                "<tr><td>{}</td><td class=\"left\">{}</td><td>{}</td></tr>",
                escaped(&version.name),
                version.version.short(),
                spans.join(", ")
            ),
        );
    }
    out.push_str("</table></div>");
}

pub(super) fn findings(out: &mut String, report: &BacktestReport) {
    out.push_str("<h2>Findings</h2>");
    if report.findings.is_empty() {
        out.push_str("<p>The monitors found nothing.</p>");
        return;
    }
    let all = report.findings.len() as u64 + report.more_findings;
    let listed = report.findings.len().min(MAX_FINDINGS);
    let first =
        if (listed as u64) < all { format!(", the first {listed} are listed") } else { String::new() };
    push(
        out,
        format_args!(
            "<details><summary>{} findings{first}</summary><div class=\"wide\"><table><tr><th>Row</th>\
             <th>Window</th><th class=\"left\">Level</th><th class=\"left\">Monitor</th>\
             <th class=\"left\">Feature or group</th><th>Statistic</th><th>Threshold</th><th>Since row</th></tr>",
            grouped(all)
        ),
    );
    for one in report.findings.iter().take(MAX_FINDINGS) {
        let finding = &one.finding;
        let subject = finding.feature.as_ref().or(finding.group.as_ref());
        push(
            out,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td class=\"left\">{}</td><td class=\"left\">{}</td>\
                 <td class=\"left\">{}</td><td>{:.3}</td><td>{:.3}</td><td>{}</td></tr>",
                grouped(one.row),
                finding.window.number,
                finding.level.word(),
                finding.monitor,
                escaped(subject.map_or("", String::as_str)),
                finding.statistic,
                finding.threshold,
                grouped(one.since_row)
            ),
        );
    }
    out.push_str("</table></div></details>");
}
