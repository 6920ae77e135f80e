//! How a version serves, at a glance.

use super::latency::LatencyCounts;
use super::models::ServedModel;
use crate::adapting::Adapted;
use serde::{Deserialize, Serialize};
use shoal_proto::id::{Digest, ModelName};

/// How a version serves, at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Doing {
    /// Which model.
    pub model: ModelName,
    /// Which version.
    pub version: Digest,
    /// Requests answered since it serves.
    pub requests: u64,
    /// Requests that it does not take.
    pub refused: u64,
    /// Requests that failed inside it.
    pub failed: u64,
    /// Time in the server that half of the requests stay below.
    pub p50_us: Option<f64>,
    /// Time in the server that 99 of 100 requests stay below.
    pub p99_us: Option<f64>,
    /// One row in the engine, at best.
    pub one_row_us: f64,
    /// Rows that may share a call.
    pub batch_rows: usize,
    /// Whether how long a call takes depends on the shapes alone.
    pub steady: bool,
    /// What adaptation has come to; none where its package does not say what inputs looked like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapted: Option<Adapted>,
}

impl ServedModel {
    /// How many requests took how long, since it serves.
    #[must_use]
    pub fn latency_counts(&self) -> LatencyCounts {
        self.metrics().latencies.counts()
    }

    /// Which version.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.info().version
    }

    /// How it serves.
    #[must_use]
    pub fn doing(&self) -> Doing {
        let metrics = self.metrics();
        Doing {
            model: self.name().clone(),
            version: self.info().version,
            requests: metrics.requests.get(),
            refused: metrics.refused.get(),
            failed: metrics.failed.get(),
            p50_us: metrics.latencies.quantile_us(0.5),
            p99_us: metrics.latencies.quantile_us(0.99),
            one_row_us: self.one_row().as_secs_f64() * 1e6,
            batch_rows: self.batch_rows(),
            steady: self.is_steady(),
            adapted: self.adapted(),
        }
    }
}
