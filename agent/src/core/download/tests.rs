//! Laws over channels that lose, repeat, reorder and lie, and tables of what ends a download.

use super::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use shoal_proto::chunks::CHUNK_SIZES;

const CHUNK: u32 = 4 * 1024;
const FOREVER: u64 = 24 * 3_600_000;

fn archive(chunks: u32, seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let length = place(chunks * CHUNK).unwrap() - random.random_range(0..1_000);
    (0..length).map(|_| random.random()).collect()
}

/// The list of an archive in small chunks, and what the hub promises of it.
fn promised(archive: &[u8]) -> (Vec<u8>, Artifact) {
    let digests = archive.chunks(place(CHUNK).unwrap()).flat_map(|chunk| Digest::of(chunk).0).collect();
    let (digest, size_bytes) = (Digest::of(archive), archive.len() as u64);
    let list = ChunkList { archive: digest, size_bytes, chunk_bytes: CHUNK, digests, ways: Vec::new() };
    let list = list.to_bytes();
    let chunks = Some(Digest::of(&list));
    (list, Artifact { archive: digest, size_bytes, sources: Vec::new(), chunks })
}

/// How a source behaves.
#[derive(Debug, Clone, Copy)]
struct Manner {
    kind: Kind,
    rate: Option<u64>,
    loss: f64,
    twice: f64,
    lies: f64,
    /// Longest way there and back, in milliseconds.
    slow: u64,
    is_dead: bool,
}

const HONEST: Manner =
    Manner { kind: Kind::Mqtt, rate: None, loss: 0.0, twice: 0.0, lies: 0.0, slow: 100, is_dead: false };

enum Way {
    List { number: u64, from: u32, total: u32, bytes: Vec<u8> },
    Chunk { number: u64, index: u32, bytes: Vec<u8> },
    Ended { number: u64, outcome: Result<(), String> },
}

/// A device, its sources, and what lies between them.
struct World {
    random: StdRng,
    now: u64,
    archive: Vec<u8>,
    list: Vec<u8>,
    artifact: Artifact,
    manners: Vec<Manner>,
    download: Download,
    under_way: BTreeMap<(u64, u64), (usize, Way)>,
    sent: u64,
    /// The device's disk.
    disk: BTreeMap<u32, Vec<u8>>,
    has_list: bool,
    /// Bytes asked for: when, of whom, how many.
    log: Vec<(u64, usize, u64)>,
}

impl World {
    fn new(seed: u64, chunks: u32, manners: Vec<Manner>) -> Self {
        let archive = archive(chunks, seed);
        let (list, artifact) = promised(&archive);
        let download = Self::start(&artifact, &manners, 0);
        Self {
            random: StdRng::seed_from_u64(seed),
            now: 0,
            archive,
            list,
            artifact,
            manners,
            download,
            under_way: BTreeMap::new(),
            sent: 0,
            disk: BTreeMap::new(),
            has_list: false,
            log: Vec::new(),
        }
    }

    fn start(artifact: &Artifact, manners: &[Manner], now: u64) -> Download {
        let sources = (0..).zip(manners).map(|(number, manner): (u32, _)| {
            Source::new(format!("s{number}"), manner.kind, manner.rate, Mono::from_millis(now))
        });
        Download::new(artifact.clone(), artifact.chunks.unwrap(), sources.collect())
    }

    /// The process ends and begins anew with what is on disk.
    fn crash(&mut self) {
        self.download = Self::start(&self.artifact, &self.manners, self.now);
        if self.has_list {
            assert!(self.download.hold_list(&self.list));
        }
        self.disk.keys().for_each(|index| self.download.hold(*index));
        self.log.clear(); // buckets are full again
    }

    fn chunk(&self, index: u32) -> &[u8] {
        let from = place(index * CHUNK).unwrap();
        &self.archive[from..(from + place(CHUNK).unwrap()).min(self.archive.len())]
    }

    fn send(&mut self, source: usize, at: u64, way: Way) {
        self.sent += 1;
        self.under_way.insert((at, self.sent), (source, way));
    }

    fn travel(&mut self, manner: Manner) -> u64 {
        self.now + self.random.random_range(1..=manner.slow)
    }

