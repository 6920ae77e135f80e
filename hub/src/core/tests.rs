mod link;

use super::registered::Registered;
use super::rollout::{AbortMode, RolloutWish, Strategy};
use super::view::RolloutView;
use super::*;
use crate::testing::{FakeDevice, World, at, model, package};
use shoal_proto::decision::{RollbackReason, SlotEnd};
use shoal_proto::fact::{Artifact, Fact, Facts, Inventory};
use shoal_proto::id::{DeviceId, Digest, Incarnation, RolloutId};
use shoal_proto::message::Cursor;
use shoal_proto::op::Chain;
use shoal_proto::sync;
use shoal_proto::time::WallMs;
use shoal_proto::topic::{Topic, Up};
use shoal_proto::transfer::Refusal::NotAssigned;
use shoal_proto::transfer::{Need, Needed};
use shoal_proto::wire::encode;
use std::collections::BTreeMap;

fn registered(version: u32) -> Registered {
    let package = package(version);
    let (digest, record) = package.record().unwrap();
    Registered {
        version: digest,
        record,
        artifact: Artifact {
            archive: digest,
            size_bytes: 1,
            sources: vec![format!("/artifacts/{digest}")],
            chunks: None,
        },
        features: vec!["s1".into(), "s2".into()],
        classes: vec!["a".into(), "b".into()],
        baseline: package.baseline().unwrap(),
        signer: String::new(),
        pushed: WallMs(0),
        condemned: None,
    }
}

fn wish(canary: u32) -> Request {
    let strategy = Strategy { canary, soak_s: 60, ..Strategy::default() };
    Request::CreateRollout(Box::new(RolloutWish {
        model: model(),
        version: "gas@2".into(),
        strategy,
        selector: BTreeMap::new(),
    }))
}

/// Devices that serve `gas@1`, and both versions in the registry.
fn fleet(count: u64) -> (World, Digest, Digest) {
    let (old, new) = (registered(1), registered(2));
    let (before, version) = (old.version, new.version);
    let mut world = World::with_devices(count, before);
    for model in [old, new] {
        world.ask(at(2), Request::PushModel(Box::new(model))).unwrap();
    }
    (world, before, version)
}

fn rollout(answer: Result<Answer, Refusal>) -> RolloutView {
    match answer {
        Ok(Answer::Rollout(view)) => *view,
        other => panic!("{other:?}"),
    }
}

fn look(world: &mut World, seconds: u64) -> RolloutView {
    rollout(world.ask(at(seconds), Request::Rollout(RolloutId::new("r-00001").unwrap())))
}

#[test]
fn a_good_version_moves_through_the_fleet() {
    let (mut world, before, version) = fleet(3);
    let view = rollout(world.ask(at(10), wish(1)));
    assert_eq!((view.state.as_str(), view.tally.pending), ("running", 3));
    world.settle(at(11));
    assert_eq!(world.device("press-01").assignment(), None, "only the canary is assigned");
    let (generation, wish) = world.device("press-00").assignment().unwrap();
    assert_eq!((generation, wish.version, wish.revert), (1, version, false));
    assert!(wish.artifact.unwrap().sources[0].starts_with("/artifacts/"));

    world.device("press-00").end(version, SlotEnd::Confirmed);
    world.settle(at(20));
    world.turn(at(21), Event::Tick);
    assert!(look(&mut world, 21).waiting.unwrap().text.contains("watched"));
    world.turn(at(82), Event::Tick);
    world.settle(at(82));
    for id in ["press-01", "press-02"] {
        assert_eq!(world.device(id).assignment().map(|it| it.0), Some(2));
        world.device(id).end(version, SlotEnd::Confirmed);
    }
    world.settle(at(90));
    world.turn(at(91), Event::Tick);
    let view = look(&mut world, 91);
    assert_eq!((view.state.as_str(), view.tally.succeeded), ("succeeded", 3));
    assert_eq!(view.devices[0].before, Some(before));
}

