//! What applications and operators do to a device: rows, labels, commands, alone and in storms.

use super::act::model;
use super::models::{Kind, changed};
use super::mutant::Mutant;
use super::world::{Happening, World};
use rand::Rng as _;
use shoal_agent::core::{Asked, Command, Event, Labelled, Observation, Truth};
use shoal_proto::id::Digest;
use shoal_proto::time::Mono;
use shoal_watch::answer::GroupCodes;

/// Rows of a beat.
const ROWS: u64 = 10;
/// Labels of a beat, and of one in a storm.
const LABELS: usize = 4;
const STORM: usize = 10;

impl World {
    /// Ten rows and some labels; after a while the world drifts.
    pub(super) fn rows(&mut self, at: usize) -> Result<(), String> {
        let beat = self.form.beat_ms;
        self.later(beat, Happening::Rows(at));
        if self.quiet {
            return Ok(());
        }
        self.operate(at)?;
        let Some(version) = self.boards[at].serving.filter(|_| self.boards[at].agent.is_some()) else {
            return Ok(());
        };
        let kind = self.versions[&version].kind;
        // Now and then a champion that did well begins to fail.
        let fails = kind == Kind::Failing || (!self.healed && self.random.random_bool(0.000_5));
        if fails {
            let failed = Event::Failed { model: model(), version, requests: ROWS };
            return self.device_event(at, failed);
        }
        if kind == Kind::Stalling {
            self.boards[at].serving = None;
            return self.device_event(at, Event::Stalled { model: model(), version });
        }
        let drifted = self.now > 40 * beat;
        let rows: Vec<Observation> = (0..ROWS).map(|_| self.row(at, version, drifted)).collect();
        self.boards[at].given.0 += ROWS;
        self.device_event(at, Event::Predicted(rows.clone()))?;
        let storm = self.storm();
        let quality = self.versions[&version].quality_when(drifted);
        let burst = if storm { STORM } else { LABELS };
        for row in rows.into_iter().take(burst) {
            let right = self.random.random_bool(quality);
            self.label(at, row, right)?;
        }
        Ok(())
    }

    fn row(&mut self, at: usize, version: Digest, drifted: bool) -> Observation {
        let value: f64 = self.random.random_range(0.0..100.0);
        #[expect(clippy::cast_possible_truncation, reason = "features are f32")]
        let value = if drifted { changed(value) } else { value } as f32;
        let class = Some(u32::from(self.random.random_bool(0.5)));
        self.asked += 1;
        Observation {
            place: None,
            model: model(),
            version,
            asked: Asked { life: 1, number: self.asked },
            at: Mono::from_millis(self.now - self.boards[at].started),
            features: vec![value].into(),
            class,
            confidence: 0.95,
            values: [0.05, 0.95].into(),
            embedding: [].into(),
            groups: GroupCodes::default(),
        }
    }

    fn label(&mut self, at: usize, row: Observation, right: bool) -> Result<(), String> {
        let said = row.class.unwrap_or_default();
        let truth = Truth::Class(if right { said } else { 1 - said });
        let Observation { model, version, asked, features, class, confidence, values, groups, .. } = row;
        let label = Labelled { model, version, asked, features, class, confidence, values, truth, groups };
        self.boards[at].given.1 += 1;
        self.device_event(at, Event::Labelled(label))
    }

    fn storm(&mut self) -> bool {
        !self.healed && self.chance(self.form.storms * 0.1)
    }

    /// An operator's words, one or many at once.
    fn operate(&mut self, at: usize) -> Result<(), String> {
        if self.healed || !self.chance(self.form.meddling) {
            return Ok(());
        }
        let words = if self.storm() { self.random.random_range(2..8) } else { 1 };
        for _ in 0..words {
            self.one_word(at)?;
        }
        Ok(())
    }

    fn one_word(&mut self, at: usize) -> Result<(), String> {
        let count = self.boards[at].disk.versions.len();
        let any = self.random.random_range(0..count.max(1));
        let any = self.boards[at].disk.versions.keys().nth(any).copied();
        let choice =
            if self.mutant == Mutant::CondemnedComesBack { 6 } else { self.random.random_range(0..10) };
        let command = match (choice, any) {
            (0..=3, _) => Command::Train { model: model() },
            (4, _) => Command::CancelTraining { model: model() },
            (5, _) => Command::Rollback { model: model() },
            (6, Some(version)) => Command::Promote { model: model(), version },
            (7, Some(version)) => Command::Pin { version, pinned: self.random.random_bool(0.7) },
            (8, _) => return self.install(at),
            _ => return self.device_event(at, Event::BadMessage),
        };
        self.command(at, command)
    }

    pub(super) fn command(&mut self, at: usize, command: Command) -> Result<(), String> {
        let board = &mut self.boards[at];
        if board.agent.is_none() {
            return Ok(());
        }
        if let Command::Promote { version, .. } = &command {
            board.seen.promoted.insert(*version);
        }
        board.commands += 1;
        let (number, name) = (board.commands, board.name());
        self.note(&format!("{name} is told {command:?}"));
        self.device_event(at, Event::Command { number, command })
    }

    /// An operator brings a package, which may be one that is here already.
    fn install(&mut self, at: usize) -> Result<(), String> {
        let version = self.pushed[self.random.random_range(0..self.pushed.len())];
        let info = self.versions[&version].info.clone();
        let board = &mut self.boards[at];
        if board.agent.is_none() {
            return Ok(());
        }
        board.disk.versions.insert(version, info.clone());
        board.seen.promoted.insert(version);
        board.commands += 1;
        let (command, name) = (board.commands, board.name());
        self.note(&format!("{name} is given {}", info.record.name));
        self.device_event(at, Event::Installed { command, outcome: Ok(info) })
    }
}
