//! Answers for people: tables of plain text.

use super::client::{ClientError, read};
use crate::core::command::CommandView;
use crate::core::drift::figures::Proportion;
use crate::core::drift::{DriftView, FeatureDrift, Scope};
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
    for command in &view.commands {
        text += &command_line(command);
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

pub(super) fn command(answer: &Value) -> Text {
    Ok(command_line(&read(answer)?))
}

fn command_line(view: &CommandView) -> String {
    // Lines that a device sent are shown as they are, but for what would speak to the terminal.
    let text: Vec<String> = view.text.lines().map(plain).collect();
    format!("command {}: {}: {}, {}\n", view.id, view.what, view.state, text.join("\n"))
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
        text += &performance(view);
        let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |it| format!("{it:.4}"));
        let rows: Vec<Vec<String>> = view
            .features
            .iter()
            .map(|it| {
                let devices: Vec<String> = it.devices.iter().map(ToString::to_string).collect();
                vec![plain(&it.name), number(it.psi), number(it.noise), quality(it), devices.join(" ")]
            })
            .collect();
        text += &table(&["FEATURE", "PSI", "NOISE", "QUALITY", "DEVICES"], &rows);
        let rows: Vec<Vec<String>> = view
            .devices
            .iter()
            .map(|it| {
                let accuracy = accuracy(it.correct, it.labelled);
                let features = plain(&it.features.join(" "));
                let health = it.health.map_or_else(|| "-".into(), |it| it.to_string());
                vec![it.device.to_string(), level(Some(it.level)).into(), health, accuracy, features]
            })
            .collect();
        text += &table(&["DEVICE", "LEVEL", "HEALTH", "ACCURACY", "FEATURES"], &rows);
    }
    if views.is_empty() {
        text += "no windows yet\n";
    }
    Ok(text)
}

/// A share with its interval.
fn proportion(it: Option<Proportion>) -> String {
    it.map_or_else(|| "-".into(), |it| format!("{:.3} ({:.3} to {:.3})", it.share, it.low, it.high))
}

/// What labels, confidence and health say; empty where nothing does.
fn performance(view: &DriftView) -> String {
    let mut text = String::new();
    if view.labelled > 0 {
        let (share, cover) = (proportion(view.accuracy), view.coverage * 100.0);
        text += &format!("accuracy {share} on {} labels, {cover:.1} % of rows\n", view.labelled);
    }
    if let Some(it) = view.estimated {
        text += &format!("estimated accuracy {:.3} from the confidence of {} rows\n", it.accuracy, it.rows);
    }
    let figures: Vec<String> =
        view.figures.known().map(|(name, figure)| format!("{name} {figure:.4}")).collect();
    if !figures.is_empty() {
        text += &format!("{}\n", figures.join(", "));
    }
    if view.cut > 0 {
        text += &format!("figures by class and group lack {} windows, too large to travel\n", view.cut);
    }
    if let Some(it) = view.health {
        text += &format!(
            "health {} on the worst of {} devices, {:.0} on average\n",
            it.lowest, it.devices, it.mean
        );
    }
    for (count, what) in [(view.outliers, "outlying rows"), (view.duplicates, "rows sent twice")] {
        if count > 0 {
            text += &format!("{count} {what}\n");
        }
    }
    if view.versions.len() > 1 {
        let rows: Vec<Vec<String>> = view
            .versions
            .iter()
            .map(|it| {
                let name = it.name.clone().unwrap_or_else(|| it.version.short());
                vec![plain(&name), it.rows.to_string(), it.labelled.to_string(), proportion(it.accuracy)]
            })
            .collect();
        text += &table(&["VERSION", "ROWS", "LABELS", "ACCURACY"], &rows);
    }
    if !view.groups.is_empty() {
        let rows: Vec<Vec<String>> = view
            .groups
            .iter()
            .map(|it| {
                let parity = it.parity.map_or_else(|| "-".into(), |it| format!("{it:.2}"));
                let name = format!("{} = {}", it.name, it.value);
                vec![name, proportion(it.favourable), parity, proportion(it.accuracy)]
            })
            .collect();
        text += &table(&["GROUP", "FAVOURABLE", "PARITY", "ACCURACY"], &rows);
    }
    text
}

/// The counters of a feature that are not nought.
fn quality(feature: &FeatureDrift) -> String {
    let counts = [
        (feature.missing, "missing"),
        (feature.infinite, "infinite"),
        (feature.out_of_range, "out of range"),
        (feature.unseen, "unseen"),
        (feature.repeats, "repeated"),
    ];
    let said: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if said.is_empty() { "-".into() } else { said.join(", ") }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn drift_is_told_with_performance_and_quality() {
        let share = json!({ "hits": 90, "rows": 100, "share": 0.9, "low": 0.826, "high": 0.945 });
        let digest = "ab".repeat(32);
        let view = json!([{
            "model": "gas", "baseline": digest, "version": "gas@3", "rows": 2_000, "windows": 2,
            "scope": "nobody", "drifting_share": 0.0,
            "features": [{ "name": "s1\u{1b}", "psi": null, "noise": null, "counts": [], "reference": [],
                "missing": 3, "out_of_range": 0, "unseen": 2, "devices": [] }],
            "devices": [{ "device": "press-07", "level": "stable", "since": null, "features": [],
                "labelled": 100, "correct": 90, "health": 61, "version": digest, "closed": 5 }],
            "labelled": 100, "coverage": 0.05, "accuracy": share, "figures": { "auc": 0.75 },
            "estimated": { "rows": 2_000, "accuracy": 0.93 },
            "health": { "lowest": 61, "mean": 61.0, "devices": 1 }, "outliers": 6, "cut": 1,
            "groups": [{ "name": 0, "value": 1, "favourable": share, "parity": 0.7, "accuracy": null }],
        }]);
        let text = drift(&view).unwrap();
        for line in [
            "accuracy 0.900 (0.826 to 0.945) on 100 labels, 5.0 % of rows\n",
            "estimated accuracy 0.930 from the confidence of 2000 rows\n",
            "AUC 0.7500\n",
            "figures by class and group lack 1 windows, too large to travel\n",
            "health 61 on the worst of 1 devices, 61 on average\n",
            "6 outlying rows\n",
            "0 = 1  0.900 (0.826 to 0.945)  0.70    -\n",
            "s1·      -    -      3 missing, 2 unseen\n",
            "press-07  stable  61      0.900 (100)\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("sent twice") && !text.contains("VERSION"), "{text}");
        let regression = json!([{ "model": "gas", "baseline": digest, "version": null, "rows": 9, "windows": 1,
            "scope": "alone", "drifting_share": 1.0, "features": [], "devices": [], "labelled": 3, "coverage": 0.3,
            "figures": { "rmse": 0.5 } }]);
        let text = drift(&regression).unwrap();
        assert!(text.contains("accuracy - on 3 labels") && text.contains("RMSE 0.5000"), "{text}");
    }
}
