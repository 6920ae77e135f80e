//! `zoo serve`: every model of a folder through the real server, against what another engine answered.

use super::sample::{Question, Sample};
use crate::rig::{Conn, Form, MODEL, Memory, Solo, Times, pack, read_answer, request};
use anyhow::{Context as _, ensure};
use serde::Serialize;
use shoal_agent::clock::Clock;
use shoal_infer::{Predictor, Tensor};
use shoal_onnx::Limits;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Elements beyond which a tensor is sent as raw bytes, as an application would.
const MAX_JSON_ELEMENTS: usize = 4_096;
/// Longest measurement of one kind: large models are asked less often.
const MEASURED: Duration = Duration::from_secs(2);
/// Calls before a measurement begins.
const WARM_UP: usize = 10;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// A folder of `NAME.onnx` with `NAME.io.npz`.
    dir: PathBuf,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Requests of each latency; fewer where a model takes longer than two seconds for them.
    #[arg(long, default_value_t = 500)]
    requests: usize,
    /// Pack inputs and outputs with the model, so that the agent's admission compares them as well.
    #[arg(long)]
    golden: bool,
    /// A model that the agent does not take is no failure.
    #[arg(long)]
    allow_refused: bool,
    /// Only models whose name has this in it.
    #[arg(long)]
    only: Option<String>,
}

/// What became of a model.
#[derive(Debug, Serialize)]
struct Line {
    model: String,
    loads: bool,
    matches: bool,
    reason: Option<String>,
    difference_one: Option<f64>,
    difference_all: Option<f64>,
    in_process_us: Option<f64>,
    http_us: Option<f64>,
    rss_bytes: Option<u64>,
}

/// The numbers of a model that answers right.
struct Measured {
    one: f64,
    all: f64,
    in_process_us: f64,
    http_us: f64,
    rss_bytes: u64,
}

/// Why a model has no numbers: the agent does not take it, or it answers something else.
enum Failure {
    Refused(anyhow::Error),
    Wrong(anyhow::Error),
}