#[test]
fn a_bad_version_stops_at_the_canary_and_goes_back() {
    let (mut world, before, _) = fleet(3);
    world.ask(at(10), wish(1)).unwrap();
    world.settle(at(11));
    let reason =
        RollbackReason::WorseOnLabels { before: 0.9, trial: 0.4, labels: 20, z: 4.0, limit: 2.3, e: None };
    world.device("press-00").end(before, SlotEnd::RolledBack(reason.clone()));
    world.settle(at(20));
    world.turn(at(21), Event::Tick);
    world.settle(at(21));
    let (generation, wish) = world.device("press-00").assignment().unwrap();
    assert_eq!((generation, wish.version, wish.revert), (2, before, true));
    assert_eq!(world.device("press-01").assignment(), None, "nobody else ever got it");
    let view = look(&mut world, 22);
    assert_eq!((view.state.as_str(), view.tally.failed, view.tally.pending), ("stopped", 1, 2));
    assert_eq!(view.devices[0].what.text, reason.to_string());
    assert_eq!((view.devices[0].trial_labelled, view.devices[0].trial_correct), (20, 18));
    world.device("press-00").slot(before, 2, None);
    world.settle(at(23));
    assert_eq!(look(&mut world, 23).devices[0].revert, Some(view::Revert::Done));
}

#[test]
fn abort_keeps_or_reverts() {
    for (mode, expected) in [(AbortMode::Keep, 1), (AbortMode::Revert, 2)] {
        let (mut world, before, version) = fleet(2);
        world.ask(at(10), wish(1)).unwrap();
        world.settle(at(11));
        let id = RolloutId::new("r-00001").unwrap();
        for _ in 0..2 {
            let view = rollout(world.ask(at(12), Request::AbortRollout { rollout: id.clone(), mode }));
            assert_eq!(view.state, "aborted", "asked twice, answered the same");
        }
        world.settle(at(13));
        let (generation, wish) = world.device("press-00").assignment().unwrap();
        assert_eq!(generation, expected);
        assert_eq!(wish.version, if wish.revert { before } else { version });
        let other = if mode == AbortMode::Keep { AbortMode::Revert } else { AbortMode::Keep };
        let refused = world.ask(at(14), Request::AbortRollout { rollout: id, mode: other });
        assert!(matches!(refused, Err(Refusal::Ended { .. })));
    }
}

#[test]
fn a_condemned_version_stops_its_rollout_and_reaches_devices_that_come_later() {
    let (mut world, before, version) = fleet(2);
    world.ask(at(10), wish(1)).unwrap();
    world.settle(at(11));
    let condemn = Request::CondemnVersion { version: "gas@2".into(), reason: "bad".into(), holds: true };
    world.ask(at(12), condemn).unwrap();
    assert_eq!(look(&mut world, 12).state, "stopped");
    world.join(FakeDevice::new("late", 900));
    world.settle(at(13));
    for id in ["press-01", "late"] {
        assert_eq!(Facts(&world.device(id).document).condemned()[&version], "bad", "{id}");
    }
    assert_eq!(world.device("press-00").assignment().unwrap().1.version, before);
    assert!(matches!(world.ask(at(14), wish(1)), Err(Refusal::Condemned { .. })));
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let (mut world, ..) = fleet(1);
    let with = |change: fn(&mut RolloutWish)| {
        let Request::CreateRollout(mut wish) = wish(1) else { unreachable!() };
        change(&mut wish);
        Request::CreateRollout(wish)
    };
    for (request, expected) in [
        (with(|it| it.version = "gas@9".into()), "unknown_version"),
        (with(|it| it.model = "other".parse().unwrap()), "other_model"),
        (with(|it| it.strategy.canary = 0), "field"),
        (with(|it| it.strategy.success_percentage = f64::NAN), "field"),
        (with(|it| it.selector = [("a".into(), "b".into())].into()), "no_devices"),
        (Request::Device("nobody".parse().unwrap()), "unknown_device"),
        (Request::Rollout("nothing".parse().unwrap()), "unknown_rollout"),
    ] {
        let refusal = world.ask(at(10), request).unwrap_err();
        let typed = serde_json::to_value(&refusal).unwrap();
        assert!(typed.get(expected).is_some(), "{refusal} is not {expected}");
        assert!(!refusal.hint().is_empty());
    }
    world.ask(at(10), wish(1)).unwrap();
    assert!(matches!(world.ask(at(10), wish(1)), Err(Refusal::Overlap { .. })));
}

