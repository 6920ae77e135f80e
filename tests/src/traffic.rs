//! What a device-day costs on the link, by kind: the production cores of a device and of the hub in virtual time, a
//! row a second of twenty features, and every frame weighed as it goes out.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shoal_agent::core::{
    Agent, Asked, Boot, Command, Effect, Event, Labelled, Observation, Policy, Truth, VersionInfo,
};
use shoal_hub::core::{self as hub, Hub};
use shoal_proto::baseline::{Baseline, FeatureBaseline, PredictionBaseline};
use shoal_proto::describe;
use shoal_proto::id::{DeviceId, ModelName};
use shoal_proto::manifest::Manifest;
use shoal_proto::message::{Exchange, Payload};
use shoal_proto::package::{BASELINE, MANIFEST, MODEL, Package};
use shoal_proto::time::{Mono, Now, WallMs};
use shoal_proto::topic::{Topic, Up};
use shoal_proto::wire;
use shoal_watch::answer::GroupCodes;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const CLASSES: usize = 4;
const DAY_S: u64 = 86_400;
/// A label so often.
const LABEL_EVERY_S: u64 = 60;
/// A new version so often: five a day.
const VERSION_EVERY_S: u64 = DAY_S / 5;
/// When features 3 and 7 begin to drift.
const DRIFT_AT_S: u64 = 50_000;
/// What MQTT adds to a payload: fixed header with its length, length of the topic, packet id.
const HEADER_BYTES: usize = 2 + 2 + 2 + 2;

/// Bytes of one direction.
#[derive(Debug, Clone, Default)]
pub struct Way {
    /// Messages.
    pub messages: u64,
    /// Bytes on MQTT, headers and topics among them.
    pub bytes: u64,
    /// Of them, by kind of operation, or what else a frame is for.
    pub kinds: BTreeMap<String, (u64, f64)>,
    /// What the frames hold.
    pub bodies: Vec<Vec<u8>>,
}

/// A device of which a day is played.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// Its name.
    pub device: &'static str,
    /// Its model's.
    pub model: &'static str,
    /// How its features' names begin.
    pub feature: &'static str,
    /// How many features.
    pub features: usize,
    /// Of all that is drawn.
    pub seed: u64,
}

/// The device of the tables.
const WEIGHED: Subject = Subject { device: "press-07", model: "gas", feature: "s", features: 20, seed: 7 };
/// Those whose messages make the dictionary: none of them is weighed.
const SAMPLED: [Subject; 4] = [
    Subject { device: "board-3", model: "valve", feature: "pressure_", features: 12, seed: 101 },
    Subject { device: "line-a-17", model: "bearing", feature: "rms", features: 30, seed: 102 },
    Subject { device: "pump-0042", model: "flow-class", feature: "t", features: 6, seed: 103 },
    Subject { device: "gw-lyon-9", model: "grid", feature: "phase_", features: 18, seed: 104 },
];

impl Way {
    fn take(&mut self, topic: &Topic, frame: &[u8]) {
        let bytes = frame.len() + topic.to_string().len() + HEADER_BYTES;
        self.messages += 1;
        self.bytes += bytes as u64;
        self.bodies.extend(wire::open(frame));
        let parts: Vec<(String, usize)> = match wire::decode::<Exchange>(frame)
            .map(|exchange| exchange.payload)
        {
            Err(_) if matches!(topic, Topic::Up(_, Up::Beat)) => vec![("beats".into(), 1)],
            Ok(Payload::Batch { ops, .. }) => {
                ops.iter().map(|op| (describe::name(op.kind), op.key.len() + op.value.len() + 24)).collect()
            }
            Ok(Payload::Snapshot { entries, .. }) => {
                let of = |kind| format!("{} (snapshot)", describe::name(kind));
                entries
                    .iter()
                    .map(|entry| (of(entry.kind), entry.key.len() + entry.value.len() + 40))
                    .collect()
            }
            Ok(Payload::Ahead { .. }) => vec![("said ahead".into(), 1)],
            Ok(Payload::Nothing) => vec![("acknowledgements".into(), 1)],
            Ok(Payload::Forked { .. }) | Err(_) => vec![("hello".into(), 1)],
        };
        let whole: usize = parts.iter().map(|(_, size)| size).sum();
        for (kind, size) in parts {
            let entry = self.kinds.entry(kind).or_default();
            entry.0 += 1;
            entry.1 += bytes as f64 * size as f64 / whole.max(1) as f64;
        }
    }
}

