//! A device's document: the fold of operations into join-semilattices.
//!
//! One document per device, two replicas: the device and the hub. Whatever the order, and however
//! often an operation or a snapshot arrives, both fold to the same bytes.

use crate::id::{Incarnation, Replica};
use crate::lattice::{Counter, Floor, Grown, Marker, Register};
use crate::op::{Class, Kind, Op, split_stamped};
use crdts::CvRDT;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slotted;

/// The folded state of one document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    cells: BTreeMap<Slot, Cell>,
    /// The highest floor of each incarnation, as the cells hold it: windows are looked up here.
    floors: BTreeMap<String, u64>,
}

/// A kind and a key: what names one cell, and the order in which cells stand.
pub type Slot = (Kind, String);

/// One key's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// [`Class::Register`] and [`Class::Stamped`].
    Register(Register),
    /// [`Class::Grow`] and [`Class::Window`].
    Grown(Grown),
    /// [`Class::Counter`].
    Counter(Counter),
    /// [`Class::Floor`].
    Floor(Floor),
}

impl Cell {
    /// Joins another state of the same key; says whether anything changed.
    fn join(&mut self, other: Self) -> bool {
        let before = self.clone();
        match (&mut *self, other) {
            (Self::Register(mine), Self::Register(other)) => mine.merge(other),
            (Self::Grown(mine), Self::Grown(other)) => mine.merge(other),
            (Self::Counter(mine), Self::Counter(other)) => mine.merge(other),
            (Self::Floor(mine), Self::Floor(other)) => mine.merge(other),
            (Self::Register(_) | Self::Grown(_) | Self::Counter(_) | Self::Floor(_), _) => {}
        }
        before != *self
    }
}

/// One key's state as it travels in a snapshot and stands in a database row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What.
    pub kind: Kind,
    /// Which one.
    pub key: String,
    /// The register's marker; absent for the other lattices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<Marker>,
    /// The value of a register or map; empty for the other lattices.
    #[serde(with = "serde_bytes", default, skip_serializing_if = "Vec::is_empty")]
    pub value: Vec<u8>,
    /// The totals of a counter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub totals: Vec<(Replica, u64)>,
    /// The floor.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub floor: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// What one operation or entry changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The document already held as much or more.
    Nothing,
    /// This key has a new state.
    Put(Entry),
    /// The floor rose: its entry, and the keys of the windows that went.
    Floored(Entry, Vec<Slot>),
}

/// The number of a window in its key `{incarnation}/{number:016x}/…`. Only the form that
/// [`window_key`] writes is a number, so that keys stand in the order of their numbers.
fn window_number(key: &str) -> Option<(&str, u64)> {
    let (incarnation, rest) = key.split_once('/')?;
    let (number, _) = rest.split_once('/')?;
    let canonical = number.len() == 16 && number.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !canonical {
        return None;
    }
    Some((incarnation, u64::from_str_radix(number, 16).ok()?))
}

/// The key of a window: sorted by number, dropped by floor.
#[must_use]
pub fn window_key(incarnation: Incarnation, number: u64, rest: &str) -> String {
    format!("{incarnation}/{number:016x}/{rest}")
}

impl Document {
    /// Folds one operation of a replica. Kinds of an unknown class are folded as registers, so that
    /// a later build still finds the newest value.
    pub fn apply(&mut self, replica: Replica, op: &Op) -> Change {
        let cell = match op.kind.class() {
            Some(Class::Register) | None => Cell::Register(Register::new(
                Marker { stamp: op.hlc.0, replica, seq: op.seq },
                op.value.clone(),
            )),
            Some(Class::Stamped) => Cell::Register(Register::new(
                Marker { stamp: split_stamped(&op.value).0, replica, seq: op.seq },
                op.value.clone(),
            )),
            Some(Class::Grow | Class::Window) => Cell::Grown(Grown(op.value.clone())),
            Some(Class::Counter) => {
                let mut counter = Counter::default();
                counter.raise(replica, split_stamped(&op.value).0);
                Cell::Counter(counter)
            }
            Some(Class::Floor) => Cell::Floor(Floor(split_stamped(&op.value).0)),
        };
        self.join_cell(op.kind, &op.key, cell)
    }

    /// Joins one entry of a snapshot or a database row. One whose fields do not fit its class changes
    /// nothing.
    pub fn join(&mut self, entry: Entry) -> Change {
        let cell = match (entry.kind.class(), entry.marker) {
            (Some(Class::Register | Class::Stamped) | None, Some(marker)) => {
                Cell::Register(Register::new(marker, entry.value))
            }
            (Some(Class::Register | Class::Stamped) | None, None) => return Change::Nothing,
            (Some(Class::Grow | Class::Window), _) => Cell::Grown(Grown(entry.value)),
            (Some(Class::Counter), _) => {
                let mut counter = Counter::default();
                for (replica, total) in entry.totals {
                    counter.raise(replica, total);
                }
                Cell::Counter(counter)
            }
            (Some(Class::Floor), _) => Cell::Floor(Floor(entry.floor)),
        };
        self.join_cell(entry.kind, &entry.key, cell)
    }

