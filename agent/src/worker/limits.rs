//! What a child may use.

use super::WorkerError;
use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

/// Added to the niceness: the lowest priority there is.
const NICEST: i32 = 19;
/// When memory runs out, the kernel takes a trainer before anything else of ours (of −1000 … 1000).
const OOM_SCORE: &[u8] = b"900";

/// Processor time from the signal that can be told to the one that cannot.
const CPU_GRACE_S: u64 = 2;

/// A model up to this size gets [`SMALL`]: the largest of the zoo has an eighth of it.
const SMALL_MODEL_BYTES: u64 = 16 << 20;
/// What a small model may use. Processor time ends before wall time does, so that a model that keeps the
/// processor busy is told from one that waits.
const SMALL: (u64, u64, u64) = (256 << 20, 8, 10);
/// Memory for each byte beyond [`SMALL_MODEL_BYTES`]. A dense model of 48 MiB was measured to take four copies
/// (package, decoded file, two plans); one that needs a plan for each number of rows keeps up to eight plans.
const MEMORY_PER_BYTE: u64 = 12;
/// Bytes beyond [`SMALL_MODEL_BYTES`] that bring a second of processor time; of wall time they bring two.
const BYTES_PER_CPU_S: u64 = 2 << 20;

/// The trainer's program with all that it links, touched and untouched, before a package is read.
pub(super) const TRAINER_BYTES: u64 = 64 << 20;
/// A package in memory: its bytes, the decoded model, what is written at the end.
const PACKAGE_COPIES: u64 = 4;
/// Of what is left a session plans with so much: a checkpoint of it takes up to 9/4 of its state for a moment,
/// once as numbers and once as CBOR (4 + 5 bytes a number), and 4/13 and 9/13 are the whole.
const SESSION_SHARE: (u64, u64) = (4, 13);

/// Limits of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory: resident for an admission, address space for a training.
    pub memory_bytes: u64,
    /// Processor time in seconds.
    pub cpu_s: u64,
    /// Time by the clock in seconds; kept by the parent.
    pub wall_s: u64,
    /// Largest file that it may write.
    pub file_bytes: u64,
    /// Open files; none in an admission once the package is read.
    pub files: u64,
}

impl Limits {
    /// The most that any admission may use; see [`Limits::for_model`].
    pub const ADMIT: Self = Self { memory_bytes: 1 << 30, cpu_s: 60, wall_s: 120, file_bytes: 0, files: 64 };
    /// Training: memory for gradients and moments, for as long as a device may be busy in a night.
    pub const TRAIN: Self =
        Self { memory_bytes: 2 << 30, cpu_s: 3_600, wall_s: 4 * 3_600, file_bytes: 1 << 30, files: 128 };

    /// The limits for a model of this size, at most these: 256 MiB, 8 s of processor and 10 s of wall time
    /// up to 16 MiB; beyond it 12 bytes of memory for each byte, and a second of processor and two of wall
    /// time for every 2 MiB.
    #[must_use]
    pub fn for_model(self, onnx_bytes: u64) -> Self {
        let beyond = onnx_bytes.saturating_sub(SMALL_MODEL_BYTES);
        let (memory, cpu_s, wall_s) = SMALL;
        let seconds = beyond / BYTES_PER_CPU_S;
        Self {
            memory_bytes: self
                .memory_bytes
                .min(memory.saturating_add(beyond.saturating_mul(MEMORY_PER_BYTE))),
            cpu_s: self.cpu_s.min(cpu_s + seconds),
            wall_s: self.wall_s.min(wall_s + 2 * seconds),
            ..self
        }
    }

    /// What a training session may plan with, for a package of this size. It follows from the job alone, so that
    /// a run that is resumed is laid out as it was: nought would be no bound, so that it is one at least.
    #[must_use]
    pub(super) fn session_bytes(&self, package_bytes: usize) -> u64 {
        let package = (package_bytes as u64).saturating_mul(PACKAGE_COPIES);
        let left = self.memory_bytes.saturating_sub(TRAINER_BYTES).saturating_sub(package);
        (left / SESSION_SHARE.1 * SESSION_SHARE.0).max(1)
    }

    /// The parent's patience.
    #[must_use]
    pub fn wall(&self) -> Duration {
        Duration::from_secs(self.wall_s)
    }

    /// Limits this process for good: address space too.
    pub(super) fn apply(&self) -> Result<(), WorkerError> {
        set("memory", Resource::As, self.memory_bytes, 0)?;
        self.apply_but_memory()
    }

    /// Limits this process for good; memory is limited by [`super::confine`].
    pub(super) fn apply_but_memory(&self) -> Result<(), WorkerError> {
        // SIGXCPU says what happened; the SIGKILL of the hard limit would not.
        set("processor time", Resource::Cpu, self.cpu_s, CPU_GRACE_S)?;
        set("file size", Resource::Fsize, self.file_bytes, 0)?;
        set("open files", Resource::Nofile, self.files, 0)?;
        set("core dumps", Resource::Core, 0, 0)
    }
}

/// Sets a limit, `grace` below the one that cannot be lifted. What the service is limited to already stays:
/// only a privileged process could lift it.
pub(super) fn set(what: &'static str, resource: Resource, most: u64, grace: u64) -> Result<(), WorkerError> {
    let before = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit =
        Rlimit { current: Some(most.min(before)), maximum: Some(most.saturating_add(grace).min(before)) };
    setrlimit(resource, limit).map_err(|cause| WorkerError::Limit { what, source: cause.into() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_and_its_checkpoint_fit_what_is_left() {
        const MIB: u64 = 1 << 20;
        for (limit, package, session) in [(1_024, 0, 295), (1_024, 100, 172), (64, 0, 0), (10, 1_000, 0)] {
            let limits = Limits { memory_bytes: limit * MIB, ..Limits::TRAIN };
            let bytes = limits.session_bytes(usize::try_from(package * MIB).unwrap());
            assert_eq!(bytes / MIB, session, "{limit} {package}");
            assert!(bytes > 0, "nought would be no bound");
            let left = limits.memory_bytes.saturating_sub(TRAINER_BYTES + PACKAGE_COPIES * package * MIB);
            assert!(bytes + bytes * 9 / 4 <= left.max(4), "{limit} {package}");
        }
    }

    #[test]
    fn limits_grow_with_the_model_up_to_a_ceiling() {
        const MIB: u64 = 1 << 20;
        for (onnx, memory, cpu_s, wall_s) in [
            (0, 256, 8, 10),
            (16, 256, 8, 10),
            (20, 304, 10, 14),
            (48, 640, 24, 42),
            (128, 1_024, 60, 120),
            (1 << 40, 1_024, 60, 120),
        ] {
            let limits = Limits::ADMIT.for_model(onnx * MIB);
            assert_eq!(
                (limits.memory_bytes / MIB, limits.cpu_s, limits.wall_s),
                (memory, cpu_s, wall_s),
                "{onnx} MiB"
            );
        }
        let small = Limits { memory_bytes: 128 * MIB, ..Limits::ADMIT };
        assert_eq!(small.for_model(0).memory_bytes, 128 * MIB, "the configuration is the ceiling");
    }
}
