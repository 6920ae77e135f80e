//! One history: a device lives, loses its power at any instant, boots from what its disk kept, and again.

use super::disk::{Disk, Fate, Image};
use super::samples::{self, Samples};
use super::state::{self, Step};
use super::tap::{self, Event};
use anyhow::{Context as _, bail, ensure};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shoal_agent::file::write_atomic;
use shoal_agent::store::{Loaded, SamplesDb, StateDb};
use std::path::Path;

/// Most cuts of one history.
const CUTS: u32 = 3;
/// Room for the samples: nothing is evicted, and the log is folded back often.
const QUOTA_BYTES: u64 = 4 << 20;
/// One history in this many writes values large enough that the log of `state.db` is folded back too.
const LARGE: u64 = 12;
/// One history in this many has a page of `state.db` go bad between two lives.
const ROTTEN: u64 = 6;

/// What histories had in them, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Histories played.
    pub histories: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Calls that were recorded.
    pub calls: u64,
    /// What the disks did.
    pub fate: Fate,
    /// Boots with the file that was found.
    pub opened: u64,
    /// Boots with a snapshot in its place.
    pub restored: u64,
    /// Boots of those at which only the sum over the rows told that something was wrong.
    pub stale: u64,
    /// Boots that began empty, there being no snapshot.
    pub empty: u64,
    /// Times that samples began empty.
    pub samples_empty: u64,
    /// Writes of samples that failed, and so were not acknowledged.
    pub samples_stopped: u64,
    /// Pages made bad.
    pub rotten: u64,
    /// Commits, rows and labels that had been acknowledged and were looked for.
    pub checked: u64,
    /// Commits that were acknowledged and are gone.
    pub commits_lost: u64,
    /// Those that went with a bad page, being newer than the snapshot.
    pub commits_rotten: u64,
    /// Rows and labels that were acknowledged and are gone.
    pub samples_lost: u64,
    /// Boots that began with a state that never was.
    pub half_written: u64,
    /// Samples read that were never written.
    pub samples_wrong: u64,
    /// Folders that could not be opened.
    pub refused: u64,
}

impl Counts {
    /// Adds what other histories had.
    pub fn add(&mut self, more: &Self) {
        self.fate.add(more.fate);
        for (sum, more) in [
            (&mut self.histories, more.histories),
            (&mut self.cuts, more.cuts),
            (&mut self.calls, more.calls),
            (&mut self.opened, more.opened),
            (&mut self.restored, more.restored),
            (&mut self.stale, more.stale),
            (&mut self.empty, more.empty),
            (&mut self.samples_empty, more.samples_empty),
            (&mut self.samples_stopped, more.samples_stopped),
            (&mut self.rotten, more.rotten),
            (&mut self.checked, more.checked),
            (&mut self.commits_lost, more.commits_lost),
            (&mut self.commits_rotten, more.commits_rotten),
            (&mut self.samples_lost, more.samples_lost),
            (&mut self.half_written, more.half_written),
            (&mut self.samples_wrong, more.samples_wrong),
            (&mut self.refused, more.refused),
        ] {
            *sum += more;
        }
    }
}

/// What the script says between the calls.
#[derive(Debug, Clone)]
enum Word {
    /// The databases are open, with this line of commits and these samples.
    Booted(u64, Vec<Step>, bool, Samples),
    Issued(Step),
    Committed,
    Snapshot,
    Rows(Vec<String>, Vec<(String, u32)>),
    Labelled,
}

/// What is known of the databases from outside.
#[derive(Debug, Clone, Default)]
struct Ledger {
    boot: u64,
    line: Vec<Step>,
    committed: usize,
    /// The database is of a past life, and the new one was not begun.
    restored: bool,
    /// Commits in the newest snapshot.
    snapshot: usize,
    samples: Samples,
}

impl Ledger {
    fn hear(&mut self, word: &Word) {
        match word {
            Word::Booted(boot, line, restored, samples) => {
                self.boot = *boot;
                self.line.clone_from(line);
                self.committed = line.len();
                self.restored = *restored;
                self.samples = samples.clone();
            }
            Word::Issued(step) => self.line.push(*step),
            Word::Committed => {
                self.committed = self.line.len();
                self.restored = false;
            }
            Word::Snapshot => self.snapshot = self.committed,
            Word::Rows(rows, labels) => self.samples.issue(rows, labels),
            Word::Labelled => self.samples.on_disk(),
        }
    }
}

