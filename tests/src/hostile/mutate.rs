//! Seeded changes of good files: of bytes, and of fields with the lengths around them kept right.

use super::walk::{self, Field, Kind, Value, count, find};
use rand::Rng;
use rand::seq::IndexedRandom as _;
use shoal_onnx::SERVED_OPS;

/// Numbers at which sizes, axes and counts go wrong.
const EXTREMES: [i64; 24] = [
    0,
    1,
    -1,
    2,
    3,
    -2,
    7,
    64,
    255,
    4_096,
    65_535,
    65_536,
    1 << 20,
    1 << 26,
    1 << 31,
    -(1 << 31),
    (1 << 31) - 1,
    1 << 32,
    1 << 38,
    1 << 40,
    1 << 62,
    i64::MAX,
    i64::MIN,
    i64::MIN + 1,
];
/// Floats at which sums go wrong.
const FLOATS: [f32; 8] =
    [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-42];
/// Changes of one file at most.
const MAX_CHANGES: u32 = 4;

/// Changes a file, sometimes with parts of another.
pub(super) fn mutate(rng: &mut impl Rng, seed: &[u8], other: &[u8]) -> (&'static str, Vec<u8>) {
    let way = rng.random_range(0..100);
    if way < 70
        && let Some(mut fields) = walk::read(Kind::Model, seed)
    {
        let donor = walk::read(Kind::Model, other);
        let changes = rng.random_range(1..=MAX_CHANGES);
        for _ in 0..changes {
            change(rng, &mut fields, donor.as_deref());
        }
        return ("fields", walk::write(&fields));
    }
    let mut bytes = seed.to_vec();
    match way % 6 {
        0 => {
            for _ in 0..rng.random_range(1..=16) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
            ("flipped", bytes)
        }
        1 => {
            bytes.truncate(rng.random_range(0..bytes.len()));
            ("truncated", bytes)
        }
        2 => {
            let (from, to) = range(rng, bytes.len());
            let (start, end) = range(rng, other.len());
            bytes.splice(from..to, other[start..end].iter().copied());
            ("spliced", bytes)
        }
        3 => {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = bytes[at].wrapping_add([1, 255, 128, 2][rng.random_range(0..4)]);
            ("length", bytes)
        }
        4 => {
            let (from, to) = range(rng, bytes.len());
            bytes[from..to].fill([0, 0xff, 0x80][rng.random_range(0..3)]);
            ("filled", bytes)
        }
        _ => {
            let (from, to) = range(rng, bytes.len());
            let part = bytes[from..to].to_vec();
            bytes.splice(from..from, part);
            ("repeated", bytes)
        }
    }
}

fn range(rng: &mut impl Rng, length: usize) -> (usize, usize) {
    let start = rng.random_range(0..length);
    (start, (start + rng.random_range(1..=256)).min(length))
}

fn change(rng: &mut impl Rng, fields: &mut Vec<Field>, donor: Option<&[Field]>) {
    let all = count(fields);
    if all == 0 {
        return;
    }
    let mut names = Vec::new();
    collect_names(fields, &mut names);
    // Weights and names outnumber all else, and what they break is found early: settings, sizes and
    // operators are looked for a few times.
    for _ in 0..8 {
        let mut place = rng.random_range(0..all);
        let Some((list, at)) = find(fields, &mut place) else { return };
        let is_dull = match (&list[at].value, list[at].inside, list[at].number) {
            (Value::Bytes(_), Kind::Node, 4) => false,
            (Value::Bytes(_), _, _) => true,
            _ => false,
        };
        if !is_dull || rng.random_bool(0.15) {
            return alter(rng, list, at, &names, donor);
        }
    }
}

