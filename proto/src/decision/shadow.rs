//! What a candidate showed in the shadow of the version that serves.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a candidate answered to live rows beside the version that serves, and unheard by anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ShadowSeen {
    /// Rows that it was given.
    pub rows: u64,
    /// Rows among them that it failed on, or answered with what is no number.
    pub failures: u64,
    /// Rows for which both named a class.
    pub compared: u64,
    /// Rows among them for which both named the same.
    pub agreed: u64,
    /// Sum of the confidence of what was served for those rows, in thousandths.
    pub served_confidence: u64,
    /// The same of the candidate.
    pub confidence: u64,
    /// Labels of rows that both had answered.
    pub labels: u64,
    /// Labels by which only what was served was right, or nearer.
    pub only_served: u64,
    /// Labels by which only the candidate was.
    pub only_shadow: u64,
    /// Microseconds that its answers took.
    pub took_us: u64,
}

impl ShadowSeen {
    /// Adds what was seen since.
    pub fn add(&mut self, more: &Self) {
        self.rows += more.rows;
        self.failures += more.failures;
        self.compared += more.compared;
        self.agreed += more.agreed;
        self.served_confidence += more.served_confidence;
        self.confidence += more.confidence;
        self.labels += more.labels;
        self.only_served += more.only_served;
        self.only_shadow += more.only_shadow;
        self.took_us += more.took_us;
    }
}

impl fmt::Display for ShadowSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, failures, compared, agreed, labels, only_served, only_shadow, .. } = *self;
        write!(f, "{rows} rows, {failures} failed")?;
        let mean = |sum: u64| sum.checked_div(compared);
        if let (Some(own), Some(served)) = (mean(self.confidence), mean(self.served_confidence)) {
            write!(f, ", {agreed} of {compared} answered as served (confidence {own} ‰, served {served} ‰)")?;
        }
        if labels > 0 {
            write!(
                f,
                "; of {labels} labels {only_shadow} for it alone and {only_served} for the served alone"
            )?;
        }
        match self.took_us.checked_div(rows) {
            Some(us) => write!(f, "; {us} µs a row"),
            None => Ok(()),
        }
    }
}
