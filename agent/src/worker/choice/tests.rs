use super::*;
use crate::store::Label;
use shoal_proto::decision::SourceRule;
use std::convert::Infallible;

const CLASSES: Shape = Shape { width: 2, classes: 10 };

/// A row of a source with a class, answered right.
fn row(rowid: u64, source: u32, class: u32) -> ToldRow {
    ToldRow { rowid, label: Label::Class(class), source, class: Some(class), confidence: 0.9, value: 0.0 }
}

fn told(rows: Vec<ToldRow>) -> Told {
    let sources = ["person", "vision", "scale"].map(str::to_owned).to_vec();
    Told { rows, others: Vec::new(), sources }
}

fn rules(named: &[(&str, f64, f64)]) -> SourceRules {
    let named = named.iter().map(|(name, weight, max_share)| {
        ((*name).to_owned(), SourceRule { weight: *weight, max_share: *max_share })
    });
    SourceRules { named: named.collect(), ..SourceRules::default() }
}

fn wanted(rules: &SourceRules) -> Wanted<'_> {
    Wanted { shape: CLASSES, rules, max_rows: 1_000, holdout_share: 0.3, seed: 1 }
}

/// Chooses among rows all of whose features differ.
fn chosen(told: &Told, wanted: Wanted<'_>) -> Chosen {
    choose(told, wanted, |rowid| Ok::<_, Infallible>(Some(rowid))).unwrap()
}

fn ids(rows: &[Row]) -> Vec<u64> {
    rows.iter().map(|row| row.rowid).collect()
}

#[test]
fn without_rules_the_newest_rows_are_taken_and_the_newest_of_them_held_out() {
    let told = told((1..=100).map(|n| row(n, (n % 2) as u32, (n % 3) as u32)).collect());
    let rules = SourceRules::default();
    let all = chosen(&told, wanted(&rules));
    assert_eq!((ids(&all.rows), all.training), ((1..=100).collect(), 70));
    assert!(all.rows.iter().all(|row| row.weight == 1.0) && all.record.left_out().is_empty());
    let rows = |source: &str, trained, held_out| SourceRows { source: source.into(), trained, held_out };
    assert_eq!(all.record.sources, [rows("person", 35, 15), rows("vision", 35, 15)]);
    assert_eq!(all.record.to_string(), "rows by source: person 35 + 15 held out, vision 35 + 15 held out");
}

#[test]
fn sources_count_by_their_weight() {
    let told = told((1..=1_000).map(|n| row(n, u32::from(n % 5 != 0), 0)).collect());
    for (vision, judges, unjudged, weightless) in
        [(1.0, 300, 0, 0), (0.6, 300, 0, 0), (0.3, 60, 240, 0), (0.0, 60, 0, 800)]
    {
        let rules = rules(&[("vision", vision, 1.0)]);
        let chosen = chosen(&told, wanted(&rules));
        let held_out = &chosen.rows[chosen.training..];
        assert_eq!((held_out.len(), chosen.record.unjudged), (judges, unjudged), "{vision}");
        assert_eq!(chosen.record.weightless, weightless);
        let weight = |row: &Row| if row.source == 1 { vision } else { 1.0 };
        assert!(chosen.rows.iter().all(|row| row.weight == weight(row) && row.weight > 0.0));
    }
    let few = Told { rows: told.rows[..900].to_vec(), ..told };
    let rules = rules(&[("vision", 0.3, 1.0)]);
    let chosen = chosen(&few, wanted(&rules));
    assert_eq!(
        (chosen.rows.len() - chosen.training, chosen.record.unjudged),
        (270, 0),
        "54 are too few to judge by"
    );
}

