//! Steps of optimisers on plain numbers.

use crate::real::on_this_cpu;

/// `w ← w − rate · g`.
pub fn descend(values: &mut [f32], gradient: &[f32], rate: f32) {
    on_this_cpu(
        #[inline(always)]
        || {
            for (value, g) in values.iter_mut().zip(gradient) {
                *value -= rate * *g;
            }
        },
    );
}

/// `v ← momentum · v + shrink · g`, `w ← w − rate · v`.
pub fn roll(values: &mut [f32], gradient: &[f32], velocity: &mut [f32], [rate, shrink, momentum]: [f32; 3]) {
    on_this_cpu(
        #[inline(always)]
        || {
            for ((value, g), v) in values.iter_mut().zip(gradient).zip(velocity) {
                *v = momentum * *v + shrink * *g;
                *value -= rate * *v;
            }
        },
    );
}

/// Adam: running means of the gradient and of its square with `betas`, both begun at nought and not corrected;
/// `w ← kept · w − scale · m / (√v + epsilon)`.
#[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
pub fn adapt(
    values: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    betas: [f64; 2],
    [shrink, scale, epsilon, kept]: [f32; 4],
) {
    let [beta_1, beta_2] = betas.map(|beta| beta as f32);
    let [rest_1, rest_2] = betas.map(|beta| (1.0 - beta) as f32);
    on_this_cpu(
        #[inline(always)]
        || {
            for (((value, g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
                let g = shrink * *g;
                *m = beta_1 * *m + rest_1 * g;
                *v = beta_2 * *v + rest_2 * g * g;
                *value = kept * *value - scale * *m / (v.sqrt() + epsilon);
            }
        },
    );
}
