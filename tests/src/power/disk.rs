//! A disk that keeps what was synced, and of the rest whatever it likes.

use super::tap::Event;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// The files of a folder by name.
pub(super) type Image = BTreeMap<String, Vec<u8>>;

/// Smallest and largest unit that a disk writes whole.
const SECTORS: [usize; 2] = [512, 4096];

/// What became of the writes that were not synced when the power went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fate {
    /// Writes of which nothing is left.
    pub dropped: u64,
    /// Writes of which some sectors are there and others not.
    pub torn: u64,
    /// Writes that are there although an earlier one of the same file is not, or not whole.
    pub reordered: u64,
    /// Sectors that hold noise, the power having gone while they were written.
    pub scrambled: u64,
    /// Names that came back or did not come, their folder not having been synced.
    pub names: u64,
    /// Syncs that did nothing and said yes.
    pub lies: u64,
}

impl Fate {
    pub(super) fn add(&mut self, more: Self) {
        self.dropped += more.dropped;
        self.torn += more.torn;
        self.reordered += more.reordered;
        self.scrambled += more.scrambled;
        self.names += more.names;
        self.lies += more.lies;
    }
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => put(file, *at, bytes),
            Self::Truncate(len) => file.resize(*len, 0),
        }
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

#[derive(Debug, Clone, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Change>,
    seen: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Naming {
    Link(String, usize),
    Unlink(String),
    Rename(String, String, usize),
}

type Names = BTreeMap<String, usize>;

impl Naming {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

/// A folder on a disk.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    files: Vec<File>,
    names: Names,
    durable_names: Names,
    pending_names: Vec<Naming>,
}

impl Disk {
    /// After a boot: what is there is on the disk.
    pub(super) fn new(image: &Image) -> Self {
        let file =
            |bytes: &Vec<u8>| File { durable: bytes.clone(), pending: Vec::new(), seen: bytes.clone() };
        let names: Names = image.keys().cloned().zip(0..).collect();
        Self {
            files: image.values().map(file).collect(),
            durable_names: names.clone(),
            names,
            pending_names: Vec::new(),
        }
    }

    /// Takes one event; a sync does nothing where the disk `lies`.
    pub(super) fn play(&mut self, event: &Event, lies: bool) {
        match event {
            Event::Write { name, at, bytes } => self.change(name, Change::Write(*at, bytes.clone())),
            Event::Truncate { name, len } => self.change(name, Change::Truncate(*len)),
            Event::Whole { name, bytes } => {
                if self.names.get(name).is_none_or(|file| self.files[*file].seen != *bytes) {
                    self.change(name, Change::Truncate(bytes.len()));
                    self.change(name, Change::Write(0, bytes.clone()));
                }
            }
            Event::Sync { name } if !lies => {
                if let Some(file) = self.names.get(name) {
                    let file = &mut self.files[*file];
                    file.durable.clone_from(&file.seen);
                    file.pending.clear();
                }
            }
            Event::SyncFolder if !lies => {
                self.durable_names.clone_from(&self.names);
                self.pending_names.clear();
            }
            Event::Unlink { name } => self.naming(Naming::Unlink(name.clone())),
            Event::Rename { from, to } => {
                if let Some(file) = self.names.get(from) {
                    self.naming(Naming::Rename(from.clone(), to.clone(), *file));
                }
            }
            Event::Sync { .. } | Event::SyncFolder | Event::Mark(_) => {}
        }
    }

    fn naming(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.pending_names.push(naming);
    }

    fn change(&mut self, name: &str, change: Change) {
        let file = self.names.get(name).copied().unwrap_or_else(|| {
            self.files.push(File::default());
            self.naming(Naming::Link(name.to_owned(), self.files.len() - 1));
            self.files.len() - 1
        });
        let file = &mut self.files[file];
        change.apply(&mut file.seen);
        file.pending.push(change);
    }

    /// What a running system sees.
    pub(super) fn seen(&self) -> Image {
        self.names.iter().map(|(name, file)| (name.clone(), self.files[*file].seen.clone())).collect()
    }

    /// What is there after the power was cut now.
    pub(super) fn cut(&self, rng: &mut ChaCha8Rng, fate: &mut Fate) -> Image {
        let mut names = self.durable_names.clone();
        // Journalling file systems keep the order of names, others do not.
        let some = rng.random_range(0..=self.pending_names.len());
        let in_order = rng.random_bool(0.5);
        for (number, naming) in self.pending_names.iter().enumerate() {
            let kept = if in_order { number < some } else { rng.random_bool(0.5) };
            if kept {
                naming.apply(&mut names);
            } else {
                fate.names += 1;
            }
        }
        let kept: Vec<Vec<u8>> = self.files.iter().map(|file| file.cut(rng, fate)).collect();
        names.into_iter().map(|(name, file)| (name, kept[file].clone())).collect()
    }
}

impl File {
    /// Nothing, all, a beginning, or any sectors of what was not synced.
    fn cut(&self, rng: &mut ChaCha8Rng, fate: &mut Fate) -> Vec<u8> {
        let mut file = self.durable.clone();
        let way = rng.random_range(0..6);
        let some = rng.random_range(0..=self.pending.len());
        let sector = SECTORS[rng.random_range(0..SECTORS.len())];
        let mut is_gap = false;
        for (number, change) in self.pending.iter().enumerate() {
            let kept = match way {
                0 => Kept::None,
                1 => Kept::All,
                2 if number < some => Kept::All,
                // The write during which the power went.
                2 if number == some => torn(change, &mut file, sector, 0.5, rng, fate),
                2 => Kept::None,
                _ => torn(change, &mut file, sector, [0.2, 0.5, 0.9][way - 3], rng, fate),
            };
            match kept {
                Kept::None => fate.dropped += 1,
                Kept::Some => fate.torn += 1,
                Kept::All => change.apply(&mut file),
            }
            fate.reordered += u64::from(is_gap && !matches!(kept, Kept::None));
            is_gap |= !matches!(kept, Kept::All);
        }
        file
    }
}

#[derive(Clone, Copy)]
enum Kept {
    None,
    Some,
    All,
}

/// Writes some sectors of a change.
fn torn(
    change: &Change,
    file: &mut Vec<u8>,
    sector: usize,
    share: f64,
    rng: &mut ChaCha8Rng,
    fate: &mut Fate,
) -> Kept {
    let Change::Write(at, bytes) = change else {
        return if rng.random_bool(share) { Kept::All } else { Kept::None };
    };
    let (mut kept, mut dropped, mut from) = (0, 0, 0);
    while from < bytes.len() {
        let to = ((*at + from) / sector * sector + sector - *at).min(bytes.len());
        if rng.random_bool(share) {
            put(file, *at + from, &bytes[from..to]);
            kept += 1;
        } else if rng.random_bool(0.02) {
            let noise: Vec<u8> = (from..to).map(|_| rng.random()).collect();
            put(file, *at + from, &noise);
            fate.scrambled += 1;
            kept += 1;
            dropped += 1;
        } else {
            dropped += 1;
        }
        from = to;
    }
    match (kept, dropped) {
        (0, _) => Kept::None,
        (_, 0) => Kept::All,
        _ => Kept::Some,
    }
}
