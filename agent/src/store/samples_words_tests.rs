//! Who says what of a row, and which rows stay when there is no more room.

use super::samples_tests::{gas, row};
use super::*;

fn label(n: u32, source: &str, class: u32) -> LabelRow {
    LabelRow { source: source.into(), ..samples_tests::label(n, class) }
}

fn told(dir: &std::path::Path) -> Told {
    SamplesReader::open_read_only(dir).unwrap().told(&gas(), 1_000_000).unwrap()
}

/// All words on a row, the last one at the end.
fn words(told: &Told, rowid: u64) -> Vec<(&str, Label)> {
    let name = |source: u32| told.sources[source as usize].as_str();
    let others = told.others.iter().filter(|word| word.rowid == rowid);
    let mut words: Vec<(&str, Label)> = others.map(|word| (name(word.source), word.label)).collect();
    words.extend(told.rows.iter().filter(|row| row.rowid == rowid).map(|row| (name(row.source), row.label)));
    words
}

#[test]
fn the_last_word_of_each_source_is_kept() {
    type Words = &'static [(&'static str, u32)];
    let table: [(Words, Words); 6] = [
        (&[("a", 1)], &[("a", 1)]),
        (&[("a", 1), ("a", 2)], &[("a", 2)]),
        (&[("a", 1), ("b", 2)], &[("a", 1), ("b", 2)]),
        (&[("a", 1), ("b", 2), ("a", 2)], &[("b", 2), ("a", 2)]),
        (&[("a", 1), ("b", 2), ("c", 0), ("b", 1), ("b", 0)], &[("a", 1), ("c", 0), ("b", 0)]),
        (&[("a", 1), ("b", 1), ("a", 1)], &[("b", 1), ("a", 1)]),
    ];
    for is_parked in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (samples, _late) = SamplesDb::open(dir.path(), 4 << 20).unwrap();
        let rows: Vec<SampleRow> = (0..6).map(|n| row(n, 2)).collect();
        let labels: Vec<LabelRow> = (0..)
            .zip(table)
            .flat_map(|(n, (said, _))| said.iter().map(move |(source, class)| label(n, source, *class)))
            .collect();
        if is_parked {
            samples.write(Vec::new(), labels).unwrap();
            samples.write(rows, Vec::new()).unwrap();
        } else {
            samples.write(rows, labels).unwrap();
        }
        let told = told(dir.path());
        for (rowid, (said, kept)) in (1..).zip(table) {
            let kept: Vec<_> = kept.iter().map(|(source, class)| (*source, Label::Class(*class))).collect();
            assert_eq!(words(&told, rowid), kept, "{said:?}, parked: {is_parked}");
        }
        let answered = (told.rows[4].class, told.rows[4].confidence, told.rows[4].value);
        assert_eq!(answered, (Some(1), 0.75, 0.25));
    }
}

#[test]
fn words_are_bounded_and_go_with_their_row() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, _late) = SamplesDb::open(dir.path(), 4 << 20).unwrap();
    let labels = (0..20).map(|n| label(0, &format!("source {n}"), n)).collect();
    samples.write(vec![row(0, 2), row(1, 2)], labels).unwrap();
    let kept: Vec<Label> = words(&told(dir.path()), 1).iter().map(|(_, label)| *label).collect();
    assert_eq!(kept, (12..20).map(Label::Class).collect::<Vec<_>>());
    drop(samples);
    evict_oldest(dir.path());
    assert_eq!(told(dir.path()), Told::default());
    let (samples, _late) = SamplesDb::open(dir.path(), 4 << 20).unwrap();
    samples.write(Vec::new(), vec![label(1, "a", 1)]).unwrap();
    assert_eq!(words(&told(dir.path()), 2), [("a", Label::Class(1))]);
}

/// One label in a hundred is of class 7, and all of them are old: age alone would take them first.
#[test]
fn a_rare_class_outlives_newer_rows_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, _late) = SamplesDb::open(dir.path(), 1 << 20).unwrap();
    for first in (0..6_000).step_by(200) {
        let numbers = first..first + 200;
        let labels = numbers.clone().map(|n| label(n, "a", if n < 20 { 7 } else { n % 2 })).collect();
        samples.write(numbers.map(|n| row(n, 50)).collect(), labels).unwrap();
    }
    let left = told(dir.path()).rows;
    let rare = left.iter().filter(|row| row.label == Label::Class(7)).count();
    assert!(rare == 20 && left.len() > 400 && left.len() < 5_000, "{rare} of {}", left.len());
    assert_eq!(left.last().map(|row| row.rowid), Some(6_000));
    let others = left[rare].rowid;
    assert!(others > 1_000, "of the others the newest are kept, from {others}");
}