/// One device through its lives.
struct History {
    lying: bool,
    rng: ChaCha8Rng,
    ledger: Ledger,
    /// Every line of commits that ever was: a disk that lies may bring any of them back.
    lines: Vec<Vec<Step>>,
    /// A page of `state.db` goes bad in this history, and did.
    rots: bool,
    rotten: bool,
    large: bool,
    words: Vec<Word>,
    counts: Counts,
    runtime: tokio::runtime::Runtime,
}

/// Plays a history; fails where a promise is broken.
pub fn play(seed: u64, lying: bool) -> (Counts, anyhow::Result<()>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime,
        Err(cause) => return (Counts::default(), Err(cause.into())),
    };
    let mut history = History {
        lying,
        rng: ChaCha8Rng::seed_from_u64(seed),
        ledger: Ledger::default(),
        lines: Vec::new(),
        rots: !lying && seed % ROTTEN == 1,
        rotten: false,
        large: seed.is_multiple_of(LARGE),
        words: Vec::new(),
        counts: Counts { histories: 1, ..Counts::default() },
        runtime,
    };
    let outcome = history.lives();
    (history.counts, outcome)
}

impl History {
    fn lives(&mut self) -> anyhow::Result<()> {
        let mut image = Image::new();
        for life in 0..self.rng.random_range(1..=CUTS) {
            if life > 0 && self.rots && !self.rotten {
                self.rot(&mut image);
            }
            let steps = self.rng.random_range(0..if self.large { 60 } else { 30 });
            image = self.life(&image, steps, true)?;
        }
        self.life(&image, 0, false).map(drop)
    }

    /// Boots from an image, lives and loses its power; gives what the disk kept.
    fn life(&mut self, image: &Image, steps: u32, cut: bool) -> anyhow::Result<Image> {
        let folder = tempfile::tempdir()?;
        lay(folder.path(), image)?;
        self.words.clear();
        let before = self.ledger.clone();
        tap::start(folder.path())?;
        let lived = self.live(folder.path(), steps);
        let events = tap::stop();
        self.counts.calls += events.len() as u64;
        if let Err(cause) = lived {
            let kept = folder.keep();
            drop(
                std::fs::create_dir(kept.join("before"))
                    .and_then(|()| lay(&kept.join("before"), image).map_err(std::io::Error::other)),
            );
            return Err(cause.context(format!("kept in {}", kept.display())));
        }
        let mut whole = Disk::new(image);
        events.iter().for_each(|event| whole.play(event, false));
        same(folder.path(), &whole.seen())?;
        if !cut {
            return Ok(Image::new());
        }
        self.counts.cuts += 1;
        Ok(self.cut(before, image, &events))
    }

    fn cut(&mut self, before: Ledger, image: &Image, events: &[Event]) -> Image {
        self.ledger = before;
        // A file that shall go bad is closed well first: its log would heal it.
        let well = self.rots && self.counts.cuts == 1;
        let at = if well { events.len() } else { self.rng.random_range(0..=events.len()) };
        let honesty = if self.lying { [0.0, 0.5, 0.9][self.rng.random_range(0..3)] } else { 1.0 };
        let mut disk = Disk::new(image);
        for event in &events[..at] {
            let sync = matches!(event, Event::Sync { .. } | Event::SyncFolder);
            let lies = sync && !self.rng.random_bool(honesty);
            self.counts.fate.lies += u64::from(lies);
            disk.play(event, lies);
            if let Event::Mark(number) = event {
                self.ledger.hear(&self.words[*number]);
            }
        }
        self.lines.push(self.ledger.line.clone());
        if well {
            return disk.seen();
        }
        disk.cut(&mut self.rng, &mut self.counts.fate)
    }

    /// A page goes bad, as cards do.
    fn rot(&mut self, image: &mut Image) {
        if let Some(file) = image.get_mut("state.db").filter(|file| file.len() > 8192) {
            let half = file.len() / 2;
            file[100..half].iter_mut().for_each(|byte| *byte ^= 0x5a);
            self.rotten = true;
            self.counts.rotten += 1;
        }
    }

