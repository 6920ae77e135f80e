//! Which labelled rows a run trains on, and which it is judged by: pure, from what is told of them.
//!
//! Sources that contradict each other, or one that stands out ([`distrust`]), are settled first. Then the newest
//! rows are taken, and where there are more than may be, a part of the training places goes to older ones of classes
//! that are missing among them, so that a class that has not come for weeks is not forgotten. The newest by time are held out.

mod distrust;
mod words;

use super::samples::{One, Shape};
use crate::store::{OtherWord, Told, ToldRow};
use distrust::Seen;
use shoal_proto::decision::{MAX_TOLD_SOURCES, RowsRecord, SetApart, SourceRows, SourceRules};
use std::collections::BTreeMap;
use words::{CLEARLY, Settled, settle};

/// Labelled rows, the newest, that older ones are chosen among: three megabytes of them.
pub(super) const LOOK_BACK: u32 = 50_000;
/// Share of the training places that older rows may have, where there are more rows than may be: on streams whose
/// classes change at once, a quarter of older rows of all classes cost up to six points.
const OLDER_SHARE: usize = 4;
/// Rows of a regression are parted by their values, and each part is kept as a class is.
const PARTS_OF_VALUES: u8 = 5;
/// Values of two sources that differ by less of the values' standard deviation are alike: instruments are noisy.
const LIKE_VALUES: f64 = 0.25;
/// Share of rows that may have a twin, the same features in every bit, where features are measurements. Then two
/// that are labelled differently are an error. Where more have one, features are coarse, or a sensor is stuck, and
/// different labels of like rows are what there is to learn.
const FEW_TWINS: f64 = 0.05;
/// Rows of the heaviest sources that are enough to judge by: twice what a gate usually asks for.
const ENOUGH_TO_JUDGE: usize = 60;
/// How far off an answered value is that disagrees, as a multiple of the median.
const FAR_OFF: f64 = 3.0;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) shape: Shape,
    pub(super) rules: &'a SourceRules,
    /// Rows at most, held-out ones among them.
    pub(super) max_rows: usize,
    /// Share of the newest that are held out.
    pub(super) holdout_share: f64,
    /// Which of the older rows.
    pub(super) seed: u64,
}

/// A row that is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    pub(super) rowid: u64,
    pub(super) truth: One,
    pub(super) source: u32,
    pub(super) weight: f64,
    /// What its features are told apart by.
    print: u64,
    is_older: bool,
}

/// The rows of a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chosen {
    /// In order of prediction.
    pub(super) rows: Vec<Row>,
    /// So many are trained on; the newer ones are held out.
    pub(super) training: usize,
    pub(super) record: RowsRecord,
}

/// Chooses; `print` tells what a row's features are told apart by, and nothing where they are of no use.
pub(super) fn choose<E>(
    told: &Told,
    wanted: Wanted<'_>,
    print: impl FnMut(u64) -> Result<Option<u64>, E>,
) -> Result<Chosen, E> {
    let mut record = RowsRecord::default();
    let (settled, weights) = settled(told, wanted, &mut record);
    let mut rows = pick(&settled, wanted, print, &mut record)?;
    drop_twins(&mut rows, &weights, tolerance(&settled), &mut record);
    rows.sort_by_key(|row| row.rowid);
    let training = training_of(rows.len(), wanted.holdout_share);
    let held_out = judges(rows.split_off(training), &mut record);
    let mut rows = within_shares(rows, told, wanted.rules, &mut record);
    let training = rows.len();
    record.older = rows.iter().filter(|row| row.is_older).count() as u64;
    rows.extend(held_out);
    record.sources = by_source(&rows, training, &told.sources);
    Ok(Chosen { rows, training, record })
}

/// Of so many rows, those before the ones that are held out.
fn training_of(rows: usize, holdout_share: f64) -> usize {
    let share = 1.0 - holdout_share.clamp(0.0, 1.0);
    (0..rows).take_while(|at| (*at as f64) < rows as f64 * share).count()
}

