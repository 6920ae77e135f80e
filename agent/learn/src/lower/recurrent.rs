//! Recurrent layers, one direction at a time.

use shoal_grad::kernel::recurrent::{Cell, RecurrentShape};
use shoal_grad::{Id, LayerInputs};

use super::{Call, Kind, Made, OpError, Value, texts};

pub(crate) fn lstm(call: &mut Call<'_>) -> Made {
    if call.flag("input_forget", false) {
        return Err(OpError::setting("input_forget is not trained through"));
    }
    activations(call, &["Sigmoid", "Tanh", "Tanh"])?;
    layer(call, |_| Ok(Cell::Lstm))
}

pub(crate) fn gru(call: &mut Call<'_>) -> Made {
    activations(call, &["Sigmoid", "Tanh"])?;
    let linear_before_reset = call.flag("linear_before_reset", false);
    layer(call, |_| Ok(Cell::Gru { linear_before_reset }))
}

pub(crate) fn rnn(call: &mut Call<'_>) -> Made {
    let named: Vec<String> = texts(call.node, "activations").to_vec();
    layer(call, |direction| match named.get(direction).map(String::as_str) {
        None | Some("Tanh") => Ok(Cell::Rnn { relu: false }),
        Some("Relu") => Ok(Cell::Rnn { relu: true }),
        Some(other) => Err(OpError::setting(format!("an activation of `{other}` is not trained through"))),
    })
}

/// Only the standard's own functions are trained through.
fn activations(call: &Call<'_>, expected: &[&str]) -> Result<(), OpError> {
    let named = texts(call.node, "activations");
    match named.iter().zip(expected.iter().cycle()).find(|(named, expected)| named != *expected) {
        None => Ok(()),
        Some((named, expected)) => Err(OpError::setting(format!(
            "an activation of `{named}` where only {expected} is trained through"
        ))),
    }
}

/// Which directions there are: whether each runs backwards.
fn directions(call: &Call<'_>) -> Result<&'static [bool], OpError> {
    Ok(match call.node.text("direction") {
        None | Some("forward") => &[false],
        Some("reverse") => &[true],
        Some("bidirectional") => &[false, true],
        Some(other) => return Err(OpError::setting(format!("direction is `{other}`"))),
    })
}

fn layer(call: &mut Call<'_>, cell: impl Fn(usize) -> Result<Cell, OpError>) -> Made {
    if call.node.attributes.contains_key("clip") {
        return Err(OpError::setting("clip is not trained through"));
    }
    let directions = directions(call)?;
    let is_batch_first = call.flag("layout", false);
    let mut x = call.id(0)?;
    if is_batch_first {
        x = call.tape.transpose(x, &[1, 0, 2])?;
    }
    let (of_x, of_r) = (call.tape.shape(x).to_vec(), call.shape(2)?);
    let ([steps, batch, input], [count, _, hidden]) = (of_x.as_slice(), of_r.as_slice()) else {
        return Err(OpError::setting(format!("X of sizes {of_x:?} and R of sizes {of_r:?}")));
    };
    if *count != directions.len() {
        return Err(OpError::setting(format!("R is for {count} directions, not {}", directions.len())));
    }
    whole_sequences(call, *steps)?;
    let mut made = Vec::new();
    for (place, reverse) in directions.iter().enumerate() {
        let state = |call: &mut Call<'_>, slot: usize| part(call, slot, place, is_batch_first);
        let weight = |call: &mut Call<'_>, slot: usize| part(call, slot, place, false);
        let missing = |slot| OpError::Operand { slot, expected: "weights" };
        let inputs = LayerInputs {
            x,
            w: weight(call, 1)?.ok_or(missing(1))?,
            r: weight(call, 2)?.ok_or(missing(2))?,
            b: weight(call, 3)?,
            h0: state(call, 5)?,
            c0: state(call, 6)?,
            p: weight(call, 7)?,
        };
        let (steps, batch, input, hidden) = (*steps, *batch, *input, *hidden);
        let shape = RecurrentShape { cell: cell(place)?, steps, batch, input, hidden, reverse: *reverse };
        made.push(call.tape.recurrent(shape, &inputs)?);
    }
    let (steps, batch, hidden) = (*steps, *batch, *hidden);
    let mut all = Vec::new();
    for states in &made {
        all.push(call.tape.view(states.all, &[steps, 1, batch, hidden])?);
    }
    let mut y = call.tape.join(&all, 1)?;
    if is_batch_first {
        y = call.tape.transpose(y, &[2, 0, 1, 3])?;
    }
    let mut results = vec![y];
    let last: Vec<Id> = made.iter().map(|states| states.last).collect();
    results.push(stacked(call, &last, [batch, hidden], is_batch_first)?);
    let memories: Vec<Id> = made.iter().filter_map(|states| states.memory).collect();
    if !memories.is_empty() {
        results.push(stacked(call, &memories, [batch, hidden], is_batch_first)?);
    }
    Ok(results.into_iter().map(|id| Value { id, kind: Kind::Float }).collect())
}

/// Last states of all directions: [directions, batch, hidden], or batch first.
fn stacked(
    call: &mut Call<'_>,
    states: &[Id],
    [batch, hidden]: [usize; 2],
    is_batch_first: bool,
) -> Result<Id, OpError> {
    let mut all = Vec::new();
    for state in states {
        all.push(call.tape.view(*state, &[1, batch, hidden])?);
    }
    let stacked = call.tape.join(&all, 0)?;
    if !is_batch_first {
        return Ok(stacked);
    }
    Ok(call.tape.transpose(stacked, &[1, 0, 2])?)
}

/// One direction's part of an operand.
fn part(
    call: &mut Call<'_>,
    slot: usize,
    direction: usize,
    is_batch_first: bool,
) -> Result<Option<Id>, OpError> {
    let Some(value) = call.maybe(slot) else { return Ok(None) };
    let axis = usize::from(is_batch_first);
    let part = call.tape.part(value.id, axis, direction, 1)?;
    let mut shape = call.tape.shape(part).to_vec();
    shape.remove(axis);
    Ok(Some(call.tape.view(part, &shape)?))
}

/// Lengths of sequences are taken only where they say that all are whole.
fn whole_sequences(call: &Call<'_>, steps: usize) -> Result<(), OpError> {
    let lengths = call.ints(4)?.unwrap_or_default();
    match lengths.iter().find(|length| usize::try_from(**length) != Ok(steps)) {
        None => Ok(()),
        Some(length) => Err(OpError::setting(format!("a sequence of {length} steps among those of {steps}"))),
    }
}
