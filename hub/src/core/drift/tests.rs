use super::*;
use crate::testing::{model, package};
use shoal_proto::fact::Fact;
use shoal_proto::id::Replica;
use shoal_proto::id::Side;
use shoal_proto::op::Op;
use shoal_proto::summary::{
    Cells, ClassLabel, Estimate, FeatureSummary, LabelKey, LabelSlot, LabelSummary, LabelSums, WindowId, pair,
};
use shoal_proto::time::Hlc;

fn window(number: u64, bin: u32, level: DriftLevel) -> WindowSummary {
    let (version, record) = package(1).record().unwrap();
    let feature = |level| {
        let mut counts = Counts::default();
        counts.add(bin, 50);
        FeatureSummary { counts, level, ..FeatureSummary::default() }
    };
    let id = WindowId { incarnation: Incarnation(5), number };
    WindowSummary {
        closed: WallMs(number * 10 + 10),
        rows: 50,
        features: vec![feature(level), feature(DriftLevel::Stable)],
        predictions: Counts::default(),
        labels: LabelSummary { labelled: 10, correct: 7 },
        level,
        ..WindowSummary::new(id, model(), version, record.baseline, WallMs(number * 10))
    }
}

fn seen(window: WindowSummary) -> Seen {
    let labels = WindowLabels { arrived: window.labels, ..WindowLabels::default() };
    Seen { window, labels }
}

#[test]
fn psi_is_the_formula() {
    let (value, noise) = psi(&[50, 50], &[75, 25]).unwrap();
    let (p, q) = (50.5 / 101.0_f64, 75.5 / 101.0_f64);
    let by_hand = (q - p) * (q / p).ln() + (p - q) * ((1.0 - q) / (1.0 - p)).ln();
    assert!((value - by_hand).abs() < 1e-12 && (noise - 0.02).abs() < 1e-12);
    assert!(psi(&[50, 50], &[50, 50]).unwrap().0.abs() < 1e-12);
    for (reference, counts) in
        [(vec![], vec![]), (vec![5], vec![5]), (vec![1, 1], vec![0, 0]), (vec![1, 1], vec![1])]
    {
        assert_eq!(psi(&reference, &counts), None);
    }
}

#[test]
fn the_newest_windows_of_the_present_life_are_taken() {
    let mut document = Document::default();
    for (life, numbers) in [(5, 0..20_u64), (9, 0..3)] {
        for number in numbers {
            let mut window = window(number, 0, DriftLevel::Stable);
            window.id.incarnation = Incarnation(life);
            let (kind, key, value) = Fact::Window(window).into_parts();
            let replica = Replica { side: Side::Device, incarnation: Incarnation(life) };
            document.apply(replica, &Op { seq: number + 1, hlc: Hlc(1), kind, key, value });
        }
    }
    for (current, limit, expected) in [(5, 2, vec![18, 19]), (9, 4, vec![19, 0, 1, 2]), (9, 0, vec![])] {
        let newest = newest_windows(&document, Some(Incarnation(current)), limit);
        let numbers: Vec<u64> = newest[&model()].iter().map(|it| it.window.id.number).collect();
        if limit == 0 { assert_eq!(numbers.len(), 23) } else { assert_eq!(numbers, expected) }
    }
}

#[test]
fn alone_or_together() {
    use DriftLevel::{Drift, Stable, Warning};
    for (levels, expected) in [
        (vec![Stable, Warning], Scope::Nobody),
        (vec![Drift, Stable], Scope::Alone),
        (vec![Drift], Scope::Alone),
        (vec![Drift, Drift, Stable], Scope::Together),
        (vec![Drift, Drift, Stable, Stable, Stable], Scope::Some),
    ] {
        let fleet = levels.iter().enumerate().map(|(index, level)| {
            let id = DeviceId::new(format!("d{index}")).unwrap();
            (id, [(model(), vec![seen(window(1, 0, Stable)), seen(window(2, 0, *level))])].into())
        });
        let views = fold(fleet, &BTreeMap::new());
        assert_eq!(views[0].scope, expected, "{levels:?}");
        assert_eq!(views[0].rows, 100 * levels.len() as u64);
        assert_eq!(views[0].features[0].psi, None, "without a baseline");
    }
}

