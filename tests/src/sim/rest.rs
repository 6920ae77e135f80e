//! Liveness: a healed world comes to rest, and everything that was written is told.

use super::invariant::BAD;
use super::world::World;
use shoal_agent::core::Agent;
use shoal_proto::fact::Facts;

impl World {
    pub(super) fn is_at_rest(&self) -> bool {
        let told = self.boards.iter().all(|board| {
            board.agent.as_ref().is_some_and(|agent| agent.status(self.now()).outbox == 0)
                && board.agent.as_ref().map(Agent::document_bytes)
                    == Some(self.hub_disk.document(&board.id).to_bytes())
        });
        told && self.are_rollouts_over()
    }

    pub(super) fn are_rollouts_over(&self) -> bool {
        self.hub_disk.rollouts().all(|rollout| !rollout.is_running())
    }

    /// Liveness: both replicas of every document are equal, every rollout has ended, and no device is left
    /// on a bad version of the hub's.
    pub(super) fn invariant_all_is_told(&self) -> Result<(), String> {
        for board in &self.boards {
            let Some(agent) = &board.agent else { return Err(format!("{} is down", board.id)) };
            let hub = self.hub_disk.document(&board.id);
            if agent.document_bytes() != hub.to_bytes() {
                let mine: std::collections::BTreeSet<_> =
                    agent.document().entries().map(|entry| format!("{entry:?}")).collect();
                let theirs: std::collections::BTreeSet<_> =
                    hub.entries().map(|entry| format!("{entry:?}")).collect();
                let differs: Vec<_> = mine.symmetric_difference(&theirs).take(3).collect();
                return Err(format!(
                    "all_is_told: {} and the hub differ after healing: {differs:?}",
                    board.id
                ));
            }
            for (_, slot) in Facts(&hub).slots() {
                let version = &self.versions[&slot.champion];
                if version.info.manifest.lineage.is_none() && version.quality < BAD {
                    return Err(format!("all_is_told: {} is left on {}", board.id, version.info.record.name));
                }
            }
        }
        match self.hub_disk.rollouts().find(|rollout| rollout.is_running()) {
            Some(rollout) => Err(format!("all_is_told: rollout {} never ends", rollout.id)),
            None => Ok(()),
        }
    }
}