    fn answer(&mut self, ask: &Ask) {
        match *ask {
            Ask::List { source, number, from } => {
                let manner = self.manners[source];
                let (at, lost) = (self.travel(manner), self.random.random_bool(manner.loss));
                let mut bytes = self.list[place(from).unwrap()..].to_vec();
                bytes.truncate(if manner.kind == Kind::Mqtt { 700 } else { usize::MAX });
                if self.random.random_bool(manner.lies) {
                    bytes[0] ^= 1;
                }
                let total = u32::try_from(self.list.len()).unwrap();
                if !lost && !manner.is_dead {
                    self.send(source, at, Way::List { number, from, total, bytes });
                }
                self.end(source, number, at, lost);
            }
            Ask::Chunks { source, number, first, bits } => {
                let manner = self.manners[source];
                let indices: Vec<u32> =
                    (0..64).filter(|bit| bits >> bit & 1 == 1).map(|bit| first + bit).collect();
                assert!(!indices.is_empty());
                if manner.kind == Kind::Http {
                    let is_run = indices.windows(2).all(|pair| pair[0] + 1 == pair[1]);
                    assert!(is_run, "a range has no gaps: {indices:?}");
                }
                let bytes = indices.iter().map(|index| self.chunk(*index).len() as u64).sum();
                self.log.push((self.now, source, bytes));
                let (mut at, mut broken) = (self.now, false);
                for index in indices {
                    assert!(!self.disk.contains_key(&index), "chunk {index} is here and was asked for again");
                    broken |= self.random.random_bool(manner.loss);
                    let lost = match manner.kind {
                        Kind::Http => broken, // and all after it
                        Kind::Mqtt => self.random.random_bool(manner.loss),
                    };
                    at = if manner.kind == Kind::Http { at + 1 } else { self.travel(manner) };
                    if lost || manner.is_dead {
                        continue;
                    }
                    let mut bytes = self.chunk(index).to_vec();
                    if self.random.random_bool(manner.lies) {
                        let place = self.random.random_range(0..bytes.len());
                        bytes[place] ^= 0x40;
                    }
                    if self.random.random_bool(manner.twice) {
                        let later = self.travel(manner) + 10;
                        self.send(source, later, Way::Chunk { number, index, bytes: bytes.clone() });
                    }
                    self.send(source, at, Way::Chunk { number, index, bytes });
                }
                self.end(source, number, at + 1, broken);
            }
        }
    }

    /// Only HTTP tells how a question ended.
    fn end(&mut self, source: usize, number: u64, at: u64, broken: bool) {
        let manner = self.manners[source];
        if manner.kind == Kind::Http {
            let fails = broken || manner.is_dead;
            let outcome = if fails { Err("broke off".to_owned()) } else { Ok(()) };
            self.send(source, at, Way::Ended { number, outcome });
        }
    }

    /// One step: whatever is next. `false` when it is over.
    fn step(&mut self) -> bool {
        let jitter = self.random.random();
        let asks = self.download.poll(Mono::from_millis(self.now), jitter);
        asks.iter().for_each(|ask| self.answer(ask));
        self.check_window();
        if self.download.outcome().is_some() {
            return false;
        }
        let due = self
            .download
            .next_deadline(Mono::from_millis(self.now))
            .map(|at| u64::try_from(at.0.as_nanos().div_ceil(1_000_000)).unwrap());
        let next = self.under_way.first_key_value().map(|((at, _), _)| *at);
        let at = due.into_iter().chain(next).min().expect("it never stands still").max(self.now);
        // Time goes on by itself: nothing may want to be looked at twice at one moment for ever.
        self.now = if asks.is_empty() && at == self.now && next != Some(at) { at + 1 } else { at };
        assert!(self.now < FOREVER, "it does not end");
        while let Some(first) = self.under_way.first_entry()
            && first.key().0 <= self.now
        {
            let (source, way) = first.remove();
            self.arrive(source, way);
        }
        true
    }

    fn arrive(&mut self, source: usize, way: Way) {
        let now = Mono::from_millis(self.now);
        match way {
            Way::List { number, from, total, bytes } => {
                if let Some(list) = self.download.on_list(source, number, from, total, &bytes) {
                    assert!(list == self.list, "a wrong list was taken");
                    self.has_list = true;
                }
            }
            Way::Chunk { number, index, bytes } => {
                if let Taken::Write { at } = self.download.on_chunk(now, source, number, index, &bytes) {
                    assert_eq!(at, u64::from(index * CHUNK));
                    assert!(bytes == self.chunk(index), "a wrong chunk was taken");
                    assert!(self.disk.insert(index, bytes).is_none(), "a chunk was taken twice");
                }
            }
            Way::Ended { number, outcome } => self.download.on_ended(source, number, outcome),
        }
    }

    fn check_window(&self) {
        let Some(manner) = self.manners.get(self.download.current) else { return };
        let window = manner.kind.window();
        assert!(self.download.asked.len() <= place(window).unwrap(), "{}", self.download.asked.len());
    }

