//! A gas nose: sixteen metal-oxide sensors that see five gases, and age.
//!
//! A sensor's conductance follows a power law of the concentration (Yamazoe and Shimanoe, 2008), so
//! its logarithm is linear in the logarithm of the concentration, one slope and one height for each
//! gas; below a threshold it shows nothing. Humidity and temperature shift all readings together.
//! Devices of one type differ a little in gain and offset. Poisoning and drift of the heater turn
//! gain and baseline away over months (Vergara et al., 2012, watched it for three years): mostly the
//! same way for all devices, partly each its own.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::f64::consts::TAU;
use std::fmt::Write as _;

/// Sensors of a nose.
pub const SENSORS: usize = 16;
/// What it tells apart.
pub const GASES: [&str; 5] = ["ethanol", "acetone", "ammonia", "toluene", "ethylene"];

/// Draws the physics of the type: every nose has the same.
const TYPE_SEED: u64 = 2;
/// Noses that the factory recorded for the training file.
const FACTORY_DEVICES: usize = 8;
/// Least and greatest concentration in ppm, drawn evenly in the logarithm.
const PPM: (f64, f64) = (10.0, 300.0);
/// Standard deviation of a device's log gain, and twice that of its offset.
const SPREAD: f64 = 0.02;
/// Noise of a reading.
const NOISE: f64 = 0.17;
/// How far one unit of age turns a sensor's log gain.
const GAIN_DRIFT: f64 = 0.24;
/// How far one unit of age shifts a sensor's baseline.
const BASE_DRIFT: f64 = 0.42;
/// What every sensor loses in log gain with one unit of age.
const WEAR: f64 = 0.1;

/// One number a sensor.
type Array = [f64; SENSORS];

/// What all noses of the type have in common.
#[derive(Debug, Clone)]
struct Physics {
    /// Log response at 50 ppm, by sensor and gas.
    height: [[f64; GASES.len()]; SENSORS],
    /// Exponent of the power law, by sensor and gas.
    slope: [[f64; GASES.len()]; SENSORS],
    humidity: Array,
    temperature: Array,
    gain_drift: Array,
    base_drift: Array,
}

impl Physics {
    fn of_the_type() -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(TYPE_SEED);
        let (mut height, mut slope) = ([[0.0; GASES.len()]; SENSORS], [[0.0; GASES.len()]; SENSORS]);
        for (heights, slopes) in height.iter_mut().zip(&mut slope) {
            let (level, exponent) = (random.random_range(-0.3..0.3), random.random_range(0.45..0.85));
            for (height, slope) in heights.iter_mut().zip(slopes) {
                *height = level + 0.55 * normal(&mut random);
                *slope = exponent + 0.06 * normal(&mut random);
            }
        }
        Self {
            height,
            slope,
            humidity: normals(&mut random, 0.12),
            temperature: normals(&mut random, 0.08),
            gain_drift: normals(&mut random, 1.0),
            base_drift: normals(&mut random, 1.0),
        }
    }
}

/// One nose.
#[derive(Debug, Clone)]
pub struct Device {
    physics: Physics,
    random: ChaCha8Rng,
    ageing: f64,
    flipped: f64,
    gain: Array,
    offset: Array,
    gain_drift: Array,
    base_drift: Array,
}

impl Device {
    /// A nose of the fleet. `ageing` is the age that it gains in one unit of the caller's time: at
    /// age 0 it is as the factory recorded it, at age 1 a model of the factory is clearly wrong.
    #[must_use]
    pub fn new(seed: u64, id: usize, ageing: f64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(u64::try_from(id).unwrap_or(u64::MAX).saturating_add(1));
        let physics = Physics::of_the_type();
        Self {
            gain: normals(&mut random, SPREAD).map(f64::exp),
            offset: normals(&mut random, SPREAD / 2.0),
            gain_drift: turned(&physics.gain_drift, &mut random),
            base_drift: turned(&physics.base_drift, &mut random),
            physics,
            random,
            ageing,
            flipped: 0.0,
        }
    }

    /// Makes the device's operator tell a wrong class for this share of the rows.
    #[must_use]
    pub const fn with_flipped_labels(mut self, share: f64) -> Self {
        self.flipped = share;
        self
    }

