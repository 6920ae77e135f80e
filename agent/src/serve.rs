//! Serving: the Open Inference Protocol v2 over HTTP (TCP or a unix socket), and MQTT on the device's
//! own broker.
//!
//! Every predicted row goes to the core, and to the samples where they keep up; neither is ever waited
//! for. A label is acknowledged when it is on disk.

mod adapted;
mod asks;
mod binary;
mod doing;
mod flat;
mod grpc;
mod label;
mod latency;
mod listen;
pub mod local;
mod metrics;
mod models;
mod outlet;
mod pool;
mod predict;
mod questions;
mod refused;
mod repository;
mod rest;
mod said;
mod shadow;
mod tensors;
mod token;

pub use asks::Asks;
pub use doing::Doing;
pub use grpc::Grpc;
pub use label::LabelStatus;
pub use latency::LatencyCounts;
pub use listen::{Doors, ListenError};
pub use metrics::Metrics;
pub use models::{Listed, Models, NotServable, ServedModel};
pub use outlet::Outlet;
pub use predict::{Answer, AnswerRow};
pub use questions::Questions;
pub use refused::Refused;
pub use repository::Loader;
pub use rest::router;
pub use shadow::Shadows;
pub use token::{Token, TokenError};

use crate::clock::Clock;
use crate::core::Asked;
use crate::store::SamplesDb;
use rand::{RngCore as _, SeedableRng as _};
use shoal_proto::id::ModelName;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often workers are looked at for calls that do not end.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Marks the id of a prediction that was not captured.
const NOT_CAPTURED: char = '~';

/// Which predictions are kept as samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Capture {
    /// All.
    All,
    /// One in so many, evenly.
    OneIn(u64),
    /// None.
    Off,
}

/// What a request may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Largest request body.
    pub max_body_bytes: usize,
    /// Longest answer of a model, waiting included; a call that takes longer is a stall.
    pub timeout: Duration,
    /// Predictions at once, besides those that are quicker than a change of thread.
    pub workers: usize,
    /// How long a request may wait for others to share a call with.
    pub batch_wait: Duration,
    /// Which predictions are kept.
    pub capture: Capture,
    /// Whether models may be loaded and unloaded over the protocol.
    pub model_control: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 16 * 1024 * 1024,
            timeout: Duration::from_secs(10),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            batch_wait: Duration::ZERO,
            capture: Capture::All,
            model_control: false,
        }
    }
}

/// What all ways of serving share.
#[derive(Debug)]
pub struct ServeState {
    models: Arc<Models>,
    samples: Arc<SamplesDb>,
    outlet: Outlet,
    clock: Clock,
    limits: Limits,
    pool: pool::Pool,
    loader: Loader,
    ready: AtomicBool,
    life: u64,
    predictions: AtomicU64,
}

impl ServeState {
    /// Serves nothing yet, and is not ready.
    ///
    /// # Errors
    /// When no worker thread can be started.
    pub fn new(
        models: Arc<Models>,
        samples: Arc<SamplesDb>,
        outlet: Outlet,
        clock: Clock,
        limits: Limits,
        loader: Loader,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            models,
            samples,
            outlet,
            clock,
            limits,
            pool: pool::Pool::start(limits.workers, limits.batch_wait, clock)?,
            loader,
            ready: AtomicBool::new(false),
            life: rand::rngs::StdRng::from_os_rng().next_u64(),
            predictions: AtomicU64::new(0),
        }))
    }

    /// Looks for calls that do not end, until `cancel`; returns by itself when so many hang that only a
    /// new process helps.
    pub async fn watch_stalls(self: Arc<Self>, cancel: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let stalls = self.pool.find_stalls(self.limits.timeout);
            for served in &stalls.versions {
                let (model, version) = (served.name(), served.info().version);
                tracing::error!(%model, %version, "a call of the model does not end");
                served.mark_stalled();
                served.metrics().stalled.inc();
                self.outlet.stalled(model, version);
            }
            if stalls.too_many {
                tracing::error!("too many calls hang: only a new process helps");
                return;
            }
        }
    }

    /// Says whether all that should be served is served.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Whether all that should be served is served.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// The models.
    #[must_use]
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// Lets applications on the local broker start training.
    pub fn obey(&self, operators: tokio::sync::mpsc::Sender<crate::control::Ask>) {
        self.outlet.obey(operators);
    }

    /// The text for Prometheus.
    fn metrics_text(&self) -> String {
        let samples = self.samples.stats();
        self.models.metrics().text(metrics::Levels {
            waiting: self.pool.waiting(),
            captured: samples.captured,
            dropped: samples.dropped,
            unobserved: self.outlet.lost_rows(),
        })
    }

    fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// A new prediction id and whether it is captured: the model's name, this process and a number,
    /// never given twice.
    fn next_id(&self, model: &ModelName) -> (String, Asked, bool) {
        let number = self.predictions.fetch_add(1, Ordering::Relaxed);
        let is_captured = match self.limits.capture {
            Capture::All => true,
            Capture::OneIn(every) => number.is_multiple_of(every),
            Capture::Off => false,
        };
        let asked = Asked { life: self.life, number };
        let mut id = asked.prediction_id(model);
        if !is_captured {
            id.push(NOT_CAPTURED);
        }
        (id, asked, is_captured)
    }
}

/// Which request a prediction id is of: `MODEL.LIFE-NUMBER`, and a row's number after `#`.
fn asked(prediction_id: &str) -> Option<Asked> {
    let (life, number) = prediction_id.split_once('.')?.1.split_once('-')?;
    let number = number.split(['#', NOT_CAPTURED]).next()?;
    Some(Asked { life: u64::from_str_radix(life, 16).ok()?, number: u64::from_str_radix(number, 16).ok()? })
}

/// The model that a prediction id names.
fn model_of(prediction_id: &str) -> Option<ModelName> {
    ModelName::new(prediction_id.split_once('.')?.0).ok()
}

#[cfg(test)]
mod asks_tests;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod grpc_tests;
#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod local_tests;
#[cfg(test)]
mod rest_tests;
#[cfg(test)]
mod shadow_tests;
