//! Commands to a device that may be away: one effect, one report, and an end.

use super::command::{CommandView, CommandWish};
use super::{Answer, Event, Hub, Policy, Refusal, Request, Saved};
use crate::testing::{World, at, model};
use shoal_proto::command::{Ask, Command, Report, State};
use shoal_proto::fact::{Fact, Facts};
use shoal_proto::id::{DeviceId, Digest};
use shoal_proto::time::WallMs;

fn device() -> DeviceId {
    DeviceId::new("press-00").unwrap()
}

fn fleet() -> World {
    World::with_devices(1, Digest::of(b"champion"))
}

fn give(world: &mut World, seconds: u64, expires_s: u64) -> Result<CommandView, Refusal> {
    let what = Ask::Train { model: model() };
    let wish = Box::new(CommandWish { what, expires_s });
    view(world.ask(at(seconds), Request::GiveCommand { device: device(), wish }))
}

fn look(world: &mut World, seconds: u64, id: u64) -> CommandView {
    view(world.ask(at(seconds), Request::Command { device: device(), id })).unwrap()
}

fn view(answer: Result<Answer, Refusal>) -> Result<CommandView, Refusal> {
    match answer? {
        Answer::Command(view) => Ok(*view),
        other => panic!("{other:?}"),
    }
}

/// What the device reads.
fn heard(world: &mut World) -> Vec<(u8, Command)> {
    Facts(&world.device("press-00").document).commands()
}

fn report(world: &mut World, seconds: u64, place: u8, id: u64, state: State) {
    let report = Report { id, state, text: "run 4".into(), run: None, at: WallMs(3) };
    world.device("press-00").write(Fact::Report(place, report));
    world.settle(at(seconds));
}

#[test]
fn a_command_is_heard_and_its_report_is_shown() {
    let mut world = fleet();
    let given = give(&mut world, 10, 60).unwrap();
    assert_eq!((given.state.as_str(), given.over), ("waiting", false));
    world.settle(at(11));
    let [(place, command)] = &heard(&mut world)[..] else { panic!("one command") };
    assert_eq!((command.id, command.withdrawn.as_ref()), (given.id, None));
    let place = *place;
    report(&mut world, 12, place, given.id, State::Accepted);
    world.turn(at(100), Event::Tick);
    let seen = look(&mut world, 101, given.id);
    assert_eq!((seen.state.as_str(), seen.text.as_str()), ("accepted", "run 4"), "it is on it: no expiry");
    report(&mut world, 102, place, given.id, State::Done);
    let seen = look(&mut world, 103, given.id);
    assert!(seen.over && seen.state == "done" && seen.at == Some(WallMs(3)), "{seen:?}");
    let Ok(Answer::Device(shown)) = world.ask(at(104), Request::Device(device())) else { panic!() };
    assert_eq!(shown.commands, [seen]);
}

#[test]
fn what_nobody_takes_up_expires_and_can_be_withdrawn() {
    let mut world = fleet();
    let late = give(&mut world, 10, 60).unwrap();
    let other = give(&mut world, 10, 600).unwrap();
    assert_eq!(world.hub.next_deadline().map(|due| due <= at(70).mono), Some(true));
    world.turn(at(71), Event::Tick);
    let seen = look(&mut world, 72, late.id);
    assert!(seen.over && seen.state == "withdrawn" && seen.text.contains("expired"), "{seen:?}");
    let withdraw = Request::WithdrawCommand { device: device(), id: other.id };
    assert_eq!(view(world.ask(at(73), withdraw)).unwrap().text, "withdrawn by command");
    world.settle(at(74));
    assert!(heard(&mut world).iter().all(|(_, command)| command.withdrawn.is_some()));
    // The device had taken it up before the word came: what was done is told.
    let place = heard(&mut world).iter().find(|(_, command)| command.id == late.id).unwrap().0;
    report(&mut world, 75, place, late.id, State::Done);
    assert_eq!(look(&mut world, 76, late.id).state, "done");
}

#[test]
fn places_are_few_and_used_again() {
    let mut world = fleet();
    let ids: Vec<u64> = (0..8).map(|_| give(&mut world, 10, 60).unwrap().id).collect();
    assert!(matches!(give(&mut world, 10, 60), Err(Refusal::Full { limit: 8, .. })));
    world.settle(at(11));
    let place = heard(&mut world).iter().find(|(_, command)| command.id == ids[3]).unwrap().0;
    report(&mut world, 12, place, ids[3], State::Failed);
    let next = give(&mut world, 13, 60).unwrap();
    world.settle(at(14));
    assert!(heard(&mut world).iter().any(|(at, command)| *at == place && command.id == next.id));
    let gone = Request::Command { device: device(), id: ids[3] };
    assert!(matches!(world.ask(at(15), gone), Err(Refusal::UnknownCommand { .. })));
    for wrong in [0, u64::MAX] {
        assert!(matches!(give(&mut world, 16, wrong), Err(Refusal::Field { field: "expires_s", .. })));
    }
}

#[test]
fn a_hub_that_starts_again_still_withdraws_what_is_late() {
    let mut world = fleet();
    let given = give(&mut world, 10, 60).unwrap();
    let kept = world.hub.devices[&device()].clone();
    let devices = [(device(), (kept.peer, kept.document, kept.memory))].into();
    let saved = Saved { generation: given.id, devices, ..Saved::default() };
    world.hub = Hub::restore(Policy::default(), saved, 8);
    world.turn(at(61), Event::Tick);
    assert_eq!(look(&mut world, 62, given.id).state, "withdrawn");
}
