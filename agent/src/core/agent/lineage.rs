//! Where versions come from, what became of them, and which stay on disk.

use super::super::effect::{Effect, TrainJob};
use super::{Agent, Turn};
use serde::{Deserialize, Serialize};
use shoal_proto::decision::{Made, RunRecord, SlotState};
use shoal_proto::fact::VersionRecord;
use shoal_proto::id::{Digest, ModelName};
use std::collections::{BTreeMap, BTreeSet};

/// Ancestors that are followed at most: a document from elsewhere may hold a circle.
const MAX_ANCESTORS: usize = 10_000;
/// Versions whose order of leaving is remembered, far above what is kept.
const MAX_RETIRED: usize = 1_024;

/// All versions of a device that it knows of, and its training runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// In order of their digests.
    pub versions: Vec<Node>,
    /// In the order in which they ended.
    pub runs: Vec<RunRecord>,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its identity.
    pub version: Digest,
    /// What the fleet knows of it.
    #[serde(flatten)]
    pub record: VersionRecord,
    /// Whether its files are here.
    pub on_disk: bool,
    /// What it is to the device.
    pub marks: Vec<Mark>,
}

/// What a version is to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It serves when nothing is on trial.
    Champion,
    /// It would serve after a rollback.
    Previous,
    /// It is being admitted.
    Candidate,
    /// It serves and is judged.
    OnTrial,
    /// The champion descends from it, and no device made it.
    Base,
    /// An operator keeps it.
    Pinned,
    /// It may not serve.
    Condemned {
        /// Why.
        reason: String,
    },
}

/// Whether a device made it: the names of such carry the device's behind a plus.
fn is_born(record: &VersionRecord) -> bool {
    record.name.contains('+')
}

impl Agent {
    /// The ancestor that no device made; the oldest that is known where it is not.
    pub(super) fn base_of(&self, version: Digest) -> Digest {
        base_of(version, &self.facts().versions())
    }

    /// Whether a version is known or on its way into a slot: a late answer about another wish for it, or a run
    /// that brought the same bytes again, must not delete it.
    pub(super) fn needs(&self, version: Digest) -> bool {
        let mut slots = self.models.values().flat_map(|model| model.slot.versions());
        self.versions.contains_key(&version) || slots.any(|held| held == version)
    }

