//! Answers as people read them.

use crate::control::Version;
use crate::core::agent::{ModelStatus, Status};
use crate::serve::Doing;
use serde::Serialize;
use serde_json::Value;
use shoal_proto::infer::{AskedOut, Why};
use std::fmt::Write as _;

/// The device at a glance.
/// What `status` prints.
#[derive(Debug, Serialize)]
pub(super) struct Whole<'a> {
    #[serde(flatten)]
    pub(super) status: &'a Status,
    pub(super) serving: &'a [Doing],
}

pub(super) fn status(whole: &Whole<'_>) -> String {
    let Whole { status, serving } = whole;
    let mut text = String::new();
    let hub = if status.hub { "connected" } else { "not connected" };
    line(&mut text, "device", &format!("{} (boot {})", status.device, status.boot));
    line(&mut text, "hub", &format!("{hub}, {} operations to send", status.outbox));
    for (name, count) in &status.counts {
        line(&mut text, &name.replace('_', " "), &count.to_string());
    }
    for model in &status.models {
        text.push('\n');
        text.push_str(&one_model(model));
        for doing in serving.iter().filter(|doing| doing.model == model.model) {
            text.push_str(&one_doing(doing));
        }
    }
    text
}

fn one_doing(doing: &Doing) -> String {
    let mut text = String::new();
    let Doing { requests, refused, failed, one_row_us, .. } = doing;
    line(&mut text, "  requests", &format!("{requests} answered, {refused} refused, {failed} failed"));
    let model = format!("{one_row_us:.0} µs a row in the model");
    let latency = match (doing.p50_us, doing.p99_us) {
        (Some(p50), Some(p99)) => format!("p50 {p50:.0} µs, p99 {p99:.0} µs in the server; {model}"),
        _ => model,
    };
    line(&mut text, "  latency", &latency);
    let calls = match (doing.steady, doing.batch_rows) {
        (false, _) => "in a worker: how long they take depends on the data".to_owned(),
        (true, 1) => "one request each".to_owned(),
        (true, rows) => format!("up to {rows} rows share one when requests wait"),
    };
    line(&mut text, "  calls", &calls);
    if let Some(adapted) = &doing.adapted {
        line(&mut text, "  adaptation", &adapted.to_string());
    }
    text
}

pub(super) fn line(text: &mut String, name: &str, value: &str) {
    let _infallible = writeln!(text, "{name:<20} {value}");
}

fn one_model(model: &ModelStatus) -> String {
    let mut text = String::new();
    let ready = if model.ready { "ready" } else { "not ready" };
    line(&mut text, "model", &format!("{} ({ready})", model.model));
    line(&mut text, "  serving", &format!("{}  {}", model.name, model.serving.short()));
    if let Some(previous) = model.previous {
        line(&mut text, "  previous", &previous.short());
    }
    if let Some((version, state)) = &model.candidate {
        line(&mut text, "  candidate", &format!("{} {state:?}", version.short()));
    }
    line(&mut text, "  drift", &format!("{:?}, {} rows in the open window", model.level, model.window_rows));
    let (labels, correct) = model.recent_labels;
    if labels > 0 {
        line(&mut text, "  recent accuracy", &format!("{correct} of {labels} labelled"));
    }
    if let Some(training) = &model.training {
        let loss = training.loss.map_or_else(String::new, |loss| format!(", loss {loss:.4}"));
        let by = training.trigger.map_or_else(String::new, |trigger| format!(" ({trigger})"));
        let at = format!("run {}{by}, step {} of {}{loss}", training.run, training.step, training.steps);
        line(&mut text, "  training", &at);
        if let Some(paused) = &training.paused {
            line(&mut text, "  training paused", paused);
        }
    }
    if let Some(wanted) = model.training_wanted {
        line(&mut text, "  training wanted", &format!("by {wanted}"));
    }
    if model.training.is_none()
        && let Some(waiting) = &model.training_waits_for
    {
        line(&mut text, "  training waits", waiting);
    }
    if let Some(waiting) = &model.trial_waits_for {
        line(&mut text, "  trial waits", waiting);
    }
    if let Some(end) = &model.last_end {
        line(&mut text, "  last candidate", &format!("{} {:?}", end.version.short(), end.end));
    }
    text
}

/// The models, a line each.
pub(super) fn models(models: &[ModelStatus]) -> String {
    models.iter().fold(String::new(), |mut text, model| {
        let ready = if model.ready { "ready" } else { "not ready" };
        line(
            &mut text,
            model.model.as_str(),
            &format!("{}  {}  {ready}  {:?}", model.name, model.serving.short(), model.level),
        );
        text
    })
}

/// The versions, a line each.
pub(super) fn versions(versions: &[Version]) -> String {
    versions.iter().fold(String::new(), |mut text, one| {
        let parent =
            one.record.parent.map_or_else(|| "root".to_owned(), |parent| format!("from {}", parent.short()));
        line(&mut text, &one.version.short(), &format!("{}  {parent}", one.record.name));
        text
    })
}

/// Rows that wait for a label.
pub(super) fn asked(asked: &AskedOut) -> String {
    let mut text = String::new();
    let (shown, waiting) = (asked.rows.len(), asked.waiting);
    line(&mut text, "model", &format!("{}, {shown} of {waiting} rows that wait for a label", asked.model));
    for row in &asked.rows {
        let why = match row.why {
            Why::Uncertain => "uncertain",
            Why::Outlying => "outlying: like none of training",
            Why::New => "new: no label was of its class yet",
        };
        let _infallible = writeln!(text, "\n{}", row.prediction_id);
        line(&mut text, "  why", why);
        if let (Some(class), Some(confidence)) = (&row.class, row.confidence) {
            line(&mut text, "  answered", &format!("{class} {confidence:.3}"));
        }
        for (name, value) in &row.features {
            let value = value.map_or_else(|| "missing".to_owned(), |value| value.to_string());
            line(&mut text, &format!("  {name}"), &value);
        }
    }
    if !asked.rows.is_empty() {
        text.push_str("\nanswer with `shoal-agent label ID LABEL`, or `shoal-agent label --skip ID`\n");
    }
    text
}

/// Predictions, a line each.
pub(super) fn predictions(answer: &Value) -> String {
    let mut text = String::new();
    if let Some(id) = answer["prediction_id"].as_str() {
        line(&mut text, "prediction_id", id);
    }
    for one in answer["predictions"].as_array().into_iter().flatten() {
        match one["class"].as_str() {
            Some(class) => {
                line(&mut text, class, &format!("{:.3}", one["confidence"].as_f64().unwrap_or_default()));
            }
            None => line(&mut text, "values", &one["values"].to_string()),
        }
    }
    text
}
