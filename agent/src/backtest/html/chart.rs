//! The first figure over the rows of the stream; below it what was found, what was trained, what served.

use super::{escaped, grouped, is_share, push, show};
use crate::backtest::{BacktestReport, Step};
use shoal_proto::summary::DriftLevel;
use std::collections::BTreeMap;

/// The picture, in its own units: margins, the plot, and the strips below it.
const WIDTH: f64 = 1_080.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 26.0;
const PLOT: f64 = 320.0;
const STRIP: f64 = 24.0;
const AXIS: f64 = 44.0;
/// A curve's point is the mean over such a share of the stream,
const SMOOTH_SHARE: u64 = 50;
/// and over so many rows at least.
const SMOOTH_ROWS: u64 = 100;
/// Findings that share so much of the width share a mark.
const MARK: f64 = 6.0;
/// Findings that a mark names.
const NAMED: usize = 6;
/// Parts whose names find room.
const MAX_NAMES: usize = 24;
/// A letter of a name takes so much.
const LETTER: f64 = 7.2;

/// Where things stand.
struct Place {
    rows: f64,
    low: f64,
    high: f64,
}

impl Place {
    #[expect(clippy::cast_precision_loss, reason = "rows are far below 2^52")]
    fn x(&self, row: u64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * row as f64 / self.rows
    }

    fn y(&self, value: f64) -> f64 {
        TOP + PLOT * (1.0 - ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0))
    }
}

/// A point of the three curves.
struct Point {
    from: u64,
    to: u64,
    looped: Option<f64>,
    fixed: Option<f64>,
    repeated: Option<f64>,
}

pub(super) fn draw(out: &mut String, report: &BacktestReport) {
    let share = is_share(report);
    let (points, over) = smooth(report, share);
    let (low, high, step) = scale(&points, share);
    #[expect(clippy::cast_precision_loss, reason = "rows are far below 2^52")]
    let place = Place { rows: report.rows.max(1) as f64, low, high };
    let what = if share { "Accuracy" } else { "Mean absolute error" };
    push(out, format_args!("<h2>{what} over time</h2>"));
    legend(out, over);
    let height = TOP + PLOT + 3.0 * STRIP + 10.0 + AXIS;
    push(
        out,
        format_args!(
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>{what}</title>"
        ),
    );
    y_axis(out, &place, step, share);
    parts(out, report, &place);
    for run in report.runs.iter().filter(|run| run.accepted) {
        let (x, end) = (place.x(run.row), TOP + PLOT);
        push(
            out,
            format_args!("<line class=\"born\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{end}\"/>"),
        );
    }
    curve(out, &place, "repeat", &points, |point| point.repeated);
    curve(out, &place, "static", &points, |point| point.fixed);
    curve(out, &place, "loop", &points, |point| point.looped);
    columns(out, &place, &points, share);
    findings(out, report, &place);
    runs(out, report, &place);
    versions(out, report, &place);
    x_axis(out, &place, height);
    out.push_str("</svg>");
}

fn legend(out: &mut String, over: u64) {
    out.push_str("<div class=\"legend\">");
    for (class, name) in
        [("loop", "the loop"), ("static", "the package&#39;s model"), ("repeat", "no change: the last label")]
    {
        push(
            out,
            format_args!(
                "<span><svg viewBox=\"0 0 22 12\"><line class=\"curve {class}\" x1=\"1\" x2=\"21\" y1=\"6\" \
                 y2=\"6\"/></svg>{name}</span>"
            ),
        );
    }
    for (class, name) in
        [("accepted", "run, accepted"), ("undone", "accepted, then rolled back"), ("refused", "run, refused")]
    {
        push(
            out,
            format_args!(
                "<span><svg viewBox=\"0 0 22 12\"><circle class=\"{class}\" cx=\"11\" cy=\"6\" r=\"4.5\"/>\
                 </svg>{name}</span>"
            ),
        );
    }
    for (class, name) in [("mark-drift", "drift found"), ("mark-warning", "warning")] {
        push(
            out,
            format_args!(
                "<span><svg viewBox=\"0 0 22 12\"><rect class=\"{class}\" x=\"8\" y=\"0\" width=\"5\" \
                 height=\"12\" rx=\"2\"/></svg>{name}</span>"
            ),
        );
    }
    push(out, format_args!("<span>curves: the last {} rows</span></div>", grouped(over)));
}

