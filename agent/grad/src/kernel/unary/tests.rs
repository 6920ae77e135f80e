//! Derivatives against differences.

use super::*;

/// Every function with points away from its kinks.
fn cases() -> Vec<(Unary, Vec<f64>)> {
    let wide = vec![-2.3, -1.1, -0.4, 0.3, 0.9, 1.7];
    let positive = vec![0.2, 0.7, 1.3, 2.9];
    let mut cases: Vec<(Unary, Vec<f64>)> =
        [Unary::Log, Unary::Sqrt, Unary::Power { exponent: 1.7 }].map(|f| (f, positive.clone())).into();
    let near = vec![-0.7, -0.2, 0.3, 0.8];
    cases.extend([Unary::Asin, Unary::Acos, Unary::Atanh].map(|f| (f, near.clone())));
    cases.push((Unary::Acosh, vec![1.3, 2.7]));
    let everywhere = [
        Unary::Atan,
        Unary::Sinh,
        Unary::Cosh,
        Unary::Asinh,
        Unary::Shrink { lambda: 0.5, bias: 0.2 },
        Unary::Neg,
        Unary::Abs,
        Unary::Exp,
        Unary::Reciprocal,
        Unary::Relu,
        Unary::LeakyRelu { slope: 0.1 },
        Unary::LeakyRelu { slope: -0.1 },
        Unary::ThresholdedRelu { alpha: 0.5 },
        Unary::Elu { alpha: 0.7 },
        Unary::Elu { alpha: -0.7 },
        Unary::Celu { alpha: 1.3 },
        Unary::Selu { alpha: 1.67, gamma: 1.05 },
        Unary::Gelu,
        Unary::GeluTanh,
        Unary::Erf,
        Unary::Sigmoid,
        Unary::HardSigmoid { alpha: 0.3, beta: 0.5 },
        Unary::HardSwish,
        Unary::Swish { alpha: 1.2 },
        Unary::Tanh,
        Unary::Softplus,
        Unary::Softsign,
        Unary::Mish,
        Unary::Clip { low: -1.0, high: 0.8 },
        Unary::Sin,
        Unary::Cos,
        Unary::Tan,
        Unary::Power { exponent: 2.0 },
        Unary::Power { exponent: 3.0 },
        Unary::Affine { scale: -2.0, shift: 0.3 },
        Unary::Floor,
        Unary::Ceil,
        Unary::Round,
        Unary::Trunc,
        Unary::Sign,
        Unary::Not,
        Unary::IsNan,
    ];
    cases.extend(everywhere.map(|f| (f, wide.clone())));
    cases
}

#[test]
fn every_derivative_is_that_of_its_function() {
    let at = |function, x: f64| {
        let mut y = [x];
        forward(function, &mut y);
        y[0]
    };
    for (function, points) in cases() {
        for x in points {
            let step = 1e-5;
            let wanted = (at(function, x + step) - at(function, x - step)) / (2.0 * step);
            let saved = match function.saved() {
                Saved::Output => at(function, x),
                _ => x,
            };
            let mut dx = [1.5];
            gradient(function, &[saved], &mut dx);
            assert!(
                (dx[0] - 1.5 * wanted).abs() < 1e-8 * (1.0 + wanted.abs()),
                "{function:?} at {x}: {dx:?}"
            );
            #[expect(clippy::cast_possible_truncation, reason = "it is compared")]
            let (mut narrow, mut slope) = ([x as f32], [1f32]);
            forward(function, &mut narrow);
            let y = at(function, x);
            assert!((f64::from(narrow[0]) - y).abs() < 2e-6 * (1.0 + y.abs()), "{function:?} at {x}");
            #[expect(clippy::cast_possible_truncation, reason = "it is compared")]
            gradient(function, &[saved as f32], &mut slope);
            assert!(
                (f64::from(slope[0]) - wanted).abs() < 1e-5 * (1.0 + wanted.abs()),
                "{function:?} at {x}"
            );
        }
    }
}
