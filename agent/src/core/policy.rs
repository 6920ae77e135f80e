//! What the operator of a device decides, as the core needs it.

use super::budget::Budget;
use shoal_adapt::Settings;
use shoal_proto::decision::SourceRules;
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
    /// What labels count for in training, by their source.
    pub sources: SourceRules,
    /// What a version may do about change before it is retrained.
    pub adapt: Settings,
    /// What starts runs beside drift.
    pub triggers: Triggers,
    /// What runs may cost the device.
    pub budget: Budget,
    /// Which versions stay on disk when no slot needs them.
    pub keep: Keep,
    /// How versions born here are judged on trial.
    pub trial: TrialPolicy,
    /// Operations that wait for the hub, in bytes before compression; beyond it the whole document is sent.
    pub outbox_bytes: usize,
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
            sources: SourceRules::default(),
            adapt: Settings::default(),
            triggers: Triggers::default(),
            budget: Budget::NONE,
            keep: Keep::default(),
            trial: TrialPolicy::default(),
            outbox_bytes: shoal_proto::sync::LOG_BYTES,
            heartbeat: Duration::from_secs(300),
        }
    }
}

/// What starts runs beside drift and commands.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Triggers {
    /// Labelled accuracy below which a run starts; without it the goal of the package, where it has one.
    pub goal: Option<f64>,
    /// So many labels since the last run start one.
    pub labels: Option<u64>,
    /// So much time since the last run starts one; only time that the agent was running.
    pub every: Option<Duration>,
    /// What becomes of local learning when a new base of the hub's is confirmed.
    pub rebase: Rebase,
}

/// What becomes of local learning when a new base of the hub's is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rebase {
    /// A run from the new base starts at once.
    #[default]
    Retrain,
    /// The base serves as it is, until something else starts a run.
    Drop,
}

impl std::str::FromStr for Rebase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "retrain" => Ok(Self::Retrain),
            "drop" => Ok(Self::Drop),
            other => Err(format!("`{other}` is neither `retrain` nor `drop`")),
        }
    }
}

/// How many versions stay on disk beside those that slots need, their base, and those that are pinned: the
/// newest first, as long as there is room by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// So many.
    pub versions: usize,
    /// Together at most so large.
    pub bytes: u64,
}

impl Default for Keep {
    /// What a person would go back to, in the room of a large model.
    fn default() -> Self {
        Self { versions: 4, bytes: 128 << 20 }
    }
}
