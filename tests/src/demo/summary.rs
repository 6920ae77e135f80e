//! What the demo has seen, as numbers and as a table.

use super::score::Accuracy;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The whole run.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Summary {
    /// Seconds from start to end.
    pub seconds: f64,
    /// Devices.
    pub devices: usize,
    /// Rows predicted, as the hub's merged counters have it.
    pub predictions: u64,
    /// Labels taken.
    pub labels: u64,
    /// Windows closed.
    pub windows: u64,
    /// Windows that closed with drift.
    pub alarms: u64,
    /// Training runs.
    pub retrains: Retrains,
    /// How right the fleet was; the poisoned device stands apart.
    pub accuracy: Accuracies,
    /// Versions of the fleet's DAG: name by short digest.
    pub versions: BTreeMap<String, String>,
    /// The rollouts.
    pub rollouts: Vec<RolloutEnd>,
    /// Bytes of MQTT payload between devices and hub: up, down.
    pub bytes_on_the_wire: (u64, u64),
    /// What did not come out as it should.
    pub failures: Vec<String>,
}

/// Training runs over the fleet.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Retrains {
    /// Passed the gate.
    pub accepted: u64,
    /// Did not.
    pub refused: u64,
    /// Why, and how often.
    pub reasons: BTreeMap<String, u64>,
    /// Devices by accepted and refused runs.
    pub by_device: BTreeMap<String, (u64, u64)>,
}

/// Accuracy at the points of the story.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Accuracies {
    /// Before anything changed.
    pub before: Accuracy,
    /// The mean over devices of each one's worst 200 rows.
    pub worst: f64,
    /// When drift had ended and the devices had learned.
    pub after: Accuracy,
    /// The device that does not adapt, in the same rows: what retraining does alone.
    pub retrained_alone: Accuracy,
    /// The poisoned device in the same rows.
    pub poisoned: Accuracy,
}

/// How a rollout ended.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct RolloutEnd {
    /// What was rolled out.
    pub version: String,
    /// `succeeded`, `stopped` …
    pub phase: String,
    /// The hub's words.
    pub text: String,
    /// Devices by state.
    pub devices: BTreeMap<String, String>,
    /// Devices on which it ever served.
    pub served_on: usize,
}

impl Summary {
    /// The table at the end.
    #[must_use]
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _infallible = writeln!(text, "  {name:<26} {value}");
        };
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        line("devices", format!("{} and one hub, {:.0} s", self.devices, self.seconds));
        line("predictions / labels", format!("{} / {}", self.predictions, self.labels));
        line("windows / with drift", format!("{} / {}", self.windows, self.alarms));
        line("retrains passed / refused", format!("{} / {}", self.retrains.accepted, self.retrains.refused));
        for (reason, times) in &self.retrains.reasons {
            line("", format!("{times} × {reason}"));
        }
        let accuracy = &self.accuracy;
        line("accuracy before", percent(accuracy.before.served));
        line("accuracy at the worst", percent(accuracy.worst));
        line(
            "accuracy after",
            format!(
                "{} (never retrained: {})",
                percent(accuracy.after.served),
                percent(accuracy.after.untouched)
            ),
        );
        line("  with retraining alone", percent(accuracy.retrained_alone.served));
        line("  on the poisoned device", percent(accuracy.poisoned.served));
        line("versions", self.versions.values().cloned().collect::<Vec<_>>().join(", "));
        for rollout in &self.rollouts {
            line(
                &format!("rollout of {}", rollout.version),
                format!("{}; served on {} of {}", rollout.text, rollout.served_on, self.devices),
            );
        }
        let (up, down) = self.bytes_on_the_wire;
        line("bytes to / from the hub", format!("{up} / {down}"));
        for failure in &self.failures {
            line("FAILED", failure.clone());
        }
        text
    }
}
