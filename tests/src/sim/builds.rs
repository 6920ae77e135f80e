//! Builds of other times on either side: a later one says more than this one knows, and an earlier one neither says
//! nor hears what came after it.

use super::mutant::Mutant;
use super::world::World;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use shoal_proto::message::{Exchange, Hello, Payload};
use shoal_proto::topic::Up;
use shoal_proto::wire::{self, FIRST_VERSION, VERSION};

/// What a device speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Build {
    /// Wire 1, without beats and words said ahead.
    Older,
    /// This one.
    Same,
    /// Fields that this one does not know, and wires up to 9.
    Newer,
}

impl Build {
    pub(super) fn drawn(random: &mut ChaCha8Rng) -> Self {
        match random.random_range(0..10) {
            0 => Self::Older,
            1 => Self::Newer,
            _ => Self::Same,
        }
    }
}

/// A message of a later build.
#[derive(Serialize)]
struct Newer<'a, T> {
    #[serde(flatten)]
    message: &'a T,
    mood: &'static str,
}

/// Whether an earlier build cannot read this frame.
pub(super) fn is_later(frame: &[u8]) -> bool {
    frame.get(1).is_some_and(|version| *version > FIRST_VERSION)
}

/// The frame as another build says it; `None`: it would not say that.
pub(super) fn as_said_by(build: Build, topic: Up, frame: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let text = |cause: wire::WireError| cause.to_string();
    let mood = "fine";
    let again = match (build, topic) {
        (Build::Same, _) | (_, Up::Status | Up::Need) | (Build::Newer, Up::Beat) => Ok(frame.to_vec()),
        (Build::Older, Up::Beat) => return Ok(None),
        (Build::Older, Up::Hello) => {
            let hello: Hello = wire::decode(frame).map_err(text)?;
            wire::encode(&Hello { wire_max: FIRST_VERSION, ..hello })
        }
        (Build::Newer, Up::Hello) => {
            let hello: Hello = wire::decode(frame).map_err(text)?;
            wire::encode(&Newer { message: &Hello { wire_max: 9, ..hello }, mood })
        }
        (Build::Older, Up::Sync) => return older(frame),
        (Build::Newer, Up::Sync) => {
            let exchange: Exchange = wire::decode(frame).map_err(text)?;
            wire::encode(&Newer { message: &Exchange { wire_max: 9, ..exchange }, mood })
        }
    };
    Ok(Some(again.unwrap_or_else(|_too_large| frame.to_vec())))
}

fn older(frame: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let exchange: Exchange = wire::decode(frame).map_err(|cause| cause.to_string())?;
    if matches!(exchange.payload, Payload::Ahead { .. }) {
        return Ok(None);
    }
    wire::encode(&Exchange { wire_max: 0, ..exchange }).map(Some).map_err(|cause| cause.to_string())
}

impl World {
    /// The hub's words as its build says them.
    pub(super) fn as_said_by_hub(&self, frame: &[u8]) -> Vec<u8> {
        if self.mutant == Mutant::WireNotAsked {
            let again = wire::decode::<Exchange>(frame).and_then(|said| wire::encode_for(VERSION, &said));
            return again.unwrap_or_else(|_damaged| frame.to_vec());
        }
        let older = self.hub.is_older.then(|| older(frame).ok().flatten()).flatten();
        older.unwrap_or_else(|| frame.to_vec())
    }

    /// Now and then somebody puts another build in the hub's place while it is off.
    pub(super) fn replace_hub(&mut self) {
        if self.chance(self.form.replaced) {
            self.hub.is_older = !self.hub.is_older;
            self.note(&format!("the hub's build is an older one: {}", self.hub.is_older));
        }
    }
}
