//! Functions of one number, element by element.

#[cfg(test)]
mod tests;

use crate::real::{Real, on_this_cpu};

/// Elements that are worked on while they are near.
pub(crate) const CHUNK: usize = 2048;

/// A function of one number. Names and settings are ONNX's.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Unary {
    Neg,
    Abs,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Relu,
    LeakyRelu {
        slope: f64,
    },
    ThresholdedRelu {
        alpha: f64,
    },
    Elu {
        alpha: f64,
    },
    Celu {
        alpha: f64,
    },
    Selu {
        alpha: f64,
        gamma: f64,
    },
    Gelu,
    GeluTanh,
    Erf,
    Sigmoid,
    HardSigmoid {
        alpha: f64,
        beta: f64,
    },
    HardSwish,
    Swish {
        alpha: f64,
    },
    Tanh,
    Softplus,
    Softsign,
    Mish,
    Clip {
        low: f64,
        high: f64,
    },
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    /// Nought within `lambda` of it, moved by `bias` towards it outside.
    Shrink {
        lambda: f64,
        bias: f64,
    },
    /// `x` to a fixed power.
    Power {
        exponent: f64,
    },
    /// `scale · x + shift`.
    Affine {
        scale: f64,
        shift: f64,
    },
    Floor,
    Ceil,
    Round,
    /// The whole part.
    Trunc,
    Sign,
    /// One for nought, nought for all else.
    Not,
    IsNan,
}

/// What the derivative of a function is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// Nothing: it is constant, or nought everywhere.
    Nothing,
    /// The argument.
    Input,
    /// The value, so that the argument's memory is free earlier.
    Output,
}

impl Unary {
    /// What [`gradient`] needs.
    #[must_use]
    pub fn saved(self) -> Saved {
        match self {
            Self::Neg | Self::Affine { .. } => Saved::Nothing,
            Self::Exp
            | Self::Sqrt
            | Self::Reciprocal
            | Self::Relu
            | Self::Sigmoid
            | Self::Tanh
            | Self::HardSigmoid { .. }
            | Self::Clip { .. } => Saved::Output,
            Self::LeakyRelu { slope } if slope >= 0.0 => Saved::Output,
            Self::Elu { alpha } if alpha >= 0.0 => Saved::Output,
            _ if self.is_flat() => Saved::Nothing,
            _ => Saved::Input,
        }
    }

    /// Whether its derivative is nought wherever it has one.
    #[must_use]
    pub fn is_flat(self) -> bool {
        matches!(
            self,
            Self::Floor | Self::Ceil | Self::Round | Self::Trunc | Self::Sign | Self::Not | Self::IsNan
        )
    }
}

const SQRT_HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// √(2/π) and the cubic term of the tanh form of Gelu.
const GELU_SCALE: f64 = 0.797_884_560_802_865_4;
const GELU_CUBE: f64 = 0.044_715;

#[inline(always)]
fn softplus<T: Real>(x: T) -> T {
    x.larger(T::ZERO) + (T::ONE + (-x.abs()).exp()).ln()
}

#[inline(always)]
fn when<T: Real>(condition: bool) -> T {
    if condition { T::ONE } else { T::ZERO }
}

