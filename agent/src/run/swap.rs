//! Versions are loaded here, one after the other, and come to their place: served, or in the shadow.

use crate::adapting::Desk;
use crate::clock::Clock;
use crate::core::Event;
use crate::report::chain;
use crate::serve::{Loader, Metrics, Models, ServedModel, Shadows};
use crate::vault::{Vault, version_info};
use shoal_infer::Predictor;
use shoal_onnx::Limits;
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::package::{MODEL, Package};
use std::sync::Arc;
use tokio::sync::mpsc;

/// A version that goes to a place.
#[derive(Debug)]
pub(super) struct Swap {
    pub(super) model: ModelName,
    pub(super) version: Digest,
    pub(super) place: Place,
}

/// Where a version goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It answers.
    Served,
    /// It answers beside the one that does, unheard.
    Shadow,
    /// Out of the shadow.
    None,
}

/// What versions are loaded from, and into.
#[derive(Debug, Clone)]
pub(super) struct Loading {
    pub(super) vault: Vault,
    pub(super) models: Arc<Models>,
    pub(super) desk: Desk,
    pub(super) clock: Clock,
    pub(super) shadows: Arc<Shadows>,
}

/// Loads admitted versions and brings them to their places, in the order that was asked for.
pub(super) async fn carry_out(
    loading: Loading,
    events: mpsc::Sender<Event>,
    mut wanted: mpsc::Receiver<Swap>,
) {
    while let Some(Swap { model, version, place }) = wanted.recv().await {
        let event = match place {
            Place::Served => {
                // Requests that hold the version before end on it.
                let swap = |models: &Models, served| drop(models.swap(served));
                let outcome = loading.load(version, swap).await;
                Event::Serving { model, version, outcome }
            }
            Place::Shadow => {
                let outcome = loading.clone().shadow(version).await;
                Event::Shadowing { model, version, outcome }
            }
            Place::None => {
                loading.shadows.end(&model, version);
                continue;
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// What loads a model again that an operator had unloaded.
pub(super) fn loader(loading: Loading) -> Loader {
    Loader::new(move |version| {
        let loading = loading.clone();
        async move { loading.load(version, Models::load).await }
    })
}

impl Loading {
    /// Makes an admitted version ready and gives it its place.
    async fn load(&self, version: Digest, place: fn(&Models, ServedModel)) -> Result<(), String> {
        let loading = self.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            let Self { vault, models, desk, clock, .. } = &loading;
            let package = vault.get(version).map_err(|cause| chain(&cause))?;
            let served = made_ready(&package, version, clock, models.metrics())?;
            let adapt = desk.begin(&package, served.info());
            let before = models.get(served.name().as_str(), None).ok();
            place(models, served.with_adapt(adapt, before.as_deref()));
            Ok(())
        });
        loaded.await.map_err(|cause| cause.to_string()).and_then(|outcome| outcome)
    }

    /// Makes an admitted version ready beside the one that serves; microseconds of one row of both.
    async fn shadow(self, version: Digest) -> Result<Option<(f64, f64)>, String> {
        let loaded = tokio::task::spawn_blocking(move || {
            let package = self.vault.get(version).map_err(|cause| chain(&cause))?;
            let candidate = made_ready(&package, version, &self.clock, &Metrics::default())?;
            let served = self.models.get(candidate.name().as_str(), None).ok();
            let row_us = |model: &ServedModel| model.one_row().as_secs_f64() * 1e6;
            let both = served.map(|served| (row_us(&served), row_us(&candidate)));
            self.shadows.begin(candidate);
            Ok(both)
        });
        loaded.await.map_err(|cause| cause.to_string()).and_then(|outcome| outcome)
    }
}

fn made_ready(
    package: &Package,
    version: Digest,
    clock: &Clock,
    metrics: &Metrics,
) -> Result<ServedModel, String> {
    let info = version_info(version, package).map_err(|cause| chain(&cause))?;
    let onnx = package.file(MODEL).unwrap_or_default();
    let inside = info.manifest.output.embedding.as_deref();
    let predictor =
        Predictor::load_exposing(onnx, inside, &Limits::default()).map_err(|cause| chain(&cause))?;
    if let Some(op) = predictor.unsteady_op() {
        tracing::info!(%version, op, "the model's work depends on its data: it runs in a worker");
    }
    ServedModel::new(info, predictor, clock, metrics).map_err(|cause| chain(&cause))
}
