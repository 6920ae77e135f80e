//! What must hold of the hub and of what it writes.

use crate::sim::world::World;
use shoal_hub::core::Record;
use shoal_hub::core::rollout::{DeviceState, Rollout};
use shoal_proto::fact::{ASSIGNMENT, Assignment};
use shoal_proto::id::{DeviceId, Digest, Replica, Side};
use shoal_proto::op::{Op, split_stamped};
use shoal_proto::sync::Record as Link;
use shoal_proto::wire::from_cbor;

impl World {
    /// A transaction of the hub is on disk.
    pub(in crate::sim) fn on_hub_commit(&mut self, records: &[Record], before: u64) -> Result<(), String> {
        for record in records {
            match record {
                Record::Link(id, Link::Append(op)) => self.on_hub_append(id, op)?,
                Record::Link(id, Link::Cursor(cursor)) if !cursor.is_lost() => {
                    self.invariant_cursor_is_on_the_devices_disk(id, cursor.incarnation, cursor.seq)?;
                }
                Record::Generation(generation) if *generation < before => {
                    return Err(format!(
                        "generation_never_falls: the hub's went from {before} to {generation}"
                    ));
                }
                Record::Rollout(rollout) => self.on_rollout(rollout)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn on_hub_append(&mut self, id: &DeviceId, op: &Op) -> Result<(), String> {
        let link = self.hub.disk.links.get(id);
        let Some(incarnation) = link.and_then(|link| link.incarnation) else { return Ok(()) };
        self.account.expect(id, Replica { side: Side::Hub, incarnation }, op);
        if op.kind != ASSIGNMENT {
            return Ok(());
        }
        let (generation, value) = split_stamped(&op.value);
        let Ok(wish) = from_cbor::<Assignment>(value) else { return Ok(()) };
        let given = self.account.assigned.entry((id.clone(), generation)).or_insert(wish.version);
        if *given != wish.version {
            return Err(format!(
                "generation_is_given_once: {id} is assigned another version under {generation}"
            ));
        }
        Ok(())
    }

    /// The hub acknowledges what a device wrote, and not what it never did.
    fn invariant_cursor_is_on_the_devices_disk(
        &self,
        id: &DeviceId,
        incarnation: shoal_proto::id::Incarnation,
        seq: u64,
    ) -> Result<(), String> {
        let Some(board) = self.boards.iter().find(|board| board.id == *id) else { return Ok(()) };
        let ours = board.disk.link.incarnation == Some(incarnation) && board.disasters == 0;
        if ours && board.disk.link.last() < seq {
            let last = board.disk.link.last();
            return Err(format!(
                "nothing_said_is_unwritten: the hub holds {id} to {seq}, its disk ends at {last}"
            ));
        }
        Ok(())
    }

    fn on_rollout(&mut self, rollout: &Rollout) -> Result<(), String> {
        for (id, member) in &rollout.members {
            let Some(verdict) = &member.verdict else { continue };
            let said = format!("{:?}", verdict.state);
            let key = (rollout.id.clone(), id.clone());
            let first = self.account.verdicts.entry(key).or_insert_with(|| said.clone());
            // Two boards of one name, and one that begins anew, say what each of them saw.
            let twice = self.boards.iter().any(|board| board.id == *id && board.disasters > 0);
            if *first != said && !twice {
                return Err(format!("verdicts_once: {id} in {}: first {first}, then {said}", rollout.id));
            }
            if verdict.state == DeviceState::Succeeded && !self.had(id, rollout.version) {
                let name = &rollout.name;
                return Err(format!("success_is_true: {id} never confirmed {name} of {}", rollout.id));
            }
        }
        Ok(())
    }

    /// Whether a version, or one made from it, ever was champion on a device.
    fn had(&self, id: &DeviceId, version: Digest) -> bool {
        let boards = self.boards.iter().filter(|board| board.id == *id);
        let mut champions = boards.flat_map(|board| &board.seen.champions);
        champions.any(|champion| {
            let mut at = Some(*champion);
            while let Some(here) = at {
                if here == version {
                    return true;
                }
                let manifest = self.versions.get(&here).map(|it| &it.info.manifest);
                at = manifest.and_then(|it| it.lineage.as_ref()).map(|lineage| lineage.parent);
            }
            false
        })
    }
}