    fn say(&mut self, word: Word) {
        self.ledger.hear(&word);
        self.words.push(word);
        tap::mark(self.words.len() - 1);
    }

    fn live(&mut self, dir: &Path, steps: u32) -> anyhow::Result<()> {
        self.counts.refused += 1;
        let (state, loaded) = StateDb::open(dir).context("state.db does not open")?;
        let line = self.check_state(&loaded)?;
        let (samples, _late) = SamplesDb::open(dir, QUOTA_BYTES).context("samples.db does not open")?;
        self.counts.refused -= 1;
        let held = self.check_samples(dir, samples.recovered().is_some())?;
        let restored = loaded.incarnation.is_none();
        self.say(Word::Booted(loaded.boot, line, restored, held));
        let salt = self.rng.random();
        for step in 0..steps {
            match self.rng.random_range(0..10) {
                0 => {
                    self.runtime.block_on(state.snapshot())?;
                    self.say(Word::Snapshot);
                }
                1..6 => self.commit(&state, salt)?,
                part => {
                    let written = match part {
                        6..9 => self.write(&samples, step),
                        _ => self.capture(&samples, step),
                    };
                    // An index of old and new pages, which no quick check sees: nothing is acknowledged.
                    match written {
                        Err(_) if self.lying => self.counts.samples_stopped += 1,
                        written => written?,
                    }
                }
            }
        }
        Ok(())
    }

    fn commit(&mut self, state: &StateDb, salt: u64) -> anyhow::Result<()> {
        let crowd = [1, 1, 1, 3][self.rng.random_range(0..4)];
        let mut group = Vec::new();
        for _ in 0..crowd {
            let bytes = match self.large && self.rng.random_bool(0.5) {
                true => self.rng.random_range(60_000..300_000),
                false => self.rng.random_range(10..3_000),
            };
            let step = Step { salt, reborn: self.ledger.restored && group.is_empty(), bytes };
            self.say(Word::Issued(step));
            group.push(state.commit(state::records(self.ledger.line.len() as u64, step)));
        }
        self.runtime.block_on(async {
            let mut group = group.into_iter();
            match (group.next(), group.next(), group.next()) {
                (Some(one), Some(two), Some(three)) => {
                    let done = tokio::join!(one, two, three);
                    done.0.and(done.1).and(done.2)
                }
                (Some(one), ..) => one.await,
                _ => Ok(()),
            }
        })?;
        self.say(Word::Committed);
        Ok(())
    }

    fn write(&mut self, samples: &SamplesDb, step: u32) -> anyhow::Result<()> {
        let count = self.rng.random_range(0..20);
        let rows: Vec<String> =
            (0..count).map(|row| format!("{:x}-{step}-{row}", self.counts.cuts)).collect();
        let mut labels = Vec::new();
        let known = [self.ledger.samples.known(), &rows].concat();
        for number in 0..self.rng.random_range(0..4) {
            let id = match known.len() {
                0 => format!("{:x}-{step}-{number}-never", self.counts.cuts),
                all => known[self.rng.random_range(0..all)].clone(),
            };
            labels.push((id, self.rng.random_range(0..5)));
        }
        self.say(Word::Rows(rows.clone(), labels.clone()));
        let synced = !labels.is_empty();
        samples.write(
            rows.iter().map(|id| samples::row(id)).collect(),
            labels.iter().map(|(id, class)| samples::label(id, *class)).collect(),
        )?;
        if synced {
            self.say(Word::Labelled);
        }
        Ok(())
    }

    /// As the agent does it: rows are offered, and the label of one is awaited.
    fn capture(&mut self, samples: &SamplesDb, step: u32) -> anyhow::Result<()> {
        let rows: Vec<String> = (0..5).map(|row| format!("{:x}-{step}-{row}", self.counts.cuts)).collect();
        let label = (rows[3].clone(), self.rng.random_range(0..5));
        self.say(Word::Rows(rows.clone(), vec![label.clone()]));
        for id in &rows {
            samples.capture(samples::row(id));
        }
        self.runtime.block_on(samples.label(samples::label(&label.0, label.1)))?;
        self.say(Word::Labelled);
        Ok(())
    }