/// Means over the last rows at each step of the course; and over how many.
#[expect(clippy::cast_precision_loss, reason = "rows are far below 2^52")]
fn smooth(report: &BacktestReport, share: bool) -> (Vec<Point>, u64) {
    let course = &report.course;
    let rows = (report.rows / SMOOTH_SHARE).max(SMOOTH_ROWS).min(report.rows);
    let wide = usize::try_from(rows.div_ceil(course.step_rows)).unwrap_or(1).max(1);
    let mean = |errors: f64, rows: u64| {
        let mean = (rows > 0).then(|| errors / rows as f64);
        if share { mean.map(|errors| 1.0 - errors) } else { mean }
    };
    let point = |at: usize| {
        let steps: &[Step] = &course.steps[(at + 1).saturating_sub(wide)..=at];
        let rows = steps.iter().map(|step| step.rows).sum();
        let known = steps.iter().map(|step| step.no_change_rows).sum();
        let to = ((at as u64 + 1) * course.step_rows).min(report.rows);
        Point {
            from: (at as u64 + 1).saturating_sub(wide as u64) * course.step_rows + 1,
            to,
            looped: mean(steps.iter().map(|step| step.looped).sum(), rows),
            fixed: mean(steps.iter().map(|step| step.fixed).sum(), rows),
            repeated: mean(steps.iter().map(|step| step.no_change).sum(), known),
        }
    };
    // A mean over less than a third of the rows that it should be over jumps about.
    let first = (wide / 3).min(course.steps.len().saturating_sub(1));
    ((first..course.steps.len()).map(point).collect(), wide as u64 * course.step_rows)
}

/// Where the figure's axis begins and ends, and from one line to the next.
fn scale(points: &[Point], share: bool) -> (f64, f64, f64) {
    let all = || points.iter().flat_map(|point| [point.looped, point.fixed, point.repeated]).flatten();
    if share {
        let least = all().fold(1.0, f64::min);
        let low = ((least * 10.0).floor() / 10.0).clamp(0.0, 0.8);
        return (low, 1.0, if low > 0.55 { 0.05 } else { 0.1 });
    }
    let most = all().fold(0.0, f64::max).max(1e-9);
    let rough = most / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|by| by * power).find(|step| *step >= rough).unwrap_or(rough);
    (0.0, (most / step).ceil() * step, step)
}

fn y_axis(out: &mut String, place: &Place, step: f64, share: bool) {
    let lines = ((place.high - place.low) / step).round();
    let mut line = 0.0;
    while line <= lines {
        let value = place.low + line * step;
        let (y, right) = (place.y(value), WIDTH - RIGHT);
        let text = if share { format!("{:.0} %", value * 100.0) } else { short(value) };
        push(
            out,
            format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 8.0,
                y + 4.0
            ),
        );
        line += 1.0;
    }
}

/// A figure of an axis.
fn short(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn x_axis(out: &mut String, place: &Place, height: f64) {
    let rough = place.rows / 10.0;
    let power = 10_f64.powf(rough.log10().floor().max(0.0));
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|by| by * power).find(|step| *step >= rough).unwrap_or(rough);
    let mut row = 0.0;
    let y = height - AXIS;
    while row <= place.rows {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a row of the stream")]
        let number = row as u64;
        let x = place.x(number);
        push(
            out,
            format_args!(
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y}\" y2=\"{:.1}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                y + 5.0,
                y + 19.0,
                grouped(number)
            ),
        );
        row += step;
    }
    push(
        out,
        format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">rows of the stream</text>",
            f64::midpoint(LEFT, WIDTH - RIGHT),
            y + 37.0
        ),
    );
}

fn parts(out: &mut String, report: &BacktestReport, place: &Place) {
    if report.parts.len() > MAX_NAMES {
        return;
    }
    let by = escaped(report.by.as_deref().unwrap_or_default());
    for part in &report.parts {
        let (from, to) = (place.x(part.first_row - 1), place.x(part.last_row));
        let (end, middle) = (TOP + PLOT, f64::midpoint(from, to));
        if part.first_row > 1 {
            push(
                out,
                format_args!(
                    "<line class=\"part\" x1=\"{from:.1}\" x2=\"{from:.1}\" y1=\"{:.1}\" y2=\"{end}\"/>",
                    TOP - 14.0
                ),
            );
        }
        let long = format!("{by} {}", escaped(&part.value));
        let room = to - from;
        let name = if letters(&long) < room { long } else { escaped(&part.value) };
        if letters(&name) < room {
            push(
                out,
                format_args!(
                    "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
                    TOP - 8.0
                ),
            );
        }
    }
}

/// The width that a text takes, about.
#[expect(clippy::cast_precision_loss, reason = "a name has few letters")]
fn letters(text: &str) -> f64 {
    LETTER * text.chars().count() as f64
}

fn curve(out: &mut String, place: &Place, class: &str, points: &[Point], of: impl Fn(&Point) -> Option<f64>) {
    let mut path = String::new();
    let mut begun = false;
    for point in points {
        let Some(value) = of(point) else {
            begun = false;
            continue;
        };
        let letter = if begun { 'L' } else { 'M' };
        push(&mut path, format_args!("{letter}{:.1} {:.1}", place.x(point.to), place.y(value)));
        begun = true;
    }
    push(out, format_args!("<path class=\"curve {class}\" d=\"{path}\"/>"));
}

