use super::*;
use crate::testing::{model, package};
use shoal_proto::fact::Fact;
use shoal_proto::id::Replica;
use shoal_proto::id::Side;
use shoal_proto::op::Op;
use shoal_proto::summary::{FeatureSummary, LabelSummary, WindowId};
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
        let numbers: Vec<u64> = newest[&model()].iter().map(|it| it.id.number).collect();
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
            (id, [(model(), vec![window(1, 0, Stable), window(2, 0, *level)])].into())
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
    let fleet = [(DeviceId::new("d").unwrap(), [(model(), windows)].into())];
    let view = fold(fleet, &BTreeMap::new()).remove(0);
    let device = &view.devices[0];
    assert_eq!((device.level, device.since), (Drift, Some(WallMs(30))));
    assert_eq!((device.labelled, device.correct), (40, 28));
    assert_eq!(device.features, ["feature 0"]);
    assert_eq!(view.features[0].devices.len(), 1);
    assert!(view.features[1].devices.is_empty());
}