    /// Which line of commits the database holds.
    fn check_state(&mut self, loaded: &Loaded) -> anyhow::Result<Vec<Step>> {
        let told = |word: &str| loaded.recovered.as_ref().is_some_and(|what| what.contains(word));
        let fresh = told("begins empty");
        self.counts.stale += u64::from(told("written together"));
        match (&loaded.recovered, fresh) {
            (None, _) => self.counts.opened += 1,
            (Some(_), false) => self.counts.restored += 1,
            (Some(_), true) => self.counts.empty += 1,
        }
        let Ledger { line, committed, snapshot, .. } = &self.ledger;
        self.counts.checked += *committed as u64;
        let no_life = loaded.incarnation.is_none();
        let lines = std::iter::once(line).chain(self.lines.iter().rev().filter(|_| self.lying));
        let mut found = lines.filter_map(|line| Some((line, state::find(line, loaded, no_life)?)));
        let Some((line, number)) = found.next() else {
            self.counts.half_written += 1;
            bail!("a state that never was: commit {:?} of {committed}", loaded.cursor);
        };
        let number = usize::try_from(number)?;
        let lost = committed.saturating_sub(number) as u64;
        if self.rotten {
            self.counts.commits_rotten += lost; // newer than the snapshot
        } else {
            self.counts.commits_lost += lost;
        }
        if !self.lying {
            let life_is_due = number > 0 && no_life && !self.ledger.restored;
            let least = if self.rotten && no_life { *snapshot } else { *committed };
            ensure!(number >= least, "{committed} commits were acknowledged, {number} are there");
            ensure!(self.rotten || loaded.recovered.is_none(), "damaged: {:?}", loaded.recovered);
            ensure!(self.rotten || !life_is_due, "the life of the database is gone");
            ensure!(self.rotten || loaded.boot > self.ledger.boot, "the boot was counted and is not");
        }
        Ok(line[..number].to_vec())
    }

    fn check_samples(&mut self, dir: &Path, began_empty: bool) -> anyhow::Result<Samples> {
        self.counts.samples_empty += u64::from(began_empty);
        let mut held = self.ledger.samples.clone();
        let found = match samples::read(dir, !self.lying) {
            Err(_) if self.lying => {
                self.counts.samples_wrong += 1;
                return Ok(Samples::default());
            }
            found => found?,
        };
        let missing = held.missing(&found);
        self.counts.checked += missing.checked;
        self.counts.samples_lost += missing.lost;
        self.counts.samples_wrong += missing.unknown;
        held.settle(&found);
        if self.lying {
            return Ok(held);
        }
        ensure!(!began_empty, "samples.db was damaged");
        ensure!(
            missing.lost == 0,
            "{} of {} acknowledged rows and labels are gone",
            missing.lost,
            missing.checked
        );
        ensure!(missing.unknown == 0, "{} rows were never written", missing.unknown);
        Ok(held)
    }
}

fn lay(folder: &Path, image: &Image) -> anyhow::Result<()> {
    Ok(image.iter().try_for_each(|(name, bytes)| write_atomic(&folder.join(name), bytes))?)
}

/// Whether the calls that were seen are all that happened.
fn same(folder: &Path, seen: &Image) -> anyhow::Result<()> {
    let mut real = Image::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // What a copy is made under is seen when it is synced, and means nothing before.
        if let Some(name) = tap::followed(&entry.file_name()).filter(|name| !name.contains(".restored")) {
            real.insert(name, std::fs::read(entry.path())?);
        }
    }
    let written = |image: &Image| -> Image {
        let means = |name: &str, bytes: &[u8]| !bytes.is_empty() && !name.contains(".restored");
        image.iter().filter(|(name, bytes)| means(name, bytes)).map(|(n, b)| (n.clone(), b.clone())).collect()
    };
    let (real, seen) = (written(&real), written(seen));
    let names: Vec<&String> =
        real.keys().chain(seen.keys()).filter(|name| real.get(*name) != seen.get(*name)).collect();
    ensure!(names.is_empty(), "not everything that was written was seen: {names:?}");
    Ok(())
}
