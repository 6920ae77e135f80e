//! What the hub asks of one device, once: commands that somebody awaits.
//!
//! A command stands in one of a few places of the device's document, and so does the device's report about it: both
//! are kept until the other side has them, whoever was cut off. The number of a command is the generation that it was
//! given under; it is acted on where the report in its place is of an earlier one, so that it has its effect once,
//! however often it is read. A command that is too late is withdrawn by the hub, whose clock alone counts: a device
//! reads command and withdrawal at once and does nothing.

use crate::id::ModelName;
use crate::time::WallMs;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Commands of one device that are open at once.
pub const PLACES: u8 = 8;
/// Most text of a report: it fits an operation with room for names.
pub const MAX_REPORT_BYTES: usize = 24 * 1024;

/// A command, in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The generation that it was given under; rises with each.
    pub id: u64,
    /// What to do.
    pub what: Ask,
    /// When it was given, by the hub's clock.
    pub given: WallMs,
    /// Why it must not be begun any more; what has begun goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
    /// After how many seconds the hub withdraws it where no device took it up; the hub alone counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Ask {
    /// Train a model, whatever its monitors say, as soon as the device's budget allows.
    Train { model: ModelName },
    /// Ask the people and applications around the device for so many labels beside the day's.
    Labels { model: ModelName, rows: u32 },
    /// Send the newest lines of the agent's log.
    Log { lines: u32 },
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Train { model } => write!(f, "train {model}"),
            Self::Labels { model, rows } => write!(f, "ask for {rows} labels of {model}"),
            Self::Log { lines } => write!(f, "send {lines} lines of the log"),
        }
    }
}

/// How far a device is with a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which command.
    pub id: u64,
    /// How far.
    pub state: State,
    /// In words, or the lines that were asked for.
    pub text: String,
    /// Of a training: the number of the first run that counts; one that was under way does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    /// When, by the device's clock.
    pub at: WallMs,
}

/// How far a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is on it: waiting, or at work.
    Accepted,
    /// Done.
    Done,
    /// Not done.
    Failed,
    /// It came after it was withdrawn.
    Withdrawn,
}

impl State {
    /// Whether nothing more comes.
    #[must_use]
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Accepted)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Withdrawn => "withdrawn",
        })
    }
}

/// Text that fits a report: its end, where it is too long.
#[must_use]
pub fn fitting(text: &str) -> &str {
    let mut from = text.len().saturating_sub(MAX_REPORT_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_its_beginning_and_between_letters() {
        assert_eq!(fitting("short"), "short");
        let long = "é".repeat(MAX_REPORT_BYTES);
        let long = format!("x{long}");
        let cut = fitting(&long);
        assert!(cut.len() <= MAX_REPORT_BYTES && cut.len() > MAX_REPORT_BYTES - 4);
        assert!(cut.chars().all(|letter| letter == 'é'));
    }
}
