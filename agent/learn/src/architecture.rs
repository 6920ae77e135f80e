//! The networks that can be made from data alone, and how people write them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Widest layer, most channels, longest window.
const MAX_SIZE: usize = 4_096;
/// Most layers beside the last.
const MAX_LAYERS: usize = 16;
/// Most features of a row.
const MAX_WIDTH: usize = 65_536;

/// A network to be made. Each takes rows of features and begins with the scaling of its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Architecture {
    /// One dense layer: logistic or linear regression. Written `linear`.
    Linear,
    /// Dense layers with rectifiers between them. Written `mlp:64,32`.
    Mlp {
        /// Widths of the hidden layers, at least one.
        hidden: Vec<usize>,
    },
    /// Convolutions over windows (kernel 5; stride 1, then 2; rectifiers), the mean over time and a dense
    /// layer. Written `cnn1d:3x128:32,64` for rows of 3 channels after another, 128 samples each.
    Cnn1d {
        /// Channels of a window.
        channels: usize,
        /// Samples of a channel.
        length: usize,
        /// Filters of the layers, at least one.
        filters: Vec<usize>,
    },
}

/// A text that is no architecture.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{text}` is no network: expected linear, mlp:WIDTH,… (mlp:64,32) or \
     cnn1d:CHANNELSxLENGTH:FILTERS,… (cnn1d:3x128:32,64), sizes from 1 to {MAX_SIZE}"
)]
pub struct ArchitectureError {
    /// What was written.
    pub text: String,
}

impl Architecture {
    /// Features of a row, where the network itself says so.
    #[must_use]
    pub fn width(&self) -> Option<usize> {
        match self {
            Self::Linear | Self::Mlp { .. } => None,
            Self::Cnn1d { channels, length, .. } => Some(channels * length),
        }
    }
}

impl FromStr for Architecture {
    type Err = ArchitectureError;

    fn from_str(text: &str) -> Result<Self, ArchitectureError> {
        let parsed = match text.split_once(':') {
            None if text == "linear" => Some(Self::Linear),
            Some(("mlp", widths)) => sizes(widths).map(|hidden| Self::Mlp { hidden }),
            Some(("cnn1d", rest)) => cnn(rest),
            _ => None,
        };
        parsed.ok_or_else(|| ArchitectureError { text: text.to_owned() })
    }
}

fn cnn(text: &str) -> Option<Architecture> {
    let (window, filters) = text.split_once(':')?;
    let (channels, length) = window.split_once('x')?;
    let (channels, length, filters) = (size(channels)?, size(length)?, sizes(filters)?);
    (channels * length <= MAX_WIDTH).then_some(Architecture::Cnn1d { channels, length, filters })
}

fn sizes(text: &str) -> Option<Vec<usize>> {
    let sizes: Vec<usize> = text.split(',').map(size).collect::<Option<_>>()?;
    (sizes.len() <= MAX_LAYERS).then_some(sizes)
}

fn size(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|size| (1..=MAX_SIZE).contains(size))
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |sizes: &[usize]| sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match self {
            Self::Linear => f.write_str("linear"),
            Self::Mlp { hidden } => write!(f, "mlp:{}", list(hidden)),
            Self::Cnn1d { channels, length, filters } => {
                write!(f, "cnn1d:{channels}x{length}:{}", list(filters))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_written_again() {
        for text in ["linear", "mlp:64", "mlp:64,32", "cnn1d:3x128:32,64", "cnn1d:1x1:1"] {
            assert_eq!(text.parse::<Architecture>().unwrap().to_string(), text);
        }
        assert_eq!("cnn1d:3x128:8".parse::<Architecture>().unwrap().width(), Some(384));
    }

    #[test]
    fn what_is_no_network_is_said_with_what_is() {
        for text in [
            "",
            "mlp",
            "mlp:",
            "mlp:0",
            "mlp:8,",
            "mlp:8,x",
            "mlp:5000",
            "linear:3",
            "cnn:8",
            "cnn1d:8",
            "cnn1d:3x0:8",
            "cnn1d:3x128",
            "cnn1d:3x128:",
            "cnn1d:3,128:8",
            "cnn1d:4096x4096:8",
            "mlp:-1",
        ] {
            let error = text.parse::<Architecture>().unwrap_err().to_string();
            let whole = [format!("`{text}`"), "mlp:64,32".into(), "cnn1d:3x128:32,64".into()];
            assert!(whole.iter().all(|part| error.contains(part)), "{error}");
        }
    }
}
