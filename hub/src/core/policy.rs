//! What the operator of the hub decides, as the core needs it.

use std::time::Duration;

/// Most devices of one hub: twice what it is measured with.
pub const MAX_DEVICES: usize = 200_000;
/// Most rollouts remembered: years of daily ones.
pub const MAX_ROLLOUTS: usize = 10_000;
/// Most versions in the registry.
pub const MAX_VERSIONS: usize = 10_000;
/// Most tags that the hub gives to a device, and the longest key or value in bytes.
pub const MAX_TAGS: usize = 64;
/// See [`MAX_TAGS`].
pub const MAX_TAG_BYTES: usize = 80;

/// What a device may say at once: the largest document, every part of it in a full frame.
pub const DEVICE_BURST_BYTES: u64 = 64 << 20;
/// What a message counts beside its bytes: small ones are work too.
pub const MESSAGE_BYTES: u64 = 1_024;

/// The settings that decisions depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Silence after which a device is unreachable: three missed five-minute health reports.
    pub unreachable_after: Duration,
    /// Newest windows of each device that the drift view adds up: a day of hours.
    pub drift_windows: usize,
    /// What a device may say in the long run, in bytes a second and [`MESSAGE_BYTES`] for each message. What is more
    /// is not heard; the device says it again, ever slower.
    pub device_bytes_per_s: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            unreachable_after: Duration::from_secs(900),
            drift_windows: 24,
            device_bytes_per_s: 256 * 1_024,
        }
    }
}
