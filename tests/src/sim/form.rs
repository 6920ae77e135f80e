//! What one seed draws: the fleet, its pace, and what goes wrong.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// How large histories are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A few devices and some minutes: for the test suite.
    Small,
    /// 20 to 50 devices over days.
    Large,
}

/// One history's fleet and faults. Half of the faults are left out of a history, so that each is also seen alone.
#[derive(Debug, Clone)]
pub(super) struct Form {
    /// Devices.
    pub(super) devices: usize,
    /// From one batch of rows to the next on a device: the unit of everything else.
    pub(super) beat_ms: u64,
    /// Beats of trouble; then the world heals.
    pub(super) beats: u64,
    /// Share of messages that vanish.
    pub(super) loss: f64,
    /// Share that comes twice.
    pub(super) double: f64,
    /// Share that is held back for a long time.
    pub(super) slow: f64,
    /// The longest such time.
    pub(super) slow_ms: u64,
    /// Share that is garbled, and share of forged messages beside real ones.
    pub(super) garbled: f64,
    /// Chance of a crash between two effects.
    pub(super) torn: f64,
    /// From one fault to the next, at most.
    pub(super) fault_ms: u64,
    /// Weights of the faults of [`super::fault`], in its order.
    pub(super) weights: [u32; 14],
    /// Share of runs that end badly in some way.
    pub(super) bad_runs: f64,
    /// Chance of an operator's word a beat and device.
    pub(super) meddling: f64,
    /// Chance that words come in storms.
    pub(super) storms: f64,
    /// Chance that a hub that starts is of another build than before.
    pub(super) replaced: f64,
}

impl Form {
    pub(super) fn drawn(random: &mut ChaCha8Rng, size: Size, devices: Option<usize>) -> Self {
        let (few, beat_ms, beats) = match size {
            Size::Small => (random.random_range(2..5), 1_000, random.random_range(120..300)),
            Size::Large => {
                let beat_ms = random.random_range(180_000..600_000);
                let days = random.random_range(1..=3_u64);
                (random.random_range(20..=50), beat_ms, days * 86_400_000 / beat_ms)
            }
        };
        let mut up_to = |most: f64| {
            if random.random_bool(0.5) { 0.0 } else { random.random_range(0.0..most) }
        };
        let (loss, double, slow) = (up_to(0.4), up_to(0.3), up_to(0.2));
        let (garbled, torn, bad_runs) = (up_to(0.1), up_to(0.01), up_to(0.8));
        let (meddling, storms, replaced) = (up_to(0.04), up_to(0.5), up_to(0.3));
        let mut weights = [0; 14];
        for weight in &mut weights {
            *weight = if random.random_bool(0.5) { 0 } else { random.random_range(1..10) };
        }
        // Links and crashes are in every history.
        (weights[0], weights[1]) = (weights[0].max(4), weights[1].max(4));
        let slow_ms = random.random_range(10..beats / 3) * beat_ms;
        let fault_ms = match size {
            Size::Small => random.random_range(4_000..15_000),
            Size::Large => random.random_range(300_000..1_800_000),
        };
        Self {
            devices: devices.unwrap_or(few),
            beat_ms,
            beats,
            loss,
            double,
            slow,
            slow_ms,
            garbled,
            torn,
            fault_ms,
            weights,
            bad_runs,
            meddling,
            storms,
            replaced,
        }
    }

    /// So many beats.
    pub(super) const fn beats(&self, beats: u64) -> Duration {
        Duration::from_millis(self.beat_ms * beats)
    }

    /// So many beats in whole seconds.
    pub(super) const fn seconds(&self, beats: u64) -> u64 {
        self.beat_ms * beats / 1_000
    }
}

/// What a machine's wall clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wall {
    True,
    /// It stands in 1970 since this moment.
    SinceBoot(u64),
    /// It stands in 2099.
    Future,
    /// It is off by so many milliseconds, and the sum does not fall below 1970.
    Off(i64),
}

/// 2027-01-15, in milliseconds.
const TODAY_MS: u64 = 1_800_000_000_000;
/// 2099-01-01, in milliseconds.
const FUTURE_MS: u64 = 4_070_908_800_000;

impl Wall {
    pub(super) fn read(self, now_ms: u64) -> u64 {
        match self {
            Self::True => TODAY_MS + now_ms,
            Self::SinceBoot(since) => now_ms.saturating_sub(since),
            Self::Future => FUTURE_MS + now_ms,
            Self::Off(by) => (TODAY_MS + now_ms).saturating_add_signed(by),
        }
    }

    pub(super) fn drawn(random: &mut ChaCha8Rng, now_ms: u64) -> Self {
        match random.random_range(0..4) {
            0 => Self::True,
            1 => Self::SinceBoot(now_ms),
            2 => Self::Future,
            _ => Self::Off(random.random_range(-86_400_000..86_400_000)),
        }
    }
}
