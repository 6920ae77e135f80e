//! Einstein sums, as transposes and products of matrices.

use std::collections::BTreeSet;

use shoal_grad::Id;
use shoal_grad::kernel::binary::Fold;

use super::{Call, Made, OpError};

/// A tensor with a letter for each axis.
struct Lettered {
    id: Id,
    letters: Vec<char>,
}

/// Operands are joined two at a time from the left; a letter that stands nowhere later is summed at once.
pub(crate) fn einsum(call: &mut Call<'_>) -> Made {
    let equation = call.node.text("equation").unwrap_or_default().replace(' ', "");
    let given = equation.clone();
    let wrong = |reason: &str| OpError::setting(format!("equation `{given}`: {reason}"));
    let equation = if equation.contains("...") { spelled(call, &equation)? } else { equation.clone() };
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left.to_owned(), right.chars().collect::<Vec<char>>()),
        None => (equation.clone(), implied(&equation)),
    };
    let terms: Vec<Vec<char>> = left.split(',').map(|term| term.chars().collect()).collect();
    if terms.len() != call.operands.len() {
        return Err(wrong("it is for another number of operands"));
    }
    let mut rest: Vec<Lettered> = Vec::new();
    for (slot, letters) in terms.into_iter().enumerate() {
        let id = call.id(slot)?;
        let unique: BTreeSet<&char> = letters.iter().collect();
        if unique.len() != letters.len() || letters.len() != call.shape(slot)?.len() {
            return Err(wrong("each operand needs one letter for each axis, no letter twice"));
        }
        rest.push(Lettered { id, letters });
    }
    rest.reverse();
    let first = rest.pop().ok_or_else(|| wrong("it has no operand"))?;
    let mut sum = reduced(call, first, |letter| {
        right.contains(&letter) || rest.iter().any(|t| t.letters.contains(&letter))
    })?;
    while let Some(next) = rest.pop() {
        let later =
            |letter: char| right.contains(&letter) || rest.iter().any(|term| term.letters.contains(&letter));
        let next = reduced(call, next, |letter| later(letter) || sum.letters.contains(&letter))?;
        sum = joined(call, sum, next, later)?;
    }
    let order: Option<Vec<usize>> =
        right.iter().map(|letter| sum.letters.iter().position(|mine| mine == letter)).collect();
    let order = order
        .filter(|order| order.len() == sum.letters.len())
        .ok_or_else(|| wrong("its result repeats a letter or has one of its own"))?;
    Call::floats(call.tape.transpose(sum.id, &order)?)
}

/// An ellipsis spelled out in letters that stand nowhere else, the same ones in every operand.
fn spelled(call: &Call<'_>, equation: &str) -> Result<String, OpError> {
    let (left, right) = equation.split_once("->").unwrap_or((equation, ""));
    let mut free = ('A'..='Z').chain('a'..='z').filter(|letter| !equation.contains(*letter));
    let mut letters: Option<String> = None;
    for (slot, term) in left.split(',').enumerate().filter(|(_, term)| term.contains("...")) {
        let axes = call.shape(slot)?.len().saturating_sub(term.len() - 3);
        let mine = letters.get_or_insert_with(|| free.by_ref().take(axes).collect());
        if mine.len() != axes {
            return Err(OpError::setting(format!("equation `{equation}`: axes of an ellipsis differ")));
        }
    }
    let letters = letters.unwrap_or_default();
    if !equation.contains("->") {
        let once = implied(&left.replace("...", ""));
        let right: String = once.into_iter().collect();
        return Ok(format!("{}->{letters}{right}", left.replace("...", &letters)));
    }
    Ok(format!("{}->{}", left.replace("...", &letters), right.replace("...", &letters)))
}

/// Without an arrow: the letters that stand once, in the order of the alphabet.
fn implied(equation: &str) -> Vec<char> {
    let letters: BTreeSet<char> = equation.chars().filter(|letter| *letter != ',').collect();
    letters.into_iter().filter(|letter| equation.matches(*letter).count() == 1).collect()
}

/// Sums the axes that are not needed.
fn reduced(call: &mut Call<'_>, term: Lettered, needed: impl Fn(char) -> bool) -> Result<Lettered, OpError> {
    let axes: Vec<usize> = (0..term.letters.len()).filter(|axis| !needed(term.letters[*axis])).collect();
    if axes.is_empty() {
        return Ok(term);
    }
    let summed = call.tape.reduce(Fold::Sum { scale: 1.0 }, term.id, &axes)?;
    let kept: Vec<usize> = (0..term.letters.len()).filter(|axis| !axes.contains(axis)).collect();
    let shape: Vec<usize> = kept.iter().map(|axis| call.tape.shape(term.id)[*axis]).collect();
    let id = call.tape.view(summed, &shape)?;
    Ok(Lettered { id, letters: kept.iter().map(|axis| term.letters[*axis]).collect() })
}

/// The product of two: letters of both that are needed later are a stack, others of both are summed.
fn joined(
    call: &mut Call<'_>,
    a: Lettered,
    b: Lettered,
    later: impl Fn(char) -> bool,
) -> Result<Lettered, OpError> {
    let shared = |letter: &&char| b.letters.contains(letter);
    let stack: Vec<char> = a.letters.iter().filter(shared).filter(|l| later(**l)).copied().collect();
    let summed: Vec<char> = a.letters.iter().filter(shared).filter(|l| !later(**l)).copied().collect();
    let rows: Vec<char> = a.letters.iter().filter(|l| !b.letters.contains(l)).copied().collect();
    let columns: Vec<char> = b.letters.iter().filter(|l| !a.letters.contains(l)).copied().collect();
    let left = arranged(call, &a, [&stack, &rows, &summed])?;
    let right = arranged(call, &b, [&stack, &summed, &columns])?;
    let product = call.tape.product((left, false), (right, false), 1.0, None)?;
    let letters = [stack, rows, columns].concat();
    let size = |letter: &char| {
        let of =
            |term: &Lettered| term.letters.iter().position(|mine| mine == letter).map(|axis| (term.id, axis));
        of(&a).or_else(|| of(&b)).map_or(1, |(id, axis)| call.tape.shape(id)[axis])
    };
    let shape: Vec<usize> = letters.iter().map(size).collect();
    Ok(Lettered { id: call.tape.view(product, &shape)?, letters })
}

/// Axes in this order, each group as one axis.
fn arranged(call: &mut Call<'_>, term: &Lettered, groups: [&[char]; 3]) -> Result<Id, OpError> {
    let place = |letter: &char| term.letters.iter().position(|mine| mine == letter);
    let order: Vec<usize> = groups.concat().iter().filter_map(place).collect();
    let turned = call.tape.transpose(term.id, &order)?;
    let size =
        |group: &[char]| group.iter().filter_map(place).map(|axis| call.tape.shape(term.id)[axis]).product();
    let shape: [usize; 3] = groups.map(size);
    Ok(call.tape.view(turned, &shape)?)
}
