use super::*;
use crate::column::tests::Draws;
use crate::column::{Columns, Reference, Seen};

type Draw = fn(&mut Draws) -> f32;

const TEMPERATURE: Draw = |rng| 20.0 + 3.0 * rng.normal();
const KINDS: [(&str, Draw); 7] = [
    ("temperature", TEMPERATURE),
    ("normal", Draws::normal),
    ("log-normal", |rng| (rng.normal() * 1.5).exp()),
    ("uniform", Draws::uniform),
    ("Cauchy", |rng| rng.normal() / rng.normal()),
    ("half noughts", |rng| if rng.uniform() < 0.5 { 0.0 } else { rng.normal() }),
    ("constant", |_| 5.0),
];

struct Watch {
    reference: Reference,
    columns: Columns,
    seen: Seen,
}

impl Watch {
    fn new(rng: &mut Draws, draw: Draw) -> Self {
        let feature = FeatureBaseline::of((0..2_000).map(|_| f64::from(draw(rng))));
        let reference = Reference::new(&[feature], 100_000.0);
        Self { columns: Columns::new(&reference), seen: Seen::default(), reference }
    }

    /// Sees rows until a jump is found or over: after how many, and what it is.
    fn until(&mut self, rows: u32, mut draw: impl FnMut() -> f32) -> Option<(u32, Option<Jump>)> {
        (1..=rows).find_map(|row| {
            self.columns.observe(&self.reference, &[draw()], &mut self.seen);
            (self.seen.jumps > 0)
                .then(|| (row, self.columns.jumps(&self.reference).next().map(|jump| jump.1)))
        })
    }
}

#[test]
fn no_jump_is_found_where_there_is_none() {
    for (name, draw) in KINDS {
        let mut found = 0;
        for seed in 0..20 {
            let mut rng = Draws::new(seed);
            let mut watch = Watch::new(&mut rng, draw);
            found += u32::from(watch.until(100_000, || draw(&mut rng)).is_some());
        }
        println!("{name}: a jump in {found} of 20 runs of 100,000 rows; stated: at most 20");
        assert!(found <= 1, "{name}: {found}");
    }
}

#[test]
fn units_are_recognised_and_their_return_too() {
    type Change = fn(f32) -> f32;
    let cases: [(&str, Draw, Change, f64, Option<&str>); 14] = [
        ("temperature", TEMPERATURE, |x| x * 10.0, 10.0, Some("x 10")),
        ("temperature", TEMPERATURE, |x| x / 10.0, 0.1, Some("/ 10")),
        ("temperature", TEMPERATURE, |x| x * 1_000.0, 1e3, Some("x 1000 (kilo to one, or one to milli)")),
        ("temperature", TEMPERATURE, |x| x * 25.4, 25.4, Some("x 25.4 (inch to mm)")),
        ("temperature", TEMPERATURE, |x| x * 1.8 + 32.0, 3.4, Some("°C to °F")),
        ("temperature", TEMPERATURE, |x| x + 273.15, 14.7, Some("°C to K")),
        ("temperature", TEMPERATURE, |x| x * 0.453_592, 0.4536, Some("x 0.4536 (pound to kg)")),
        ("temperature", TEMPERATURE, |x| x * 3.6, 3.6, Some("x 3.6 (m/s to km/h)")),
        ("temperature", TEMPERATURE, |x| x * 7.7, 7.7, None),
        ("normal", Draws::normal, |x| x * 100.0, 100.0, Some("x 100 (share to per cent)")),
        ("normal", Draws::normal, |x| x.to_radians(), 0.01745, Some("x pi/180 (degree to radian)")),
        ("temperature", TEMPERATURE, |x| x.to_radians(), 0.01745, Some("x pi/180 (degree to radian)")),
        ("log-normal", KINDS[2].1, |x| x / 60.0, 1.0 / 60.0, Some("/ 60 (second to minute)")),
        ("constant", |_| 5.0, |x| x * 10.0, 10.0, Some("x 10")),
    ];
    for (name, draw, change, factor, usual) in cases {
        let (mut rows, mut named, seeds) = (Vec::new(), 0, 20_u32);
        for seed in 0..seeds {
            let mut rng = Draws::new(u64::from(seed));
            let mut watch = Watch::new(&mut rng, draw);
            assert_eq!(watch.until(1_000 + seed, || draw(&mut rng)), None);
            let (row, jump) = watch.until(200, || change(draw(&mut rng))).expect("found");
            let jump = jump.expect("a jump, and no return");
            assert!(
                (jump.factor / factor).ln().abs() < 1.2 && jump.sigmas > jump.threshold,
                "{name}: {jump:?}"
            );
            rows.push(row);
            named += u32::from(jump.usual == usual);
            assert!(
                watch.until(200, || draw(&mut rng)).is_some_and(|(_, jump)| jump.is_none()),
                "it is over"
            );
        }
        rows.sort_unstable();
        let is_told = matches!(name, "temperature" | "constant"); // others spread too far; of these 57.3 and 60 are two standard errors apart
        println!(
            "{name} x {factor:.4}: median {} rows, most {}; {named} of 20 as {usual:?}",
            rows[10], rows[19]
        );
        assert!(rows[19] <= 3 * BLOCK && (named >= 12 || !is_told), "{name} x {factor}");
    }
}

#[test]
fn drift_of_another_kind_is_no_jump() {
    type Change = fn(f32) -> f32;
    let changes: [(&str, Draw, Change); 5] = [
        ("+ 1 sd", TEMPERATURE, |x| x + 3.0),
        ("+ 3 sd", TEMPERATURE, |x| x + 9.0),
        ("+ 60 sd, which leaves another spread than a factor", TEMPERATURE, |x| x + 180.0),
        ("sd x 2", Draws::normal, |x| x * 2.0),
        ("mean + 1 sd", Draws::normal, |x| x + 1.0),
    ];
    for (name, draw, change) in changes {
        let mut found = 0;
        for seed in 0..20 {
            let mut rng = Draws::new(seed);
            let mut watch = Watch::new(&mut rng, draw);
            found += u32::from(watch.until(5_000, || change(draw(&mut rng))).is_some());
        }
        println!("{name}: {found} of 20 are taken for a jump");
        assert!(found <= 2, "{name}: {found}");
    }
}
