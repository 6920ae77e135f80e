//! Every command but `serve`.

use super::CliError;
use super::args::{
    Command, CommandArgs, CreateArgs, DeviceCommand, KeyCommand, ModelCommand, RolloutCommand, What,
};
use super::client::{Body, Hub, json, read};
use super::show;
use crate::core::command::{CommandView, CommandWish};
use crate::core::rollout::{AbortMode, RolloutWish, Strategy};
use crate::core::view::{AbortBody, RolloutView};
use reqwest::Method;
use serde_json::{Value, json};
use shoal_proto::command::Ask;
use shoal_proto::id::RolloutId;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::Duration;

/// How often a watched rollout is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How an answer is shown to people.
type Show = fn(&Value) -> Result<String, super::client::ClientError>;

pub(super) async fn run(hub: &str, as_json: bool, command: Command) -> Result<(), CliError> {
    let hub = Hub::new(hub)?;
    let (answer, shown): (Value, Show) = match command {
        Command::Model(command) => model(&hub, command).await?,
        Command::Device(command) => device(&hub, command).await?,
        Command::Drift { model } => {
            let views = hub.get(&["drift"]).await?;
            (keep_model(views, model.as_ref().map(shoal_proto::id::ModelName::as_str)), show::drift)
        }
        Command::Tell(args) => return follow(&hub, as_json, args).await,
        Command::Rollout(RolloutCommand::Watch { rollout }) => return watch(&hub, as_json, &rollout).await,
        Command::Rollout(command) => rollout(&hub, command).await?,
        Command::Key(KeyCommand::Show) => (hub.get(&["key"]).await?, show::key),
        Command::Asyncapi | Command::Decode { .. } => {
            let what = "this is not asked of a hub".to_owned();
            return Err(CliError::Usage { what, hint: "run it as a command of its own" });
        }
        Command::Serve(_) => {
            let what = "`serve` is not asked of a hub".to_owned();
            return Err(CliError::Usage { what, hint: "run it as a command of its own" });
        }
    };
    print(&answer, as_json, shown)
}

fn print(answer: &Value, as_json: bool, shown: Show) -> Result<(), CliError> {
    let text = if as_json { format!("{answer:#}\n") } else { shown(answer)? };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Output)
}

fn keep_model(mut views: Value, model: Option<&str>) -> Value {
    if let (Some(model), Some(list)) = (model, views.as_array_mut()) {
        list.retain(|view| view.get("model").and_then(Value::as_str) == Some(model));
    }
    views
}

async fn model(hub: &Hub, command: ModelCommand) -> Result<(Value, Show), CliError> {
    Ok(match command {
        ModelCommand::Push { file } => {
            let bytes = std::fs::read(&file).map_err(|source| CliError::ReadFile { path: file, source })?;
            (hub.ask(Method::POST, &["models"], Body::Package(bytes)).await?, show::pushed)
        }
        ModelCommand::List => (hub.get(&["models"]).await?, show::versions),
        ModelCommand::Show { name } => (hub.get(&["models", name.as_str()]).await?, show::versions),
        ModelCommand::Condemn { version, reason, lift } => {
            let body = Body::Json(json!({ "reason": reason, "holds": !lift }));
            let path = ["versions", version.as_str(), "condemnation"];
            (hub.ask(Method::PUT, &path, body).await?, show::condemned)
        }
    })
}

async fn device(hub: &Hub, command: DeviceCommand) -> Result<(Value, Show), CliError> {
    Ok(match command {
        DeviceCommand::List => (hub.get(&["devices"]).await?, show::devices),
        DeviceCommand::Show { device } => (hub.get(&["devices", device.as_str()]).await?, show::device),
        DeviceCommand::Tag { device, tags } => {
            let tags: BTreeMap<String, String> = tags.into_iter().collect();
            let path = ["devices", device.as_str(), "tags"];
            (hub.ask(Method::PUT, &path, json(&tags)).await?, show::device)
        }
        DeviceCommand::Remove { device } => {
            let path = ["devices", device.as_str()];
            (hub.ask(Method::DELETE, &path, Body::Nothing).await?, show::removed)
        }
    })
}

