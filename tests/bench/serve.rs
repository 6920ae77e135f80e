//! `bench serve`: one agent a model, asked over every way in; the same load on MLServer where there is one.

use super::case::Case;
use super::doors::{APP, Application, Broker, grpc};
use super::load::{Load, ask, load, time};
use super::report::{Latency, Rate, Ratio, Report, Size};
use super::rival::{Mlserver, Session};
use super::say;
use anyhow::Context as _;
use shoal_tests::rig::{Conn, Form, MODEL, Memory, Solo, Times, load_average, median, request};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The model that the promises name; it lies in the tree.
const FIRST: &str = "mlp_a";
/// Models that are served besides: a tree ensemble and a convolution.
const SERVED: [&str; 2] = ["xgb_c", "cnn1d"];
/// Models whose bare call is held against onnxruntime's, and whether the promise holds for them: it is not
/// made for convolutions.
const CALLED: [(&str, bool); 8] = [
    (FIRST, true),
    ("mlp_b", true),
    ("xgb_c", true),
    ("skl_rf", true),
    ("lgb_r", true),
    ("cnn1d", false),
    ("cnn2d", false),
    ("mbv2", false),
];
/// Microseconds that HTTP may add to the bare call.
const MAX_HTTP_US: f64 = 30.0;
/// Processor time of a request, as a share of MLServer's.
const MAX_CPU: f64 = 0.05;
/// Memory, as a share of MLServer's.
const MAX_MEMORY: f64 = 0.1;
/// Clients at which throughput is compared.
const COMPARED: usize = 16;
/// Numbers up to which a row is sent as JSON by those who count microseconds.
const SMALL: usize = 64;
/// Longest run of bare calls of one model in a round.
const CALLS_LAST: Duration = Duration::from_millis(500);

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Requests of each way in a round.
    #[arg(long, default_value_t = 2_000)]
    requests: usize,
    /// Rounds: what is compared takes turns, and the middle of the rounds counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Clients at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, COMPARED, 64])]
    clients: Vec<usize>,
    /// Seconds of load for each number of clients in a round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// A folder with more models.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/models"))]
    models: PathBuf,
    /// A venv with MLServer and onnxruntime, as `bench/mlserver/setup.sh` makes it.
    #[arg(long, value_name = "VENV")]
    mlserver: Option<PathBuf>,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

/// The table, or the JSON.
pub(crate) fn run(args: &Args) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let mut report = Report {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        load_average: (load_average(), f64::NAN),
        ..Report::default()
    };
    if cfg!(debug_assertions) {
        report.notes.push("not a release build: the numbers say nothing".into());
    }
    let broker = Broker::start(folder.path())?;
    if broker.is_none() {
        report.notes.push("MQTT: skipped, mosquitto is not installed".into());
    }
    let in_tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/onnx/testdata/mlp_a.onnx");
    let mut onnx = BTreeMap::from([(FIRST, in_tree)]);
    for (name, _) in CALLED {
        let path = args.models.join(format!("{name}.onnx"));
        if onnx.contains_key(name) {
            continue;
        }
        if path.exists() {
            onnx.insert(name, path);
        } else {
            report.notes.push(format!("{name}: skipped, there is no `{}`", path.display()));
        }
    }
    for name in [FIRST].into_iter().chain(SERVED) {
        let Some(onnx) = onnx.get(name) else { continue };
        say(&format!("{name}: served"));
        let case = Case::make(onnx, folder.path())?;
        serve(&case, broker.as_ref(), args, &mut report)?;
    }
    match &args.mlserver {
        None => report.notes.push("MLServer and onnxruntime: skipped, no --mlserver VENV".into()),
        Some(venv) => {
            for (name, is_promised) in CALLED {
                let Some(onnx) = onnx.get(name) else { continue };
                say(&format!("{name}: called"));
                let case = Case::make(onnx, folder.path())?;
                call(&case, venv, is_promised, args, &mut report)?;
            }
        }
    }
    report.load_average.1 = load_average();
    Ok(if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { report.to_string() })
}

fn settings(broker: Option<&Broker>) -> String {
    let local = broker
        .map(|broker| format!("[local]\nbroker = \"mqtt://127.0.0.1:{}\"\napp = \"{APP}\"\n", broker.port));
    format!("{}[samples]\ncapture = \"all\"\n", local.unwrap_or_default())
}

