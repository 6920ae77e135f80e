//! Good requests, all the while: whether anybody else notices.

use serde_json::json;
use shoal_agent::clock::Clock;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Between two requests.
const EVERY: Duration = Duration::from_millis(50);
/// A request that takes longer has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What the requests met.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// How long each took, in milliseconds, sorted.
    pub(super) ms: Vec<f64>,
    /// The first of those that failed or came late, in words, and how many there were.
    pub(super) failures: (usize, Option<String>),
}

impl Answers {
    /// The time that a share of the answers stayed below.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let below =
            self.ms.iter().enumerate().take_while(|(at, _)| (*at as f64) < share * self.ms.len() as f64);
        below.last().map_or(0.0, |(_, ms)| *ms)
    }
}

/// Requests on their way.
#[derive(Debug)]
pub(super) struct Probe {
    stop: CancellationToken,
    task: JoinHandle<Answers>,
}

impl Probe {
    /// Asks `url` for a row, again and again.
    #[expect(clippy::disallowed_methods, reason = "the probe is awaited at its end")]
    pub(super) fn start(http: reqwest::Client, url: String, row: Vec<f32>) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let (clock, mut answers) = (Clock::start(), Answers::default());
            let input =
                json!({ "name": "features", "shape": [1, row.len()], "datatype": "FP32", "data": row });
            let body = json!({ "inputs": [input] });
            while !stopped.is_cancelled() {
                let start = clock.mono();
                let asked =
                    async { http.post(&url).json(&body).send().await?.error_for_status()?.bytes().await };
                let failure = match tokio::time::timeout(PATIENCE, asked).await {
                    Ok(Ok(_)) => None,
                    Ok(Err(cause)) => Some(format!("{cause:?}")),
                    Err(_late) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
                };
                if let Some(failure) = failure {
                    answers.failures.0 += 1;
                    answers.failures.1.get_or_insert(failure);
                }
                answers.ms.push(clock.mono().since(start).as_secs_f64() * 1e3);
                tokio::time::sleep(EVERY).await;
            }
            answers.ms.sort_by(f64::total_cmp);
            answers
        });
        Self { stop, task }
    }

    /// Ends the requests.
    pub(super) async fn stop(self) -> anyhow::Result<Answers> {
        self.stop.cancel();
        Ok(self.task.await?)
    }
}