async fn rollout(hub: &Hub, command: RolloutCommand) -> Result<(Value, Show), CliError> {
    Ok(match command {
        RolloutCommand::Create(args) => {
            (hub.ask(Method::POST, &["rollouts"], json(&wish(args))).await?, show::rollout)
        }
        RolloutCommand::List => (hub.get(&["rollouts"]).await?, show::rollouts),
        RolloutCommand::Show { rollout } | RolloutCommand::Watch { rollout } => {
            (hub.get(&["rollouts", rollout.as_str()]).await?, show::rollout)
        }
        RolloutCommand::Abort { rollout, keep, revert: _ } => {
            let mode = if keep { AbortMode::Keep } else { AbortMode::Revert };
            let path = ["rollouts", rollout.as_str(), "abort"];
            (hub.ask(Method::POST, &path, json(&AbortBody { mode })).await?, show::rollout)
        }
    })
}

/// Gives a command and follows it to its end; fails when it was not done.
async fn follow(hub: &Hub, as_json: bool, args: CommandArgs) -> Result<(), CliError> {
    let device = args.device.as_str();
    let ask = async |method: Method, number: u64| {
        hub.ask(method, &["devices", device, "commands", &number.to_string()], Body::Nothing).await
    };
    let what = match args.what {
        What::Show { number } => return print(&ask(Method::GET, number).await?, as_json, show::command),
        What::Withdraw { number } => {
            return print(&ask(Method::DELETE, number).await?, as_json, show::command);
        }
        What::Train { model } => Ask::Train { model },
        What::Labels { model, rows } => Ask::Labels { model, rows },
        What::Log { lines } => Ask::Log { lines },
    };
    let wish = CommandWish { what, expires_s: args.expires };
    let mut answer = hub.ask(Method::POST, &["devices", device, "commands"], json(&wish)).await?;
    let mut last = String::new();
    loop {
        let view: CommandView = read(&answer)?;
        let said = format!("{} {}", view.state, view.text);
        if said != last {
            print(&answer, as_json, show::command)?;
            last = said;
        }
        match view.state.as_str() {
            _ if args.no_wait => return Ok(()),
            "done" => return Ok(()),
            _ if view.over => return Err(CliError::NotDone { state: view.state, reason: view.text }),
            _ => tokio::time::sleep(WATCH_EVERY).await,
        }
        answer = ask(Method::GET, view.id).await?;
    }
}

/// The wish of a command line; what is not said keeps its default.
pub(super) fn wish(args: CreateArgs) -> RolloutWish {
    let mut strategy = Strategy::default();
    let Strategy { canary, soak_s, deadline_s, success_percentage, abort, trial } = &mut strategy;
    *canary = args.canary.unwrap_or(*canary);
    *soak_s = args.soak.unwrap_or(*soak_s);
    *deadline_s = args.deadline.unwrap_or(*deadline_s);
    *success_percentage = args.success_percentage.unwrap_or(*success_percentage);
    abort.threshold_percentage = args.threshold_percentage.unwrap_or(abort.threshold_percentage);
    let executed = args.min_number_of_executed_things;
    abort.min_number_of_executed_things = executed.unwrap_or(abort.min_number_of_executed_things);
    trial.min_requests = args.min_requests.unwrap_or(trial.min_requests);
    trial.min_labels = args.min_labels.unwrap_or(trial.min_labels);
    trial.max_s = args.max_trial.unwrap_or(trial.max_s);
    RolloutWish {
        model: args.model,
        version: args.version,
        strategy,
        selector: args.selector.into_iter().collect(),
    }
}

/// Prints a rollout whenever it has changed, until it ends.
async fn watch(hub: &Hub, as_json: bool, id: &RolloutId) -> Result<(), CliError> {
    let mut last = String::new();
    loop {
        let answer = hub.get(&["rollouts", id.as_str()]).await?;
        let view: RolloutView = read(&answer)?;
        let text = show::without_countdown(&view);
        if text != last {
            print(&answer, as_json, show::rollout)?;
            last = text;
        }
        match view.state.as_str() {
            "running" => tokio::time::sleep(WATCH_EVERY).await,
            "succeeded" => return Ok(()),
            _ => return Err(CliError::RolloutEnded { phase: view.phase.text }),
        }
    }
}
