//! Labels that come late: each counts for the window of its prediction, not for the one in which it came.
//!
//! Counted by arrival, a model whose errors are labelled sooner than its right answers looks worse than it is,
//! and a change looks as old as the slowest label.

use super::performance::{Label, Performance};
use super::reference::AnswerReference;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Windows that are kept unless it is said otherwise: a week of hours.
pub const WINDOWS: u32 = 168;

/// What became of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attributed {
    /// Counted for the window of its prediction.
    Counted,
    /// Its prediction's window is no longer kept.
    TooLate,
    /// Of a window that was never opened, of no class, or of no number.
    Unusable,
}

/// Labels of the last windows of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateLabels {
    /// How many windows are kept.
    #[serde(rename = "w")]
    windows: u32,
    /// By number; a window without labels costs a few bytes.
    #[serde(rename = "s")]
    slots: BTreeMap<u64, Slot>,
    #[serde(rename = "l")]
    too_late: u64,
    #[serde(rename = "u")]
    unusable: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Slot {
    #[serde(rename = "n")]
    predicted: u64,
    #[serde(rename = "p")]
    labels: Option<Box<Performance>>,
    /// Labels came since it was last asked for.
    #[serde(rename = "c")]
    changed: bool,
}

impl LateLabels {
    /// Keeps the last `windows` windows, at least one.
    #[must_use]
    pub fn new(windows: u32) -> Self {
        Self { windows: windows.max(1), slots: BTreeMap::new(), too_late: 0, unusable: 0 }
    }

    /// Whether what it holds is on this reference.
    #[must_use]
    pub fn fits(&self, reference: &AnswerReference) -> bool {
        self.slots.values().filter_map(|slot| slot.labels.as_ref()).all(|labels| labels.fits(reference))
    }

    /// Opens a window, numbered higher than all before it, and lets go of the oldest. Opening one again, or an
    /// older one that was not kept, changes nothing.
    pub fn open(&mut self, window: u64) {
        if self.newest().is_none_or(|newest| window > newest) {
            self.slots.insert(window, Slot::default());
        }
        while self.slots.len() > usize::try_from(self.windows).unwrap_or(usize::MAX) {
            self.slots.pop_first();
        }
    }

    /// Takes in that so many more rows were predicted in a window that is kept.
    pub fn predicted(&mut self, window: u64, rows: u64) {
        if let Some(slot) = self.slots.get_mut(&window) {
            slot.predicted = slot.predicted.saturating_add(rows);
        }
    }

    /// Counts a label for the window in which its row was predicted.
    pub fn label(&mut self, reference: &AnswerReference, window: u64, label: &Label<'_>) -> Attributed {
        let (oldest, newest) = (self.slots.keys().next().copied(), self.newest());
        let Some(slot) = self.slots.get_mut(&window) else {
            let is_old = oldest.is_some_and(|oldest| window < oldest) && newest.is_some();
            self.too_late += u64::from(is_old);
            self.unusable += u64::from(!is_old);
            return if is_old { Attributed::TooLate } else { Attributed::Unusable };
        };
        let labels = slot.labels.get_or_insert_with(|| Box::new(Performance::new(reference)));
        slot.changed = true;
        if labels.label(reference, label) {
            return Attributed::Counted;
        }
        self.unusable += 1;
        Attributed::Unusable
    }

    fn newest(&self) -> Option<u64> {
        self.slots.keys().next_back().copied()
    }

    /// The labels of one window as they stand, with the rows that were predicted in it; `None` of one that is
    /// not kept.
    #[must_use]
    pub fn window(&self, reference: &AnswerReference, window: u64) -> Option<Performance> {
        self.slots.get(&window).map(|slot| slot.performance(reference))
    }

    /// All windows that are kept, together: what is known of the recent past.
    #[must_use]
    pub fn recent(&self, reference: &AnswerReference) -> Performance {
        let mut all = Performance::new(reference);
        for slot in self.slots.values() {
            all.absorb(&slot.performance(reference));
        }
        all
    }

    /// The windows that had labels since this was last asked, oldest first: what is to be reported again.
    pub fn take_changed(&mut self) -> Vec<u64> {
        let changed = self.slots.iter_mut();
        changed.filter_map(|(window, slot)| std::mem::take(&mut slot.changed).then_some(*window)).collect()
    }

    /// Labels that came after their window was let go.
    #[must_use]
    pub fn too_late(&self) -> u64 {
        self.too_late
    }

    /// Labels that could not be counted for another reason.
    #[must_use]
    pub fn unusable(&self) -> u64 {
        self.unusable
    }
}

impl Slot {
    fn performance(&self, reference: &AnswerReference) -> Performance {
        let mut labels = self.labels.as_deref().cloned().unwrap_or_else(|| Performance::new(reference));
        labels.predicted(self.predicted);
        labels
    }
}
