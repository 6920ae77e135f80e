//! Distances between a window and its baseline, for people who know them.

use super::shift::total;
use shoal_proto::baseline::FeatureBaseline;
use statrs::distribution::{ContinuousCDF as _, Gamma};

/// Distances of one window's histogram from the baseline's. Of nothing, all are nought, and probabilities one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distances {
    /// Jensen-Shannon distance: the root of the divergence in bits; 0 to 1.
    pub jensen_shannon: f64,
    /// Hellinger distance, 0 to 1.
    pub hellinger: f64,
    /// Greatest difference of a bin's share (L-infinity), 0 to 1.
    pub greatest: f64,
    /// Wasserstein-1 distance in standard deviations of the baseline: `Σ |F-G| Δx` over the inner edges, each
    /// standing for half of the way to its neighbours, and for its tail. Values beyond the trained range count as its ends, so
    /// that a shift far outside is understated; [ranges](super::WindowTests::range) have their own test.
    pub wasserstein: f64,
    /// Probability of such a Wasserstein distance, or a greater one, with no change.
    pub wasserstein_p: f64,
    /// Kolmogorov-Smirnov distance `max |F-G|` at the edges: at most what it is between them.
    pub kolmogorov: f64,
    /// Probability of such a Kolmogorov-Smirnov distance, or a greater one, with no change; too great, if
    /// anything, since edges are few.
    pub kolmogorov_p: f64,
}

impl Distances {
    /// None at all.
    pub const NONE: Self = Self {
        jensen_shannon: 0.0,
        hellinger: 0.0,
        greatest: 0.0,
        wasserstein: 0.0,
        wasserstein_p: 1.0,
        kolmogorov: 0.0,
        kolmogorov_p: 1.0,
    };

    /// The distances of a window whose counts are on a baseline's bins.
    #[must_use]
    pub fn between(baseline: &FeatureBaseline, window: &[u64]) -> Self {
        let mut all = Self::of_cells(&baseline.counts, window);
        let (n, m) = (total(&baseline.counts), total(window));
        if n == 0.0 || m == 0.0 || baseline.edges.is_empty() || window.len() != baseline.counts.len() {
            return all;
        }
        let cumulated = |counts: &[u64], rows: f64| {
            let sums = counts.iter().scan(0, |sum, count| {
                *sum += count;
                Some(*sum)
            });
            sums.map(|sum| sum as f64 / rows).collect::<Vec<f64>>()
        };
        let (f, g) = (cumulated(&baseline.counts, n), cumulated(window, m));
        let effective = n * m / (n + m) / f64::from(baseline.spacing.max(1));
        let widths = widths(baseline);
        let off = || f.iter().zip(&g).zip(&widths).map(|((f, g), width)| ((f - g).abs(), width));
        all.kolmogorov = off().map(|(off, _)| off).fold(0.0, f64::max);
        all.kolmogorov_p = kolmogorov(all.kolmogorov, effective);
        all.wasserstein = off().map(|(off, width)| off * width).sum();
        all.wasserstein_p = wasserstein(all.wasserstein, &f, &widths, effective);
        all
    }

    /// Those distances that only look at shares, of any cells.
    #[must_use]
    pub fn of_cells(reference: &[u64], window: &[u64]) -> Self {
        let (n, m) = (total(reference), total(window));
        if n == 0.0 || m == 0.0 {
            return Self::NONE;
        }
        let shares = || reference.iter().zip(window).map(|(r, w)| (*r as f64 / n, *w as f64 / m));
        let bits = |p: f64, middle: f64| if p > 0.0 { p * (p / middle).log2() } else { 0.0 };
        let divergence: f64 = shares().map(|(p, q)| bits(p, p.midpoint(q)) + bits(q, p.midpoint(q))).sum();
        let overlap: f64 = shares().map(|(p, q)| (p * q).sqrt()).sum();
        Self {
            jensen_shannon: (divergence / 2.0).clamp(0.0, 1.0).sqrt(),
            hellinger: (1.0 - overlap).clamp(0.0, 1.0).sqrt(),
            greatest: shares().map(|(p, q)| (p - q).abs()).fold(0.0, f64::max),
            ..Self::NONE
        }
    }
}

