use super::*;
use shoal_proto::id::{Digest, ModelName};
use shoal_proto::time::WallMs;
use std::path::Path;
use std::sync::Arc;

const MIB: u64 = 1024 * 1024;

pub(super) fn gas() -> ModelName {
    ModelName::new("gas").unwrap()
}

pub(super) fn row(n: u32, features: usize) -> SampleRow {
    SampleRow {
        prediction_id: format!("gas.{n}"),
        model: gas(),
        version: Digest::of(b"v1"),
        at: WallMs(1_000 + u64::from(n)),
        features: (0..features).map(|_| n as f32).collect(),
        class: Some(n % 3),
        confidence: 0.75,
        values: Arc::new([0.25, 0.75]),
        groups: vec![u8::try_from(n % 2).unwrap()].into(),
    }
}

pub(super) fn label(n: u32, class: u32) -> LabelRow {
    LabelRow {
        prediction_id: format!("gas.{n}"),
        label: Label::Class(class),
        source: "test".into(),
        at: WallMs(5_000),
    }
}

fn size(dir: &Path) -> u64 {
    dir.join("samples.db").metadata().unwrap().len()
}

/// Captures without loss: waits for the writer where the queue is full.
async fn capture_all(samples: &SamplesDb, rows: impl Iterator<Item = SampleRow>) {
    for row in rows {
        while samples.capture(row.clone()) == Captured::Dropped {
            samples.flush().await.unwrap();
        }
    }
    samples.flush().await.unwrap();
}

#[tokio::test]
async fn rows_and_labels_are_read_back_by_another_connection() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, _late) = SamplesDb::open(dir.path(), 10 * MIB).unwrap();
    capture_all(&samples, (0..10).map(|n| row(n, 3))).await;
    for n in [7, 2, 5] {
        let LabelOutcome::Joined(joined) = samples.label(label(n, 1)).await.unwrap() else {
            panic!("the row is there")
        };
        assert_eq!((joined.model, joined.version, joined.class), (gas(), Digest::of(b"v1"), Some(n % 3)));
        assert_eq!((joined.confidence, joined.relabelled, joined.repeated), (0.75, false, false));
    }
    let reader = SamplesReader::open_read_only(dir.path()).unwrap();
    let labelled = reader.labelled(&gas(), 2).unwrap();
    let ids: Vec<_> = labelled.iter().map(|row| row.prediction_id.as_str()).collect();
    assert_eq!(ids, ["gas.5", "gas.7"], "the newest two, in order of prediction");
    assert_eq!((labelled[0].class, labelled[0].value, labelled[0].at), (Some(1), None, WallMs(1_005)));
    assert_eq!(labelled[0].features, [5.0; 3]);
    assert_eq!(reader.count_labelled_since(&gas(), 0).unwrap(), 3);
    assert_eq!(reader.count_labelled_since(&gas(), labelled[0].rowid).unwrap(), 1);
    let recent = reader.recent(&gas(), 4).unwrap();
    assert_eq!(recent.len(), 4);
    assert_eq!((recent[1].label, recent[2].label), (Some(Label::Class(1)), None));
    assert_eq!(reader.recent(&ModelName::new("other").unwrap(), 4).unwrap(), []);
}

#[tokio::test]
async fn the_last_label_wins_and_the_same_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, _late) = SamplesDb::open(dir.path(), 10 * MIB).unwrap();
    capture_all(&samples, [row(1, 3)].into_iter()).await;
    for (class, relabelled, repeated) in [(1, false, false), (1, false, true), (2, true, false)] {
        let LabelOutcome::Joined(joined) = samples.label(label(1, class)).await.unwrap() else {
            panic!("the row is there")
        };
        assert_eq!((joined.relabelled, joined.repeated), (relabelled, repeated), "{class}");
    }
    let stats = samples.stats();
    assert_eq!((stats.joined, stats.relabelled, stats.parked), (1, 1, 0));
    let reader = SamplesReader::open_read_only(dir.path()).unwrap();
    assert_eq!(reader.labelled(&gas(), 10).unwrap()[0].class, Some(2));
}

