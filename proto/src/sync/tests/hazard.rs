//! Chance, clocks, and what can go wrong.

use crate::document::{Document, Entry};
use crate::time::WallMs;
use std::collections::BTreeMap;

/// 2026-11-20, in milliseconds.
const TODAY_MS: u64 = 1_795_132_800_000;
/// 2099-01-01, in milliseconds.
const FUTURE_MS: u64 = 4_070_908_800_000;
/// splitmix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(1))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What a machine's wall clock shows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wall {
    True,
    SinceBoot(u64),
    Future,
}

impl Wall {
    pub(super) const fn read(self, now_ms: u64) -> WallMs {
        match self {
            Self::True => WallMs(TODAY_MS + now_ms),
            Self::SinceBoot(boot) => WallMs(now_ms.saturating_sub(boot)),
            Self::Future => WallMs(FUTURE_MS + now_ms),
        }
    }
}

/// What goes wrong in one history, in percent a step.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) loss: u64,
    pub(super) duplicate: u64,
    pub(super) slow: u64,
    pub(super) link: u64,
    pub(super) crash: u64,
    pub(super) restore: u64,
    pub(super) lost: u64,
    pub(super) swap: u64,
    pub(super) clock: u64,
}

impl Faults {
    /// Half of the faults are left out of a history, so that each is also seen alone.
    pub(super) fn drawn(random: &mut Random) -> Self {
        let mut up_to = |most: u64| if random.percent(50) { 0 } else { random.below(most + 1) };
        Self {
            loss: up_to(40),
            duplicate: up_to(30),
            slow: up_to(30),
            link: up_to(15),
            crash: up_to(10),
            restore: up_to(4),
            lost: up_to(3),
            swap: up_to(6),
            clock: up_to(10),
        }
    }
}

/// The first key in which two documents differ, for people.
pub(super) fn difference(a: &Document, b: &Document) -> String {
    let rows = |document: &Document| -> BTreeMap<_, _> {
        document.entries().map(|entry| ((entry.kind, entry.key.clone()), entry)).collect()
    };
    let (a, b) = (rows(a), rows(b));
    a.keys().chain(b.keys()).find(|slot| a.get(*slot) != b.get(*slot)).map_or_else(String::new, |slot| {
        let show = |side: &BTreeMap<_, Entry>| {
            side.get(slot).map(|entry| (entry.marker, entry.floor, entry.totals.clone(), short(&entry.value)))
        };
        format!("{slot:?}: {:?} against {:?}", show(&a), show(&b))
    })
}

fn short(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(24)]).into_owned()
}
