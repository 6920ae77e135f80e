//! The operators of a tape, and running one of them.

use crate::kernel::binary::{self, Binary, Broadcast, Fold, Reduction};
use crate::kernel::conv::{self, ConvShape};
use crate::kernel::loss::{self, Loss};
use crate::kernel::movement::{self, LookUp, Places};
use crate::kernel::pool::{self, PoolShape};
use crate::kernel::product::{self, Product};
use crate::kernel::recurrent::{self, Gradients, Inputs, OutputGradients, Outputs, RecurrentShape, Weights};
use crate::kernel::rows::{self, Normalised};
use crate::kernel::unary::{self, CHUNK, Unary};
use crate::real::Real;
use std::sync::Arc;

/// What a step does. Operands and results are listed beside each; `?` may be left out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    /// x → the same elements in another shape.
    View,
    /// x → y.
    Unary(Unary),
    /// dy, saved → dx.
    UnaryGradient(Unary),
    /// a, b → y.
    Binary(Binary, Broadcast),
    /// x → y, repeated.
    Expand(Broadcast),
    /// condition, a, b → y.
    Select,
    /// x → y.
    Reduce(Fold, Reduction),
    /// a, b, bias? → y.
    Product(Product),
    /// x, w, bias? → y.
    Convolve(ConvShape),
    /// dy, w → dx. The forward step of a transposed convolution.
    ConvolveBack(ConvShape),
    /// x, dy → dw.
    ConvolveWeight(ConvShape),
    /// dy → dbias.
    ConvolveBias(ConvShape),
    /// x → y.
    MaxPool(PoolShape),
    /// x, y, dy → dx.
    MaxPoolGradient(PoolShape),
    /// x → y.
    MeanPool(PoolShape, bool),
    /// dy → dx.
    MeanPoolGradient(PoolShape, bool),
    /// x, scale, shift → y, with elements after the channel.
    Channels(usize),
    /// x, dy → dscale, dshift.
    ChannelsGradient(usize),
    /// x → normalised, inverse deviation, mean, variance.
    Normalise([usize; 3], f64),
    /// normalised, inverse deviation, d normalised → dx.
    NormaliseGradient([usize; 3]),
    /// x → y; logarithms or not.
    Softmax([usize; 3], bool),
    /// y, dy → dx.
    SoftmaxGradient([usize; 3], bool),
    /// x → y.
    Take(Arc<Places>),
    /// dy → dx.
    GiveBack(Arc<Places>),
    /// Parts → y; elements of each for an outer index.
    Join(Vec<usize>),
    /// x → y: total, start and width for an outer index.
    Part([usize; 3]),
    /// dy → dx: the gradient of a part, with noughts around it.
    Place([usize; 3]),
    /// table, indices → y.
    LookUp(LookUp),
    /// indices, dy → dtable.
    LookUpGradient(LookUp),
    /// x → y: axis and inner, from the end, without itself.
    RunningSum([usize; 2], bool, bool),
    /// x, w, r, b?, p?, h0?, c0? → y, y_h, y_c?, saved.
    Recurrent(RecurrentShape),
    /// x, w, r, b?, p?, h0?, c0?, saved, dy?, dy_h?, dy_c? → those wanted of dx, dw, dr, db, dp, dh0, dc0.
    RecurrentGradient(RecurrentShape, [bool; 7]),
    /// scores, targets, weights → loss, dscores.
    Loss(Loss),
}

/// Reads the operands of a step.
pub(crate) trait Operands<T> {
    /// The operand in a slot; `None` when it is left out, or is what the first result holds already.
    fn get(&self, slot: usize) -> Option<&[T]>;

    /// The operand in a slot that is never left out.
    fn at(&self, slot: usize) -> &[T] {
        self.get(slot).expect("the tape gives every operand that is not optional")
    }
}

