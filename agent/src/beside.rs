//! What was served held against what a candidate in the shadow answers to the same row.

use crate::core::Truth;
use crate::profile;
use shoal_proto::decision::ShadowSeen;
use shoal_proto::manifest::Manifest;

/// An answer that was served.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// The class, of a classifier.
    pub class: Option<u32>,
    /// How sure it was.
    pub confidence: f32,
    /// The output row.
    pub values: &'a [f32],
}

fn read(manifest: &Manifest, values: &[f32]) -> Option<(u32, f32)> {
    let has_scores = values.iter().any(|value| !value.is_nan());
    profile::answer(manifest.output.kind, values).filter(|_| has_scores)
}

/// One row that both answered; `own` is the candidate's output row.
#[must_use]
pub fn answered(manifest: &Manifest, served: Served<'_>, own: &[f32]) -> ShadowSeen {
    let mut seen = ShadowSeen { rows: 1, ..ShadowSeen::default() };
    // Where the served version has no numbers either, the row is at fault.
    let served_is_number = served.values.iter().any(|value| !value.is_nan());
    if served_is_number && own.iter().all(|value| value.is_nan()) {
        seen.failures = 1;
    } else if let (Some(class), Some((own, confidence))) = (served.class, read(manifest, own)) {
        seen.compared = 1;
        seen.agreed = u64::from(class == own);
        seen.served_confidence = thousandths(served.confidence);
        seen.confidence = thousandths(confidence);
    }
    seen
}

/// The truth about a row that both answered. A value that is no number is never the nearer one.
#[must_use]
pub fn labelled(manifest: &Manifest, served: Served<'_>, truth: Truth, own: &[f32]) -> ShadowSeen {
    let (served_is_better, own_is_better) = match truth {
        Truth::Class(truth) => {
            let own = read(manifest, own).is_some_and(|(class, _)| class == truth);
            let served = served.class == Some(truth);
            (served && !own, own && !served)
        }
        Truth::Value(truth) => {
            let off = |values: &[f32]| {
                let off = values.first().map(|value| (f64::from(*value) - truth).abs());
                off.filter(|off| !off.is_nan()).unwrap_or(f64::INFINITY)
            };
            let (served, own) = (off(served.values), off(own));
            (served < own, own < served)
        }
    };
    ShadowSeen {
        labels: 1,
        only_served: u64::from(served_is_better),
        only_shadow: u64::from(own_is_better),
        ..ShadowSeen::default()
    }
}

fn thousandths(share: f32) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a thousand")]
    let thousandths = (share.clamp(0.0, 1.0) * 1_000.0).round() as u64;
    thousandths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Manifest {
        Manifest::parse(text).unwrap()
    }

    #[test]
    fn each_pair_of_answers_to_a_class() {
        let gas = manifest(include_str!("../../proto/testdata/v1/model.toml"));
        let nan = [f32::NAN; 2];
        let served = Served { class: Some(0), confidence: 0.75, values: &[0.75, 0.25] };
        let table = [([0.9, 0.1], (0, 1, 1), 900), ([0.2, 0.8], (0, 1, 0), 800), (nan, (1, 0, 0), 0)];
        for (own, expected, confidence) in table {
            let seen = answered(&gas, served, &own);
            assert_eq!((seen.failures, seen.compared, seen.agreed), expected, "{own:?}");
            assert_eq!((seen.rows, seen.confidence), (1, confidence));
        }
        let silent = Served { class: None, confidence: 0.0, values: &nan };
        assert_eq!(answered(&gas, silent, &nan).failures, 0, "the row is at fault");
        for (truth, own, expected) in [
            (0, [0.9, 0.1], (0, 0)),
            (0, [0.1, 0.9], (1, 0)),
            (1, [0.1, 0.9], (0, 1)),
            (1, [0.9, 0.1], (0, 0)),
            (0, nan, (1, 0)),
        ] {
            let seen = labelled(&gas, served, Truth::Class(truth), &own);
            assert_eq!((seen.labels, (seen.only_served, seen.only_shadow)), (1, expected), "{truth} {own:?}");
        }
    }

    #[test]
    fn the_nearer_value_is_the_better_one() {
        let gas = manifest(include_str!("../../proto/testdata/v1/model.toml"));
        for (served, own, expected) in [
            (1.0, 1.5, (1, 0)),
            (1.5, 1.0, (0, 1)),
            (0.5, 1.5, (0, 0)),
            (f32::NAN, 9.0, (0, 1)),
            (9.0, f32::NAN, (1, 0)),
            (f32::NAN, f32::NAN, (0, 0)),
        ] {
            let served = Served { class: None, confidence: 0.0, values: &[served] };
            let seen = labelled(&gas, served, Truth::Value(1.0), &[own]);
            assert_eq!((seen.only_served, seen.only_shadow), expected, "{served:?} {own}");
        }
    }
}