#[test]
fn tags_choose_devices() {
    let (mut world, ..) = fleet(3);
    let device = DeviceId::new("press-02").unwrap();
    let own = Inventory {
        agent_version: "1".into(),
        arch: "x".into(),
        tags: [("line".to_owned(), "1".to_owned())].into(),
    };
    world.device("press-02").write(Fact::Inventory(own));
    world.settle(at(3));
    let tags = [("site".to_owned(), "lyon".to_owned())].into();
    world.ask(at(4), Request::TagDevice { device: device.clone(), tags }).unwrap();
    let Request::CreateRollout(mut wish) = wish(1) else { unreachable!() };
    wish.selector = [("site".into(), "lyon".into()), ("line".into(), "1".into())].into();
    let view = rollout(world.ask(at(5), Request::CreateRollout(wish)));
    assert_eq!(view.devices.iter().map(|it| &it.device).collect::<Vec<_>>(), [&device]);
}

#[test]
fn an_old_last_will_is_ignored() {
    let mut world = World::with_devices(1, Digest::of(b"v"));
    world.device("press-00").boot = 2;
    let (hello, old_will, will) = {
        let device = world.device("press-00");
        (device.hello(), device.status(false, 1), device.status(false, 2))
    };
    let online = |world: &World| world.hub.devices.values().all(|it| it.online.is_some());
    world.turn(at(3), hello);
    world.turn(at(4), old_will);
    assert!(online(&world));
    world.turn(at(5), will);
    assert!(!online(&world));
}

#[test]
fn garbage_is_counted_and_never_a_panic() {
    let mut world = World::with_devices(1, Digest::of(b"v"));
    let Event::DeviceFrame { topic, bytes, .. } = world.device("press-00").hello() else { unreachable!() };
    let mut seen = 0;
    for topic in ["", "shoal/v1/d/00/press-00/up/sync", "$SYS/x", topic.as_str()] {
        for cut in 0..bytes.len() {
            let frame =
                Event::DeviceFrame { topic: topic.to_owned(), retained: false, bytes: bytes[..cut].to_vec() };
            world.turn(at(2), frame);
            seen += 1;
        }
    }
    assert_eq!(world.hub.alarms, seen);
    let foreign = FakeDevice::new("press-00", 1).hello();
    let Event::DeviceFrame { bytes, .. } = foreign else { unreachable!() };
    let Event::DeviceFrame { topic, .. } = FakeDevice::new("other", 1).hello() else { unreachable!() };
    world.turn(at(3), Event::DeviceFrame { topic, retained: false, bytes });
    assert_eq!((world.hub.alarms, world.hub.devices.len()), (seen + 1, 1), "nobody speaks for another");
}