fn serve(case: &Case, broker: Option<&Broker>, args: &Args, report: &mut Report) -> anyhow::Result<()> {
    let folder = case.package.parent().context("a package lies in a folder")?;
    let broker = broker.filter(|_| case.has_features);
    let agent = Solo::start(folder, &case.package, &settings(broker))?;
    let rival = args.mlserver.as_ref().filter(|_| case.name == FIRST);
    let rival = rival.map(|venv| Mlserver::start(venv, folder, &case.onnx)).transpose()?;
    report.notes.push(format!(
        "{}: {}, capture of every row on",
        case.name,
        if case.has_features {
            "features, drift monitors"
        } else {
            "tensors without features, no input monitors"
        }
    ));
    report.sizes.push(size("shoal", case, "started", agent.pid())?);
    if let Some(rival) = &rival {
        report.sizes.push(size("mlserver", case, "started", rival.pid())?);
    }
    latencies(case, &agent, rival.as_ref(), broker, args, report)?;
    loads(case, &agent, rival.as_ref(), args, report)?;
    report.sizes.push(size("shoal", case, "after the load", agent.pid())?);
    if let Some(rival) = &rival {
        report.sizes.push(size("mlserver", case, "after the load", rival.pid())?);
    }
    report.notes.push(format!("{}: {}", case.name, kept(&agent)?));
    compare(case, report);
    agent.stop()
}

/// What became of the rows, by the agent's own count.
fn kept(agent: &Solo) -> anyhow::Result<String> {
    let mut conn = Conn::tcp(agent.http)?;
    let reply = conn.ask(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let text = std::str::from_utf8(reply.body)?;
    let count = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("?", str::trim)
    };
    Ok(format!(
        "rows captured {}, dropped by the samples {}, not seen by the monitors {}",
        count("shoal_samples_captured_total"),
        count("shoal_samples_dropped_total"),
        count("shoal_rows_unobserved_total")
    ))
}

fn size(server: &'static str, case: &Case, when: &'static str, pid: u32) -> anyhow::Result<Size> {
    Ok(Size { server, model: case.name.clone(), when, memory: Memory::of(pid)? })
}

fn latencies(
    case: &Case,
    agent: &Solo,
    rival: Option<&Mlserver>,
    broker: Option<&Broker>,
    args: &Args,
    report: &mut Report,
) -> anyhow::Result<()> {
    let json = request(MODEL, &case.row, Form::Json)?;
    let binary = request(MODEL, &case.row, Form::Binary)?;
    let (mut http, mut unix) = (Conn::tcp(agent.http)?, Conn::unix(&agent.socket)?);
    let mut theirs = rival.map(|rival| Conn::tcp(rival.http)).transpose()?;
    let mut application = broker.map(|broker| Application::connect(broker.port, &case.row)).transpose()?;
    let mut rounds: Vec<(&'static str, Vec<Times>)> = Vec::new();
    let mut put = |way: &'static str, times: Times| match rounds.iter_mut().find(|(known, _)| *known == way) {
        Some((_, all)) => all.push(times),
        None => rounds.push((way, vec![times])),
    };
    let count = args.requests;
    for _ in 0..args.rounds.max(1) {
        put("bare call", time(count, || case.predictor.infer(&case.row).map(drop).map_err(Into::into))?);
        put("HTTP, JSON", time(count, || ask(&mut http, &json))?);
        put("HTTP, binary", time(count, || ask(&mut http, &binary))?);
        put("unix socket, JSON", time(count, || ask(&mut unix, &json))?);
        put("unix socket, binary", time(count, || ask(&mut unix, &binary))?);
        if let Some(address) = agent.grpc {
            put("gRPC, raw", grpc(address, &case.row, count)?);
        }
        if let Some(application) = &mut application {
            put("MQTT, through broker", application.time(count)?);
        }
        if let Some(conn) = &mut theirs {
            put("MLServer HTTP, JSON", time(count, || ask(conn, &json))?);
        }
    }
    report.latencies.extend(rounds.into_iter().map(|(way, all)| Latency {
        model: case.name.clone(),
        way,
        p50_us: median(all.iter().map(|times| times.quantile_us(0.5))),
        best_p50_us: all.iter().map(|times| times.quantile_us(0.5)).fold(f64::INFINITY, f64::min),
        p99_us: median(all.iter().map(|times| times.quantile_us(0.99))),
    }));
    Ok(())
}

