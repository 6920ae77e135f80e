//! `bench hop`: what a worker process between server and model would add to a request.
//!
//! The same request is answered by the server itself, through a child over a socket pair that blocks the
//! server's thread, and through a child awaited. The child answers at once: what remains is the hop.

use anyhow::Context as _;
use serde::Serialize;
use shoal_agent::clock::Clock;
use shoal_tests::rig::{Times, cpu, load_average, median};
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream as ClientStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// The word that starts this program as the hop's child.
pub(crate) const CHILD: &str = "hop-child";
/// A small request, and a small answer, with their heads.
const REQUEST: usize = 300;
/// What goes to the child: a row of 16 numbers and its head.
const TO_CHILD: usize = 128;
/// What comes back.
const FROM_CHILD: usize = 64;
/// Threads of the server.
const THREADS: usize = 2;
/// Requests before a measurement begins.
const WARM_UP: usize = 200;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Requests of each way in a round.
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Rounds: the ways take turns, and the middle of the rounds counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Inside,
    Blocking,
    Awaited,
}

const WAYS: [(Way, &str); 3] =
    [(Way::Inside, "in the server"), (Way::Blocking, "child, blocking"), (Way::Awaited, "child, awaited")];

/// One round of one way.
struct Round {
    whole: Times,
    hop: Times,
    server_cpu: Duration,
    child_cpu: Duration,
}

#[derive(Debug, Serialize)]
struct Line {
    way: &'static str,
    whole_p50_us: f64,
    whole_p99_us: f64,
    hop_p50_us: f64,
    hop_p99_us: f64,
    /// Processor time of this process for a request: server and client.
    server_cpu_us: f64,
    child_cpu_us: f64,
}

/// The table, or the JSON.
pub(crate) fn run(args: &Args) -> anyhow::Result<String> {
    let begin = load_average();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let mut rounds: Vec<Vec<Round>> = WAYS.iter().map(|_| Vec::new()).collect();
    for _ in 0..args.rounds.max(1) {
        for ((way, _), all) in WAYS.iter().zip(&mut rounds) {
            all.push(round(&runtime, *way, args.requests)?);
        }
    }
    let requests = (args.requests + WARM_UP) as f64;
    let lines = WAYS.iter().zip(&rounds).map(|((_, way), all)| {
        let middle = |of: &dyn Fn(&Round) -> f64| median(all.iter().map(of));
        Line {
            way,
            whole_p50_us: middle(&|round| round.whole.quantile_us(0.5)),
            whole_p99_us: middle(&|round| round.whole.quantile_us(0.99)),
            hop_p50_us: middle(&|round| round.hop.quantile_us(0.5)),
            hop_p99_us: middle(&|round| round.hop.quantile_us(0.99)),
            server_cpu_us: middle(&|round| round.server_cpu.as_secs_f64() * 1e6 / requests),
            child_cpu_us: middle(&|round| round.child_cpu.as_secs_f64() * 1e6 / requests),
        }
    });
    let lines: Vec<Line> = lines.collect();
    if args.json {
        let report = serde_json::json!({ "load_average": [begin, load_average()], "ways": lines });
        return Ok(serde_json::to_string_pretty(&report)? + "\n");
    }
    let mut text = format!(
        "load average {begin:.1} at the begin and {:.1} at the end\n{:<17} {:>11} {:>11} {:>9} {:>9} {:>14} {:>13}\n",
        load_average(),
        "request answered",
        "whole p50",
        "whole p99",
        "hop p50",
        "hop p99",
        "server CPU µs",
        "child CPU µs"
    );
    for line in &lines {
        let Line { way, whole_p50_us, whole_p99_us, hop_p50_us, hop_p99_us, server_cpu_us, child_cpu_us } =
            line;
        writeln!(
            text,
            "{way:<17} {whole_p50_us:>11.1} {whole_p99_us:>11.1} {hop_p50_us:>9.1} {hop_p99_us:>9.1} \
             {server_cpu_us:>14.1} {child_cpu_us:>13.1}"
        )?;
    }
    Ok(text)
}

