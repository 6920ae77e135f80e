//! One pass over a stream.

use super::choose::{Budget, Labels};
use super::feed::{Behind, Block, Feed};
use super::journal::Journal;
use super::parts::{Ended, Parts};
use super::report::{BacktestReport, FiguresReport, LabelReport, PartMeans, PolicyReport, Spent};
use super::score::{Answers, Course, Score, Three};
use super::world::{Answered, Served, World};
use super::{BacktestArgs, BacktestError};
use crate::config::LoopSettings;
use crate::profile::answer;
use shoal_infer::{Predictor, Rows};
use shoal_proto::id::DeviceId;
use shoal_proto::manifest::{Manifest, Task};
use shoal_proto::package::Package;
use shoal_watch::row::{Asked, Truth};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Milliseconds from one row to the next, where the package does not tell.
const INTERVAL_MS: u64 = 1_000;
/// Rows that are answered again at once.
const AGAIN: usize = 256;
/// The life of the server that requests come to.
const LIFE: u64 = 1;

/// One row, as it went.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(test), expect(dead_code, reason = "only tests look at each row"))]
pub(super) struct Outcome {
    /// Numbered from one.
    pub(super) row: u64,
    pub(super) answers: Answers,
    /// Whether its label was asked for.
    pub(super) is_asked: bool,
}

/// A label on its way.
struct Coming {
    /// After which row it comes.
    due: u64,
    row: Answered,
    truth: Truth,
}

/// A stream that is being played.
pub(super) struct Pass<'a> {
    args: &'a BacktestArgs,
    settings: LoopSettings,
    interval_ms: u64,
    manifest: Arc<Manifest>,
    world: World,
    fixed: Arc<Served>,
    labels: Labels,
    coming: VecDeque<Coming>,
    /// The last label that came.
    known: Option<Truth>,
    counted: LabelReport,
    rows: u64,
    all: Three,
    unasked: Three,
    after: Score,
    parts: Parts,
    behind: Option<Behind>,
    course: Course,
}

impl<'a> Pass<'a> {
    pub(super) fn new(args: &'a BacktestArgs) -> Result<Self, BacktestError> {
        let path = || args.package.clone();
        let bytes =
            std::fs::read(&args.package).map_err(|source| BacktestError::Read { path: path(), source })?;
        let bad = |source| BacktestError::Package { path: path(), source };
        let package = Package::from_archive(&bytes).map_err(bad)?;
        drop(bytes);
        let manifest = Arc::new(package.manifest().map_err(bad)?);
        if manifest.features.is_empty() {
            return Err(BacktestError::NoFeatures { path: path() });
        }
        let device = DeviceId::new(format!("backtest-{}", args.seed)).expect("digits make a legal name");
        let settings = match &args.policy {
            Some(path) => LoopSettings::load(path, device)?,
            None => LoopSettings::new(device),
        };
        let rhythm = package.baseline().map_err(bad)?.rhythm.and_then(|rhythm| rhythm.intervals);
        let usual_ms = rhythm.map_or(INTERVAL_MS, |intervals| intervals.median_ms.max(1));
        let interval_ms = args.interval_ms.unwrap_or(usual_ms);
        let world = World::start(&package, &settings, interval_ms, args.seed)?;
        let fixed = world.serving()?;
        let labels = match &args.label_budget {
            _ if args.no_labels => Labels::None,
            None => Labels::All,
            Some(budget) => Labels::Some(Budget::new(budget.labels, args.choose, args.seed)),
        };
        let behind = match args.told_by() {
            Some(_) => Some(Behind::new(Feed::open(args, Arc::clone(&manifest))?)),
            None => None,
        };
        Ok(Self {
            args,
            settings,
            interval_ms,
            world,
            fixed,
            labels,
            coming: VecDeque::new(),
            known: None,
            counted: LabelReport::default(),
            rows: 0,
            all: Three::new(&manifest),
            unasked: Three::new(&manifest),
            after: Score::new(&manifest),
            parts: Parts::new(Arc::clone(&manifest)),
            behind,
            course: Course::default(),
            manifest,
        })
    }