#[test]
fn a_device_says_since_when_and_on_what() {
    use DriftLevel::{Drift, Stable, Warning};
    let windows =
        vec![window(1, 0, Drift), window(2, 0, Stable), window(3, 19, Warning), window(4, 19, Drift)];
    let fleet = [(DeviceId::new("d").unwrap(), [(model(), windows.into_iter().map(seen).collect())].into())];
    let view = fold(fleet, &BTreeMap::new()).remove(0);
    let device = &view.devices[0];
    assert_eq!((device.level, device.since), (Drift, Some(WallMs(30))));
    assert_eq!((device.labelled, device.correct), (40, 28));
    assert_eq!(device.features, ["feature 0"]);
    assert_eq!(view.features[0].devices.len(), 1);
    assert!(view.features[1].devices.is_empty());
}

/// Labels for the predictions of a window: so many right and wrong.
fn slot(number: u64, right: u16, wrong: u16) -> Fact {
    let mut sums = LabelSums::default();
    for (answered, rows) in [(1, right), (0, wrong)] {
        for _ in 0..rows {
            let scores = if answered == 1 { [0.25, 0.75] } else { [0.625, 0.375] };
            let confidence = Some(scores[usize::from(answered)]);
            let groups = &[pair(0, answered)];
            sums.observe_class(&ClassLabel { truth: 1, answered, confidence, scores: &scores, groups });
        }
    }
    let version = package(1).record().unwrap().0;
    let key = LabelKey { incarnation: Incarnation(5), number, model: model(), version };
    Fact::Labels(key, LabelSlot { seq: 1, sums, cut: false })
}

#[test]
fn late_labels_count_for_the_window_of_their_prediction_and_once() {
    let mut document = Document::default();
    let replica = Replica { side: Side::Device, incarnation: Incarnation(5) };
    let mut write = |fact: Fact| {
        let (kind, key, value) = fact.into_parts();
        document.apply(replica, &Op { seq: 1, hlc: Hlc(1), kind, key, value });
        let newest = newest_windows(&document, Some(Incarnation(5)), 3);
        let view = fold([(DeviceId::new("d").unwrap(), newest)], &BTreeMap::new()).pop();
        view.map(|it| (it.rows, it.labelled, it.accuracy.map(|it| it.hits), it.coverage))
    };
    for number in 1..=4 {
        write(Fact::Window(window(number, 0, DriftLevel::Stable)));
    }
    // Windows 2 to 4 are looked at; each counted ten labels when they came.
    assert_eq!(write(slot(1, 1, 0)), Some((150, 0, None, 0.0)), "from the first slot on, slots count");
    assert_eq!(write(slot(3, 20, 10)), Some((150, 30, Some(20), 0.2)));
    assert_eq!(write(slot(3, 2, 1)), Some((150, 30, Some(20), 0.2)), "an overtaken state");
    assert_eq!(write(slot(9, 2, 1)), Some((150, 30, Some(20), 0.2)), "its window is open yet");
    assert_eq!(write(slot(4, 30, 0)), Some((150, 60, Some(50), 0.4)));
}

