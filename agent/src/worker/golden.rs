//! `golden.npz`: inputs, and the outputs that a model must give for them.

use shoal_infer::{NpzError, Tensor, read_npz, write_npz};
use shoal_proto::package::GOLDEN;

/// Begins the name of an array that is an input.
const INPUT: &str = "input:";
/// Begins the name of an array that is an output.
const OUTPUT: &str = "output:";

/// Inputs and outputs by the model's own names.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// What the model is given.
    pub inputs: Vec<Tensor>,
    /// What it must give.
    pub outputs: Vec<Tensor>,
}

/// A golden file that says nothing.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// It is no archive of arrays.
    #[error("{GOLDEN} cannot be read")]
    Npz(#[from] NpzError),
    /// An array that is neither an input nor an output.
    #[error("{GOLDEN} holds `{array}`, expected `input:NAME` or `output:NAME`")]
    Stray { array: String },
    /// Nothing goes in, or nothing comes out.
    #[error("{GOLDEN} has {inputs} inputs and {outputs} outputs, at least one of each is needed")]
    Empty { inputs: usize, outputs: usize },
}

impl Golden {
    /// Reads the file of a package.
    pub fn from_npz(bytes: &[u8]) -> Result<Self, GoldenError> {
        let mut golden = Self { inputs: Vec::new(), outputs: Vec::new() };
        for mut tensor in read_npz(bytes)? {
            let (to, name) = if let Some(name) = tensor.name.strip_prefix(INPUT) {
                (&mut golden.inputs, name.to_owned())
            } else if let Some(name) = tensor.name.strip_prefix(OUTPUT) {
                (&mut golden.outputs, name.to_owned())
            } else {
                return Err(GoldenError::Stray { array: tensor.name });
            };
            tensor.name = name;
            to.push(tensor);
        }
        if golden.inputs.is_empty() || golden.outputs.is_empty() {
            let (inputs, outputs) = (golden.inputs.len(), golden.outputs.len());
            return Err(GoldenError::Empty { inputs, outputs });
        }
        Ok(golden)
    }

    /// The file of a package.
    pub fn to_npz(&self) -> Result<Vec<u8>, NpzError> {
        let named = |prefix: &'static str, tensors: &[Tensor]| {
            let name =
                move |tensor: &Tensor| Tensor { name: format!("{prefix}{}", tensor.name), ..tensor.clone() };
            tensors.iter().map(name).collect::<Vec<_>>()
        };
        write_npz(&[named(INPUT, &self.inputs), named(OUTPUT, &self.outputs)].concat())
    }

    /// Rows of the first input.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.inputs.first().and_then(|input| input.shape.first()).copied().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_infer::TensorData;

    fn tensor(name: &str) -> Tensor {
        Tensor::new(name, vec![2, 1], TensorData::F32(vec![1.0, 2.0])).unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_strays_are_named() {
        let golden = Golden { inputs: vec![tensor("x"), tensor("mask:1")], outputs: vec![tensor("y")] };
        assert_eq!(Golden::from_npz(&golden.to_npz().unwrap()).unwrap(), golden);
        assert_eq!(golden.rows(), 2);
        for (tensors, word) in [
            (vec![tensor("x")], "holds `x`"),
            (vec![tensor("input:x")], "1 inputs and 0 outputs"),
            (vec![], "0 inputs"),
        ] {
            let error = Golden::from_npz(&write_npz(&tensors).unwrap()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(Golden::from_npz(b"no").is_err());
    }
}
