//! The conversation with the hub.

use super::super::effect::{Effect, Note, Record};
use super::{Agent, Turn};
use shoal_proto::fact::Count;
use shoal_proto::message::{Exchange, Hello};
use shoal_proto::time::Now;
use shoal_proto::topic::Up;
use shoal_proto::wire;

impl Agent {
    pub(super) fn on_link_up(&mut self, now: Now, turn: &mut Turn) {
        self.peer.on_disconnected();
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
        publish(Up::Hello, &hello, turn);
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
            // Windows are numbered per incarnation, and counters are this replica's own.
            self.next_window = 0;
            self.write_counts(now, turn);
        }
        self.on_assignments(now, turn);
        self.on_condemnations(now, turn);
    }

    /// Says what is due. The shell publishes it after the records of this turn are on disk.
    pub(super) fn speak(&mut self, now: Now, turn: &mut Turn) {
        if self.peer.next_deadline().is_none_or(|due| due > now.mono) {
            return;
        }
        use rand::RngCore as _;
        let jitter = self.random.next_u32();
        for message in self.peer.poll(now.mono, now.wall, jitter, &self.document) {
            publish(Up::Sync, &message, turn);
        }
    }
}

fn publish<T: serde::Serialize>(topic: Up, message: &T, turn: &mut Turn) {
    match wire::encode(message) {
        Ok(frame) => turn.effects.push(Effect::Publish { topic, frame }),
        Err(cause) => {
            turn.effects.push(Effect::Note(Note::Alarm { reason: format!("own message: {cause}") }));
        }
    }
}