    fn check_rates(&self) {
        for (source, manner) in self.manners.iter().enumerate() {
            let Some(rate) = manner.rate else { continue };
            let burst = rate.max(u64::from(*CHUNK_SIZES.end()));
            let log: Vec<_> = self.log.iter().filter(|(_, of, _)| *of == source).collect();
            for (first, (from, ..)) in log.iter().enumerate() {
                let mut sum = 0;
                for (until, _, bytes) in &log[first..] {
                    sum += bytes;
                    // The clock of this world has whole milliseconds.
                    let most = burst * 1_000 + rate * (until - from + 1);
                    assert!(sum * 1_000 <= most, "{sum} bytes in {} ms at {rate}", until - from);
                }
            }
        }
    }

    fn run(&mut self) -> Result<(), GiveUp> {
        while self.step() {}
        self.check_rates();
        self.download.outcome().unwrap().clone()
    }

    fn is_whole(&self) -> bool {
        self.disk.values().flatten().eq(self.archive.iter())
    }
}

fn draw(seed: u64, honest: bool) -> Manner {
    let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
    let kind = if random.random_bool(0.5) { Kind::Mqtt } else { Kind::Http };
    Manner {
        kind,
        rate: random.random_bool(0.5).then(|| random.random_range(8_000..400_000)),
        loss: random.random_range(0.0..if kind == Kind::Http { 0.1 } else { 0.4 }),
        twice: random.random_range(0.0..0.3),
        lies: if honest { 0.0 } else { random.random_range(0.0..1.0) },
        slow: random.random_range(1..9_000),
        is_dead: !honest && random.random_bool(0.3),
    }
}

#[test]
fn with_one_honest_source_it_always_ends_whole_whatever_the_others_do() {
    let mut again = 0;
    for seed in 0..300 {
        let mut manners = vec![draw(seed, false), draw(seed + 1_000, false)];
        manners.truncate(usize::try_from(seed % 3).unwrap());
        let place = manners.len() - usize::from(seed % 2 == 1 && !manners.is_empty());
        manners.insert(place, draw(seed + 2_000, true));
        let mut world = World::new(seed, 40, manners);
        let outcome = world.run();
        assert_eq!(outcome, Ok(()), "seed {seed}: {:?}", world.manners);
        assert!(world.is_whole(), "seed {seed}");
        again += world.download.seen().again;
    }
    assert!(again > 300, "channels that lose make it ask again: {again}");
}

#[test]
fn after_a_crash_at_any_moment_nothing_that_is_here_is_asked_for_again() {
    for seed in 0..150 {
        let manners = vec![draw(seed, false), Manner { rate: Some(60_000), ..draw(seed + 7, true) }];
        let mut world = World::new(seed, 30, manners);
        for _ in 0..4 {
            let steps = world.random.random_range(0..60);
            for _ in 0..steps {
                world.step();
            }
            world.crash(); // `answer` holds every question against the disk
            let held = world.download.seen().held;
            assert_eq!(place(held), Some(world.disk.len()), "seed {seed}");
        }
        assert_eq!(world.run(), Ok(()), "seed {seed}");
        assert!(world.is_whole(), "seed {seed}");
    }
}

#[test]
fn on_a_good_link_nothing_is_asked_for_twice() {
    for kind in [Kind::Mqtt, Kind::Http] {
        let mut world = World::new(1, 200, vec![Manner { kind, rate: Some(100_000), ..HONEST }]);
        assert_eq!(world.run(), Ok(()));
        let seen = world.download.seen();
        assert_eq!((seen.asked, seen.again, seen.known, seen.wrong), (200, 0, 0, 0), "{kind:?}");
        let spent = world.now;
        // Each part of the list counts as a full one, and comes in ten over MQTT here.
        assert!((7_000..11_500).contains(&spent), "{kind:?}: 819 KB at 100 KB/s took {spent} ms");
    }
}

#[test]
fn a_source_that_breaks_is_left_for_the_next_which_goes_on_from_the_same_chunks() {
    let http = Manner { kind: Kind::Http, loss: 0.02, ..HONEST };
    let mut world = World::new(3, 100, vec![http, HONEST]);
    while world.disk.len() < 30 {
        world.step();
    }
    world.manners[0].is_dead = true;
    assert_eq!(world.run(), Ok(()));
    let seen = world.download.seen();
    assert_eq!(seen.http + seen.mqtt, 100);
    assert!(seen.http >= 30 && seen.mqtt > 0 && seen.known == 0, "{seen:?}");
}

#[test]
fn a_preferred_source_that_comes_back_is_asked_again_and_nothing_twice() {
    let http = Manner { kind: Kind::Http, ..HONEST };
    let mut world = World::new(4, 600, vec![http, Manner { rate: Some(4_096), ..HONEST }]);
    while !world.has_list {
        world.step();
    }
    world.manners[0].is_dead = true;
    while world.now < 200_000 {
        world.step();
    }
    world.manners[0].is_dead = false;
    assert_eq!(world.run(), Ok(()));
    let seen = world.download.seen();
    assert!(seen.mqtt > 250 && seen.http > 250 && seen.known == 0, "{seen:?}");
    assert!(world.now < 320_000, "{} ms; over MQTT alone ten minutes", world.now);
}

