//! The bytes of every message as the first version wrote them. What is in the field must stay
//! readable: `SHOAL_BLESS=1` writes the files anew, and the change is seen in the review.

use crate::chunks::{ChunkList, Way};
use crate::command::{Ask, Command, Report, State};
use crate::decision::{
    Evidence, Rejection, RollbackReason, RunRecord, SlotEnd, SlotState, Source, Trigger, Verdict,
};
use crate::document::{Document, Entry};
use crate::fact::{
    Artifact, Assignment, CandidateReport, Condemnation, Count, EndReport, Fact, Facts, Health, Inventory,
    LABELS, SlotReport, TrialPolicy, VersionRecord,
};
use crate::finding::{Finding, Monitor};
use crate::id::{DeviceId, Digest, Incarnation, ModelName, Replica, RolloutId, Side};
use crate::message::{Beat, Cursor, Exchange, Hello, Payload, Status};
use crate::op::{Chain, Kind, Op};
use crate::package::Package;
use crate::summary::{
    Cells, ClassLabel, Counts, DriftLevel, Estimate, FeatureSummary, LabelKey, LabelSlot, LabelSummary,
    LabelSums, WindowId, WindowSummary, pair,
};
use crate::time::{Hlc, WallMs};
use crate::transfer::{Given, Need, Needed, Part, Refusal};
use crate::wire::{decode, encode, from_cbor, to_cbor};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::io::Write as _;
use std::path::PathBuf;

const WALL: WallMs = WallMs(1_795_132_800_000);
const DEVICE: Incarnation = Incarnation(0x0123_4567_89ab_cdef);
const HUB: Incarnation = Incarnation(0xfedc_ba98_7654_3210);

fn digest(word: &str) -> Digest {
    Digest::of(word.as_bytes())
}

fn gas() -> ModelName {
    ModelName::new("gas").unwrap()
}

fn window() -> WindowSummary {
    let counts = |pairs: &[(u32, u64)]| Counts::from(pairs.to_vec());
    let id = WindowId { incarnation: DEVICE, number: 7 };
    WindowSummary {
        closed: WallMs(WALL.0 + 3_600_000),
        rows: 3_600,
        features: vec![
            FeatureSummary { counts: counts(&[(0, 1_800), (19, 1_790)]), missing: 10, ..Default::default() },
            FeatureSummary { counts: counts(&[(3, 3_600)]), level: DriftLevel::Drift, ..Default::default() },
        ],
        predictions: counts(&[(9, 3_000), (19, 600)]),
        labels: LabelSummary { labelled: 40, correct: 38 },
        level: DriftLevel::Drift,
        ..WindowSummary::new(id, gas(), digest("version"), digest("baseline"), WALL)
    }
}

/// The same window as a build writes it that knows all of its fields.
fn full_window() -> WindowSummary {
    let mut window = window();
    let feature = &mut window.features[1];
    (feature.infinite, feature.out_of_range, feature.below) = (1, 5, 2);
    (feature.repeats, feature.zeros) = (600, 3);
    feature.log_size.add(-1_234.5);
    window.features.push(FeatureSummary::categorical(&[3_000, 0, 598], 2));
    let mut groups = Cells::default();
    groups.add_all(pair(0, 1), [1_200, 400]);
    WindowSummary {
        estimate: Estimate { rows: 3_600, promised: 3_400 << 20 },
        outliers: 4,
        duplicates: 9,
        health: Some(61),
        values: Counts::of(&[1_800, 0, 1_800]),
        groups,
        ..window
    }
}

/// Labels for its predictions: a classifier's, and a number.
fn labels() -> (LabelKey, LabelSlot) {
    let mut sums = LabelSums::default();
    for (truth, answered) in [(0, 0), (1, 1), (1, 0)] {
        let scores = if answered == 0 { [0.75, 0.25] } else { [0.125, 0.875] };
        let confidence = Some(scores[usize::from(answered)]);
        sums.observe_class(&ClassLabel {
            truth,
            answered,
            confidence,
            scores: &scores,
            groups: &[pair(0, 1)],
        });
    }
    sums.observe_value(1.5, 1.25);
    sums.squared.add(1e15);
    let key = LabelKey { incarnation: DEVICE, number: 7, model: gas(), version: digest("version") };
    (key, LabelSlot { seq: 2, sums, cut: false })
}

