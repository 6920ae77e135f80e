//! Triton's model repository extension: what is there, load, unload.
//!
//! The repository is the device's own: which version of a model serves is decided by its slot and not
//! here. Unloading frees the model's memory until it is loaded again or the agent is started anew.

use super::ServeState;
use super::models::Listed;
use super::refused::{Refused, shortened};
use shoal_proto::id::Digest;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

/// Triton's word for a caller's wish to unload what a model depends on: there is nothing such here.
const UNLOAD_DEPENDENTS: &str = "unload_dependents";

type Loading = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Loads an admitted version from the disk and serves it.
#[derive(Clone)]
pub struct Loader(Arc<dyn Fn(Digest) -> Loading + Send + Sync>);

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loader")
    }
}

impl Loader {
    /// Loads by this function.
    pub fn new<F>(load: impl Fn(Digest) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self(Arc::new(move |version| Box::pin(load(version))))
    }
}

impl ServeState {
    /// The models and their states.
    pub(super) fn index(&self, only_ready: bool) -> Vec<Listed> {
        self.models.list().into_iter().filter(|listed| !only_ready || listed.reason.is_none()).collect()
    }

    /// Serves a model that was unloaded; nothing happens when it serves.
    pub(super) async fn load<'a>(
        &self,
        model: &str,
        parameters: impl Iterator<Item = &'a str>,
    ) -> Result<(), Refused> {
        self.check_control(parameters)?;
        let Some(version) = self.models.unloaded(model)? else { return Ok(()) };
        let loaded = (self.loader.0)(version).await;
        loaded.map_err(|reason| Refused::NotLoaded { model: shortened(model), reason })
    }

    /// Serves a model no longer.
    pub(super) fn unload<'a>(
        &self,
        model: &str,
        parameters: impl Iterator<Item = &'a str>,
    ) -> Result<(), Refused> {
        self.check_control(parameters)?;
        self.models.unload(model)
    }

    fn check_control<'a>(&self, mut parameters: impl Iterator<Item = &'a str>) -> Result<(), Refused> {
        if !self.limits.model_control {
            return Err(Refused::NoControl);
        }
        match parameters.find(|name| *name != UNLOAD_DEPENDENTS) {
            None => Ok(()),
            Some(name) => Err(Refused::LoadParameter { name: shortened(name) }),
        }
    }
}