/// What the curves say under the pointer.
fn columns(out: &mut String, place: &Place, points: &[Point], share: bool) {
    let mut left = points.first().map_or(LEFT, |point| place.x(point.from - 1));
    for point in points {
        let right = place.x(point.to);
        push(
            out,
            format_args!(
                "<rect class=\"column\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{PLOT}\"><title>\
                 rows {} to {}\nloop {}\npackage&#39;s model {}\nno change {}</title></rect>",
                (right - left).max(0.5),
                grouped(point.from),
                grouped(point.to),
                show(point.looped, share),
                show(point.fixed, share),
                show(point.repeated, share)
            ),
        );
        left = right;
    }
}

/// The middle of a strip below the plot, whose name is written beside it.
fn strip(out: &mut String, number: f64, name: &str) -> f64 {
    let y = TOP + PLOT + 10.0 + STRIP * (number + 0.5);
    push(
        out,
        format_args!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0, y + 4.0),
    );
    y
}

fn findings(out: &mut String, report: &BacktestReport, place: &Place) {
    let y = strip(out, 0.0, "found");
    let mut marks: BTreeMap<u64, Vec<&crate::watch::Placed>> = BTreeMap::new();
    for one in &report.findings {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the picture")]
        let mark = (place.x(one.row) / MARK) as u64;
        marks.entry(mark).or_default().push(one);
    }
    for those in marks.values() {
        let x = place.x(those[0].row).min(WIDTH - RIGHT) - MARK / 2.0;
        let drifts = those.iter().any(|one| one.finding.level == DriftLevel::Drift);
        let class = if drifts { "mark-drift" } else { "mark-warning" };
        let named: Vec<String> = those.iter().take(NAMED).map(|one| said(one)).collect();
        let more = those.len().saturating_sub(NAMED);
        let more = if more > 0 { format!("\nand {more} more") } else { String::new() };
        push(
            out,
            format_args!(
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"14\" rx=\"2\"><title>\
                 {}{more}</title></rect>",
                y - 7.0,
                MARK - 1.0,
                escaped(&named.join("\n"))
            ),
        );
    }
}

fn said(one: &crate::watch::Placed) -> String {
    let finding = &one.finding;
    let subject = finding.feature.as_ref().or(finding.group.as_ref()).map_or("", String::as_str);
    format!("row {}: {} {} {subject}", one.row, finding.level.word(), finding.monitor)
}

fn runs(out: &mut String, report: &BacktestReport, place: &Place) {
    let y = strip(out, 1.0, "trained");
    for run in &report.runs {
        let is_undone = run.end.as_ref().is_some_and(|end| end.end != "confirmed");
        let class = match (run.accepted, is_undone) {
            (true, false) => "accepted",
            (true, true) => "undone",
            (false, _) => "refused",
        };
        let why =
            run.reason.as_deref().map_or_else(|| "accepted".to_owned(), |why| format!("refused: {why}"));
        let end =
            run.end.as_ref().map_or_else(String::new, |end| format!("\n{} after row {}", end.end, end.row));
        push(
            out,
            format_args!(
                "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"5\"><title>run {} after row {}, \
                 by {}\n{}{end}</title></circle>",
                place.x(run.row),
                run.run,
                grouped(run.row),
                run.trigger,
                escaped(&why)
            ),
        );
    }
}

fn versions(out: &mut String, report: &BacktestReport, place: &Place) {
    let y = strip(out, 2.0, "served");
    for (at, version) in report.versions.iter().enumerate() {
        let class = if at % 2 == 0 { "band-a" } else { "band-b" };
        let name = escaped(&version.name);
        for (from, to) in &version.served {
            let (left, right) = (place.x(from - 1), place.x(*to));
            push(
                out,
                format_args!(
                    "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"18\" rx=\"3\">\
                     <title>{name}\nrows {} to {}</title></rect>",
                    y - 9.0,
                    (right - left - 1.0).max(1.0),
                    grouped(*from),
                    grouped(*to)
                ),
            );
            let number = version.name.rsplit_once('+').and_then(|(_, born)| born.rsplit_once('.'));
            let short = number.map_or_else(String::new, |(_, number)| format!("#{}", escaped(number)));
            let room = right - left - 8.0;
            let fits = [(letters(&version.name), &name), (letters(&short), &short)];
            if let Some((_, name)) = fits.into_iter().find(|(wide, _)| *wide < room) {
                push(
                    out,
                    format_args!(
                        "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
                        left + 5.0,
                        y + 4.0
                    ),
                );
            }
        }
    }
}
