//! Requests joined into one call of the model, and its answer parted again.

use crate::predictor::Predictor;
use crate::tensor::Tensor;

/// Whether the tensors of two requests differ in nothing but the number of rows, so that they may be
/// joined.
#[must_use]
pub fn can_join(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            a.name == b.name
                && a.datatype() == b.datatype()
                && !a.shape.is_empty()
                && a.shape.len() == b.shape.len()
                && a.shape[1..] == b.shape[1..]
        })
}

/// The rows of several requests below each other; each must fit the first by [`can_join`].
#[must_use]
pub fn join<'a>(requests: impl IntoIterator<Item = &'a [Tensor]>) -> Vec<Tensor> {
    let mut joined: Vec<Tensor> = Vec::new();
    for request in requests {
        if joined.is_empty() {
            joined = request.to_vec();
            continue;
        }
        for (whole, part) in joined.iter_mut().zip(request) {
            whole.shape[0] += part.shape[0];
            let same_kind = whole.data.append(part.data.clone());
            assert!(same_kind, "requests of different datatypes were joined");
        }
    }
    joined
}

/// The outputs of each request, given its rows; `None` when an output has not a row for each.
#[must_use]
pub fn part(outputs: &[Tensor], rows: &[usize]) -> Option<Vec<Vec<Tensor>>> {
    let all: usize = rows.iter().sum();
    if outputs.iter().any(|output| output.shape.first() != Some(&all)) {
        return None;
    }
    let mut start = 0;
    let mut parts = Vec::with_capacity(rows.len());
    for rows in rows {
        parts.push(outputs.iter().map(|output| rows_of(output, start, *rows, all)).collect());
        start += rows;
    }
    Some(parts)
}

fn rows_of(tensor: &Tensor, start: usize, rows: usize, all: usize) -> Tensor {
    let width = tensor.data.len() / all.max(1);
    let mut shape = tensor.shape.clone();
    shape[0] = rows;
    Tensor {
        name: tensor.name.clone(),
        shape,
        data: tensor.data.slice(start * width..(start + rows) * width),
    }
}

impl Predictor {
    /// Made-up inputs (halves and zeros) of a number of rows, to try or time the model with.
    #[must_use]
    pub fn made_up(&self, rows: usize) -> Vec<Tensor> {
        self.samples(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::TensorData;

    fn tensor(rows: usize, values: &[f32]) -> Tensor {
        Tensor::new("x", vec![rows, values.len() / rows], TensorData::F32(values.to_vec())).unwrap()
    }

    #[test]
    fn what_was_joined_is_parted_as_it_came() {
        let (a, b) = (vec![tensor(2, &[1.0, 2.0, 3.0, 4.0])], vec![tensor(1, &[5.0, 6.0])]);
        assert!(can_join(&a, &b));
        let joined = join([a.as_slice(), &b]);
        assert_eq!(joined, [tensor(3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]);
        assert_eq!(part(&joined, &[2, 1]), Some(vec![a, b]));
    }

    #[test]
    fn different_requests_are_not_joined() {
        let a = [tensor(1, &[1.0, 2.0])];
        assert!(!can_join(&a, &[tensor(1, &[1.0])]), "inner size");
        assert!(!can_join(&a, &[]), "number of tensors");
        let doubles = Tensor::new("x", vec![1, 2], TensorData::F64(vec![0.0; 2])).unwrap();
        assert!(!can_join(&a, &[doubles]), "datatype");
        let scalar = Tensor::new("x", vec![], TensorData::F32(vec![0.0])).unwrap();
        assert!(!can_join(std::slice::from_ref(&scalar), std::slice::from_ref(&scalar)), "no rows");
    }

    #[test]
    fn an_output_without_rows_cannot_be_parted() {
        assert_eq!(part(&[tensor(1, &[1.0])], &[1, 1]), None);
    }
}
