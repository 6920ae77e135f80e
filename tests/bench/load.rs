//! The load generator: blocking connections that are kept, requests made beforehand, answers not parsed
//! beyond their length.

use anyhow::{Context as _, ensure};
use shoal_agent::clock::Clock;
use shoal_tests::rig::{Conn, Times, cpu};
use std::thread;
use std::time::Duration;

/// Requests before a measurement begins.
const WARM_UP: usize = 50;

/// What a server did under load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) per_second: f64,
    /// Processor time of the server's process for one request.
    pub(crate) cpu_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Times calls one after the other.
pub(crate) fn time(count: usize, mut call: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Times> {
    let (clock, mut times) = (Clock::start(), Times::default());
    for _ in 0..WARM_UP {
        call()?;
    }
    for _ in 0..count {
        let start = clock.mono();
        call()?;
        times.push(clock.mono().since(start));
    }
    Ok(times)
}

/// Asks once; anything but 200 is an error.
pub(crate) fn ask(conn: &mut Conn, request: &[u8]) -> anyhow::Result<()> {
    let reply = conn.ask(request)?;
    ensure!(reply.status == 200, "{}: {}", reply.status, String::from_utf8_lossy(reply.body));
    Ok(())
}

/// So many clients at once, for so long; `pid` is the server's process.
pub(crate) fn load(
    connect: &(dyn Fn() -> anyhow::Result<Conn> + Sync),
    request: &[u8],
    clients: usize,
    length: Duration,
    pid: u32,
) -> anyhow::Result<Load> {
    let clock = Clock::start();
    let mut conns = Vec::with_capacity(clients);
    for _ in 0..clients {
        let mut conn = connect()?;
        ask(&mut conn, request)?;
        conns.push(conn);
    }
    let before = cpu(pid)?;
    let start = clock.mono();
    let client = |mut conn: Conn| -> anyhow::Result<Times> {
        let mut times = Times::default();
        loop {
            let asked = clock.mono();
            if asked.since(start) >= length {
                return Ok(times);
            }
            ask(&mut conn, request)?;
            times.push(clock.mono().since(asked));
        }
    };
    let times = thread::scope(|scope| -> anyhow::Result<Times> {
        let running: Vec<_> = conns.into_iter().map(|conn| scope.spawn(|| client(conn))).collect();
        let mut all = Times::default();
        for one in running {
            all.extend(one.join().ok().context("a client panicked")??);
        }
        Ok(all)
    })?;
    let took = clock.mono().since(start);
    let worked = cpu(pid)?.saturating_sub(before);
    let requests = times.len() as f64;
    Ok(Load {
        per_second: requests / took.as_secs_f64(),
        cpu_us: worked.as_secs_f64() * 1e6 / requests,
        p50_us: times.quantile_us(0.5),
        p99_us: times.quantile_us(0.99),
    })
}
