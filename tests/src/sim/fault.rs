//! What goes wrong, and when.

use super::disk::DeviceDisk;
use super::form::Wall;
use super::invariant::Seen;
use super::world::{Happening, World};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use shoal_agent::core::Power;
use shoal_proto::id::DeviceId;
use shoal_proto::time::WallMs;

impl World {
    /// One fault, drawn by the weights of this history.
    pub(super) fn fault(&mut self) -> Result<(), String> {
        if self.healed {
            return Ok(());
        }
        let next = self.random.random_range(self.form.fault_ms / 10..self.form.fault_ms);
        self.later(next, Happening::Fault);
        let at = self.random.random_range(0..self.boards.len());
        if self.random.random_bool(0.1) {
            self.boards[at].backup = Some(self.boards[at].disk.clone());
        }
        if self.random.random_bool(0.1) {
            self.hub.backup = Some(self.hub.disk.clone());
        }
        if self.random.random_bool(0.1) {
            self.replay();
        }
        let all: u32 = self.form.weights.iter().sum();
        let mut drawn = self.random.random_range(0..all.max(1));
        let fault = self.form.weights.iter().position(|weight| {
            let here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            here
        });
        match fault.unwrap_or_default() {
            0 => self.drop_link(at)?,
            1 if self.boards[at].agent.is_some() => self.crash(at),
            2 => self.hub_crash()?,
            3 if self.boards[at].agent.is_some() => self.restart_cleanly(at)?,
            4 => self.fill_disk(at),
            5 => self.step_clock(at),
            6 => self.weather(at),
            7 => self.cut(at),
            8 => self.broker_restarts()?,
            9 if self.is_rare() => self.flash(at),
            10 if self.is_rare() => self.clone_card(at),
            11 if self.is_rare() => self.restore(at),
            12 if self.is_rare() => self.restore_hub()?,
            13 => self.hub_trouble()?,
            _ => {}
        }
        Ok(())
    }

    /// Disasters are rare, or nothing else would be seen.
    fn is_rare(&mut self) -> bool {
        self.random.random_bool(0.3)
    }

    /// A clean restart, at times after a later build wrote to the database.
    fn restart_cleanly(&mut self, at: usize) -> Result<(), String> {
        self.stop(at)?;
        if self.random.random_bool(0.3) {
            self.counts.forged += 1;
            let wall = WallMs(self.boards[at].clock.read(self.now));
            let number = self.random.random();
            let id = self.boards[at].id.clone();
            for (replica, op) in self.boards[at].disk.skew(wall, number) {
                self.account.expect(&id, replica, &op);
            }
        }
        Ok(())
    }

    fn fill_disk(&mut self, at: usize) {
        self.counts.full += 1;
        let name = self.boards[at].name();
        self.note(&format!("{name}: the disk is full"));
        self.boards[at].full_until = self.now + self.random.random_range(1_000..self.form.beat_ms * 30);
    }

    fn step_clock(&mut self, at: usize) {
        let clock = Wall::drawn(&mut self.random, self.now);
        let name = self.boards[at].name();
        self.note(&format!("{name}: the clock is set, {clock:?}"));
        self.boards[at].clock = clock;
    }

    /// The device gets too hot, or its battery is empty, or neither any more.
    fn weather(&mut self, at: usize) {
        let hot = self.random.random_bool(0.4);
        let empty = self.random.random_bool(0.3);
        let conditions = &mut self.boards[at].conditions;
        conditions.temperature_mc = Some(if hot { 90_000 } else { 40_000 });
        conditions.power = Some(if empty { Power::Battery { percent: 5 } } else { Power::Mains });
    }

    /// Messages of one direction vanish, and nobody notices.
    fn cut(&mut self, at: usize) {
        let until = self.now + self.random.random_range(1_000..self.form.beat_ms * 40);
        let up = self.random.random_bool(0.5);
        let name = self.boards[at].name();
        self.note(&format!("{name}: one way is cut, {}", if up { "up" } else { "down" }));
        let cut = &mut self.boards[at].cut;
        *(if up { &mut cut.0 } else { &mut cut.1 }) = until;
    }

    /// The broker is gone for a while, and may forget everything.
    fn broker_restarts(&mut self) -> Result<(), String> {
        if !std::mem::replace(&mut self.broker_up, false) {
            return Ok(());
        }
        self.note("broker is gone");
        let forgets = self.random.random_bool(0.5);
        if forgets {
            self.retained.clear();
        }
        let mut left = std::mem::take(&mut self.queue);
        left.retain(|_, what| !matches!(what, Happening::ToHub { .. } | Happening::ToDevice(..)));
        self.queue = left;
        self.hub_drop_link()?;
        for at in 0..self.boards.len() {
            self.drop_link(at)?;
        }
        let off = self.random.random_range(500..self.form.beat_ms * 10);
        self.later(off, Happening::BrokerUp);
        Ok(())
    }