#[test]
fn what_cannot_be_had_is_given_up_with_the_reason() {
    let liar = Manner { lies: 1.0, ..HONEST };
    let dead = Manner { is_dead: true, ..HONEST };
    let http = |manner| Manner { kind: Kind::Http, ..manner };
    for (manners, word) in [
        (vec![], "no source"),
        (vec![liar], "`s0`: chunk list is"),
        (vec![http(liar), liar], "`s1`: chunk list is"),
        (vec![dead], "`s0`: it does not answer"),
        (vec![http(dead), dead], "`s0`: broke off; `s1`: it does not answer"),
        (vec![liar, http(dead)], "`s1`: broke off"),
    ] {
        let mut world = World::new(5, 10, manners);
        let told = world.run().unwrap_err().to_string();
        assert!(told.contains(word), "`{word}` is not in `{told}`");
        assert!(world.disk.is_empty());
    }
}

#[test]
fn wrong_chunks_are_named_and_a_list_that_is_none_ends_it() {
    let mut world = World::new(6, 10, vec![HONEST]);
    while !world.has_list {
        world.step();
    }
    world.manners[0].lies = 1.0;
    let told = world.run().unwrap_err();
    assert!(matches!(told, GiveUp::Wrong { .. }) && told.to_string().contains("`s0`: chunk "), "{told}");
    assert!(world.disk.is_empty() && world.download.seen().wrong >= WRONG);

    let other = archive(3, 9);
    let (list, artifact) = promised(&other);
    let promise = Artifact { size_bytes: artifact.size_bytes + 1, ..artifact };
    let source = Source::new("s0".into(), Kind::Mqtt, None, Mono::default());
    let mut download = Download::new(promise, Digest::of(&list), vec![source]);
    assert!(!download.hold_list(&list), "what is on disk is not believed either");
    assert_eq!(download.poll(Mono::default(), 0), [Ask::List { source: 0, number: 1, from: 0 }]);
    let total = u32::try_from(list.len()).unwrap();
    assert_eq!(download.on_list(0, 1, 0, total, &list), None);
    assert!(matches!(download.outcome(), Some(Err(GiveUp::List(ListError::Other { .. })))));
}

#[test]
fn answers_to_questions_of_before_change_nothing_but_their_chunks_are_taken() {
    let (archive, now) = (archive(4, 1), Mono::default());
    let (list, artifact) = promised(&archive);
    let source = |kind| Source::new("s".into(), kind, None, now);
    let sources = vec![source(Kind::Mqtt), source(Kind::Http)];
    let mut download = Download::new(artifact.clone(), artifact.chunks.unwrap(), sources);
    assert!(download.hold_list(&list));
    let chunk = |index: usize| &archive[index * 4_096..(index * 4_096 + 4_096).min(archive.len())];
    assert_eq!(download.poll(now, 0), [Ask::Chunks { source: 0, number: 1, first: 0, bits: 0b1111 }]);
    download.on_refused(0, 1, &Refusal::NotAssigned);
    assert_eq!(download.poll(now, 0), [Ask::Chunks { source: 1, number: 2, first: 0, bits: 0b1111 }]);
    download.on_refused(0, 1, &Refusal::Missing);
    download.on_ended(1, 1, Err("of before".into()));
    assert_eq!(download.poll(now, 0), [], "the answers are late");
    assert_eq!(download.on_chunk(now, 0, 1, 2, chunk(2)), Taken::Write { at: 8_192 });
    assert_eq!(download.on_chunk(now, 1, 2, 2, chunk(2)), Taken::Known);
    assert_eq!(download.on_chunk(now, 1, 1, 9, b""), Taken::Wrong, "there is no such chunk");
    for index in [0, 1, 3] {
        let at = u64::from(CHUNK) * index as u64;
        assert_eq!(
            download.on_chunk(now, 1, 2, u32::try_from(index).unwrap(), chunk(index)),
            Taken::Write { at }
        );
    }
    assert_eq!((download.poll(now, 0), download.outcome()), (vec![], Some(&Ok(()))));
}

#[test]
fn a_chunk_that_cannot_be_written_is_fetched_again_later() {
    let mut world = World::new(8, 5, vec![HONEST]);
    while world.disk.len() < 3 {
        world.step();
    }
    let (lost, _) = world.disk.pop_first().unwrap();
    world.download.lose(Mono::from_millis(world.now), lost, "the disk is full".into());
    assert_eq!(world.run(), Ok(()));
    assert!(world.is_whole());
}
