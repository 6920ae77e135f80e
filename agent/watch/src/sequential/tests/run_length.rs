use super::*;
use crate::sequential::run_length::{Outcome, allowance, calibrated, log_constant};

/// Mean run length of a CUSUM of two outcomes, by simulation.
fn simulated(rate: f64, hit: f64, miss: f64, height: f64, rng: &mut ChaCha8Rng) -> f64 {
    let (runs, mut samples) = (3_000, 0_u64);
    for _ in 0..runs {
        let mut sum = 0.0_f64;
        while sum < height {
            sum = (sum + if rng.random_bool(rate) { hit } else { miss }).max(0.0);
            samples += 1;
        }
    }
    samples as f64 / f64::from(runs)
}

#[test]
fn run_lengths_are_those_of_simulation() {
    let mut rng = rng(1);
    for (rate, odds) in [(0.3, 2.0), (0.1, 2.0), (0.1, 4.0), (0.02, 2.0), (0.02, 16.0)] {
        let other = odds * rate / (1.0 - rate + odds * rate);
        let (hit, miss) = (other / rate, (1.0 - other) / (1.0 - rate));
        let outcomes =
            [Outcome { probability: rate, payoff: hit }, Outcome { probability: 1.0 - rate, payoff: miss }];
        let height = 6.0;
        let stated = calibrated(6.0, 0.0).exp() * log_constant(&outcomes).exp();
        let found = simulated(rate, hit.ln(), miss.ln(), height, &mut rng);
        println!("rate {rate} odds {odds}: stated {stated:.0}, simulated {found:.0}");
        // A jump of odds 16 adds 2.7: where the next mark falls is not smooth in the height.
        let slack = if odds > 10.0 { 3.0 } else { 1.35 };
        assert!(stated < found * slack && found < stated * slack);
    }
}

#[test]
fn bets_on_nothing_have_no_run_length_and_no_allowance() {
    let sure = [Outcome { probability: 1.0, payoff: 1.0 }];
    assert_eq!((log_constant(&sure), log_constant(&[])), (0.0, 0.0));
    assert_eq!((allowance(&sure, 100.0, 10.0), allowance(&[], 0.0, 10.0)), (0.0, 0.0));
    assert_eq!((calibrated(0.0, 3.0), calibrated(1e-6, 3.0)), (0.0, 0.0));
}
