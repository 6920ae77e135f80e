//! The arguments, as they are written.

use crate::backtest::BacktestArgs;
use crate::inspect::InspectArgs;
use crate::pack::PackArgs;
use crate::watch::WatchArgs;
use crate::worker::WorkerArgs;
use clap::{Args as ClapArgs, Parser, Subcommand};
use shoal_proto::id::ModelName;
use std::path::PathBuf;

/// Serves models on this device, watches them, trains them again, and can always go back.
#[derive(Debug, Parser)]
#[command(name = "shoal-agent", version, max_term_width = 100)]
pub(super) struct Args {
    /// Print JSON, one value a command.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// The running agent's control socket.
    #[arg(
        long,
        global = true,
        env = "SHOAL_AGENT_SOCKET",
        default_value = "/var/lib/shoal-agent/control.sock"
    )]
    pub(super) socket: PathBuf,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Where the configuration is.
#[derive(Debug, ClapArgs)]
pub(super) struct ConfigArgs {
    /// The configuration file.
    #[arg(long, default_value = "/etc/shoal-agent/agent.toml")]
    pub(super) config: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve, watch, retrain and sync until told to stop.
    Run {
        #[command(flatten)]
        config: ConfigArgs,
        /// Write the bound addresses here, as JSON, when ready.
        #[arg(long)]
        ready_file: Option<PathBuf>,
    },
    /// Say everything that is wrong with a configuration file.
    CheckConfig {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Say what a model or package holds: inputs, ops, what can be served, what can be trained.
    Inspect(InspectArgs),
    /// Make a package from a table and an ONNX file, or from a table alone.
    Pack(Box<PackArgs>),
    /// Run all monitors over a recorded stream and say what they find, in order of time.
    Watch(WatchArgs),
    /// Play a recorded stream to the whole loop, in virtual time, and say whether it helps.
    Backtest(Box<BacktestArgs>),
    /// What the agent is doing.
    Status,
    /// The models that are served.
    Models,
    /// The versions on this device.
    Versions {
        /// Only of this model.
        model: Option<ModelName>,
        /// Draw which came of which, with the runs that brought none.
        #[arg(long)]
        graph: bool,
        /// Keep this version on disk whatever comes: its name, or at least five digits of its digest.
        #[arg(long, value_name = "VERSION")]
        pin: Option<String>,
        /// Keep it no longer.
        #[arg(long, value_name = "VERSION", conflicts_with = "pin")]
        unpin: Option<String>,
        /// Let this version, which was taken back here, serve again where somebody wants it to; the hub's word stays.
        #[arg(long, value_name = "VERSION", conflicts_with_all = ["pin", "unpin"])]
        lift: Option<String>,
    },
    /// Train a version of this device again from its record, and compare all bytes.
    Replay {
        /// The version: its name, or at least five digits of its digest.
        version: String,
    },
    /// Predict rows, by the agent or (with --package) without one.
    Predict(PredictArgs),
    /// Tell the truth about an earlier prediction, or see which rows it would help most to know it of.
    Label(LabelArgs),
    /// What the monitors say: health, findings, features that moved, performance.
    Drift {
        /// Only of this model.
        model: Option<ModelName>,
    },
    /// Train now, whatever the monitors say.
    Train {
        /// The model.
        model: ModelName,
        /// Stop the run that is under way.
        #[arg(long)]
        cancel: bool,
    },
    /// Serve the previous version again; the present one is condemned on this device.
    Rollback {
        /// The model.
        model: ModelName,
    },
    /// Put a version that is on this device on trial.
    Promote {
        /// The model.
        model: ModelName,
        /// The version: its name, or at least five digits of its digest.
        version: String,
    },
    /// Take a package of the operator's and serve it.
    Install {
        /// The package.
        file: PathBuf,
    },
    /// What the agent starts its children as.
    #[command(hide = true)]
    Worker {
        #[command(subcommand)]
        worker: WorkerArgs,
    },
}

/// A label, or the rows that wait for one.
#[derive(Debug, ClapArgs)]
pub(super) struct LabelArgs {
    /// `prediction_id` of the answer; a row of a batch is `id#row`.
    #[arg(required_unless_present_any = ["next", "skip"])]
    pub(super) prediction_id: Option<String>,
    /// The class, or the number.
    #[arg(required_unless_present_any = ["next", "skip"])]
    pub(super) label: Option<String>,
    /// Who says so.
    #[arg(long, default_value = "operator")]
    pub(super) source: String,
    /// Show the rows whose labels would teach most, and leave them where they are.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "5", conflicts_with_all = ["prediction_id", "skip"])]
    pub(super) next: Option<usize>,
    /// Of this model; may be left out where the agent serves only one.
    #[arg(long, requires = "next")]
    pub(super) model: Option<ModelName>,
    /// Nobody can tell about this row: ask no more.
    #[arg(long, value_name = "ID", conflicts_with = "prediction_id")]
    pub(super) skip: Option<String>,
}

/// Rows to predict.
#[derive(Debug, ClapArgs)]
pub(super) struct PredictArgs {
    /// The model; may be left out where the agent serves only one.
    #[arg(long)]
    pub(super) model: Option<ModelName>,
    /// One row: numbers by comma, in the order of the features; an empty place is a missing value.
    #[arg(long, required_unless_present = "data", conflicts_with = "data", allow_hyphen_values = true)]
    pub(super) row: Option<String>,
    /// Rows as CSV with a header; columns that are no features are ignored.
    #[arg(long)]
    pub(super) data: Option<PathBuf>,
    /// Predict with this package, without an agent.
    #[arg(long)]
    pub(super) package: Option<PathBuf>,
}