impl Op {
    /// A name for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Unary(_) | Self::UnaryGradient(_) => "function of one number",
            Self::Binary(..) => "function of two numbers",
            Self::Expand(_) => "expand",
            Self::Select => "select",
            Self::Reduce(..) => "reduce",
            Self::Product(_) => "product",
            Self::Convolve(_) | Self::ConvolveBack(_) | Self::ConvolveWeight(_) | Self::ConvolveBias(_) => {
                "convolution"
            }
            Self::MaxPool(_) | Self::MaxPoolGradient(_) | Self::MeanPool(..) | Self::MeanPoolGradient(..) => {
                "pool"
            }
            Self::Channels(_) | Self::ChannelsGradient(_) => "channels",
            Self::Normalise(..) | Self::NormaliseGradient(_) => "normalise",
            Self::Softmax(..) | Self::SoftmaxGradient(..) => "softmax",
            Self::Take(_) | Self::GiveBack(_) | Self::Join(_) | Self::Part(_) | Self::Place(_) => "movement",
            Self::LookUp(_) | Self::LookUpGradient(_) => "look-up",
            Self::RunningSum(..) => "running sum",
            Self::Recurrent(_) | Self::RecurrentGradient(..) => "recurrent layer",
            Self::Loss(_) => "loss",
        }
    }

    /// Whether the first result may overwrite the first operand, when both have one size.
    pub(crate) fn may_overwrite(&self) -> bool {
        matches!(self, Self::Unary(_) | Self::UnaryGradient(_) | Self::Binary(..) | Self::Channels(_))
    }

    /// Elements needed while it runs.
    pub(crate) fn scratch(&self) -> usize {
        match self {
            Self::Convolve(s) | Self::ConvolveBack(s) | Self::ConvolveWeight(s) => s.scratch(),
            Self::Recurrent(s) | Self::RecurrentGradient(s, _) => s.scratch(),
            Self::Product(p) => p.scratch(),
            _ => 0,
        }
    }

    /// Bytes of the maps it holds.
    pub(crate) fn map_bytes(&self) -> usize {
        match self {
            Self::Take(places) | Self::GiveBack(places) => places.bytes(),
            _ => 0,
        }
    }

    /// Runs it.
    pub(crate) fn run<T: Real>(&self, x: &impl Operands<T>, made: &mut [&mut [T]], scratch: &mut [T]) {
        match (self, made) {
            (Self::View, [y]) => y.copy_from_slice(x.at(0)),
            (Self::Unary(f), [y]) => by_chunks(x.get(0), y, |_, y| unary::forward(*f, y)),
            (Self::UnaryGradient(f), [dx]) => {
                let saved = x.get(1).unwrap_or_default();
                by_chunks(x.get(0), dx, |at, dx| {
                    let saved = if saved.is_empty() { saved } else { &saved[at..at + dx.len()] };
                    unary::gradient(*f, saved, dx);
                });
            }
            (Self::Binary(f, walk), [y]) => binary::forward(*f, walk, x.get(0), x.at(1), y),
            (Self::Expand(walk), [y]) => binary::expand(walk, x.at(0), y),
            (Self::Select, [y]) => binary::select(x.at(0), x.at(1), x.at(2), y),
            (Self::Reduce(fold, how), [y]) => binary::reduce(*fold, how, x.at(0), y),
            (Self::Product(p), [y]) => product::forward(p, x.at(0), x.at(1), x.get(2), y, scratch),
            (Self::Convolve(s), [y]) => conv::forward(s, x.at(0), x.at(1), x.get(2), y, scratch),
            (Self::ConvolveBack(s), [dx]) => conv::grad_input(s, x.at(0), x.at(1), dx, scratch),
            (Self::ConvolveWeight(s), [dw]) => conv::grad_weight(s, x.at(0), x.at(1), dw, scratch),
            (Self::ConvolveBias(s), [db]) => conv::grad_bias(s, x.at(0), db),
            (Self::MaxPool(s), [y]) => pool::max_forward(s, x.at(0), y),
            (Self::MaxPoolGradient(s), [dx]) => pool::max_backward(s, x.at(0), x.at(1), x.at(2), dx),
            (Self::MeanPool(s, padding), [y]) => pool::average_forward(s, *padding, x.at(0), y),
            (Self::MeanPoolGradient(s, padding), [dx]) => pool::average_backward(s, *padding, x.at(0), dx),
            (Self::Channels(inner), [y]) => movement::channels(*inner, x.get(0), x.at(1), x.at(2), y),
            (Self::ChannelsGradient(inner), [dscale, dshift]) => {
                movement::channels_gradient(*inner, x.at(0), x.at(1), dscale, dshift);
            }
            (Self::Normalise(sizes, epsilon), [xhat, inverse, mean, variance]) => {
                let (mean, variance) = (Some(&mut **mean), Some(&mut **variance));
                rows::normalise_forward(
                    *sizes,
                    T::of(*epsilon),
                    x.at(0),
                    Normalised { xhat, inverse, mean, variance },
                );
            }
            (Self::NormaliseGradient(sizes), [dx]) => {
                rows::normalise_backward(*sizes, x.at(2), x.at(0), x.at(1), dx);
            }
            (Self::Softmax(s, false), [y]) => rows::softmax_forward(*s, x.at(0), y),
            (Self::Softmax(s, true), [y]) => rows::log_softmax_forward(*s, x.at(0), y),
            (Self::SoftmaxGradient(s, false), [dx]) => rows::softmax_backward(*s, x.at(0), x.at(1), dx),
            (Self::SoftmaxGradient(s, true), [dx]) => rows::log_softmax_backward(*s, x.at(0), x.at(1), dx),
            (Self::Take(places), [y]) => movement::take(places, x.at(0), y),
            (Self::GiveBack(places), [dx]) => movement::give_back(places, x.at(0), dx),
            (Self::Join(widths), [y]) => movement::join(widths, |slot| x.at(slot), y),
            (Self::Part([total, start, width]), [y]) => movement::part(*total, *start, *width, x.at(0), y),
            (Self::Place([total, start, width]), [dx]) => {
                movement::place(*total, *start, *width, x.at(0), dx);
            }
            (Self::LookUp(sizes), [y]) => movement::look_up(sizes, x.at(0), x.at(1), y),
            (Self::LookUpGradient(sizes), [dtable]) => {
                movement::look_up_gradient(sizes, x.at(0), x.at(1), dtable);
            }
            (Self::RunningSum(sizes, from_end, before), [y]) => {
                movement::running_sum(*sizes, *from_end, *before, x.at(0), y);
            }
            (Self::Recurrent(s), made) => run_recurrent(s, x, made, scratch),
            (Self::RecurrentGradient(s, wants), made) => run_recurrent_gradient(s, *wants, x, made, scratch),
            (Self::Loss(kind), [value, gradient]) => {
                loss::forward(*kind, x.at(0), x.at(1), x.at(2), value, gradient);
            }
            (op, made) => unreachable!("`{}` makes no {} results", op.name(), made.len()),
        }
    }
}

