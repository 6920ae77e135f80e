//! The laws of the lattices, on bytes, under random histories.

use super::*;
use crate::id::Side;
use crate::op::stamped;
use crate::time::Hlc;
use proptest::prelude::*;
use proptest::sample::subsequence;

/// One kind of each class, two window kinds under the same floors, and classes nobody knows yet.
const KINDS: [u16; 10] = [0x0101, 0x0102, 0x0201, 0x0301, 0x0401, 0x0402, 0x0501, 0x0601, 0x0801, 0x7f01];

fn replica(number: u64) -> Replica {
    let side = if number.is_multiple_of(2) { Side::Device } else { Side::Hub };
    Replica { side, incarnation: Incarnation(number / 2 + 1) }
}

/// Few keys, replicas, seqs and stamps, so that markers often meet: equal markers with different
/// values are what a cloned database writes.
fn op() -> impl Strategy<Value = (Replica, Op)> {
    (0..4u64, 1..6u64, 0..4u64, 0..KINDS.len(), 0..3u64, 0..6u64, any::<[u8; 2]>(), 0..12u8).prop_map(
        |(who, seq, hlc, kind, place, number, noise, odd)| {
            let kind = Kind(KINDS[kind]);
            let key = match (kind.class(), odd) {
                (Some(Class::Window), 0) => format!("{}/{number}/x", Incarnation(place)),
                (Some(Class::Window), 1) => format!("{}/{number:015X}A/x", Incarnation(place)),
                (Some(Class::Window), _) => window_key(Incarnation(place), number, "gas"),
                (Some(Class::Floor), _) => Incarnation(place).to_string(),
                _ => format!("k{place}"),
            };
            let value = match (kind.class(), odd) {
                (_, 11) => noise.to_vec(), // too short for a number
                (Some(Class::Stamped), _) => stamped(number, &noise),
                (Some(Class::Counter | Class::Floor), _) => stamped(number, &[]),
                _ => noise.to_vec(),
            };
            (replica(who), Op { seq, hlc: Hlc(hlc), kind, key, value })
        },
    )
}

fn history() -> impl Strategy<Value = Vec<(Replica, Op)>> {
    proptest::collection::vec(op(), 0..40)
}

fn fold(ops: &[(Replica, Op)]) -> Document {
    let mut document = Document::default();
    for (replica, op) in ops {
        document.apply(*replica, op);
    }
    document
}

fn joined(a: &Document, b: &Document) -> Document {
    let mut joined = a.clone();
    joined.merge(b);
    joined
}

/// What the fold should be, said in the slowest and plainest way: the floor of an incarnation is the
/// largest of any floor kind, and no window stands below it.
fn windows_stand(document: &Document) -> bool {
    let floor_of = |incarnation: &str| {
        document
            .entries()
            .filter(|entry| entry.kind.class() == Some(Class::Floor) && entry.key == incarnation)
            .map(|entry| entry.floor)
            .max()
    };
    document.entries().filter(|entry| entry.kind.class() == Some(Class::Window)).all(|entry| {
        window_number(&entry.key)
            .is_none_or(|(incarnation, number)| floor_of(incarnation).is_none_or(|floor| number >= floor))
    })
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn join_is_commutative_associative_and_idempotent(a in history(), b in history(), c in history()) {
        let (a, b, c) = (fold(&a), fold(&b), fold(&c));
        prop_assert_eq!(joined(&a, &b).to_bytes(), joined(&b, &a).to_bytes());
        prop_assert_eq!(joined(&joined(&a, &b), &c).to_bytes(), joined(&a, &joined(&b, &c)).to_bytes());
        prop_assert_eq!(joined(&a, &a).to_bytes(), a.to_bytes());
        let all = joined(&a, &b);
        prop_assert_eq!(joined(&all, &b).to_bytes(), all.to_bytes());
    }

    #[test]
    fn replay_in_any_order_with_duplicates_is_the_snapshot_join(
        (ops, mixed, again) in history().prop_flat_map(|ops| {
            let again = subsequence(ops.clone(), 0..=ops.len());
            (Just(ops.clone()), Just(ops).prop_shuffle(), again)
        }),
        cut in 0..40usize,
    ) {
        let straight = fold(&ops);
        let replayed: Vec<_> = mixed.iter().chain(&again).cloned().collect();
        prop_assert_eq!(fold(&replayed).to_bytes(), straight.to_bytes());
        let (left, right) = mixed.split_at(cut.min(mixed.len()));
        prop_assert_eq!(joined(&fold(left), &fold(right)).to_bytes(), straight.to_bytes());
    }

    #[test]
    fn windows_below_the_floor_never_come_back(before in history(), after in history()) {
        let mut document = fold(&before);
        prop_assert!(windows_stand(&document));
        for (replica, op) in &after {
            document.apply(*replica, op);
            prop_assert!(windows_stand(&document));
        }
        document.merge(&fold(&before));
        prop_assert!(windows_stand(&document));
    }

    #[test]
    fn changes_replayed_onto_rows_give_the_document(ops in history()) {
        let (mut document, mut rows) = (Document::default(), BTreeMap::new());
        for (replica, op) in &ops {
            let before = document.to_bytes();
            let change = document.apply(*replica, op);
            prop_assert_eq!(change == Change::Nothing, before == document.to_bytes());
            match change {
                Change::Nothing => {}
                Change::Put(entry) => { rows.insert((entry.kind, entry.key.clone()), entry); }
                Change::Floored(entry, gone) => {
                    rows.insert((entry.kind, entry.key.clone()), entry);
                    for slot in gone {
                        prop_assert!(rows.remove(&slot).is_some());
                    }
                }
            }
        }
        let mut restored = Document::default();
        for entry in rows.into_values().rev() {
            restored.join(entry);
        }
        prop_assert_eq!(&restored.to_bytes(), &document.to_bytes());
        prop_assert_eq!(restored, document);
    }
}

#[test]
fn a_kind_of_an_unknown_class_is_the_newest_value() {
    let mut document = Document::default();
    let kind = Kind(0x7f01);
    let op = |seq, value: &str| Op { seq, hlc: Hlc(seq), kind, key: "k".into(), value: value.into() };
    document.apply(replica(0), &op(2, "new"));
    assert_eq!(document.apply(replica(0), &op(1, "old")), Change::Nothing);
    assert_eq!(document.get(kind, "k"), Some(b"new".as_slice()));
}

#[test]
fn an_entry_that_does_not_fit_its_class_changes_nothing() {
    let mut document = Document::default();
    let entry = Entry {
        kind: Kind(0x0101),
        key: "k".into(),
        marker: None,
        value: b"value".to_vec(),
        totals: Vec::new(),
        floor: 7,
    };
    assert_eq!(document.join(entry), Change::Nothing);
    assert!(document.is_empty());
}
