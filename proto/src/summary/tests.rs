use super::*;
use crate::document::Document;
use crate::fact::{Fact, Facts};
use crate::id::{Replica, Side};
use crate::op::{Kind, MAX_VALUE_BYTES, Op};
use crate::time::Hlc;
use crate::wire::from_cbor;

mod forms;
mod split;

pub(super) const LIFE: Incarnation = Incarnation(5);

pub(super) fn gas() -> ModelName {
    ModelName::new("gas").unwrap()
}

/// A window of this number in a life, without a row.
pub(super) fn window(life: Incarnation, number: u64) -> WindowSummary {
    let id = WindowId { incarnation: life, number };
    WindowSummary::new(id, gas(), Digest::of(b"version"), Digest::of(b"baseline"), WallMs(number))
}

pub(super) fn apply(document: &mut Document, fact: Fact) {
    let (kind, key, value) = fact.into_parts();
    apply_op(document, &Op { seq: 1, hlc: Hlc(1), kind, key, value });
}

pub(super) fn apply_op(document: &mut Document, op: &Op) {
    document.apply(Replica { side: Side::Device, incarnation: LIFE }, op);
}
