//! Commands to single devices: given, watched, and withdrawn when nobody took them up in time.

use super::effect::{Answer, Note};
use super::hub::{Hub, Turn};
use super::refusal::Refusal;
use serde::{Deserialize, Serialize};
use shoal_proto::command::{Ask, Command, PLACES, Report};
use shoal_proto::document::Document;
use shoal_proto::fact::{Fact, Facts};
use shoal_proto::id::DeviceId;
use shoal_proto::time::{Mono, WallMs};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest time that a command waits for its device: half a year.
pub const MAX_EXPIRES_S: u64 = 183 * 86_400;

/// A command that an operator gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandWish {
    /// What to do.
    #[serde(flatten)]
    pub what: Ask,
    /// Seconds after which it is withdrawn where its device has not taken it up; a day where nothing is said.
    #[serde(default = "a_day")]
    pub expires_s: u64,
}

fn a_day() -> u64 {
    86_400
}

/// A command and how far its device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandView {
    /// Its number.
    pub id: u64,
    /// Which device.
    pub device: DeviceId,
    /// What to do.
    #[serde(flatten)]
    pub what: Ask,
    /// When it was given, by the hub's clock.
    pub given: WallMs,
    /// After how many seconds it is withdrawn.
    pub expires_s: Option<u64>,
    /// `waiting` for the device, `accepted`, `done`, `failed` or `withdrawn`.
    pub state: String,
    /// Whether nothing more comes.
    pub over: bool,
    /// In words, or the lines that were asked for.
    pub text: String,
    /// When the device said so, by its own clock.
    pub at: Option<WallMs>,
}

impl CommandView {
    fn of(device: &DeviceId, command: Command, report: Option<&Report>) -> Self {
        let report = report.filter(|report| report.id == command.id);
        let (state, over, text) = match (report, command.withdrawn) {
            (Some(report), _) => (report.state.to_string(), report.state.is_over(), report.text.clone()),
            // Nobody took it up, and nobody will.
            (None, Some(reason)) => ("withdrawn".to_owned(), true, reason),
            (None, None) => ("waiting".to_owned(), false, "the device has not taken it up".to_owned()),
        };
        let at = report.map(|report| report.at);
        let Command { id, what, given, expires_s, .. } = command;
        Self { id, device: device.clone(), what, given, expires_s, state, over, text, at }
    }
}

/// The commands in a device's document, the oldest first.
pub(super) fn views(device: &DeviceId, document: &Document) -> Vec<CommandView> {
    let (commands, reports) = (Facts(document).commands(), Facts(document).reports());
    let mut views: Vec<CommandView> = commands
        .into_iter()
        .map(|(place, command)| CommandView::of(device, command, reports.get(&place)))
        .collect();
    views.sort_by_key(|view| view.id);
    views
}

impl Hub {
    pub(super) fn give_command(
        &mut self,
        turn: &mut Turn,
        device: &DeviceId,
        wish: CommandWish,
    ) -> Result<Answer, Refusal> {
        let known =
            self.devices.get(device).ok_or_else(|| Refusal::UnknownDevice { device: device.clone() })?;
        if !(1..=MAX_EXPIRES_S).contains(&wish.expires_s) {
            let (field, found) = ("expires_s", wish.expires_s.to_string());
            return Err(Refusal::Field { field, found, expected: "1 to 15811200 seconds" });
        }
        let place = free_place(device, &known.document)
            .ok_or(Refusal::Full { what: "open commands of a device", limit: usize::from(PLACES) })?;
        let id = self.next_generation(turn);
        let expires_s = Some(wish.expires_s);
        let command = Command { id, what: wish.what, given: turn.now.wall, withdrawn: None, expires_s };
        let due = turn.now.mono.after(Duration::from_secs(wish.expires_s));
        self.expiries.insert((due, id), device.clone());
        turn.note(Note::CommandGiven { device: device.clone(), id, what: command.what.to_string() });
        self.write(turn, device, Fact::Command(id, place, command));
        self.answer_command(device, id)
    }

    pub(super) fn withdraw_command(
        &mut self,
        turn: &mut Turn,
        device: &DeviceId,
        id: u64,
        reason: &str,
    ) -> Result<Answer, Refusal> {
        self.answer_command(device, id)?;
        self.withdraw(turn, device, id, reason);
        self.answer_command(device, id)
    }

    /// Takes a command back that its device has not taken up, as far as the hub knows: where both meet on their way
    /// it is done once all the same, and the report says so.
    fn withdraw(&mut self, turn: &mut Turn, device: &DeviceId, id: u64, reason: &str) {
        let Some(known) = self.devices.get(device) else { return };
        let facts = Facts(&known.document);
        let found = facts.commands().into_iter().find(|(_, command)| command.id == id);
        let Some((place, command)) = found.filter(|(_, command)| command.withdrawn.is_none()) else {
            return;
        };
        if facts.reports().get(&place).is_some_and(|report| report.id == id) {
            return;
        }
        let generation = self.next_generation(turn);
        let command = Command { withdrawn: Some(reason.to_owned()), ..command };
        turn.note(Note::CommandWithdrawn { device: device.clone(), id, reason: reason.to_owned() });
        self.write(turn, device, Fact::Command(generation, place, command));
    }

    pub(super) fn answer_command(&self, device: &DeviceId, id: u64) -> Result<Answer, Refusal> {
        let known =
            self.devices.get(device).ok_or_else(|| Refusal::UnknownDevice { device: device.clone() })?;
        let view = views(device, &known.document).into_iter().find(|view| view.id == id);
        let view = view.ok_or_else(|| Refusal::UnknownCommand { device: device.clone(), id })?;
        Ok(Answer::Command(Box::new(view)))
    }

    /// Withdraws what no device took up in time.
    pub(super) fn expire_commands(&mut self, turn: &mut Turn) {
        while let Some(entry) = self.expiries.first_entry().filter(|entry| entry.key().0 <= turn.now.mono) {
            let ((_, id), device) = entry.remove_entry();
            self.withdraw(turn, &device, id, "no answer before it expired");
        }
    }
}

/// When open commands expire, after a restart of the hub: their time begins anew, since only running time counts.
pub(super) fn expiries<'a>(
    devices: impl Iterator<Item = (&'a DeviceId, &'a Document)>,
) -> BTreeMap<(Mono, u64), DeviceId> {
    let mut expiries = BTreeMap::new();
    for (device, document) in devices {
        for view in views(device, document).into_iter().filter(|view| view.state == "waiting") {
            let after = Duration::from_secs(view.expires_s.unwrap_or(MAX_EXPIRES_S));
            expiries.insert((Mono::default().after(after), view.id), device.clone());
        }
    }
    expiries
}

/// A place whose command is over: the one that was used longest ago.
fn free_place(device: &DeviceId, document: &Document) -> Option<u8> {
    let (commands, reports) = (Facts(document).commands(), Facts(document).reports());
    let mut over: BTreeMap<u8, Option<u64>> = (0..PLACES).map(|place| (place, Some(0))).collect();
    for (place, command) in commands {
        let id = command.id;
        let view = CommandView::of(device, command, reports.get(&place));
        over.insert(place, view.over.then_some(id));
    }
    let free = over.into_iter().filter_map(|(place, id)| Some((id?, place)));
    free.filter(|(_, place)| *place < PLACES).min().map(|(_, place)| place)
}
