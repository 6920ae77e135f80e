//! Lets a training child go, rest and stop.
//!
//! By signals of the parent: SIGSTOP and SIGCONT reach any child on any kernel, need no right of the service and
//! cannot be caught or forgotten, while a limit of a control group (`cpu.max`) needs a delegated group, which a
//! plain service or a container has not. A child's share of the processor is kept the same way, by letting it go
//! for a part of each second; the lowest priority, which it has anyway, only counts while others want to run.
//! What is stopped holds no lock that anybody waits for: `train.db` is the children's own, and of `samples.db`
//! it only reads.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// In each of these a child goes for its share: short enough that no log or database client notices.
const PERIOD: Duration = Duration::from_secs(1);
/// A child that was told to stop makes its step and writes a checkpoint, which takes seconds; one that does not
/// within this is killed, and costs the steps since its last checkpoint.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a training child shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Train.
    Go,
    /// Stay where it is.
    Rest,
    /// End within a step.
    Stop,
}

/// Of a child: its number while it is surely its own.
#[derive(Debug)]
pub(super) struct Handle {
    pid: Option<Pid>,
    /// Set as soon as the child was waited for: then its number may be another's.
    pub(super) is_over: AtomicBool,
}

impl Handle {
    pub(super) fn new(id: Option<u32>) -> Self {
        let pid = id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { pid, is_over: AtomicBool::new(false) }
    }

    fn send(&self, signal: Signal) {
        let Some(pid) = self.pid.filter(|_| !self.is_over.load(Ordering::Relaxed)) else { return };
        if let Err(cause) = kill_process(pid, signal) {
            tracing::warn!(?signal, %cause, "a training child takes no signal");
        }
    }
}

/// Does with a child as is wished, for as long as it is polled; `share` is that of one core.
pub(super) async fn conduct(
    child: &Handle,
    job: &Path,
    mut wishes: watch::Receiver<Wish>,
    share: f64,
) -> std::convert::Infallible {
    let (goes, rests) =
        (PERIOD.mul_f64(share.clamp(0.01, 1.0)), PERIOD.mul_f64(1.0 - share.clamp(0.01, 1.0)));
    let mut is_stopped = false;
    loop {
        let wish = *wishes.borrow_and_update();
        if wish != Wish::Rest && is_stopped {
            child.send(Signal::CONT);
            is_stopped = false;
        }
        match wish {
            Wish::Go if rests.is_zero() => change(&mut wishes).await,
            Wish::Go => {
                let pause = tokio::time::sleep(goes);
                if changed_within(&mut wishes, pause).await {
                    continue;
                }
                child.send(Signal::STOP);
                is_stopped = true;
                changed_within(&mut wishes, tokio::time::sleep(rests)).await;
            }
            Wish::Rest => {
                child.send(Signal::STOP);
                is_stopped = true;
                change(&mut wishes).await;
            }
            Wish::Stop => {
                if let Err(cause) = fs::remove_file(job) {
                    tracing::debug!(%cause, "the run was told to stop before");
                }
                tokio::time::sleep(PATIENCE).await;
                tracing::warn!("a training child did not stop in time, and is killed");
                child.send(Signal::KILL);
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Waits until something else is wished; for ever where nobody is left to wish.
async fn change(wishes: &mut watch::Receiver<Wish>) {
    if wishes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Whether something else is wished before the time is over.
async fn changed_within(wishes: &mut watch::Receiver<Wish>, time: tokio::time::Sleep) -> bool {
    tokio::select! {
        biased;
        changed = wishes.changed() => changed.is_ok(),
        () = time => false,
    }
}
