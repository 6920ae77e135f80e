//! Answers for people: tables of plain text.

use super::client::{ClientError, read};
use crate::core::drift::{DriftView, Scope};
use crate::core::view::{DeviceRow, DeviceView, RolloutView, VersionView};
use serde_json::Value;
use shoal_proto::summary::DriftLevel;

type Text = Result<String, ClientError>;

/// Columns as wide as their widest cell.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// Text from a device must not steer the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { '·' } else { it }).collect()
}

const fn level(level: Option<DriftLevel>) -> &'static str {
    match level {
        None => "-",
        Some(DriftLevel::Stable) => "stable",
        Some(DriftLevel::Warning) => "warning",
        Some(DriftLevel::Drift) => "drift",
    }
}

#[expect(clippy::cast_precision_loss, reason = "label counts are far below 2^52")]
fn accuracy(correct: u64, labelled: u64) -> String {
    if labelled == 0 {
        return "-".into();
    }
    format!("{:.3} ({labelled})", correct as f64 / labelled as f64)
}

pub(super) fn key(answer: &Value) -> Text {
    Ok(format!("{}\n", answer.get("public_key").and_then(Value::as_str).unwrap_or_default()))
}

pub(super) fn removed(answer: &Value) -> Text {
    Ok(format!("removed {}\n", answer.get("device").and_then(Value::as_str).unwrap_or_default()))
}

pub(super) fn pushed(answer: &Value) -> Text {
    let view: VersionView = read(answer)?;
    let created = answer.get("created").and_then(Value::as_bool).unwrap_or_default();
    let word = if created { "pushed" } else { "already there:" };
    Ok(format!("{word} {}  {}\n", view.name, view.version))
}

pub(super) fn condemned(answer: &Value) -> Text {
    let view: VersionView = read(answer)?;
    Ok(match view.condemned {
        Some(reason) => format!("condemned {}: {}\n", view.name, plain(&reason)),
        None => format!("{} may serve again\n", view.name),
    })
}

pub(super) fn versions(answer: &Value) -> Text {
    let views: Vec<VersionView> = read(answer)?;
    let names: Vec<(String, String)> =
        views.iter().map(|it| (it.version.to_string(), it.name.clone())).collect();
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|it| {
            let parent = it.parent.map(|parent| {
                let known = names.iter().find(|(digest, _)| *digest == parent.to_string());
                known.map_or_else(|| parent.short(), |(_, name)| name.clone())
            });
            let condemned = match (&it.condemned, it.condemned_on.len()) {
                (Some(reason), _) => format!("everywhere: {}", plain(reason)),
                (None, 0) => String::new(),
                (None, devices) => format!("on {devices} devices"),
            };
            vec![
                plain(&it.name),
                it.version.short(),
                parent.as_deref().map_or_else(|| "-".into(), plain),
                it.size_bytes.map_or_else(|| "on device".into(), |size| format!("{size}")),
                it.serving.to_string(),
                it.candidate_on.to_string(),
                condemned,
            ]
        })
        .collect();
    Ok(table(&["NAME", "VERSION", "PARENT", "SIZE_BYTES", "SERVING", "CANDIDATE", "CONDEMNED"], &rows))
}

pub(super) fn devices(answer: &Value) -> Text {
    let views: Vec<DeviceRow> = read(answer)?;
    let mut rows = Vec::new();
    for it in &views {
        let online = if it.online { "online" } else { "offline" };
        let tags: Vec<String> = it.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let start = |model: &str| vec![it.device.to_string(), online.into(), plain(model)];
        if it.models.is_empty() {
            let mut row = start("-");
            row.extend(["-".into(), "-".into(), "-".into(), plain(&tags.join(","))]);
            rows.push(row);
        }
        for model in &it.models {
            let mut row = start(&model.name);
            row.push(plain(model.candidate.as_deref().unwrap_or("-")));
            row.push(level(model.level).into());
            row.push(accuracy(model.correct, model.labelled));
            row.push(plain(&tags.join(",")));
            rows.push(row);
        }
    }
    Ok(table(&["DEVICE", "LINK", "SERVES", "CANDIDATE", "LEVEL", "ACCURACY", "TAGS"], &rows))
}