/// What each inner edge stands for, in standard deviations: half of the way to its neighbours. Beyond the
/// outermost ones it is what a tail adds that falls off exponentially, so that of `k` rows the farthest lies
/// where the baseline's does: the way to there by `ln k`, or half of it, as of an even one, if that is less.
fn widths(baseline: &FeatureBaseline) -> Vec<f64> {
    let edges = &baseline.edges;
    let way = |from: f64, to: f64| {
        // Halved before they are subtracted: the whole way may be more than there are numbers.
        let half = (to / 2.0 - from / 2.0) / baseline.std;
        if half.is_finite() { half.max(0.0) } else { 0.0 }
    };
    let tail = |half: f64, count: u64| half * 2.0 / (count as f64).ln().max(2.0);
    let last = edges.len().saturating_sub(1);
    let width = |place: usize| {
        let edge = edges[place];
        let before = match place.checked_sub(1) {
            None => tail(way(baseline.min, edge), baseline.counts[0]),
            Some(before) => way(edges[before], edge),
        };
        let after = if place == last {
            tail(way(edge, baseline.max), baseline.counts[last + 1])
        } else {
            way(edge, edges[place + 1])
        };
        before + after
    };
    (0..edges.len()).map(width).collect()
}

/// The tail of Kolmogorov's law, with Stephens' correction for few rows (1970).
fn kolmogorov(distance: f64, effective: f64) -> f64 {
    let root = effective.sqrt();
    let lambda = (root + 0.12 + 0.11 / root) * distance;
    if lambda < 0.2 {
        return 1.0;
    }
    let term = |k: i32| {
        let k = f64::from(k);
        (-2.0 * k * k * lambda * lambda).exp()
    };
    let sum: f64 = (1..=20).map(|k| if k % 2 == 1 { term(k) } else { -term(k) }).sum();
    (2.0 * sum).clamp(0.0, 1.0)
}

/// The tail of the Wasserstein distance with no change: the differences at the edges are then a Brownian
/// bridge, of whose weighted absolute sum mean and variance are known (the absolute product of two normals);
/// a gamma law has the same two.
fn wasserstein(distance: f64, shares: &[f64], widths: &[f64], effective: f64) -> f64 {
    let terms: Vec<(f64, f64)> = shares.iter().copied().zip(widths.iter().copied()).collect();
    let sigma = |share: f64| (share * (1.0 - share)).max(0.0).sqrt();
    let two_over_pi = std::f64::consts::FRAC_2_PI;
    let mean: f64 =
        terms.iter().map(|(share, width)| width * sigma(*share)).sum::<f64>() * two_over_pi.sqrt();
    let mut square = 0.0;
    for (f, a) in &terms {
        for (g, b) in &terms {
            let (low, high) = (f.min(*g), f.max(*g));
            let both = sigma(low) * sigma(high);
            if both > 0.0 {
                let rho = (low * (1.0 - high) / both).clamp(-1.0, 1.0);
                square += a * b * both * two_over_pi * ((1.0 - rho * rho).sqrt() + rho * rho.asin());
            }
        }
    }
    let variance = square - mean * mean;
    if mean <= 0.0 || variance <= 0.0 {
        return 1.0;
    }
    Gamma::new(mean * mean / variance, mean / variance).map_or(1.0, |law| law.sf(distance * effective.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::Normal;

    #[test]
    fn distances_of_two_halves_are_known() {
        let all = Distances::of_cells(&[1, 1], &[2, 0]);
        let divergence = 0.5 * (0.5 * (0.5_f64 / 0.75).log2() + 0.5) + 0.5 * (1.0_f64 / 0.75).log2();
        assert!((all.jensen_shannon - divergence.sqrt()).abs() < 1e-12, "{all:?}");
        assert!((all.hellinger - (1.0 - 0.5_f64.sqrt()).sqrt()).abs() < 1e-12 && all.greatest == 0.5);
        let apart = Distances::of_cells(&[5, 0], &[0, 7]);
        assert_eq!((apart.jensen_shannon, apart.hellinger, apart.greatest), (1.0, 1.0, 1.0));
        assert_eq!(Distances::of_cells(&[0, 0], &[1, 2]), Distances::NONE);
    }

    #[test]
    fn a_shift_by_half_a_deviation_is_that_far() {
        let quantile = |at: u32| Normal::standard().inverse_cdf((f64::from(at) + 0.5) / 20_000.0);
        let baseline = FeatureBaseline::of((0..20_000).map(quantile));
        let mut window = vec![0; baseline.counts.len()];
        (0..20_000).for_each(|at| window[baseline.bin(quantile(at) + 0.5)] += 1);
        let all = Distances::between(&baseline, &window);
        let by_hand = 2.0 * Normal::standard().cdf(0.25) - 1.0;
        assert!((all.wasserstein - 0.5).abs() < 0.05, "{all:?}");
        assert!((all.kolmogorov - by_hand).abs() < 0.01 && all.kolmogorov_p < 1e-9, "{all:?}");
        assert!(all.wasserstein_p < 1e-9);
        assert!((kolmogorov(1.358_1 / 100.0, 10_000.0) - 0.05).abs() < 0.001);
    }
}
