//! What Prometheus reads of serving.

use super::latency::Latencies;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use shoal_proto::finding::Finding;
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::infer::HealthOut;
use std::fmt;
use std::time::Duration;

/// Upper bounds in seconds: from a tree on a quick board to an image model on a slow one.
const SECONDS: [f64; 16] = [
    10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.5, 1.0, 5.0,
];
/// Upper bounds of the rows of a call.
const ROWS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    model: String,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Finds {
    model: String,
    monitor: &'static str,
    level: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPart {
    model: String,
    part: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfModel {
    model: String,
}

#[derive(Debug, Clone, Copy)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

type Histograms = Family<Of, Histogram, Buckets>;

/// All counters, by model and version where they are of one.
pub struct Metrics {
    registry: Registry,
    requests: Family<Of, Counter>,
    refused: Family<Of, Counter>,
    failed: Family<Of, Counter>,
    stalled: Family<Of, Counter>,
    duration: Histograms,
    queued: Histograms,
    rows: Histograms,
    /// Requests that found no room to wait.
    pub(super) overloaded: Counter,
    /// Connections turned away.
    pub(super) connections_refused: Counter,
    /// Connections open now.
    pub(super) connections: Gauge,
    waiting: Gauge,
    captured: Counter,
    dropped: Counter,
    unobserved: Counter,
    findings: Family<Finds, Counter>,
    levels: Family<OfPart, Gauge>,
    health: Family<OfModel, Gauge>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The counters of one version, held by it: a request looks nothing up.
#[derive(Debug, Clone)]
pub struct ModelMetrics {
    pub(super) requests: Counter,
    pub(super) refused: Counter,
    pub(super) failed: Counter,
    pub(super) stalled: Counter,
    duration: Histogram,
    queued: Histogram,
    rows: Histogram,
    pub(super) latencies: Latencies,
}

/// What the rest of the server counts by itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Levels {
    pub(super) waiting: usize,
    pub(super) captured: u64,
    pub(super) dropped: u64,
    pub(super) unobserved: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        let histograms = |bounds| Family::new_with_constructor(Buckets(bounds));
        let mut metrics = Self {
            registry: Registry::with_prefix("shoal"),
            requests: Family::default(),
            refused: Family::default(),
            failed: Family::default(),
            stalled: Family::default(),
            duration: histograms(&SECONDS),
            queued: histograms(&SECONDS),
            rows: histograms(&ROWS),
            overloaded: Counter::default(),
            connections_refused: Counter::default(),
            connections: Gauge::default(),
            waiting: Gauge::default(),
            captured: Counter::default(),
            dropped: Counter::default(),
            unobserved: Counter::default(),
            findings: Family::default(),
            levels: Family::default(),
            health: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        macro_rules! register {
            ($($name:literal, $help:literal, $field:ident;)*) => {
                $(self.registry.register($name, $help, self.$field.clone());)*
            };
        }
        register! {
            "infer_requests", "Requests answered", requests;
            "infer_refused", "Requests that the model does not take", refused;
            "infer_failures", "Requests that failed inside the model", failed;
            "infer_stalls", "Calls of the model that did not end in time", stalled;
            "infer_duration_seconds", "Time in the server, waiting included, without reading and writing", duration;
            "infer_queue_seconds", "Time a request waited for a worker", queued;
            "infer_batch_rows", "Rows of one call of the model", rows;
            "infer_overloaded", "Requests that found no room to wait", overloaded;
            "infer_waiting", "Requests waiting for a worker", waiting;
            "connections", "Connections open", connections;
            "connections_refused", "Connections turned away", connections_refused;
            "samples_captured", "Rows written to the samples", captured;
            "samples_dropped", "Rows that the samples could not keep up with", dropped;
            "rows_unobserved", "Rows that the monitors could not keep up with", unobserved;
            "findings", "Findings of the monitors", findings;
            "drift_level", "Level of each part of a model: 0 stable, 1 warning, 2 drift", levels;
            "model_health", "How well a model does, 0 to 100", health;
        }
    }

    /// A monitor found something.
    pub(crate) fn found(&self, finding: &Finding) {
        let (model, monitor) = (finding.model.to_string(), finding.monitor.word());
        self.findings.get_or_create_owned(&Finds { model, monitor, level: finding.level.word() }).inc();
    }

    /// How well a model does now.
    pub(crate) fn healthy(&self, told: &HealthOut) {
        let model = told.model.to_string();
        for (part, level) in &told.health.parts {
            let of = OfPart { model: model.clone(), part: part.word() };
            self.levels.get_or_create_owned(&of).set(*level as i64);
        }
        self.health.get_or_create_owned(&OfModel { model }).set(told.health.score.into());
    }

    /// The counters of a version.
    #[must_use]
    pub fn of(&self, model: &ModelName, version: Digest) -> ModelMetrics {
        let of = Self::label(model, version);
        ModelMetrics {
            requests: self.requests.get_or_create_owned(&of),
            refused: self.refused.get_or_create_owned(&of),
            failed: self.failed.get_or_create_owned(&of),
            stalled: self.stalled.get_or_create_owned(&of),
            duration: self.duration.get_or_create_owned(&of),
            queued: self.queued.get_or_create_owned(&of),
            rows: self.rows.get_or_create_owned(&of),
            latencies: Latencies::default(),
        }
    }

    /// A version that serves no longer: or the series would grow with every version.
    pub(super) fn forget(&self, model: &ModelName, version: Digest) {
        let of = Self::label(model, version);
        for counters in [&self.requests, &self.refused, &self.failed, &self.stalled] {
            counters.remove(&of);
        }
        for histograms in [&self.duration, &self.queued, &self.rows] {
            histograms.remove(&of);
        }
    }

    fn label(model: &ModelName, version: Digest) -> Of {
        Of { model: model.to_string(), version: version.short() }
    }

    /// The text that Prometheus reads (OpenMetrics 1.0).
    pub(super) fn text(&self, levels: Levels) -> String {
        self.waiting.set(i64::try_from(levels.waiting).unwrap_or(i64::MAX));
        for (counter, level) in [
            (&self.captured, levels.captured),
            (&self.dropped, levels.dropped),
            (&self.unobserved, levels.unobserved),
        ] {
            counter.inc_by(level.saturating_sub(counter.get()));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes all that is written to it");
        text
    }
}

impl ModelMetrics {
    /// A request was answered in this time.
    pub(super) fn answered(&self, took: Duration) {
        self.requests.inc();
        self.duration.observe(took.as_secs_f64());
        self.latencies.add(took);
    }

    /// The model was called once.
    pub(super) fn called(&self, rows: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a bucket is found for it")]
        self.rows.observe(rows as f64);
    }

    /// A request got a worker after this time.
    pub(super) fn waited(&self, waited: Duration) {
        self.queued.observe(waited.as_secs_f64());
    }
}
