//! What the operator of a device decides, as the core needs it.

use shoal_adapt::Settings;
use shoal_proto::fact::TrialPolicy;
use shoal_proto::id::DeviceId;
use std::collections::BTreeMap;
use std::time::Duration;

/// The settings that decisions depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Who we are.
    pub device: DeviceId,
    /// Tags for the hub.
    pub tags: BTreeMap<String, String>,
    /// Rows after which a window closes.
    pub window_rows: u64,
    /// Time after which a window closes, however few rows it has.
    pub window: Duration,
    /// Windows kept in the document; older ones fall below the floor.
    pub keep_windows: u64,
    /// Whether drift starts a run.
    pub retrain: bool,
    /// Labels since the last run below which drift starts none.
    pub min_labels: u64,
    /// Rest between two runs.
    pub cooldown: Duration,
    /// Share of the newest labelled rows that are never trained on.
    pub holdout_share: f64,
    /// What a version may do about change before it is retrained.
    pub adapt: Settings,
    /// How versions born here are judged on trial.
    pub trial: TrialPolicy,
    /// How often counters, health and monitors are written.
    pub heartbeat: Duration,
}

impl Policy {
    /// The defaults for a device.
    #[must_use]
    pub fn new(device: DeviceId) -> Self {
        Self {
            device,
            tags: BTreeMap::new(),
            window_rows: 3_600,
            window: Duration::from_secs(3_600),
            keep_windows: 2_160, // 90 days of hours
            retrain: true,
            min_labels: 100,
            cooldown: Duration::from_secs(3_600),
            holdout_share: 0.3,
            adapt: Settings::default(),
            trial: TrialPolicy::default(),
            heartbeat: Duration::from_secs(300),
        }
    }
}