#[test]
fn a_view_says_how_well_the_model_does() {
    let mut one = window(1, 0, DriftLevel::Stable);
    (one.rows, one.health, one.outliers, one.duplicates) = (1_000, Some(80), 3, 2);
    one.estimate = Estimate { rows: 1_000, promised: 900 << 20 };
    one.features[0] =
        FeatureSummary { infinite: 4, below: 1, out_of_range: 3, repeats: 5, ..one.features[0].clone() };
    one.features[1] = FeatureSummary::categorical(&[7, 8], 2);
    let mut groups = Cells::default();
    for (value, rows, favourable) in [(0, 500, 250), (1, 400, 100), (2, 99, 99)] {
        groups.add_all(pair(0, value), [rows, favourable]);
    }
    one.groups = groups;
    let mut labels = LabelSums::default();
    let Fact::Labels(_, slot) = slot(1, 90, 10) else { panic!("a slot") };
    labels.absorb(&slot.sums);
    let other = WindowSummary { health: Some(60), version: Digest::of(b"born"), ..one.clone() };
    let cut = WindowLabels { own: labels, cut: true, ..WindowLabels::default() };
    let fleet = [("a", one, cut), ("b", other, WindowLabels::default())].map(|(id, window, labels)| {
        (DeviceId::new(id).unwrap(), [(model(), vec![Seen { window, labels }])].into())
    });
    let view = fold(fleet, &BTreeMap::new()).remove(0);
    assert_eq!((view.rows, view.labelled, view.coverage, view.cut), (2_000, 100, 0.05, 1));
    let accuracy = view.accuracy.unwrap();
    assert_eq!((accuracy.hits, accuracy.rows, accuracy.share), (90, 100, 0.9));
    assert!((accuracy.low - 0.8256).abs() < 1e-4 && (accuracy.high - 0.9448).abs() < 1e-4, "{accuracy:?}");
    assert_eq!(view.estimated, Some(Estimated { rows: 2_000, accuracy: 0.9 }));
    assert_eq!(view.health, Some(HealthScore { lowest: 60, mean: 70.0, devices: 2 }));
    assert_eq!((view.outliers, view.duplicates), (6, 4));
    let feature = &view.features[0];
    assert_eq!((feature.infinite, feature.below, feature.out_of_range, feature.repeats), (8, 2, 6, 10));
    assert_eq!((view.features[1].categories.dense(3), view.features[1].unseen), (vec![14, 16, 0], 4));
    let parity: Vec<Option<f64>> = view.groups.iter().map(|it| it.parity).collect();
    assert_eq!(parity, [Some(0.5), Some(0.25), Some(1.0)], "the third is two windows of 99 rows");
    let right = view.groups.iter().map(|it| it.accuracy.map(|it| (it.hits, it.rows)));
    assert_eq!(right.collect::<Vec<_>>(), [Some((0, 10)), Some((90, 90)), None]);
    let versions: Vec<_> =
        view.versions.iter().map(|it| (it.rows, it.labelled, it.accuracy.is_some())).collect();
    assert!(versions.contains(&(1_000, 100, true)) && versions.contains(&(1_000, 0, false)), "{versions:?}");
    let read: DriftView = serde_json::from_str(&serde_json::to_string(&view).unwrap()).unwrap();
    // JSON keeps all but the last place of a float.
    assert_eq!((read.rows, read.labelled, read.cut, read.health), (2_000, 100, 1, view.health));
    assert_eq!((read.features, read.estimated), (view.features, view.estimated));
    assert_eq!((read.groups.len(), read.versions.len()), (3, 2));
}

#[test]
fn what_an_older_hub_answers_is_still_read() {
    let fleet =
        [(DeviceId::new("d").unwrap(), [(model(), vec![seen(window(1, 0, DriftLevel::Drift))])].into())];
    let view = fold(fleet, &BTreeMap::new()).remove(0);
    let mut json = serde_json::to_value(&view).unwrap();
    let new = "labelled coverage accuracy figures cut estimated health outliers duplicates groups versions";
    for field in new.split(' ') {
        assert!(json.as_object_mut().unwrap().remove(field).is_some(), "{field}");
    }
    let read: DriftView = serde_json::from_value(json).unwrap();
    assert_eq!((read.rows, read.accuracy, read.features), (50, None, view.features));
}
