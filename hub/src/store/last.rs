//! Which records of a transaction are worth writing.

use crate::core::Record;
use shoal_proto::id::DeviceId;
use shoal_proto::op::Kind;
use shoal_proto::sync;
use std::collections::HashSet;

/// A value that a record writes whole.
#[derive(PartialEq, Eq, Hash)]
enum Place<'r> {
    Entry(&'r DeviceId, Kind, &'r str),
    Cursor(&'r DeviceId),
    Memory(&'r DeviceId),
}

fn place(record: &Record) -> Option<Place<'_>> {
    match record {
        Record::Link(device, sync::Record::Put(entry)) => Some(Place::Entry(device, entry.kind, &entry.key)),
        Record::Link(device, sync::Record::Cursor(_)) => Some(Place::Cursor(device)),
        Record::Memory(device, _) => Some(Place::Memory(device)),
        _ => None,
    }
}

/// The records in their order, without those that a later one writes over: the hundred heartbeats of a device that
/// was away are one row. Nothing between the two reads what the earlier one wrote, since only the whole is seen.
pub(super) fn last_words<'r>(records: impl Iterator<Item = &'r Record>) -> Vec<&'r Record> {
    let (all, mut written): (Vec<&Record>, _) = (records.collect(), HashSet::new());
    let mut kept: Vec<&Record> = all
        .into_iter()
        .rev()
        .filter(|record| place(record).is_none_or(|place| written.insert(place)))
        .collect();
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::device::Memory;
    use shoal_proto::document::Entry;
    use shoal_proto::id::Incarnation;

    fn device(name: &str) -> DeviceId {
        DeviceId::new(name).unwrap()
    }

    fn put(name: &str, key: &str, value: u8) -> Record {
        let entry = Entry {
            kind: Kind(1),
            key: key.into(),
            marker: None,
            value: vec![value],
            totals: vec![],
            floor: 0,
        };
        Record::Link(device(name), sync::Record::Put(entry))
    }

    #[test]
    fn the_last_word_stands_and_what_came_between_keeps_its_place() {
        let gone = || Record::Link(device("a"), sync::Record::Drop(Kind(1), "x".into()));
        let memory = |boot| Record::Memory(device("a"), Memory { boot, ..Memory::default() });
        let born = || Record::Born(device("a"), Incarnation(1));
        for (records, kept) in [
            (vec![put("a", "x", 1), put("a", "x", 2)], vec![1]),
            (vec![put("a", "x", 1), put("b", "x", 2), put("a", "y", 3)], vec![0, 1, 2]),
            (vec![put("a", "x", 1), gone(), put("a", "x", 2)], vec![1, 2]),
            (vec![put("a", "x", 1), put("a", "x", 2), gone()], vec![1, 2]),
            (vec![memory(1), Record::Gone(device("a")), born(), memory(2)], vec![1, 2, 3]),
            (vec![memory(1), born(), put("a", "x", 1), memory(2), memory(2)], vec![1, 2, 4]),
            (vec![Record::Generation(1), Record::Generation(2)], vec![0, 1]),
        ] {
            let expected: Vec<&Record> = kept.iter().map(|at| &records[*at]).collect();
            assert_eq!(last_words(records.iter()), expected, "{records:?}");
        }
    }
}
