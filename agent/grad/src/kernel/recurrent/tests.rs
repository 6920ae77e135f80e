//! Every layer against the equations written out, finite differences, and 32 against 64 bits.

use super::*;

/// One way to call a layer.
#[derive(Debug, Clone, Copy)]
struct Case {
    shape: RecurrentShape,
    bias: bool,
    start: bool,
    peepholes: bool,
    directions: usize,
}

/// All that a layer reads, and the weights of the functional that is differentiated.
#[derive(Clone)]
struct Data<T> {
    /// x, w, r, b, p, h0, c0.
    inputs: [Vec<T>; 7],
    /// Of y, y_h, y_c.
    weights: [Vec<T>; 3],
}

struct Ran<T> {
    y: Vec<T>,
    y_h: Vec<T>,
    y_c: Vec<T>,
    saved: Vec<T>,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let cells = [
        Cell::Lstm,
        Cell::Gru { linear_before_reset: true },
        Cell::Gru { linear_before_reset: false },
        Cell::Rnn { relu: true },
        Cell::Rnn { relu: false },
    ];
    for cell in cells {
        for [steps, batch, input, hidden] in [[4, 2, 3, 5], [1, 3, 2, 9], [3, 1, 1, 1], [2, 9, 4, 33]] {
            for options in 0..8 {
                let [reverse, bias, start] = [1, 2, 4].map(|bit| options & bit != 0);
                let shape = RecurrentShape { cell, steps, batch, input, hidden, reverse };
                let peepholes = cell == Cell::Lstm && (reverse ^ bias);
                cases.push(Case { shape, bias, start, peepholes, directions: 1 + usize::from(start) });
            }
        }
    }
    cases
}

