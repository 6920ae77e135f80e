//! Labels: the truth about an earlier prediction.

use super::models::ServedModel;
use super::refused::{Refused, shortened};
use super::{NOT_CAPTURED, Outlet, ServeState, model_of};
use crate::store::{Label, LabelOutcome, LabelRow, MAX_ID_BYTES, PendingLabel};
use serde::Serialize;
use serde_json::Value;
use shoal_proto::infer::LabelIn;
use shoal_proto::manifest::Task;

/// Longest name of who says so that is kept.
const MAX_SOURCE: usize = 64;

/// What became of a label; it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelStatus {
    /// It stands beside its prediction.
    Joined,
    /// The prediction's row is not on disk yet; it waits for a day.
    Parked,
}

/// A label on its way to the disk.
#[derive(Debug)]
pub(super) struct LabelOnItsWay {
    pending: PendingLabel,
    outlet: Outlet,
}

impl LabelOnItsWay {
    /// Waits until it is on disk, and the core has it.
    pub(super) async fn landed(self) -> Result<LabelStatus, Refused> {
        match self.pending.on_disk().await.map_err(Refused::Store)? {
            LabelOutcome::Joined(joined) => {
                self.outlet.labelled(joined).await;
                Ok(LabelStatus::Joined)
            }
            LabelOutcome::Parked => Ok(LabelStatus::Parked),
        }
    }
}

impl ServeState {
    /// Takes a label; it is on disk when this returns.
    pub async fn label(&self, label: LabelIn) -> Result<LabelStatus, Refused> {
        self.hand_in(label).await?.landed().await
    }

    /// Hands a label to the store: those handed in one after the other are written in that order.
    pub(super) async fn hand_in(&self, label: LabelIn) -> Result<LabelOnItsWay, Refused> {
        let row = self.label_row(label)?;
        let pending = self.samples.hand_in_label(row).await.map_err(Refused::Store)?;
        Ok(LabelOnItsWay { pending, outlet: self.outlet.clone() })
    }

    fn label_row(&self, label: LabelIn) -> Result<LabelRow, Refused> {
        let LabelIn { mut prediction_id, label, source } = label;
        if prediction_id.split('#').next().is_some_and(|id| id.ends_with(NOT_CAPTURED)) {
            return Err(Refused::NotCaptured { id: shortened(&prediction_id) });
        }
        if !prediction_id.contains('#') {
            prediction_id.push_str("#0");
        }
        let model = model_of(&prediction_id).filter(|_| prediction_id.len() <= MAX_ID_BYTES);
        let model = model.ok_or_else(|| Refused::ForeignId { id: shortened(&prediction_id) })?;
        let served = self.models.get(model.as_str(), None)?;
        let label = match served.info().manifest.model.task {
            Task::Classification => Label::Class(class_of(&served, &label)?),
            Task::Regression => Label::Value(number_of(&label)?),
        };
        let source = source.chars().take(MAX_SOURCE).collect();
        Ok(LabelRow { prediction_id, label, source, at: self.clock.now().wall })
    }
}

/// The index of a class; classes may be named by numbers, so a number is taken as its digits.
fn class_of(served: &ServedModel, label: &Value) -> Result<u32, Refused> {
    let class = match label {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => {
            return Err(Refused::Label {
                expected: "the name of a class",
                got: shortened(&other.to_string()),
            });
        }
    };
    served.class_index(&class).ok_or_else(|| Refused::UnknownClass {
        class: shortened(&class),
        known: served.info().manifest.output.classes.join(", "),
    })
}

fn number_of(label: &Value) -> Result<f64, Refused> {
    label
        .as_f64()
        .filter(|value| value.is_finite())
        .ok_or_else(|| Refused::Label { expected: "a number", got: shortened(&label.to_string()) })
}
