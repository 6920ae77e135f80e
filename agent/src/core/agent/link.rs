//! The conversation with the hub.

use super::super::effect::{Effect, Note, Record};
use super::{Agent, Turn};
use rand::RngCore as _;
use shoal_proto::fact::{COUNTS, Count};
use shoal_proto::message::{Beat, Exchange, Hello, lower_half};
use shoal_proto::sync::{RESEND_FIRST, RESEND_LAST};
use shoal_proto::time::Now;
use shoal_proto::topic::Up;
use shoal_proto::wire;

impl Agent {
    pub(super) fn on_link_up(&mut self, now: Now, turn: &mut Turn) {
        self.peer.on_disconnected();
        self.say_hello(now, 0, turn);
    }

    /// A hello may be lost, or come before the hub listens: it is said until the hub answers, ever slower.
    fn say_hello(&mut self, now: Now, tries: u32, turn: &mut Turn) {
        let hello = Hello {
            device: self.policy.device.clone(),
            incarnation: self.peer.log.replica.incarnation,
            boot: self.boot,
            last_seq: self.peer.log.last().0,
            cursor: self.peer.cursor(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            wire_max: wire::VERSION,
            wall: now.wall,
        };
        publish(Up::Hello, wire::FIRST_VERSION, &hello, turn);
        let span = RESEND_FIRST.saturating_mul(1 << tries.min(16)).min(RESEND_LAST);
        let jitter = f64::from(self.random.next_u32()) / f64::from(u32::MAX);
        self.hello = Some((now.mono.after(span / 2 + span.mul_f64(jitter) / 2), tries.saturating_add(1)));
    }

    pub(super) fn on_frame(&mut self, now: Now, frame: &[u8], turn: &mut Turn) {
        let message: Exchange = match wire::decode(frame) {
            Ok(message) => message,
            Err(cause) => {
                self.count(Count::BadMessages, 1);
                turn.effects
                    .push(Effect::Note(Note::Alarm { reason: format!("message of the hub: {cause}") }));
                return;
            }
        };
        let fresh = self.fresh_incarnation();
        let before = self.peer.log.replica.incarnation;
        let mut records = Vec::new();
        let outcome =
            self.peer.on_exchange(now.mono, now.wall, message, fresh, &mut self.document, &mut records);
        turn.records.extend(records.into_iter().map(Record::Link));
        if let Err(alarm) = outcome {
            turn.effects.push(Effect::Note(Note::Alarm { reason: alarm.to_string() }));
        }
        if self.peer.log.replica.incarnation != before {
            // Windows and counters are this replica's own.
            self.begin_life(turn);
            for name in self.models.keys().cloned().collect::<Vec<_>>() {
                self.move_window(now, &name, turn);
            }
            self.write_counts(now, turn);
        }
        if self.peer.is_quiet() {
            self.untold = self.next_window;
        }
        self.on_assignments(now, turn);
        self.on_condemnations(now, turn);
        self.on_remote_commands(now, turn);
    }

    /// Says what is due. The shell publishes it after the records of this turn are on disk.
    pub(super) fn speak(&mut self, now: Now, turn: &mut Turn) {
        match self.hello {
            Some(_) if self.peer.is_connected() => self.hello = None,
            Some((at, tries)) if at <= now.mono => self.say_hello(now, tries, turn),
            Some(_) | None => {}
        }
        if self.peer.next_deadline().is_none_or(|due| due > now.mono) {
            return;
        }
        let jitter = self.random.next_u32();
        for message in self.peer.poll(now.mono, now.wall, jitter, &self.document) {
            publish(Up::Sync, self.peer.wire(), &message, turn);
        }
    }

    /// A sign of life with the counters; a total of nought goes without saying.
    pub(super) fn say_beat(&self, now: Now, turn: &mut Turn) {
        let total = |count: &Count| self.counts.get(count).copied().unwrap_or(0);
        let beat = Beat {
            life: lower_half(self.peer.log.replica.incarnation),
            boot: self.boot,
            uptime_s: now.mono.0.as_secs(),
            counts: (0..)
                .zip(&COUNTS)
                .map(|(number, (count, _))| (number, total(count)))
                .filter(|(_, total)| *total > 0)
                .collect(),
        };
        publish(Up::Beat, self.peer.wire(), &beat, turn);
    }
}

fn publish<T: serde::Serialize>(topic: Up, reads: u8, message: &T, turn: &mut Turn) {
    match wire::encode_for(reads, message) {
        Ok(frame) => turn.effects.push(Effect::Publish { topic, frame }),
        Err(cause) => {
            turn.effects.push(Effect::Note(Note::Alarm { reason: format!("own message: {cause}") }));
        }
    }
}
