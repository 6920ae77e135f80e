//! Makes a version again, of the rows that it came of, and compares: in the child.

use super::build;
use super::job::{Replayed, TrainingJob};
use super::resume::{Outside, Shelf};
use super::samples::Pinned;
use super::train::{TrainError, train};
use crate::keys::device_key;
use crate::store::{SamplesReader, TrainDb};
use crate::vault::Vault;
use shoal_proto::id::Digest;
use shoal_proto::wire::from_cbor;

/// Rows that are named when many are gone.
const MAX_NAMED: usize = 8;

/// Trains by the job that made a version; nothing is kept of it.
pub(super) fn run(
    job: &TrainingJob,
    version: Digest,
    outside: &mut dyn Outside,
) -> Result<Replayed, TrainError> {
    let vault = Vault::join(&job.state);
    let (there, parent) = (vault.get(version)?, vault.get(job.parent)?);
    let reader = SamplesReader::open_read_only(&job.state).map_err(TrainError::Samples)?;
    let rows =
        TrainDb::open(&job.state).and_then(|runs| runs.pinned(version)).map_err(TrainError::Samples)?;
    let rows = rows.and_then(|bytes| from_cbor::<Pinned>(&bytes).ok());
    let rows = rows.ok_or(TrainError::NotPinned { version })?;
    let width = parent.manifest()?.features.len();
    let mut gone = rows.gone(&reader, width).map_err(TrainError::Samples)?;
    if !gone.is_empty() {
        let count = gone.len();
        gone.truncate(MAX_NAMED);
        return Err(TrainError::RowsGone { count, first: gone });
    }
    let made = train(job, &parent, &reader, &mut Shelf::of_version(job, rows), outside)?;
    let mut again = made.package;
    again.sign(&device_key(&job.state)?)?;
    let (old, new) = (there.to_files(), again.to_files());
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    let differ: Vec<String> =
        names.filter(|name| old.get(*name) != new.get(*name)).map(|name| (*name).to_string()).collect();
    let by = build::made_by(job.limits.memory_bytes, outside.spent().cpu_ms);
    Ok(Replayed { version: again.version()?, is_equal: differ.is_empty(), differ, by })
}