/// The hop's child: answers every message until its parent is gone.
pub(crate) fn child() -> ExitCode {
    let serve = || -> io::Result<()> {
        let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (mut asked, answer) = ([0; TO_CHILD], [1; FROM_CHILD]);
        loop {
            stream.read_exact(&mut asked)?;
            stream.write_all(&answer)?;
        }
    };
    match serve() {
        Err(cause) if cause.kind() != io::ErrorKind::UnexpectedEof => ExitCode::from(70),
        _ => ExitCode::SUCCESS,
    }
}

/// A child and our end of the pair; it ends when that is closed.
struct Worker {
    child: Child,
    stream: UnixStream,
}

impl Worker {
    fn start() -> anyhow::Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        let child = Command::new(std::env::current_exe()?)
            .arg(CHILD)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .context("failed to start the child")?;
        Ok(Self { child, stream })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It ends by itself too, when our end is closed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn round(runtime: &Runtime, way: Way, requests: usize) -> anyhow::Result<Round> {
    let worker = (way != Way::Inside).then(Worker::start).transpose()?;
    let hop = worker.as_ref().map(|worker| worker.stream.try_clone()).transpose()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let server = runtime.spawn(serve(listener, way, hop));
    let child_cpu = || worker.as_ref().map_or(Ok(Duration::ZERO), |worker| cpu(worker.child.id()));
    let (own, theirs) = (cpu(std::process::id())?, child_cpu()?);
    let whole = ask(address, requests)?;
    let hop = runtime.block_on(server)??;
    Ok(Round {
        whole,
        hop,
        server_cpu: cpu(std::process::id())?.saturating_sub(own),
        child_cpu: child_cpu()?.saturating_sub(theirs),
    })
}

fn ask(address: SocketAddr, requests: usize) -> anyhow::Result<Times> {
    let mut stream = ClientStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (clock, mut times, mut answer) = (Clock::start(), Times::default(), [0; REQUEST]);
    for number in 0..requests + WARM_UP {
        let start = clock.mono();
        stream.write_all(&[1; REQUEST])?;
        stream.read_exact(&mut answer)?;
        if number >= WARM_UP {
            times.push(clock.mono().since(start));
        }
    }
    Ok(times)
}

/// Answers one connection to its end; tells how long each hop took.
async fn serve(listener: TcpListener, way: Way, hop: Option<UnixStream>) -> anyhow::Result<Times> {
    let (mut stream, _): (TcpStream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let mut hop = Hop::new(way, hop)?;
    let (clock, mut times, mut asked) = (Clock::start(), Times::default(), [0; REQUEST]);
    loop {
        match stream.read_exact(&mut asked).await {
            Ok(_) => {}
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => return Ok(times),
            Err(cause) => return Err(cause.into()),
        }
        let start = clock.mono();
        hop.go().await?;
        times.push(clock.mono().since(start));
        stream.write_all(&asked).await?;
    }
}

enum Hop {
    None,
    Blocking(UnixStream),
    Awaited(tokio::net::UnixStream),
}

impl Hop {
    fn new(way: Way, stream: Option<UnixStream>) -> anyhow::Result<Self> {
        Ok(match (way, stream) {
            (Way::Blocking, Some(stream)) => Self::Blocking(stream),
            (Way::Awaited, Some(stream)) => {
                stream.set_nonblocking(true)?;
                Self::Awaited(tokio::net::UnixStream::from_std(stream)?)
            }
            (Way::Inside | Way::Blocking | Way::Awaited, _) => Self::None,
        })
    }

    async fn go(&mut self) -> io::Result<()> {
        let mut answer = [0; FROM_CHILD];
        match self {
            Self::None => {}
            Self::Blocking(stream) => {
                stream.write_all(&[1; TO_CHILD])?;
                stream.read_exact(&mut answer)?;
            }
            Self::Awaited(stream) => {
                stream.write_all(&[1; TO_CHILD]).await?;
                stream.read_exact(&mut answer).await?;
            }
        }
        Ok(())
    }
}