impl Case {
    fn data(&self) -> Data<f64> {
        let mut state = 88_172_645_463_325_252u64;
        let mut draw = |len: usize, size: f64| -> Vec<f64> {
            (0..len)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    // Exact in 32 bits, so that both kinds start from the same numbers.
                    f64::from(f32::of((state >> 40) as f64 / f64::from(1 << 23) - 1.0)) * size
                })
                .collect()
        };
        let RecurrentShape { steps, batch, input, hidden, .. } = self.shape;
        let (width, states) = (self.shape.width(), batch * hidden);
        let inputs = [
            draw(steps * batch * input, 1.0),
            draw(width * input, 0.5),
            draw(width * hidden, 0.5),
            draw(2 * width, 0.5),
            draw(3 * hidden, 0.5),
            draw(states, 1.0),
            draw(states, 1.0),
        ];
        let weights = [draw(steps * self.directions * states, 1.0), draw(states, 1.0), draw(states, 1.0)];
        Data { inputs, weights }
    }

    /// Where this direction starts in y.
    fn first(&self) -> usize {
        (self.directions - 1) * self.shape.states()
    }

    fn stride(&self) -> usize {
        self.directions * self.shape.states()
    }

    fn inputs<'a, T: Real>(&self, data: &'a Data<T>) -> Inputs<'a, T> {
        let [x, w, r, b, p, h0, c0] = data.inputs.each_ref().map(|part| &part[..]);
        let weights = Weights { w, r, b: self.bias.then_some(b), p: self.peepholes.then_some(p) };
        let memory = self.start && self.shape.cell == Cell::Lstm;
        Inputs { x, weights, h0: self.start.then_some(h0), c0: memory.then_some(c0) }
    }

    fn run<T: Real>(&self, data: &Data<T>) -> Ran<T> {
        let rubbish = T::of(f64::NAN);
        let states = self.shape.states();
        let mut ran = Ran {
            y: vec![rubbish; self.shape.steps * self.stride()],
            y_h: vec![rubbish; states],
            y_c: vec![T::ZERO; states],
            saved: vec![rubbish; self.shape.saved()],
        };
        let outputs = Outputs {
            y: Some(&mut ran.y[self.first()..]),
            y_stride: self.stride(),
            y_h: Some(&mut ran.y_h),
            y_c: (self.shape.cell == Cell::Lstm).then_some(&mut ran.y_c),
        };
        let mut scratch = vec![rubbish; self.shape.scratch()];
        forward(&self.shape, &self.inputs(data), outputs, &mut ran.saved, &mut scratch);
        ran
    }

    /// The functional whose gradients are checked.
    fn value(&self, data: &Data<f64>) -> f64 {
        let ran = self.run(data);
        let results = [&ran.y, &ran.y_h, &ran.y_c];
        let all =
            results.into_iter().zip(&data.weights).flat_map(|(result, weights)| result.iter().zip(weights));
        all.filter(|(result, _)| !result.is_nan()).map(|(result, weight)| result * weight).sum()
    }

    fn gradients<T: Real>(&self, data: &Data<T>) -> [Vec<T>; 7] {
        let ran = self.run(data);
        let mut made = data.inputs.each_ref().map(|part| vec![T::of(f64::NAN); part.len()]);
        let lstm = self.shape.cell == Cell::Lstm;
        let [dx, dw, dr, db, dp, dh0, dc0] = made.each_mut();
        let gradients = Gradients {
            dx: Some(dx),
            dw: Some(dw),
            dr: Some(dr),
            db: self.bias.then_some(db),
            dp: self.peepholes.then_some(dp),
            dh0: self.start.then_some(dh0),
            dc0: (self.start && lstm).then_some(dc0),
        };
        let incoming = OutputGradients {
            dy: Some(&data.weights[0][self.first()..]),
            dy_stride: self.stride(),
            dy_h: Some(&data.weights[1]),
            dy_c: lstm.then_some(&data.weights[2]),
        };
        let mut scratch = vec![T::of(f64::NAN); self.shape.scratch()];
        backward(&self.shape, &self.inputs(data), &incoming, &ran.saved, gradients, &mut scratch);
        made
    }

    /// The equations of ONNX, an element at a time: y, y_h, y_c.
    fn plain(&self, data: &Data<f64>) -> [Vec<f64>; 3] {
        let RecurrentShape { steps, batch, input, hidden, reverse, .. } = self.shape;
        let Inputs { x, weights, h0, c0 } = self.inputs(data);
        let width = self.shape.width();
        let mut h = h0.map_or(vec![0.0; batch * hidden], <[f64]>::to_vec);
        let mut c = c0.map_or(vec![0.0; batch * hidden], <[f64]>::to_vec);
        let mut y = vec![f64::NAN; steps * self.stride()];
        for step in 0..steps {
            let time = if reverse { steps - 1 - step } else { step };
            for n in 0..batch {
                let bias = |place: usize| weights.b.map_or(0.0, |b| b[place]);
                let from_x = |row: usize| -> f64 {
                    let x = &x[(time * batch + n) * input..][..input];
                    let w = &weights.w[row * input..][..input];
                    x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>() + bias(row)
                };
                let from_h = |row: usize, h: &[f64]| -> f64 {
                    let r = &weights.r[row * hidden..][..hidden];
                    h.iter().zip(r).map(|(h, r)| h * r).sum::<f64>() + bias(width + row)
                };
                let before = h[n * hidden..][..hidden].to_vec();
                let memory = c[n * hidden..][..hidden].to_vec();
                for j in 0..hidden {
                    let [first, second, third, fourth] = [0, 1, 2, 3].map(|gate| gate * hidden + j);
                    let sum = |row: usize| from_x(row) + from_h(row, &before);
                    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
                    let at = n * hidden + j;
                    let p = |gate: usize| weights.p.map_or(0.0, |p| p[gate * hidden + j]);
                    h[at] = match self.shape.cell {
                        Cell::Lstm => {
                            let i = sigmoid(sum(first) + p(0) * memory[j]);
                            let f = sigmoid(sum(third) + p(2) * memory[j]);
                            c[at] = f * memory[j] + i * sum(fourth).tanh();
                            sigmoid(sum(second) + p(1) * c[at]) * c[at].tanh()
                        }
                        Cell::Gru { linear_before_reset } => {
                            let z = sigmoid(sum(first));
                            let new = if linear_before_reset {
                                from_x(third) + sigmoid(sum(second)) * from_h(third, &before)
                            } else {
                                let reset: Vec<f64> =
                                    (0..hidden).map(|k| sigmoid(sum(hidden + k)) * before[k]).collect();
                                from_x(third) + from_h(third, &reset)
                            };
                            (1.0 - z) * new.tanh() + z * before[j]
                        }
                        Cell::Rnn { relu: true } => sum(first).max(0.0),
                        Cell::Rnn { relu: false } => sum(first).tanh(),
                    };
                }
                y[self.first() + time * self.stride() + n * hidden..][..hidden]
                    .copy_from_slice(&h[n * hidden..][..hidden]);
            }
        }
        if self.shape.cell != Cell::Lstm {
            c.fill(0.0);
        }
        [y, h, c]
    }
}