fn alter(rng: &mut impl Rng, list: &mut Vec<Field>, at: usize, names: &[Vec<u8>], donor: Option<&[Field]>) {
    match rng.random_range(0..20) {
        0 => {
            list.remove(at);
            return;
        }
        1 => {
            let copy = list[at].clone();
            list.insert(at, copy);
            return;
        }
        2 => {
            let with = rng.random_range(0..list.len());
            list.swap(at, with);
            return;
        }
        _ => {}
    }
    let field = &mut list[at];
    let (inside, number) = (field.inside, field.number);
    match &mut field.value {
        Value::Whole(value) => *value = number_near(rng, value.cast_signed()).cast_unsigned(),
        Value::Four(bytes) => *bytes = FLOATS.choose(rng).unwrap_or(&0.0).to_le_bytes(),
        Value::Eight(bytes) => *bytes = f64::NAN.to_le_bytes(),
        Value::Bytes(bytes) => alter_bytes(rng, inside, number, bytes, names),
        Value::Fields(kind, inner) => {
            let kind = *kind;
            match donor.and_then(|donor| part(rng, donor, kind)) {
                Some(other) if rng.random_bool(0.5) => *inner = other,
                _ => inner.clear(),
            }
        }
    }
}

fn number_near(rng: &mut impl Rng, value: i64) -> i64 {
    match rng.random_range(0..4) {
        0 => value.wrapping_add(rng.random_range(-2..=2)),
        1 => value.wrapping_mul(rng.random_range(-3..=1_000)),
        _ => *EXTREMES.choose(rng).unwrap_or(&0),
    }
}

fn alter_bytes(rng: &mut impl Rng, inside: Kind, number: u64, bytes: &mut Vec<u8>, names: &[Vec<u8>]) {
    match (inside, number) {
        (Kind::Node, 4) => *bytes = SERVED_OPS.choose(rng).map_or(Vec::new(), |op| op.as_bytes().to_vec()),
        (Kind::Node, 1 | 2) | (Kind::Graph | Kind::Value, _) | (Kind::Tensor, 8) => {
            *bytes = names.choose(rng).cloned().unwrap_or_default();
        }
        (Kind::Tensor, 9) => weights(rng, bytes),
        _ => match rng.random_range(0..4) {
            0 => bytes.clear(),
            1 => bytes.extend_from_within(..bytes.len().min(64)),
            2 => bytes.truncate(rng.random_range(0..=bytes.len())),
            _ => {
                for byte in bytes.iter_mut().take(8) {
                    *byte ^= 1 << rng.random_range(0..8);
                }
            }
        },
    }
}

/// Weights of another kind: not numbers, too large, too small, too few.
fn weights(rng: &mut impl Rng, bytes: &mut Vec<u8>) {
    match rng.random_range(0..4) {
        0 => bytes.truncate(rng.random_range(0..=bytes.len())),
        1 => bytes.extend([0; 4]),
        2 => {
            let value = FLOATS.choose(rng).unwrap_or(&0.0).to_le_bytes();
            for four in bytes.chunks_exact_mut(4) {
                four.copy_from_slice(&value);
            }
        }
        _ => {
            let extreme = EXTREMES.choose(rng).unwrap_or(&0).to_le_bytes();
            if let Some(first) = bytes.first_chunk_mut::<8>() {
                *first = extreme;
            }
        }
    }
}

fn collect_names(fields: &[Field], names: &mut Vec<Vec<u8>>) {
    for field in fields {
        match &field.value {
            Value::Bytes(name) if field.inside == Kind::Node && field.number <= 2 => names.push(name.clone()),
            Value::Fields(_, inner) => collect_names(inner, names),
            _ => {}
        }
    }
}

/// A message of this kind from anywhere in a file.
fn part(rng: &mut impl Rng, fields: &[Field], kind: Kind) -> Option<Vec<Field>> {
    let mut found = Vec::new();
    fn look<'f>(fields: &'f [Field], kind: Kind, found: &mut Vec<&'f Vec<Field>>) {
        for field in fields {
            if let Value::Fields(of, inner) = &field.value {
                if *of == kind {
                    found.push(inner);
                }
                look(inner, kind, found);
            }
        }
    }
    look(fields, kind, &mut found);
    found.choose(rng).map(|part| (*part).clone())
}