/// One fact of every kind that this build knows.
fn facts() -> Vec<Fact> {
    let born = Source::Born { run: 4 };
    let hub = Source::Hub { generation: 12, rollout: Some(RolloutId::new("gas-4").unwrap()) };
    let word = |holds| Condemnation { holds, reason: "rolled back by command".into() };
    vec![
        Fact::Inventory(Inventory {
            agent_version: "0.1.0".into(),
            arch: "aarch64".into(),
            tags: [("site".to_owned(), "lyon".to_owned())].into(),
        }),
        Fact::Health(Health { uptime_s: 86_400, capturing: true, training: "idle".into() }),
        Fact::Slot(
            gas(),
            SlotReport {
                applied_generation: 12,
                champion: digest("champion"),
                previous: Some(digest("previous")),
                candidate: Some(CandidateReport {
                    version: digest("candidate"),
                    state: SlotState::OnTrial,
                    source: hub,
                }),
                last_end: Some(EndReport {
                    version: digest("ended"),
                    source: born,
                    end: SlotEnd::RolledBack(RollbackReason::Failures { failures: 3, requests: 100 }),
                    at: WALL,
                    trial_labels: (20, 11),
                    shadow: None,
                }),
            },
        ),
        Fact::Condemned(digest("ended"), word(true)),
        Fact::OpenWindow(window()),
        Fact::Assignment(
            12,
            gas(),
            Assignment {
                version: digest("candidate"),
                rollout: Some(RolloutId::new("gas-4").unwrap()),
                artifact: Some(Artifact {
                    archive: digest("archive"),
                    size_bytes: 20_480,
                    sources: vec!["/artifacts/gas-4.shoal".into()],
                    chunks: None,
                }),
                trial: TrialPolicy::default(),
                revert: false,
            },
        ),
        Fact::GloballyCondemned(13, digest("ended"), word(false)),
        Fact::Version(
            digest("candidate"),
            VersionRecord {
                model: gas(),
                name: "gas@3+press-07.2".into(),
                parent: Some(digest("champion")),
                baseline: digest("baseline"),
                schema: digest("schema"),
            },
        ),
        Fact::Finding(Finding {
            model: gas(),
            version: digest("version"),
            monitor: Monitor::Feature,
            feature: Some("s2".into()),
            group: None,
            level: DriftLevel::Drift,
            statistic: 0.31,
            threshold: 0.1,
            one_false_in: 0.0,
            since: None,
            window: WindowId { incarnation: DEVICE, number: 7 },
            at: WALL,
        }),
        Fact::Run(
            DEVICE,
            RunRecord {
                run: 4,
                model: gas(),
                trigger: Trigger::Drift,
                parent: digest("champion"),
                candidate: Some(digest("candidate")),
                evidence: Some(Evidence {
                    trained_rows: 200,
                    holdout_rows: 60,
                    champion_correct: 40,
                    candidate_correct: 57,
                    only_champion: 1,
                    only_candidate: 18,
                    guard_rows: 100,
                    guard_champion_correct: 99,
                    guard_candidate_correct: 97,
                    classes: vec![(30, 20, 28), (30, 20, 29)],
                    training_set: digest("rows"),
                    measured: None,
                }),
                verdict: Verdict::Reject(Rejection::GuardRegressed {
                    champion: 0.99,
                    candidate: 0.97,
                    allowed: 0.01,
                }),
                at: WALL,
                made: None,
            },
        ),
        Fact::Window(window()),
        Fact::Counter(Count::Predictions, 123_456),
        Fact::WindowFloor(DEVICE, 5),
        Fact::Command(
            14,
            2,
            Command {
                id: 13,
                what: Ask::Train { model: gas() },
                given: WALL,
                withdrawn: Some("no answer before it expired".into()),
                expires_s: Some(86_400),
            },
        ),
        Fact::Report(
            2,
            Report { id: 13, state: State::Accepted, text: "run 4".into(), run: Some(4), at: WALL },
        ),
    ]
}

fn ops() -> Vec<Op> {
    (1..)
        .zip(facts())
        .map(|(seq, fact)| {
            let (kind, key, value) = fact.into_parts();
            Op { seq, hlc: Hlc((WALL.0 << 16) + seq), kind, key, value }
        })
        .collect()
}

fn entries() -> Vec<Entry> {
    let mut document = Document::default();
    for op in ops() {
        document.apply(Replica { side: Side::Device, incarnation: DEVICE }, &op);
    }
    document.entries().collect()
}

fn exchange(payload: Payload) -> Exchange {
    let ack = Some(Cursor { incarnation: HUB, seq: 3, chain: Chain([1, 2, 3, 4, 5, 6, 7, 8]) });
    Exchange { incarnation: DEVICE, wall: WALL, ack, wire_max: 0, payload }
}