    /// Joins a whole document.
    pub fn merge(&mut self, other: &Self) {
        for entry in other.entries() {
            self.join(entry);
        }
    }

    fn join_cell(&mut self, kind: Kind, key: &str, cell: Cell) -> Change {
        if kind.class() == Some(Class::Window) && self.is_below_floor(key) {
            return Change::Nothing;
        }
        let joined = match self.cells.entry((kind, key.to_owned())) {
            Slotted::Vacant(slot) => slot.insert(cell),
            Slotted::Occupied(slot) => {
                let mine = slot.into_mut();
                if !mine.join(cell) {
                    return Change::Nothing;
                }
                mine
            }
        };
        let entry = entry(kind, key, joined);
        if kind.class() == Some(Class::Floor) {
            return Change::Floored(entry.clone(), self.raise_floor(key, entry.floor));
        }
        Change::Put(entry)
    }

    fn is_below_floor(&self, key: &str) -> bool {
        window_number(key).is_some_and(|(incarnation, number)| {
            self.floors.get(incarnation).is_some_and(|floor| number < *floor)
        })
    }

    /// Raises the floor of one incarnation and drops its windows below.
    fn raise_floor(&mut self, incarnation: &str, number: u64) -> Vec<Slot> {
        let floor = self.floors.entry(incarnation.to_owned()).or_default();
        *floor = (*floor).max(number);
        let (from, to) = (format!("{incarnation}/"), format!("{incarnation}/{floor:016x}"));
        let mut gone = Vec::new();
        let mut kind = Class::FIRST_WINDOW;
        while let Some(next) = self.cells.range((kind, String::new())..).next().map(|((kind, _), _)| *kind) {
            if next.class() != Some(Class::Window) {
                break;
            }
            let below = self.cells.range((next, from.clone())..(next, to.clone()));
            gone.extend(below.map(|(slot, _)| slot).filter(|(_, key)| window_number(key).is_some()).cloned());
            kind = Kind(next.0 + 1);
        }
        for slot in &gone {
            self.cells.remove(slot);
        }
        gone
    }

    /// What decides about a register; `None` for the other lattices and for unknown keys.
    #[must_use]
    pub fn marker(&self, kind: Kind, key: &str) -> Option<Marker> {
        match self.cells.get(&(kind, key.to_owned()))? {
            Cell::Register(register) => Some(register.marker()),
            Cell::Grown(_) | Cell::Counter(_) | Cell::Floor(_) => None,
        }
    }

    /// The value of a register or map entry.
    #[must_use]
    pub fn get(&self, kind: Kind, key: &str) -> Option<&[u8]> {
        match self.cells.get(&(kind, key.to_owned()))? {
            Cell::Register(register) => Some(register.value()),
            Cell::Grown(grown) => Some(&grown.0),
            Cell::Counter(_) | Cell::Floor(_) => None,
        }
    }

    /// The sum of a counter.
    #[must_use]
    pub fn count(&self, kind: Kind, key: &str) -> u64 {
        match self.cells.get(&(kind, key.to_owned())) {
            Some(Cell::Counter(counter)) => counter.sum(),
            _ => 0,
        }
    }

    /// One replica's part of a counter.
    #[must_use]
    pub fn count_of(&self, kind: Kind, key: &str, replica: &Replica) -> u64 {
        match self.cells.get(&(kind, key.to_owned())) {
            Some(Cell::Counter(counter)) => counter.of(replica),
            _ => 0,
        }
    }

    /// All values of one kind, by key.
    pub fn of_kind(&self, kind: Kind) -> impl DoubleEndedIterator<Item = (&str, &[u8])> {
        self.cells.range((kind, String::new())..(Kind(kind.0.saturating_add(1)), String::new())).filter_map(
            |((_, key), cell)| match cell {
                Cell::Register(register) => Some((key.as_str(), register.value())),
                Cell::Grown(grown) => Some((key.as_str(), grown.0.as_slice())),
                Cell::Counter(_) | Cell::Floor(_) => None,
            },
        )
    }

    /// Every key's state, in order of kind and key.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.cells.iter().map(|((kind, key), cell)| entry(*kind, key, cell))
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether nothing was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The canonical bytes: equal documents have equal bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        crate::wire::to_cbor(&self.entries().collect::<Vec<_>>())
    }
}

fn entry(kind: Kind, key: &str, cell: &Cell) -> Entry {
    let mut entry =
        Entry { kind, key: key.to_owned(), marker: None, value: Vec::new(), totals: Vec::new(), floor: 0 };
    match cell {
        Cell::Register(register) => {
            entry.marker = Some(register.marker());
            entry.value = register.value().to_vec();
        }
        Cell::Grown(grown) => entry.value.clone_from(&grown.0),
        Cell::Counter(counter) => entry.totals = counter.totals(),
        Cell::Floor(floor) => entry.floor = floor.0,
    }
    entry
}

#[cfg(test)]
mod tests;
