//! What can be typed.

use crate::config::{BrokerMode, parse_broker};
use clap::{ArgGroup, Parser, Subcommand};
use shoal_proto::id::{DeviceId, ModelName, RolloutId};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The hub of a fleet: registry, rollouts, drift, and the link to every device.
#[derive(Debug, Parser)]
#[command(name = "shoal-hub", version)]
pub(super) struct Args {
    /// Address of the hub
    #[arg(
        long,
        global = true,
        env = "SHOAL_HUB",
        default_value = "http://127.0.0.1:8600",
        value_name = "URL"
    )]
    pub(super) hub: String,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the hub
    Serve(ServeArgs),
    /// Versions of models
    #[command(subcommand)]
    Model(ModelCommand),
    /// Devices
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Have one device do something, once
    #[command(name = "command")]
    Tell(CommandArgs),
    /// Drift over the fleet
    Drift {
        /// Only this model
        #[arg(long)]
        model: Option<ModelName>,
    },
    /// Moving a version through the fleet
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// The key that signs packages
    #[command(subcommand)]
    Key(KeyCommand),
    /// Print the AsyncAPI document of all topics
    Asyncapi,
    /// Show captured messages as JSON, one a line
    ///
    /// Reads lines of `TOPIC HEX` from standard input, as `mosquitto_sub -t 'shoal/#' -F '%t %x'` writes them; or one
    /// message from a file, with its topic.
    Decode {
        /// The message's bytes as they were sent
        #[arg(requires = "topic")]
        file: Option<PathBuf>,
        /// The topic of the file's message
        #[arg(long)]
        topic: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Folder of database, key and archives
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Where operators connect
    #[arg(long, value_name = "ADDR")]
    pub(super) http: Option<SocketAddr>,
    /// Where devices fetch archives
    #[arg(long, value_name = "ADDR")]
    pub(super) devices_http: Option<SocketAddr>,
    /// `embedded`, or `mqtt://user@host:port`
    #[arg(long, value_name = "BROKER", value_parser = parse_broker)]
    pub(super) broker: Option<BrokerMode>,
    /// Where the embedded broker listens
    #[arg(long, value_name = "ADDR")]
    pub(super) broker_listen: Option<SocketAddr>,
    /// File that is written with all addresses, as JSON, when the hub is ready
    #[arg(long, value_name = "PATH")]
    pub(super) ready_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ModelCommand {
    /// Take a package into the registry
    Push {
        /// `NAME.shoal`
        file: PathBuf,
    },
    /// All versions, those born on devices included
    List,
    /// All versions of one model
    Show {
        /// Its name
        name: ModelName,
    },
    /// Say that a version must not serve anywhere
    Condemn {
        /// Digest, a prefix of it, or a name such as `gas@3`
        version: String,
        /// Why
        #[arg(long, default_value = "by command")]
        reason: String,
        /// Take the word back
        #[arg(long)]
        lift: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum DeviceCommand {
    /// All devices
    List,
    /// One device
    Show {
        /// Its id
        device: DeviceId,
    },
    /// Replace the tags that the hub gives to a device
    Tag {
        /// Its id
        device: DeviceId,
        /// None clears them
        #[arg(value_name = "KEY=VALUE", value_parser = parse_pair)]
        tags: Vec<(String, String)>,
    },
    /// Forget a device; one that is alive comes back
    Remove {
        /// Its id
        device: DeviceId,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct CommandArgs {
    /// Id of the device
    pub(super) device: DeviceId,
    /// Return at once; `shoal-hub command DEVICE show NUMBER` tells how far it is
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Withdraw it when the device has not taken it up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub(super) expires: u64,
    #[command(subcommand)]
    pub(super) what: What,
}

#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// Train a model as soon as the device's budget allows
    Train {
        /// Its name
        model: ModelName,
    },
    /// Ask the applications around the device for labels
    Labels {
        /// Of which model
        model: ModelName,
        /// Of so many rows
        #[arg(long, default_value_t = 20)]
        rows: u32,
    },
    /// Send the newest lines of the agent's log
    Log {
        /// So many
        #[arg(long, default_value_t = 100)]
        lines: u32,
    },
    /// How far a command is
    Show {
        /// Its number
        number: u64,
    },
    /// Take back a command that the device has not taken up
    Withdraw {
        /// Its number
        number: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum RolloutCommand {
    /// Move a version through the fleet
    Create(CreateArgs),
    /// All rollouts
    List,
    /// One rollout
    Show {
        /// Its id
        rollout: RolloutId,
    },
    /// Follow a rollout to its end; fails when it does not succeed
    Watch {
        /// Its id
        rollout: RolloutId,
    },
    /// End a rollout
    #[command(group = ArgGroup::new("mode").required(true).args(["keep", "revert"]))]
    Abort {
        /// Its id
        rollout: RolloutId,
        /// Devices keep what they were assigned
        #[arg(long)]
        keep: bool,
        /// Devices get back what they had
        #[arg(long)]
        revert: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// Which model
    #[arg(long)]
    pub(super) model: ModelName,
    /// Digest, a prefix of it, or a name such as `gas@4`
    #[arg(long)]
    pub(super) version: String,
    /// Devices of the first wave
    #[arg(long)]
    pub(super) canary: Option<u32>,
    /// Only devices with this tag; several must all be there
    #[arg(long = "where", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub(super) selector: Vec<(String, String)>,
    /// How long a wave that did well is watched, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(super) soak: Option<u64>,
    /// How long a wave may take, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(super) deadline: Option<u64>,
    /// Share of a wave's judged devices that must succeed
    #[arg(long, value_name = "PERCENT")]
    pub(super) success_percentage: Option<f64>,
    /// Share of failed devices that stops the rollout
    #[arg(long, value_name = "PERCENT")]
    pub(super) threshold_percentage: Option<f64>,
    /// Devices with a verdict below which nothing is stopped
    #[arg(long, value_name = "N")]
    pub(super) min_number_of_executed_things: Option<u32>,
    /// Requests that the version must answer on each device
    #[arg(long, value_name = "N")]
    pub(super) min_requests: Option<u64>,
    /// Labels that must have come for its answers on each device
    #[arg(long, value_name = "N")]
    pub(super) min_labels: Option<u64>,
    /// Serving time after which a trial is decided with what there is, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(super) max_trial: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// The public half of the hub's development key
    Show,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.into(), value.into())),
        _ => Err("expected KEY=VALUE".into()),
    }
}
