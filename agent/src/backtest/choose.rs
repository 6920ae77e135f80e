//! Which labels are asked for, when there are only so many.
//!
//! Each row is decided on when it is predicted, as on a device: what comes later is not known, and neither is
//! how long a part of the stream will be.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use shoal_adapt::Asker;
use std::str::FromStr;

/// Rows for each label that a part is taken to have, before it has shown to have more: a label that comes early
/// teaches for all that follows, and one of four leaves room to choose.
const ROWS_A_LABEL: f64 = 4.0;
/// The least that it is taken to have, however short parts before it were.
const LEAST_ROWS_A_LABEL: f64 = 2.0;
/// A part that is longer than it was taken for is taken to be so much longer than it is by now.
const LONGER: f64 = 1.5;

/// A budget of labels as it is written: `N` for the whole stream, or `N/COLUMN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelBudget {
    /// Labels at most.
    pub labels: u64,
    /// For each run of rows with the same value in this column.
    pub column: Option<String>,
}

impl FromStr for LabelBudget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (labels, column) = match text.split_once('/') {
            Some((labels, column)) => (labels, Some(column)),
            None => (text, None),
        };
        let labels = labels.parse().ok().filter(|labels| *labels > 0);
        match (labels, column) {
            (None, _) => Err(format!("`{text}` is no budget: write 200, or 20/batch for 20 in each batch")),
            (_, Some("")) => Err("no column after `/`: write 20/batch for 20 in each batch".into()),
            (Some(labels), column) => Ok(Self { labels, column: column.map(str::to_owned) }),
        }
    }
}

/// By which rule labels are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Choosing {
    /// Those that teach most: the most doubtful answers of the recent ones, spread so that the budget lasts.
    Active,
    /// The first rows that come.
    First,
    /// By lot, spread so that the budget lasts.
    Random,
}

/// What is known of a row when it is decided whether its label is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// How much its label would teach.
    pub(super) doubt: f32,
    /// Rows of this part before it.
    pub(super) rows: u64,
    /// Labels that are left in this part, one at least.
    pub(super) left: u64,
    /// Labels of a part.
    pub(super) budget: u64,
    /// Rows of the shortest part before; none in the first.
    pub(super) least_rows: Option<u64>,
}

/// A rule. It need not count: [`Budget`] keeps it from asking for more than there are.
pub(super) trait Choose: std::fmt::Debug {
    /// Whether the label of this row is asked for.
    fn asks(&mut self, seen: &Seen) -> bool;
}

/// The first rows of each part.
#[derive(Debug)]
struct First;

impl Choose for First {
    fn asks(&mut self, _seen: &Seen) -> bool {
        true
    }
}

/// By lot, spread over the part.
#[derive(Debug)]
struct Spread(StdRng);

impl Choose for Spread {
    fn asks(&mut self, seen: &Seen) -> bool {
        self.0.random::<f64>() < share(seen)
    }
}

/// The most doubtful of the recent rows.
impl Choose for Asker {
    fn asks(&mut self, seen: &Seen) -> bool {
        self.offer(seen.doubt, seen.left, seen.budget)
    }
}

/// The share of rows to ask about from here on, so that the labels are spent in the shortest part that is to be
/// expected, and do not run out at once in a longer one: that is taken to be half as long again as it has become.
#[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^52")]
fn share(seen: &Seen) -> f64 {
    let rows = seen.rows as f64;
    let budget = seen.budget as f64;
    let least = seen.least_rows.map_or(f64::INFINITY, |rows| rows as f64);
    let usual = least.clamp(LEAST_ROWS_A_LABEL * budget, ROWS_A_LABEL * budget);
    let expected = usual.max(LONGER * rows);
    seen.left as f64 / (expected - rows).max(1.0)
}

/// Which rows get labels.
#[derive(Debug)]
pub(super) enum Labels {
    /// Every one that has one.
    All,
    /// None.
    None,
    /// Some.
    Some(Budget),
}

impl Labels {
    /// Whether the label of this row is asked for: `key` names the part that it is of.
    pub(super) fn asks(&mut self, key: &str, doubt: f32) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Some(budget) => budget.asks(key, doubt),
        }
    }
}

/// A budget that is being spent.
#[derive(Debug)]
pub(super) struct Budget {
    each: u64,
    left: u64,
    rows: u64,
    key: Option<String>,
    /// Rows of the shortest part before.
    least_rows: Option<u64>,
    rule: Box<dyn Choose>,
}

impl Budget {
    pub(super) fn new(each: u64, choosing: Choosing, seed: u64) -> Self {
        let rule: Box<dyn Choose> = match choosing {
            Choosing::First => Box::new(First),
            Choosing::Random => Box::new(Spread(StdRng::seed_from_u64(seed))),
            Choosing::Active => Box::new(Asker::default()),
        };
        Self { each, left: 0, rows: 0, key: None, least_rows: None, rule }
    }

    /// Whether the next row's label is asked for, which spends one.
    pub(super) fn asks(&mut self, key: &str, doubt: f32) -> bool {
        if self.key.as_deref() != Some(key) {
            if self.key.is_some() {
                self.least_rows = Some(self.least_rows.map_or(self.rows, |least| least.min(self.rows)));
            }
            (self.key, self.left, self.rows) = (Some(key.to_owned()), self.each, 0);
        }
        let (rows, left, budget, least_rows) = (self.rows, self.left, self.each, self.least_rows);
        let seen = Seen { doubt, rows, left, budget, least_rows };
        self.rows += 1;
        let asks = self.left > 0 && self.rule.asks(&seen);
        self.left -= u64::from(asks);
        asks
    }
}