#[tokio::test]
async fn a_label_that_came_first_is_joined_when_its_row_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, _late) = SamplesDb::open(dir.path(), 10 * MIB).unwrap();
    assert_eq!(samples.label(label(1, 0)).await.unwrap(), LabelOutcome::Parked);
    assert_eq!(samples.label(label(1, 2)).await.unwrap(), LabelOutcome::Parked);
    drop(samples);
    let (samples, mut late) = SamplesDb::open(dir.path(), 10 * MIB).unwrap();
    capture_all(&samples, (0..3).map(|n| row(n, 3))).await;
    let joined = late.recv().await.unwrap();
    assert_eq!((joined.prediction_id.as_str(), joined.label), ("gas.1", Label::Class(2)));
    assert_eq!(samples.stats().joined, 1);
    let reader = SamplesReader::open_read_only(dir.path()).unwrap();
    assert_eq!(reader.labelled(&gas(), 10).unwrap().len(), 1);
}

#[tokio::test]
async fn parked_labels_are_bounded_in_count_and_age() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, mut late) = SamplesDb::open(dir.path(), 50 * MIB).unwrap();
    let samples = &samples;
    let parked = u32::try_from(samples_rows::MAX_PARKED).unwrap();
    for first in (0..parked + 200).step_by(200) {
        let group = (first..first + 200).map(|n| samples.label(label(n, 0)));
        for outcome in join_all(group).await {
            assert_eq!(outcome.unwrap(), LabelOutcome::Parked);
        }
    }
    assert_eq!(samples.stats().expired, 200, "the oldest went");
    let mut old = label(u32::MAX, 0);
    old.at = WallMs(5_000 + u64::try_from(samples_rows::PARKED_AGE.as_millis()).unwrap() + 1);
    samples.label(old).await.unwrap();
    assert_eq!(samples.stats().expired, 200 + u64::from(parked));
    capture_all(samples, [row(300, 3), row(u32::MAX, 3)].into_iter()).await;
    assert_eq!(late.recv().await.unwrap().prediction_id, format!("gas.{}", u32::MAX));
}

/// Polls all at once, so that they share groups.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut waiting = false;
        for (future, output) in &mut pending {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(ready) => *output = Some(ready),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    pending.into_iter().map(|(_, output)| output.unwrap()).collect()
}

#[tokio::test]
async fn the_quota_holds_and_labelled_rows_outlive_unlabelled_ones() {
    let dir = tempfile::tempdir().unwrap();
    let quota = 2 * MIB;
    let (samples, _late) = SamplesDb::open(dir.path(), quota).unwrap();
    // Ten times the quota; every tenth row of the first two thousand is labelled.
    for first in (0..20_000).step_by(1_000) {
        capture_all(&samples, (first..first + 1_000).map(|n| row(n, 200))).await;
        for n in (first..first + 1_000).step_by(10).filter(|n| *n < 2_000) {
            samples.label(label(n, 1)).await.unwrap();
        }
        assert!(size(dir.path()) <= quota, "{} bytes", size(dir.path()));
    }
    let stats = samples.stats();
    assert_eq!((stats.captured, stats.dropped), (20_000, 0));
    assert!(stats.evicted > 10_000, "{stats:?}");
    let reader = SamplesReader::open_read_only(dir.path()).unwrap();
    assert_eq!(reader.count_labelled_since(&gas(), 0).unwrap(), 200, "no labelled row went");
    let newest = reader.recent(&gas(), 1).unwrap();
    assert_eq!(newest[0].prediction_id, "gas.19999");
}