    pub(super) fn run(mut self, each: &mut dyn FnMut(&Outcome)) -> Result<BacktestReport, BacktestError> {
        let mut feed = Feed::open(self.args, Arc::clone(&self.manifest))?;
        while let Some(block) = feed.next()? {
            self.take(&block, each)?;
        }
        self.end_part(None)?;
        self.world.end();
        if self.rows == 0 {
            return Err(BacktestError::Empty { path: self.args.data.clone() });
        }
        if self.all.figures().looped.rows == 0 {
            return Err(BacktestError::NoTruth { column: self.args.label.clone() });
        }
        let foreign = feed.foreign().collect();
        Ok(self.report(foreign))
    }

    /// Some rows, one after the other; they are answered together until a swap, and the rest again after it.
    fn take(&mut self, block: &Block, each: &mut dyn FnMut(&Outcome)) -> Result<(), BacktestError> {
        let width = self.manifest.features.len();
        let start = self.world.clock.mono();
        let fixed = infer(&self.fixed.predictor, &block.features, block.rows, self.rows)?;
        let mut served = Arc::clone(&self.fixed);
        if self.world.serving()?.version == served.version {
            self.took_predict(start);
        }
        // What another version than the package's answers, from a row of the block on.
        let mut other: Option<(Rows, usize)> = None;
        for at in 0..block.rows {
            let (told_by, budget_of) = &block.parts[at];
            self.end_part(Some(told_by))?;
            self.world.advance(self.behind.is_some().then_some(told_by.as_str()))?;
            let serving = self.world.serving()?;
            if serving.version != served.version {
                served = serving;
                other = if served.version == self.fixed.version {
                    None
                } else {
                    let start = self.world.clock.mono();
                    let rest = &block.features[at * width..];
                    let made = infer(&served.predictor, rest, block.rows - at, self.rows)?;
                    self.took_predict(start);
                    Some((made, at))
                };
            }
            let values = other.as_ref().map_or(row_of(&fixed, at), |(made, first)| row_of(made, at - first));
            let features = &block.features[at * width..(at + 1) * width];
            let seen = self.see(&served, features, values)?;
            let values = seen.as_deref().unwrap_or(values);
            self.rows += 1;
            let row = self.answered(&served, features, values)?;
            let answers = Answers {
                looped: guess(&self.manifest, values),
                fixed: guess(&self.manifest, row_of(&fixed, at)),
                repeated: self.known,
            };
            let truth = block.truths[at];
            let doubt = self.world.doubt(features).unwrap_or(1.0 - row.confidence);
            let is_asked = self.labels.asks(budget_of, doubt);
            self.count((told_by, is_asked), &answers, truth)?;
            each(&Outcome { row: self.rows, answers, is_asked });
            self.world.predicted(&row)?;
            if let Some(truth) = truth.filter(|_| is_asked) {
                let due = self.rows.saturating_add(self.args.label_delay);
                self.coming.push_back(Coming { due, row, truth });
            }
            self.deliver()?;
        }
        Ok(())
    }

    /// A row's answer where adaptation changes it.
    fn see(
        &mut self,
        served: &Served,
        features: &[f32],
        values: &[f32],
    ) -> Result<Option<Vec<f32>>, BacktestError> {
        let start = self.world.clock.mono();
        let Some(lens) = self.world.lens() else { return Ok(None) };
        let mut seen = lens.answer(features, values.len());
        if seen.is_none() {
            let mut moved = features.to_vec();
            lens.apply(&mut moved);
            seen = Some(infer(&served.predictor, &moved, 1, self.rows)?.values);
        }
        self.took_predict(start);
        Ok(seen)
    }

    fn answered(&self, served: &Served, features: &[f32], values: &[f32]) -> Result<Answered, BacktestError> {
        let judged = answer(served.manifest.output.kind, values);
        let (class, confidence) = judged.map_or((None, 0.0), |(class, sure)| (Some(class), sure));
        let embedding = if served.predictor.is_exposing() {
            let made = served.predictor.exposed_rows(1, features);
            made.map_err(|source| BacktestError::Infer { row: self.rows, source })?.values
        } else {
            Vec::new()
        };
        Ok(Answered {
            version: served.version,
            asked: Asked { life: LIFE, number: self.rows },
            features: features.into(),
            class,
            confidence,
            values: values.into(),
            embedding: embedding.into(),
        })
    }

    fn took_predict(&mut self, start: shoal_proto::time::Mono) {
        self.world.took.predict += self.world.clock.mono().since(start);
    }