/// Copies the operand over, when it is not there already, a piece at a time, and works on it while it is
/// near.
fn by_chunks<T: Real>(x: Option<&[T]>, y: &mut [T], mut work: impl FnMut(usize, &mut [T])) {
    for (place, y) in y.chunks_mut(CHUNK).enumerate() {
        let at = place * CHUNK;
        if let Some(x) = x {
            y.copy_from_slice(&x[at..at + y.len()]);
        }
        work(at, y);
    }
}

fn recurrent_inputs<T: Real>(x: &impl Operands<T>) -> Inputs<'_, T> {
    let weights = Weights { w: x.at(1), r: x.at(2), b: x.get(3), p: x.get(4) };
    Inputs { x: x.at(0), weights, h0: x.get(5), c0: x.get(6) }
}

fn run_recurrent<T: Real>(
    s: &RecurrentShape,
    x: &impl Operands<T>,
    made: &mut [&mut [T]],
    scratch: &mut [T],
) {
    let y_stride = s.batch * s.hidden;
    match made {
        [y, y_h, saved] => {
            let outputs = Outputs { y: Some(y), y_stride, y_h: Some(y_h), y_c: None };
            recurrent::forward(s, &recurrent_inputs(x), outputs, saved, scratch);
        }
        [y, y_h, y_c, saved] => {
            let outputs = Outputs { y: Some(y), y_stride, y_h: Some(y_h), y_c: Some(y_c) };
            recurrent::forward(s, &recurrent_inputs(x), outputs, saved, scratch);
        }
        _ => unreachable!("a recurrent layer makes three or four results"),
    }
}

fn run_recurrent_gradient<T: Real>(
    s: &RecurrentShape,
    wants: [bool; 7],
    x: &impl Operands<T>,
    made: &mut [&mut [T]],
    scratch: &mut [T],
) {
    let mut made = made.iter_mut().map(|made| &mut **made);
    let [dx, dw, dr, db, dp, dh0, dc0] = wants.map(|wanted| if wanted { made.next() } else { None });
    let to = Gradients { dx, dw, dr, db, dp, dh0, dc0 };
    let dy_stride = s.batch * s.hidden;
    let from = OutputGradients { dy: x.get(8), dy_stride, dy_h: x.get(9), dy_c: x.get(10) };
    recurrent::backward(s, &recurrent_inputs(x), &from, x.at(7), to, scratch);
}
