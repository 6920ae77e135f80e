//! A hub as a real process, for tests that need one.

use super::e2e::{PATIENCE, program};
use serde_json::Value;
use shoal_tests::demo::{Part, hub_args};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The hub, with the broker inside or beside it.
pub(super) struct Center {
    pub(super) part: Part,
    pub(super) url: String,
    args: Vec<String>,
    folder: tempfile::TempDir,
}

impl Center {
    /// `broker`: how its command line says where that is.
    pub(super) async fn start(broker: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let args = hub_args(folder.path(), broker);
        let (part, bound) = run(&args, folder.path()).await;
        Self { part, url: url_of(&bound), args, folder }
    }

    /// Killed, and started again with its data.
    pub(super) async fn again(&mut self) {
        self.part.kill().await.unwrap();
        let (part, bound) = run(&self.args, self.folder.path()).await;
        (self.part, self.url) = (part, url_of(&bound));
    }

    pub(super) fn database(&self) -> PathBuf {
        self.folder.path().join("hub/hub.db")
    }

    /// One command of the hub's: exit code, the last answer, standard error.
    pub(super) fn ask(&self, args: &[&str]) -> (i32, Value, String) {
        let mut all = vec!["hub", "--hub", &self.url, "--json"];
        all.extend(args);
        let done = Command::new(program()).args(&all).output().unwrap();
        let (out, error) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
        let last = serde_json::Deserializer::from_str(&out).into_iter::<Value>().last();
        (done.status.code().unwrap_or(-1), last.and_then(Result::ok).unwrap_or_default(), error)
    }
}

async fn run(args: &[String], folder: &Path) -> (Part, Value) {
    let ready = folder.join("hub.ready");
    drop(std::fs::remove_file(&ready));
    let mut part = Part::start("hub", &program(), args, &folder.join("log")).unwrap();
    let bound = part.ready(&ready, PATIENCE).await.unwrap();
    (part, bound)
}

fn url_of(bound: &Value) -> String {
    format!("http://{}", bound["http"].as_str().unwrap())
}