fn package() -> Package {
    let files = crate::package::tests::files();
    let mut package = Package::new(files).unwrap();
    package.sign(&crate::package::tests::key(1)).unwrap();
    package
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/v1")
}

/// Compares with the stored bytes, or stores them where asked to.
fn hold(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = folder().join(name);
    if std::env::var("SHOAL_BLESS").is_ok_and(|word| word == "1") {
        std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    }
    let stored = std::fs::read(&path)
        .unwrap_or_else(|cause| panic!("{}: {cause}; SHOAL_BLESS=1 writes it", path.display()));
    assert!(stored == bytes, "{name} is no longer written as before; SHOAL_BLESS=1 accepts the change");
    stored
}

fn framed<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, message: &T) {
    let stored = hold(name, &encode(message).unwrap());
    assert_eq!(decode::<T>(&stored).unwrap(), *message, "{name}");
}

#[test]
fn messages_are_written_and_read_as_before() {
    let hello = Hello {
        device: DeviceId::new("press-07").unwrap(),
        incarnation: DEVICE,
        boot: 3,
        last_seq: 13,
        cursor: Some(Cursor { incarnation: HUB, seq: 3, chain: Chain([9; 8]) }),
        agent_version: "0.1.0".into(),
        wire_max: 1,
        wall: WALL,
    };
    framed("hello.bin", &hello);
    framed("hello-first.bin", &Hello { cursor: None, last_seq: 0, ..hello });
    framed("status.bin", &Status { online: true, boot: 3, incarnation: DEVICE });
    framed("ack.bin", &exchange(Payload::Nothing));
    let ack = Exchange { wire_max: 2, ..exchange(Payload::Nothing) };
    framed("ack-tells-wire.bin", &ack);
    let packed = hold("ack-dictionary.bin", &crate::wire::encode_for(2, &ack).unwrap());
    assert_eq!(decode::<Exchange>(&packed).unwrap(), ack);
    framed(
        "beat.bin",
        &Beat { life: 0x0102_0304, boot: 3, uptime_s: 86_400, counts: [(0, 9), (3, 1)].into() },
    );
    framed("forked.bin", &exchange(Payload::Forked { incarnation: HUB }));
    framed("batch.bin", &exchange(Payload::Batch { after: 0, chain: Chain::default(), ops: ops() }));
    framed(
        "snapshot.bin",
        &exchange(Payload::Snapshot {
            seq: 13,
            chain: Chain([7; 8]),
            reader: HUB,
            after: Some((Kind(0x0101), String::new())),
            until: None,
            entries: entries(),
        }),
    );
}

#[test]
fn every_known_kind_is_written_and_read_as_before() {
    let ops = ops();
    let mut kinds: Vec<Kind> = ops.iter().map(|op| op.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), 15, "a kind has no golden file");
    for op in ops {
        let stored = hold(&format!("op-{:04x}.bin", op.kind.0), &to_cbor(&op));
        assert_eq!(from_cbor::<Op>(&stored).unwrap(), op);
    }
}

#[test]
fn windows_and_labels_of_this_build_are_written_and_read_as_before() {
    let (key, slot) = labels();
    for (name, fact) in [
        ("op-0401-full.bin", Fact::Window(full_window())),
        ("op-0402.bin", Fact::Labels(key.clone(), slot.clone())),
    ] {
        let (kind, key, value) = fact.into_parts();
        let op = Op { seq: 1, hlc: Hlc(WALL.0 << 16), kind, key, value };
        let stored = hold(name, &to_cbor(&op));
        assert_eq!(from_cbor::<Op>(&stored).unwrap(), op);
        let mut document = Document::default();
        document.apply(Replica { side: Side::Device, incarnation: DEVICE }, &op);
        let facts = Facts(&document);
        let read = (facts.windows(), facts.labels());
        let expected = if kind == LABELS {
            (vec![], vec![(key_of(&op), slot.clone())])
        } else {
            (vec![full_window()], vec![])
        };
        assert_eq!(read, expected, "{name}");
    }
}

#[test]
fn windows_and_labels_of_earlier_builds_are_read_as_they_were() {
    let read = |name: &str| {
        let op: Op = from_cbor(&std::fs::read(folder().join(name)).unwrap()).unwrap();
        let mut document = Document::default();
        document.apply(Replica { side: Side::Device, incarnation: DEVICE }, &op);
        (Facts(&document).windows(), Facts(&document).labels())
    };
    assert_eq!(read("op-0401-rows.bin"), (vec![full_window()], vec![]));
    assert_eq!(read("op-0402-rows.bin"), (vec![], vec![labels()]));
}

