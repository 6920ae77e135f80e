//! Serving: the Open Inference Protocol v2 over HTTP (TCP or a unix socket), and MQTT on the device's
//! own broker.
//!
//! Every predicted row goes to the core, and to the samples where they keep up; neither is ever waited
//! for. A label is acknowledged when it is on disk.

mod binary;
mod flat;
mod label;
mod listen;
pub mod local;
mod models;
mod outlet;
mod predict;
mod refused;
mod rest;
mod tensors;

pub use label::LabelStatus;
pub use listen::{ListenError, serve_tcp, serve_unix};
pub use models::{Models, NotServable, ServedModel};
pub use outlet::Outlet;
pub use predict::{Answer, AnswerRow};
pub use refused::Refused;
pub use rest::router;

use crate::clock::Clock;
use crate::store::SamplesDb;
use rand::{RngCore as _, SeedableRng as _};
use shoal_proto::id::ModelName;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Requests that may wait for a worker before more are refused.
const WAITING: usize = 256;

/// What a request may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest request body.
    pub max_body_bytes: usize,
    /// Longest answer of a model, waiting included.
    pub timeout: Duration,
    /// Predictions at once, besides those that are quicker than a change of thread.
    pub workers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Self { max_body_bytes: 16 * 1024 * 1024, timeout: Duration::from_secs(30), workers }
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
    workers: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    ready: AtomicBool,
    life: u64,
    predictions: AtomicU64,
}

impl ServeState {
    /// Serves nothing yet, and is not ready.
    #[must_use]
    pub fn new(
        models: Arc<Models>,
        samples: Arc<SamplesDb>,
        outlet: Outlet,
        clock: Clock,
        limits: Limits,
    ) -> Arc<Self> {
        Arc::new(Self {
            models,
            samples,
            outlet,
            clock,
            limits,
            workers: Arc::new(Semaphore::new(limits.workers.max(1))),
            waiting: Arc::new(Semaphore::new(WAITING)),
            ready: AtomicBool::new(false),
            life: rand::rngs::StdRng::from_os_rng().next_u64(),
            predictions: AtomicU64::new(0),
        })
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

    fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// A new prediction id: the model's name, this process and a number, never given twice.
    fn next_id(&self, model: &ModelName) -> String {
        let number = self.predictions.fetch_add(1, Ordering::Relaxed);
        format!("{model}.{:016x}-{number:x}", self.life)
    }
}

/// The model that a prediction id names.
fn model_of(prediction_id: &str) -> Option<ModelName> {
    ModelName::new(prediction_id.split_once('.')?.0).ok()
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod local_tests;
#[cfg(test)]
mod rest_tests;