fn loads(
    case: &Case,
    agent: &Solo,
    rival: Option<&Mlserver>,
    args: &Args,
    report: &mut Report,
) -> anyhow::Result<()> {
    let json = request(MODEL, &case.row, Form::Json)?;
    let length = Duration::from_secs_f64(args.seconds);
    let mut servers = vec![("shoal", agent.http, agent.pid())];
    servers.extend(rival.map(|rival| ("mlserver", rival.http, rival.pid())));
    for clients in args.clients.iter().copied() {
        let mut rounds: Vec<Vec<Load>> = vec![Vec::new(); servers.len()];
        for _ in 0..args.rounds.max(1) {
            for ((_, address, pid), loads) in servers.iter().zip(&mut rounds) {
                loads.push(load(&|| Conn::tcp(*address), &json, clients, length, *pid)?);
            }
        }
        for ((server, ..), loads) in servers.iter().zip(rounds) {
            let middle = |of: fn(&Load) -> f64| median(loads.iter().map(of));
            report.rates.push(Rate {
                server,
                model: case.name.clone(),
                clients,
                per_second: middle(|load| load.per_second),
                cpu_us: middle(|load| load.cpu_us),
                p50_us: middle(|load| load.p50_us),
                p99_us: middle(|load| load.p99_us),
            });
        }
    }
    Ok(())
}

/// The ratios of one served model.
fn compare(case: &Case, report: &mut Report) {
    let name = &case.name;
    let mut made = Vec::new();
    {
        let way = |way: &str| report.latencies.iter().find(|one| one.model == *name && one.way == way);
        let elements: usize = case.row.iter().map(|tensor| tensor.data.len()).sum();
        let form = if elements <= SMALL { "HTTP, JSON" } else { "HTTP, binary" };
        if let (Some(http), Some(bare)) = (way(form), way("bare call")) {
            let what = format!("{name}: {form}, p50 over the bare call");
            made.push(Ratio::difference(what, http.p50_us, bare.p50_us, MAX_HTTP_US));
            let what = format!("{name}: the same, quietest rounds");
            made.push(Ratio::difference(what, http.best_p50_us, bare.best_p50_us, MAX_HTTP_US));
        }
        if let (Some(http), Some(theirs)) = (way("HTTP, JSON"), way("MLServer HTTP, JSON")) {
            made.push(Ratio::share(format!("{name}: HTTP p50 µs"), http.p50_us, theirs.p50_us, None));
        }
        let rate = |server: &str, clients: usize| {
            let is = |one: &&Rate| one.model == *name && one.server == server && one.clients == clients;
            report.rates.iter().find(is)
        };
        for clients in [1, COMPARED] {
            let (Some(ours), Some(theirs)) = (rate("shoal", clients), rate("mlserver", clients)) else {
                continue;
            };
            let what = format!("{name}: requests/s at {clients} clients");
            made.push(Ratio::share(what, ours.per_second, theirs.per_second, None));
            let what = format!("{name}: CPU µs a request at {clients} clients");
            made.push(Ratio::share(what, ours.cpu_us, theirs.cpu_us, Some(MAX_CPU)));
        }
        for when in ["started", "after the load"] {
            let size = |server: &str| {
                let is = |one: &&Size| one.model == *name && one.server == server && one.when == when;
                report.sizes.iter().find(is).map(|size| size.memory.rss_bytes as f64 / f64::from(1 << 20))
            };
            if let (Some(ours), Some(theirs)) = (size("shoal"), size("mlserver")) {
                made.push(Ratio::share(format!("{name}: RSS MiB, {when}"), ours, theirs, Some(MAX_MEMORY)));
            }
        }
    }
    report.ratios.extend(made);
}

/// The bare call beside onnxruntime's, in turns.
fn call(case: &Case, venv: &Path, is_promised: bool, args: &Args, report: &mut Report) -> anyhow::Result<()> {
    let mut session = Session::start(venv, &case.onnx, &case.row)?;
    let bare = || case.predictor.infer(&case.row).map(drop).map_err(anyhow::Error::from);
    let one_us = time(10, bare)?.quantile_us(0.5).max(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of calls")]
    let most = (CALLS_LAST.as_secs_f64() * 1e6 / one_us) as usize;
    let calls = args.requests.min(most).max(20);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds.max(1) {
        ours.push(time(calls, bare)?.quantile_us(0.5));
        theirs.push(session.p50_us(calls)?);
    }
    let what = format!("{}: bare call µs, onnxruntime", case.name);
    report.ratios.push(Ratio::share(what, median(ours), median(theirs), is_promised.then_some(1.0)));
    Ok(())
}
