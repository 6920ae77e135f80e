//! Counts in as few bytes as zstd can make use of.
//!
//! All numbers are LEB128. A first byte of 0: of each row, the indices passed over since the last one, then its
//! counts. A first byte of 1, where nearly every index has counts: the first index, how many follow, then of each
//! column its mean and the differences from it (zigzag): the bins of a feature that moves little differ by a byte.
//! The shorter is written, the first where both are alike, so that equal tallies have equal bytes.

const SPARSE: u8 = 0;
const DENSE: u8 = 1;
/// Indices for each row beyond which the dense form is not tried.
const MOST_A_ROW: u64 = 4;
/// Room that a forged length is given before its bytes are seen.
const MAX_ROOM: usize = 1024;

type Row<const N: usize> = (u32, [u64; N]);

pub(super) fn write<const N: usize>(rows: &[Row<N>]) -> Vec<u8> {
    let sparse = write_sparse(rows);
    write_dense(rows).filter(|dense| dense.len() < sparse.len()).unwrap_or(sparse)
}

/// `None`: not what [`write`] writes, in either form.
pub(super) fn read<const N: usize>(bytes: &[u8]) -> Option<Vec<Row<N>>> {
    let (form, mut rest) = bytes.split_first()?;
    let rows = match *form {
        SPARSE => read_sparse(&mut rest)?,
        DENSE => read_dense(&mut rest)?,
        _ => return None,
    };
    rest.is_empty().then_some(rows)
}

fn write_sparse<const N: usize>(rows: &[Row<N>]) -> Vec<u8> {
    let mut bytes = vec![SPARSE];
    let mut next = 0;
    for (index, counts) in rows {
        put(&mut bytes, u64::from(*index) - next);
        counts.iter().for_each(|count| put(&mut bytes, *count));
        next = u64::from(*index) + 1;
    }
    bytes
}

fn read_sparse<const N: usize>(bytes: &mut &[u8]) -> Option<Vec<Row<N>>> {
    let mut rows = Vec::new();
    let mut next = 0_u64;
    while !bytes.is_empty() {
        let index = next.checked_add(take(bytes)?)?;
        let mut counts = [0; N];
        for count in &mut counts {
            *count = take(bytes)?;
        }
        rows.push((u32::try_from(index).ok()?, counts));
        next = index + 1;
    }
    Some(rows)
}

fn write_dense<const N: usize>(rows: &[Row<N>]) -> Option<Vec<u8>> {
    let (first, last) = (u64::from(rows.first()?.0), u64::from(rows.last()?.0));
    let span = last - first + 1;
    if span > MOST_A_ROW * u64::try_from(rows.len()).ok()? {
        return None;
    }
    let mut bytes = vec![DENSE];
    put(&mut bytes, first);
    put(&mut bytes, span);
    for column in 0..N {
        let sum: u128 = rows.iter().map(|(_, counts)| u128::from(counts[column])).sum();
        let mean = u64::try_from(sum / u128::from(span)).unwrap_or(u64::MAX);
        put(&mut bytes, mean);
        let mut rows = rows.iter().peekable();
        for index in first..=last {
            let row = rows.next_if(|(at, _)| u64::from(*at) == index);
            let count = row.map_or(0, |(_, counts)| counts[column]);
            put(&mut bytes, zigzag(count.wrapping_sub(mean).cast_signed()));
        }
    }
    Some(bytes)
}

fn read_dense<const N: usize>(bytes: &mut &[u8]) -> Option<Vec<Row<N>>> {
    let (first, span) = (take(bytes)?, usize::try_from(take(bytes)?).ok()?);
    if span > bytes.len() {
        return None; // a count is a byte at least
    }
    let mut rows: Vec<Row<N>> = Vec::with_capacity(span.min(MAX_ROOM));
    for offset in 0..span {
        let index = first.checked_add(u64::try_from(offset).ok()?)?;
        rows.push((u32::try_from(index).ok()?, [0; N]));
    }
    for column in 0..N {
        let mean = take(bytes)?;
        for (_, counts) in &mut rows {
            counts[column] = mean.wrapping_add(unzigzag(take(bytes)?).cast_unsigned());
        }
    }
    Some(rows)
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        number |= part.checked_shl(shift).filter(|shifted| shifted >> shift == part)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows() -> impl Strategy<Value = Vec<Row<2>>> {
        let count = prop_oneof![0_u64..300, any::<u64>(), Just(u64::MAX)];
        let index = prop_oneof![0_u32..60, any::<u32>(), Just(u32::MAX)];
        proptest::collection::btree_map(index, (count.clone(), count), 0..40)
            .prop_map(|rows| rows.into_iter().map(|(index, (a, b))| (index, [a, b])).collect())
    }

    proptest! {
        #[test]
        fn rows_read_back(rows in rows()) {
            let read: Vec<Row<2>> = read(&write(&rows)).unwrap();
            let kept = |rows: Vec<Row<2>>| rows.into_iter().filter(|row| row.1 != [0; 2]).collect::<Vec<_>>();
            prop_assert_eq!(kept(read), kept(rows));
        }

        #[test]
        fn garbage_is_refused_or_read_and_never_takes_more_room_than_it_has(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Some(rows) = read::<1>(&bytes) {
                prop_assert!(rows.len() <= bytes.len());
            }
        }
    }

    #[test]
    fn the_shorter_form_is_written() {
        let bins: Vec<Row<1>> = (0..20).map(|index| (index, [180 + u64::from(index)])).collect();
        assert_eq!(write(&bins).len(), 1 + 2 + 2 + 20, "a byte a bin, and where they stand");
        assert_eq!(write(&[(7, [3]), (900, [1])]), [SPARSE, 7, 3, 0xfc, 6, 1]);
        assert_eq!(write::<1>(&[]), [SPARSE]);
    }

    #[test]
    fn forged_lengths_are_refused() {
        for bytes in [
            &[][..],
            &[2],
            &[SPARSE, 1],
            &[SPARSE, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1],
            &[SPARSE, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 0, 1], // past the last index
            &[DENSE, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1],
            &[DENSE, 0, 2, 1, 0],
            &[DENSE, 0, 1, 1, 0, 9],
        ] {
            assert_eq!(read::<1>(bytes), None, "{bytes:02x?}");
        }
    }
}
