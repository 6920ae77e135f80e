//! A model to measure: its package, as a user would have made it, and one row to ask.

use anyhow::Context as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shoal_infer::{Predictor, Tensor, TensorData, sample_row};
use shoal_onnx::Limits;
use shoal_tests::rig::pack;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Rows of the made-up table.
const ROWS: usize = 600;
/// Draws tables and rows.
const SEED: u64 = 7;

/// A model.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) onnx: PathBuf,
    pub(crate) package: PathBuf,
    pub(crate) predictor: Predictor,
    /// One row, for all inputs.
    pub(crate) row: Vec<Tensor>,
    /// Whether it was packed with data: then rows are captured with their features and watched for drift.
    pub(crate) has_features: bool,
}

impl Case {
    /// Packs a model: with a made-up table where it takes rows of features, else alone.
    pub(crate) fn make(onnx: &Path, folder: &Path) -> anyhow::Result<Self> {
        let name = onnx.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = folder.join(&name);
        std::fs::create_dir_all(&folder)?;
        let predictor = Predictor::load(&std::fs::read(onnx)?, &Limits::default())?;
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let mut row = sample_row(&predictor);
        for tensor in &mut row {
            if let TensorData::F32(values) = &mut tensor.data {
                values.iter_mut().for_each(|value| *value = random.random_range(-1.0..1.0));
            }
        }
        let is_table = predictor.inputs().first().is_some_and(|input| input.dims.len() == 2);
        let width = predictor.row_width().filter(|_| is_table);
        let package = folder.join("m.shoal");
        let model = ["--onnx".into(), onnx.display().to_string()];
        match width {
            None => pack(&model, &package)?,
            Some(width) => {
                let (text, is_class) = table(&predictor, width, &mut random)?;
                let data = folder.join("table.csv");
                std::fs::File::create(&data)?.write_all(text.as_bytes())?;
                let task = if is_class { "classification" } else { "regression" };
                let data = data.display().to_string();
                let words = ["--data", &data, "--label", "label", "--task", task].map(str::to_owned);
                pack(&[&model[..], &words[..]].concat(), &package)?;
            }
        }
        Ok(Self { name, onnx: onnx.to_owned(), package, predictor, row, has_features: width.is_some() })
    }
}

/// Rows drawn evenly and labelled by the model itself; each class stands at least once.
fn table(predictor: &Predictor, width: usize, random: &mut ChaCha8Rng) -> anyhow::Result<(String, bool)> {
    let features: Vec<f32> = (0..ROWS * width).map(|_| random.random_range(-1.0..1.0)).collect();
    let scores = predictor.rows(ROWS, &features)?;
    let is_class = scores.width > 1 || predictor.outputs().iter().any(|output| !output.datatype.is_float());
    let classes = scores.width.max(2);
    let mut text: String = (0..width).map(|column| format!("f{column},")).collect();
    text += "label\n";
    for (place, (row, scores)) in features.chunks_exact(width).zip(scores.iter()).enumerate() {
        for value in row {
            write!(text, "{value},")?;
        }
        let best = scores.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(class, _)| class);
        let class = if place < 2 * classes { place % classes } else { best.context("a row without scores")? };
        match is_class {
            true => writeln!(text, "class-{class:03}")?,
            false => writeln!(text, "{}", scores.first().context("a row without a value")?)?,
        }
    }
    Ok((text, is_class))
}