/// Whether all models answer what they must.
pub(super) fn run(args: &Args) -> anyhow::Result<bool> {
    let mut models: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(&args.dir).with_context(|| args.dir.display().to_string())? {
        let path = entry?.path();
        let is_wanted = args.only.as_ref().is_none_or(|only| path.to_string_lossy().contains(only.as_str()));
        if path.extension().is_some_and(|end| end == "onnx") && is_wanted {
            models.push(path);
        }
    }
    models.sort();
    ensure!(!models.is_empty(), "no .onnx file in `{}`", args.dir.display());
    let (mut lines, mut skipped) = (Vec::new(), Vec::new());
    for onnx in &models {
        let name = onnx.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let npz = onnx.with_extension("io.npz");
        if !npz.exists() {
            skipped.push(name);
            continue;
        }
        drop(writeln!(std::io::stderr(), "{name} …")); // a closed terminal cannot be told
        lines.push(Line::of(name, serve(onnx, &npz, args)));
    }
    let text = if args.json {
        serde_json::to_string_pretty(&serde_json::json!({ "models": lines, "skipped": skipped }))? + "\n"
    } else {
        table(&lines, &skipped)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(lines.iter().all(|line| line.matches || args.allow_refused && !line.loads))
}

fn serve(onnx: &Path, npz: &Path, args: &Args) -> Result<Measured, Failure> {
    let folder = tempfile::tempdir().map_err(|cause| Failure::Wrong(cause.into()))?;
    let package = folder.path().join("m.shoal");
    let mut words = vec!["--onnx".as_ref(), onnx.as_os_str()];
    if args.golden {
        words.extend(["--golden".as_ref(), npz.as_os_str()]);
    }
    pack(&words, &package).map_err(Failure::Refused)?;
    let agent = Solo::start(folder.path(), &package, "").map_err(Failure::Refused)?;
    let measured = measure(&agent, onnx, npz, args.requests).map_err(Failure::Wrong)?;
    agent.stop().map_err(Failure::Wrong)?;
    Ok(measured)
}

fn measure(agent: &Solo, onnx: &Path, npz: &Path, requests: usize) -> anyhow::Result<Measured> {
    let predictor = Predictor::load(&std::fs::read(onnx)?, &Limits::default())?;
    let sample = Sample::read(npz, &predictor)?;
    let mut conn = Conn::tcp(agent.http)?;
    let mut one = 0.0f64;
    let rows = sample.rows();
    for (place, question) in rows.iter().enumerate() {
        one = one.max(ask(&mut conn, question).with_context(|| format!("row {place} alone"))?);
    }
    let all = ask(&mut conn, &sample.whole()).context("all rows at once")?;
    let inputs = &rows.first().context("no rows")?.inputs;
    let in_process_us = p50(requests, || predictor.infer(inputs).map(drop).map_err(Into::into))?;
    let bytes = request(MODEL, inputs, form(inputs))?;
    let http_us = p50(requests, || conn.ask(&bytes).map(drop))?;
    Ok(Measured { one, all, in_process_us, http_us, rss_bytes: Memory::of(agent.pid())?.rss_bytes })
}

fn form(inputs: &[Tensor]) -> Form {
    let elements: usize = inputs.iter().map(|tensor| tensor.data.len()).sum();
    let is_finite = inputs.iter().all(|tensor| tensor.data.is_finite());
    if elements <= MAX_JSON_ELEMENTS && is_finite { Form::Json } else { Form::Binary }
}

fn ask(conn: &mut Conn, question: &Question) -> anyhow::Result<f64> {
    let reply = conn.ask(&request(MODEL, &question.inputs, form(&question.inputs))?)?;
    ensure!(reply.status == 200, "{}: {}", reply.status, String::from_utf8_lossy(reply.body));
    question.check(&read_answer(reply.body, reply.json_length)?)
}

fn p50(requests: usize, mut call: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let (clock, mut times) = (Clock::start(), Times::default());
    for _ in 0..WARM_UP {
        call()?;
    }
    let begin = clock.mono();
    while times.len() < requests.max(1) && clock.mono().since(begin) < MEASURED {
        let start = clock.mono();
        call()?;
        times.push(clock.mono().since(start));
    }
    Ok(times.quantile_us(0.5))
}

impl Line {
    fn of(model: String, outcome: Result<Measured, Failure>) -> Self {
        let reason = |cause: anyhow::Error| {
            let text = format!("{cause:#}");
            Some(text.lines().next().unwrap_or_default().to_owned())
        };
        let (loads, reason, measured) = match outcome {
            Ok(measured) => (true, None, Some(measured)),
            Err(Failure::Wrong(cause)) => (true, reason(cause), None),
            Err(Failure::Refused(cause)) => (false, reason(cause), None),
        };
        let measured = measured.as_ref();
        Self {
            model,
            loads,
            matches: measured.is_some(),
            reason,
            difference_one: measured.map(|found| found.one),
            difference_all: measured.map(|found| found.all),
            in_process_us: measured.map(|found| found.in_process_us),
            http_us: measured.map(|found| found.http_us),
            rss_bytes: measured.map(|found| found.rss_bytes),
        }
    }
}

fn table(lines: &[Line], skipped: &[String]) -> String {
    let width = lines.iter().map(|line| line.model.chars().count()).max().unwrap_or(0).max(5);
    let mut text =
        format!("{:<width$}  loads  diff N=1  diff N=all  in process µs  HTTP µs  RSS MiB\n", "model");
    let mut put = |line: String| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    for line in lines {
        let loads = if line.loads { "yes" } else { "no" };
        let model = &line.model;
        match (line.difference_one, line.difference_all, line.in_process_us, line.http_us, line.rss_bytes) {
            (Some(one), Some(all), Some(inside), Some(http), Some(rss)) => put(format!(
                "{model:<width$}  {loads:<5}  {one:>8.1e}  {all:>10.1e}  {inside:>13.1}  {http:>7.1}  {:>7.1}",
                rss as f64 / f64::from(1 << 20)
            )),
            _ => put(format!("{model:<width$}  {loads:<5}  {}", line.reason.as_deref().unwrap_or_default())),
        }
    }
    for model in skipped {
        put(format!("{model:<width$}  no io.npz, skipped"));
    }
    let count = |is: fn(&Line) -> bool| lines.iter().filter(|line| is(line)).count();
    let mut summary = String::new();
    write!(
        summary,
        "{} models: {} match, {} differ or fail, {} refused, {} skipped",
        lines.len() + skipped.len(),
        count(|line| line.matches),
        count(|line| line.loads && !line.matches),
        count(|line| !line.loads),
        skipped.len()
    )
    .expect("a string takes all text");
    put(summary);
    text
}
