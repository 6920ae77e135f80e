//! What a served model does about change before it is retrained: serving state, bounded and reversible, no version.
//!
//! - [`Adapter`]: inputs that have moved are brought back to where they were in training, without labels, by one
//!   gain and one offset a feature, unless a mere change of the mix of classes explains the movement.
//! - [`Head`]: a second opinion that learns from every label at once (recursive least squares on the inputs and
//!   random Fourier features). It answers only while paired evidence on labelled rows says that it is right more
//!   often than the model ([`Contest`]).
//! - [`Asker`]: which rows are worth a label, when only so many may be asked for.
//!
//! [`Adapt`] is all of them for one version; [`Lens`] is what of it a prediction needs. Pure: no clock, no disk,
//! random numbers from seeds alone.

mod adapt;
mod adapter;
mod ask;
mod contest;
mod frame;
mod head;
mod profile;

pub use adapt::{Adapt, AdaptState, Lens, Model, Settings};
pub use adapter::{Adapter, Map, Settled};
pub use ask::Asker;
pub use contest::Contest;
pub use frame::Frame;
pub use head::{Head, Targets};
pub use profile::profile;

#[cfg(test)]
mod tests;