#[tokio::test]
async fn labelled_rows_alone_leave_room_for_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let quota = MIB;
    let (samples, _late) = SamplesDb::open(dir.path(), quota).unwrap();
    for first in (0..4_000).step_by(100) {
        capture_all(&samples, (first..first + 100).map(|n| row(n, 200))).await;
        for outcome in join_all((first..first + 100).map(|n| samples.label(label(n, 1)))).await {
            assert!(matches!(outcome.unwrap(), LabelOutcome::Joined(_)), "its row is still there");
        }
        assert!(size(dir.path()) <= quota);
    }
    let reader = SamplesReader::open_read_only(dir.path()).unwrap();
    assert_eq!(reader.labelled(&gas(), 1).unwrap()[0].prediction_id, "gas.3999");
    assert!(reader.count_labelled_since(&gas(), 0).unwrap() > 300);
}

#[tokio::test]
async fn a_row_larger_than_the_quota_is_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, _late) = SamplesDb::open(dir.path(), MIB / 4).unwrap();
    capture_all(&samples, [row(1, 200_000), row(2, 10)].into_iter()).await;
    let stats = samples.stats();
    assert_eq!((stats.captured, stats.dropped), (1, 1));
    capture_all(&samples, [row(3, 10)].into_iter()).await;
    assert_eq!(samples.stats().captured, 2);
    assert!(matches!(samples.label(label(3, 1)).await.unwrap(), LabelOutcome::Joined(_)));
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_never_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, _late) = SamplesDb::open(dir.path(), 50 * MIB).unwrap();
    let offered = 50_000u32;
    let queued = (0..offered).filter(|n| samples.capture(row(*n, 20)) == Captured::Queued).count() as u64;
    samples.flush().await.unwrap();
    let stats = samples.stats();
    assert_eq!(stats.captured, queued);
    assert_eq!(stats.captured + stats.dropped, u64::from(offered));
}

#[tokio::test]
async fn what_cannot_be_a_label_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, _late) = SamplesDb::open(dir.path(), MIB).unwrap();
    let mut bad = label(1, 0);
    bad.label = Label::Value(f64::NAN);
    assert!(matches!(samples.label(bad).await, Err(StoreError::Row { .. })));
    let mut bad = label(1, 0);
    bad.prediction_id = "x".repeat(MAX_ID_BYTES + 1);
    assert!(matches!(samples.label(bad).await, Err(StoreError::Row { .. })));
}

#[tokio::test]
async fn a_damaged_file_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    crate::file::write_atomic(&dir.path().join("samples.db"), &[7; 9_000]).unwrap();
    let (samples, _late) = SamplesDb::open(dir.path(), MIB).unwrap();
    assert!(samples.recovered().unwrap().contains("damaged-1"));
    capture_all(&samples, [row(1, 3)].into_iter()).await;
    assert_eq!(samples.stats().captured, 1);
}

#[test]
fn rows_and_labels_written_together_are_on_disk_when_it_returns() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, _late) = SamplesDb::open(dir.path(), 10 * MIB).unwrap();
    let reader = |limit| SamplesReader::open_read_only(dir.path()).unwrap().labelled(&gas(), limit).unwrap();
    for (from, to) in [(0, 3_000), (3_000, 3_001), (3_001, 3_001)] {
        let labels: Vec<LabelRow> = (from..to).step_by(2).map(|n| label(n, 1)).collect();
        let done = samples.write((from..to).map(|n| row(n, 3)).collect(), labels.clone()).unwrap();
        assert_eq!(done.len(), labels.len());
        assert!(done.iter().all(|one| matches!(one, LabelOutcome::Joined(_))));
        assert_eq!(reader(5_000).len(), to.div_ceil(2) as usize);
    }
    assert_eq!((samples.stats().captured, samples.stats().joined), (3_001, 1_501));
    let bad = LabelRow { prediction_id: String::new(), ..label(1, 1) };
    assert!(samples.write(Vec::new(), vec![bad]).is_err());
}