/// Settles each row, and sets sources apart until none stands out; then their weights.
fn settled(told: &Told, wanted: Wanted<'_>, record: &mut RowsRecord) -> (Vec<(ToldRow, Row)>, Vec<f64>) {
    let mut weights: Vec<f64> = told.sources.iter().map(|name| wanted.rules.of(name).weight).collect();
    let mut set_apart: Vec<u32> = Vec::new();
    loop {
        let mut counts = RowsRecord::default();
        let rows = settle_all(told, wanted.shape, &weights, &set_apart, &mut counts);
        let newest = &rows[rows.len().saturating_sub(wanted.max_rows)..];
        let Some(found) = distrust::worst(&seen(newest), |source| weight_of(&weights, source)) else {
            let set_apart = std::mem::take(&mut record.set_apart);
            *record = RowsRecord { set_apart, ..counts };
            return (rows, weights);
        };
        set_apart.push(found.source);
        let place = usize::try_from(found.source).unwrap_or(usize::MAX);
        if let Some(weight) = weights.get_mut(place) {
            *weight = 0.0;
        }
        record.set_apart.push(SetApart {
            source: told.sources.get(place).cloned().unwrap_or_default(),
            labels: found.labels,
            difference: found.difference,
            z: found.z,
        });
    }
}

fn weight_of(weights: &[f64], source: u32) -> f64 {
    usize::try_from(source).ok().and_then(|source| weights.get(source)).copied().unwrap_or(0.0)
}

fn settle_all(
    told: &Told,
    shape: Shape,
    weights: &[f64],
    set_apart: &[u32],
    record: &mut RowsRecord,
) -> Vec<(ToldRow, Row)> {
    let values = told.rows.iter().filter_map(|row| shape.truth_of(row.label));
    let tolerance = tolerance_of(values);
    let (mut rows, mut words) = (Vec::with_capacity(told.rows.len()), Vec::new());
    let mut others = told.others.iter().peekable();
    for row in &told.rows {
        words.clear();
        while let Some(OtherWord { source, label, .. }) = others.next_if(|word| word.rowid <= row.rowid) {
            words.extend(shape.truth_of(*label).map(|truth| (*source, truth)));
        }
        words.extend(shape.truth_of(row.label).map(|truth| (row.source, truth)));
        if words.is_empty() {
            record.unusable += 1;
            continue;
        }
        match settle(&words, |source| weight_of(weights, source), tolerance) {
            Settled::Label { truth, source } => {
                let weight = weight_of(weights, source);
                let (rowid, print, is_older) = (row.rowid, 0, false);
                rows.push((*row, Row { rowid, truth, source, weight, print, is_older }));
            }
            Settled::Contradicted => record.contradicted += 1,
            Settled::Weightless if words.iter().any(|(source, _)| set_apart.contains(source)) => {
                record.distrusted += 1;
            }
            Settled::Weightless => record.weightless += 1,
        }
    }
    rows
}

/// How labels stand to what was answered.
fn seen(rows: &[(ToldRow, Row)]) -> Vec<Seen> {
    let off = |(told, row): &(ToldRow, Row)| match row.truth {
        One::Value(value) => f64::from((value - told.value).abs()),
        One::Class(_) => 0.0,
    };
    let mut errors: Vec<f64> = rows.iter().map(off).collect();
    errors.sort_by(f64::total_cmp);
    let far = FAR_OFF * errors.get(errors.len() / 2).copied().unwrap_or(0.0);
    let one = |pair: &(ToldRow, Row)| {
        let (told, row) = pair;
        let (class, disagrees) = match row.truth {
            One::Class(truth) => (told.class?, told.class != Some(truth)),
            One::Value(_) => (0, off(pair) > far),
        };
        Some(Seen { source: row.source, class, confidence: told.confidence, disagrees })
    };
    rows.iter().filter_map(one).collect()
}

fn tolerance(rows: &[(ToldRow, Row)]) -> f32 {
    tolerance_of(rows.iter().map(|(_, row)| row.truth))
}

