use super::*;
use crate::column::tests::Draws;
use crate::column::{Columns, Seen};
use proptest::prelude::*;

#[test]
fn logarithms_are_close_and_in_order() {
    for bits in (0x0080_0000..0x7f80_0000_u32).step_by(9_973) {
        let value = f32::from_bits(bits);
        let off = f64::from(ln_fixed(value)) / 65_536.0 - f64::from(value).ln();
        assert!(off.abs() < 1e-4, "{value}: {off}");
        assert_eq!(ln_fixed(-value), ln_fixed(value));
    }
    for value in [0.0, 1e-45, f32::MIN_POSITIVE] {
        assert_eq!(ln_fixed(value), ln_fixed(f32::MIN_POSITIVE), "{value}");
    }
    assert_eq!(ln_fixed(1.0), 0);
}

fn features() -> Vec<FeatureBaseline> {
    let mut rng = Draws::new(1);
    vec![
        rng.baseline(500),
        FeatureBaseline::of((0..100).map(|row| f64::from(row % 4))),
        FeatureBaseline::of((0..300).map(f64::from)),
    ]
}

/// The counts of rows in one pass.
fn counted(reference: &Reference, rows: &[[f32; 3]]) -> Tally {
    let (mut columns, mut seen) = (Columns::new(reference), Seen::default());
    rows.iter().for_each(|row| columns.observe(reference, row, &mut seen));
    columns.tally().clone()
}

/// The counts of parts of rows: windows of one device, or each part on a device of its own.
fn counted_in_parts(
    reference: &Reference,
    rows: &[[f32; 3]],
    cuts: &[usize],
    are_devices: bool,
) -> Vec<Tally> {
    let (mut columns, mut seen) = (Columns::new(reference), Seen::default());
    let parts = cuts.windows(2).map(|cut| {
        if are_devices {
            return counted(reference, &rows[cut[0]..cut[1]]);
        }
        rows[cut[0]..cut[1]].iter().for_each(|row| columns.observe(reference, row, &mut seen));
        let tally = columns.tally().clone();
        columns.reset();
        tally
    });
    parts.collect()
}

proptest! {
    #[test]
    fn folding_any_split_in_any_order_is_one_pass(
        rows in prop::collection::vec(prop::array::uniform3(prop_oneof![
            -5.0_f32..400.0, (0_u8..6).prop_map(f32::from), Just(f32::NAN), Just(f32::INFINITY), Just(1e-40)
        ]), 1..100),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        is_reversed: bool,
        are_devices: bool,
    ) {
        let reference = Reference::new(&features(), 1e6);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(rows.len())).collect();
        cuts.extend([0, rows.len()]);
        cuts.sort_unstable();
        let mut parts = counted_in_parts(&reference, &rows, &cuts, are_devices);
        if is_reversed { parts.reverse() }
        let mut sum = Tally::new(&reference);
        for part in &parts {
            prop_assert!(sum.absorb(part));
        }
        let mut all = counted(&reference, &rows);
        if are_devices {
            for tally in [&mut sum, &mut all] { // the first row of a device repeats none of another's
                tally.duplicates = 0;
                tally.columns.iter_mut().for_each(|column| column.repeats = 0);
            }
        }
        prop_assert_eq!(shoal_proto::wire::to_cbor(&sum), shoal_proto::wire::to_cbor(&all));
        prop_assert_eq!(sum.rows, rows.len() as u64);
    }
}

#[test]
fn counts_of_other_cells_are_not_added() {
    let all = features();
    let reference = Reference::new(&all, 1e6);
    let mut tally = counted(&reference, &[[0.1, 2.0, 3.0], [0.2, 9.0, 4.5]]);
    let before = tally.clone();
    for other in [
        Reference::new(&all[..2], 1e6),
        Reference::new(&[all[1].clone(), all[0].clone(), all[2].clone()], 1e6),
    ] {
        assert!(!tally.fits(&other) && !tally.absorb(&Tally::new(&other)));
    }
    assert_eq!(tally, before);
    let column = &tally.columns[1];
    assert_eq!(
        (column.unlisted(), column.categories.as_slice(), column.above),
        (1, [0, 0, 1, 0, 1].as_slice(), 1)
    );
    assert_eq!((tally.columns[2].fractions, tally.summaries()[1].out_of_range), (1, 1));
    assert_eq!(tally.summaries()[0].counts.total(), 2);
    tally.reset();
    assert_eq!(tally, Tally::new(&reference));
}
