//! How right answers were.

use serde::Serialize;
use shoal_proto::manifest::{Manifest, Task};
use shoal_watch::row::Truth;

/// Rows of the finest step of a course.
const STEP_ROWS: u64 = 10;
/// Steps of a course at most: then two and two become one.
const MAX_STEPS: usize = 512;

/// Answers held against the truth.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Score {
    /// For each true class: rows, and right answers.
    Classes(Vec<(u64, u64)>),
    /// Rows, the sum of absolute errors and that of squares.
    Values(u64, f64, f64),
}

/// What a score says.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Figures {
    /// Rows that were scored.
    pub rows: u64,
    /// Share of right answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Mean over the classes that occurred of the share of right answers to each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balanced_accuracy: Option<f64>,
    /// Mean absolute error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mae: Option<f64>,
    /// Root of the mean squared error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rmse: Option<f64>,
}

impl Figures {
    /// The figure that stands first: accuracy, or the mean absolute error of a regression.
    #[must_use]
    pub fn first(&self) -> Option<f64> {
        self.accuracy.or(self.mae)
    }
}

impl Score {
    pub(super) fn new(manifest: &Manifest) -> Self {
        match manifest.model.task {
            Task::Classification => Self::Classes(vec![(0, 0); manifest.output.classes.len()]),
            Task::Regression => Self::Values(0, 0.0, 0.0),
        }
    }

    /// Counts one answer; none, or one that is no number, is a wrong one. Of a regression it is not counted.
    pub(super) fn add(&mut self, answer: Option<Truth>, truth: Truth) {
        match (self, truth) {
            (Self::Classes(classes), Truth::Class(class)) => {
                let cell = usize::try_from(class).ok().and_then(|class| classes.get_mut(class));
                if let Some(cell) = cell {
                    *cell = (cell.0 + 1, cell.1 + u64::from(answer == Some(truth)));
                }
            }
            (Self::Values(rows, absolute, squares), Truth::Value(_)) => {
                if let Some(error) = error(answer, truth).filter(|error| error.is_finite()) {
                    *rows += 1;
                    *absolute += error;
                    *squares += error * error;
                }
            }
            _ => {}
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^52")]
    pub(super) fn figures(&self) -> Figures {
        match self {
            Self::Classes(classes) => {
                let (rows, right) = classes.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
                let seen = || classes.iter().filter(|(rows, _)| *rows > 0);
                let recalls: f64 = seen().map(|(rows, right)| *right as f64 / *rows as f64).sum();
                Figures {
                    rows,
                    accuracy: (rows > 0).then(|| right as f64 / rows as f64),
                    balanced_accuracy: (rows > 0).then(|| recalls / seen().count() as f64),
                    ..Figures::default()
                }
            }
            Self::Values(rows, absolute, squares) => Figures {
                rows: *rows,
                mae: (*rows > 0).then(|| absolute / *rows as f64),
                rmse: (*rows > 0).then(|| (squares / *rows as f64).sqrt()),
                ..Figures::default()
            },
        }
    }
}

/// How far an answer is from the truth: 0 or 1 of a class.
fn error(answer: Option<Truth>, truth: Truth) -> Option<f64> {
    match (answer, truth) {
        (Some(Truth::Value(answer)), Truth::Value(truth)) => Some((answer - truth).abs()),
        (_, Truth::Value(_)) => None,
        (answer, truth) => Some(f64::from(u8::from(answer != Some(truth)))),
    }
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Answers {
    /// The version that served.
    pub(super) looped: Option<Truth>,
    /// The package's model.
    pub(super) fixed: Option<Truth>,
    /// The last label that had come; none before the first.
    pub(super) repeated: Option<Truth>,
}

/// The same rows, answered by the loop, by the package's model, and by the last label again.
#[derive(Debug, Clone)]
pub(super) struct Three {
    looped: Score,
    fixed: Score,
    repeated: Score,
}

/// The figures of all three.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Beside {
    /// The loop.
    #[serde(rename = "loop")]
    pub looped: Figures,
    /// The package's model, never retrained.
    #[serde(rename = "static")]
    pub fixed: Figures,
    /// The last label that had come by then, again: rows before the first are not counted.
    pub no_change: Figures,
}

impl Three {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let none = || Score::new(manifest);
        Self { looped: none(), fixed: none(), repeated: none() }
    }

    pub(super) fn add(&mut self, answers: &Answers, truth: Truth) {
        self.looped.add(answers.looped, truth);
        self.fixed.add(answers.fixed, truth);
        if answers.repeated.is_some() {
            self.repeated.add(answers.repeated, truth);
        }
    }

    pub(super) fn figures(&self) -> Beside {
        Beside {
            looped: self.looped.figures(),
            fixed: self.fixed.figures(),
            no_change: self.repeated.figures(),
        }
    }
}

/// How it went over time, in steps of equally many rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Course {
    /// Rows of the stream in a step.
    pub step_rows: u64,
    /// In order; the last may be shorter.
    pub steps: Vec<Step>,
}

/// One step: rows with a truth, and the sums of errors, which are wrong answers of a classifier.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Step {
    /// Rows that were scored.
    pub rows: u64,
    /// The loop's errors.
    #[serde(rename = "loop")]
    pub looped: f64,
    /// The package's model's errors.
    #[serde(rename = "static")]
    pub fixed: f64,
    /// Rows at which a label had come already.
    pub no_change_rows: u64,
    /// Errors of the last label, repeated.
    pub no_change: f64,
}

impl Default for Course {
    fn default() -> Self {
        Self { step_rows: STEP_ROWS, steps: Vec::new() }
    }
}

impl Course {
    /// Counts a row of the stream, numbered from one.
    pub(super) fn add(&mut self, row: u64, answers: &Answers, truth: Option<Truth>) {
        let at = |step_rows: u64| usize::try_from((row - 1) / step_rows).unwrap_or(usize::MAX);
        while at(self.step_rows) >= MAX_STEPS {
            self.halve();
        }
        let place = at(self.step_rows);
        if self.steps.len() <= place {
            self.steps.resize(place + 1, Step::default());
        }
        let Some(truth) = truth else { return };
        let step = &mut self.steps[place];
        step.rows += 1;
        step.looped += error(answers.looped, truth).unwrap_or_default();
        step.fixed += error(answers.fixed, truth).unwrap_or_default();
        if let Some(error) = error(answers.repeated, truth).filter(|_| answers.repeated.is_some()) {
            step.no_change_rows += 1;
            step.no_change += error;
        }
    }

    fn halve(&mut self) {
        self.step_rows *= 2;
        let sum = |pair: &[Step]| {
            pair.iter().fold(Step::default(), |sum, one| Step {
                rows: sum.rows + one.rows,
                looped: sum.looped + one.looped,
                fixed: sum.fixed + one.fixed,
                no_change_rows: sum.no_change_rows + one.no_change_rows,
                no_change: sum.no_change + one.no_change,
            })
        };
        self.steps = self.steps.chunks(2).map(sum).collect();
    }
}