/// What values that are alike differ by; nought for classes.
fn tolerance_of(truths: impl Iterator<Item = One>) -> f32 {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for truth in truths {
        let One::Value(value) = truth else { return 0.0 };
        let value = f64::from(value);
        count += 1.0;
        let step = value - mean;
        mean += step / count;
        squares += step * (value - mean);
    }
    #[expect(clippy::cast_possible_truncation, reason = "models answer in f32")]
    let tolerance = if count > 1.0 { (LIKE_VALUES * (squares / count).sqrt()) as f32 } else { 0.0 };
    tolerance
}

/// The newest rows that are of use, and where there are more than may be, some older ones.
fn pick<E>(
    settled: &[(ToldRow, Row)],
    wanted: Wanted<'_>,
    mut print: impl FnMut(u64) -> Result<Option<u64>, E>,
    record: &mut RowsRecord,
) -> Result<Vec<Row>, E> {
    let places = wanted.max_rows;
    let training = training_of(places, wanted.holdout_share);
    let classes = classes(settled);
    let missing = if settled.len() > places {
        missing(&classes, training / OLDER_SHARE, (places, training))
    } else {
        BTreeMap::new()
    };
    let older: usize = missing.values().sum();
    let mut with_print = |row: &Row, is_older| -> Result<Option<Row>, E> {
        let found = print(row.rowid)?;
        record.unusable += u64::from(found.is_none());
        Ok(found.map(|print| Row { print, is_older, ..*row }))
    };
    let mut rows = Vec::with_capacity(places.min(settled.len()));
    let mut left = settled;
    while rows.len() < places.saturating_sub(older)
        && let Some(((_, row), before)) = left.split_last()
    {
        left = before;
        rows.extend(with_print(row, false)?);
    }
    for (class, mut count) in missing {
        let of_class = left.iter().zip(&classes).filter(|(_, other)| **other == class);
        let mut of_class: Vec<Row> = of_class.map(|((_, row), _)| *row).collect();
        of_class.sort_by_key(|row| (mixed(wanted.seed ^ mixed(row.rowid)), row.rowid));
        for row in of_class {
            if count == 0 {
                break;
            }
            if let Some(row) = with_print(&row, true)? {
                rows.push(row);
                count -= 1;
            }
        }
    }
    Ok(rows)
}

/// The class of each row; of a regression, which of equal parts of the range that all but the outermost hundredths
/// span.
fn classes(rows: &[(ToldRow, Row)]) -> Vec<u32> {
    let mut values: Vec<f32> = rows.iter().filter_map(|(_, row)| row.truth.value()).collect();
    values.sort_by(f32::total_cmp);
    let outer = values.len() / 100;
    let (least, most) = values.get(outer).zip(values.iter().nth_back(outer)).unwrap_or((&0.0, &0.0));
    let bound = |part: u8| least + (most - least) * f32::from(part) / f32::from(PARTS_OF_VALUES);
    let class = |row: &Row| match row.truth {
        One::Class(class) => class,
        One::Value(value) => (1..PARTS_OF_VALUES).map(|part| u32::from(value >= bound(part))).sum(),
    };
    rows.iter().map(|(_, row)| class(row)).collect()
}

/// How many older rows each class is to have: what the newest training rows lack of its equal part of the places
/// that may be kept, as far as there are any. A class that comes all the time has none: what it looked like long ago
/// may contradict what it looks like now.
fn missing(classes: &[u32], kept: usize, (places, training): (usize, usize)) -> BTreeMap<u32, usize> {
    let (before, newest) = classes.split_at(classes.len().saturating_sub(places - kept));
    let mut there: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    for class in before {
        there.entry(*class).or_default().0 += 1;
    }
    for class in &newest[..newest.len().saturating_sub(places - training)] {
        there.entry(*class).or_default().1 += 1;
    }
    let part = kept / there.len().max(1);
    let lacks = there.into_iter().map(|(class, (old, new))| (class, part.saturating_sub(new).min(old)));
    lacks.filter(|(_, count)| *count > 0).collect()
}

