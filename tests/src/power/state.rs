//! What the state must be after each commit: the script of `state.db` and its own memory of it.

use shoal_agent::core::Record;
use shoal_agent::store::Loaded;
use shoal_proto::document::Entry;
use shoal_proto::id::Incarnation;
use shoal_proto::message::Cursor;
use shoal_proto::op::{Chain, Kind, Op};
use shoal_proto::sync::Record as Link;
use shoal_proto::time::Hlc;
use std::collections::{BTreeMap, BTreeSet};

/// The hub whose log the script follows.
const HUB: Incarnation = Incarnation(5);

/// One commit of the script; its number is its place in the line, from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Tells it from one of the same number in another life.
    pub(super) salt: u64,
    /// A new life of the database begins.
    pub(super) reborn: bool,
    /// Bytes of its largest value.
    pub(super) bytes: usize,
}

/// Bytes that follow from where they stand.
pub(super) fn filler(salt: u64, number: u64, bytes: usize) -> Vec<u8> {
    let mut state = (salt ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(bytes).collect()
}

/// What a step writes: every table, values new and in the place of others, rows that go.
pub(super) fn records(number: u64, step: Step) -> Vec<Record> {
    let salt = step.salt;
    let value = |part: u64, bytes| filler(salt.wrapping_add(part), number, bytes);
    let link = Record::Link;
    let chain = Chain([u8::try_from(number % 251).unwrap_or_default(); 8]);
    let mut records = Vec::new();
    if step.reborn {
        records.push(link(Link::Reborn(Incarnation(salt | 1))));
    }
    let entry = Entry {
        kind: Kind(0x0301),
        key: format!("e{}", number % 11),
        marker: None,
        value: value(3, 60),
        totals: Vec::new(),
        floor: 0,
    };
    let op = Op {
        seq: number,
        hlc: Hlc(number << 16),
        kind: Kind(0x0101),
        key: format!("k{}", number % 5),
        value: value(2, 90),
    };
    records.extend([
        Record::Memory { key: "last".into(), value: value(0, step.bytes) },
        Record::Memory { key: format!("slot{}", number % 7), value: value(1, 200) },
        link(Link::Append(op)),
        link(Link::Put(entry)),
    ]);
    if number.is_multiple_of(9) {
        records.push(link(Link::Drop(Kind(0x0301), format!("e{}", (number + 1) % 11))));
    }
    if number.is_multiple_of(6) {
        records.push(link(Link::Forget(number - 3, chain)));
    }
    if number.is_multiple_of(17) {
        records.push(link(Link::Seal(Incarnation(number))));
    }
    records.push(link(Link::Cursor(Cursor { incarnation: HUB, seq: number, chain })));
    records
}

/// The state after the commits of a line, as a database would load it.
pub(super) fn after(line: &[Step]) -> Loaded {
    let mut entries: BTreeMap<(u16, String), Entry> = BTreeMap::new();
    let mut loaded = Loaded {
        incarnation: None,
        clock: Hlc(0),
        base: (0, Chain::default()),
        ops: Vec::new(),
        entries: Vec::new(),
        cursor: None,
        sealed: BTreeSet::new(),
        memory: BTreeMap::new(),
        boot: 0,
        recovered: None,
    };
    for (number, step) in (1..).zip(line) {
        for record in records(number, *step) {
            match record {
                Record::Memory { key, value } => {
                    loaded.memory.insert(key, value);
                }
                Record::Link(Link::Append(op)) => {
                    loaded.clock = op.hlc;
                    loaded.ops.push(op);
                }
                Record::Link(Link::Forget(seq, chain)) => {
                    loaded.base = (seq, chain);
                    loaded.ops.retain(|op| op.seq > seq);
                }
                Record::Link(Link::Put(entry)) => {
                    entries.insert((entry.kind.0, entry.key.clone()), entry);
                }
                Record::Link(Link::Drop(kind, key)) => {
                    entries.remove(&(kind.0, key));
                }
                Record::Link(Link::Cursor(cursor)) => loaded.cursor = Some(cursor),
                Record::Link(Link::Seal(incarnation)) => {
                    loaded.sealed.insert(incarnation);
                }
                Record::Link(Link::Reborn(incarnation)) => {
                    loaded.incarnation = Some(incarnation);
                    loaded.base = (0, Chain::default());
                    loaded.ops.clear();
                }
            }
        }
    }
    loaded.entries = entries.into_values().collect();
    loaded
}

/// How many commits of a line a database holds; `None` when it is the state after no commit of it. What a
/// restored database forgets on purpose, its incarnation, is not looked at then.
pub(super) fn find(line: &[Step], loaded: &Loaded, restored: bool) -> Option<u64> {
    let number = loaded.cursor.map_or(0, |cursor| cursor.seq);
    let mut expected = after(line.get(..usize::try_from(number).ok()?)?);
    if restored {
        expected.incarnation = None;
    }
    let same = Loaded { boot: 0, recovered: None, ..loaded.clone() } == expected;
    same.then_some(number)
}