/// One device-day with windows of so many seconds: up and down.
#[must_use]
pub fn day(subject: &Subject, window_s: u64) -> (Way, Way) {
    let mut random = ChaCha8Rng::seed_from_u64(subject.seed);
    let device = DeviceId::new(subject.device).expect("a legal name");
    let versions: Vec<VersionInfo> = (1..=6).map(|number| version(subject, number)).collect();
    let policy = Policy {
        window: Duration::from_secs(window_s),
        window_rows: u64::MAX,
        retrain: false,
        ..Policy::new(device)
    };
    let boot = Boot {
        versions: vec![versions[0].clone()],
        configured: vec![versions[0].clone()],
        seed: 3,
        ..Boot::default()
    };
    let (mut up, mut down) = (Way::default(), Way::default());
    let mut hub = Hub::restore(hub::Policy::default(), hub::Saved::default(), 5);
    let mut effects = Vec::new();
    let mut agent = Agent::new(policy, boot, at(0), &mut effects);
    let mut waiting = vec![Event::LinkUp];
    hub.handle(at(0), hub::Event::BrokerUp, &mut Vec::new());
    for second in 0..DAY_S {
        let now = at(second);
        if second > 0 && second.is_multiple_of(VERSION_EVERY_S) {
            let place = usize::try_from(second / VERSION_EVERY_S).unwrap_or(0);
            waiting.push(Event::Installed { command: second, outcome: Ok(versions[place].clone()) });
        }
        if let Some(status) = agent.status(now).models.first().filter(|status| status.ready) {
            let row = row(&mut random, subject, status.serving, second);
            if second.is_multiple_of(LABEL_EVERY_S) {
                waiting.push(Event::Labelled(label(&row, &mut random)));
            }
            waiting.push(Event::Predicted(vec![row]));
        }
        waiting.push(Event::Tick);
        for effect in effects.drain(..) {
            answer(effect, subject, &mut hub, now, &mut waiting, (&mut up, &mut down));
        }
        while let Some(event) = (!waiting.is_empty()).then(|| waiting.remove(0)) {
            let mut said = Vec::new();
            agent.handle(now, event, &mut said);
            for effect in said {
                answer(effect, subject, &mut hub, now, &mut waiting, (&mut up, &mut down));
            }
        }
    }
    (up, down)
}

fn at(second: u64) -> Now {
    let ms = second * 1_000;
    Now { mono: Mono::from_millis(ms), wall: WallMs(1_800_000_000_000 + ms) }
}

fn answer(
    effect: Effect,
    subject: &Subject,
    hub: &mut Hub,
    now: Now,
    waiting: &mut Vec<Event>,
    (up, down): (&mut Way, &mut Way),
) {
    match effect {
        Effect::Publish { topic, frame } => {
            let to = Topic::Up(DeviceId::new(subject.device).expect("a legal name"), topic);
            if topic != Up::Status {
                up.take(&to, &frame);
            }
            let name = to.to_string();
            let (mut said, retained) = (Vec::new(), false);
            hub.handle(now, hub::Event::DeviceFrame { topic: name, retained, bytes: frame }, &mut said);
            for effect in said {
                if let hub::Effect::Publish { topic, frame } = effect {
                    down.take(&topic, &frame);
                    waiting.push(Event::FromHub(frame));
                }
            }
        }
        Effect::Admit { version } => waiting.push(Event::Admitted { version, outcome: Ok(()) }),
        Effect::Serve { model, version } => waiting.push(Event::Serving { model, version, outcome: Ok(()) }),
        Effect::Reply { number, outcome: Err(_) } if number > 0 => {
            // An earlier version is still on trial: its operator gives it up.
            let model = ModelName::new(subject.model).expect("a legal name");
            waiting.push(Event::Command { number: 0, command: Command::Rollback { model } });
        }
        _ => {}
    }
}

fn row(
    random: &mut ChaCha8Rng,
    subject: &Subject,
    version: shoal_proto::id::Digest,
    second: u64,
) -> Observation {
    let class = random.random_range(0..4_u32);
    let moved = if second > DRIFT_AT_S { 0.8 } else { 0.0 };
    let features: Vec<f32> = (0..subject.features)
        .map(|place| {
            let noise: f32 = (0..4).map(|_| random.random_range(-1.0_f32..1.0)).sum();
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let centre = (class as f32) * 0.3 + place as f32;
            centre + noise + if place == 3 || place == 7 { moved } else { 0.0 }
        })
        .collect();
    let mut values = [0.02_f32; CLASSES];
    let sure = random.random_range(0.5_f32..0.94);
    values[usize::try_from(class).unwrap_or(0)] = sure;
    Observation {
        place: None,
        model: ModelName::new(subject.model).expect("a legal name"),
        version,
        asked: Asked { life: 1, number: second },
        at: at(second).mono,
        features: features.into(),
        class: Some(class),
        confidence: sure,
        values: values.into(),
        embedding: [].into(),
        groups: GroupCodes::default(),
    }
}

