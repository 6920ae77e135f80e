//! Integer tallies by index, sparse and canonical: equal tallies have equal bytes.

mod packed;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Most cells that room is made for before they are read: a forged length costs nothing.
const MAX_ROOM: usize = 1024;

/// `N` counts by index. In CBOR they are packed into bytes, since histograms are most of what a device sends; for
/// people they are rows, `[[index, count, …], …]`, with rising indices and no row of noughts. Counts stop at the largest number, which keeps sums the same in every order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cells<const N: usize>(Vec<(u32, [u64; N])>);

/// One count by index.
pub type Counts = Cells<1>;

impl<const N: usize> Cells<N> {
    /// Adds to one index.
    pub fn add_all(&mut self, index: u32, counts: [u64; N]) {
        if counts == [0; N] {
            return;
        }
        match self.0.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(at) => raise(&mut self.0[at].1, &counts),
            Err(at) => self.0.insert(at, (index, counts)),
        }
    }

    /// Adds all of another.
    pub fn absorb(&mut self, other: &Self) {
        let mut at = 0;
        for (index, counts) in &other.0 {
            while self.0.get(at).is_some_and(|(mine, _)| mine < index) {
                at += 1;
            }
            match self.0.get_mut(at) {
                Some((mine, sums)) if mine == index => raise(sums, counts),
                _ => self.0.insert(at, (*index, *counts)),
            }
        }
    }

    /// The counts at an index.
    #[must_use]
    pub fn at(&self, index: u32) -> [u64; N] {
        self.0.binary_search_by_key(&index, |(index, _)| *index).map_or([0; N], |at| self.0[at].1)
    }

    /// All that are not nought, in order of index.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, [u64; N])> + '_ {
        self.0.iter().copied()
    }

    /// The sum of each count over all indices.
    #[must_use]
    pub fn totals(&self) -> [u64; N] {
        let mut totals = [0; N];
        for (_, counts) in &self.0 {
            raise(&mut totals, counts);
        }
        totals
    }

    /// How many indices have a count.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn raise<const N: usize>(sums: &mut [u64; N], counts: &[u64; N]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum = sum.saturating_add(*count);
    }
}

impl Counts {
    /// The counts of a dense table.
    #[must_use]
    pub fn of(dense: &[u64]) -> Self {
        Self(
            (0..)
                .zip(dense)
                .filter(|(_, count)| **count > 0)
                .map(|(index, count)| (index, [*count]))
                .collect(),
        )
    }

    /// Adds to one index.
    pub fn add(&mut self, index: u32, count: u64) {
        self.add_all(index, [count]);
    }

    /// The count at an index.
    #[must_use]
    pub fn get(&self, index: u32) -> u64 {
        self.at(index)[0]
    }

    /// The sum.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.totals()[0]
    }

    /// The first `len` counts, zeros included.
    #[must_use]
    pub fn dense(&self, len: usize) -> Vec<u64> {
        let mut dense = vec![0; len];
        for (index, [count]) in &self.0 {
            if let Some(slot) = usize::try_from(*index).ok().and_then(|index| dense.get_mut(index)) {
                *slot = *count;
            }
        }
        dense
    }
}

impl From<Vec<(u32, u64)>> for Counts {
    fn from(pairs: Vec<(u32, u64)>) -> Self {
        Self::from_cells(pairs.into_iter().map(|(index, count)| (index, [count])).collect())
    }
}

impl<const N: usize> Cells<N> {
    /// Brings cells of any order, with repeats and noughts, into the canonical form.
    fn from_cells(mut cells: Vec<(u32, [u64; N])>) -> Self {
        cells.retain(|(_, counts)| *counts != [0; N]);
        if !cells.is_sorted_by(|a, b| a.0 < b.0) {
            cells.sort_by_key(|(index, _)| *index);
            cells.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                if same {
                    raise(&mut kept.1, &later.1);
                }
                same
            });
        }
        Self(cells)
    }
}

impl<const N: usize> Serialize for Cells<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return rows::serialize(self, serializer);
        }
        serializer.serialize_bytes(&packed::write(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Cells<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<const N: usize>;
        impl<'de, const N: usize> Visitor<'de> for Either<N> {
            type Value = Vec<(u32, [u64; N])>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of rows of an index and {N} counts, or those packed")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Self::Value, A::Error> {
                let mut cells = Vec::with_capacity(rows.size_hint().unwrap_or_default().min(MAX_ROOM));
                while let Some(Cell(index, counts)) = rows.next_element()? {
                    cells.push((index, counts));
                }
                Ok(cells)
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                packed::read(bytes).ok_or_else(|| E::custom("packed counts end too early or run over"))
            }
        }
        deserializer.deserialize_any(Either).map(Self::from_cells)
    }
}

/// [`Cells`] as rows in every format, for what is named by the digest of its bytes.
pub mod rows {
    use super::{Cell, Cells};
    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Writes rows.
    pub fn serialize<S: Serializer, const N: usize>(
        cells: &Cells<N>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(cells.0.iter().map(|(index, counts)| Cell(*index, *counts)))
    }

    /// Reads either form.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<Cells<N>, D::Error> {
        Cells::deserialize(deserializer)
    }
}

/// One row as it is written.
struct Cell<const N: usize>(u32, [u64; N]);

impl<const N: usize> Serialize for Cell<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_tuple(N + 1)?;
        row.serialize_element(&self.0)?;
        for count in &self.1 {
            row.serialize_element(count)?;
        }
        row.end()
    }
}

impl<'de, const N: usize> Deserialize<'de> for Cell<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Row<const N: usize>;
        impl<'de, const N: usize> Visitor<'de> for Row<N> {
            type Value = Cell<N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an index and {N} counts")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> Result<Self::Value, A::Error> {
                let index = row.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
                let mut counts = [0; N];
                for (at, count) in counts.iter_mut().enumerate() {
                    *count = row.next_element()?.ok_or_else(|| A::Error::invalid_length(at + 1, &self))?;
                }
                Ok(Cell(index, counts))
            }
        }
        deserializer.deserialize_tuple(N + 1, Row)
    }
}

/// One number for two: small for small ones, whatever the largest is (Szudzik 2006).
#[must_use]
pub fn pair(a: u16, b: u16) -> u32 {
    let (a, b) = (u32::from(a), u32::from(b));
    if a < b { b * b + a } else { a * a + a + b }
}

/// The two numbers behind one.
#[must_use]
pub fn unpair(cell: u32) -> (u16, u16) {
    let root = cell.isqrt();
    let rest = cell - root * root;
    let (a, b) = if rest < root { (rest, root) } else { (root, rest - root) };
    let small = |it: u32| u16::try_from(it).expect("a square root of 32 bits, or less than one, has 16 bits");
    (small(a), small(b))
}