    pub(super) fn broker_up(&mut self) -> Result<(), String> {
        self.broker_up = true;
        self.note("broker is back");
        let lives: Vec<u64> = self.boards.iter().map(|board| board.life).collect();
        for (at, life) in lives.into_iter().enumerate() {
            let wait = self.random.random_range(10..5_000);
            self.later(wait, Happening::Link(at, life));
        }
        self.later(200, Happening::HubLink);
        Ok(())
    }

    /// A new card in the same device: the same name, a new database, no versions but the configured one.
    fn flash(&mut self, at: usize) {
        let name = self.boards[at].name();
        self.note(&format!("{name} is flashed anew"));
        self.replace(at, |_, _| DeviceDisk::default());
        let board = &mut self.boards[at];
        board.seen = Seen::after_flash(&board.seen);
        board.backup = None;
    }

    /// A copy of the card in a second board: both are on, and take turns at the broker.
    fn clone_card(&mut self, at: usize) {
        let id = self.boards[at].id.clone();
        if self.boards.iter().any(|board| board.is_clone) {
            return;
        }
        let clone = self.boards[at].cloned(&mut self.random);
        let name = clone.name();
        self.note(&format!("{name} begins as a clone"));
        self.disaster(&id);
        self.boards.push(clone);
        let clone = self.boards.len() - 1;
        let disasters = self.boards[at].disasters;
        self.boards[clone].disasters = disasters;
        self.boards[clone].seen.cloned = true;
        self.boards[at].seen.cloned = true;
        self.later(100, Happening::Start(clone, 0));
        let beat = self.form.beat_ms;
        self.later(beat, Happening::Rows(clone));
    }

    /// A damaged database: a snapshot of an earlier day takes its place.
    fn restore(&mut self, at: usize) {
        let Some(backup) = self.boards[at].backup.clone() else { return };
        let name = self.boards[at].name();
        self.note(&format!("{name} is restored from a snapshot"));
        self.replace(at, |disk, _| {
            let mut disk = disk.clone();
            disk.restored(&backup);
            disk
        });
        let board = &mut self.boards[at];
        board.seen.after_restore();
    }

    fn replace(&mut self, at: usize, disk: impl FnOnce(&DeviceDisk, &mut ChaCha8Rng) -> DeviceDisk) {
        let id = self.boards[at].id.clone();
        if self.boards[at].agent.is_some() {
            self.crash(at);
        }
        let disk = disk(&self.boards[at].disk, &mut self.random);
        self.boards[at].disk = disk;
        self.disaster(&id);
    }

    /// What stands on no disk any more cannot be asked for.
    pub(super) fn disaster(&mut self, id: &DeviceId) {
        self.counts.disasters += 1;
        for board in self.boards.iter_mut().filter(|board| board.id == *id) {
            board.disasters += 1;
        }
        self.forget_what_is_nowhere(id);
    }

    pub(super) fn forget_what_is_nowhere(&mut self, id: &DeviceId) {
        let mut survives = self.hub.disk.document(id);
        for board in self.boards.iter().filter(|board| board.id == *id) {
            survives.merge(&board.disk.link.document());
        }
        self.account.expected.insert(id.clone(), survives);
    }

    /// The hub's database is one of an earlier day.
    fn restore_hub(&mut self) -> Result<(), String> {
        let Some(backup) = self.hub.backup.clone() else { return Ok(()) };
        self.hub_crash()?;
        self.note("hub is restored from a backup");
        self.hub.disk = backup;
        self.hub.disasters += 1;
        let ids: Vec<DeviceId> = self.boards.iter().map(|board| board.id.clone()).collect();
        ids.iter().for_each(|id| self.disaster(id));
        self.account.after_hub_restore();
        Ok(())
    }

    /// The hub's link, disk or clock; or a later build wrote to its database.
    fn hub_trouble(&mut self) -> Result<(), String> {
        match self.random.random_range(0..4) {
            0 => self.hub_drop_link(),
            1 => {
                self.counts.full += 1;
                self.hub.full_until = self.now + self.random.random_range(1_000..self.form.beat_ms * 10);
                Ok(())
            }
            2 => {
                self.hub.clock = Wall::Off(self.random.random_range(-86_400_000..86_400_000));
                Ok(())
            }
            _ => {
                self.hub_crash()?;
                self.counts.forged += 1;
                let wall = WallMs(self.hub.clock.read(self.now));
                for id in self.boards.iter().map(|board| board.id.clone()).collect::<Vec<_>>() {
                    let number = self.random.random();
                    for (replica, op) in self.hub.disk.skew(&id, wall, number) {
                        self.account.expect(&id, replica, &op);
                    }
                }
                Ok(())
            }
        }
    }
}