/// Turns `y`, which holds the arguments, into the values.
pub fn forward<T: Real>(function: Unary, y: &mut [T]) {
    macro_rules! map {
        (|$x:ident| $made:expr) => {
            on_this_cpu(
                #[inline(always)]
                || {
                    for place in y.iter_mut() {
                        let $x = *place;
                        *place = $made;
                    }
                },
            )
        };
    }
    let (nought, one, half) = (T::ZERO, T::ONE, T::of(0.5));
    let of = T::of;
    match function {
        Unary::Neg => map!(|x| -x),
        Unary::Abs => map!(|x| x.abs()),
        Unary::Exp => map!(|x| x.exp()),
        Unary::Log => map!(|x| x.ln()),
        Unary::Sqrt => map!(|x| x.sqrt()),
        Unary::Reciprocal => map!(|x| one / x),
        Unary::Relu => map!(|x| if x < nought { nought } else { x }),
        Unary::LeakyRelu { slope } => {
            let slope = of(slope);
            map!(|x| if x < nought { slope * x } else { x });
        }
        Unary::ThresholdedRelu { alpha } => {
            let alpha = of(alpha);
            map!(|x| if x > alpha { x } else { nought });
        }
        Unary::Elu { alpha } => {
            let alpha = of(alpha);
            map!(|x| if x < nought { alpha * (x.exp() - one) } else { x });
        }
        Unary::Celu { alpha } => {
            let alpha = of(alpha);
            map!(|x| if x < nought { alpha * ((x / alpha).exp() - one) } else { x });
        }
        Unary::Selu { alpha, gamma } => {
            let (alpha, gamma) = (of(alpha), of(gamma));
            map!(|x| gamma * if x > nought { x } else { alpha * (x.exp() - one) });
        }
        Unary::Gelu => {
            let root = of(SQRT_HALF);
            map!(|x| half * x * (one + (x * root).erf()));
        }
        Unary::GeluTanh => {
            let (scale, cube) = (of(GELU_SCALE), of(GELU_CUBE));
            map!(|x| half * x * (one + (scale * (x + cube * x * x * x)).tanh()));
        }
        Unary::Erf => map!(|x| x.erf()),
        Unary::Sigmoid => map!(|x| x.sigmoid()),
        Unary::HardSigmoid { alpha, beta } => {
            let (alpha, beta) = (of(alpha), of(beta));
            map!(|x| (alpha * x + beta).smaller(one).larger(nought));
        }
        Unary::HardSwish => {
            let (sixth, half) = (of(1.0 / 6.0), half);
            map!(|x| x * (x * sixth + half).smaller(one).larger(nought));
        }
        Unary::Swish { alpha } => {
            let alpha = of(alpha);
            map!(|x| x * (alpha * x).sigmoid());
        }
        Unary::Tanh => map!(|x| x.tanh()),
        Unary::Softplus => map!(|x| softplus(x)),
        Unary::Softsign => map!(|x| x / (one + x.abs())),
        Unary::Mish => map!(|x| x * softplus(x).tanh()),
        Unary::Clip { low, high } => {
            let (low, high) = (of(low), of(high));
            map!(|x| {
                let above = if x < low { low } else { x };
                if above > high { high } else { above }
            });
        }
        Unary::Sin => map!(|x| of(x.f64().sin())),
        Unary::Cos => map!(|x| of(x.f64().cos())),
        Unary::Tan => map!(|x| of(x.f64().tan())),
        Unary::Asin => map!(|x| of(x.f64().asin())),
        Unary::Acos => map!(|x| of(x.f64().acos())),
        Unary::Atan => map!(|x| of(x.f64().atan())),
        Unary::Sinh => map!(|x| of(x.f64().sinh())),
        Unary::Cosh => map!(|x| of(x.f64().cosh())),
        Unary::Asinh => map!(|x| of(x.f64().asinh())),
        Unary::Acosh => map!(|x| of(x.f64().acosh())),
        Unary::Atanh => map!(|x| of(x.f64().atanh())),
        Unary::Shrink { lambda, bias } => {
            let (lambda, bias) = (of(lambda), of(bias));
            map!(|x| if x < -lambda {
                x + bias
            } else if x > lambda {
                x - bias
            } else {
                nought
            });
        }
        Unary::Power { exponent } => power(of(exponent), y),
        Unary::Affine { scale, shift } => {
            let (scale, shift) = (of(scale), of(shift));
            map!(|x| scale * x + shift);
        }
        Unary::Floor => map!(|x| x.floor()),
        Unary::Ceil => map!(|x| -((-x).floor())),
        Unary::Round => map!(|x| of(x.f64().round_ties_even())),
        Unary::Trunc => map!(|x| of(x.f64().trunc())),
        Unary::Sign => map!(|x| when::<T>(x > nought) - when::<T>(x < nought)),
        Unary::Not => map!(|x| when::<T>(x == nought)),
        Unary::IsNan => map!(|x| when::<T>(x.f64().is_nan())),
    }
}

fn power<T: Real>(exponent: T, y: &mut [T]) {
    if exponent == T::of(2.0) {
        on_this_cpu(
            #[inline(always)]
            || y.iter_mut().for_each(|place| *place = *place * *place),
        );
    } else {
        y.iter_mut().for_each(|place| *place = place.pow(exponent));
    }
}

