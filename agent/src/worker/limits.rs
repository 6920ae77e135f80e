//! What a child may use.

use super::WorkerError;
use rustix::process::{Resource, Rlimit, nice, setrlimit};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

/// Added to the niceness: the lowest priority there is.
const NICEST: i32 = 19;
/// When memory runs out, the kernel takes a trainer before anything else of ours (of −1000 … 1000).
const OOM_SCORE: &[u8] = b"900";

/// Limits of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Address space.
    pub memory_bytes: u64,
    /// Processor time in seconds.
    pub cpu_s: u64,
    /// Time by the clock in seconds; kept by the parent.
    pub wall_s: u64,
    /// Largest file that it may write.
    pub file_bytes: u64,
    /// Open files.
    pub files: u64,
}

impl Limits {
    /// Admission: four copies of the largest model that passes the pre-check (128 MiB) fit in memory, and
    /// the engine optimises the slowest of the zoo in two seconds.
    pub const ADMIT: Self =
        Self { memory_bytes: 1 << 30, cpu_s: 60, wall_s: 120, file_bytes: 1 << 20, files: 64 };
    /// Training: as above with gradients and moments, for as long as a device may be busy in a night.
    pub const TRAIN: Self =
        Self { memory_bytes: 2 << 30, cpu_s: 3_600, wall_s: 4 * 3_600, file_bytes: 1 << 30, files: 128 };

    /// The parent's patience.
    #[must_use]
    pub fn wall(&self) -> Duration {
        Duration::from_secs(self.wall_s)
    }

    /// Limits this process for good.
    pub(super) fn apply(&self) -> Result<(), WorkerError> {
        for (what, resource, most) in [
            ("memory", Resource::As, self.memory_bytes),
            ("processor time", Resource::Cpu, self.cpu_s),
            ("file size", Resource::Fsize, self.file_bytes),
            ("open files", Resource::Nofile, self.files),
            ("core dumps", Resource::Core, 0),
        ] {
            setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
                .map_err(|cause| WorkerError::Limit { what, source: cause.into() })?;
        }
        Ok(())
    }
}

/// Takes the lowest priority, and offers itself first when memory runs out.
pub(super) fn step_back() -> Result<(), WorkerError> {
    nice(NICEST).map_err(|cause| WorkerError::Limit { what: "priority", source: cause.into() })?;
    let offer = File::options().write(true).open("/proc/self/oom_score_adj");
    if let Err(cause) = offer.and_then(|mut file| file.write_all(OOM_SCORE)) {
        tracing::debug!(%cause, "no oom_score_adj here");
    }
    Ok(())
}