    /// The next row at time `t`: readings, and the gas in front of the nose.
    pub fn next(&mut self, t: f64) -> ([f32; SENSORS], usize) {
        let class = self.random.random_range(0..GASES.len());
        let log_ppm = self.random.random_range(PPM.0.ln()..PPM.1.ln()) - 50f64.ln();
        let (humidity, temperature) = (normal(&mut self.random), normal(&mut self.random));
        let age = self.ageing * t;
        let mut readings = [0.0; SENSORS];
        for (sensor, reading) in readings.iter_mut().enumerate() {
            let physics = &self.physics;
            let level = physics.height[sensor][class]
                + physics.slope[sensor][class] * log_ppm
                + physics.humidity[sensor] * humidity
                + physics.temperature[sensor] * temperature;
            let gain = self.gain[sensor] * (-age * (GAIN_DRIFT * self.gain_drift[sensor] + WEAR)).exp();
            let base = self.offset[sensor] + age * BASE_DRIFT * self.base_drift[sensor];
            let value = level.exp().ln_1p() * gain + base + NOISE * normal(&mut self.random);
            #[expect(clippy::cast_possible_truncation, reason = "a reading has four digits")]
            {
                *reading = value as f32;
            }
        }
        (readings, class)
    }

    /// What the operator says the gas was: the truth, or another gas where labels are flipped.
    pub fn label(&mut self, class: usize) -> usize {
        if self.random.random_bool(self.flipped.clamp(0.0, 1.0)) {
            (class + self.random.random_range(1..GASES.len())) % GASES.len()
        } else {
            class
        }
    }
}

/// The training file of the factory: `rows` rows of fresh noses, one column a sensor, then `gas`.
#[must_use]
pub fn train_csv(seed: u64, rows: usize) -> String {
    let mut devices: Vec<Device> =
        (0..FACTORY_DEVICES).map(|id| Device::new(seed ^ 0xfac7_0121, id, 0.0)).collect();
    let mut text = (1..=SENSORS).fold(String::new(), |head, number| head + &format!("s{number},")) + "gas\n";
    for row in 0..rows {
        let (readings, class) = devices[row % FACTORY_DEVICES].next(0.0);
        for reading in readings {
            write!(text, "{reading:.4},").expect("a string takes all text");
        }
        text.push_str(GASES[class]);
        text.push('\n');
    }
    text
}

/// A direction of drift of root mean square one: mostly the type's, partly the device's own.
fn turned(common: &Array, random: &mut ChaCha8Rng) -> Array {
    let own = normals(random, 0.3);
    let mut turned: Array = std::array::from_fn(|sensor| common[sensor] + own[sensor]);
    let square: f64 = turned.iter().map(|one| one * one).sum();
    for one in &mut turned {
        *one /= (square / SENSOR_COUNT).sqrt();
    }
    turned
}

/// [`SENSORS`] as a divisor.
const SENSOR_COUNT: f64 = 16.0;

fn normals(random: &mut ChaCha8Rng, std: f64) -> Array {
    std::array::from_fn(|_| std * normal(random))
}

/// A standard normal number (Box and Muller, 1958).
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_rows_and_another_device_others() {
        let rows = |seed, id| {
            let mut device = Device::new(seed, id, 0.1);
            [device.next(0.0), device.next(5.0)]
        };
        assert_eq!(rows(1, 0), rows(1, 0));
        assert_ne!(rows(1, 0), rows(1, 1));
        assert_ne!(rows(1, 0), rows(2, 0));
        assert_eq!(train_csv(1, 20), train_csv(1, 20));
    }

    #[test]
    fn the_training_file_has_a_head_and_all_gases() {
        let text = train_csv(7, 400);
        let mut lines = text.lines();
        assert_eq!(lines.next().map(|head| head.split(',').count()), Some(SENSORS + 1));
        let rows: Vec<&str> = lines.collect();
        assert_eq!(rows.len(), 400);
        for gas in GASES {
            assert!(rows.iter().filter(|row| row.ends_with(gas)).count() > 40, "{gas}");
        }
    }

    #[test]
    fn age_moves_the_readings_and_no_age_does_not() {
        let mean_shift = |ageing: f64| {
            let (mut young, mut old) = (Device::new(3, 1, ageing), Device::new(3, 1, ageing));
            let shift: f32 = (0..200)
                .flat_map(|_| {
                    let (a, b) = (young.next(0.0).0, old.next(1.0).0);
                    a.into_iter().zip(b).map(|(a, b)| (a - b).abs()).collect::<Vec<_>>()
                })
                .sum();
            shift / 200.0 / 16.0
        };
        assert!(mean_shift(0.0).abs() < f32::EPSILON);
        assert!(mean_shift(1.0) > 0.3, "{}", mean_shift(1.0));
    }

    #[test]
    fn flipped_labels_are_never_the_truth_and_as_many_as_asked() {
        let mut device = Device::new(3, 1, 0.0).with_flipped_labels(0.4);
        let wrong = (0..2_000).filter(|_| device.label(2) != 2).count();
        assert!((700..900).contains(&wrong), "{wrong}");
        let mut honest = Device::new(3, 1, 0.0);
        assert!((0..100).all(|_| honest.label(4) == 4));
    }
}