/// The finaliser of SplitMix64: Steele, Lea and Flood 2014.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Sets rows apart that are alike in every bit and labelled differently, where few are alike at all.
fn drop_twins(rows: &mut Vec<Row>, weights: &[f64], tolerance: f32, record: &mut RowsRecord) {
    let mut alike: BTreeMap<u64, Vec<(u32, One)>> = BTreeMap::new();
    for row in rows.iter() {
        alike.entry(row.print).or_default().push((row.source, row.truth));
    }
    let twins: usize = alike.values().map(Vec::len).filter(|count| *count > 1).sum();
    if twins == 0 || twins as f64 > FEW_TWINS * rows.len() as f64 {
        return;
    }
    let before = rows.len();
    rows.retain(|row| {
        let words = &alike[&row.print];
        words.len() == 1
            || match settle(words, |source| weight_of(weights, source), tolerance) {
                Settled::Label { truth, .. } => !truth.differs(row.truth, tolerance),
                Settled::Contradicted | Settled::Weightless => false,
            }
    });
    record.twins += (before - rows.len()) as u64;
}

/// Of the rows after the cut, those that judge: of the heaviest sources where they have enough, else of the next
/// ones too. A label that is only half believed shall not decide what serves; and it is not trained on either,
/// since what is trained on lies before what is held out.
fn judges(mut rows: Vec<Row>, record: &mut RowsRecord) -> Vec<Row> {
    let mut weights: Vec<f64> = rows.iter().map(|row| row.weight).collect();
    weights.sort_by(|a, b| b.total_cmp(a));
    let enough = weights.get(ENOUGH_TO_JUDGE - 1).or(weights.last()).copied().unwrap_or(0.0);
    let before = rows.len();
    // Sources of about the same weight judge together.
    rows.retain(|row| row.weight * CLEARLY > enough);
    record.unjudged += (before - rows.len()) as u64;
    rows
}

/// Leaves of each source at most its share of the rows that are left, the newest.
fn within_shares(mut rows: Vec<Row>, told: &Told, rules: &SourceRules, record: &mut RowsRecord) -> Vec<Row> {
    let mut left: BTreeMap<u32, usize> = BTreeMap::new();
    for row in &rows {
        *left.entry(row.source).or_default() += 1;
    }
    let name = |source: u32| usize::try_from(source).ok().and_then(|place| told.sources.get(place));
    let share = |source: u32| name(source).map_or(1.0, |name| rules.of(name).max_share);
    loop {
        let all: usize = left.values().sum();
        let mut is_changed = false;
        for (source, count) in &mut left {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of the rows")]
            let most = (share(*source) * all as f64 + 1e-9) as usize;
            is_changed |= *count > most;
            *count = (*count).min(most);
        }
        if !is_changed {
            break;
        }
    }
    let before = rows.len();
    rows.reverse();
    rows.retain(|row| match left.get_mut(&row.source) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    });
    rows.reverse();
    record.over_share += (before - rows.len()) as u64;
    rows
}

fn by_source(rows: &[Row], training: usize, names: &[String]) -> Vec<SourceRows> {
    let mut counted: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for (place, row) in rows.iter().enumerate() {
        let (trained, held_out) = counted.entry(row.source).or_default();
        *(if place < training { trained } else { held_out }) += 1;
    }
    let mut sources: Vec<SourceRows> = counted
        .into_iter()
        .map(|(source, (trained, held_out))| {
            let name = usize::try_from(source).ok().and_then(|place| names.get(place));
            SourceRows { source: name.cloned().unwrap_or_default(), trained, held_out }
        })
        .collect();
    sources.sort_by(|a, b| {
        (b.trained + b.held_out).cmp(&(a.trained + a.held_out)).then_with(|| a.source.cmp(&b.source))
    });
    if sources.len() > MAX_TOLD_SOURCES {
        let rest = sources.split_off(MAX_TOLD_SOURCES - 1);
        let sum = |of: fn(&SourceRows) -> u64| rest.iter().map(of).sum();
        let (trained, held_out) = (sum(|one| one.trained), sum(|one| one.held_out));
        sources.push(SourceRows { source: String::new(), trained, held_out });
    }
    sources
}

#[cfg(test)]
mod tests;