#[test]
fn a_device_gets_what_is_assigned_to_it_and_nothing_else() {
    let (mut world, _, version) = fleet(2);
    let archive = version; // of these packages
    let say = |device: &str, need: &Need, retained| {
        let topic = Topic::Up(DeviceId::new(device).unwrap(), Up::Need).to_string();
        Event::DeviceFrame { topic, retained, bytes: encode(need).unwrap() }
    };
    let chunks = |bits| Need { archive, number: 3, what: Needed::Chunks { list: version, first: 0, bits } };
    let need = chunks(0b101);
    world.turn(at(2), say("press-00", &need, false));
    world.ask(at(2), wish(1)).unwrap();
    world.settle(at(3));
    world.turn(at(4), say("press-00", &need, false));
    world.turn(at(4), say("press-01", &need, false));
    let list = Need { archive, number: 4, what: Needed::List { from: 0 } };
    world.turn(at(4), say("press-00", &list, false));
    let alarms = world.hub.alarms;
    world.turn(at(4), say("press-00", &need, true));
    assert_eq!(world.hub.alarms, alarms, "a broker's echo");
    world.turn(at(5), say("press-00", &chunks(0), false));
    world.turn(at(5), say("nobody", &need, false));
    let topic = Topic::Up(DeviceId::new("press-00").unwrap(), Up::Need).to_string();
    world.turn(at(5), Event::DeviceFrame { topic, retained: false, bytes: vec![0xe5; 70_000] });
    assert_eq!(world.hub.alarms, alarms + 3, "what makes no sense is counted and not answered");
    let (first, second) = (DeviceId::new("press-00").unwrap(), DeviceId::new("press-01").unwrap());
    assert_eq!(
        world.carried,
        [
            (first.clone(), need.clone(), Some(NotAssigned)),
            (first.clone(), need.clone(), None),
            (second, need, Some(NotAssigned)),
            (first, list, None),
        ]
    );
}

#[test]
fn a_list_that_an_earlier_build_did_not_make_is_taken_when_it_is_pushed_again() {
    let mut world = World::new();
    let model = registered(1);
    world.ask(at(1), Request::PushModel(Box::new(model.clone()))).unwrap();
    let mut listed = model.clone();
    listed.artifact.chunks = Some(Digest::of(b"list"));
    for pushed in [&listed, &model] {
        world.ask(at(2), Request::PushModel(Box::new(pushed.clone()))).unwrap();
        assert_eq!(world.hub.models[&model.version], listed);
    }
    let written = world.persisted.iter().flatten().filter(|record| matches!(record, Record::Model(_)));
    assert_eq!(written.count(), 2);
}

#[test]
fn duplicates_and_disorder_change_nothing() {
    let frames = |device: &mut FakeDevice| {
        let mut all = vec![device.hello()];
        device.slot(Digest::of(b"v"), 0, None);
        let start = Cursor { incarnation: Incarnation(1), seq: 0, chain: Chain::default() };
        device.peer.on_ack(at(1).mono, Some(start), Incarnation(9), &mut Vec::new()).unwrap();
        all.extend(device.say(at(1)));
        device.slot(Digest::of(b"w"), 3, None);
        all.extend(device.say(at(10)));
        all
    };
    let all = frames(&mut FakeDevice::new("a", 1));
    let fold = |order: &[usize]| {
        let mut hub = Hub::restore(Policy::default(), Saved::default(), 1);
        let mut effects = Vec::new();
        hub.handle(at(0), Event::BrokerUp, &mut effects);
        for index in order {
            hub.handle(at(11), all[*index].clone(), &mut effects);
        }
        hub.devices.values().next().unwrap().document.to_bytes()
    };
    let clean = fold(&[0, 1, 2]);
    for order in [vec![0, 1, 2, 2, 1, 0], vec![2, 0, 1, 2], vec![0, 2, 1, 2], vec![1, 1, 0, 2]] {
        assert_eq!(fold(&order), clean, "{order:?}");
    }
}

#[test]
fn a_hub_that_lost_its_database_gives_no_generation_twice() {
    let (mut world, before, version) = fleet(1);
    world.ask(at(10), wish(1)).unwrap();
    world.settle(at(11));
    world.device("press-00").end(version, SlotEnd::Confirmed);
    world.settle(at(12));
    world.hub = Hub::restore(Policy::default(), Saved::default(), 8);
    world.turn(at(20), Event::BrokerUp);
    let hello = world.device("press-00").hello();
    world.turn(at(20), hello);
    world.settle(at(30));
    for version in [1, 2] {
        world.ask(at(31), Request::PushModel(Box::new(registered(version)))).unwrap();
    }
    world.ask(at(32), wish(1)).unwrap();
    world.settle(at(40));
    let (generation, _) = world.device("press-00").assignment().unwrap();
    assert_eq!(generation, 2, "the device's report of generation 1 was heard");
    assert_ne!(before, version);
}