/// Turns `dx`, which holds the gradient of the values, into that of the arguments. `saved` is what
/// [`Unary::saved`] says.
pub fn gradient<T: Real>(function: Unary, saved: &[T], dx: &mut [T]) {
    macro_rules! scale {
        (|$s:ident| $slope:expr) => {
            on_this_cpu(
                #[inline(always)]
                || {
                    for (place, saved) in dx.iter_mut().zip(saved) {
                        let $s = *saved;
                        *place *= $slope;
                    }
                },
            )
        };
    }
    let (nought, one, half) = (T::ZERO, T::ONE, T::of(0.5));
    let of = T::of;
    match function {
        Unary::Neg => forward(Unary::Neg, dx),
        Unary::Affine { scale, .. } => forward(Unary::Affine { scale, shift: 0.0 }, dx),
        _ if function.is_flat() => dx.fill(nought),
        Unary::Abs => scale!(|x| when::<T>(x > nought) - when::<T>(x < nought)),
        Unary::Exp => scale!(|y| y),
        Unary::Log => scale!(|x| one / x),
        Unary::Sqrt => scale!(|y| half / y),
        Unary::Reciprocal => scale!(|y| -(y * y)),
        Unary::Relu => scale!(|y| when::<T>(y > nought)),
        Unary::LeakyRelu { slope } => {
            let slope = of(slope);
            scale!(|v| if v > nought { one } else { slope });
        }
        Unary::ThresholdedRelu { alpha } => {
            let alpha = of(alpha);
            scale!(|x| when::<T>(x > alpha));
        }
        Unary::Elu { alpha } if alpha >= 0.0 => {
            let alpha = of(alpha);
            scale!(|y| if y > nought { one } else { y + alpha });
        }
        Unary::Elu { alpha } => {
            let alpha = of(alpha);
            scale!(|x| if x > nought { one } else { alpha * x.exp() });
        }
        Unary::Celu { alpha } => {
            let alpha = of(alpha);
            scale!(|x| if x > nought { one } else { (x / alpha).exp() });
        }
        Unary::Selu { alpha, gamma } => {
            let (alpha, gamma) = (of(alpha), of(gamma));
            scale!(|x| gamma * if x > nought { one } else { alpha * x.exp() });
        }
        Unary::Gelu => {
            let (root, density) = (of(SQRT_HALF), of(0.398_942_280_401_432_7));
            scale!(|x| half * (one + (x * root).erf()) + x * density * (-(half * x * x)).exp());
        }
        Unary::GeluTanh => {
            let (scale, cube, slope) = (of(GELU_SCALE), of(GELU_CUBE), of(3.0 * GELU_CUBE));
            scale!(|x| {
                let t = (scale * (x + cube * x * x * x)).tanh();
                half * (one + t) + half * x * (one - t * t) * scale * (one + slope * x * x)
            });
        }
        Unary::Erf => {
            let density = of(std::f64::consts::FRAC_2_SQRT_PI);
            scale!(|x| density * (-(x * x)).exp());
        }
        Unary::Sigmoid => scale!(|y| y * (one - y)),
        Unary::HardSigmoid { alpha, .. } => {
            let alpha = of(alpha);
            scale!(|y| if y > nought && y < one { alpha } else { nought });
        }
        Unary::HardSwish => {
            let (third, three) = (of(1.0 / 3.0), of(3.0));
            scale!(|x| if x > three {
                one
            } else if x > -three {
                x * third + half
            } else {
                nought
            });
        }
        Unary::Swish { alpha } => {
            let alpha = of(alpha);
            scale!(|x| {
                let s = (alpha * x).sigmoid();
                s + alpha * x * s * (one - s)
            });
        }
        Unary::Tanh => scale!(|y| one - y * y),
        Unary::Softplus => scale!(|x| x.sigmoid()),
        Unary::Softsign => scale!(|x| {
            let size = one + x.abs();
            one / (size * size)
        }),
        Unary::Mish => scale!(|x| {
            let t = softplus(x).tanh();
            t + x * x.sigmoid() * (one - t * t)
        }),
        Unary::Clip { low, high } => {
            let (low, high) = (of(low), of(high));
            scale!(|y| when::<T>(y > low && y < high));
        }
        Unary::Sin => scale!(|x| of(x.f64().cos())),
        Unary::Cos => scale!(|x| of(-x.f64().sin())),
        Unary::Tan => scale!(|x| of(1.0 / x.f64().cos().powi(2))),
        Unary::Asin => scale!(|x| one / (one - x * x).sqrt()),
        Unary::Acos => scale!(|x| -(one / (one - x * x).sqrt())),
        Unary::Atan => scale!(|x| one / (one + x * x)),
        Unary::Sinh => scale!(|x| of(x.f64().cosh())),
        Unary::Cosh => scale!(|x| of(x.f64().sinh())),
        Unary::Asinh => scale!(|x| one / (x * x + one).sqrt()),
        Unary::Acosh => scale!(|x| one / (x * x - one).sqrt()),
        Unary::Atanh => scale!(|x| one / (one - x * x)),
        Unary::Shrink { lambda, .. } => {
            let lambda = of(lambda);
            scale!(|x| when::<T>(x.abs() > lambda));
        }
        Unary::Power { exponent } => {
            let (exponent, less) = (of(exponent), of(exponent - 1.0));
            if less == one {
                scale!(|x| exponent * x);
            } else {
                scale!(|x| exponent * x.pow(less));
            }
        }
        Unary::Floor
        | Unary::Ceil
        | Unary::Round
        | Unary::Trunc
        | Unary::Sign
        | Unary::Not
        | Unary::IsNan => dx.fill(nought),
    }
}