    /// Versions and runs as a graph.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        let (known, condemned) = (self.facts().versions(), self.facts().condemned());
        let mut marks: BTreeMap<Digest, Vec<Mark>> = BTreeMap::new();
        let mut mark = |version: Digest, mark| marks.entry(version).or_default().push(mark);
        for model in self.models.values() {
            mark(model.slot.champion, Mark::Champion);
            if let Some(previous) = model.slot.previous {
                mark(previous, Mark::Previous);
            }
            if let Some(candidate) = &model.slot.candidate {
                let is_on_trial = candidate.state == SlotState::OnTrial;
                mark(candidate.version, if is_on_trial { Mark::OnTrial } else { Mark::Candidate });
            }
            mark(base_of(model.slot.champion, &known), Mark::Base);
        }
        self.pinned.iter().for_each(|version| mark(*version, Mark::Pinned));
        for (version, reason) in condemned {
            mark(version, Mark::Condemned { reason });
        }
        let versions = known.into_iter().map(|(version, record)| Node {
            version,
            record,
            on_disk: self.versions.contains_key(&version),
            marks: marks.remove(&version).unwrap_or_default(),
        });
        Lineage { versions: versions.collect(), runs: self.facts().runs() }
    }

    /// The job that made a version, from its record.
    ///
    /// # Errors
    /// Why it cannot be made again, for people.
    pub fn replay_job(&self, version: Digest) -> Result<(TrainJob, Made), String> {
        let short = version.short();
        let runs = self.facts().runs();
        let run = runs.into_iter().find(|run| run.candidate == Some(version));
        let run = run.ok_or_else(|| format!("no run of this device made version {short}"))?;
        let made =
            run.made.ok_or_else(|| format!("the record of {short} is of a build that kept no recipe"))?;
        for (which, of) in [(version, "version"), (run.parent, "its parent")] {
            if !self.versions.contains_key(&which) {
                return Err(format!("{of} {} is no longer on this device", which.short()));
            }
        }
        let job = TrainJob {
            run: run.run,
            model: run.model,
            parent: run.parent,
            device: made.device.clone(),
            number: made.number,
            seed: made.seed,
            recipe: made.recipe.clone(),
            holdout_share: made.holdout_share,
            sources: made.sources.clone(),
        };
        Ok((job, *made))
    }

    pub(super) fn on_pin_command(
        &mut self,
        version: Digest,
        pinned: bool,
        turn: &mut Turn,
    ) -> Result<String, String> {
        if !self.versions.contains_key(&version) {
            return Err(format!("version {} is not on this device", version.short()));
        }
        if pinned {
            self.pinned.insert(version);
        } else {
            self.pinned.remove(&version);
        }
        turn.remember("pinned", &self.pinned);
        self.forget_versions(turn);
        Ok(format!("{} {}", version.short(), if pinned { "stays on disk" } else { "is pinned no longer" }))
    }

    /// Deletes versions that nobody needs: what slots hold, their bases and what is pinned stays; of the others
    /// the newest, by count and bytes. One that is condemned goes at once.
    pub(super) fn forget_versions(&mut self, turn: &mut Turn) {
        let (known, condemned) = (self.facts().versions(), self.facts().condemned());
        let mut needed: BTreeSet<Digest> =
            self.models.values().flat_map(|model| model.slot.versions()).collect();
        let bases: Vec<Digest> = needed.iter().map(|version| base_of(*version, &known)).collect();
        needed.extend(bases);
        needed.extend(self.pinned.iter().copied());
        let before = self.retired.clone();
        self.retired.retain(|version| self.versions.contains_key(version) && !needed.contains(version));
        let left = self.versions.keys().filter(|version| !needed.contains(version));
        let fresh: Vec<Digest> = left.filter(|version| !self.retired.contains(version)).copied().collect();
        self.retired.extend(fresh);
        self.retired.drain(..self.retired.len().saturating_sub(MAX_RETIRED));
        let (mut count, mut bytes, mut kept) = (0, 0_u64, BTreeSet::new());
        for version in self.retired.iter().rev().filter(|version| !condemned.contains_key(version)) {
            let size = self.versions.get(version).map_or(0, |info| info.size_bytes);
            count += 1;
            bytes = bytes.saturating_add(size);
            if count > self.policy.keep.versions || bytes > self.policy.keep.bytes {
                break;
            }
            kept.insert(*version);
        }
        let gone: Vec<Digest> = self
            .versions
            .keys()
            .filter(|version| !needed.contains(version) && !kept.contains(version))
            .copied()
            .collect();
        for version in gone {
            self.versions.remove(&version);
            self.admitted.remove(&version);
            turn.effects.push(Effect::Remove { version });
        }
        self.retired.retain(|version| kept.contains(version));
        if self.retired != before {
            turn.remember("retired", &self.retired);
        }
    }
}

fn base_of(version: Digest, known: &BTreeMap<Digest, VersionRecord>) -> Digest {
    let mut at = version;
    for _ in 0..MAX_ANCESTORS {
        match known.get(&at) {
            Some(VersionRecord { parent: Some(parent), .. }) if known.get(&at).is_some_and(is_born) => {
                at = *parent;
            }
            _ => return at,
        }
    }
    at
}

/// Of a model only.
impl Lineage {
    /// Leaves the versions and runs of one model.
    #[must_use]
    pub fn of(mut self, model: &ModelName) -> Self {
        self.versions.retain(|node| node.record.model == *model);
        self.runs.retain(|run| run.model == *model);
        self
    }
}