    fn count(
        &mut self,
        (part, is_asked): (&str, bool),
        answers: &Answers,
        truth: Option<Truth>,
    ) -> Result<(), BacktestError> {
        self.counted.asked += u64::from(is_asked);
        self.course.add(self.rows, answers, truth);
        if self.behind.is_some() {
            self.parts.add((self.rows, part), answers, truth, is_asked)?;
        }
        let Some(truth) = truth else { return Ok(()) };
        self.all.add(answers, truth);
        if !is_asked {
            self.unasked.add(answers, truth);
        }
        Ok(())
    }

    /// Hands over the labels that are due.
    fn deliver(&mut self) -> Result<(), BacktestError> {
        while let Some(due) = self.coming.pop_front_if(|coming| coming.due <= self.rows) {
            self.known = Some(due.truth);
            self.counted.used += 1;
            self.world.labelled(due.row, due.truth)?;
        }
        Ok(())
    }

    /// Where a part is over, what the loop has come to is asked about its rows again.
    fn end_part(&mut self, next: Option<&str>) -> Result<(), BacktestError> {
        let Some(behind) = &mut self.behind else { return Ok(()) };
        let Some(ended) = self.parts.end_unless(next) else { return Ok(()) };
        let (serving, lens) = (self.world.serving()?, self.world.lens());
        let width = self.manifest.features.len();
        let mut after = Score::new(&self.manifest);
        let (mut features, mut truths) = (Vec::new(), Vec::new());
        let Ended { asked, is_whole, .. } = &ended;
        for (at, is_asked) in asked.iter().enumerate() {
            let Some((row, truth)) = behind.next()? else { break };
            if let Some(truth) = truth.filter(|_| *is_whole && !is_asked) {
                features.extend_from_slice(row);
                truths.push(truth);
            }
            if truths.len() == AGAIN || (at + 1 == asked.len() && !truths.is_empty()) {
                let mut moved = features.clone();
                if let Some(lens) = &lens {
                    lens.apply(&mut moved);
                }
                let made = infer(&serving.predictor, &moved, truths.len(), self.rows)?;
                for (at, truth) in truths.drain(..).enumerate() {
                    let row = &features[at * width..(at + 1) * width];
                    let headed = lens.as_ref().and_then(|lens| lens.answer(row, made.width));
                    let values = headed.as_deref().unwrap_or(row_of(&made, at));
                    let answer = guess(&self.manifest, values);
                    after.add(answer, truth);
                    self.after.add(answer, truth);
                }
                features.clear();
            }
        }
        self.parts.keep_after(&ended, after);
        Ok(())
    }

    fn report(mut self, foreign: BTreeMap<String, u64>) -> BacktestReport {
        let parts = self.parts.report();
        let spent = Spent::of(&self.world.took, self.world.clock.mono().0, self.rows);
        self.counted.set(self.args);
        let figures = FiguresReport {
            all: self.all.figures(),
            unasked: self.unasked.figures(),
            after: Some(self.after.figures()).filter(|after| after.rows > 0),
            part_means: PartMeans::of(&parts),
        };
        let (waits_for, adapted) = (self.world.waits_for(), self.world.adapted());
        let Journal { findings, more_findings, runs, versions, alarms, .. } = self.world.journal;
        BacktestReport {
            model: self.manifest.display_name(),
            task: self.manifest.model.task,
            rows: self.rows,
            interval_ms: self.interval_ms,
            seed: self.args.seed,
            policy: PolicyReport::of(&self.settings.policy),
            labels: self.counted,
            figures,
            by: self.args.told_by().map(str::to_owned),
            parts,
            findings,
            more_findings,
            runs,
            versions,
            waits_for,
            adapted,
            alarms,
            foreign,
            course: self.course,
            spent,
        }
    }
}

fn infer(predictor: &Predictor, features: &[f32], rows: usize, row: u64) -> Result<Rows, BacktestError> {
    predictor.rows(rows, features).map_err(|source| BacktestError::Infer { row, source })
}

fn row_of(made: &Rows, at: usize) -> &[f32] {
    &made.values[at * made.width..(at + 1) * made.width]
}

/// What an output row answers, to be held against the truth.
fn guess(manifest: &Manifest, values: &[f32]) -> Option<Truth> {
    match manifest.model.task {
        Task::Classification => answer(manifest.output.kind, values).map(|(class, _)| Truth::Class(class)),
        Task::Regression => values.first().map(|value| Truth::Value(f64::from(*value))),
    }
}
