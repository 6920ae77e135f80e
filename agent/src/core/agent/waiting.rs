//! Why no run starts now, in a form that is logged, shown and asserted on.

use super::super::budget::Hold;
use shoal_proto::id::Digest;
use std::fmt;
use std::time::Duration;

/// Why no run starts now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// The operator switched it off.
    Disabled,
    /// The monitors see nothing.
    Stable,
    /// Inputs drift, and labels say that answers are as right as ever.
    StillRight { labels: u64, right: u64 },
    /// Too few labels have come since the last run.
    Labels { have: u64, need: u64 },
    /// The next scheduled run is later.
    Schedule { left: Duration },
    /// The last run was a short while ago.
    Cooldown { left: Duration },
    /// One run at a time.
    Running { run: u64 },
    /// A candidate is staged or on trial.
    Candidate { version: Digest },
    /// The device has no room for it.
    Budget(Hold),
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("retraining is switched off"),
            Self::Stable => f.write_str("no drift"),
            Self::StillRight { labels: 0, .. } => {
                f.write_str("inputs drift, and no label says that answers suffer")
            }
            Self::StillRight { labels, right } => {
                write!(f, "inputs drift, and answers do not suffer: {right} of the last {labels} labels")
            }
            Self::Labels { have, need } => write!(f, "{have} of {need} labels since the last run"),
            Self::Schedule { left } => write!(f, "schedule, {} s left", left.as_secs()),
            Self::Cooldown { left } => write!(f, "cool-down, {} s left", left.as_secs()),
            Self::Running { run } => write!(f, "run {run} is under way"),
            Self::Candidate { version } => write!(f, "candidate {} is in the slot", version.short()),
            Self::Budget(hold) => write!(f, "waiting for: {hold}"),
        }
    }
}