#[test]
fn a_restart_from_what_was_persisted_gives_the_same_state() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.db");
    let (mut world, _, version) = fleet(3);
    let lonely = DeviceId::new("press-02").unwrap();
    world.ask(at(3), Request::RemoveDevice { device: lonely }).unwrap();
    world.devices.remove(&DeviceId::new("press-02").unwrap());
    world.ask(at(10), wish(1)).unwrap();
    world.settle(at(11));
    world.device("press-00").end(version, SlotEnd::Confirmed);
    world.settle(at(12));
    // A new life of one device, and a wish that nobody has acknowledged.
    world.join(FakeDevice::new("press-01", 777));
    world.settle(at(13));
    world.devices.clear();
    let condemn = Request::CondemnVersion { version: "gas@1".into(), reason: "old".into(), holds: true };
    world.ask(at(14), condemn).unwrap();

    let (store, _) = crate::store::Store::open(&path).unwrap();
    for records in std::mem::take(&mut world.persisted) {
        runtime.block_on(store.persist(records)).unwrap();
    }
    drop(store);
    let (_store, saved) = crate::store::Store::open(&path).unwrap();
    let restored = Hub::restore(Policy::default(), saved, 9);
    let hub = &world.hub;
    assert_eq!(restored.generation, hub.generation);
    assert_eq!(restored.models, hub.models);
    let settled = |hub: &Hub| {
        let mut rollouts = hub.rollouts.clone();
        rollouts.values_mut().for_each(|it| {
            it.running.settle(at(14).mono);
            it.soaking = None;
            it.running = rollout::Stopwatch::start(at(14).mono);
        });
        rollouts
    };
    assert_eq!(settled(&restored), settled(hub));
    assert_eq!(restored.devices.keys().collect::<Vec<_>>(), hub.devices.keys().collect::<Vec<_>>());
    for (ours, theirs) in restored.devices.values().zip(hub.devices.values()) {
        assert_eq!(ours.document.to_bytes(), theirs.document.to_bytes());
        assert_eq!(ours.peer.cursor(), theirs.peer.cursor());
        let position = |peer: &sync::Peer| (peer.log.replica, peer.log.base(), peer.log.last());
        assert_eq!(position(&ours.peer), position(&theirs.peer));
        assert!(ours.peer.log.waiting() > 0, "the condemnation waits for its acknowledgement");
        assert_eq!(ours.slots, theirs.slots);
        assert_eq!(ours.memory.tags, theirs.memory.tags);
    }
}

#[test]
fn an_online_status_goes_on_where_the_device_stood() {
    let (mut world, ..) = fleet(1);
    // The hub restarts, the broker and the device do not.
    world.turn(at(20), Event::BrokerDown);
    world.turn(at(21), Event::BrokerUp);
    world.ask(at(22), wish(1)).unwrap();
    let (status, boot) = (world.device("press-00").status(true, 1), 1);
    let Event::DeviceFrame { topic, bytes, .. } = status else { unreachable!() };
    world.turn(at(23), Event::DeviceFrame { topic, retained: true, bytes });
    assert_eq!(world.device("press-00").assignment().map(|it| it.0), Some(boot));
}

#[test]
fn ticks_are_harmless() {
    let (mut world, ..) = fleet(2);
    world.ask(at(10), wish(1)).unwrap();
    world.settle(at(11));
    let before = world.persisted.len();
    for _ in 0..5 {
        world.turn(at(11), Event::Tick);
    }
    assert_eq!(world.persisted.len(), before);
    assert!(world.hub.next_deadline().is_some_and(|next| next > at(11).mono));
}