#[test]
fn transfers_are_written_and_read_as_before() {
    let (archive, list) = (digest("archive"), digest("list"));
    let need = |number, what| Need { archive, number, what };
    framed("need-list.bin", &need(7, Needed::List { from: 32_768 }));
    framed("need-chunks.bin", &need(8, Needed::Chunks { list, first: 40, bits: 0b1011 }));
    let part = |number, what| Part { archive, number, what };
    let bytes: Vec<u8> = (0..=255).chain(0..44).collect();
    framed("part-list.bin", &part(7, Given::List { from: 32_768, total: 33_068, bytes: bytes.clone() }));
    framed("part-chunk.bin", &part(8, Given::Chunk { index: 41, bytes }));
    framed("part-refused.bin", &part(8, Given::Refused(Refusal::NotAssigned)));
}

#[test]
fn a_chunk_list_has_the_same_bytes_as_before_and_one_with_other_ways_is_read() {
    let archive: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let mut list = ChunkList::of(&archive).unwrap();
    let artifact = Artifact {
        archive: list.archive,
        size_bytes: list.size_bytes,
        sources: vec!["/artifacts/gas-4.shoal".into()],
        chunks: Some(Digest::of(&list.to_bytes())),
    };
    let stored = hold("chunks.bin", &list.to_bytes());
    assert_eq!(ChunkList::parse(&stored, Digest::of(&stored), &artifact).unwrap(), list);
    let base = Some(digest("base"));
    list.ways = vec![Way { encoding: "zstd-patch".into(), base, list: digest("patch"), size_bytes: 900 }];
    let stored = hold("chunks-ways.bin", &list.to_bytes());
    assert_eq!(ChunkList::parse(&stored, Digest::of(&stored), &artifact).unwrap(), list);
    // In an assignment it is one more field, which an older agent passes over.
    let stored = hold("artifact.bin", &to_cbor(&artifact));
    assert_eq!(from_cbor::<Artifact>(&stored).unwrap(), artifact);
    #[derive(serde::Deserialize)]
    struct Before {
        archive: Digest,
        sources: Vec<String>,
    }
    let before: Before = from_cbor(&stored).unwrap();
    assert_eq!((before.archive, before.sources), (artifact.archive, artifact.sources));
}

fn key_of(op: &Op) -> LabelKey {
    LabelKey::parse(&op.key).unwrap()
}

#[test]
fn the_document_has_the_same_bytes_as_before() {
    let mut document = Document::default();
    for entry in entries() {
        document.join(entry);
    }
    hold("document.bin", &document.to_bytes());
}

#[test]
fn a_package_has_the_same_bytes_and_the_same_version_as_before() {
    let package = package();
    let stored = hold("package.bin", &package.to_archive().unwrap());
    let read = Package::from_archive(&stored).unwrap();
    assert_eq!(read, package);
    read.verify(&[crate::package::tests::key(1).verifying_key()]).unwrap();
    hold("statement.json", &package.statement().unwrap());
}

#[test]
fn an_operation_of_a_later_build_is_carried_untouched() {
    let op = Op { seq: 14, hlc: Hlc(9), kind: Kind(0x7f42), key: "later".into(), value: vec![0xff, 0, 1] };
    let stored = hold("op-unknown.bin", &to_cbor(&op));
    let read: Op = from_cbor(&stored).unwrap();
    assert_eq!(read, op);
    let mut document = Document::default();
    document.apply(Replica { side: Side::Device, incarnation: DEVICE }, &read);
    assert_eq!(document.get(Kind(0x7f42), "later"), Some([0xff, 0, 1].as_slice()));
}

#[test]
fn fields_of_a_later_build_are_passed_over() {
    #[derive(Serialize)]
    struct Later {
        nested: Vec<(String, Option<f64>)>,
        online: bool,
        boot: u64,
        mood: std::collections::BTreeMap<String, [u8; 3]>,
        incarnation: Incarnation,
        wire: Option<()>,
    }
    let later = Later {
        nested: vec![("a".into(), Some(0.5)), ("b".into(), None)],
        online: true,
        boot: 3,
        mood: [("calm".to_owned(), [1, 2, 3])].into(),
        incarnation: DEVICE,
        wire: None,
    };
    let stored = hold("status-later.bin", &encode(&later).unwrap());
    assert_eq!(decode::<Status>(&stored).unwrap(), Status { online: true, boot: 3, incarnation: DEVICE });
}