#[test]
fn no_source_has_more_than_its_share() {
    // Of 700 training rows, so many of each source, and the rules' shares: rows that are left of each.
    type Counts = [usize; 3];
    type Named<'a> = &'a [(&'a str, f64, f64)];
    let table: [(Counts, Named<'_>, Counts); 6] = [
        ([300, 300, 100], &[], [300, 300, 100]),
        ([100, 600, 0], &[("vision", 1.0, 0.5)], [100, 100, 0]),
        ([400, 300, 0], &[("vision", 1.0, 0.5)], [400, 300, 0]),
        ([100, 300, 300], &[("vision", 1.0, 0.25), ("scale", 1.0, 0.25)], [100, 50, 50]),
        ([0, 700, 0], &[("vision", 1.0, 0.5)], [0, 0, 0]),
        ([300, 400, 0], &[("vision", 1.0, 0.0)], [300, 0, 0]),
    ];
    for (counts, named, left) in table {
        let bounds = [counts[0], counts[0] + counts[1]];
        let of = |place: usize| u32::from(place >= bounds[0]) + u32::from(place >= bounds[1]);
        // Mixed, so that each source has rows of all times.
        let places: Vec<usize> = (0..700).map(|n| n * 311 % 700).collect();
        let rows = places.iter().zip(1..).map(|(place, n)| row(n, of(*place), 0));
        let rows: Vec<ToldRow> = rows.chain((701..=1_000).map(|n| row(n, 0, 0))).collect();
        let rules = rules(named);
        let chosen = chosen(&told(rows.clone()), wanted(&rules));
        let training = &chosen.rows[..chosen.training];
        for (source, left) in (0..).zip(left) {
            let mine = training.iter().filter(|row| row.source == source).map(|row| row.rowid);
            let newest = rows[..700].iter().filter(|row| row.source == source).map(|row| row.rowid);
            let newest: Vec<u64> = newest.skip(counts[source as usize] - left).collect();
            assert_eq!(mine.collect::<Vec<_>>(), newest, "{counts:?} {named:?}");
        }
        assert_eq!(chosen.record.over_share, (700 - left.iter().sum::<usize>()) as u64);
        assert_eq!(chosen.rows.len() - chosen.training, 300, "what is held out is not touched");
    }
}

#[test]
fn contradicted_rows_are_neither_trained_on_nor_held_out() {
    let mut told = told((1..=100).map(|n| row(n, 0, 0)).collect());
    let word = |rowid, class| OtherWord { rowid, source: 1, label: Label::Class(class) };
    told.others = vec![word(5, 1), word(6, 0), word(95, 2), word(95, 0)];
    let usual = SourceRules::default();
    let two = chosen(&told, wanted(&usual));
    let left: Vec<u64> = (1..=100).filter(|n| ![5, 95].contains(n)).collect();
    assert_eq!((ids(&two.rows), two.record.contradicted), (left, 2));
    let heavier = rules(&[("vision", 0.5, 1.0)]);
    let heavier = chosen(&told, wanted(&heavier));
    assert_eq!((heavier.rows.len(), heavier.record.contradicted), (100, 0));
    let other = rules(&[("person", 0.5, 1.0)]);
    let other = chosen(&told, wanted(&other));
    let truth =
        |rowid: u64| other.rows.iter().find(|row| row.rowid == rowid).map(|row| (row.truth, row.source));
    assert_eq!(truth(5), Some((One::Class(1), 1)), "the heavier word, though not the last");
}

#[test]
fn twins_with_other_labels_are_set_apart_where_features_are_measurements() {
    let rules = SourceRules::default();
    let rows: Vec<ToldRow> = (1..=100).map(|n| row(n, 0, u32::from(n == 40 || n == 60))).collect();
    let told = told(rows);
    // So many prints in all: 100 and fewer make twins of rows n and n + prints.
    for (same, left_out) in
        [(vec![], 0), (vec![(40, 41)], 2), (vec![(40, 41), (50, 51)], 2), (vec![(40, 60)], 0)]
    {
        let print =
            |n| Ok::<_, Infallible>(Some(same.iter().find(|pair| pair.1 == n).map_or(n, |pair| pair.0)));
        let chosen = choose(&told, wanted(&rules), print).unwrap();
        assert_eq!((chosen.rows.len() as u64, chosen.record.twins), (100 - left_out, left_out), "{same:?}");
    }
    let coarse = choose(&told, wanted(&rules), |n| Ok::<_, Infallible>(Some(n % 50))).unwrap();
    assert_eq!((coarse.rows.len(), coarse.record.twins), (100, 0), "coarse features: noise, and no error");
}

#[test]
fn a_class_of_long_ago_is_not_forgotten() {
    // Class 7 came last 3,000 rows ago, class 0 always.
    let rows = (1..=5_000).map(|n| row(n, 0, if n < 2_000 && n % 20 == 0 { 7 } else { 0 })).collect();
    let told = told(rows);
    let rules = SourceRules::default();
    let first = chosen(&told, wanted(&rules));
    assert_eq!((first.rows.len(), first.training, first.record.older), (1_000, 700, 87));
    assert_eq!(
        ids(&first.rows[87..]),
        (4_088..=5_000).collect::<Vec<_>>(),
        "the newest, and of them the holdout"
    );
    let sevens = |chosen: &Chosen| chosen.rows.iter().filter(|row| row.truth == One::Class(7)).count();
    assert_eq!(sevens(&first), 87, "its half of a quarter; the other class has enough");
    assert_eq!(chosen(&told, wanted(&rules)), first, "the same again");
    let other = chosen(&told, Wanted { seed: 2, ..wanted(&rules) });
    assert!(ids(&other.rows[..87]) != ids(&first.rows[..87]) && sevens(&other) == 87);
    let few = Told { rows: told.rows[4_000..].to_vec(), ..told };
    assert_eq!(chosen(&few, wanted(&rules)).record.older, 0, "all rows have a place");
}

#[test]
fn values_are_kept_over_their_range() {
    let shape = Shape { width: 2, classes: 0 };
    let value = |n: u64| if n < 500 { n as f64 } else { 1_000.0 };
    let rows = (1..=4_000).map(|n| ToldRow { label: Label::Value(value(n)), class: None, ..row(n, 0, 0) });
    let told = told(rows.collect());
    let rules = SourceRules::default();
    let chosen = chosen(&told, Wanted { shape, ..wanted(&rules) });
    let low = chosen.rows.iter().filter(|row| row.truth.value().is_some_and(|value| value < 500.0)).count();
    assert_eq!((chosen.record.older, low), (129, 129), "43 of each part of the range");
}

#[test]
fn a_source_that_lies_is_set_apart_and_named() {
    let mut rows: Vec<ToldRow> = (1..=900).map(|n| row(n, (n % 3) as u32, (n % 2) as u32)).collect();
    for row in rows.iter_mut().filter(|row| row.source == 1 && row.rowid % 2 == 0) {
        row.label = Label::Class(3);
    }
    let mut told = told(rows);
    told.others.push(OtherWord { rowid: 4, source: 0, label: Label::Class(5) });
    let usual = SourceRules::default();
    let chosen = chosen(&told, wanted(&usual));
    assert_eq!(chosen.record.set_apart.iter().map(|one| one.source.as_str()).collect::<Vec<_>>(), ["vision"]);
    assert_eq!((chosen.rows.len(), chosen.record.distrusted), (601, 299));
    let told_by = |rowid: u64| chosen.rows.iter().find(|row| row.rowid == rowid).map(|row| row.source);
    assert_eq!(told_by(4), Some(0), "what another says of its rows stands");
    assert!(chosen.record.to_string().contains("`vision` is set apart: its"), "{}", chosen.record);
}

#[test]
fn rows_of_no_use_are_counted() {
    let mut told = told((1..=100).map(|n| row(n, 0, 0)).collect());
    told.rows[3].label = Label::Class(10);
    told.rows[4].label = Label::Value(1.0);
    let rules = SourceRules::default();
    let print = |n| Ok::<_, Infallible>((n > 3).then_some(n));
    let chosen = choose(&told, wanted(&rules), print).unwrap();
    assert_eq!((chosen.rows.len(), chosen.record.unusable), (95, 5));
    let none = choose(&Told::default(), wanted(&rules), print).unwrap();
    assert_eq!((none.rows.len(), none.training), (0, 0));
}

#[test]
fn a_record_of_many_sources_is_short() {
    let sources = (0..50).map(|n| format!("{n:064}")).collect();
    let rows = (1..=1_000).map(|n| row(n, (n % 50) as u32, 0)).collect();
    let rules = SourceRules::default();
    let chosen = chosen(&Told { rows, others: Vec::new(), sources }, wanted(&rules));
    assert_eq!(chosen.record.sources.len(), MAX_TOLD_SOURCES);
    assert_eq!(chosen.record.sources.iter().map(|one| one.trained + one.held_out).sum::<u64>(), 1_000);
    assert!(shoal_proto::wire::to_cbor(&chosen.record).len() < 1_024);
}