fn label(row: &Observation, random: &mut ChaCha8Rng) -> Labelled {
    let said = row.class.unwrap_or(0);
    let truth = if random.random_bool(0.9) { said } else { (said + 1) % 4 };
    let Observation { model, version, asked, features, class, confidence, values, groups, .. } = row.clone();
    Labelled {
        model,
        version,
        asked,
        features,
        class,
        confidence,
        values,
        truth: Truth::Class(truth),
        groups,
    }
}

fn version(subject: &Subject, number: u32) -> VersionInfo {
    let mut text = format!(
        "format = 1\n[model]\nname = \"{}\"\nversion = {number}\ntask = \"classification\"\n[input]\ntensor = \"x\"\n\
         [output]\ntensor = \"y\"\nkind = \"probabilities\"\nclasses = [\"a\", \"b\", \"c\", \"d\"]\n",
        subject.model
    );
    for place in 0..subject.features {
        let _ = write!(text, "[[feature]]\nname = \"{}{place}\"\nmin = -10.0\nmax = 40.0\n", subject.feature);
    }
    let manifest = Manifest::parse(&text).expect("a legal manifest");
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let none = shoal_proto::id::Digest::of(b"none");
    let rows: Vec<Observation> = (0..5_000).map(|second| row(&mut random, subject, none, second)).collect();
    let column = |place: usize| {
        FeatureBaseline::of(rows.iter().map(|row| f64::from(row.features[place]))).without_order()
    };
    let predictions = PredictionBaseline {
        counts: (0..CLASSES * 10).map(|bin| if (5..9).contains(&(bin % 10)) { 312 } else { 0 }).collect(),
        labelled: 5_000,
        correct: 4_500,
        ..PredictionBaseline::default()
    };
    let baseline = Baseline {
        rows: 5_000,
        features: (0..subject.features).map(column).collect(),
        predictions: Some(predictions),
        ..Baseline::default()
    };
    let files = [
        (MODEL, b"graph".to_vec()),
        (MANIFEST, manifest.to_text().into_bytes()),
        (BASELINE, baseline.to_bytes()),
    ];
    let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    let (version, record) =
        Package::new(files).and_then(|package| package.record()).expect("a package of consistent parts");
    let baseline = Arc::new(baseline);
    let (manifest, reference) = (Arc::new(manifest), Arc::clone(&baseline));
    VersionInfo { version, record, manifest, reference, baseline, size_bytes: 1_000 }
}

fn table(title: &str, way: &Way) -> String {
    let mut text = format!("{title}: {} messages, {:.1} KB\n", way.messages, way.bytes as f64 / 1_000.0);
    let mut kinds: Vec<_> = way.kinds.iter().collect();
    kinds.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    for (kind, (count, bytes)) in kinds {
        let _ = writeln!(text, "  {kind:<24} {count:>6}  {:>8.2} KB", bytes / 1_000.0);
    }
    text
}

/// Writes what some devices' messages hold, for `zstd --train` to make a wire version's dictionary of.
fn write_samples(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let days = SAMPLED.iter().map(|subject| day(subject, 3_600));
    let bodies = days.flat_map(|(up, down)| up.bodies.into_iter().chain(down.bodies));
    for (number, body) in bodies.enumerate() {
        std::fs::File::create(folder.join(format!("{number:05}")))?.write_all(&body)?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the program's output")]
fn refuse(reason: &str) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::from(64)
}

/// Prints the tables.
#[must_use]
#[expect(clippy::print_stdout, reason = "the program's output")]
pub fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {}
        ["--samples", folder] => {
            return match write_samples(Path::new(folder)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(cause) => refuse(&format!("failed to write into `{folder}`: {cause}")),
            };
        }
        _ => return refuse("usage: traffic [--samples FOLDER]"),
    }
    println!(
        "A device-day: {} features, {CLASSES} classes, a row a second, a label a minute, two features",
        WEIGHED.features
    );
    println!(
        "that drift, five new versions; bytes as MQTT carries them, shares of a packed frame by weight.\n"
    );
    for window_s in [3_600, 300] {
        let (up, down) = day(&WEIGHED, window_s);
        println!("windows of {window_s} s");
        println!("{}{}", table("up", &up), table("down", &down));
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_day_stays_within_its_bytes() {
        let (up, down) = day(&WEIGHED, 3_600);
        assert!(up.bytes <= 60_000, "up: {} bytes", up.bytes);
        assert!(down.bytes <= 10_000, "down: {} bytes", down.bytes);
        let (count, _) = up.kinds["beats"];
        assert!(count > 200, "and still a word every five minutes: {count}");
    }
}