pub(super) fn device(answer: &Value) -> Text {
    let view: DeviceView = read(answer)?;
    let mut text = devices(&Value::Array(vec![answer.clone()]))?;
    if let Some(inventory) = &view.inventory {
        text += &format!("\nagent {} on {}\n", plain(&inventory.agent_version), plain(&inventory.arch));
    }
    if let Some(health) = &view.health {
        let capturing = if health.capturing { "capturing" } else { "not capturing" };
        text += &format!("up {} s, {capturing}, {}\n", health.uptime_s, plain(&health.training));
    }
    let counters: Vec<String> =
        view.counters.iter().filter(|(_, n)| **n > 0).map(|(key, n)| format!("{key} {n}")).collect();
    if !counters.is_empty() {
        text += &format!("{}\n", counters.join(", "));
    }
    for finding in view.findings.iter().rev() {
        let feature = finding.feature.as_deref().map(|it| format!(" `{}`", plain(it))).unwrap_or_default();
        let (found, limit) = (finding.statistic, finding.threshold);
        let what = level(Some(finding.level));
        text += &format!("{what}: {}{feature} {found:.3} (limit {limit:.3})\n", finding.monitor);
    }
    for run in view.runs.iter().rev() {
        let verdict = match &run.verdict {
            shoal_proto::decision::Verdict::Accept => "accepted".to_owned(),
            shoal_proto::decision::Verdict::Reject(reason) => format!("rejected: {reason}"),
        };
        text += &format!("run {} of {}: {}\n", run.run, run.model, plain(&verdict));
    }
    Ok(text)
}

pub(super) fn drift(answer: &Value) -> Text {
    let views: Vec<DriftView> = read(answer)?;
    let mut text = String::new();
    for view in &views {
        let scope = match view.scope {
            Scope::Nobody => "no device drifts",
            Scope::Alone => "one device drifts alone",
            Scope::Some => "some devices drift",
            Scope::Together => "devices drift together",
        };
        let name = view.version.clone().unwrap_or_else(|| view.baseline.short());
        let share = view.drifting_share * 100.0;
        text += &format!(
            "{} on the baseline of {}: {scope} ({share:.0} % of {}), {} rows\n",
            view.model,
            plain(&name),
            view.devices.len(),
            view.rows
        );
        let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |it| format!("{it:.4}"));
        let rows: Vec<Vec<String>> = view
            .features
            .iter()
            .map(|it| {
                let devices: Vec<String> = it.devices.iter().map(ToString::to_string).collect();
                vec![plain(&it.name), number(it.psi), number(it.noise), devices.join(" ")]
            })
            .collect();
        text += &table(&["FEATURE", "PSI", "NOISE", "DEVICES"], &rows);
        let rows: Vec<Vec<String>> = view
            .devices
            .iter()
            .map(|it| {
                let accuracy = accuracy(it.correct, it.labelled);
                let features = plain(&it.features.join(" "));
                vec![it.device.to_string(), level(Some(it.level)).into(), accuracy, features]
            })
            .collect();
        text += &table(&["DEVICE", "LEVEL", "ACCURACY", "FEATURES"], &rows);
    }
    if views.is_empty() {
        text += "no windows yet\n";
    }
    Ok(text)
}

pub(super) fn rollouts(answer: &Value) -> Text {
    let views: Vec<RolloutView> = read(answer)?;
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|it| {
            let done = format!("{}/{}", it.tally.succeeded, it.devices.len());
            let failed = (it.tally.failed + it.tally.rejected).to_string();
            vec![it.id.to_string(), plain(&it.name), done, failed, status(it)]
        })
        .collect();
    Ok(table(&["ROLLOUT", "VERSION", "SUCCEEDED", "FAILED", "STATUS"], &rows))
}

fn status(view: &RolloutView) -> String {
    plain(view.waiting.as_ref().map_or(&view.phase.text, |waiting| &waiting.text))
}

pub(super) fn rollout(answer: &Value) -> Text {
    let view: RolloutView = read(answer)?;
    let rows: Vec<Vec<String>> = view
        .devices
        .iter()
        .map(|it| {
            let back = match it.revert {
                None => "",
                Some(crate::core::view::Revert::Assigned) => " (sent back)",
                Some(crate::core::view::Revert::Done) => " (went back)",
            };
            let trial = accuracy(it.trial_correct, it.trial_labelled);
            let reason = format!("{}{back}", plain(&it.what.text));
            vec![it.wave.to_string(), it.device.to_string(), it.state.clone(), trial, reason]
        })
        .collect();
    let mut text = format!("{}  {}  {}\n", view.id, plain(&view.name), status(&view));
    text += &table(&["WAVE", "DEVICE", "STATE", "TRIAL", "REASON"], &rows);
    Ok(text)
}

/// What of a rollout is worth printing again: not the seconds that pass.
pub(super) fn without_countdown(view: &RolloutView) -> String {
    let waiting = view.waiting.as_ref().map(|it| std::mem::discriminant(&it.what));
    let states: Vec<_> = view.devices.iter().map(|it| (&it.state, it.revert)).collect();
    format!("{} {} {waiting:?} {states:?}", view.phase.text, view.wave)
}
