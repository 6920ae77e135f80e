//! What a version's inputs are held against, made ready for rows.

use crate::budget::{Heights, ROWS_A_MONTH, share};
use crate::column::{Reference, event};
use crate::joint::{Joint, OUTLIER_ALPHA};
use crate::sequential::{BernoulliBets, ConformalBets, Shape};
use shoal_proto::baseline::{Baseline, FeatureBaseline, FeatureKind, Intervals, JointBaseline, Ranks};
use shoal_proto::finding::Monitor;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Share of rows from which on a rate that is nought in training matters: a CUSUM bets on the double of it.
const MATERIAL_RATE: f64 = 0.005;
/// Rows of a rate's reference at least: what so few never showed may still be one in two hundred.
const RATE_ROWS: u64 = 200;

/// What rows are held against, made ready: no part of the state.
#[derive(Debug, Clone)]
pub(crate) struct InputReference {
    pub(super) baseline: Arc<Baseline>,
    pub(super) columns: Reference,
    /// One a column; none for a category, whose bins have no order.
    pub(super) bets: Vec<Option<Arc<ConformalBets>>>,
    pub(super) rates: Vec<Rate>,
    pub(super) duplicates: BernoulliBets,
    pub(super) misfits: BernoulliBets,
    pub(super) joint: Option<JointReference>,
    pub(super) embedding: Option<JointReference>,
    pub(super) intervals: Option<Intervals>,
    pub(super) location: Heights,
    pub(super) spread: Heights,
}

/// One rate of one column.
#[derive(Debug, Clone)]
pub(super) struct Rate {
    pub(super) column: usize,
    pub(super) events: u8,
    pub(super) monitor: Monitor,
    pub(super) bets: Arc<BernoulliBets>,
    pub(super) heights: Heights,
}

#[derive(Debug, Clone)]
pub(super) struct JointReference {
    pub(super) joint: Joint,
    pub(super) distance: ConformalBets,
    pub(super) residual: Option<ConformalBets>,
    pub(super) outliers: BernoulliBets,
}

impl InputReference {
    pub(crate) fn new(baseline: &Arc<Baseline>) -> Self {
        let features = &baseline.features;
        let numbers = features.iter().filter(|feature| feature.kind != FeatureKind::Category).count();
        let (location, spread) =
            (Heights::new(Monitor::Location, numbers), Heights::new(Monitor::Spread, numbers));
        let alone = |monitor| ROWS_A_MONTH * features.len().max(1) as f64 / share(monitor);
        let columns = Reference::new(features, alone(Monitor::Stuck).max(alone(Monitor::Scale)));
        let rhythm = baseline.rhythm.as_ref();
        let duplicates = rhythm.map_or((0, 0), |rhythm| (rhythm.duplicates, rhythm.rows));
        Self {
            rates: rates(&columns, features),
            bets: value_bets(features, location.drift.max(spread.drift)),
            duplicates: rate_bets(duplicates, 1, Heights::new(Monitor::Duplicate, 1)),
            // A package promises none.
            misfits: rate_bets((0, 0), 1, Heights::new(Monitor::Schema, 1)),
            joint: baseline.joint.as_ref().and_then(|joint| JointReference::new(joint, Monitor::Joint)),
            embedding: baseline
                .embedding
                .as_ref()
                .and_then(|embedding| JointReference::new(embedding, Monitor::Embedding)),
            intervals: rhythm.and_then(|rhythm| rhythm.intervals.clone()),
            baseline: Arc::clone(baseline),
            columns,
            location,
            spread,
        }
    }

    /// Multiplications that all features together cost a row.
    pub(crate) fn joint_operations(&self) -> usize {
        self.joint.iter().chain(&self.embedding).map(|joint| joint.joint.operations()).sum()
    }
}

impl JointReference {
    fn new(baseline: &JointBaseline, monitor: Monitor) -> Option<Self> {
        let joint = Joint::new(baseline).ok()?;
        let bets = |ranks: &Ranks, monitor| {
            ConformalBets::new(&ranks.counts, Shape::Distances, 1, Heights::new(monitor, 1).drift)
        };
        // A rate is promised by so many rows as make its bound the rate that can be expected at most.
        let most = joint.expected_outliers(OUTLIER_ALPHA);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a million")]
        let marked = (most * 1e6) as u64;
        Some(Self {
            distance: bets(joint.distance_ranks(), monitor),
            residual: joint.residual_ranks().map(|ranks| bets(ranks, monitor)),
            outliers: rate_bets((marked, 1_000_000), 1, Heights::new(Monitor::Outlier, 1)),
            joint,
        })
    }
}

/// One a column, none for a category. Bins of equal mass make most columns alike, and bets cost milliseconds:
/// equal ones are made once.
fn value_bets(features: &[FeatureBaseline], log_run_length: f64) -> Vec<Option<Arc<ConformalBets>>> {
    let mut made: BTreeMap<(&[u64], u32), Arc<ConformalBets>> = BTreeMap::new();
    let mut bets = Vec::with_capacity(features.len());
    for feature in features {
        let (counts, spacing) = (&feature.counts[..], feature.spacing);
        let make = || Arc::new(ConformalBets::new(counts, Shape::Values, spacing, log_run_length));
        let is_value = feature.kind != FeatureKind::Category;
        bets.push(is_value.then(|| Arc::clone(made.entry((counts, spacing)).or_insert_with(make))));
    }
    bets
}

fn rates(columns: &Reference, features: &[FeatureBaseline]) -> Vec<Rate> {
    let of_kind = |feature: &FeatureBaseline| match feature.kind {
        FeatureKind::Category => vec![(event::UNSEEN, Monitor::Unseen)],
        FeatureKind::Whole => {
            vec![(event::BELOW | event::ABOVE, Monitor::Range), (event::FRACTION, Monitor::Unseen)]
        }
        FeatureKind::Number => vec![(event::BELOW | event::ABOVE, Monitor::Range)],
    };
    let mut made: BTreeMap<(u64, u64, u32, u64), Arc<BernoulliBets>> = BTreeMap::new();
    let always = [(event::MISSING, Monitor::Missing), (event::INFINITE, Monitor::Infinite)];
    let mut found = Vec::new();
    for (column, feature) in features.iter().enumerate() {
        for (events, monitor) in always.into_iter().chain(of_kind(feature)) {
            let of = |bit| if events & bit == 0 { (0, 0) } else { columns.rate(column, bit) };
            let (marked, rows) = if events & event::BELOW == 0 {
                of(events)
            } else {
                let (low, high) = (of(event::BELOW), of(event::ABOVE));
                (low.0 + high.0, low.1)
            };
            let heights = Heights::new(monitor, features.len());
            let make = || Arc::new(rate_bets((marked, rows), feature.spacing, heights));
            let key = (marked, rows, feature.spacing, heights.drift.to_bits());
            let bets = Arc::clone(made.entry(key).or_insert_with(make));
            found.push(Rate { column, events, monitor, bets, heights });
        }
    }
    found
}

/// Bets on a rate, which is taken to be no less than what matters.
fn rate_bets((marked, rows): (u64, u64), spacing: u32, heights: Heights) -> BernoulliBets {
    let rows = rows.max(RATE_ROWS);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the rows")]
    let least = (rows as f64 * MATERIAL_RATE).ceil() as u64;
    BernoulliBets::new(marked.max(least), rows, spacing, heights.drift)
}
