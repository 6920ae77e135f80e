//! Signs of life, words said ahead, and devices that say too much.

use super::*;

#[test]
fn a_beat_is_a_sign_of_life_with_counters() {
    let (mut world, _, _) = fleet(1);
    let seen = |world: &mut World, seconds| match world
        .ask(at(seconds), Request::Device("press-00".parse().unwrap()))
    {
        Ok(Answer::Device(view)) => {
            (view.row.last_seen, view.counters["predictions"], view.counters["labels"])
        }
        other => panic!("{other:?}"),
    };
    let beat = |world: &mut World, seconds, uptime, counts: &[(u8, u64)]| {
        let event = world.device("press-00").beat(uptime, counts);
        world.turn(at(seconds), event);
    };
    assert_eq!(seen(&mut world, 200), (at(1).wall, 0, 0));
    beat(&mut world, 300, 300, &[(0, 299), (3, 4), (200, 1)]);
    assert_eq!(
        seen(&mut world, 310),
        (at(300).wall, 299, 4),
        "and a counter of a later build is passed over"
    );
    beat(&mut world, 400, 300, &[(0, 1)]);
    beat(&mut world, 400, 200, &[(0, 1)]);
    assert_eq!(seen(&mut world, 410), (at(300).wall, 299, 4), "said twice or late, it says nothing");
    world.device("press-00").write(Fact::Counter(shoal_proto::fact::Count::Predictions, 500));
    world.settle(at(500));
    assert_eq!(seen(&mut world, 500).1, 500, "the document goes on from there");
}

#[test]
fn a_device_that_says_too_much_is_not_heard_and_the_others_are() {
    let (mut world, _, _) = fleet(2);
    let seen = world.hub.alarms;
    let flood = |world: &mut World, seconds: u64| {
        let before = world.hub.unheard;
        for _ in 0..70_000 {
            let beat = world.device("press-00").beat(seconds, &[]);
            world.turn(at(seconds), beat);
        }
        world.hub.unheard - before
    };
    assert!((3_000..9_000).contains(&flood(&mut world, 100)), "a burst is heard, and then nothing");
    assert_eq!(world.hub.alarms, seen + 1, "and that is said once");
    let heard = 70_000 - flood(&mut world, 110);
    assert!((2_000..2_600).contains(&heard), "ten seconds of 256 KiB: {heard}");
    let beat = world.device("press-01").beat(110, &[(0, 7)]);
    world.turn(at(110), beat);
    let Ok(Answer::Device(view)) = world.ask(at(111), Request::Device("press-01".parse().unwrap())) else {
        panic!("no view")
    };
    assert_eq!(view.counters["predictions"], 7);
}

/// What the hub believes that the first device serves.
fn champion(world: &World) -> Option<Digest> {
    let device = world.hub.devices.get(&DeviceId::new("press-00").unwrap())?;
    device.slots.values().next().map(|slot| slot.champion)
}

#[test]
fn a_hub_that_comes_back_takes_up_the_conversation_at_a_beat() {
    let (mut world, before, _) = fleet(1);
    world.hub = World::new().hub; // its database is gone
    world.settle(at(9));
    let beat = world.device("press-00").beat(300, &[]);
    world.turn(at(10), beat);
    world.settle(at(10));
    assert_eq!(champion(&world), Some(before));
}

#[test]
fn a_verdict_that_is_said_ahead_counts_at_once_and_gives_way() {
    let (mut world, before, version) = fleet(2);
    world.ask(at(10), wish(1)).unwrap();
    world.settle(at(11));
    world.device("press-00").end(before, SlotEnd::RolledBack(RollbackReason::Command));
    let ahead = world.device("press-00").ahead();
    world.turn(at(12), ahead);
    world.turn(at(13), Event::Tick);
    let view = look(&mut world, 13);
    assert_eq!((view.state.as_str(), view.tally.failed), ("stopped", 1), "the log is still on its way");
    world.settle(at(14));
    world.device("press-00").slot(version, 9, None);
    world.settle(at(15));
    assert_eq!(champion(&world), Some(version));
}
