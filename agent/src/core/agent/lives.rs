//! Lives of the database: windows are numbered through all of them, and each belongs to the life that opened it.

use super::{Agent, Turn};
use serde::{Deserialize, Serialize};
use shoal_proto::fact::Fact;
use shoal_proto::id::{Incarnation, ModelName};
use shoal_proto::time::Now;

/// Lives that are remembered: labels come late for windows of the last days, not of the last years.
const MAX_LIVES: usize = 16;
/// Where they are kept.
pub(super) const LIVES: &str = "lives";

/// The number of the first window of each life, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Lives(Vec<(u64, Incarnation)>);

impl Lives {
    /// Whose window this is.
    pub(super) fn of(&self, window: u64, present: Incarnation) -> Incarnation {
        let before = self.0.iter().rev().find(|(first, _)| *first <= window);
        before.or_else(|| self.0.first()).map_or(present, |(_, incarnation)| *incarnation)
    }
}

impl Agent {
    /// Takes note of a life that begins: its windows follow those of the one before.
    pub(super) fn begin_life(&mut self, turn: &mut Turn) {
        let present = self.peer.log.replica.incarnation;
        if self.lives.0.last().is_none_or(|(_, incarnation)| *incarnation != present) {
            self.lives.0.push((self.next_window, present));
            self.lives.0.drain(..self.lives.0.len().saturating_sub(MAX_LIVES));
            turn.remember(LIVES, &self.lives);
        }
    }

    /// A window that an earlier life opened is sealed as one of this life: the earlier one may have sealed it
    /// with other rows, and two windows under one key would lose one.
    pub(super) fn move_window(&mut self, now: Now, name: &ModelName, turn: &mut Turn) {
        let present = self.peer.log.replica.incarnation;
        if self.models.get(name).is_none_or(|model| model.watch.window().incarnation == present) {
            return;
        }
        let (sealed, next) = (self.next_window_id(turn), self.next_window_id(turn));
        let Some(model) = self.models.get_mut(name) else { return };
        let has_rows = model.watch.rows() > 0;
        let mut summary = model.watch.close(now, next).summary;
        model.window_opened = now.mono;
        if has_rows {
            self.count(shoal_proto::fact::Count::Windows, 1);
            summary.id = sealed;
            self.fact(now, Fact::Window(summary), turn);
        }
        self.remember_model(name, turn);
    }
}