fn off(got: &[f64], wanted: &[f64]) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let size = wanted.iter().filter(|v| !v.is_nan()).fold(1e-3f64, |most, v| most.max(v.abs()));
    got.iter().zip(wanted).fold(0.0, |most, (got, wanted)| {
        assert_eq!(got.is_nan(), wanted.is_nan(), "written where nothing is expected, or not written");
        if got.is_nan() { most } else { f64::max(most, (got - wanted).abs() / size) }
    })
}

#[test]
fn results_are_those_of_the_equations() {
    for case in cases() {
        let data = case.data();
        let ran = case.run(&data);
        for (got, wanted) in [ran.y, ran.y_h, ran.y_c].iter().zip(&case.plain(&data)) {
            assert!(off(got, wanted) < 1e-13, "{case:?}: {}", off(got, wanted));
        }
    }
}

#[test]
fn gradients_are_finite_differences() {
    for case in cases() {
        let data = case.data();
        for (part, made) in case.gradients(&data).iter().enumerate() {
            if made.iter().all(|v| v.is_nan()) {
                continue;
            }
            // Without a bend between the points.
            let unit = if case.shape.cell == (Cell::Rnn { relu: true }) { 1e-6 } else { 1e-3 };
            // A few elements spread over a large part are enough.
            let every = (made.len() / 23).max(1);
            let places: Vec<usize> = (0..made.len()).step_by(every).collect();
            let differences: Vec<f64> = places
                .iter()
                .map(|place| {
                    let value = |step: f64| {
                        let mut moved = data.clone();
                        moved.inputs[part][*place] += step * unit;
                        case.value(&moved)
                    };
                    // Right to the fourth power of the step.
                    (8.0 * (value(1.0) - value(-1.0)) - (value(2.0) - value(-2.0))) / (12.0 * unit)
                })
                .collect();
            let made: Vec<f64> = places.iter().map(|place| made[*place]).collect();
            assert!(off(&made, &differences) < 1e-7, "{case:?} part {part}: {}", off(&made, &differences));
        }
    }
}

#[test]
fn both_kinds_of_numbers_agree() {
    for case in cases() {
        let wide = case.data();
        let narrow = |parts: &[Vec<f64>]| -> Vec<Vec<f32>> {
            parts.iter().map(|part| part.iter().map(|v| f32::of(*v)).collect()).collect()
        };
        let data = Data {
            inputs: narrow(&wide.inputs).try_into().expect("seven parts"),
            weights: narrow(&wide.weights).try_into().expect("three parts"),
        };
        let [short, long] = [case.run(&data).y, case.run(&wide).y.iter().map(|v| f32::of(*v)).collect()];
        let widen = |part: &[f32]| -> Vec<f64> { part.iter().map(|v| f64::from(*v)).collect() };
        assert!(off(&widen(&short), &widen(&long)) < 1e-5, "{case:?} y");
        for (part, (short, long)) in case.gradients(&data).iter().zip(&case.gradients(&wide)).enumerate() {
            assert!(off(&widen(short), long) < 1e-5, "{case:?} part {part}: {}", off(&widen(short), long));
        }
    }
}

#[test]
fn absent_gradients_are_nought() {
    for case in cases() {
        let mut data = case.data();
        let all = case.gradients(&data);
        data.weights[0].fill(0.0);
        let last = case.gradients(&data);
        let ran = case.run(&data);
        let mut dw = vec![f64::NAN; all[1].len()];
        let incoming = OutputGradients {
            dy: None,
            dy_stride: 0,
            dy_h: Some(&data.weights[1]),
            dy_c: (case.shape.cell == Cell::Lstm).then_some(&data.weights[2]),
        };
        let gradients =
            Gradients { dx: None, dw: Some(&mut dw), dr: None, db: None, dp: None, dh0: None, dc0: None };
        let mut scratch = vec![f64::NAN; case.shape.scratch()];
        backward(&case.shape, &case.inputs(&data), &incoming, &ran.saved, gradients, &mut scratch);
        assert_eq!(dw, last[1], "{case:?}");
    }
}
