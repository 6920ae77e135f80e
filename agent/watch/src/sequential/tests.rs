mod adwin;
mod bernoulli;
mod conformal;
mod run_length;

use super::*;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Serialize, de::DeserializeOwned};

/// ln of the run length that tests ask for.
const CALM: f64 = 12.611_537_753_638_34; // 300,000

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Median and the 95th of a hundred.
fn quantiles(mut delays: Vec<u64>) -> (u64, u64) {
    delays.sort_unstable();
    (delays[delays.len() / 2], delays[delays.len() * 95 / 100])
}

/// A state as it comes back from disk.
fn read_back<T: Serialize + DeserializeOwned>(state: &T) -> T {
    let bytes = shoal_proto::wire::to_cbor(state);
    shoal_proto::wire::from_cbor(&bytes).unwrap()
}
