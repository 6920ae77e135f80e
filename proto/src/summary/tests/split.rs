//! However samples are parted and sent, the fold is that of one pass.

use super::*;
use crate::baseline::confidence_bin;
use crate::id::DeviceId;
use crate::summary::fleet::{FleetKey, FleetSummary, LabelBook, fold};
use proptest::prelude::*;
use std::collections::BTreeMap;

const BINS: usize = 20;
const COLUMNS: usize = 3;

/// One predicted row, as the tallies of a device see it.
#[derive(Debug, Clone)]
struct Sample {
    version: u8,
    values: [f32; COLUMNS],
    category: u8,
    answered: u16,
    confidence: f32,
    group: u16,
    /// The label that comes later, if one does.
    truth: Option<u16>,
}

/// Numbers that look random: a weighed counter, so that a sample is a function of its place.
fn noise(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

/// Samples of two versions that take turns now and then, on all devices at once.
fn samples(count: usize, seed: u64) -> Vec<Sample> {
    let (mut next, mut version) = (noise(seed), 0);
    let turn = count as u64 / 6 + 1;
    let mut one = |_| {
        version ^= u8::from(next(turn) == 0);
        sample(version, &mut next)
    };
    (0..count).map(&mut one).collect()
}

fn sample(version: u8, next: &mut impl FnMut(u64) -> u64) -> Sample {
    let mut value = || match next(200) {
        0 => f32::NAN,
        1 => f32::NEG_INFINITY,
        2 => 0.0,
        other => other as f32 * 1.25 - 100.0,
    };
    Sample {
        values: [value(), value(), value()],
        version,
        category: next(7).try_into().unwrap(),
        answered: next(3).try_into().unwrap(),
        confidence: next(1_000) as f32 / 1_000.0,
        group: next(4).try_into().unwrap(),
        truth: (next(3) == 0).then(|| next(3).try_into().unwrap()),
    }
}

fn version(number: u8) -> Digest {
    Digest::of(&[number])
}

fn open(life: Incarnation, number: u64, of: u8) -> WindowSummary {
    let id = WindowId { incarnation: life, number };
    let features = vec![FeatureSummary::default(); COLUMNS + 1];
    WindowSummary {
        features,
        ..WindowSummary::new(id, gas(), version(of), Digest::of(b"baseline"), WallMs(0))
    }
}

fn observe(window: &mut WindowSummary, sample: &Sample) {
    window.rows += 1;
    for (feature, value) in window.features.iter_mut().zip(sample.values) {
        if value.is_nan() {
            feature.missing += 1;
        } else if value.is_infinite() {
            feature.infinite += 1;
        } else {
            let bin = ((value + 100.0) / 12.5).clamp(0.0, BINS as f32 - 1.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held to the bins")]
            feature.counts.add(bin as u32, 1);
            feature.out_of_range += u64::from(value.abs() > 90.0);
            feature.below += u64::from(value < -90.0);
            if value == 0.0 {
                feature.zeros += 1;
            } else {
                feature.log_size.add(f64::from(value).abs().ln());
            }
        }
    }
    let feature = &mut window.features[COLUMNS];
    if sample.category < 5 {
        feature.categories.add(sample.category.into(), 1);
    } else {
        feature.unseen += 1;
    }
    let cell = u32::from(sample.answered) * 10 + confidence_bin(sample.confidence);
    window.predictions.add(cell, 1);
    window.estimate.observe(sample.confidence.into());
    window.outliers += u64::from(sample.confidence < 0.01);
    window.groups.add_all(pair(0, sample.group), [1, u64::from(sample.answered == 0)]);
}

fn label(sums: &mut LabelSums, sample: &Sample) {
    let Some(truth) = sample.truth else { return };
    let mut scores = [(1.0 - sample.confidence) / 2.0; 3];
    scores[usize::from(sample.answered)] = sample.confidence;
    let (answered, groups) = (sample.answered, &[pair(0, sample.group)]);
    sums.observe_class(&ClassLabel {
        truth,
        answered,
        confidence: Some(sample.confidence),
        scores: &scores,
        groups,
    });
    sums.observe_value(sample.confidence.into(), truth.into());
}

/// All samples in one window a version, labelled at once.
fn one_pass(samples: &[Sample]) -> BTreeMap<FleetKey, FleetSummary> {
    let mut passes: BTreeMap<u8, (WindowSummary, WindowLabels)> = BTreeMap::new();
    for sample in samples {
        let (window, labels) = passes
            .entry(sample.version)
            .or_insert_with(|| (open(LIFE, 0, sample.version), WindowLabels::default()));
        observe(window, sample);
        label(&mut labels.own, sample);
    }
    let one = |(version, (window, labels)): (u8, (WindowSummary, WindowLabels))| {
        let mut sum = FleetSummary::default();
        sum.absorb(&window, &labels);
        (FleetKey { model: gas(), baseline: Digest::of(b"baseline"), version: self::version(version) }, sum)
    };
    passes.into_iter().map(one).collect()
}

fn bytes(sums: &BTreeMap<FleetKey, FleetSummary>) -> Vec<(Digest, Vec<u8>)> {
    sums.iter().map(|(key, sum)| (key.version, sum.to_bytes())).collect()
}

/// A device: it counts, closes windows, and hears of labels late.
struct Device {
    life: Incarnation,
    number: u64,
    window: WindowSummary,
    late: Vec<(LabelKey, Sample)>,
    slots: BTreeMap<LabelKey, LabelSlot>,
    /// Everything that it ever wrote.
    ops: Vec<Op>,
}

impl Device {
    fn new(life: u64) -> Self {
        let life = Incarnation(life);
        let (late, slots, ops) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { life, number: 0, window: open(life, 0, 0), late, slots, ops }
    }

    fn write(&mut self, fact: Fact) {
        let (kind, key, value) = fact.into_parts();
        self.ops.push(Op { seq: self.ops.len() as u64 + 1, hlc: Hlc(1), kind, key, value });
    }

    fn take(&mut self, sample: &Sample, close: bool) {
        if close || self.window.version != version(sample.version) {
            self.close(sample.version);
        }
        observe(&mut self.window, sample);
        if sample.truth.is_some() {
            let (incarnation, number, version) = (self.life, self.number, self.window.version);
            self.late.push((LabelKey { incarnation, number, model: gas(), version }, sample.clone()));
        }
    }

    fn close(&mut self, next: u8) {
        self.number += 1;
        let sealed = std::mem::replace(&mut self.window, open(self.life, self.number, next));
        self.write(Fact::Window(sealed));
    }

    /// Some of the labels come, from anywhere in the past; the touched slots are written.
    fn hear(&mut self, share: u64, next: &mut impl FnMut(u64) -> u64) {
        let mut touched = std::collections::BTreeSet::new();
        for (key, sample) in std::mem::take(&mut self.late) {
            if next(100) < share {
                let slot = self.slots.entry(key.clone()).or_default();
                label(&mut slot.sums, &sample);
                touched.insert(key);
            } else {
                self.late.push((key, sample));
            }
        }
        for key in touched {
            let slot = self.slots.get_mut(&key).unwrap();
            slot.seq += 1;
            let slot = slot.clone();
            self.write(Fact::Labels(key, slot));
        }
    }
}

/// Parts samples over devices and windows, sends every operation in a mixed order, some of them more
/// than once, over two hubs that then join, and folds.
fn parted(samples: &[Sample], devices: u64, window: u64, seed: u64) -> BTreeMap<FleetKey, FleetSummary> {
    let mut next = noise(seed);
    let mut fleet: Vec<Device> = (0..devices).map(|life| Device::new(life + 1)).collect();
    let every = samples.len() / 3 + 1;
    for (place, sample) in samples.iter().enumerate() {
        let who = usize::try_from(next(devices)).unwrap();
        let close = next(window) == 0;
        fleet[who].take(sample, close);
        if place % every == every - 1 {
            fleet.iter_mut().for_each(|device| device.hear(40, &mut next));
        }
    }
    let mut documents = BTreeMap::new();
    for (number, device) in fleet.iter_mut().enumerate() {
        device.hear(50, &mut next);
        device.close(0);
        device.hear(100, &mut next);
        let (mut here, mut there) = (Document::default(), Document::default());
        let mut order: Vec<usize> = (0..device.ops.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, usize::try_from(next(at as u64 + 1)).unwrap());
        }
        for (place, at) in order.iter().enumerate() {
            let one = if next(2) == 0 { &mut here } else { &mut there };
            apply_op(one, &device.ops[*at]);
            if next(4) == 0 {
                // Something from before comes again, maybe at the other one.
                let again = usize::try_from(next(place as u64 + 1)).unwrap();
                apply_op(if next(2) == 0 { &mut here } else { &mut there }, &device.ops[order[again]]);
            }
        }
        let copy = here.clone();
        here.merge(&there);
        there.merge(&copy);
        here.merge(&there);
        assert_eq!(here.to_bytes(), there.to_bytes());
        documents.insert(DeviceId::new(format!("d{number}")).unwrap(), here);
    }
    fold(&documents)
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_parting_is_one_pass(
        count in 0usize..600,
        devices in 1u64..9,
        window in 1u64..200,
        seed in any::<u64>(),
    ) {
        let samples = samples(count, seed ^ 1);
        let (one, many) = (one_pass(&samples), parted(&samples, devices, window, seed));
        // A parting may close windows without a row: a version may then stand with nothing.
        let many: BTreeMap<_, _> = many.into_iter().filter(|(_, sum)| sum.rows > 0).collect();
        prop_assert_eq!(bytes(&many), bytes(&one));
    }
}

#[test]
fn a_million_samples_over_a_thousand_devices_are_one_pass() {
    let samples = samples(1_000_000, 7);
    let one = one_pass(&samples);
    let rows: u64 = one.values().map(|sum| sum.rows).sum();
    let labels: u64 = one.values().map(|sum| sum.labels.labelled).sum();
    let labelled = samples.iter().filter(|sample| sample.truth.is_some()).count() as u64;
    assert_eq!((one.len(), rows, labels), (2, 1_000_000, 2 * labelled));
    for (key, sum) in &one {
        let version = u8::from(key.version == self::version(1));
        let of = |keep: &dyn Fn(&Sample) -> bool| samples.iter().filter(|it| keep(it)).count() as u64;
        let found =
            (sum.rows, sum.features[1].missing, sum.features[COLUMNS].unseen, sum.groups.at(pair(0, 2))[1]);
        let by_hand = (
            of(&|it| it.version == version),
            of(&|it| it.version == version && it.values[1].is_nan()),
            of(&|it| it.version == version && it.category >= 5),
            of(&|it| it.version == version && it.group == 2 && it.answered == 0),
        );
        println!("version {version}: {found:?}");
        assert_eq!(found, by_hand);
    }
    let expected = bytes(&one);
    for (devices, window) in [(1, 1_000_000), (1_000, 300), (7, 40_000)] {
        let sums = parted(&samples, devices, window, devices);
        assert_eq!(bytes(&sums), expected, "{devices} devices");
        println!(
            "{devices} devices: {:?} bytes",
            expected.iter().map(|(_, it)| it.len()).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_merge_of_twenty_columns_takes_microseconds() {
    let mut full = window(LIFE, 1);
    full.rows = 3_600;
    full.features =
        vec![FeatureSummary { missing: 20, out_of_range: 7, ..FeatureSummary::numeric(&[179; BINS]) }; 20];
    full.predictions = Counts::of(&[30; 60]);
    let labels = WindowLabels::default();
    let bytes = to_cbor(&full);
    let mut document = Document::default();
    apply(&mut document, Fact::Window(full.clone()));
    let book = LabelBook::of(&document);
    assert_eq!(book.labels_of(&full), labels);
    let mut sum = FleetSummary::default();
    let mut best = [f64::INFINITY; 3];
    for _ in 0..300 {
        best[0] = best[0].min(microseconds(|| sum.absorb(&full, &labels)));
        best[1] = best[1].min(microseconds(|| {
            let read: WindowSummary = from_cbor(&bytes).unwrap();
            sum.absorb(&read, &labels);
        }));
        best[2] = best[2].min(microseconds(|| {
            let read: WindowSummary = from_cbor(&bytes).unwrap();
            assert_eq!(read.rows, 3_600);
        }));
    }
    let [merge, both, read] = best;
    println!(
        "merge of 20 columns: {merge:.2} us, read from {} bytes {read:.2} us, both {both:.2} us",
        bytes.len()
    );
    assert_eq!(sum.rows, 600 * 3_600);
    assert!(merge < 20.0, "{merge} us");
}

/// What a call takes; a test may ask, the code under test may not.
#[expect(clippy::disallowed_methods, reason = "this measures")]
fn microseconds(call: impl FnOnce()) -> f64 {
    let before = std::time::Instant::now();
    call();
    before.elapsed().as_secs_f64() * 1e6
}
